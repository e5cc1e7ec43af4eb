//! Effects of a storage server: on its host and on nodes over SSH, and in the cluster. What runs on hosts is the library `storage`'s.

use std::{net::IpAddr, time::Duration};

use drystone_api::{Cluster, StorageServer, StorageVolumeStatus};
use drystone_engine::action::{Action, ActionRegistry, RegistryError, StepContext, StepError};
use drystone_storage::{Host, StorageError, client, in_use::Storage, registration, server, volume};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use super::model::{self, Place};
use crate::{
    access::client_of,
    distribution::reach::{self, Reached},
    model::Names,
};

/// How long a host may take to be reached: it may be booting still.
const PATIENCE: Duration = Duration::from_secs(300);

/// How long a PersistentVolume may take to be there, or to be gone.
const VOLUME_LIMIT: Duration = Duration::from_secs(120);

/// Registers the actions.
///
/// # Errors
/// [`RegistryError`] when a name is taken.
pub fn register(registry: &mut ActionRegistry) -> Result<(), RegistryError> {
    registry.register(PrepareVolumes)?;
    registry.register(ExportDirectories)?;
    registry.register(InstallClient)?;
    registry.register(RegisterVolumes)?;
    registry.register(UnregisterVolumes)?;
    registry.register(ReleaseVolumes)
}

fn failure(error: StorageError) -> StepError {
    if error.is_permanent() { StepError::permanent(error) } else { StepError::transient(error) }
}

/// What a step works on, as it is now.
struct Subject {
    server: StorageServer,
    cluster: Cluster,
    names: Names,
}

impl Subject {
    async fn read(context: &StepContext) -> Result<Self, StepError> {
        let subject = context.subject();
        let servers: Api<StorageServer> = Api::namespaced(context.client().clone(), &subject.namespace);
        let server = servers
            .get(&subject.name)
            .await
            .map_err(|error| StepError::from_kube("reading the StorageServer", &error))?;
        let clusters: Api<Cluster> = Api::namespaced(context.client().clone(), &subject.namespace);
        let cluster = clusters
            .get(&server.spec.cluster)
            .await
            .map_err(|error| StepError::from_kube("reading the StorageServer's Cluster", &error))?;
        let names = Names::of(&cluster);
        Ok(Self { server, cluster, names })
    }

    fn place(&self) -> Result<Place, StepError> {
        let members = self.cluster.status.iter().flat_map(|status| &status.members).cloned();
        model::place(&self.server.spec, &members.collect::<Vec<_>>())
            .ok_or_else(|| StepError::transient("the host is not there yet"))
    }

    async fn reach(&self, context: &StepContext) -> Result<Reached, StepError> {
        let place = self.place()?;
        let seen = model::for_reaching(&self.cluster, &self.server);
        reach::connect(context, &seen, &self.names, &place.host, PATIENCE).await
    }

    /// The API of the cluster.
    async fn inside(&self, context: &StepContext) -> Result<Client, StepError> {
        let (namespace, secret) = (&self.names.namespace, self.names.kubeconfig_secret());
        let secret = match &self.cluster.spec.external {
            Some(external) => external.kubeconfig_secret.clone(),
            None => secret,
        };
        client_of(context.client(), namespace, &secret).await.map_err(StepError::transient)
    }

    fn exports(&self) -> Result<Vec<drystone_storage::export::Export>, StepError> {
        let members: Vec<_> =
            self.cluster.status.iter().flat_map(|status| &status.members).cloned().collect();
        let clients = model::clients(&self.server.spec, &members);
        model::exports(&self.server.spec, &clients).map_err(StepError::permanent)
    }

    fn mounts(&self) -> Vec<String> {
        self.server.spec.volumes.iter().map(|volume| volume.mount_to.clone()).collect()
    }
}

/// Mounts the drives, for good. An empty one gets a file system; any other is kept as it is.
pub struct PrepareVolumes;

/// What is mounted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PreparedVolumes {
    /// The volumes.
    pub volumes: Vec<StorageVolumeStatus>,
}

impl Action for PrepareVolumes {
    const NAME: &'static str = "storage.prepare-volumes";
    type Parameters = ();
    type Output = PreparedVolumes;

