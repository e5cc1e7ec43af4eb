//! What an instance is after an operation. Pure.

use std::collections::BTreeMap;

use drystone_api::{
    Operation,
    nfv::{VnfInstanceStatus, VnfNode},
};
use drystone_sol003::types::{
    ExtLinkPortData, ExtManagedVirtualLinkData, ExtVirtualLinkData, InstantiatedVnfInfo, InstantiationState,
    KeyValuePairs, LcmOperationType,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    changes::Before,
    info::{Known, instantiated},
    operation::{INVENTORY, Order, STACK_DELETE},
    outline::{levels, outline},
};
use crate::model::{InstancePatch, Inventory, Phase, Problem, STEP_PATCH_KEY, StackAsk};

/// What an instance is after its operation was carried out; who holds it stays as it is.
///
/// # Errors
/// What the engine wrote down cannot be read, or does not fit the package.
pub fn completed(order: &Order<'_>, engine: Option<&Operation>) -> Result<VnfInstanceStatus, Problem> {
    let mut status = order.instance.status.clone().unwrap_or_default();
    let operation = &order.occurrence.spec;
    let outline = outline(operation, &status, order.blueprint)?;
    if operation.operation == LcmOperationType::Terminate {
        return Ok(VnfInstanceStatus {
            instantiation_state: InstantiationState::NotInstantiated,
            vim_connection_info: BTreeMap::new(),
            credentials: None,
            additional_parameters: KeyValuePairs::new(),
            instantiated_vnf_info: None,
            nodes: Vec::new(),
            ..status
        });
    }
    if let Some(inventory) = engine.map(inventory).transpose()?.flatten() {
        let flavour = order.blueprint.flavour(&outline.flavour)?;
        let info = status.instantiated_vnf_info.clone().unwrap_or_default();
        let mut known = known(order, &info)?;
        known.flavour.clone_from(&outline.flavour);
        known.levels.clone_from(&outline.levels);
        known.metadata = kept_metadata(order, &status, &info, &outline);
        known.topology = flavour.topology();
        known.highest_levels = flavour.highest_levels();
        known.assets = flavour.assets();
        status.instantiated_vnf_info = Some(instantiated(&known, &inventory));
    }
    if operation.operation == LcmOperationType::Instantiate {
        status.instantiation_state = InstantiationState::Instantiated;
        status.vim_connection_info =
            BTreeMap::from([(order.connection.key.clone(), order.connection.info.clone())]);
        let additional = operation.parameters.get("additionalParams").and_then(Value::as_object);
        status.additional_parameters = additional.cloned().unwrap_or_default();
    }
    for patch in patches(engine) {
        apply(&mut status, patch);
    }
    Ok(status)
}

/// What an instance is after its operation was rolled back, by what was read then.
///
/// # Errors
/// As [`completed`].
pub fn rolled_back(order: &Order<'_>, refreshed: &Operation) -> Result<VnfInstanceStatus, Problem> {
    let mut status = order.instance.status.clone().unwrap_or_default();
    let Some(info) = &status.instantiated_vnf_info else { return Ok(status) };
    let Some(inventory) = inventory(refreshed)? else { return Ok(status) };
    let mut known = known_links(info);
    let flavour = order.blueprint.flavour(&info.flavour_id)?;
    known.flavour.clone_from(&info.flavour_id);
    known.levels = levels(&info.scale_status);
    known.metadata.clone_from(&info.metadata);
    known.topology = flavour.topology();
    known.highest_levels = flavour.highest_levels();
    known.assets = flavour.assets();
    known.vim.clone_from(&order.connection.key);
    known.component_names = component_names(order);
    status.instantiated_vnf_info = Some(instantiated(&known, &inventory));
    Ok(status)
}

/// What there was before the operation that the engine carried out.
pub fn before(engine: &Operation) -> Before {
    let told = engine.spec.steps.iter().find(|step| step.id == INVENTORY || step.id == STACK_DELETE);
    let before = told.and_then(|step| step.parameters.get("before"));
    before.and_then(|before| serde_json::from_value(before.clone()).ok()).unwrap_or_default()
}

/// The inventory afterwards.
fn inventory(engine: &Operation) -> Result<Option<Inventory>, Problem> {
    let steps = engine.status.iter().flat_map(|status| &status.steps);
    let Some(step) = steps.into_iter().find(|step| step.id == INVENTORY && !step.output.is_null()) else {
        return Ok(None);
    };
    let read = serde_json::from_value(step.output.clone());
    read.map(Some).map_err(|error| {
        Problem::unprocessable(format!("output of the step {INVENTORY} cannot be read: {error}"))
    })
}

/// What steps want kept, in the plan's order.
fn patches(engine: Option<&Operation>) -> impl Iterator<Item = InstancePatch> {
    let steps = engine.into_iter().flat_map(|engine| &engine.status).flat_map(|status| &status.steps);
    steps.filter_map(|step| serde_json::from_value(step.output.get(STEP_PATCH_KEY)?.clone()).ok())
}

