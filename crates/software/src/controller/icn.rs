//! ICN's resources: what they mean is declared in Drystone's own kinds, and how that goes is told in their status.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::{
    BareMetalHost, Cluster, ClusterPhase, IcnProvisioning, IcnProvisioningStatus, IcnSoftware,
    IcnSoftwareStatus, MemberRole, SYSTEM_NAMESPACE, SoftwareSet, condition, is_true, set_condition,
};
use drystone_engine::{
    harness::{Reconciler, Requeue, StatusError, is_deleted, update_status},
    reference::{owner_reference, reference_to},
};
use k8s_openapi::{api::core::v1::ConfigMap, jiff::Timestamp};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};

use crate::{
    facts::{ApiError, all, api_error},
    icn,
    validate::{Refusal, in_one_line},
};

/// Field manager of what is declared here.
const MANAGER: &str = "drystone-icn";

/// Label of ICN's resources that names the cluster.
const CLUSTER: &str = "cluster";

/// What went wrong in a pass for reasons that are not the object's.
#[derive(Debug, thiserror::Error)]
pub(super) enum IcnError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// The cluster that an object is about.
fn cluster_name<K: Resource>(object: &K) -> Result<String, Vec<Refusal>> {
    let label = object.labels().get(CLUSTER).filter(|name| !name.is_empty());
    label
        .cloned()
        .ok_or_else(|| vec![Refusal::new("metadata.labels.cluster", "is missing; it names the cluster")])
}

/// Whether an object is somebody else's.
fn is_anothers<K: Resource>(object: &K, owner: &str) -> bool {
    !object.owner_references().iter().any(|reference| reference.uid == owner)
}

/// Controller of Provisionings.
pub(super) struct ProvisioningReconciler {
    pub(super) client: Client,
}

impl Reconciler for ProvisioningReconciler {
    type Object = IcnProvisioning;
    type Error = IcnError;

    const NAME: &'static str = "provisioning";

    async fn reconcile(&self, object: Arc<IcnProvisioning>) -> Result<Requeue, IcnError> {
        // The Cluster goes with it, for it is owned by it.
        if is_deleted(object.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let told = self.look(&object).await?;
        let api: Api<IcnProvisioning> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        update_status(&api, object.as_ref(), |status: &mut IcnProvisioningStatus| {
            let conditions = std::mem::take(&mut status.conditions);
            *status = told.status.clone();
            status.conditions = conditions;
            status.observed_generation = object.metadata.generation;
            told.conditions(&mut status.conditions, &status.message);
        })
        .await?;
        Ok(Requeue::OnChange)
    }
}

/// What is to be told of an object.
struct Told<S> {
    valid: bool,
    ready: bool,
    status: S,
}

impl<S> Told<S> {
    fn conditions(
        &self,
        conditions: &mut Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>,
        message: &str,
    ) {
        let now = Timestamp::now();
        let (valid, why) = if self.valid { ("Accepted", "") } else { ("Invalid", message) };
        set_condition(conditions, condition("Valid", self.valid, valid, why), now);
        let reason = match (self.valid, self.ready) {
            (false, _) => "Invalid",
            (true, false) => "UnderWay",
            (true, true) => "Done",
        };
        set_condition(conditions, condition("Ready", self.ready, reason, message), now);
    }
}

impl ProvisioningReconciler {
    async fn look(&self, object: &IcnProvisioning) -> Result<Told<IcnProvisioningStatus>, IcnError> {
        let namespace = object.namespace().unwrap_or_default();
        let mut status = IcnProvisioningStatus::default();
        if namespace != SYSTEM_NAMESPACE {
            status.message = format!(
                "metadata.namespace: hosts that become clusters are in {SYSTEM_NAMESPACE}; declare it there"
            );
            return Ok(Told { valid: false, ready: false, status });
        }
        let hosts: Vec<BareMetalHost> = all(&self.client, &namespace).await?;
        let read = cluster_name(object)
            .and_then(|name| icn::provisioning(&object.spec, &hosts).map(|meant| (name, meant)));
        let (name, meant) = match read {
            Ok(read) => read,
            Err(refusals) => {
                status.message = in_one_line(&refusals);
                return Ok(Told { valid: false, ready: false, status });
            }
        };
        status.cluster = format!("{namespace}/{name}");
        status.host_count = u32::try_from(meant.hosts.len()).unwrap_or(u32::MAX);
        status.hosts = meant.hosts.iter().map(|(label, (host, _))| (label.clone(), host.clone())).collect();
        status.notes.clone_from(&meant.notes);
        let clusters: Api<Cluster> = Api::namespaced(self.client.clone(), &namespace);
        let present = clusters.get_opt(&name).await.map_err(api_error("reading the Cluster"))?;
        let uid = object.uid().unwrap_or_default();
        if present.as_ref().is_some_and(|cluster| is_anothers(cluster, &uid)) {
            status.message = format!(
                "metadata.labels.cluster: Cluster {namespace}/{name} is there already, and was not made for this"
            );
            return Ok(Told { valid: false, ready: false, status });
        }
        let mut wanted = Cluster::new(&name, meant.cluster);
        wanted.metadata.owner_references = Some(vec![owner_reference(&reference_to(object))]);
        let applied = clusters
            .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&wanted))
            .await
            .map_err(api_error("declaring the Cluster"))?;
        let made = applied.status.unwrap_or_default();
        for (label, (host, _)) in &meant.hosts {
            let member = made.members.iter().find(|member| member.host == *host);
            let address = member.and_then(|member| member.address.split('/').next()).unwrap_or_default();
            if !address.is_empty() {
                status.addresses.insert(label.clone(), address.to_owned());
            }
        }
        if status.addresses.len() == meant.hosts.len() {
            self.publish_addresses(object, &name, &meant.hosts, &status.addresses).await?;
        }
        let ready = made.phase == ClusterPhase::Ready;
        status.message = match made.message.as_str() {
            "" => format!("{:?}", made.phase),
            message => format!("{:?}: {message}", made.phase),
        };
        Ok(Told { valid: true, ready, status })
    }

    /// The ConfigMap by which ICN tells addresses.
    async fn publish_addresses(
        &self,
        object: &IcnProvisioning,
        cluster: &str,
        hosts: &BTreeMap<String, (String, MemberRole)>,
        addresses: &BTreeMap<String, String>,
    ) -> Result<(), ApiError> {
        let key = |label: &String| match hosts.get(label) {
            Some((_, MemberRole::ControlPlane)) => format!("MASTER_{label}"),
            _ => format!("WORKER_{label}"),
        };
        let data = addresses.iter().map(|(label, address)| (key(label), address.clone())).collect();
        let name = format!("{cluster}-configmap");
        let map = ConfigMap {
            metadata: kube::api::ObjectMeta {
                name: Some(name.clone()),
                owner_references: Some(vec![owner_reference(&reference_to(object))]),
                ..Default::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        };
        let maps: Api<ConfigMap> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patched = maps.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&map)).await;
        patched.map(drop).map_err(api_error("publishing addresses"))
    }
}

