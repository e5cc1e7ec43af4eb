//! The answer to a query.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use drystone_appcontext::{
    AppContext, ClusterName, Connectivity, ContextId, Part, Resource, ResourceName, ResourceStatus,
};
use serde_json::{Map, Value, json};

use super::{
    gvk::Known,
    query::{List, Output, StatusKind, StatusQuery},
};
use crate::model::{Entry, History};

/// Whose status it is: what the answer begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A deployment intent group's.
    Group {
        /// Project.
        project: String,
        /// Composite application.
        composite_app: String,
        /// Its version.
        version: String,
        /// Composite profile.
        profile: String,
        /// The group.
        name: String,
    },
    /// A logical cloud's.
    Cloud {
        /// Project.
        project: String,
        /// The logical cloud.
        name: String,
    },
    /// The networks' of a cluster.
    Cluster(ClusterName),
}

/// Kinds that EMCO follows object by object: of these, one that is not there is told as such.
const FOLLOWED: [&str; 8] = [
    "ConfigMap",
    "Service",
    "Pod",
    "Deployment",
    "DaemonSet",
    "StatefulSet",
    "Job",
    "CertificateSigningRequest",
];

/// Answers a query. `context`: the one that is asked about; none if nothing was deployed yet. `status`: the context that carries the
/// status, where that is another one.
pub fn project(
    whose: &Whose,
    history: &History,
    context: Option<&AppContext>,
    status: Option<&AppContext>,
    query: &StatusQuery,
) -> Value {
    let mut answer = heading(whose);
    if let Some(list) = query.list {
        list_names(whose, context, query, list, &mut answer);
        return Value::Object(answer);
    }
    answer.insert("states".to_owned(), states(history));
    let Some(context) = context else { return Value::Object(answer) };
    // What is deployed now, not what an update has replaced; what was asked a moment ago counts.
    let own = context.sync.status.is_some() || context.sync.has_orders();
    let overall = if own { Some(context.sync.phase()) } else { status.and_then(|status| status.sync.status) };
    let mut parts = Parts { query, known: Known::default(), counts: BTreeMap::new() };
    let body = parts.body(context, status);
    let deployed = overall.map_or("Unknown", drystone_appcontext::State::as_str);
    let ready = if parts.is_ready() { "Ready" } else { "NotReady" };
    let counts = json!(parts.counts);
    match query.kind {
        StatusKind::Deployed => {
            answer.insert("deployedStatus".to_owned(), json!(deployed));
            answer.insert("deployedCounts".to_owned(), counts);
        }
        StatusKind::Ready => {
            answer.insert("deployedStatus".to_owned(), json!(deployed));
            answer.insert("readyStatus".to_owned(), json!(ready));
            answer.insert("readyCounts".to_owned(), counts);
        }
        StatusKind::Rsync => {
            answer.insert("status".to_owned(), json!(deployed));
            answer.insert("rsyncStatus".to_owned(), counts);
        }
        StatusKind::Cluster => {
            answer.insert("status".to_owned(), json!(deployed));
            answer.insert("clusterStatus".to_owned(), counts);
        }
    }
    if query.output > Output::Summary {
        insert_body(whose, body, &mut answer);
    }
    if !context.meta.child_contexts.is_empty() {
        answer.insert("ChildContextIDs".to_owned(), json!(context.meta.child_contexts));
    }
    Value::Object(answer)
}

fn heading(whose: &Whose) -> Map<String, Value> {
    let value = match whose {
        Whose::Group { project, composite_app, version, profile, name } => json!({
            "project": project, "compositeApp": composite_app, "compositeAppVersion": version,
            "compositeProfile": profile, "name": name,
        }),
        Whose::Cloud { project, name } => json!({"project": project, "name": name}),
        Whose::Cluster(name) => json!({"name": name.to_string()}),
    };
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn states(history: &History) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "state": entry.state.as_str(),
            "instance": entry.context.map(|context| context.to_string()).unwrap_or_default(),
            "time": entry.time,
            "revision": entry.revision,
        })
    };
    let actions: Vec<Value> = history.0.iter().map(entry).collect();
    let carrier = history.status_context().map(|context| context.to_string()).unwrap_or_default();
    json!({"statusctxid": carrier, "actions": actions})
}

