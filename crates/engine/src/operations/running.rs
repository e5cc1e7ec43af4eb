//! The operations that this process is running.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio_util::task::AbortOnDropHandle;

use crate::runner::Signals;

/// The operations that this process is running, by uid. Dropping it drops them all, to be resumed by whoever comes next.
#[derive(Debug, Default)]
pub(super) struct Running {
    operations: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    signals: Signals,
    task: AbortOnDropHandle<()>,
}

impl Running {
    /// Starts an operation unless it is running; asks one that is to end early if `cancel` or `halt`. Whether it was started: then it reads by
    /// itself what is asked of it, for the caller may know only what was asked of the run before.
    pub(super) fn ensure<F>(
        &self,
        uid: &str,
        cancel: bool,
        halt: bool,
        run: impl FnOnce(Signals) -> F,
    ) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = operations.get(uid).filter(|entry| !entry.task.is_finished()) {
            if cancel {
                running.signals.cancel.cancel();
            }
            if halt {
                running.signals.halt.cancel();
            }
            return false;
        }
        let signals = Signals::default();
        let task = AbortOnDropHandle::new(tokio::spawn(run(signals.clone())));
        operations.insert(uid.to_owned(), Entry { signals, task });
        true
    }

    /// Forgets the operations that have ended.
    pub(super) fn sweep(&self) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.retain(|_, entry| !entry.task.is_finished());
    }
}
