//! `pods/eviction`: deletes a pod if its disruption budget allows one more to go.

use axum::body::Body;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::http::call::Call;
use crate::http::reply;
use crate::machinery::selector::LabelSelector;
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, delete, metadata, read, system};
use crate::request::options::DeleteOptions;
use crate::server::state::{State, store_failure};

/// Answers a `POST`.
pub(crate) async fn answer(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let eviction = super::read(state, call, body, "policy/v1", "Eviction").await?;
    let wanted = eviction.get("deleteOptions").filter(|options| !options.is_null()).cloned();
    let options = DeleteOptions::parse(wanted, &call.query)?;
    let target = call.target();
    state.admission.admit_delete(state, &target, &call.user).await?;
    let pod = read::get_value(state, &target).await?;
    if counts(&pod) {
        spend_budget(state, call, &target, &pod, &options).await?;
    }
    delete::delete(state, &target, &options).await?;
    let success =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(reply::object(StatusCode::CREATED, accept.representation, &success))
}

/// Whether a pod counts for a budget: it runs and stays.
fn counts(pod: &Value) -> bool {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed" | "Pending"));
    !ended && !metadata::is_deleting(pod)
}

fn is_ready(pod: &Value) -> bool {
    let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

async fn spend_budget(
    state: &State,
    call: &Call,
    target: &Target,
    pod: &Value,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    let Some(resource) = call.catalog.resource("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let prefix = resource.namespace_prefix(&target.namespace);
    let (budgets, _) = state.objects.all(&prefix).await.map_err(store_failure)?;
    let mut matching = Vec::new();
    for stored in &budgets {
        let budget = read::decode(stored)?;
        let selector = LabelSelector::from_object(&budget["spec"]["selector"]).ok().flatten();
        if selector.is_some_and(|selector| selector.matches(&pod["metadata"]["labels"])) {
            matching.push(budget);
        }
    }
    let budget = match matching.as_slice() {
        [] => return Ok(()),
        [budget] => budget,
        _ => {
            let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::Internal(message.into()));
        }
    };
    if options.is_dry_run() {
        return Ok(());
    }
    let budget_target = Target::new(resource, &target.namespace, metadata::text(budget, "name"));
    let (ready, pod_name) = (is_ready(pod), target.name.clone());
    let make = |budget: &Value| spend(budget, ready, &pod_name).map(|budget| (budget, Ownership::Changed));
    let change = Change { part: Part::Status, on_conflict: OnConflict::Retry, make: &make };
    let (user, write_options) = system();
    modify::modify(state, &budget_target, &change, &mut Writer::new(&user, &write_options)).await?;
    Ok(())
}

/// The budget with one disruption less.
fn spend(budget: &Value, ready: bool, pod: &str) -> Result<Value, ApiError> {
    let status = &budget["status"];
    let number = |field: &str| status[field].as_i64().unwrap_or(0);
    // A pod that is not ready disrupts nobody, if enough others are.
    let healthy = number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0;
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    if !ready && (healthy || always) {
        return Ok(budget.clone());
    }
    let stale = number("observedGeneration") < budget["metadata"]["generation"].as_i64().unwrap_or(0);
    if stale || number("disruptionsAllowed") <= 0 {
        return Err(ApiError::TooManyRequests {
            message: "Cannot evict pod as it would violate the pod's disruption budget.".into(),
            retry_after: 10,
        });
    }
    let mut spent = budget.clone();
    spent["status"]["disruptionsAllowed"] = (number("disruptionsAllowed") - 1).into();
    spent["status"]["disruptedPods"][pod] = metadata::timestamp(Timestamp::now()).into();
    Ok(spent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_once() {
        let budget = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "disruptionsAllowed": 1}});
        let spent = spend(&budget, true, "p").unwrap();
        assert_eq!(spent["status"]["disruptionsAllowed"], 0);
        assert!(spent["status"]["disruptedPods"]["p"].is_string());
        assert_eq!(spend(&spent, true, "q").unwrap_err().code(), 429);
    }

    #[test]
    fn a_stale_budget_allows_nothing() {
        let budget = json!({"metadata": {"generation": 3}, "status": {"observedGeneration": 2, "disruptionsAllowed": 1}});
        assert_eq!(spend(&budget, true, "p").unwrap_err().code(), 429);
    }
}
