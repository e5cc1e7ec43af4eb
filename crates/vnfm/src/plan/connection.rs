//! Which VIM an instance is on: what the request says, completed by what is registered (SOL003, clause 4.4.1.6).

use std::collections::BTreeMap;

use drystone_api::nfv::{Vim, VimType};
use drystone_sol003::types::{KeyValuePairs, VimConnectionInfo};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::model::Problem;

/// Key of the connection to the default VIM, where a request names none.
pub const DEFAULT_CONNECTION: &str = "default";

/// Types of VIM that are an OpenStack.
const OPENSTACK: [&str; 2] = ["ETSINFV.OPENSTACK_KEYSTONE.V_3", "openstack"];

/// Types of VIM that are a Kubernetes.
const KUBERNETES: [&str; 3] = ["ETSINFV.KUBERNETES.V_1", "ETSINFV.HELM.V_3", "kubernetes"];

/// The VIM that an instance is on. No secrets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// Its key in `vimConnectionInfo`.
    pub key: String,
    /// How it is reached, completed.
    pub info: VimConnectionInfo,
    /// Name of the registered `Vim` that it was completed by; its Secret has the credentials then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vim: Option<String>,
    /// Name of the Site through whose gateway servers are reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
}

impl Connection {
    /// What it is.
    pub fn kind(&self) -> VimType {
        if KUBERNETES.contains(&self.info.vim_type.as_str()) {
            VimType::Kubernetes
        } else {
            VimType::OpenStack
        }
    }
}

/// Finds the VIM: the first connection that is given, or else the default one among `registered`.
///
/// # Errors
/// There is none, or what is named does not exist, or is of a kind that is not known.
pub fn resolve(
    given: &BTreeMap<String, VimConnectionInfo>,
    registered: &[impl AsRef<Vim>],
) -> Result<Connection, Problem> {
    let Some((key, info)) = given.iter().next() else {
        let default = registered.iter().map(AsRef::as_ref).find(|vim| vim.spec.is_default);
        let vim = default.ok_or_else(|| {
            Problem::unprocessable(
                "the request names no VIM in vimConnectionInfo, and no registered VIM is the default one; register one as default",
            )
        })?;
        return Ok(registered_connection(DEFAULT_CONNECTION, vim));
    };
    let attribute = format!("vimConnectionInfo.{key}");
    if !OPENSTACK.contains(&info.vim_type.as_str()) && !KUBERNETES.contains(&info.vim_type.as_str()) {
        let known = OPENSTACK.iter().chain(&KUBERNETES).copied().collect::<Vec<_>>().join(", ");
        let detail = format!("{:?} is no known type of VIM; use one of {known}", info.vim_type);
        return Err(Problem::bad(format!("{attribute}.vimType"), detail));
    }
    let complete = !info.access_info.is_empty() && !info.interface_info.is_empty();
    let named = info
        .vim_id
        .as_deref()
        .and_then(|id| registered.iter().map(AsRef::as_ref).find(|vim| vim.uid().as_deref() == Some(id)));
    match (complete, named) {
        (true, named) => Ok(Connection {
            key: key.clone(),
            info: info.clone(),
            // What is secret may be only there: an instance keeps how its VIM is reached, and not as whom.
            vim: named.map(kube::ResourceExt::name_any),
            gateway: named.and_then(|vim| vim.spec.gateway.clone()),
        }),
        (false, Some(vim)) => {
            let mut connection = registered_connection(key, vim);
            // What the request says besides counts more than what is registered.
            connection.info.interface_info.extend(info.interface_info.clone());
            connection.info.access_info.extend(info.access_info.clone());
            connection.info.extra.extend(info.extra.clone());
            connection.info.vim_type.clone_from(&info.vim_type);
            Ok(connection)
        }
        (false, None) => Err(match &info.vim_id {
            Some(id) => Problem::not_found(
                format!("{attribute}.vimId"),
                format!("no VIM with the id {id} is registered"),
            ),
            None => Problem::bad(
                attribute,
                "needs vimId of a registered VIM, or both interfaceInfo and accessInfo",
            ),
        }),
    }
}

/// A registered VIM as a connection.
fn registered_connection(key: &str, vim: &Vim) -> Connection {
    Connection {
        key: key.to_owned(),
        info: connection_info(vim),
        vim: Some(vim.name_any()),
        gateway: vim.spec.gateway.clone(),
    }
}

