//! Volumes of pods on this node: `emptyDir`, `hostPath`, `configMap`, `secret`, `downwardAPI`, `projected`; what lives longer than
//! the pod: `persistentVolumeClaim` (and `ephemeral`, once its claim is there) with volumes of kind `hostPath`, `local` and `nfs`,
//! and `nfs` itself.
//!
//! Everything of a pod is under `ROOT/UID`: `volumes/NAME`, bind mounts of sub-paths, `etc-hosts`, termination messages.
//! [`Volumes::set_up`] is idempotent and also brings contents up to date; [`Volumes::tear_down`] leaves nothing.

mod directories;
mod mount_table;
pub mod mounts;
pub mod nfs;
pub mod payload;
pub mod persistent;
mod placed;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use k8s_openapi::{
    api::core::v1::{Pod, Volume},
    jiff::Timestamp,
};

use self::{directories::Medium, nfs::ShareMounter, payload::Payload, placed::Places};
use super::{
    objects::{ObjectError, Objects, TokenKey},
    spec::{
        NodeFacts,
        environment::Objects as Found,
        fields::{self, FieldError},
    },
};

/// A volume that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A kind that this agent does not know.
    #[error("volume {volume:?}: volumes of this kind are not supported on this node")]
    Unsupported {
        /// The volume.
        volume: String,
    },
    /// An object that it shows cannot be had.
    #[error("volume {volume:?}: {source}")]
    Object {
        /// The volume.
        volume: String,
        /// Why.
        source: ObjectError,
    },
    /// What it shows is not there or makes no sense.
    #[error("volume {volume:?}: {source}")]
    Payload {
        /// The volume.
        volume: String,
        /// Why.
        source: payload::PayloadError,
    },
    /// A field cannot be told.
    #[error("volume {volume:?}: {source}")]
    Field {
        /// The volume.
        volume: String,
        /// Why.
        source: FieldError,
    },
    /// A `hostPath` is not what it should be.
    #[error("volume {volume:?}: hostPath type check failed: {} is not a {kind}", path.display())]
    HostPath {
        /// The volume.
        volume: String,
        /// The path.
        path: PathBuf,
        /// What it should be.
        kind: String,
    },
    /// The file system refused something.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A claim has no volume that could be mounted.
    #[error("volume {volume:?}: {source}")]
    Claim {
        /// The volume.
        volume: String,
        /// Why.
        source: persistent::ClaimError,
    },
    /// A share of a server cannot be mounted.
    #[error(transparent)]
    Share(#[from] nfs::ShareError),
    /// The file system does not answer: the server behind it is away.
    #[error("the volumes of container {container:?} do not answer: an NFS server is away")]
    Silent {
        /// The container.
        container: String,
    },
    /// A container mounts a volume that the pod does not have.
    #[error("container {container:?} mounts volume {volume:?}, which the pod does not have")]
    Missing {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
    /// A sub-path leads out of its volume.
    #[error("subPath {path:?} of volume {volume:?} does not lead to anything inside the volume: {source}")]
    SubPath {
        /// The volume.
        volume: String,
        /// The path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The volumes of all pods of the node.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    objects: Arc<Objects>,
    mounter: ShareMounter,
    places: Places,
}

impl Volumes {
    /// Volumes under `root`.
    pub fn new(root: PathBuf, objects: Arc<Objects>, mounter: ShareMounter) -> Self {
        Self { root, objects, mounter, places: Places::default() }
    }

    /// Everything of a pod.
    pub fn pod_directory(&self, uid: &str) -> PathBuf {
        self.root.join(uid)
    }

    fn volume_directory(&self, uid: &str, volume: &str) -> PathBuf {
        self.pod_directory(uid).join("volumes").join(volume)
    }

    /// Makes all volumes of a pod, and mounts those that live longer than it. Those that show something are brought up to date with
    /// what the API has at `since` or later.
    ///
    /// # Errors
    /// [`VolumeError`] of a volume that cannot be made; the others may have been.
    pub async fn set_up(&self, pod: &Pod, node: &NodeFacts, since: Instant) -> Result<(), VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        let each = volumes.iter().map(|volume| self.set_up_volume(pod, &uid, volume, node, since));
        // All of them to their ends: a mount that was given up half-way would go on, and come beside that of the next try.
        futures::future::join_all(each).await.into_iter().collect()
    }

    /// Brings the volumes that show something up to date.
    ///
    /// # Errors
    /// [`VolumeError`] of one that cannot be; the others may have been.
    pub async fn refresh(&self, pod: &Pod, node: &NodeFacts, since: Instant) -> Result<(), VolumeError> {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.clone()).unwrap_or_default();
        let showing = volumes.iter().filter(|volume| payload::sources(volume).is_some());
        let each = showing.map(|volume| self.set_up_volume(pod, &uid, volume, node, since));
        futures::future::try_join_all(each).await.map(drop)
    }

    async fn set_up_volume(
        &self,
        pod: &Pod,
        uid: &str,
        volume: &Volume,
        node: &NodeFacts,
        since: Instant,
    ) -> Result<(), VolumeError> {
        let path = self.volume_directory(uid, &volume.name);
        let group = fs_group(pod);
        if let Some(source) = &volume.empty_dir {
            let medium = Medium::of_empty_dir(source);
            return off_thread(move || directories::empty_directory(&path, medium, group)).await;
        }
        if let Some(source) = volume.host_path.clone() {
            let name = volume.name.clone();
            return off_thread(move || directories::host_path(&name, &source)).await;
        }
        if Self::outlives_its_pod(volume) {
            return self.place(pod, volume, since).await;
        }
        let payload = self.payload(pod, volume, node, since).await?;
        let medium = if payload.is_secret { Medium::Memory { limit: None } } else { Medium::Disk };
        off_thread(move || {
            directories::payload_directory(&path, medium)?;
            writer::write(&path, &payload, group)
        })
        .await
    }

    /// What a volume shows. Only for the kinds that show something.
    async fn payload(
        &self,
        pod: &Pod,
        volume: &Volume,
        node: &NodeFacts,
        since: Instant,
    ) -> Result<Payload, VolumeError> {
        let unsupported = || VolumeError::Unsupported { volume: volume.name.clone() };
        let (sources, default_mode) = payload::sources(volume).ok_or_else(unsupported)?;
        let mut payload = Payload::default();
        for source in &sources {
            self.add_source(pod, volume, source, default_mode, node, since, &mut payload).await?;
        }
        Ok(payload)
    }

    #[allow(clippy::too_many_arguments)]
    async fn add_source(
        &self,
        pod: &Pod,
        volume: &Volume,
        source: &payload::Source,
        mode: u32,
        node: &NodeFacts,
        since: Instant,
        payload: &mut Payload,
    ) -> Result<(), VolumeError> {
        let volume_name = || volume.name.clone();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let object = |source| VolumeError::Object { volume: volume_name(), source };
        let wrong = |source| VolumeError::Payload { volume: volume_name(), source };
        match source {
            payload::Source::ConfigMap { name, items, optional } => {
                let found = self.objects.config_map(namespace, name, since).await.map_err(object)?;
                payload.add_config_map(name, found.as_deref(), items, *optional, mode).map_err(wrong)
            }
            payload::Source::Secret { name, items, optional } => {
                let found = self.objects.secret(namespace, name, since).await.map_err(object)?;
                payload.add_secret(name, found.as_deref(), items, *optional, mode).map_err(wrong)
            }
            payload::Source::DownwardApi { items } => {
                for item in items {
                    let text = downward_item(pod, item, node)
                        .map_err(|source| VolumeError::Field { volume: volume_name(), source })?;
                    let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
                    payload.add(&item.path, text.into_bytes(), mode).map_err(wrong)?;
                }
                Ok(())
            }
            payload::Source::Token { path, audience, seconds } => {
                let key = TokenKey::of(pod, audience.clone(), *seconds);
                let token = self.objects.token(&key, Timestamp::now()).await.map_err(object)?;
                payload.is_secret = true;
                payload.add(path, token.expose().as_bytes().to_vec(), mode).map_err(wrong)
            }
        }
    }

    /// Reads the objects that a container's environment refers to, as the API has them at `since` or later. Objects that do
    /// not exist are left out.
    ///
    /// # Errors
    /// [`ObjectError`] if the API does not answer.
    pub async fn objects_for(
        &self,
        pod: &Pod,
        container: &k8s_openapi::api::core::v1::Container,
        since: Instant,
    ) -> Result<Found, ObjectError> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let (config_maps, secrets) = super::spec::environment::references(container);
        let mut found = Found::default();
        for name in config_maps {
            if let Some(map) = self.objects.config_map(namespace, &name, since).await? {
                found.config_maps.insert(name, (*map).clone());
            }
        }
        for name in secrets {
            if let Some(secret) = self.objects.secret(namespace, &name, since).await? {
                found.secrets.insert(name, (*secret).clone());
            }
        }
        Ok(found)
    }

    /// Whether a pod shows something that changes while it runs.
    pub fn needs_refresh(pod: &Pod) -> bool {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        volumes.into_iter().flatten().any(|volume| payload::sources(volume).is_some())
    }

    /// Removes everything of a pod. Idempotent.
    ///
    /// # Errors
    /// [`VolumeError::Io`] if something is still in use; call again.
    pub async fn tear_down(&self, uid: &str) -> Result<(), VolumeError> {
        let directory = self.pod_directory(uid);
        self.objects.forget(uid);
        self.places.forget(uid);
        nfs::unmount_under(&directory).await?;
        off_thread(move || directories::remove(&directory)).await
    }

    /// Identifiers of the pods that have something here.
    pub fn known_pods(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }
}

fn downward_item(
    pod: &Pod,
    item: &k8s_openapi::api::core::v1::DownwardAPIVolumeFile,
    node: &NodeFacts,
) -> Result<String, FieldError> {
    if let Some(reference) = &item.field_ref {
        return fields::field(pod, &reference.field_path, &[], node.address);
    }
    let reference = item.resource_field_ref.as_ref().ok_or_else(|| FieldError::Field(item.path.clone()))?;
    let wanted = reference.container_name.clone().unwrap_or_default();
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let container = containers
        .into_iter()
        .find(|container| container.name == wanted)
        .ok_or(FieldError::Container(wanted))?;
    fields::resource(container, reference, node)
}

/// The group that owns the pod's volumes.
fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Runs what waits for the file system off the async threads.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(VolumeError::Io { path: PathBuf::new(), source: std::io::Error::other(error) }),
    }
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> VolumeError + '_ {
    |source| VolumeError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
