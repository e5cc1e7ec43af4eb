//! Volumes that live longer than their pod: claims, and shares of NFS servers. Found, checked, mounted for one pod.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use k8s_openapi::api::core::v1::{Pod, Volume};

use super::{
    VolumeError, Volumes, directories, fs_group, io, off_thread,
    persistent::{self, Backing, ClaimError, Persistent},
};

/// Where a volume of a pod is on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) path: PathBuf,
    pub(super) read_only: bool,
}

/// Where volumes of pods are that are not in the pods' own directories; found out again after a restart.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<HashMap<(String, String), Placed>>);

impl Places {
    pub(super) fn get(&self, uid: &str, volume: &str) -> Option<Placed> {
        self.lock().get(&(uid.to_owned(), volume.to_owned())).cloned()
    }

    fn put(&self, uid: &str, volume: &str, placed: Placed) {
        self.lock().insert((uid.to_owned(), volume.to_owned()), placed);
    }

    pub(super) fn forget(&self, uid: &str) {
        self.lock().retain(|(pod, _), _| pod != uid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), Placed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Volumes {
    /// Whether a volume of a pod is one of these.
    pub(super) fn outlives_its_pod(volume: &Volume) -> bool {
        volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some() || volume.nfs.is_some()
    }

    /// Finds out where a volume is, and mounts it if need be.
    ///
    /// # Errors
    /// [`VolumeError`] if it is not there yet, or cannot be mounted.
    pub(super) async fn place(&self, pod: &Pod, volume: &Volume, since: Instant) -> Result<(), VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let persistent = match &volume.nfs {
            Some(source) => Persistent::inline(source),
            None => self.find(pod, volume, since).await?,
        };
        let read_only = persistent.read_only;
        let path = match persistent.backing {
            Backing::HostPath(source) => {
                let (name, path) = (volume.name.clone(), PathBuf::from(&source.path));
                off_thread(move || directories::host_path(&name, &source)).await?;
                path
            }
            Backing::Local(path) => {
                let (name, path) = (volume.name.clone(), PathBuf::from(path));
                let (place, group) = (path.clone(), fs_group(pod).filter(|_| !read_only));
                let always = group_change_is_forced(pod);
                off_thread(move || local(&name, &place, group, always)).await?;
                path
            }
            Backing::Nfs(share) => {
                let place = self.volume_directory(&uid, &volume.name);
                let log = self.pod_directory(&uid).join(format!("nfs-{}.log", volume.name));
                self.mounter.ensure(&share, read_only, &place, &log).await?;
                place
            }
        };
        self.places.put(&uid, &volume.name, Placed { path, read_only });
        Ok(())
    }

    async fn find(&self, pod: &Pod, volume: &Volume, since: Instant) -> Result<Persistent, VolumeError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let wrong = |source: ClaimError| VolumeError::Claim { volume: volume.name.clone(), source };
        let object = |source| VolumeError::Object { volume: volume.name.clone(), source };
        let unsupported = || VolumeError::Unsupported { volume: volume.name.clone() };
        let (name, read_only) = persistent::claim_of(pod, volume).ok_or_else(unsupported)?;
        let claim = self.objects.claim(namespace, &name, since).await.map_err(object)?;
        let bound = persistent::volume_name(&name, claim.as_deref()).map_err(wrong)?.to_owned();
        let found = self.objects.persistent_volume(&bound).await.map_err(object)?;
        let claim = claim.ok_or_else(|| wrong(ClaimError::NoClaim { name }))?;
        persistent::resolve(&claim, &bound, found.as_ref(), read_only).map_err(wrong)
    }
}

/// Whether everything of a volume gets the pod's group, even if the volume's root has it already.
fn group_change_is_forced(pod: &Pod) -> bool {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    context.and_then(|context| context.fs_group_change_policy.as_deref()) != Some("OnRootMismatch")
}

/// Checks a local volume, and gives it to the pod's group.
fn local(volume: &str, path: &Path, group: Option<u32>, always: bool) -> Result<(), VolumeError> {
    let found = fs::metadata(path).map_err(io(path))?;
    if !found.is_dir() {
        let (volume, path) = (volume.to_owned(), path.to_owned());
        return Err(VolumeError::HostPath { volume, path, kind: "Directory".to_owned() });
    }
    let Some(group) = group else { return Ok(()) };
    if !always && found.gid() == group && found.mode() & 0o2060 == 0o2060 {
        return Ok(());
    }
    // The root last: it is the sign that all of it was done.
    for entry in fs::read_dir(path).map_err(io(path))? {
        give(&entry.map_err(io(path))?.path(), group)?;
    }
    give_one(path, &found, group)
}

fn give(path: &Path, group: u32) -> Result<(), VolumeError> {
    let found = fs::symlink_metadata(path).map_err(io(path))?;
    if found.is_dir() {
        for entry in fs::read_dir(path).map_err(io(path))? {
            give(&entry.map_err(io(path))?.path(), group)?;
        }
    }
    give_one(path, &found, group)
}

fn give_one(path: &Path, found: &fs::Metadata, group: u32) -> Result<(), VolumeError> {
    if found.is_symlink() {
        return lchown(path, None, Some(group)).map_err(io(path));
    }
    chown(path, None, Some(group)).map_err(io(path))?;
    let more = if found.is_dir() { 0o2070 } else { 0o060 | (found.mode() & 0o100) >> 3 };
    fs::set_permissions(path, fs::Permissions::from_mode((found.mode() & 0o7777) | more)).map_err(io(path))
}
