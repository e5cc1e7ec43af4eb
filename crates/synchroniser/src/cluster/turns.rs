//! One write of an object at a time, whoever wants it, also when whoever wanted it does not any more.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

type Objects = HashMap<String, Arc<tokio::sync::Mutex<()>>>;

/// The objects of a cluster that are being written, by their paths.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<Objects>);

/// The right to write an object. It is to be kept until the cluster has answered, or cannot any more.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    object: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else writes an object.
    pub(crate) async fn turn(self: &Arc<Self>, object: &str) -> Turn {
        let object = object.to_owned();
        let lock = self.objects().entry(object.clone()).or_default().clone();
        // Also if it is dropped while it waits, the object is forgotten by the last.
        let mut turn = Turn { turns: self.clone(), object, held: None };
        turn.held = Some(lock.lock_owned().await);
        turn
    }

    /// Waits until an object is not being written.
    pub(crate) async fn settled(self: &Arc<Self>, object: &str) {
        let is_written = self.objects().contains_key(object);
        if is_written {
            drop(self.turn(object).await);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut objects = self.turns.objects();
        // All others are made from this one, under this lock.
        if objects.get(&self.object).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            objects.remove(&self.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_after_the_other_and_nothing_is_kept() {
        let turns = Arc::<Turns>::default();
        let first = turns.turn("/a").await;
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(10), turns.turn("/a")).await;
        assert!(waiting.is_err());
        turns.settled("/b").await;
        drop(turns.turn("/b").await);
        let settled = {
            let turns = turns.clone();
            tokio::spawn(async move { turns.settled("/a").await })
        };
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        drop(first);
        settled.await.unwrap();
        drop(turns.turn("/a").await);
        assert!(turns.objects().is_empty());
    }
}
