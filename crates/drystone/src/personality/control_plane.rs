//! `drystone control-plane`: the control plane of a composed cluster, on a control-plane host: API server, scheduler and controllers, in one
//! process. With one such host its state is in the embedded store. With several it is in etcd; one of them runs the controllers, and
//! one has the address by which the cluster is reached.

use std::{net::IpAddr, path::Path, sync::Arc};

use drystone_apiserver::{ApiServer, Config, Profile, ServiceNetwork};
use drystone_cluster::bootstrap::{ControlPlaneConfig, EtcdConfig};
use drystone_identity::{
    CertificateProfile, Identity, PrivateKey, Secret, Usage, UserInfo,
    authn::{Authentication, ServiceAccountIssuer},
    ca::CertificateAuthority,
    files::private_directory,
    tls::{ServerIdentity, client_config, server_config},
};
use drystone_sealing::{
    KeySealer as _, SealingKey,
    keeper::FileSealer,
    store::{SECRETS, open_embedded, open_etcd},
};
use drystone_store::{
    Store,
    embedded::{EmbeddedStore, Options},
    etcd::{EtcdOptions, EtcdStore},
};
use drystone_workloads::{
    WorkloadsConfig,
    config::{ExternalPool, LeaderElectionConfig},
};
use ipnet::IpNet;
use jiff::Timestamp;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{api_address, joining, members, protect_memory, shutdown_on_signal};
use crate::{cli::ConfigArgs, command::Failure};

/// How often the certificate of etcd's member is renewed, which is valid for a year.
const RENEW_CERTIFICATES: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3600);

/// Runs until a signal.
pub(crate) async fn run(args: ConfigArgs) -> Result<(), Failure> {
    let config = read(&args.config)?;
    let shutdown = shutdown_on_signal()?;
    protect_memory();
    private_directory(&config.data_dir)?;
    let Some(ground) = shutdown.run_until_cancelled(Ground::open(&config)).await.transpose()? else {
        return Ok(());
    };
    let authority = authority(&config)?;
    let ca_pem = authority.certificate_pem();

    let serving = serving_identity(&config, &authority)?;
    let server = api_config(&config, &ground, authority)?;
    let api = ApiServer::new(server).await?;
    let client = Client::new(api.service_as(UserInfo::new("system:drystone", ["system:masters"])), "default");
    joining::install_tokens(&client, &config).await?;

    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| format!("listening on {}: {error}", config.listen))?;
    let tls = server_config(ServerIdentity::new(&serving)?, Some(&ca_pem))?;
    tracing::info!(cluster = config.cluster_name, "control plane listens on {}", config.listen);
    let mut router = api.router_with_fallback();
    if let Some(store) = &ground.etcd {
        router = router.merge(members::router(api.clone(), Arc::clone(store)));
    }
    let workloads = drystone_workloads::run(client, workloads(&config), shutdown.clone());
    let serving = drystone_apiserver::serve_tls(listener, tls, router, api.stopping());
    let duties = shared_duties(&config, &ground, &shutdown);
    let (serving, workloads, (), ()) = tokio::join!(serving, workloads, duties, async {
        shutdown.cancelled().await;
        api.shutdown().await;
    });
    serving?;
    workloads?;
    Ok(())
}

/// The certificate of the HTTPS port.
fn serving_identity(
    config: &ControlPlaneConfig,
    authority: &CertificateAuthority,
) -> Result<Identity, Failure> {
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ];
    let addresses: Vec<IpAddr> = [config.advertise_address, [127, 0, 0, 1].into()]
        .into_iter()
        .chain(config.etcd.as_ref().map(|etcd| etcd.address))
        .chain(config.additional_addresses.iter().copied())
        .chain(first(config.service_cidr))
        .collect();
    Ok(authority.issue(
        &CertificateProfile::server("kube-apiserver").dns(names).ip(addresses).usage(Usage::ServerAuth),
        Timestamp::now(),
    )?)
}

/// What the API server is made of.
fn api_config(
    config: &ControlPlaneConfig,
    ground: &Ground,
    authority: CertificateAuthority,
) -> Result<Config, Failure> {
    let ca_pem = authority.certificate_pem();
    let kubelet_client = authority.issue(
        &CertificateProfile::client("kube-apiserver-kubelet-client", ["system:masters"]),
        Timestamp::now(),
    )?;
    let key = PrivateKey::from_pem(&std::fs::read_to_string(&config.service_account_key)?)?;
    let issuer = "https://kubernetes.default.svc.cluster.local";

    let mut server = Config::new(Profile::Cluster, ground.store());
    server.authentication = Authentication::new();
    server.service_account_issuer =
        Some(Arc::new(ServiceAccountIssuer::new(issuer, vec![issuer.to_owned()], key)?));
    server.root_certificates = Some(ca_pem.clone());
    server.kubelet_client = Some(Arc::new(client_config(&ca_pem, Some(&kubelet_client))?));
    server.services = Some(ServiceNetwork {
        cidrs: vec![config.service_cidr],
        node_ports: ServiceNetwork::NODE_PORTS,
        advertise: Some((config.advertise_address, config.listen.port()).into()),
    });
    server.certificate_authority = Some(Arc::new(authority));
    Ok(server)
}

