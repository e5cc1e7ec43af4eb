//! Drivers of fabric services: what the controllers ask of a switch or a fabric agent.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use drystone_api::SwitchStatus;
use drystone_redfish::client::{Client, RawResource};

use crate::model::{ForwardingTable, ForwardingZone};

pub mod redfish;
mod topology;

pub use topology::{CrawledFabric, TopologyBuilder};

/// Why a fabric service did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// It refused user name or password.
    #[error("{service} refuses the credentials; correct the Secret")]
    Unauthorized {
        /// Base URL.
        service: String,
    },
    /// It did not answer.
    #[error("{service} does not answer: {reason}")]
    Unreachable {
        /// Base URL.
        service: String,
        /// Why.
        reason: String,
    },
    /// It answered that it cannot or will not, or with something that makes no sense.
    #[error("{service}: {doing}: {reason}")]
    Refused {
        /// Base URL.
        service: String,
        /// What was asked.
        doing: String,
        /// What it said.
        reason: String,
        /// Whether it would say the same again: what is asked is wrong for it, or more than it can hold.
        lasting: bool,
    },
}

/// What a crawl of a service found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrawledService {
    /// Its fabrics.
    pub fabrics: Vec<CrawledFabric>,
    /// Number of resources read.
    pub resources: usize,
    /// Whether everything that is linked could be read; if not, what is missing may exist all the same.
    pub complete: bool,
    /// All resources, of a service that computes the routes of a fabric itself: what it has is shown as it is.
    pub tree: Vec<RawResource>,
}

/// A future that a driver returns.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, DriverError>> + Send + 'a>>;

/// A change of a table: zone id → new zone, or `None` to remove it.
pub type TableChange = BTreeMap<String, Option<ForwardingZone>>;

/// A Redfish zone as it is shown to those who read the fabric's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Id and name.
    pub id: String,
    /// Ids of its endpoints.
    pub endpoints: Vec<String>,
}

/// One fabric service. Every call is idempotent and bounded in time.
pub trait FabricService: Send + Sync {
    /// The client of the service, for what is handed through as it is.
    fn client(&self) -> &Client;

    /// Reads fabrics, switches, ports and endpoints.
    fn crawl(&self) -> Answer<'_, CrawledService>;

    /// Reads state and links of some switches again, by the URIs that the service gives them. Those that are gone are absent.
    fn crawl_switches<'a>(&'a self, uris: &'a [String]) -> Answer<'a, BTreeMap<String, SwitchStatus>>;

    /// Reads a switch's table.
    fn read_table<'a>(&'a self, fabric: &'a str, switch: &'a str) -> Answer<'a, ForwardingTable>;

    /// Changes some zones of a switch's table, and returns the table as it is then. Safe against others who write at the
    /// same time (If-Match).
    fn change_table<'a>(
        &'a self,
        fabric: &'a str,
        switch: &'a str,
        change: &'a TableChange,
    ) -> Answer<'a, ForwardingTable>;

    /// Shows a zone in the service's tree, or takes it away (`None`). Services without a Zones collection that takes
    /// POSTs are content with their tables; that is no error.
    fn record_zone<'a>(
        &'a self,
        fabric: &'a str,
        id: &'a str,
        zone: Option<&'a ZoneRecord>,
    ) -> Answer<'a, Option<String>>;
}

/// User name and password of a fabric service. `Debug` shows neither.
#[derive(Clone, PartialEq, Eq)]
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

/// Makes drivers; the seam that tests replace.
pub trait Drivers: Send + Sync + 'static {
    /// A driver for a service; without credentials for one that asks for none.
    ///
    /// # Errors
    /// [`DriverError`] when the address makes no sense.
    fn open(
        &self,
        address: &str,
        credentials: Option<&Credentials>,
        verify_tls: bool,
    ) -> Result<Box<dyn FabricService>, DriverError>;
}
