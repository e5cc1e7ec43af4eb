//! Doing the same thing many times in parallel, cautiously.

use std::future::Future;

use futures::future::join_all;

/// The outcome of [`slow_start`].
#[derive(Debug)]
pub struct Outcome<E> {
    /// How many calls succeeded.
    pub succeeded: usize,
    /// The first error; no further batch was started after it.
    pub error: Option<E>,
}

/// Calls `act(0)`, `act(1)` … `act(count - 1)` in parallel batches of 1, 2, 4, 8 …, stopping after a batch with an error.
///
/// If creating pods is refused (by a quota, say), one request finds out instead of five hundred.
pub async fn slow_start<F, Fut, T, E>(count: usize, act: F) -> Outcome<E>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let mut outcome = Outcome { succeeded: 0, error: None };
    let mut next = 0;
    let mut size = 1;
    while next < count && outcome.error.is_none() {
        let batch = next..count.min(next + size);
        next = batch.end;
        size *= 2;
        for result in join_all(batch.map(&act)).await {
            match result {
                Ok(_) => outcome.succeeded += 1,
                Err(error) => outcome.error = outcome.error.or(Some(error)),
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_failing_batch_is_the_last() {
        let calls = AtomicUsize::new(0);
        let act = |n: usize| {
            calls.fetch_add(1, Ordering::Relaxed);
            async move { if n < 5 { Ok(()) } else { Err(n) } }
        };
        let outcome = slow_start(100, act).await;
        // Batches 1 + 2 + 4: the third contains calls 3..7.
        assert_eq!((outcome.succeeded, outcome.error), (5, Some(5)));
        assert_eq!(calls.load(Ordering::Relaxed), 7);
    }

    #[tokio::test]
    async fn all_are_called_once() {
        let calls = AtomicUsize::new(0);
        let outcome = slow_start(13, |_| async { Ok::<_, ()>(calls.fetch_add(1, Ordering::Relaxed)) }).await;
        assert_eq!((outcome.succeeded, calls.load(Ordering::Relaxed)), (13, 13));
    }
}
