//! What is said of an operation that has begun: retry, rollback, fail, cancel.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::nfv::VnfLcmOperation;
use drystone_sol003::types::{ApiVersion, CancelMode, LcmOperationState};
use kube::{Api, ResourceExt as _, api::PostParams};
use serde::Deserialize;

use crate::{
    feed::{Entry, Shown as _},
    problem::Problem,
    render::{INSTANCE_UID_LABEL, may_be, path_of},
    request::{Incoming, JSON, read_json, read_optional_json, typed},
    routes::Verdict,
    service::{Nfv, bytes_response, empty_response},
};

/// How often a change that others were faster than is tried.
const ATTEMPTS: usize = 5;
/// How long an operation that is given up may take to be so.
const FAILING: Duration = Duration::from_secs(10);
/// How long the end of an operation is held back until its instance shows it, too.
const SHOWING: Duration = Duration::from_secs(5);

/// `CancelMode`, as the body of a cancellation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cancellation {
    cancel_mode: CancelMode,
}

impl Nfv {
    /// POST `vnf_lcm_op_occs/{id}/{verdict}`.
    pub(crate) async fn decide(
        &self,
        incoming: Incoming,
        version: ApiVersion,
        verdict: Verdict,
    ) -> Result<Response<Body>, Problem> {
        let id = incoming.id().to_owned();
        let entry = self.operation(&id)?;
        let mode = if verdict == Verdict::Cancel {
            let body = read_json(&incoming.parts, incoming.body, JSON).await?;
            Some(typed::<Cancellation>(body)?.cancel_mode)
        } else {
            read_optional_json(&incoming.parts, incoming.body).await?;
            None
        };
        self.tell(&entry.object, verdict, mode).await?;
        if verdict == Verdict::Fail {
            return self.failed(&id, version, &incoming.base).await;
        }
        let location = format!("{}{}/vnf_lcm_op_occs/{id}", incoming.base, path_of(version));
        let is_told = version == ApiVersion::V1 && verdict == Verdict::Cancel;
        Ok(empty_response(StatusCode::ACCEPTED, is_told.then_some(location.as_str())))
    }

    /// GET `vnf_lcm_op_occs/{id}`.
    pub(crate) async fn show_operation(
        &self,
        incoming: &Incoming,
        version: ApiVersion,
    ) -> Result<Response<Body>, Problem> {
        let entry = self.operation(incoming.id())?;
        self.until_instance_shows(&entry.object).await;
        Ok(bytes_response(StatusCode::OK, entry.bytes(version, &incoming.base)))
    }

    /// Waits until the instance shows what an operation that has ended made of it. It is written before the end of the operation, but each
    /// is followed by a watch of its own.
    async fn until_instance_shows(&self, operation: &VnfLcmOperation) {
        let state = operation.status.as_ref().map(|status| status.operation_state).unwrap_or_default();
        let Some(instance) = operation.labels().get(INSTANCE_UID_LABEL).filter(|_| state.is_final()) else {
            return;
        };
        let (instances, name) = (&self.0.feed.instances, operation.name_any());
        let is_let_go = || {
            let holder =
                instances.get(instance).and_then(|entry| entry.object.status.as_ref()?.operation.clone());
            holder.as_ref() != Some(&name)
        };
        if !instances.until(SHOWING, is_let_go).await {
            tracing::warn!(operation = name, "it has ended, and its instance does not show that yet");
        }
    }

    fn operation(&self, id: &str) -> Result<Arc<Entry<VnfLcmOperation>>, Problem> {
        self.0.feed.operations.get(id).ok_or_else(|| Problem::not_found(VnfLcmOperation::WHAT, id))
    }

    /// Writes down what is said, if it can be said in the operation's state, and has not been said already.
    async fn tell(
        &self,
        operation: &VnfLcmOperation,
        verdict: Verdict,
        mode: Option<CancelMode>,
    ) -> Result<(), Problem> {
        let namespace = operation.namespace().unwrap_or_default();
        let operations: Api<VnfLcmOperation> = Api::namespaced(self.0.client.clone(), &namespace);
        let uid = operation.uid().unwrap_or_default();
        let mut now = operation.clone();
        for _ in 0..ATTEMPTS {
            check(&now, verdict, mode)?;
            match verdict {
                Verdict::Retry => now.spec.retries += 1,
                Verdict::Rollback => now.spec.rollbacks += 1,
                Verdict::Fail => now.spec.fail = true,
                Verdict::Cancel => now.spec.cancel = mode,
            }
            match operations.replace(&now.name_any(), &PostParams::default(), &now).await {
                Ok(written) => {
                    self.0.feed.operations.seen(&written).await;
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    return Err(Problem::not_found(VnfLcmOperation::WHAT, &uid));
                }
                Err(error) => return Err(error.into()),
            }
            let fresh = operations.get_opt(&now.name_any()).await?;
            let fresh = fresh.filter(|fresh| fresh.uid().as_deref() == Some(uid.as_str()));
            now = fresh.ok_or_else(|| Problem::not_found(VnfLcmOperation::WHAT, &uid))?;
        }
        Err(Problem::conflict(format!("operation occurrence {uid} changes all the time; try again")))
    }

    /// Answers with an operation that has been given up, once it is.
    async fn failed(&self, id: &str, version: ApiVersion, base: &str) -> Result<Response<Body>, Problem> {
        let state = |entry: &Entry<VnfLcmOperation>| {
            entry.object.status.as_ref().map(|status| status.operation_state).unwrap_or_default()
        };
        let operations = &self.0.feed.operations;
        let is_over = || operations.get(id).is_none_or(|entry| state(&entry) == LcmOperationState::Failed);
        if !operations.until(FAILING, is_over).await {
            let detail = "the operation is to be given up, and is not yet; look at it later";
            return Err(Problem::unavailable(detail));
        }
        let entry = self.operation(id)?;
        self.until_instance_shows(&entry.object).await;
        Ok(bytes_response(StatusCode::OK, entry.bytes(version, base)))
    }
}

/// Whether something can be said of an operation now.
fn check(operation: &VnfLcmOperation, verdict: Verdict, mode: Option<CancelMode>) -> Result<(), Problem> {
    let status = operation.status.clone().unwrap_or_default();
    let name = serde_json::to_value(status.operation_state).unwrap_or_default();
    let id = operation.uid().unwrap_or_default();
    let word = match verdict {
        Verdict::Retry => "retried",
        Verdict::Rollback => "rolled back",
        Verdict::Fail => "failed",
        Verdict::Cancel => "cancelled",
    };
    if !may_be(verdict, status.operation_state) {
        let state = name.as_str().unwrap_or_default();
        return Err(Problem::conflict(format!("operation occurrence {id} is {state}: it cannot be {word}")));
    }
    let spec = &operation.spec;
    let is_told = if verdict == Verdict::Cancel {
        // Whoever is in a hurry may still say so.
        spec.cancel.is_some()
            && !(spec.cancel == Some(CancelMode::Graceful) && mode == Some(CancelMode::Forceful))
    } else {
        spec.fail || spec.retries > status.observed_retries || spec.rollbacks > status.observed_rollbacks
    };
    if is_told {
        let detail =
            format!("operation occurrence {id}: something has been said of it already that is being done");
        return Err(Problem::conflict(detail));
    }
    Ok(())
}