/// Where state is kept.
struct Ground {
    /// All of it, with Secrets sealed if there is a key.
    store: Arc<dyn Store>,
    /// etcd, if it is there.
    etcd: Option<Arc<EtcdStore>>,
}

impl Ground {
    /// Opens it. Waits for etcd, which is started together with this process, and answers when most of its members do.
    async fn open(config: &ControlPlaneConfig) -> Result<Self, Failure> {
        let sealing = sealing_key(config)?;
        let Some(etcd) = &config.etcd else {
            let file = config.data_dir.join("cluster.redb");
            let store: Arc<dyn Store> = match &sealing {
                Some(key) => open_embedded(&file, Options::default(), key, &[SECRETS]).await?,
                None => Arc::new(EmbeddedStore::open(file, Options::default())?),
            };
            return Ok(Self { store, etcd: None });
        };
        let others = etcd.members.values().filter(|address| **address != etcd.address);
        let addresses = std::iter::once(&etcd.address).chain(others);
        let mut options = EtcdOptions::new(addresses.map(|address| EtcdConfig::client_url(*address)));
        options.follow_members = true;
        options.tls = Some(super::etcd::tls(etcd)?);
        let store = EtcdStore::new(&options)?;
        while let Err(error) = store.check().await {
            tracing::info!("etcd does not answer yet: {error}");
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        let sealed: Arc<dyn Store> = match &sealing {
            Some(key) => open_etcd(&store, key, &[SECRETS]).await?,
            None => Arc::clone(&store) as _,
        };
        Ok(Self { store: sealed, etcd: Some(store) })
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }
}

/// The key under which Secrets are kept; none in a cluster that was made before there was one.
fn sealing_key(config: &ControlPlaneConfig) -> Result<Option<SealingKey>, Failure> {
    let Some(path) = &config.sealing_key else {
        tracing::warn!("the cluster has no sealing key: its Secrets are kept in clear");
        return Ok(None);
    };
    let key = FileSealer::new(path).unseal()?;
    key.map(Some).ok_or_else(|| format!("{}: the cluster's sealing key is gone", path.display()).into())
}

/// What a control plane of several hosts does beside: takes its turn at the address, and renews the certificate of etcd.
async fn shared_duties(config: &ControlPlaneConfig, ground: &Ground, shutdown: &CancellationToken) {
    let (Some(etcd), IpAddr::V4(address)) = (&config.etcd, config.advertise_address) else { return };
    let interface = api_address::Interface { name: etcd.interface.clone(), address };
    let address = api_address::keep(ground.store(), etcd.name.clone(), interface, shutdown.clone());
    let renewal = shutdown.run_until_cancelled(async {
        loop {
            tokio::time::sleep(RENEW_CERTIFICATES).await;
            if let Err(error) = super::etcd::renew(config) {
                tracing::error!(%error, "etcd's certificate is not renewed");
            }
        }
    });
    let ((), _) = tokio::join!(address, renewal);
}

/// Tells this process from all others.
fn identity(name: &str) -> String {
    format!("{name}_{:016x}", rand::random::<u64>())
}

pub(super) fn read(path: &Path) -> Result<ControlPlaneConfig, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn authority(config: &ControlPlaneConfig) -> Result<CertificateAuthority, Failure> {
    let certificate = std::fs::read_to_string(&config.ca_cert)?;
    let key = Secret::new(std::fs::read_to_string(&config.ca_key)?);
    Ok(CertificateAuthority::from_pem(&certificate, &key)?)
}

/// The first address of the Service network: that of the Service `kubernetes`.
fn first(network: IpNet) -> Option<IpAddr> {
    network.hosts().next()
}

fn workloads(config: &ControlPlaneConfig) -> WorkloadsConfig {
    let pool = |pool: &drystone_cluster::bootstrap::ExternalAddresses| ExternalPool {
        name: pool.name.clone(),
        ranges: pool.ranges.iter().map(ToString::to_string).collect(),
        auto_assign: true,
    };
    WorkloadsConfig {
        leader_election: config
            .etcd
            .as_ref()
            .map(|etcd| LeaderElectionConfig { identity: identity(&etcd.name), ..Default::default() }),
        external_pools: config.external_pools.iter().map(pool).collect(),
        ..WorkloadsConfig::default()
    }
}
