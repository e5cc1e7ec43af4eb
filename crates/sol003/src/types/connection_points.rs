//! External and externally managed virtual links, and the addresses of connection points (SOL003, clauses 4.4.1.10 to 4.4.1.13).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ResourceHandle;

/// A virtual link outside of the VNF that connection points of it are to be connected to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtVirtualLinkData {
    /// The caller's identifier of the link.
    pub id: String,
    /// Which VIM connection manages it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vim_connection_id: Option<String>,
    /// Who provides it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_provider_id: Option<String>,
    /// The network in the VIM.
    pub resource_id: String,
    /// The connection points.
    pub ext_cps: Vec<VnfExtCpData>,
    /// Ports that are there already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_link_ports: Vec<ExtLinkPortData>,
}

/// How a connection point of the VNFD is to be connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfExtCpData {
    /// The connection point in the VNFD.
    pub cpd_id: String,
    /// Configurations by the caller's keys: one for each instance of the connection point.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cp_config: BTreeMap<String, VnfExtCpConfig>,
}

/// How an instance of a connection point is to be connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfExtCpConfig {
    /// The configuration that this one is part of, for sub-ports of a trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_cp_config_id: Option<String>,
    /// A port that is there already: an id of `extLinkPorts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_port_id: Option<String>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cp_protocol_data: Vec<CpProtocolData>,
}

/// Addresses of a connection point in one protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CpProtocolData {
    /// The protocol.
    pub layer_protocol: LayerProtocol,
    /// Addresses of IP over Ethernet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_over_ethernet: Option<IpOverEthernetAddressData>,
}

/// Protocols of connection points.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LayerProtocol {
    /// IP over Ethernet.
    #[default]
    #[serde(rename = "IP_OVER_ETHERNET")]
    IpOverEthernet,
}

/// Addresses of IP over Ethernet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpOverEthernetAddressData {
    /// The MAC address; given by the VIM if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// VLAN or VXLAN identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation_id: Option<String>,
    /// IP addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<IpAddresses>,
}

/// IP addresses of a connection point: fixed ones, a number of them, or out of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpAddresses {
    /// The family.
    #[serde(rename = "type")]
    pub kind: IpAddressType,
    /// These addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fixed_addresses: Vec<String>,
    /// So many, whichever the VIM gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_dynamic_addresses: Option<u32>,
    /// Out of this range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_range: Option<IpAddressRange>,
    /// The subnet in the VIM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet_id: Option<String>,
}

/// Families of IP addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpAddressType {
    /// IPv4.
    #[default]
    #[serde(rename = "IPV4")]
    Ipv4,
    /// IPv6.
    #[serde(rename = "IPV6")]
    Ipv6,
}

/// A range of addresses, both ends included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IpAddressRange {
    /// The lowest.
    pub min_address: String,
    /// The highest.
    pub max_address: String,
}

/// A port of an external link that is there already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtLinkPortData {
    /// The caller's identifier of the port.
    pub id: String,
    /// The port in the VIM.
    pub resource_handle: ResourceHandle,
}

/// A virtual link inside of the VNF that is managed outside of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtManagedVirtualLinkData {
    /// The caller's identifier of the link.
    pub id: String,
    /// The virtual link in the VNFD.
    pub vnf_virtual_link_desc_id: String,
    /// Which VIM connection manages it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vim_connection_id: Option<String>,
    /// The network in the VIM.
    pub resource_id: String,
    /// Ports of it that are there already.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_link_port: Vec<VnfLinkPortData>,
}

/// A port of an externally managed link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfLinkPortData {
    /// The caller's identifier of the port.
    pub vnf_link_port_id: String,
    /// The port in the VIM.
    pub resource_handle: ResourceHandle,
}
