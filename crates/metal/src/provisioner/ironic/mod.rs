//! The way through Ironic: a standalone one is told what is wanted, by its REST API, and does it.
//!
//! Nothing of a host is kept here but what was asked for last, so that an error that is seen next is known to be its
//! answer; after a restart it is asked for again. Ironic is polled a few times a second, not every ten.
//!
//! Rooms: [`client`], [`description`] (how a host is described to Ironic), [`registration`], [`deployment`],
//! [`inventory`].

mod client;
mod deployment;
mod description;
mod inventory;
mod registration;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use http::Method;
use serde_json::json;
use url::Url;

use self::client::{Client, Failure, Node};
use super::{Inspected, Job, Power, Powered, Preparation, Progress, Provisioner, Registered, Step, Waits};
use crate::{
    driver::{Credentials, DriverError},
    model::{BmcAddress, Inventory},
    plan::conditions::Health,
};

/// How often Ironic is asked how far it is.
const POLL: Duration = Duration::from_millis(250);

/// How long an operating system gets to end by itself, in seconds (Metal3).
const SOFT_OFF_SECONDS: u64 = 180;

/// Where Ironic is, and how hosts are described to it.
#[derive(Debug, Clone)]
pub struct IronicConfig {
    /// Base URL: `http://127.0.0.1:6385/`.
    pub url: Url,
    /// User name and password, if it wants them (HTTP basic).
    pub credentials: Option<Credentials>,
    /// Interfaces of nodes other than Ironic's own choice, by kind: `bios` → `no-bios`.
    pub interfaces: BTreeMap<String, String>,
}

/// The way.
pub struct IronicProvisioner {
    client: Client,
    interfaces: BTreeMap<String, String>,
    /// What each host's node was asked for last.
    asked: Mutex<HashMap<String, &'static str>>,
    /// Hosts whose operating system was asked to end.
    ending: Waits,
    /// Digest of what each host's node was described by last.
    described: Mutex<HashMap<String, u64>>,
}

impl IronicProvisioner {
    /// The way through this Ironic.
    ///
    /// # Errors
    /// [`DriverError::Refused`] when a client cannot be made.
    pub fn new(config: IronicConfig) -> Result<Self, DriverError> {
        let host = config.url.to_string();
        let client = Client::new(config.url, config.credentials).map_err(|reason| DriverError::Refused {
            host,
            doing: "setting up the client".to_owned(),
            reason,
        })?;
        let interfaces = config.interfaces;
        Ok(Self {
            client,
            interfaces,
            asked: Mutex::default(),
            ending: Waits::default(),
            described: Mutex::default(),
        })
    }

    /// Takes note of what was asked for; `None` when it was answered.
    fn set_asked(&self, job: &Job<'_>, what: Option<&'static str>) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => asked.insert(job.uid(), what),
            None => asked.remove(&job.uid()),
        };
    }

    fn was_asked(&self, job: &Job<'_>, what: &str) -> bool {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.get(&job.uid()).is_some_and(|last| *last == what)
    }

    /// Asks a node for another provision state and takes note of it.
    async fn ask(
        &self,
        job: &Job<'_>,
        node: &Node,
        target: &'static str,
        more: serde_json::Value,
    ) -> Result<(), Failure> {
        self.client.provision(&node.uuid, target, more).await?;
        self.set_asked(job, Some(target));
        Ok(())
    }

    /// The host's node, by the id in its status or by its name.
    async fn find(&self, job: &Job<'_>) -> Result<Option<Node>, Failure> {
        let id = job.status().provisioning.id;
        if !id.is_empty()
            && let Some(node) = self.client.node(&id).await?
        {
            return Ok(Some(node));
        }
        self.client.node(&description::node_name(job)).await
    }

    async fn node(&self, job: &Job<'_>) -> Result<Node, Failure> {
        self.find(job).await?.ok_or_else(|| {
            Failure::Failed(job.refused("asking Ironic", "it does not know the host's node any more"))
        })
    }

    /// What went wrong at Ironic with what it was asked for.
    fn failed(&self, job: &Job<'_>, doing: &str, node: &Node) -> Failure {
        self.set_asked(job, None);
        Failure::Failed(self.client.refused(format!("{doing} node {}", node.uuid), node.error()))
    }
}

/// What comes of a step that may be told to come back.
fn step<T>(outcome: Result<Progress<T>, Failure>) -> Step<T> {
    match outcome {
        Ok(progress) => Ok(progress),
        Err(Failure::Busy) => Ok(Progress::again(POLL)),
        Err(Failure::Failed(error)) => Err(error),
        Err(Failure::NotFound) => Err(DriverError::Refused {
            host: "Ironic".to_owned(),
            doing: "asking for a node".to_owned(),
            reason: "it is gone".to_owned(),
        }),
    }
}

