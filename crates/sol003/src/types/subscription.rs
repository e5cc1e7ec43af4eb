//! Subscriptions to notifications of the life cycle (SOL003, clauses 5.5.2.15, 5.5.3.12 and 4.4.1.5).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LcmOperationState, LcmOperationType};

/// Which notifications a subscriber wants: members are combined by "and", values of a member by "or"; what is empty excludes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifecycleChangeNotificationsFilter {
    /// Of which instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vnf_instance_subscription_filter: Option<VnfInstanceSubscriptionFilter>,
    /// Of which kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notification_types: Vec<NotificationType>,
    /// Of which operations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operation_types: Vec<LcmOperationType>,
    /// Of which states.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operation_states: Vec<LcmOperationState>,
}

/// Kinds of notifications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum NotificationType {
    /// An operation changed its state.
    #[default]
    #[serde(rename = "VnfLcmOperationOccurrenceNotification")]
    OperationOccurrence,
    /// An instance came to be.
    #[serde(rename = "VnfIdentifierCreationNotification")]
    IdentifierCreation,
    /// An instance ceased to be.
    #[serde(rename = "VnfIdentifierDeletionNotification")]
    IdentifierDeletion,
}

/// Instances, by what they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfInstanceSubscriptionFilter {
    /// By their VNFD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnfd_ids: Vec<String>,
    /// By product.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_products_from_providers: Vec<VnfProductsFromProvider>,
    /// By identifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_instance_ids: Vec<String>,
    /// By name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_instance_names: Vec<String>,
}

/// Products of a provider; all of them, if none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfProductsFromProvider {
    /// The provider.
    pub vnf_provider: String,
    /// The products.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnf_products: Vec<VnfProduct>,
}

/// A product; all versions of it, if none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfProduct {
    /// Its name.
    pub vnf_product_name: String,
    /// Versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<VnfProductVersion>,
}

/// A version of a product; all VNFDs of it, if none is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VnfProductVersion {
    /// Version of the software.
    pub vnf_software_version: String,
    /// Versions of the VNFD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnfd_versions: Vec<String>,
}

/// How much a notification says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LccnVerbosity {
    /// Everything.
    #[default]
    Full,
    /// Without what changed.
    Short,
}

/// How a subscriber authenticates the notifier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SubscriptionAuthenticationType {
    /// HTTP Basic.
    #[default]
    Basic,
    /// A token of an OAuth 2.0 server, for a client's identifier and password.
    Oauth2ClientCredentials,
    /// A token of an OAuth 2.0 server, for a client's certificate.
    Oauth2ClientCert,
}
