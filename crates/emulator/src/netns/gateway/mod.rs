//! The site's gateway: a router between the fabric and the campus network, the controller's address inside the site, and
//! the proxy by which Drystone and its users reach into the site.
//!
//! ```text
//!   switch ── uplink0 │ ds-SITE.gw │ campus0 (bridge) ─┬─ eth0 │ ds-SITE.campus          (the proxy dials from here)
//!             10.20.0.1    routes    203.0.113.1       └─ eth0 │ ds-SITE.campus.CLIENT   (people outside)
//! ```
//!
//! The machine's own network is not touched: the proxy listens on its loopback, calls to the controller's address end on
//! its loopback, and between loopback and the site there is no route, only this process copying bytes.

use std::{io, net::SocketAddr, time::Duration};

use ipnet::IpNet;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    command::{Tool, ToolError},
    names::{self, CAMPUS_BRIDGE, UPLINK},
    namespace,
    plan::{CampusHost, GatewayPlan},
    settings, switch,
    switch::DownPorts,
};
use crate::backend::{GatewayConfig, GatewayEndpoints};

mod forward;
mod policy;
mod proxy;
mod sockets;

use sockets::NamespaceSockets;

/// Settings of the gateway's namespace. Redirects would tell hosts of different zones about each other; the campus asks
/// for addresses of external pools inside its own prefix, and the gateway answers for them.
const SETTINGS: [(&str, &str); 7] = [
    ("net/ipv4/ip_forward", "1"),
    ("?net/ipv6/conf/all/forwarding", "1"),
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/default/proxy_arp", "0"),
];
/// Settings that need the interfaces.
const INTERFACE_SETTINGS: [(&str, &str); 2] =
    [("net/ipv4/conf/campus0/proxy_arp", "1"), ("?net/ipv6/conf/campus0/proxy_ndp", "1")];

/// How long an address in use may take to become free.
const LISTEN_DEADLINE: Duration = Duration::from_secs(5);

/// Why the gateway could not be built or started.
#[derive(Debug, thiserror::Error)]
pub(super) enum GatewayError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> GatewayError {
    move |source| GatewayError::Io { what: what.into(), source }
}

/// Makes what is missing of the gateway's namespaces; what stands is left alone.
pub(super) async fn build(plan: &GatewayPlan, owner: &str, down: &DownPorts) -> Result<(), GatewayError> {
    let standing = namespace::owner(&plan.namespace).await.as_deref() == Some(owner)
        && namespace::links(&plan.namespace).await?.iter().any(|link| link.name == UPLINK);
    if !standing {
        build_router(plan, owner, down).await?;
    }
    for (index, host) in [&plan.proxy].into_iter().chain(&plan.clients).enumerate() {
        if !standing || namespace::owner(&host.namespace).await.as_deref() != Some(owner) {
            build_campus_host(plan, index, host, owner).await?;
        }
    }
    Ok(())
}

async fn build_router(plan: &GatewayPlan, owner: &str, down: &DownPorts) -> Result<(), GatewayError> {
    let GatewayPlan { namespace, uplink, node_address, campus_address, external, controller, .. } = plan;
    switch::detach(&uplink.port.namespace, &[uplink.port.interface.as_str()].into()).await?;
    namespace::create(namespace).await?;
    settings::write(namespace, &SETTINGS).await.map_err(io_error(format!("settings of {namespace}")))?;
    let script = policy::render(controller.port());
    Tool::inside(namespace, "nft").arguments(["-f", "-"]).input(script).run().await?;
    let mut lines = vec![
        format!(
            "link add {UPLINK} address {} type veth peer name {} netns {}",
            uplink.mac, uplink.port.interface, uplink.port.namespace
        ),
        format!("link add {CAMPUS_BRIDGE} type bridge stp_state 0 forward_delay 0"),
        address_line(*node_address, UPLINK),
        address_line(*campus_address, CAMPUS_BRIDGE),
    ];
    if node_address.addr().is_ipv4() {
        // Every zone would hear the gateway announce an IPv6 address that nobody asked for.
        lines.push(format!("link set {UPLINK} addrgenmode none"));
    }
    lines.extend([format!("link set {CAMPUS_BRIDGE} up"), format!("link set {UPLINK} up")]);
    lines.extend(external.iter().map(|prefix| format!("route replace {} dev {UPLINK}", prefix.trunc())));
    Tool::ip_batch_in(namespace, &lines).run().await?;
    settings::write(namespace, &INTERFACE_SETTINGS)
        .await
        .map_err(io_error(format!("settings of {namespace}")))?;
    let port = &uplink.port;
    let plug = switch::attach(&port.interface, down.is_up(&port.namespace, &port.interface));
    Tool::ip_batch_in(&port.namespace, &plug).run().await?;
    namespace::mark(namespace, owner).await?;
    Ok(())
}

