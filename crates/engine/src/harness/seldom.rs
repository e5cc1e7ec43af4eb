//! What is told of many things is told seldom: a status that counts others would else be written whenever one of them changes.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use crate::reference::ObjectKey;

/// When something was told of an object the last time.
#[derive(Debug)]
pub struct Seldom {
    pause: Duration,
    told: Mutex<HashMap<ObjectKey, Instant>>,
}

impl Seldom {
    /// With so much time between two times.
    pub fn new(pause: Duration) -> Self {
        Self { pause, told: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Instant>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait until something may be told again; nothing if it may now.
    pub fn left(&self, key: &ObjectKey) -> Option<Duration> {
        let at = *self.lock().get(key)?;
        self.pause.checked_sub(at.elapsed()).filter(|left| !left.is_zero())
    }

    /// Something has been told.
    pub fn note(&self, key: &ObjectKey) {
        self.lock().insert(key.clone(), Instant::now());
    }

    /// The object is gone.
    pub fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_told_is_not_told_again_at_once() {
        let (seldom, at_once) = (Seldom::new(Duration::from_secs(3600)), Seldom::new(Duration::ZERO));
        let [a, b] = ["a", "b"].map(|name| ObjectKey::new("ns", name));
        assert_eq!(seldom.left(&a), None);
        seldom.note(&a);
        assert!(seldom.left(&a).is_some_and(|left| left <= Duration::from_secs(3600)));
        assert_eq!(seldom.left(&b), None, "another one is not concerned");
        seldom.forget(&a);
        assert_eq!(seldom.left(&a), None);
        at_once.note(&a);
        assert_eq!(at_once.left(&a), None);
    }
}
