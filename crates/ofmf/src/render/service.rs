//! What is always there: the root and the services below it.

use drystone_redfish::{
    message::{REGISTRIES, Registry},
    server::protocol_features,
    tree::Item,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{link, resource, status, system::RESET_TYPES};
use crate::names::{AGGREGATION, CHASSIS, COMPOSITION, DRYSTONE, FABRICS, MANAGERS, SYSTEMS, TASKS};

/// Rooms under the root, with their names there.
pub const ROOMS: [(&str, &str); 12] = [
    ("Systems", SYSTEMS),
    ("Chassis", CHASSIS),
    ("Managers", MANAGERS),
    ("Fabrics", FABRICS),
    ("CompositionService", COMPOSITION),
    ("AggregationService", AGGREGATION),
    ("SessionService", "/redfish/v1/SessionService"),
    ("AccountService", "/redfish/v1/AccountService"),
    ("EventService", "/redfish/v1/EventService"),
    ("Tasks", TASKS),
    ("Registries", "/redfish/v1/Registries"),
    ("JsonSchemas", "/redfish/v1/JsonSchemas"),
];

/// The root, the services and the collections that are always there. `uuid` is that of the service.
pub fn service(uuid: &str, started: Timestamp) -> Vec<Item> {
    let mut items = vec![root(uuid), composition(), tasks(), aggregation(), connection_method()];
    items.push(resource(
        DRYSTONE,
        "#Manager.v1_24_0.Manager",
        "Drystone",
        json!({
            "ManagerType": "Service", "UUID": uuid, "ServiceEntryPointUUID": uuid, "Model": "Drystone",
            "Manufacturer": "Drystone", "FirmwareVersion": env!("CARGO_PKG_VERSION"), "PowerState": "On",
            "LastResetTime": format!("{started:.0}"), "Status": status("Enabled", "OK"),
        }),
    ));
    for (uri, schema) in [
        (CHASSIS, "Chassis"),
        (MANAGERS, "Manager"),
        (FABRICS, "Fabric"),
        ("/redfish/v1/CompositionService/ResourceBlocks", "ResourceBlock"),
        ("/redfish/v1/CompositionService/FreePool", "ResourceBlock"),
        ("/redfish/v1/CompositionService/ActivePool", "ResourceBlock"),
        ("/redfish/v1/CompositionService/ResourceZones", "Zone"),
        ("/redfish/v1/CompositionService/CompositionReservations", "CompositionReservation"),
        ("/redfish/v1/TaskService/Tasks", "Task"),
        ("/redfish/v1/AggregationService/AggregationSources", "AggregationSource"),
        ("/redfish/v1/AggregationService/ConnectionMethods", "ConnectionMethod"),
        ("/redfish/v1/AggregationService/Aggregates", "Aggregate"),
        ("/redfish/v1/Registries", "MessageRegistryFile"),
    ] {
        items.push(Item::collection(uri, schema));
    }
    let capabilities = super::composition::capabilities(None);
    items.push(Item::annotated_collection(SYSTEMS, "ComputerSystem", capabilities));
    items.extend(REGISTRIES.iter().map(|registry| registry_file(registry)));
    items
}

fn root(uuid: &str) -> Item {
    let mut rest = Map::new();
    rest.insert("RedfishVersion".to_owned(), "1.23.0".into());
    rest.insert("UUID".to_owned(), uuid.into());
    rest.insert("Product".to_owned(), "Drystone".into());
    rest.insert("Vendor".to_owned(), "Drystone".into());
    rest.insert("ProtocolFeaturesSupported".to_owned(), protocol_features());
    rest.insert("Links".to_owned(), json!({"Sessions": link("/redfish/v1/SessionService/Sessions")}));
    for (name, uri) in ROOMS {
        rest.insert(name.to_owned(), link(uri));
    }
    rest.insert("Id".to_owned(), "RootService".into());
    resource("/redfish/v1", "#ServiceRoot.v1_20_0.ServiceRoot", "Root service", Value::Object(rest))
}

fn composition() -> Item {
    resource(
        COMPOSITION,
        "#CompositionService.v1_2_3.CompositionService",
        "Composition service",
        json!({
            "ServiceEnabled": true, "AllowOverprovisioning": true, "AllowZoneAffinity": true,
            "ReservationDuration": "PT10M", "Status": status("Enabled", "OK"),
            "ResourceBlocks": link(format!("{COMPOSITION}/ResourceBlocks")),
            "ResourceZones": link(format!("{COMPOSITION}/ResourceZones")),
            "FreePool": link(format!("{COMPOSITION}/FreePool")),
            "ActivePool": link(format!("{COMPOSITION}/ActivePool")),
            "CompositionReservations": link(format!("{COMPOSITION}/CompositionReservations")),
            "Actions": {"#CompositionService.Compose": {
                "target": format!("{COMPOSITION}/Actions/CompositionService.Compose"),
                "RequestFormat@Redfish.AllowableValues": ["Manifest"],
                "RequestType@Redfish.AllowableValues": ["Preview", "PreviewReserve", "Apply"]}},
        }),
    )
}

fn tasks() -> Item {
    resource(
        TASKS,
        "#TaskService.v1_2_1.TaskService",
        "Task service",
        json!({
            "ServiceEnabled": true, "CompletedTaskOverWritePolicy": "Oldest",
            "LifeCycleEventOnTaskStateChange": true, "Status": status("Enabled", "OK"),
            "Tasks": link(format!("{TASKS}/Tasks")),
        }),
    )
}

fn aggregation() -> Item {
    resource(
        AGGREGATION,
        "#AggregationService.v1_0_2.AggregationService",
        "Aggregation service",
        json!({
            "ServiceEnabled": true, "Status": status("Enabled", "OK"),
            "AggregationSources": link(format!("{AGGREGATION}/AggregationSources")),
            "ConnectionMethods": link(format!("{AGGREGATION}/ConnectionMethods")),
            "Aggregates": link(format!("{AGGREGATION}/Aggregates")),
            "Actions": {"#AggregationService.Reset": {
                "target": format!("{AGGREGATION}/Actions/AggregationService.Reset"),
                "ResetType@Redfish.AllowableValues": RESET_TYPES}},
        }),
    )
}

fn connection_method() -> Item {
    resource(
        &format!("{AGGREGATION}/ConnectionMethods/Redfish"),
        "#ConnectionMethod.v1_2_0.ConnectionMethod",
        "Redfish services of fabrics",
        json!({"ConnectionMethodType": "Redfish"}),
    )
}

/// The resource that says where the file of a registry is.
fn registry_file(registry: &Registry) -> Item {
    let prefix = registry.id.split('.').next().unwrap_or_default();
    resource(
        &format!("/redfish/v1/Registries/{prefix}"),
        "#MessageRegistryFile.v1_1_4.MessageRegistryFile",
        &format!("File of the registry {prefix}"),
        json!({
            "Registry": registry.id, "Languages": ["en"],
            "Location": [{"Language": "en", "Uri": format!("/redfish/v1/Registries/{prefix}/{prefix}.json")}],
        }),
    )
}

/// The file of a registry: the messages of it that Drystone emits, in its own words.
pub fn registry(prefix: &str) -> Option<Value> {
    let registry = REGISTRIES.iter().find(|registry| registry.id.split('.').next() == Some(prefix))?;
    let version = format!("{}.0", registry.id.split_once('.')?.1);
    let messages = registry.definitions.iter().map(|definition| {
        let mut message = json!({
            "Description": definition.text, "Message": definition.text, "MessageSeverity": definition.severity,
            "NumberOfArgs": definition.arguments, "Resolution": definition.resolution,
        });
        if definition.arguments > 0 {
            message["ParamTypes"] = vec!["string"; definition.arguments].into();
        }
        (definition.key.to_owned(), message)
    });
    Some(json!({
        "@odata.type": "#MessageRegistry.v1_7_0.MessageRegistry",
        "Id": format!("{prefix}.{version}"),
        "Name": format!("Registry {prefix}"),
        "Description": format!("Messages of the registry {prefix} that this service emits, in its own words"),
        "Language": "en", "RegistryPrefix": prefix, "RegistryVersion": version, "OwningEntity": "Drystone",
        "Messages": messages.collect::<Map<_, _>>(),
    }))
}
