//! Redfish resources as structs, with the properties that Drystone reads or writes.
//!
//! Every property but the identity is optional: services differ. [`to_body`] leaves absent properties out; [`from_body`]
//! takes a `null`, which Redfish allows for most properties, as absent. Versions are those of the schema bundle DSP8010
//! 2025.4. What a struct does not know is ignored when reading: whoever needs it looks into the JSON.

mod composition;
mod event;
mod fabric;
mod hardware;
mod manager;
mod service;
mod system;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

pub use composition::{CompositionStatus, ResourceBlock, ResourceBlockLinks};
pub use event::{Event, EventDestination, EventRecord};
pub use fabric::{
    AddressPool, ConnectedEntity, Connection, ConnectionLinks, Endpoint, EndpointLinks, Fabric, Port,
    PortEthernet, PortLinks, Switch, Zone, ZoneLinks,
};
pub use hardware::{
    Chassis, ChassisLinks, Drive, EthernetInterface, Location, Memory, Placement, Processor, ProcessorMemory,
    Storage,
};
pub use manager::{Manager, ManagerLinks, VirtualMedia};
pub use service::{ServiceRoot, Session, Task};
pub use system::{
    Boot, BootProgress, ComputerSystem, ComputerSystemLinks, MemorySummary, PowerState, ProcessorSummary,
    ResetType,
};

/// Declares a resource: its identity, then the properties given. `TYPE` is the `@odata.type` that Drystone emits.
macro_rules! resource {
    ($(#[$meta:meta])* $name:ident, $odata_type:literal { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            /// URI of the resource.
            #[serde(rename = "@odata.id")]
            pub odata_id: String,
            /// Schema and version.
            #[serde(rename = "@odata.type")]
            pub odata_type: String,
            /// Id, unique in its collection.
            pub id: String,
            /// Name for people.
            pub name: String,
            $($(#[$field_meta])* pub $field: $kind,)*
        }

        impl $name {
            /// The `@odata.type` that Drystone emits.
            pub const TYPE: &'static str = $odata_type;

            /// A resource with nothing but its identity; the id is the last part of the URI.
            pub fn at(uri: &str, name: &str) -> Self {
                Self {
                    odata_id: uri.to_owned(),
                    odata_type: Self::TYPE.to_owned(),
                    id: uri.rsplit('/').next().unwrap_or_default().to_owned(),
                    name: name.to_owned(),
                    ..Self::default()
                }
            }
        }
    };
}
/// Declares a part of a resource: every property optional.
macro_rules! part {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $kind,)*
        }
    };
}
use {part, resource};

/// A link to a resource: `{"@odata.id": "…"}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Link {
    /// URI of the resource.
    #[serde(rename = "@odata.id")]
    pub odata_id: String,
}

impl Link {
    /// A link to a URI.
    pub fn to(uri: impl Into<String>) -> Self {
        Self { odata_id: uri.into() }
    }

    /// The last part of the URI: the id of the resource.
    pub fn id(&self) -> &str {
        self.odata_id.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }
}

/// A collection of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Collection {
    /// URI of the collection.
    #[serde(rename = "@odata.id")]
    pub odata_id: String,
    /// Schema: `#SwitchCollection.SwitchCollection`.
    #[serde(rename = "@odata.type")]
    pub odata_type: String,
    /// Name for people.
    pub name: String,
    /// Links to the members of this page.
    pub members: Vec<Link>,
    /// Number of members over all pages.
    #[serde(rename = "Members@odata.count")]
    pub count: usize,
    /// The next page, if there is one.
    #[serde(rename = "Members@odata.nextLink", skip_serializing_if = "Option::is_none")]
    pub next_link: Option<String>,
}

impl Collection {
    /// The collection of all resources of a schema at a URI: `Collection::of("Switch", "/redfish/v1/…/Switches", …)`.
    pub fn of(schema: &str, uri: &str, ids: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let members: Vec<Link> =
            ids.into_iter().map(|id| Link::to(format!("{uri}/{}", id.as_ref()))).collect();
        Self {
            odata_id: uri.to_owned(),
            odata_type: format!("#{schema}Collection.{schema}Collection"),
            name: format!("{schema} collection"),
            count: members.len(),
            members,
            next_link: None,
        }
    }
}

part! {
    /// State and health of a resource.
    Status {
        /// `Enabled`, `Disabled`, `StandbyOffline`, `Starting`, `Absent` …
        state: Option<String>,
        /// `OK`, `Warning` or `Critical`.
        health: Option<String>,
        /// What needs attention.
        conditions: Vec<crate::message::Message>,
    }
}

impl Status {
    /// A state with good health.
    pub fn healthy(state: &str) -> Self {
        Self { state: Some(state.to_owned()), health: Some("OK".to_owned()), conditions: Vec::new() }
    }
}

part! {
    /// A name that a resource keeps for good.
    Identifier {
        /// The name.
        durable_name: Option<String>,
        /// Its form: `UUID`, `MACAddress`, `NQN` …
        durable_name_format: Option<String>,
    }
}

/// The JSON body of a resource: absent properties and empty lists inside of parts are left out, `Members` never is.
///
/// # Errors
/// The value has a map with keys that are no strings; no type of this module has.
pub fn to_body<T: Serialize>(resource: &T) -> Result<Value, serde_json::Error> {
    let mut body = serde_json::to_value(resource)?;
    prune(&mut body);
    Ok(body)
}

/// Reads a body.
///
/// # Errors
/// A property is of a type that Redfish does not give it.
pub fn from_body<T: DeserializeOwned>(mut body: Value) -> Result<T, serde_json::Error> {
    drop_nulls(&mut body);
    serde_json::from_value(body)
}

/// Removes what is absent: `null`, empty objects, and empty lists except those that say something.
fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            map.retain(|name, value| match value {
                Value::Null => false,
                Value::Object(inner) => !inner.is_empty(),
                Value::Array(list) => !list.is_empty() || name == "Members",
                _ => true,
            });
        }
        Value::Array(list) => list.iter_mut().for_each(prune),
        _ => {}
    }
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => {
            list.retain(|value| !value.is_null());
            list.iter_mut().for_each(drop_nulls);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn absent_properties_are_left_out_but_members_stay() {
        let body = to_body(&Switch::at("/redfish/v1/Fabrics/F/Switches/s", "s")).unwrap();
        assert_eq!(
            body,
            json!({"@odata.id": "/redfish/v1/Fabrics/F/Switches/s", "@odata.type": Switch::TYPE, "Id": "s", "Name": "s"})
        );
        let empty = to_body(&Collection::of("Zone", "/redfish/v1/Fabrics/F/Zones", [] as [&str; 0])).unwrap();
        assert_eq!((&empty["Members"], &empty["Members@odata.count"]), (&json!([]), &json!(0)));
    }

    #[test]
    fn nulls_and_unknown_properties_are_read_over() {
        let body = json!({"@odata.id": "/x", "Id": "1", "Name": null, "UUID": null, "PowerState": "On",
            "Boot": {"BootSourceOverrideTarget": null}, "Vendor": {"A": [null]}});
        let system: ComputerSystem = from_body(body).unwrap();
        assert_eq!(system.power_state, Some(PowerState::On));
        assert_eq!((system.uuid, system.name), (None, String::new()));
    }

    #[test]
    fn a_link_knows_the_id_behind_it() {
        assert_eq!(Link::to("/redfish/v1/Systems/1/").id(), "1");
    }
}
