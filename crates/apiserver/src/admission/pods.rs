//! Pods: the account they run as, and their priority.

use serde_json::Value;

use crate::machinery::status::ApiError;
use crate::operations::{Target, read};
use crate::registry::resource::key_prefix;
use crate::server::state::{State, store_failure};

/// Priority classes that need not exist.
const BUILT_IN: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

pub(super) async fn complete(state: &State, target: &Target, pod: &mut Value) -> Result<(), ApiError> {
    let mirror = !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null();
    if !mirror {
        set_account(state, target, pod).await?;
    }
    set_priority(state, target, pod).await
}

/// A pod that names no account runs as `default`, which must exist as any other.
async fn set_account(state: &State, target: &Target, pod: &mut Value) -> Result<(), ApiError> {
    let spec = &mut pod["spec"];
    let named = spec["serviceAccountName"].as_str().or_else(|| spec["serviceAccount"].as_str());
    let account = named.filter(|name| !name.is_empty()).unwrap_or("default").to_owned();
    let key = format!("{}{}/{account}", key_prefix("", "serviceaccounts"), target.namespace);
    let found = state.objects.get(&key).await.map_err(store_failure)?;
    let Some(found) = found else {
        return Err(target.forbidden(format!(
            "error looking up service account {}/{account}: serviceaccount {account:?} not found",
            target.namespace
        )));
    };
    spec["serviceAccountName"] = account.as_str().into();
    spec["serviceAccount"] = account.into();
    let has_secrets = spec["imagePullSecrets"].as_array().is_some_and(|secrets| !secrets.is_empty());
    if !has_secrets {
        let secrets = read::decode(&found)?["imagePullSecrets"].take();
        if secrets.as_array().is_some_and(|secrets| !secrets.is_empty()) {
            spec["imagePullSecrets"] = secrets;
        }
    }
    Ok(())
}

async fn set_priority(state: &State, target: &Target, pod: &mut Value) -> Result<(), ApiError> {
    let class = pod["spec"]["priorityClassName"].as_str().unwrap_or_default().to_owned();
    let (name, priority, preemption) = resolve(state, target, &class).await?;
    let spec = &mut pod["spec"];
    if spec["priority"].as_i64().is_some_and(|given| given != priority) {
        return Err(target.forbidden(format!(
            "the integer value of priority ({}) must not be provided in pod spec; priority admission controller \
             computed {priority} from the given PriorityClass name",
            spec["priority"]
        )));
    }
    spec["priority"] = priority.into();
    if let Some(name) = name {
        spec["priorityClassName"] = name.into();
    }
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = preemption.into();
    }
    Ok(())
}

/// The class's name, unless it is none, with its value and preemption policy.
async fn resolve(
    state: &State,
    target: &Target,
    class: &str,
) -> Result<(Option<String>, i64, String), ApiError> {
    let preempt = || "PreemptLowerPriority".to_owned();
    if let Some((name, value)) = BUILT_IN.iter().find(|(name, _)| *name == class) {
        return Ok((Some((*name).to_owned()), *value, preempt()));
    }
    let prefix = key_prefix("scheduling.k8s.io", "priorityclasses");
    let (classes, _) = if class.is_empty() {
        state.objects.all(&prefix).await.map_err(store_failure)?
    } else {
        let found = state.objects.get(&format!("{prefix}{class}")).await.map_err(store_failure)?;
        (found.into_iter().collect(), 0)
    };
    for stored in classes {
        let object = read::decode(&stored)?;
        if class.is_empty() && object["globalDefault"] != true {
            continue;
        }
        let policy = object["preemptionPolicy"].as_str().map_or_else(preempt, str::to_owned);
        return Ok((Some(stored.name().to_owned()), object["value"].as_i64().unwrap_or(0), policy));
    }
    if class.is_empty() {
        return Ok((None, 0, preempt()));
    }
    Err(target.forbidden(format!("no PriorityClass with name {class} was found")))
}
