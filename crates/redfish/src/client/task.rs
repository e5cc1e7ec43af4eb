//! Follows work that a service has only accepted (DSP0266, "Asynchronous operations").

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::Value;

use super::{
    error::RedfishError,
    resource::{Answer, Outcome},
    retry::retry_after,
    transport::Transport,
};
use crate::types::{Task, from_body};

/// Pause between two looks, if the service does not ask for another.
const PAUSE: Duration = Duration::from_millis(500);
/// Shortest and longest pause that a service may ask for.
const PAUSE_LIMITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Waits until an outcome is final.
pub(super) async fn complete(
    transport: &Transport,
    outcome: Outcome,
    within: Duration,
) -> Result<Outcome, RedfishError> {
    let (monitor, mut asked) = match outcome {
        Outcome::Done { .. } => return Ok(outcome),
        Outcome::Accepted { monitor, retry_after } => (monitor, retry_after),
    };
    let start = Instant::now();
    loop {
        let pause = asked.unwrap_or(PAUSE).clamp(PAUSE_LIMITS.0, PAUSE_LIMITS.1);
        if start.elapsed() + pause > within {
            return Err(RedfishError::Timeout { uri: monitor, after: within });
        }
        tokio::time::sleep(pause).await;
        let answer = transport.send(Method::GET, &monitor, None, None).await?;
        asked = retry_after(&answer.headers);
        if answer.status != StatusCode::ACCEPTED
            && let Some(done) = finished(&monitor, answer)?
        {
            return Ok(done);
        }
    }
}

/// The final outcome, if it is one. Many services give the task itself as the monitor: then its state tells.
fn finished(monitor: &str, answer: Answer) -> Result<Option<Outcome>, RedfishError> {
    let is_task = |body: &Value| body.get("TaskState").is_some();
    let Some(body) = answer.body.as_ref().filter(|body| is_task(body)) else {
        return Ok(Some(answer.into_outcome()));
    };
    let task: Task = from_body(body.clone()).map_err(|error| RedfishError::malformed(monitor, error))?;
    match task.task_state.as_deref() {
        Some("Completed") => Ok(Some(answer.into_outcome())),
        Some(state @ ("Exception" | "Killed" | "Cancelled")) => Err(RedfishError::TaskFailed {
            uri: monitor.to_owned(),
            state: state.to_owned(),
            messages: task.messages,
        }),
        _ => Ok(None),
    }
}
