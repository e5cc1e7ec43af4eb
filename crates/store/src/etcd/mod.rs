//! The store on etcd, for several servers over the same data.
//!
//! The contract is the same as of the [embedded store](crate::embedded), with two differences. A watch can begin one revision after the
//! compacted one, not at it: there, the pairs before the changes are gone. And a write whose answer is lost fails with
//! [`StoreError::Backend`] although it may have been carried out; it is never repeated.

mod client;
mod convert;
mod maintenance;
mod members;
mod messages;
mod options;
mod watch;

use bytes::Bytes;
use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use tonic::Code;

pub use self::members::{Member, MembershipError};
pub use self::options::{EtcdOptions, EtcdTls, EtcdUser};

use self::{
    client::{CallError, Client, Repeat, rpc},
    messages as etcd,
};
use crate::{
    LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream,
};

/// How often the members are asked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(10);

/// The longest time to live that etcd knows, in seconds.
const LONGEST_LEASE: u64 = 9_000_000_000;

/// A store on etcd.
#[derive(Debug)]
pub struct EtcdStore {
    client: Arc<Client>,
    /// Batches that may wait for a watcher, and for how long more of them.
    watch_limits: (usize, Duration),
    chores: Vec<JoinHandle<()>>,
}

impl Drop for EtcdStore {
    fn drop(&mut self) {
        for chore in &self.chores {
            chore.abort();
        }
    }
}

impl EtcdStore {
    /// A store on these servers, which are reached when they are needed. To be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`StoreError::InvalidRequest`] if an endpoint is no URL or its TLS settings make no sense.
    pub fn new(options: &EtcdOptions) -> Result<Arc<Self>, StoreError> {
        let client = Arc::new(Client::new(options)?);
        let watch_limits = (options.watch_buffer, options.watch_patience);
        let plain = |chores| Self { client: Arc::clone(&client), watch_limits, chores };
        // Chores have a store of their own, without chores: the one that is handed out ends them when it goes.
        let mut chores = Vec::new();
        if let Some(period) = options.keep_history {
            chores.push(tokio::spawn(compact_regularly(plain(Vec::new()), period)));
        }
        if options.follow_members {
            chores.push(tokio::spawn(follow_regularly(plain(Vec::new()))));
        }
        Ok(Arc::new(plain(chores)))
    }

    /// Asks for the revision, to see that etcd answers: what a program does at its start.
    ///
    /// # Errors
    /// [`StoreError::Backend`] with what is wrong.
    pub async fn check(&self) -> Result<(), StoreError> {
        self.revision().await.map(drop)
    }

    async fn time_to_live(
        &self,
        lease: LeaseId,
        keys: bool,
    ) -> Result<etcd::LeaseTimeToLiveResponse, StoreError> {
        let question = etcd::LeaseTimeToLiveRequest { id: lease, keys };
        let answer = self.client.unary(rpc!("Lease", "LeaseTimeToLive"), question, Repeat::Allowed).await;
        answer.map_err(CallError::into_store_error)
    }

    /// What a read's failure means.
    async fn read_failure(&self, error: CallError, requested: Option<Revision>) -> StoreError {
        let requested = requested.unwrap_or(0);
        if error.is(Code::OutOfRange, "has been compacted") {
            let compacted = watch::compacted(&self.client).await.unwrap_or(requested + 1);
            return StoreError::Compacted { requested, compacted };
        }
        if error.is(Code::OutOfRange, "future revision") {
            return match self.revision().await {
                Ok(current) => StoreError::FutureRevision { requested, current },
                Err(error) => error,
            };
        }
        error.into_store_error()
    }
}

/// Forgets what is older than the period; several servers may do that at a time.
async fn compact_regularly(store: EtcdStore, period: Duration) {
    let mut reached = None;
    loop {
        tokio::time::sleep(period).await;
        if let Some(revision) = reached
            && let Err(error) = store.compact(revision).await
        {
            tracing::warn!(revision, %error, "etcd's history is not compacted");
        }
        if let Ok(revision) = store.revision().await {
            reached = Some(revision);
        }
    }
}

