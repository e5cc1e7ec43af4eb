//! Pods: the account they run as, and their priority.

use serde_json::{Value, json};

use crate::machinery::names::generate_name;
use crate::machinery::status::ApiError;
use crate::operations::{Target, read};
use crate::registry::resource::key_prefix;
use crate::server::state::{State, store_failure};

/// Where clients in pods look for their account's token.
const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long such a token is valid: a little more than an hour, by which one that was mounted by itself is known.
const TOKEN_SECONDS: i64 = 3607;

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
    let found = read::decode(&found)?;
    if spec["automountServiceAccountToken"].as_bool().or(found["automountServiceAccountToken"].as_bool())
        != Some(false)
    {
        mount_token(spec);
    }
    let has_secrets = spec["imagePullSecrets"].as_array().is_some_and(|secrets| !secrets.is_empty());
    if !has_secrets {
        let secrets = found["imagePullSecrets"].clone();
        if secrets.as_array().is_some_and(|secrets| !secrets.is_empty()) {
            spec["imagePullSecrets"] = secrets;
        }
    }
    Ok(())
}

/// Shows every container its account's token, the API's certificate authority and the namespace, where clients look for them,
/// unless it has something else there. Source: Kubernetes documentation, "Managing Service Accounts", bound tokens.
fn mount_token(spec: &mut Value) {
    let lacks = |container: &Value| {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        !mounts.into_iter().any(|mount| mount["mountPath"] == TOKEN_PATH)
    };
    let volume = generate_name("kube-api-access-", &mut rand::rng());
    let mut mounted = false;
    for list in ["containers", "initContainers"] {
        // Not by index, which would leave `null` where there is no list.
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten().filter(|container| lacks(container)) {
            append(
                &mut container["volumeMounts"],
                json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}),
            );
            mounted = true;
        }
    }
    if !mounted {
        return;
    }
    let sources = json!([
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]);
    append(
        &mut spec["volumes"],
        json!({"name": volume, "projected": {"defaultMode": 0o644, "sources": sources}}),
    );
}

fn append(list: &mut Value, item: Value) {
    match list {
        Value::Array(items) => items.push(item),
        _ => *list = Value::Array(vec![item]),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_get_the_token_unless_they_have_something_there() {
        let mut spec = json!({
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a", "volumeMounts": [{"name": "own", "mountPath": "/own"}]},
                           {"name": "b", "volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}],
            "volumes": [{"name": "own", "emptyDir": {}}],
        });
        mount_token(&mut spec);
        let volume = spec["volumes"][1]["name"].clone();
        assert!(volume.as_str().unwrap().starts_with("kube-api-access-"));
        assert_eq!(spec["initContainers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(spec["containers"][0]["volumeMounts"][1]["name"], volume);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        assert_eq!(spec.as_object().unwrap().len(), 3);
        let mut plain = json!({"containers": [{"name": "a"}]});
        mount_token(&mut plain);
        assert!(plain.get("initContainers").is_none(), "{plain}");
        let mut own = json!({"containers": [{"volumeMounts": [{"name": "own", "mountPath": TOKEN_PATH}]}]});
        let before = own.clone();
        mount_token(&mut own);
        assert_eq!(own, before);
    }
}
