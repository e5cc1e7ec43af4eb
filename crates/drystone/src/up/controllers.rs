//! The controllers of all domains, assembled: this is where domains that know nothing of each other are put together.

use std::{net::SocketAddr, path::Path, sync::Arc};

use drystone_appcontext::AppContexts;
use drystone_cluster::{
    ClusterConfig,
    plan::Timing,
    steps::{AddressError, Addresses, Leased, LeasedEach, StepDependencies},
};
use drystone_csar::Library;
use drystone_engine::{
    action::ActionRegistry,
    events::{EventRecorder, EventSink},
    harness::{Caches, ControllerConfig},
    leader::{LeaderConfig, lead},
    operations::{OperationController, OperationControllerConfig},
    runner::{Engine, EngineConfig},
};
use drystone_fabric::{FabricConfig, FabricManager, addresses::AddressDaemon, agents::AgentTrees};
use drystone_images::Images;
use drystone_metal::{controller::MetalConfig, http::BootMedia};
use drystone_nfv::Notifier;
use drystone_ofmf::Ofmf;
use drystone_sealing::SealingKey;
use drystone_software::controller::SoftwareConfig;
use drystone_vnfm::{
    controller::{Foresight, LifecycleConfig},
    packages::PackagesConfig,
};
use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    UpArgs, agents::ByFabricManager, emco, pki::Keys, server::Server, software, storage::Storage, vnfm,
};
use crate::command::Failure;

/// Starts the listener that management controllers fetch boot media from, and hosts images.
pub(crate) async fn start_boot_listener(
    keys: &Keys,
    listen: SocketAddr,
    images: &Images,
    stop: &CancellationToken,
) -> Result<BootMedia, Failure> {
    let listener = super::server::listen(listen, "--boot-listen").await?;
    let base = Url::parse(&format!("http://{}/", listener.local_addr()?))?;
    images.serve_at(base.clone());
    let media = BootMedia::new(base, keys.boot_secret.clone());
    let router = media.router().merge(drystone_images::http::fetching(images));
    let stopped = stop.clone();
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stopped.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!("serving boot media: {error}");
        }
    });
    Ok(media)
}

/// Leases for the cluster domain, by the fabric manager's address daemon.
struct Leases(AddressDaemon);

impl Addresses for Leases {
    fn lease<'a>(&'a self, namespace: &'a str, pool: &'a str, holder: &'a str, count: usize) -> Leased<'a> {
        Box::pin(async move {
            self.0
                .lease(namespace, pool, holder, count)
                .await
                .map_err(|error| AddressError(error.to_string()))
        })
    }

    fn lease_each<'a>(&'a self, namespace: &'a str, pool: &'a str, holders: &'a [String]) -> LeasedEach<'a> {
        Box::pin(async move {
            let leased = self.0.lease_each(namespace, pool, holders).await;
            leased.map_err(|error| AddressError(error.to_string()))
        })
    }

    fn release<'a>(&'a self, namespace: &'a str, pool: &'a str, holder: &'a str) -> Leased<'a> {
        Box::pin(async move {
            let released = self.0.release(namespace, pool, holder).await;
            released.map(|()| Vec::new()).map_err(|error| AddressError(error.to_string()))
        })
    }
}

