//! What a logical cloud of level 1 is made of, at each of its clusters.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_api::emco::{ClusterQuota, Document as _, UserPermission};
use drystone_appcontext::{Part, Resource, ResourceName};
use drystone_identity::{KeyError, PrivateKey, Subject, csr};
use serde_json::{Value, json};

/// What a logical cloud is made of.
#[derive(Debug, Clone, Copy)]
pub struct CloudObjects<'a> {
    /// Its name.
    pub cloud: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Labels of the namespace.
    pub labels: &'a BTreeMap<String, String>,
    /// Its user.
    pub user: &'a str,
    /// What the user may do.
    pub permissions: &'a [Arc<UserPermission>],
    /// What may be used.
    pub quotas: &'a [Arc<ClusterQuota>],
}

/// The objects, in the order in which they are made: the namespace, the user's certificate signing request, quotas, roles, bindings.
///
/// # Errors
/// The key cannot sign.
pub fn objects(cloud: &CloudObjects<'_>, key: &PrivateKey) -> Result<Part, KeyError> {
    let CloudObjects { cloud: name, namespace, user, .. } = *cloud;
    let mut part = Part::default();
    let mut put = |object: Value| {
        let text = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let called = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let resource = ResourceName::new(&called, &text("kind"));
        part.put(resource.clone(), object.to_string());
        resource
    };
    put(json!({
        "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": cloud.labels},
    }));
    let request = csr::create(key, &Subject::new(user, Vec::<String>::new()), &[], &[])?;
    let signing = put(json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": request_name(name, namespace)},
        "spec": {
            "request": STANDARD.encode(request),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["digital signature", "key encipherment", "client auth"],
        },
    }));
    for quota in cloud.quotas {
        put(json!({
            "apiVersion": "v1", "kind": "ResourceQuota",
            "metadata": {"name": quota.document_name(), "namespace": namespace},
            "spec": {"hard": quota.spec.hard},
        }));
    }
    for (at, permission) in cloud.permissions.iter().enumerate() {
        let [role, binding] = access(cloud, at, permission);
        put(role);
        put(binding);
    }
    let approval = json!({
        "type": "Approved", "status": "True", "reason": "LogicalCloud",
        "message": "Approved for the user of a logical cloud",
    });
    if let Some(resource) = part.resources.get_mut(&signing) {
        let approval = Some(approval.to_string().into());
        *resource = Resource { approval, ..resource.clone() };
    }
    Ok(part)
}

/// Name of the user's certificate signing request.
pub(super) fn request_name(cloud: &str, namespace: &str) -> String {
    format!("{cloud}-{namespace}-user-csr")
}

/// A role with its binding: of the whole cluster for a permission without a namespace.
fn access(cloud: &CloudObjects<'_>, at: usize, permission: &UserPermission) -> [Value; 2] {
    let spec = &permission.spec;
    let whole = spec.namespace.is_empty();
    let kind = if whole { "ClusterRole" } else { "Role" };
    let (prefix, kind_word) = (cloud.cloud, if whole { "clusterRole" } else { "role" });
    let role_name = format!("{prefix}-{kind_word}{at}");
    let rules = json!([{"apiGroups": spec.api_groups, "resources": spec.resources, "verbs": spec.verbs}]);
    let metadata = |name: &str| {
        if whole { json!({"name": name}) } else { json!({"name": name, "namespace": spec.namespace}) }
    };
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": metadata(&role_name), "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": format!("{kind}Binding"),
        "metadata": metadata(&format!("{prefix}-{kind_word}Binding{at}")),
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": cloud.user}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role_name},
    });
    [role, binding]
}
