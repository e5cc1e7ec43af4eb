//! Occurrences: one at a time, retried, rolled back, given up, cancelled.

use drystone_api::{SYSTEM_NAMESPACE, nfv::VnfInstance};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_retried_rolled_back_or_given_up() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let flavour = json!({"flavourId": "simple"});
    for verdict in ["retry", "rollback", "fail"] {
        let id = world.instance("it fails").await;
        let path = format!("/vnflcm/v2/vnf_instances/{id}");
        let occurrence = world.begin(&id, "instantiate", &flavour).await;
        let failed = world.until_state(&occurrence, "FAILED_TEMP").await;
        assert_eq!(failed["error"]["detail"], "the stack failed");
        for link in ["retry", "rollback", "fail"] {
            assert_eq!(failed["_links"][link]["href"], format!("http://drystone:6443{occurrence}/{link}"));
        }
        assert!(failed["_links"]["cancel"].is_null());
        // The instance is held until something is said.
        let held = world.send("POST", &format!("{path}/instantiate"), &flavour).await;
        assert_eq!(held.status, 409, "{held:?}");
        assert_eq!(world.send("PATCH", &path, &json!({"vnfInstanceName": "x"})).await.status, 409);
        assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 409);
        let cancel =
            world.send("POST", &format!("{occurrence}/cancel"), &json!({"cancelMode": "GRACEFUL"})).await;
        assert_eq!(cancel.status, 409, "{cancel:?}");
        let said = world.send("POST", &format!("{occurrence}/{verdict}"), &Value::Null).await;
        let (status, state) = match verdict {
            "retry" => (202, "COMPLETED"),
            "rollback" => (202, "ROLLED_BACK"),
            _ => (200, "FAILED"),
        };
        assert_eq!(said.status, status, "{verdict}: {said:?}");
        if verdict == "fail" {
            assert_eq!(said.body["operationState"], "FAILED");
        }
        world.until_state(&occurrence, state).await;
        let again = world.send("POST", &format!("{occurrence}/{verdict}"), &Value::Null).await;
        assert_eq!(again.status, 409, "{again:?}");
        let now = world.get(&path).await.body["instantiationState"].clone();
        assert_eq!(now, if verdict == "retry" { "INSTANTIATED" } else { "NOT_INSTANTIATED" });
    }
    assert_eq!(world.send("POST", "/vnflcm/v2/vnf_lcm_op_occs/nobody/retry", &Value::Null).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_is_cancelled_in_both_versions() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    for (version, mode) in [("v1", "FORCEFUL"), ("v2", "GRACEFUL")] {
        let id = world.instance("slow").await;
        let occurrence = world.begin(&id, "instantiate", &json!({"flavourId": "simple"})).await;
        let occurrence = occurrence.replace("v2", version);
        let running = world.until_state(&occurrence, "PROCESSING").await;
        assert!(running["_links"]["cancel"].is_object());
        assert_eq!(running["isCancelPending"], false);
        let path = format!("{occurrence}/cancel");
        let wrong = world.send("POST", &path, &json!({"cancelMode": "NOW"})).await;
        assert_eq!(wrong.status, 400, "{wrong:?}");
        let said = world.send("POST", &path, &json!({"cancelMode": mode})).await;
        assert_eq!(said.status, 202, "{said:?}");
        assert_eq!(!said.header("location").is_empty(), version == "v1");
        world.until_state(&occurrence, "FAILED_TEMP").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_gone_holds_no_instance() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let instances: Api<VnfInstance> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let hold = async || {
        let mut held = instances.list(&ListParams::default()).await.unwrap().items.remove(0);
        held.status.get_or_insert_default().operation = Some("vnf-op-gone".to_owned());
        instances.replace_status(&held.name_any(), &PostParams::default(), &held).await.unwrap();
    };
    let id = world.instance("held").await;
    hold().await;
    let occurrence = world.begin(&id, "instantiate", &json!({"flavourId": "simple"})).await;
    world.until_state(&occurrence, "COMPLETED").await;
    let occurrence = world.begin(&id, "terminate", &json!({"terminationType": "FORCEFUL"})).await;
    world.until_state(&occurrence, "COMPLETED").await;
    hold().await;
    let path = format!("/vnflcm/v2/vnf_instances/{id}");
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_begin_at_once_one_does() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let id = world.instance("slow").await;
    let path = format!("/vnflcm/v2/vnf_instances/{id}/instantiate");
    let body = json!({"flavourId": "simple"});
    let all = futures::future::join_all((0..16).map(|_| world.send("POST", &path, &body))).await;
    let begun = all.iter().filter(|answer| answer.status == 202).count();
    assert_eq!(begun, 1, "{all:?}");
    assert!(all.iter().all(|answer| answer.status == 202 || answer.status == 409), "{all:?}");
    world
        .eventually("the others left nothing", async || {
            let left = world.get("/vnflcm/v2/vnf_lcm_op_occs").await.body;
            (left.as_array().unwrap().len() == 1).then_some(())
        })
        .await;
}
