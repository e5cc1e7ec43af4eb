//! Networks of the cloud: a bridge in a namespace for each, and an interface of the site's gateway in it.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use uuid::Uuid;

use super::super::{
    command::{Tool, ToolError},
    error, names,
    names::SWITCH_BRIDGE,
    namespace, settings, switch,
};
use crate::{backend::BackendError, cloud::router, site::CloudNetwork};

/// What networks are, by id.
#[derive(Debug, Default)]
pub(super) struct Networks(BTreeMap<Uuid, (String, CloudNetwork)>);

/// Nothing in a network's namespace speaks by itself, and frames pass the bridge as they are.
const SETTINGS: [(&str, &str); 5] = [
    ("?net/ipv6/conf/all/disable_ipv6", "1"),
    ("?net/ipv6/conf/default/disable_ipv6", "1"),
    ("?net/bridge/bridge-nf-call-iptables", "0"),
    ("?net/bridge/bridge-nf-call-ip6tables", "0"),
    ("?net/bridge/bridge-nf-call-arptables", "0"),
];

/// Name of a network's port to the gateway.
const UP: &str = "gateway";

impl Networks {
    /// The namespace of a network.
    pub(super) fn namespace(&self, id: Uuid) -> Option<&str> {
        self.0.get(&id).map(|(namespace, _)| namespace.as_str())
    }

    /// A network.
    pub(super) fn network(&self, id: Uuid) -> Option<&CloudNetwork> {
        self.0.get(&id).map(|(_, network)| network)
    }

    /// All namespaces.
    pub(super) fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|(namespace, _)| namespace.as_str())
    }
}

/// Builds what is missing of the networks. The gateway must stand.
pub(super) async fn build(
    site: &str,
    networks: &[CloudNetwork],
    owner: &str,
) -> Result<Networks, BackendError> {
    let mut built = BTreeMap::new();
    for (index, network) in networks.iter().enumerate() {
        let name = names::network(site, &network.name);
        let failed = |reason: ToolError| error(format!("network {} of the cloud", network.name), reason);
        if let Some(other) = namespace::owner(&name).await.filter(|other| other != owner)
            && std::path::Path::new(&other).exists()
        {
            return Err(error(
                format!("network {} of the cloud", network.name),
                format!(
                    "namespace {name} belongs to the emulator that runs from {other}; give this site another name"
                ),
            ));
        }
        if !stands(&name, owner, &names::gateway(site), index).await.map_err(failed)? {
            build_one(site, index, &name, network, owner).await.map_err(failed)?;
        }
        built.insert(network.id, (name, network.clone()));
    }
    if !networks.is_empty() {
        floating_table(site).await.map_err(|reason| error("floating addresses", reason))?;
    }
    Ok(Networks(built))
}

async fn stands(name: &str, owner: &str, gateway: &str, index: usize) -> Result<bool, ToolError> {
    if namespace::owner(name).await.as_deref() != Some(owner) {
        return Ok(false);
    }
    // A gateway that was built anew has no interface here.
    let interface = names::cloud_interface(index);
    Ok(namespace::links(gateway).await?.iter().any(|link| link.name == interface))
}

async fn build_one(
    site: &str,
    index: usize,
    name: &str,
    network: &CloudNetwork,
    owner: &str,
) -> Result<(), ToolError> {
    let (gateway, interface) = (names::gateway(site), names::cloud_interface(index));
    if namespace::links(&gateway).await?.iter().any(|link| link.name == interface) {
        Tool::ip_in(&gateway, ["link", "delete", &interface]).run().await?;
    }
    if namespace::owner(name).await.as_deref() != Some(owner) {
        namespace::create(name).await?;
        if let Err(error) = settings::write(name, &SETTINGS).await {
            tracing::warn!(namespace = name, %error, "settings of a network");
        }
        let bridge =
            format!("link add {SWITCH_BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0");
        Tool::ip_batch_in(name, &[bridge, format!("link set {SWITCH_BRIDGE} up")]).run().await?;
    }
    let mut lines = vec![format!("link add {interface} type veth peer name {UP} netns {name}")];
    if let Some(address) = router(network.cidr) {
        let address = IpNet::new(address, network.cidr.prefix_len()).unwrap_or(network.cidr);
        lines.push(format!("address replace {address} dev {interface}"));
    }
    lines.push(format!("link set {interface} up"));
    Tool::ip_batch_in(&gateway, &lines).run().await?;
    Tool::ip_batch_in(name, &switch::attach(UP, true)).run().await?;
    namespace::mark(name, owner).await
}

/// The table in the gateway that says where floating addresses lead.
async fn floating_table(site: &str) -> Result<(), ToolError> {
    let script = "table ip drystone_floating {
\tmap leads { type ipv4_addr : ipv4_addr; }
\tchain prerouting {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t}
}
flush chain ip drystone_floating prerouting
add rule ip drystone_floating prerouting dnat to ip daddr map @leads
";
    Tool::inside(&names::gateway(site), "nft").arguments(["-f", "-"]).input(script.to_owned()).run().await?;
    Ok(())
}

/// Leads a floating address somewhere else, or nowhere.
pub(super) async fn lead(site: &str, floating: IpAddr, to: Option<IpAddr>) -> Result<(), String> {
    let (IpAddr::V4(floating), true) = (floating, to.is_none_or(|to| to.is_ipv4())) else {
        return Err("only IPv4 addresses float".to_owned());
    };
    // Added first, so that there is something to delete.
    let mut script = format!(
        "add element ip drystone_floating leads {{ {floating} : 0.0.0.0 }}\ndelete element ip drystone_floating leads {{ {floating} }}\n"
    );
    let gateway = names::gateway(site);
    let listed = Tool::inside(&gateway, "nft")
        .arguments(["list", "map", "ip", "drystone_floating", "leads"])
        .run()
        .await;
    let listed = listed.map_err(|error| error.to_string())?;
    let present = listed.contains(&format!("{floating} :"));
    if present {
        script = format!("delete element ip drystone_floating leads {{ {floating} }}\n");
    }
    if let Some(to) = to {
        script.push_str(&format!("add element ip drystone_floating leads {{ {floating} : {to} }}\n"));
    }
    let run = Tool::inside(&gateway, "nft").arguments(["-f", "-"]).input(script).run().await;
    run.map(drop).map_err(|error| error.to_string())
}
