//! Bounding how many requests are worked on at one time, so that a flood is told to come back later instead of exhausting
//! the server.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;
use crate::machinery::status::ApiError;

/// The requests that are being worked on.
#[derive(Debug)]
pub(crate) struct InFlight {
    mutating: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl InFlight {
    pub(crate) fn new(limits: &Limits) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { mutating: semaphore(limits.mutating_in_flight), reading: semaphore(limits.reading_in_flight) }
    }

    /// Takes a place, which is given back when the permit is dropped.
    ///
    /// # Errors
    /// [`ApiError::TooManyRequests`] if all places are taken.
    pub(crate) fn enter(&self, mutating: bool) -> Result<OwnedSemaphorePermit, ApiError> {
        let places = if mutating { &self.mutating } else { &self.reading };
        Arc::clone(places).try_acquire_owned().map_err(|_| ApiError::TooManyRequests {
            message: "Too many requests, please try again later.".into(),
            retry_after: 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let limits = Limits { mutating_in_flight: 1, reading_in_flight: 1, ..Limits::default() };
        let in_flight = InFlight::new(&limits);
        let first = in_flight.enter(true).unwrap();
        assert_eq!(in_flight.enter(true).unwrap_err().code(), 429);
        assert!(in_flight.enter(false).is_ok());
        drop(first);
        assert!(in_flight.enter(true).is_ok());
    }
}
