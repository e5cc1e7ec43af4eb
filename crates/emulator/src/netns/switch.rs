//! A switch: a bridge in a network namespace of its own, with a ruleset that decides what it forwards.
//!
//! The bridge speaks no spanning tree, does not snoop on multicast and has no address, so the switch itself never sends
//! a frame. It learns nothing: between two switches with parallel cables the way to an endpoint need not be the way back, nor the
//! way of broadcasts, and a bridge that has learnt one of them offers a frame to no other port. It offers each frame to all
//! ports, and the ruleset lets it out by the right one or not at all.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use super::{
    command::{Tool, ToolError},
    names::SWITCH_BRIDGE,
    namespace,
    ruleset::{self, RulesetError, SwitchPorts},
    settings,
};
use crate::backend::ForwardingZones;

/// Settings of a switch's namespace: frames pass the bridge's rules only, and no port ever speaks IPv6 by itself.
const SETTINGS: [(&str, &str); 5] = [
    ("?net/ipv6/conf/all/disable_ipv6", "1"),
    ("?net/ipv6/conf/default/disable_ipv6", "1"),
    ("?net/bridge/bridge-nf-call-iptables", "0"),
    ("?net/bridge/bridge-nf-call-ip6tables", "0"),
    ("?net/bridge/bridge-nf-call-arptables", "0"),
];

/// Why something could not be done to a switch.
#[derive(Debug, thiserror::Error)]
pub(super) enum SwitchError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error(transparent)]
    Ruleset(#[from] RulesetError),
    #[error("{0}")]
    Settings(#[from] io::Error),
}

/// Makes the switch, forwarding nothing.
pub(super) async fn create(namespace: &str, ports: &SwitchPorts, owner: &str) -> Result<(), SwitchError> {
    namespace::create(namespace).await?;
    settings::write(namespace, &SETTINGS).await?;
    program(namespace, ports, &ForwardingZones::new()).await?;
    // With an ageing time of nought a bridge enters no address into its table.
    let bridge = format!(
        "link add {SWITCH_BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time 0"
    );
    Tool::ip_batch_in(namespace, &[bridge, format!("link set {SWITCH_BRIDGE} up")]).run().await?;
    namespace::mark(namespace, owner).await?;
    Ok(())
}

/// Makes the switch forward what the zones say and nothing else; the change is one transaction.
pub(super) async fn program(
    namespace: &str,
    ports: &SwitchPorts,
    zones: &ForwardingZones,
) -> Result<(), SwitchError> {
    let script = ruleset::render(ports, zones)?;
    Tool::inside(namespace, "nft").arguments(["-f", "-"]).input(script).run().await?;
    Ok(())
}

/// Lines for `ip -batch` in the switch's namespace that plug in a port.
pub(super) fn attach(port: &str, up: bool) -> Vec<String> {
    vec![
        format!("link set {port} master {SWITCH_BRIDGE}"),
        format!("link set {port} {}", if up { "up" } else { "down" }),
    ]
}

/// Sets a port up or down; a port without a plug has nothing to set.
pub(super) async fn set_port(namespace: &str, port: &str, up: bool) -> Result<(), ToolError> {
    if namespace::links(namespace).await?.iter().any(|link| link.name == port) {
        Tool::ip_in(namespace, ["link", "set", port, if up { "up" } else { "down" }]).run().await?;
    }
    Ok(())
}

/// Unplugs ports; those without a plug are left alone.
pub(super) async fn detach(namespace: &str, ports: &BTreeSet<&str>) -> Result<(), ToolError> {
    if !namespace::exists(namespace) {
        return Ok(());
    }
    let present = namespace::links(namespace).await?;
    let lines: Vec<String> = present
        .iter()
        .filter(|link| ports.contains(link.name.as_str()))
        .map(|link| format!("link delete {}", link.name))
        .collect();
    if !lines.is_empty() {
        Tool::ip_batch_in(namespace, &lines).run().await?;
    }
    Ok(())
}

/// Ports that were set down, kept in a file: a port that is plugged in later comes up down.
#[derive(Debug)]
pub(super) struct DownPorts {
    path: PathBuf,
    /// `(switch namespace, port)`.
    ports: BTreeSet<(String, String)>,
}

impl DownPorts {
    /// Reads the file; none means that all ports are up.
    pub(super) fn load(path: &Path) -> io::Result<Self> {
        let ports = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.to_owned(), ports })
    }

    /// Whether the port is up.
    pub(super) fn is_up(&self, namespace: &str, port: &str) -> bool {
        !self.ports.contains(&(namespace.to_owned(), port.to_owned()))
    }

    /// Remembers a change.
    pub(super) fn set(&mut self, namespace: &str, port: &str, up: bool) -> io::Result<()> {
        let key = (namespace.to_owned(), port.to_owned());
        let changed = if up { self.ports.remove(&key) } else { self.ports.insert(key) };
        if changed {
            let new = self.path.with_extension("new");
            std::fs::write(&new, serde_json::to_vec(&self.ports)?)?;
            std::fs::File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &self.path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_down_are_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ports-down.json");
        let mut ports = DownPorts::load(&path).unwrap();
        assert!(ports.is_up("ds-x.sw.a", "p1"));
        ports.set("ds-x.sw.a", "p1", false).unwrap();
        ports.set("ds-x.sw.a", "p2", false).unwrap();
        ports.set("ds-x.sw.a", "p2", true).unwrap();
        let again = DownPorts::load(&path).unwrap();
        assert!(
            !again.is_up("ds-x.sw.a", "p1")
                && again.is_up("ds-x.sw.a", "p2")
                && again.is_up("ds-x.sw.b", "p1")
        );
    }
}
