//! The work queue between watch events and reconcilers.
//!
//! An item that is queued several times is handed out once; an item that is being worked on is handed out again only after
//! [`WorkQueue::done`], so no object is ever reconciled by two workers at a time. Failed items come back with exponential
//! back-off, and nothing spins.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

/// Delay after the first failure of an item; doubled for each further one.
const BACKOFF_BASE: Duration = Duration::from_millis(5);
/// The longest delay between two tries of a failing item.
const BACKOFF_LIMIT: Duration = Duration::from_secs(60);

struct State<T> {
    ready: VecDeque<T>,
    /// Items in `ready`, and items to be queued again once their worker is done.
    dirty: HashSet<T>,
    processing: HashSet<T>,
    delayed: BinaryHeap<Reverse<(Instant, T)>>,
    /// The time at which a delayed item is due; entries of `delayed` that disagree are stale.
    due: HashMap<T, Instant>,
    failures: HashMap<T, u32>,
}

/// A shared queue of keys to reconcile. See the module documentation.
#[derive(Clone)]
pub struct WorkQueue<T> {
    state: Arc<Mutex<State<T>>>,
    wake: Arc<Notify>,
}

impl<T: Clone + Eq + Hash + Ord> Default for WorkQueue<T> {
    fn default() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BinaryHeap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), wake: Arc::new(Notify::new()) }
    }
}

impl<T: Clone + Eq + Hash + Ord> WorkQueue<T> {
    /// Queues the item now.
    pub fn add(&self, item: T) {
        if self.lock().push(item) {
            self.wake.notify_one();
        }
    }

    /// Queues the item after a delay; if it already waits for an earlier time, that stays.
    pub fn add_after(&self, item: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(item);
        }
        self.lock().delay(item, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// Queues the item after a delay that doubles with each failure since the last [`WorkQueue::forget`].
    pub fn add_rate_limited(&self, item: T) {
        let delay = {
            let mut state = self.lock();
            let failures = state.failures.entry(item.clone()).or_default();
            let delay = backoff(*failures);
            *failures = failures.saturating_add(1);
            delay
        };
        self.add_after(item, delay);
    }

    /// Forgets the failures of the item.
    pub fn forget(&self, item: &T) {
        self.lock().failures.remove(item);
    }

    /// Waits for the next item. The caller must call [`WorkQueue::done`] when finished with it.
    pub async fn next(&self) -> T {
        loop {
            let notified = self.wake.notified();
            let due = {
                let mut state = self.lock();
                state.promote(Instant::now());
                if let Some(item) = state.ready.pop_front() {
                    state.dirty.remove(&item);
                    state.processing.insert(item.clone());
                    if !state.ready.is_empty() {
                        // Several workers may wait; one wake-up may stand for several items.
                        self.wake.notify_one();
                    }
                    return item;
                }
                state.next_due()
            };
            match due {
                None => notified.await,
                Some(due) => {
                    tokio::select! {
                        () = notified => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
            }
        }
    }

    /// Ends work on an item; if it was queued meanwhile it becomes available again.
    pub fn done(&self, item: &T) {
        let mut state = self.lock();
        state.processing.remove(item);
        if state.dirty.contains(item) {
            state.ready.push_back(item.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// How many items could be handed out now.
    pub fn ready_len(&self) -> usize {
        self.lock().ready.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone + Eq + Hash + Ord> State<T> {
    /// Returns whether the item became available to workers.
    fn push(&mut self, item: T) -> bool {
        if !self.dirty.insert(item.clone()) || self.processing.contains(&item) {
            return false;
        }
        self.ready.push_back(item);
        true
    }

    fn delay(&mut self, item: T, at: Instant) {
        if self.due.get(&item).is_some_and(|due| *due <= at) {
            return;
        }
        self.due.insert(item.clone(), at);
        self.delayed.push(Reverse((at, item)));
    }

    /// Moves what is due to the ready items.
    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((at, _))) = self.delayed.peek() {
            if *at > now {
                break;
            }
            let Some(Reverse((at, item))) = self.delayed.pop() else { break };
            if self.due.get(&item) == Some(&at) {
                self.due.remove(&item);
                self.push(item);
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.delayed.peek().map(|Reverse((at, _))| *at)
    }
}

/// Exponential back-off without jitter: objects fail independently, so they do not march in step.
fn backoff(failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
    BACKOFF_BASE.saturating_mul(factor).min(BACKOFF_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_item_is_handed_out_once_and_again_only_after_done() {
        let queue = WorkQueue::default();
        queue.add(1);
        queue.add(1);
        assert_eq!(queue.next().await, 1);
        queue.add(1);
        let second = tokio::time::timeout(Duration::from_secs(5), queue.next()).await;
        assert!(second.is_err(), "an item was handed out while it was being worked on");
        queue.done(&1);
        assert_eq!(queue.next().await, 1);
        queue.done(&1);
        assert_eq!(queue.ready_len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_the_earliest_time_and_failures_double_it() {
        let queue = WorkQueue::default();
        let start = Instant::now();
        queue.add_after(7, Duration::from_secs(30));
        queue.add_after(7, Duration::from_secs(10));
        queue.add_after(7, Duration::from_secs(60));
        assert_eq!(queue.next().await, 7);
        assert_eq!(start.elapsed().as_secs(), 10);
        queue.done(&7);
        let mut waits = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            queue.add_rate_limited(7);
            assert_eq!(queue.next().await, 7);
            queue.done(&7);
            waits.push(start.elapsed().as_millis());
        }
        assert_eq!(waits, [5, 10, 20]);
    }

    #[test]
    fn backoff_is_bounded() {
        assert_eq!(backoff(0), BACKOFF_BASE);
        assert_eq!(backoff(63), BACKOFF_LIMIT);
        assert_eq!(backoff(u32::MAX), BACKOFF_LIMIT);
    }
}
