//! Places for hosts that are inspected, provisioned and deprovisioned: what their boots load, a network must carry.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use drystone_api::ProvisioningState as State;

/// Places, by unique id of the host. In memory: a host that is at work when Drystone starts takes its place again in its
/// first pass, even if there is none.
#[derive(Debug)]
pub(in crate::controller) struct Slots {
    limit: usize,
    held: Mutex<HashSet<String>>,
}

/// Whether a state needs a place.
pub(super) const fn needs_slot(state: State) -> bool {
    matches!(state, State::Inspecting | State::Provisioning | State::Deprovisioning)
}

impl Slots {
    pub(in crate::controller) fn new(limit: usize) -> Self {
        Self { limit, held: Mutex::default() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashSet<String>) -> T) -> T {
        work(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Follows what a host is at.
    pub(super) fn follow(&self, uid: &str, state: State) {
        self.with(|held| if needs_slot(state) { held.insert(uid.to_owned()) } else { held.remove(uid) });
    }

    /// Whether the host has a place, or there is one for it.
    pub(super) fn is_free(&self, uid: &str) -> bool {
        self.with(|held| held.contains(uid) || held.len() < self.limit)
    }

    /// Takes a place. False if there is none.
    pub(super) fn take(&self, uid: &str) -> bool {
        self.with(|held| {
            let granted = held.contains(uid) || held.len() < self.limit;
            if granted {
                held.insert(uid.to_owned());
            }
            granted
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_and_given_back() {
        let slots = Slots::new(2);
        assert!(slots.take("a") && slots.take("b") && slots.take("a"));
        assert!(!slots.take("c") && !slots.is_free("c") && slots.is_free("a"));
        slots.follow("a", State::Available);
        assert!(slots.is_free("c") && slots.take("c") && !slots.take("a"));
        slots.follow("a", State::Provisioning);
        assert!(slots.is_free("a"), "who is at work has a place");
    }
}
