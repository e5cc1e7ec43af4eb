//! `drystone up` as a process, and clients of it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Certificate, Client, Identity, StatusCode};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::{Failure, Setting};

/// The image archive that pods run.
pub(crate) const IMAGES: &str = "target/images/hello.tar";

/// The example site.
const SITE: &str = "examples/sites/rack.yaml";

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// How often something is looked at that cannot be watched.
const INTERVAL: Duration = Duration::from_millis(10);
/// How often a request may be refused because there are too many, a second apart.
const MOST_REFUSALS: u32 = 60;

/// A Drystone that runs.
pub(crate) struct Drystone {
    child: Child,
    program: PathBuf,
    data: PathBuf,
    /// `https://127.0.0.1:PORT`.
    pub(crate) url: String,
}

impl Drystone {
    /// Starts it and waits until it is ready.
    pub(crate) async fn start(setting: &Setting, data: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let log = std::fs::File::options().create(true).append(true).open(data.join("drystone.log"))?;
        let mut command = Command::new(&setting.program);
        command.arg("up").arg("--data").arg(data).args(["--listen", "127.0.0.1:0"]).args(arguments);
        let mut child =
            command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let line = tokio::time::timeout(PATIENCE, BufReader::new(output).lines().next_line()).await??;
        let url = line
            .as_deref()
            .and_then(|line| line.split_whitespace().find(|word| word.starts_with("https://")));
        let Some(url) = url.map(str::to_owned) else {
            let log = std::fs::read_to_string(data.join("drystone.log")).unwrap_or_default();
            return Err(format!("drystone up did not become ready:\n{log}").into());
        };
        Ok(Self { child, program: setting.program.clone(), data: data.to_owned(), url })
    }

    /// Starts it with the example site, under a name of its own and with its delays multiplied by `scale`.
    pub(crate) async fn with_site(setting: &Setting, data: &Path, scale: &str) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(SITE)
            .map_err(|error| format!("{SITE}: {error}; run this in the root of the repository"))?;
        let name = format!("b{}", std::process::id());
        let changed = text.replace("\nname: rack\n", &format!("\nname: {name}\n"));
        let changed = changed.replace("scale: 1.0", &format!("scale: {scale}"));
        let file = data.join("site.yaml");
        std::fs::write(&file, changed)?;
        let file = file.to_str().ok_or("the directory's name is not UTF-8")?;
        let arguments = ["--backend", "netns", "--site", file, "--image-archive", IMAGES];
        let drystone = Self::start(setting, data, &arguments).await?;
        if let Err(error) = drystone.wait_for_site(&name).await {
            drystone.stop().await?;
            return Err(error);
        }
        Ok(drystone)
    }

    async fn wait_for_site(&self, name: &str) -> Result<(), Failure> {
        let client = self.client()?;
        let system = format!("{}/apis/drystone.dev/v1alpha1/namespaces/drystone-system", self.url);
        let ready = async |path: &str| {
            let object = get(&client, &format!("{system}/{path}")).await?;
            Ok(object.filter(is_ready).map(|_| ()))
        };
        wait_until("the site", async || ready(&format!("sites/{name}")).await).await?;
        for agent in ["eth-a", "eth-b", "hsn"] {
            wait_until("a fabric", async || ready(&format!("fabricagents/{agent}")).await).await?;
        }
        Ok(())
    }

    /// A client with connections of its own, who may do everything.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let text = std::fs::read_to_string(self.data.join("kubeconfig"))?;
        let config: Value = serde_saphyr::from_str(&text)?;
        let bytes = |pointer: &str| -> Result<Vec<u8>, Failure> {
            let text = config.pointer(pointer).and_then(Value::as_str);
            Ok(STANDARD.decode(text.ok_or_else(|| format!("the kubeconfig has no {pointer}"))?)?)
        };
        let mut identity = bytes("/users/0/user/client-key-data")?;
        identity.extend(bytes("/users/0/user/client-certificate-data")?);
        let authority = Certificate::from_pem(&bytes("/clusters/0/cluster/certificate-authority-data")?)?;
        let identity = Identity::from_pem(&identity)?;
        Ok(Client::builder().no_proxy().tls_certs_only([authority]).identity(identity).build()?)
    }

    /// A client that knows kinds and can watch, who may do everything.
    pub(crate) async fn kube(&self) -> Result<kube::Client, Failure> {
        let file = kube::config::Kubeconfig::read_from(self.data.join("kubeconfig"))?;
        let options = kube::config::KubeConfigOptions::default();
        Ok(kube::Client::try_from(kube::Config::from_custom_kubeconfig(file, &options).await?)?)
    }

    /// A client of a cluster, by the kubeconfig that its users get.
    pub(crate) async fn cluster_client(&self, cluster: &str) -> Result<kube::Client, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["kubeconfig", cluster]).env("KUBECONFIG", self.data.join("kubeconfig"));
        let output = command.output().await?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let file = kube::config::Kubeconfig::from_yaml(&String::from_utf8(output.stdout)?)?;
        let config =
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// Memory that it holds, in MiB.
    pub(crate) fn memory(&self) -> Result<u64, Failure> {
        memory(self.child.id().ok_or("it has ended")?, "VmRSS")
    }

    /// Processor time that it has used so far.
    pub(crate) fn processor_time(&self) -> Result<Duration, Failure> {
        processor_time(self.child.id().ok_or("it has ended")?)
    }

    /// Stops it as a service manager would, and its site.
    pub(crate) async fn stop(mut self) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).ok_or("it has ended by itself")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }

    /// Kills it without a chance to write anything more.
    pub(crate) async fn kill(mut self) -> Result<(), Failure> {
        Ok(self.child.kill().await?)
    }
}

/// Memory of a process in MiB: what a field of its status says, such as `VmRSS`, or `VmHWM` for the most so far.
pub(crate) fn memory(pid: u32, field: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let of = |line: &str| line.strip_prefix(field)?.strip_prefix(':').map(str::to_owned);
    let line = status.lines().find_map(of).ok_or_else(|| format!("no {field}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? / 1024)
}

/// Processor time that a process has used so far, of all its threads.
pub(crate) fn processor_time(pid: u32) -> Result<Duration, Failure> {
    /// `USER_HZ`, which Linux shows to programs on every machine.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(')').ok_or("a process without a name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
    let (user, system) = (ticks(11).ok_or("no utime")?, ticks(12).ok_or("no stime")?);
    Ok(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

/// An object; `None` if there is none.
pub(crate) async fn get(client: &Client, url: &str) -> Result<Option<Value>, Failure> {
    let answer = client.get(url).send().await?;
    if answer.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    Ok(Some(answer.error_for_status()?.json().await?))
}

/// Creates an object.
pub(crate) async fn create(client: &Client, url: &str, object: &Value) -> Result<(), Failure> {
    for _ in 0..MOST_REFUSALS {
        let answer = client.post(url).json(object).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        match status {
            StatusCode::CREATED => return Ok(()),
            // As every client of Kubernetes does: not now, but soon.
            StatusCode::TOO_MANY_REQUESTS => tokio::time::sleep(Duration::from_secs(1)).await,
            _ => return Err(format!("POST {url}: {status}: {text}").into()),
        }
    }
    Err(format!("POST {url}: refused {MOST_REFUSALS} times for too many requests").into())
}

/// Whether an object's condition `Ready` is true.
pub(crate) fn is_ready(object: &Value) -> bool {
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Asks again until the answer is there.
pub(crate) async fn wait_until<T>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let asking = async {
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.unwrap_or_else(|_| Err(format!("{what} did not come within {} s", PATIENCE.as_secs()).into()))
}
