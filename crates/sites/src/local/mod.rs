//! At the site: the cluster made out of the list of hosts, what the orchestrator of workloads is told of them, and the summary in the Site's
//! status.

mod controller;
mod hand_off;
mod summary;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

pub(crate) use controller::MADE_FOR_LABEL;
use drystone_api::{BareMetalHost, Cluster, Rollout, RolloutPhase, SITE_LABEL, Site};
use drystone_engine::{
    backoff::Backoff,
    events::EventSink,
    harness::{Caches, Controller, ControllerConfig, Objects, Seldom, is_deleted},
    reference::ObjectKey,
};
use kube::{Client, ResourceExt as _, runtime::watcher};
use tokio_util::sync::CancellationToken;

/// What the local controller is given.
#[derive(Clone)]
pub struct LocalConfig {
    /// Copies of hosts and roll-outs.
    pub caches: Caches,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// How long the other hosts of a list wait for one that is not inspected.
    pub patience: Duration,
    /// Pauses before an orchestrator is told again what it has not taken, or is asked again whether it is done.
    pub hand_off_backoff: Backoff,
}

impl LocalConfig {
    /// With the usual patience: five minutes, in which a server gets through its self-tests and an inspection; an orchestrator is told
    /// again after a second at first, and after five minutes at last.
    pub fn new(caches: Caches, events: Arc<dyn EventSink>) -> Self {
        let hand_off_backoff = Backoff { initial: Duration::from_secs(1), maximum: Duration::from_secs(300) };
        Self { caches, events, patience: Duration::from_secs(300), hand_off_backoff }
    }
}

/// How often a site tells how many of its hosts are in which state.
const TOLD: Duration = Duration::from_millis(500);

/// How often a site shows how far a roll-out is whose phase stays the same: each writes of many hosts, and each site its own.
const SHOWN: Duration = Duration::from_secs(5);

/// Which roll-outs have been shown, in which phase, and when.
#[derive(Default)]
struct Shown(Mutex<HashMap<ObjectKey, (RolloutPhase, Instant)>>);

impl Shown {
    /// Whether a change of a roll-out is worth to be shown now.
    fn is_due(&self, rollout: &Rollout) -> bool {
        let phase = rollout.status.as_ref().map(|status| status.phase).unwrap_or_default();
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = ObjectKey::of(rollout);
        if is_deleted(rollout) {
            shown.remove(&key);
            return true;
        }
        if shown.get(&key).is_some_and(|(before, at)| *before == phase && at.elapsed() < SHOWN) {
            return false;
        }
        shown.insert(key, (phase, Instant::now()));
        true
    }
}

/// Runs the local controller until `shutdown`. It leaves alone the Sites that have a local controller elsewhere.
pub async fn run(client: Client, config: LocalConfig, shutdown: CancellationToken) {
    let settings =
        ControllerConfig { events: config.events.clone(), concurrency: 64, ..ControllerConfig::default() };
    let handing_over = run_hand_off(client.clone(), config.clone(), shutdown.clone());
    let (hosts, rollouts) = (config.caches.of::<BareMetalHost>(), config.caches.of::<Rollout>());
    let reconciler = controller::SiteReconciler {
        client: client.clone(),
        config,
        hosts: hosts.clone(),
        rollouts: rollouts.clone(),
        told: Seldom::new(TOLD),
    };
    let shown = Shown::default();
    let clusters = Controller::new(client.clone(), reconciler, settings)
        .watches_cache(&rollouts, move |rollout: &Rollout, sites: &Objects<Site>| {
            let namespace = rollout.namespace();
            let due = shown.is_due(rollout);
            if due { sites.keys_where(|site| site.namespace() == namespace) } else { Vec::new() }
        })
        .watches_cache(&hosts, |host: &BareMetalHost, _| site_of(host))
        .watches::<Cluster>(watcher::Config::default(), sites_of);
    tokio::join!(clusters.run(shutdown), handing_over);
}

/// Tells orchestrators of the hosts of sites, until `shutdown`.
async fn run_hand_off(client: Client, config: LocalConfig, shutdown: CancellationToken) {
    let settings = ControllerConfig { events: config.events.clone(), ..ControllerConfig::default() };
    let (hosts, clusters) = (config.caches.of::<BareMetalHost>(), config.caches.of::<Cluster>());
    let reconciler = hand_off::HandOffReconciler {
        client: client.clone(),
        config,
        hosts: hosts.clone(),
        clusters: clusters.clone(),
        attempts: hand_off::Attempts::default(),
    };
    Controller::new(client, reconciler, settings)
        .watches_cache(&hosts, |host: &BareMetalHost, _| site_of(host))
        .watches_cache(&clusters, sites_of)
        .run(shutdown)
        .await;
}

/// The site that a host is of.
fn site_of(host: &BareMetalHost) -> Vec<ObjectKey> {
    let site = host.labels().get(SITE_LABEL);
    site.map(|site| ObjectKey::new(host.namespace().unwrap_or_default(), site)).into_iter().collect()
}

/// The sites that a cluster was made for.
fn sites_of(cluster: &Cluster, sites: &Objects<Site>) -> Vec<ObjectKey> {
    let Some(name) = cluster.labels().get(MADE_FOR_LABEL) else { return Vec::new() };
    sites.keys_where(|site| site.name_any() == *name)
}
