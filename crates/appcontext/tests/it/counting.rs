//! How often the store is asked.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use drystone_appcontext::{AppContexts, ResourceStatus, State, StatusUpdate, StatusValue};
use drystone_store::{
    LeaseId, LeaseTime, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnResponse,
    WatchRequest, WatchStream,
};

use crate::fixture::{cluster, context, id, memory};

/// Counts what is asked of the store below.
pub(crate) struct Counting {
    pub(crate) below: Arc<dyn Store>,
    pub(crate) asked: AtomicUsize,
    /// Transactions that are let through before every one fails; what is left of a killed process.
    pub(crate) writes_left: AtomicUsize,
}

impl Counting {
    pub(crate) fn over(below: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { below, asked: AtomicUsize::new(0), writes_left: AtomicUsize::new(usize::MAX) })
    }

    fn count(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Store for Counting {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, StoreError> {
        self.count();
        self.below.range(request).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.count();
        let left = self.writes_left.load(Ordering::Relaxed);
        if left == 0 {
            return Err(StoreError::Closed);
        }
        self.writes_left.store(left - 1, Ordering::Relaxed);
        self.below.txn(txn).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<WatchStream, StoreError> {
        self.below.watch(request).await
    }

    async fn lease_grant(&self, ttl_seconds: u64) -> Result<LeaseId, StoreError> {
        self.count();
        self.below.lease_grant(ttl_seconds).await
    }

    async fn lease_grant_as(&self, lease: LeaseId, ttl_seconds: u64) -> Result<(), StoreError> {
        self.below.lease_grant_as(lease, ttl_seconds).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.count();
        self.below.lease_keep_alive(lease).await
    }

    async fn lease_time_to_live(&self, lease: LeaseId) -> Result<LeaseTime, StoreError> {
        self.below.lease_time_to_live(lease).await
    }

    async fn lease_keys(&self, lease: LeaseId) -> Result<Vec<bytes::Bytes>, StoreError> {
        self.below.lease_keys(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.count();
        self.below.lease_revoke(lease).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.below.compact(revision).await
    }

    async fn revision(&self) -> Result<Revision, StoreError> {
        self.count();
        self.below.revision().await
    }
}

/// As one deployment goes: written, read by the synchroniser, and a status for each resource, twice.
#[tokio::test]
async fn a_resource_takes_less_than_two_questions() {
    let store = Counting::over(memory());
    let contexts = AppContexts::new(Arc::clone(&store) as _);
    let (clusters, resources) = (4, 144);
    contexts.create(&context(id(7), clusters, resources, 20_000)).await.unwrap();
    let written = store.asked.load(Ordering::Relaxed);
    contexts.activate(id(7)).await.unwrap();
    let context = contexts.load(id(7)).await.unwrap();
    for status in [ResourceStatus::Pending, ResourceStatus::Applied] {
        for number in 0..clusters {
            let part = context.part("web", &cluster(number)).unwrap();
            let update = |name: &drystone_appcontext::ResourceName| StatusUpdate {
                app: "web".into(),
                cluster: cluster(number),
                value: StatusValue::Resource(name.clone(), status),
            };
            contexts.statuses(id(7), &part.order.iter().map(update).collect::<Vec<_>>()).await.unwrap();
        }
    }
    let done = contexts.edit_sync(id(7), |sync| {
        sync.status = Some(State::Instantiated);
        Ok::<_, drystone_appcontext::AppContextError>(())
    });
    done.await.unwrap();
    let asked = store.asked.load(Ordering::Relaxed);
    println!("{} resources: {written} questions to write, {asked} in all", clusters * resources);
    assert!(asked * 4 < clusters * resources, "{asked} questions for {} resources", clusters * resources);
}
