//! Kinds of `emco.drystone.dev/v1alpha1`: the documents of EMCO (Edge Multi-Cluster Orchestrator, release 22.09), of which composite
//! applications are made, and what is done with them.
//!
//! Every document is an object in [`SYSTEM_NAMESPACE`](crate::SYSTEM_NAMESPACE). Its identity is `spec.path`, the whole path below `/v2`
//! (`projects/p1/composite-apps/ca1/v1/apps/a1`); [`object_name`] gives the name that the front end gives it. An object that was made
//! with `kubectl` under another name counts the same. Of several with one path the oldest counts.

mod cluster;
mod composite_app;
mod controller;
mod deployment;
mod document;
mod generic_action;
mod logical_cloud;
mod network;
mod operation;
mod path;
mod placement;
mod state;

pub use cluster::{
    Cluster, ClusterConnectivity, ClusterKeyValues, ClusterKeyValuesSpec, ClusterLabel, ClusterLabelSpec,
    ClusterProvider, ClusterProviderSpec, ClusterSpec, ClusterStatus, ClusterSyncObject,
    ClusterSyncObjectSpec, DrystoneCluster, GitOps, KeyValues, NetworksStatus,
};
pub use composite_app::{
    App, AppDependency, AppDependencySpec, AppSpec, CompositeApp, CompositeAppSpec, CompositeProfile,
    CompositeProfileSpec, DependencyStatus, Profile, ProfileSpec, Project, ProjectSpec,
};
pub use controller::{
    ClmController, ClmControllerSpec, ClmControllerStatus, Controller, ControllerConnection, ControllerSpec,
    ControllerStatus, ControllerType,
};
pub use deployment::{
    AppIntent, AppIntentSpec, DeploymentIntentGroup, DeploymentIntentGroupSpec, DeploymentIntentGroupStatus,
    GenericPlacementIntent, GenericPlacementIntentSpec, GroupIntent, GroupIntentSpec, OverrideValues,
    PlacementChoice, PlacementIntent, PlacementItem,
};
pub use document::Document;
pub use generic_action::{
    ClusterInformation, Customization, CustomizationSpec, DataKeyOption, DataOptions, GenericK8sIntent,
    GenericK8sIntentSpec, JsonPatchOperation, K8sResource, K8sResourceSpec, ResourceGvk,
};
pub use logical_cloud::{
    ClusterQuota, ClusterQuotaSpec, ClusterReference, ClusterReferenceSpec, LogicalCloud,
    LogicalCloudKeyValues, LogicalCloudKeyValuesSpec, LogicalCloudSpec, LogicalCloudStatus, LogicalCloudUser,
    UserPermission, UserPermissionSpec,
};
pub use network::{
    InterfaceIntent, InterfaceIntentSpec, Network, NetworkControllerIntent, NetworkControllerIntentSpec,
    NetworkSpec, ProviderNetwork, ProviderNetworkSpec, ProviderNetworkVlan, Subnet, WorkloadIntent,
    WorkloadIntentSpec,
};
pub use operation::{
    LifecycleAction, LifecycleOperation, LifecycleOperationSpec, LifecycleOperationStatus,
    LifecycleParameters, LifecyclePhase,
};
pub use path::{DocumentPath, PathError, is_name, object_name};
pub use placement::{
    LabelExpression, LabelOperator, NewClusterPolicy, PlacementPreference, PlacementRules, PlacementSpread,
};
pub use state::{FileReference, StateEntry};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// The API group of these kinds.
pub const EMCO_GROUP: &str = "emco.drystone.dev";

/// Key of the Secret of a [`Cluster`]'s name: its kubeconfig.
pub const KUBECONFIG_KEY: &str = "kubeconfig";

/// Key of the Secret of a [`ClusterSyncObject`]'s name: its key-value pairs whole, as JSON, if one of them is secret.
pub const KEY_VALUES_KEY: &str = "kv.json";

/// Stands for a value that is in the Secret of the object's name.
pub const MASK: &str = "***";

/// Provider under which the clusters that Drystone made are known.
pub const DRYSTONE_PROVIDER: &str = "drystone";

/// Calls a macro with the names of all kinds of documents, separated by commas.
#[macro_export]
macro_rules! for_each_emco_document {
    ($call:ident) => {
        $call! {
            Project, CompositeApp, App, AppDependency, CompositeProfile, Profile, DeploymentIntentGroup,
            GroupIntent, GenericPlacementIntent, AppIntent, Controller, ClmController, ClusterProvider,
            Cluster, ClusterLabel, ClusterKeyValues, ClusterSyncObject, LogicalCloud, ClusterReference,
            UserPermission, ClusterQuota, LogicalCloudKeyValues, Network, ProviderNetwork,
            NetworkControllerIntent, WorkloadIntent, InterfaceIntent, GenericK8sIntent, K8sResource,
            Customization
        }
    };
}

macro_rules! definitions {
    ($($kind:ident),*) => { vec![$($kind::crd(),)* LifecycleOperation::crd()] };
}

/// The custom resource definitions of these kinds.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    crate::for_each_emco_document!(definitions)
}

fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn key_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 10_000,
        "items": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}
    })
}

fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}

#[cfg(test)]
mod tests;
