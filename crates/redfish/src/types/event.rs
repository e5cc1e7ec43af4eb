//! Events and who wants them.

use serde::{Deserialize, Serialize};

use super::{Link, Status, resource};
use crate::message::Severity;

resource! {
    /// A subscription to events.
    EventDestination, "#EventDestination.v1_16_0.EventDestination" {
        /// Where events are sent.
        destination: Option<String>,
        /// Opaque text that every event carries.
        context: Option<String>,
        /// `Redfish`.
        protocol: Option<String>,
        /// `RedfishEvent` …
        subscription_type: Option<String>,
        /// `Event`.
        event_format_type: Option<String>,
        /// What happens when the destination does not answer.
        delivery_retry_policy: Option<String>,
        /// Only messages of these registries; all if empty.
        registry_prefixes: Vec<String>,
        /// Only these messages; all if empty.
        message_ids: Vec<String>,
        /// Only events about resources of these schemas; all if empty.
        resource_types: Vec<String>,
        /// Only events about these resources; all if empty.
        origin_resources: Vec<Link>,
        /// Whether resources below the origins count too.
        subordinate_resources: Option<bool>,
        /// Whether the certificate of the destination is checked.
        verify_certificate: Option<bool>,
        /// State and health.
        status: Status,
    }
}

/// What is sent to a destination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Event {
    /// Schema and version.
    #[serde(rename = "@odata.type")]
    pub odata_type: String,
    /// Id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// The subscription's text.
    pub context: String,
    /// What happened.
    pub events: Vec<EventRecord>,
}

impl Event {
    /// The `@odata.type` that Drystone emits.
    pub const TYPE: &'static str = "#Event.v1_13_0.Event";
}

/// One thing that happened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EventRecord {
    /// Id inside the event.
    pub member_id: String,
    /// Id, unique in the service.
    pub event_id: String,
    /// Coarse kind: `Other` where the message says all.
    pub event_type: String,
    /// When.
    pub event_timestamp: String,
    /// Registry, version and key.
    pub message_id: String,
    /// The text.
    pub message: String,
    /// What was put into the text.
    pub message_args: Vec<String>,
    /// How grave it is.
    pub message_severity: Severity,
    /// The resource that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_of_condition: Option<Link>,
}
