//! Running the system's network tools: typed arguments, text on standard input, a deadline, and the error as the tool
//! said it.
//!
//! `ip -batch` and `nft -f` do many changes in one process, `nft` atomically. Entering a network namespace is left to
//! `nsenter`, which costs a millisecond and keeps this process in one namespace.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command};

/// How long a tool may run.
const DEADLINE: Duration = Duration::from_secs(20);

/// A tool that could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error("`{program}` cannot be started: {source}; is it installed?")]
    Start {
        /// The tool.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("`{program}` failed: {message}")]
    Failed {
        /// The tool.
        program: String,
        /// What it wrote on standard error.
        message: String,
    },
    /// It did not end in time and was killed.
    #[error("`{program}` did not end within {} s", DEADLINE.as_secs())]
    Deadline {
        /// The tool.
        program: String,
    },
}

impl ToolError {
    /// Whether the tool said so.
    pub fn says(&self, text: &str) -> bool {
        matches!(self, Self::Failed { message, .. } if message.contains(text))
    }
}

/// Runs tools in a network namespace: this process's, or another.
#[derive(Debug, Clone, Default)]
pub struct Tools {
    namespace: Option<PathBuf>,
}

impl Tools {
    /// In the network namespace of this process.
    pub fn here() -> Self {
        Self::default()
    }

    /// In the network namespace that a path stands for, such as `/run/netns/NAME`.
    pub fn inside(namespace: impl Into<PathBuf>) -> Self {
        Self { namespace: Some(namespace.into()) }
    }

    /// The namespace, unless it is this process's.
    pub fn namespace(&self) -> Option<&Path> {
        self.namespace.as_deref()
    }

    /// Runs a program with arguments and standard input; returns what it wrote on standard output.
    ///
    /// # Errors
    /// [`ToolError`] if it cannot be started, ends with an error or does not end in time.
    pub async fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ToolError> {
        let start = |source| ToolError::Start { program: program.to_owned(), source };
        let mut command = match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net={}", namespace.display())).arg(program);
                command
            }
        };
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().map_err(start)?;
        let stdin = child.stdin.take();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A tool that ends without reading has its own error to tell.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let done = tokio::time::timeout(DEADLINE, async { tokio::join!(feed, child.wait_with_output()).1 });
        let Ok(output) = done.await else { return Err(ToolError::Deadline { program: program.to_owned() }) };
        let output = output.map_err(start)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let message = if message.is_empty() { output.status.to_string() } else { message };
        Err(ToolError::Failed { program: program.to_owned(), message })
    }

    /// Runs several `ip` commands, in order, until one fails.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn ip(&self, batch: &str) -> Result<String, ToolError> {
        self.run("ip", &["-batch", "-"], batch).await
    }

    /// Applies an nftables script, all of it or nothing.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn nft(&self, script: &str) -> Result<(), ToolError> {
        self.run("nft", &["-f", "-"], script).await.map(drop)
    }

    /// Sets a kernel parameter, `net.ipv4.ip_forward=1`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn sysctl(&self, assignment: &str) -> Result<(), ToolError> {
        self.run("sysctl", &["-qw", assignment], "").await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_input_and_errors_get_through() {
        let tools = Tools::here();
        assert_eq!(tools.run("cat", &[], "hello").await.unwrap(), "hello");
        let error = tools.run("sh", &["-c", "echo no such thing >&2; exit 3"], "").await.unwrap_err();
        assert!(error.says("no such thing"), "{error}");
        let missing = tools.run("/nonexistent/tool", &[], "").await.unwrap_err();
        assert!(matches!(missing, ToolError::Start { .. }), "{missing}");
    }
}
