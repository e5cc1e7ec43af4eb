//! Several who change the same resource at once, while its status is written: without If-Match each has its turn, and nobody's change is lost.

use std::time::Duration;

use drystone_api::{AddressPool, Composition, Connection, SYSTEM_NAMESPACE, Zone};
use futures::future::join_all;
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::world::World;

const FABRIC: &str = "/redfish/v1/Fabrics/F";

fn endpoint(id: &str) -> Value {
    json!({"@odata.id": format!("{FABRIC}/Endpoints/{id}")})
}

/// Writes a status again and again, as controllers do, while `work` is done. How often it was written.
async fn while_its_status_changes<K, T>(
    world: &World,
    name: &str,
    status: impl Fn(u64) -> Value,
    work: impl Future<Output = T>,
) -> (u64, T)
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned,
    K: std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let mut work = std::pin::pin!(work);
    let mut written = 0;
    loop {
        tokio::select! {
            done = &mut work => return (written, done),
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                written += 1;
                let status = json!({"status": status(written)});
                api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
            }
        }
    }
}

/// Eight descriptions at once; all are taken, and the last one stands.
async fn described(world: &World, uri: String) {
    let bodies: Vec<Value> =
        (0..8).map(|number| json!({"Description": format!("number {number}")})).collect();
    let answers = join_all(bodies.iter().map(|body| world.send("PATCH", &uri, body))).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{uri}: {:?}", answer.body);
    }
    let shown = world.get(&uri).await.body["Description"].clone();
    assert!(bodies.iter().any(|body| body["Description"] == shown), "{uri}: {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_a_fabric_is_described_by_many() {
    let world = World::start().await;
    let made: [(&str, Value); 4] = [
        ("Zones", json!({"Id": "it", "Links": {"Endpoints": [endpoint("e1")]}})),
        ("EndpointGroups", json!({"Id": "it", "Links": {"Endpoints": [endpoint("e2")]}})),
        (
            "Connections",
            json!({"Id": "it", "Links": {"InitiatorEndpoints": [endpoint("e1")], "TargetEndpoints": [endpoint("gateway")]}}),
        ),
        (
            "AddressPools",
            json!({"Id": "it", "Ethernet": {"IPv4": {"HostAddressRange": {"Lower": "10.0.0.0", "Upper": "10.0.0.255"}}}}),
        ),
    ];
    for (room, body) in made {
        let created = world.send("POST", &format!("{FABRIC}/{room}"), &body).await;
        assert_eq!(created.status, 201, "{room}: {:?}", created.body);
    }
    let uri = |room: &str| format!("{FABRIC}/{room}/it");
    let message = |number: u64| json!({"message": format!("as of {number}")});
    let zones = described(&world, uri("Zones"));
    let (zones, ()) = while_its_status_changes::<Zone, _>(&world, "it", message, zones).await;
    // A group has no status.
    described(&world, uri("EndpointGroups")).await;
    let connections = described(&world, uri("Connections"));
    let (connections, ()) =
        while_its_status_changes::<Connection, _>(&world, "it", message, connections).await;
    let pools = described(&world, uri("AddressPools"));
    let (pools, ()) = while_its_status_changes::<AddressPool, _>(&world, "it", message, pools).await;
    assert!([zones, connections, pools].iter().sum::<u64>() > 0, "no status was written meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composed_system_is_described_by_many() {
    let world = World::start().await;
    let block = json!({"@odata.id": "/redfish/v1/CompositionService/ResourceBlocks/h1"});
    let body = json!({"Id": "it", "Links": {"ResourceBlocks": [block]}});
    assert_eq!(world.send("POST", "/redfish/v1/Systems", &body).await.status, 201);
    let message = |number: u64| json!({"message": format!("as of {number}")});
    let work = described(&world, "/redfish/v1/Systems/it".to_owned());
    while_its_status_changes::<Composition, _>(&world, "it", message, work).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_zone_at_once_with_others_is_in_it() {
    let world = World::start().await;
    let body = json!({"Id": "it", "Links": {"Endpoints": [endpoint("e1")]}});
    assert_eq!(world.send("POST", &format!("{FABRIC}/Zones"), &body).await.status, 201);
    let add = format!("{FABRIC}/Zones/it/Actions/Zone.AddEndpoint");
    let joining: Vec<Value> =
        (2..=5).map(|number| json!({"Endpoint": endpoint(&format!("e{number}"))})).collect();
    let answers = join_all(joining.iter().map(|body| world.send("POST", &add, body))).await;
    for answer in &answers {
        assert_eq!(answer.told(), ["Success"], "{:?}", answer.body);
    }
    let members = world.get(&format!("{FABRIC}/Zones/it")).await.body["Links"]["Endpoints"].clone();
    let mut members: Vec<String> = members.as_array().unwrap().iter().map(ToString::to_string).collect();
    members.sort();
    let all: Vec<String> = (1..=5).map(|number| endpoint(&format!("e{number}")).to_string()).collect();
    assert_eq!(members, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_that_is_going_takes_no_other_into_it() {
    let world = World::start().await;
    let zones = format!("{FABRIC}/Zones");
    let outer = json!({"Id": "outer", "ZoneType": "ZoneOfZones"});
    for round in 0..4 {
        let made = world.send("POST", &zones, &outer).await;
        assert_eq!(made.status, 201, "{:?}", made.body);
        let inner = json!({"Id": format!("inner{round}"), "Links": {"Endpoints": [endpoint("e1")],
            "ContainedByZones": [{"@odata.id": format!("{zones}/outer")}]}});
        let outer_uri = format!("{zones}/outer");
        let (deleted, created) =
            tokio::join!(world.send("DELETE", &outer_uri, &Value::Null), world.send("POST", &zones, &inner));
        match (deleted.status.as_u16(), created.status.as_u16()) {
            // Whoever is first: then the other one is refused.
            (204, 400) => assert_eq!(world.get(&outer_uri).await.status, 404),
            (409, 201) => {
                let inner_uri = format!("{zones}/inner{round}");
                assert_eq!(world.send("DELETE", &inner_uri, &Value::Null).await.status, 204);
                assert_eq!(world.send("DELETE", &outer_uri, &Value::Null).await.status, 204);
            }
            other => panic!("{other:?}: {:?}, {:?}", deleted.body, created.body),
        }
    }
}
