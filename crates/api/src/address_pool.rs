//! `AddressPool`: ranges of addresses, handed out in blocks.

use ipnet::IpNet;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Ranges of addresses that holders lease blocks of. No address is ever in two leases.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "drystone.dev",
    version = "v1alpha1",
    kind = "AddressPool",
    plural = "addresspools",
    shortname = "pool",
    category = "drystone",
    namespaced,
    status = "AddressPoolStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Purpose","type":"string","jsonPath":".spec.purpose"}"#,
    printcolumn = r#"{"name":"Ranges","type":"string","jsonPath":".spec.ranges"}"#,
    printcolumn = r#"{"name":"Leased","type":"integer","jsonPath":".status.leasedBlocks"}"#,
    printcolumn = r#"{"name":"Blocks","type":"integer","jsonPath":".status.totalBlocks"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// What the addresses are for.
    pub purpose: AddressPoolPurpose,
    /// The ranges in CIDR notation; they do not overlap.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub ranges: Vec<IpNet>,
    /// Prefix length of the blocks that are leased: 24 gives a node 256 pod addresses, 32 a host one address.
    #[schemars(range(min = 8, max = 128))]
    pub block_prefix_length: u8,
    /// Addresses and blocks inside the ranges that are never leased: gateways, network and broadcast addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub reserved: Vec<IpNet>,
    /// Prefix length that a holder configures on its interface, when it is not the block's own: 16 for a /32 lease on a /16 network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_prefix_length: Option<u8>,
    /// Fabric that the pool belongs to; any unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fabric: Option<String>,
    /// VLANs that zones with this pool may use. Zones that are isolated from each other never share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<NumberRange>,
    /// Virtual network identifiers likewise (EVPN).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnis: Option<NumberRange>,
    /// Gateway of the network that the addresses are on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub gateway: Option<std::net::IpAddr>,
}

/// A range of numbers, both ends included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NumberRange {
    /// Least.
    pub lower: u32,
    /// Greatest.
    pub upper: u32,
}

/// What addresses are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AddressPoolPurpose {
    /// Addresses of hosts.
    #[default]
    Node,
    /// Addresses of pods, leased to nodes in blocks.
    Pod,
    /// Addresses that Services show to the world outside, leased to clusters in blocks.
    External,
    /// Addresses, VLANs and network identifiers that zones of a fabric draw from (Redfish `AddressPool`).
    Fabric,
}

/// Who has what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// Leases, in order of holder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leases: Vec<AddressLease>,
    /// How many blocks are leased.
    #[serde(default)]
    pub leased_blocks: u64,
    /// How many blocks there are.
    #[serde(default)]
    pub total_blocks: u64,
}

/// Blocks of one holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressLease {
    /// Who holds them: a host's, node's or cluster's name.
    pub holder: String,
    /// The blocks.
    #[schemars(with = "Vec<String>")]
    pub blocks: Vec<IpNet>,
}
