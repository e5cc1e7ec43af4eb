//! Controllers of the cluster manager are connected to, over real gRPC, and hear of clusters.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use drystone_appcontext::{ClusterName, contract::ControllerError};
use drystone_emco_grpc::{
    Admission, Admitted, Options, Pool, Services,
    notices::{ClusterEvent, ClusterEvents},
};
use drystone_emco_rest::listeners::{self, ListenersConfig};
use http::request::Parts;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::world::World;

struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admits(&self, _: &Parts) -> Admitted {
        Admitted::Yes
    }
}

/// A controller that notes what it hears, and refuses to hear the first time.
#[derive(Default)]
struct Listener(Mutex<(bool, Vec<String>)>);

impl Listener {
    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap().1.clone()
    }
}

#[async_trait]
impl ClusterEvents for Listener {
    async fn cluster_event(&self, cluster: &ClusterName, event: ClusterEvent) -> Result<(), ControllerError> {
        let mut state = self.0.lock().unwrap();
        if !std::mem::replace(&mut state.0, true) {
            return Err(ControllerError::Refused("not yet".to_owned()));
        }
        state.1.push(format!("{cluster} {event:?}"));
        Ok(())
    }
}

/// A server on a port of 127.0.0.1.
async fn serve(listener: &Arc<Listener>) -> (u16, tokio::task::JoinHandle<()>) {
    let router: Router = Services::new(Arc::new(Everybody)).cluster_events(listener.clone()).router();
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    (port, tokio::spawn(async move { axum::serve(socket, router).await.unwrap() }))
}

fn start(world: &World) -> (Pool, CancellationToken) {
    let options = Options { check_every: std::time::Duration::from_millis(200), ..Options::default() };
    let pool = Pool::new(options);
    let stop = world.stop.child_token();
    let config = ListenersConfig { pool: pool.clone(), authority_pem: String::new(), identity_pem: None };
    let (client, caches, stopped) = (world.client.clone(), world.caches.clone(), stop.clone());
    tokio::spawn(async move { listeners::run(client, &caches, config, stopped).await });
    (pool, stop)
}

/// Waits until the resource of a controller says how it is connected.
async fn connected(world: &World, path: &str, state: &str) {
    use drystone_api::{SYSTEM_NAMESPACE, emco};
    let api: kube::Api<emco::ClmController> = kube::Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let name = emco::object_name(path);
    world
        .eventually(&format!("{path} is {state}"), async || {
            let status = api.get(&name).await.unwrap().status.unwrap_or_default();
            (format!("{:?}", status.connection) == state).then_some(())
        })
        .await;
}

/// Gives the controller `c1` another port, again and again if its status is written at the same moment.
async fn move_to(world: &World, port: u16) {
    let body = json!({"metadata": {"name": "c1"}, "spec": {"host": "127.0.0.1", "port": port}});
    world
        .eventually("it is moved", async || {
            let answer = world.send("PUT", "clm-controllers/c1", &body).await;
            assert!(matches!(answer.status.as_u16(), 200 | 409), "{}", answer.text());
            (answer.status == 200).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_follow_the_resources() {
    let world = World::start().await;
    let (pool, _stop) = start(&world);
    let listener = Arc::new(Listener::default());
    let (port, serving) = serve(&listener).await;
    world.make("clm-controllers", "c1", json!({"host": "127.0.0.1", "port": port})).await;
    world.make("clm-controllers", "bad", json!({"host": "127.0.0.1", "port": 0})).await;
    connected(&world, "clm-controllers/c1", "Connected").await;
    connected(&world, "clm-controllers/bad", "Failing").await;
    assert_eq!(pool.names(), ["clm-controllers/c1"], "nothing can be at port 0");
    serving.abort();
    // Its connection breaks with the task; whoever connects again finds nobody.
    move_to(&world, 1).await;
    connected(&world, "clm-controllers/c1", "Failing").await;
    let (port, _serving) = serve(&listener).await;
    move_to(&world, port).await;
    connected(&world, "clm-controllers/c1", "Connected").await;
    // Nothing is at its new place, and nobody speaks to the old one any more.
    move_to(&world, 0).await;
    connected(&world, "clm-controllers/c1", "Failing").await;
    assert_eq!(pool.names(), Vec::<String>::new());
    move_to(&world, port).await;
    connected(&world, "clm-controllers/c1", "Connected").await;
    assert_eq!(world.send("DELETE", "clm-controllers/c1", &Value::Null).await.status, 204);
    world.eventually("it is forgotten", async || pool.names().is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cluster_is_heard_of_also_what_was_missed() {
    let world = World::start().await;
    let listener = Arc::new(Listener::default());
    let (port, _serving) = serve(&listener).await;
    world.cluster("c1").await;
    world.make("clm-controllers", "l1", json!({"host": "127.0.0.1", "port": port})).await;
    let (_pool, stop) = start(&world);
    connected(&world, "clm-controllers/l1", "Connected").await;
    let until = async |line: &str| {
        world
            .eventually(line, async || listener.heard().iter().any(|heard| heard == line).then_some(()))
            .await;
    };
    until("p+c1 Created").await;
    world.cluster("c2").await;
    until("p+c2 Created").await;
    let path = "cluster-providers/p/clusters/c1";
    let changed = json!({"metadata": {"name": "c1", "description": "d"}});
    assert_eq!(world.send("PUT", path, &changed).await.status, 201);
    until("p+c1 Updated").await;
    stop.cancel();
    assert_eq!(world.send("DELETE", path, &Value::Null).await.status, 204);
    let (_pool, _stop) = start(&world);
    until("p+c1 Deleted").await;
    let heard = listener.heard();
    assert_eq!(heard.iter().filter(|line| line.starts_with("p+c2")).count(), 1, "{heard:?}");
}
