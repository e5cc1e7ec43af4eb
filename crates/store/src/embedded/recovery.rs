//! What the writer does when the storage fails.
//!
//! A failed commit may or may not have reached the disk. So its requests fail, the database is closed and opened
//! again, which makes the engine repair itself, and what the commit has left there after all is made visible. Writes
//! are then refused for a moment before the disk is tried again. Reads of the latest state go on all the time.

use std::time::Duration;

use tokio::time::Instant;

use super::history;
use super::observer::Fault;
use super::shared::Shared;
use crate::StoreError;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// Whether the storage works.
#[derive(Debug, Default)]
pub(super) struct Health {
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Trouble {
    /// What writes are refused with.
    error: StoreError,
    /// When to try again; `None` for never.
    retry_at: Option<Instant>,
    /// How long to wait after the next failure.
    delay: Duration,
    /// Whether the database has been opened again.
    open: bool,
}

impl Health {
    pub(super) fn is_good(&self) -> bool {
        self.trouble.is_none()
    }

    /// When something that is to be written at `wanted` can be tried; `None` for never.
    pub(super) fn earliest_write(&self, wanted: Instant) -> Option<Instant> {
        match &self.trouble {
            None => Some(wanted),
            Some(trouble) => trouble.retry_at.map(|retry| retry.max(wanted)),
        }
    }

    fn is_rested(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| trouble.retry_at.is_some_and(|at| at <= now))
    }

    /// Opens a failed database again when its time has come. Has to be done before anything is staged, because it may
    /// find changes that memory does not know.
    pub(super) fn prepare(&mut self, shared: &Shared, now: Instant) {
        if self.is_rested(now)
            && let Some(trouble) = self.trouble.as_mut().filter(|trouble| !trouble.open)
        {
            trouble.reopen(shared, now);
        }
    }

    /// Refuses a write while the storage rests or is not open.
    pub(super) fn check(&self, now: Instant) -> Result<(), StoreError> {
        match &self.trouble {
            Some(trouble) if !trouble.open || !self.is_rested(now) => Err(trouble.error.clone()),
            _ => Ok(()),
        }
    }

    /// Takes note of a failed commit; returns what to tell its requests.
    pub(super) fn failed(&mut self, shared: &Shared, error: StoreError, now: Instant) -> StoreError {
        let delay = self.trouble.as_ref().map_or(FIRST_DELAY, |trouble| trouble.delay);
        let mut trouble = Trouble { error, retry_at: Some(now + delay), delay: longer(delay), open: false };
        match shared.engine.faults().take() {
            Some(Fault::NoSpace(text)) => trouble.error = StoreError::NoSpace(text),
            Some(Fault::NotDurable(text)) => {
                trouble.retry_at = None;
                trouble.error = StoreError::Backend(format!(
                    "the disk failed to flush ({text}); writes are refused until the store is restarted"
                ));
            }
            Some(Fault::Other(text)) => trouble.error = StoreError::Backend(text),
            None => {}
        }
        if !matches!(trouble.error, StoreError::NoSpace(_)) || self.trouble.is_none() {
            tracing::error!(error = %trouble.error, "the store cannot write");
        }
        if trouble.retry_at.is_some() {
            trouble.reopen(shared, now);
        }
        let told = trouble.error.clone();
        self.trouble = Some(trouble);
        told
    }

    /// Takes note of a commit that worked.
    pub(super) fn succeeded(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the store can write again");
        }
    }
}

impl Trouble {
    fn reopen(&mut self, shared: &Shared, now: Instant) {
        match reopen(shared) {
            Ok(Recovered::Complete) => self.open = true,
            Ok(Recovered::Lost) => {
                tracing::error!("the disk has lost acknowledged writes");
                self.retry_at = None;
                self.error = StoreError::Backend(
                    "the disk has lost acknowledged writes; writes are refused, restart on a sound disk"
                        .into(),
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the store's database cannot be opened again yet");
                self.retry_at = Some(now + self.delay);
                self.delay = longer(self.delay);
            }
        }
    }
}

fn longer(delay: Duration) -> Duration {
    (delay * 2).min(LONGEST_DELAY)
}

enum Recovered {
    Complete,
    Lost,
}

/// Opens the database again and makes memory agree with it.
fn reopen(shared: &Shared) -> Result<Recovered, StoreError> {
    shared.engine.reopen()?;
    let known = shared.state().revision;
    let (records, facts) = shared.engine.read(|transaction| {
        Ok((history::records_after(transaction, known)?, history::facts(transaction)?))
    })?;
    if facts.revision < known {
        return Ok(Recovered::Lost);
    }
    shared.publish_found(records, facts);
    Ok(Recovered::Complete)
}
