//! A place among the steps that the engine runs at the same time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A place among the steps that the engine runs at the same time; given back when dropped, or for a while when the step waits
/// for something that happens elsewhere.
#[derive(Debug)]
pub struct Place {
    places: Arc<Semaphore>,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Place {
    pub(super) fn new(places: Arc<Semaphore>, permit: OwnedSemaphorePermit) -> Self {
        Self { places, permit: Mutex::new(Some(permit)) }
    }

    /// Gives the place to somebody else.
    pub(crate) fn release(&self) {
        self.set(None);
    }

    /// Takes a place again, in the order of asking. Does nothing if it has one.
    pub(crate) async fn acquire(&self) {
        if self.is_held() {
            return;
        }
        // The semaphore is never closed; were it, running without a place is better than not running.
        let permit = self.places.clone().acquire_owned().await.ok();
        self.set(permit);
    }

    fn is_held(&self) -> bool {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}
