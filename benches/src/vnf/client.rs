//! A client of SOL003, version 2 of the API: what an orchestrator does.

use std::{
    fmt,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::{Failure, drystone::PATIENCE};

/// Shortest pause between two looks at an operation, and the part of the time it took so far that is paused at least: asking costs the
/// server something, and both are asked by the same rule.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const PART: u32 = 10;

/// The cloud on which VNFs are.
#[derive(Debug, Clone)]
pub(super) struct Cloud {
    info: Value,
}

impl Cloud {
    pub(super) fn new(auth_url: &str, password: &str) -> Self {
        let info = json!({"measured": {"vimType": "ETSINFV.OPENSTACK_KEYSTONE.V_3",
            "interfaceInfo": {"endpoint": auth_url},
            "accessInfo": {"username": "nfv_user", "password": password, "region": "RegionOne", "project": "nfv",
                "projectDomain": "Default", "userDomain": "Default"}}});
        Self { info }
    }
}

/// What is done to a VNF in its life, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Instantiate,
    ScaleOut,
    Heal,
    ScaleIn,
    Terminate,
}

impl Operation {
    pub(super) const ALL: [Self; 5] =
        [Self::Instantiate, Self::ScaleOut, Self::Heal, Self::ScaleIn, Self::Terminate];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instantiate => "instantiate",
            Self::ScaleOut => "scale out by one",
            Self::Heal => "heal one VNFC",
            Self::ScaleIn => "scale in by one",
            Self::Terminate => "terminate",
        })
    }
}

/// A VNF manager.
#[derive(Debug, Clone)]
pub(super) struct Manager {
    name: &'static str,
    http: Client,
    base: String,
    vnfd: String,
}

