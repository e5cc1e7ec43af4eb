//! Drivers of fabric services: what the controllers ask of a switch or a fabric agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
};

use drystone_api::SwitchStatus;
use drystone_redfish::client::{Client, RawResource};

use crate::model::{ForwardingTable, ForwardingZone};

pub mod redfish;
mod tables;
#[cfg(test)]
mod tests;
mod topology;
mod zones;

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

/// What one switch is to have of one zone.
#[derive(Debug, Clone, Copy)]
pub struct ZoneEntry<'a> {
    /// Id of the fabric.
    pub fabric: &'a str,
    /// Id of the switch.
    pub switch: &'a str,
    /// Id of the zone.
    pub zone: &'a str,
    /// The entry; `None` if the switch is to forget the zone.
    pub entry: Option<&'a ForwardingZone>,
    /// Ids of the zones that share members with this one.
    pub beside: &'a BTreeSet<String>,
}

/// What a switch has of a zone, as read back from it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programmed {
    /// The zone, and of the other zones those that list one of its members or are named as beside it: all that a proof of the
    /// zone has to know of the switch.
    pub table: ForwardingTable,
    /// Whether the switch had something else before.
    pub changed: bool,
}

/// A Redfish zone as it is shown to those who read the fabric's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Id and name.
    pub id: String,
    /// Ids of its endpoints.
    pub endpoints: Vec<String>,
    /// Whether the service showed the zone when it was last asked to: then it is changed and not made anew.
    pub shown: bool,
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

    /// Ids of the zones in a switch's table. Costs little while the table is as it was last seen.
    fn zones_in<'a>(&'a self, fabric: &'a str, switch: &'a str) -> Answer<'a, BTreeSet<String>>;

    /// Brings a zone in a switch's table to what is wanted, if it is not so already, and reads it back. Safe against others who
    /// write at the same time (If-Match). What is not as wanted afterwards is in the answer.
    fn program_zone<'a>(&'a self, wanted: ZoneEntry<'a>) -> Answer<'a, Programmed>;

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
