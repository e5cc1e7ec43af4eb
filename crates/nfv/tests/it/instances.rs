//! VNF instances: made, read, modified, deleted, in both versions.

use serde_json::{Value, json};

use crate::{
    controllers::VNFD,
    world::{BASIC, World},
};

const ROOT: &str = "/vnflcm/v2/vnf_instances";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_lives_from_its_creation_to_its_deletion() {
    let world = World::start().await;
    let missing = world.send("POST", ROOT, &json!({"vnfdId": VNFD})).await;
    assert_eq!(missing.status, 422, "{missing:?}");
    assert_eq!(world.send("POST", "/vnflcm/v1/vnf_instances", &json!({"vnfdId": VNFD})).await.status, 404);
    world.package(b"PK the package").await;
    let body = json!({"vnfdId": VNFD, "vnfInstanceName": "core", "metadata": {"owner": "me"}, "unknown": 1});
    let made = world.send("POST", ROOT, &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    let path = format!("{ROOT}/{id}");
    assert_eq!(made.header("location"), format!("http://drystone:6443{path}"));
    assert_eq!(made.body["_links"]["self"]["href"], format!("http://drystone:6443{path}"));
    assert_eq!(made.body["_links"]["instantiate"]["href"], format!("http://drystone:6443{path}/instantiate"));
    assert_eq!(made.body["instantiationState"], "NOT_INSTANTIATED");
    assert_eq!(made.body["vnfProductName"], "Sample");
    assert_eq!(made.body["metadata"]["owner"], "me");
    assert_eq!(world.get(&path).await.body, made.body);
    // In the wrong state.
    for task in ["terminate", "heal", "scale"] {
        let body = match task {
            "terminate" => json!({"terminationType": "FORCEFUL"}),
            "scale" => json!({"type": "SCALE_OUT", "aspectId": "worker"}),
            _ => json!({}),
        };
        let refused = world.send("POST", &format!("{path}/{task}"), &body).await;
        assert_eq!(refused.status, 409, "{task}: {refused:?}");
    }
    let begun = world.send("POST", &format!("{path}/instantiate"), &json!({"flavourId": "simple"})).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    assert!(begun.bytes.is_empty());
    let occurrence = begun.header("location").strip_prefix("http://drystone:6443").unwrap().to_owned();
    world.until_state(&occurrence, "COMPLETED").await;
    let now = world.get(&path).await.body;
    assert_eq!(now["instantiationState"], "INSTANTIATED");
    assert_eq!(now["instantiatedVnfInfo"]["vnfcInfo"][0]["id"], "VDU1-res-1");
    assert!(now["_links"]["changeCurrentVnfPkg"].is_object() && now["_links"]["instantiate"].is_null());
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 409);
    let occurrence = world.begin(&id, "terminate", &json!({"terminationType": "FORCEFUL"})).await;
    world.until_state(&occurrence, "COMPLETED").await;
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.get(&path).await.status, 404);
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 404);
    // What was done with it is still known.
    let told = world.get(&occurrence).await.body;
    assert_eq!(told["vnfInstanceId"], id);
    world
        .eventually("nothing holds the instance any more", async || {
            let all: kube::Api<drystone_api::nfv::VnfInstance> = kube::Api::all(world.client.clone());
            all.list(&kube::api::ListParams::default()).await.unwrap().items.is_empty().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn version_1_writes_lists_where_version_2_writes_maps() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let json_type = "Content-Type: application/json";
    let post =
        async |path: &str, body: Value| world.ask("POST", path, &[BASIC, json_type], body.to_string()).await;
    let made = post("/vnflcm/v1/vnf_instances", json!({"vnfdId": VNFD, "vnfInstanceName": "old"})).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert!(made.body["vnfPkgId"].is_string());
    let id = made.body["id"].as_str().unwrap();
    let path = format!("/vnflcm/v1/vnf_instances/{id}");
    let body = json!({"flavourId": "simple",
        "vimConnectionInfo": [{"id": "vim1", "vimId": "v", "vimType": "openstack", "accessInfo": {"username": "u", "password": "hidden"}}],
        "additionalParams": {"lcm-operation-user-data": "x"},
        "extVirtualLinks": [{"id": "l", "resourceId": "n", "extCps": [{"cpdId": "CP", "cpConfig": [{"linkPortId": "p"}]}]}]});
    let wrong =
        post(&format!("{path}/instantiate"), json!({"flavourId": "simple", "vimConnectionInfo": {}})).await;
    assert_eq!(wrong.status, 400, "{wrong:?}");
    let begun = post(&format!("{path}/instantiate"), body).await;
    assert_eq!(begun.status, 202, "{begun:?}");
    let occurrence = begun.header("location").strip_prefix("http://drystone:6443").unwrap().to_owned();
    assert!(occurrence.starts_with("/vnflcm/v1/vnf_lcm_op_occs/"));
    let told = world.until_state(&occurrence, "COMPLETED").await;
    let parameters: Value = serde_json::from_str(told["operationParams"].as_str().unwrap()).unwrap();
    assert_eq!(parameters["vimConnectionInfo"][0]["id"], "vim1");
    assert_eq!(parameters["extVirtualLinks"][0]["extCps"][0]["cpConfig"], json!([{"linkPortId": "p"}]));
    let new = world.get(&occurrence.replace("v1", "v2")).await.body;
    assert_eq!(new["operationParams"]["vimConnectionInfo"]["vim1"]["vimId"], "v");
    let shown = world.get(&path).await.body;
    assert_eq!(
        shown["vimConnectionInfo"],
        json!([{"id": "vim1", "vimId": "v", "vimType": "openstack", "accessInfo": {"username": "u"}}])
    );
    assert!(shown["instantiatedVnfInfo"]["vnfcInfo"].is_null());
    // Components are named differently when they are healed.
    let heal = json!({"vnfcInstanceId": ["VDU1-res-1"]});
    assert_eq!(post(&format!("{path}/heal"), heal.clone()).await.status, 400);
    let healed = post(&format!("{path}/heal"), json!({"vnfcInstanceId": ["res-1"]})).await;
    assert_eq!(healed.status, 202, "{healed:?}");
    let occurrence = healed.header("location").strip_prefix("http://drystone:6443").unwrap().to_owned();
    world.until_state(&occurrence, "COMPLETED").await;
    world.begin(id, "heal", &heal).await;
    assert_eq!(post(&format!("{path}/change_vnfpkg"), json!({})).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_with_its_place_and_changes_nothing() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let fresh = world.instance("fresh").await;
    let unknown = json!({"flavourId": "unknown"});
    let foreseen = world.send("POST", &format!("{ROOT}/{fresh}/instantiate"), &unknown).await;
    assert_eq!(
        (foreseen.status.as_u16(), foreseen.detail().starts_with("flavourId")),
        (400, true),
        "{foreseen:?}"
    );
    let id = world.instantiated("core").await;
    let path = format!("{ROOT}/{id}");
    for (task, body, status, place) in [
        ("scale", json!({"type": "SCALE_OUT", "aspectId": "master"}), 400, "aspectId"),
        (
            "scale",
            json!({"type": "SCALE_OUT", "aspectId": "worker", "numberOfSteps": 4}),
            400,
            "numberOfSteps",
        ),
        ("scale", json!({"type": "SCALE_IN", "aspectId": "worker"}), 400, "numberOfSteps"),
        ("scale_to_level", json!({}), 400, "instantiationLevelId"),
        ("heal", json!({"vnfcInstanceId": ["nobody"]}), 400, "vnfcInstanceId/0"),
        ("heal", json!({"additionalParams": {"all": "yes"}}), 400, "additionalParams/all"),
        ("change_ext_conn", json!({"extVirtualLinks": []}), 400, "extVirtualLinks"),
        (
            "change_vnfpkg",
            json!({"vnfdId": VNFD, "additionalParams": {}}),
            400,
            "additionalParams/upgrade_type",
        ),
        (
            "change_vnfpkg",
            json!({"vnfdId": "unknown", "additionalParams": {"upgrade_type": "RollingUpdate"}}),
            422,
            "vnfdId",
        ),
        ("operate", json!({"changeStateTo": "STOPPED"}), 404, "OPERATE"),
        ("change_flavour", json!({"newFlavourId": "x"}), 404, "CHANGE_FLAVOUR"),
        ("instantiate", json!({"flavourId": "simple"}), 409, "VNF instance"),
        ("terminate", json!({}), 400, "terminationType"),
    ] {
        let refused = world.send("POST", &format!("{path}/{task}"), &body).await;
        assert_eq!(refused.status, status, "{task} {body}: {refused:?}");
        assert!(refused.detail().contains(place), "{task} {body}: {refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
    }
    for body in [json!({"metadata": {"password": "x"}}), json!({"vnfInstanceName": 5}), json!({})] {
        assert_eq!(world.send("PATCH", &path, &body).await.status, 400, "{body}");
    }
    let all = world.get("/vnflcm/v2/vnf_lcm_op_occs").await.body;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");
    let changed = world.send("PATCH", &path, &json!({"vnfInstanceName": "new"})).await;
    assert_eq!(changed.status, 202, "{changed:?}");
    let wrong =
        world.ask("PATCH", &path, &[BASIC, "Version: 2.0.0", "Content-Type: application/json"], "{}").await;
    assert_eq!(wrong.status, 415);
}
