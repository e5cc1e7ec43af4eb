//! Following everything below a prefix: the present state, then every change, and the present state again whenever the
//! store's watch breaks off. What the server's own parts (policy, custom resources, garbage collection) are driven by.

use std::collections::VecDeque;
use std::time::Duration;

use drystone_store::{EventKind, KeyRange, StoreError, WatchRequest, WatchStream};
use futures::StreamExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::encoded::Stored;
use super::objects::Objects;

/// One change of one object.
#[derive(Debug, Clone)]
pub enum Change {
    /// It was written.
    Put {
        /// As it is now.
        object: Stored,
        /// As it was before, if it was.
        previous: Option<Stored>,
    },
    /// It was deleted; its last state, with the revision of the deletion.
    Deleted(Stored),
}

/// What a follower is told.
#[derive(Debug)]
pub enum Told {
    /// All there is. Objects that were known and are not among these are gone.
    State(Vec<Stored>),
    /// A change.
    Change(Change),
}

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Follows all objects below a prefix.
pub struct Follower {
    objects: Objects,
    prefix: String,
    stop: CancellationToken,
    watch: Option<WatchStream>,
    ready: VecDeque<Change>,
    pause: Duration,
    /// When the pause ends that is being made.
    until: Option<Instant>,
}

impl Follower {
    /// Follows the objects below `prefix` until `stop`.
    pub fn new(objects: &Objects, prefix: impl Into<String>, stop: &CancellationToken) -> Self {
        Self {
            objects: objects.clone(),
            prefix: prefix.into(),
            stop: stop.clone(),
            watch: None,
            ready: VecDeque::new(),
            pause: Duration::ZERO,
            until: None,
        }
    }

    /// Waits for what is next; `None` when it is to stop.
    pub async fn next(&mut self) -> Option<Told> {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => None,
            told = self.told() => told,
        }
    }

    async fn told(&mut self) -> Option<Told> {
        loop {
            if let Some(change) = self.ready.pop_front() {
                return Some(Told::Change(change));
            }
            let Some(watch) = &mut self.watch else {
                // Whoever waits for several drops this again and again: the pause must end all the same.
                let until = *self.until.get_or_insert_with(|| Instant::now() + self.pause);
                tokio::time::sleep_until(until).await;
                self.until = None;
                self.pause = (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                match self.begin().await {
                    Ok(state) => return Some(Told::State(state)),
                    Err(StoreError::Closed) => return None,
                    Err(error) => self.broke_off(&error),
                }
                continue;
            };
            match watch.next().await {
                Some(Ok(batch)) => {
                    self.pause = Duration::ZERO;
                    self.ready.extend(batch.events.iter().map(|event| change(event)));
                }
                Some(Err(StoreError::Closed)) | None => return None,
                Some(Err(error)) => {
                    self.broke_off(&error);
                    self.watch = None;
                }
            }
        }
    }

    async fn begin(&mut self) -> Result<Vec<Stored>, StoreError> {
        let (state, revision) = self.objects.all(&self.prefix).await?;
        let range = KeyRange::prefix(self.prefix.clone());
        let request = WatchRequest { range, start_revision: Some(revision + 1) };
        self.watch = Some(self.objects.store().watch(request).await?);
        Ok(state)
    }

    fn broke_off(&self, error: &StoreError) {
        tracing::debug!(prefix = self.prefix, %error, "a watch broke off and is begun again");
    }
}

/// An event of the store as a change of an object.
pub fn change(event: &drystone_store::Event) -> Change {
    let previous = event.previous.as_ref().map(Stored::from);
    match event.kind {
        EventKind::Put => Change::Put { object: Stored::from(&event.kv), previous },
        EventKind::Delete => Change::Deleted(Stored {
            key: event.kv.key.clone(),
            bytes: previous.map(|previous| previous.bytes).unwrap_or_default(),
            revision: event.kv.mod_revision,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoded::Encoded;
    use super::super::objects::Claims;
    use super::*;
    use drystone_store::embedded::{EmbeddedStore, Options};
    use serde_json::json;
    use std::sync::Arc;

    #[tokio::test]
    async fn state_then_changes() {
        let objects = Objects::new(Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
        let object =
            || Encoded::new(&json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}})).unwrap();
        let first = objects.create("/r/a", object(), &Claims::default(), 0).await.unwrap();
        let stop = CancellationToken::new();
        let mut follower = Follower::new(&objects, "/r/", &stop);
        assert!(matches!(follower.next().await, Some(Told::State(state)) if state == [first.clone()]));
        let second = objects.create("/r/b", object(), &Claims::default(), 0).await.unwrap();
        let told = follower.next().await;
        assert!(
            matches!(told, Some(Told::Change(Change::Put { object, previous: None })) if object == second)
        );
        objects.delete("/r/a", first.revision, &Claims::default()).await.unwrap();
        let told = follower.next().await;
        assert!(matches!(told, Some(Told::Change(Change::Deleted(last))) if last.bytes == first.bytes));
        stop.cancel();
        assert!(follower.next().await.is_none());
    }
}
