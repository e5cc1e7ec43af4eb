//! A process that is not trusted: templates of strangers may compute for ever, ask for all memory, or print without end.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use nix::{sys::signal, unistd::Pid};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time,
};

/// The most of an error text that is kept.
const MOST_WORDS: usize = 64 << 10;
/// Sets the limits, which the program inherits. One that is lower already stays; the last is in blocks of 512 bytes.
const LIMITED: &str = r#"
ulimit -t "$1" 2>/dev/null; ulimit -d "$2" 2>/dev/null; ulimit -c 0 2>/dev/null; ulimit -f 2048 2>/dev/null
shift 2; exec "$@""#;

/// What a process may take at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessLimits {
    /// Time on the clock.
    pub wall: Duration,
    /// Seconds of processor time.
    pub processor: u64,
    /// Bytes of memory that it may write to.
    pub memory: u64,
    /// Bytes that it may print.
    pub output: usize,
}

impl Default for ProcessLimits {
    fn default() -> Self {
        Self { wall: Duration::from_secs(120), processor: 60, memory: 1 << 30, output: 64 << 20 }
    }
}

/// How a process is kept away from the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// In a network namespace of its own, made by root.
    Namespace,
    /// In a network namespace of its own, within a user namespace.
    UserNamespace,
    /// This machine lets us make no namespaces: helm is only asked for what needs no network.
    None,
}

impl fmt::Display for Confinement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Namespace => "in a network namespace of its own",
            Self::UserNamespace => "in user and network namespaces of its own",
            Self::None => "without a network namespace: this machine allows none",
        })
    }
}

impl Confinement {
    /// The best one that works here.
    pub async fn find() -> Self {
        for confinement in [Self::Namespace, Self::UserNamespace] {
            let mut command = confinement.command();
            command.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            if command.status().await.is_ok_and(|status| status.success()) {
                return confinement;
            }
        }
        Self::None
    }

    fn command(self) -> Command {
        let program = if self == Self::None { "env" } else { "unshare" };
        let mut command = Command::new(program);
        match self {
            Self::Namespace => command.arg("--net"),
            Self::UserNamespace => command.args(["--user", "--map-root-user", "--net"]),
            Self::None => &mut command,
        };
        command
    }
}

/// What a process printed.
#[derive(Debug, Clone, Default)]
pub struct Printed {
    /// Standard output.
    pub output: Vec<u8>,
    /// The beginning of standard error.
    pub words: String,
}

/// A process did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// It cannot be started.
    #[error("starting {}: {why}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        why: String,
    },
    /// Its output cannot be read.
    #[error("reading what helm prints: {0}")]
    Read(String),
    /// It ended with an error.
    #[error("helm: {0}")]
    Failed(String),
    /// It took too long.
    #[error("helm did not end within {} s; the chart's templates compute too much", .0.as_secs())]
    TooSlow(Duration),
    /// It was ended from outside, which the limits of memory and processor time do.
    #[error(
        "helm was ended by signal {0}: the chart's templates need more processor time or memory than they may have"
    )]
    Ended(i32),
    /// It asked for more memory than it may have.
    #[error("helm ran out of the {} MiB that it may have; the chart's templates need too much memory", .0 >> 20)]
    TooMuchMemory(u64),
    /// It printed too much.
    #[error("helm printed more than {0} bytes; make a smaller chart, or split it into several apps")]
    TooMuchOutput(usize),
}

/// Ends a process and all that it started, unless it was waited for.
struct Group {
    leader: Option<Pid>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            // It may have ended by itself meanwhile.
            let _ = signal::killpg(leader, signal::Signal::SIGKILL);
        }
    }
}

