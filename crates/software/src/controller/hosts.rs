//! One pass over a HostSoftware: what is on the host is read when it is time, and compared with the sets.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    Artifact, BareMetalHost, Cluster, HostSoftware, HostSoftwareStatus, PinnedSet, SoftwareAccess,
    SoftwareSet, condition, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{Cache, Reconciler, Requeue, StatusError, is_deleted, update_status},
    reference::reference_to,
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, Client, ResourceExt as _};

use super::SoftwareConfig;
use crate::{
    access::AccessError,
    change::changes,
    facts::{ApiError, CURRENT, REACHABLE, all, api_error, of},
    inventory::Inventory,
    pin::pin,
    records,
    select::selects,
    validate::software_set,
};

/// How often what is on a host is read.
const EVERY: Duration = Duration::from_secs(600);

/// How often a host is tried that could not be reached.
const AGAIN: Duration = Duration::from_secs(15);

/// What went wrong in a pass for reasons that are not the host's.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Status(#[from] StatusError),
}

/// The controller.
pub(super) struct HostReconciler {
    pub(super) client: Client,
    pub(super) config: SoftwareConfig,
    pub(super) artifacts: Cache<Artifact>,
    pub(super) clusters: Cache<Cluster>,
}

impl Reconciler for HostReconciler {
    type Object = HostSoftware;
    type Error = HostError;

    const NAME: &'static str = "hostsoftware";

    async fn reconcile(&self, software: Arc<HostSoftware>) -> Result<Requeue, HostError> {
        if is_deleted(software.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        let (namespace, name) = (software.namespace().unwrap_or_default(), software.name_any());
        let api: Api<HostSoftware> = Api::namespaced(self.client.clone(), &namespace);
        self.artifacts.ready().await;
        let artifacts: Vec<Artifact> =
            self.artifacts.list().iter().map(|artifact| (**artifact).clone()).collect();
        let sets: Vec<SoftwareSet> = all(&self.client, &namespace).await?;
        let pinned: Vec<PinnedSet> = sets
            .iter()
            .filter(|set| software_set(&set.spec).is_empty())
            .filter_map(|set| pin(set, &artifacts).ok())
            .map(|pinned| pinned.set)
            .collect();
        let Some(facts) = of(&self.client, &self.clusters, &namespace, &name, &pinned).await? else {
            return Ok(Requeue::OnChange);
        };
        let mine: Vec<&PinnedSet> = pinned.iter().filter(|set| selects(&set.selector, &facts)).collect();
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &namespace);
        let metal = hosts.get_opt(&name).await.map_err(api_error("reading the BareMetalHost"))?;
        let image = metal.and_then(|metal| metal.status).and_then(|status| status.provisioning.image);
        let access = mine.iter().find_map(|set| set.access.as_ref());
        let status = software.status.clone().unwrap_or_default();
        let due = due(&software, &status, Timestamp::now());
        let mut current = software.as_ref().clone();
        if let Some(access) = access
            && facts.provisioned
            && due.is_zero()
        {
            self.read(&namespace, &software, access, &mine).await?;
            current = api.get(&name).await.map_err(api_error("reading the HostSoftware"))?;
        }
        let mut known = facts.clone();
        known.os_image.clone_from(&image);
        if current.status.as_ref().is_some_and(|status| status.observed_at.is_some()) {
            known.inventory = current.status.as_ref().map(Inventory::from_status);
        }
        let drift = drift(&mine, &known);
        let now = Timestamp::now();
        let written = update_status(&api, &current, |status: &mut HostSoftwareStatus| {
            status.os_image.clone_from(&image);
            status.drift.clone_from(&drift);
            if status.observed_at.is_some() {
                let (reason, message) = if drift.is_empty() {
                    ("AsDeclared", String::new())
                } else {
                    ("Differs", drift.join("; "))
                };
                set_condition(
                    &mut status.conditions,
                    condition(CURRENT, drift.is_empty(), reason, message),
                    now,
                );
            }
        })
        .await?;
        if access.is_none() || !facts.provisioned {
            return Ok(Requeue::OnChange);
        }
        let status = written.status.clone().unwrap_or_default();
        let due = self::due(&written, &status, Timestamp::now());
        Ok(Requeue::After(due.max(Duration::from_secs(1))))
    }
}

