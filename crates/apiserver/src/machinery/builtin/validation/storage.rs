//! Volumes, claims, and the classes and drivers behind them.

use super::field::{Errors, Field, repeated};
use super::quantities;
use super::quantities::amount;
use super::{labels, scheduling, volume as pod_volume};
use crate::machinery::field_error::FieldError;
use crate::machinery::names;

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
/// Fields of a volume's `spec` that say what it is, not where it comes from.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn access_modes(modes: &Field<'_>, errors: &mut Errors) {
    if modes.is_empty() {
        modes.missing("at least 1 access mode is required", errors);
    }
    for mode in modes.items() {
        mode.one_of(&ACCESS_MODES, errors);
    }
    let has = |name: &str| modes.items().iter().any(|mode| mode.text() == name);
    if has("ReadWriteOncePod") && modes.len() > 1 {
        modes.forbidden("may not use ReadWriteOncePod with other access modes", errors);
    }
}

/// A PersistentVolume.
pub(super) fn volume(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    access_modes(&spec.get("accessModes"), errors);
    let capacity = spec.get("capacity");
    if capacity.is_empty() {
        capacity.missing("", errors);
    } else if capacity.get("storage").value.is_null() || capacity.len() > 1 {
        let path = capacity.path.as_str();
        errors.push(FieldError::not_supported(path, capacity.value.clone(), ["storage"]));
    }
    let storage = capacity.get("storage");
    if amount(storage.value).is_some_and(|amount| amount.is_negative() || amount.is_zero()) {
        storage.invalid("must be greater than zero", errors);
    }
    spec.get("persistentVolumeReclaimPolicy").optional_one_of(&["Delete", "Recycle", "Retain"], errors);
    spec.get("volumeMode").optional_one_of(&["Block", "Filesystem"], errors);
    spec.get("storageClassName").optional_name(names::dns1123_subdomain, errors);
    let affinity = spec.at(&["nodeAffinity", "required"]);
    if !affinity.value.is_null() {
        scheduling::node_selector(&affinity, errors);
    }
    source(&spec, errors);
}

fn source(spec: &Field<'_>, errors: &mut Errors) {
    let given: Vec<Field<'_>> = spec
        .entries()
        .into_iter()
        .filter(|(name, field)| !NOT_SOURCES.contains(name) && !field.value.is_null())
        .map(|(name, _)| spec.get(name))
        .collect();
    let Some((first, more)) = given.split_first() else {
        spec.missing("must specify a volume type", errors);
        return;
    };
    for other in more {
        other.forbidden("may not specify more than 1 volume type", errors);
    }
    match first.path.rsplit('.').next().unwrap_or_default() {
        "hostPath" => pod_volume::host_path(first, errors),
        "nfs" => pod_volume::nfs(first, errors),
        "csi" => {
            first.get("driver").require(errors);
            first.get("volumeHandle").require(errors);
        }
        "local" => {
            first.get("path").require(errors);
            if spec.at(&["nodeAffinity", "required"]).value.is_null() {
                spec.get("nodeAffinity").missing("Local volume requires node affinity", errors);
            }
        }
        _ => {}
    }
}

/// A change of a PersistentVolume: where the data is stays.
pub(super) fn volume_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let source = |spec: &Field<'_>| {
        let fields = spec.value.as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| !NOT_SOURCES.contains(&name.as_str()));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Map<_, _>>()
    };
    if source(&spec) != source(&before) {
        spec.forbidden("spec.persistentvolumesource is immutable after creation", errors);
    }
    spec.get("volumeMode").unchanged(&before.get("volumeMode"), errors);
    spec.get("nodeAffinity").unchanged_once_set(&before.get("nodeAffinity"), errors);
}

/// A PersistentVolumeClaim.
pub(super) fn claim(object: &Field<'_>, errors: &mut Errors) {
    claim_spec(&object.get("spec"), errors);
}

