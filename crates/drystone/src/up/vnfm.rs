//! The life cycle of VNFs: package library, drivers of hooks, VIMs, container network functions.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use drystone_csar::{Library, Limits};
use drystone_engine::{action::ActionRegistry, harness::ControllerConfig};
use drystone_vnfm::{
    cnf::{self, Containers},
    controller::LifecycleConfig,
    mgmt::{Drivers, kubernetes},
    steps::{self, Blueprints, LibraryBlueprints, OpenStackDriver, StepDependencies, VimDriver},
};

use crate::command::Failure;

/// Bytes that a VNF package may have: images of virtual machines are among them.
const LARGEST_PACKAGE: u64 = 64 << 30;

/// Opens the library of VNF packages in the data directory.
pub(super) fn library(data: &Path) -> Result<Library, Failure> {
    Ok(Library::open(&data.join("vnf-packages"), Limits::default(), LARGEST_PACKAGE)?)
}

/// Registers the steps of life cycles, and says what the controllers need.
pub(super) fn prepare(
    actions: &mut ActionRegistry,
    library: &Library,
    images: Vec<PathBuf>,
) -> Result<LifecycleConfig, Failure> {
    let blueprints: Arc<dyn Blueprints> = Arc::new(LibraryBlueprints(library.clone()));
    let vims: Arc<dyn VimDriver> = Arc::new(OpenStackDriver::default());
    steps::register(actions, &StepDependencies { blueprints: blueprints.clone(), vims: vims.clone() })?;
    let packages = Arc::new(library.clone());
    kubernetes::register(
        actions,
        &kubernetes::Dependencies { packages, program: std::env::current_exe().ok(), images },
    )?;
    cnf::register(actions, library)?;
    let mut drivers = Drivers::new();
    drivers.add(kubernetes::SCRIPT, Arc::new(kubernetes::KubernetesDriver));
    Ok(LifecycleConfig {
        blueprints,
        vims,
        drivers,
        containers: Some(Arc::new(Containers::new(library.clone()))),
        controller: ControllerConfig::default(),
    })
}
