//! Where the demo plays: a data directory, Drystone as a process of its own, kubectl.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use super::DemoArgs;
use crate::command::Failure;

/// How long Drystone may take until it is ready, and until it is gone.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// How long one kubectl command may take.
const KUBECTL_LIMIT: Duration = Duration::from_secs(600);

/// The stage.
pub(super) struct Stage {
    pub(super) examples: PathBuf,
    data: PathBuf,
    temporary: bool,
    drystone: Option<Child>,
}

impl Stage {
    /// Makes the data directory.
    pub(super) fn prepare(args: &DemoArgs) -> Result<Self, Failure> {
        let (data, temporary) = match &args.data {
            Some(data) => (data.clone(), false),
            None => (std::env::temp_dir().join(format!("drystone-demo-{}", std::process::id())), true),
        };
        std::fs::create_dir_all(&data).map_err(|error| format!("making {}: {error}", data.display()))?;
        let data = data.canonicalize()?;
        Ok(Self { examples: args.examples.clone(), data, temporary, drystone: None })
    }

    /// A file in the data directory.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Starts Drystone with the example site and waits until it says that it is ready.
    pub(super) async fn start(&mut self) -> Result<String, Failure> {
        let program = std::env::current_exe()?;
        let log = std::fs::File::create(self.data("drystone.log"))?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data").arg(&self.data).args(["--listen", "127.0.0.1:0"]);
        command.arg("--site").arg(self.examples.join("sites/rack.yaml"));
        command.args(["--backend", "sim"]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .spawn()
            .map_err(|error| format!("starting drystone up: {error}"))?;
        let output = child.stdout.take().ok_or("drystone up has no output")?;
        self.drystone = Some(child);
        let mut lines = BufReader::new(output).lines();
        let ready = tokio::time::timeout(START_LIMIT, async {
            while let Some(line) = lines.next_line().await? {
                if line.contains("ready") {
                    return Ok::<_, Failure>(line);
                }
            }
            Err("drystone up ended before it was ready; see drystone.log".into())
        });
        ready.await.map_err(|_| format!("drystone up was not ready within {} s", START_LIMIT.as_secs()))?
    }

    /// Runs `kubectl` against Drystone.
    pub(super) async fn kubectl<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Failure> {
        run("kubectl", &self.data("kubeconfig"), arguments).await
    }

    /// Runs this program against Drystone.
    pub(super) async fn drystone<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Failure> {
        let program = std::env::current_exe()?;
        run(program, &self.data("kubeconfig"), arguments).await
    }

    /// Words for somebody who wants to look around.
    pub(super) fn how_to_go_on(&self) -> String {
        let data = self.data.display();
        let pid = self.drystone.as_ref().and_then(Child::id).unwrap_or_default();
        format!(
            "Still running. Look around with\n  export KUBECONFIG={data}/kubeconfig\nand stop it all with\n  kill {pid}"
        )
    }

    /// Lets Drystone live on.
    pub(super) fn leave_running(&mut self) {
        if let Some(child) = self.drystone.take() {
            std::mem::forget(child);
        }
        self.temporary = false;
    }

    /// The end of the log, for a phase that failed.
    pub(super) fn show_logs(&self) {
        let text = std::fs::read_to_string(self.data("drystone.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        println!("\nthe last lines of drystone.log:");
        for line in lines.iter().skip(lines.len().saturating_sub(40)) {
            println!("  {line}");
        }
    }

    /// Stops Drystone and removes its data; returns what is left against expectation.
    pub(super) async fn tear_down(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        if let Some(mut child) = self.drystone.take()
            && let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok())
        {
            if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM) {
                left.push(format!("process {pid}: {error}"));
            }
            if tokio::time::timeout(STOP_LIMIT, child.wait()).await.is_err() {
                left.push(format!("process {pid} did not end within {} s", STOP_LIMIT.as_secs()));
                if let Err(error) = child.kill().await {
                    left.push(format!("process {pid}: {error}"));
                }
            }
        }
        left.extend(crate::up::sites::leftovers(&self.examples.join("sites/rack.yaml"), &self.data));
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.data)
        {
            left.push(format!("{}: {error}", self.data.display()));
        }
        left
    }
}

/// Runs a program with a kubeconfig and returns what it prints.
async fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    kubeconfig: &Path,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String, Failure> {
    let mut command = Command::new(&program);
    command.args(arguments).env("KUBECONFIG", kubeconfig).stdin(Stdio::null()).kill_on_drop(true);
    let name = program.as_ref().to_string_lossy().into_owned();
    let output = tokio::time::timeout(KUBECTL_LIMIT, command.output())
        .await
        .map_err(|_| format!("{name} did not end within {} s", KUBECTL_LIMIT.as_secs()))?
        .map_err(|error| format!("starting {name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim_end()).into())
}
