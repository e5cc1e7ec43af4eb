//! Telling the API how the pod is.

use k8s_openapi::{
    api::core::v1::{Pod, PodStatus},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};

use super::{StepError, Worker};
use crate::pods::status::{self, Stage};

/// Conditions that the node is responsible for.
const OWN_CONDITIONS: [&str; 4] = ["PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"];
/// Fields that the node sets, and unsets.
const OWN_FIELDS: [&str; 6] =
    ["reason", "message", "podIP", "podIPs", "initContainerStatuses", "containerStatuses"];
/// Parts of a condition that may be absent.
const OPTIONAL_PARTS: [&str; 2] = ["reason", "message"];

impl Worker {
    /// Tells the API the status, if it differs from what was told.
    pub(super) async fn report(&mut self, stage: &Stage) -> Result<(), StepError> {
        let probes = |id: &str| self.prober.view(id);
        let pod = Pod { status: self.told.clone(), ..(*self.pod).clone() };
        let status = status::status(status::Input {
            pod: &pod,
            observed: &self.observed,
            waiting: &self.waiting,
            probes: &probes,
            stage,
            host_address: self.context.facts.address,
            started: self.started,
            now: Timestamp::now(),
        });
        let Some(change) = change(self.told.as_ref(), &status) else { return Ok(()) };
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let name = self.pod.metadata.name.as_deref().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.context.client.clone(), namespace);
        let patch = json!({"metadata": {"uid": self.uid}, "status": change});
        match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(answer) => self.told = answer.status,
            // It is gone, or another has its name: the watch will say so.
            Err(kube::Error::Api(answer)) if matches!(answer.code, 404 | 409) => {}
            Err(error) => return Err(Box::new(error).into()),
        }
        Ok(())
    }

    /// The API's copy of the pod changed: others' conditions are theirs, the rest of the status is what was told.
    pub(super) fn merge_told(&mut self) {
        let Some(told) = &mut self.told else {
            self.told.clone_from(&self.pod.status);
            return;
        };
        let theirs = self.pod.status.as_ref().and_then(|status| status.conditions.clone());
        let is_own = |kind: &str| OWN_CONDITIONS.contains(&kind);
        let mut conditions: Vec<_> =
            theirs.into_iter().flatten().filter(|condition| !is_own(&condition.type_)).collect();
        conditions.extend(
            told.conditions.take().into_iter().flatten().filter(|condition| is_own(&condition.type_)),
        );
        told.conditions = Some(conditions).filter(|conditions| !conditions.is_empty());
    }
}

/// What is new in a status, as a strategic merge patch; none if nothing is. Fields of others are left alone.
fn change(told: Option<&PodStatus>, status: &PodStatus) -> Option<Map<String, Value>> {
    let object = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    };
    let before = told.map(object).unwrap_or_default();
    let after = object(status);
    let mut change = Map::new();
    for key in OWN_FIELDS {
        if before.get(key).is_some_and(|value| !value.is_null()) && !after.contains_key(key) {
            change.insert(key.to_owned(), Value::Null);
        }
    }
    for (key, value) in after {
        if key != "conditions" && before.get(&key) != Some(&value) {
            change.insert(key, value);
        }
    }
    let conditions = changed_conditions(&before, status);
    if !conditions.is_empty() {
        change.insert("conditions".to_owned(), Value::Array(conditions));
    }
    (!change.is_empty()).then_some(change)
}

/// The node's conditions that differ; what they have no more is set to null, for merging would keep it.
fn changed_conditions(before: &Map<String, Value>, status: &PodStatus) -> Vec<Value> {
    let old = before.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let own = status.conditions.iter().flatten();
    let own = own.filter(|condition| OWN_CONDITIONS.contains(&condition.type_.as_str()));
    own.filter_map(|condition| {
        let mut new = serde_json::to_value(condition).ok()?;
        let old = old.iter().find(|old| old["type"] == new["type"]);
        if old == Some(&new) {
            return None;
        }
        for part in OPTIONAL_PARTS {
            if new.get(part).is_none() && old.is_some_and(|old| old.get(part).is_some()) {
                new[part] = Value::Null;
            }
        }
        Some(new)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_new_is_not_told() {
        let told = status(json!({"phase": "Running", "nominatedNodeName": "n",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Their", "status": "True"}]}));
        let same = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        assert_eq!(change(Some(&told), &same), None);
        assert!(change(None, &same).is_some());
    }

    #[test]
    fn what_is_gone_is_unset_and_what_is_others_stays() {
        let told = status(
            json!({"phase": "Pending", "reason": "Odd", "podIP": "10.0.0.1", "nominatedNodeName": "n",
            "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "m"},
                           {"type": "Their", "status": "True"}]}),
        );
        let new = status(json!({"phase": "Running", "podIP": "10.0.0.1",
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "Their", "status": "True"}]}));
        let change = Value::Object(change(Some(&told), &new).unwrap());
        assert_eq!(
            change,
            json!({"phase": "Running", "reason": null,
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]})
        );
    }
}
