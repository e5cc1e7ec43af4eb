//! At the site: the cluster made out of the list of hosts, and the summary in the Site's status.

mod controller;
mod summary;

use std::{sync::Arc, time::Duration};

use drystone_api::{BareMetalHost, Cluster, SITE_LABEL};
use drystone_engine::{
    events::EventSink,
    harness::{Controller, ControllerConfig},
    reference::ObjectKey,
};
use kube::{Client, ResourceExt as _, runtime::watcher};
use tokio_util::sync::CancellationToken;

/// What the local controller is given.
#[derive(Clone)]
pub struct LocalConfig {
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// How long the other hosts of a list wait for one that is not inspected.
    pub patience: Duration,
}

impl LocalConfig {
    /// With the usual patience: five minutes, in which a server gets through its self-tests and an inspection.
    pub fn new(events: Arc<dyn EventSink>) -> Self {
        Self { events, patience: Duration::from_secs(300) }
    }
}

/// Runs the local controller until `shutdown`. It leaves alone the Sites that have a local controller elsewhere.
pub async fn run(client: Client, config: LocalConfig, shutdown: CancellationToken) {
    let settings =
        ControllerConfig { events: config.events.clone(), concurrency: 64, ..ControllerConfig::default() };
    let reconciler = controller::SiteReconciler { client: client.clone(), config };
    Controller::new(client, reconciler, settings)
        .watches::<BareMetalHost>(watcher::Config::default(), |host: &BareMetalHost, _| {
            let site = host.labels().get(SITE_LABEL);
            site.map(|site| ObjectKey::new(host.namespace().unwrap_or_default(), site)).into_iter().collect()
        })
        .watches::<Cluster>(watcher::Config::default(), |cluster: &Cluster, sites| {
            let Some(name) = cluster.labels().get(SITE_LABEL) else { return Vec::new() };
            sites.keys_where(|site| site.name_any() == *name)
        })
        .run(shutdown)
        .await;
}
