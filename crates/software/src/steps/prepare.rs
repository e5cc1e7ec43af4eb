//! The first step: everything is fetched, checked and brought to the host, and what is there is written down. Nothing is changed.

use drystone_api::FormerSoftware;
use drystone_engine::action::{Action, StepContext, StepError};
use serde::{Deserialize, Serialize};

use super::{
    HostParameters, StepDependencies,
    bring::{bring, fetch},
    scene::{Scene, step_error},
};
use crate::{
    change::{Change, changes},
    select::HostFacts,
};

/// Prepares a host.
pub struct Prepare(pub(super) StepDependencies);

/// What is known then.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prepared {
    /// What was there before.
    pub former: FormerSoftware,
}

impl Action for Prepare {
    const NAME: &'static str = "software.prepare";
    type Parameters = HostParameters;
    type Output = Prepared;

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<Prepared, StepError> {
        let mut scene = Scene::find(context, &self.0, &parameters.host).await?;
        fetch(&self.0.artifacts, &scene).await?;
        if let Some(access) = scene.wanted.access.clone() {
            context.progress(10, "reading what is on the host");
            let way =
                scene.open(context, &self.0, &access).await.map_err(|error| step_error(context, error))?;
            let inventory = scene.look(&*way).await.map_err(|error| step_error(context, error))?;
            scene.record(context, &inventory).await?;
            let found = changes(&scene.wanted, &scene.host).map_err(StepError::permanent)?;
            // With another operating system, what is brought now would be lost.
            if !found.changes.iter().any(|change| matches!(change, Change::Image { .. })) {
                bring(context, &self.0, &scene, inventory.manager, &*way).await?;
            }
        }
        let found = changes(&scene.wanted, &scene.host).map_err(StepError::permanent)?;
        for change in &found.changes {
            context.log(change.to_string());
        }
        let mut former = former(&found.changes, &scene.host);
        former.backup.clone_from(&context.operation().name);
        Ok(Prepared { former })
    }
}

/// What is there of that which is changed.
fn former(changes: &[Change], host: &HostFacts) -> FormerSoftware {
    let mut former = FormerSoftware::default();
    let none = crate::inventory::Inventory::default();
    let inventory = host.inventory.as_ref().unwrap_or(&none);
    for change in changes {
        if let Some(package) = change.package() {
            let version = inventory.packages.get(package).cloned().unwrap_or_default();
            former.packages.insert(package.to_owned(), version);
            if inventory.held.iter().any(|held| held == package) {
                former.held.push(package.to_owned());
            }
        }
        match change {
            Change::Image { .. } => former.os_image.clone_from(&host.os_image),
            Change::Write { path } => {
                let digest = inventory.files.get(path).cloned().unwrap_or_default();
                former.files.insert(path.clone(), digest);
            }
            _ => {}
        }
    }
    former
}
