//! A small client of Keystone and Heat, and a cloud to try it on.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use drystone_emulator::{Emulator, EmulatorConfig, endpoints::CloudEndpoint};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Generous: a loaded machine is slow, and a test that passes never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A cloud with two users, two networks, and machines without a body.
pub(crate) const SITE: &str = "
name: clouds
timing: {scale: 1}
cloud:
  users:
  - {name: nfv_user, password: devstack, project: nfv}
  - {name: other, project: elsewhere}
  networks:
  - {name: net0, id: 9d1ff9b0-0b1c-4a3c-8f0e-0a63f0b7c001, cidr: 10.10.0.0/24}
  - {name: ext, cidr: 172.24.4.0/24}
  images: [{name: ubuntu, users: [{name: ubuntu, password: ubuntu}]}]
  flavors: [{name: m1.small, cores: 1, memoryMiB: 2048, diskGiB: 20}, {name: m1.large, cores: 4, memoryMiB: 8192, diskGiB: 80}]
";

/// A cloud in a directory of its own.
pub(crate) struct TestCloud {
    emulator: Option<Emulator>,
    config: EmulatorConfig,
    _directory: TempDir,
    pub(crate) http: reqwest::Client,
}

/// Somebody who has a token.
pub(crate) struct Session {
    http: reqwest::Client,
    pub(crate) token: String,
    pub(crate) heat: String,
    pub(crate) described: Value,
}

impl TestCloud {
    pub(crate) async fn start(site: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("site.yaml");
        std::fs::write(&file, site).unwrap();
        let controller = SocketAddr::from(([127, 0, 0, 1], 6443));
        let mut config = EmulatorConfig::new(file, directory.path().join("state"), controller);
        config.guest_program = Some(env!("CARGO_BIN_EXE_emulated-host").into());
        let emulator = Some(Emulator::start(config.clone()).await.unwrap());
        let http = drystone_redfish::client::http_builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        Self { emulator, config, _directory: directory, http }
    }

    pub(crate) fn emulator(&self) -> &Emulator {
        self.emulator.as_ref().unwrap()
    }

    pub(crate) fn endpoint(&self) -> &CloudEndpoint {
        self.emulator().endpoints().cloud.as_ref().unwrap()
    }

    /// The address without the path.
    pub(crate) fn base(&self) -> String {
        self.endpoint().auth_url.trim_end_matches("/identity/v3").to_owned()
    }

    /// Ends the emulator as a kill would, and starts another one.
    pub(crate) async fn restart(&mut self) {
        self.emulator.take().unwrap().abandon().await;
        self.emulator = Some(Emulator::start(self.config.clone()).await.unwrap());
    }

    /// The directory that the emulator keeps its state in.
    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.config.state_directory.clone()
    }

    pub(crate) async fn stop(mut self) {
        self.take_down().await;
    }

    pub(crate) async fn take_down(&mut self) {
        self.emulator.take().unwrap().stop().await.unwrap();
    }

    pub(crate) async fn start_again(&mut self) {
        self.emulator = Some(Emulator::start(self.config.clone()).await.unwrap());
    }

    /// Asks for a token.
    pub(crate) async fn authenticate(&self, user: &str, password: &str, project: &str) -> reqwest::Response {
        let domain = json!({"name": "Default"});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {"name": user, "password": password, "domain": domain}}},
            "scope": {"project": {"name": project, "domain": domain}}}});
        let url = format!("{}/auth/tokens", self.endpoint().auth_url);
        self.http.post(url).json(&body).send().await.unwrap()
    }

    pub(crate) async fn session(&self) -> Session {
        self.session_of("nfv_user").await
    }

    pub(crate) async fn session_of(&self, user: &str) -> Session {
        let account = self.endpoint().users.iter().find(|known| known.name == user).unwrap().clone();
        let response = self.authenticate(user, &account.password, &account.project).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        let token = response.headers()["x-subject-token"].to_str().unwrap().to_owned();
        let described: Value = response.json().await.unwrap();
        let services = described["token"]["catalog"].as_array().unwrap();
        let service = services.iter().find(|service| service["type"] == "orchestration").unwrap();
        let heat = service["endpoints"][0]["url"].as_str().unwrap().to_owned();
        Session { http: self.http.clone(), token, heat, described }
    }
}

impl Session {
    /// Sends a request to a path below Heat's address; follows where it is led to.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let mut url = format!("{}{path}", self.heat);
        for _ in 0..4 {
            let mut request = self.http.request(method.clone(), &url).header("X-Auth-Token", &self.token);
            if let Some(body) = body {
                request = request.json(body);
            }
            let response = request.send().await.unwrap();
            if response.status() == StatusCode::FOUND {
                url = response.headers()["location"].to_str().unwrap().to_owned();
                continue;
            }
            let status = response.status();
            let text = response.text().await.unwrap();
            let value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
            return (status, value);
        }
        panic!("{method} {path} is led in a circle");
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, value) = self.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    /// Makes a stack; returns its id.
    pub(crate) async fn create(&self, body: &Value) -> String {
        let (status, value) = self.send(Method::POST, "/stacks", Some(body)).await;
        assert_eq!(status, StatusCode::CREATED, "{value}");
        value["stack"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn patch(&self, path: &str, body: &Value) -> StatusCode {
        self.send(Method::PATCH, path, Some(body)).await.0
    }

    pub(crate) async fn status(&self, stack: &str) -> String {
        self.get(&format!("/stacks/{stack}")).await["stack"]["stack_status"].as_str().unwrap().to_owned()
    }

    /// Waits until a stack has a status.
    pub(crate) async fn wait_for(&self, stack: &str, wanted: &str) {
        let end = Instant::now() + PATIENCE;
        loop {
            let shown = self.get(&format!("/stacks/{stack}")).await;
            if shown["stack"]["stack_status"] == wanted {
                return;
            }
            assert!(Instant::now() < end, "{stack} is not {wanted}: {shown}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The resources of a stack with all that is nested.
    pub(crate) async fn resources(&self, stack: &str) -> Vec<Value> {
        let list = self.get(&format!("/stacks/{stack}/resources?nested_depth=3")).await;
        list["resources"].as_array().unwrap().clone()
    }
}

/// Ids of what the resources of a name stand for, sorted.
pub(crate) fn ids(resources: &[Value], name: &str) -> Vec<String> {
    let named = resources.iter().filter(|resource| resource["resource_name"] == name);
    let mut ids: Vec<String> =
        named.map(|resource| resource["physical_resource_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}
