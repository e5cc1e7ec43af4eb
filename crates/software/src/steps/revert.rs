//! Returning a host to what was there before.

use drystone_api::{FormerSoftware, PackageManager};
use drystone_engine::action::{Action, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{
    APPLY, Applied, StepDependencies, image,
    reboot::{await_boot, reboot},
    scene::{Scene, step_error},
};
use crate::{
    access::job,
    inventory::Inventory,
    procedure::{PackageTask, Work, script},
    version::compare,
};

/// Returns a host that was updated to what was there before.
pub struct Revert(pub(super) StepDependencies);

/// The host, and what was there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevertParameters {
    /// The host.
    pub host: String,
    /// What was there.
    pub former: FormerSoftware,
}

impl Action for Revert {
    const NAME: &'static str = "software.revert";
    type Parameters = RevertParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: RevertParameters) -> Result<(), StepError> {
        let RevertParameters { host, former } = parameters;
        // What was there comes with the former image: its packages are those that it had.
        if let Some(former) = &former.os_image {
            return image::provision(context, &self.0.caches, &host, former).await;
        }
        Box::pin(revert(context, &self.0, &host, &former, None)).await
    }
}

/// Returns packages and files. What is as it was is left alone.
pub(super) async fn revert(
    context: &StepContext,
    dependencies: &StepDependencies,
    host: &str,
    former: &FormerSoftware,
    applied: Option<&Applied>,
) -> Result<(), StepError> {
    let mut scene = Scene::find(context, dependencies, host).await?;
    let Some(access) = scene.wanted.access.clone() else { return Ok(()) };
    // Before a former image is put back, packages of the other one need not be changed back.
    if former.os_image.is_some() {
        return Ok(());
    }
    let failed = |error| step_error(context, error);
    let way = scene.open(context, dependencies, &access).await.map_err(failed)?;
    let mut inventory = scene.look(&*way).await.map_err(failed)?;
    let work = work(&scene, former, &inventory);
    if !is_nothing(&work) {
        context.log(format!("returning {host} to what was there"));
        let text = script(inventory.manager, &work);
        let key = format!("{}-back-{}", context.idempotency_key().simple(), context.attempt());
        let said = |line: &str| context.progress(60, line);
        let ran = job::run(&*way, &key, &text, APPLY, &said).await.map_err(failed)?;
        ran.succeeded("returning to the former software").map_err(StepError::permanent)?;
        inventory = scene.look(&*way).await.map_err(failed)?;
        let left = self::work(&scene, former, &inventory);
        if !is_nothing(&left) {
            let text = format!(
                "all went well, and yet the host is not as it was: {:?} {:?}",
                left.packages, left.restore
            );
            return Err(StepError::permanent(text));
        }
    }
    scene.record(context, &inventory).await?;
    // A kernel that was rebooted into is left by another reboot.
    let rebooted = applied.is_some_and(|applied| applied.reboot && applied.boot_id != inventory.boot_id);
    if rebooted || (applied.is_none() && scene.entry.reboot && !is_nothing(&work)) {
        reboot(context, &*way, &scene).await?;
        drop(way);
        await_boot(context, dependencies, &scene, &access, &inventory.boot_id).await?;
    }
    Ok(())
}

fn is_nothing(work: &Work) -> bool {
    work.packages.is_empty() && work.restore.is_empty()
}

fn work(scene: &Scene, former: &FormerSoftware, inventory: &Inventory) -> Work {
    let mut work = Work { backup: former.backup.clone(), repair: false, ..Work::default() };
    for (name, version) in &former.packages {
        let present = inventory.packages.get(name);
        let broken = inventory.broken.contains_key(name);
        if version.is_empty() {
            if present.is_some() || broken {
                work.packages.push(PackageTask::Remove { name: name.clone() });
            }
            continue;
        }
        if present != Some(version) || broken {
            let older = present.is_some_and(|present| is_newer(inventory.manager, present, version));
            work.packages.push(PackageTask::Install { name: name.clone(), version: version.clone(), older });
        }
        match (former.held.contains(name), inventory.held.contains(name)) {
            (true, false) => work.packages.push(PackageTask::Hold { name: name.clone() }),
            (false, true) => work.packages.push(PackageTask::Release { name: name.clone() }),
            _ => {}
        }
    }
    for (number, file) in scene.wanted.files.iter().enumerate() {
        let Some(digest) = former.files.get(&file.path) else { continue };
        let present = inventory.files.get(&file.path).map_or("", String::as_str);
        if present != digest {
            work.restore.push((number, file.path.clone()));
        }
    }
    work
}

fn is_newer(manager: PackageManager, present: &str, version: &str) -> bool {
    compare(manager, present, version).is_ok_and(std::cmp::Ordering::is_gt)
}
