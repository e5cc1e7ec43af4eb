//! What an operation changed (SOL003, `resourceChanges`).
//!
//! What there was before is in the parameters of the plan's steps, so that it can be told even after the instance's own status says
//! what there is now.

use std::collections::BTreeSet;

use drystone_sol003::types::{
    AffectedExtLinkPort, AffectedVirtualLink, AffectedVirtualStorage, AffectedVnfc, ChangeType,
    InstantiatedVnfInfo, LcmOperationType, ResourceChanges, ResourceHandle, VnfcResourceInfo,
};
use serde::{Deserialize, Serialize};

use crate::model::Vnfc;

/// What there was before an operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Before {
    /// Components.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vnfcs: Vec<Vnfc>,
    /// Internal links: name in the VNFD, and id at the VIM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<(String, String)>,
    /// Key of the VIM connection.
    pub vim: String,
}

impl Before {
    /// What an instance has.
    pub fn of(info: &InstantiatedVnfInfo, vim: &str) -> Self {
        let links = info
            .vnf_virtual_link_resource_info
            .iter()
            .map(|link| (link.vnf_virtual_link_desc_id.clone(), link.id.clone()));
        Self { vnfcs: super::members::existing(info), links: links.collect(), vim: vim.to_owned() }
    }

    fn handle(&self, id: &str, kind: &str) -> ResourceHandle {
        ResourceHandle {
            vim_connection_id: Some(self.vim.clone()).filter(|vim| !vim.is_empty()),
            resource_id: id.to_owned(),
            vim_level_resource_type: Some(kind.to_owned()),
            ..ResourceHandle::default()
        }
    }
}

/// What an operation changed, from what there was and what there is now.
pub fn changes(operation: LcmOperationType, before: &Before, after: &InstantiatedVnfInfo) -> ResourceChanges {
    ResourceChanges {
        affected_vnfcs: components(operation, before, after),
        affected_virtual_links: links(before, after),
        affected_ext_link_ports: external_ports(operation, before, after),
        affected_virtual_storages: storages(before, after),
    }
}

fn components(
    operation: LcmOperationType,
    before: &Before,
    after: &InstantiatedVnfInfo,
) -> Vec<AffectedVnfc> {
    let kept_storages: BTreeSet<&str> =
        after.virtual_storage_resource_info.iter().map(|storage| storage.id.as_str()).collect();
    let is_there = |vnfc: &Vnfc| after.vnfc_resource_info.iter().any(|resource| resource.id == vnfc.server);
    let removed = before.vnfcs.iter().filter(|vnfc| !is_there(vnfc)).map(|vnfc| AffectedVnfc {
        id: vnfc.server.clone(),
        vdu_id: vnfc.member.vdu.clone(),
        change_type: ChangeType::Removed,
        compute_resource: before.handle(&vnfc.server, "OS::Nova::Server"),
        affected_vnfc_cp_ids: vnfc.connection_points.clone(),
        removed_storage_resource_ids: vnfc
            .volumes
            .iter()
            .map(|(_, id)| id.clone())
            .filter(|id| !kept_storages.contains(id.as_str()))
            .collect(),
        ..AffectedVnfc::default()
    });
    let modifies = matches!(operation, LcmOperationType::ChangeVnfPackage | LcmOperationType::ChangeExtConn);
    let present = after.vnfc_resource_info.iter().filter_map(|resource| {
        match before.vnfcs.iter().find(|vnfc| vnfc.server == resource.id) {
            None => Some(component(resource, ChangeType::Added, before)),
            Some(_) if modifies => Some(component(resource, ChangeType::Modified, before)),
            Some(_) => None,
        }
    });
    removed.chain(present).collect()
}

fn component(resource: &VnfcResourceInfo, change_type: ChangeType, before: &Before) -> AffectedVnfc {
    let had = |id: &String| before.vnfcs.iter().any(|vnfc| vnfc.volumes.iter().any(|(_, known)| known == id));
    AffectedVnfc {
        id: resource.id.clone(),
        vdu_id: resource.vdu_id.clone(),
        change_type,
        compute_resource: resource.compute_resource.clone(),
        zone_id: resource.zone_id.clone(),
        metadata: resource.metadata.clone(),
        affected_vnfc_cp_ids: resource.vnfc_cp_info.iter().map(|cp| cp.id.clone()).collect(),
        added_storage_resource_ids: resource
            .storage_resource_ids
            .iter()
            .filter(|id| !had(id))
            .cloned()
            .collect(),
        removed_storage_resource_ids: Vec::new(),
    }
}

