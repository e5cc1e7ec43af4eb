//! What is on a host: how it is asked, and how its answer is read. Nothing here runs anything.

mod parse;
mod script;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use drystone_api::{HostImage, HostSoftwareStatus, PackageManager};
pub(crate) use parse::is_digest;
pub use parse::{InventoryError, parse};
pub use script::{quote, script};

/// What is on a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    /// `PRETTY_NAME` of `os-release`.
    pub operating_system: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture as the kernel names it.
    pub architecture: String,
    /// What manages packages.
    pub manager: PackageManager,
    /// Version of each installed package; those of a foreign architecture as `NAME:ARCH`.
    pub packages: BTreeMap<String, String>,
    /// Packages in a state that is neither installed nor gone, and which.
    pub broken: BTreeMap<String, String>,
    /// Held packages.
    pub held: Vec<String>,
    /// Digests of container images by reference.
    pub images: BTreeMap<String, String>,
    /// Digests (`sha256:…`) of the files that were asked for and are there.
    pub files: BTreeMap<String, String>,
    /// Whether the host says that it wants a reboot.
    pub reboot_required: bool,
    /// Id of the boot: another one after each.
    pub boot_id: String,
}

impl Inventory {
    /// From what was written down when it was read.
    pub fn from_status(status: &HostSoftwareStatus) -> Self {
        Self {
            operating_system: status.operating_system.clone(),
            kernel: status.kernel.clone(),
            architecture: status.architecture.clone(),
            manager: status.package_manager,
            packages: status.packages.clone(),
            broken: status.broken_packages.clone(),
            held: status.held_packages.clone(),
            images: status.container_images.clone(),
            files: status.files.clone(),
            reboot_required: status.reboot_required,
            boot_id: String::new(),
        }
    }

    /// Writes it down.
    pub fn write_to(&self, status: &mut HostSoftwareStatus) {
        status.operating_system.clone_from(&self.operating_system);
        status.kernel.clone_from(&self.kernel);
        status.architecture.clone_from(&self.architecture);
        status.package_manager = self.manager;
        status.package_count = u32::try_from(self.packages.len()).unwrap_or(u32::MAX);
        status.packages.clone_from(&self.packages);
        status.broken_packages.clone_from(&self.broken);
        status.held_packages.clone_from(&self.held);
        status.container_images.clone_from(&self.images);
        status.files.clone_from(&self.files);
        status.reboot_required = self.reboot_required;
    }
}

/// Whether two images are the same for a host: Metal3 provisions anew only for another URL; another checksum under the same
/// URL is another content all the same.
pub fn same_image(a: &HostImage, b: &HostImage) -> bool {
    a.url == b.url && (a.checksum.is_empty() || b.checksum.is_empty() || a.checksum == b.checksum)
}

/// A text, if it is a digest in the form in which they are written here: `sha256:` and 64 hexadecimal digits in lower case.
pub fn parse_digest(text: &str) -> Option<String> {
    is_digest(text).then(|| text.to_owned())
}
