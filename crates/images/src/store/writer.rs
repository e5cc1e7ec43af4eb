//! Adding to an upload from asynchronous code: while one piece is written, the next one arrives.

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    Finished, Inspect, Store, StoreError, blocking,
    session::{Mark, Session},
};
use crate::digest::Digest;

/// Adds to one upload. Nothing that is added is safe before [`Writer::checkpoint`] or [`Writer::finish`] says so.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    interrupted: CancellationToken,
    start: Mark,
    /// Where the upload is when all is written.
    offset: u64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Idle(Box<Session>),
    Busy(JoinHandle<Result<Box<Session>, StoreError>>),
    /// Something failed: the session is gone, and with it what was not safe.
    Failed,
}

impl Writer {
    pub(super) fn new(store: Store, session: Session, interrupted: CancellationToken) -> Self {
        let (start, offset) = (session.mark(), session.offset());
        Self { store, interrupted, start, offset, work: Work::Idle(Box::new(session)) }
    }

    /// Bytes that are here, or on their way to disk.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Completes when somebody else wants to add to the upload, or it is deleted: time to stop.
    pub fn interrupted(&self) -> impl Future<Output = ()> + Send + use<> {
        self.interrupted.clone().cancelled_owned()
    }

    /// Waits for what is being written.
    async fn session(&mut self) -> Result<Box<Session>, StoreError> {
        match std::mem::replace(&mut self.work, Work::Failed) {
            Work::Idle(session) => Ok(session),
            Work::Busy(task) => task.await.map_err(|error| StoreError::Worker(error.to_string()))?,
            Work::Failed => Err(StoreError::Worker("it failed before".to_owned())),
        }
    }

    /// Adds bytes; returns when those before them are written.
    ///
    /// # Errors
    /// [`StoreError`]; the upload is then at its last checkpoint.
    pub async fn write(&mut self, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        let mut session = self.session().await?;
        self.offset += pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        let start = self.start.clone();
        self.work = Work::Busy(tokio::task::spawn_blocking(move || {
            for piece in pieces {
                if let Err(error) = session.append(&piece) {
                    if matches!(error, StoreError::TooLong { .. }) {
                        // Not even what fits: whoever sends too much has another image in mind.
                        session.rewind(start)?;
                    }
                    return Err(error);
                }
            }
            if session.is_due() {
                session.checkpoint()?;
            }
            Ok(session)
        }));
        Ok(())
    }

    /// Makes safe what was added, and ends. Returns the offset from which the upload can go on.
    ///
    /// # Errors
    /// [`StoreError`]; the upload is then at its last checkpoint.
    pub async fn checkpoint(mut self) -> Result<u64, StoreError> {
        let mut session = self.session().await?;
        blocking(move || {
            session.checkpoint()?;
            let offset = session.offset();
            session.rest();
            Ok(offset)
        })
        .await
    }

    /// As [`Writer::checkpoint`]; if all is here then, it is compared with the digests that it should have, looked at, and taken in.
    ///
    /// # Errors
    /// [`StoreError::Digest`], [`StoreError::Refused`] if it is not what it should be: it is dropped then. Others as they come.
    pub async fn finish(
        mut self,
        expected: Vec<Digest>,
        inspect: Inspect,
    ) -> Result<(u64, Option<Finished>), StoreError> {
        let session = self.session().await?;
        if !session.is_whole() {
            self.work = Work::Idle(session);
            return self.checkpoint().await.map(|offset| (offset, None));
        }
        let store = self.store.clone();
        blocking(move || {
            let offset = session.offset();
            let finished = store.commit(*session, &expected, inspect)?;
            Ok((offset, Some(finished)))
        })
        .await
    }
}
