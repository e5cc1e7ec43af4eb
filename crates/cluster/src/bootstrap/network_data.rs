//! Network configuration of a host, version 2 of cloud-init's format (netplan's shape).

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

/// Configures one interface, found by its MAC address, with a static address.
pub fn network_config(mac: &str, address: IpNet, gateway: Option<IpAddr>) -> Value {
    let mut ethernet = json!({
        "match": {"macaddress": mac},
        "set-name": NODE_INTERFACE,
        "dhcp4": false,
        "addresses": [address.to_string()],
    });
    if let Some(gateway) = gateway {
        ethernet["routes"] = json!([{"to": "default", "via": gateway.to_string()}]);
    }
    json!({"version": 2, "ethernets": {NODE_INTERFACE: ethernet}})
}

/// Name that the interface on the node network gets on every host.
pub const NODE_INTERFACE: &str = "eth0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_static_interface() {
        let address = "10.20.0.7/16".parse().expect("valid");
        let config = network_config("02:d5:00:00:00:07", address, Some("10.20.0.1".parse().expect("valid")));
        assert_eq!(config["ethernets"]["eth0"]["addresses"][0], "10.20.0.7/16");
        assert_eq!(config["ethernets"]["eth0"]["routes"][0]["via"], "10.20.0.1");
    }
}
