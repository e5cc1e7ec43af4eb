//! Lists, and the questions that some of them take.

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::emco::{
    AppIntent, ClusterKeyValues, ClusterSyncObject, Document as _, GroupIntent, LogicalCloudKeyValues,
};
use serde_json::{Value, json};

use crate::{
    kinds::Kind,
    refusal::Refusal,
    request::Incoming,
    service::{EmcoRest, bytes, json as json_reply},
    tree::Entry,
};

impl EmcoRest {
    pub(crate) async fn list(
        &self,
        kind: &'static dyn Kind,
        incoming: &Incoming,
    ) -> Result<Response<Body>, Refusal> {
        let (path, query) = (incoming.path.as_str(), &incoming.query);
        if let Some((parent, _)) = path.rsplit_once('/')
            && self.0.tree.get(parent).is_none()
        {
            return Err(Refusal::not_found(thing_of(parent), parent));
        }
        match kind.name() {
            "Cluster" if query.get("withLabels").is_some_and(|with| with.eq_ignore_ascii_case("true")) => {
                Ok(self.clusters_with_labels(path))
            }
            "Cluster" if query.get("label").is_some() => {
                Ok(self.clusters_with_label(path, query.get("label").unwrap_or_default()))
            }
            "Profile" if query.get("app").is_some() => {
                let app = query.get("app").unwrap_or_default();
                let claim = format!("{path}?app={app}");
                let found = self.0.tree.rival_of("", &claim).and_then(|found| self.0.tree.get(&found));
                let found = found.ok_or_else(|| Refusal::not_found("AppProfile", &claim))?;
                self.show(incoming, &found).await
            }
            "AppIntent" => {
                let app = query.get("app").or_else(|| query.get("app-name"));
                match app {
                    Some(app) => self.intent_of_app(path, app),
                    None => Ok(bytes(StatusCode::OK, self.0.tree.list_bytes(path))),
                }
            }
            "GroupIntent" => self.group_intents(path, query.get("intent")),
            _ => Ok(bytes(StatusCode::OK, self.0.tree.list_bytes(path))),
        }
    }

    fn clusters_with_labels(&self, collection: &str) -> Response<Body> {
        let clusters = self.0.tree.list(collection, |_| true);
        let of = |entry: &std::sync::Arc<Entry>| {
            let labels = self.0.tree.list(&format!("{}/labels", entry.document.path()), |_| true);
            let labels: Vec<Value> = labels.iter().map(|label| label.document.body()).collect();
            let mut body = entry.document.body();
            json!({"metadata": body["metadata"].take(), "labels": labels})
        };
        let all: Vec<Value> = clusters.iter().map(of).collect();
        json_reply(StatusCode::OK, &Value::Array(all))
    }

    fn clusters_with_label(&self, collection: &str, label: &str) -> Response<Body> {
        let clusters = self.0.tree.list(collection, |_| true);
        let has_it = |entry: &&std::sync::Arc<Entry>| {
            self.0.tree.get(&format!("{}/labels/{label}", entry.document.path())).is_some()
        };
        let names = clusters
            .iter()
            .filter(has_it)
            .map(|entry| Value::from(entry.document.path().rsplit('/').next().unwrap_or_default()));
        json_reply(StatusCode::OK, &Value::Array(names.collect()))
    }

    fn intent_of_app(&self, collection: &str, app: &str) -> Result<Response<Body>, Refusal> {
        let wanted = |entry: &Entry| {
            let intent = entry.document.as_any().downcast_ref::<AppIntent>();
            intent.is_some_and(|intent| intent.spec.app == app)
        };
        let found = self.0.tree.list(collection, wanted);
        let found = found
            .first()
            .ok_or_else(|| Refusal::not_found("AppIntent", &format!("{collection}?app={app}")))?;
        Ok(json_reply(StatusCode::OK, &found.document.body()["spec"]))
    }

    fn group_intents(&self, collection: &str, named: Option<&str>) -> Result<Response<Body>, Refusal> {
        let all = self.0.tree.list(collection, |_| true);
        let intents = all.iter().filter_map(|entry| entry.document.as_any().downcast_ref::<GroupIntent>());
        match named {
            None => {
                let maps: Vec<_> = intents.map(|intent| &intent.spec.intent).collect();
                Ok(json_reply(StatusCode::OK, &json!({"intent": maps})))
            }
            Some(name) => {
                let mut intents = intents;
                let found = intents.find(|intent| intent.document_name() == name);
                let missing = || Refusal::not_found("Intent", &format!("{collection}/{name}"));
                let found = found.ok_or_else(missing)?;
                Ok(json_reply(StatusCode::OK, &json!({"intent": found.spec.intent})))
            }
        }
    }
}

/// What EMCO calls documents with such a path.
fn thing_of(path: &str) -> &'static str {
    let found = crate::kinds::all().iter().find(|kind| kind.parse(path).is_ok());
    found.map_or("Parent resource", |kind| kind.thing())
}

/// The value of a key in key-value pairs.
pub(crate) fn by_key(entry: &Entry, key: &str) -> Result<Response<Body>, Refusal> {
    let document = entry.document.as_any();
    let pairs = document.downcast_ref::<ClusterKeyValues>().map(|document| &document.spec.kv);
    let pairs =
        pairs.or_else(|| document.downcast_ref::<ClusterSyncObject>().map(|document| &document.spec.kv));
    let pairs =
        pairs.or_else(|| document.downcast_ref::<LogicalCloudKeyValues>().map(|document| &document.spec.kv));
    let found = pairs.into_iter().flatten().find_map(|pair| pair.get(key));
    let missing = || Refusal::not_found(entry.kind.thing(), &format!("{}?key={key}", entry.document.path()));
    Ok(json_reply(StatusCode::OK, found.ok_or_else(missing)?))
}