async fn build_campus_host(
    plan: &GatewayPlan,
    index: usize,
    host: &CampusHost,
    owner: &str,
) -> Result<(), GatewayError> {
    let CampusHost { namespace, address } = host;
    let port = names::campus_port(index);
    if namespace::links(&plan.namespace).await?.iter().any(|link| link.name == port) {
        Tool::ip_in(&plan.namespace, ["link", "delete", &port]).run().await?;
    }
    namespace::create(namespace).await?;
    let lines = [
        format!("link add eth0 type veth peer name {port} netns {}", plan.namespace),
        address_line(*address, "eth0"),
        "link set eth0 up".to_owned(),
        format!("route replace default via {}", plan.campus_address.addr()),
    ];
    Tool::ip_batch_in(namespace, &lines).run().await?;
    let plug = [format!("link set {port} master {CAMPUS_BRIDGE}"), format!("link set {port} up")];
    Tool::ip_batch_in(&plan.namespace, &plug).run().await?;
    namespace::mark(namespace, owner).await?;
    Ok(())
}

fn address_line(address: IpNet, interface: &str) -> String {
    let no_detection = if address.addr().is_ipv6() { " nodad" } else { "" };
    format!("address replace {address} dev {interface}{no_detection}")
}

/// The gateway's services in this process; they end when this is dropped.
#[derive(Debug)]
pub(super) struct GatewayServices {
    end: CancellationToken,
    tasks: JoinSet<()>,
}

impl GatewayServices {
    /// Starts the proxy and the forwarding to the controller. The namespaces must stand.
    pub(super) async fn start(
        plan: &GatewayPlan,
        config: &GatewayConfig,
    ) -> Result<(Self, GatewayEndpoints), GatewayError> {
        let proxy_namespace = &plan.proxy.namespace;
        let end = CancellationToken::new();
        let mut tasks = JoinSet::new();

        let enter = |name: &str| io_error(format!("entering namespace {name}"));
        let inside = NamespaceSockets::enter(&plan.namespace).await.map_err(enter(&plan.namespace))?;
        let listener = listen_patiently(&inside, plan.controller)
            .await
            .map_err(io_error(format!("listening on {} in {}", plan.controller, plan.namespace)))?;
        tasks.spawn(forward::serve(listener, config.controller, end.clone()));

        let campus = NamespaceSockets::enter(proxy_namespace).await.map_err(enter(proxy_namespace))?;
        let listen = io_error(format!("the site's proxy on {}", config.proxy_listen));
        let listener = TcpListener::bind(config.proxy_listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(io_error("the site's proxy"))?;
        let proxy = proxy::Proxy::new(campus, &config.proxy_user, &config.proxy_password);
        tasks.spawn(proxy.serve(listener, end.clone()));

        Ok((Self { end, tasks }, GatewayEndpoints { proxy: address, controller: plan.controller }))
    }

    /// Ends the services and waits until their sockets are closed.
    pub(super) async fn stop(mut self) {
        self.end.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl Drop for GatewayServices {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Listens; an emulator that was just killed may hold the address for a moment still.
async fn listen_patiently(sockets: &NamespaceSockets, address: SocketAddr) -> io::Result<TcpListener> {
    let end = Instant::now() + LISTEN_DEADLINE;
    loop {
        match sockets.listen(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome,
        }
    }
}

/// Where a site without a gateway would be reached: nowhere.
pub(super) fn no_endpoints() -> GatewayEndpoints {
    let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
    GatewayEndpoints { proxy: nowhere, controller: nowhere }
}
