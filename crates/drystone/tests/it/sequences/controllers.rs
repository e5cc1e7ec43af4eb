//! "Register placement and action controllers via Controller API": controllers in Python and Rust as processes of their own, with onlookers
//! before and behind them, and one that is dead.

use std::{collections::BTreeSet, path::PathBuf};

use drystone_appcontext::{AppContext, ContextId, ResourceName};
use reqwest::Method;
use serde_json::{Value, json};

use super::{
    documents::{
        CLUSTERS, cloud_context, declare_app, declare_cloud, declare_group, delete_cloud, delete_group, group,
    },
    programs::{Process, Programs},
    recorder::{Listening, Notes, onlooker},
    world::{World, context_of, until},
};

/// Everybody who takes part. Their names are in another order than their priorities.
struct Cast {
    names: Process,
    labels: Process,
    replicas: Process,
    onlookers: Vec<Listening>,
    notes: Notes,
    intents: PathBuf,
}

/// The controllers of the group, with their intents.
const TAKE_PART: [(&str, &str); 7] = [
    ("zeta", "look"),
    ("names", "edge"),
    ("alpha", "look"),
    ("zulu", "look"),
    ("labels", "gold"),
    ("counts", "spread"),
    ("bravo", "look"),
];

async fn cast(world: &World, programs: &Programs) -> Cast {
    let file = |name: &str, content: Value| {
        let path = world.directory.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path
    };
    let intents = file(
        "labels.json",
        json!({"gold": {"app": "web", "labels": {"tier": "gold"}, "configMap": "where"}}),
    );
    let spread = file("replicas.json", json!({"spread": {"app": "web", "replicas": {"edge+c1": 3, "*": 2}}}));
    let (etcd, notes) = (world.etcd(), Notes::default());
    let mut onlookers = Vec::new();
    for name in ["zeta", "alpha", "zulu", "bravo", "bystander"] {
        onlookers.push(onlooker(name, &world.contexts, &notes).await);
    }
    Cast {
        names: programs.names(etcd, "edge+*"),
        labels: programs.labels(etcd, &intents),
        replicas: programs.replicas(etcd, &spread),
        onlookers,
        notes,
        intents,
    }
}

/// loop for all placement and action controllers
async fn register_all(world: &World, cast: &Cast) {
    let port = |name: &str| {
        let mut all = cast.onlookers.iter();
        all.find(|one| one.name == name).map_or(0, |one| one.port)
    };
    for (name, port, kind, priority) in [
        ("bravo", port("bravo"), "action", 90),
        ("counts", cast.replicas.port, "action", 60),
        ("labels", cast.labels.port, "action", 50),
        ("zulu", port("zulu"), "action", 5),
        ("bystander", port("bystander"), "action", 1),
        ("alpha", port("alpha"), "placement", 30),
        ("names", cast.names.port, "placement", 20),
        ("zeta", port("zeta"), "placement", 10),
    ] {
        // Admin -> Controller_API: POST controller registration information (Name, Host, Port, Type, Priority)
        // Controller_API -> mongo: Save controller record
        // Controller_API -> GRPC_Server_info: add a GRPC connection to controller to internal table
        // Controller_API -> Admin: Return
        let spec = json!({"host": "127.0.0.1", "port": port, "type": kind, "priority": priority});
        world.register(name, spec).await;
    }
    assert!(cast.onlookers.iter().all(|one| one.connections() > 0), "connected before anybody calls");
    assert!(cast.notes.all().is_empty());
}