/// Logical clouds and networks have one application, whose name says nothing: its clusters are told instead.
fn insert_body(whose: &Whose, apps: Vec<(String, Vec<Value>)>, answer: &mut Map<String, Value>) {
    let clusters = |apps: Vec<(String, Vec<Value>)>| -> Vec<Value> {
        apps.into_iter().flat_map(|(_, clusters)| clusters).collect()
    };
    match whose {
        Whose::Group { .. } => {
            let app = |(name, clusters)| json!({"name": name, "clusters": Value::Array(clusters)});
            answer.insert("apps".to_owned(), apps.into_iter().map(app).collect());
        }
        Whose::Cloud { .. } => drop(answer.insert("clusters".to_owned(), Value::Array(clusters(apps)))),
        Whose::Cluster(_) => {
            if let Some(cluster) = clusters(apps).into_iter().next() {
                answer.insert("cluster".to_owned(), cluster);
            }
        }
    }
}

fn list_names(
    whose: &Whose,
    context: Option<&AppContext>,
    query: &StatusQuery,
    list: List,
    answer: &mut Map<String, Value>,
) {
    let empty = BTreeMap::new();
    let apps = context.map_or(&empty, |context| &context.apps);
    let wanted = || apps.iter().filter(|(name, _)| query.wants_app(name));
    let of_cluster = |name: &ClusterName| json!({"clusterProvider": name.provider, "cluster": name.cluster});
    match list {
        List::Apps => {
            let names: Vec<&String> = wanted().map(|(name, _)| name).collect();
            answer.insert("apps".to_owned(), json!(names));
        }
        List::Clusters => {
            let clusters = |app: &drystone_appcontext::App| -> Vec<Value> {
                app.clusters.keys().filter(|name| query.wants_cluster(name)).map(of_cluster).collect()
            };
            if matches!(whose, Whose::Group { .. }) {
                let by_app: Vec<Value> =
                    wanted().map(|(name, app)| json!({"app": name, "clusters": clusters(app)})).collect();
                answer.insert("clustersByApp".to_owned(), Value::Array(by_app));
            } else {
                let all: Vec<Value> = wanted().flat_map(|(_, app)| clusters(app)).collect();
                answer.insert("clusters".to_owned(), Value::Array(all));
            }
        }
        List::Resources => {
            let mut known = Known::default();
            let is_group = matches!(whose, Whose::Group { .. });
            let mut found = Vec::new();
            for (name, app) in wanted() {
                for (cluster, part) in app.clusters.iter().filter(|(name, _)| query.wants_cluster(name)) {
                    let resources: Vec<Value> = part
                        .resources
                        .iter()
                        .filter(|(name, _)| query.wants_resource(name.name()))
                        .map(|(name, one)| json!({"name": name.name(), "GVK": known.of(name, one)}))
                        .collect();
                    let mut one = of_cluster(cluster);
                    one["resources"] = Value::Array(resources);
                    if is_group {
                        one["app"] = json!(name);
                    }
                    found.push(one);
                }
            }
            // The one application of logical clouds and networks has a name that says nothing.
            let member = if is_group { "resourcesByApp" } else { "resourcesByCluster" };
            answer.insert(member.to_owned(), Value::Array(found));
        }
    }
}

struct Parts<'a> {
    query: &'a StatusQuery,
    known: Known,
    counts: BTreeMap<&'static str, u64>,
}

