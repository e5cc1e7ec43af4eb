//! Garbage collection: objects whose owners are gone are deleted; owners that wait for their dependents, to be deleted or
//! to be let go, are served.
//!
//! One watch of the whole store feeds an index of who depends on whom, by UID. The index only says where to look: before
//! anything is written, owners and dependents are read again.

mod graph;
mod work;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use serde_json::Value;
use tokio::task::JoinSet;

use self::graph::{Graph, Owner};
use crate::machinery::status::ApiError;
use crate::operations::delete::{FOREGROUND, ORPHAN};
use crate::operations::{metadata, read};
use crate::server::state::State;
use crate::storage::Stored;
use crate::storage::follow::{Change, Follower, Told};

/// Everything that is stored as an object.
const PREFIX: &str = "/registry/";
/// Objects that are looked at, at the same time.
const AT_ONCE: usize = 32;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Something to look at: the key of an object, as a dependent or as an owner that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Job {
    /// Does it still have an owner?
    Dependent(Bytes),
    /// Can it go, or be let go?
    Owner(Bytes),
}

/// Follows the store until the server stops.
pub(super) async fn run(state: Arc<State>) {
    let mut follower = Follower::new(&state.objects, PREFIX, &state.stopping);
    let mut collector = Collector::default();
    loop {
        tokio::select! {
            told = follower.next() => match told {
                None => break,
                Some(Told::State(all)) => collector.replace(&all),
                Some(Told::Change(Change::Put { object, .. })) => collector.put(&object),
                Some(Told::Change(Change::Deleted(last))) => collector.deleted(&last),
            },
            Some(Ok((job, result))) = collector.running.join_next() => collector.done(job, result),
            Some(Ok(job)) = collector.pausing.join_next() => collector.queue(job),
        }
        collector.begin(&state);
    }
    collector.running.shutdown().await;
    collector.pausing.shutdown().await;
}

/// The index, and the work that follows from it.
#[derive(Default)]
struct Collector {
    graph: Graph,
    waiting: VecDeque<Job>,
    queued: HashSet<Job>,
    running: JoinSet<(Job, Result<(), ApiError>)>,
    /// Jobs that failed, until they are tried again.
    pausing: JoinSet<Job>,
    failures: HashMap<Job, u32>,
}

impl Collector {
    fn replace(&mut self, all: &[Stored]) {
        self.graph = Graph::default();
        for stored in all {
            self.put(stored);
        }
    }

    fn put(&mut self, stored: &Stored) {
        // Only objects with one of these texts in them are worth decoding.
        let has_owners = memmem::find(&stored.bytes, b"\"ownerReferences\":[").is_some();
        let is_deleting = memmem::find(&stored.bytes, b"\"deletionTimestamp\"").is_some();
        if !has_owners && !is_deleting {
            for owner in self.graph.forget(&stored.key) {
                self.queue(Job::Owner(owner));
            }
            return;
        }
        let Ok(object) = read::decode(stored) else { return };
        let waits = metadata::is_deleting(&object)
            && metadata::finalizers(&object).any(|finalizer| matches!(finalizer, ORPHAN | FOREGROUND));
        let uid = metadata::text(&object, "uid").to_owned();
        let (is_new, released) = self.graph.note(&stored.key, uid, owners(&object), waits);
        if is_new {
            self.queue(Job::Dependent(stored.key.clone()));
        }
        for owner in released {
            self.queue(Job::Owner(owner));
        }
        if waits {
            self.queue(Job::Owner(stored.key.clone()));
        }
    }

    fn deleted(&mut self, last: &Stored) {
        let decoded = read::decode(last);
        let uid = decoded.map(|object| metadata::text(&object, "uid").to_owned()).unwrap_or_default();
        for owner in self.graph.forget(&last.key) {
            self.queue(Job::Owner(owner));
        }
        for dependent in self.graph.dependents(&uid) {
            self.queue(Job::Dependent(dependent));
        }
    }

    fn queue(&mut self, job: Job) {
        if self.queued.insert(job.clone()) {
            self.waiting.push_back(job);
        }
    }

    fn done(&mut self, job: Job, result: Result<(), ApiError>) {
        let Err(error) = result else {
            self.failures.remove(&job);
            return;
        };
        let failures = self.failures.entry(job.clone()).or_default();
        *failures += 1;
        let pause = FIRST_PAUSE.saturating_mul(1 << (*failures).min(10)).min(LONGEST_PAUSE);
        tracing::debug!(?job, %error, ?pause, "garbage collection is tried again");
        self.pausing.spawn(async move {
            tokio::time::sleep(pause).await;
            job
        });
    }

    fn begin(&mut self, state: &Arc<State>) {
        while self.running.len() < AT_ONCE
            && let Some(job) = self.waiting.pop_front()
        {
            self.queued.remove(&job);
            let state = Arc::clone(state);
            let (Job::Dependent(key) | Job::Owner(key)) = &job;
            let uid = self.graph.uid(key).unwrap_or_default();
            let (dependents, blocking) = (self.graph.dependents(uid), self.graph.blocking(uid));
            self.running.spawn(async move {
                let result = match &job {
                    Job::Dependent(key) => work::dependent(&state, key, !dependents.is_empty()).await,
                    Job::Owner(key) => work::owner(&state, key, &dependents, &blocking).await,
                };
                (job, result)
            });
        }
    }
}

fn owners(object: &Value) -> Vec<Owner> {
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let owner = |reference: &Value| {
        let uid = reference["uid"].as_str()?.to_owned();
        Some(Owner { uid, blocks: reference["blockOwnerDeletion"] == true })
    };
    references.filter_map(owner).collect()
}
