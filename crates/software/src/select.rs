//! Which hosts are meant, and what is known of each.

use std::collections::BTreeMap;

use drystone_api::{HostImage, HostSelector, MemberRole};

use crate::inventory::Inventory;

/// What is known of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Name of its BareMetalHost.
    pub name: String,
    /// Its site; empty if it belongs to none.
    pub site: String,
    /// Labels of its BareMetalHost.
    pub labels: BTreeMap<String, String>,
    /// Its cluster, as `NAMESPACE/NAME`; empty if it belongs to none.
    pub cluster: String,
    /// Its role in the cluster.
    pub role: Option<MemberRole>,
    /// Whether an operating system is on it.
    pub provisioned: bool,
    /// What is on it; `None` if that was never read.
    pub inventory: Option<Inventory>,
    /// Image of its operating system.
    pub os_image: Option<HostImage>,
    /// Why it cannot be reached, if it cannot.
    pub unreachable: Option<String>,
}

/// Whether a selector says anything.
pub fn says_something(selector: &HostSelector) -> bool {
    *selector != HostSelector::default()
}

/// Whether a selector means a host: everything that it says must hold. One that says nothing means none.
pub fn selects(selector: &HostSelector, host: &HostFacts) -> bool {
    let among = |names: &[String], name: &str| names.is_empty() || names.iter().any(|given| given == name);
    let HostSelector { all: _, hosts, sites, cluster, role, match_labels } = selector;
    says_something(selector)
        && among(hosts, &host.name)
        && among(sites, &host.site)
        && (cluster.is_empty() || *cluster == host.cluster)
        && (role.is_none() || *role == host.role)
        && match_labels.iter().all(|(key, value)| host.labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_means_what_it_says_and_nothing_by_default() {
        let host = HostFacts {
            name: "h1".to_owned(),
            site: "edge".to_owned(),
            cluster: "research/mlops".to_owned(),
            role: Some(MemberRole::Worker),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            ..HostFacts::default()
        };
        assert!(!selects(&HostSelector::default(), &host));
        assert!(selects(&HostSelector { all: true, ..HostSelector::default() }, &host));
        let selector = HostSelector {
            sites: vec!["core".to_owned(), "edge".to_owned()],
            role: Some(MemberRole::Worker),
            match_labels: [("zone".to_owned(), "a".to_owned())].into(),
            ..HostSelector::default()
        };
        assert!(selects(&selector, &host));
        for other in [
            HostFacts { site: "far".to_owned(), ..host.clone() },
            HostFacts { role: Some(MemberRole::ControlPlane), ..host.clone() },
            HostFacts { role: None, ..host.clone() },
            HostFacts { labels: BTreeMap::new(), ..host.clone() },
        ] {
            assert!(!selects(&selector, &other), "{other:?}");
        }
        let by_name = HostSelector { hosts: vec!["h2".to_owned()], ..HostSelector::default() };
        assert!(!selects(&by_name, &host));
    }
}
