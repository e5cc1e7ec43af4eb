//! Drystone's side of the agents on hosts: who may ask what, orders, and what came of them.
//!
//! Rooms: [`http`] (the protocol, on the HTTPS port), [`order`] (what a host's specification means for its agent), [`medium`]
//! (what an agent boots from), [`inventory`] (what it found). The protocol itself is [`drystone_agent::protocol`].
//!
//! A *seat* is a host that is expected to be at work as an agent. It is made by whoever provisions the host, each time that
//! host is looked at, and so is there again after a restart. Of the token only a digest is kept; the token follows from a
//! secret of this Drystone, the host and the provisioning, so that the same provisioning has the same token always. What must
//! outlive a restart, that an image was written, is an annotation of the BareMetalHost ([`WRITTEN`]) before the agent hears
//! that it was heard.

mod http;
mod inventory;
mod medium;
mod order;
#[cfg(test)]
mod tests;

pub use inventory::lay_over;
pub use medium::{MediumError, medium_key};
pub use order::{OrderError, deployment};

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use drystone_agent::protocol::{Inventory, Order, Orders, Progress, Report};
use drystone_api::{BareMetalHost, ObjectReference};
use drystone_engine::{
    events::{EventKind, EventSink},
    reference::reference_to,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Annotation on a BareMetalHost: the instance whose image is on its disk.
pub const WRITTEN: &str = "drystone.dev/image-written";

/// What the desk is given.
#[derive(Clone)]
pub struct AgentSettings {
    /// Where hosts reach Drystone, unless their Site's gateway says: `https://192.0.2.1:6443`.
    pub url: String,
    /// What Drystone calls itself, in URLs of images that it serves: `https://127.0.0.1:6443`.
    pub own_url: String,
    /// Drystone's certificate authority (PEM).
    pub ca: String,
    /// Makes tokens: at least 32 bytes, kept over restarts.
    pub secret: Arc<[u8]>,
    /// The medium that `./dev image` makes. Without it only emulated hosts can be given an agent.
    pub medium: Option<PathBuf>,
}

/// Where agents are expected and heard. Cheap to clone.
#[derive(Clone)]
pub struct AgentDesk {
    client: Client,
    settings: AgentSettings,
    events: Arc<dyn EventSink>,
    seats: Arc<Mutex<HashMap<String, Seat>>>,
}

/// A host that is expected to be at work.
struct Seat {
    host: ObjectReference,
    /// The provisioning, or cleaning, that it works for.
    purpose: String,
    token: [u8; 32],
    order: Order,
    /// Counts attempts: each is an order of its own.
    attempt: u32,
    heard: Option<Instant>,
    inventory: Option<Inventory>,
    progress: Option<Progress>,
    report: Option<Report>,
}

impl Seat {
    fn order_id(&self) -> String {
        format!("{}-{}", self.purpose, self.attempt)
    }

    fn orders(&self) -> Orders {
        Orders { id: self.order_id(), order: self.order.clone() }
    }
}

/// How far an agent is.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentState {
    /// Nothing was heard of it.
    Unheard,
    /// It is at work.
    AtWork {
        /// How long ago it was heard.
        silent: Duration,
        /// How far it is, for people.
        note: String,
    },
    /// It has carried out its order.
    Done(Box<Report>),
    /// It could not.
    Failed(String),
}

