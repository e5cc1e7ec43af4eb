//! Aggregates of systems, resets of many, and the steps of tasks.

use drystone_api::{BareMetalHost, Operation, SYSTEM_NAMESPACE};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::World;

const AGGREGATES: &str = "/redfish/v1/AggregationService/Aggregates";

fn systems(hosts: &[&str]) -> Value {
    hosts.iter().map(|host| json!({"@odata.id": format!("/redfish/v1/Systems/{host}")})).collect()
}

async fn online(world: &World) -> Vec<String> {
    let hosts: Api<BareMetalHost> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let all = hosts.list(&kube::api::ListParams::default()).await.unwrap().items;
    all.into_iter().filter(|host| host.spec.online).filter_map(|host| host.metadata.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregate_is_changed_reset_and_survives_a_restart() {
    let mut world = World::start().await;
    let body = json!({"Id": "rack", "Name": "A rack", "Elements": systems(&["h1", "h2"])});
    let created = world.send("POST", AGGREGATES, &body).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    let uri = format!("{AGGREGATES}/rack");
    assert_eq!(created.headers["location"], uri.as_str());
    assert_eq!((&created.body["ElementsCount"], &created.body["Name"]), (&json!(2), &json!("A rack")));
    let action = |name: &str| format!("{uri}/Actions/Aggregate.{name}");
    let more = json!({"Elements": systems(&["h2", "h3"])});
    assert_eq!(world.send("POST", &action("AddElements"), &more).await.told(), ["Success"]);
    assert_eq!(world.send("POST", &action("AddElements"), &more).await.told(), ["NoOperation"]);
    let less = json!({"Elements": systems(&["h1"])});
    assert_eq!(world.send("POST", &action("RemoveElements"), &less).await.status, 200);
    assert_eq!(world.get(&uri).await.body["Elements"], systems(&["h2", "h3"]));

    let on = json!({"ResetType": "On", "BatchSize": 1, "DelayBetweenBatchesInSeconds": 0});
    assert_eq!(world.send("POST", &action("Reset"), &on).await.told(), ["Success"]);
    assert_eq!(online(&world).await, ["h2", "h3"]);
    assert_eq!(world.send("POST", &action("Reset"), &on).await.told(), ["NoOperation"]);

    world.restart();
    let shown = world
        .eventually("the aggregate is shown", async || {
            let answer = world.get(&uri).await;
            (answer.status == 200 && answer.body["ElementsCount"] == 2).then_some(answer.body)
        })
        .await;
    assert_eq!(shown["Elements"], systems(&["h2", "h3"]));
    assert_eq!(world.send("DELETE", &uri, &Value::Null).await.status, 204);
    assert_eq!(world.get(&uri).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_reset_of_many_is_told_before_any_is_reset() {
    let world = World::start().await;
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"Elements": systems(&["nothing"])}), &["ResourceMissingAtURI #/Elements/0"]),
        (
            json!({"Elements": [{"@odata.id": "/redfish/v1/Chassis/h1"}]}),
            &["PropertyValueNotInList #/Elements/0"],
        ),
        (json!({"Name": "x"}), &["CreateFailedMissingReqProperties #/Elements"]),
        (json!({"Elements": "x"}), &["PropertyValueTypeError #/Elements"]),
    ];
    for (body, told) in cases {
        let answer = world.send("POST", AGGREGATES, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.told()),
            (400, told.iter().map(|t| (*t).to_owned()).collect())
        );
    }
    assert_eq!(world.get(AGGREGATES).await.body["Members@odata.count"], 0);

    let reset = "/redfish/v1/AggregationService/Actions/AggregationService.Reset";
    let hosts: Api<BareMetalHost> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let holder =
        json!({"spec": {"consumerRef": {"kind": "Cluster", "namespace": "research", "name": "mlops"}}});
    hosts.patch("h2", &PatchParams::default(), &Patch::Merge(&holder)).await.unwrap();
    world
        .eventually("the lock is known", async || {
            // Carried out as long as the lock is not known: h2 may be on afterwards, and is not looked at.
            let body = json!({"ResetType": "ForceRestart", "TargetURIs": systems(&["h2"])});
            (world.send("POST", reset, &body).await.told() == ["ResourceInUse"]).then_some(())
        })
        .await;
    let cases: [(Value, u16, &str); 4] = [
        (json!({"ResetType": "On"}), 400, "ActionParameterMissing #/TargetURIs"),
        (
            json!({"ResetType": "Fly", "TargetURIs": systems(&["h1"])}),
            400,
            "ActionParameterValueNotInList #/ResetType",
        ),
        (
            json!({"ResetType": "On", "TargetURIs": systems(&["h1"]), "BatchSize": -1}),
            400,
            "ActionParameterValueOutOfRange #/BatchSize",
        ),
        (json!({"ResetType": "ForceRestart", "TargetURIs": systems(&["h1", "h2"])}), 409, "ResourceInUse"),
    ];
    for (body, status, told) in cases {
        let answer = world.send("POST", reset, &body).await;
        assert_eq!((answer.status.as_u16(), answer.told()), (status, vec![told.to_owned()]), "{body}");
        let others = online(&world).await.into_iter().filter(|name| name != "h2");
        assert_eq!(others.collect::<Vec<_>>(), [""; 0], "{body}");
    }
    let good = json!({"ResetType": "On", "TargetURIs": systems(&["h1", "h3"])});
    assert_eq!(world.send("POST", reset, &good).await.status, 200);
    let others = online(&world).await.into_iter().filter(|name| name != "h2");
    assert_eq!(others.collect::<Vec<_>>(), ["h1", "h3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_of_an_operation_are_tasks_below_its_task() {
    let world = World::start().await;
    let operations: Api<Operation> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let step = |id: &str| json!({"id": id, "action": "test", "title": id});
    let operation: Operation = serde_json::from_value(json!({
        "apiVersion": "drystone.dev/v1alpha1", "kind": "Operation", "metadata": {"name": "make-x"},
        "spec": {"title": "Make x", "subject": {"kind": "Cluster", "name": "x"}, "steps": [step("first"), step("a/b")]}}))
    .unwrap();
    operations.create(&PostParams::default(), &operation).await.unwrap();
    let journal = json!({"status": {"phase": "Running", "steps": [
        {"id": "first", "state": "Succeeded"}, {"id": "a/b", "state": "Retrying", "message": "the switch is away"}]}});
    operations.patch_status("make-x", &PatchParams::default(), &Patch::Merge(&journal)).await.unwrap();
    let below = world
        .eventually("the steps are shown", async || {
            let body = world.get("/redfish/v1/TaskService/Tasks/make-x").await.body;
            (body["TaskState"] == "Running").then(|| body["SubTasks"]["@odata.id"].clone())
        })
        .await;
    let list = world.get(&format!("{}?$expand=.", below.as_str().unwrap())).await.body["Members"].clone();
    let told: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (&task["Name"], &task["TaskState"], &task["TaskStatus"]))
        .collect();
    let is = |text: &str| json!(text);
    assert_eq!(
        told,
        [(&is("a/b"), &is("Running"), &is("Warning")), (&is("first"), &is("Completed"), &is("OK"))]
    );
    assert_eq!(list[0]["Messages"][0]["Message"], "the switch is away");
    assert_eq!(list[0]["@odata.id"], format!("{}/a~b", below.as_str().unwrap()));
}
