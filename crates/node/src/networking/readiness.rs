//! Whether pods get a working network, and why not.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use tokio::sync::watch;

/// What has to be in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// Addresses for pods.
    Addresses,
    /// Routes to the pods of other nodes.
    Routes,
    /// The rules of Services.
    Services,
    /// The name server.
    Names,
}

/// The parts that are not in place, and what others are told of them.
#[derive(Debug)]
pub(crate) struct Readiness {
    missing: Mutex<BTreeMap<Part, String>>,
    told: watch::Sender<Result<(), String>>,
}

impl Readiness {
    /// Nothing of this is in place yet.
    pub(crate) fn new(missing: impl IntoIterator<Item = (Part, String)>) -> Self {
        let missing: BTreeMap<Part, String> = missing.into_iter().collect();
        let (told, _) = watch::channel(summary(&missing));
        Self { missing: Mutex::new(missing), told }
    }

    /// Follows the state of one part.
    pub(crate) fn set(&self, part: Part, state: Result<(), String>) {
        // One statement changes it: a panic elsewhere leaves it right.
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        match state {
            Ok(()) => missing.remove(&part),
            Err(problem) => missing.insert(part, problem),
        };
        let new = summary(&missing);
        self.told.send_if_modified(|told| {
            let changed = *told != new;
            *told = new;
            changed
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Result<(), String>> {
        self.told.subscribe()
    }
}

fn summary(missing: &BTreeMap<Part, String>) -> Result<(), String> {
    if missing.is_empty() {
        return Ok(());
    }
    Err(missing.values().map(String::as_str).collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_count_and_changes_are_told_once() {
        let readiness =
            Readiness::new([(Part::Addresses, "no block".into()), (Part::Services, "no rules".into())]);
        let mut told = readiness.subscribe();
        assert_eq!(*told.borrow_and_update(), Err("no block; no rules".into()));
        readiness.set(Part::Addresses, Ok(()));
        assert!(told.has_changed().unwrap());
        assert_eq!(*told.borrow_and_update(), Err("no rules".into()));
        readiness.set(Part::Routes, Ok(()));
        assert!(!told.has_changed().unwrap());
        readiness.set(Part::Services, Ok(()));
        assert_eq!(*told.borrow_and_update(), Ok(()));
    }
}
