//! Switching hosts on and off.
//!
//! A host that is on has a network namespace with its NICs, cabled to the switches, and (unless it found nothing to
//! boot) a PID 1 in namespaces of its own. A host that is off has files on its disk and nothing else: no process, no
//! interface, no mount, no cgroup. What a host is doing is read from the kernel and from the file that its PID 1 writes,
//! never remembered; so it does not matter whether this emulator switched it on or one before it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{sys::signal::Signal, sys::signal::kill, unistd::Pid};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use super::{
    boot_spec::{BootSpec, Device, HostFiles},
    cgroup::Hierarchies,
    command::{Tool, ToolError},
    guest, names, namespace,
    plan::NicPlan,
    process,
    progress::{self, ProgressWriter, Stage},
    switch::{self, DownPorts},
};
use crate::backend::{BootSource, BootState};

/// How long PID 1 may take from its start to its first sign of life.
const START_DEADLINE: Duration = Duration::from_secs(30);
/// How long killed processes may take to vanish.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// Why a host could not be switched on or off.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("its PID 1 ended at once ({status}); the end of {console}: {last}")]
    DiedAtStart { status: String, console: String, last: String },
    #[error("its PID 1 gave no sign of life within {seconds} s; see {console}")]
    Silent { seconds: u64, console: String },
    #[error(
        "network namespace {namespace} belongs to the emulator that runs from {owner}; rename the host or the site"
    )]
    Foreign { namespace: String, owner: String },
    #[error("processes {0:?} do not end although they were killed")]
    Unkillable(Vec<i32>),
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> HostError {
    move |source| HostError::Io { what: what.into(), source }
}

/// A host, as far as switching it on and off is concerned.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) site: String,
    pub(super) name: String,
    pub(super) nics: Vec<NicPlan>,
    pub(super) files: HostFiles,
    pub(super) cgroups: Hierarchies,
    /// Whom its namespace is marked with.
    pub(super) owner: String,
    /// Devices of the machine that it has.
    pub(super) devices: Vec<Device>,
}

/// What a host boots with, beside its boot source.
#[derive(Debug, Clone)]
pub(super) struct Program {
    /// The binary that is PID 1 and `/usr/local/bin/drystone`.
    pub(super) executable: PathBuf,
    /// Directories of the machine that hosts must not see.
    pub(super) hidden: Vec<PathBuf>,
    /// Files of the machine that hosts see at their paths, though these be in a directory that they do not see.
    pub(super) shown: Vec<PathBuf>,
}

impl Host {
    pub(super) fn namespace(&self) -> String {
        names::host(&self.site, &self.name)
    }

    fn cgroup(&self) -> PathBuf {
        Path::new(&names::cgroup(&self.site)).join(&self.name)
    }

    /// How far its boot has come. `Off` also for a host whose PID 1 has ended but that was not tidied up yet; see
    /// [`Host::is_untidy`].
    pub(super) fn boot_state(&self) -> io::Result<BootState> {
        if !namespace::exists(&self.namespace()) {
            return Ok(BootState::Off);
        }
        Ok(match progress::last(&self.files.progress())? {
            None => BootState::PostInProgress,
            Some(progress) if progress.init.is_some_and(|init| !init.is_alive()) => BootState::Off,
            Some(progress) => progress.stage.into(),
        })
    }

    /// Whether it is off and something of its last run is still there.
    pub(super) fn is_untidy(&self) -> bool {
        let off = self.boot_state().is_ok_and(|state| state == BootState::Off);
        off && (namespace::path(&self.namespace()).exists()
            || self.files.progress().exists()
            || !self.cgroups.existing(&self.cgroup()).is_empty())
    }

