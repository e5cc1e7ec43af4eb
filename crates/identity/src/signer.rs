//! Kubernetes' well-known signers: which requests each of them grants, `certificates.k8s.io/v1`.

use crate::certificate::Usage;
use crate::csr::CertificateSigningRequest;
use crate::user::{BOOTSTRAPPERS, MASTERS, NODE_PREFIX, NODES, UserInfo};

/// Why a request is not granted; the text is for the request's `Failed` or `Denied` condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

fn refuse<T>(reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(reason.into()))
}

/// One of Kubernetes' signers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// `kubernetes.io/kube-apiserver-client`: client certificates of users.
    ApiServerClient,
    /// `kubernetes.io/kube-apiserver-client-kubelet`: client certificates of nodes.
    ApiServerClientKubelet,
    /// `kubernetes.io/kubelet-serving`: server certificates of nodes.
    KubeletServing,
}

impl Signer {
    /// The signer of a name; `None` if it is none of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::ApiServerClient, Self::ApiServerClientKubelet, Self::KubeletServing]
            .into_iter()
            .find(|signer| signer.name() == name)
    }

    /// The signer's name, as `spec.signerName` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServerClient => "kubernetes.io/kube-apiserver-client",
            Self::ApiServerClientKubelet => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::KubeletServing => "kubernetes.io/kubelet-serving",
        }
    }

    /// Checks an approved request against the signer's rules; returns what the certificate is to be for. `usages` is
    /// `spec.usages`, `requester` the user the API server noted in `spec`.
    ///
    /// # Errors
    /// [`Refusal`] if the signer must not grant it.
    pub fn check(
        self,
        request: &CertificateSigningRequest,
        usages: &[String],
        requester: &UserInfo,
    ) -> Result<Vec<Usage>, Refusal> {
        if let Some(name) = request.other_names.first() {
            return refuse(format!("{name}: only CN, O, DNS names and IP addresses are certified"));
        }
        match self {
            Self::ApiServerClient => {
                check_usages(usages, "client auth", &["digital signature", "key encipherment"])?;
                if request.subject.organizations.iter().any(|group| group == MASTERS) {
                    return refuse(format!("no certificate is issued for group {MASTERS}"));
                }
                Ok(vec![Usage::ClientAuth])
            }
            Self::ApiServerClientKubelet => {
                check_usages(usages, "client auth", &["digital signature", "key encipherment"])?;
                check_bound(node_of(request)?, requester)?;
                if !request.dns_names.is_empty() || !request.ip_addresses.is_empty() {
                    return refuse("a node's client certificate has no subject alternative names");
                }
                Ok(vec![Usage::ClientAuth])
            }
            Self::KubeletServing => {
                check_usages(usages, "server auth", &["digital signature", "key encipherment"])?;
                node_of(request)?;
                if request.dns_names.is_empty() && request.ip_addresses.is_empty() {
                    return refuse("a node's server certificate needs a DNS name or an IP address");
                }
                if requester.name != request.subject.common_name {
                    return refuse("only the node itself can ask for its server certificate");
                }
                Ok(vec![Usage::ServerAuth])
            }
        }
    }
}

/// A bootstrap token that is for one node gives no certificate for another.
fn check_bound(node: &str, requester: &UserInfo) -> Result<(), Refusal> {
    match requester.bootstrap_node() {
        Some(own) if own != node => refuse(format!(
            "{} is for node {own:?} and gives no certificate for node {node:?}",
            requester.name
        )),
        _ => Ok(()),
    }
}

/// Why a request must be denied at once: it asks, with the bootstrap token of one node, for the certificate of another.
pub fn denial(request: &CertificateSigningRequest, requester: &UserInfo) -> Option<Refusal> {
    check_bound(node_of(request).ok()?, requester).err()
}

/// How a node's request for its client certificate may be approved without a human.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoApproval {
    /// A new node, with a bootstrap token; needs `create` on `certificatesigningrequests/nodeclient`.
    NewNode,
    /// A node that renews its own; needs `create` on `certificatesigningrequests/selfnodeclient`.
    Renewal,
}

impl AutoApproval {
    /// The subresource of `certificatesigningrequests` that the requester must be allowed to `create`.
    pub fn subresource(self) -> &'static str {
        match self {
            Self::NewNode => "nodeclient",
            Self::Renewal => "selfnodeclient",
        }
    }

    /// Which approval a checked request of [`Signer::ApiServerClientKubelet`] is up for.
    pub fn of(request: &CertificateSigningRequest, requester: &UserInfo) -> Option<Self> {
        let node = node_of(request).ok()?;
        if requester.node_name() == Some(node) {
            Some(Self::Renewal)
        } else if requester.is_in(BOOTSTRAPPERS) {
            Some(Self::NewNode)
        } else {
            None
        }
    }
}

/// The node that a request is for: CN `system:node:NAME`, O exactly `system:nodes`.
fn node_of(request: &CertificateSigningRequest) -> Result<&str, Refusal> {
    if request.subject.organizations != [NODES] {
        return refuse(format!("the organization must be exactly {NODES:?}"));
    }
    match request.subject.common_name.strip_prefix(NODE_PREFIX) {
        Some(name) if !name.is_empty() => Ok(name),
        _ => refuse(format!("the common name must be {NODE_PREFIX:?} and the node's name")),
    }
}

