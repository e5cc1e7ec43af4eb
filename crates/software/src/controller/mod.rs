//! Watches sets, hosts and roll-outs. Level-triggered: each pass looks at what is, does the next thing, and writes down what it saw.

mod drive;
mod hosts;
mod icn;
mod next;
mod pace;
mod rollouts;
mod sets;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use drystone_api::{
    Artifact, BareMetalHost, Cluster, HostImage, HostSoftware, MemberRole, Operation, ProvisioningState,
    Rollout, SYSTEM_NAMESPACE, Site, SoftwareSet,
};
use drystone_engine::{
    events::EventSink,
    harness::{Cache, Controller, ControllerConfig, Objects, WatchedObject},
    reference::ObjectKey,
};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use crate::{facts::Known, plan::Timing, steps::StepDependencies};

/// Label of a Rollout: the SoftwareSet that it was made for.
pub const SET_LABEL: &str = "drystone.dev/software-set";

/// Label of a Rollout: the revision of the set.
pub const REVISION_LABEL: &str = "drystone.dev/revision";

/// Keeps a Rollout until no host is under way.
pub const FINALIZER: &str = "drystone.dev/rollout";

/// What the controllers need.
#[derive(Clone)]
pub struct SoftwareConfig {
    /// What the steps need.
    pub dependencies: StepDependencies,
    /// How long things are expected to take.
    pub timing: Timing,
    /// Who is told.
    pub events: Arc<dyn EventSink>,
}

/// Runs the controllers until `shutdown`.
pub async fn run(client: Client, config: SoftwareConfig, shutdown: CancellationToken) {
    let settings = ControllerConfig { events: config.events.clone(), ..ControllerConfig::default() };
    let caches = &config.dependencies.caches;
    let artifacts: Cache<Artifact> = caches.of();
    let operations: Cache<Operation> = caches.of();
    let known = Known::of(caches);

    let sets = sets::SetReconciler {
        client: client.clone(),
        config: config.clone(),
        artifacts: artifacts.clone(),
        known: known.clone(),
        pace: pace::Pace::default(),
    };
    let sets = Controller::new(client.clone(), sets, settings.clone())
        .owns::<Rollout>()
        .watches_cache(&known.hosts, same_namespace)
        .watches_cache(&known.software, same_namespace)
        .watches_cache(&known.clusters, concerned_by_members(&known.clusters))
        .watches_cache(&artifacts, |_, sets: &Objects<SoftwareSet>| sets.keys());

    let hosts = hosts::HostReconciler {
        client: client.clone(),
        config: config.clone(),
        artifacts: artifacts.clone(),
        clusters: known.clusters.clone(),
    };
    let copies: Cache<SoftwareSet> = caches.of();
    let wishes = Wishes { sets: copies.clone(), known: Mutex::default() };
    let hosts = Controller::new(client.clone(), hosts, settings.clone()).watches_cache(
        &copies,
        move |set: &SoftwareSet, hosts: &Objects<HostSoftware>| {
            if wishes.changed(set) { same_namespace(set, hosts) } else { Vec::new() }
        },
    );
    let hosts = hosts
        .watches_cache(&known.hosts, concerned_by_provisioning(&known.hosts))
        .watches_cache(&known.clusters, concerned_by_members(&known.clusters));

    let provisionings = icn::ProvisioningReconciler { client: client.clone() };
    let provisionings = Controller::new(client.clone(), provisionings, settings.clone())
        .owns::<Cluster>()
        .watches_cache(&known.hosts, same_namespace);
    let softwares = icn::SoftwareReconciler { client: client.clone() };
    let softwares = Controller::new(client.clone(), softwares, settings.clone()).owns::<SoftwareSet>();

    // One at a time: what one begins with, the others must see.
    let one = ControllerConfig { concurrency: 1, ..settings };
    let rollouts = rollouts::RolloutReconciler {
        client: client.clone(),
        config,
        operations: operations.clone(),
        artifacts,
        known: known.clone(),
        at_work: Mutex::default(),
        pace: pace::Pace::default(),
    };
    let rollouts = Controller::new(client, rollouts, one)
        .watches_cache(&operations, |operation: &Operation, _| {
            let subject = &operation.spec.subject;
            let ours = subject.kind == "Rollout";
            ours.then(|| ObjectKey::new(&subject.namespace, &subject.name)).into_iter().collect()
        })
        .watches_cache(&known.software, active_in_namespace)
        .watches_cache(&known.clusters, |_: &Cluster, rollouts| active(rollouts, SYSTEM_NAMESPACE))
        .watches_cache(&known.sites, |_: &Site, rollouts| active(rollouts, SYSTEM_NAMESPACE));
    tokio::join!(
        sets.run(shutdown.clone()),
        hosts.run(shutdown.clone()),
        provisionings.run(shutdown.clone()),
        softwares.run(shutdown.clone()),
        rollouts.run(shutdown)
    );
}

