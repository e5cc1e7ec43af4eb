//! At the site: the cluster made out of the list of hosts, and the summary in the Site's status.

mod controller;
mod summary;

use std::{sync::Arc, time::Duration};

use drystone_api::{BareMetalHost, Cluster, SITE_LABEL, Site};
use drystone_engine::{
    events::EventSink,
    harness::{Controller, ControllerConfig},
    reference::ObjectKey,
};
use futures::{Stream, StreamExt as _};
use kube::{
    Api, Client, ResourceExt as _,
    core::DynamicObject,
    runtime::{WatchStreamExt as _, watcher},
};
use tokio_util::sync::CancellationToken;

use crate::global::kinds::{kinds, position};

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

/// Roll-outs that change; none where there is no such kind.
fn rollouts(client: &Client) -> impl Stream<Item = DynamicObject> + Send + use<> {
    let kind = position("rollouts").and_then(|kind| kinds().get(kind));
    let changes = kind.map(|kind| {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), kind);
        watcher::watcher(api, watcher::Config::default())
            .default_backoff()
            .touched_objects()
            .filter_map(|change| futures::future::ready(change.ok()))
            .boxed()
    });
    changes.unwrap_or_else(|| futures::stream::pending().boxed())
}

/// Runs the local controller until `shutdown`. It leaves alone the Sites that have a local controller elsewhere.
pub async fn run(client: Client, config: LocalConfig, shutdown: CancellationToken) {
    let settings =
        ControllerConfig { events: config.events.clone(), concurrency: 64, ..ControllerConfig::default() };
    let reconciler = controller::SiteReconciler { client: client.clone(), config };
    let controller = Controller::new(client.clone(), reconciler, settings);
    let sites = controller.objects();
    let rolled = rollouts(&client).flat_map(move |rollout| {
        let namespace = rollout.namespace();
        futures::stream::iter(sites.keys_where(|site: &Site| site.namespace() == namespace))
    });
    controller
        .triggered_by(rolled)
        .watches::<BareMetalHost>(watcher::Config::default(), |host: &BareMetalHost, _| {
            let site = host.labels().get(SITE_LABEL);
            site.map(|site| ObjectKey::new(host.namespace().unwrap_or_default(), site)).into_iter().collect()
        })
        .watches::<Cluster>(watcher::Config::default(), |cluster: &Cluster, sites| {
            let Some(name) = cluster.labels().get(controller::MADE_FOR_LABEL) else { return Vec::new() };
            sites.keys_where(|site| site.name_any() == *name)
        })
        .run(shutdown)
        .await;
}
