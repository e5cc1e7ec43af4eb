//! The seam between what a cloud *says* (stacks) and what it *does*: virtual machines and volumes with a body, or without one.

use std::{collections::BTreeMap, net::IpAddr};

use uuid::Uuid;

use crate::{
    backend::BackendError,
    site::{CloudImage, CloudNetwork},
};

/// A virtual machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineSpec {
    /// Id of the server.
    pub(crate) id: Uuid,
    /// Its name.
    pub(crate) name: String,
    /// Its image; absent if it boots from a volume.
    pub(crate) image: Option<CloudImage>,
    /// Network interfaces, in order.
    pub(crate) nics: Vec<MachineNic>,
    /// Volumes with the devices that they are: `/dev/vdb`.
    pub(crate) volumes: Vec<(Uuid, String)>,
    /// User data as they were given.
    pub(crate) user_data: Option<String>,
    /// Password of the image's first user, if one was given.
    pub(crate) admin_password: Option<String>,
    /// Memory in MiB.
    pub(crate) memory_mib: u64,
    /// Virtual processors.
    pub(crate) cores: u64,
}

/// A network interface of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineNic {
    /// Id of the network.
    pub(crate) network: Uuid,
    /// MAC address.
    pub(crate) mac: String,
    /// Addresses.
    pub(crate) addresses: Vec<IpAddr>,
}

/// Gives machines and volumes a body. All calls are idempotent.
#[async_trait::async_trait]
pub(crate) trait Bodies: Send + Sync + 'static {
    /// Whether there is nothing to wait for.
    fn is_instant(&self) -> bool {
        false
    }

    /// Builds networks, or finds them again, and takes up the machines and volumes that are to be there.
    async fn start(
        &self,
        networks: &[CloudNetwork],
        machines: Vec<MachineSpec>,
        volumes: BTreeMap<Uuid, u64>,
    ) -> Result<(), BackendError>;

    /// Makes a volume of so many GiB, or enlarges it.
    async fn make_volume(&self, id: Uuid, gib: u64) -> Result<(), BackendError>;

    /// Removes a volume with what is on it.
    async fn remove_volume(&self, id: Uuid) -> Result<(), BackendError>;

    /// Makes a machine and starts it.
    async fn make_machine(&self, machine: &MachineSpec) -> Result<(), BackendError>;

    /// Makes a machine as it is to be now; its disk stays unless it is rebuilt.
    async fn change_machine(&self, machine: &MachineSpec, rebuild: bool) -> Result<(), BackendError>;

    /// Removes a machine with its disk; its volumes stay.
    async fn remove_machine(&self, id: Uuid) -> Result<(), BackendError>;

    /// Shows a volume to a running machine as a device.
    async fn attach(&self, machine: Uuid, volume: Uuid, device: &str) -> Result<(), BackendError>;

    /// Takes it away again.
    async fn detach(&self, machine: Uuid, volume: Uuid, device: &str) -> Result<(), BackendError>;

    /// Leads what is sent to a floating address to a machine's own, or nowhere.
    async fn lead(&self, floating: IpAddr, to: Option<IpAddr>) -> Result<(), BackendError>;

    /// Takes everything down; disks and volumes stay.
    async fn stop(&self) -> Result<(), BackendError>;
}

/// Nothing but what the stacks say.
#[derive(Debug, Default)]
pub(crate) struct SimBodies;

#[async_trait::async_trait]
impl Bodies for SimBodies {
    fn is_instant(&self) -> bool {
        true
    }

    async fn start(
        &self,
        _networks: &[CloudNetwork],
        _machines: Vec<MachineSpec>,
        _volumes: BTreeMap<Uuid, u64>,
    ) -> Result<(), BackendError> {
        Ok(())
    }

    async fn make_volume(&self, _id: Uuid, _gib: u64) -> Result<(), BackendError> {
        Ok(())
    }

    async fn remove_volume(&self, _id: Uuid) -> Result<(), BackendError> {
        Ok(())
    }

    async fn make_machine(&self, _machine: &MachineSpec) -> Result<(), BackendError> {
        Ok(())
    }

    async fn change_machine(&self, _machine: &MachineSpec, _rebuild: bool) -> Result<(), BackendError> {
        Ok(())
    }

    async fn remove_machine(&self, _id: Uuid) -> Result<(), BackendError> {
        Ok(())
    }

    async fn attach(&self, _machine: Uuid, _volume: Uuid, _device: &str) -> Result<(), BackendError> {
        Ok(())
    }

    async fn detach(&self, _machine: Uuid, _volume: Uuid, _device: &str) -> Result<(), BackendError> {
        Ok(())
    }

    async fn lead(&self, _floating: IpAddr, _to: Option<IpAddr>) -> Result<(), BackendError> {
        Ok(())
    }

    async fn stop(&self) -> Result<(), BackendError> {
        Ok(())
    }
}
