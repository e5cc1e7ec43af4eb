//! Network configuration version 2 (as netplan and cloud-init have it), as far as a host with fixed addresses needs it,
//! and the `ip` commands that bring it about: a pure translation.
//!
//! Network data in OpenStack's form (`network_data.json`) are understood too, and written: [`openstack`].
//!
//! Of `ethernets`: `match.macaddress`, `set-name`, `addresses`, `gateway4`, `gateway6`, `routes` (`to`, `via`, `metric`,
//! `on-link`), `mtu`, `nameservers`. `dhcp4: true` and `dhcp6: true` are refused, since nobody would answer.

pub mod openstack;

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;

/// What is wrong with a network configuration, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Not YAML, or of the wrong shape.
    #[error("network-config: {0}")]
    Syntax(String),
    /// Another version.
    #[error("network-config: version is {0}, but must be 2")]
    Version(u32),
    /// An entry of `ethernets`.
    #[error("network-config: ethernets.{id}: {reason}")]
    Ethernet {
        /// Its key.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

/// A network configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct NetworkConfig {
    version: u32,
    #[serde(default)]
    ethernets: BTreeMap<String, Ethernet>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Ethernet {
    #[serde(rename = "match", default)]
    matching: Option<Match>,
    #[serde(default)]
    set_name: Option<String>,
    #[serde(default)]
    addresses: Vec<IpNet>,
    #[serde(default)]
    gateway4: Option<IpAddr>,
    #[serde(default)]
    gateway6: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    mtu: Option<u32>,
    #[serde(default)]
    nameservers: Nameservers,
    #[serde(default)]
    dhcp4: bool,
    #[serde(default)]
    dhcp6: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Match {
    #[serde(default)]
    macaddress: Option<String>,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Route {
    to: String,
    #[serde(default)]
    via: Option<IpAddr>,
    #[serde(default)]
    metric: Option<u32>,
    #[serde(default)]
    on_link: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
struct Nameservers {
    #[serde(default)]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    search: Vec<String>,
}

impl NetworkConfig {
    /// Parses the document; a `network:` key around it is allowed, and so is OpenStack's form (`links`, `networks`).
    ///
    /// # Errors
    /// See [`NetworkError`].
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        /// The configuration, bare or under `network`.
        #[derive(Deserialize)]
        struct Document {
            #[serde(default)]
            network: Option<NetworkConfig>,
            #[serde(default)]
            version: u32,
            #[serde(default)]
            ethernets: BTreeMap<String, Ethernet>,
            #[serde(default)]
            links: Option<Vec<openstack::Link>>,
            #[serde(default)]
            networks: Option<Vec<openstack::Network>>,
            #[serde(default)]
            services: Option<Vec<openstack::Service>>,
        }
        let document: Document =
            serde_saphyr::from_str(text).map_err(|error| NetworkError::Syntax(error.to_string()))?;
        if let Some(links) = document.links {
            let networks = document.networks.unwrap_or_default();
            return openstack::understand(links, networks, &document.services.unwrap_or_default());
        }
        let Document { network, version, ethernets, .. } = document;
        let config = network.unwrap_or(Self { version, ethernets });
        if config.version == 2 { Ok(config) } else { Err(NetworkError::Version(config.version)) }
    }

    /// Lines for `ip -batch`, given the host's NICs as MAC address → interface name.
    ///
    /// # Errors
    /// An interface that is named is not there, or is to be configured as it cannot.
    pub fn commands(&self, nics: &BTreeMap<String, String>) -> Result<Vec<String>, NetworkError> {
        let mut lines = Vec::new();
        for (id, ethernet) in &self.ethernets {
            let wrong = |reason| NetworkError::Ethernet { id: id.clone(), reason };
            ethernet.check().map_err(wrong)?;
            let present = ethernet.find(id, nics).map_err(wrong)?;
            ethernet.add_commands(present, &mut lines);
        }
        Ok(lines)
    }

    /// Contents of `/etc/resolv.conf`.
    pub fn resolv_conf(&self) -> String {
        let servers = self.ethernets.values().map(|ethernet| &ethernet.nameservers);
        let search: Vec<&str> = servers.clone().flat_map(|set| &set.search).map(String::as_str).collect();
        let mut text = String::new();
        for address in servers.flat_map(|set| &set.addresses) {
            text.push_str(&format!("nameserver {address}\n"));
        }
        if !search.is_empty() {
            text.push_str(&format!("search {}\n", search.join(" ")));
        }
        text
    }
}

impl Ethernet {
    fn check(&self) -> Result<(), String> {
        if self.dhcp4 || self.dhcp6 {
            return Err(
                "dhcp4 and dhcp6 cannot be true: the site has no DHCP server; give addresses".to_owned()
            );
        }
        // Names become words of commands and of files, where a blank or a comment would end them.
        let bad = |text: &str| {
            text.is_empty()
                || text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/' || c == '#')
        };
        if let Some(name) = self.set_name.as_deref().filter(|name| name.len() > 15 || bad(name)) {
            return Err(format!(
                "set-name {name:?} is no interface name (1 to 15 bytes, no blanks, slashes or #)"
            ));
        }
        if let Some(domain) = self.nameservers.search.iter().find(|domain| bad(domain)) {
            return Err(format!("nameservers: search {domain:?} is no domain"));
        }
        for route in &self.routes {
            if route.to != "default" && route.to.parse::<IpNet>().is_err() {
                return Err(format!("routes: to {:?} is neither a prefix nor \"default\"", route.to));
            }
        }
        Ok(())
    }

    /// The present name of the interface meant.
    fn find<'a>(&'a self, id: &'a str, nics: &'a BTreeMap<String, String>) -> Result<&'a str, String> {
        let available =
            || nics.iter().map(|(mac, name)| format!("{name} ({mac})")).collect::<Vec<_>>().join(", ");
        let by_name = |name: &'a str| {
            let known = nics.values().any(|nic| nic == name);
            if known {
                Ok(name)
            } else {
                Err(format!("there is no interface {name:?}; there are {}", available()))
            }
        };
        match &self.matching {
            Some(Match { macaddress: Some(mac), .. }) => nics
                .get(&mac.to_ascii_lowercase())
                .map(String::as_str)
                .ok_or_else(|| format!("no interface has the MAC address {mac}; there are {}", available())),
            Some(Match { name: Some(name), .. }) => by_name(name),
            _ => by_name(id),
        }
    }

    fn add_commands(&self, present: &str, lines: &mut Vec<String>) {
        let name = self.set_name.as_deref().unwrap_or(present);
        if name != present {
            lines.push(format!("link set dev {present} name {name}"));
        }
        if let Some(mtu) = self.mtu {
            lines.push(format!("link set dev {name} mtu {mtu}"));
        }
        lines.push(format!("link set dev {name} up"));
        for address in &self.addresses {
            // Duplicate address detection would keep an IPv6 address from use for a second; here nobody doubles.
            let no_detection = if address.addr().is_ipv6() { " nodad" } else { "" };
            lines.push(format!("address replace {address} dev {name}{no_detection}"));
        }
        for gateway in self.gateway4.iter().chain(&self.gateway6) {
            lines.push(format!("route replace default via {gateway} dev {name}"));
        }
        for route in &self.routes {
            let mut line = format!("route replace {}", route.to);
            if let Some(via) = route.via {
                line.push_str(&format!(" via {via}"));
            }
            line.push_str(&format!(" dev {name}"));
            if let Some(metric) = route.metric {
                line.push_str(&format!(" metric {metric}"));
            }
            if route.on_link {
                line.push_str(" onlink");
            }
            lines.push(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nics() -> BTreeMap<String, String> {
        [("02:d5:00:00:00:07", "eth0"), ("02:d5:00:00:01:07", "hsn0")]
            .map(|(mac, name)| (mac.to_owned(), name.to_owned()))
            .into()
    }

    #[test]
    fn a_whole_configuration() {
        let config = NetworkConfig::parse(
            "version: 2\nethernets:\n  fast:\n    match: {macaddress: '02:D5:00:00:01:07'}\n    mtu: 9000\n    \
             addresses: [fd00::7/64]\n    routes: [{to: 10.99.0.0/16, via: 10.20.0.9, metric: 5, on-link: true}]\n  \
             main:\n    match: {macaddress: '02:d5:00:00:00:07'}\n    set-name: lan0\n    addresses: [10.20.0.7/16]\n    \
             gateway4: 10.20.0.1\n    nameservers: {addresses: [10.20.0.1], search: [site.example]}\n",
        )
        .unwrap();
        assert_eq!(
            config.commands(&nics()).unwrap(),
            [
                "link set dev hsn0 mtu 9000",
                "link set dev hsn0 up",
                "address replace fd00::7/64 dev hsn0 nodad",
                "route replace 10.99.0.0/16 via 10.20.0.9 dev hsn0 metric 5 onlink",
                "link set dev eth0 name lan0",
                "link set dev lan0 up",
                "address replace 10.20.0.7/16 dev lan0",
                "route replace default via 10.20.0.1 dev lan0",
            ]
        );
        assert_eq!(config.resolv_conf(), "nameserver 10.20.0.1\nsearch site.example\n");
    }

    #[test]
    fn a_wrapper_and_json_are_fine() {
        let wrapped =
            NetworkConfig::parse("network:\n  version: 2\n  ethernets: {eth0: {addresses: [10.0.0.1/24]}}\n");
        assert_eq!(wrapped.unwrap().commands(&nics()).unwrap()[1], "address replace 10.0.0.1/24 dev eth0");
        let json =
            NetworkConfig::parse(r#"{"version": 2, "ethernets": {"eth0": {"addresses": ["10.0.0.1/24"]}}}"#);
        assert_eq!(json.unwrap().commands(&nics()).unwrap().len(), 2);
        let pretty = "{\n  \"network\": {\n    \"version\": 2\n  }\n}\n";
        assert!(NetworkConfig::parse(pretty).unwrap().commands(&nics()).unwrap().is_empty());
    }

    #[test]
    fn mistakes_are_named() {
        let message = |text: &str| {
            NetworkConfig::parse(text).and_then(|config| config.commands(&nics())).unwrap_err().to_string()
        };
        let ethernet = |fields: &str| message(&format!("version: 2\nethernets: {{e: {{{fields}}}}}"));
        assert!(message("version: 1\nconfig: []\n").contains("version is 1"));
        assert!(message("{}").contains("version is 0"));
        assert!(ethernet("match: {macaddress: '02:00:00:00:00:99'}").contains("eth0 (02:d5:00:00:00:07)"));
        assert!(ethernet("addresses: []").contains("no interface \"e\""));
        assert!(ethernet("match: {name: eth0}, dhcp4: true").contains("no DHCP server"));
        assert!(ethernet("match: {name: eth0}, addresses: [10.0.0.300/8]").contains("network-config"));
        assert!(ethernet("match: {name: eth0}, routes: [{to: nowhere}]").contains("nowhere"));
        assert!(ethernet("match: {name: eth0}, set-name: 'a b'").contains("set-name"));
    }
}
