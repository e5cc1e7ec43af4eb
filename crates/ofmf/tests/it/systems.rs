//! Systems that are composed of named blocks, changed, reset and decomposed.

use drystone_api::{BareMetalHost, Composition, SYSTEM_NAMESPACE};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::World;

const SYSTEMS: &str = "/redfish/v1/Systems";

fn block(host: &str) -> Value {
    json!({"@odata.id": format!("/redfish/v1/CompositionService/ResourceBlocks/{host}")})
}

fn of(id: &str, hosts: &[&str]) -> Value {
    let blocks: Vec<Value> = hosts.iter().map(|host| block(host)).collect();
    json!({"Id": id, "Name": "Training", "Links": {"ResourceBlocks": blocks}})
}

async fn compositions(world: &World) -> usize {
    let api: Api<Composition> = Api::all(world.client.clone());
    api.list(&ListParams::default()).await.unwrap().items.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn named_blocks_become_a_system_that_grows_shrinks_and_is_decomposed() {
    let world = World::start().await;
    let created = world.send("POST", SYSTEMS, &of("pair", &["h1", "h2"])).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    let uri = format!("{SYSTEMS}/pair");
    assert_eq!(created.headers["location"], uri.as_str());
    assert_eq!(
        (&created.body["SystemType"], &created.body["Name"]),
        (&json!("Composed"), &json!("Training"))
    );
    assert_eq!(created.body["Links"]["ResourceBlocks"], json!([block("h1"), block("h2")]));
    assert_eq!(created.body["ProcessorSummary"]["CoreCount"], 32);
    assert_eq!(created.body["MemorySummary"]["TotalSystemMemoryGiB"], 128.0);
    let shown = world.get(block("h1")["@odata.id"].as_str().unwrap()).await.body;
    assert_eq!(shown["Links"]["ComputerSystems"], json!([{"@odata.id": uri}]));
    assert_eq!(world.get(SYSTEMS).await.body["Members@odata.count"], 7);

    let (add, remove) = (
        format!("{uri}/Actions/ComputerSystem.AddResourceBlock"),
        format!("{uri}/Actions/ComputerSystem.RemoveResourceBlock"),
    );
    let stale = json!({"ResourceBlock": block("h3"), "ComputerSystemETag": "\"x\""});
    assert_eq!(world.send("POST", &add, &stale).await.status, 428);
    let tag = world.get(&uri).await.body["@odata.etag"].clone();
    let fresh = json!({"ResourceBlock": block("h3"), "ComputerSystemETag": tag});
    assert_eq!(world.send("POST", &add, &fresh).await.told(), ["Success"]);
    assert_eq!(
        world.send("POST", &add, &json!({"ResourceBlock": block("h3")})).await.told(),
        ["NoOperation"]
    );
    assert_eq!(world.send("POST", &remove, &json!({"ResourceBlock": block("h1")})).await.status, 200);
    let blocks = world.get(&uri).await.body["Links"]["ResourceBlocks"].clone();
    assert_eq!(blocks, json!([block("h2"), block("h3")]));
    let patched =
        world.send("PATCH", &uri, &json!({"Links": {"ResourceBlocks": [{}, null, block("h4")]}})).await;
    assert_eq!(patched.status, 200, "{:?}", patched.body);
    assert_eq!(patched.body["Links"]["ResourceBlocks"], json!([block("h2"), block("h4")]));

    let reset = format!("{uri}/Actions/ComputerSystem.Reset");
    assert_eq!(world.send("POST", &reset, &json!({"ResetType": "On"})).await.status, 200);
    world
        .eventually("the system is on", async || {
            (world.get(&uri).await.body["PowerState"] == "On").then_some(())
        })
        .await;
    let hosts: Api<BareMetalHost> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    for (name, on) in [("h2", true), ("h4", true), ("h1", false)] {
        assert_eq!(hosts.get(name).await.unwrap().spec.online, on, "{name}");
    }
    assert_eq!(world.send("DELETE", &uri, &Value::Null).await.status, 204);
    assert_eq!(world.get(&uri).await.status, 404);
    assert_eq!(compositions(&world).await, 0);
    assert_eq!(world.send("DELETE", &format!("{SYSTEMS}/h1"), &Value::Null).await.status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_cannot_be_had_are_told_and_nothing_is_left() {
    let world = World::start().await;
    assert_eq!(world.send("POST", SYSTEMS, &of("first", &["h1"])).await.status, 201);
    let hosts: Api<BareMetalHost> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let holder =
        json!({"spec": {"consumerRef": {"kind": "Cluster", "namespace": "research", "name": "mlops"}}});
    hosts.patch("h2", &PatchParams::default(), &Patch::Merge(&holder)).await.unwrap();
    world
        .eventually("both are known to be taken", async || {
            let answer = world.send("POST", SYSTEMS, &of("second", &["h1", "h2"])).await;
            (answer.status == 409 && answer.told() == ["ResourceBlockInUse"; 2]).then_some(())
        })
        .await;
    let cases: Vec<(Value, u16, &[&str])> = vec![
        (of("x", &["h1"]), 409, &["ResourceBlockInUse"]),
        (of("x", &["nothing"]), 400, &["ResourceMissingAtURI #/Links/ResourceBlocks/0"]),
        (of("x", &["h3", "h3"]), 400, &["PropertyValueConflict #/Links/ResourceBlocks/1"]),
        (
            json!({"Links": {"ResourceBlocks": [{"@odata.id": "/redfish/v1/Systems/h3"}]}}),
            400,
            &["PropertyValueNotInList #/Links/ResourceBlocks/0"],
        ),
        (json!({"Name": "x"}), 400, &["CreateFailedMissingReqProperties #/Links/ResourceBlocks"]),
        (of("h3", &["h3"]), 409, &["ResourceAlreadyExists #/Id"]),
        (of("first", &["h3"]), 409, &["ResourceAlreadyExists #/Id"]),
        (
            json!({"Links": {"ResourceBlocks": [block("h3")]}, "Colour": 1}),
            400,
            &["PropertyUnknown #/Colour"],
        ),
        (
            json!({"Processors": {"Members": [{"@Redfish.RequestedCount": 5, "ProcessorType": "CPU", "TotalCores": 20}]}}),
            409,
            &["NoResourceMatch", "OperationFailed"],
        ),
    ];
    for (body, status, told) in cases {
        let answer = world.send("POST", SYSTEMS, &body).await;
        let wanted: Vec<String> = told.iter().map(|told| (*told).to_owned()).collect();
        assert_eq!((answer.status.as_u16(), answer.told()), (status, wanted), "{body}");
        assert_eq!(compositions(&world).await, 1, "{body}");
    }
    let add = format!("{SYSTEMS}/first/Actions/ComputerSystem.AddResourceBlock");
    let taken = world.send("POST", &add, &json!({"ResourceBlock": block("h2")})).await;
    assert_eq!((taken.status.as_u16(), taken.told()), (409, vec!["ResourceBlockInUse".to_owned()]));
    let remove = format!("{SYSTEMS}/first/Actions/ComputerSystem.RemoveResourceBlock");
    let last = world.send("POST", &remove, &json!({"ResourceBlock": block("h1")})).await;
    assert_eq!((last.status.as_u16(), last.told()), (409, vec!["ResourceInUse".to_owned()]));
    let physical = format!("{SYSTEMS}/h1/Actions/ComputerSystem.AddResourceBlock");
    let refused = world.send("POST", &physical, &json!({"ResourceBlock": block("h3")})).await;
    assert_eq!((refused.status.as_u16(), refused.told()), (400, vec!["ActionNotSupported".to_owned()]));
    let blocks = world.get(&format!("{SYSTEMS}/first")).await.body["Links"]["ResourceBlocks"].clone();
    assert_eq!(blocks, json!([block("h1")]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_be_composed_is_said_where_it_is_composed() {
    let world = World::start().await;
    for place in [SYSTEMS, "/redfish/v1/CompositionService/ResourceZones/site"] {
        let body = world.get(place).await.body;
        let list = body["@Redfish.CollectionCapabilities"]["Capabilities"].as_array().unwrap().clone();
        assert_eq!(list.len(), 2, "{place}");
        for capability in list {
            let object = world.get(capability["CapabilitiesObject"]["@odata.id"].as_str().unwrap()).await;
            assert_eq!(object.status, 200);
            assert_eq!(capability["Links"]["TargetCollection"]["@odata.id"], SYSTEMS);
        }
    }
    let described =
        json!({"Id": "any", "Processors": {"Members": [{"ProcessorType": "CPU", "TotalCores": 8}]}});
    let created = world.send("POST", SYSTEMS, &described).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    assert_eq!(created.body["Links"]["ResourceBlocks"].as_array().unwrap().len(), 1);
}
