//! Nobody asks a cluster that does not answer, but one, now and then.

use std::{sync::Mutex, time::Duration};

use drystone_engine::backoff::Backoff;
use tokio::{sync::watch, time::Instant};

/// Delays after a cluster did not answer.
pub(crate) const AWAY: Backoff =
    Backoff { initial: Duration::from_millis(500), maximum: Duration::from_secs(60) };

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    Closed {
        failures: u32,
        until: Instant,
        /// Somebody is asking.
        probed: bool,
    },
}

/// Passed before each request to a cluster.
#[derive(Debug)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    backoff: Backoff,
}

/// Leave to send one request. Dropped without a verdict, the next one may try.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    gate: &'a Gate,
    probing: bool,
    judged: bool,
}

impl Gate {
    /// An open one.
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { state: Mutex::new(State::Open), changed: watch::Sender::new(0), backoff }
    }

    fn with<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        result
    }

    /// Whether the cluster answered when it was asked last.
    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner), State::Open)
    }

    /// Waits until a request may be sent.
    pub(crate) async fn pass(&self) -> Pass<'_> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let state = *self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let until = match state {
                State::Open => return Pass { gate: self, probing: false, judged: false },
                State::Closed { until, probed: false, .. } if until <= Instant::now() => {
                    if self.claim() {
                        return Pass { gate: self, probing: true, judged: false };
                    }
                    continue;
                }
                State::Closed { probed: true, .. } => None,
                State::Closed { until, .. } => Some(until),
            };
            let far = Instant::now() + Duration::from_secs(3600);
            tokio::select! {
                _ = changed.changed() => {}
                () = tokio::time::sleep_until(until.unwrap_or(far)) => {}
            }
        }
    }

    /// Becomes the one that asks.
    fn claim(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &mut *state {
            State::Closed { probed, until, .. } if !*probed && *until <= Instant::now() => {
                *probed = true;
                true
            }
            _ => false,
        }
    }

    /// Tells that the cluster answers, from elsewhere than a request.
    pub(crate) fn open(&self) {
        if !self.is_open() {
            self.with(|state| *state = State::Open);
        }
    }

    /// Asks again soon: something has changed that may have been the cause.
    pub(crate) fn retry_now(&self) {
        self.with(|state| {
            if let State::Closed { until, .. } = state {
                *until = Instant::now();
            }
        });
    }
}

impl Pass<'_> {
    /// The cluster has answered.
    pub(crate) fn answered(mut self) {
        self.judged = true;
        self.gate.open();
    }

    /// It has not, or only that it cannot. It is asked again after `at_least`, and later the more often that happens.
    pub(crate) fn failed(mut self, at_least: Duration) {
        self.judged = true;
        let (backoff, probing) = (self.gate.backoff, self.probing);
        self.gate.with(|state| {
            let failures = match *state {
                State::Open => 1,
                State::Closed { failures, .. } if probing => failures.saturating_add(1),
                // It was sent before the gate closed: nothing new.
                State::Closed { .. } => return,
            };
            let until = Instant::now() + backoff.random_delay(failures).max(at_least);
            *state = State::Closed { failures, until, probed: false };
        });
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probing && !self.judged {
            self.gate.with(|state| {
                if let State::Closed { probed, .. } = state {
                    *probed = false;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Backoff = Backoff { initial: Duration::from_secs(10), maximum: Duration::from_secs(40) };

    #[tokio::test(start_paused = true)]
    async fn one_asks_and_the_others_wait_for_what_it_hears() {
        let gate = std::sync::Arc::new(Gate::new(SHORT));
        gate.pass().await.failed(Duration::ZERO);
        assert!(!gate.is_open());
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.pass().await.answered() })
            })
            .collect();
        let began = Instant::now();
        let probe = gate.pass().await;
        let took = began.elapsed();
        // The probe of the test, or that of one of the others, which opens the gate for all.
        assert!(took >= Duration::from_secs(5) && took <= Duration::from_secs(11), "{took:?}");
        probe.answered();
        for task in waiting {
            task.await.unwrap();
        }
        assert!(gate.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn delays_grow_with_probes_and_not_with_what_was_under_way() {
        let gate = Gate::new(SHORT);
        let under_way: Vec<Pass<'_>> = vec![gate.pass().await, gate.pass().await, gate.pass().await];
        under_way.into_iter().for_each(|pass| pass.failed(Duration::ZERO));
        let began = Instant::now();
        gate.pass().await.failed(Duration::ZERO);
        assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
        let began = Instant::now();
        drop(gate.pass().await);
        assert!(began.elapsed() >= Duration::from_secs(10), "{:?}", began.elapsed());
        gate.pass().await.failed(Duration::from_secs(100));
        let began = Instant::now();
        gate.pass().await.answered();
        assert!(began.elapsed() >= Duration::from_secs(100), "{:?}", began.elapsed());
    }
}
