//! How often in a row each object failed to be reconciled.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use crate::reference::ObjectKey;

/// How often in a row each object failed to be reconciled.
#[derive(Debug, Default)]
pub(super) struct Failures {
    counts: Mutex<HashMap<ObjectKey, u32>>,
}

impl Failures {
    /// Counts one more; returns how many there are now.
    pub(super) fn add(&self, key: ObjectKey) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(key).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    /// Forgets the failures of an object that was reconciled, or is gone.
    pub(super) fn forget(&self, key: &ObjectKey) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
