//! What is done to each server of etcd by itself.

use std::time::Duration;

use super::{
    EtcdStore,
    client::{CallError, rpc},
    messages::Nothing,
};
use crate::StoreError;

/// How long one server may take; it answers nothing else meanwhile.
const DEFRAGMENTATION: Duration = Duration::from_secs(600);

impl EtcdStore {
    /// Has every server that is known write its database anew, one after the other, so that nothing is left in it of what was compacted
    /// away. A server answers no requests meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Backend`] if a server does not answer or cannot; those before it are done.
    pub async fn defragment(&self) -> Result<(), StoreError> {
        let path = rpc!("Maintenance", "Defragment");
        let done: Result<Vec<Nothing>, CallError> =
            self.client.each(&path, &Nothing {}, DEFRAGMENTATION).await;
        done.map(drop).map_err(CallError::into_store_error)
    }
}
