//! The change itself: packages, container images, files.

use drystone_api::{PackageManager, PackageState, PinnedSet};
use drystone_engine::action::{Action, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{
    APPLY, HostParameters, Prepared, StepDependencies,
    bring::bring,
    revert::revert,
    scene::{Scene, step_error},
};
use crate::{
    access::{HostAccess, job},
    change::{Change, changes},
    inventory::Inventory,
    procedure::{FileTask, PackageTask, Work, candidates, candidates_script, content_path, script},
    validate::content_digest,
    version::Wish,
};

/// Changes software.
pub struct Apply(pub(super) StepDependencies);

/// What is known then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// Id of the boot in which it was done.
    #[serde(default)]
    pub boot_id: String,
    /// Whether the host must be rebooted.
    #[serde(default)]
    pub reboot: bool,
}

impl Action for Apply {
    const NAME: &'static str = "software.apply";
    type Parameters = HostParameters;
    type Output = Applied;

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<Applied, StepError> {
        let prepared: Prepared = context.input("prepare")?;
        let mut scene = Scene::find(context, &self.0, &parameters.host).await?;
        let Some(access) = scene.wanted.access.clone() else { return Ok(Applied::default()) };
        let failed = |error| step_error(context, error);
        let way = scene.open(context, &self.0, &access).await.map_err(failed)?;
        let mut inventory = scene.look(&*way).await.map_err(failed)?;
        let found = changes(&scene.wanted, &scene.host).map_err(StepError::permanent)?;
        let mut reboot = found.reboot || scene.entry.reboot;
        if !found.changes.is_empty() {
            bring(context, &self.0, &scene, inventory.manager, &*way).await?;
            let mut work = work(context, &scene.wanted, &found.changes, &inventory, &*way).await?;
            work.backup.clone_from(&prepared.former.backup);
            context.progress(40, "changing packages, images and files");
            let text = script(inventory.manager, &work);
            let key = format!("{}-{}", context.idempotency_key().simple(), context.attempt());
            let said = |line: &str| context.progress(60, line);
            let ran = job::run(&*way, &key, &text, APPLY, &said).await.map_err(failed)?;
            for line in ran
                .output
                .lines()
                .filter(|line| !line.trim().is_empty())
                .rev()
                .take(20)
                .collect::<Vec<_>>()
                .iter()
                .rev()
            {
                context.log((*line).to_owned());
            }
            ran.succeeded("changing software").map_err(StepError::permanent)?;
            inventory = scene.look(&*way).await.map_err(failed)?;
            let left = changes(&scene.wanted, &scene.host).map_err(StepError::permanent)?;
            let left: Vec<String> = left.changes.iter().map(ToString::to_string).collect();
            if !left.is_empty() {
                let what = left.join(", ");
                return Err(StepError::permanent(format!(
                    "all went well, and yet the host still lacks: {what}"
                )));
            }
        }
        scene.record(context, &inventory).await?;
        reboot |= inventory.reboot_required;
        Ok(Applied { boot_id: inventory.boot_id, reboot })
    }

    async fn undo(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let prepared: Prepared = context.input("prepare")?;
        let applied = context.output::<Applied>();
        Box::pin(revert(context, &self.0, &parameters.host, &prepared.former, applied.as_ref())).await
    }
}

/// What the script is to do.
async fn work(
    context: &StepContext,
    set: &PinnedSet,
    changes: &[Change],
    inventory: &Inventory,
    access: &dyn HostAccess,
) -> Result<Work, StepError> {
    let mut work = Work { repair: !inventory.broken.is_empty(), ..Work::default() };
    let versions = versions(context, set, changes, inventory.manager, access).await?;
    let task = |name: &str, older: bool| match versions.get(name) {
        Some(version) => PackageTask::Install { name: name.to_owned(), version: version.clone(), older },
        None => PackageTask::InstallAny { name: name.to_owned() },
    };
    for change in changes {
        match change {
            Change::Install { package, .. }
            | Change::Upgrade { package, .. }
            | Change::Repair { package, .. } => {
                work.packages.push(task(package, false));
            }
            Change::Downgrade { package, .. } => work.packages.push(task(package, true)),
            Change::Hold { package } => work.packages.push(PackageTask::Hold { name: package.clone() }),
            Change::Remove { package, .. } => {
                work.packages.push(PackageTask::Remove { name: package.clone() });
            }
            Change::Pull { image } => work.images.push(image.clone()),
            Change::Write { path } => work.files.extend(file_task(set, path)),
            Change::Image { .. } | Change::Unknown => {}
        }
    }
    Ok(work)
}

fn file_task(set: &PinnedSet, path: &str) -> Option<FileTask> {
    let (number, file) = set.files.iter().enumerate().find(|(_, file)| file.path == path)?;
    let mode = if file.permissions.is_empty() { "0644" } else { &file.permissions };
    Some(FileTask {
        number,
        path: file.path.clone(),
        mode: mode.to_owned(),
        source: content_path(&content_digest(file)),
        after_change: file.after_change.clone(),
    })
}

/// The version of each package that is to be installed; those of which any will do are not in it. Where a set only says what must
/// be true of a version, the repositories of the host are asked.
async fn versions(
    context: &StepContext,
    set: &PinnedSet,
    changes: &[Change],
    manager: PackageManager,
    access: &dyn HostAccess,
) -> Result<std::collections::BTreeMap<String, String>, StepError> {
    let mut versions = std::collections::BTreeMap::new();
    let mut open: Vec<(String, Wish)> = Vec::new();
    for package in set.packages.iter().filter(|package| package.state != PackageState::Absent) {
        let concerned = changes.iter().any(|change| change.package() == Some(&package.name));
        match Wish::parse(&package.version).map_err(StepError::permanent)? {
            Wish::Exact(version) => drop(versions.insert(package.name.clone(), version)),
            wish @ Wish::Conditions(_) if concerned => open.push((package.name.clone(), wish)),
            Wish::Conditions(_) | Wish::Any => {}
        }
    }
    if open.is_empty() {
        return Ok(versions);
    }
    context.progress(20, "asking the repositories for versions");
    let names: Vec<String> = open.iter().map(|(name, _)| name.clone()).collect();
    let answer = access.run(&candidates_script(manager, &names), APPLY).await;
    let answer = answer.map_err(|error| step_error(context, error))?;
    for (name, wish) in open {
        let offered = candidates(&answer.output, &name);
        let best = wish.best(manager, offered.iter().copied()).ok_or_else(|| {
            let offered = if offered.is_empty() { "nothing".to_owned() } else { offered.join(", ") };
            StepError::permanent(format!(
                "no version of {name} that is wanted can be had: the repositories of the host offer {offered}"
            ))
        })?;
        versions.insert(name, best.to_owned());
    }
    Ok(versions)
}
