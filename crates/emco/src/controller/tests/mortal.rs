//! A store and an API whose user can be killed at a write: the write happens, or not, and nothing after it does.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use drystone_store::{Layer, Store, StoreError, Txn, TxnResponse};
use tokio::sync::Notify;

/// When a process is killed.
#[derive(Debug)]
pub(super) struct Fate {
    left: AtomicU32,
    /// Whether the last write happens.
    pub(super) written: bool,
    pub(super) dying: Notify,
}

impl Fate {
    /// Killed at the write after so many.
    pub(super) fn after(writes: u32, written: bool) -> Arc<Self> {
        Arc::new(Self { left: AtomicU32::new(writes), written, dying: Notify::new() })
    }

    /// Whether this write is the last one, or comes after it.
    pub(super) fn strikes(&self) -> bool {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if before.is_err() {
            self.dying.notify_one();
        }
        before.is_err()
    }
}

/// A store whose user may be killed.
pub(super) struct Mortal(pub(super) Arc<Fate>);

#[async_trait]
impl Layer for Mortal {
    async fn txn(&self, below: &dyn Store, txn: Txn) -> Result<TxnResponse, StoreError> {
        if self.0.strikes() {
            if self.0.written {
                below.txn(txn).await?;
            }
            std::future::pending::<()>().await;
            return Err(StoreError::Closed);
        }
        below.txn(txn).await
    }
}
