//! Deletion: hosts off, zone and routes gone, addresses and hosts given back; then the Cluster may go.

use std::time::Duration;

use drystone_api::{
    ABANDON_HOSTS_ANNOTATION, Cluster, ClusterMember, ClusterPhase, ClusterStatus, CompositionMember,
    Distribution, ObjectReference, Operation, OperationPhase, OperationSpec,
};
use drystone_engine::{
    events::EventKind,
    harness::{Requeue, has_finalizer, remove_finalizer, update_status},
    operations::{cancel, operation_name, start},
    plan::PlanError,
    reference::{ObjectKey, reference_to},
};
use kube::{Api, ResourceExt as _};

use super::{
    FINALIZER,
    installed::{address_listed, limit},
    reconcile::{ClusterReconciler, ReconcileError, api_error},
    situation,
};
use crate::{
    distribution::{self, is_listed},
    model::Names,
    plan::{dissolve, role_of},
};

/// Pause before a deletion that failed is tried again.
const RETRY: Duration = Duration::from_secs(5);

impl ClusterReconciler {
    pub(super) async fn delete(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        names: &Names,
    ) -> Result<Requeue, ReconcileError> {
        if !has_finalizer(cluster, FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        if cluster.spec.distribution == Distribution::External {
            // Nothing of it is ours.
            remove_finalizer(clusters, cluster, FINALIZER)
                .await
                .map_err(api_error("removing the finalizer"))?;
            return Ok(Requeue::OnChange);
        }
        let current = cluster.status.as_ref().and_then(|status| status.operation.as_ref());
        if let Some(reference) = current {
            let operation = self.operation(reference, names).await?;
            let deleting =
                cluster.status.as_ref().is_some_and(|status| status.phase == ClusterPhase::Deleting);
            match operation {
                Some(operation) if !situation::is_final(&operation) => {
                    if !deleting {
                        let key = ObjectKey::of(&operation);
                        // What it was about to bring in will be taken out again: no need to wait for it.
                        if let Err(error) = cancel(self.client.clone(), &key).await {
                            tracing::warn!(cluster = %names.lease_holder(), "cancelling {key}: {error}");
                        }
                    }
                    return Ok(Requeue::After(Duration::from_secs(1)));
                }
                Some(operation) if deleting => return self.conclude(clusters, cluster, &operation).await,
                _ => {}
            }
        }
        let claimed = self.wanted(cluster, names).await?;
        let present = cluster.status.as_ref().map(|status| status.members.clone()).unwrap_or_default();
        let subject = reference_to(cluster);
        let attempt = cluster.status.as_ref().map_or(0, |status| status.deletion_attempts);
        let name = operation_name(&subject, &format!("delete-{attempt}"));
        let operation = start(&self.client, &name, plan(cluster, &subject, &present, &claimed)?).await?;
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.phase = ClusterPhase::Deleting;
            status.operation = Some(reference_to(&operation));
            status.deletion_attempts = attempt + 1;
        })
        .await?;
        self.config.events.publish(
            &subject,
            EventKind::Normal,
            "Deleting",
            "Hosts are switched off and given back",
        );
        Ok(Requeue::OnChange)
    }

    async fn conclude(
        &self,
        clusters: &Api<Cluster>,
        cluster: &Cluster,
        operation: &Operation,
    ) -> Result<Requeue, ReconcileError> {
        if situation::phase(operation) == OperationPhase::Succeeded {
            remove_finalizer(clusters, cluster, FINALIZER)
                .await
                .map_err(api_error("removing the finalizer"))?;
            return Ok(Requeue::OnChange);
        }
        let message = operation.status.as_ref().map(|status| status.message.clone()).unwrap_or_default();
        let note = format!("Could not give everything back, will try again: {message}");
        self.config.events.publish(&reference_to(cluster), EventKind::Warning, "DeletionFailed", &note);
        update_status(clusters, cluster, |status: &mut ClusterStatus| {
            status.operation = None;
            status.message.clone_from(&note);
        })
        .await?;
        Ok(Requeue::After(RETRY))
    }
}

/// The plan by which a cluster is taken apart.
fn plan(
    cluster: &Cluster,
    subject: &ObjectReference,
    present: &[ClusterMember],
    claimed: &[CompositionMember],
) -> Result<OperationSpec, PlanError> {
    if !is_listed(&cluster.spec) {
        return dissolve(subject, present, claimed);
    }
    let abandon = cluster.annotations().get(ABANDON_HOSTS_ANNOTATION).is_some_and(|value| value == "true");
    let mut members = present.to_vec();
    let absent = claimed.iter().filter(|claimed| present.iter().all(|member| member.host != claimed.host));
    members.extend(absent.map(|claimed| ClusterMember {
        host: claimed.host.clone(),
        role: role_of(claimed),
        ..Default::default()
    }));
    address_listed(&cluster.spec, &mut members);
    distribution::plan::dissolve(subject, &members, abandon, limit(&cluster.spec))
}
