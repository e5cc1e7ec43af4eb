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

use super::{DemoArgs, report::Report};
use crate::command::Failure;

/// How long Drystone may take until it is ready, and until it is gone.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(120);

/// How long one kubectl command may take.
const KUBECTL_LIMIT: Duration = Duration::from_secs(600);

/// How long an answer from the site may take.
const FETCH_LIMIT: Duration = Duration::from_secs(5);

/// The stage.
pub(super) struct Stage {
    pub(super) examples: PathBuf,
    /// Why hosts are simulated, if they are.
    pub(super) simulated: Option<String>,
    /// The site that Drystone is started with.
    site: PathBuf,
    images: PathBuf,
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
        let simulated = why_simulated(args);
        let (examples, images) = (args.examples.clone(), args.images.clone());
        let site = examples.join(args.play.site());
        Ok(Self { examples, simulated, site, images, data, temporary, drystone: None })
    }

    /// A file in the data directory.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Starts Drystone with the example site and waits until it says that it is ready. `more` are further arguments.
    pub(super) async fn start(&mut self, more: &[&str]) -> Result<String, Failure> {
        let program = std::env::current_exe()?;
        let log = std::fs::File::create(self.data("drystone.log"))?;
        let mut command = Command::new(program);
        command.arg("up").arg("--data").arg(&self.data).args(["--listen", "127.0.0.1:0"]);
        command.arg("--site").arg(&self.site).args(more);
        if self.simulated.is_some() {
            command.args(["--backend", "sim"]);
        } else {
            command.args(["--backend", "netns"]).arg("--image-archive").arg(&self.images);
        }
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
        self.kubectl_at(&self.data("kubeconfig"), arguments).await
    }

    /// Applies objects with `kubectl`, which reads them from a file that only it can read.
    pub(super) async fn apply(&self, objects: &[serde_json::Value]) -> Result<String, Failure> {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let file = self.data("apply.json");
        drystone_identity::files::write_private(&file, list.to_string().as_bytes())?;
        let applied = self.kubectl(["apply".as_ref(), "-f".as_ref(), file.as_os_str()]).await;
        std::fs::remove_file(&file)?;
        applied
    }

    /// Runs `kubectl` against whatever the kubeconfig leads to.
    pub(super) async fn kubectl_at<S: AsRef<OsStr>>(
        &self,
        kubeconfig: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Failure> {
        run("kubectl", kubeconfig, arguments).await
    }

    /// Runs this program against Drystone.
    pub(super) async fn drystone<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Failure> {
        self.drystone_at(&self.data("kubeconfig"), arguments).await
    }

    /// Runs this program against whatever the kubeconfig leads to.
    pub(super) async fn drystone_at<S: AsRef<OsStr>>(
        &self,
        kubeconfig: &Path,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<String, Failure> {
        run(std::env::current_exe()?, kubeconfig, arguments).await
    }

    /// Runs this program against Drystone and shows what it prints as it comes.
    pub(super) async fn drystone_shown<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        report: &Report,
    ) -> Result<(), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).env("KUBECONFIG", self.data("kubeconfig"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let show = async {
            while let Some(line) = lines.next_line().await? {
                report.line(&line);
            }
            Ok::<_, Failure>(child.wait().await?)
        };
        let status = tokio::time::timeout(KUBECTL_LIMIT, show)
            .await
            .map_err(|_| format!("drystone did not end within {} s", KUBECTL_LIMIT.as_secs()))??;
        if status.success() { Ok(()) } else { Err(format!("drystone ended with {status}").into()) }
    }

    /// Asks an address of the site over HTTP, from the campus.
    pub(super) async fn fetch(&self, address: &str) -> Result<String, Failure> {
        let proxy = self.drystone(["site", "proxy", "rack"]).await?;
        let client =
            reqwest::Client::builder().proxy(reqwest::Proxy::http(proxy)?).timeout(FETCH_LIMIT).build()?;
        let answer = client.get(format!("http://{address}/")).send().await?.error_for_status()?;
        Ok(answer.text().await?.trim_end().to_owned())
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
        left.extend(crate::up::sites::leftovers(&self.site, &self.data));
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.data)
        {
            left.push(format!("{}: {error}", self.data.display()));
        }
        left
    }
}

/// Why hosts cannot be more than simulated on this machine, or are not wanted to be.
fn why_simulated(args: &DemoArgs) -> Option<String> {
    if args.simulate {
        return Some("--simulate says so".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        return Some("real ones need root".to_owned());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let missing: Vec<&str> =
        ["containerd", "ctr", "ip", "nft", "conntrack"].into_iter().filter(|program| !has(program)).collect();
    if !missing.is_empty() {
        return Some(format!("this machine lacks {}", missing.join(", ")));
    }
    (!args.images.is_file()).then(|| format!("there is no image archive {}", args.images.display()))
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
