//! Runs command-line tools: argument vectors (never a shell), text on standard input, a deadline, and an error that
//! shows what the tool said.

use std::{ffi::OsString, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// How long a tool may take unless told otherwise. They need milliseconds; a machine in distress needs seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum ToolError {
    /// The tool could not be started.
    #[error("cannot run {program}: {source}; install {package}")]
    Start {
        /// The program.
        program: String,
        /// The Debian package that holds it.
        package: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The tool ended with a failure.
    #[error("`{command}` failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// The tool answered in another form than the one it is known for.
    #[error("`{command}` answered in an unknown form: {error}")]
    Output {
        /// The command line.
        command: String,
        /// What is wrong with the answer.
        error: serde_json::Error,
    },
    /// The tool did not end in time and was killed.
    #[error("`{command}` did not end within {seconds} s and was killed")]
    TimedOut {
        /// The command line.
        command: String,
        /// The deadline.
        seconds: u64,
    },
}

/// One call of a tool.
#[derive(Debug)]
pub(super) struct Tool {
    program: &'static str,
    arguments: Vec<OsString>,
    input: Option<String>,
}

impl Tool {
    /// A call of `program` without arguments.
    pub(super) fn new(program: &'static str) -> Self {
        Self { program, arguments: Vec::new(), input: None }
    }

    /// `ip` working in a network namespace, with further arguments.
    pub(super) fn ip_in<const N: usize>(namespace: &str, arguments: [&str; N]) -> Self {
        Self::new("ip").arguments(["-n", namespace]).arguments(arguments)
    }

    /// Several `ip` commands in one process, in a network namespace; stops at the first that fails.
    pub(super) fn ip_batch_in(namespace: &str, lines: &[String]) -> Self {
        Self::new("ip").arguments(["-n", namespace, "-batch", "-"]).input(lines.join("\n") + "\n")
    }

    /// Any tool inside a network namespace. (`ip netns exec` would remount /sys.)
    pub(super) fn inside(namespace: &str, program: &str) -> Self {
        Self::new("nsenter")
            .arguments([format!("--net={}", super::namespace::path(namespace).display())])
            .arguments([program])
    }

    /// Adds arguments.
    pub(super) fn arguments<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Gives the tool text on standard input.
    pub(super) fn input(mut self, text: String) -> Self {
        self.input = Some(text);
        self
    }

    /// Runs the tool and returns what it wrote to standard output.
    pub(super) async fn run(self) -> Result<String, ToolError> {
        let command_line = self.command_line();
        let start = |source| ToolError::Start {
            program: self.program.to_owned(),
            package: package_of(self.program),
            source,
        };
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let pipe = child.stdin.take();
        let input = self.input.unwrap_or_default();
        let work = async {
            if let Some(mut pipe) = pipe {
                // A tool that fails early closes its input; its exit status tells the story.
                let _ = pipe.write_all(input.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let output = timeout(DEADLINE, work)
            .await
            .map_err(|_| ToolError::TimedOut { command: command_line.clone(), seconds: DEADLINE.as_secs() })?
            .map_err(start)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(ToolError::Failed {
            command: command_line,
            status: output.status,
            stderr: last_lines(&output.stderr),
        })
    }

    fn command_line(&self) -> String {
        let mut line = self.program.to_owned();
        for argument in &self.arguments {
            line.push(' ');
            line.push_str(&argument.to_string_lossy());
        }
        line
    }
}

/// The Debian package to install for a missing tool.
fn package_of(program: &str) -> &'static str {
    match program {
        "ip" => "iproute2",
        "nft" => "nftables",
        "nsenter" | "unshare" => "util-linux",
        _ => "the package that holds it",
    }
}

/// The end of a tool's complaint, short enough for a status message.
fn last_lines(stderr: &[u8]) -> String {
    const LINES: usize = 4;
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(LINES)..].join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failing_tool_says_what_it_said() {
        let error = Tool::new("ls").arguments(["/no/such/place"]).run().await.unwrap_err().to_string();
        assert!(error.contains("ls /no/such/place") && error.contains("No such file"), "{error}");
    }

    #[tokio::test]
    async fn a_missing_tool_names_its_package() {
        let missing = Tool { program: "no-such-tool-here", arguments: Vec::new(), input: None };
        assert!(matches!(missing.run().await, Err(ToolError::Start { .. })));
        assert_eq!(package_of("nft"), "nftables");
    }

    #[tokio::test]
    async fn input_reaches_the_tool() {
        assert_eq!(Tool::new("cat").input("stones\n".to_owned()).run().await.unwrap(), "stones\n");
    }
}