/// Runs a program in a process group of its own with nothing of the user's environment; `directory` is its home and where it works.
pub(super) async fn run(
    program: &Path,
    arguments: &[String],
    directory: &Path,
    limits: &ProcessLimits,
    confinement: Confinement,
) -> Result<Printed, ProcessError> {
    let start =
        |error: std::io::Error| ProcessError::Start { program: program.to_owned(), why: error.to_string() };
    let mut command = confinement.command();
    command.args([
        "sh",
        "-c",
        LIMITED,
        "sh",
        &limits.processor.to_string(),
        &(limits.memory >> 10).to_string(),
    ]);
    command.arg(program).args(arguments);
    surroundings(&mut command, directory, limits);
    // After `child`, so that it is dropped first: the group is ended before its leader's number can be another's.
    let mut child = command.spawn().map_err(start)?;
    let mut group = Group { leader: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) };
    match time::timeout(limits.wall, attend(&mut child, limits)).await {
        Err(_) => Err(ProcessError::TooSlow(limits.wall)),
        Ok(Err(error)) => Err(error),
        Ok(Ok((printed, status))) => {
            group.leader = None;
            judge(printed, status, limits)
        }
    }
}

fn surroundings(command: &mut Command, directory: &Path, limits: &ProcessLimits) {
    command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_default());
    command.env("HOME", directory).env("TMPDIR", directory).env("KUBECONFIG", "/dev/null");
    for (name, place) in [
        ("HELM_CACHE_HOME", "helm-cache"),
        ("HELM_CONFIG_HOME", "helm-config"),
        ("HELM_DATA_HOME", "helm-data"),
        ("HELM_PLUGINS", "helm-plugins"),
    ] {
        command.env(name, directory.join(place));
    }
    // The collector of garbage works harder when memory gets scarce, before the limit ends the process.
    command.env("GOMEMLIMIT", (limits.memory / 4 * 3).to_string()).env("LC_ALL", "C");
    command.current_dir(directory).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// Reads all that a process prints, and waits for its end.
async fn attend(child: &mut Child, limits: &ProcessLimits) -> Result<(Printed, ExitStatus), ProcessError> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let output = async {
        let output = bounded(stdout, limits.output.saturating_add(1)).await?;
        // Beyond the limit nothing more is read, nor waited for.
        if output.len() > limits.output {
            Err(ProcessError::TooMuchOutput(limits.output))
        } else {
            Ok(output)
        }
    };
    let words = async {
        let mut stderr = stderr;
        let words = bounded(stderr.as_mut(), MOST_WORDS).await?;
        // What is beyond is read and forgotten, or the process would wait for a reader.
        if let Some(stderr) = &mut stderr {
            let forgotten = tokio::io::copy(stderr, &mut tokio::io::sink()).await;
            forgotten.map_err(|error| ProcessError::Read(error.to_string()))?;
        }
        Ok(words)
    };
    let (output, words) = tokio::try_join!(output, words)?;
    let status = child.wait().await.map_err(|error| ProcessError::Read(error.to_string()))?;
    Ok((Printed { output, words: String::from_utf8_lossy(&words).into_owned() }, status))
}

async fn bounded(stream: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, ProcessError> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let most = u64::try_from(most).unwrap_or(u64::MAX);
        let read = stream.take(most).read_to_end(&mut bytes).await;
        read.map_err(|error| ProcessError::Read(error.to_string()))?;
    }
    Ok(bytes)
}

fn judge(printed: Printed, status: ExitStatus, limits: &ProcessLimits) -> Result<Printed, ProcessError> {
    use std::os::unix::process::ExitStatusExt;

    if status.success() {
        return Ok(printed);
    }
    if let Some(number) = status.signal() {
        return Err(ProcessError::Ended(number));
    }
    let words = printed.words.trim();
    // The words of the Go runtime, before pages of what every thread was doing.
    if ["out of memory", "cannot allocate memory", "failed to reserve", "failed to create new OS thread"]
        .iter()
        .any(|sign| {
            words.starts_with("fatal error: ") && words.contains(sign)
                || words.starts_with("runtime: ") && words.contains(sign)
        })
    {
        return Err(ProcessError::TooMuchMemory(limits.memory));
    }
    let said: String = words.chars().take(4000).collect();
    let said =
        said.trim_start_matches("Error: ").replace("\n\nUse --debug flag to render out invalid YAML", "");
    let told = if said.is_empty() { format!("ended with {status} and said nothing") } else { said };
    Err(ProcessError::Failed(told))
}
