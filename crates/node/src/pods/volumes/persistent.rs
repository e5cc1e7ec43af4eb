//! What is behind a claim: which PersistentVolume, and where its data is. Pure.

use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, NFSVolumeSource, PersistentVolume, PersistentVolumeClaim, Pod,
};

/// A claim whose volume cannot be mounted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is no such claim.
    #[error("persistentvolumeclaim {name:?} not found")]
    NoClaim {
        /// Its name.
        name: String,
    },
    /// It has no volume yet.
    #[error("persistentvolumeclaim {name:?} is not bound: {phase}")]
    Unbound {
        /// Its name.
        name: String,
        /// Its phase.
        phase: String,
    },
    /// Its volume is gone.
    #[error("persistentvolumeclaim {claim:?} is bound to persistentvolume {volume:?}, which does not exist")]
    NoVolume {
        /// The claim.
        claim: String,
        /// The volume.
        volume: String,
    },
    /// The volume is another claim's.
    #[error("persistentvolume {volume:?} is not bound to persistentvolumeclaim {claim:?} but to another")]
    Foreign {
        /// The claim.
        claim: String,
        /// The volume.
        volume: String,
    },
    /// This node cannot mount volumes of the kind.
    #[error("persistentvolume {volume:?}: {problem}")]
    Unsupported {
        /// The volume.
        volume: String,
        /// What is not supported.
        problem: String,
    },
}

/// Where data is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Backing {
    /// At a path of the node.
    HostPath(HostPathVolumeSource),
    /// In a directory of the node that is there, and that belongs to the group that the pod says.
    Local(String),
    /// On a server.
    Nfs(NfsShare),
}

/// A directory of an NFS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NfsShare {
    pub(super) server: String,
    pub(super) path: String,
    pub(super) options: Vec<String>,
}

/// A volume that a pod mounts, and how.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Persistent {
    pub(super) backing: Backing,
    pub(super) read_only: bool,
}

impl Persistent {
    /// An `nfs` volume that the pod names itself.
    pub(super) fn inline(source: &NFSVolumeSource) -> Self {
        Self { backing: Backing::Nfs(share(source, Vec::new())), read_only: source.read_only == Some(true) }
    }
}

fn share(source: &NFSVolumeSource, options: Vec<String>) -> NfsShare {
    NfsShare { server: source.server.clone(), path: source.path.clone(), options }
}

/// The name of the volume that a claim is bound to.
///
/// # Errors
/// [`ClaimError`] if it is not there or has none.
pub(super) fn volume_name<'a>(
    name: &str,
    claim: Option<&'a PersistentVolumeClaim>,
) -> Result<&'a str, ClaimError> {
    let claim = claim.ok_or_else(|| ClaimError::NoClaim { name: name.to_owned() })?;
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
    match volume.filter(|volume| phase == "Bound" && !volume.is_empty()) {
        Some(volume) => Ok(volume),
        None => Err(ClaimError::Unbound { name: name.to_owned(), phase: phase.to_owned() }),
    }
}

/// What a pod mounts for a claim with this volume. `read_only` is the pod's wish.
///
/// # Errors
/// [`ClaimError`] if the volume is gone, another's, or of a kind that this node cannot mount.
pub(super) fn resolve(
    claim: &PersistentVolumeClaim,
    name: &str,
    volume: Option<&PersistentVolume>,
    read_only: bool,
) -> Result<Persistent, ClaimError> {
    let claim_name = || claim.metadata.name.clone().unwrap_or_default();
    let missing = || ClaimError::NoVolume { claim: claim_name(), volume: name.to_owned() };
    let volume = volume.ok_or_else(missing)?;
    let spec = volume.spec.clone().unwrap_or_default();
    let bound = spec.claim_ref.as_ref().and_then(|reference| reference.uid.as_ref());
    if bound != claim.metadata.uid.as_ref() {
        return Err(ClaimError::Foreign { claim: claim_name(), volume: name.to_owned() });
    }
    let unsupported = |problem: String| ClaimError::Unsupported { volume: name.to_owned(), problem };
    if spec.volume_mode.as_deref() == Some("Block") {
        return Err(unsupported("volumeMode Block is not supported on this node".to_owned()));
    }
    let options = spec.mount_options.clone().unwrap_or_default();
    if let Some(nfs) = &spec.nfs {
        let read_only = read_only || nfs.read_only == Some(true);
        return Ok(Persistent { backing: Backing::Nfs(share(nfs, options)), read_only });
    }
    if !options.is_empty() {
        return Err(unsupported("mountOptions are for volumes that are mounted, such as nfs".to_owned()));
    }
    if let Some(path) = spec.host_path {
        return Ok(Persistent { backing: Backing::HostPath(path), read_only });
    }
    if let Some(local) = spec.local {
        return Ok(Persistent { backing: Backing::Local(local.path), read_only });
    }
    let source = serde_json::to_value(&spec).unwrap_or_default();
    Err(unsupported(format!("volumes of kind {} are not supported on this node", kind_of(&source))))
}

