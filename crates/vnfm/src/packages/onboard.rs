//! What a package's status says of its content. Pure.

use drystone_api::nfv::VnfPackageStatus;
use drystone_csar::{Committed, LibraryError, Package};
use drystone_sol003::types::{
    Checksum, PackageArtifactInfo, PackageOnboardingState, ProblemDetails, SoftwareImageInfo,
};

/// Bytes of a refusal: a package may have thousands of problems, and objects are small.
const LONGEST: usize = 8 * 1024;

/// Writes what a good package is into its status.
pub(super) fn describe(status: &mut VnfPackageStatus, package: &Package, content: &Committed) {
    let vnfd = package.vnfd();
    status.onboarding_state = PackageOnboardingState::Onboarded;
    status.onboarding_failure = None;
    status.vnfd_id = Some(vnfd.id.clone());
    status.vnf_provider = Some(vnfd.provider.clone());
    status.vnf_product_name = Some(vnfd.product_name.clone());
    status.vnf_software_version = Some(vnfd.software_version.clone());
    status.vnfd_version = Some(vnfd.version.clone());
    status.checksum = Some(Checksum { algorithm: "SHA-256".to_owned(), hash: content.digest.clone() });
    let checksum = |checksum: &drystone_csar::meta::Checksum| Checksum {
        algorithm: checksum.algorithm.to_string(),
        hash: checksum.hash.clone(),
    };
    let images = package.software_images().iter();
    status.software_images = images
        .map(|image| SoftwareImageInfo {
            id: image.id.clone(),
            name: image.name.clone(),
            provider: vnfd.provider.clone(),
            version: image.version.clone(),
            checksum: image.checksum.as_ref().map(checksum),
            container_format: image.container_format.clone(),
            disk_format: image.disk_format.clone(),
            min_disk: image.min_disk,
            min_ram: image.min_ram,
            size: image.size,
            image_path: image.image_path.clone().unwrap_or_default(),
            ..SoftwareImageInfo::default()
        })
        .collect();
    let artifacts = package.artifacts().iter();
    status.additional_artifacts = artifacts
        .map(|artifact| PackageArtifactInfo {
            artifact_path: artifact.artifact_path.clone(),
            checksum: checksum(&artifact.checksum),
        })
        .collect();
}

/// Writes why content was refused into a status; other content may come.
pub(super) fn refuse(status: &mut VnfPackageStatus, problem: ProblemDetails) {
    let (usage, upload, generation) =
        (status.usage_state, status.observed_upload, status.observed_generation);
    *status = VnfPackageStatus {
        onboarding_state: PackageOnboardingState::Created,
        usage_state: usage,
        onboarding_failure: Some(problem),
        observed_upload: upload,
        observed_generation: generation,
        ..VnfPackageStatus::default()
    };
}

/// A refusal with a status, as SOL003 tells it.
pub(super) fn problem(status: u16, title: &str, detail: impl Into<String>) -> ProblemDetails {
    let mut detail: String = detail.into();
    if detail.len() > LONGEST {
        let end = detail.floor_char_boundary(LONGEST);
        let end = detail.get(..end).and_then(|kept| kept.rfind('\n')).unwrap_or(end);
        let left = detail.get(end..).unwrap_or_default().lines().filter(|line| !line.is_empty()).count();
        detail.truncate(end);
        detail.push_str(&format!("\n… and {left} more"));
    }
    ProblemDetails { title: Some(title.to_owned()), status, detail, ..ProblemDetails::default() }
}

/// What the library says of content that it cannot take or read.
pub(super) fn library_problem(error: &LibraryError) -> ProblemDetails {
    match error {
        LibraryError::Problems(problems) => problem(400, "The package is not good", problems.to_string()),
        LibraryError::TooLarge(_) => problem(413, "The package is too large", error.to_string()),
        other => problem(500, "The package cannot be read", other.to_string()),
    }
}
