//! "Register rsync via Controller API": an external synchroniser, and the one that is built in.

use drystone_appcontext::{
    AppContext, ClusterName, ContextId, ResourceName, ResourceStatus, model::NETWORK_APP,
};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    documents::{
        CLUSTERS, cloud_context, declare_app, declare_cloud, declare_group, declare_networks,
        define_networks, delete_cloud, delete_group, group,
    },
    recorder::{Listening, Notes, synchroniser},
    world::{World, context_of, until},
};
use crate::stage::has_helm;

const EDGE: &str = "cluster-providers/edge/clusters/c1";

fn edge() -> ClusterName {
    ClusterName::new("edge", "c1")
}

/// What the first call to rsync about a context found in etcd.
fn installed(notes: &Notes, context: ContextId) -> AppContext {
    let call = notes.call("rsync", context);
    assert_eq!(call.what, "InstallApp");
    call.found.expect("the AppContext is in etcd when rsync is called")
}

/// Has networks applied, and taken back in between, until that needed no new connection. Returns the context.
async fn apply_networks(world: &World, rsync: &Listening) -> ContextId {
    for _ in 0..20 {
        let before = rsync.connections();
        world.act(&format!("{EDGE}/apply"), 204).await;
        let status = world.status(EDGE, "status=deployed", "Instantiated").await;
        if rsync.connections() == before {
            return context_of(&status);
        }
        // A machine that stands still for seconds loses connections; not every time.
        world.act(&format!("{EDGE}/terminate"), 204).await;
        world.status(EDGE, "status=deployed", "Terminated").await;
    }
    panic!("every call of ncm makes a connection of its own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_rsync_is_registered_and_called() {
    if !has_helm() {
        return;
    }
    let Some(mut world) = World::start(CLUSTERS.len()).await else { return };
    let notes = Notes::default();
    let rsync = synchroniser("rsync", &world.contexts, &notes).await;
    assert_eq!(rsync.connections(), 0);

    // Admin -> Controller_API: POST rsync controller registration information (Name:"rsync", Host, Port)
    // Controller_API -> mongo: Save rsync controller record
    // Controller_API -> Admin: Return
    world.register("rsync", json!({"host": "127.0.0.1", "port": rsync.port})).await;
    // Controller_API -> GRPC_Server_info: add a GRPC connection to rsync server to internal table
    assert!(rsync.connections() > 0, "it is connected before anybody calls");
    assert!(notes.all().is_empty());

    // Some time later - ncm calls rsync to instantiate Network Intents
    world.onboard(&CLUSTERS).await;
    declare_networks(&world, EDGE).await;
    // scheduler_ncm -> GRPC_Conns_ncm: Retrieve gRPC connection to rsync from internal table
    // GRPC_Conns_ncm -> scheduler_ncm: return rsync connection
    let networks = apply_networks(&world, &rsync).await;
    // scheduler_ncm -> InstallAppAPI: GRPC InstallApp API call (AppContext identifier)
    assert_eq!(notes.about(networks)[0], "rsync InstallApp");
    // scheduler_ncm -> etcd: Prepares network intent resources in AppContext
    networks_are_prepared(&installed(&notes, networks));
    let status = world.status(EDGE, "status=deployed", "Instantiated").await;
    assert_eq!(status["deployedCounts"], json!({"Applied": 2}), "{status}");

    // GRPC_Conns_ncm -> mongo: if rsync connection not present retrieve rsync record and create connection
    let before = rsync.connections();
    world.restart();
    until("another connection, made from the record alone", async || {
        (rsync.connections() > before).then_some(())
    })
    .await;
    world.act(&format!("{EDGE}/terminate"), 204).await;
    world.status(EDGE, "status=deployed", "Terminated").await;
    assert_eq!(notes.about(networks).last().unwrap(), "rsync UninstallApp");

    application(&world, &rsync, &notes).await;
    // Nothing but this rsync was to carry anything.
    for cluster in world.simulation.clusters() {
        assert_eq!(cluster.objects(), [""; 0]);
    }
    for network in ["networks/blue", "provider-networks/outside"] {
        world.delete(&format!("{EDGE}/{network}")).await;
    }
    world.delete(EDGE).await;
    world.nothing_is_left().await;
    world.stop();
}

fn networks_are_prepared(context: &AppContext) {
    let part = context.part(NETWORK_APP, &edge()).expect("what goes to the cluster");
    let names = [ResourceName::new("blue", "Network"), ResourceName::new("outside", "ProviderNetwork")];
    assert_eq!(part.order, names);
    let manifest: Value = serde_saphyr::from_str(&part.resources[&names[0]].manifest).unwrap();
    assert_eq!(manifest["spec"]["ipv4Subnets"][0]["subnet"], "172.16.33.0/24");
    assert!(part.resources.values().all(|one| one.status != Some(ResourceStatus::Applied)));
}

/// Some time later - orchestrator calls rsync to instantiate an application.
async fn application(world: &World, rsync: &Listening, notes: &Notes) {
    declare_cloud(world).await;
    assert_eq!(notes.about(cloud_context(world).await), ["rsync InstallApp"]);
    declare_app(world).await;
    let own = group("first");
    declare_group(world, "first", &[]).await;
    let mut rounds = 0;
    let (context, status) = loop {
        let before = rsync.connections();
        world.act(&format!("{own}/instantiate"), 202).await;
        let status = world.status(&own, "status=deployed", "Instantiated").await;
        // scheduler -> GRPC_Server_info: Retrieve gRPC connection to rsync from internal table
        if rsync.connections() == before {
            break (context_of(&status), status);
        }
        rounds += 1;
        assert!(rounds < 20, "every call of the orchestrator makes a connection of its own");
        world.act(&format!("{own}/terminate"), 202).await;
        world.status(&own, "status=deployed", "Terminated").await;
    };
    // scheduler -> InstallAppAPI: GRPC InstallApp API call (AppContext identifier)
    assert_eq!(notes.about(context), ["rsync InstallApp"]);
    // scheduler -> etcd: Prepares composite application resources in AppContext
    let found = installed(notes, context);
    assert_eq!((found.meta.project.as_str(), found.meta.composite_app.as_str()), ("p1", "ca1"));
    let clusters = |app: &str| found.apps[app].clusters.len();
    assert_eq!((clusters("web"), clusters("db")), (2, 1), "one cluster of each group");
    for part in found.apps["web"].clusters.values() {
        assert!(part.resources.contains_key(&ResourceName::new("web", "Deployment")));
    }
    for part in found.apps["db"].clusters.values() {
        assert!(part.resources[&ResourceName::new("db", "ConfigMap")].manifest.contains("large"));
    }
    assert_eq!(status["deployedCounts"], json!({"Applied": 5}), "{status}");

    world.act(&format!("{own}/terminate"), 202).await;
    world.status(&own, "status=deployed", "Terminated").await;
    assert_eq!(notes.about(context), ["rsync InstallApp", "rsync UninstallApp"]);
    delete_group(world, "first").await;
    delete_cloud(world).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_built_in_rsync_carries_networks_to_a_cluster() {
    let Some(world) = World::start(1).await else { return };
    define_networks(&world).await;
    let before = world.simulation.clusters()[0].objects();
    // As EMCO's own files register it.
    world.create("controllers", "rsync", json!({"host": "rsync", "port": 9031})).await;
    until("the built-in rsync", async || {
        (world.connection("rsync").await["connection"] == "BuiltIn").then_some(())
    })
    .await;
    world.onboard(&[("edge", "c1")]).await;
    declare_networks(&world, EDGE).await;
    world.act(&format!("{EDGE}/apply"), 204).await;
    let status = world.ready(EDGE, "status=ready").await;
    assert_eq!(status["cluster"]["resources"].as_array().map(Vec::len), Some(2), "{status}");
    let cluster = &world.simulation.clusters()[0];
    let api = "k8s.plugin.opnfv.org/v1alpha1";
    let network = cluster.get(&format!("{api}/networks"), "default", "blue").expect("the network");
    assert_eq!(network["spec"]["ipv4Subnets"][0]["subnet"], "172.16.33.0/24");
    let outside = cluster.get(&format!("{api}/providernetworks"), "default", "outside").expect("the other");
    assert_eq!(outside["spec"]["vlan"]["vlanId"], "100");

    // A cluster is not given up with networks on it.
    let (code, text) = world.ask(Method::DELETE, EDGE, None).await;
    assert_eq!(code, 409, "{text}");
    world.act(&format!("{EDGE}/terminate"), 204).await;
    world.status(EDGE, "status=deployed", "Terminated").await;
    assert_eq!(cluster.objects(), before, "nothing is left on the cluster");
    for network in ["networks/blue", "provider-networks/outside"] {
        world.delete(&format!("{EDGE}/{network}")).await;
    }
    world.delete(EDGE).await;
    world.nothing_is_left().await;
    world.stop();
}

/// An rsync that is registered and not there: that is told, nothing is left of what was prepared for it, and without it the built-in one
/// works.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_rsync_is_told() {
    let Some(world) = World::start(1).await else { return };
    define_networks(&world).await;
    // A port that nobody else can have, and that nobody listens on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    world.create("controllers", "rsync", json!({"host": "127.0.0.1", "port": port})).await;
    let connection = until("that it is known not to be there", async || {
        let connection = world.connection("rsync").await;
        (connection["connection"] == "Failing").then_some(connection)
    })
    .await;
    assert!(connection["message"].as_str().unwrap().contains("refused"), "{connection}");
    world.onboard(&[("edge", "c1")]).await;
    declare_networks(&world, EDGE).await;
    let (code, text) = world.ask(Method::POST, &format!("{EDGE}/apply"), None).await;
    assert_eq!(code, 500, "{text}");
    let expected = "controller rsync, installing the context: the controller cannot be reached: ";
    assert!(text.contains(expected) && text.contains("refused"), "{text}");
    assert!(world.context_numbers().await.is_empty(), "nothing is left of it");
    let status = world.get(&format!("{EDGE}/status")).await;
    assert!(
        status["states"]["actions"].as_array().unwrap().iter().all(|action| action["state"] != "Applied"),
        "{status}"
    );

    world.delete("controllers/rsync").await;
    world.act(&format!("{EDGE}/apply"), 204).await;
    world.ready(EDGE, "status=ready").await;
    world.stop();
}
