//! What a controller has written but its cache does not show yet.
//!
//! A controller that just created three pods must not create three more because the watch is a moment behind. It records
//! what it expects to see; until the watch has delivered that (or a time limit has passed, in case an event was lost) it
//! does not create or delete again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::kind::ObjectKey;

/// After this time expectations are considered lost rather than late.
const TIME_LIMIT: Duration = Duration::from_secs(300);

struct Pending {
    creations: usize,
    /// UIDs of objects whose deletion should be seen.
    deletions: HashSet<String>,
    since: Instant,
}

/// Expectations of one controller, by the key of the owning object.
#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<ObjectKey, Pending>>,
}

impl Expectations {
    /// Whether everything expected has been seen, so that acting on the cache is safe.
    pub fn satisfied(&self, owner: &ObjectKey) -> bool {
        let mut pending = self.lock();
        let Some(entry) = pending.get(owner) else { return true };
        let done = (entry.creations == 0 && entry.deletions.is_empty()) || entry.since.elapsed() > TIME_LIMIT;
        if done {
            pending.remove(owner);
        }
        done
    }

    /// Expects `count` more creations.
    pub fn expect_creations(&self, owner: &ObjectKey, count: usize) {
        let mut pending = self.lock();
        let entry = entry(&mut pending, owner);
        entry.creations += count;
    }

    /// Expects the deletion of the objects with these UIDs.
    pub fn expect_deletions(&self, owner: &ObjectKey, uids: impl IntoIterator<Item = String>) {
        let mut pending = self.lock();
        entry(&mut pending, owner).deletions.extend(uids);
    }

    /// A creation was seen by the watch, or will never be (it failed).
    pub fn creation_observed(&self, owner: &ObjectKey) {
        if let Some(entry) = self.lock().get_mut(owner) {
            entry.creations = entry.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen by the watch, or will never be (it failed).
    pub fn deletion_observed(&self, owner: &ObjectKey, uid: &str) {
        if let Some(entry) = self.lock().get_mut(owner) {
            entry.deletions.remove(uid);
        }
    }

    /// Forgets an owner that no longer exists.
    pub fn forget(&self, owner: &ObjectKey) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Pending>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry<'a>(pending: &'a mut HashMap<ObjectKey, Pending>, owner: &ObjectKey) -> &'a mut Pending {
    let entry = pending.entry(owner.clone()).or_insert_with(|| Pending {
        creations: 0,
        deletions: HashSet::new(),
        since: Instant::now(),
    });
    entry.since = Instant::now();
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn satisfied_only_when_all_was_seen_or_time_has_passed() {
        let expectations = Expectations::default();
        let key = ObjectKey::new("a", "rs");
        assert!(expectations.satisfied(&key));
        expectations.expect_creations(&key, 2);
        expectations.expect_deletions(&key, ["u1".to_owned()]);
        expectations.creation_observed(&key);
        expectations.creation_observed(&key);
        assert!(!expectations.satisfied(&key));
        expectations.deletion_observed(&key, "other");
        assert!(!expectations.satisfied(&key));
        expectations.deletion_observed(&key, "u1");
        assert!(expectations.satisfied(&key));

        expectations.expect_creations(&key, 1);
        tokio::time::advance(TIME_LIMIT + Duration::from_secs(1)).await;
        assert!(expectations.satisfied(&key));
    }
}
