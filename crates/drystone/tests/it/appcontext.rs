//! AppContexts for foreign controllers: `drystone up --etcd-listen` in etcd's protocol, and a real etcd; with `etcdctl` and Python's client.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use drystone_appcontext::{
    App, AppContext, AppContexts, ClusterName, ContextId, Creation, Dependency, Meta, OpStatus, Part,
    ResourceName,
};
use drystone_store::etcd::{EtcdOptions, EtcdStore};

use crate::{
    etcd::Etcd,
    process::{Up, up_that_fails},
};

const PATIENCE: Duration = Duration::from_secs(120);

fn id() -> ContextId {
    ContextId::new(7_777).expect("a context")
}

fn big() -> ResourceName {
    ResourceName::new("big", "ConfigMap")
}

/// An app on three clusters, with a manifest that is large.
fn sample() -> AppContext {
    let mut context = AppContext::new(id(), Meta { project: "p1".into(), ..Meta::default() });
    context.app_order = vec!["web".into()];
    let manifest: Arc<str> =
        format!("kind: ConfigMap\ndata: {{colour: red, aHVudGVyMg: {}}}\n", "x".repeat(5000)).into();
    let mut app = App::default();
    for name in ["c1", "c2", "c3"] {
        let mut part = Part::default();
        part.put(big(), Arc::clone(&manifest));
        app.clusters.insert(ClusterName::new("edge", name), part);
    }
    context.apps.insert("web".into(), app);
    context
}

/// What is to become of it when the controller has changed it.
fn changed() -> AppContext {
    let mut context = sample();
    let app = context.apps.get_mut("web").expect("an app");
    app.clusters.remove(&ClusterName::new("edge", "c3"));
    app.dependencies = vec![Dependency { app: "db".into(), op_status: OpStatus::Ready, wait: 1 }];
    for part in app.clusters.values_mut() {
        let manifest = part.resources[&big()].manifest.replace("colour: red", "colour: blue");
        part.put(big(), manifest);
        let added = format!("kind: Secret\nmetadata: {{name: added}}\n{}", "x".repeat(2000));
        part.put(ResourceName::new("added", "Secret"), added);
    }
    context
}

fn contexts(url: &str) -> AppContexts {
    AppContexts::new(EtcdStore::new(&EtcdOptions::new([url.to_owned()])).expect("a store"))
}

/// Where the second line says that AppContexts are served.
fn served(up: &mut Up) -> SocketAddr {
    let line = up.next_line();
    let address = line.trim().strip_prefix("AppContexts are served in etcd's protocol at http://");
    address.unwrap_or_else(|| panic!("{line:?}")).parse().expect("an address")
}

/// Python with an etcd client; `None` where it is not, which is said.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/etcd3/venv/bin/python");
    if python.is_file() {
        return Some(python);
    }
    println!("skipped: Python's etcd client is not installed (./dev setup does it)");
    assert!(
        std::env::var_os("CI").is_none(),
        "must not be skipped in CI: Python's etcd client is not installed"
    );
    None
}

/// Lets the controller change the context.
fn control(python: &Path, address: SocketAddr, credentials: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/appcontext.py");
    let output = Command::new(python)
        .arg(script)
        .args([&address.ip().to_string(), &address.port().to_string(), &id().to_string()])
        .args(credentials)
        // What this client was generated with is older than the library it runs with.
        .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
        .env_remove("http_proxy")
        .stdin(Stdio::null())
        .output()
        .expect("python");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("done"), "{said}");
}

