//! Effects on VIMs, as steps of the engine.

mod library;
mod load;
mod openstack;
mod parameters;
mod stack;
mod vim;

pub use library::{CsarBlueprint, LibraryBlueprints};
pub(crate) use load::OnKubernetes;
pub use load::{BlueprintError, Blueprints, Loaded, secret_values};
pub use openstack::OpenStackDriver;
pub use parameters::{
    InventoryParameters, MarkUnhealthyParameters, StackCreateParameters, StackDeleteParameters, StackOutput,
    StackUpdateParameters,
};
pub use stack::{MarkUnhealthy, ReadInventory, StackCreate, StackDelete, StackUpdate};
pub use vim::{Access, InventoryAsk, Told, VimDriver, VimError, VimSession};

use std::sync::Arc;

use drystone_engine::action::{ActionRegistry, RegistryError};
use load::Loader;

/// What steps need.
#[derive(Clone)]
pub struct StepDependencies {
    /// Packages.
    pub blueprints: Arc<dyn Blueprints>,
    /// VIMs.
    pub vims: Arc<dyn VimDriver>,
}

/// Registers the steps on VIMs.
///
/// # Errors
/// When one is registered already.
pub fn register(actions: &mut ActionRegistry, dependencies: &StepDependencies) -> Result<(), RegistryError> {
    let loader = Arc::new(Loader { dependencies: dependencies.clone() });
    actions.register(StackCreate { loader: loader.clone() })?;
    actions.register(StackUpdate { loader: loader.clone() })?;
    actions.register(StackDelete { loader: loader.clone() })?;
    actions.register(MarkUnhealthy { loader: loader.clone() })?;
    actions.register(ReadInventory { loader })
}