    /// Switches it on; it must be off and tidy. Returns the process to wait for, if it booted anything.
    pub(super) async fn power_on(
        &self,
        boot: &BootSource,
        program: &Program,
        down: &DownPorts,
    ) -> Result<Option<Child>, HostError> {
        let directory = &self.files.directory;
        fs::create_dir_all(directory).map_err(io_error(directory.display().to_string()))?;
        self.plug_in(down).await?;
        if matches!(boot, BootSource::Disk) && !self.files.has_booted() {
            let mut progress =
                ProgressWriter::open(&self.files.progress(), None).map_err(io_error("progress"))?;
            progress
                .report(Stage::NoBoot, "the disk holds nothing bootable")
                .map_err(io_error("progress"))?;
            return Ok(None);
        }
        let spec = BootSpec {
            site: self.site.clone(),
            host: self.name.clone(),
            directory: directory.clone(),
            medium: match boot {
                BootSource::Medium(path) => Some(path.clone()),
                BootSource::Disk => None,
            },
            executable: program.executable.clone(),
            hidden: program.hidden.clone(),
            shown: program.shown.clone(),
            devices: self.devices.clone(),
            cgroups: self.cgroups.clone(),
        };
        spec.write(&self.files.spec()).map_err(io_error(self.files.spec().display().to_string()))?;
        self.cgroups
            .create(&names::cgroup(&self.site), &self.name)
            .map_err(io_error(format!("cgroup {}", self.cgroup().display())))?;
        let mut child = self.start_init(program)?;
        self.wait_for_life(&mut child).await?;
        Ok(Some(child))
    }

    /// Makes the network namespace and cables its NICs.
    pub(super) async fn plug_in(&self, down: &DownPorts) -> Result<(), HostError> {
        let namespace = self.namespace();
        namespace::create(&namespace).await?;
        namespace::mark(&namespace, &self.owner).await?;
        let mut cables = Vec::new();
        for NicPlan { interface, mac, port } in &self.nics {
            cables.push(format!(
                "link add {interface} address {mac} type veth peer name {} netns {}",
                port.interface, port.namespace
            ));
        }
        if !cables.is_empty() {
            Tool::ip_batch_in(&namespace, &cables).run().await?;
        }
        let switches: BTreeSet<&str> = self.nics.iter().map(|nic| nic.port.namespace.as_str()).collect();
        for switch in switches {
            let ports = self.nics.iter().map(|nic| &nic.port).filter(|port| port.namespace == switch);
            let lines: Vec<String> = ports
                .flat_map(|port| switch::attach(&port.interface, down.is_up(switch, &port.interface)))
                .collect();
            Tool::ip_batch_in(switch, &lines).run().await?;
        }
        Ok(())
    }

    /// Starts PID 1 in new namespaces. `unshare` stays as its parent; both outlive this process.
    fn start_init(&self, program: &Program) -> Result<Child, HostError> {
        let console = self.files.console();
        let output = open_console(&console).map_err(io_error(console.display().to_string()))?;
        let errors = output.try_clone().map_err(io_error(console.display().to_string()))?;
        Command::new("nsenter")
            .arg(format!("--net={}", namespace::path(&self.namespace()).display()))
            .args(["unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--propagation", "private"])
            .arg(&program.executable)
            .arg(guest::INIT)
            .arg(self.files.spec())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(io_error("starting nsenter (package util-linux)"))
    }

