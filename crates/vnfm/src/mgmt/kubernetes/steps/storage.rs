//! The storage server of the cluster, its clients, and the PersistentVolumes on it.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use drystone_api::nfv::VNF_INSTANCE_LABEL;
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_storage::{
    client,
    device::DeviceHint,
    export::mount_of,
    in_use::Storage,
    kubectl::Kubectl,
    manifest::{self, NfsVolume},
    registration, server,
    volume::{self, Volume},
};
use serde::{Deserialize, Serialize};

use super::{Dependencies, PATIENCE, nodes::node_of, package_file, teller};
use crate::{
    mgmt::kubernetes::{
        access::{Cluster, Reached, storage_failure},
        nodes::{NodeRef, Role},
        parameters::StorageServer,
        programs::ADMIN_CONF,
        task::Task,
    },
    model::Port,
};

/// How long PersistentVolumes may take to be registered, or to go.
const VOLUMES_LIMIT: Duration = Duration::from_secs(150);

/// Installs the NFS client on a node.
pub struct InstallNfsClient;

impl Action for InstallNfsClient {
    const NAME: &'static str = "mgmt.install-nfs-client";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let reached = cluster.connect(context, &task, node_of(&task)?, PATIENCE, false).await?;
        let tell = teller(context, &reached.redaction);
        let host = reached.host(&tell, cluster.proxies(&task.nodes));
        context.wait_for(client::install(&host)).await?.map(drop).map_err(|error| storage_failure(&error))
    }
}

/// What became of the storage server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageOutcome {
    /// Which NFS server it has.
    pub server: server::ServerKind,
    /// Its volumes.
    pub volumes: Vec<volume::Prepared>,
}

/// Mounts the storage server's volumes, keeping what is on them, and exports its folders.
pub struct PrepareStorage;

impl Action for PrepareStorage {
    const NAME: &'static str = "mgmt.prepare-storage";
    type Parameters = Task;
    type Output = StorageOutcome;

    async fn run(&self, context: &StepContext, task: Task) -> Result<StorageOutcome, StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let node = node_of(&task)?;
        let storage = storage_of(&cluster)?;
        let reached = cluster.connect(context, &task, node, PATIENCE, false).await?;
        let tell = teller(context, &reached.redaction);
        let host = reached.host(&tell, cluster.proxies(&task.nodes));
        let failed = |error| storage_failure(&error);
        let mut volumes = Vec::new();
        for (name, mount) in &storage.volumes {
            let device = device_of(&cluster, node, name)?;
            let wanted = Volume { device, mount_to: mount.clone() };
            volumes.push(context.wait_for(volume::prepare(&host, &wanted)).await?.map_err(failed)?);
        }
        let kind = context.wait_for(server::install(&host)).await?.map_err(failed)?;
        let mounts = storage.mounts();
        context.wait_for(server::export(&host, kind, &mounts, &storage.exports)).await?.map_err(failed)?;
        Ok(StorageOutcome { server: kind, volumes })
    }
}

fn storage_of(cluster: &Cluster) -> Result<&StorageServer, StepError> {
    cluster
        .parameters
        .storage
        .as_ref()
        .ok_or_else(|| StepError::permanent("the request has no storage_server"))
}

/// What the VIM says of a volume of the storage server.
fn device_of(cluster: &Cluster, node: &NodeRef, name: &str) -> Result<DeviceHint, StepError> {
    let server = cluster.server(node)?;
    let volume = cluster.inventory.volume(name);
    let volume = volume.ok_or_else(|| StepError::transient(format!("the VIM has no volume {name}")))?;
    let attached = volume.server.as_ref().is_none_or(|id| *id == server.id);
    if !attached {
        let why = format!("volume {name} is attached to another server than {}", node.name);
        return Err(StepError::transient(why));
    }
    let mut hint = match &volume.device {
        Some(device) => device.parse::<DeviceHint>().map_err(StepError::permanent)?,
        None => DeviceHint::default(),
    };
    hint.serial = Some(volume.id.clone()).filter(|id| !id.is_empty());
    Ok(hint)
}

