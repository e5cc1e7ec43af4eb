//! Drivers of hosts: what the controller asks of a management controller.

use std::{future::Future, pin::Pin, time::Duration};

use drystone_api::BootMode;
use serde_json::{Map, Value};
use url::Url;

use crate::{
    model::{BmcAddress, FirmwareReading, Inventory},
    plan::conditions::Health,
};

pub mod redfish;

/// How far a host's boot has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BootProgress {
    /// Nothing is known: the controller does not tell.
    Unknown,
    /// The host is off, or its boot has not begun.
    None,
    /// Firmware is at work.
    Firmware,
    /// The operating system has been started.
    OperatingSystemStarted,
    /// The operating system runs.
    OperatingSystemRunning,
}

/// How often a host boots from a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// The next time only.
    Once,
    /// Whenever it starts.
    EveryBoot,
}

/// How a host is to boot a medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootOrder {
    /// How often.
    pub persistence: Persistence,
    /// In which mode of its firmware.
    pub mode: BootMode,
}

/// What a host does at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostState {
    /// Whether power is on; `None` while it is changing.
    pub powered_on: Option<bool>,
    /// How far its boot has come.
    pub progress: BootProgress,
    /// Its health.
    pub health: Health,
}

/// Why a management controller did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It refused user name or password.
    #[error("{host} refuses the credentials; correct the Secret")]
    Unauthorized {
        /// Base URL.
        host: String,
    },
    /// It did not answer.
    #[error("{host} does not answer: {reason}")]
    Unreachable {
        /// Base URL.
        host: String,
        /// Why.
        reason: String,
    },
    /// It answered that it cannot or will not.
    #[error("{host}: {doing}: {reason}")]
    Refused {
        /// Base URL.
        host: String,
        /// What was asked.
        doing: String,
        /// What it said.
        reason: String,
    },
    /// It accepted, but the host did not follow.
    #[error("{host}: {what} for {} s", .after.as_secs())]
    Stuck {
        /// Base URL.
        host: String,
        /// What did not happen: `power stayed off`.
        what: String,
        /// How long was waited.
        after: Duration,
    },
}

/// A future that a driver returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DriverError>> + Send + 'a>>;

/// User name and password of a management controller. `Debug` shows neither.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// One host, through its management controller. Every call is idempotent and bounded in time.
pub trait HostDriver: Send + Sync {
    /// Logs in and looks whether the system is there.
    fn verify(&self) -> Answer<'_, ()>;

    /// Reads what the host is made of.
    fn inspect(&self) -> Answer<'_, Inventory>;

    /// Reads what the host does.
    fn state(&self) -> Answer<'_, HostState>;

    /// URL of the medium inserted, if any.
    fn medium(&self) -> Answer<'_, Option<String>>;

    /// Switches on and waits until power is on.
    fn power_on(&self) -> Answer<'_, ()>;

    /// Switches off at once and waits until power is off.
    fn power_off(&self) -> Answer<'_, ()>;

    /// Asks the operating system to end; does not wait. False if the controller cannot ask, or nothing is there to ask.
    fn ask_to_end(&self) -> Answer<'_, bool>;

    /// Inserts a medium and makes the next start, or every one, boot from it.
    fn boot_medium<'a>(&'a self, image: &'a Url, order: BootOrder) -> Answer<'a, ()>;

    /// Makes the next start boot from the medium that is inserted, where it does not do so anyway.
    fn boot_medium_again(&self) -> Answer<'_, ()>;

    /// Makes every start boot from the disk.
    fn boot_disk(&self) -> Answer<'_, ()>;

    /// Ejects whatever is inserted.
    fn eject(&self) -> Answer<'_, ()>;

    /// Reads the settings of the firmware; `None` if the controller publishes none.
    fn firmware(&self) -> Answer<'_, Option<FirmwareReading>>;

    /// Asks for other settings of the firmware, which takes them when the host starts next.
    fn set_firmware<'a>(&'a self, settings: &'a Map<String, Value>) -> Answer<'a, ()>;

    /// Erases the host's drives, as far as their controller offers it; the host is off. Returns how many were erased.
    fn erase_drives(&self) -> Answer<'_, usize>;
}

/// Makes drivers; the seam that tests replace.
pub trait Drivers: Send + Sync + 'static {
    /// A driver for a host.
    ///
    /// # Errors
    /// [`DriverError`] when there is no driver for the address.
    fn open(
        &self,
        address: &BmcAddress,
        credentials: &Credentials,
        verify_tls: bool,
    ) -> Result<Box<dyn HostDriver>, DriverError>;
}
