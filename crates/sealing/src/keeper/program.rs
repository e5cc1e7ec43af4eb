//! Running a program that is given secrets, and gives them: over its standard input and output, never in its arguments.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

/// How long one program may take. A TPM makes a key in some seconds at worst.
const LIMIT: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// More output than that is none of ours.
const MOST_OUTPUT: u64 = 1 << 20;

/// A program that failed.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("{program} cannot be started; install tpm2-tools")]
    NotFound {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended badly.
    #[error("{program}: {message}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The last that it said.
        message: String,
    },
    /// It did not end.
    #[error("{program} did not end within {} s; is the TPM at work?", LIMIT.as_secs())]
    TooSlow {
        /// The program.
        program: &'static str,
    },
    /// It could not be spoken to.
    #[error("speaking with {program}")]
    Pipe {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl ProgramError {
    /// Whether the program said this.
    pub(super) fn said(&self, text: &str) -> bool {
        matches!(self, Self::Failed { message, .. } if message.contains(text))
    }
}

/// Runs a program with `input`; returns what it wrote.
pub(super) fn run<S: AsRef<OsStr>>(
    program: &'static str,
    arguments: impl IntoIterator<Item = S>,
    environment: &[(&str, &str)],
    input: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ProgramError> {
    let pipe = |source| ProgramError::Pipe { program, source };
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ProgramError::NotFound { program, source })?;
    let (output, messages) = (child.stdout.take(), child.stderr.take());
    let input_pipe = child.stdin.take();
    std::thread::scope(|scope| {
        // What is written and read fits into a pipe as a rule; nothing relies on it.
        let output = scope.spawn(move || read_all(output));
        let messages = scope.spawn(move || read_all(messages));
        let written = input_pipe.map_or(Ok(()), |mut pipe| pipe.write_all(input));
        let status = wait(program, &mut child)?;
        let output = output.join().unwrap_or_default();
        let messages = messages.join().unwrap_or_default();
        if !status {
            return Err(ProgramError::Failed { program, message: told(&messages) });
        }
        written.map_err(pipe)?;
        Ok(output)
    })
}

fn read_all(pipe: Option<impl Read>) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    if let Some(pipe) = pipe
        && let Err(error) = pipe.take(MOST_OUTPUT).read_to_end(&mut bytes)
    {
        tracing::debug!(%error, "the output of a program broke off");
    }
    bytes
}

/// Whether it ended well.
fn wait(program: &'static str, child: &mut Child) -> Result<bool, ProgramError> {
    let deadline = Instant::now() + LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success()),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(LOOK),
            ended => {
                // The pipes end with it, and so do the threads that read them.
                let _ = child.kill();
                let _ = child.wait();
                return Err(match ended {
                    Err(source) => ProgramError::Pipe { program, source },
                    Ok(_) => ProgramError::TooSlow { program },
                });
            }
        }
    }
}

/// The lines that say what is wrong.
fn told(messages: &[u8]) -> String {
    let text = String::from_utf8_lossy(messages);
    let errors: Vec<&str> = text.lines().filter(|line| line.contains("ERROR")).collect();
    let lines = if errors.is_empty() { text.lines().collect() } else { errors };
    let text = lines.join("; ");
    if text.is_empty() { "it said nothing".to_owned() } else { text.chars().take(2000).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_goes_in_and_output_comes_out() {
        assert_eq!(run("cat", [""; 0], &[], b"hidden").unwrap().as_slice(), b"hidden");
        let big = vec![7; 300_000];
        assert_eq!(run("cat", [""; 0], &[], &big).unwrap().len(), big.len());
    }

    #[test]
    fn failures_say_what_the_program_said() {
        let failed = run("sh", ["-c", "echo 'ERROR: broken' >&2; exit 3"], &[], b"").unwrap_err();
        assert!(failed.said("broken"), "{failed}");
        let absent = run("drystone-no-such-program", [""; 0], &[], b"").unwrap_err();
        assert!(absent.to_string().contains("install tpm2-tools"), "{absent}");
    }
}
