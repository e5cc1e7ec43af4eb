//! Where a container sees its volumes.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};
use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    mount::{MsFlags, mount},
    sys::stat::Mode,
};

use super::{VolumeError, Volumes, io, off_thread};
use crate::{
    cri::messages::{Mount, MountPropagation},
    pods::spec::{environment::expand, hosts},
};

/// Where a container finds the file for its termination message unless it says otherwise.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

/// How long it may take to prepare mounts: longer means that a sub-path lies on a server that is away.
const PREPARE_DEADLINE: Duration = Duration::from_secs(30);

/// The mounts of one run of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerMounts {
    /// For the runtime.
    pub mounts: Vec<Mount>,
    /// The file for the termination message, on the node.
    pub termination_message: PathBuf,
}

impl Volumes {
    /// Prepares the mounts of a run: its volumes, `/etc/hosts` unless the pod is on the node's network, and the file for its
    /// termination message.
    ///
    /// # Errors
    /// [`VolumeError`] if a volume is missing or a sub-path leads out of its volume.
    pub async fn container_mounts(
        &self,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        environment: &BTreeMap<String, String>,
        hosts: Option<String>,
    ) -> Result<ContainerMounts, VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let directory = self.pod_directory(&uid);
        let mut wanted = Vec::new();
        for volume_mount in container.volume_mounts.iter().flatten() {
            wanted.push(self.wanted(pod, &uid, container, volume_mount, environment)?);
        }
        let (container, name) = (container.clone(), container.name.clone());
        let prepare = off_thread(move || {
            let mut mounts = Vec::new();
            for (index, wanted) in wanted.into_iter().enumerate() {
                let place = directory.join("subpaths").join(&container.name).join(index.to_string());
                mounts.push(wanted.prepare(&place)?);
            }
            let mut prepared = ContainerMounts { mounts, ..ContainerMounts::default() };
            prepared.add_hosts(&directory, hosts)?;
            prepared.add_termination_message(&directory, &container, attempt)?;
            Ok(prepared)
        });
        let late = |_| VolumeError::Silent { container: name };
        tokio::time::timeout(PREPARE_DEADLINE, prepare).await.map_err(late)?
    }

    fn wanted(
        &self,
        pod: &Pod,
        uid: &str,
        container: &Container,
        volume_mount: &VolumeMount,
        environment: &BTreeMap<String, String>,
    ) -> Result<WantedMount, VolumeError> {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        let volume =
            volumes.into_iter().flatten().find(|volume| volume.name == volume_mount.name).ok_or_else(
                || VolumeError::Missing {
                    container: container.name.clone(),
                    volume: volume_mount.name.clone(),
                },
            )?;
        let placed = self.places.get(uid, &volume.name);
        let source = match (&volume.host_path, &placed) {
            (Some(host_path), _) => PathBuf::from(&host_path.path),
            (None, Some(placed)) => placed.path.clone(),
            (None, None) => self.volume_directory(uid, &volume.name),
        };
        let is_read_only =
            volume_mount.read_only == Some(true) || placed.is_some_and(|placed| placed.read_only);
        let own = volume_mount.sub_path.clone().or_else(|| {
            let expression = volume_mount.sub_path_expr.as_ref()?;
            Some(expand(expression, environment))
        });
        Ok(WantedMount {
            volume: volume.name.clone(),
            source,
            sub_path: own.filter(|path| !path.is_empty()),
            // What the agent writes is not for containers to change.
            is_writable: !is_read_only && super::payload::sources(volume).is_none(),
            target: volume_mount.mount_path.clone(),
            propagation: match volume_mount.mount_propagation.as_deref() {
                Some("HostToContainer") => MountPropagation::HostToContainer,
                Some("Bidirectional") => MountPropagation::Bidirectional,
                _ => MountPropagation::Private,
            },
        })
    }
}

struct WantedMount {
    volume: String,
    source: PathBuf,
    sub_path: Option<String>,
    is_writable: bool,
    target: String,
    propagation: MountPropagation,
}

impl WantedMount {
    fn prepare(self, place: &Path) -> Result<Mount, VolumeError> {
        let host_path = match &self.sub_path {
            None => self.source.clone(),
            Some(sub_path) => self.bind(sub_path, place).map_err(|source| VolumeError::SubPath {
                volume: self.volume.clone(),
                path: sub_path.clone(),
                source,
            })?,
        };
        Ok(Mount {
            container_path: self.target,
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: !self.is_writable,
            selinux_relabel: false,
            propagation: self.propagation as i32,
        })
    }