/// Starts everything, on a shared store only while this Drystone leads; ends when `shutdown` is cancelled and all controllers have ended.
pub(crate) fn start(
    server: &Server,
    keys: &Keys,
    media: BootMedia,
    args: &UpArgs,
    (redfish, packages): (&Ofmf, &Library),
    (contexts, data, sealing): (AppContexts, &Path, &SealingKey),
    shutdown: CancellationToken,
) -> Result<JoinHandle<()>, Failure> {
    let client: Client = server.client();
    let events: Arc<dyn EventSink> = Arc::new(EventRecorder::new(client.clone(), "drystone"));
    let dependencies = StepDependencies {
        addresses: Arc::new(Leases(AddressDaemon::new(client.clone()))),
        drystone_ca_pem: keys.authority.certificate_pem(),
        controller_address: server.address.to_string(),
        images: server.archives.places(),
    };
    let mut actions = ActionRegistry::new();
    drystone_cluster::steps::register(&mut actions, &dependencies)?;
    let software = software::prepare(&mut actions, keys, args.data(), redfish.caches(), events.clone())?;
    let lifecycle = vnfm::prepare(&mut actions, packages, server.archives.files())?;
    let foresight = Foresight::new(client.clone(), &redfish.caches(), lifecycle.clone());
    server.nfv.serve(&server.api, &client, &redfish.caches(), packages, foresight);
    let ground = emco::Ground {
        client: &client,
        caches: &redfish.caches(),
        contexts,
        data,
        sealing,
        authority_pem: keys.authority.certificate_pem(),
        charts: &args.charts,
    };
    let applications = emco::prepare(&mut actions, &ground)?;
    applications.serve(&server.emco, &server.api, &client, &redfish.caches());
    server.emco_grpc.serve(applications.contract(&server.api));
    let notifier = Notifier::new(client.clone(), &redfish.caches(), &format!("https://{}", server.address));
    let onboarding = PackagesConfig {
        library: packages.clone(),
        may_be_local: args.vnf_packages_from_loopback,
        controller: ControllerConfig::default(),
    };
    let metal = MetalConfig {
        ways: args.metal.ways(media, server.agents.clone())?,
        events: events.clone(),
        pacing: args.metal.pacing(),
        caches: redfish.caches(),
    };
    let fabric = FabricConfig {
        drivers: Arc::new(drystone_fabric::drivers::redfish::RedfishDrivers),
        events: events.clone(),
        trees: AgentTrees::new(redfish.tree()),
        caches: redfish.caches(),
    };
    let fabric = FabricManager::new(client.clone(), fabric);
    redfish.connect(Arc::new(ByFabricManager::new(&fabric)));
    let cluster = ClusterConfig { dependencies, timing: Timing::default(), events: events.clone() };
    let caches = redfish.caches();
    let domains = Domains {
        client: client.clone(),
        caches,
        actions,
        metal,
        fabric,
        cluster,
        software,
        lifecycle,
        onboarding,
        notifier,
        applications,
        events,
    };
    // With a store of its own there is no other Drystone that could be at work; the store is locked.
    if args.store == Storage::Embedded {
        return Ok(tokio::spawn(domains.run(shutdown)));
    }
    Ok(tokio::spawn(async move {
        lead(client, LeaderConfig::new("drystone"), shutdown, |term| Box::pin(domains.clone().run(term)))
            .await;
    }))
}

/// The controllers of all domains, not yet running.
#[derive(Clone)]
struct Domains {
    client: Client,
    /// Copies of what the API has, which the domains share.
    caches: Caches,
    actions: ActionRegistry,
    metal: MetalConfig,
    fabric: FabricManager,
    cluster: ClusterConfig,
    software: SoftwareConfig,
    lifecycle: LifecycleConfig,
    onboarding: PackagesConfig,
    notifier: Notifier,
    applications: emco::Applications,
    events: Arc<dyn EventSink>,
}

impl Domains {
    /// Runs them until `shutdown`.
    async fn run(self, shutdown: CancellationToken) {
        let Self {
            client,
            caches,
            actions,
            metal,
            fabric,
            cluster,
            software,
            lifecycle,
            onboarding,
            notifier,
            applications,
            events,
        } = self;
        let engine = Engine::new(client.clone(), actions, EngineConfig::default(), events.clone());
        let operations =
            OperationController::new(client.clone(), engine, OperationControllerConfig::default());
        tokio::join!(
            operations.run(shutdown.clone()),
            drystone_metal::controller::run(client.clone(), metal, shutdown.clone()),
            drystone_metal::rotation::run(
                client.clone(),
                Arc::new(drystone_metal::rotation::account::RedfishAccounts),
                events.clone(),
                shutdown.clone()
            ),
            fabric.run(shutdown.clone()),
            drystone_composer::controller::run(
                client.clone(),
                caches.clone(),
                events.clone(),
                shutdown.clone()
            ),
            drystone_cluster::run(client.clone(), cluster, shutdown.clone()),
            drystone_software::controller::run(client.clone(), software, shutdown.clone()),
            drystone_vnfm::controller::run(client.clone(), &caches, lifecycle, shutdown.clone()),
            drystone_vnfm::packages::run(client.clone(), &caches, onboarding, shutdown.clone()),
            notifier.run(shutdown.clone()),
            applications.run(client.clone(), &caches, shutdown.clone()),
            super::site_controllers::run(client, caches.clone(), events, shutdown),
        );
    }
}
