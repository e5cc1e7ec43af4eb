//! What an operation changed (SOL003, clause 5.5.2.13, `resourceChanges`, and 5.5.3.13 to 5.5.3.15).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{KeyValuePairs, ResourceHandle, any_object};

/// What an operation changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourceChanges {
    /// Components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected_vnfcs: Vec<AffectedVnfc>,
    /// Virtual links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected_virtual_links: Vec<AffectedVirtualLink>,
    /// Ports of external links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected_ext_link_ports: Vec<AffectedExtLinkPort>,
    /// Storage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected_virtual_storages: Vec<AffectedVirtualStorage>,
}

impl ResourceChanges {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.affected_vnfcs.is_empty()
            && self.affected_virtual_links.is_empty()
            && self.affected_ext_link_ports.is_empty()
            && self.affected_virtual_storages.is_empty()
    }
}

/// How something changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ChangeType {
    /// It is new.
    #[default]
    Added,
    /// It is gone.
    Removed,
    /// It is another.
    Modified,
    /// It was there for the operation only.
    Temporary,
    /// A port was added to a link.
    LinkPortAdded,
    /// A port was removed from a link.
    LinkPortRemoved,
}

/// A component that changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffectedVnfc {
    /// The compute resource.
    pub id: String,
    /// The VDU in the VNFD.
    pub vdu_id: String,
    /// How it changed.
    pub change_type: ChangeType,
    /// The server in the VIM.
    pub compute_resource: ResourceHandle,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// What the manager keeps of it.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub metadata: KeyValuePairs,
    /// Its connection points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affected_vnfc_cp_ids: Vec<String>,
    /// Storage that it got.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_storage_resource_ids: Vec<String>,
    /// Storage that was taken from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed_storage_resource_ids: Vec<String>,
}

/// A virtual link that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffectedVirtualLink {
    /// The link.
    pub id: String,
    /// The virtual link in the VNFD.
    pub vnf_virtual_link_desc_id: String,
    /// How it changed.
    pub change_type: ChangeType,
    /// The network in the VIM.
    pub network_resource: ResourceHandle,
    /// Ports that were added or removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_link_port_ids: Vec<String>,
}

/// A port of an external link that changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffectedExtLinkPort {
    /// The port.
    pub id: String,
    /// How it changed.
    pub change_type: ChangeType,
    /// The external connection point at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext_cp_instance_id: Option<String>,
    /// The port in the VIM.
    pub resource_handle: ResourceHandle,
}

/// A storage resource that changed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AffectedVirtualStorage {
    /// The storage.
    pub id: String,
    /// The storage in the VNFD.
    pub virtual_storage_desc_id: String,
    /// How it changed.
    pub change_type: ChangeType,
    /// The volume in the VIM.
    pub storage_resource: ResourceHandle,
    /// What the manager keeps of it.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub metadata: KeyValuePairs,
}