/// What etcdctl says; `None` where it is not installed, which is said.
fn etcdctl(address: SocketAddr, arguments: &[&str]) -> Option<(bool, String)> {
    // With a URL this release of etcdctl sends an authority that is none.
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", &address.to_string()]).args(arguments);
    let Ok(output) = command.stdin(Stdio::null()).output() else {
        println!("skipped: no etcdctl (Debian's package etcd-client has it)");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: etcdctl is not installed");
        return None;
    };
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), said.into_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_controllers_change_appcontexts_of_drystone() {
    let directory = tempfile::tempdir().expect("a directory");
    let listen = ["--etcd-listen", "127.0.0.1:0"];
    let trust = [&listen[..], &["--etcd-trust-loopback"]].concat();
    let mut up = Up::start(directory.path(), &trust);
    let url = format!("http://{}", served(&mut up));
    assert_eq!(contexts(&url).create(&sample()).await.expect("made"), Creation::Created);
    // As no power supply announces it.
    up.kill();

    let mut up = Up::start(directory.path(), &listen);
    let address = served(&mut up);
    let user = format!("admin:{}", up.password().trim());
    let key = "/context/7777/";
    if let Some((good, said)) = etcdctl(address, &["get", key]) {
        assert!(!good && said.contains("user name is empty"), "{said}");
    }
    if let Some((good, said)) = etcdctl(address, &["--user", "admin:wrong", "get", key]) {
        assert!(!good && said.contains("authentication failed"), "{said}");
    }
    if let Some((good, said)) = etcdctl(address, &["--user", &user, "get", key]) {
        assert_eq!((good, said.as_str()), (true, "/context/7777/\n\"7777\"\n"));
    }
    if let Some((good, said)) = etcdctl(address, &["--user", &user, "del", "/", "--prefix"]) {
        assert!(!good && said.contains("only keys below"), "{said}");
    }
    let python = python();
    if let Some(python) = &python {
        control(python, address, &["admin", up.password().trim()]);
    }
    up.stop();

    let mut up = Up::start(directory.path(), &trust);
    let contexts = contexts(&format!("http://{}", served(&mut up)));
    let expected = if python.is_some() { changed() } else { sample() };
    assert_eq!(contexts.load(id()).await.expect("there"), expected);
    contexts.delete(id()).await.expect("deleted");
    assert!(contexts.list().await.expect("a list").is_empty());
    let said = up.stop();
    assert!(said.is_empty(), "{said}");
    let file = directory.path().join("data/appcontext/contexts.redb");
    let bytes = std::fs::read(file).expect("the store");
    assert!(!bytes.windows(10).any(|window| window == b"aHVudGVyMg"), "manifests are in clear on the disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_controllers_change_them_in_an_etcd_in_the_same_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(mut etcd) = Etcd::start(directory.path()) else { return };
    let arguments = ["--appcontext-etcd", &etcd.url, "--etcd-listen", "127.0.0.1:0", "--etcd-trust-loopback"];
    let mut up = Up::start(directory.path(), &arguments);
    let through = contexts(&format!("http://{}", served(&mut up)));
    assert_eq!(through.create(&sample()).await.expect("made"), Creation::Created);
    assert!(!up.data.join("appcontext").exists(), "nothing is kept beside etcd");

    // etcd goes and comes back, while Drystone goes on.
    etcd.restart();
    let begun = Instant::now();
    let direct = contexts(&etcd.url);
    while direct.load(id()).await.ok().as_ref() != Some(&sample()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", direct.load(id()).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let address: SocketAddr = etcd.url.trim_start_matches("http://").parse().expect("an address");
    // In clear, as EMCO's own controllers read it.
    if let Some((good, said)) =
        etcdctl(address, &["get", "--prefix", "/context/7777/app/web/cluster/edge+c1/resource/big"])
    {
        assert!(good && said.contains("aHVudGVyMg"), "{said}");
    }
    let Some(python) = python() else { return };
    control(&python, address, &[]);
    let begun = Instant::now();
    while through.load(id()).await.ok().as_ref() != Some(&changed()) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", through.load(id()).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    up.stop();
}

#[test]
fn an_etcd_of_appcontexts_that_is_not_there_is_said_to_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--listen", "127.0.0.1:0", "--appcontext-etcd", "http://127.0.0.1:9"];
    let output = up_that_fails(&directory.path().join("data"), &arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("--appcontext-etcd http://127.0.0.1:9"), "{said}");
}
