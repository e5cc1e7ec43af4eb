//! What is shown: links lead somewhere, views are made, power follows.

use drystone_redfish::tree::Item;
use serde_json::{Value, json};

use crate::world::World;

/// The links of a body.
fn links(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let (1, Some(Value::String(uri))) = (map.len(), map.get("@odata.id")) {
                found.push(uri.clone());
            }
            map.values().for_each(|value| links(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| links(value, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_link_leads_somewhere() {
    let world = World::start().await;
    let mut to_see = vec!["/redfish/v1".to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(uri) = to_see.pop() {
        if !seen.insert(uri.clone()) {
            continue;
        }
        let answer = world.get(&uri).await;
        assert_eq!(answer.status, 200, "{uri}");
        links(&answer.body, &mut to_see);
        if let Some(file) = answer.body.pointer("/Location/0/Uri").and_then(Value::as_str) {
            to_see.push(file.to_owned());
        }
    }
    for uri in world.service.tree().uris() {
        assert!(seen.contains(&*uri), "nothing leads to {uri}");
    }
    assert!(seen.len() > 100, "{}", seen.len());
    for document in ["/redfish/v1/odata", "/redfish"] {
        assert_eq!(world.ask("GET", document, &[], b"").await.status, 200);
    }
    let metadata = world.ask("GET", "/redfish/v1/$metadata", &["Accept: application/xml"], b"").await;
    assert!(metadata.body.as_str().unwrap().contains("Zone.v1_6_3"));
    let openapi = world.ask("GET", "/redfish/v1/openapi.yaml", &["Accept: application/yaml"], b"").await;
    assert!(openapi.body.as_str().unwrap().contains("'/redfish/v1/Fabrics/{fabric}/Zones':"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_a_long_collection_lead_to_each_other() {
    let world = World::start().await;
    let room = "/redfish/v1/Fabrics/L/Endpoints";
    let count = 2 * drystone_redfish::tree::PAGE + 7;
    let endpoint = |number: usize| {
        Item::Resource(
            json!({"@odata.id": format!("{room}/e{number:05}"), "@odata.type": "#Endpoint.v1_8_2.Endpoint",
            "Id": format!("e{number:05}"), "Name": format!("Endpoint {number}")}),
        )
    };
    world
        .service
        .tree()
        .replace("long", (0..count).map(endpoint).chain([Item::collection(room, "Endpoint")]));
    let (mut next, mut seen) = (Some(format!("{room}?$skip=1")), Vec::new());
    let etag = world.get(room).await.body["@odata.etag"].clone();
    while let Some(uri) = next {
        let page = world.get(&uri).await.body;
        assert_eq!((&page["Members@odata.count"], &page["@odata.etag"]), (&json!(count), &etag));
        let members = page["Members"].as_array().unwrap();
        seen.extend(members.iter().map(|member| member["@odata.id"].as_str().unwrap().to_owned()));
        next = page["Members@odata.nextLink"].as_str().map(str::to_owned);
    }
    let all: Vec<String> = (1..count).map(|number| format!("{room}/e{number:05}")).collect();
    assert_eq!(seen, all);
    let expanded = world.get(&format!("{room}?$skip={}&$top=9&$expand=.&$select=Name", count - 2)).await.body;
    let names: Vec<_> =
        expanded["Members"].as_array().unwrap().iter().map(|member| member["Name"].clone()).collect();
    assert_eq!(names, [json!(format!("Endpoint {}", count - 2)), json!(format!("Endpoint {}", count - 1))]);
    assert_eq!(world.get(&format!("{room}?$top=0")).await.body["Members"], json!([]));
    assert_eq!(world.get(&format!("{room}?only")).await.body["Members@odata.count"], count);
    assert_eq!(world.get(&format!("{room}/e00001?$top=1")).await.status, 400);
    let fabrics = world.get("/redfish/v1/Fabrics?only").await.body;
    assert_eq!(fabrics["@odata.type"], "#Fabric.v1_4_0.Fabric", "the only one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn views_are_made_of_the_tree() {
    let world = World::start().await;
    let systems = "/redfish/v1/Systems";
    let filtered = world.get(&format!("{systems}?$filter=MemorySummary/TotalSystemMemoryGiB%20ge%2064%20and%20Name%20ne%20'h1'&$top=2&$expand=.&$select=Name")).await;
    assert_eq!(filtered.status, 200, "{:?}", filtered.body);
    assert_eq!(filtered.body["Members@odata.count"], 5);
    let names: Vec<&Value> =
        filtered.body["Members"].as_array().unwrap().iter().map(|member| &member["Name"]).collect();
    assert_eq!(names, [&json!("h2"), &json!("h3")]);
    let deep = world.get("/redfish/v1/Fabrics?$expand=*($levels=2)").await.body;
    assert_eq!(deep["Members"][0]["Endpoints"]["Members@odata.count"], 7);
    let first = world.get(systems).await;
    let condition = format!("If-None-Match: {}", first.headers["etag"].to_str().unwrap());
    assert_eq!(world.send_with("GET", systems, &[&condition], &Value::Null).await.status, 304);
    let head = world.send("HEAD", systems, &Value::Null).await;
    assert_eq!((head.status.as_u16(), head.headers["etag"].clone()), (200, first.headers["etag"].clone()));
    let only = world.get("/redfish/v1/Fabrics?only").await.body;
    assert_eq!(only["Id"], "F");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systems_are_switched_by_what_their_hosts_should_be() {
    let world = World::start().await;
    let system = "/redfish/v1/Systems/h1";
    let reset = format!("{system}/Actions/ComputerSystem.Reset");
    for (kind, state) in [("On", "On"), ("ForceRestart", "On"), ("GracefulShutdown", "Off")] {
        let answer = world.send("POST", &reset, &json!({"ResetType": kind})).await;
        assert_eq!((answer.status.as_u16(), answer.told()), (200, vec!["Success".to_owned()]), "{kind}");
        assert_eq!(world.get(system).await.body["PowerState"], state, "{kind}");
    }
    assert_eq!(world.send("POST", &reset, &json!({"ResetType": "ForceOff"})).await.told(), ["NoOperation"]);
    assert_eq!(
        world.send("POST", &reset, &json!({"ResetType": "Nmi"})).await.told(),
        ["ActionParameterValueNotInList #/ResetType"]
    );
    assert_eq!(world.send("POST", &reset, &json!({})).await.told(), ["ActionParameterMissing #/ResetType"]);
    let unknown = world
        .send("POST", "/redfish/v1/Systems/x/Actions/ComputerSystem.Reset", &json!({"ResetType": "On"}))
        .await;
    assert_eq!(unknown.status, 404);
}
