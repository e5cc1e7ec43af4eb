//! What the hooks of a life cycle do inside of the VNF: drivers, by the artifact that a VNFD names.

pub mod kubernetes;

use std::{collections::BTreeMap, fmt, sync::Arc};

use drystone_api::StepSpec;

use crate::model::{Hook, Problem, Situation};

/// A driver of hooks: says which steps a hook consists of. Pure.
pub trait HookPlanner: Send + Sync {
    /// The steps of `hook`. Steps without `dependsOn` begin when what precedes the hook is done; what follows the hook waits for all
    /// of them. A step that reads the inventory names [`Situation::inventory`] in its `dependsOn`. Ids are unique in the whole plan:
    /// they begin with the name of the hook (`instantiate_end/install/masterNode-0`). When the operation is rolled back, the steps'
    /// actions are undone in reverse.
    ///
    /// # Errors
    /// A [`Problem`]: what is wrong with the request; nothing has been done then.
    fn steps(&self, hook: Hook, situation: &Situation) -> Result<Vec<StepSpec>, Problem>;
}

/// The drivers that there are, by the name of the script that a VNFD names as a hook's implementation.
#[derive(Clone, Default)]
pub struct Drivers {
    by_script: BTreeMap<String, Arc<dyn HookPlanner>>,
}

impl Drivers {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a driver for scripts of that file name: `kubernetes_mgmt.py`.
    pub fn add(&mut self, script: impl Into<String>, driver: Arc<dyn HookPlanner>) {
        self.by_script.insert(script.into(), driver);
    }

    /// The driver for a script of a package, by the last part of its path.
    pub fn for_script(&self, path: &str) -> Option<&Arc<dyn HookPlanner>> {
        self.by_script.get(path.rsplit('/').next().unwrap_or(path))
    }

    /// Names of the scripts that there are drivers for.
    pub fn scripts(&self) -> impl Iterator<Item = &str> {
        self.by_script.keys().map(String::as_str)
    }
}

impl fmt::Debug for Drivers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.scripts()).finish()
    }
}
