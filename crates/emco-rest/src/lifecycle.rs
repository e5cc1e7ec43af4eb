//! What is done with documents becomes `LifecycleOperation`s, whose end is awaited; and where documents stand.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{
        Cluster, DeploymentIntentGroup, EMCO_GROUP, LifecycleAction, LifecycleOperation,
        LifecycleOperationSpec, LifecycleOperationStatus, LifecycleParameters, LifecyclePhase, LogicalCloud,
        StateEntry, is_name, object_name,
    },
};
use drystone_engine::{harness::Change, reference::ObjectKey};
use futures::{Stream, StreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Api, api::PostParams};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    gate::Footprint,
    kinds::Kind,
    refusal::Refusal,
    request::{Incoming, Sent},
    service::{EmcoRest, empty, json as json_reply},
    status::{StatusList, StatusQuery},
    tree::Entry,
};

/// How long a client waits for the end of an operation.
const LIMIT: Duration = Duration::from_secs(600);
/// Label of an operation: name of the object that it is done with.
const TARGET_LABEL: &str = "emco.drystone.dev/target";

impl EmcoRest {
    pub(crate) async fn act(
        &self,
        kind: &'static dyn Kind,
        action: LifecycleAction,
        incoming: Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let Incoming { body, path, .. } = incoming;
        let body = body.read().await?;
        let target = self.found(kind, &path)?;
        let parameters = parameters(action, &body)?;
        let spec = LifecycleOperationSpec { path: path.clone(), action, parameters };
        let done = self.carried_out(&target, spec).await?;
        match done.phase {
            LifecyclePhase::Succeeded => self.answer_to(kind, action, &path, &done),
            _ => {
                let code = done.code.and_then(|code| StatusCode::from_u16(code).ok());
                let code = code.filter(|code| code.is_client_error() || code.is_server_error());
                Err(Refusal::new(code.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), done.message))
            }
        }
    }

    fn answer_to(
        &self,
        kind: &dyn Kind,
        action: LifecycleAction,
        path: &str,
        done: &LifecycleOperationStatus,
    ) -> Result<Response<Body>, Refusal> {
        use LifecycleAction::{ApplyNetworks, Stop, StopNetworks, TerminateNetworks, Update};
        Ok(match (kind.name(), action) {
            ("DeploymentIntentGroup", Update) => {
                json_reply(StatusCode::ACCEPTED, &json!(done.revision.unwrap_or_default()))
            }
            ("LogicalCloud", Update) => {
                json_reply(StatusCode::ACCEPTED, &self.found(kind, path)?.document.body())
            }
            ("LogicalCloud", Stop) => empty(StatusCode::OK),
            (_, ApplyNetworks | TerminateNetworks | StopNetworks) => empty(StatusCode::NO_CONTENT),
            _ => empty(StatusCode::ACCEPTED),
        })
    }

    /// Has something done, and waits for its end.
    async fn carried_out(
        &self,
        target: &Entry,
        spec: LifecycleOperationSpec,
    ) -> Result<LifecycleOperationStatus, Refusal> {
        let path = spec.path.clone();
        let operation = operation(target, spec);
        let key = ObjectKey::of(&operation);
        let mut changes = std::pin::pin!(self.0.operations.changes());
        let mut was_seen = {
            let footprint =
                Footprint { writes: [format!("{path}?operation")].into(), reads: [path.clone()].into() };
            let _pass = self.0.gate.enter(footprint).await;
            // It may have been deleted before this one's turn.
            self.found(target.kind, &path)?;
            let unfinished = self.0.operations.list_where(|other| {
                other.spec.path == path
                    && !other.status.as_ref().is_some_and(|status| status.phase.is_final())
            });
            if let Some(other) = unfinished.first() {
                let (name, action) = (ObjectKey::of(other.as_ref()).name, other.spec.action);
                return Err(Refusal::conflict(format!(
                    "{action:?} (LifecycleOperation {name}) is still going on; try again when it is through"
                )));
            }
            let api: Api<LifecycleOperation> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
            api.create(&PostParams::default(), &operation).await?;
            // Whoever comes next must see it.
            self.is_seen(&key, &mut changes).await?
        };
        let waiting = async {
            loop {
                match self.0.operations.get(&key) {
                    None if was_seen => {
                        let text = format!("LifecycleOperation {} was deleted before its end", key.name);
                        return Err(Refusal::conflict(text));
                    }
                    None => {}
                    Some(now) => {
                        was_seen = true;
                        let status = now.status.as_ref().filter(|status| status.phase.is_final());
                        if let Some(status) = status {
                            return Ok(status.clone());
                        }
                    }
                }
                let Some(change) = changes.next().await else {
                    return Err(Refusal::unavailable("the service is stopping; it goes on when it is back"));
                };
                was_seen = was_seen || self.has_come(&change, &key).await?;
            }
        };
        let still = || {
            Refusal::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!(
                    "LifecycleOperation {} goes on after {} s; look at it, or at status",
                    key.name,
                    LIMIT.as_secs()
                ),
            )
        };
        tokio::time::timeout(LIMIT, waiting).await.map_err(|_| still())?
    }

    /// Waits until an operation that was just made has come into the copy; whether it has.
    async fn is_seen(
        &self,
        key: &ObjectKey,
        changes: &mut (impl Stream<Item = Change<LifecycleOperation>> + Unpin),
    ) -> Result<bool, Refusal> {
        let seen = async {
            while self.0.operations.get(key).is_none() {
                let Some(change) = changes.next().await else { break };
                if self.has_come(&change, key).await? {
                    break;
                }
            }
            Ok::<(), Refusal>(())
        };
        if let Ok(seen) = tokio::time::timeout(Duration::from_secs(10), seen).await {
            return seen.map(|()| true);
        }
        tracing::warn!("the watch is far behind what was written");
        Ok(false)
    }

    /// Whether a change tells that an operation that was just made has come into the copy. It may have gone again since: who only looks into
    /// the copy may never see it.
    async fn has_come(&self, change: &Change<LifecycleOperation>, key: &ObjectKey) -> Result<bool, Refusal> {
        match change {
            Change::Object(operation) => Ok(ObjectKey::of(operation.as_ref()) == *key),
            Change::Missed => {
                let api: Api<LifecycleOperation> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
                // On the heap: it is rare, and would make what all wait in as large.
                Ok(Box::pin(api.get_opt(&key.name)).await?.is_none())
            }
        }
    }

    pub(crate) async fn status(
        &self,
        kind: &'static dyn Kind,
        incoming: &Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let path = incoming.path.as_str();
        let entry = self.found(kind, path)?;
        let query = StatusQuery::parse(&incoming.query, kind.name() == "LogicalCloud")?;
        let (context, states) = states_of(&entry);
        let base = base_of(kind, &entry, &query, &context, &states);
        if let Some(instance) = &query.instance
            && !states.iter().any(|state| state.context_id == *instance)
        {
            let text = format!("instance: {path} never had the AppContext {instance}");
            return Err(Refusal::new(StatusCode::NOT_FOUND, text));
        }
        if context.is_empty() && query.instance.is_none() {
            return Ok(json_reply(StatusCode::OK, &base));
        }
        let source = self.0.config.status.as_ref();
        let source =
            source.ok_or_else(|| Refusal::unavailable("nobody here knows where deployments stand"))?;
        Ok(json_reply(StatusCode::OK, &source.status(path, &query, base).await?))
    }
}