async fn follow_regularly(store: EtcdStore) {
    loop {
        if let Err(error) = store.follow_members().await {
            tracing::debug!(%error, "etcd's members are not known");
        }
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

#[async_trait::async_trait]
impl Store for EtcdStore {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        let asked = convert::range_request(&request);
        let nothing = asked.is_none();
        let message = asked.unwrap_or_else(|| convert::look(request.revision));
        match self.client.unary(rpc!("KV", "Range"), message, Repeat::Allowed).await {
            Ok(answer) => Ok(convert::range_response(answer, nothing)),
            Err(error) => Err(self.read_failure(error, request.revision).await),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        let operations = || txn.success.iter().chain(&txn.failure);
        let writes = operations().any(|operation| !matches!(operation, crate::Operation::Range(_)));
        let repeat = if writes { Repeat::Forbidden } else { Repeat::Allowed };
        match self.client.unary(rpc!("KV", "Txn"), convert::txn_request(&txn)?, repeat).await {
            Ok(answer) => convert::txn_response(&txn, answer),
            Err(error) if error.is(Code::NotFound, "lease not found") => {
                let leases = operations().filter_map(|operation| match operation {
                    crate::Operation::Put { lease, .. } if *lease != 0 => Some(*lease),
                    _ => None,
                });
                Err(StoreError::LeaseNotFound(leases.into_iter().next().unwrap_or(0)))
            }
            Err(error) => {
                let revision = operations().find_map(|operation| match operation {
                    crate::Operation::Range(request) => request.revision,
                    _ => None,
                });
                Err(self.read_failure(error, revision).await)
            }
        }
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        if let Some(start) = request.start_revision {
            // The pair before the first change must still be there, and etcd would say only later that it is not.
            let before = start.saturating_sub(1).max(1);
            let look = RangeRequest {
                revision: Some(before),
                count_only: true,
                ..RangeRequest::new(crate::KeyRange::single("\0"))
            };
            match self.range(look).await {
                Ok(_) | Err(StoreError::FutureRevision { .. }) => {}
                Err(StoreError::Compacted { compacted, .. }) => {
                    return Err(StoreError::Compacted { requested: start, compacted: compacted + 1 });
                }
                Err(error) => return Err(error),
            }
        }
        watch::watch(Arc::clone(&self.client), request.range, request.start_revision, self.watch_limits).await
    }

    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        if ttl_seconds == 0 || ttl_seconds > LONGEST_LEASE {
            return Err(StoreError::InvalidRequest(format!(
                "a lease lives 1 to {LONGEST_LEASE} seconds, not {ttl_seconds}"
            )));
        }
        // With a number of our own, a grant that is made twice is made once.
        let id = rand::random_range(1..i64::MAX);
        let request = etcd::LeaseGrantRequest { ttl: convert::signed(ttl_seconds), id };
        let granted: Result<etcd::LeaseResponse, _> =
            self.client.unary(rpc!("Lease", "LeaseGrant"), request, Repeat::Allowed).await;
        match granted {
            Ok(answer) => Ok(answer.id),
            Err(error) if error.is(Code::FailedPrecondition, "lease already exists") => Ok(id),
            Err(error) => Err(error.into_store_error()),
        }
    }

    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError> {
        if lease <= 0 {
            return Err(StoreError::InvalidRequest(format!("the number of a lease is above 0, not {lease}")));
        }
        let request = etcd::LeaseGrantRequest { ttl: convert::signed(ttl_seconds), id: lease };
        let granted: Result<etcd::LeaseResponse, _> =
            self.client.unary(rpc!("Lease", "LeaseGrant"), request, Repeat::Forbidden).await;
        match granted {
            Ok(_) => Ok(()),
            Err(error) if error.is(Code::FailedPrecondition, "lease already exists") => {
                Err(StoreError::LeaseExists(lease))
            }
            Err(error) => Err(error.into_store_error()),
        }
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let answer: etcd::LeaseResponse = self
            .client
            .one_of_stream(rpc!("Lease", "LeaseKeepAlive"), etcd::LeaseId { id: lease })
            .await
            .map_err(CallError::into_store_error)?;
        if answer.ttl > 0 { Ok(()) } else { Err(StoreError::LeaseNotFound(lease)) }
    }

    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError> {
        let answer = self.time_to_live(lease, false).await?;
        // etcd says -1 of a lease that is not there.
        if answer.ttl < 0 {
            return Err(StoreError::LeaseNotFound(lease));
        }
        Ok(LeaseTime {
            granted: convert::unsigned(answer.granted_ttl),
            remaining: convert::unsigned(answer.ttl),
        })
    }

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<Bytes>, StoreError> {
        let mut keys = self.time_to_live(lease, true).await?.keys;
        keys.sort_unstable();
        Ok(keys)
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let revoked: Result<etcd::Nothing, _> = self
            .client
            .unary(rpc!("Lease", "LeaseRevoke"), etcd::LeaseId { id: lease }, Repeat::Allowed)
            .await;
        match revoked {
            Ok(_) => Ok(()),
            Err(error) if error.is(Code::NotFound, "lease not found") => {
                Err(StoreError::LeaseNotFound(lease))
            }
            Err(error) => Err(error.into_store_error()),
        }
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        let request = etcd::CompactionRequest { revision: convert::signed(revision) };
        let compacted: Result<etcd::Nothing, _> =
            self.client.unary(rpc!("KV", "Compact"), request, Repeat::Allowed).await;
        match compacted {
            Ok(_) => Ok(()),
            Err(error) if error.is(Code::OutOfRange, "has been compacted") => Ok(()),
            Err(error) => Err(self.read_failure(error, Some(revision)).await),
        }
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        let answer: etcd::RangeResponse = self
            .client
            .unary(rpc!("KV", "Range"), convert::look(None), Repeat::Allowed)
            .await
            .map_err(CallError::into_store_error)?;
        Ok(convert::revision(answer.header.as_ref()))
    }
}