/// Clusters of an app.
fn clusters(context: &AppContext, app: &str) -> BTreeSet<String> {
    context.apps[app].clusters.keys().map(ToString::to_string).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn deployment(context: &AppContext, cluster: &str) -> Value {
    let part = &context.apps["web"].clusters[&cluster.parse().unwrap()];
    serde_saphyr::from_str(&part.resources[&ResourceName::new("web", "Deployment")].manifest).unwrap()
}

fn has_map(context: &AppContext) -> bool {
    let map = ResourceName::new("where", "ConfigMap");
    context.apps["web"].clusters.values().all(|part| part.order.contains(&map))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placement_and_action_controllers_shape_what_is_deployed() {
    let Some(programs) = Programs::find() else { return };
    let Some(world) = World::start(CLUSTERS.len()).await else { return };
    let cast = cast(&world, &programs).await;
    register_all(&world, &cast).await;
    world.onboard(&CLUSTERS).await;
    declare_cloud(&world).await;
    declare_app(&world).await;

    a_dead_one_is_told(&world, &programs, &cast).await;

    // Some time later - orchestrator is preparing an AppContext for deployment
    declare_group(&world, "first", &TAKE_PART).await;
    let own = group("first");
    world.act(&format!("{own}/instantiate"), 202).await;
    let status = world.ready(&own, "status=ready&output=detail").await;
    let context = context_of(&status);
    calls(&cast, context).await;
    placement(&world, &cast, context).await;
    actions(&cast, context);
    order_in_etcd(&world, context).await;
    deployed(&world, &status);

    world.act(&format!("{own}/terminate"), 202).await;
    world.status(&own, "status=deployed", "Terminated").await;
    for cluster in world.simulation.clusters() {
        assert_eq!(cluster.objects(), [""; 0], "nothing is left on the clusters");
    }
    let told = cast.notes.about(context);
    for who in ["zulu", "bravo"] {
        assert!(told.contains(&format!("{who} TerminateAppContext")), "{told:?}");
    }
    delete_group(&world, "first").await;
    until("the end of the context", async || {
        world.keys(&format!("/context/{context}/")).await.is_empty().then_some(())
    })
    .await;
    delete_cloud(&world).await;
    world.nothing_is_left().await;
    world.stop();
}

/// scheduler -> mongo: Retrieve all controllers required for this AppContext deployment
///
/// Who was called, in the order of priorities, and with what.
async fn calls(cast: &Cast, context: ContextId) {
    let told = until("events", async || {
        let told = cast.notes.about(context);
        let events = told.iter().filter(|call| call.ends_with("PostEvent Instantiate")).count();
        (events == 4).then_some(told)
    })
    .await;
    // scheduler -> UpdateContextAPI_place: GRPC UpdateContext API call (AppContext identifier)
    // scheduler -> UpdateContextAPI_action: GRPC UpdateContext API call (AppContext identifier)
    let expected = [
        "zeta FilterClusters",
        "alpha FilterClusters",
        "zulu UpdateAppContext look",
        "bravo UpdateAppContext look",
    ];
    assert_eq!(told[..4], expected);
    assert!(!cast.notes.all().iter().any(|call| call.who == "bystander"), "no intent names it");
    let kept = format!("AppContext {context} is left with clusters that match edge+*");
    assert!(cast.names.printed().contains(&kept), "{:?}", cast.names.printed());
    for (process, intent) in [(&cast.labels, "gold"), (&cast.replicas, "spread")] {
        let done = format!("intent {intent} is in AppContext {context}");
        let times = process.printed().iter().filter(|line| **line == done).count();
        assert_eq!(times, 1, "{:?}", process.printed());
    }
    let event = format!("INSTANTIATE of AppContext {context}");
    until("the event at the controller in Python", async || {
        cast.labels.printed().contains(&event).then_some(())
    })
    .await;
}

/// loop for all placement controllers in priority order
async fn placement(world: &World, cast: &Cast, context: ContextId) {
    // scheduler -> etcd: Prepares initial AppContext for the composite app using the generic placement intents
    let first = cast.notes.call("zeta", context).found.unwrap();
    assert_eq!(clusters(&first, "web"), set(&["core+c8", "core+c9", "edge+c1", "edge+c2"]));
    assert_eq!(clusters(&first, "db"), set(&["core+c8", "edge+c1", "edge+c2"]));
    assert!(first.parts().all(|(_, _, part)| part.group.is_some() && !part.resources.is_empty()));
    // UpdateContextAPI_place -> etcd: updates AppContext according to this controllers placement function
    // UpdateContextAPI_place -> scheduler: return
    let second = cast.notes.call("alpha", context).found.unwrap();
    assert_eq!(clusters(&second, "web"), set(&["edge+c1", "edge+c2"]));
    assert_eq!(clusters(&second, "db"), set(&["edge+c1", "edge+c2"]));
    // One cluster of each group is kept, before action controllers are called.
    let third = cast.notes.call("zulu", context).found.unwrap();
    assert_eq!(clusters(&third, "web"), set(&["edge+c1", "edge+c2"]));
    assert_eq!(clusters(&third, "db").len(), 1);
    // What the controllers did is what was in etcd to the end.
    let last = world.contexts.load(context).await.unwrap();
    assert_eq!(
        (clusters(&last, "web"), clusters(&last, "db")),
        (clusters(&third, "web"), clusters(&third, "db"))
    );
}

/// loop for all action controllers in priority order
fn actions(cast: &Cast, context: ContextId) {
    let before = cast.notes.call("zulu", context).found.unwrap();
    assert!(!has_map(&before));
    assert_eq!(deployment(&before, "edge+c1")["spec"]["replicas"], 1);
    // UpdateContextAPI_action -> etcd: updates AppContext according to this controllers action function
    // UpdateContextAPI_action -> scheduler: return
    let after = cast.notes.call("bravo", context).found.unwrap();
    assert!(has_map(&after));
    for (cluster, replicas) in [("edge+c1", 3), ("edge+c2", 2)] {
        let found = deployment(&after, cluster);
        assert_eq!(found["metadata"]["labels"], json!({"tier": "gold"}));
        assert_eq!(found["spec"]["replicas"], replicas);
    }
    assert_eq!(after.apps["db"], before.apps["db"], "no intent is about it");
}

/// The same in etcd itself: at which revision what was written.
async fn order_in_etcd(world: &World, context: ContextId) {
    let root = format!("/context/{context}/");
    let at = async |what: &str, key: String, holds: &str, is_there: bool| {
        let is_meant = |change: &super::world::Change| {
            let value = change.value.as_deref();
            change.key == key && value.is_some() == is_there && value.unwrap_or_default().contains(holds)
        };
        (what.to_owned(), world.change(what, is_meant).await.revision)
    };
    let db: Vec<String> = {
        let last = world.contexts.load(context).await.unwrap();
        clusters(&last, "db").into_iter().collect()
    };
    let other = if db == ["edge+c1"] { "edge+c2" } else { "edge+c1" };
    let web = format!("{root}app/web/cluster/edge+c1");
    let seen = [
        at("the initial AppContext", root.clone(), "", true).await,
        at("names left a cluster out", format!("{root}app/web/cluster/core+c8/"), "", false).await,
        at("one cluster of the group was kept", format!("{root}app/db/cluster/{other}/"), "", false).await,
        at("labels added an object", format!("{web}/resource/where+ConfigMap/"), "where", true).await,
        at("counts changed an object", format!("{web}/resource/web+Deployment/"), "\\\"replicas\\\":3", true)
            .await,
        at("rsync took it up", format!("/activecontext/{context}/"), "", true).await,
        at("an object is on its cluster", format!("{web}/resource/web+Deployment/status/"), "Applied", true)
            .await,
    ];
    assert!(seen.is_sorted_by(|one, next| one.1 < next.1), "{seen:?}");
}

/// What is on the clusters, and what is told of it.
fn deployed(world: &World, status: &Value) {
    for (index, (provider, cluster)) in CLUSTERS.iter().enumerate() {
        let simulated = &world.simulation.clusters()[index];
        if *provider == "core" {
            assert_eq!(simulated.objects(), [""; 0], "names left it out");
            continue;
        }
        let found = simulated.get("apps/v1/deployments", "default", "web").expect("the Deployment");
        assert_eq!(found["metadata"]["labels"]["tier"], "gold");
        assert_eq!(found["spec"]["template"]["metadata"]["labels"]["tier"], "gold");
        let replicas = if *cluster == "c1" { 3 } else { 2 };
        assert_eq!(found["spec"]["replicas"], replicas);
        let map = simulated.get("v1/configmaps", "default", "where").expect("the ConfigMap");
        assert_eq!(map["data"], json!({"cluster": format!("{provider}+{cluster}"), "project": "p1"}));
    }
    let apps = status["apps"].as_array().unwrap();
    let web = apps.iter().find(|app| app["name"] == "web").unwrap();
    for cluster in web["clusters"].as_array().unwrap() {
        let resources = cluster["resources"].as_array().unwrap();
        let named = |name: &str, kind: &str| {
            let mut found = resources.iter();
            found
                .find(|one| one["name"] == name && one["GVK"]["Kind"] == kind)
                .unwrap_or_else(|| panic!("{status}"))
        };
        assert_eq!(resources.len(), 3, "{status}");
        assert_eq!(named("where", "ConfigMap")["readyStatus"], "Ready");
        let replicas = if cluster["cluster"] == "c1" { 3 } else { 2 };
        assert_eq!(named("web", "Deployment")["detail"]["spec"]["replicas"], replicas, "{status}");
    }
}

/// A controller that is registered, was there once, and is dead: that is told, and nothing is deployed.
async fn a_dead_one_is_told(world: &World, programs: &Programs, cast: &Cast) {
    let mortal = programs.labels(world.etcd(), &cast.intents);
    let port = mortal.port;
    let spec = json!({"host": "127.0.0.1", "port": port, "type": "action", "priority": 70});
    world.register("mortal", spec).await;
    let only_cloud = BTreeSet::from([cloud_context(world).await.to_string()]);
    assert_eq!(world.context_numbers().await, only_cloud);
    declare_group(world, "dead", &[("zulu", "look"), ("mortal", "gold")]).await;
    mortal.kill();
    let own = group("dead");
    let (code, text) = world.ask(Method::POST, &format!("{own}/instantiate"), None).await;
    assert_eq!(code, 500, "{text}");
    let expected = "controller mortal, updating the context: the controller cannot be reached: ";
    assert!(text.contains(expected) && text.contains("refused"), "{text}");

    // The one before it was called, and found the context, of which nothing is left.
    let call = cast.notes.all().into_iter().find(|call| call.who == "zulu").expect("it was called");
    assert_eq!((call.what.as_str(), call.found.is_some()), ("UpdateAppContext look", true));
    assert_eq!(world.context_numbers().await, only_cloud);
    for cluster in world.simulation.clusters() {
        assert_eq!(cluster.objects(), [""; 0], "nothing was deployed");
    }
    let status = world.get(&format!("{own}/status")).await;
    let actions = status["states"]["actions"].as_array().unwrap();
    assert_eq!(actions.last().unwrap()["state"], "Approved", "{status}");
    let connection = until("that it is known to be dead", async || {
        let connection = world.connection("mortal").await;
        (connection["connection"] == "Failing").then_some(connection)
    })
    .await;
    assert!(connection["message"].as_str().unwrap().contains("refused"), "{connection}");
    delete_group(world, "dead").await;
}
