//! Data types of SOL003, in the shape of API version 2. Members that a client may leave out are `Option`s or empty collections, and are
//! left out again when they are written.

mod changes;
mod connection_points;
mod instance;
mod operation;
mod package;
mod problem;
mod resource;
mod subscription;
mod vim;

pub use changes::{
    AffectedExtLinkPort, AffectedVirtualLink, AffectedVirtualStorage, AffectedVnfc, ChangeType,
    ResourceChanges,
};
pub use connection_points::{
    CpProtocolData, ExtLinkPortData, ExtManagedVirtualLinkData, ExtVirtualLinkData, IpAddressRange,
    IpAddressType, IpAddresses, IpOverEthernetAddressData, LayerProtocol, VnfExtCpConfig, VnfExtCpData,
    VnfLinkPortData,
};
pub use instance::{
    ExtLinkPortInfo, ExtManagedVirtualLinkInfo, ExtVirtualLinkInfo, InstantiatedVnfInfo, InstantiationState,
    ScaleInfo, VirtualStorageResourceInfo, VnfExtCpInfo, VnfLinkPortInfo, VnfOperationalState,
    VnfVirtualLinkResourceInfo, VnfcCpInfo, VnfcInfo, VnfcResourceInfo,
};
pub use operation::{
    ApiVersion, CancelMode, GracefulTerminationTimeout, LcmOperationState, LcmOperationType, ScaleType,
    TerminationType,
};
pub use package::{
    Checksum, PackageArtifactInfo, PackageOnboardingState, PackageOperationalState, PackageUsageState,
    SoftwareImageInfo,
};
pub use problem::ProblemDetails;
pub use resource::ResourceHandle;
use serde_json::{Map, Value};
pub use subscription::{
    LccnVerbosity, LifecycleChangeNotificationsFilter, NotificationType, SubscriptionAuthenticationType,
    VnfInstanceSubscriptionFilter, VnfProduct, VnfProductVersion, VnfProductsFromProvider,
};
pub use vim::VimConnectionInfo;

/// Names with values of any kind (SOL003, `KeyValuePairs`).
pub type KeyValuePairs = Map<String, Value>;

/// Schema of members whose content is the package's, or the client's, to define.
pub(crate) fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
