//! What an image is, by its own first bytes: operating systems' disks are recognised, archives of container images checked.

mod archive;
mod container;
mod disk;

use std::fs::File;

use drystone_api::ArtifactType;

pub use container::{ArchiveError, inspect as inspect_archive};
pub use disk::{DiskError, inspect as inspect_disk};

use crate::store::{Facts, Inspect};

/// What is looked at before an image of this type is taken in.
pub fn inspection(kind: ArtifactType) -> Inspect {
    Box::new(move |file: &File, length| {
        let mut file = file;
        match kind {
            ArtifactType::Binary => Ok(Facts::default()),
            ArtifactType::OperatingSystem => {
                inspect_disk(&mut file, length).map_err(|error| error.to_string())
            }
            ArtifactType::Container => inspect_archive(&mut file, length).map_err(|error| error.to_string()),
        }
    })
}
