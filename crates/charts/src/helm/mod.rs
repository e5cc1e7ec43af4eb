//! The `helm` program: found, its version checked, run within limits.

mod process;

use std::{
    env, fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use process::{Confinement, ProcessError, ProcessLimits};

/// Environment variable that names the program.
pub const PROGRAM_VARIABLE: &str = "DRYSTONE_HELM";
/// The major version whose output is what users of EMCO know.
const MAJOR: u64 = 3;
/// Names under which the program is looked for.
const NAMES: [&str; 2] = ["helm", "helm3"];

/// There is no helm that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HelmError {
    /// None was found.
    #[error(
        "the program helm is not installed; put helm 3.18 into PATH as `helm` or `helm3`, or name it in {PROGRAM_VARIABLE}"
    )]
    Missing,
    /// Those that were found are of other major versions, or tell none.
    #[error(
        "no helm of version 3: {0}; put helm 3.18 into PATH as `helm` or `helm3`, or name it in {PROGRAM_VARIABLE}"
    )]
    Unsuitable(String),
    /// A directory for the program cannot be made.
    #[error("making a directory for helm: {0}")]
    Directory(String),
}

/// A helm of version 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helm {
    /// The program.
    pub program: PathBuf,
    /// Its version, e.g. `v3.18.0`.
    pub version: String,
    /// How it is kept away from the network.
    pub confinement: Confinement,
}

impl fmt::Display for Helm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}, {}", self.program.display(), self.version, self.confinement)
    }
}

impl Helm {
    /// Finds one: `named`, or what [`PROGRAM_VARIABLE`] names, or the first of version 3 in PATH.
    ///
    /// # Errors
    /// [`HelmError`]; it tells what was found instead.
    pub async fn find(named: Option<&Path>, limits: &ProcessLimits) -> Result<Self, HelmError> {
        let named = named.map(Path::to_owned).or_else(|| env::var_os(PROGRAM_VARIABLE).map(PathBuf::from));
        let candidates = match named {
            Some(program) => vec![program],
            None => in_path(),
        };
        let mut seen = Vec::new();
        for program in candidates {
            match version(&program, limits).await? {
                Ok(version) if major(&version) == Some(MAJOR) => {
                    let confinement = Confinement::find().await;
                    return Ok(Self { program, version, confinement });
                }
                Ok(version) => seen.push(format!("{} is {version}", program.display())),
                Err(why) => seen.push(format!("{}: {why}", program.display())),
            }
        }
        if seen.is_empty() { Err(HelmError::Missing) } else { Err(HelmError::Unsuitable(seen.join(", "))) }
    }

    /// Runs it in `directory`, where its home and configuration are too; gives what it printed.
    ///
    /// # Errors
    /// [`ProcessError`]: it ended with an error, or met a limit.
    pub async fn run(
        &self,
        arguments: &[String],
        directory: &Path,
        limits: &ProcessLimits,
    ) -> Result<process::Printed, ProcessError> {
        process::run(&self.program, arguments, directory, limits, self.confinement).await
    }
}

async fn version(program: &Path, limits: &ProcessLimits) -> Result<Result<String, String>, HelmError> {
    let directory = tempfile::Builder::new().prefix("drystone-charts-").tempdir();
    let directory = directory.map_err(|error| HelmError::Directory(error.to_string()))?;
    let arguments = ["version", "--template", "{{.Version}}"].map(str::to_owned);
    let limits =
        ProcessLimits { wall: limits.wall.min(Duration::from_secs(60)), output: 4096, ..limits.clone() };
    let printed = process::run(program, &arguments, directory.path(), &limits, Confinement::None).await;
    Ok(match printed {
        Ok(printed) => Ok(String::from_utf8_lossy(&printed.output).trim().chars().take(60).collect()),
        Err(error) => Err(error.to_string()),
    })
}

fn major(version: &str) -> Option<u64> {
    version.trim_start_matches('v').split('.').next()?.parse().ok()
}

/// Programs in PATH, in its order.
fn in_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path);
    let programs = directories.flat_map(|directory| NAMES.map(|name| directory.join(name)));
    programs.filter(|program| program.is_file()).collect()
}

#[cfg(test)]
mod tests;