/// The package's PersistentVolumes, on the storage server.
async fn volumes(
    context: &StepContext,
    dependencies: &Dependencies,
    cluster: &Cluster,
    task: &Task,
) -> Result<Vec<NfsVolume>, StepError> {
    let storage = storage_of(cluster)?;
    let mut all: Vec<NfsVolume> = Vec::new();
    for entry in &cluster.parameters.manifests {
        let package = &task.source.package;
        let bytes = package_file(context, dependencies, package, &entry.path, manifest::MAX_BYTES).await?;
        let wrong = |why: String| StepError::permanent(format!("{} of the package: {why}", entry.path));
        let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let address = cluster.connection_point(&entry.server_cp, &storage_nodes(task))?;
        for volume in manifest::parse(&text).map_err(|problem| wrong(problem.to_string()))? {
            let exported: Vec<String> =
                storage.exports.iter().map(|export| export.directory.clone()).collect();
            if mount_of(volume.path(), &exported).is_none() {
                let why = format!(
                    "{} is at {}, which the storage server does not export",
                    volume.name(),
                    volume.path()
                );
                return Err(wrong(why));
            }
            if all.iter().any(|other| other.name() == volume.name()) {
                return Err(wrong(format!("another manifest has a PersistentVolume {} too", volume.name())));
            }
            all.push(volume.on_server(address).with_label(VNF_INSTANCE_LABEL, &task.source.instance));
        }
    }
    Ok(all)
}

fn storage_nodes(task: &Task) -> Vec<NodeRef> {
    task.nodes.iter().filter(|node| node.role == Role::Storage).cloned().collect()
}

async fn register(
    context: &StepContext,
    cluster: &Cluster,
    task: &Task,
    volumes: &[NfsVolume],
) -> Result<(), StepError> {
    let via: Reached = cluster.connect_to_control_plane(context, task).await?;
    let tell = teller(context, &via.redaction);
    let kubectl = Kubectl { host: via.host(&tell, Vec::new()), kubeconfig: ADMIN_CONF.to_owned() };
    let registered = context.wait_for(registration::register(&kubectl, volumes, VOLUMES_LIMIT)).await?;
    registered.map_err(|error| storage_failure(&error))
}

/// Registers the package's PersistentVolumes with the cluster, at the storage server's present address.
pub struct RegisterVolumes(pub(super) Dependencies);

impl Action for RegisterVolumes {
    const NAME: &'static str = "mgmt.register-volumes";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let volumes = volumes(context, &self.0, &cluster, &task).await?;
        register(context, &cluster, &task, &volumes).await
    }
}

/// Checks that nobody uses the storage server, and takes its PersistentVolumes back.
pub struct TakeVolumesBack(pub(super) Dependencies);

impl Action for TakeVolumesBack {
    const NAME: &'static str = "mgmt.take-volumes-back";
    type Parameters = Task;
    type Output = ();

    async fn run(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let volumes = volumes(context, &self.0, &cluster, &task).await?;
        let storage = Storage {
            names: volumes.iter().map(|volume| volume.name().to_owned()).collect(),
            servers: addresses(&cluster, &task).into_iter().collect(),
            kept: task.volumes_kept,
        };
        let via = cluster.connect_to_control_plane(context, &task).await?;
        let tell = teller(context, &via.redaction);
        let kubectl = Kubectl { host: via.host(&tell, Vec::new()), kubeconfig: ADMIN_CONF.to_owned() };
        let taken =
            context.wait_for(registration::unregister_unused(&kubectl, &storage, VOLUMES_LIMIT)).await?;
        taken.map_err(|error| storage_failure(&error))
    }

    /// Registers them again where they were.
    async fn undo(&self, context: &StepContext, task: Task) -> Result<(), StepError> {
        let cluster = Cluster::load(context, &task.source).await?;
        let volumes = volumes(context, &self.0, &cluster, &task).await?;
        register(context, &cluster, &task, &volumes).await
    }
}

/// All addresses by which the storage server may be known to PersistentVolumes.
fn addresses(cluster: &Cluster, task: &Task) -> BTreeSet<String> {
    let mut all: BTreeSet<String> = BTreeSet::new();
    for node in storage_nodes(task) {
        let ports = cluster.server(&node).map(|server| server.ports.clone()).unwrap_or_default();
        for Port { addresses, floating, .. } in ports {
            all.extend(addresses.into_iter().map(|address| address.address));
            all.extend(floating);
        }
        all.insert(node.name.clone());
    }
    all.retain(|address| address.parse::<IpAddr>().is_ok() || !address.is_empty());
    all
}
