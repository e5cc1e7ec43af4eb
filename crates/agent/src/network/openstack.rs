//! OpenStack's network data (`network_data.json`), which Metal3's users write and configuration drives hold. Source: the
//! schema in OpenStack Nova's documentation of config drives.
//!
//! Understood of it: links of type `phy` and such (no bonds, no VLANs), networks of type `ipv4` and `ipv6` with addresses,
//! routes and name servers, and services of type `dns`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Ethernet, Match, NetworkConfig, NetworkError, Route};

/// A physical interface.
#[derive(Debug, Deserialize)]
pub(super) struct Link {
    id: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    ethernet_mac_address: Option<String>,
    #[serde(default)]
    mtu: Option<u32>,
}

/// A network on a link.
#[derive(Debug, Deserialize)]
pub(super) struct Network {
    link: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    ip_address: Option<String>,
    #[serde(default)]
    netmask: Option<String>,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<NetworkRoute>,
    #[serde(default)]
    dns_nameservers: Vec<IpAddr>,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Debug, Deserialize)]
struct NetworkRoute {
    network: String,
    #[serde(default)]
    netmask: Option<String>,
    #[serde(default)]
    gateway: Option<IpAddr>,
}

/// A service that the network offers.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Service {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    address: Option<IpAddr>,
}

/// Makes the one form out of the other.
pub(super) fn understand(
    links: Vec<Link>,
    networks: Vec<Network>,
    services: &[Service],
) -> Result<NetworkConfig, NetworkError> {
    let mut config = NetworkConfig { version: 2, ..NetworkConfig::default() };
    for link in links {
        let wrong = |reason: String| NetworkError::Ethernet { id: link.id.clone(), reason };
        if matches!(link.kind.as_str(), "bond" | "vlan") {
            return Err(wrong(format!("links of type {} are not supported", link.kind)));
        }
        let Some(mac) = link.ethernet_mac_address else {
            return Err(wrong("ethernet_mac_address is missing".to_owned()));
        };
        let matching = Some(Match { macaddress: Some(mac), name: None });
        config.ethernets.insert(link.id.clone(), Ethernet { matching, mtu: link.mtu, ..Ethernet::default() });
    }
    for network in networks {
        let wrong = |reason: String| NetworkError::Ethernet { id: network.link.clone(), reason };
        let Some(ethernet) = config.ethernets.get_mut(&network.link) else {
            return Err(wrong("a network names this link, but there is none".to_owned()));
        };
        match network.kind.as_str() {
            "ipv4_dhcp" => ethernet.dhcp4 = true,
            kind if kind.starts_with("ipv6_") => ethernet.dhcp6 = true,
            _ => {
                let address = network.ip_address.as_deref().unwrap_or_default();
                let address = prefix(address, network.netmask.as_deref()).map_err(wrong)?;
                ethernet.addresses.push(address);
            }
        }
        if let Some(gateway) = network.gateway {
            ethernet.routes.push(default_route(gateway));
        }
        for route in &network.routes {
            let to = prefix(&route.network, route.netmask.as_deref()).map_err(wrong)?;
            let to = if to.prefix_len() == 0 { "default".to_owned() } else { to.trunc().to_string() };
            ethernet.routes.push(Route { to, via: route.gateway, metric: None, on_link: false });
        }
        let servers = network.services.iter().filter(|service| service.kind == "dns");
        let servers = servers.filter_map(|service| service.address).chain(network.dns_nameservers);
        ethernet.nameservers.addresses.extend(servers);
    }
    let servers =
        services.iter().filter(|service| service.kind == "dns").filter_map(|service| service.address);
    if let Some(first) = config.ethernets.values_mut().next() {
        first.nameservers.addresses.extend(servers);
    }
    Ok(config)
}

fn default_route(gateway: IpAddr) -> Route {
    Route { to: "default".to_owned(), via: Some(gateway), metric: None, on_link: false }
}

/// An address with its prefix length, given as one or with a mask.
fn prefix(address: &str, mask: Option<&str>) -> Result<IpNet, String> {
    if let Ok(whole) = address.parse() {
        return Ok(whole);
    }
    let wrong = || format!("{address:?} with netmask {mask:?} is no address");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    match mask {
        None => Ok(IpNet::from(address)),
        Some(mask) => match mask.trim_start_matches('/').parse() {
            Ok(length) => IpNet::new(address, length).map_err(|_| wrong()),
            Err(_) => IpNet::with_netmask(address, mask.parse().map_err(|_| wrong())?).map_err(|_| wrong()),
        },
    }
}

/// Network data as a configuration drive holds them: those in OpenStack's form as they are, others translated. `None` for
/// empty ones.
///
/// # Errors
/// They are in neither form.
pub fn network_data(text: &str) -> Result<Option<Value>, NetworkError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let document: Value =
        serde_saphyr::from_str(text).map_err(|error| NetworkError::Syntax(error.to_string()))?;
    if document.get("links").is_some() {
        return Ok(Some(document));
    }
    Ok(Some(NetworkConfig::parse(text)?.to_openstack()))
}

