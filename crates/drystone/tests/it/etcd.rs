//! `drystone up --store etcd=…`: objects are etcd's, and several Drystones share them.

use drystone_loopback::free_port;
use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};

use crate::process::{Up, up_that_fails};

const PATIENCE: Duration = Duration::from_secs(120);

/// An etcd of a test's own.
pub(crate) struct Etcd {
    command: Command,
    process: Child,
    pub(crate) url: String,
}

impl Etcd {
    /// `None` where etcd is not installed; says so.
    pub(crate) fn start(directory: &Path) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let mut places = std::env::split_paths(&path).map(|place| place.join("etcd"));
        let Some(program) = places.find(|file| file.is_file()) else {
            println!("skipped: etcd is not installed");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: etcd is not installed");
            return None;
        };
        let (client, peer) = (free_url(), free_url());
        let log = std::fs::File::create(directory.join("etcd.log")).expect("a log");
        let mut command = Command::new(program);
        command.env_clear().args(["--name", "alone", "--logger", "zap"]);
        command.arg(format!("--data-dir={}", directory.join("etcd").display()));
        for side in ["listen", "advertise"] {
            command.arg(format!("--{side}-client-urls={client}"));
        }
        command
            .arg(format!("--listen-peer-urls={peer}"))
            .arg(format!("--initial-advertise-peer-urls={peer}"));
        command.arg(format!("--initial-cluster=alone={peer}"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        let process = command.spawn().expect("started");
        Some(Self { command, process, url: client })
    }

    /// Kills it and starts it again with what it had.
    pub(crate) fn restart(&mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("its status");
        self.process = self.command.spawn().expect("started");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A place where nobody listens.
fn free_url() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

/// A user of one Drystone.
pub(crate) struct User {
    client: Client,
    base: String,
    password: String,
}

impl User {
    pub(crate) fn of(up: &Up) -> Self {
        drystone_identity::tls::install_crypto_provider();
        let pem = std::fs::read(up.data.join("ca.crt")).expect("ca.crt");
        let certificate = Certificate::from_pem(&pem).expect("a certificate");
        let client = Client::builder().tls_certs_only([certificate]).no_proxy().build().expect("a client");
        let base = format!("https://{}", up.address("https").expect("an address"));
        Self { client, base, password: up.password() }
    }

    /// A request as the administrator.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).basic_auth("admin", Some(&self.password))
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect(path);
        let status = answer.status();
        let text = answer.text().await.expect("a body");
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    async fn write(&self, name: &str) -> u64 {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"a": "b"}});
        let made = self.send(Method::POST, "/api/v1/namespaces/default/secrets", Some(secret)).await;
        revision(&made)
    }

    async fn names(&self) -> Vec<String> {
        let list = self.send(Method::GET, "/api/v1/namespaces/default/secrets", None).await;
        let items = list["items"].as_array().expect("items").iter();
        items.map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Who runs the controllers.
    pub(crate) async fn leader(&self) -> Value {
        let path = "/apis/coordination.k8s.io/v1/namespaces/drystone-system/leases/drystone";
        let begun = Instant::now();
        loop {
            let request = self.client.get(format!("{}{path}", self.base));
            let answer = request.basic_auth("admin", Some(&self.password)).send().await.expect(path);
            if answer.status().is_success() {
                let lease: Value = answer.json().await.expect("JSON");
                return lease["spec"]["holderIdentity"].clone();
            }
            assert!(begun.elapsed() < PATIENCE, "nobody leads");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().expect("a version").parse().expect("a number")
}

/// The same keys for another Drystone: they must be one authority.
fn share_keys(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for name in ["pki", "admin-password"] {
        let status = Command::new("cp").arg("-a").arg(from.join(name)).arg(to.join(name)).status();
        assert!(status.expect("copied").success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_drystones_share_one_etcd() {
    let directory = tempfile::tempdir().expect("a directory");
    let places: [PathBuf; 2] = ["one", "two"].map(|name| directory.path().join(name));
    places.iter().for_each(|place| std::fs::create_dir_all(place).expect("a directory"));
    let Some(etcd) = Etcd::start(directory.path()) else { return };
    let store = format!("etcd={}", etcd.url);
    let one = Up::start(&places[0], &["--store", &store]);
    share_keys(&one.data, &places[1].join("data"));
    let two = Up::start(&places[1], &["--store", &store]);
    let users = [User::of(&one), User::of(&two)];
    assert_eq!(users[0].leader().await, users[1].leader().await, "one of them runs the controllers");

    // What one writes, a watch of the other tells, under the same version.
    let list = users[1].send(Method::GET, "/api/v1/namespaces/default/secrets", None).await;
    let url = format!(
        "{}/api/v1/namespaces/default/secrets?watch=1&resourceVersion={}",
        users[1].base,
        revision(&list)
    );
    let request = users[1].client.get(url).basic_auth("admin", Some(&users[1].password));
    let mut watch = request.send().await.expect("a watch");
    let mut told = String::new();
    for number in 0..5 {
        let written = users[0].write(&format!("shared-{number}")).await;
        while !told.contains('\n') {
            let piece = tokio::time::timeout(PATIENCE, watch.chunk()).await.expect("in time");
            told.push_str(std::str::from_utf8(&piece.expect("told").expect("a piece")).expect("text"));
        }
        let (line, rest) = told.split_once('\n').expect("a line");
        let event: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(event["object"]["metadata"]["name"], format!("shared-{number}"));
        assert_eq!(revision(&event["object"]), written);
        told = rest.to_owned();
    }
    // A write under an old version is refused, whoever made the newer one.
    let path = "/api/v1/namespaces/default/secrets/shared-0";
    let mut object = users[1].send(Method::GET, path, None).await;
    object["data"]["a"] = "eA==".into();
    users[0].send(Method::PUT, path, Some(object.clone())).await;
    let request = users[1].client.put(format!("{}{path}", users[1].base)).json(&object);
    let late = request.basic_auth("admin", Some(&users[1].password)).send().await.expect(path);
    assert_eq!(late.status(), 409);

    // One is killed: the other goes on, and has everything; so has the one when it comes back.
    one.kill();
    users[1].write("alone").await;
    assert_eq!(users[1].names().await.iter().filter(|name| name.starts_with("shared-")).count(), 5);
    let one = Up::start(&places[0], &["--store", &store]);
    assert!(User::of(&one).names().await.contains(&"alone".to_owned()));
    assert!(!one.data.join("store").exists(), "nothing is kept beside etcd");
    one.stop();
    two.stop();
}

#[test]
fn an_etcd_that_is_not_there_is_said_to_be() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = up_that_fails(
        &directory.path().join("data"),
        &["--store", &format!("etcd={}", free_url()), "--listen", "127.0.0.1:0"],
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--store http://127.0.0.1:"), "{said}");
}
