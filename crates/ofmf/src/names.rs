//! Names: how objects are called in Redfish, and which object a name in Redfish means.

use std::fmt::Write as _;

use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::reference::ObjectKey;

/// Systems.
pub const SYSTEMS: &str = "/redfish/v1/Systems";
/// Chassis.
pub const CHASSIS: &str = "/redfish/v1/Chassis";
/// Managers.
pub const MANAGERS: &str = "/redfish/v1/Managers";
/// Fabrics.
pub const FABRICS: &str = "/redfish/v1/Fabrics";
/// Composition service.
pub const COMPOSITION: &str = "/redfish/v1/CompositionService";
/// Task service.
pub const TASKS: &str = "/redfish/v1/TaskService";
/// Aggregation service.
pub const AGGREGATION: &str = "/redfish/v1/AggregationService";
/// The manager that Drystone is itself. No object has a name with a capital.
pub const DRYSTONE: &str = "/redfish/v1/Managers/Drystone";

/// Divides namespace and name where the namespace is not the system's. No object has it in its name.
const DIVIDER: char = '~';

/// Id of an object: its name, after its namespace if that is not the one of what belongs to no tenant.
pub fn id_of(key: &ObjectKey) -> String {
    if key.namespace == SYSTEM_NAMESPACE {
        key.name.clone()
    } else {
        format!("{}{DIVIDER}{}", key.namespace, key.name)
    }
}

/// The object that an id means.
pub fn key_of(id: &str) -> ObjectKey {
    match id.split_once(DIVIDER) {
        Some((namespace, name)) => ObjectKey::new(namespace, name),
        None => ObjectKey::new(SYSTEM_NAMESPACE, id),
    }
}

/// A text that hardware made up, as a part of a path: what a path cannot hold is written as `%` and two digits.
pub fn segment(text: &str) -> String {
    let mut segment = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            segment.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(segment, "%{byte:02X}");
        }
    }
    segment
}

/// Whether a client may give a resource this id: what Kubernetes takes as a name.
pub fn is_good_id(id: &str) -> bool {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = id.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|c| good(*c) || *c == b'-')
        && bytes.first().copied().is_some_and(good)
        && bytes.last().copied().is_some_and(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_back_to_their_objects() {
        for (namespace, name, id) in
            [(SYSTEM_NAMESPACE, "gpu-01.rack", "gpu-01.rack"), ("research", "mlops", "research~mlops")]
        {
            let key = ObjectKey::new(namespace, name);
            assert_eq!(id_of(&key), id);
            assert_eq!(key_of(id), key);
        }
        assert_eq!(segment("Rack 1/ä"), "Rack%201%2F%C3%A4");
        assert!(is_good_id("z-1") && !is_good_id("-z") && !is_good_id("Z") && !is_good_id(""));
    }
}
