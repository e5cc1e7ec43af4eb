//! Running a program on a host, with its output in the step's log.

use std::time::Duration;

use drystone_engine::action::{StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_ssh::{CommandLine, Exit, Input, Outcome, Redaction};

use super::super::{
    GIVE_UP,
    reach::{Reached, failure},
};

/// Most lines of one program that go into the log.
const MAX_LINES: usize = 400;

/// Longest line in the log, in characters.
const MAX_LINE: usize = 300;

/// A program to be run as root.
#[derive(Debug)]
pub struct Program {
    /// What it does, for people: `kubeadm init on cp1`.
    pub doing: String,
    /// Its text.
    pub text: String,
    /// Environment variables.
    pub environment: Vec<(String, Hidden)>,
    /// What it reads.
    pub input: Option<Hidden>,
    /// Whether its standard output is a secret and stays out of the log.
    pub quiet: bool,
    /// How long it may take.
    pub limit: Duration,
}

impl Program {
    /// A program of this text that may take half an hour.
    pub fn new(doing: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            doing: doing.into(),
            text: text.into(),
            environment: Vec::new(),
            input: None,
            quiet: false,
            limit: Duration::from_secs(1800),
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &str, value: impl Into<Hidden>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// What it reads.
    #[must_use]
    pub fn input(mut self, input: Hidden) -> Self {
        self.input = Some(input);
        self
    }

    /// Keeps its standard output out of the log.
    #[must_use]
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it on a host. Ended there when the step is to end.
    ///
    /// # Errors
    /// When it fails; permanent if it says that trying again is of no use (exit status 77).
    pub async fn run(
        self,
        context: &StepContext,
        host: &Reached,
        redaction: &Redaction,
    ) -> Result<Outcome, StepError> {
        let mut command = CommandLine::new(self.text).privilege(host.privilege.clone());
        for (name, value) in self.environment {
            command = command.environment(name, value);
        }
        if let Some(input) = &self.input {
            command = command.input(Input::Bytes(input.expose().as_bytes().to_vec().into()));
        }
        let (mut out, mut err) = (Lines::new(context, redaction), Lines::new(context, redaction));
        let quiet = self.quiet;
        let run = host.session.run(command, self.limit, |stream, bytes| match stream {
            drystone_ssh::OutputStream::Stdout if quiet => {}
            drystone_ssh::OutputStream::Stdout => out.take(bytes),
            drystone_ssh::OutputStream::Stderr => err.take(bytes),
        });
        let outcome = context.wait_for(run).await?.map_err(|error| failure(&error))?;
        out.end();
        err.end();
        if outcome.is_success() {
            return Ok(outcome);
        }
        let words = outcome.stderr.last_lines(3);
        let words = if words.is_empty() && !quiet { outcome.stdout.last_lines(3) } else { words };
        let why = redaction.line(&format!("{}: {}: {words}", self.doing, outcome.exit));
        if outcome.exit == Exit::Status(GIVE_UP) {
            return Err(StepError::permanent(why));
        }
        Err(StepError::transient(why))
    }
}

/// Makes lines of the log out of pieces of output.
struct Lines<'a> {
    context: &'a StepContext,
    redaction: &'a Redaction,
    rest: Vec<u8>,
    told: usize,
}

impl<'a> Lines<'a> {
    fn new(context: &'a StepContext, redaction: &'a Redaction) -> Self {
        Self { context, redaction, rest: Vec::new(), told: 0 }
    }

    fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' || *byte == b'\r' {
                self.end();
            } else if self.rest.len() < 4 * MAX_LINE {
                self.rest.push(*byte);
            }
        }
    }

    fn end(&mut self) {
        let line = String::from_utf8_lossy(&self.rest);
        let line: String = line.chars().filter(|c| !c.is_control()).collect();
        self.rest.clear();
        if line.trim().is_empty() {
            return;
        }
        let shown: String = self.redaction.line(line.trim_end()).chars().take(MAX_LINE).collect();
        self.told += 1;
        if self.told < MAX_LINES {
            self.context.log(shown.clone());
        } else if self.told == MAX_LINES {
            self.context.log("further output is left out");
        }
        self.context.progress(50, shown);
    }
}
