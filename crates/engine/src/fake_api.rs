//! For tests: as much of a Kubernetes API in memory as this crate and the domains use, with faults on demand. Other crates
//! get it by the feature `fake-api`, as a development dependency.
//!
//! Objects are kept by path, without any knowledge of their kinds: optimistic concurrency, generations, the status
//! subresource, merge patches, finalizers, lists and watches.

#![allow(clippy::expect_used, reason = "for tests only, where a broken fake is to stop the test")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::broadcast;

/// In place of a path: the watch has expired.
const EXPIRED: &str = "expired";

type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out: 503.
    Unavailable,
    /// It is not carried out: 403, for the namespace is being deleted.
    NamespaceTerminating,
    /// It is carried out, and the answer is lost: 504.
    AnswerLost,
    /// It is carried out, and never answered.
    AnswerHangs,
    /// It is neither carried out nor answered.
    Hangs,
    /// It is carried out after a while, in the time of the test's runtime.
    Late(Duration),
}

/// Decides about faults: method and path.
type FaultPlan = Box<dyn FnMut(&str, &str) -> Option<Fault> + Send>;

/// The API; clones are the same.
#[derive(Clone)]
pub struct FakeApi {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<(String, Value)>,
}

struct State {
    objects: BTreeMap<String, Value>,
    revision: u64,
    faults: FaultPlan,
    requests: Vec<String>,
    /// Every change with its revision, for watches that begin later.
    history: Vec<(u64, String, Value)>,
}

impl Default for FakeApi {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeApi {
    /// An empty one.
    pub fn new() -> Self {
        let state = State {
            objects: BTreeMap::new(),
            revision: 0,
            faults: Box::new(|_, _| None),
            requests: Vec::new(),
            history: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), changes: broadcast::Sender::new(10_000) }
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// From now on, requests go wrong as `plan` says.
    pub fn set_faults(&self, plan: impl FnMut(&str, &str) -> Option<Fault> + Send + 'static) {
        self.state().faults = Box::new(plan);
    }

    /// `METHOD path` of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// All objects whose path contains `part`.
    pub fn objects(&self, part: &str) -> Vec<Value> {
        let state = self.state();
        state
            .objects
            .iter()
            .filter(|(path, _)| path.contains(part))
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// Changes, or creates, an object behind everybody's back. `path` is that of the object.
    pub fn meddle(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.state();
        let mut object = state.objects.get(path).cloned().unwrap_or_else(|| json!({"metadata": {}}));
        change(&mut object);
        self.store(&mut state, path, object);
    }

    /// Removes an object without telling the watches, as if it had happened while they were interrupted.
    pub fn remove_unnoticed(&self, path: &str) {
        self.state().objects.remove(path);
    }

    /// Ends all watches with "too old resource version", so that they list anew.
    pub fn expire_watches(&self) {
        let _ = self.changes.send((EXPIRED.to_owned(), Value::Null));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    async fn answer(&self, request: Request<Body>) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
        let fault = {
            let mut state = self.state();
            state.requests.push(format!("{} {path}", parts.method));
            (state.faults)(parts.method.as_str(), &path)
        };
        match fault {
            Some(Fault::Unavailable) => return failure(503, "ServiceUnavailable", "try later"),
            Some(Fault::NamespaceTerminating) => return namespace_terminating(),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Late(delay)) => tokio::time::sleep(delay).await,
            Some(Fault::AnswerLost | Fault::AnswerHangs) | None => {}
        }
        let answer = if parts.method == Method::GET && query.contains("watch=true") {
            self.watch(&path, only_name(&query), since(&query))
        } else if parts.method == Method::GET && is_collection(&path) {
            self.list(&path, only_name(&query).as_deref())
        } else {
            self.carry_out(&parts.method, &path, body)
        };
        match fault {
            Some(Fault::AnswerLost) => failure(504, "Timeout", "the answer was lost"),
            Some(Fault::AnswerHangs) => std::future::pending().await,
            _ => answer,
        }
    }

