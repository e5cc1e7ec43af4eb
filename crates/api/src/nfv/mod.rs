//! Kinds of `nfv.drystone.dev/v1alpha1`: VNF packages, instances, operations, subscriptions, and the VIMs that carry them.
//!
//! The identifier of each in SOL003 is its `metadata.uid`: what `kubectl` makes is seen by SOL003's clients, and the other way round.

mod instance;
mod operation;
mod package;
mod subscription;
mod vim;

pub use instance::{VnfInstance, VnfInstanceSpec, VnfInstanceStatus, VnfNode};
pub use operation::{
    OperationStateTransition, VnfLcmOperation, VnfLcmOperationProgress, VnfLcmOperationSpec,
    VnfLcmOperationStatus,
};
pub use package::{PackageContent, VnfPackage, VnfPackageSource, VnfPackageSpec, VnfPackageStatus};
pub use subscription::{VnfSubscription, VnfSubscriptionSpec, VnfSubscriptionStatus};
pub use vim::{Vim, VimProject, VimSpec, VimState, VimStatus, VimType};

/// The API group of these kinds.
pub const NFV_GROUP: &str = "nfv.drystone.dev";

/// Label that names the VnfInstance which an object belongs to.
pub const VNF_INSTANCE_LABEL: &str = "nfv.drystone.dev/vnf-instance";

/// Key of a Secret that holds what a request said, whole: JSON.
pub const PARAMETERS_KEY: &str = "parameters.json";

/// Key of a Secret that holds the secret members of `vimConnectionInfo`: JSON, by connection.
pub const VIM_CONNECTION_KEY: &str = "vim-connection-info.json";

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}
