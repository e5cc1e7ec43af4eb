//! Asking the cluster to sign a certificate (`certificates.k8s.io/v1`).

use std::{net::IpAddr, time::Duration};

use drystone_identity::{KeyError, PrivateKey, Subject, csr};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::wait::{Condition, await_condition},
};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

/// How long a request may stay undecided before it is looked at anew.
const DECISION_DEADLINE: Duration = Duration::from_secs(60);

/// A certificate that was not signed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The request could not be made.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The API refused it, or did not answer.
    #[error("certificate signing request {name}: {source}")]
    Api {
        /// Its name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Watching it failed.
    #[error("certificate signing request {name} cannot be watched: {problem}")]
    Watch {
        /// Its name.
        name: String,
        /// Why.
        problem: String,
    },
    /// Somebody said no.
    #[error("certificate signing request {name} was refused: {message}")]
    Refused {
        /// Its name.
        name: String,
        /// Why.
        message: String,
    },
    /// Nobody has said anything yet.
    #[error(
        "certificate signing request {name} is not decided yet; approve it with `kubectl certificate approve {name}`"
    )]
    Undecided {
        /// Its name.
        name: String,
    },
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) signer: &'static str,
    pub(super) subject: Subject,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) usages: Vec<&'static str>,
}

/// Has a certificate signed; returns it in PEM. The request's name follows from key and signer, so that asking again finds it.
pub(super) async fn certificate(
    client: &Client,
    key: &PrivateKey,
    wanted: &Wanted,
) -> Result<String, RequestError> {
    let text = csr::create(key, &wanted.subject, &wanted.dns_names, &wanted.addresses)?;
    let name = request_name(key, wanted);
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(text.into_bytes()),
            signer_name: wanted.signer.to_owned(),
            usages: Some(wanted.usages.iter().map(|usage| (*usage).to_owned()).collect()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    match api.create(&PostParams::default(), &request).await {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        Err(source) => return Err(RequestError::Api { name, source: Box::new(source) }),
        Ok(_) => {}
    }
    match timeout(DECISION_DEADLINE, await_condition(api, &name, IsDecided)).await {
        Err(_) => Err(RequestError::Undecided { name }),
        Ok(Err(error)) => Err(RequestError::Watch { name, problem: error.to_string() }),
        Ok(Ok(request)) => decision(name, request.as_ref()),
    }
}

fn request_name(key: &PrivateKey, wanted: &Wanted) -> String {
    let mut hash = Sha256::new();
    hash.update(key.public_key());
    hash.update(wanted.signer);
    let digest: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("node-csr-{digest}")
}

struct IsDecided;

impl Condition<CertificateSigningRequest> for IsDecided {
    fn matches_object(&self, request: Option<&CertificateSigningRequest>) -> bool {
        !matches!(decision(String::new(), request), Err(RequestError::Undecided { .. }))
    }
}

fn decision(name: String, request: Option<&CertificateSigningRequest>) -> Result<String, RequestError> {
    let Some(request) = request else {
        return Err(RequestError::Refused { name, message: "it was deleted".to_owned() });
    };
    let status = request.status.as_ref();
    let refusal = status.and_then(|status| {
        let conditions = status.conditions.as_ref()?;
        conditions.iter().find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed"))
    });
    if let Some(refusal) = refusal {
        return Err(RequestError::Refused { name, message: refusal.message.clone().unwrap_or_default() });
    }
    let certificate = status.and_then(|status| status.certificate.as_ref());
    let certificate = certificate.filter(|certificate| !certificate.0.is_empty());
    let certificate = certificate.ok_or_else(|| RequestError::Undecided { name: name.clone() })?;
    let not_text = |_| RequestError::Refused { name, message: "the certificate is not text".to_owned() };
    String::from_utf8(certificate.0.clone()).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decide(status: &Value) -> Result<String, RequestError> {
        let request = serde_json::from_value(json!({"metadata": {"name": "r"},
            "spec": {"request": "", "signerName": "s"}, "status": status}));
        decision("r".into(), Some(&request.unwrap()))
    }

    #[test]
    fn decisions() {
        assert!(matches!(decide(&json!({})), Err(RequestError::Undecided { .. })));
        let approved = json!({"conditions": [{"type": "Approved", "status": "True"}]});
        assert!(
            matches!(decide(&approved), Err(RequestError::Undecided { .. })),
            "approved is not yet signed"
        );
        assert_eq!(decide(&json!({"certificate": "eHl6"})).unwrap(), "xyz");
        let denied = json!({"conditions": [{"type": "Denied", "status": "True", "message": "no"}]});
        assert_eq!(decide(&denied).unwrap_err().to_string(), "certificate signing request r was refused: no");
        assert!(matches!(decision("r".into(), None), Err(RequestError::Refused { .. })));
    }
}
