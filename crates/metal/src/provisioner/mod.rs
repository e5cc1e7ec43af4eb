//! Ways of provisioning: what the state machine of a BareMetalHost asks for, whoever does it.
//!
//! A [`Provisioner`] is one way: [`redfish`] does everything itself through the host's management controller, others hand
//! it to a service. The state machine decides *what* is next and writes what came of it; a way does one thing at a time
//! and says how far it has come. Every call is made again until it is done, also by another process after a crash: a
//! way finds out from the world how far it is, and keeps in memory only what may be lost.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use drystone_api::{BareMetalHost, BareMetalHostStatus, HardwareDetails, Raid};
use drystone_engine::{
    events::{EventKind, EventSink},
    reference::reference_to,
};
use kube::ResourceExt as _;
use serde_json::{Map, Value};

use crate::{
    driver::{Credentials, DriverError},
    medium::Seed,
    model::{BmcAddress, FirmwareReading, Inventory},
    plan::conditions::Health,
};

pub mod ironic;
pub mod redfish;

/// One host, and what a way needs to know to work on it.
pub struct Job<'a> {
    /// The host as it was read for this pass.
    pub host: &'a BareMetalHost,
    /// Its management controller.
    pub address: &'a BmcAddress,
    /// User name and password of its management controller.
    pub credentials: &'a Credentials,
    /// What it is to be booted with; `None` without an image.
    pub seed: Option<&'a Seed>,
    /// Who is told what happens.
    pub events: &'a dyn EventSink,
}

impl Job<'_> {
    /// Unique id of the BareMetalHost: never used again for another one.
    pub fn uid(&self) -> String {
        self.host.uid().unwrap_or_default()
    }

    /// Status as it was read for this pass.
    pub fn status(&self) -> BareMetalHostStatus {
        self.host.status.clone().unwrap_or_default()
    }

    /// Tells people what happened to the host.
    pub fn tell(&self, kind: EventKind, reason: &str, note: &str) {
        self.events.publish(&reference_to(self.host), kind, reason, note);
    }

    /// That something cannot be done, with the reason.
    pub fn refused(&self, doing: impl Into<String>, reason: impl Into<String>) -> DriverError {
        DriverError::Refused { host: self.host.name_any(), doing: doing.into(), reason: reason.into() }
    }
}

/// How far something has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress<T> {
    /// It is done, and this came of it.
    Done(T),
    /// It goes on.
    Working {
        /// When to ask again.
        again: Duration,
        /// How far it is, for people: `image 40 % written`; empty if there is nothing to say.
        note: String,
    },
}

impl<T> Progress<T> {
    /// It goes on; ask again after this time.
    pub const fn again(again: Duration) -> Self {
        Self::Working { again, note: String::new() }
    }
}

/// What a way says of each step: how far it is, or why it failed.
pub type Step<T> = Result<Progress<T>, DriverError>;

/// What registration found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered {
    /// Identifies the host at the provisioner (`status.provisioning.ID`).
    pub id: String,
}

/// What inspection found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inspected {
    /// In Metal3's form.
    pub details: HardwareDetails,
    /// In the composer's form.
    pub inventory: Inventory,
    /// Whether power is on.
    pub powered_on: bool,
}

/// What is to be set up before a host is available.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preparation {
    /// The RAID layout, if it is to be applied.
    pub raid: Option<Raid>,
    /// Firmware settings that differ from what is wanted, by name.
    pub firmware_settings: Map<String, Value>,
}

impl Preparation {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.raid.is_none() && self.firmware_settings.is_empty()
    }
}

/// How power is to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// On.
    On,
    /// Off, after the operating system has ended by itself, or has not done so in time.
    SoftOff,
    /// Off at once.
    HardOff,
}

impl Power {
    /// Whether power is to be on.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

/// What came of a change of power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Powered {
    /// Whether anything had to change.
    pub changed: bool,
    /// The host's health.
    pub health: Health,
}

