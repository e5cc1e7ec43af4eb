//! containerd's process: started if nothing answers on its socket, started again when it ends.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use drystone_identity::files::{FileError, write_public};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Settings, configuration::find_program};
use crate::cri::Runtime;

/// How long containerd may take to answer after its start.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How often a containerd that is not our child is looked after.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// Longest pause between starts of a containerd that keeps ending.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A log longer than this is set aside when containerd starts, in bytes.
const MAX_LOG: u64 = 16 << 20;

/// Name of its configuration file.
pub(super) const CONFIGURATION: &str = "containerd.toml";

/// containerd cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A configuration file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A directory or link cannot be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// containerd is not installed, or cannot be started.
    #[error("containerd cannot be started: {0}; is it installed?")]
    Start(io::Error),
    /// It does not answer.
    #[error("containerd does not answer {} s after its start; see {}", START_DEADLINE.as_secs(), log.display())]
    Silent {
        /// Its log.
        log: PathBuf,
    },
    /// It ended while it was started.
    #[error("containerd ended with {status} while it started; see {}", log.display())]
    Ended {
        /// How.
        status: std::process::ExitStatus,
        /// Its log.
        log: PathBuf,
    },
}

/// Runs containerd.
#[derive(Debug)]
pub struct Supervisor {
    settings: Settings,
    runtime: Runtime,
    directory: PathBuf,
    child: Option<Child>,
}

impl Supervisor {
    /// A supervisor that keeps configuration and log in `directory`.
    pub fn new(settings: Settings, runtime: Runtime, directory: PathBuf) -> Self {
        Self { settings, runtime, directory, child: None }
    }

    /// Writes the configuration, and starts containerd unless it runs. It answers when this returns.
    ///
    /// # Errors
    /// [`SupervisorError`] if it cannot be run.
    pub async fn ensure_running(&mut self) -> Result<(), SupervisorError> {
        self.write_files()?;
        if self.answers().await {
            return Ok(());
        }
        self.child = Some(self.start()?);
        let deadline = Instant::now() + START_DEADLINE;
        let mut pause = Duration::from_millis(10);
        loop {
            if timeout_at(deadline, self.runtime.version()).await.is_ok_and(|answer| answer.is_ok()) {
                return Ok(());
            }
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Err(SupervisorError::Ended { status, log: self.log() });
            }
            if Instant::now() >= deadline {
                return Err(SupervisorError::Silent { log: self.log() });
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
    }

    /// Keeps containerd running until `shutdown`; then leaves it running, for pods go on without the agent.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut pause = Duration::from_millis(100);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.ended() => {}
            }
            tracing::warn!("containerd does not run; starting it");
            match self.ensure_running().await {
                Ok(()) => pause = Duration::from_millis(100),
                Err(error) => {
                    tracing::error!(%error, "starting containerd");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
                    }
                }
            }
        }
    }

    /// Returns when containerd has ended.
    async fn ended(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.wait().await;
            self.child = None;
            return;
        }
        // An earlier agent started it, so its end is no event here.
        while self.answers().await {
            sleep(CHECK_INTERVAL).await;
        }
    }

    async fn answers(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        timeout_at(deadline, self.runtime.version()).await.is_ok_and(|answer| answer.is_ok())
    }

    fn start(&self) -> Result<Child, SupervisorError> {
        let log = self.log();
        let io = |source| SupervisorError::Io { path: log.clone(), source };
        if fs::metadata(&log).is_ok_and(|log| log.len() > MAX_LOG) {
            fs::rename(&log, log.with_extension("log.old")).map_err(io)?;
        }
        let output = OpenOptions::new().create(true).append(true).open(&log).map_err(io)?;
        let program = find_program("containerd")
            .ok_or_else(|| SupervisorError::Start(io::ErrorKind::NotFound.into()))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config_path());
        command.stdin(Stdio::null()).stdout(output.try_clone().map_err(io)?).stderr(output);
        // Whatever ends the agent's process group does not end pods.
        command.process_group(0).kill_on_drop(false);
        command.spawn().map_err(SupervisorError::Start)
    }

    fn config_path(&self) -> PathBuf {
        self.directory.join(CONFIGURATION)
    }

    fn log(&self) -> PathBuf {
        self.directory.join("containerd.log")
    }

    fn write_files(&self) -> Result<(), SupervisorError> {
        let settings = &self.settings;
        for directory in [&self.directory, &settings.cni_programs, &settings.cni_configurations] {
            fs::create_dir_all(directory)
                .map_err(|source| SupervisorError::Io { path: directory.clone(), source })?;
        }
        write_public(&self.config_path(), settings.config_toml().as_bytes())?;
        let own = std::env::current_exe()
            .map_err(|source| SupervisorError::Io { path: "/proc/self/exe".into(), source })?;
        let loopback = ["/usr/lib/cni/loopback", "/opt/cni/bin/loopback"].map(PathBuf::from);
        let loopback = loopback.into_iter().find(|path| path.is_file()).unwrap_or_else(|| own.clone());
        link(&own, &settings.cni_programs.join("drystone-cni"))?;
        link(&loopback, &settings.cni_programs.join("loopback"))
    }
}

/// Makes or replaces a symbolic link, by rename: the runtime may be starting the plugin just now.
fn link(target: &Path, path: &Path) -> Result<(), SupervisorError> {
    let temporary = path.with_extension("new");
    let io = |source| SupervisorError::Io { path: path.to_owned(), source };
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    symlink(target, &temporary).and_then(|()| fs::rename(&temporary, path)).map_err(io)
}
