//! Volumes, claims and storage classes.

use serde_json::json;

use super::fields::{Fields, set, within, within_made};

/// A PersistentVolume.
pub(super) fn persistent_volume(volume: &mut Fields) {
    within(volume, "spec", |spec| {
        set(spec, "persistentVolumeReclaimPolicy", "Retain");
        set(spec, "volumeMode", "Filesystem");
        within(spec, "hostPath", |path| {
            path.entry("type").or_insert_with(|| json!(""));
        });
    });
    within_made(volume, "status", |status| set(status, "phase", "Pending"));
}

/// A PersistentVolumeClaim.
pub(super) fn persistent_volume_claim(claim: &mut Fields) {
    within(claim, "spec", claim_spec);
    within_made(claim, "status", |status| set(status, "phase", "Pending"));
}

/// The `spec` of a claim.
pub(super) fn claim_spec(spec: &mut Fields) {
    set(spec, "volumeMode", "Filesystem");
}

/// A StorageClass.
pub(super) fn storage_class(class: &mut Fields) {
    set(class, "reclaimPolicy", "Delete");
    set(class, "volumeBindingMode", "Immediate");
}

/// A CSIDriver.
pub(super) fn csi_driver(driver: &mut Fields) {
    within_made(driver, "spec", |spec| {
        set(spec, "attachRequired", true);
        set(spec, "podInfoOnMount", false);
        set(spec, "storageCapacity", false);
        set(spec, "requiresRepublish", false);
        set(spec, "seLinuxMount", false);
        set(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        set(spec, "volumeLifecycleModes", json!(["Persistent"]));
    });
}