/// When what is on the host is to be read: zero is now.
fn due(software: &HostSoftware, status: &HostSoftwareStatus, now: Timestamp) -> Duration {
    if status.refreshed != software.spec.refresh {
        return Duration::ZERO;
    }
    let reachable = status.conditions.iter().find(|condition| condition.type_ == REACHABLE);
    let failed = reachable.filter(|condition| condition.status == "False");
    let since = match (failed, &status.observed_at) {
        (Some(_), _) => Some((status.tried_at.as_ref().map(|time| time.0), AGAIN)),
        (None, Some(time)) => Some((Some(time.0), EVERY)),
        (None, None) => None,
    };
    let Some((Some(since), pause)) = since else { return Duration::ZERO };
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::ZERO);
    let left = (since + pause).duration_since(now);
    // A clock that was set back must not keep a host from being read.
    Duration::try_from(left.min(pause)).unwrap_or(Duration::ZERO)
}

impl HostReconciler {
    async fn read(
        &self,
        namespace: &str,
        software: &HostSoftware,
        access: &SoftwareAccess,
        sets: &[&PinnedSet],
    ) -> Result<(), HostError> {
        let name = software.name_any();
        let door = &*self.config.dependencies.door;
        let files: Vec<&str> =
            sets.iter().flat_map(|set| &set.files).map(|file| file.path.as_str()).collect();
        let api: Api<HostSoftware> = Api::namespaced(self.client.clone(), namespace);
        let before = api.get_opt(&name).await.map_err(api_error("reading the HostSoftware"))?;
        let before = before.and_then(|before| before.status?.observed_at);
        let read = async {
            let way = records::open(&self.client, door, namespace, &name, access).await?;
            records::read(&*way, files).await
        };
        let result = read.await;
        match &result {
            Ok(inventory) => {
                // A step that has changed the host meanwhile knows better.
                let is_as_before = |status: &HostSoftwareStatus| status.observed_at == before;
                records::write_if(&self.client, namespace, &name, inventory, is_as_before).await?;
            }
            Err(error) => {
                tracing::debug!(host = %name, %error, "not read");
                self.note_failure(namespace, software, error).await?;
            }
        }
        let refresh = software.spec.refresh.clone();
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::now());
        records::change(&self.client, namespace, &name, |status| {
            status.refreshed.clone_from(&refresh);
            status.tried_at = Some(now.clone());
        })
        .await?;
        Ok(())
    }

    async fn note_failure(
        &self,
        namespace: &str,
        software: &HostSoftware,
        error: &AccessError,
    ) -> Result<(), HostError> {
        let message = error.to_string();
        let before = software.status.iter().flat_map(|status| &status.conditions);
        let told =
            before.into_iter().any(|condition| condition.type_ == REACHABLE && condition.message == message);
        if !told {
            let subject = reference_to(software);
            self.config.events.publish(&subject, EventKind::Warning, "NotRead", &message);
        }
        let now = Timestamp::now();
        records::change(&self.client, namespace, &software.name_any(), |status| {
            set_condition(
                &mut status.conditions,
                condition(REACHABLE, false, "NotRead", message.clone()),
                now,
            );
        })
        .await?;
        Ok(())
    }
}

/// In which ways a host differs from its sets.
fn drift(sets: &[&PinnedSet], host: &crate::select::HostFacts) -> Vec<String> {
    let mut found = Vec::new();
    for set in sets {
        match changes(set, host) {
            Ok(changes) => {
                found.extend(changes.changes.iter().map(|change| format!("{}: {change}", set.name)));
            }
            Err(obstacle) => found.push(format!("{}: {obstacle}", set.name)),
        }
    }
    found
}