/// Why an agent is not listened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    /// No token, or a wrong one.
    #[error(
        "no agent is expected with such a token; it is good for one host while that is being provisioned"
    )]
    Unauthorized,
    /// Another order is the present one.
    #[error("order {given:?} is not the present one, which is {present:?}")]
    Superseded {
        /// The one that was named.
        given: String,
        /// The one that counts.
        present: String,
    },
    /// What was said could not be kept.
    #[error("it could not be kept: {0}; say it again")]
    Unkept(String),
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl AgentDesk {
    /// A desk that nobody sits at yet.
    pub fn new(client: Client, settings: AgentSettings, events: Arc<dyn EventSink>) -> Self {
        Self { client, settings, events, seats: Arc::default() }
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<String, Seat>> {
        // A panic while holding it cannot leave a seat half made.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token of a host for a purpose.
    fn token(&self, uid: &str, purpose: &str) -> String {
        let mut digest = Sha256::new();
        for part in [
            &self.settings.secret,
            b"agent".as_slice(),
            uid.as_bytes(),
            purpose.as_bytes(),
            &self.settings.secret,
        ] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        format!("{uid}.{}", URL_SAFE_NO_PAD.encode(digest.finalize()))
    }

    /// Expects a host's agent to carry out an order. What is known of it stays if it is expected so already.
    pub fn expect(&self, host: &BareMetalHost, purpose: &str, order: Order) {
        let uid = host.uid().unwrap_or_default();
        let mut seats = self.seats();
        match seats.get_mut(&uid) {
            Some(seat) if seat.purpose == purpose && seat.order == order => {}
            Some(seat) if seat.purpose == purpose => {
                // The order changed under way: it begins anew.
                (seat.order, seat.attempt) = (order, seat.attempt + 1);
                (seat.progress, seat.report) = (None, None);
            }
            _ => {
                let seat = Seat {
                    host: reference_to(host),
                    purpose: purpose.to_owned(),
                    token: digest(&self.token(&uid, purpose)),
                    order,
                    attempt: 1,
                    heard: None,
                    inventory: None,
                    progress: None,
                    report: None,
                };
                seats.insert(uid, seat);
            }
        }
    }

    /// How far a host's agent is.
    pub fn state(&self, uid: &str) -> AgentState {
        let seats = self.seats();
        let Some(seat) = seats.get(uid) else { return AgentState::Unheard };
        match (&seat.report, seat.heard) {
            (Some(report), _) => match &report.error {
                None => AgentState::Done(Box::new(report.clone())),
                Some(error) => AgentState::Failed(error.clone()),
            },
            (None, None) => AgentState::Unheard,
            (None, Some(heard)) => AgentState::AtWork {
                silent: heard.elapsed(),
                note: seat.progress.as_ref().map(note).unwrap_or_default(),
            },
        }
    }

    /// Has the order carried out again, by the agent that is there.
    pub fn try_again(&self, uid: &str) {
        if let Some(seat) = self.seats().get_mut(uid) {
            seat.attempt += 1;
            (seat.progress, seat.report) = (None, None);
        }
    }

    /// The host is about to be restarted: what was heard does not count any more.
    pub fn restart(&self, uid: &str) {
        if let Some(seat) = self.seats().get_mut(uid) {
            (seat.heard, seat.progress, seat.report) = (None, None, None);
        }
    }

    /// Expects nobody any more: the token is good for nothing.
    pub fn dismiss(&self, uid: &str) {
        self.seats().remove(uid);
    }

    /// What a host said that it is made of.
    pub fn inventory(&self, uid: &str) -> Option<Inventory> {
        self.seats().get(uid).and_then(|seat| seat.inventory.clone())
    }

    /// Whether an instance's image has been written to a host's disk.
    pub fn has_written(host: &BareMetalHost, instance: &str) -> bool {
        host.annotations().get(WRITTEN).is_some_and(|written| written == instance)
    }

    /// Forgets that an image has been written.
    ///
    /// # Errors
    /// The API refuses, or does not answer.
    pub async fn forget_written(&self, host: &BareMetalHost) -> Result<(), kube::Error> {
        if !host.annotations().contains_key(WRITTEN) {
            return Ok(());
        }
        self.annotate(&reference_to(host), json!(null)).await
    }

    async fn annotate(&self, host: &ObjectReference, value: serde_json::Value) -> Result<(), kube::Error> {
        let api: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &host.namespace);
        // The uid: a host of the same name that came after is not meant.
        let patch = json!({"metadata": {"uid": host.uid, "annotations": {WRITTEN: value}}});
        api.patch(&host.name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
    }

    /// Finds the seat that a token is for.
    fn authenticate(&self, token: Option<&str>) -> Result<String, Refusal> {
        let token = token.ok_or(Refusal::Unauthorized)?;
        let given = digest(token);
        let uid = token.split_once('.').map(|(uid, _)| uid).unwrap_or_default();
        let seats = self.seats();
        // Strangers take as long as those who know a host.
        let (known, expected) = seats.get(uid).map_or((false, [0; 32]), |seat| (true, seat.token));
        let same = bool::from(given.ct_eq(&expected));
        if known && same { Ok(uid.to_owned()) } else { Err(Refusal::Unauthorized) }
    }

    fn hear<T>(&self, uid: &str, hear: impl FnOnce(&mut Seat) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut seats = self.seats();
        let seat = seats.get_mut(uid).ok_or(Refusal::Unauthorized)?;
        seat.heard = Some(Instant::now());
        hear(seat)
    }

    fn hear_inventory(&self, uid: &str, inventory: Inventory) -> Result<(), Refusal> {
        let first =
            self.hear(uid, |seat| Ok((seat.inventory.replace(inventory).is_none(), seat.host.clone())))?;
        if let (true, host) = first {
            self.events.publish(&host, EventKind::Normal, "AgentStarted", "The agent runs on the host");
        }
        Ok(())
    }

    fn hear_progress(&self, uid: &str, progress: Progress) -> Result<(), Refusal> {
        let (told, host) = self.hear(uid, |seat| {
            seat.check(&progress.order)?;
            let new = seat.progress.as_ref().is_none_or(|before| before.stage != progress.stage);
            let told = new.then(|| progress.stage.describe());
            seat.progress = Some(progress);
            Ok((told, seat.host.clone()))
        })?;
        if let Some(told) = told {
            self.events.publish(&host, EventKind::Normal, "AgentProgress", told);
        }
        Ok(())
    }

    /// What came of an order. That an image was written is durable before it counts.
    async fn hear_report(&self, uid: &str, report: Report) -> Result<(), Refusal> {
        let (host, written) = self.hear(uid, |seat| {
            seat.check(&report.order)?;
            let written = matches!(seat.order, Order::Deploy(_)) && report.error.is_none();
            Ok((seat.host.clone(), written.then(|| seat.purpose.clone())))
        })?;
        let was_written = written.is_some();
        if let Some(instance) = written {
            let kept = self.annotate(&host, json!(instance)).await;
            kept.map_err(|error| Refusal::Unkept(error.to_string()))?;
            let disk = report.disk.as_ref().map(|disk| disk.name.clone()).unwrap_or_default();
            let note = format!("{} bytes of the image have been written to {disk}", report.bytes);
            self.events.publish(&host, EventKind::Normal, "ImageWritten", &note);
        }
        let heard = self.hear(uid, |seat| {
            seat.check(&report.order)?;
            seat.report = Some(report);
            Ok(())
        });
        if heard.is_err() && was_written {
            // Something else was ordered while it was noted: the disk may have been erased since, and nobody would take the note back.
            let taken_back = self.annotate(&host, serde_json::Value::Null).await;
            taken_back.map_err(|error| Refusal::Unkept(error.to_string()))?;
        }
        heard
    }
}

impl Seat {
    fn check(&self, given: &str) -> Result<(), Refusal> {
        let present = self.order_id();
        if given == present {
            return Ok(());
        }
        Err(Refusal::Superseded { given: given.to_owned(), present })
    }
}

/// How far an order is, for people.
fn note(progress: &Progress) -> String {
    let text = progress.stage.describe();
    match progress.total {
        Some(total) if total > 0 => {
            let percent = u128::from(progress.done) * 100 / u128::from(total);
            format!("{text}, {percent} % of {} MiB", total >> 20)
        }
        _ if progress.done > 0 => format!("{text}, {} MiB", progress.done >> 20),
        _ => text.to_owned(),
    }
}