impl Manager {
    pub(super) fn new(name: &'static str, http: Client, base: String) -> Self {
        Self { name, http, base, vnfd: String::new() }
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Failure> {
        let mut request = self.http.request(method.clone(), format!("{}{path}", self.base));
        request = request.header("version", "2.0.0").header("accept", "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        Err(format!("{}: {method} {path}: {status}: {text}", self.name).into())
    }

    async fn get(&self, path: &str) -> Result<Value, Failure> {
        Ok(self.send(Method::GET, path, None).await?.json().await?)
    }

    /// Takes a package on board.
    pub(super) async fn onboard(&mut self, archive: &[u8]) -> Result<(), Failure> {
        let packages = "/vnfpkgm/v1/vnf_packages";
        let made: Value = self.send(Method::POST, packages, Some(&json!({}))).await?.json().await?;
        let id = made["id"].as_str().ok_or("a package without id")?.to_owned();
        let url = format!("{}{packages}/{id}/package_content", self.base);
        let request = self.http.put(url).header("content-type", "application/zip").body(archive.to_vec());
        let answer = request.send().await?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(format!("{}: package content: {}", self.name, answer.text().await?).into());
        }
        let began = Instant::now();
        loop {
            let package = self.get(&format!("{packages}/{id}")).await?;
            match package["onboardingState"].as_str() {
                Some("ONBOARDED") => {
                    self.vnfd = package["vnfdId"].as_str().ok_or("a package without vnfdId")?.to_owned();
                    return Ok(());
                }
                Some("CREATED") if began.elapsed() > Duration::from_secs(5) => {
                    return Err(format!("{}: the package was not accepted: {package}", self.name).into());
                }
                _ if began.elapsed() > PATIENCE => return Err(format!("{}: {package}", self.name).into()),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Creates a VNF instance.
    pub(super) async fn create(&self, name: &str) -> Result<String, Failure> {
        let body = json!({"vnfdId": self.vnfd, "vnfInstanceName": name});
        let made: Value =
            self.send(Method::POST, "/vnflcm/v2/vnf_instances", Some(&body)).await?.json().await?;
        Ok(made["id"].as_str().ok_or("an instance without id")?.to_owned())
    }

    /// Deletes one.
    pub(super) async fn delete(&self, instance: &str) -> Result<(), Failure> {
        let path = format!("/vnflcm/v2/vnf_instances/{instance}");
        let begun = Instant::now();
        loop {
            match self.send(Method::DELETE, &path, None).await {
                // The lock may be given back a moment after the operation is seen to be over.
                Err(_) if begun.elapsed() < Duration::from_secs(5) => {
                    tokio::time::sleep(SHORTEST_PAUSE).await;
                }
                other => return other.map(drop),
            }
        }
    }

    /// Does something to a VNF instance; how long it took until it was seen to be done.
    pub(super) async fn carry_out(
        &self,
        instance: &str,
        operation: Operation,
        cloud: &Cloud,
    ) -> Result<Duration, Failure> {
        let scale = |direction| json!({"type": direction, "aspectId": "web", "numberOfSteps": 1});
        let (task, body) = match operation {
            Operation::Instantiate => {
                ("instantiate", json!({"flavourId": "small", "vimConnectionInfo": cloud.info}))
            }
            Operation::ScaleOut => ("scale", scale("SCALE_OUT")),
            Operation::ScaleIn => ("scale", scale("SCALE_IN")),
            Operation::Heal => ("heal", json!({"vnfcInstanceId": [self.component(instance).await?]})),
            Operation::Terminate => ("terminate", json!({"terminationType": "FORCEFUL"})),
        };
        self.follow(&format!("/vnflcm/v2/vnf_instances/{instance}/{task}"), &body).await
    }

    /// Asks for an operation; how long it took until it was seen to be done.
    pub(super) async fn follow(&self, task: &str, body: &Value) -> Result<Duration, Failure> {
        let (began, answer) = self.begin(task, body).await?;
        let location = answer.headers().get("location").and_then(|value| value.to_str().ok());
        let occurrence = location.and_then(|location| location.rsplit('/').next());
        let occurrence = occurrence.ok_or("no Location of an operation occurrence")?;
        let path = format!("/vnflcm/v2/vnf_lcm_op_occs/{occurrence}");
        loop {
            let shown = self.get(&path).await?;
            match shown["operationState"].as_str() {
                Some("COMPLETED") => return Ok(began.elapsed()),
                Some("STARTING" | "PROCESSING") if began.elapsed() < PATIENCE => {}
                _ => return Err(format!("{}: {task}: {shown}", self.name).into()),
            }
            tokio::time::sleep(SHORTEST_PAUSE.max(began.elapsed() / PART)).await;
        }
    }

    /// Asks for an operation; the time counts from the request that was accepted. The lock of the operation before may be given back a
    /// moment after that is seen to be over.
    async fn begin(&self, path: &str, body: &Value) -> Result<(Instant, Response), Failure> {
        let first = Instant::now();
        loop {
            let began = Instant::now();
            match self.send(Method::POST, path, Some(body)).await {
                Err(error)
                    if error.to_string().contains("409 Conflict")
                        && first.elapsed() < Duration::from_secs(5) =>
                {
                    tokio::time::sleep(SHORTEST_PAUSE).await;
                }
                other => return Ok((began, other?)),
            }
        }
    }

    /// The first component that is of the group.
    async fn component(&self, instance: &str) -> Result<Value, Failure> {
        let shown = self.get(&format!("/vnflcm/v2/vnf_instances/{instance}")).await?;
        let all = shown["instantiatedVnfInfo"]["vnfcInfo"].as_array();
        let first = all.and_then(|all| all.iter().find(|component| component["vduId"] == "web"));
        Ok(first.ok_or_else(|| format!("{}: no VNFC: {shown}", self.name))?["id"].clone())
    }

    /// Finds an instance by its name; how long that took.
    pub(super) async fn find(&self, name: &str) -> Result<Duration, Failure> {
        let path = format!("/vnflcm/v2/vnf_instances?filter=(eq,vnfInstanceName,{name})");
        let began = Instant::now();
        let found = self.get(&path).await?;
        let took = began.elapsed();
        let count = found.as_array().map_or(0, Vec::len);
        if count == 1 { Ok(took) } else { Err(format!("{}: {count} instances {name}", self.name).into()) }
    }
}
