//! What a VNF instance consists of once it is instantiated (SOL003, clause 5.5.2.2, `instantiatedVnfInfo`, and 5.5.3).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    CpProtocolData, ExtManagedVirtualLinkData, KeyValuePairs, ResourceHandle, VnfExtCpData, any_object,
};

/// Whether a VNF instance has resources.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InstantiationState {
    /// It has none.
    #[default]
    NotInstantiated,
    /// It has.
    Instantiated,
}

/// Whether what is instantiated runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VnfOperationalState {
    /// It runs.
    #[default]
    Started,
    /// It does not.
    Stopped,
}

/// What an instantiated VNF consists of.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstantiatedVnfInfo {
    /// Deployment flavour.
    pub flavour_id: String,
    /// Whether it runs.
    pub vnf_state: VnfOperationalState,
    /// Level of each scaling aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scale_status: Vec<ScaleInfo>,
    /// Highest level of each scaling aspect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub max_scale_levels: Vec<ScaleInfo>,
    /// External connection points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_cp_info: Vec<VnfExtCpInfo>,
    /// External virtual links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_virtual_link_info: Vec<ExtVirtualLinkInfo>,
    /// Externally managed virtual links.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_managed_virtual_link_info: Vec<ExtManagedVirtualLinkInfo>,
    /// Compute resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnfc_resource_info: Vec<VnfcResourceInfo>,
    /// Virtual links inside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_virtual_link_resource_info: Vec<VnfVirtualLinkResourceInfo>,
    /// Storage resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub virtual_storage_resource_info: Vec<VirtualStorageResourceInfo>,
    /// Components.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnfc_info: Vec<VnfcInfo>,
    /// What the manager keeps: `stack_id`, `nfv`, `tenant`.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub metadata: KeyValuePairs,
}

/// Level of a scaling aspect.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleInfo {
    /// The aspect.
    pub aspect_id: String,
    /// The level, from 0.
    pub scale_level: u32,
}

/// An external connection point.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfExtCpInfo {
    /// `cp-` and the port's identifier.
    pub id: String,
    /// The connection point in the VNFD.
    pub cpd_id: String,
    /// Key of the configuration that it has, from the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cp_config_id: Option<String>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cp_protocol_info: Vec<CpProtocolData>,
    /// The port of an external link that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ext_link_port_id: Option<String>,
    /// The connection point of a component that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub associated_vnfc_cp_id: Option<String>,
}

/// An external virtual link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtVirtualLinkInfo {
    /// Its identifier.
    pub id: String,
    /// The network in the VIM.
    pub resource_handle: ResourceHandle,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ext_link_ports: Vec<ExtLinkPortInfo>,
    /// How its connection points are configured now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub current_vnf_ext_cp_data: Vec<VnfExtCpData>,
}

/// A port of an external virtual link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtLinkPortInfo {
    /// Its identifier.
    pub id: String,
    /// The port in the VIM.
    pub resource_handle: ResourceHandle,
    /// The external connection point at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cp_instance_id: Option<String>,
}

/// An externally managed virtual link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExtManagedVirtualLinkInfo {
    /// Its identifier.
    pub id: String,
    /// The virtual link in the VNFD.
    pub vnf_virtual_link_desc_id: String,
    /// The network in the VIM.
    pub network_resource: ResourceHandle,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_link_ports: Vec<VnfLinkPortInfo>,
}

impl ExtManagedVirtualLinkInfo {
    /// The link as it was asked for, without ports yet.
    pub fn asked_for(data: &ExtManagedVirtualLinkData) -> Self {
        Self {
            id: data.id.clone(),
            vnf_virtual_link_desc_id: data.vnf_virtual_link_desc_id.clone(),
            network_resource: ResourceHandle {
                vim_connection_id: data.vim_connection_id.clone(),
                resource_id: data.resource_id.clone(),
                ..ResourceHandle::default()
            },
            vnf_link_ports: Vec::new(),
        }
    }
}

/// A compute resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfcResourceInfo {
    /// Its identifier: that of the server in the VIM.
    pub id: String,
    /// The VDU in the VNFD.
    pub vdu_id: String,
    /// The server in the VIM.
    pub compute_resource: ResourceHandle,
    /// Where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone_id: Option<String>,
    /// Storage attached to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage_resource_ids: Vec<String>,
    /// Its connection points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnfc_cp_info: Vec<VnfcCpInfo>,
    /// What the manager keeps: `stack_id`, `creation_time`, `flavor`, `parent_stack_id`, `parent_resource_name`, `vdu_idx`.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub metadata: KeyValuePairs,
}

/// A connection point of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfcCpInfo {
    /// The connection point and the component: `CP1-<id>`.
    pub id: String,
    /// The connection point in the VNFD.
    pub cpd_id: String,
    /// The external connection point that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_ext_cp_id: Option<String>,
    /// The port of a link inside that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_link_port_id: Option<String>,
    /// Its addresses, where it is not external.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cp_protocol_info: Vec<CpProtocolData>,
}

/// A virtual link inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfVirtualLinkResourceInfo {
    /// Its identifier.
    pub id: String,
    /// The virtual link in the VNFD.
    pub vnf_virtual_link_desc_id: String,
    /// The network in the VIM.
    pub network_resource: ResourceHandle,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_link_ports: Vec<VnfLinkPortInfo>,
}

/// A port of a virtual link inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfLinkPortInfo {
    /// Its identifier.
    pub id: String,
    /// The port in the VIM.
    pub resource_handle: ResourceHandle,
    /// The connection point at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cp_instance_id: Option<String>,
    /// `VNFC_CP` or `EXT_CP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cp_instance_type: Option<String>,
}

/// A storage resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VirtualStorageResourceInfo {
    /// Its identifier.
    pub id: String,
    /// The storage in the VNFD.
    pub virtual_storage_desc_id: String,
    /// The volume in the VIM.
    pub storage_resource: ResourceHandle,
    /// What the manager keeps.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub metadata: KeyValuePairs,
}

/// A component.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfcInfo {
    /// The VDU and the compute resource: `VDU1-<id>`.
    pub id: String,
    /// The VDU in the VNFD.
    pub vdu_id: String,
    /// The compute resource that it runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnfc_resource_info_id: Option<String>,
    /// Whether it runs.
    pub vnfc_state: VnfOperationalState,
    /// What may be configured of it.
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    #[schemars(schema_with = "any_object")]
    pub vnfc_configurable_properties: KeyValuePairs,
}
