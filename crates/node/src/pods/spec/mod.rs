//! A pod's specification → the configurations that the runtime takes. Pure.

pub mod container;
pub mod dns;
pub mod environment;
pub mod fields;
pub mod hosts;
pub mod sandbox;
pub mod security;
pub mod service_links;

use std::net::IpAddr;

/// What the node contributes to configurations.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// Memory of the machine, in bytes.
    pub memory: u64,
    /// What pods may use, by resource name: default of `resourceFieldRef` without a limit.
    pub allocatable: std::collections::BTreeMap<String, String>,
    /// Name servers of the cluster.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster.
    pub cluster_domain: String,
    /// Name resolution of the node.
    pub resolver: dns::Resolver,
    /// Where pods' logs are.
    pub log_dir: std::path::PathBuf,
    /// The cgroup under which pods are.
    pub cgroup_root: String,
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::{NodeFacts, dns::Resolver};

    /// A node for tests.
    pub(crate) fn facts() -> NodeFacts {
        NodeFacts {
            name: "n1".into(),
            address: "10.20.0.7".parse().unwrap(),
            memory: 8 << 30,
            allocatable: [("cpu".to_owned(), "4".to_owned()), ("memory".to_owned(), "8Gi".to_owned())].into(),
            cluster_dns: vec!["10.43.0.10".parse().unwrap()],
            cluster_domain: "cluster.local".into(),
            resolver: Resolver {
                servers: vec!["192.0.2.53".into()],
                searches: vec!["site.example".into()],
                options: Vec::new(),
            },
            log_dir: "/var/log/pods".into(),
            cgroup_root: "/".into(),
        }
    }
}
