//! How long events live: each is written under a lease of the store, and goes when the lease ends. Events of some minutes
//! share one lease, so that they cost no lease each.

use std::time::Duration;

use drystone_store::{LeaseId, Store, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long an event lives at least.
const TIME_TO_LIVE: Duration = Duration::from_secs(3600);
/// For how long new events share a lease.
const SHARED_FOR: Duration = Duration::from_secs(300);

/// The lease that events are written under now.
#[derive(Debug, Default)]
pub(crate) struct EventLeases {
    current: Mutex<Option<(LeaseId, Instant)>>,
}

impl EventLeases {
    /// The lease for an event that is written now.
    pub(crate) async fn lease(&self, store: &dyn Store) -> Result<LeaseId, StoreError> {
        let mut current = self.current.lock().await;
        if let Some((lease, since)) = *current
            && since.elapsed() < SHARED_FOR
        {
            return Ok(lease);
        }
        let lease = store.lease_grant((TIME_TO_LIVE + SHARED_FOR).as_secs()).await?;
        *current = Some((lease, Instant::now()));
        Ok(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drystone_store::embedded::{EmbeddedStore, Options};

    #[tokio::test]
    async fn a_lease_is_shared_for_a_while() {
        let store = EmbeddedStore::in_memory(Options::default()).unwrap();
        let leases = EventLeases::default();
        let first = leases.lease(&store).await.unwrap();
        assert_eq!(leases.lease(&store).await.unwrap(), first);
        let past = Instant::now().checked_sub(SHARED_FOR).unwrap();
        *leases.current.lock().await = Some((first, past));
        assert_ne!(leases.lease(&store).await.unwrap(), first);
    }
}
