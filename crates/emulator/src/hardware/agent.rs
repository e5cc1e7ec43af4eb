//! The agent of a host that does not really boot: the same client of the same protocol, over real HTTP, on a machine that is
//! made of the host's description.
//!
//! The image is fetched and its digest checked as on any host, and then goes nowhere. What counts is what comes with it: the
//! configuration drive becomes the host's *disk seed*, a medium of its own that the host boots from then on whenever it boots
//! its disk. Thus a host made of namespaces starts with the user data that the drive holds.

use std::{
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use async_trait::async_trait;
use drystone_agent::{
    config_drive,
    download::Detours,
    machine::{Disk, Machine, MachineError},
    medium::{self, AgentConfig},
    protocol::{ConfigDrive, Deployment, DiskDetails, Interface, Inventory},
};
use serde_json::json;

use super::Hardware;
use crate::site::{DriveMedia, HostSpec};

/// Reads whom the agent on a medium asks; none if it is another medium.
pub(super) fn on_medium(path: &Path) -> Option<AgentConfig> {
    medium::read(&mut fs::File::open(path).ok()?).ok()
}

/// An agent that works until it is dropped.
pub(super) struct RunningAgent(tokio::task::JoinHandle<()>);

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts an agent on a host.
pub(super) fn start(hardware: &Arc<Hardware>, config: AgentConfig, detours: Detours) -> RunningAgent {
    let name = hardware.spec.name.clone();
    let machine = Arc::new(SimulatedMachine {
        spec: Arc::clone(&hardware.spec),
        hardware: Arc::downgrade(hardware),
        drive: Mutex::default(),
    });
    RunningAgent(tokio::spawn(async move {
        let Err(error) = drystone_agent::run::run(machine, &config, detours).await;
        tracing::error!(host = name, %error, "the simulated agent ended");
    }))
}

/// A machine as its description says.
struct SimulatedMachine {
    spec: Arc<HostSpec>,
    hardware: Weak<Hardware>,
    drive: Mutex<Option<ConfigDrive>>,
}

/// What is written goes nowhere; what is read is nought.
struct Void {
    size: u64,
}

impl Void {
    fn check(&self, offset: u64, length: u64) -> io::Result<()> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.size);
        if inside {
            Ok(())
        } else {
            Err(io::Error::new(io::ErrorKind::StorageFull, "behind the end of the disk"))
        }
    }
}

impl Disk for Void {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.check(offset, into.len() as u64)?;
        into.fill(0);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check(offset, bytes.len() as u64)
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.check(offset, length)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SimulatedMachine {
    fn hardware(&self) -> Result<Arc<Hardware>, MachineError> {
        self.hardware
            .upgrade()
            .ok_or_else(|| MachineError::new("working on the host", "its emulator is ending"))
    }

    /// Empties the host's disk, as somebody who writes to it does.
    async fn empty(&self, hardware: &Hardware) -> Result<(), MachineError> {
        let failed = |error: &dyn std::fmt::Display| MachineError::new("emptying the disk", error);
        super::medium::remove(&hardware.disk_seed);
        hardware.backend.wipe_disk(&self.spec).await.map_err(|error| failed(&error))?;
        hardware.keep(|record| record.installed = false).await.map_err(|error| failed(&error))
    }
}

#[async_trait]
impl Machine for SimulatedMachine {
    async fn inventory(&self) -> Result<Inventory, MachineError> {
        Ok(inventory(&self.spec))
    }

    async fn open(&self, disk: &DiskDetails) -> Result<Box<dyn Disk>, MachineError> {
        Ok(Box::new(Void { size: disk.size_bytes }))
    }

    async fn add_config_drive(
        &self,
        disk: Box<dyn Disk>,
        drive: &ConfigDrive,
    ) -> Result<Box<dyn Disk>, MachineError> {
        // What a real machine would refuse is refused.
        config_drive::build(drive)
            .map_err(|error| MachineError::new("making the configuration drive", error))?;
        *self.drive.lock().unwrap_or_else(PoisonError::into_inner) = Some(drive.clone());
        Ok(disk)
    }

    async fn deployed(&self, _deployment: &Deployment) -> Result<(), MachineError> {
        let hardware = self.hardware()?;
        tokio::time::sleep(hardware.timing.scaled(hardware.timing.image)).await;
        self.empty(&hardware).await?;
        let drive = self.drive.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| MachineError::new("writing the disk", error);
        let seed = disk_seed(&self.spec, &drive).map_err(|error| failed(&error))?;
        write_private(&hardware.disk_seed, &seed).map_err(|error| failed(&error))?;
        hardware.keep(|record| record.installed = true).await.map_err(|error| failed(&error))
    }

    async fn wipe(&self, _disk: &DiskDetails) -> Result<(), MachineError> {
        self.empty(self.hardware()?.as_ref()).await
    }
}

/// What the machine would say that it is made of.
fn inventory(spec: &HostSpec) -> Inventory {
    let (mut nvme, mut scsi) = (0, b'a');
    let disks = spec.drives.iter().map(|drive| {
        let name = if drive.media == DriveMedia::NVMe {
            nvme += 1;
            format!("/dev/nvme{}n1", nvme - 1)
        } else {
            scsi += 1;
            format!("/dev/sd{}", char::from(scsi - 1))
        };
        DiskDetails {
            name,
            size_bytes: drive.capacity_gib << 30,
            rotational: drive.media == DriveMedia::Hdd,
            vendor: "Drystone".to_owned(),
            model: "Emulated drive".to_owned(),
            serial_number: format!("{}-{}", spec.name, drive.name),
            ..DiskDetails::default()
        }
    });
    let disks = disks.collect();
    let interfaces = spec.nics.iter().map(|nic| Interface {
        name: nic.name.clone(),
        mac: nic.mac.to_string(),
        addresses: Vec::new(),
        speed_megabits: nic.speed_gbps.saturating_mul(1000),
        carrier: true,
    });
    Inventory {
        architecture: "x86_64".to_owned(),
        processor_model: spec.processor.model.clone(),
        processor_count: spec.processor.threads,
        processor_megahertz: f64::from(spec.processor.max_speed_mhz),
        memory_mebibytes: spec.memory_mib,
        manufacturer: "Drystone".to_owned(),
        product_name: "Emulated host".to_owned(),
        serial_number: spec.name.clone(),
        uefi: true,
        interfaces: interfaces.collect(),
        disks,
    }
}

/// The configuration drive in the shape that hosts of the other backends boot from.
fn disk_seed(spec: &HostSpec, drive: &ConfigDrive) -> io::Result<Vec<u8>> {
    let user_data = drive.decoded_user_data().map_err(io::Error::other)?;
    let instance = Some(drive.instance_id()).filter(|id| !id.is_empty()).unwrap_or("i-none");
    let meta_data =
        json!({"instance-id": instance, "local-hostname": drive.hostname().unwrap_or(&spec.name)});
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("meta-data", meta_data.to_string().into_bytes()),
        ("user-data", user_data),
        ("network-config", drive.network_data.clone().into_bytes()),
    ] {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, name, content.as_slice())?;
    }
    archive.into_inner()
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let new = path.with_extension("new");
    let mut file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(new, path)
}