/// A way of provisioning. Every call is safe to repeat and bounded in time (some ten seconds; what takes longer answers
/// [`Progress::Working`] meanwhile).
#[async_trait]
pub trait Provisioner: Send + Sync + 'static {
    /// Name of the way, as the annotation `drystone.dev/provisioner` has it.
    fn name(&self) -> &'static str;

    /// Whether this way can work on hosts with such a management controller.
    fn serves(&self, address: &BmcAddress) -> bool;

    /// Makes the host known and tries the credentials. Called again whenever address or credentials change, in any state.
    async fn register(&self, job: &Job<'_>) -> Step<Registered>;

    /// Reads what the host is made of.
    async fn inspect(&self, job: &Job<'_>) -> Step<Inspected>;

    /// Reads the settings of the firmware; `None` if they are not published.
    async fn firmware(&self, _job: &Job<'_>) -> Result<Option<FirmwareReading>, DriverError> {
        Ok(None)
    }

    /// Sets up disks and firmware.
    async fn prepare(&self, job: &Job<'_>, preparation: &Preparation) -> Step<()>;

    /// Brings the wanted image onto the host and boots it. What is found half-done is gone on with.
    async fn provision(&self, job: &Job<'_>) -> Step<()>;

    /// Removes the image, cleans the host as `spec.automatedCleaningMode` says, and leaves it off.
    async fn deprovision(&self, job: &Job<'_>) -> Step<()>;

    /// Brings power there.
    async fn power(&self, job: &Job<'_>, wanted: Power) -> Step<Powered>;

    /// Forgets the host: it is detached or deleted. Nothing of it stays at the provisioner; the hardware is left alone.
    async fn detach(&self, job: &Job<'_>) -> Step<()>;
}

/// The ways that there are, in order of preference.
#[derive(Clone, Default)]
pub struct Ways(Vec<Arc<dyn Provisioner>>);

impl Ways {
    /// These ways; of several that serve a host the first one is taken, unless the host names another.
    pub fn new(ways: Vec<Arc<dyn Provisioner>>) -> Self {
        Self(ways)
    }

    /// The way for a host.
    ///
    /// # Errors
    /// [`DriverError::Refused`] when there is none, with what to change.
    pub fn find(
        &self,
        host: &BareMetalHost,
        address: &BmcAddress,
    ) -> Result<&Arc<dyn Provisioner>, DriverError> {
        let refused = |reason: String| DriverError::Refused {
            host: host.name_any(),
            doing: "choosing how to provision".to_owned(),
            reason,
        };
        let names = || self.0.iter().map(|way| way.name()).collect::<Vec<_>>().join(", ");
        if let Some(wanted) = host.annotations().get(PROVISIONER) {
            let named = self.0.iter().find(|way| way.name() == wanted);
            return named.ok_or_else(|| {
                refused(format!("metadata.annotations[{PROVISIONER}]: `{wanted}` is none of {}", names()))
            });
        }
        self.0.iter().find(|way| way.serves(address)).ok_or_else(|| {
            refused(format!(
                "spec.bmc.address: none of the ways of provisioning ({}) serves {address}; use a virtual-media scheme, or start Drystone with --ironic",
                names()
            ))
        })
    }
}

impl std::fmt::Debug for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|way| way.name())).finish()
    }
}

/// Annotation on a BareMetalHost: which way of provisioning it is to go, `redfish` or `ironic`.
pub const PROVISIONER: &str = "drystone.dev/provisioner";

/// Since when something has been waited for, by host. Kept in memory only: after a restart the waiting begins anew.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<HashMap<String, Instant>>);

impl Waits {
    /// How long the host has been waited for; begins to count when asked for the first time.
    pub(crate) fn since(&self, uid: &str) -> Duration {
        let Ok(mut waits) = self.0.lock() else { return Duration::ZERO };
        waits.entry(uid.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Whether the host is being waited for.
    pub(crate) fn contains(&self, uid: &str) -> bool {
        self.0.lock().is_ok_and(|waits| waits.contains_key(uid))
    }

    /// It is waited for no longer.
    pub(crate) fn end(&self, uid: &str) {
        if let Ok(mut waits) = self.0.lock() {
            waits.remove(uid);
        }
    }
}