fn check_usages(usages: &[String], required: &str, allowed: &[&str]) -> Result<(), Refusal> {
    if !usages.iter().any(|usage| usage == required) {
        return refuse(format!("usages must contain {required:?}"));
    }
    match usages.iter().find(|usage| *usage != required && !allowed.contains(&usage.as_str())) {
        Some(usage) => refuse(format!("usage {usage:?} is not allowed for this signer")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::certificate::Subject;
    use crate::csr;
    use crate::key::PrivateKey;

    fn request(common_name: &str, organizations: &[&str], names: &[&str]) -> CertificateSigningRequest {
        let key = PrivateKey::generate().unwrap();
        let subject = Subject::new(common_name, organizations.iter().copied());
        let addresses: Vec<IpAddr> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let names: Vec<String> = names
            .iter()
            .filter(|name| name.parse::<IpAddr>().is_err())
            .map(|name| (*name).to_owned())
            .collect();
        let pem = csr::create(&key, &subject, &names, &addresses).unwrap();
        CertificateSigningRequest::from_pem(&pem).unwrap()
    }

    fn usages(usages: &[&str]) -> Vec<String> {
        usages.iter().map(|usage| (*usage).to_owned()).collect()
    }

    #[test]
    fn a_nodes_client_certificate() {
        let signer = Signer::from_name("kubernetes.io/kube-apiserver-client-kubelet").unwrap();
        let requester = UserInfo::new("system:bootstrap:abcdef", [BOOTSTRAPPERS]);
        let client = usages(&["digital signature", "client auth"]);
        let check = |request: &CertificateSigningRequest, usages: &[String]| {
            signer.check(request, usages, &requester)
        };
        let good = request("system:node:n1", &["system:nodes"], &[]);
        assert_eq!(check(&good, &client), Ok(vec![Usage::ClientAuth]));
        for (bad, why) in [
            (request("n1", &["system:nodes"], &[]), "common name"),
            (request("system:node:", &["system:nodes"], &[]), "common name"),
            (request("system:node:n1", &[], &[]), "organization"),
            (request("system:node:n1", &["system:nodes", "system:masters"], &[]), "organization"),
            (request("system:node:n1", &["system:nodes"], &["n1"]), "subject alternative"),
        ] {
            let refusal = check(&bad, &client).unwrap_err();
            assert!(refusal.to_string().contains(why), "{refusal}");
        }
        for bad in [usages(&["digital signature"]), usages(&["client auth", "server auth"])] {
            assert!(check(&good, &bad).unwrap_err().to_string().contains("usage"));
        }
    }

    #[test]
    fn a_token_for_one_node_gives_no_certificate_for_another() {
        let signer = Signer::ApiServerClientKubelet;
        let mut requester = UserInfo::new("system:bootstrap:abcdef", [BOOTSTRAPPERS]);
        requester.extra.insert(crate::user::BOOTSTRAP_NODE.to_owned(), vec!["n1".to_owned()]);
        let client = usages(&["client auth"]);
        let own = request("system:node:n1", &["system:nodes"], &[]);
        let other = request("system:node:n2", &["system:nodes"], &[]);
        assert!(signer.check(&own, &client, &requester).is_ok() && denial(&own, &requester).is_none());
        // Not even if somebody approves it.
        let refusal = signer.check(&other, &client, &requester).unwrap_err().to_string();
        assert!(refusal.contains("\"n1\"") && refusal.contains("\"n2\""), "{refusal}");
        assert!(denial(&other, &requester).is_some());
        requester.extra.insert(crate::user::BOOTSTRAP_NODE.to_owned(), Vec::new());
        assert!(denial(&own, &requester).is_some(), "a token for nobody is for nobody");
    }

    #[test]
    fn a_nodes_server_certificate_is_for_itself() {
        let signer = Signer::KubeletServing;
        let server = usages(&["server auth", "digital signature", "key encipherment"]);
        let good = request("system:node:n1", &["system:nodes"], &["n1", "10.0.0.7"]);
        assert_eq!(signer.check(&good, &server, &UserInfo::node("n1")), Ok(vec![Usage::ServerAuth]));
        assert!(signer.check(&good, &server, &UserInfo::node("n2")).is_err());
        let nameless = request("system:node:n1", &["system:nodes"], &[]);
        assert!(signer.check(&nameless, &server, &UserInfo::node("n1")).is_err());
    }

    #[test]
    fn no_user_certificate_makes_a_master() {
        let signer = Signer::ApiServerClient;
        let client = usages(&["client auth"]);
        let jane = UserInfo::new("jane", [""; 0]);
        assert!(signer.check(&request("anyone", &["dev"], &[]), &client, &jane).is_ok());
        assert!(signer.check(&request("anyone", &["system:masters"], &[]), &client, &jane).is_err());
        assert_eq!(Signer::from_name("example.com/other"), None);
    }

    #[test]
    fn who_may_be_approved_without_a_human() {
        let request = request("system:node:n1", &["system:nodes"], &[]);
        let bootstrap = UserInfo::new("system:bootstrap:abcdef", [BOOTSTRAPPERS]);
        assert_eq!(AutoApproval::of(&request, &bootstrap), Some(AutoApproval::NewNode));
        assert_eq!(AutoApproval::of(&request, &UserInfo::node("n1")), Some(AutoApproval::Renewal));
        assert_eq!(AutoApproval::of(&request, &UserInfo::node("n2")), None);
        assert_eq!(AutoApproval::of(&request, &UserInfo::new("jane", ["dev"])), None);
    }
}