fn links(before: &Before, after: &InstantiatedVnfInfo) -> Vec<AffectedVirtualLink> {
    let now = &after.vnf_virtual_link_resource_info;
    let gone = before.links.iter().filter(|(_, id)| !now.iter().any(|link| link.id == *id));
    let removed = gone.map(|(name, id)| AffectedVirtualLink {
        id: id.clone(),
        vnf_virtual_link_desc_id: name.clone(),
        change_type: ChangeType::Removed,
        network_resource: before.handle(id, "OS::Neutron::Net"),
        ..AffectedVirtualLink::default()
    });
    let new = now.iter().filter(|link| !before.links.iter().any(|(_, id)| *id == link.id));
    let added = new.map(|link| AffectedVirtualLink {
        id: link.id.clone(),
        vnf_virtual_link_desc_id: link.vnf_virtual_link_desc_id.clone(),
        change_type: ChangeType::Added,
        network_resource: link.network_resource.clone(),
        ..AffectedVirtualLink::default()
    });
    let stays = now.iter().filter(|link| before.links.iter().any(|(_, id)| *id == link.id));
    let ports = stays.filter_map(|link| {
        let is_new = |cp: &String| !before.vnfcs.iter().any(|vnfc| vnfc.connection_points.contains(cp));
        let added: Vec<String> = link
            .vnf_link_ports
            .iter()
            .filter(|port| port.cp_instance_id.as_ref().is_some_and(is_new))
            .map(|port| port.id.clone())
            .collect();
        (!added.is_empty()).then(|| AffectedVirtualLink {
            id: link.id.clone(),
            vnf_virtual_link_desc_id: link.vnf_virtual_link_desc_id.clone(),
            change_type: ChangeType::LinkPortAdded,
            network_resource: link.network_resource.clone(),
            vnf_link_port_ids: added,
        })
    });
    removed.chain(added).chain(ports).collect()
}

fn external_ports(
    operation: LcmOperationType,
    before: &Before,
    after: &InstantiatedVnfInfo,
) -> Vec<AffectedExtLinkPort> {
    let was_there = |external: &str| {
        let of = after.ext_cp_info.iter().find(|cp| cp.id == external);
        let component = of.and_then(|cp| cp.associated_vnfc_cp_id.as_ref());
        component.is_some_and(|cp| before.vnfcs.iter().any(|vnfc| vnfc.connection_points.contains(cp)))
    };
    let ports = after.ext_virtual_link_info.iter().flat_map(|link| &link.ext_link_ports);
    let changed = ports.filter(|port| {
        let known = port.cp_instance_id.as_deref().is_some_and(was_there);
        port.cp_instance_id.is_some() && (operation == LcmOperationType::ChangeExtConn || !known)
    });
    changed
        .map(|port| AffectedExtLinkPort {
            id: port.id.clone(),
            change_type: ChangeType::Added,
            ext_cp_instance_id: port.cp_instance_id.clone(),
            resource_handle: port.resource_handle.clone(),
        })
        .collect()
}

fn storages(before: &Before, after: &InstantiatedVnfInfo) -> Vec<AffectedVirtualStorage> {
    let now = &after.virtual_storage_resource_info;
    let had = || before.vnfcs.iter().flat_map(|vnfc| &vnfc.volumes);
    let removed = had().filter(|(_, id)| !now.iter().any(|storage| storage.id == *id)).map(|(name, id)| {
        AffectedVirtualStorage {
            id: id.clone(),
            virtual_storage_desc_id: name.clone(),
            change_type: ChangeType::Removed,
            storage_resource: before.handle(id, "OS::Cinder::Volume"),
            ..AffectedVirtualStorage::default()
        }
    });
    let new = now.iter().filter(|storage| !had().any(|(_, id)| *id == storage.id));
    let added = new.map(|storage| AffectedVirtualStorage {
        id: storage.id.clone(),
        virtual_storage_desc_id: storage.virtual_storage_desc_id.clone(),
        change_type: ChangeType::Added,
        storage_resource: storage.storage_resource.clone(),
        metadata: storage.metadata.clone(),
    });
    removed.chain(added).collect()
}
