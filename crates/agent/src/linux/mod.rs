//! The machine that the agent runs on: what Linux says of it in `/sys` and `/proc`, and its block devices.

mod disk;
mod inventory;
mod start;

use std::path::{Path, PathBuf};

use async_trait::async_trait;

pub use disk::BlockDevice;
pub use start::{RUNNING, start};

use crate::{
    machine::{Disk, Machine, MachineError, blocking},
    medium::{self, AgentConfig},
    protocol::{DiskDetails, Inventory},
};

/// This machine.
#[derive(Debug, Clone)]
pub struct LinuxMachine {
    /// Where `/sys` is.
    sys: PathBuf,
    /// Where `/proc` is.
    proc: PathBuf,
    /// Where `/dev` is.
    dev: PathBuf,
}

impl Default for LinuxMachine {
    fn default() -> Self {
        Self { sys: "/sys".into(), proc: "/proc".into(), dev: "/dev".into() }
    }
}

impl LinuxMachine {
    /// Finds the agent's medium among the block devices and reads the configuration on it.
    ///
    /// # Errors
    /// There is none, with what was looked at.
    pub fn find_config(&self) -> Result<AgentConfig, MachineError> {
        let mut looked_at = Vec::new();
        for name in inventory::block_devices(&self.sys) {
            let path = self.dev.join(&name);
            match std::fs::File::open(&path) {
                Ok(mut device) => match medium::read(&mut device) {
                    Ok(config) => return Ok(config),
                    Err(error) => looked_at.push(format!("{}: {error}", path.display())),
                },
                Err(error) => looked_at.push(format!("{}: {error}", path.display())),
            }
        }
        Err(MachineError::new(
            "looking for the agent's medium",
            if looked_at.is_empty() { "there is no block device".to_owned() } else { looked_at.join("; ") },
        ))
    }

    fn path_of(&self, disk: &DiskDetails) -> PathBuf {
        match Path::new(&disk.name).strip_prefix("/dev") {
            Ok(name) => self.dev.join(name),
            Err(_) => PathBuf::from(&disk.name),
        }
    }
}

#[async_trait]
impl Machine for LinuxMachine {
    async fn inventory(&self) -> Result<Inventory, MachineError> {
        let machine = self.clone();
        blocking("reading what the host is made of", move || {
            Ok(inventory::read(&machine.sys, &machine.proc, &machine.dev))
        })
        .await
    }

    async fn open(&self, disk: &DiskDetails) -> Result<Box<dyn Disk>, MachineError> {
        let path = self.path_of(disk);
        blocking(format!("opening {}", disk.name), move || {
            let device = BlockDevice::open(&path).map_err(|error| error.to_string())?;
            Ok(Box::new(device) as Box<dyn Disk>)
        })
        .await
    }
}
