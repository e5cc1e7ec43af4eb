//! The operations that this process is running.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The operations that this process is running, by uid. Dropping it drops them all, to be resumed by whoever comes next.
#[derive(Debug, Default)]
pub(super) struct Running {
    operations: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    cancel: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Running {
    /// Starts an operation unless it is running, and asks it to end early if `cancel`.
    pub(super) fn ensure<F>(&self, uid: &str, cancel: bool, run: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        let running = operations.get(uid).filter(|entry| !entry.task.is_finished());
        let token = running.map_or_else(CancellationToken::new, |entry| entry.cancel.clone());
        if cancel {
            token.cancel();
        }
        if running.is_none() {
            let task = AbortOnDropHandle::new(tokio::spawn(run(token.clone())));
            operations.insert(uid.to_owned(), Entry { cancel: token, task });
        }
    }

    /// Forgets the operations that have ended.
    pub(super) fn sweep(&self) {
        let mut operations = self.operations.lock().unwrap_or_else(PoisonError::into_inner);
        operations.retain(|_, entry| !entry.task.is_finished());
    }
}
