//! Writes at the same time: what one of them relies on, no other changes before it is through.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::Notify;

/// What a write changes and what it relies on: paths.
#[derive(Debug, Default)]
pub(crate) struct Footprint {
    /// What it changes.
    pub(crate) writes: HashSet<String>,
    /// What has to stay as it is.
    pub(crate) reads: HashSet<String>,
}

impl Footprint {
    fn disturbs(&self, other: &Self) -> bool {
        let touches = |path: &String| other.writes.contains(path) || other.reads.contains(path);
        self.writes.iter().any(touches) || other.writes.iter().any(|path| self.reads.contains(path))
    }
}

/// Lets writes pass that do not disturb each other. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    inside: Mutex<Vec<Arc<Footprint>>>,
    left: Notify,
}

/// A write that is inside; it leaves when this is dropped.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Gate,
    footprint: Arc<Footprint>,
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut inside = self.gate.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.retain(|other| !Arc::ptr_eq(other, &self.footprint));
        drop(inside);
        self.gate.0.left.notify_waiters();
    }
}

impl Gate {
    /// Waits until no write is inside that this one would disturb, or that would disturb it.
    pub(crate) async fn enter(&self, footprint: Footprint) -> Pass {
        let footprint = Arc::new(footprint);
        loop {
            // Whoever leaves between the look and the wait is noticed.
            let left = self.0.left.notified();
            if self.try_enter(&footprint) {
                return Pass { gate: self.clone(), footprint };
            }
            left.await;
        }
    }

    fn try_enter(&self, footprint: &Arc<Footprint>) -> bool {
        let mut inside = self.0.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = !inside.iter().any(|other| other.disturbs(footprint));
        if is_free {
            inside.push(footprint.clone());
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn footprint(writes: &[&str], reads: &[&str]) -> Footprint {
        let set = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
        Footprint { writes: set(writes), reads: set(reads) }
    }

    #[tokio::test]
    async fn those_that_disturb_each_other_wait() {
        let gate = Gate::default();
        let child = gate.enter(footprint(&["a/b"], &["a"])).await;
        // Another child passes.
        let _other = gate.enter(footprint(&["a/c"], &["a"])).await;
        let waits = async |writes: &[&str], reads: &[&str]| {
            let entering = gate.enter(footprint(writes, reads));
            tokio::time::timeout(Duration::from_millis(20), entering).await.is_err()
        };
        assert!(waits(&["a"], &[]).await, "its parent may not go");
        assert!(waits(&["a/b"], &[]).await, "nor may it be made twice");
        assert!(waits(&["x"], &["a/b"]).await, "nor may somebody rely on it");
        drop(child);
        assert!(!waits(&["a/b"], &[]).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_waits_for_ever() {
        let gate = Gate::default();
        let running = (0..200).map(|number| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let path = format!("p{}", number % 3);
                let _pass = gate.enter(footprint(&[&path], &["q"])).await;
                tokio::task::yield_now().await;
            })
        });
        let all = futures::future::join_all(running.collect::<Vec<_>>());
        tokio::time::timeout(Duration::from_secs(60), all).await.unwrap();
        assert!(gate.0.inside.lock().unwrap().is_empty());
    }
}
