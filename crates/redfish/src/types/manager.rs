//! Managers (BMCs) and their virtual media.

use serde_json::{Map, Value};

use super::{Link, Status, part, resource};

resource! {
    /// A BMC or another manager.
    Manager, "#Manager.v1_24_0.Manager" {
        /// `BMC`, `FabricManager`, `Service` …
        manager_type: Option<String>,
        /// UUID.
        #[serde(rename = "UUID")]
        uuid: Option<String>,
        /// Version of its firmware.
        firmware_version: Option<String>,
        /// Model.
        model: Option<String>,
        /// Its clock.
        date_time: Option<String>,
        /// Whether it is on.
        power_state: Option<super::PowerState>,
        /// Its virtual media.
        virtual_media: Option<Link>,
        /// Links.
        links: ManagerLinks,
        /// State and health.
        status: Status,
        /// Actions, by name: `#Manager.Reset`.
        actions: Map<String, Value>,
        /// What the standard does not have.
        oem: Map<String, Value>,
    }
}

part! {
    /// Links of a manager.
    ManagerLinks {
        /// Systems that it manages.
        manager_for_servers: Vec<Link>,
        /// Chassis that it manages.
        manager_for_chassis: Vec<Link>,
        /// Fabrics that it manages.
        manager_for_fabrics: Vec<Link>,
        /// Switches that it manages.
        manager_for_switches: Vec<Link>,
    }
}

resource! {
    /// A virtual drive that a BMC shows to its system.
    VirtualMedia, "#VirtualMedia.v1_6_5.VirtualMedia" {
        /// `CD`, `DVD`, `USBStick` …
        media_types: Vec<String>,
        /// URL of what is inserted.
        image: Option<String>,
        /// Last part of the URL.
        image_name: Option<String>,
        /// `URI`, `Applet`, `NotConnected` …
        connected_via: Option<String>,
        /// Whether something is inserted.
        inserted: Option<bool>,
        /// Whether the system cannot write to it.
        write_protected: Option<bool>,
        /// Whether the certificate of the image's server is checked.
        verify_certificate: Option<bool>,
        /// `Stream` or `Upload`.
        transfer_method: Option<String>,
        /// `HTTP`, `HTTPS` …
        transfer_protocol_type: Option<String>,
        /// State and health.
        status: Status,
        /// Actions, by name: `#VirtualMedia.InsertMedia`.
        actions: Map<String, Value>,
    }
}
