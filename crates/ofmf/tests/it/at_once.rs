//! Several who change the same resource at once, and changes while a status is written: that refuses nobody who named no entity tag, and nobody's
//! change is lost.

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
            () = tokio::time::sleep(Duration::from_millis(5)) => {
                written += 1;
                let status = json!({"status": status(written)});
                api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
            }
        }
    }
}

/// Eight descriptions, one after the other; all are taken.
async fn described(world: &World, uri: String) {
    for number in 0..8 {
        let body = json!({"Description": format!("number {number}")});
        let answer = world.send("PATCH", &uri, &body).await;
        assert_eq!(answer.status, 200, "{uri}: {:?}", answer.body);
        assert_eq!(answer.body["Description"], body["Description"], "{uri}");
    }
}

fn message(number: u64) -> Value {
    json!({"message": format!("as of {number}")})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_a_fabric_is_changed_while_its_status_is_written() {
    let world = World::start().await;
    let made: [(&str, Value); 3] = [
        ("Zones", json!({"Id": "it", "Links": {"Endpoints": [endpoint("e1")]}})),
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
    let zone = described(&world, uri("Zones"));
    let (zone, ()) = while_its_status_changes::<Zone, _>(&world, "it", message, zone).await;
    let connection = described(&world, uri("Connections"));
    let (connection, ()) = while_its_status_changes::<Connection, _>(&world, "it", message, connection).await;
    let blocks = |number: u64| json!({"totalBlocks": number});
    let pool = described(&world, uri("AddressPools"));
    let (pool, ()) = while_its_status_changes::<AddressPool, _>(&world, "it", blocks, pool).await;
    assert!(zone > 0 && connection > 0 && pool > 0, "no status was written meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_composed_system_is_changed_while_its_status_is_written() {
    let world = World::start().await;
    let block = json!({"@odata.id": "/redfish/v1/CompositionService/ResourceBlocks/h1"});
    let body = json!({"Id": "it", "Links": {"ResourceBlocks": [block]}});
    assert_eq!(world.send("POST", "/redfish/v1/Systems", &body).await.status, 201);
    let work = described(&world, "/redfish/v1/Systems/it".to_owned());
    let (written, ()) = while_its_status_changes::<Composition, _>(&world, "it", message, work).await;
    assert!(written > 0, "no status was written meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_those_who_join_a_zone_at_once_each_is_in_it_or_was_told_to_look_again() {
    let world = World::start().await;
    let body = json!({"Id": "it", "Links": {"Endpoints": [endpoint("e1")]}});
    assert_eq!(world.send("POST", &format!("{FABRIC}/Zones"), &body).await.status, 201);
    let add = format!("{FABRIC}/Zones/it/Actions/Zone.AddEndpoint");
    let joining: Vec<Value> =
        (2..=5).map(|number| json!({"Endpoint": endpoint(&format!("e{number}"))})).collect();
    let answers = join_all(joining.iter().map(|body| world.send("POST", &add, body))).await;
    let mut inside = vec![endpoint("e1").to_string()];
    for (body, answer) in joining.iter().zip(&answers) {
        match answer.told().as_slice() {
            [told] if told == "Success" => inside.push(body["Endpoint"].to_string()),
            told => assert_eq!(told, ["PreconditionFailed"], "{:?}", answer.body),
        }
    }
    assert!(inside.len() > 1, "nobody was the first");
    let members = world.get(&format!("{FABRIC}/Zones/it")).await.body["Links"]["Endpoints"].clone();
    let mut members: Vec<String> = members.as_array().unwrap().iter().map(ToString::to_string).collect();
    members.sort();
    assert_eq!(members, inside);
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
