//! Volumes, claims, and the drivers that provide them.

use serde_json::Value;

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{NONE, Object, UNSET, scalar};

const DEFAULT_CLASS: &str = "/metadata/annotations/storageclass.kubernetes.io~1is-default-class";

pub(super) const PERSISTENT_VOLUME: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("Reclaim Policy"),
        Column::text("Status"),
        Column::text("Claim"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::text("Reason"),
        Column::AGE,
        Column::wide("VolumeMode"),
    ],
    |volume| {
        let claim = match volume.text("/spec/claimRef/name") {
            "" => String::new(),
            name => format!("{}/{name}", volume.text("/spec/claimRef/namespace")),
        };
        vec![
            volume.name(),
            scalar(volume.at("/spec/capacity/storage")).into(),
            access_modes(volume, "/spec/accessModes").into(),
            volume.text("/spec/persistentVolumeReclaimPolicy").into(),
            phase(volume).into(),
            claim.into(),
            volume.text("/spec/storageClassName").into(),
            volume.text_or("/spec/volumeAttributesClassName", UNSET).into(),
            volume.text("/status/reason").into(),
            volume.age(),
            volume.text_or("/spec/volumeMode", UNSET).into(),
        ]
    },
);

pub(super) const PERSISTENT_VOLUME_CLAIM: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Volume"),
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::AGE,
        Column::wide("VolumeMode"),
    ],
    |claim| {
        // Until it is bound, what the claim has is not known.
        let bound = !claim.text("/spec/volumeName").is_empty();
        let (capacity, modes) = if bound {
            (scalar(claim.at("/status/capacity/storage")), access_modes(claim, "/status/accessModes"))
        } else {
            Default::default()
        };
        vec![
            claim.name(),
            phase(claim).into(),
            claim.text("/spec/volumeName").into(),
            capacity.into(),
            modes.into(),
            claim.text("/spec/storageClassName").into(),
            claim.text_or("/spec/volumeAttributesClassName", UNSET).into(),
            claim.age(),
            claim.text_or("/spec/volumeMode", UNSET).into(),
        ]
    },
);

fn phase(object: Object<'_>) -> &str {
    if object.has("/metadata/deletionTimestamp") { "Terminating" } else { object.text("/status/phase") }
}

/// Access modes in short: `RWO,ROX`, each once and in a fixed order.
fn access_modes(object: Object<'_>, pointer: &str) -> String {
    let modes = object.texts(pointer);
    let shorts = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let shown: Vec<&str> =
        shorts.iter().filter(|(mode, _)| modes.contains(mode)).map(|(_, short)| *short).collect();
    shown.join(",")
}

pub(super) const STORAGE_CLASS: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Provisioner"),
        Column::text("ReclaimPolicy"),
        Column::text("VolumeBindingMode"),
        Column::boolean("AllowVolumeExpansion"),
        Column::AGE,
    ],
    |class| {
        let default = class.text(DEFAULT_CLASS) == "true";
        let name = class.text("/metadata/name");
        vec![
            if default { format!("{name} (default)").into() } else { name.into() },
            class.text("/provisioner").into(),
            class.text_or("/reclaimPolicy", "Delete").into(),
            class.text_or("/volumeBindingMode", "Immediate").into(),
            class.is_true("/allowVolumeExpansion").into(),
            class.age(),
        ]
    },
);

pub(super) const VOLUME_ATTACHMENT: Printer = Printer::new(
    &[
        Column::NAME,
        Column::text("Attacher"),
        Column::text("PV"),
        Column::text("Node"),
        Column::boolean("Attached"),
        Column::AGE,
    ],
    |attachment| {
        vec![
            attachment.name(),
            attachment.text("/spec/attacher").into(),
            attachment.text("/spec/source/persistentVolumeName").into(),
            attachment.text("/spec/nodeName").into(),
            attachment.is_true("/status/attached").into(),
            attachment.age(),
        ]
    },
);

pub(super) const CSI_NODE: Printer =
    Printer::new(&[Column::NAME, Column::integer("Drivers"), Column::AGE], |node| {
        vec![node.name(), node.count("/spec/drivers").into(), node.age()]
    });

pub(super) const CSI_DRIVER: Printer = Printer::new(
    &[
        Column::NAME,
        Column::boolean("AttachRequired"),
        Column::boolean("PodInfoOnMount"),
        Column::boolean("StorageCapacity"),
        Column::text("TokenRequests"),
        Column::boolean("RequiresRepublish"),
        Column::text("Modes"),
        Column::AGE,
    ],
    |driver| {
        let audiences: Vec<&str> =
            driver.list("/spec/tokenRequests").map(|token| token.text("/audience")).collect();
        let modes = driver.texts("/spec/volumeLifecycleModes");
        vec![
            driver.name(),
            // The one truth that holds unless denied.
            Value::from(driver.at("/spec/attachRequired") != false),
            driver.is_true("/spec/podInfoOnMount").into(),
            driver.is_true("/spec/storageCapacity").into(),
            if audiences.is_empty() { UNSET.into() } else { audiences.join(",").into() },
            driver.is_true("/spec/requiresRepublish").into(),
            if modes.is_empty() { NONE.into() } else { modes.join(",").into() },
            driver.age(),
        ]
    },
);

pub(super) const CSI_STORAGE_CAPACITY: Printer =
    Printer::new(&[Column::NAME, Column::text("StorageClassName"), Column::text("Capacity")], |capacity| {
        vec![
            capacity.name(),
            capacity.text("/storageClassName").into(),
            scalar(capacity.at("/capacity")).into(),
        ]
    });
