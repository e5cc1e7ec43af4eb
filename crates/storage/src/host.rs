//! Running programs on a host as root, with their output told line by line.

use std::time::Duration;

use drystone_identity::Secret;
use drystone_ssh::{CommandLine, Exit, Input, Outcome, OutputStream, Privilege, Session};

use crate::error::StorageError;

/// Status by which a program says that trying again is of no use; its last words say why.
pub(crate) const REFUSED: u32 = 77;

/// Longest line that is told, in bytes.
const MAX_LINE: usize = 1000;

/// Whom lines of output are told to.
pub type Follow<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A host that was reached.
#[derive(Clone)]
pub struct Host<'a> {
    session: &'a Session,
    privilege: Privilege,
    follow: Option<Follow<'a>>,
    proxies: Vec<(&'static str, Secret)>,
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("session", &self.session).finish_non_exhaustive()
    }
}

/// A program that runs as root.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    /// What it does, for people: `formatting /dev/vdb`.
    pub(crate) doing: String,
    /// Its text, for a POSIX shell.
    pub(crate) text: &'a str,
    /// Environment variables.
    pub(crate) environment: Vec<(&'a str, String)>,
    /// What it reads.
    pub(crate) input: Option<Vec<u8>>,
    /// Whether its standard output is an answer, and not told.
    pub(crate) quiet: bool,
    /// How many bytes of its output are kept.
    pub(crate) output_limit: usize,
    /// How long it may take.
    pub(crate) limit: Duration,
}

impl<'a> Program<'a> {
    /// A program that may take a minute.
    pub(crate) fn new(doing: impl Into<String>, text: &'a str) -> Self {
        Self {
            doing: doing.into(),
            text,
            environment: Vec::new(),
            input: None,
            quiet: false,
            output_limit: 64 * 1024,
            limit: Duration::from_secs(60),
        }
    }

    pub(crate) fn environment(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    pub(crate) fn input(mut self, input: Vec<u8>) -> Self {
        self.input = Some(input);
        self
    }

    /// Its output is an answer of at most so many bytes.
    pub(crate) fn answer(mut self, bytes: usize) -> Self {
        self.quiet = true;
        self.output_limit = bytes.saturating_mul(2);
        self
    }

    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl<'a> Host<'a> {
    /// A host; `privilege` is how programs become root there.
    pub fn new(session: &'a Session, privilege: Privilege) -> Self {
        Self { session, privilege, follow: None, proxies: Vec::new() }
    }

    /// Tells the lines that programs write, as they come.
    #[must_use]
    pub fn follow(mut self, follow: Follow<'a>) -> Self {
        self.follow = Some(follow);
        self
    }

    /// Environment by which package managers reach their sources: `http_proxy` and the like.
    #[must_use]
    pub fn proxied(mut self, proxies: Vec<(&'static str, Secret)>) -> Self {
        self.proxies = proxies;
        self
    }

    pub(crate) fn proxies(&self) -> &[(&'static str, Secret)] {
        &self.proxies
    }

    /// The connection.
    pub fn session(&self) -> &Session {
        self.session
    }

    /// How programs become root.
    pub fn privilege(&self) -> Privilege {
        self.privilege.clone()
    }

    /// Tells a line.
    pub(crate) fn tell(&self, line: impl AsRef<str>) {
        if let Some(follow) = self.follow {
            follow(line.as_ref());
        }
    }

    /// Runs a program to its end; anything but status 0 is an error.
    pub(crate) async fn run(&self, program: Program<'_>) -> Result<Outcome, StorageError> {
        let doing = program.doing.clone();
        let outcome = self.attempt(program).await?;
        if outcome.exit == Exit::Status(REFUSED) {
            let words = outcome.stderr.last_lines(3);
            return Err(StorageError::refused(doing, words));
        }
        Ok(outcome.succeeded(&doing)?)
    }

    /// The same, and what the program wrote to its standard output.
    pub(crate) async fn ask(&self, program: Program<'_>) -> Result<String, StorageError> {
        let doing = program.doing.clone();
        let outcome = self.run(program).await?;
        if outcome.stdout.omitted() > 0 {
            return Err(StorageError::unexpected(doing, "it is too long"));
        }
        String::from_utf8(outcome.stdout.bytes())
            .map_err(|_| StorageError::unexpected(doing, "it is not UTF-8"))
    }

    /// Runs a program to its end, whatever that is.
    pub(crate) async fn attempt(&self, program: Program<'_>) -> Result<Outcome, StorageError> {
        let mut command = CommandLine::new(program.text)
            .privilege(self.privilege.clone())
            .output_limit(program.output_limit);
        for (name, value) in program.environment {
            command = command.environment(name, Secret::new(value));
        }
        if let Some(input) = program.input {
            command = command.input(Input::Bytes(input.into()));
        }
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let run = self.session.run(command, program.limit, |stream, bytes| match stream {
            OutputStream::Stdout if program.quiet => {}
            OutputStream::Stdout => self.lines(&mut out, bytes),
            OutputStream::Stderr => self.lines(&mut err, bytes),
        });
        let outcome = run.await?;
        self.lines(&mut out, b"\n");
        self.lines(&mut err, b"\n");
        Ok(outcome)
    }

    /// Makes lines out of pieces of output.
    fn lines(&self, rest: &mut Vec<u8>, bytes: &[u8]) {
        for byte in bytes {
            if *byte != b'\n' && *byte != b'\r' {
                if rest.len() < MAX_LINE {
                    rest.push(*byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(rest);
            let line: String = line.chars().filter(|c| !c.is_control()).collect();
            rest.clear();
            if !line.trim().is_empty() {
                self.tell(line.trim_end());
            }
        }
    }
}
