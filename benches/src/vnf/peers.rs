//! Programs of others: Tacker, and a real Keystone and Heat.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use reqwest::Client;
use tokio::process::{Child, Command};

use super::own;
use crate::{Failure, drystone::PATIENCE};

/// A port that is free now.
pub(super) fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A Python environment that `./dev` made.
fn environment(name: &str) -> Option<PathBuf> {
    let path = own("../.cache").join(name).join("venv");
    path.join("complete").is_file().then_some(path)
}

/// Where Tacker is.
pub(super) fn tacker_environment() -> Option<PathBuf> {
    environment("tacker")
}

/// A program of an environment, which ends with this process.
fn python(environment: &Path, script: &Path, arguments: &[&str], log: &Path) -> Result<Child, Failure> {
    let log = std::fs::File::create(log)?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(environment.join("bin/python3")).arg(script);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    Ok(command.spawn()?)
}

/// Waits until `is_ready`.
async fn until(child: &mut Child, log: &Path, is_ready: impl Fn() -> bool) -> Result<(), Failure> {
    let began = Instant::now();
    while !is_ready() {
        if child.try_wait()?.is_some() || began.elapsed() > PATIENCE {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            return Err(format!("{} does not come: {text}", log.display()).into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A Tacker with its database in memory.
pub(super) struct Tacker {
    pub(super) url: String,
    pub(super) client: Client,
    _process: Child,
}

impl Tacker {
    /// It has that many instances to begin with.
    pub(super) async fn start(environment: &Path, scratch: &Path, instances: usize) -> Result<Self, Failure> {
        let port = free_port()?;
        let log = scratch.join("tacker.log");
        let directory = scratch.display().to_string();
        let arguments = [directory.as_str(), &port.to_string(), &instances.to_string()];
        let mut process = python(environment, &own("vnf/tacker_server.py"), &arguments, &log)?;
        let is_ready =
            || std::fs::read_to_string(&log).is_ok_and(|text| text.lines().any(|line| line == "ready"));
        until(&mut process, &log, is_ready).await?;
        let client = Client::builder().no_proxy().tls_certs_only([]).build()?;
        Ok(Self { url: format!("http://127.0.0.1:{port}"), client, _process: process })
    }
}

/// A real Keystone and Heat.
pub(super) struct OpenStack {
    pub(super) auth_url: String,
    log: PathBuf,
    _process: Child,
    _directory: tempfile::TempDir,
}

impl OpenStack {
    /// Starts them, if they are installed.
    pub(super) async fn start() -> Result<Option<Self>, Failure> {
        let Some(environment) = environment("openstack") else { return Ok(None) };
        // Not in the scratch directory, which PostgreSQL's user may not enter.
        let kept = tempfile::tempdir()?;
        let directory = kept.path();
        let (keystone, heat) = (free_port()?, free_port()?);
        let log = directory.join("start.log");
        let path = directory.display().to_string();
        let arguments = [path.as_str(), &keystone.to_string(), &heat.to_string(), "3600"];
        let script = own("../crates/openstack/tests/peers/start.py");
        let mut process = python(&environment, &script, &arguments, &log)?;
        until(&mut process, &log, || directory.join("ready").is_file()).await?;
        let auth_url = format!("http://127.0.0.1:{keystone}/v3");
        Ok(Some(Self { auth_url, log: directory.join("keystone.log"), _process: process, _directory: kept }))
    }

    /// Tokens that were asked for by the user of the measurements: not those of Heat itself.
    pub(super) fn tokens(&self) -> Result<usize, Failure> {
        let text = std::fs::read_to_string(&self.log)?;
        Ok(text.lines().filter(|line| *line == "token for nfv_user").count())
    }
}

/// The package that is measured, as an archive. Tacker wants the type definitions of ETSI in it, and brings them along.
pub(super) fn package(scratch: &Path) -> Result<Vec<u8>, Failure> {
    let folder = scratch.join("package");
    copy(&own("vnf/package"), &folder)?;
    let types = "tacker/tests/unit/vnfm/infra_drivers/openstack/data/etsi_nfv";
    for packages in tacker_environment().map(|path| site_packages(&path)).transpose()?.into_iter().flatten() {
        for entry in std::fs::read_dir(packages.join(types))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("etsi_nfv_sol001_") {
                std::fs::copy(entry.path(), folder.join("Definitions").join(entry.file_name()))?;
            }
        }
    }
    let archive = scratch.join("package.zip");
    let mut command = std::process::Command::new("python3");
    command.args(["-m", "zipfile", "-c"]).arg(&archive).args(["TOSCA-Metadata", "Definitions", "BaseHOT"]);
    let output = command.current_dir(&folder).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(std::fs::read(archive)?)
}

/// Where the packages of an environment are: the folder has the version of Python in its name.
fn site_packages(environment: &Path) -> Result<Option<PathBuf>, Failure> {
    for version in std::fs::read_dir(environment.join("lib"))? {
        let path = version?.path().join("site-packages");
        if path.is_dir() {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Copies a folder.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
