//! Files: written whole or not at all, read within a limit.

use std::time::Duration;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::{
    command::{CommandLine, Exit, Input, Privilege, quote},
    error::{CommandFailed, SshError},
    session::Session,
    wrapper,
};

/// Status by which the program that reads a file says that there is none.
const ABSENT: u32 = 44;

impl Session {
    /// Writes a file: under another name beside it, then renamed, so that nobody sees half of it and a lost connection leaves the old
    /// one. Missing folders are made. Returns its size in bytes.
    ///
    /// # Errors
    /// [`SshError::File`] if the host cannot write it, for instance for want of space; others as of [`Session::run`].
    pub async fn upload(
        &self,
        path: &str,
        mode: u32,
        reader: impl AsyncRead + Send + Unpin + 'static,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<u64, SshError> {
        let work = self.write_and_rename(path, mode, reader, privilege, deadline);
        match tokio::time::timeout(deadline, work).await {
            Ok(result) => result,
            Err(_) => {
                Err(SshError::Deadline { host: self.address(), doing: "writing a file", limit: deadline })
            }
        }
    }

    async fn write_and_rename(
        &self,
        path: &str,
        mode: u32,
        reader: impl AsyncRead + Send + Unpin + 'static,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<u64, SshError> {
        let failed = |error: &CommandFailed| self.file_error(path, error);
        let (file, temporary) = (quote(path), quote(&format!("{path}.{}", wrapper::new_mark())));
        // Whoever ends early takes the half file away: by a trap when told to end, by the next upload when not.
        let program = format!(
            "set -eu; umask 077; rm -f -- {file}.drystone-*; t={temporary}; mkdir -p -- \"$(dirname -- {file})\"; \
             trap 'rm -f -- \"$t\"; exit 1' HUP INT TERM; \
             if cat >\"$t\" && wc -c <\"$t\"; then :; else rm -f -- \"$t\"; exit 1; fi"
        );
        let counted = Arc::new(AtomicU64::new(0));
        let reader = Counting { reader, read: Arc::clone(&counted) };
        let command =
            CommandLine::new(program).input(Input::Reader(Box::new(reader))).privilege(privilege.clone());
        let outcome = self.run(command, deadline, |_, _| {}).await?;
        let outcome = outcome.succeeded("writing the file").map_err(|error| failed(&error))?;
        let sent = counted.load(Ordering::Relaxed);
        let arrived = outcome.stdout.text().trim().parse::<u64>().ok();
        let finish = if arrived == Some(sent) {
            format!(
                "set -eu; t={temporary}; trap 'rm -f -- \"$t\"' EXIT; chmod {mode:o} -- \"$t\"; \
                 sync -- \"$t\" 2>/dev/null || sync; mv -f -- \"$t\" {file}"
            )
        } else {
            format!(
                "rm -f -- {temporary}; echo 'of {sent} bytes, {} arrived' >&2; exit 1",
                arrived.unwrap_or(0)
            )
        };
        let command = CommandLine::new(finish).privilege(privilege);
        let outcome = self.run(command, deadline, |_, _| {}).await?;
        outcome.succeeded("putting the file into place").map_err(|error| failed(&error))?;
        Ok(sent)
    }

    /// Reads a file of at most `limit` bytes; nothing if there is none.
    ///
    /// # Errors
    /// [`SshError::File`] if it is larger or cannot be read; others as of [`Session::run`].
    pub async fn read_file(
        &self,
        path: &str,
        limit: usize,
        privilege: Privilege,
        deadline: Duration,
    ) -> Result<Option<Vec<u8>>, SshError> {
        let file = quote(path);
        let command = CommandLine::new(format!("[ -e {file} ] || exit {ABSENT}; exec cat -- {file}"))
            .privilege(privilege)
            .output_limit(limit.saturating_mul(2));
        let outcome = self.run(command, deadline, |_, _| {}).await?;
        if outcome.exit == Exit::Status(ABSENT) {
            return Ok(None);
        }
        let outcome = outcome.succeeded("reading the file").map_err(|error| self.file_error(path, &error))?;
        let bytes = outcome.stdout.bytes();
        if outcome.stdout.omitted() > 0 || bytes.len() > limit {
            let reason = format!("it has more than {limit} bytes");
            return Err(SshError::File { host: self.address(), path: path.to_owned(), reason });
        }
        Ok(Some(bytes))
    }

    fn file_error(&self, path: &str, error: &CommandFailed) -> SshError {
        SshError::File { host: self.address(), path: path.to_owned(), reason: error.to_string() }
    }
}

/// Counts what is read.
struct Counting<R> {
    reader: R,
    read: Arc<AtomicU64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counting<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.reader).poll_read(context, buffer);
        let more = (buffer.filled().len() - before) as u64;
        self.read.fetch_add(more, Ordering::Relaxed);
        result
    }
}