impl Parts<'_> {
    /// Clusters of each application. Counts everything that is asked for, also where it is not told.
    fn body(&mut self, context: &AppContext, status: Option<&AppContext>) -> Vec<(String, Vec<Value>)> {
        let mut apps = Vec::new();
        let known: BTreeSet<&String> = context.app_order.iter().collect();
        let rest = context.apps.keys().filter(|name| !known.contains(name));
        for name in context.app_order.iter().chain(rest) {
            let Some(app) = context.apps.get(name).filter(|_| self.query.wants_app(name)) else { continue };
            let mut clusters = Vec::new();
            for (cluster, part) in &app.clusters {
                if self.query.wants_cluster(cluster) {
                    let told = status.and_then(|status| status.part(name, cluster));
                    clusters.push(self.cluster(cluster, part, told));
                }
            }
            apps.push((name.clone(), clusters));
        }
        apps
    }

    fn cluster(&mut self, name: &ClusterName, part: &Part, told: Option<&Part>) -> Value {
        let connectivity = part.connectivity.or_else(|| told.and_then(|told| told.connectivity));
        let mut resources = Vec::new();
        for (resource_name, resource) in &part.resources {
            if !self.query.wants_resource(resource_name.name()) {
                continue;
            }
            let elsewhere = told.and_then(|told| told.resources.get(resource_name));
            let status = if self.query.kind.is_ready() {
                let tells = self.known.tells(resource_name, resource);
                readiness(resource_name, resource, elsewhere, tells)
            } else {
                resource.status.unwrap_or(ResourceStatus::Pending).as_str()
            };
            *self.counts.entry(status).or_default() += 1;
            if self.query.output > Output::Summary {
                resources.push(self.resource(resource_name, resource, status));
            }
        }
        let mut cluster = json!({
            "clusterProvider": name.provider,
            "cluster": name.cluster,
            "resources": Value::Array(resources),
        });
        let connectivity = connectivity.unwrap_or(Connectivity::Unknown).as_str();
        let member = match self.query.kind {
            StatusKind::Rsync | StatusKind::Cluster => "readyStatus",
            StatusKind::Deployed | StatusKind::Ready => "connectivity",
        };
        cluster[member] = json!(connectivity);
        cluster
    }

    fn resource(&mut self, name: &ResourceName, resource: &Resource, status: &'static str) -> Value {
        let member = match self.query.kind {
            StatusKind::Deployed => "deployedStatus",
            StatusKind::Ready => "readyStatus",
            StatusKind::Rsync => "rsyncStatus",
            StatusKind::Cluster => "clusterStatus",
        };
        let mut told = json!({"GVK": self.known.of(name, resource), "name": name.name()});
        told[member] = json!(status);
        if self.query.output == Output::Detail {
            let whole: &Arc<str> = resource.definition.as_ref().unwrap_or(&resource.manifest);
            told["detail"] = object(whole);
        }
        told
    }

    fn is_ready(&self) -> bool {
        self.query.kind.is_ready()
            && self.counts.iter().all(|(status, count)| *status == "Ready" || *count == 0)
    }
}

fn object(text: &str) -> Value {
    let read = serde_json::from_str(text).ok();
    read.or_else(|| serde_saphyr::from_str(text).ok()).unwrap_or_else(|| json!(text))
}

/// What is told of the readiness of a resource: as the synchroniser saw it, in this context or in the one that carries the status.
/// `tells`: whether its kind says more than that it is there; of the others, nobody is asked.
fn readiness(name: &ResourceName, resource: &Resource, told: Option<&Resource>, tells: bool) -> &'static str {
    let ready = resource.ready.or_else(|| told.and_then(|told| told.ready));
    let applied = resource.status == Some(ResourceStatus::Applied);
    let followed = FOLLOWED.contains(&name.kind());
    if applied && ready.unwrap_or(!tells) {
        "Ready"
    } else if followed && !applied {
        "NotPresent"
    } else {
        "NotReady"
    }
}

/// The context that a query is about: the one that it names, if it is of this history, else the present one.
pub fn context_of(history: &History, query: &StatusQuery) -> Option<ContextId> {
    match query.instance {
        Some(instance) => history.contexts().into_iter().find(|known| *known == instance),
        None => history.context(),
    }
}