    async fn wait_for_life(&self, child: &mut Child) -> Result<(), HostError> {
        let console = self.files.console();
        let end = Instant::now() + START_DEADLINE;
        let mut pause = Duration::from_millis(2);
        loop {
            if progress::last(&self.files.progress()).map_err(io_error("progress"))?.is_some() {
                return Ok(());
            }
            if let Some(status) = child.try_wait().map_err(io_error("waiting for PID 1"))? {
                return Err(HostError::DiedAtStart {
                    status: status.to_string(),
                    last: last_line(&console),
                    console: console.display().to_string(),
                });
            }
            if Instant::now() >= end {
                let console = console.display().to_string();
                return Err(HostError::Silent { seconds: START_DEADLINE.as_secs(), console });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Asks PID 1 to shut down.
    pub(super) fn shut_down(&self) -> Result<(), HostError> {
        let progress = progress::last(&self.files.progress()).map_err(io_error("progress"))?;
        let Some(init) = progress.and_then(|progress| progress.init) else { return Ok(()) };
        init.signal(Signal::SIGTERM).map_err(|error| io_error("SIGTERM to PID 1")(error.into()))
    }

    /// Switches it off at once and tidies up; nothing happens if it is off and tidy.
    pub(super) async fn power_off(&self) -> Result<(), HostError> {
        self.end_processes().await?;
        let switches: BTreeSet<&str> = self.nics.iter().map(|nic| nic.port.namespace.as_str()).collect();
        for switch in switches {
            // The kernel takes a namespace apart at its leisure; the ports shall be free now.
            let ports = self.nics.iter().map(|nic| &nic.port).filter(|port| port.namespace == switch);
            switch::detach(switch, &ports.map(|port| port.interface.as_str()).collect()).await?;
        }
        self.tidy_up().await
    }

    /// Switches it off when its switches are about to go too, and with them its cables, which saves unplugging them.
    pub(super) async fn power_off_with_site(&self) -> Result<(), HostError> {
        self.end_processes().await?;
        self.tidy_up().await
    }

    /// Pulls its cables out, so that the ports at their other ends are free now.
    pub(super) async fn unplug(&self) -> Result<(), HostError> {
        let namespace = self.namespace();
        if namespace::owner(&namespace).await.as_deref() != Some(&self.owner) {
            return Ok(());
        }
        let cables =
            namespace::links(&namespace).await?.into_iter().filter(|link| link.name.starts_with("eth"));
        let lines: Vec<String> = cables.map(|link| format!("link delete {}", link.name)).collect();
        if !lines.is_empty() {
            Tool::ip_batch_in(&namespace, &lines).run().await?;
        }
        Ok(())
    }

    async fn end_processes(&self) -> Result<(), HostError> {
        let namespace = self.namespace();
        if let Some(owner) = namespace::owner(&namespace).await
            && owner != self.owner
            && Path::new(&owner).exists()
        {
            return Err(HostError::Foreign { namespace, owner });
        }
        self.kill_all(&namespace).await
    }

    /// Removes what is left of it in the kernel and among the files.
    async fn tidy_up(&self) -> Result<(), HostError> {
        namespace::delete(&self.namespace()).await?;
        self.cgroups
            .remove(&names::cgroup(&self.site), &self.name)
            .map_err(io_error(format!("removing cgroup {}", self.cgroup().display())))?;
        for file in [self.files.progress(), self.files.spec()] {
            remove_file(&file)?;
        }
        match fs::remove_dir(self.files.root()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("removing the mount point")(error))
            }
            _ => Ok(()),
        }
    }

    /// Kills PID 1, and with it its namespace; then whatever else is in the host's cgroup or network.
    async fn kill_all(&self, namespace: &str) -> Result<(), HostError> {
        let progress = progress::last(&self.files.progress()).map_err(io_error("progress"))?;
        if let Some(init) = progress.and_then(|progress| progress.init) {
            init.signal(Signal::SIGKILL).map_err(|error| io_error("SIGKILL to PID 1")(error.into()))?;
            init.wait_for_end(KILL_DEADLINE).await;
        }
        let end = Instant::now() + KILL_DEADLINE;
        let mut pause = Duration::from_millis(1);
        loop {
            let mut left = self.cgroups.processes(&self.cgroup());
            left.extend(namespace::inode(namespace).into_iter().flat_map(process::in_network_namespace));
            left.retain(|pid| !process::is_zombie(*pid));
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(HostError::Unkillable(left));
            }
            for pid in left {
                // It may have ended since it was listed.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Forgets its disk; it must be off.
    pub(super) fn wipe_disk(&self) -> Result<(), HostError> {
        let disk = self.files.disk();
        match fs::remove_dir_all(&disk) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error(disk.display().to_string())(error))
            }
            _ => Ok(()),
        }
    }
}

fn remove_file(path: &Path) -> Result<(), HostError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error(path.display().to_string())(error))
        }
        _ => Ok(()),
    }
}

/// A console log longer than this is begun anew when a host boots, in bytes.
const MAX_CONSOLE: u64 = 1 << 20;

/// What earlier boots said stays, as on a serial console that is recorded.
fn open_console(path: &Path) -> std::io::Result<fs::File> {
    if fs::metadata(path).is_ok_and(|found| found.len() > MAX_CONSOLE) {
        fs::remove_file(path)?;
    }
    fs::OpenOptions::new().create(true).append(true).open(path)
}

fn last_line(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().next_back().unwrap_or("(nothing)").to_owned()
}
