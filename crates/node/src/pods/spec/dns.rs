//! Name resolution of pods.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;

use super::NodeFacts;
use crate::cri::messages::DnsConfig;

/// The most name servers that resolvers use.
const MAX_SERVERS: usize = 3;
/// The most search domains.
const MAX_SEARCHES: usize = 32;

/// A resolver's configuration, `/etc/resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Name servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options.
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads `resolv.conf`; of several `search` lines the last counts. Servers on the loopback interface are left out, for
    /// in a pod they would be the pod's own.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            let keyword = words.next();
            let values = words.map(str::to_owned);
            match keyword {
                Some("nameserver") => {
                    resolver.servers.extend(values.take(1).filter(|server| is_usable(server)));
                }
                Some("search" | "domain") => resolver.searches = values.collect(),
                Some("options") => resolver.options.extend(values),
                _ => {}
            }
        }
        resolver
    }
}

fn is_usable(server: &str) -> bool {
    let address = server.split('%').next().unwrap_or_default();
    address.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
}

/// What a pod's resolver is told, by its `dnsPolicy` and `dnsConfig`.
pub fn dns(pod: &Pod, node: &NodeFacts) -> DnsConfig {
    let spec = pod.spec.clone().unwrap_or_default();
    let on_host = spec.host_network == Some(true);
    let policy = match spec.dns_policy.as_deref() {
        Some("None") => Policy::None,
        Some("Default") => Policy::Node,
        Some("ClusterFirstWithHostNet") => Policy::Cluster,
        _ if on_host => Policy::Node,
        _ => Policy::Cluster,
    };
    let mut resolver = match policy {
        Policy::None => Resolver::default(),
        Policy::Cluster if !node.cluster_dns.is_empty() => cluster_resolver(pod, node),
        // A cluster without name servers: better the node's than none.
        Policy::Cluster | Policy::Node => node.resolver.clone(),
    };
    if let Some(own) = spec.dns_config {
        extend(&mut resolver.servers, own.nameservers.unwrap_or_default());
        extend(&mut resolver.searches, own.searches.unwrap_or_default());
        for option in own.options.unwrap_or_default() {
            let Some(name) = option.name else { continue };
            resolver.options.retain(|other| other.split(':').next() != Some(&name));
            resolver.options.push(match option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            });
        }
    }
    resolver.servers.truncate(MAX_SERVERS);
    resolver.searches.truncate(MAX_SEARCHES);
    DnsConfig { servers: resolver.servers, searches: resolver.searches, options: resolver.options }
}

enum Policy {
    None,
    Node,
    Cluster,
}

fn cluster_resolver(pod: &Pod, node: &NodeFacts) -> Resolver {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let domain = &node.cluster_domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    extend(&mut searches, node.resolver.searches.clone());
    Resolver {
        servers: node.cluster_dns.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

fn extend(list: &mut Vec<String>, more: Vec<String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pods::spec::tests_support::facts;

    fn dns_of(spec: Value) -> DnsConfig {
        let mut spec = spec;
        spec["containers"] = json!([]);
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"namespace": "shop"}, "spec": spec})).unwrap();
        dns(&pod, &facts())
    }

    #[test]
    fn resolv_conf_is_read() {
        let text = "# c\nnameserver 127.0.0.53\nnameserver 192.0.2.1 # x\nsearch a.example\nsearch b.example c.example\noptions edns0 trust-ad\n";
        let resolver = Resolver::parse(text);
        assert_eq!(resolver.servers, ["192.0.2.1"]);
        assert_eq!(resolver.searches, ["b.example", "c.example"]);
        assert_eq!(resolver.options, ["edns0", "trust-ad"]);
    }

    #[test]
    fn policies() {
        let cluster = dns_of(json!({}));
        assert_eq!(cluster.servers, ["10.43.0.10"]);
        assert_eq!(
            cluster.searches,
            ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "site.example"]
        );
        assert_eq!(cluster.options, ["ndots:5"]);
        assert_eq!(dns_of(json!({"hostNetwork": true})).servers, ["192.0.2.53"]);
        assert_eq!(dns_of(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})), cluster);
        assert_eq!(dns_of(json!({"dnsPolicy": "Default"})).searches, ["site.example"]);
        let own = dns_of(json!({"dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["1.1.1.1"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}));
        assert_eq!(
            (own.servers, own.options),
            (vec!["1.1.1.1".to_owned()], vec!["ndots:2".to_owned(), "edns0".to_owned()])
        );
        let mixed = dns_of(json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}));
        assert_eq!(mixed.options, ["ndots:1"]);
    }
}