#[async_trait]
impl Provisioner for IronicProvisioner {
    fn name(&self) -> &'static str {
        "ironic"
    }

    fn serves(&self, _: &BmcAddress) -> bool {
        true
    }

    async fn register(&self, job: &Job<'_>) -> Step<Registered> {
        step(self.make_known(job).await)
    }

    async fn inspect(&self, job: &Job<'_>) -> Step<Inspected> {
        step(self.look_at(job).await)
    }

    async fn prepare(&self, job: &Job<'_>, preparation: &Preparation) -> Step<()> {
        step(self.set_up(job, preparation).await)
    }

    async fn provision(&self, job: &Job<'_>) -> Step<()> {
        step(self.deploy(job).await)
    }

    async fn deprovision(&self, job: &Job<'_>) -> Step<()> {
        step(self.undeploy(job).await)
    }

    async fn power(&self, job: &Job<'_>, wanted: Power) -> Step<Powered> {
        step(self.switch(job, wanted).await)
    }

    async fn detach(&self, job: &Job<'_>) -> Step<()> {
        step(self.forget(job).await)
    }
}

impl IronicProvisioner {
    async fn look_at(&self, job: &Job<'_>) -> Result<Progress<Inspected>, Failure> {
        let node = self.node(job).await?;
        match node.state() {
            "manageable" if self.was_asked(job, "inspect") => {
                let path = format!("/v1/nodes/{}/inventory", node.uuid);
                let details = inventory::read(&self.client.send(Method::GET, &path, None).await?);
                self.set_asked(job, None);
                let inventory = Inventory::from_details(&details);
                let powered_on = node.powered_on() == Some(true);
                return Ok(Progress::Done(Inspected { details, inventory, powered_on }));
            }
            "manageable" => self.ask(job, &node, "inspect", json!({})).await?,
            "inspect failed" if self.was_asked(job, "inspect") => {
                return Err(self.failed(job, "inspecting", &node));
            }
            "available" | "inspect failed" => self.ask(job, &node, "manage", json!({})).await?,
            _ => {}
        }
        Ok(Progress::again(POLL))
    }

    async fn switch(&self, job: &Job<'_>, wanted: Power) -> Result<Progress<Powered>, Failure> {
        let (node, uid) = (self.node(job).await?, job.uid());
        let was_asked = self.was_asked(job, "power");
        if node.target_power_state.is_some() {
            return Ok(Progress::again(POLL));
        }
        if node.powered_on() == Some(wanted.is_on()) {
            self.set_asked(job, None);
            self.ending.end(&uid);
            return Ok(Progress::Done(Powered { changed: was_asked, health: Health::Unknown }));
        }
        let failed = was_asked && node.last_error.as_ref().is_some_and(|error| !error.is_empty());
        // An operating system that does not end is no failure: power is taken away.
        let patience_ends = self.ending.contains(&uid);
        if failed && !(wanted == Power::SoftOff && patience_ends) {
            return Err(self.failed(job, "switching", &node));
        }
        let asks = wanted == Power::SoftOff && !patience_ends;
        let body = match wanted {
            Power::On => json!({"target": "power on"}),
            Power::SoftOff if asks => json!({"target": "soft power off", "timeout": SOFT_OFF_SECONDS}),
            Power::SoftOff | Power::HardOff => json!({"target": "power off"}),
        };
        let path = format!("/v1/nodes/{}/states/power", node.uuid);
        let sent = self.client.send(Method::PUT, &path, Some(&body)).await;
        match &sent {
            // A node that cannot be asked is switched off next; one that is locked, or was not reached, is asked again.
            Ok(_) | Err(Failure::Failed(DriverError::Refused { .. })) if asks => {
                self.ending.since(&uid);
            }
            Ok(_) if !wanted.is_on() => self.ending.end(&uid),
            _ => {}
        }
        sent?;
        self.set_asked(job, Some("power"));
        Ok(Progress::again(POLL))
    }

    async fn forget(&self, job: &Job<'_>) -> Result<Progress<()>, Failure> {
        let Some(node) = self.find(job).await? else {
            self.set_asked(job, None);
            self.ending.end(&job.uid());
            self.described.lock().unwrap_or_else(PoisonError::into_inner).remove(&job.uid());
            return Ok(Progress::Done(()));
        };
        let path = format!("/v1/nodes/{}", node.uuid);
        // A node that runs something is deleted only in maintenance; the hardware is left as it is.
        if !node.maintenance && !matches!(node.state(), "enroll" | "manageable" | "available") {
            self.client.send(Method::PUT, &format!("{path}/maintenance"), Some(&json!({}))).await?;
        }
        match self.client.send(Method::DELETE, &path, None).await {
            Ok(_) | Err(Failure::NotFound) => Ok(Progress::again(Duration::from_millis(1))),
            Err(failure) => Err(failure),
        }
    }
}
