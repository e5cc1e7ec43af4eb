//! Who made a request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Group of everybody who has been authenticated.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Group of everybody who has not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// Name of a user who has not been authenticated.
pub const ANONYMOUS: &str = "system:anonymous";
/// Group that may do everything, whatever the policy says.
pub const MASTERS: &str = "system:masters";
/// Group of the nodes.
pub const NODES: &str = "system:nodes";
/// What the user name of a node starts with; the node's name follows.
pub const NODE_PREFIX: &str = "system:node:";
/// Group of the bootstrap tokens.
pub const BOOTSTRAPPERS: &str = "system:bootstrappers";
/// Key of a user's `extra` that names the only node for which a bootstrap token gives a certificate.
pub const BOOTSTRAP_NODE: &str = "drystone.dev/bootstrap-node";
/// What the user name of a service account starts with; `NAMESPACE:NAME` follows.
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
/// Group of the service accounts; with `:NAMESPACE` that of one namespace.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";

/// The user of a request, as `authentication.k8s.io/v1` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UserInfo {
    /// Unique name.
    #[serde(rename = "username")]
    pub name: String,
    /// Tells two users of the same name at different times apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Groups, without duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user with a name and groups.
    pub fn new<G: Into<String>>(name: impl Into<String>, groups: impl IntoIterator<Item = G>) -> Self {
        let mut user = Self { name: name.into(), ..Self::default() };
        for group in groups {
            user.add_group(group);
        }
        user
    }

    /// The user of a request without credentials.
    pub fn anonymous() -> Self {
        Self::new(ANONYMOUS, [UNAUTHENTICATED])
    }

    /// The user that a service account is.
    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let groups = [SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        let name = format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}");
        Self { uid: Some(uid.to_owned()), ..Self::new(name, groups) }
    }

    /// The user that a node is.
    pub fn node(name: &str) -> Self {
        Self::new(format!("{NODE_PREFIX}{name}"), [NODES])
    }

    /// Adds a group unless it is there.
    pub fn add_group(&mut self, group: impl Into<String>) {
        let group = group.into();
        if !self.groups.contains(&group) {
            self.groups.push(group);
        }
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The name of the node that the user is: its name says so, and it is in the nodes' group.
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty() && self.is_in(NODES))
    }

    /// The only node that the user may become, if it is a bootstrap token that is meant for one.
    pub fn bootstrap_node(&self) -> Option<&str> {
        // Something that is there and names none is for none.
        self.extra.get(BOOTSTRAP_NODE).map(|nodes| nodes.first().map_or("", String::as_str))
    }

    /// Namespace and name of the service account that the user is.
    pub fn service_account_name(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_somebody_is() {
        assert_eq!(UserInfo::node("n1").node_name(), Some("n1"));
        assert_eq!(UserInfo::new("system:node:n1", ["other"]).node_name(), None);
        let account = UserInfo::service_account("ns", "builder", "u1");
        assert_eq!(account.service_account_name(), Some(("ns", "builder")));
        assert!(account.is_in("system:serviceaccounts:ns"));
        assert_eq!(account.node_name(), None);
    }
}
