//! What the rules are computed from.

use std::{collections::BTreeSet, fmt, net::Ipv4Addr, time::Duration};

use ipnet::Ipv4Net;

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    /// As nftables and conntrack write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// Which endpoints may get traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrafficPolicy {
    /// Those of all nodes.
    #[default]
    Cluster,
    /// Those of the node that the traffic arrives at.
    Local,
}

/// Where a port of a Service leads.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address of the pod.
    pub address: Ipv4Addr,
    /// Its port.
    pub port: u16,
    /// Whether it runs on this node.
    pub local: bool,
    /// Whether it is ready and stays.
    pub ready: bool,
    /// Whether it can still serve although it is terminating.
    pub serving: bool,
}

/// One port of one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the port; may be empty.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
    /// Addresses inside the cluster.
    pub cluster_addresses: BTreeSet<Ipv4Addr>,
    /// Addresses outside the cluster that are routed to its nodes by others (`spec.externalIPs`).
    pub external_addresses: BTreeSet<Ipv4Addr>,
    /// Addresses of the load balancer.
    pub load_balancer_addresses: BTreeSet<Ipv4Addr>,
    /// Who may use those of the load balancer; everybody if empty.
    pub source_ranges: BTreeSet<Ipv4Net>,
    /// Port of every node's address.
    pub node_port: Option<u16>,
    /// For how long a client keeps its endpoint.
    pub client_affinity: Option<Duration>,
    /// For traffic from outside.
    pub external_policy: TrafficPolicy,
    /// For traffic to the cluster addresses.
    pub internal_policy: TrafficPolicy,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// The endpoints that may get traffic: the ready ones; if there is none, those that still serve while they terminate.
    pub fn usable_endpoints(&self, only_local: bool) -> Vec<&Endpoint> {
        let chosen = |condition: fn(&Endpoint) -> bool| -> Vec<&Endpoint> {
            let mut endpoints: Vec<&Endpoint> = self
                .endpoints
                .iter()
                .filter(|endpoint| (endpoint.local || !only_local) && condition(endpoint))
                .collect();
            endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
            endpoints.dedup_by_key(|endpoint| (endpoint.address, endpoint.port));
            endpoints
        };
        let ready = chosen(|endpoint| endpoint.ready);
        if ready.is_empty() { chosen(|endpoint| endpoint.serving) } else { ready }
    }

    /// All addresses that it is reached at from outside.
    pub fn outside_addresses(&self) -> impl Iterator<Item = &Ipv4Addr> {
        self.external_addresses.union(&self.load_balancer_addresses)
    }
}

/// What the rules depend on beside Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Address of this node; node ports are open on it.
    pub address: Ipv4Addr,
    /// The interface that has it.
    pub interface: String,
    /// Addresses of all nodes: pods reach them under their own address.
    pub nodes: BTreeSet<Ipv4Addr>,
    /// Addresses of all pods.
    pub pod_cidr: Ipv4Net,
    /// Addresses of all Services.
    pub service_cidr: Ipv4Net,
    /// External addresses that this node answers for.
    pub announced: BTreeSet<Ipv4Addr>,
}
