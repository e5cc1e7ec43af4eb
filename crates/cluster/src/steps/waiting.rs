//! Waiting for what another controller does.

use std::time::Duration;

use drystone_engine::action::{StepContext, StepError};
use kube::{Api, runtime::wait::await_condition};
use serde::de::DeserializeOwned;

/// Pause after a watch that broke; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// What an object tells about the wait for it.
pub(super) enum Verdict<T> {
    /// Not there yet.
    Wait,
    /// There.
    Done(T),
    /// It will not come.
    Failed(String),
}

/// Waits until `judge` comes to a verdict about an object. The object may appear, change and vanish meanwhile, and whoever tells of it be
/// away for a while: connections break, above all those that lead through gateways. How long that may go on is the step's to say.
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
    let mut pause = FIRST_PAUSE;
    let object = loop {
        match context.wait_for(Box::pin(await_condition(api.clone(), name, settled))).await? {
            Ok(object) => break object,
            Err(error) => context.log(format!("waiting for {name}: {error}")),
        }
        context.wait_for(tokio::time::sleep(pause)).await?;
        pause = (pause * 2).min(MAX_PAUSE);
    };
    match judge(object.as_ref()) {
        Verdict::Done(value) => Ok(value),
        Verdict::Failed(why) => Err(StepError::permanent(why)),
        Verdict::Wait => Err(StepError::transient(format!("{name} changed while it was looked at"))),
    }
}
