//! The embedded store: a [`Store`] in this process, on one redb file.
//!
//! | module | what it does |
//! |---|---|
//! | `writer` | the one thread that commits: batches, replies, leases, compaction |
//! | `gather` | letting a batch fill up |
//! | `staging` | what a batch changes (pure) |
//! | `commit` | writing a batch to disk, and the removal of compacted history |
//! | `engine`, `file`, `observer`, `recovery` | the database, its file, its failures, and getting over them |
//! | `rewriting` | writing the file anew, without what was removed |
//! | `state`, `keymap`, `record` | the latest state in memory |
//! | `history` | reads at old revisions |
//! | `watch` | feeding watchers |
//! | `leases`, `compaction` | when leases expire, when history is forgotten |

mod commit;
mod compaction;
mod engine;
mod file;
mod gather;
mod history;
mod keymap;
mod leases;
mod observer;
mod options;
mod record;
mod recovery;
mod rewriting;
mod shared;
mod staging;
mod state;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use redb::backends::{FileBackend, InMemoryBackend};
use redb::{Database, DatabaseError, StorageBackend};
use tokio::sync::{mpsc, oneshot};

pub use self::options::{CompactionPolicy, Options};
pub use self::rewriting::rewrite;

use self::commit::Scrub;
use self::engine::{Engine, Opener};
use self::observer::{Faults, Observed};
use self::shared::Shared;
use self::writer::{Command, Reply, Writer};
use crate::{
    LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream,
};

/// The longest time to live of a lease, in seconds; etcd's limit.
const MAX_TIME_TO_LIVE: u64 = 9_000_000_000;

/// A store in this process. Dropping it, or [closing](Self::close) it, finishes what is queued and releases the file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Command>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").finish_non_exhaustive()
    }
}

impl EmbeddedStore {
    /// Opens the store in the file `path`, which is made (mode 0600) if it does not exist; its directory must exist.
    /// Blocks while the latest state is read into memory and, after a crash, while the file is repaired.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if the file cannot be opened, is open elsewhere, or is not a store of this version.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, StoreError> {
        let path = path.as_ref().to_path_buf();
        file::ensure(&path)?;
        let cache_bytes = options.cache_bytes;
        let faults = Faults::default();
        let noted = faults.clone();
        let opener = move || {
            let backend = Observed::new(FileBackend::new(file::open(&path)?)?, noted.clone());
            open_database(backend, cache_bytes)
        };
        Self::start(Box::new(opener), faults, options)
    }

    /// A store that is gone when it is dropped.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if the writer cannot be started.
    pub fn in_memory(options: Options) -> Result<Self, StoreError> {
        let cache_bytes = options.cache_bytes;
        let opener = move || open_database(InMemoryBackend::new(), cache_bytes);
        Self::start(Box::new(opener), Faults::default(), options)
    }

    fn start(opener: Opener, faults: Faults, options: Options) -> Result<Self, StoreError> {
        let engine = Engine::open(opener, faults)?;
        let (state, facts) = engine.read(history::load)?;
        let scrub = Scrub::new(facts.scrubbed, facts.compacted);
        let shared = Arc::new(Shared::new(state, engine, options.watch_buffer));
        let (sender, receiver) = mpsc::channel(options.queue_length.max(1));
        let writer = Writer::new(Arc::clone(&shared), options, scrub);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| StoreError::Backend(format!("the writer cannot be started: {error}")))?;
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || runtime.block_on(writer.run(receiver)))
            .map_err(|error| StoreError::Backend(format!("the writer cannot be started: {error}")))?;
        Ok(Self { shared, queue: Mutex::new(Some(sender)), writer: Mutex::new(Some(thread)) })
    }

    /// Finishes what is queued, ends all watches and closes the file. Later writes fail with [`StoreError::Closed`];
    /// the latest state stays readable.
    pub async fn close(&self) {
        if let Some(thread) = self.stop() {
            // The thread has nothing to return; a panic of it has been reported by the panic hook.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    /// Lets the writer finish.
    fn stop(&self) -> Option<JoinHandle<()>> {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    async fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let queue = queue.ok_or(StoreError::Closed)?;
        let (reply, answer) = oneshot::channel();
        queue.send(command(reply)).await.map_err(|_| StoreError::Closed)?;
        drop(queue);
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        if let Some(thread) = self.stop() {
            let _ = thread.join();
        }
    }
}

#[async_trait::async_trait]
impl Store for EmbeddedStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let (map, latest, compacted) = {
            let state = self.shared.state();
            (state.map.clone(), state.revision, state.compacted)
        };
        match request.revision {
            Some(requested) if requested > latest => {
                Err(StoreError::FutureRevision { requested, current: latest })
            }
            Some(requested) if requested < compacted => Err(StoreError::Compacted { requested, compacted }),
            Some(requested) if requested < latest => {
                let engine = Arc::clone(&self.shared.engine);
                let read = move || {
                    engine
                        .read(|transaction| history::range_at(transaction, &map, latest, requested, &request))
                };
                tokio::task::spawn_blocking(read).await.map_err(|_| StoreError::Closed)?
            }
            _ => Ok(staging::respond(&request, latest, map.count(&request.range), map.range(&request.range))),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.send(|reply| Command::Txn(txn, reply)).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        let compacted = self.shared.state().compacted;
        if let Some(requested) = request.start_revision.filter(|start| *start < compacted) {
            return Err(StoreError::Compacted { requested, compacted });
        }
        let (hub, engine) = (Arc::clone(&self.shared.hub), Arc::clone(&self.shared.engine));
        let mut watch = watch::open(hub, engine, request.range, request.start_revision);
        watch.join()?;
        Ok(Box::pin(watch))
    }

    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        // Random, so that an identifier remembered from before a restart does not meet another's lease.
        let lease = rand::rng().random_range(1..LeaseId::MAX);
        self.lease_grant_as(lease, ttl_seconds).await.map(|()| lease)
    }

    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError> {
        if !(1..=MAX_TIME_TO_LIVE).contains(&ttl_seconds) {
            return Err(StoreError::InvalidRequest(format!(
                "the time to live of a lease is 1 to {MAX_TIME_TO_LIVE} seconds, not {ttl_seconds}"
            )));
        }
        if lease <= 0 {
            return Err(StoreError::InvalidRequest(format!("the number of a lease is above 0, not {lease}")));
        }
        let time_to_live = Duration::from_secs(ttl_seconds);
        self.send(|reply| Command::Grant { lease, time_to_live, reply }).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.send(|reply| Command::KeepAlive(lease, reply)).await
    }

    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError> {
        self.send(|reply| Command::TimeToLive(lease, reply)).await
    }

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, StoreError> {
        Ok(self.shared.state().keys_of(lease).cloned().collect())
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.send(|reply| Command::Revoke(lease, reply)).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.send(|reply| Command::Compact(revision, reply)).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.shared.state().revision)
    }
}

fn open_database(backend: impl StorageBackend, cache_bytes: usize) -> Result<Database, DatabaseError> {
    redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(backend)
}
