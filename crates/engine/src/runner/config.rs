//! Limits of the engine.

use std::time::Duration;

use crate::backoff::Backoff;

/// Limits of the engine, and what holds for steps that say nothing themselves.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Most steps of one operation to run at the same time, where the operation does not say.
    pub parallelism: usize,
    /// Most steps of all operations to run at the same time. Steps inside
    /// [`StepContext::wait_for`](crate::action::StepContext::wait_for) do not count.
    pub places: usize,
    /// How long one attempt at a step may take.
    pub step_timeout: Duration,
    /// How often a step is tried.
    pub max_attempts: u32,
    /// Delays between attempts.
    pub retry: Backoff,
    /// How long an attempt that is to end may take to do so before it is dropped.
    pub grace: Duration,
    /// Progress is journaled at most this often (less often for operations with many steps).
    pub progress_interval: Duration,
    /// While steps run and tell nothing, progress and remaining time are brought up to date this often.
    pub refresh_interval: Duration,
    /// How long the store may refuse the journal before the operation is given up, to be resumed later.
    pub journal_deadline: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            parallelism: 32,
            places: 512,
            step_timeout: Duration::from_secs(300),
            max_attempts: 5,
            retry: Backoff { initial: Duration::from_secs(1), maximum: Duration::from_secs(60) },
            grace: Duration::from_secs(5),
            progress_interval: Duration::from_secs(1),
            refresh_interval: Duration::from_secs(15),
            journal_deadline: Duration::from_secs(60),
        }
    }
}
