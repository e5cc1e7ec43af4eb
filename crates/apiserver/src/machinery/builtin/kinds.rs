//! The built-in kinds, and their schemas as k8s-openapi knows them.

use std::borrow::Cow;

use k8s_openapi::Resource;
use k8s_openapi::api::{
    admissionregistration, apps, authentication, authorization, autoscaling, batch, certificates,
    coordination, core, discovery, events, networking, node, policy, rbac, scheduling, storage,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value};

use super::{corrections, merge_facts};

/// A kind that Kubernetes itself defines, in one version.
#[derive(Clone, Copy)]
pub struct BuiltinKind {
    /// API group; empty for core.
    pub group: &'static str,
    /// API version, e.g. `v1`.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    name: fn() -> Cow<'static, str>,
    add: fn(&mut SchemaGenerator),
}

impl BuiltinKind {
    const fn of<T: Resource + JsonSchema>() -> Self {
        Self {
            group: T::GROUP,
            version: T::VERSION,
            kind: T::KIND,
            name: T::schema_name,
            add: |generator| {
                generator.subschema_for::<T>();
            },
        }
    }

    /// Name of the kind's definition, e.g. `io.k8s.api.core.v1.Pod`.
    pub fn definition_name(&self) -> Cow<'static, str> {
        (self.name)()
    }
}

impl std::fmt::Debug for BuiltinKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} {}", self.group, self.version, self.kind)
    }
}

/// Every built-in kind that has a schema here: stored ones, and those that requests and subresources exchange.
pub const KINDS: &[BuiltinKind] = &[
    BuiltinKind::of::<core::v1::Binding>(),
    BuiltinKind::of::<core::v1::ConfigMap>(),
    BuiltinKind::of::<core::v1::Endpoints>(),
    BuiltinKind::of::<core::v1::Event>(),
    BuiltinKind::of::<core::v1::LimitRange>(),
    BuiltinKind::of::<core::v1::Namespace>(),
    BuiltinKind::of::<core::v1::Node>(),
    BuiltinKind::of::<core::v1::PersistentVolume>(),
    BuiltinKind::of::<core::v1::PersistentVolumeClaim>(),
    BuiltinKind::of::<core::v1::Pod>(),
    BuiltinKind::of::<core::v1::PodTemplate>(),
    BuiltinKind::of::<core::v1::ReplicationController>(),
    BuiltinKind::of::<core::v1::ResourceQuota>(),
    BuiltinKind::of::<core::v1::Secret>(),
    BuiltinKind::of::<core::v1::Service>(),
    BuiltinKind::of::<core::v1::ServiceAccount>(),
    BuiltinKind::of::<admissionregistration::v1::MutatingWebhookConfiguration>(),
    BuiltinKind::of::<admissionregistration::v1::ValidatingWebhookConfiguration>(),
    BuiltinKind::of::<apiextensions::v1::CustomResourceDefinition>(),
    BuiltinKind::of::<apps::v1::ControllerRevision>(),
    BuiltinKind::of::<apps::v1::DaemonSet>(),
    BuiltinKind::of::<apps::v1::Deployment>(),
    BuiltinKind::of::<apps::v1::ReplicaSet>(),
    BuiltinKind::of::<apps::v1::StatefulSet>(),
    BuiltinKind::of::<authentication::v1::SelfSubjectReview>(),
    BuiltinKind::of::<authentication::v1::TokenRequest>(),
    BuiltinKind::of::<authentication::v1::TokenReview>(),
    BuiltinKind::of::<authorization::v1::LocalSubjectAccessReview>(),
    BuiltinKind::of::<authorization::v1::SelfSubjectAccessReview>(),
    BuiltinKind::of::<authorization::v1::SelfSubjectRulesReview>(),
    BuiltinKind::of::<authorization::v1::SubjectAccessReview>(),
    BuiltinKind::of::<autoscaling::v1::Scale>(),
    BuiltinKind::of::<autoscaling::v2::HorizontalPodAutoscaler>(),
    BuiltinKind::of::<batch::v1::CronJob>(),
    BuiltinKind::of::<batch::v1::Job>(),
    BuiltinKind::of::<certificates::v1::CertificateSigningRequest>(),
    BuiltinKind::of::<coordination::v1::Lease>(),
    BuiltinKind::of::<discovery::v1::EndpointSlice>(),
    BuiltinKind::of::<events::v1::Event>(),
    BuiltinKind::of::<networking::v1::Ingress>(),
    BuiltinKind::of::<networking::v1::IngressClass>(),
    BuiltinKind::of::<networking::v1::NetworkPolicy>(),
    BuiltinKind::of::<node::v1::RuntimeClass>(),
    BuiltinKind::of::<policy::v1::Eviction>(),
    BuiltinKind::of::<policy::v1::PodDisruptionBudget>(),
    BuiltinKind::of::<rbac::v1::ClusterRole>(),
    BuiltinKind::of::<rbac::v1::ClusterRoleBinding>(),
    BuiltinKind::of::<rbac::v1::Role>(),
    BuiltinKind::of::<rbac::v1::RoleBinding>(),
    BuiltinKind::of::<scheduling::v1::PriorityClass>(),
    BuiltinKind::of::<storage::v1::CSIDriver>(),
    BuiltinKind::of::<storage::v1::CSINode>(),
    BuiltinKind::of::<storage::v1::CSIStorageCapacity>(),
    BuiltinKind::of::<storage::v1::StorageClass>(),
    BuiltinKind::of::<storage::v1::VolumeAttachment>(),
];

/// The schemas of all built-in kinds and of what they consist of, by name: OpenAPI v3, with the `x-kubernetes-` facts
/// that merging needs. `$ref`s point to `#/components/schemas/NAME`. Built on each call; some megabytes.
pub fn definitions() -> Map<String, Value> {
    let settings = SchemaSettings::openapi3().with(|settings| settings.transforms.clear());
    let mut generator = settings.into_generator();
    for kind in KINDS {
        (kind.add)(&mut generator);
    }
    let mut definitions = generator.take_definitions(true);
    corrections::apply(&mut definitions);
    merge_facts::apply(&mut definitions);
    definitions
}
