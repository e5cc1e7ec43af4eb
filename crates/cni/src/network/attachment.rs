//! One veth pair: names, addresses, and the commands that make, show and remove it. Pure.

use std::{fmt::Write, net::Ipv4Addr, path::Path};

use serde_json::Value;

use super::{GATEWAY, INTERFACE_PREFIX};
use crate::{
    hash::fnv64,
    protocol::{AddResult, AddressConfig, Attachment, Interface, Route},
};

/// MAC address of the host's end of every pair; the only thing it has to differ from is the pod's end.
const HOST_MAC: &str = "02:5d:00:00:00:01";

/// A veth pair between host and pod.
pub(super) struct Link<'a> {
    host_interface: String,
    pod_interface: &'a str,
    address: Ipv4Addr,
    mtu: u32,
}

impl<'a> Link<'a> {
    pub(super) fn new(attachment: &'a Attachment, address: Ipv4Addr, mtu: u32) -> Self {
        Self {
            host_interface: host_interface(attachment),
            pod_interface: &attachment.interface,
            address,
            mtu,
        }
    }

    /// Derived from the address, so that it is as unique.
    fn pod_mac(&self) -> String {
        let [a, b, c, d] = self.address.octets();
        format!("02:5d:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }

    /// Makes the pair, with the pod's end in its namespace at once, and the way to the pod.
    pub(super) fn host_commands(&self, namespace: &Path, node_address: Ipv4Addr) -> String {
        let Self { host_interface: host, pod_interface: pod, address, mtu } = self;
        let (mac, namespace) = (self.pod_mac(), namespace.display());
        format!(
            "link add {host} mtu {mtu} address {HOST_MAC} type veth peer name {pod} mtu {mtu} address {mac} netns {namespace}\n\
             link set {host} up\n\
             neighbour replace {address} lladdr {mac} dev {host} nud permanent\n\
             route replace {address}/32 dev {host} scope link src {node_address}\n"
        )
    }

    /// Gives the pod's end its address and the way out.
    pub(super) fn pod_commands(&self) -> String {
        let Self { pod_interface: pod, address, .. } = self;
        format!(
            "address add {address}/32 dev {pod}\n\
             link set {pod} up\n\
             neighbour replace {GATEWAY} lladdr {HOST_MAC} dev {pod} nud permanent\n\
             route add {GATEWAY}/32 dev {pod} scope link\n\
             route add default via {GATEWAY} dev {pod} src {address}\n"
        )
    }

    /// Removes the pair: one end takes the other with it, and the routes.
    pub(super) fn removal(attachment: &Attachment) -> String {
        format!("link delete {}\n", host_interface(attachment))
    }

    /// Shows the address inside.
    pub(super) fn pod_query(&self) -> [&str; 6] {
        ["-json", "address", "show", "dev", self.pod_interface, "up"]
    }

    /// Shows the way to the pod.
    pub(super) fn host_query(&self) -> [&str; 5] {
        ["-json", "route", "show", "dev", &self.host_interface]
    }

    /// Compares what the queries showed with what should be.
    pub(super) fn check(&self, inside: &str, outside: &str) -> Result<(), String> {
        let address = self.address.to_string();
        let has_address = items(inside).iter().any(|interface| {
            let addresses = interface.get("addr_info").and_then(Value::as_array);
            addresses
                .into_iter()
                .flatten()
                .any(|info| info.get("local").and_then(Value::as_str) == Some(&address))
        });
        if !has_address {
            return Err(format!("interface {} does not have the address {address}", self.pod_interface));
        }
        if !items(outside).iter().any(|route| route.get("dst").and_then(Value::as_str) == Some(&address)) {
            return Err(format!("the host has no route to {address} by {}", self.host_interface));
        }
        Ok(())
    }

    /// What ADD made.
    pub(super) fn result(&self, namespace: &Path) -> AddResult {
        AddResult {
            interfaces: vec![
                Interface {
                    name: self.host_interface.clone(),
                    mac: HOST_MAC.into(),
                    mtu: Some(self.mtu),
                    ..Interface::default()
                },
                Interface {
                    name: self.pod_interface.to_owned(),
                    mac: self.pod_mac(),
                    mtu: Some(self.mtu),
                    sandbox: namespace.display().to_string(),
                    ..Interface::default()
                },
            ],
            ips: vec![AddressConfig {
                address: format!("{}/32", self.address),
                gateway: Some(GATEWAY.to_string()),
                interface: Some(1),
                version: None,
            }],
            routes: vec![Route {
                dst: "0.0.0.0/0".into(),
                gw: Some(GATEWAY.to_string()),
                ..Route::default()
            }],
            ..AddResult::default()
        }
    }
}

/// A name of 15 characters, the most that Linux allows; the same for the same attachment.
fn host_interface(attachment: &Attachment) -> String {
    let hash = fnv64(&[attachment.container_id.as_bytes(), attachment.interface.as_bytes()]);
    let mut name = INTERFACE_PREFIX.to_owned();
    // Writing to a string cannot fail.
    let _ = write!(name, "{:012x}", hash & 0xffff_ffff_ffff);
    name
}

fn items(json: &str) -> Vec<Value> {
    serde_json::from_str(json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attachment() -> Attachment {
        Attachment { container_id: "0123456789abcdef".into(), interface: "eth0".into() }
    }

    #[test]
    fn names_fit_and_differ() {
        let other = Attachment { interface: "net1".into(), ..attachment() };
        assert_eq!(host_interface(&attachment()).len(), 15);
        assert_ne!(host_interface(&attachment()), host_interface(&other));
        assert_eq!(host_interface(&attachment()), host_interface(&attachment()));
    }

    #[test]
    fn commands_are_as_expected() {
        let attachment = attachment();
        let link = Link::new(&attachment, Ipv4Addr::new(10, 42, 3, 7), 1450);
        let host = link.host_commands(Path::new("/run/netns/x"), Ipv4Addr::new(10, 20, 0, 5));
        insta::assert_snapshot!(format!("{host}\n{}", link.pod_commands()));
    }

    #[test]
    fn a_check_finds_what_is_missing() {
        let attachment = attachment();
        let link = Link::new(&attachment, Ipv4Addr::new(10, 42, 3, 7), 1450);
        let inside =
            r#"[{"ifname":"eth0","addr_info":[{"family":"inet","local":"10.42.3.7","prefixlen":32}]}]"#;
        let outside = r#"[{"dst":"10.42.3.7","scope":"link","flags":[]}]"#;
        assert_eq!(link.check(inside, outside), Ok(()));
        assert!(link.check(&inside.replace(".7", ".8"), outside).unwrap_err().contains("10.42.3.7"));
        assert!(link.check(inside, &outside.replace(".7", ".8")).is_err());
        assert!(link.check(inside, "[]").unwrap_err().contains("no route"));
        assert!(link.check("", outside).is_err());
    }
}
