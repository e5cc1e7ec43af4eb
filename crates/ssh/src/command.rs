//! What is to be run, and how it ended.

use std::{fmt, time::Duration};

use bytes::Bytes;
use drystone_identity::Secret;
use tokio::io::AsyncRead;

use crate::{
    error::{CommandFailed, SshError},
    output::Captured,
};

/// What is kept of each output unless said otherwise.
const DEFAULT_OUTPUT_LIMIT: usize = 64 * 1024;

/// A program for the host's POSIX shell.
#[derive(Debug)]
pub struct CommandLine {
    pub(crate) program: String,
    pub(crate) environment: Vec<(String, Secret)>,
    pub(crate) input: Input,
    pub(crate) privilege: Privilege,
    pub(crate) output_limit: usize,
}

impl CommandLine {
    /// A program text; values that come from elsewhere go through [`quote`]. It is not seen in the host's process list, but what it
    /// starts is, with its arguments: secrets belong into the environment or the input.
    pub fn new(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            environment: Vec::new(),
            input: Input::Nothing,
            privilege: Privilege::User,
            output_limit: DEFAULT_OUTPUT_LIMIT,
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// What it reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Whom it runs as.
    #[must_use]
    pub fn privilege(mut self, privilege: Privilege) -> Self {
        self.privilege = privilege;
        self
    }

    /// How many bytes of each output are kept: half of it from the beginning, half from the end.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }
}

/// What a command reads from its standard input. `Debug` does not show it.
#[derive(Default)]
pub enum Input {
    /// It ends at once.
    #[default]
    Nothing,
    /// These bytes.
    Bytes(Bytes),
    /// Whatever this gives, as fast as the host takes it.
    Reader(Box<dyn AsyncRead + Send + Unpin>),
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Bytes(_) => "Bytes",
            Self::Reader(_) => "Reader",
        })
    }
}

/// Whom a command runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Privilege {
    /// The user that is logged in.
    #[default]
    User,
    /// root: by `sudo` unless root is logged in. If sudo asks for a password, it gets this one, or else the one that logged in.
    Root(Option<Secret>),
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this status. A shell reports a program that died of signal N as status 128 + N.
    Status(u32),
    /// The shell itself died of this signal (`KILL`).
    Signal(String),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "exit status {status}"),
            Self::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub exit: Exit,
    /// What it wrote to its standard output.
    pub stdout: Captured,
    /// What it wrote to its standard error.
    pub stderr: Captured,
    /// How long it took.
    pub elapsed: Duration,
}

impl Outcome {
    /// Whether it ended with status 0.
    pub fn is_success(&self) -> bool {
        self.exit == Exit::Status(0)
    }

    /// Takes anything but status 0 for an error, which quotes the last lines of its output.
    ///
    /// # Errors
    /// [`CommandFailed`] if the status is not 0.
    pub fn succeeded(self, doing: &str) -> Result<Self, CommandFailed> {
        if self.is_success() { Ok(self) } else { Err(CommandFailed::new(doing, &self)) }
    }
}

/// A text as one word of a POSIX shell, whatever is in it.
pub fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The text that the wrapper evaluates: the environment, then the program.
pub(crate) fn script(command: &CommandLine) -> Result<Secret, SshError> {
    let refuse = |reason: String| Err(SshError::InvalidCommand { reason });
    let mut text = zeroize::Zeroizing::new(String::new());
    for (name, value) in &command.environment {
        let valid = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && name.starts_with(|c: char| !c.is_ascii_digit());
        if !valid {
            return refuse(format!("`{name}` is no name of an environment variable"));
        }
        let value = zeroize::Zeroizing::new(quote(value.expose()));
        text.push_str(&format!("export {name}={}\n", *value));
    }
    text.push_str(&command.program);
    if text.contains('\0') {
        return refuse("neither program nor environment may contain a zero byte".to_owned());
    }
    if text.len() > MAX_SCRIPT_BYTES {
        return refuse(format!(
            "program and environment have {} bytes, more than {MAX_SCRIPT_BYTES}: upload a file instead",
            text.len()
        ));
    }
    Ok(Secret::new(text.as_str()))
}

/// Largest program with its environment.
const MAX_SCRIPT_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_quoted_only_where_needed() {
        assert_eq!(quote("/etc/kubernetes/admin.conf"), "/etc/kubernetes/admin.conf");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }

    #[test]
    fn environments_are_checked() {
        let error = |name: &str| {
            script(&CommandLine::new("true").environment(name, "x")).expect_err("invalid").to_string()
        };
        assert!(error("A B").contains("`A B` is no name"));
        assert!(error("1A").contains("no name"));
        assert!(script(&CommandLine::new("a\0b")).is_err());
        assert!(script(&CommandLine::new("x".repeat(300_000))).is_err());
        let text = script(&CommandLine::new("run").environment("TOKEN", "a b")).expect("valid");
        assert_eq!(text.expose(), "export TOKEN='a b'\nrun");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_shell_reads_a_quoted_word_as_it_was(text in "[^\0]{0,40}") {
            let program = format!("printf %s {}", quote(&text));
            let output = Command::new("sh").args(["-c", &program]).output().expect("a shell");
            prop_assert_eq!(String::from_utf8_lossy(&output.stdout), text);
        }
    }
}
