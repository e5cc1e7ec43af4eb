//! Following an operation to its end, and asking it to end early.

use std::{pin::pin, time::Duration};

use drystone_api::Operation;
use futures::{Stream, StreamExt};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::{WatchStreamExt, watcher},
};
use serde_json::{Value, json};

use crate::reference::{ObjectKey, describe_kube_error};

/// Why the end of an operation was not seen.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It does not exist, or was deleted.
    #[error("operation {0} does not exist")]
    Gone(ObjectKey),
    /// It takes longer.
    #[error("operation {operation} was not done within {} s", .deadline.as_secs())]
    Late {
        /// The operation.
        operation: ObjectKey,
        /// How long was waited.
        deadline: Duration,
    },
    /// The API refused.
    #[error("operation {operation}: {}", describe_kube_error(.source))]
    Api {
        /// The operation.
        operation: ObjectKey,
        /// Why.
        source: kube::Error,
    },
}

/// The operation now and after each change; `None` when it does not exist or was deleted. Interruptions of the watch are
/// bridged with back-off; the stream does not end by itself.
pub fn follow(client: Client, key: &ObjectKey) -> impl Stream<Item = Option<Operation>> + Send + use<> {
    let api: Api<Operation> = Api::namespaced(client, &key.namespace);
    watcher::watch_object(api, &key.name).default_backoff().filter_map(|event| async {
        match event {
            Ok(operation) => Some(operation),
            Err(error) => {
                tracing::debug!(%error, "watch interrupted; it is taken up again");
                None
            }
        }
    })
}

/// Waits until the operation is in a final phase, and returns it.
///
/// # Errors
/// [`FollowError`].
pub async fn await_final(
    client: Client,
    key: &ObjectKey,
    deadline: Duration,
) -> Result<Operation, FollowError> {
    let ended = async {
        let mut states = pin!(follow(client, key));
        while let Some(state) = states.next().await {
            let operation = state.ok_or_else(|| FollowError::Gone(key.clone()))?;
            if operation.status.as_ref().is_some_and(|status| status.phase.is_final()) {
                return Ok(operation);
            }
        }
        Err(FollowError::Gone(key.clone()))
    };
    tokio::time::timeout(deadline, ended)
        .await
        .unwrap_or_else(|_| Err(FollowError::Late { operation: key.clone(), deadline }))
}

/// Asks the operation to end early; [`await_final`] tells when it has. One that has ended is not changed by it.
///
/// # Errors
/// [`FollowError::Api`].
pub async fn cancel(client: Client, key: &ObjectKey) -> Result<Operation, FollowError> {
    patch_spec(client, key, json!({"cancel": true})).await
}

/// Asks the operation to stop gently: what runs comes to its end, nothing new begins. One that has ended is not changed by it.
///
/// # Errors
/// [`FollowError::Api`].
pub async fn halt(client: Client, key: &ObjectKey) -> Result<Operation, FollowError> {
    patch_spec(client, key, json!({"halt": true})).await
}

/// Tells an operation that stopped (`Failed`, `Cancelled`) to go on. `times`: how often it has been told so, this time
/// included; telling it the same again changes nothing.
///
/// # Errors
/// [`FollowError::Api`].
pub async fn go_on(client: Client, key: &ObjectKey, times: u32) -> Result<Operation, FollowError> {
    patch_spec(client, key, json!({"retries": times, "cancel": false, "halt": false})).await
}

/// Tells an operation that stopped (`Failed`, `Cancelled`) to undo what it did. `times` as for [`go_on`].
///
/// # Errors
/// [`FollowError::Api`].
pub async fn roll_back(client: Client, key: &ObjectKey, times: u32) -> Result<Operation, FollowError> {
    patch_spec(client, key, json!({"rollbacks": times, "cancel": false, "halt": false})).await
}

async fn patch_spec(client: Client, key: &ObjectKey, change: Value) -> Result<Operation, FollowError> {
    let api: Api<Operation> = Api::namespaced(client, &key.namespace);
    let patch = Patch::Merge(json!({"spec": change}));
    api.patch(&key.name, &PatchParams::default(), &patch)
        .await
        .map_err(|source| FollowError::Api { operation: key.clone(), source })
}
