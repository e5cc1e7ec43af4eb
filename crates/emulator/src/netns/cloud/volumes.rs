//! Volumes: files behind loop devices.

use std::{
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::Pid;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::super::{command::Tool, error};
use crate::backend::BackendError;

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;

/// The volumes of a cloud.
pub(super) struct Volumes {
    directory: PathBuf,
    /// One device at a time is looked for: two at once could find the same file without one.
    alone: Mutex<()>,
}

impl Volumes {
    /// Those in a directory.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, alone: Mutex::default() }
    }

    fn file(&self, id: Uuid) -> PathBuf {
        self.directory.join(format!("{id}.img"))
    }

    /// Makes a volume, or enlarges it; what is on it stays.
    pub(super) async fn make(&self, id: Uuid, gib: u64) -> Result<(), BackendError> {
        let failed = |reason: io::Error| error(format!("volume {id}"), reason);
        let size = gib.saturating_mul(GIB);
        private_directory(&self.directory).map_err(failed)?;
        let path = self.file(id);
        let file = open(&path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() < size {
            file.set_len(size).and_then(|()| file.sync_all()).map_err(failed)?;
            if let Some(device) = device_of(&path) {
                let grown =
                    Tool::new("losetup").arguments(["--set-capacity", &device.display().to_string()]).run();
                grown.await.map_err(|reason| error(format!("volume {id}"), reason))?;
            }
        }
        Ok(())
    }

    /// Removes a volume with its device.
    pub(super) async fn remove(&self, id: Uuid) -> Result<(), BackendError> {
        let path = self.file(id);
        let _alone = self.alone.lock().await;
        detach(&path).await?;
        match std::fs::remove_file(&path) {
            Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                Err(error(format!("volume {id}"), reason))
            }
            _ => Ok(()),
        }
    }

    /// The loop device of a volume; made if there is none.
    pub(super) async fn attach(&self, id: Uuid) -> Result<PathBuf, BackendError> {
        let path = self.file(id);
        let _alone = self.alone.lock().await;
        if let Some(device) = device_of(&path) {
            return Ok(device);
        }
        if !path.exists() {
            return Err(error(format!("volume {id}"), "there is no such volume"));
        }
        let made =
            Tool::new("losetup").arguments(["--find", "--show"]).arguments([path.as_os_str()]).run().await;
        let device = made.map_err(|reason| error(format!("volume {id}"), reason))?;
        Ok(PathBuf::from(device.trim()))
    }

    /// Takes all devices away; the volumes stay.
    pub(super) async fn detach_all(&self) -> Result<(), BackendError> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return Ok(()) };
        let _alone = self.alone.lock().await;
        let mut first_failure = None;
        for entry in entries.flatten() {
            first_failure = first_failure.or(detach(&entry.path()).await.err());
        }
        first_failure.map_or(Ok(()), Err)
    }
}

async fn detach(path: &Path) -> Result<(), BackendError> {
    let Some(device) = device_of(path) else { return Ok(()) };
    let device = device.display().to_string();
    let detached = Tool::new("losetup").arguments(["--detach", &device]).run().await;
    detached.map(drop).map_err(|reason| error(format!("loop device {device}"), reason))
}

fn private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// The loop device whose file this is, as the kernel tells.
fn device_of(path: &Path) -> Option<PathBuf> {
    devices_below(path).into_iter().next().map(|(device, _)| device)
}

/// Loop devices whose files are this one or lie below it, with their files.
pub(in crate::netns) fn devices_below(path: &Path) -> Vec<(PathBuf, String)> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let Ok(entries) = std::fs::read_dir("/sys/block") else { return Vec::new() };
    let named = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let found = named.filter(|name| name.starts_with("loop")).filter_map(|name| {
        let backing = std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
        let backing = backing.trim_end().trim_end_matches(" (deleted)").to_owned();
        Path::new(&backing).starts_with(&path).then(|| (Path::new("/dev").join(name), backing))
    });
    found.collect()
}

/// Makes a device appear in a running machine.
pub(super) async fn show(init: Pid, source: &Path, device: &str) -> Result<(), String> {
    let number =
        std::fs::metadata(source).map_err(|reason| format!("{}: {reason}", source.display()))?.rdev();
    let (major, minor) =
        (nix::sys::stat::major(number).to_string(), nix::sys::stat::minor(number).to_string());
    hide(init, device).await?;
    let arguments = ["mknod", "-m", "0660", device, "b", &major, &minor];
    inside(init, &arguments).await
}

/// Makes a device vanish from a running machine.
pub(super) async fn hide(init: Pid, device: &str) -> Result<(), String> {
    inside(init, &["rm", "-f", device]).await
}

async fn inside(init: Pid, arguments: &[&str]) -> Result<(), String> {
    let target = format!("--target={init}");
    let run = Tool::new("nsenter")
        .arguments([target.as_str(), "--mount"])
        .arguments(arguments.iter().copied())
        .run()
        .await;
    run.map(drop).map_err(|error| error.to_string())
}
