//! Another operating system: through the BareMetalHost, which provisions the host anew.

use std::time::Duration;

use drystone_api::{BareMetalHost, HostImage, ProvisioningState, SoftwareAccess};
use drystone_engine::{
    action::{Action, StepContext, StepError},
    harness::Caches,
    reference::ObjectKey,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{HostParameters, Prepared, StepDependencies, scene::Scene};
use crate::{inventory::same_image, records};

/// Provisions a host with another image.
pub struct ChangeImage(pub(super) StepDependencies);

impl Action for ChangeImage {
    const NAME: &'static str = "software.change-image";
    type Parameters = HostParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let scene = Scene::find(context, &self.0, &parameters.host).await?;
        let Some(wanted) = &scene.wanted.os_image else { return Ok(()) };
        super::bring::check_signatures(&scene.sets)?;
        provision(context, &self.0.caches, &parameters.host, &wanted.host_image()).await?;
        forget_keys(context, &scene).await
    }

    async fn undo(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let prepared: Prepared = context.input("prepare")?;
        let Some(former) = &prepared.former.os_image else { return Ok(()) };
        let scene = Scene::find(context, &self.0, &parameters.host).await?;
        provision(context, &self.0.caches, &parameters.host, former).await?;
        forget_keys(context, &scene).await
    }
}

/// A new system has new host keys, which are learned again where that is allowed.
async fn forget_keys(context: &StepContext, scene: &Scene) -> Result<(), StepError> {
    let learns = |access: &SoftwareAccess| access.trust_on_first_use;
    if !scene.wanted.access.as_ref().is_some_and(learns) {
        return Ok(());
    }
    records::change(context.client(), &scene.namespace, &scene.host.name, |status| status.host_keys.clear())
        .await
        .map_err(StepError::transient)
}

/// Declares the image and waits until the host runs it.
pub(super) async fn provision(
    context: &StepContext,
    caches: &Caches,
    host: &str,
    image: &HostImage,
) -> Result<(), StepError> {
    let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), &context.subject().namespace);
    let before = hosts
        .get(host)
        .await
        .map_err(|error| StepError::from_kube("reading the host", &error))?
        .status
        .unwrap_or_default();
    // Failures with the image that it had say nothing of this one.
    let failures = if before.is_hopeless() { before.error_count } else { 0 };
    // Fields that the new image has not must not stay.
    let mut wanted = json!({"checksum": null, "checksumType": null, "format": null});
    if let (Some(wanted), Ok(serde_json::Value::Object(given))) =
        (wanted.as_object_mut(), serde_json::to_value(image))
    {
        wanted.extend(given);
    }
    let patch = json!({"spec": {"image": wanted, "online": true}});
    hosts
        .patch(host, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(|error| StepError::from_kube("declaring the image of the host", &error))?;
    context.progress(10, "waiting for the host to be provisioned");
    // Copies, for a watch of its own for each of a thousand hosts would cost more than all their work.
    let key = ObjectKey::new(&context.subject().namespace, host);
    let copies = caches.of::<BareMetalHost>();
    loop {
        let waited = copies.wait_for(&key, |host: Option<&BareMetalHost>| judge(host, image, failures));
        let outcome = context.wait_for(Box::pin(waited)).await?;
        // The copy may lag behind, or leave out what could not be read for a moment.
        let there = outcome.as_ref().is_err_and(|why| why == GONE)
            && hosts
                .get_opt(host)
                .await
                .map_err(|error| StepError::from_kube("reading the host", &error))?
                .is_some();
        if !there {
            return outcome.map_err(|why| StepError::permanent(format!("host {host}: {why}")));
        }
        context.wait_for(tokio::time::sleep(Duration::from_millis(500))).await?;
    }
}

/// The verdict on a host that is not there.
const GONE: &str = "was deleted";

/// Failures in a row, after those that were there before, by which a host is given up.
const HOPELESS: u32 = 3;

/// Whether the host runs the image, or never will; `None` while that is open. It had failed so often before.
fn judge(host: Option<&BareMetalHost>, image: &HostImage, failures: u32) -> Option<Result<(), String>> {
    let Some(host) = host else { return Some(Err(GONE.to_owned())) };
    let status = host.status.as_ref()?;
    // A copy that does not show the wish yet tells nothing of how it went.
    if !host.spec.image.as_ref().is_some_and(|wanted| same_image(wanted, image)) {
        return None;
    }
    let runs = status.provisioning.image.as_ref().is_some_and(|present| same_image(present, image));
    if status.provisioning.state == ProvisioningState::Provisioned && status.powered_on && runs {
        return Some(Ok(()));
    }
    let again = status.error_count < failures || status.error_count >= failures.saturating_add(HOPELESS);
    (status.is_hopeless() && again).then(|| Err(format!("{}: {}", status.error_type, status.error_message)))
}
