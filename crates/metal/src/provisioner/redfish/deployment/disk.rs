//! Any other image is written to the host's disk.

use url::Url;

use super::{Job, RedfishProvisioner, Step};

impl RedfishProvisioner {
    /// Writes the image to the disk and boots from it.
    pub(in super::super) async fn write_disk(&self, job: &Job<'_>, image: &Url) -> Step<()> {
        Err(job.refused(
            format!("provisioning {image}"),
            "disk images cannot be written yet; use format live-iso, or medium:/// for user data alone",
        ))
    }
}
