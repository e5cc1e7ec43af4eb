//! Effects on the nodes of a cluster, as actions of the engine. What nodes have to say goes into the step's log, without secrets.

mod install;
mod nodes;
mod removal;
mod storage;
mod vim;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use drystone_csar::Library;
use drystone_engine::action::{ActionRegistry, RegistryError, StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_ssh::{Follow, Host, Outcome, Program, ProgramError, Redaction};
pub use install::{InstallFirst, InstallHelm, JoinNode};
pub use nodes::{CheckAddresses, PrepareNode, UpdateHosts};
pub use removal::{RemoveControlPlane, RemoveNode};
use serde::{Deserialize, Serialize};
pub use storage::{InstallNfsClient, PrepareStorage, RegisterVolumes, TakeVolumesBack};
pub use vim::{CheckDependants, ForgetVim, RegisterVim};

use super::access::{Reached, program_failure};
use crate::model::InstancePatch;

/// Most lines of one program that go into the log.
const MAX_LINES: usize = 400;

/// Longest line in the log, in characters.
const MAX_LINE: usize = 300;

/// How long a node that was reached before may take to be reached again.
const PATIENCE: Duration = Duration::from_secs(60);

/// Files of packages.
pub trait PackageFiles: Send + Sync {
    /// Reads a file of the package with that uid; at most `limit` bytes.
    ///
    /// # Errors
    /// Why it cannot be read, for people.
    fn read(&self, package: &str, path: &str, limit: usize) -> Result<Vec<u8>, String>;
}

impl PackageFiles for Library {
    fn read(&self, package: &str, path: &str, limit: usize) -> Result<Vec<u8>, String> {
        let package = self.package(package).map_err(|error| error.to_string())?;
        match package.size(path) {
            None => Err("there is no such file".to_owned()),
            Some(size) if usize::try_from(size).map_or(true, |size| size > limit) => {
                Err(format!("it has {size} bytes, more than {limit}"))
            }
            Some(_) => package.file(path).map_err(|error| error.to_string()),
        }
    }
}

/// What steps need beside the API.
#[derive(Clone)]
pub struct Dependencies {
    /// Files of packages.
    pub packages: Arc<dyn PackageFiles>,
    /// The program `drystone`, which nodes of the embedded distribution get.
    pub program: Option<PathBuf>,
    /// Image archives, which nodes of the embedded distribution import.
    pub images: Vec<PathBuf>,
}

/// What is known of a node once it is prepared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prepared {
    /// Where it is logged in to.
    pub address: IpAddr,
    /// By which other nodes know it.
    pub node_address: IpAddr,
    /// The key of its SSH server.
    pub host_key: String,
    /// Kernel and operating system.
    pub system: String,
    /// What is kept of it.
    pub vnf_instance: InstancePatch,
}

/// Registers the actions.
///
/// # Errors
/// [`RegistryError`] when a name is taken.
pub fn register(registry: &mut ActionRegistry, dependencies: &Dependencies) -> Result<(), RegistryError> {
    registry.register(PrepareNode)?;
    registry.register(UpdateHosts)?;
    registry.register(CheckAddresses)?;
    registry.register(InstallFirst(dependencies.clone()))?;
    registry.register(JoinNode(dependencies.clone()))?;
    registry.register(InstallHelm(dependencies.clone()))?;
    registry.register(RemoveNode)?;
    registry.register(RemoveControlPlane)?;
    registry.register(InstallNfsClient)?;
    registry.register(PrepareStorage)?;
    registry.register(RegisterVolumes(dependencies.clone()))?;
    registry.register(TakeVolumesBack(dependencies.clone()))?;
    registry.register(RegisterVim)?;
    registry.register(CheckDependants)?;
    registry.register(ForgetVim)?;
    Ok(())
}

/// Puts lines of a node into the step's log.
fn teller<'a>(context: &'a StepContext, redaction: &'a Redaction) -> impl Fn(&str) + Send + Sync + 'a {
    let told = AtomicUsize::new(0);
    move |line: &str| {
        let shown: String = redaction.line(line).chars().take(MAX_LINE).collect();
        match told.fetch_add(1, Ordering::Relaxed) {
            count if count < MAX_LINES => context.log(shown.clone()),
            MAX_LINES => context.log("further output is left out"),
            _ => {}
        }
        context.progress(50, shown);
    }
}

impl Reached {
    /// The node, as a host of the libraries.
    fn host<'a>(&'a self, tell: Follow<'a>, proxies: Vec<(&'static str, Hidden)>) -> Host<'a> {
        Host::new(&self.session, self.privilege.clone()).follow(tell).proxied(proxies)
    }

    /// An error of a program on this node as one of the step, without secrets.
    fn failure(&self, error: &ProgramError) -> StepError {
        let shown = self.redaction.line(&error.to_string());
        match program_failure(error) {
            StepError::Permanent(_) => StepError::permanent(shown),
            _ => StepError::transient(shown),
        }
    }

    /// Runs a program, with its lines in the log.
    async fn run(&self, context: &StepContext, program: Program<'_>) -> Result<Outcome, StepError> {
        let tell = teller(context, &self.redaction);
        let host = self.host(&tell, Vec::new());
        context.wait_for(host.run(program)).await?.map_err(|error| self.failure(&error))
    }

    /// Asks a program for its answer, which stays out of the log.
    async fn ask(&self, context: &StepContext, program: Program<'_>) -> Result<String, StepError> {
        let tell = teller(context, &self.redaction);
        let host = self.host(&tell, Vec::new());
        context.wait_for(host.ask(program)).await?.map_err(|error| self.failure(&error))
    }

    /// Writes a file for root alone.
    async fn write(
        &self,
        context: &StepContext,
        path: &str,
        mode: u32,
        bytes: Vec<u8>,
    ) -> Result<(), StepError> {
        let limit = Duration::from_secs(300);
        let upload =
            self.session.upload(path, mode, std::io::Cursor::new(bytes), self.privilege.clone(), limit);
        context.wait_for(upload).await?.map(drop).map_err(|error| super::access::ssh_failure(&error))
    }
}

/// Reads a file of the package.
async fn package_file(
    context: &StepContext,
    dependencies: &Dependencies,
    package: &str,
    path: &str,
    limit: usize,
) -> Result<Vec<u8>, StepError> {
    let packages = Arc::clone(&dependencies.packages);
    let (uid, file) = (package.to_owned(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || packages.read(&uid, &file, limit));
    let read = context.wait_for(read).await?.map_err(StepError::transient)?;
    read.map_err(|why| StepError::permanent(format!("{path} of the package: {why}")))
}