/// What sets want: specifications, and the artifacts that they were resolved to. The rest of a set's status changes with every host.
struct Wishes {
    sets: Cache<SoftwareSet>,
    known: Mutex<HashMap<ObjectKey, (Option<i64>, String)>>,
}

impl Wishes {
    /// Whether a set that has changed wants something else than before.
    fn changed(&self, set: &SoftwareSet) -> bool {
        let key = ObjectKey::of(set);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.sets.get(&key).is_none() {
            known.remove(&key);
            return true;
        }
        let revision = set.status.as_ref().map(|status| status.revision.clone()).unwrap_or_default();
        let wish = (set.metadata.generation, revision);
        known.insert(key, wish.clone()) != Some(wish)
    }
}

/// How hosts are provisioned. The rest of a host's status changes with every look at it.
struct Provisioned {
    hosts: Cache<BareMetalHost>,
    seen: Mutex<HashMap<ObjectKey, (ProvisioningState, Option<HostImage>)>>,
}

impl Provisioned {
    /// Whether a host is provisioned otherwise than before: then it is to be read again.
    fn changed(&self, host: &BareMetalHost) -> bool {
        let key = ObjectKey::of(host);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.hosts.get(&key).is_none() {
            seen.remove(&key);
            return true;
        }
        let status = host.status.as_ref().map(|status| &status.provisioning);
        let now = status.map(|status| (status.state, status.image.clone())).unwrap_or_default();
        seen.insert(key, now.clone()) != Some(now)
    }
}

/// What a host concerns that is provisioned otherwise than before: what is known of it.
fn concerned_by_provisioning(
    hosts: &Cache<BareMetalHost>,
) -> impl Fn(&BareMetalHost, &Objects<HostSoftware>) -> Vec<ObjectKey> + Send + Sync + use<> {
    let provisioned = Provisioned { hosts: hosts.clone(), seen: Mutex::default() };
    move |host, _| provisioned.changed(host).then(|| ObjectKey::of(host)).into_iter().collect()
}

/// Host, role and whether it is ready, of each member.
type Membership = Vec<(String, MemberRole, bool)>;

/// Who is part of which cluster. The rest of a cluster's status changes with every step of its operations.
struct Members {
    clusters: Cache<Cluster>,
    seen: Mutex<HashMap<ObjectKey, Membership>>,
}

impl Members {
    /// Whether a cluster that has changed has other members than before.
    fn changed(&self, cluster: &Cluster) -> bool {
        let key = ObjectKey::of(cluster);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.clusters.get(&key).is_none() {
            return seen.remove(&key).is_some_and(|members| !members.is_empty());
        }
        let members = cluster.status.iter().flat_map(|status| &status.members);
        let now: Membership =
            members.map(|member| (member.host.clone(), member.role, member.ready)).collect();
        seen.insert(key, now.clone()).unwrap_or_default() != now
    }
}

/// What a cluster concerns whose members have changed: all that may be about one of them. Clusters are made of hosts of Drystone's own namespace.
fn concerned_by_members<K: WatchedObject>(
    clusters: &Cache<Cluster>,
) -> impl Fn(&Cluster, &Objects<K>) -> Vec<ObjectKey> + Send + Sync + use<K> {
    let members = Members { clusters: clusters.clone(), seen: Mutex::default() };
    move |cluster, objects| {
        let concerned = if members.changed(cluster) { objects.keys() } else { Vec::new() };
        concerned.into_iter().filter(|key| key.namespace == SYSTEM_NAMESPACE).collect()
    }
}

/// All objects of the namespace that the other one is in.
fn same_namespace<O: WatchedObject, K: WatchedObject>(other: &O, objects: &Objects<K>) -> Vec<ObjectKey> {
    let namespace = other.namespace().unwrap_or_default();
    objects.keys().into_iter().filter(|key| key.namespace == namespace).collect()
}

fn active_in_namespace<O: WatchedObject>(other: &O, rollouts: &Objects<Rollout>) -> Vec<ObjectKey> {
    active(rollouts, &other.namespace().unwrap_or_default())
}

/// Rollouts of a namespace of which something may still come.
fn active(rollouts: &Objects<Rollout>, namespace: &str) -> Vec<ObjectKey> {
    rollouts.keys_where(|rollout| {
        let ended = rollout.status.as_ref().is_some_and(|status| status.phase.is_final());
        rollout.namespace().as_deref() == Some(namespace) && !ended
    })
}
