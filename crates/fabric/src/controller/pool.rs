//! AddressPools: totals, and a word about pools that make no sense.

use std::sync::Arc;

use drystone_api::AddressPool;
use drystone_engine::harness::{Reconciler, Requeue, is_deleted};
use kube::ResourceExt as _;

use crate::addresses::{AddressDaemon, AddressError};

pub(super) struct PoolReconciler {
    pub(super) daemon: AddressDaemon,
}

impl Reconciler for PoolReconciler {
    type Object = AddressPool;
    type Error = AddressError;

    const NAME: &'static str = "address-pool";

    async fn reconcile(&self, pool: Arc<AddressPool>) -> Result<Requeue, AddressError> {
        if is_deleted(pool.as_ref()) {
            return Ok(Requeue::OnChange);
        }
        match self.daemon.refresh(&pool.namespace().unwrap_or_default(), &pool.name_any()).await {
            Ok(()) | Err(AddressError::NoPool { .. }) => Ok(Requeue::OnChange),
            Err(error) => Err(error),
        }
    }
}
