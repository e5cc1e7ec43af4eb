//! What is looked up in requests, instances and grants.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Situation;

/// Items of a list by its JSON pointer; none if it is not there.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A text member.
pub(super) fn text<'a>(value: &'a Value, member: &str) -> Option<&'a str> {
    value.get(member).and_then(Value::as_str)
}

/// A virtual machine that comes or goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine<'a> {
    /// Its VDU.
    pub(super) vdu: &'a str,
    /// The definition of the resource.
    pub(super) definition: &'a Value,
}

/// Virtual machines in a list of the grant request: `addResources`, `removeResources`.
pub(super) fn machines<'a>(grant_request: &'a Value, list: &str) -> Vec<Machine<'a>> {
    let definitions = items(grant_request, &format!("/{list}")).iter();
    let compute = definitions.filter(|definition| text(definition, "type") == Some("COMPUTE"));
    compute
        .filter_map(|definition| Some(Machine { vdu: text(definition, "resourceTemplateId")?, definition }))
        .collect()
}

/// Instances of a VDU before the operation.
pub(super) fn current(instance: &Value, vdu: &str) -> u32 {
    let vnfcs = items(instance, "/instantiatedVnfInfo/vnfcResourceInfo").iter();
    let count = vnfcs.filter(|vnfc| text(vnfc, "vduId") == Some(vdu)).count();
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl<'a> Situation<'a> {
    /// Instances of a VDU after the operation.
    pub(super) fn wanted(&self, vdu: &str) -> u32 {
        let count = |list: &str| {
            let count =
                machines(self.grant_request, list).iter().filter(|machine| machine.vdu == vdu).count();
            u32::try_from(count).unwrap_or(u32::MAX)
        };
        current(self.instance, vdu)
            .saturating_add(count("addResources"))
            .saturating_sub(count("removeResources"))
    }

    /// Name of the VIM's flavor for a VDU: granted, or that of the VNFD.
    pub(super) fn flavor(&self, vdu: &str) -> Option<String> {
        let granted =
            self.asset("/vimAssets/computeResourceFlavours", "vnfdVirtualComputeDescId", vdu, "vimFlavourId");
        let of_vnfd = || self.flavour().ok()?.vdus.get(vdu)?.flavor.clone();
        granted.or_else(of_vnfd)
    }

    /// Image for a VDU or volume: granted, or that of the VNFD.
    pub(super) fn image(&self, node: &str) -> Option<String> {
        let of_vnfd = || {
            let flavour = self.flavour().ok()?;
            let storage = || flavour.storages.get(node)?.image.as_ref();
            let image = flavour.vdus.get(node).and_then(|vdu| vdu.image.as_ref()).or_else(storage)?;
            Some(image.name.clone())
        };
        self.granted_image(node).or_else(of_vnfd)
    }

    /// Image that the grant names for a VDU or volume.
    pub(super) fn granted_image(&self, node: &str) -> Option<String> {
        self.asset("/vimAssets/softwareImages", "vnfdSoftwareImageId", node, "vimSoftwareImageId")
    }

    fn asset(&self, list: &str, key: &str, name: &str, member: &str) -> Option<String> {
        let found = items(self.grant, list).iter().find(|asset| text(asset, key) == Some(name))?;
        text(found, member).map(str::to_owned)
    }

    /// Zone that the grant gives to a resource definition.
    pub(super) fn zone_of(&self, definition: &str) -> Option<String> {
        let mut granted = items(self.grant, "/addResources").iter();
        let granted = granted.find(|resource| text(resource, "resourceDefinitionId") == Some(definition))?;
        let id = text(granted, "zoneId")?;
        let zone = items(self.grant, "/zones").iter().find(|zone| text(zone, "id") == Some(id))?;
        text(zone, "zoneId").map(str::to_owned)
    }

    /// Zone that the grant gives to a VDU: that of the first of its instances that has one.
    pub(super) fn zone(&self, vdu: &str) -> Option<String> {
        let added = machines(self.grant_request, "addResources");
        let mut definitions = added
            .iter()
            .filter(|machine| machine.vdu == vdu)
            .filter_map(|machine| text(machine.definition, "id"));
        definitions.find_map(|definition| self.zone_of(definition))
    }

    /// What the request, and then the grant, state for `nfv`.
    pub(super) fn stated_nfv(&self) -> impl Iterator<Item = &'a Value> {
        let stated = |value: &'a Value| value.pointer("/additionalParams/nfv");
        [stated(self.request), stated(self.grant)].into_iter().flatten()
    }

    /// The parameter `nfv` that the instance's stack was last given.
    pub(super) fn stored_nfv(&self) -> Option<&'a Value> {
        self.instance.pointer("/instantiatedVnfInfo/metadata/nfv")
    }

    /// Flavors by VDU, and images by node, that the instance's virtual machines have.
    pub(super) fn stored_assets(&self) -> (BTreeMap<&'a str, &'a Value>, BTreeMap<&'a str, &'a Value>) {
        let (mut flavors, mut images) = (BTreeMap::new(), BTreeMap::new());
        for vnfc in items(self.instance, "/instantiatedVnfInfo/vnfcResourceInfo") {
            let (Some(vdu), Some(metadata)) =
                (text(vnfc, "vduId"), vnfc.get("metadata").and_then(Value::as_object))
            else {
                continue;
            };
            if flavors.contains_key(vdu) {
                continue;
            }
            for (name, value) in metadata {
                if name == "flavor" {
                    flavors.insert(vdu, value);
                } else if let Some(node) = name.strip_prefix("image-") {
                    images.entry(node).or_insert(value);
                }
            }
        }
        (flavors, images)
    }
}
