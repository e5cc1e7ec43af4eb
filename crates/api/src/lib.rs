//! Every Drystone resource kind, as data: specifications, statuses and their invariants. No I/O.
//!
//! Kinds of `drystone.dev/v1alpha1` are defined by Drystone; [`BareMetalHost`] is Metal3's, unchanged. The custom resource
//! definitions that an API server needs are in [`custom_resource_definitions`].

mod address_pool;
mod agent_resource;
mod artifact;
mod bare_metal_host;
mod cluster;
mod composition;
mod condition;
mod connection;
mod distribution;
pub mod emco;
mod fabric_agent;
mod fabric_switch;
mod hand_off;
mod hardware_data;
mod host;
mod host_firmware;
mod host_software;
mod icn;
pub mod nfv;
mod operation;
pub mod quantity;
mod reference;
mod resource_block;
mod resource_pool;
mod rollout;
mod site;
mod software_set;
mod storage_server;
mod zone;

pub use address_pool::{
    AddressLease, AddressPool, AddressPoolPurpose, AddressPoolSpec, AddressPoolStatus, NumberRange,
};
pub use agent_resource::{AgentResource, AgentResourceSpec, AgentResourceStatus};
pub use artifact::{Artifact, ArtifactRecord, ArtifactSpec, ArtifactStatus, ArtifactType};
pub use bare_metal_host::{
    BareMetalHost, BareMetalHostSpec, BareMetalHostStatus, BmcDetails, BootMode, Cpu, CredentialsStatus,
    CustomDeploy, Firmware, FirmwareBios, HardwareDetails, HardwareRaidVolume, HostImage,
    HostNetworkAttachmentReference, HostNetworkInterface, HostSwitchPort, ImageFormat, LinkLayerNeighbour,
    Nic, OperationHistory, OperationMetric, OperationalStatus, ProvisionStatus, ProvisioningState, Raid,
    RegisteredAs, RootDeviceHints, SecretReference, SoftwareRaidVolume, StorageDevice, SystemVendor, Vlan,
};
pub use cluster::{
    Cluster, ClusterMember, ClusterNetwork, ClusterPhase, ClusterSpec, ClusterStatus, ClusterZone,
    ControlPlane, Isolation, MemberRole, Taint, WorkerPool,
};
pub use composition::{
    CandidateReport, Composition, CompositionGroup, CompositionMember, CompositionMode, CompositionPhase,
    CompositionSpec, CompositionStatus, Explanation, FailureDomain, FunnelReason, FunnelStage, HopLimit,
    LimitReport, Limits, Purpose, Reservation, SpreadRequirement, Weights,
};
pub use condition::{condition, is_true, set_condition};
pub use connection::{
    Connection, ConnectionPhase, ConnectionSpec, ConnectionStatus, ConnectionType, EndpointGroup,
    EndpointGroupSpec, EndpointGroupType,
};
pub use distribution::{
    ClusterHost, Distribution, ExternalCluster, HostAccess, KubeadmSettings, ScriptRuns, ScriptSettings,
};
pub use fabric_agent::{
    AgentFabric, FabricAgent, FabricAgentSpec, FabricAgentStatus, FabricRouting, TableOwnership,
};
pub use fabric_switch::{
    EndpointRole, Switch, SwitchEndpoint, SwitchLink, SwitchSpec, SwitchState, SwitchStatus,
};
pub use hand_off::{
    CredentialsReference, HandOffAuthentication, HandOffAuthenticationType, HandOffKubernetes, HandOffState,
    HandOffWebhook, SiteHandOff, SiteHandOffStatus,
};
pub use hardware_data::{HardwareData, HardwareDataSpec};
pub use host::{
    Accelerator, AcceleratorRequirement, AcceleratorType, DriveRequirement, HostRequirement,
    NetworkRequirement,
};
pub use host_firmware::{
    FirmwareSchema, FirmwareSchemaReference, FirmwareSchemaSpec, HostFirmwareSettings,
    HostFirmwareSettingsSpec, HostFirmwareSettingsStatus, SettingSchema,
};
pub use host_software::{HostSoftware, HostSoftwareSpec, HostSoftwareStatus, PackageManager};
pub use icn::{
    IcnMachine, IcnProvisioning, IcnProvisioningSpec, IcnProvisioningStatus, IcnSoftware, IcnSoftwareSpec,
    IcnSoftwareStatus,
};
pub use operation::{
    FailurePolicy, Operation, OperationPhase, OperationSpec, OperationStatus, StepSpec, StepState, StepStatus,
};
pub use reference::ObjectReference;
pub use resource_block::{
    BlockNic, BlockPool, Drive, ResourceBlock, ResourceBlockSpec, ResourceBlockStatus, ResourceBlockType,
};
pub use resource_pool::{
    IdleHost, PoolCounts, PoolResource, PoolResourceKind, ResourcePool, ResourcePoolSpec, ResourcePoolStatus,
};
pub use rollout::{
    DrainPolicy, FormerSoftware, HealthGate, HostRollout, HostRolloutPhase, PinnedSet, RebootPolicy,
    RollBack, RollBackScope, Rollout, RolloutCounts, RolloutPhase, RolloutSpec, RolloutStatus,
    RolloutStrategy, RolloutWave, WaveStatus,
};
pub use site::{
    ConflictPolicy, ConnectionState, ExternalPool, NodeNetwork, Site, SiteBmc, SiteCluster,
    SiteClusterStatus, SiteConflict, SiteConnection, SiteController, SiteFabricService, SiteGateway,
    SiteHostRole, SiteRolloutStatus, SiteSpec, SiteStatus, SiteSynchronization,
};
pub use software_set::{
    ContainerImage, HostSelector, OperatingSystemImage, PackageArtifact, PackageState, RolloutApproval,
    SoftwareAccess, SoftwareFile, SoftwarePackage, SoftwareSet, SoftwareSetSpec, SoftwareSetStatus,
    SoftwareTrust,
};
pub use storage_server::{
    StorageHost, StoragePersistentVolume, StorageServer, StorageServerPhase, StorageServerSpec,
    StorageServerStatus, StorageVolume, StorageVolumeStatus,
};
pub use zone::{
    IsolationProof, ZONE_FINALIZER, ZONE_REFUSED, Zone, ZoneConnectionStatus, ZoneFabricStatus, ZoneMember,
    ZoneMemberStatus, ZonePhase, ZoneSpec, ZoneStatus, ZoneType,
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The API group of Drystone's own kinds.
pub const GROUP: &str = "drystone.dev";

/// Namespace of what belongs to no tenant: sites, hosts, fabric agents.
pub const SYSTEM_NAMESPACE: &str = "drystone-system";

/// Label that names the cluster an object belongs to.
pub const CLUSTER_LABEL: &str = "drystone.dev/cluster";

/// Label that names the namespace of the cluster an object belongs to.
pub const CLUSTER_NAMESPACE_LABEL: &str = "drystone.dev/cluster-namespace";

/// Label that names the site an object belongs to.
pub const SITE_LABEL: &str = "drystone.dev/site";

/// Label on a BareMetalHost: what it is for in its site's cluster; `control-plane`, `worker` or `spare`.
pub const SITE_ROLE_LABEL: &str = "drystone.dev/site-role";

/// Label on an object that a global controller has written at a site.
pub const GLOBAL_LABEL: &str = "drystone.dev/declared-globally";

/// Annotation on an object at the global controller: names of the sites that it is delivered to, with commas between them, or `*` for
/// all. The label `drystone.dev/site` does the same for one site.
pub const DELIVER_TO_ANNOTATION: &str = "drystone.dev/deliver-to";

/// Label on a BareMetalHost that names its rack, where inspection cannot tell.
pub const RACK_LABEL: &str = "drystone.dev/rack";

/// Annotation on a BareMetalHost: the fencing token of the last claim on it. It stays when the host is given back, so that
/// nobody with an older token takes or releases the host any more.
pub const FENCING_ANNOTATION: &str = "drystone.dev/fencing-token";

/// Annotation on a BareMetalHost: which ResourcePool last set `spec.online`, and to what: `drystone-system/default=on`.
pub const POWERED_BY_ANNOTATION: &str = "drystone.dev/powered-by";

/// Annotation on a Cluster whose hosts were not composed: with the value `true`, they are left as they are when it is deleted.
pub const ABANDON_HOSTS_ANNOTATION: &str = "drystone.dev/abandon-hosts";

/// Annotation on a Service: the node that answers for its external addresses.
pub const ANNOUNCED_BY_ANNOTATION: &str = "drystone.dev/announced-by";

/// Extended resource name under which nodes offer their GPUs.
pub const GPU_RESOURCE: &str = "drystone.dev/gpu";

/// The custom resource definitions of every kind that Drystone serves, ready to be applied.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    let mut definitions = vec![
        AddressPool::crd(),
        AgentResource::crd(),
        Artifact::crd(),
        BareMetalHost::crd(),
        Cluster::crd(),
        Composition::crd(),
        Connection::crd(),
        EndpointGroup::crd(),
        FabricAgent::crd(),
        FirmwareSchema::crd(),
        HardwareData::crd(),
        HostFirmwareSettings::crd(),
        HostSoftware::crd(),
        IcnProvisioning::crd(),
        IcnSoftware::crd(),
        Operation::crd(),
        ResourceBlock::crd(),
        ResourcePool::crd(),
        Rollout::crd(),
        Site::crd(),
        SoftwareSet::crd(),
        StorageServer::crd(),
        Switch::crd(),
        nfv::Vim::crd(),
        nfv::VnfInstance::crd(),
        nfv::VnfLcmOperation::crd(),
        nfv::VnfPackage::crd(),
        nfv::VnfSubscription::crd(),
        Zone::crd(),
    ];
    definitions.extend(emco::definitions());
    definitions
}

#[cfg(test)]
mod tests;