fn apply(status: &mut VnfInstanceStatus, patch: InstancePatch) {
    for key in &patch.forget_vim_connections {
        status.vim_connection_info.remove(key);
    }
    status.vim_connection_info.extend(patch.vim_connection_info);
    let gone = |node: &VnfNode| {
        patch.forget_nodes.contains(&node.name) || patch.nodes.iter().any(|new| new.name == node.name)
    };
    status.nodes.retain(|node| !gone(node));
    status.nodes.extend(patch.nodes.iter().cloned());
    status.nodes.sort_by(|a, b| a.name.cmp(&b.name));
}

/// What is known of links: as the request says, on top of what the instance has.
fn known(order: &Order<'_>, info: &InstantiatedVnfInfo) -> Result<Known, Problem> {
    let parameters = &order.occurrence.spec.parameters;
    let mut known = known_links(info);
    known.vim.clone_from(&order.connection.key);
    known.component_names = component_names(order);
    for link in list::<ExtVirtualLinkData>(parameters, "extVirtualLinks")? {
        // A connection point is on one link: the one that was named last.
        for other in &mut known.external_links {
            other.ext_cps.retain(|cp| !link.ext_cps.iter().any(|moved| moved.cpd_id == cp.cpd_id));
        }
        known.external_links.retain(|other| other.id != link.id && !other.ext_cps.is_empty());
        known.external_links.push(link);
    }
    for link in list::<ExtManagedVirtualLinkData>(parameters, "extManagedVirtualLinks")? {
        known.managed_links.retain(|other| other.vnf_virtual_link_desc_id != link.vnf_virtual_link_desc_id);
        known.managed_links.push(link);
    }
    Ok(known)
}

fn list<T: DeserializeOwned>(parameters: &KeyValuePairs, name: &str) -> Result<Vec<T>, Problem> {
    let Some(given) = parameters.get(name).filter(|given| !given.is_null()) else { return Ok(Vec::new()) };
    serde_json::from_value(given.clone())
        .map_err(|error| Problem::bad(name, format!("cannot be read: {error}")))
}

/// The links that an instance has, as they would be asked for.
fn known_links(info: &InstantiatedVnfInfo) -> Known {
    let external = info.ext_virtual_link_info.iter().map(|link| ExtVirtualLinkData {
        id: link.id.clone(),
        vim_connection_id: link.resource_handle.vim_connection_id.clone(),
        resource_provider_id: link.resource_handle.resource_provider_id.clone(),
        resource_id: link.resource_handle.resource_id.clone(),
        ext_cps: link.current_vnf_ext_cp_data.clone(),
        ext_link_ports: link
            .ext_link_ports
            .iter()
            .filter_map(|port| {
                let id = port.id.strip_prefix("req-")?.to_owned();
                Some(ExtLinkPortData { id, resource_handle: port.resource_handle.clone() })
            })
            .collect(),
    });
    let managed = info.ext_managed_virtual_link_info.iter().map(|link| ExtManagedVirtualLinkData {
        id: link.id.clone(),
        vnf_virtual_link_desc_id: link.vnf_virtual_link_desc_id.clone(),
        vim_connection_id: link.network_resource.vim_connection_id.clone(),
        resource_id: link.network_resource.resource_id.clone(),
        vnf_link_port: Vec::new(),
    });
    Known { external_links: external.collect(), managed_links: managed.collect(), ..Known::default() }
}

fn component_names(order: &Order<'_>) -> BTreeMap<String, Vec<String>> {
    let mapping = order.instance.spec.metadata.get("VDU_VNFc_mapping");
    mapping.and_then(|mapping| serde_json::from_value(mapping.clone()).ok()).unwrap_or_default()
}

/// `metadata.nfv`: what the stack's parameter is now, without what is secret.
fn kept_metadata(
    order: &Order<'_>,
    status: &VnfInstanceStatus,
    info: &InstantiatedVnfInfo,
    outline: &super::outline::Outline,
) -> KeyValuePairs {
    let mut metadata = info.metadata.clone();
    let ask = StackAsk {
        operation: &order.occurrence.spec,
        instance: status,
        instantiated_with: &status.additional_parameters,
        flavour: &outline.flavour,
        before: &outline.counts_before(),
        after: &outline.counts_after(),
        affected: &outline.affected_places(),
        entire: outline.entire,
        phase: Phase::Forward,
    };
    // What cannot be told without secrets is not kept.
    let Ok(request) = order.blueprint.stack_request(&ask) else { return metadata };
    let Some(nfv) = request.parameters.get("nfv") else { return metadata };
    let kept = match metadata.remove("nfv") {
        Some(before) if request.existing => drystone_csar::userdata::merge_patch(before, nfv),
        _ => nfv.clone(),
    };
    metadata.insert("nfv".to_owned(), kept);
    metadata
}
