//! Fencing tokens: numbers that only grow, one for each attempt to claim or release hosts. A token is written on each host with
//! the claim and stays there, so that whoever decided under an older one can neither take nor release the host any more.

use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::reference::{is_conflict, is_not_found};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

/// The ConfigMap that holds the last token, in Drystone's own namespace.
pub const COUNTER: &str = "composer-fencing";

/// Its key.
const KEY: &str = "lastToken";

/// How often the counter is tried on top of somebody else's change.
const ATTEMPTS: u32 = 16;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum FencingError {
    /// The API refused or did not answer.
    #[error("reading or writing ConfigMap {SYSTEM_NAMESPACE}/{COUNTER}: {0}")]
    Api(#[from] kube::Error),
    /// Somebody changed the counter.
    #[error(
        "ConfigMap {SYSTEM_NAMESPACE}/{COUNTER}: {KEY} is `{0}`, not a number; write the greatest token of any host there"
    )]
    Malformed(String),
    /// Too much contention.
    #[error(
        "ConfigMap {SYSTEM_NAMESPACE}/{COUNTER} was changed by others {ATTEMPTS} times in a row; trying again"
    )]
    Contended,
}

/// Issues the next token: durable before it is returned, and greater than every earlier one and than `at_least`.
///
/// # Errors
/// [`FencingError`].
pub async fn next_token(client: &Client, at_least: u64) -> Result<u64, FencingError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    for _ in 0..ATTEMPTS {
        let found = api.get_opt(COUNTER).await?;
        let last = found.as_ref().map_or(Ok(0), last_of)?;
        let next = last.max(at_least) + 1;
        let mut counter = found.clone().unwrap_or_default();
        counter.data.get_or_insert_default().insert(KEY.to_owned(), next.to_string());
        let written = if found.is_some() {
            api.replace(COUNTER, &PostParams::default(), &counter).await
        } else {
            counter.metadata = ObjectMeta { name: Some(COUNTER.to_owned()), ..Default::default() };
            api.create(&PostParams::default(), &counter).await
        };
        match written {
            Ok(_) => return Ok(next),
            Err(error) if is_conflict(&error) => {}
            // Deleted between reading and writing: made anew, above `at_least`.
            Err(error) if is_not_found(&error) && found.is_some() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(FencingError::Contended)
}

fn last_of(counter: &ConfigMap) -> Result<u64, FencingError> {
    let Some(text) = counter.data.as_ref().and_then(|data| data.get(KEY)) else { return Ok(0) };
    text.parse().map_err(|_| FencingError::Malformed(text.clone()))
}
