//! What a service account token says.

use serde::{Deserialize, Serialize};

use crate::user::{SERVICE_ACCOUNT_PREFIX, UserInfo};

/// An object that a token is bound to, or a node that its pod is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectClaim {
    /// Its name.
    pub name: String,
    /// Its UID; an object of the same name with another UID is another object.
    pub uid: String,
}

/// What a token is bound to: it ends when the object does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundObject {
    /// A Pod, and the node it is bound to, if it is.
    Pod {
        /// The pod.
        pod: ObjectClaim,
        /// The pod's node.
        node: Option<ObjectClaim>,
    },
    /// A Secret.
    Secret(ObjectClaim),
    /// A Node.
    Node(ObjectClaim),
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom the token is for.
    pub aud: Vec<String>,
    /// When it ends, in seconds of Unix time.
    pub exp: i64,
    /// When it was issued.
    pub iat: i64,
    /// Who issued it.
    pub iss: String,
    /// Its own identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What it names.
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: KubernetesClaims,
    /// When it begins.
    pub nbf: i64,
    /// The user it stands for.
    pub sub: String,
}

/// The part of the claims that is Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesClaims {
    /// Namespace of everything named here.
    pub namespace: String,
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<ObjectClaim>,
    /// The pod it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<ObjectClaim>,
    /// The Secret it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<ObjectClaim>,
    /// The account.
    pub serviceaccount: ObjectClaim,
}

impl Claims {
    /// What the token is bound to.
    pub fn bound_object(&self) -> Option<BoundObject> {
        let claims = &self.kubernetes;
        if let Some(pod) = &claims.pod {
            return Some(BoundObject::Pod { pod: pod.clone(), node: claims.node.clone() });
        }
        if let Some(secret) = &claims.secret {
            return Some(BoundObject::Secret(secret.clone()));
        }
        claims.node.clone().map(BoundObject::Node)
    }

    /// The user that the token stands for, with what it is bound to as `extra`.
    pub fn user(&self) -> UserInfo {
        let claims = &self.kubernetes;
        let account = &claims.serviceaccount;
        let mut user = UserInfo::service_account(&claims.namespace, &account.name, &account.uid);
        let mut note = |key: &str, value: &str| {
            user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        };
        if let Some(identifier) = &self.jti {
            note("credential-id", &format!("JTI={identifier}"));
        }
        if let Some(pod) = &claims.pod {
            note("pod-name", &pod.name);
            note("pod-uid", &pod.uid);
        }
        if let Some(node) = &claims.node {
            note("node-name", &node.name);
            note("node-uid", &node.uid);
        }
        user
    }

    /// Whether the subject is the account that the Kubernetes claims name.
    pub(super) fn is_consistent(&self) -> bool {
        let claims = &self.kubernetes;
        let name = &claims.serviceaccount.name;
        let parts = self.sub.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':'));
        parts == Some((claims.namespace.as_str(), name.as_str()))
    }
}
