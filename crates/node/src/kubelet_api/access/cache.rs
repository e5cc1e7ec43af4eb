//! Answers that count for a short while.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// More than so many are not kept: whoever guesses tokens must not fill the memory.
const MOST: usize = 1024;

/// A map whose entries expire.
pub(super) struct Cache<K, V> {
    entries: Mutex<HashMap<K, (Instant, V)>>,
}

impl<K, V> Default for Cache<K, V> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    /// What is known and has not expired.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (end, value) = entries.get(key)?;
        (*end > Instant::now()).then(|| value.clone())
    }

    /// Remembers a value.
    pub(super) fn insert(&self, key: K, value: V, life: Duration) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if entries.len() >= MOST {
            entries.retain(|_, (end, _)| *end > now);
        }
        if entries.len() >= MOST {
            entries.clear();
        }
        entries.insert(key, (now + life, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn entries_expire() {
        let cache = Cache::default();
        cache.insert("a", 1, Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(cache.get(&"a"), Some(1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(cache.get(&"a"), None);
    }

    #[test]
    fn it_does_not_grow_without_end() {
        let cache = Cache::default();
        for key in 0..10 * MOST {
            cache.insert(key, (), Duration::from_secs(1000));
        }
        assert!(cache.entries.lock().unwrap().len() <= MOST);
    }
}
