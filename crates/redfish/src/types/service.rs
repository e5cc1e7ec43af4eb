//! What a service says about itself: root, sessions, tasks.

use super::{Link, Status, resource};
use crate::message::Message;

resource! {
    /// The root of a service.
    ServiceRoot, "#ServiceRoot.v1_20_0.ServiceRoot" {
        /// Version of the protocol.
        redfish_version: Option<String>,
        /// UUID.
        #[serde(rename = "UUID")]
        uuid: Option<String>,
        /// What it is.
        product: Option<String>,
        /// Systems.
        systems: Option<Link>,
        /// Chassis.
        chassis: Option<Link>,
        /// Managers.
        managers: Option<Link>,
        /// Fabrics.
        fabrics: Option<Link>,
        /// Composition.
        composition_service: Option<Link>,
        /// Sessions.
        session_service: Option<Link>,
        /// Accounts.
        account_service: Option<Link>,
        /// Events.
        event_service: Option<Link>,
        /// Tasks.
        tasks: Option<Link>,
        /// Links; `Sessions` is always there.
        links: serde_json::Map<String, serde_json::Value>,
        /// Query options and the like that it serves.
        protocol_features_supported: serde_json::Map<String, serde_json::Value>,
    }
}

resource! {
    /// A session.
    Session, "#Session.v1_7_0.Session" {
        /// Who logged in.
        user_name: Option<String>,
        /// When.
        created_time: Option<String>,
    }
}

resource! {
    /// Work that goes on after its request was answered.
    Task, "#Task.v1_7_4.Task" {
        /// `New`, `Running`, `Completed`, `Exception`, `Killed`, `Cancelled` …
        task_state: Option<String>,
        /// `OK`, `Warning` or `Critical`.
        task_status: Option<String>,
        /// How much is done, in per cent.
        percent_complete: Option<u32>,
        /// Where its result will be.
        task_monitor: Option<String>,
        /// What it has to say.
        messages: Vec<Message>,
        /// State and health.
        status: Status,
    }
}
