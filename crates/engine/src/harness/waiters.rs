//! Those who wait for one object of many.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, futures::Notified};

use crate::reference::ObjectKey;

/// Those who wait, by what they wait for. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiters(Arc<Mutex<HashMap<ObjectKey, Arc<Notify>>>>);

/// Somebody who waits, until dropped.
pub(super) struct Waiter {
    key: ObjectKey,
    bell: Arc<Notify>,
    all: Waiters,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody waits from now on.
    pub(super) fn enter(&self, key: &ObjectKey) -> Waiter {
        let bell = self.lock().entry(key.clone()).or_default().clone();
        Waiter { key: key.clone(), bell, all: self.clone() }
    }

    /// Wakes those who wait for this object.
    pub(super) fn wake(&self, key: &ObjectKey) {
        if let Some(bell) = self.lock().get(key) {
            bell.notify_waiters();
        }
    }
}

impl Waiter {
    /// Ends at the first change after this call, even if nobody polls it before.
    pub(super) fn changed(&self) -> Notified<'_> {
        // `notify_waiters` reaches a `Notified` from its creation on.
        self.bell.notified()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        // Given up here: of two that go at the same time the second must see that it is the last.
        drop(std::mem::take(&mut self.bell));
        if all.get(&self.key).is_some_and(|bell| Arc::strong_count(bell) == 1) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_those_are_woken_whose_object_changes_and_nobody_is_left_behind() {
        let waiters = Waiters::default();
        let [a, b] = ["a", "b"].map(|name| ObjectKey::new("ns", name));
        let (first, second, other) = (waiters.enter(&a), waiters.enter(&a), waiters.enter(&b));
        let mut changes = [first.changed(), second.changed(), other.changed()].map(Box::pin);
        waiters.wake(&a);
        let woken = changes.each_mut().map(|change| futures::FutureExt::now_or_never(change).is_some());
        assert_eq!(woken, [true, true, false]);
        drop(changes);
        drop(first);
        assert_eq!(waiters.lock().len(), 2, "another one still waits for it");
        drop((second, other));
        assert!(waiters.lock().is_empty());
    }
}
