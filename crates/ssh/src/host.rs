//! Running programs on a host as root, with their output told line by line.

use std::time::Duration;

use drystone_identity::Secret;

use crate::{
    command::{CommandLine, Exit, Input, Outcome, Privilege},
    error::{CommandFailed, SshError},
    output::OutputStream,
    session::Session,
};

/// Status by which a program says that trying again is of no use; its last words say why.
pub const REFUSED: u32 = 77;

/// Longest line that is told, in bytes.
const MAX_LINE: usize = 1000;

/// Whom lines of output are told to.
pub type Follow<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A program that did not do what it was to do.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The host was not reached, or the connection was lost.
    #[error(transparent)]
    Ssh(#[from] SshError),
    /// It failed; another attempt may help.
    #[error(transparent)]
    Failed(#[from] CommandFailed),
    /// It says that another attempt is of no use before somebody changes something ([`REFUSED`]).
    #[error("{doing}: {why}")]
    Refused {
        /// What it was to do.
        doing: String,
        /// Why not.
        why: String,
    },
    /// Its answer makes no sense.
    #[error("{doing}: the answer is not understood: {why}")]
    Unexpected {
        /// What was asked.
        doing: String,
        /// What is wrong with the answer.
        why: String,
    },
}

impl ProgramError {
    /// Whether another attempt would fail as well, until somebody changes something.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Ssh(error) => error.is_permanent(),
            Self::Failed(_) => false,
            Self::Refused { .. } | Self::Unexpected { .. } => true,
        }
    }
}

/// A host that was reached, and on which programs run as root.
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
#[derive(Debug, Clone)]
pub struct Program<'a> {
    /// What it does, for people: `formatting /dev/vdb`.
    pub doing: String,
    /// Its text, for a POSIX shell.
    pub text: &'a str,
    /// Environment variables.
    pub environment: Vec<(&'a str, Secret)>,
    /// What it reads.
    pub input: Option<Secret>,
    /// Whether its standard output is an answer, and not told.
    pub quiet: bool,
    /// How many bytes of its output are kept.
    pub output_limit: usize,
    /// How long it may take.
    pub limit: Duration,
}

impl<'a> Program<'a> {
    /// A program that may take a minute.
    pub fn new(doing: impl Into<String>, text: &'a str) -> Self {
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

    /// Sets an environment variable.
    #[must_use]
    pub fn environment(mut self, name: &'a str, value: impl Into<Secret>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// What it reads.
    #[must_use]
    pub fn input(mut self, input: impl Into<Secret>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Its output is an answer of at most so many bytes, and not told.
    #[must_use]
    pub fn answer(mut self, bytes: usize) -> Self {
        self.quiet = true;
        self.output_limit = bytes.saturating_mul(2);
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
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

    /// The same, as it was set.
    pub fn proxies(&self) -> &[(&'static str, Secret)] {
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
    pub fn tell(&self, line: impl AsRef<str>) {
        if let Some(follow) = self.follow {
            follow(line.as_ref());
        }
    }

    /// Runs a program to its end; anything but status 0 is an error.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn run(&self, program: Program<'_>) -> Result<Outcome, ProgramError> {
        let doing = program.doing.clone();
        let outcome = self.attempt(program).await?;
        if outcome.exit == Exit::Status(REFUSED) {
            let words = outcome.stderr.last_lines(3);
            return Err(ProgramError::Refused { doing, why: words });
        }
        Ok(outcome.succeeded(&doing)?)
    }

    /// The same, and what the program wrote to its standard output.
    ///
    /// # Errors
    /// [`ProgramError`].
    pub async fn ask(&self, program: Program<'_>) -> Result<String, ProgramError> {
        let doing = program.doing.clone();
        let outcome = self.run(program).await?;
        if outcome.stdout.omitted() > 0 {
            return Err(ProgramError::Unexpected { doing, why: "it is too long".to_owned() });
        }
        String::from_utf8(outcome.stdout.bytes())
            .map_err(|_| ProgramError::Unexpected { doing, why: "it is not UTF-8".to_owned() })
    }

    /// Runs a program to its end, whatever that is.
    ///
    /// # Errors
    /// [`ProgramError::Ssh`].
    pub async fn attempt(&self, program: Program<'_>) -> Result<Outcome, ProgramError> {
        let mut command = CommandLine::new(program.text)
            .privilege(self.privilege.clone())
            .output_limit(program.output_limit);
        for (name, value) in program.environment {
            command = command.environment(name, value);
        }
        if let Some(input) = program.input {
            command = command.input(Input::Bytes(input.expose().as_bytes().to_vec().into()));
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
