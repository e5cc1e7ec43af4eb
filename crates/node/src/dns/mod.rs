//! Cluster DNS: every node answers the questions of its own pods.
//!
//! The data plane leads what is addressed to the cluster's name server (`clusterDNS`, port 53) to port [`PORT`] of the node's own
//! address. No question for a cluster name leaves the node, and no other node's failure silences it. Names outside the cluster
//! are asked of the node's name servers.
//!
//! | module | what it does |
//! |---|---|
//! | [`zone`] | Services and EndpointSlices → names; pure |
//! | [`message`] | questions and answers in wire format; pure |
//! | [`upstream`] | the node's own name servers |
//! | [`server`] | the sockets |

pub mod message;
pub mod server;
pub mod upstream;
pub mod zone;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use drystone_cni::dataplane::model::{Endpoint, Protocol, ServicePort, TrafficPolicy};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::watch,
};

use self::{
    server::{Clients, Responder},
    upstream::Upstream,
    zone::{Domain, Zone},
};
use crate::{
    config::NodeConfig,
    networking::{
        objects::{Changing, Objects, settle},
        readiness::{Part, Readiness},
        retry::Retry,
    },
};

/// The port of the node's address on which it answers.
pub const PORT: u16 = 10053;
/// The port of name servers.
const DNS_PORT: u16 = 53;
/// The namespace whose Services may take the name server's address over: somebody who runs a name server of their own.
const NAMESPACE: &str = "kube-system";
/// What the node's name server is called among Services.
const NAME: &str = "drystone-node-dns";
/// The node's name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// The address under which pods ask this node: the first of `clusterDNS`, if it is one of the Services'. Others are name
/// servers that somebody else runs, and without a service data plane nothing would lead here.
pub fn address(config: &NodeConfig) -> Option<Ipv4Addr> {
    match config.cluster_dns.first() {
        Some(IpAddr::V4(address)) if config.service_data_plane && config.service_cidr.contains(address) => {
            Some(*address)
        }
        _ => None,
    }
}

/// Leads the name server's address to this node, unless a Service of `kube-system` serves it. Services of other namespaces that
/// claim the address do not get it: who owns it reads and answers everybody's questions.
pub fn redirect(ports: &mut Vec<ServicePort>, address: Ipv4Addr, node: Ipv4Addr) {
    for port in ports.iter_mut().filter(|port| port.namespace != NAMESPACE) {
        port.cluster_addresses.remove(&address);
        port.external_addresses.remove(&address);
        port.load_balancer_addresses.remove(&address);
    }
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let is_served = ports.iter().any(|port| {
            (port.protocol, port.port) == (protocol, DNS_PORT)
                && port.cluster_addresses.contains(&address)
                && !port.usable_endpoints(false).is_empty()
        });
        if !is_served {
            ports.push(own_port(protocol, address, node));
        }
    }
}

fn own_port(protocol: Protocol, address: Ipv4Addr, node: Ipv4Addr) -> ServicePort {
    ServicePort {
        namespace: NAMESPACE.to_owned(),
        service: NAME.to_owned(),
        name: format!("dns-{protocol}"),
        protocol,
        port: DNS_PORT,
        cluster_addresses: [address].into(),
        external_addresses: [].into(),
        load_balancer_addresses: [].into(),
        source_ranges: [].into(),
        node_port: None,
        client_affinity: None,
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        endpoints: vec![Endpoint { address: node, port: PORT, local: true, ready: true, serving: false }],
    }
}

/// The node's name server.
pub(crate) struct NameServer {
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) domain: Domain,
    /// The address under which pods ask.
    pub(crate) address: Ipv4Addr,
    pub(crate) services: Objects<Service>,
    pub(crate) slices: Objects<EndpointSlice>,
    pub(crate) readiness: Arc<Readiness>,
}

impl Changing for NameServer {
    async fn changed(&mut self) {
        tokio::select! {
            () = self.services.changed() => {}
            () = self.slices.changed() => {}
        }
    }
}

impl NameServer {
    /// Goes on until it is dropped.
    pub(crate) async fn run(self) {
        let (zone, newest) = watch::channel(Arc::new(Zone::unknown(self.domain.clone())));
        let (datagrams, streams) = self.bind().await;
        let clients = Clients { pods: self.config.pod_cidr, node: self.config.node_address.into() };
        let upstream = Upstream::new(RESOLV_CONF.into(), self.address.into());
        let responder = Arc::new(Responder::new(newest, upstream, clients));
        tokio::join!(responder.serve(datagrams, streams), self.keep_zone(zone));
    }

    async fn bind(&self) -> (UdpSocket, TcpListener) {
        let address = (self.config.node_address, PORT);
        let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let bound = async {
                Ok::<_, std::io::Error>((UdpSocket::bind(address).await?, TcpListener::bind(address).await?))
            };
            match bound.await {
                Ok(sockets) => return sockets,
                Err(error) => {
                    let problem = format!("cluster DNS cannot listen on {}:{PORT}: {error}", address.0);
                    tracing::warn!(problem, "trying again");
                    self.readiness.set(Part::Names, Err(problem));
                    tokio::time::sleep(retry.pause()).await;
                }
            }
        }
    }

    async fn keep_zone(mut self, zone: watch::Sender<Arc<Zone>>) {
        self.services.listed().await;
        self.slices.listed().await;
        loop {
            let new = Zone::new(self.domain.clone(), &self.services.all(), &self.slices.all());
            zone.send_replace(Arc::new(new));
            self.readiness.set(Part::Names, Ok(()));
            self.changed().await;
            settle(&mut self).await;
        }
    }
}

#[cfg(test)]
mod tests;