    /// Binds a part of a volume to a place of the agent's. The kernel resolves the path and refuses what leads out of the
    /// volume, symbolic links that a container planted included; the runtime is then given a place that no container can change.
    fn bind(&self, sub_path: &str, place: &Path) -> std::io::Result<PathBuf> {
        let base = open(&self.source)?;
        let target = match beneath(&base, sub_path) {
            Err(nix::errno::Errno::ENOENT) if self.is_writable => {
                make_directories(&base, sub_path)?;
                beneath(&base, sub_path)?
            }
            other => other?,
        };
        let link = PathBuf::from(format!("/proc/self/fd/{}", target.as_raw_fd()));
        let is_directory = fs::metadata(&link)?.is_dir();
        super::directories::remove(place).map_err(std::io::Error::other)?;
        if is_directory {
            fs::create_dir_all(place)?;
        } else {
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::File::create(place)?;
        }
        mount(Some(&link), place, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
        Ok(place.to_owned())
    }
}

fn open(directory: &Path) -> std::io::Result<OwnedFd> {
    Ok(nix::fcntl::open(directory, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn beneath(base: &OwnedFd, path: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(base, path, how)
}

/// Makes the directories of a path one by one, each resolved beneath the base.
fn make_directories(base: &OwnedFd, path: &str) -> std::io::Result<()> {
    let mut done = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = if done.is_empty() { None } else { Some(beneath(base, &done)?) };
        let parent = parent.as_ref().unwrap_or(base);
        match nix::sys::stat::mkdirat(parent, part, Mode::from_bits_truncate(0o755)) {
            Err(nix::errno::Errno::EEXIST) | Ok(()) => {}
            Err(error) => return Err(error.into()),
        }
        done = if done.is_empty() { part.to_owned() } else { format!("{done}/{part}") };
    }
    Ok(())
}

impl ContainerMounts {
    fn has(&self, target: &str) -> bool {
        self.mounts.iter().any(|mount| mount.container_path == target)
    }

    fn add(&mut self, source: &Path, target: &str) {
        self.mounts.push(Mount {
            container_path: target.to_owned(),
            host_path: source.to_string_lossy().into_owned(),
            ..Mount::default()
        });
    }

    fn add_hosts(&mut self, directory: &Path, hosts: Option<String>) -> Result<(), VolumeError> {
        const TARGET: &str = "/etc/hosts";
        let Some(text) = hosts.filter(|_| !self.has(TARGET)) else { return Ok(()) };
        let path = directory.join("etc-hosts");
        fs::create_dir_all(directory).map_err(io(directory))?;
        // In place: other containers of the pod have this very file mounted.
        fs::write(&path, text).map_err(io(&path))?;
        self.add(&path, TARGET);
        Ok(())
    }

    fn add_termination_message(
        &mut self,
        directory: &Path,
        container: &Container,
        attempt: u32,
    ) -> Result<(), VolumeError> {
        let target = container.termination_message_path.as_deref().unwrap_or(TERMINATION_MESSAGE_PATH);
        self.termination_message = termination_message_file(directory, &container.name, attempt);
        if self.has(target) {
            return Ok(());
        }
        let path = self.termination_message.clone();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        fs::write(&path, "").map_err(io(&path))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        fs::set_permissions(&path, mode).map_err(io(&path))?;
        self.add(&path, target);
        Ok(())
    }
}

/// The file for the termination message of a run.
pub fn termination_message_file(directory: &Path, container: &str, attempt: u32) -> PathBuf {
    directory.join("containers").join(container).join(attempt.to_string())
}

/// The text of `/etc/hosts` for a pod; none if it sees the node's.
pub fn hosts_text(pod: &Pod, addresses: &[std::net::IpAddr], cluster_domain: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if spec.host_network != Some(true) {
        return Some(hosts::hosts_file(pod, addresses, cluster_domain));
    }
    let own = hosts::aliases(spec);
    if own.is_empty() {
        return None;
    }
    Some(fs::read_to_string("/etc/hosts").unwrap_or_default() + &own)
}
