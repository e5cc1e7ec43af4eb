//! Reboots: asked for on the host itself, or where it has nothing that can do it, through its BMC.

use std::time::Duration;

use drystone_api::{BareMetalHost, SoftwareAccess};
use drystone_engine::action::{Action, StepContext, StepError};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    Applied, HostParameters, StepDependencies,
    scene::{Scene, step_error},
};
use crate::{access::HostAccess, records};

/// Reboots a host, if what was done needs that.
pub struct Reboot(pub(super) StepDependencies);

/// Status by which the host says that it has nothing that can reboot it.
const UNABLE: u32 = 44;

/// Metal3's annotation: switch the host off and on again.
const REBOOT_ANNOTATION: &str = "reboot.metal3.io";

impl Action for Reboot {
    const NAME: &'static str = "software.reboot";
    type Parameters = HostParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let applied: Applied = context.input("apply")?;
        if !applied.reboot {
            return Ok(());
        }
        let scene = Scene::find(context, &self.0, &parameters.host).await?;
        let Some(access) = scene.wanted.access.clone() else { return Ok(()) };
        // A host that cannot be reached may be on its way down already.
        if let Ok(way) = scene.open(context, &self.0, &access).await {
            let inventory = records::read(&*way, []).await.map_err(|error| step_error(context, error))?;
            if inventory.boot_id != applied.boot_id {
                return scene.record_boot(context, &*way).await;
            }
            reboot(context, &*way, &scene).await?;
        }
        let way = await_boot(context, &self.0, &scene, &access, &applied.boot_id).await?;
        scene.record_boot(context, &*way).await
    }
}

impl Scene {
    /// Writes down what is on the host after its reboot.
    async fn record_boot(&self, context: &StepContext, way: &dyn HostAccess) -> Result<(), StepError> {
        let files = self.wanted.files.iter().map(|file| file.path.as_str());
        let inventory = records::read(way, files).await.map_err(|error| step_error(context, error))?;
        self.record(context, &inventory).await
    }
}

/// Asks for a reboot.
pub(super) async fn reboot(
    context: &StepContext,
    way: &dyn HostAccess,
    scene: &Scene,
) -> Result<(), StepError> {
    context.progress(10, "asking for a reboot");
    let program = format!(
        "for r in systemctl /sbin/reboot /usr/sbin/reboot; do if command -v $r >/dev/null 2>&1; then \
         [ $r = systemctl ] && [ ! -d /run/systemd/system ] && continue; [ $r = systemctl ] && r='systemctl reboot'; \
         sync; setsid sh -c \"sleep 1; $r\" >/dev/null 2>&1 </dev/null & exit 0; fi; done; exit {UNABLE}"
    );
    let ran = way.run(&program, Duration::from_secs(60)).await.map_err(|error| step_error(context, error))?;
    if ran.status != UNABLE {
        return Ok(());
    }
    context.log("the host has nothing that could reboot it; its BMC does");
    let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), &scene.namespace);
    let patch = json!({"metadata": {"annotations": {REBOOT_ANNOTATION: "{\"mode\": \"soft\"}"}}});
    let patched = hosts.patch(&scene.host.name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| StepError::from_kube("asking the BMC for a reboot", &error))
}

/// Waits until the host answers in another boot.
pub(super) async fn await_boot(
    context: &StepContext,
    dependencies: &StepDependencies,
    scene: &Scene,
    access: &SoftwareAccess,
    before: &str,
) -> Result<Box<dyn HostAccess>, StepError> {
    context.progress(30, "waiting for the host to come back");
    let back = async {
        loop {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let Ok(way) = scene.open(context, dependencies, access).await else { continue };
            if records::read(&*way, []).await.is_ok_and(|inventory| inventory.boot_id != before) {
                return way;
            }
        }
    };
    // Bounded by the step's timeout.
    context.wait_for(back).await
}
