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
    /// Starts an operation unless it is running, and asks it to end early if `cancel` or `halt`. Whether it was started.
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
        let running = operations.get(uid).filter(|entry| !entry.task.is_finished());
        let signals = running.map(|entry| entry.signals.clone()).unwrap_or_default();
        if cancel {
            signals.cancel.cancel();
        }
        if halt {
            signals.halt.cancel();
        }
        let start = running.is_none();
        if start {
            let task = AbortOnDropHandle::new(tokio::spawn(run(signals.clone())));
            operations.insert(uid.to_owned(), Entry { signals, task });
        }
        start
    }

    /// Forgets the operations that have ended.
    pub(super) fn sweep(&self) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.retain(|_, entry| !entry.task.is_finished());
    }
}
