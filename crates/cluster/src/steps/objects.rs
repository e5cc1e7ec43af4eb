//! Zone and Composition: declared here, carried out by the fabric manager and the composing manager.

use drystone_api::{CLUSTER_LABEL, Cluster, Composition, Isolation, Zone, ZoneMember, ZonePhase, ZoneSpec};
use drystone_engine::action::{Action, StepContext, StepError};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde::{Deserialize, Serialize};

use super::waiting::{Verdict, wait_until};
use crate::model::Names;

/// Field manager of what this domain writes.
pub(crate) const MANAGER: &str = "drystone-cluster";

/// Reads the cluster that an operation is done for.
pub(crate) async fn subject(context: &StepContext) -> Result<(Cluster, Names), StepError> {
    let subject = context.subject();
    let clusters: Api<Cluster> = Api::namespaced(context.client().clone(), &subject.namespace);
    let cluster = clusters
        .get(&subject.name)
        .await
        .map_err(|error| StepError::from_kube("reading the Cluster", &error))?;
    let names = Names::of(&cluster);
    Ok((cluster, names))
}

/// Puts the cluster's hosts into its zone and waits until isolation is proven.
pub struct EnsureZone;

/// Hosts of the zone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneParameters {
    hosts: Vec<String>,
}

/// What is known of the zone afterwards.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ZoneOutput {
    /// Number that stands for the zone in switches.
    pub tag: u32,
    /// Endpoints in it.
    pub endpoints: u32,
}

impl EnsureZone {
    /// For these hosts.
    pub fn parameters(hosts: &[String]) -> ZoneParameters {
        ZoneParameters { hosts: hosts.to_vec() }
    }
}

impl Action for EnsureZone {
    const NAME: &'static str = "cluster.ensure-zone";
    type Parameters = ZoneParameters;
    type Output = ZoneOutput;

    async fn run(&self, context: &StepContext, parameters: ZoneParameters) -> Result<ZoneOutput, StepError> {
        let (cluster, names) = subject(context).await?;
        let isolation: Isolation = cluster.spec.zone.isolation;
        let member = |host: &String| ZoneMember { host: Some(host.clone()), ..Default::default() };
        let spec = ZoneSpec {
            members: parameters.hosts.iter().map(member).collect(),
            isolation,
            address_pools: vec![names.pod_pool()],
            composition: Some(names.composition()),
            ..ZoneSpec::default()
        };
        let mut zone = Zone::new(&names.zone(), spec);
        zone.metadata = ObjectMeta {
            name: Some(names.zone()),
            labels: Some([(CLUSTER_LABEL.to_owned(), names.cluster.clone())].into()),
            owner_references: cluster.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..Default::default()
        };
        let zones: Api<Zone> = Api::namespaced(context.client().clone(), &names.namespace);
        let applied = zones
            .patch(&names.zone(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(&zone))
            .await
            .map_err(|error| StepError::from_kube("declaring the Zone", &error))?;
        let generation = applied.metadata.generation;
        context.progress(50, "waiting for the fabric manager");
        wait_until(context, zones, &names.zone(), |zone: Option<&Zone>| {
            let Some(status) = zone.and_then(|zone| zone.status.as_ref()) else { return Verdict::Wait };
            if status.observed_generation < generation {
                return Verdict::Wait;
            }
            match status.phase {
                ZonePhase::Ready if status.isolation.as_ref().is_some_and(|proof| proof.proven) => {
                    Verdict::Done(ZoneOutput {
                        tag: status.tag.unwrap_or_default(),
                        endpoints: status.endpoint_count,
                    })
                }
                ZonePhase::Failed => Verdict::Failed(format!("zone {}: {}", names.zone(), status.message)),
                _ => Verdict::Wait,
            }
        })
        .await
    }
}

/// Deletes the zone and waits until it is out of every switch.
pub struct RemoveZone;

impl Action for RemoveZone {
    const NAME: &'static str = "cluster.remove-zone";
    type Parameters = ();
    type Output = ();

    async fn run(&self, context: &StepContext, (): ()) -> Result<(), StepError> {
        let (_, names) = subject(context).await?;
        let zones: Api<Zone> = Api::namespaced(context.client().clone(), &names.namespace);
        delete(&zones, &names.zone()).await?;
        gone(context, zones, &names.zone()).await
    }
}

/// Deletes the Composition, which gives the hosts back, and the objects that have no other owner.
pub struct ForgetCluster;

impl Action for ForgetCluster {
    const NAME: &'static str = "cluster.release-hosts";
    type Parameters = ();
    type Output = ();

    async fn run(&self, context: &StepContext, (): ()) -> Result<(), StepError> {
        let (_, names) = subject(context).await?;
        let compositions: Api<Composition> = Api::namespaced(context.client().clone(), &names.namespace);
        delete(&compositions, &names.composition()).await?;
        gone(context, compositions, &names.composition()).await?;
        let secrets: Api<Secret> = Api::namespaced(context.client().clone(), drystone_api::SYSTEM_NAMESPACE);
        let mine = format!(
            "{CLUSTER_LABEL}={},{}={}",
            names.cluster,
            drystone_api::CLUSTER_NAMESPACE_LABEL,
            names.namespace
        );
        let left = secrets
            .list(&ListParams::default().labels(&mine))
            .await
            .map_err(|error| StepError::from_kube("listing boot Secrets", &error))?;
        for secret in left {
            delete(&secrets, &secret.name_any()).await?;
        }
        Ok(())
    }
}

/// Deletes an object; one that is not there is deleted already.
pub(super) async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), StepError>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(StepError::from_kube(&format!("deleting {name}"), &error)),
    }
}

/// Waits until an object is gone.
async fn gone<K>(context: &StepContext, api: Api<K>, name: &str) -> Result<(), StepError>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    wait_until(context, api, name, |object: Option<&K>| match object {
        None => Verdict::Done(()),
        Some(_) => Verdict::Wait,
    })
    .await
}
