//! The external controllers of `examples/applications/controllers`, as processes of their own, on AppContexts in a real etcd and in a
//! store of ours that answers for etcd.

use drystone_loopback::free_port;
use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Instant,
};

use async_trait::async_trait;
use drystone_appcontext::{
    App, AppContext, AppContexts, ClusterName, ContextId, Meta, Part, ResourceName,
    contract::{ActionController as _, ControllerError, Event, PlacementController as _},
};
use drystone_emco_grpc::{Address, CheckedPlacement, Controller, Options, Pool, tolerated};
use drystone_etcd_front::{Caller, EtcdFront};
use drystone_store::{
    Store,
    embedded::{EmbeddedStore, Options as StoreOptions},
    etcd::{EtcdOptions, EtcdStore},
};
use serde_json::{Value, json};

use crate::server::{PATIENCE, Server, patient};

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A store, and how others reach it: as etcd.
struct Ground {
    store: Arc<dyn Store>,
    /// `127.0.0.1:2379`.
    etcd: String,
    _server: Box<dyn std::any::Any>,
}

fn skip(what: &str) {
    println!("skipped: {what}");
    assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
}

async fn real_etcd() -> Option<Ground> {
    let directory = tempfile::tempdir().unwrap();
    let (client, peer) =
        (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let process = Command::new("etcd")
        .args(["--data-dir", directory.path().to_str().unwrap(), "--name", "one", "--unsafe-no-fsync"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(process) = process else {
        skip("no etcd (Debian's package etcd-server has it)");
        return None;
    };
    let process = Process(process);
    let store = EtcdStore::new(&EtcdOptions::new([client.clone()])).unwrap();
    let begun = Instant::now();
    while store.check().await.is_err() {
        assert!(begun.elapsed() < PATIENCE, "etcd does not answer");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let etcd = client.trim_start_matches("http://").to_owned();
    Some(Ground { store, etcd, _server: Box::new((process, directory)) })
}

struct Everybody;

#[async_trait]
impl drystone_etcd_front::Admission for Everybody {
    async fn admits(&self, _: &Caller) -> bool {
        true
    }

    async fn authenticate(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// Lets `admin` in, with tokens that are good for a few calls only.
#[derive(Default)]
struct Forgetful {
    calls: std::sync::Mutex<std::collections::BTreeMap<String, u32>>,
}

#[async_trait]
impl drystone_etcd_front::Admission for Forgetful {
    async fn admits(&self, caller: &Caller) -> bool {
        let mut calls = self.calls.lock().unwrap();
        let left = caller.token.as_ref().and_then(|token| calls.get_mut(token)).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    async fn authenticate(&self, name: &str, password: &str) -> Option<String> {
        let mut calls = self.calls.lock().unwrap();
        let token = format!("token {}", calls.len());
        let good = (name, password) == ("admin", "correct horse");
        good.then(|| {
            calls.insert(token.clone(), 3);
            token
        })
    }
}

fn own_store(admission: Arc<dyn drystone_etcd_front::Admission>) -> Ground {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::in_memory(StoreOptions::default()).unwrap());
    let front = EtcdFront::new(Arc::clone(&store), admission, "http://127.0.0.1:2379");
    let server = Server::start(front.router());
    let etcd = format!("127.0.0.1:{}", server.port);
    Ground { store, etcd, _server: Box::new(server) }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Starts a controller that says on which port it listens; the controller by our contract.
fn start(mut command: Command) -> (Process, Controller) {
    let mut process = Process(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(process.0.stdout.take().unwrap()).lines();
    let line = lines.next().expect("it says on which port it listens").unwrap();
    let port = line.strip_prefix("listening on port ").and_then(|port| port.parse().ok()).expect(&line);
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("controller: {line}")));
    let pool = Pool::new(Options { controller_deadline: PATIENCE, ..patient() });
    pool.set("one", Address::plain("127.0.0.1", port)).unwrap();
    (process, pool.controller("one"))
}

/// `None` where gRPC for Python is not installed.
fn python(ground: &Ground, script: &str, arguments: &[&str]) -> Option<(Process, Controller)> {
    let interpreter = root().join(".cache/grpc/venv/bin/python");
    if !interpreter.exists() {
        skip("no gRPC for Python (`./dev test` installs it)");
        return None;
    }
    let mut command = Command::new(interpreter);
    let script = root().join("examples/applications/controllers/python").join(script);
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(script).args(["--etcd", &ground.etcd]).args(arguments);
    Some(start(command))
}

fn rust(ground: &Ground, intents: &Path) -> (Process, Controller) {
    // Examples are built with the tests, beside them.
    let tests = std::env::current_exe().unwrap();
    let mut command = Command::new(tests.parent().unwrap().with_file_name("examples").join("replicas"));
    command.arg(format!("http://{}", ground.etcd)).arg(intents);
    start(command)
}

fn id() -> ContextId {
    ContextId::new(1_234_567_890_123_456_789).unwrap()
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  labels: {a: b}\nspec:\n  replicas: 1\n  template:\n    spec:\n      containers:\n      - {name: web, image: \"web:1\", command: [\"sh\", \"-c\", \"echo \\\"ä\\\"\"]}\n";

fn deployment() -> ResourceName {
    ResourceName::new("web", "Deployment")
}

/// Two apps, on three clusters each.
async fn prepare(ground: &Ground) -> AppContexts {
    let contexts = AppContexts::new(Arc::clone(&ground.store));
    let mut context = AppContext::new(id(), Meta { project: "p1".into(), ..Meta::default() });
    context.app_order = vec!["web".into(), "db".into()];
    for name in ["web", "db"] {
        let mut app = App::default();
        for cluster in ["edge+c1", "edge+c2", "core+c1"] {
            let mut part = Part { group: Some("1".into()), ..Part::default() };
            part.put(deployment(), DEPLOYMENT);
            part.put(
                ResourceName::new("web", "Service"),
                "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n",
            );
            app.clusters.insert(cluster.parse().unwrap(), part);
        }
        context.apps.insert(name.into(), app);
    }
    contexts.create(&context).await.unwrap();
    contexts
}

fn manifest(part: &Part, name: &ResourceName) -> Value {
    serde_saphyr::from_str(&part.resources[name].manifest).unwrap()
}

fn intents(directory: &tempfile::TempDir, intents: &Value) -> PathBuf {
    let path = directory.path().join("intents.json");
    std::fs::write(&path, intents.to_string()).unwrap();
    path
}

async fn an_action_controller_in_python(ground: Ground) {
    let directory = tempfile::tempdir().unwrap();
    let file = intents(
        &directory,
        &json!({"gold": {"app": "web", "labels": {"tier": "gold"}, "configMap": "where"}}),
    );
    let arguments = ["--intents", file.to_str().unwrap()];
    let Some((_process, labels)) = python(&ground, "labels.py", &arguments) else { return };
    let contexts = prepare(&ground).await;
    let before = contexts.load(id()).await.unwrap();
    // Twice: what was done is not done again.
    for _ in 0..2 {
        labels.update_context(id(), "gold", None).await.unwrap();
    }
    let loaded = contexts.load_all(id()).await.unwrap();
    assert!(loaded.unread.is_empty(), "{:?}", loaded.unread);
    let after = loaded.context;
    assert_eq!(after.apps["db"], before.apps["db"]);
    let map = ResourceName::new("where", "ConfigMap");
    for (cluster, part) in &after.apps["web"].clusters {
        let service = ResourceName::new("web", "Service");
        assert_eq!(part.order, [deployment(), service.clone(), map.clone()]);
        let mut expected = manifest(&before.apps["web"].clusters[cluster], &deployment());
        expected["metadata"]["labels"] = json!({"a": "b", "tier": "gold"});
        expected["spec"]["template"]["metadata"] = json!({"labels": {"tier": "gold"}});
        assert_eq!(manifest(part, &deployment()), expected);
        assert_eq!(manifest(part, &service)["metadata"]["labels"], json!({"tier": "gold"}));
        assert_eq!(manifest(part, &map)["data"], json!({"cluster": cluster.to_string(), "project": "p1"}));
    }
    let refused = labels.update_context(id(), "silver", Some(id())).await;
    assert_eq!(refused, Err(ControllerError::Refused("there is no intent silver".into())));
    let nothing = labels.update_context(ContextId::new(7).unwrap(), "gold", None).await;
    assert_eq!(nothing, Err(ControllerError::Refused("there is no AppContext 7".into())));
    labels.post_event(id(), Event::Instantiate).await.unwrap();
    let unknown = labels.terminate(id()).await;
    assert!(
        matches!(&unknown, Err(ControllerError::Unimplemented(said)) if said.contains("TerminateAppContext"))
    );
    tolerated(unknown).unwrap();
}

async fn a_placement_controller_in_python(ground: Ground) {
    let Some((_process, names)) = python(&ground, "names.py", &["--keep", "edge+*", "--keep", "x+?"]) else {
        return;
    };
    let contexts = prepare(&ground).await;
    let checked = CheckedPlacement::new(Arc::new(names), contexts.clone());
    checked.filter_clusters(id()).await.unwrap();
    let after = contexts.load(id()).await.unwrap();
    for app in after.apps.values() {
        let kept: Vec<String> = app.clusters.keys().map(ToString::to_string).collect();
        assert_eq!(kept, ["edge+c1", "edge+c2"]);
        assert!(app.clusters.values().all(|part| part.resources.len() == 2));
    }
    let none = ["edge+c1", "edge+c2"].map(|name| name.parse::<ClusterName>().unwrap());
    contexts
        .edit::<_, drystone_appcontext::AppContextError, _>(id(), |context| {
            let app = context.apps.get_mut("db").unwrap();
            for cluster in &none {
                let part = app.clusters.remove(cluster).unwrap();
                app.clusters.insert(ClusterName::new("far", &*cluster.cluster), part);
            }
            Ok(())
        })
        .await
        .unwrap();
    let refused = checked.filter_clusters(id()).await.unwrap_err().to_string();
    assert!(refused.starts_with("no cluster for the app db: none of far+c1, far+c2 matches"), "{refused}");
    // Nothing of a refusal stays.
    assert_eq!(contexts.load(id()).await.unwrap().apps["web"], after.apps["web"]);
}

async fn an_action_controller_in_rust(ground: Ground) {
    let directory = tempfile::tempdir().unwrap();
    let file = intents(&directory, &json!({"spread": {"app": "web", "replicas": {"edge+c1": 5, "*": 2}}}));
    let (_process, replicas) = rust(&ground, &file);
    let contexts = prepare(&ground).await;
    replicas.update_context(id(), "spread", None).await.unwrap();
    let after = contexts.load(id()).await.unwrap();
    let of = |app: &str, cluster: &str| {
        let part = &after.apps[app].clusters[&cluster.parse().unwrap()];
        manifest(part, &deployment())["spec"]["replicas"].clone()
    };
    assert_eq!(
        (of("web", "edge+c1"), of("web", "core+c1"), of("db", "edge+c1")),
        (json!(5), json!(2), json!(1))
    );
    let refused = replicas.update_context(id(), "other", None).await;
    assert_eq!(refused, Err(ControllerError::Refused("there is no intent other".into())));
    tolerated(replicas.terminate(id()).await).unwrap();
}

/// Several at a time change one context, as fast as they can: nobody's change is lost.
async fn controllers_do_not_tear_each_others_changes(ground: Ground) {
    let directory = tempfile::tempdir().unwrap();
    let file = intents(
        &directory,
        &json!({"a": {"labels": {"a": "1"}}, "b": {"labels": {"b": "1"}, "configMap": "where"},
                "r": {"app": "web", "replicas": {"*": 9}}}),
    );
    let arguments = ["--intents", file.to_str().unwrap()];
    let Some((_first, first)) = python(&ground, "labels.py", &arguments) else { return };
    let Some((_second, second)) = python(&ground, "labels.py", &arguments) else { return };
    // Its own intents have another form, which the others' do not have.
    let own = tempfile::tempdir().unwrap();
    let (_third, third) = rust(&ground, &intents(&own, &json!({"r": {"app": "web", "replicas": {"*": 9}}})));
    let contexts = prepare(&ground).await;
    let (a, b, c) = tokio::join!(
        first.update_context(id(), "a", None),
        second.update_context(id(), "b", None),
        third.update_context(id(), "r", None),
    );
    [a, b, c].into_iter().for_each(Result::unwrap);
    let after = contexts.load(id()).await.unwrap();
    for part in after.apps["web"].clusters.values() {
        let found = manifest(part, &deployment());
        assert_eq!(found["metadata"]["labels"], json!({"a": "1", "b": "1"}));
        assert_eq!(found["spec"]["replicas"], json!(9));
        assert_eq!(part.order.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_may_want_to_know_who_asks() {
    let ground = own_store(Arc::new(Forgetful::default()));
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (directory.path().join("good"), directory.path().join("bad"));
    std::fs::write(&good, "correct horse\n").unwrap();
    std::fs::write(&bad, "wrong").unwrap();
    let arguments = ["--keep", "edge+*", "--password", good.to_str().unwrap()];
    let Some((_process, names)) = python(&ground, "names.py", &arguments) else { return };
    let contexts = prepare(&ground).await;
    // More calls than one token is good for.
    for _ in 0..4 {
        names.filter_clusters(id()).await.unwrap();
    }
    assert_eq!(contexts.load(id()).await.unwrap().apps["web"].clusters.len(), 2);
    let arguments = ["--keep", "edge+*", "--password", bad.to_str().unwrap()];
    let Some((_process, strangers)) = python(&ground, "names.py", &arguments) else { return };
    let refused = strangers.filter_clusters(id()).await.unwrap_err();
    assert!(refused.to_string().contains("authentication failed"), "{refused}");
}

macro_rules! on_every_ground {
    ($($name:ident,)*) => {
        mod on_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(ground) = super::real_etcd().await {
                    super::$name(ground).await;
                }
            })*
        }
        mod on_our_store {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::own_store(std::sync::Arc::new(super::Everybody))).await;
            })*
        }
    };
}

on_every_ground![
    an_action_controller_in_python,
    a_placement_controller_in_python,
    an_action_controller_in_rust,
    controllers_do_not_tear_each_others_changes,
];