    fn carry_out(&self, method: &Method, path: &str, body: Value) -> Response<ResponseBody> {
        let (target, status_only) = match path.strip_suffix("/status") {
            Some(target) => (target, true),
            None => (path, false),
        };
        let mut state = self.state();
        let current = state.objects.get(target).cloned();
        match (method, current) {
            (&Method::POST, _) => self.create(&mut state, path, body),
            (&Method::GET, Some(object)) => success(&object),
            (_, None) => failure(404, "NotFound", "not found"),
            (&Method::PUT, Some(current)) => {
                let mut next = if status_only { current.clone() } else { body.clone() };
                next["status"] = if status_only { body["status"].clone() } else { current["status"].clone() };
                self.update(&mut state, target, &current, next, &body)
            }
            (&Method::PATCH, Some(current)) => {
                let mut next = current.clone();
                merge(&mut next, &body);
                self.update(&mut state, target, &current, next, &body)
            }
            (&Method::DELETE, Some(mut current)) => {
                if has_finalizers(&current) {
                    current["metadata"]["deletionTimestamp"] = json!("2027-01-01T00:00:00Z");
                    success(&self.store(&mut state, target, current))
                } else {
                    self.remove(&mut state, target, &current);
                    success(
                        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
                    )
                }
            }
            _ => failure(405, "MethodNotAllowed", "not allowed"),
        }
    }

    fn list(&self, collection: &str, name: Option<&str>) -> Response<ResponseBody> {
        let state = self.state();
        let wanted = |path: &str| is_in(path, collection) && is_called(path, name);
        let items: Vec<&Value> =
            state.objects.iter().filter(|(path, _)| wanted(path)).map(|(_, object)| object).collect();
        let version = state.revision.to_string();
        success(&json!({
            "kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items,
        }))
    }

    fn create(&self, state: &mut State, collection: &str, mut object: Value) -> Response<ResponseBody> {
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
        if state.objects.contains_key(&path) {
            return failure(409, "AlreadyExists", "already exists");
        }
        if let Some((_, rest)) = collection.split_once("/namespaces/") {
            object["metadata"]["namespace"] = json!(rest.split('/').next());
        }
        object["metadata"]["creationTimestamp"] = json!("2026-11-21T10:00:00Z");
        object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
        object["metadata"]["generation"] = json!(1);
        object.as_object_mut().expect("an object").remove("status");
        success(&self.store(state, &path, object))
    }

    fn update(
        &self,
        state: &mut State,
        path: &str,
        current: &Value,
        next: Value,
        given: &Value,
    ) -> Response<ResponseBody> {
        for field in ["resourceVersion", "uid"] {
            let given = &given["metadata"][field];
            if !given.is_null() && given != &current["metadata"][field] {
                return failure(409, "Conflict", "the object has been modified");
            }
        }
        if !next["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&next) {
            self.remove(state, path, &next);
            return success(&next);
        }
        if next["spec"]["holderIdentity"] == "" {
            return failure(422, "Invalid", "spec.holderIdentity: Invalid value: \"\": must not be empty");
        }
        if &next == current {
            return success(current);
        }
        let generation = current["metadata"]["generation"].as_i64().unwrap_or(1);
        let changed = next["spec"] != current["spec"];
        let mut next = next;
        next["metadata"]["generation"] = json!(generation + i64::from(changed));
        success(&self.store(state, path, next))
    }

    fn store(&self, state: &mut State, path: &str, mut object: Value) -> Value {
        state.revision += 1;
        let kind = if state.objects.contains_key(path) { "MODIFIED" } else { "ADDED" };
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        state.objects.insert(path.to_owned(), object.clone());
        self.tell(state, path, json!({"type": kind, "object": object}));
        object
    }

