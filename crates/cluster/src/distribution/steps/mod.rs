//! Effects on hosts over SSH, as actions of the engine. What a host has to say goes into the step's log, without secrets.

pub mod addons;
pub mod facts;
pub mod install;
pub mod kubeconfig;
pub mod parameters;
pub mod prepare;
pub mod program;
pub mod reset;

use drystone_engine::action::{ActionRegistry, RegistryError};

use crate::steps::StepDependencies;

/// Registers the actions.
///
/// # Errors
/// [`RegistryError`] when a name is taken.
pub fn register(registry: &mut ActionRegistry, dependencies: &StepDependencies) -> Result<(), RegistryError> {
    registry.register(prepare::PrepareHost)?;
    registry.register(install::InstallFirst(dependencies.clone()))?;
    registry.register(install::JoinHost(dependencies.clone()))?;
    registry.register(kubeconfig::FetchKubeconfig)?;
    registry.register(addons::ApplyAddons)?;
    registry.register(reset::ResetHost(dependencies.clone()))?;
    Ok(())
}