    async fn run(&self, context: &StepContext, (): ()) -> Result<PreparedVolumes, StepError> {
        let subject = Subject::read(context).await?;
        let reached = subject.reach(context).await?;
        let follow = |line: &str| context.log(line);
        let host = Host::new(&reached.session, reached.privilege.clone()).follow(&follow);
        let mut prepared = PreparedVolumes::default();
        for wanted in &subject.server.spec.volumes {
            let wanted = model::volume(wanted).map_err(StepError::permanent)?;
            let made = context.wait_for(volume::prepare(&host, &wanted)).await?.map_err(failure)?;
            prepared.volumes.push(StorageVolumeStatus {
                mount_to: wanted.mount_to,
                device: made.device,
                uuid: made.uuid,
                formatted: made.formatted,
            });
        }
        Ok(prepared)
    }
}

/// Makes the host an NFS server that exports what is wanted, and nothing else of ours.
pub struct ExportDirectories;

impl Action for ExportDirectories {
    const NAME: &'static str = "storage.export";
    type Parameters = ();
    type Output = ();

    async fn run(&self, context: &StepContext, (): ()) -> Result<(), StepError> {
        let subject = Subject::read(context).await?;
        let exports = subject.exports()?;
        let reached = subject.reach(context).await?;
        let follow = |line: &str| context.log(line);
        let host = Host::new(&reached.session, reached.privilege.clone()).follow(&follow);
        let kind = context.wait_for(server::install(&host)).await?.map_err(failure)?;
        context.wait_for(server::export(&host, kind, &subject.mounts(), &exports)).await?.map_err(failure)
    }
}

/// Installs the NFS client on a node that others made.
pub struct InstallClient;

/// The node.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NodeParameters {
    /// Its host.
    pub node: String,
}

impl Action for InstallClient {
    const NAME: &'static str = "storage.install-client";
    type Parameters = NodeParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: NodeParameters) -> Result<(), StepError> {
        let subject = Subject::read(context).await?;
        let reached =
            reach::connect(context, &subject.cluster, &subject.names, &parameters.node, PATIENCE).await?;
        let follow = |line: &str| context.log(line);
        let host = Host::new(&reached.session, reached.privilege.clone()).follow(&follow);
        context.wait_for(client::install(&host)).await?.map(drop).map_err(failure)
    }
}

/// Registers the PersistentVolumes.
pub struct RegisterVolumes;

impl Action for RegisterVolumes {
    const NAME: &'static str = "storage.register-volumes";
    type Parameters = ();
    type Output = ();

    async fn run(&self, context: &StepContext, (): ()) -> Result<(), StepError> {
        let subject = Subject::read(context).await?;
        let address: IpAddr = subject.place()?.address;
        let volumes = model::persistent_volumes(&subject.server, address).map_err(StepError::permanent)?;
        let inside = subject.inside(context).await?;
        let registered = registration::register(&inside, &volumes, VOLUME_LIMIT);
        context.wait_for(registered).await?.map_err(failure)
    }
}

/// Takes PersistentVolumes back, if nobody uses them or anything else of their server.
pub struct UnregisterVolumes;

/// What is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisterParameters {
    /// Names of PersistentVolumes.
    pub names: Vec<String>,
    /// Addresses of servers that nobody may use any more.
    pub servers: Vec<String>,
}

impl Action for UnregisterVolumes {
    const NAME: &'static str = "storage.unregister-volumes";
    type Parameters = UnregisterParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: UnregisterParameters) -> Result<(), StepError> {
        let subject = Subject::read(context).await?;
        let inside = subject.inside(context).await?;
        // What was written stays on the drives.
        let storage = Storage { names: parameters.names, servers: parameters.servers, kept: true };
        let gone = registration::unregister_unused(&inside, &storage, VOLUME_LIMIT);
        context.wait_for(gone).await?.map_err(failure)
    }
}

/// Ends the exports and unmounts the drives. The file systems stay, with what is in them.
pub struct ReleaseVolumes;

/// What is unmounted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ReleaseParameters {
    /// Where.
    pub mounts: Vec<String>,
}

impl Action for ReleaseVolumes {
    const NAME: &'static str = "storage.release-volumes";
    type Parameters = ReleaseParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: ReleaseParameters) -> Result<(), StepError> {
        let subject = Subject::read(context).await?;
        let reached = subject.reach(context).await?;
        let follow = |line: &str| context.log(line);
        let host = Host::new(&reached.session, reached.privilege.clone()).follow(&follow);
        let kind = context.wait_for(server::install(&host)).await?.map_err(failure)?;
        context.wait_for(server::export(&host, kind, &parameters.mounts, &[])).await?.map_err(failure)?;
        for mount in &parameters.mounts {
            context.wait_for(volume::release(&host, mount)).await?.map_err(failure)?;
        }
        Ok(())
    }
}