/// Controller of Softwares.
pub(super) struct SoftwareReconciler {
    pub(super) client: Client,
}

impl Reconciler for SoftwareReconciler {
    type Object = IcnSoftware;
    type Error = IcnError;

    const NAME: &'static str = "software";

    async fn reconcile(&self, object: Arc<IcnSoftware>) -> Result<Requeue, IcnError> {
        if is_deleted(object.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let told = self.look(&object).await?;
        let api: Api<IcnSoftware> =
            Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        update_status(&api, object.as_ref(), |status: &mut IcnSoftwareStatus| {
            let conditions = std::mem::take(&mut status.conditions);
            *status = told.status.clone();
            status.conditions = conditions;
            status.observed_generation = object.metadata.generation;
            told.conditions(&mut status.conditions, &status.message);
        })
        .await?;
        Ok(Requeue::OnChange)
    }
}

impl SoftwareReconciler {
    async fn look(&self, object: &IcnSoftware) -> Result<Told<IcnSoftwareStatus>, IcnError> {
        let namespace = object.namespace().unwrap_or_default();
        let mut status = IcnSoftwareStatus::default();
        let read = cluster_name(object)
            .and_then(|cluster| icn::software(&object.spec, &format!("{namespace}/{cluster}")));
        let wanted = match read {
            Ok(wanted) => wanted,
            Err(refusals) => {
                status.message = in_one_line(&refusals);
                return Ok(Told { valid: false, ready: false, status });
            }
        };
        let sets: Api<SoftwareSet> = Api::namespaced(self.client.clone(), &namespace);
        let uid = object.uid().unwrap_or_default();
        let (mut ready, mut messages) = (true, Vec::new());
        for suffix in ["master", "worker"] {
            let name = format!("{}-{suffix}", object.name_any());
            let present = sets.get_opt(&name).await.map_err(api_error("reading the SoftwareSet"))?;
            if present.as_ref().is_some_and(|set| is_anothers(set, &uid)) {
                status.message =
                    format!("metadata.name: SoftwareSet {name} is there already, and was not made for this");
                return Ok(Told { valid: false, ready: false, status });
            }
            let Some(spec) = wanted.get(suffix) else {
                if present.is_some() {
                    let deleted = sets.delete(&name, &DeleteParams::default()).await;
                    deleted.map_err(api_error("deleting the SoftwareSet"))?;
                }
                continue;
            };
            let mut set = SoftwareSet::new(&name, spec.clone());
            set.metadata.owner_references = Some(vec![owner_reference(&reference_to(object))]);
            let applied = sets
                .patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&set))
                .await
                .map_err(api_error("declaring the SoftwareSet"))?;
            let is_current = |status: &drystone_api::SoftwareSetStatus| {
                status.observed_generation == applied.metadata.generation
                    && is_true(&status.conditions, "Ready")
            };
            let made = applied.status.clone().unwrap_or_default();
            ready &= is_current(&made);
            status.hosts += made.hosts;
            status.current_hosts += made.current_hosts;
            if !made.message.is_empty() {
                messages.push(format!("{suffix}: {}", made.message));
            }
            status.sets.push(name);
        }
        status.message = messages.join("; ");
        Ok(Told { valid: true, ready, status })
    }
}
