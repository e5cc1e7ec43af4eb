//! `VnfPkgInfo` (SOL005, 9.5.2.5; SOL003, 10.5.2.2).

use drystone_api::nfv::VnfPackage;
use drystone_sol003::types::{ApiVersion, PackageOnboardingState, PackageOperationalState};
use serde_json::{Value, json};

use super::{Around, Members, link};
use crate::feed::Shown;

impl Shown for VnfPackage {
    const WHAT: &'static str = "VNF package";
    const DEFAULT_EXCLUDED: &'static [&'static str] =
        &["softwareImages", "additionalArtifacts", "userDefinedData", "checksum"];
    const INDEX: &'static [&'static str] = &["vnfdId"];

    fn indexed(&self) -> Vec<(&'static str, String)> {
        let vnfd = self.status.as_ref().and_then(|status| status.vnfd_id.clone());
        vnfd.map(|vnfd| ("vnfdId", vnfd)).into_iter().collect()
    }

    fn body(&self, around: &Around, _version: ApiVersion) -> Value {
        let status = self.status.clone().unwrap_or_default();
        let id = self.metadata.uid.clone().unwrap_or_default();
        let mut body = Members::default();
        body.put("id", &id);
        body.put_some("vnfdId", status.vnfd_id);
        body.put_some("vnfProvider", status.vnf_provider);
        body.put_some("vnfProductName", status.vnf_product_name);
        body.put_some("vnfSoftwareVersion", status.vnf_software_version);
        body.put_some("vnfdVersion", status.vnfd_version);
        body.put_some("checksum", status.checksum);
        if !status.software_images.is_empty() {
            body.put("softwareImages", status.software_images);
        }
        if !status.additional_artifacts.is_empty() {
            body.put("additionalArtifacts", status.additional_artifacts);
        }
        let state = onboarding_state(self, around.is_uploading(&id));
        body.put("onboardingState", state);
        body.put("operationalState", operational_state(self));
        body.put("usageState", status.usage_state);
        if state == PackageOnboardingState::Created {
            body.put_some("onboardingFailureDetails", status.onboarding_failure);
        }
        body.put("userDefinedData", Value::Object(serde_json::Map::new()));
        body.put_told("userDefinedData", &self.spec.user_defined_data);
        let own = format!("/vnfpkgm/v1/vnf_packages/{id}");
        body.put(
            "_links",
            json!({"self": link(&own), "packageContent": link(&format!("{own}/package_content")),
                "vnfd": link(&format!("{own}/vnfd"))}),
        );
        body.finish()
    }
}

/// How far a package has been taken in, which includes what the controller has not seen yet.
pub(crate) fn onboarding_state(package: &VnfPackage, is_uploading: bool) -> PackageOnboardingState {
    let status = package.status.as_ref();
    let state = status.map(|status| status.onboarding_state).unwrap_or_default();
    if state != PackageOnboardingState::Created {
        return state;
    }
    if is_uploading {
        return PackageOnboardingState::Uploading;
    }
    let seen = status.and_then(|status| status.observed_upload).unwrap_or(0);
    let is_behind = status.and_then(|status| status.observed_generation).unwrap_or(0)
        < package.metadata.generation.unwrap_or(0);
    match (&package.spec.content, &package.spec.source) {
        (Some(content), _) if content.upload > seen => PackageOnboardingState::Processing,
        (None, Some(_)) if is_behind => PackageOnboardingState::Uploading,
        _ => PackageOnboardingState::Created,
    }
}

/// Whether new instances may be made of a package: by default as soon as it is onboarded.
pub(crate) fn operational_state(package: &VnfPackage) -> PackageOperationalState {
    let state = package.status.as_ref().map(|status| status.onboarding_state).unwrap_or_default();
    if state != PackageOnboardingState::Onboarded {
        return PackageOperationalState::Disabled;
    }
    package.spec.operational_state.unwrap_or(PackageOperationalState::Enabled)
}
