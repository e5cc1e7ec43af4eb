//! What there is of VNF LCM operations, and their states (SOL003, clauses 5.5.2.13, 5.5.4 and 5.6.2).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Version of the life cycle management API that a request came by.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum ApiVersion {
    /// `/vnflcm/v1` (SOL003 2.6.1, API 1.3.0).
    V1,
    /// `/vnflcm/v2` (SOL003 3.3.1, API 2.0.0).
    #[default]
    V2,
}

/// A kind of operation (clause 5.5.4.5).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LcmOperationType {
    /// Instantiate.
    #[default]
    Instantiate,
    /// Scale by steps of an aspect.
    Scale,
    /// Scale to a level.
    ScaleToLevel,
    /// Change the deployment flavour.
    ChangeFlavour,
    /// Terminate.
    Terminate,
    /// Heal.
    Heal,
    /// Start or stop.
    Operate,
    /// Change external connectivity.
    ChangeExtConn,
    /// Modify what is known of the instance.
    ModifyInfo,
    /// Change to another version of the package.
    #[serde(rename = "CHANGE_VNFPKG")]
    ChangeVnfPackage,
}

/// Where an operation stands (clause 5.6.2.2).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LcmOperationState {
    /// Being prepared; nothing has been changed.
    #[default]
    Starting,
    /// Being carried out.
    Processing,
    /// Done.
    Completed,
    /// Failed; may be tried again, rolled back, or given up.
    FailedTemp,
    /// Failed and given up.
    Failed,
    /// Being rolled back.
    RollingBack,
    /// Rolled back.
    RolledBack,
}

impl LcmOperationState {
    /// Whether nothing more will happen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::RolledBack)
    }
}

/// How an operation is cancelled (clause 5.5.4.7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CancelMode {
    /// What has begun is finished, nothing else begins.
    #[default]
    Graceful,
    /// What has begun is interrupted.
    Forceful,
}

/// How an instance is terminated (clause 5.5.2.8).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TerminationType {
    /// At once.
    #[default]
    Forceful,
    /// After it was taken out of service.
    Graceful,
}

/// How long a graceful termination waits for the instance to be out of service, in seconds; 10 where nothing is said.
pub type GracefulTerminationTimeout = u32;

/// Direction of scaling (clause 5.5.2.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ScaleType {
    /// More.
    #[default]
    ScaleOut,
    /// Fewer.
    ScaleIn,
}