/// The `spec` of a claim.
pub(super) fn claim_spec(spec: &Field<'_>, errors: &mut Errors) {
    access_modes(&spec.get("accessModes"), errors);
    labels::selector(&spec.get("selector"), errors);
    let storage = spec.at(&["resources", "requests", "storage"]);
    match amount(storage.value) {
        None => errors
            .push(FieldError::required(storage.path.replace("requests.storage", "requests[storage]"), "")),
        Some(amount) if amount.is_negative() || amount.is_zero() => {
            storage.invalid("must be greater than zero", errors);
        }
        Some(_) => {}
    }
    quantities::amounts(&spec.at(&["resources", "limits"]), errors);
    spec.get("storageClassName").optional_name(names::dns1123_subdomain, errors);
    spec.get("volumeMode").optional_one_of(&["Block", "Filesystem"], errors);
    let data = spec.get("dataSource");
    if !data.value.is_null() {
        for name in ["kind", "name"] {
            data.get(name).require(errors);
        }
    }
}

/// A change of a claim: once it is bound, it may only ask for more.
pub(super) fn claim_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    let fixed = |spec: &Field<'_>, others: &Field<'_>| {
        let mut fields = spec.value.as_object().cloned().unwrap_or_default();
        fields.remove("resources");
        fields.remove("volumeAttributesClassName");
        // Binding sets the volume, and the default class is found late.
        for late in ["volumeName", "storageClassName"] {
            if spec.get(late).is_absent() || others.get(late).is_absent() {
                fields.remove(late);
            }
        }
        fields
    };
    if fixed(&spec, &before) != fixed(&before, &spec) {
        let message = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        spec.forbidden(message, errors);
    }
    let path = ["resources", "requests", "storage"];
    let (wanted, previous) = (spec.at(&path), before.at(&path));
    if let (Some(now), Some(then)) = (amount(wanted.value), amount(previous.value))
        && now < then
    {
        wanted.forbidden("field can not be less than previous value", errors);
    }
}

/// A StorageClass.
pub(super) fn class(object: &Field<'_>, errors: &mut Errors) {
    object.get("provisioner").name(|name| names::qualified_name(&name.to_lowercase()), errors);
    object.get("reclaimPolicy").optional_one_of(&["Delete", "Retain"], errors);
    object.get("volumeBindingMode").optional_one_of(&["Immediate", "WaitForFirstConsumer"], errors);
    for (key, value) in object.get("parameters").entries() {
        if key.is_empty() {
            value.invalid("field can not be empty.", errors);
        }
    }
}

/// A change of a StorageClass: volumes have been made as it says.
pub(super) fn class_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    for name in ["parameters", "provisioner", "reclaimPolicy"] {
        if new.get(name).value != old.get(name).value {
            new.get(name).forbidden(format!("updates to {name} are forbidden."), errors);
        }
    }
    new.get("volumeBindingMode").unchanged(&old.get("volumeBindingMode"), errors);
}

/// A VolumeAttachment.
pub(super) fn attachment(object: &Field<'_>, errors: &mut Errors) {
    let spec = object.get("spec");
    spec.get("attacher").require(errors);
    spec.get("nodeName").require(errors);
    let source = spec.get("source");
    let (name, inline) = (source.get("persistentVolumeName"), source.get("inlineVolumeSpec"));
    match (name.is_absent(), inline.value.is_null()) {
        (true, true) => {
            source.missing("must specify exactly one of inlineVolumeSpec and persistentVolumeName", errors);
        }
        (false, false) => {
            source.invalid("must specify exactly one of inlineVolumeSpec and persistentVolumeName", errors);
        }
        _ => {}
    }
}

/// A change of a VolumeAttachment.
pub(super) fn attachment_change(new: &Field<'_>, old: &Field<'_>, errors: &mut Errors) {
    new.get("spec").unchanged(&old.get("spec"), errors);
}

/// A CSINode.
pub(super) fn csi_node(object: &Field<'_>, errors: &mut Errors) {
    let drivers = object.at(&["spec", "drivers"]).items();
    for driver in &drivers {
        driver.get("name").require(errors);
        driver.get("nodeID").require(errors);
        driver.at(&["allocatable", "count"]).not_negative(errors);
    }
    for position in repeated(&drivers, |driver| Some(driver.get("name").text())) {
        drivers[position].get("name").duplicate(errors);
    }
}