impl NetworkConfig {
    /// In OpenStack's form. What has no place there (names given to interfaces, metrics) is left out.
    fn to_openstack(&self) -> Value {
        let (mut links, mut networks, mut services) = (Vec::new(), Vec::new(), Vec::new());
        for (id, ethernet) in &self.ethernets {
            let mac = ethernet.matching.as_ref().and_then(|matching| matching.macaddress.clone());
            let mut link = json!({"id": id, "type": "phy", "name": ethernet.set_name.as_ref().unwrap_or(id)});
            if let Some(mac) = mac {
                link["ethernet_mac_address"] = json!(mac.to_lowercase());
            }
            if let Some(mtu) = ethernet.mtu {
                link["mtu"] = json!(mtu);
            }
            links.push(link);
            for (family, dhcp) in [("ipv4_dhcp", ethernet.dhcp4), ("ipv6_dhcp", ethernet.dhcp6)] {
                if dhcp {
                    networks.push(json!({"id": format!("{id}-{family}"), "link": id, "type": family}));
                }
            }
            ethernet.add_networks(id, &mut networks);
            let servers = ethernet.nameservers.addresses.iter();
            services.extend(servers.map(|address| json!({"type": "dns", "address": address})));
        }
        json!({"links": links, "networks": networks, "services": services})
    }
}

impl Ethernet {
    fn add_networks(&self, id: &str, networks: &mut Vec<Value>) {
        let gateways = self.gateway4.iter().chain(&self.gateway6).map(|gateway| ("default", Some(*gateway)));
        let routes: Vec<(&str, Option<IpAddr>)> =
            gateways.chain(self.routes.iter().map(|route| (route.to.as_str(), route.via))).collect();
        for (number, address) in self.addresses.iter().enumerate() {
            let v4 = address.addr().is_ipv4();
            // Routes of a family go with the first address of it.
            let first = self.addresses.iter().position(|other| other.addr().is_ipv4() == v4) == Some(number);
            let own = routes.iter().filter(|(to, via)| {
                let family = via
                    .map(|via| via.is_ipv4())
                    .or_else(|| to.parse::<IpNet>().ok().map(|to| to.addr().is_ipv4()));
                first && family.unwrap_or(true) == v4
            });
            let own: Vec<Value> = own
                .map(|(to, via)| {
                    let to: IpNet = to.parse().unwrap_or_else(|_| any(v4));
                    let mut route = json!({"network": to.network(), "netmask": to.netmask()});
                    if let Some(via) = via {
                        route["gateway"] = json!(via);
                    }
                    route
                })
                .collect();
            networks.push(json!({
                "id": format!("{id}-{number}"),
                "link": id,
                "type": if v4 { "ipv4" } else { "ipv6" },
                "ip_address": address.addr(),
                "netmask": address.netmask(),
                "routes": own,
            }));
        }
    }
}

fn any(v4: bool) -> IpNet {
    if v4 { IpNet::V4(ipnet::Ipv4Net::default()) } else { IpNet::V6(ipnet::Ipv6Net::default()) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn nics() -> BTreeMap<String, String> {
        [("02:d5:00:00:00:07".to_owned(), "eth0".to_owned())].into()
    }

    #[test]
    fn both_forms_say_the_same() {
        let version2 = "version: 2\nethernets:\n  lan:\n    match: {macaddress: '02:D5:00:00:00:07'}\n    mtu: 1450\n    \
             addresses: [10.20.0.7/16, 'fd00::7/64']\n    routes: [{to: default, via: 10.20.0.1}, {to: 'fd01::/16', via: 'fd00::1'}]\n    \
             nameservers: {addresses: [10.20.0.2]}\n";
        let translated = network_data(version2).unwrap().unwrap();
        assert_eq!(translated["links"][0]["ethernet_mac_address"], "02:d5:00:00:00:07");
        assert_eq!(translated["networks"][1]["routes"][0]["network"], "fd01::");
        let again = NetworkConfig::parse(&translated.to_string()).unwrap();
        let mut expected = NetworkConfig::parse(version2).unwrap().commands(&nics()).unwrap();
        let mut found = again.commands(&nics()).unwrap();
        expected.sort();
        found.sort();
        assert_eq!(found, expected);
        assert_eq!(again.resolv_conf(), "nameserver 10.20.0.2\n");
        assert_eq!(network_data(&translated.to_string()).unwrap().unwrap(), translated, "kept as it is");
        assert_eq!(network_data(" \n").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str| NetworkConfig::parse(text).unwrap_err().to_string();
        assert!(message(r#"{"links": [{"id": "b", "type": "bond"}]}"#).contains("type bond"));
        assert!(message(r#"{"links": [], "networks": [{"link": "x", "type": "ipv4"}]}"#).contains("x"));
        assert!(message(
            r#"{"links": [{"id": "a", "ethernet_mac_address": "02:d5:00:00:00:07"}],
                "networks": [{"link": "a", "type": "ipv4", "ip_address": "10.0.0.1", "netmask": "255.0.255.0"}]}"#
        )
        .contains("255.0.255.0"));
    }
}
