//! Waiting for what another controller does.

use drystone_engine::action::{StepContext, StepError};
use kube::{Api, runtime::wait::await_condition};
use serde::de::DeserializeOwned;

/// What an object tells about the wait for it.
pub(super) enum Verdict<T> {
    /// Not there yet.
    Wait,
    /// There.
    Done(T),
    /// It will not come.
    Failed(String),
}

/// Waits until `judge` comes to a verdict about an object. The object may appear, change and vanish meanwhile.
pub(super) async fn wait_until<K, T>(
    context: &StepContext,
    api: Api<K>,
    name: &str,
    judge: impl Fn(Option<&K>) -> Verdict<T> + Send + Sync,
) -> Result<T, StepError>
where
    K: kube::Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
    T: Send,
{
    let settled = |object: Option<&K>| !matches!(judge(object), Verdict::Wait);
    let object = context
        .wait_for(Box::pin(await_condition(api, name, settled)))
        .await?
        .map_err(|error| StepError::transient(format!("waiting for {name}: {error}")))?;
    match judge(object.as_ref()) {
        Verdict::Done(value) => Ok(value),
        Verdict::Failed(why) => Err(StepError::permanent(why)),
        Verdict::Wait => Err(StepError::transient(format!("{name} changed while it was looked at"))),
    }
}
