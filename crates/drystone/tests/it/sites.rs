//! Three sites, each with a local controller of its own, under a global one of two replicas: real processes on loopback.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    etcd::{Etcd, User},
    process::{Up, drystone, up_that_fails},
    stage::workspace,
};

const PATIENCE: Duration = Duration::from_secs(300);

const SITES: &str = "/apis/drystone.dev/v1alpha1/namespaces/drystone-system/sites";

const SECRETS: &str = "/api/v1/namespaces/drystone-system/secrets";

/// Runs the program against one that runs.
fn command(up: &Up, arguments: &[&str]) -> Output {
    drystone().args(arguments).env("KUBECONFIG", up.data.join("kubeconfig")).output().expect("run")
}

fn must(up: &Up, arguments: &[&str]) -> String {
    let output = command(up, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

/// What `found` finds, as soon as it finds something.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, found: impl Fn() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not seen in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn site(user: &User, name: &str) -> Value {
    user.send(Method::GET, &format!("{SITES}/{name}"), None).await
}

/// The site, once `wanted` says so.
async fn awaited(user: &User, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{name}: {what}"), || async {
        let site = site(user, name).await;
        wanted(&site).then_some(site)
    })
    .await
}

fn is_synchronized(site: &Value) -> bool {
    let status = &site["status"];
    status["connection"]["state"] == "Connected"
        && status["synchronization"]["pending"] == 0
        && status["synchronization"]["generation"] == site["metadata"]["generation"]
}

async fn patch(user: &User, path: &str, patch: &Value) {
    let body = serde_json::to_vec(patch).expect("JSON");
    let request = user.request(Method::PATCH, path).header("content-type", "application/merge-patch+json");
    let answer = request.body(body).send().await.expect(path);
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap_or_default());
}

/// Starts the local controller of an example's site, with hosts that are state only and take no time.
fn local(directory: &Path, name: &str) -> Up {
    let place = directory.join(name);
    std::fs::create_dir_all(&place).expect("a directory");
    let text = std::fs::read_to_string(workspace().join(format!("examples/three-sites/{name}.yaml")))
        .expect("the example");
    let file = place.join("site.yaml");
    std::fs::write(&file, text.replace("timing:\n", "timing:\n  scale: 0\n")).expect("a file");
    Up::start_as(
        &place,
        &["site", "init", name],
        &["--site", file.to_str().expect("UTF-8"), "--backend", "sim"],
    )
}

fn register(global: &Up, local: &Up, name: &str) {
    let kubeconfig = local.data.join("kubeconfig");
    must(global, &["site", "register", name, "--site-kubeconfig", kubeconfig.to_str().expect("UTF-8")]);
}

/// Two replicas over one etcd: the second one has fetched the keys of the first.
fn replicas(directory: &Path, store: &str) -> (Up, Up) {
    let place = |name: &str| {
        let place = directory.join(name);
        std::fs::create_dir_all(&place).expect("a directory");
        place
    };
    let first = Up::start(&place("first"), &["--store", store]);
    let url = format!("https://{}", first.address("https").expect("an address"));
    let token = must(&first, &["join-token"]).trim().to_owned();
    let join = ["--store", store, "--join", url.as_str(), "--token", token.as_str()];
    let second = Up::start(&place("second"), &join);
    for file in ["ca.crt", "pki/ca.key", "pki/service-account.key", "pki/boot-secret", "admin-password"] {
        let content = |up: &Up| std::fs::read(up.data.join(file)).expect(file);
        assert_eq!(content(&first), content(&second), "{file}");
    }
    // The token was good once.
    let again = [&join[..], &["--listen", "127.0.0.1:0"]].concat();
    let refused = up_that_fails(&directory.join("third"), &again);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("was used, or has expired"), "{said}");
    assert!(!directory.join("third/pki/ca.key").exists());
    (first, second)
}