/// A registered VIM as SOL003 shows it; without secrets.
pub fn connection_info(vim: &Vim) -> VimConnectionInfo {
    let spec = &vim.spec;
    let mut interface_info = KeyValuePairs::from_iter([("endpoint".to_owned(), json!(spec.auth_url))]);
    let mut access_info = KeyValuePairs::new();
    match spec.kind {
        VimType::OpenStack => {
            let skip = json!(spec.skip_certificate_verification);
            interface_info.insert("skipCertificateVerification".to_owned(), skip);
            access_info.insert("project".to_owned(), json!(spec.project.name));
            let domain =
                if spec.project.domain_name.is_empty() { "Default" } else { &spec.project.domain_name };
            access_info.insert("projectDomain".to_owned(), json!(domain));
            if let Some(region) = &spec.region {
                access_info.insert("region".to_owned(), json!(region));
            }
        }
        VimType::Kubernetes => {
            if let Some(authority) = &spec.certificate_authority {
                interface_info.insert("ssl_ca_cert".to_owned(), json!(authority));
            }
        }
    }
    let helm = spec.extra.get("use_helm").is_some_and(|helm| helm == &json!(true) || helm == &json!("true"));
    VimConnectionInfo {
        vim_id: vim.uid(),
        vim_type: match spec.kind {
            VimType::OpenStack => OPENSTACK[0],
            VimType::Kubernetes if helm => KUBERNETES[1],
            VimType::Kubernetes => KUBERNETES[0],
        }
        .to_owned(),
        interface_info,
        access_info,
        extra: spec.extra.as_object().cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use drystone_api::nfv::{VimProject, VimSpec};

    use super::*;
    use crate::model::ProblemKind;

    fn vim(name: &str, is_default: bool) -> Arc<Vim> {
        let project = VimProject { name: "nfv".to_owned(), ..VimProject::default() };
        let auth_url = "http://127.0.0.1:5000/v3".to_owned();
        let spec =
            VimSpec { auth_url, project, is_default, gateway: Some("lab".to_owned()), ..VimSpec::default() };
        let mut vim = Vim::new(name, spec);
        vim.metadata.uid = Some(format!("uid-{name}"));
        Arc::new(vim)
    }

    fn given(json: serde_json::Value) -> BTreeMap<String, VimConnectionInfo> {
        serde_json::from_value(json).expect("connections")
    }

    #[test]
    fn without_any_the_default_one_is_used() {
        let connection = resolve(&BTreeMap::new(), &[vim("a", false), vim("b", true)]).expect("there is one");
        assert_eq!((connection.key.as_str(), connection.vim.as_deref()), ("default", Some("b")));
        assert_eq!(connection.gateway.as_deref(), Some("lab"));
        assert_eq!(connection.info.access_info["projectDomain"], "Default");
        let none = resolve(&BTreeMap::new(), &[vim("a", false)]).expect_err("no default");
        assert_eq!(none.kind, ProblemKind::Unprocessable);
    }

    #[test]
    fn what_is_named_is_completed_and_what_the_request_says_counts_more() {
        let asked = given(json!({"vim1": {
            "vimId": "uid-a", "vimType": "openstack", "accessInfo": {"region": "west"},
        }}));
        let connection = resolve(&asked, &[vim("a", false), vim("b", true)]).expect("registered");
        assert_eq!((connection.key.as_str(), connection.vim.as_deref()), ("vim1", Some("a")));
        assert_eq!(connection.info.access_info["region"], "west");
        assert_eq!(connection.info.access_info["project"], "nfv");
        assert_eq!(connection.info.interface_info["endpoint"], "http://127.0.0.1:5000/v3");
        assert_eq!(connection.kind(), VimType::OpenStack);
    }

    #[test]
    fn what_is_complete_needs_no_registration() {
        let asked = given(json!({"vim1": {
            "vimType": "ETSINFV.OPENSTACK_KEYSTONE.V_3",
            "interfaceInfo": {"endpoint": "http://127.0.0.1:1/v3"}, "accessInfo": {"username": "u"},
        }}));
        let connection = resolve(&asked, &[vim("a", true)]).expect("complete");
        assert_eq!((connection.vim, connection.gateway), (None, None));
        // As an instance keeps it.
        let kept = resolve(&BTreeMap::new(), &[vim("b", true)]).expect("the default one");
        let again = resolve(&BTreeMap::from([(kept.key.clone(), kept.info.clone())]), &[vim("b", false)]);
        assert_eq!(again, Ok(kept), "its credentials are still those of the registered one");
    }

    #[test]
    fn what_cannot_be_completed_is_refused_with_the_attribute() {
        for (asked, kind, attribute) in [
            (json!({"v": {"vimType": "vmware"}}), ProblemKind::BadRequest, "vimConnectionInfo.v.vimType"),
            (json!({"v": {"vimType": "openstack"}}), ProblemKind::BadRequest, "vimConnectionInfo.v"),
            (
                json!({"v": {"vimType": "openstack", "vimId": "x"}}),
                ProblemKind::NotFound,
                "vimConnectionInfo.v.vimId",
            ),
        ] {
            let problem = resolve(&given(asked), &[vim("a", true)]).expect_err("incomplete");
            assert_eq!((problem.kind, problem.attribute.as_deref()), (kind, Some(attribute)));
        }
    }
}