/// Fields of a volume's `spec` that are not where its data is.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn kind_of(spec: &serde_json::Value) -> String {
    let names = spec.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    names.filter(|name| !NOT_SOURCES.contains(name)).collect::<Vec<_>>().join(", ")
}

/// The name of the claim that a volume of a pod means: the one it names, or the one made for it (`ephemeral`).
pub(super) fn claim_of(pod: &Pod, volume: &k8s_openapi::api::core::v1::Volume) -> Option<(String, bool)> {
    if let Some(claim) = &volume.persistent_volume_claim {
        return Some((claim.claim_name.clone(), claim.read_only == Some(true)));
    }
    volume.ephemeral.as_ref()?;
    Some((format!("{}-{}", pod.metadata.name.as_deref().unwrap_or_default(), volume.name), false))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(status: &Value) -> PersistentVolumeClaim {
        serde_json::from_value(json!({"metadata": {"name": "data", "uid": "c-1"},
            "spec": {"volumeName": "disk"}, "status": status}))
        .unwrap()
    }

    fn volume(spec: &Value) -> PersistentVolume {
        let mut volume = json!({"metadata": {"name": "disk"}, "spec": {"claimRef": {"uid": "c-1"}}});
        for (key, value) in spec.as_object().unwrap() {
            volume["spec"][key] = value.clone();
        }
        serde_json::from_value(volume).unwrap()
    }

    #[test]
    fn only_a_bound_claim_has_a_volume() {
        assert_eq!(volume_name("data", Some(&claim(&json!({"phase": "Bound"})))), Ok("disk"));
        let waiting = volume_name("data", Some(&claim(&json!({"phase": "Pending"})))).unwrap_err();
        assert_eq!(waiting.to_string(), "persistentvolumeclaim \"data\" is not bound: Pending");
        assert!(matches!(volume_name("data", None), Err(ClaimError::NoClaim { .. })));
    }

    #[test]
    fn volumes_are_told_apart() {
        let claim = claim(&json!({"phase": "Bound"}));
        let resolved = |spec: Value, read_only| resolve(&claim, "disk", Some(&volume(&spec)), read_only);
        let nfs = resolved(
            json!({"nfs": {"server": "10.0.0.9", "path": "/srv", "readOnly": true}, "mountOptions": ["soft"]}),
            false,
        );
        let share = NfsShare { server: "10.0.0.9".into(), path: "/srv".into(), options: vec!["soft".into()] };
        assert_eq!(nfs, Ok(Persistent { backing: Backing::Nfs(share), read_only: true }));
        let local = resolved(json!({"local": {"path": "/mnt/disk"}}), true);
        assert_eq!(local, Ok(Persistent { backing: Backing::Local("/mnt/disk".into()), read_only: true }));
        assert!(matches!(
            resolved(json!({"hostPath": {"path": "/x"}}), false).unwrap().backing,
            Backing::HostPath(_)
        ));
        let csi = resolved(json!({"csi": {"driver": "d", "volumeHandle": "h"}}), false).unwrap_err();
        assert!(csi.to_string().contains("kind csi"), "{csi}");
        let block = resolved(json!({"local": {"path": "/dev/sdb"}, "volumeMode": "Block"}), false);
        assert!(block.unwrap_err().to_string().contains("Block"));
        let foreign = resolved(json!({"claimRef": {"uid": "c-2"}}), false);
        assert!(matches!(foreign, Err(ClaimError::Foreign { .. })));
        assert!(matches!(resolve(&claim, "disk", None, false), Err(ClaimError::NoVolume { .. })));
    }
}