/// From the list to a cluster: roles are given globally, the site installs its hosts. The spare waits.
async fn install_west(global: &Up, user: &User, west: &User) {
    must(global, &["site", "set-role", "west", "west-01=control-plane", "west-04=spare"]);
    let cluster = json!({"spec": {"cluster": {"namespace": "edge"}, "controller": {"pollInterval": "1s"}}});
    patch(user, &format!("{SITES}/west"), &cluster).await;
    awaited(user, "west", "installed", |site| site["status"]["hostsByState"]["provisioned"] == 3).await;
    let made =
        west.send(Method::GET, "/apis/drystone.dev/v1alpha1/namespaces/edge/clusters/west", None).await;
    assert_eq!(made["spec"]["controlPlane"]["onlyHosts"], json!(["west-01"]), "{made}");
    assert_eq!(made["spec"]["workers"][0]["onlyHosts"], json!(["west-02", "west-03"]), "{made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_sites_under_two_replicas() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(etcd) = Etcd::start(directory.path()) else { return };
    let (first, second) = replicas(directory.path(), &format!("etcd={}", etcd.url));
    let names = ["east", "west", "south"];
    let mut locals: Vec<Up> = names.iter().map(|name| local(directory.path(), name)).collect();
    for (name, local) in names.iter().zip(&locals) {
        register(&first, local, name);
    }
    // Through either replica everything is to be seen.
    let (one, two) = (User::of(&first), User::of(&second));
    for name in names {
        let seen = awaited(&two, name, "connected", |site| {
            is_synchronized(site) && site["status"]["hostsByState"]["available"] == 4
        })
        .await;
        assert_eq!(seen["status"]["inspectedHosts"], 4, "{seen}");
    }
    // A site that is busy may miss a moment.
    let begun = Instant::now();
    loop {
        let table = must(&second, &["site", "list"]);
        if table.matches("Connected").count() == 3 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{table}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let west = User::of(&locals[1]);
    install_west(&first, &one, &west).await;

    // Cut off, and the leader is killed in the middle of it.
    let before = site(&west, "west").await["metadata"]["generation"].as_i64().expect("a number");
    locals[1].pause();
    let leader = one.leader().await;
    let (survivor, dead, user) =
        if is_led_by(&first, &leader) { (second, first, &two) } else { (first, second, &one) };
    // The leader is killed while others write; what was acknowledged is not lost.
    let killed = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        dead.kill();
    };
    let (written, ()) = tokio::join!(write_for_east(user, 40), killed);
    for role in ["worker", "spare", "worker"] {
        must(&survivor, &["site", "set-role", "west", &format!("west-04={role}")]);
    }
    awaited(user, "west", "cut off", |site| site["status"]["connection"]["state"] == "Disconnected").await;
    // Nobody else is held up.
    must(&survivor, &["site", "set-role", "east", "east-01=control-plane"]);
    awaited(user, "east", "the change", is_synchronized).await;
    let east = User::of(&locals[0]);
    eventually("all that was written for east", || async {
        let there = secrets(&east).await;
        written.iter().all(|name| there.contains(name)).then_some(())
    })
    .await;
    locals[1].resume();
    awaited(user, "west", "caught up", is_synchronized).await;
    let after = site(&west, "west").await;
    assert_eq!(after["metadata"]["generation"].as_i64(), Some(before + 1), "three changes, one write");
    assert_eq!(after["spec"]["bmcs"][3]["role"], "Worker");

    // A local controller that is killed and comes back finds the site as its global one declared it.
    must(&survivor, &["site", "remove-host", "south", "south-04"]);
    awaited(user, "south", "one host less", |site| is_synchronized(site) && site["status"]["hosts"] == 3)
        .await;
    locals.remove(2).kill();
    locals.push(local(directory.path(), "south"));
    register(&survivor, &locals[2], "south");
    awaited(user, "south", "back", |site| is_synchronized(site) && site["status"]["hosts"] == 3).await;
    for local in &locals {
        assert!(!local.log().contains(local.password().trim()), "a password in a log");
    }
    locals.into_iter().chain([survivor]).for_each(|up| drop(up.stop()));
}

/// Writes Secrets for a site, one after the other; the names of those that were acknowledged.
async fn write_for_east(user: &User, count: usize) -> Vec<String> {
    let mut written = Vec::new();
    for number in 0..count {
        let name = format!("load-{number}");
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "stringData": {"a": "b"},
            "metadata": {"name": name, "labels": {"drystone.dev/site": "east"}}});
        user.send(Method::POST, SECRETS, Some(secret)).await;
        written.push(name);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    written
}

async fn secrets(user: &User) -> BTreeSet<String> {
    let list = user.send(Method::GET, SECRETS, None).await;
    let items = list["items"].as_array().expect("items").iter();
    items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
}

/// Whether a replica says that it leads under this identity.
fn is_led_by(up: &Up, identity: &Value) -> bool {
    let identity = identity.as_str().expect("a name");
    up.log().lines().any(|line| line.contains("leading") && line.contains(identity))
}

#[test]
fn a_unit_is_written_that_starts_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let unit = directory.path().join("drystone.service");
    let mut command: Command = drystone();
    command.args(["site", "init", "edge", "--listen", "127.0.0.1:7443"]).arg("--systemd").arg(&unit);
    command.arg("--data").arg(directory.path().join("data"));
    let output = command.output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("drystone site register edge --site-kubeconfig")
    );
    let text = std::fs::read_to_string(unit).expect("written");
    assert!(text.contains("site init edge --listen 127.0.0.1:7443 --data"), "{text}");
    assert!(!text.contains("--systemd"), "{text}");
    assert!(!directory.path().join("data").exists(), "nothing is started");
}
