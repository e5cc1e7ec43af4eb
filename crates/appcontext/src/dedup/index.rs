//! Which values there are, and how many keys have each.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{Figures, layout::Digest};

/// A value that is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kept {
    /// Keys that have it. Below 0 for a moment if a later change is counted before an earlier one.
    references: i64,
    length: u64,
    /// Whether it is in the store: keys are counted that are written together with it.
    is_there: bool,
}

/// The values.
#[derive(Debug, Default)]
pub(super) struct Index {
    kept: HashMap<Digest, Kept>,
    /// Values that no key has, and since when.
    idle: HashMap<Digest, Instant>,
    /// Whether a transaction ended in a way that leaves it open what was written.
    pub(super) is_in_doubt: bool,
}

impl Index {
    /// Whether a value is in the store.
    pub(super) fn is_there(&self, digest: &Digest) -> bool {
        self.kept.get(digest).is_some_and(|kept| kept.is_there)
    }

    /// Notes that a value is in the store.
    pub(super) fn add(&mut self, digest: Digest) {
        let kept = self.kept.entry(digest).or_default();
        kept.is_there = true;
        if kept.references <= 0 {
            self.idle.insert(digest, Instant::now());
        }
    }

    /// Counts keys that have got (or lost) a value of that length.
    pub(super) fn count(&mut self, digest: Digest, by: i64, length: u64) {
        let kept = self.kept.entry(digest).or_default();
        kept.references += by;
        kept.length = length;
        if kept.references > 0 {
            self.idle.remove(&digest);
        } else {
            self.idle.entry(digest).or_insert_with(Instant::now);
        }
    }

    /// Up to `most` values that no key has had for some time; they are gone from the index.
    pub(super) fn take_idle(&mut self, since: Instant, most: usize) -> Vec<Digest> {
        let old = self.idle.iter().filter(|(_, from)| **from <= since).map(|(digest, _)| *digest);
        let taken: Vec<Digest> = old.take(most).collect();
        for digest in &taken {
            self.idle.remove(digest);
            self.kept.remove(digest);
        }
        taken
    }

    /// Values that keys have and that are not there.
    pub(super) fn missing(&self) -> usize {
        self.kept.values().filter(|kept| !kept.is_there && kept.references > 0).count()
    }

    pub(super) fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for kept in self.kept.values().filter(|kept| kept.is_there) {
            let references = u64::try_from(kept.references).unwrap_or(0);
            figures.values += 1;
            figures.bytes += kept.length;
            figures.references += references;
            figures.referenced_bytes += references * kept.length;
        }
        figures
    }
}