    fn remove(&self, state: &mut State, path: &str, last: &Value) {
        state.revision += 1;
        state.objects.remove(path);
        self.tell(state, path, json!({"type": "DELETED", "object": last}));
    }

    fn tell(&self, state: &mut State, path: &str, event: Value) {
        state.history.push((state.revision, path.to_owned(), event.clone()));
        // Nobody watching is no error.
        let _ = self.changes.send((path.to_owned(), event));
    }

    /// Changes after a revision.
    fn watch(&self, collection: &str, name: Option<String>, since: Option<u64>) -> Response<ResponseBody> {
        let (missed, changes) = {
            let state = self.state();
            let missed =
                state.history.iter().filter(|(revision, ..)| since.is_some_and(|since| *revision > since));
            let missed: Vec<(String, Value)> =
                missed.map(|(_, path, event)| (path.clone(), event.clone())).collect();
            (missed, self.changes.subscribe())
        };
        let collection = collection.to_owned();
        let live = stream::unfold(Some(changes), |changes| async move {
            let mut changes = changes?;
            let (path, event) = changes.recv().await.ok()?;
            if path == EXPIRED {
                let status = json!({"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired", "message": ""});
                return Some(((path, json!({"type": "ERROR", "object": status})), None));
            }
            Some(((path, event), Some(changes)))
        });
        let lines = stream::iter(missed).chain(live).filter_map(move |(path, event)| {
            let wanted = path == EXPIRED || (is_in(&path, &collection) && is_called(&path, name.as_deref()));
            futures::future::ready(
                wanted.then(|| Ok(http_body::Frame::data(Bytes::from(format!("{event}\n"))))),
            )
        });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

/// The revision that a watch begins after.
fn since(query: &str) -> Option<u64> {
    let (_, version) = query.split_once("resourceVersion=")?;
    version.split('&').next()?.parse().ok()
}

/// The name that a field selector asks for.
fn only_name(query: &str) -> Option<String> {
    let (_, selector) = query.split_once("fieldSelector=metadata.name%3D")?;
    Some(selector.split('&').next().unwrap_or_default().to_owned())
}

fn is_called(path: &str, name: Option<&str>) -> bool {
    name.is_none_or(|name| path.ends_with(&format!("/{name}")))
}

/// Whether the path ends in a resource's name, not in an object's.
fn is_collection(path: &str) -> bool {
    let after_version: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let skip = if after_version.first() == Some(&"api") { 2 } else { 3 };
    matches!(&after_version[skip.min(after_version.len())..], [_] | ["namespaces", _, _])
}

/// Whether an object belongs to a collection, which may span all namespaces.
fn is_in(object: &str, collection: &str) -> bool {
    let (base, resource) = collection.rsplit_once('/').unwrap_or_default();
    let Some((parent, _)) = object.rsplit_once('/') else { return false };
    parent == collection
        || (parent.starts_with(&format!("{base}/namespaces/")) && parent.ends_with(&format!("/{resource}")))
}

fn has_finalizers(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|finalizers| !finalizers.is_empty())
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("made one").remove(key);
        } else if key != "resourceVersion" {
            merge(&mut target[key], value);
        }
    }
}

fn success(object: &Value) -> Response<ResponseBody> {
    respond(200, object)
}

fn failure(code: u16, reason: &str, message: &str) -> Response<ResponseBody> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    respond(code, &status)
}

/// What the API server says to a create in a namespace that is being deleted.
fn namespace_terminating() -> Response<ResponseBody> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 403, "reason": "Forbidden",
        "message": "unable to create new content in namespace because it is being terminated",
        "details": {"causes": [{"reason": "NamespaceTerminating", "message": "namespace is being terminated"}]},
    });
    respond(403, &status)
}

fn respond(code: u16, body: &Value) -> Response<ResponseBody> {
    let body = http_body_util::Full::new(Bytes::from(body.to_string())).boxed_unsync();
    Response::builder().status(code).header("content-type", "application/json").body(body).expect("valid")
}
