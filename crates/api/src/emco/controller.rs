//! Controllers: who shapes an AppContext, carries it to clusters, or hears of clusters.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::document;

document! {
    /// A controller that takes part in deployments, or, as `rsync`, carries AppContexts to clusters. Spoken to over gRPC.
    Controller("Controller", "controllers", "emcocontroller"), ControllerSpec, "Controller", "controllers/{controller}",
    [
        status = "ControllerStatus",
        printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host"}"#,
        printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.port"}"#,
        printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type"}"#,
        printcolumn = r#"{"name":"Priority","type":"integer","jsonPath":".spec.priority"}"#,
        printcolumn = r#"{"name":"Connection","type":"string","jsonPath":".status.connection"}"#
    ]
    {
        /// Host name or address.
        #[schemars(length(min = 1, max = 253))]
        pub host: String,
        /// Port; 0 if it is not spoken to.
        #[serde(default)]
        #[schemars(range(min = 0, max = 65_535))]
        pub port: i64,
        /// What it does; absent for one that is neither, such as `rsync`.
        #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
        pub kind: Option<ControllerType>,
        /// When its turn is: lower numbers first.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1_000_000))]
        pub priority: i64,
        /// Whether it is spoken to over TLS. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "is_false")]
        pub tls: bool,
        /// Authority that its certificate is of, PEM; with `tls`, that of Drystone if absent. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(max = 65_536))]
        pub certificate_authority: Option<String>,
    }
}

fn is_false(value: &bool) -> bool {
    !value
}

/// What a controller does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ControllerType {
    /// Says on which clusters applications run.
    Placement,
    /// Changes what runs there.
    Action,
}

/// What is known of a controller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ControllerStatus {
    /// Whether it is connected.
    #[serde(default)]
    pub connection: ControllerConnection,
    /// Since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why it is not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Generation that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// Whether a controller is connected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ControllerConnection {
    /// Not tried yet.
    #[default]
    Unknown,
    /// It is a part of Drystone.
    BuiltIn,
    /// It answers.
    Connected,
    /// It does not; it is tried again.
    Failing,
}

document! {
    /// A controller that hears of clusters that come and go.
    ClmController("ClmController", "clmcontrollers", "clmctl"), ClmControllerSpec, "Controller", "clm-controllers/{controller}",
    [
        status = "ClmControllerStatus",
        printcolumn = r#"{"name":"Host","type":"string","jsonPath":".spec.host"}"#,
        printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.port"}"#,
        printcolumn = r#"{"name":"Connection","type":"string","jsonPath":".status.connection"}"#
    ]
    {
        /// Host name or address.
        #[schemars(length(min = 1, max = 253))]
        pub host: String,
        /// Port.
        #[serde(default)]
        #[schemars(range(min = 0, max = 65_535))]
        pub port: i64,
        /// When its turn is: lower numbers first.
        #[serde(default)]
        #[schemars(range(min = 0, max = 1_000_000))]
        pub priority: i64,
        /// Whether it is spoken to over TLS. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "is_false")]
        pub tls: bool,
        /// Authority that its certificate is of, PEM; with `tls`, that of Drystone if absent. An addition of Drystone's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(max = 65_536))]
        pub certificate_authority: Option<String>,
    }
}

/// What is known of a controller that hears of clusters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClmControllerStatus {
    /// Whether it is connected.
    #[serde(default)]
    pub connection: ControllerConnection,
    /// Since when that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Why it is not, or what it answered last when it was told something.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Generation that this is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The clusters that it has heard of: by path, uid and generation with a slash between them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub told: BTreeMap<String, String>,
}
