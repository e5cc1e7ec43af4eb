//! The messages of EMCO's gRPC contract. They are proto3 without a package; several messages of the contract have one shape and share
//! a type here. Names and numbers of fields are those of the contract; nothing but their numbers and types goes over the wire.

/// What says nothing.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// Whatever asks for something to be done with one AppContext: `InstallApp`, `UninstallApp`, `ReadAppContext`, `TerminateAppContext`,
/// `FilterClusters`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContextRequest {
    #[prost(string, tag = "1")]
    pub(crate) app_context: String,
}

/// Whatever says that something was done, or why not.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Outcome {
    #[prost(bool, tag = "1")]
    pub(crate) done: bool,
    #[prost(string, tag = "2")]
    pub(crate) message: String,
}

/// `UpdateApp` and `RollbackApp`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UpdateRequest {
    #[prost(string, tag = "1")]
    pub(crate) from: String,
    #[prost(string, tag = "2")]
    pub(crate) to: String,
}

/// `contextupdate.UpdateAppContext`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ContextUpdateRequest {
    #[prost(string, tag = "1")]
    pub(crate) app_context: String,
    #[prost(string, tag = "2")]
    pub(crate) intent_name: String,
    #[prost(string, tag = "3")]
    pub(crate) update_from_app_context: String,
}

/// `contextupdate.PostEvent`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PostEventRequest {
    #[prost(string, tag = "1")]
    pub(crate) app_context: String,
    #[prost(enumeration = "EventType", tag = "2")]
    pub(crate) event_type: i32,
}

/// What has been done with an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum EventType {
    Instantiate = 0,
    Terminate = 1,
    Update = 2,
}

/// The answer of `PlacementController.FilterClusters`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FilterResponse {
    #[prost(string, tag = "1")]
    pub(crate) app_context: String,
    #[prost(bool, tag = "2")]
    pub(crate) status: bool,
    #[prost(string, tag = "3")]
    pub(crate) message: String,
}

/// `readyNotify.Topic`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Topic {
    #[prost(string, tag = "1")]
    pub(crate) client_name: String,
    #[prost(string, tag = "2")]
    pub(crate) app_context: String,
}

/// `readyNotify.Notification`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReadyNotification {
    #[prost(string, tag = "1")]
    pub(crate) client_name: String,
    #[prost(string, tag = "2")]
    pub(crate) server_name: String,
    #[prost(string, tag = "3")]
    pub(crate) app_context: String,
    #[prost(string, tag = "4")]
    pub(crate) app: String,
    #[prost(string, tag = "5")]
    pub(crate) cluster: String,
}

/// `ClmControllerEventChannel.Publish`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClusterEventRequest {
    #[prost(string, tag = "1")]
    pub(crate) provider_name: String,
    #[prost(string, tag = "2")]
    pub(crate) cluster_name: String,
    #[prost(enumeration = "ClusterEventType", tag = "3")]
    pub(crate) event: i32,
}

/// What has happened to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ClusterEventType {
    Created = 0,
    Updated = 1,
    Deleted = 2,
}

/// The answer to it.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClusterEventResponse {
    #[prost(string, tag = "1")]
    pub(crate) provider_name: String,
    #[prost(string, tag = "2")]
    pub(crate) cluster_name: String,
    #[prost(bool, tag = "3")]
    pub(crate) status: bool,
    #[prost(string, tag = "4")]
    pub(crate) message: String,
}

/// `StatusNotify.StatusRegister`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatusRegistration {
    #[prost(string, tag = "1")]
    pub(crate) client_id: String,
    #[prost(oneof = "StatusKey", tags = "2, 3, 4")]
    pub(crate) key: Option<StatusKey>,
    #[prost(enumeration = "StatusValue", tag = "5")]
    pub(crate) status_type: i32,
    #[prost(string, repeated, tag = "6")]
    pub(crate) apps: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    pub(crate) clusters: Vec<String>,
    #[prost(string, repeated, tag = "8")]
    pub(crate) resources: Vec<String>,
    #[prost(enumeration = "Output", tag = "9")]
    pub(crate) output: i32,
}

/// Whose status is asked for.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum StatusKey {
    #[prost(message, tag = "2")]
    Group(GroupKey),
    #[prost(message, tag = "3")]
    LogicalCloud(LogicalCloudKey),
    #[prost(message, tag = "4")]
    Cluster(ClusterKey),
}

/// A deployment intent group.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupKey {
    #[prost(string, tag = "1")]
    pub(crate) project: String,
    #[prost(string, tag = "2")]
    pub(crate) composite_app: String,
    #[prost(string, tag = "3")]
    pub(crate) composite_app_version: String,
    #[prost(string, tag = "4")]
    pub(crate) deployment_intent_group: String,
}

/// A logical cloud.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LogicalCloudKey {
    #[prost(string, tag = "1")]
    pub(crate) project: String,
    #[prost(string, tag = "2")]
    pub(crate) logical_cloud: String,
}

/// A cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClusterKey {
    #[prost(string, tag = "1")]
    pub(crate) cluster_provider: String,
    #[prost(string, tag = "2")]
    pub(crate) cluster: String,
}

/// What a status is; `READY` and `DEPLOYED` name as well what is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum StatusValue {
    Error = 0,
    NotReady = 1,
    Ready = 2,
    NotDeployed = 3,
    Deployed = 4,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum Output {
    Summary = 0,
    All = 1,
}

/// `StatusNotify.StatusDeregister`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatusDeregistration {
    #[prost(string, tag = "1")]
    pub(crate) client_id: String,
}

/// What a subscriber of statuses is told.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatusNotification {
    #[prost(enumeration = "StatusValue", tag = "1")]
    pub(crate) status_value: i32,
    #[prost(message, repeated, tag = "2")]
    pub(crate) details: Vec<StatusDetail>,
}

/// The status of an app, or of a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StatusDetail {
    #[prost(oneof = "StatusDetailOf", tags = "1, 2")]
    pub(crate) of: Option<StatusDetailOf>,
}

/// Which of the two.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum StatusDetailOf {
    #[prost(message, tag = "1")]
    App(AppStatus),
    #[prost(message, tag = "2")]
    Cluster(ClusterStatus),
}

/// The status of an app.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AppStatus {
    #[prost(string, tag = "1")]
    pub(crate) app: String,
    #[prost(enumeration = "StatusValue", tag = "2")]
    pub(crate) status_value: i32,
    #[prost(message, repeated, tag = "3")]
    pub(crate) clusters: Vec<ClusterStatus>,
}

/// The status of what is in a cluster.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ClusterStatus {
    #[prost(string, tag = "1")]
    pub(crate) cluster_provider: String,
    #[prost(string, tag = "2")]
    pub(crate) cluster: String,
    #[prost(enumeration = "StatusValue", tag = "3")]
    pub(crate) status_value: i32,
    #[prost(message, repeated, tag = "4")]
    pub(crate) resources: Vec<ResourceStatus>,
}

/// The status of an object.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ResourceStatus {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) gvk: Option<GroupVersionKind>,
    #[prost(enumeration = "StatusValue", tag = "3")]
    pub(crate) status_value: i32,
}

/// What kind of object.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GroupVersionKind {
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(string, tag = "3")]
    pub(crate) kind: String,
}

/// `grpc.health.v1.Health.Check`, of gRPC's own health protocol.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// Its answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HealthResponse {
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub(crate) status: i32,
}

/// Whether a server serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(crate) enum ServingStatus {
    Unknown = 0,
    Serving = 1,
    NotServing = 2,
    ServiceUnknown = 3,
}
