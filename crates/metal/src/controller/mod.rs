//! Controllers of the metal domain: BareMetalHosts, and the half of a Site that is about servers.

mod blocks;
mod host;
mod site;

use std::{sync::Arc, time::Duration};

use drystone_api::{BareMetalHost, HostFirmwareSettings};
use drystone_engine::{
    events::EventSink,
    harness::{Cache, Caches, Controller, ControllerConfig, Seldom},
    reference::ObjectKey,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, ResourceExt as _, runtime::watcher};
use tokio_util::sync::CancellationToken;

use crate::{plan::Pacing, provisioner::Ways};

/// Finalizer on every BareMetalHost; Metal3's own.
pub const FINALIZER: &str = "baremetalhost.metal3.io";

/// How often a Site tells how many of its hosts are inspected.
const TOLD: Duration = Duration::from_millis(500);

/// What the controllers are given.
#[derive(Clone)]
pub struct MetalConfig {
    /// Ways of provisioning.
    pub ways: Ways,
    /// Where events go.
    pub events: Arc<dyn EventSink>,
    /// Pauses and limits.
    pub pacing: Pacing,
    /// Copies of hosts.
    pub caches: Caches,
}

/// Runs the controllers until `shutdown`.
pub async fn run(client: Client, config: MetalConfig, shutdown: CancellationToken) {
    let settings = ControllerConfig {
        events: config.events.clone(),
        concurrency: 256,
        // Power that does not change is waited for twice in one pass, when a host is restarted.
        deadline: Duration::from_secs(300),
        ..ControllerConfig::default()
    };
    let slots = host::Slots::new(config.pacing.slots);
    let pauses = host::Pauses::default();
    let hosts = host::HostReconciler { client: client.clone(), config: config.clone(), slots, pauses };
    let hosts = Controller::new(client.clone(), hosts, settings.clone()).watches::<Secret>(
        watcher::Config::default(),
        |secret: &Secret, objects| {
            let namespace = secret.namespace().unwrap_or_default();
            let name = secret.name_any();
            objects.keys_where(|host: &BareMetalHost| {
                host.namespace().as_deref() == Some(namespace.as_str()) && host::mentions(host, &name)
            })
        },
    );
    let hosts = hosts.watches::<HostFirmwareSettings>(
        watcher::Config::default(),
        |settings: &HostFirmwareSettings, _| {
            vec![ObjectKey::new(settings.namespace().unwrap_or_default(), settings.name_any())]
        },
    );
    let copies: Cache<BareMetalHost> = config.caches.of();
    let sites =
        site::SiteReconciler { client: client.clone(), hosts: copies.clone(), told: Seldom::new(TOLD) };
    let sites = Controller::new(client, sites, settings).watches_cache(&copies, |host: &BareMetalHost, _| {
        let site = host.labels().get(drystone_api::SITE_LABEL);
        site.map(|site| ObjectKey::new(host.namespace().unwrap_or_default(), site)).into_iter().collect()
    });
    tokio::join!(hosts.run(shutdown.clone()), sites.run(shutdown));
}