/// An operation that is to be carried out; it goes when its target goes.
fn operation(target: &Entry, spec: LifecycleOperationSpec) -> LifecycleOperation {
    let document = target.document.as_ref();
    let name = document.meta().name.clone().unwrap_or_default();
    let random = Uuid::new_v4().simple().to_string();
    let unique = random.get(..8).unwrap_or_default();
    let own = format!("{}-{unique}", object_name(document.path()));
    let mut operation = LifecycleOperation::new(&own, spec);
    operation.metadata = ObjectMeta {
        name: Some(own),
        namespace: Some(SYSTEM_NAMESPACE.to_owned()),
        labels: (name.len() <= 63).then(|| [(TARGET_LABEL.to_owned(), name.clone())].into()),
        owner_references: Some(vec![OwnerReference {
            api_version: format!("{EMCO_GROUP}/v1alpha1"),
            kind: target.kind.name().to_owned(),
            name,
            uid: document.meta().uid.clone().unwrap_or_default(),
            ..OwnerReference::default()
        }]),
        ..ObjectMeta::default()
    };
    operation
}

/// What a body says about how something is to be done.
fn parameters(action: LifecycleAction, body: &[u8]) -> Result<LifecycleParameters, Refusal> {
    let mut parameters = LifecycleParameters::default();
    if !matches!(action, LifecycleAction::Migrate | LifecycleAction::Rollback) {
        // Whatever else is sent is not looked at.
        return Ok(parameters);
    }
    let sent = Sent::parse(body)?;
    let members = match sent.spec {
        Value::Object(members) => members,
        Value::Null => Map::new(),
        _ => return Err(Refusal::unprocessable("spec: is not an object")),
    };
    let given = |name: &str| {
        members.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let required = |name: &str| Refusal::invalid(&[format!("spec.{name}: is required")]);
    if action == LifecycleAction::Rollback {
        let revision = match given("revision") {
            None | Some(Value::Null) => return Err(required("revision")),
            Some(Value::String(text)) => text.trim().parse::<i64>().ok(),
            Some(Value::Number(number)) => number.as_i64(),
            Some(_) => return Err(Refusal::unprocessable("spec.revision: is not a string")),
        };
        let revision = revision.filter(|revision| *revision > 0);
        let wrong = || Refusal::invalid(&["spec.revision: is no number of a revision, from 1 on".to_owned()]);
        parameters.revision = Some(revision.ok_or_else(wrong)?);
        return Ok(parameters);
    }
    let name = |name: &str| match given(name) {
        None | Some(Value::Null) => Err(required(name)),
        Some(Value::String(text)) if text.is_empty() => Err(required(name)),
        Some(Value::String(text)) if is_name(text) => Ok(text.clone()),
        Some(Value::String(_)) => Err(Refusal::invalid(&[format!("spec.{name}: is no name")])),
        Some(_) => Err(Refusal::unprocessable(format!("spec.{name}: is not a string"))),
    };
    parameters.target_composite_app_version = name("targetCompositeAppVersion")?;
    parameters.target_deployment_intent_group = name("targetDeploymentIntentGroup")?;
    Ok(parameters)
}

/// The status context of a document, and its states.
fn states_of(entry: &Entry) -> (String, Vec<StateEntry>) {
    let document = entry.document.as_any();
    let group = document.downcast_ref::<DeploymentIntentGroup>().and_then(|group| group.status.as_ref());
    let group = group.map(|status| (&status.status_context_id, &status.state_info));
    let cloud = document.downcast_ref::<LogicalCloud>().and_then(|cloud| cloud.status.as_ref());
    let cloud = cloud.map(|status| (&status.status_context_id, &status.state_info));
    let cluster = document.downcast_ref::<Cluster>().and_then(|cluster| cluster.status.as_ref());
    let cluster = cluster.map(|status| (&status.networks.status_context_id, &status.networks.state_info));
    let found = group.or(cloud).or(cluster);
    let (context, mut states) = found
        .map_or_else(|| (String::new(), Vec::new()), |(context, states)| (context.clone(), states.clone()));
    if states.is_empty() {
        let time = entry.document.meta().creation_timestamp.clone();
        let time = time.map(|time| k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(time.0));
        states.push(StateEntry { state: "Created".to_owned(), time, ..StateEntry::default() });
    }
    (context, states)
}

/// What is known of a document without its AppContext, in the form of EMCO's status.
fn base_of(
    kind: &dyn Kind,
    entry: &Entry,
    query: &StatusQuery,
    context: &str,
    states: &[StateEntry],
) -> Value {
    let path = entry.document.path();
    let names = kind.parse(path).ok();
    let name = |place: &str| names.as_ref().map_or("", |names| names.get(place));
    let mut base = match kind.name() {
        "DeploymentIntentGroup" => {
            let group = entry.document.as_any().downcast_ref::<DeploymentIntentGroup>();
            json!({
                "project": name("project"),
                "compositeApp": name("compositeApp"),
                "compositeAppVersion": name("compositeAppVersion"),
                "compositeProfile": group.map_or("", |group| group.spec.composite_profile.as_str()),
                "name": name("deploymentIntentGroup")
            })
        }
        "LogicalCloud" => json!({"project": name("project"), "name": name("logicalCloud")}),
        _ => json!({"name": format!("{}+{}", name("clusterProvider"), name("cluster"))}),
    };
    let is_group = kind.name() == "DeploymentIntentGroup";
    match query.list {
        Some(StatusList::Apps) => base["apps"] = json!([]),
        Some(StatusList::Clusters) if is_group => base["clustersByApp"] = json!([]),
        Some(StatusList::Clusters) => base["clusters"] = json!([]),
        Some(StatusList::Resources) if is_group => base["resourcesByApp"] = json!([]),
        Some(StatusList::Resources) => base["resourcesByCluster"] = json!([]),
        None => {
            let action = |state: &StateEntry| {
                json!({"state": state.state, "instance": state.context_id, "time": state.time,
                       "revision": state.revision})
            };
            let actions: Vec<Value> = states.iter().map(action).collect();
            base["states"] = json!({"statusctxid": context, "actions": actions});
        }
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_actions_are_read() {
        let read = |action, body: &str| parameters(action, body.as_bytes());
        let rollback =
            read(LifecycleAction::Rollback, r#"{"metadata": {"name": ""}, "spec": {"Revision": "3"}}"#);
        assert_eq!(rollback.unwrap().revision, Some(3));
        let migrate = r#"{"spec": {"targetCompositeAppVersion": "v2", "targetDeploymentIntentGroup": "d2"}}"#;
        let migrate = read(LifecycleAction::Migrate, migrate).unwrap();
        assert_eq!(migrate.target_composite_app_version, "v2");
        assert_eq!(read(LifecycleAction::Instantiate, "no JSON").unwrap(), LifecycleParameters::default());
        for (action, body, status, told) in [
            (LifecycleAction::Rollback, "", 400, "Empty body"),
            (LifecycleAction::Rollback, "{}", 400, "spec.revision: is required"),
            (LifecycleAction::Rollback, r#"{"spec": {"revision": "x"}}"#, 400, "spec.revision"),
            (LifecycleAction::Rollback, r#"{"spec": {"revision": "0"}}"#, 400, "spec.revision"),
            (LifecycleAction::Rollback, r#"{"spec": {"revision": []}}"#, 422, "spec.revision"),
            (
                LifecycleAction::Migrate,
                r#"{"spec": {"targetCompositeAppVersion": "v"}}"#,
                400,
                "IntentGroup: is required",
            ),
            (
                LifecycleAction::Migrate,
                r#"{"spec": {"targetCompositeAppVersion": "a/b"}}"#,
                400,
                "is no name",
            ),
            (LifecycleAction::Migrate, r#"{"spec": 1}"#, 422, "spec"),
        ] {
            let refused = read(action, body).unwrap_err();
            assert_eq!(refused.status, status, "{body}");
            assert!(refused.text.contains(told), "{body}: {}", refused.text);
        }
    }
}
