//! The result of ADD.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::SpecVersion;

/// What ADD made (specification, section "ADD Success"). Fields of other plugins in a chain that are not known here
/// survive in `other`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AddResult {
    /// Interfaces, those of the host too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<AddressConfig>,
    /// Routes inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name resolution.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// What else a result may hold.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// MAC address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Largest packet, in bytes; since 1.1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Network namespace; none for an interface of the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Path of a socket; since 1.1.0.
    #[serde(default, rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// PCI address of the device; since 1.1.0.
    #[serde(default, rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of an interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressConfig {
    /// `10.1.0.5/16`.
    pub address: String,
    /// Default gateway of this address's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Index in `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// `4` or `6`; only before 1.0.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

/// A route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination, `0.0.0.0/0`.
    pub dst: String,
    /// Next hop; the gateway of the address if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<String>,
    /// Since 1.1.0, as are the others that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Maximum segment size to advertise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Priority (metric).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u32>,
}

/// Name resolution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of servers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl AddResult {
    /// Appends what another plugin or this one made, keeping the references from addresses to interfaces right.
    pub fn append(&mut self, more: Self) {
        let offset = self.interfaces.len();
        self.interfaces.extend(more.interfaces);
        self.ips.extend(more.ips.into_iter().map(|mut ip| {
            ip.interface = ip.interface.map(|index| index + offset);
            ip
        }));
        self.routes.extend(more.routes);
        if self.dns.is_empty() {
            self.dns = more.dns;
        }
    }

    /// As it is printed in a version of the specification: fields that the version lacks are left out, those that it
    /// demands are filled in.
    pub fn to_json(&self, version: SpecVersion) -> Value {
        let mut result = self.clone();
        for ip in &mut result.ips {
            let family = if ip.address.contains(':') { "6" } else { "4" };
            ip.version = (version < SpecVersion::V1_0_0).then(|| family.to_owned());
        }
        if version < SpecVersion::V1_1_0 {
            for interface in &mut result.interfaces {
                *interface = Interface {
                    name: std::mem::take(&mut interface.name),
                    mac: std::mem::take(&mut interface.mac),
                    sandbox: std::mem::take(&mut interface.sandbox),
                    ..Interface::default()
                };
            }
            for route in &mut result.routes {
                *route =
                    Route { dst: std::mem::take(&mut route.dst), gw: route.gw.take(), ..Route::default() };
            }
        }
        result.other.insert("cniVersion".into(), version.as_str().into());
        // Serialization of plain strings and numbers cannot fail; were it to, an empty result is still JSON.
        serde_json::to_value(&result).unwrap_or_default()
    }
}
