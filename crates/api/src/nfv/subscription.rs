//! `VnfSubscription`: somebody who is told what happens to VNFs (SOL003, clause 5.5.2.16).

use std::collections::BTreeMap;

use drystone_sol003::types::{
    LccnVerbosity, LifecycleChangeNotificationsFilter, SubscriptionAuthenticationType,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A subscription.
#[derive(CustomResource, Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "nfv.drystone.dev",
    version = "v1alpha1",
    kind = "VnfSubscription",
    plural = "vnfsubscriptions",
    shortname = "vnfsub",
    category = "drystone",
    namespaced,
    status = "VnfSubscriptionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Callback","type":"string","jsonPath":".spec.callbackUri"}"#,
    printcolumn = r#"{"name":"Waiting","type":"integer","jsonPath":".status.waiting"}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.message","priority":1}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct VnfSubscriptionSpec {
    /// Where notifications are posted.
    #[schemars(length(min = 1))]
    pub callback_uri: String,
    /// Which notifications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<LifecycleChangeNotificationsFilter>,
    /// How much they say.
    #[serde(default)]
    pub verbosity: LccnVerbosity,
    /// How the notifier authenticates itself; tried in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authentication_types: Vec<SubscriptionAuthenticationType>,
    /// Name of the Secret whose key `authentication.json` has the parameters of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<String>,
}

/// What a subscriber has been told.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfSubscriptionStatus {
    /// By uid of an operation, or of an instance: the number of the last change that was delivered. Entries end with what they are about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delivered: BTreeMap<String, u32>,
    /// How many notifications wait.
    #[serde(default)]
    pub waiting: u32,
    /// Why the last one could not be delivered.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When one was last delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_delivery: Option<Time>,
}
