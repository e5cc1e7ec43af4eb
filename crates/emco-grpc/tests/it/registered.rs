//! Controllers as objects: connections follow them, and they tell how the connections are.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{ClmController, Controller, ControllerConnection, ControllerStatus},
};
use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_appcontext::{ClusterName, ContextId, contract::PlacementController as _};
use drystone_emco_grpc::{
    Pool, Terms, follow,
    notices::{ClusterEvent, ClusterEvents as _},
};
use drystone_engine::harness::Caches;
use drystone_identity::UserInfo;
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, CustomResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    provider::Provider,
    server::{PATIENCE, patient, serve},
};

struct World {
    pool: Pool,
    controllers: Api<Controller>,
    clm_controllers: Api<ClmController>,
    stop: CancellationToken,
    _server: ApiServer,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn world() -> World {
    let store = EmbeddedStore::in_memory(Options::default()).unwrap();
    let server = ApiServer::new(Config::new(Profile::Management, Arc::new(store))).await.unwrap();
    let client = Client::new(server.service_as(UserInfo::new("system:admin", ["system:masters"])), "default");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in [Controller::crd(), ClmController::crd()] {
        definitions.create(&PostParams::default(), &definition).await.unwrap();
        let name = definition.metadata.name.unwrap();
        let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
    }
    let metadata = ObjectMeta { name: Some(SYSTEM_NAMESPACE.to_owned()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let (pool, stop) = (Pool::new(patient()), CancellationToken::new());
    let terms = Terms {
        authority_pem: String::new(),
        identity_pem: None,
        is_built_in: Arc::new(|name, host| name == "gac" && host == "gac"),
    };
    let (following, ours, end) = (client.clone(), pool.clone(), stop.clone());
    tokio::spawn(async move {
        let caches = Caches::new(following.clone(), end.clone());
        follow(following, &caches, ours, terms, end).await;
    });
    World {
        pool,
        controllers: Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
        clm_controllers: Api::namespaced(client, SYSTEM_NAMESPACE),
        stop,
        _server: server,
    }
}

impl World {
    async fn register(&self, name: &str, host: &str, port: u16, more: serde_json::Value) {
        let mut object = json!({
            "apiVersion": "emco.drystone.dev/v1alpha1", "kind": "Controller", "metadata": {"name": name},
            "spec": {"path": format!("controllers/{name}"), "host": host, "port": port, "type": "placement"},
        });
        object["spec"].as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let object = serde_json::from_value(object).unwrap();
        self.controllers.create(&PostParams::default(), &object).await.unwrap();
    }

    /// Waits until the status of a controller is so.
    async fn until(&self, name: &str, is_so: impl Fn(&ControllerStatus) -> bool) -> ControllerStatus {
        let begun = std::time::Instant::now();
        loop {
            let status = self.controllers.get(name).await.unwrap().status.unwrap_or_default();
            if is_so(&status) {
                return status;
            }
            assert!(begun.elapsed() < PATIENCE, "{name}: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn until_known(&self, names: &[&str]) {
        let begun = std::time::Instant::now();
        while self.pool.names() != names {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.pool.names());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_follow_registrations_and_statuses_the_connections() {
    let world = world().await;
    let (first, second) = (Provider::willing(), Provider::willing());
    let (old, new) = (serve(&first), serve(&second));
    world.register("hpa", "127.0.0.1", old.port, json!({})).await;
    let status = world.until("hpa", |status| status.connection == ControllerConnection::Connected).await;
    assert!(status.since.is_some() && status.message.is_empty() && status.observed_generation == Some(1));
    world.pool.controller("hpa").filter_clusters(ContextId::new(1).unwrap()).await.unwrap();
    tokio::task::spawn_blocking(move || old.kill()).await.unwrap();
    world
        .until("hpa", |status| {
            status.connection == ControllerConnection::Failing && status.message.contains("refused")
        })
        .await;
    let patch = Patch::Merge(json!({"spec": {"port": new.port}}));
    world.controllers.patch("hpa", &PatchParams::default(), &patch).await.unwrap();
    let status = world.until("hpa", |status| status.connection == ControllerConnection::Connected).await;
    assert_eq!(status.observed_generation, Some(2));
    world.pool.controller("hpa").filter_clusters(ContextId::new(2).unwrap()).await.unwrap();
    assert_eq!((first.asked(), second.asked()), (vec!["filter 1".to_owned()], vec!["filter 2".to_owned()]));
    world.controllers.delete("hpa", &DeleteParams::default()).await.unwrap();
    world.until_known(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn some_are_not_spoken_to() {
    let world = world().await;
    world.register("gac", "gac", 9033, json!({})).await;
    world.register("silent", "127.0.0.1", 0, json!({})).await;
    world.register("lost", "no host", 9031, json!({})).await;
    world.register("wrong", "127.0.0.1", 9031, json!({"tls": true, "certificateAuthority": "none"})).await;
    world.until("gac", |status| status.connection == ControllerConnection::BuiltIn).await;
    world.until("silent", |status| status.message.contains("it has no port")).await;
    world
        .until("lost", |status| {
            status.connection == ControllerConnection::Failing && status.message.contains("no address")
        })
        .await;
    world.until("wrong", |status| status.connection == ControllerConnection::Failing).await;
    let known = world.pool.names();
    assert!(known.iter().all(|name| name == "wrong"), "{known:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controllers_of_the_cluster_manager_have_names_of_their_own() {
    let world = world().await;
    let (placing, hearing) = (Provider::willing(), Provider::willing());
    let (placer, hearer) = (serve(&placing), serve(&hearing));
    world.register("one", "127.0.0.1", placer.port, json!({})).await;
    let object = json!({
        "apiVersion": "emco.drystone.dev/v1alpha1", "kind": "ClmController", "metadata": {"name": "one"},
        "spec": {"path": "clm-controllers/one", "host": "127.0.0.1", "port": hearer.port},
    });
    let object = serde_json::from_value(object).unwrap();
    world.clm_controllers.create(&PostParams::default(), &object).await.unwrap();
    world.until_known(&["clm-controllers/one", "one"]).await;
    let cluster = ClusterName::new("p", "c");
    world
        .pool
        .controller("clm-controllers/one")
        .cluster_event(&cluster, ClusterEvent::Created)
        .await
        .unwrap();
    assert_eq!((placing.asked(), hearing.asked()), (vec![], vec!["cluster p+c Created".to_owned()]));
}
