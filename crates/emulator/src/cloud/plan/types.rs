//! Types of resources: which properties there are, and what a change of one means.

use serde_json::{Map, Value};

use super::super::hot::HotError;

/// What a change of a property means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Change {
    /// The resource is changed.
    InPlace,
    /// The resource keeps its id and is made anew.
    Rebuild,
    /// The resource is replaced by another one.
    Replace,
}

use Change::{InPlace, Rebuild, Replace};

/// A type of resources that is no stack.
pub(super) struct Type {
    /// Its name.
    pub(super) name: &'static str,
    /// Its properties.
    pub(super) properties: &'static [(&'static str, Change)],
    /// Those that it cannot be without.
    pub(super) required: &'static [&'static str],
}

/// The types that a cloud knows, beside groups and templates.
pub(super) const TYPES: [Type; 12] = [
    Type {
        name: "OS::Nova::Server",
        properties: &[
            ("name", InPlace),
            ("metadata", InPlace),
            ("tags", InPlace),
            ("flavor", InPlace),
            ("flavor_update_policy", InPlace),
            ("networks", InPlace),
            ("security_groups", InPlace),
            ("software_config_transport", InPlace),
            ("user_data_update_policy", InPlace),
            ("image_update_policy", InPlace),
            ("image", Rebuild),
            ("admin_pass", InPlace),
            ("availability_zone", Replace),
            ("block_device_mapping", Replace),
            ("block_device_mapping_v2", Replace),
            ("config_drive", Replace),
            ("diskConfig", Replace),
            ("key_name", Replace),
            ("personality", Replace),
            ("reservation_id", Replace),
            ("scheduler_hints", Replace),
            ("user_data", Replace),
            ("user_data_format", Replace),
        ],
        required: &["flavor"],
    },
    Type {
        name: "OS::Neutron::Port",
        properties: &[
            ("network", Replace),
            ("network_id", Replace),
            ("name", InPlace),
            ("fixed_ips", Replace),
            ("mac_address", Replace),
            ("allowed_address_pairs", InPlace),
            ("security_groups", InPlace),
            ("port_security_enabled", InPlace),
            ("admin_state_up", InPlace),
            ("binding:vnic_type", InPlace),
            ("device_id", InPlace),
            ("device_owner", InPlace),
            ("qos_policy", InPlace),
            ("tags", InPlace),
            ("value_specs", InPlace),
        ],
        required: &[],
    },
    Type {
        name: "OS::Neutron::FloatingIP",
        properties: &[
            ("floating_network", Replace),
            ("floating_network_id", Replace),
            ("floating_subnet", Replace),
            ("floating_ip_address", Replace),
            ("port_id", InPlace),
            ("fixed_ip_address", InPlace),
            ("value_specs", InPlace),
        ],
        required: &[],
    },
    Type {
        name: "OS::Neutron::FloatingIPAssociation",
        properties: &[("floatingip_id", Replace), ("port_id", InPlace), ("fixed_ip_address", InPlace)],
        required: &["floatingip_id"],
    },
    Type {
        name: "OS::Neutron::Net",
        properties: &[
            ("name", InPlace),
            ("admin_state_up", InPlace),
            ("shared", InPlace),
            ("port_security_enabled", InPlace),
            ("qos_policy", InPlace),
            ("tags", InPlace),
            ("value_specs", InPlace),
        ],
        required: &[],
    },
    Type {
        name: "OS::Neutron::Subnet",
        properties: &[
            ("network", Replace),
            ("network_id", Replace),
            ("cidr", Replace),
            ("ip_version", Replace),
            ("name", InPlace),
            ("gateway_ip", InPlace),
            ("enable_dhcp", InPlace),
            ("allocation_pools", InPlace),
            ("dns_nameservers", InPlace),
            ("host_routes", InPlace),
            ("tags", InPlace),
        ],
        required: &["cidr"],
    },
    Type {
        name: "OS::Neutron::SecurityGroup",
        properties: &[("name", InPlace), ("description", InPlace), ("rules", InPlace)],
        required: &[],
    },
    Type {
        name: "OS::Cinder::Volume",
        properties: &[
            ("size", InPlace),
            ("name", InPlace),
            ("description", InPlace),
            ("metadata", InPlace),
            ("read_only", InPlace),
            ("availability_zone", Replace),
            ("volume_type", Replace),
            ("image", Replace),
            ("multiattach", Replace),
            ("scheduler_hints", Replace),
        ],
        required: &["size"],
    },
    Type {
        name: "OS::Cinder::VolumeAttachment",
        properties: &[("instance_uuid", Replace), ("volume_id", Replace), ("mountpoint", Replace)],
        required: &["instance_uuid", "volume_id"],
    },
    Type {
        name: "OS::Nova::ServerGroup",
        properties: &[("name", Replace), ("policies", Replace)],
        required: &[],
    },
    Type {
        name: "OS::Heat::ScalingPolicy",
        properties: &[
            ("auto_scaling_group_id", Replace),
            ("adjustment_type", InPlace),
            ("scaling_adjustment", InPlace),
            ("min_adjustment_step", InPlace),
            ("cooldown", InPlace),
        ],
        required: &["auto_scaling_group_id", "adjustment_type", "scaling_adjustment"],
    },
    Type { name: "OS::Heat::None", properties: &[], required: &[] },
];

/// The type of a name.
pub(super) fn find(kind: &str) -> Option<&'static Type> {
    TYPES.iter().find(|known| known.name == kind)
}

/// Whether there is a type of this name; names of files are none.
pub(in crate::cloud) fn is_known(kind: &str) -> bool {
    find(kind).is_some() || super::is_group(kind)
}

/// Names of all types.
pub(in crate::cloud) fn known_types() -> Vec<&'static str> {
    let mut names: Vec<&str> = TYPES.iter().map(|known| known.name).chain(super::groups::GROUPS).collect();
    names.sort_unstable();
    names
}

/// Checks which properties there are.
pub(super) fn check(kind: &Type, properties: &Map<String, Value>) -> Result<(), HotError> {
    // It takes any properties: that is what it is for.
    if kind.name == "OS::Heat::None" {
        return Ok(());
    }
    if let Some(unknown) =
        properties.keys().find(|name| !kind.properties.iter().any(|(known, _)| known == name))
    {
        return Err(HotError::new(
            format!("properties.{unknown}"),
            format!("Unknown Property {unknown} of {}", kind.name),
        ));
    }
    let present = |name: &&str| properties.get(*name).is_some_and(|value| !value.is_null());
    match kind.required.iter().find(|name| !present(name)) {
        Some(missing) => {
            Err(HotError::new(format!("properties.{missing}"), format!("Property {missing} not assigned")))
        }
        None => Ok(()),
    }
}

/// What the difference between properties means; `None` if there is none.
pub(super) fn difference(kind: &Type, before: &Value, after: &Value) -> Option<Change> {
    if before == after {
        return None;
    }
    if kind.name == "OS::Heat::None" {
        return Some(InPlace);
    }
    let of = |name: &str| {
        let same = before.get(name).filter(|value| !value.is_null())
            == after.get(name).filter(|value| !value.is_null());
        !same
    };
    kind.properties.iter().filter(|(name, _)| of(name)).map(|(_, change)| *change).max()
}
