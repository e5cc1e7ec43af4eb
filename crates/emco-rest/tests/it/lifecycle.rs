//! What is done with documents is carried out by controllers, and clients hear what came of it.

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{LifecycleAction, LifecycleOperation, LifecycleOperationStatus, LifecyclePhase},
};
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::World;

impl World {
    fn operations(&self) -> Api<LifecycleOperation> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    /// The operation that nobody has carried out yet.
    async fn pending(&self) -> LifecycleOperation {
        self.eventually("an operation is made", async || {
            let all = self.operations().list(&ListParams::default()).await.unwrap();
            let is_open =
                |one: &LifecycleOperation| one.status.as_ref().is_none_or(|status| !status.phase.is_final());
            all.items.into_iter().find(is_open)
        })
        .await
    }

    async fn finish(&self, name: &str, status: LifecycleOperationStatus) {
        let patch = Patch::Merge(json!({"status": status}));
        self.operations().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

fn done() -> LifecycleOperationStatus {
    LifecycleOperationStatus {
        phase: LifecyclePhase::Succeeded,
        code: Some(202),
        ..LifecycleOperationStatus::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_are_awaited() {
    let world = World::start().await;
    let group = world.group().await;
    world.cluster("c1").await;
    let cloud = "projects/p1/logical-clouds/lc1";
    let cluster = "cluster-providers/p/clusters/c1";
    for (path, action, status) in [
        (format!("{group}/approve"), LifecycleAction::Approve, 202),
        (format!("{group}/instantiate"), LifecycleAction::Instantiate, 202),
        (format!("{group}/terminate"), LifecycleAction::Terminate, 202),
        (format!("{group}/stop"), LifecycleAction::Stop, 202),
        (format!("{cloud}/instantiate"), LifecycleAction::Instantiate, 202),
        (format!("{cloud}/terminate"), LifecycleAction::Terminate, 202),
        (format!("{cloud}/stop"), LifecycleAction::Stop, 200),
        (format!("{cluster}/apply"), LifecycleAction::ApplyNetworks, 204),
        (format!("{cluster}/terminate"), LifecycleAction::TerminateNetworks, 204),
        (format!("{cluster}/stop"), LifecycleAction::StopNetworks, 204),
    ] {
        let body = json!({"metadata": {"name": ""}});
        let (answer, ()) = tokio::join!(world.send("POST", &path, &body), async {
            let operation = world.pending().await;
            assert_eq!(operation.spec.action, action);
            assert_eq!(operation.spec.path, path.rsplit_once('/').unwrap().0);
            world.finish(&operation.name_any(), done()).await;
        });
        assert_eq!((answer.status.as_u16(), answer.bytes.len()), (status, 0), "{path}: {}", answer.text());
    }
    let update = format!("{group}/update");
    let (answer, ()) = tokio::join!(world.send("POST", &update, &Value::Null), async {
        let operation = world.pending().await;
        world.finish(&operation.name_any(), LifecycleOperationStatus { revision: Some(2), ..done() }).await;
    });
    assert_eq!((answer.status.as_u16(), &answer.body), (202, &json!(2)));
    let rollback = json!({"metadata": {"name": ""}, "spec": {"revision": "1"}});
    let path = format!("{group}/rollback");
    let (answer, ()) = tokio::join!(world.send("POST", &path, &rollback), async {
        let operation = world.pending().await;
        assert_eq!(operation.spec.parameters.revision, Some(1));
        let failed = LifecycleOperationStatus {
            phase: LifecyclePhase::Failed,
            code: Some(409),
            message: "the DeploymentIntentGroup is Created".to_owned(),
            ..LifecycleOperationStatus::default()
        };
        world.finish(&operation.name_any(), failed).await;
    });
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (409, "the DeploymentIntentGroup is Created\n")
    );
    let missing = world.send("POST", &format!("{group}x/approve"), &Value::Null).await;
    assert_eq!(missing.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_at_a_time_and_it_goes_on_without_its_client() {
    let world = World::start().await;
    let group = world.group().await;
    let path = format!("/v2/{group}/instantiate");
    let emco = world.emco.clone();
    let client = tokio::spawn(async move {
        let request = http::Request::post(path)
            .header("Authorization", crate::world::BASIC.split_once(": ").unwrap().1);
        emco.answer(request.body(axum::body::Body::empty()).unwrap()).await.status()
    });
    let operation = world.pending().await;
    let second = world.send("POST", &format!("{group}/terminate"), &Value::Null).await;
    assert_eq!(second.status, 409);
    assert!(second.text().contains(&operation.name_any()), "{}", second.text());
    client.abort();
    assert!(world.operations().get_opt(&operation.name_any()).await.unwrap().is_some());
    world.operations().delete(&operation.name_any(), &kube::api::DeleteParams::default()).await.unwrap();
    // One that is deleted before its end is told.
    let approve = format!("{group}/approve");
    world
        .eventually("the next one may begin", async || {
            let deleting = async {
                loop {
                    let all = world.operations().list(&ListParams::default()).await.unwrap();
                    for one in all.items {
                        let parameters = kube::api::DeleteParams::default();
                        let _ = world.operations().delete(&one.name_any(), &parameters).await;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            };
            let answer = tokio::select! {
                answer = world.send("POST", &approve, &Value::Null) => answer,
                () = deleting => unreachable!("it goes on until there is an answer"),
            };
            assert_eq!(answer.status, 409);
            answer.text().contains("was deleted before its end").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_is_asked_for() {
    let world = World::start().await;
    let group = world.group().await;
    let status = world.get(&format!("{group}/status")).await;
    assert_eq!(status.status, 200);
    assert_eq!(status.body["compositeProfile"], "cp1");
    assert_eq!(status.body["states"]["actions"][0]["state"], "Created");
    assert!(status.body.get("asked").is_none(), "nothing was deployed");
    let lists = world.get(&format!("{group}/status?apps")).await.body;
    assert_eq!((&lists["apps"], lists.get("states")), (&json!([]), None));
    assert_eq!(world.get(&format!("{group}/status?instance=5")).await.status, 404);
    assert_eq!(world.get(&format!("{group}/status?status=x")).await.status, 400);
    assert_eq!(world.get("projects/p1/logical-clouds/lc1/status").await.body["name"], "lc1");
    world.cluster("c1").await;
    assert_eq!(world.get("cluster-providers/p/clusters/c1/status").await.body["name"], "p+c1");
    assert_eq!(world.get("cluster-providers/p/clusters/c9/status").await.status, 404);
}
