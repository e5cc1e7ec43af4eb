//! What an agent works on.

use async_trait::async_trait;

use crate::{
    config_drive, partition,
    protocol::{ConfigDrive, Deployment, DiskDetails, Inventory},
};

/// Why a machine did not do something.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct MachineError {
    /// What was attempted: `writing /dev/vda`.
    pub what: String,
    /// Why it failed.
    pub reason: String,
}

impl MachineError {
    /// Makes one out of anything.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "made to be the end of `map_err`, which hands errors over"
    )]
    pub fn new(what: impl Into<String>, reason: impl ToString) -> Self {
        Self { what: what.into(), reason: reason.to_string() }
    }
}

/// A disk that is open for writing. Calls block.
pub trait Disk: Send {
    /// Size in bytes.
    fn size(&self) -> u64;

    /// Reads exactly.
    ///
    /// # Errors
    /// The disk cannot be read there.
    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> std::io::Result<()>;

    /// Writes all.
    ///
    /// # Errors
    /// The disk cannot be written there.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// The disk cannot be written there.
    fn zero(&mut self, offset: u64, length: u64) -> std::io::Result<()>;

    /// Brings everything onto the disk for good.
    ///
    /// # Errors
    /// The disk does not take it.
    fn sync(&mut self) -> std::io::Result<()>;
}

/// The machine that an agent runs on.
#[async_trait]
pub trait Machine: Send + Sync + 'static {
    /// What it is made of.
    async fn inventory(&self) -> Result<Inventory, MachineError>;

    /// Opens a disk for writing; nobody else may use it.
    async fn open(&self, disk: &DiskDetails) -> Result<Box<dyn Disk>, MachineError>;

    /// Puts the configuration drive onto the disk that the image has been written to: as a partition of its own.
    async fn add_config_drive(
        &self,
        disk: Box<dyn Disk>,
        drive: &ConfigDrive,
    ) -> Result<Box<dyn Disk>, MachineError> {
        let content = config_drive::build(drive)
            .map_err(|error| MachineError::new("making the configuration drive", error))?;
        let mut disk = disk;
        blocking("writing the configuration drive", move || {
            partition::add(&mut *disk, &content).map_err(|error| error.to_string())?;
            Ok(disk)
        })
        .await
    }

    /// A deployment has been carried out and is on the disk for good.
    async fn deployed(&self, _deployment: &Deployment) -> Result<(), MachineError> {
        Ok(())
    }

    /// Removes what makes a disk look used: partition tables at both of its ends.
    async fn wipe(&self, disk: &DiskDetails) -> Result<(), MachineError> {
        let mut open = self.open(disk).await?;
        blocking(format!("wiping {}", disk.name), move || {
            partition::wipe(&mut *open).map_err(|error| error.to_string())
        })
        .await
    }
}

/// Runs what blocks in a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(
    what: impl Into<String>,
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, MachineError> {
    let what = what.into();
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(reason)) => Err(MachineError { what, reason }),
        Err(error) => Err(MachineError::new(what, error)),
    }
}
