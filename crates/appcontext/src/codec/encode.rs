//! From the model to keys and values, as EMCO writes them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::Serialize;

use super::{
    json,
    key::{Key, PartKey, ResourceKey},
};
use crate::{
    model::{
        App, AppContext, Hooks, LOGICAL_CLOUD_APP, Meta, NETWORK_APP, Part, QueuedEvent, Resource, State,
        SyncState,
    },
    names::{ContextId, NameError, ResourceName},
};

/// A value. Long texts are shared, so that the same manifest on many clusters is there once, and telling that it has not changed costs
/// nothing.
#[derive(Debug, Clone)]
pub enum Encoded {
    /// A text, which becomes a JSON string.
    Text(Arc<str>),
    /// JSON.
    Json(String),
}

impl Encoded {
    pub(super) fn quoted(text: &str) -> Self {
        Self::Json(json::quoted(text))
    }

    fn of(value: &impl Serialize) -> Self {
        Self::Json(json::text_of(value))
    }

    /// JSON text inside of a JSON string.
    fn nested(value: &impl Serialize) -> Self {
        Self::quoted(&json::text_of(value))
    }

    /// The value as it is written.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Text(text) => json::quoted(text).into(),
            Self::Json(text) => text.clone().into(),
        }
    }

    /// About how many bytes that is.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len() + text.len() / 16 + 2,
            Self::Json(text) => text.len(),
        }
    }
}

impl PartialEq for Encoded {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => Arc::ptr_eq(one, other) || one == other,
            (Self::Json(one), Self::Json(other)) => one == other,
            _ => false,
        }
    }
}

/// A context as keys (what follows `/context/<id>/`) and values. The context's own key is the empty one.
///
/// # Errors
/// [`NameError`] if a name cannot be part of a key.
pub fn encode(context: &AppContext) -> Result<BTreeMap<String, Encoded>, NameError> {
    context.check_names()?;
    let mut writer = Writer::default();
    writer.put(Key::Context, Encoded::quoted(&context.id.to_string()));
    writer.put(Key::Meta, meta(&context.meta));
    writer.sync(&context.sync);
    if !context.app_order.is_empty() || !context.apps.is_empty() {
        writer.app_instructions(context);
    }
    for (name, app) in &context.apps {
        writer.app(name, app);
    }
    Ok(writer.entries)
}

/// What the synchroniser keeps, as keys and values.
pub fn encode_sync(sync: &SyncState) -> BTreeMap<String, Encoded> {
    let mut writer = Writer::default();
    writer.sync(sync);
    writer.entries
}

/// The value of one key, of what is told again and again: statuses.
pub fn encode_part_value(value: &PartValue<'_>) -> Encoded {
    match value {
        PartValue::Word(word) => Encoded::quoted(word),
        PartValue::Status(word) => Encoded::of(&Status { status: word }),
        PartValue::Truth(truth) => Encoded::of(truth),
        PartValue::Text(text) => Encoded::Text(Arc::clone(text)),
    }
}

/// A value of a part, or of a resource.
#[derive(Debug)]
pub enum PartValue<'a> {
    /// A word.
    Word(&'a str),
    /// A word, in an object's field `Status`.
    Status(&'static str),
    /// Yes or no.
    Truth(bool),
    /// A long text.
    Text(Arc<str>),
}

#[derive(Serialize)]
struct Status<'a> {
    #[serde(rename = "Status")]
    status: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetaDocument<'a> {
    project: &'a str,
    composite_app: &'a str,
    version: &'a str,
    release: &'a str,
    deployment_intent_group: &'a str,
    namespace: &'a str,
    level: &'a str,
    #[serde(rename = "ChildContextIDs")]
    child_contexts: Option<&'a [ContextId]>,
    logical_cloud: &'a str,
    logical_cloud_namespace: &'a str,
    logical_cloud_level: &'a str,
}

fn meta(meta: &Meta) -> Encoded {
    Encoded::of(&MetaDocument {
        project: &meta.project,
        composite_app: &meta.composite_app,
        version: &meta.version,
        release: &meta.release,
        deployment_intent_group: &meta.deployment_intent_group,
        namespace: &meta.namespace,
        level: &meta.level,
        child_contexts: (!meta.child_contexts.is_empty()).then_some(&meta.child_contexts),
        logical_cloud: &meta.logical_cloud,
        logical_cloud_namespace: &meta.logical_cloud_namespace,
        logical_cloud_level: &meta.logical_cloud_level,
    })
}

#[derive(Serialize)]
struct QueueDocument<'a> {
    #[serde(rename = "AcQueue")]
    queue: Vec<QueueElement<'a>>,
}

#[derive(Serialize)]
struct QueueElement<'a> {
    event: &'a str,
    #[serde(rename = "uCID", skip_serializing_if = "Option::is_none")]
    other: Option<ContextId>,
    status: &'a str,
}

fn queue(queue: &[QueuedEvent]) -> Encoded {
    let element = |queued: &QueuedEvent| QueueElement {
        event: queued.event.as_str(),
        other: queued.other,
        status: queued.status.as_str(),
    };
    Encoded::of(&QueueDocument { queue: queue.iter().map(element).collect() })
}

#[derive(Serialize)]
struct AppOrder<'a> {
    apporder: &'a [String],
}

#[derive(Serialize)]
struct AppDependency<'a> {
    appdependency: BTreeMap<&'a str, &'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DependencyDocument<'a> {
    app: &'a str,
    op_status: &'a str,
    wait: u32,
}

#[derive(Serialize)]
struct ResourceOrder<'a> {
    resorder: &'a [ResourceName],
}

#[derive(Serialize)]
struct ResourceDependency<'a> {
    resdependency: HooksDocument<'a>,
}

/// A map of Go, which writes what is in it in the order of the keys.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct HooksDocument<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    crd_install: &'a [ResourceName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    post_delete: &'a [ResourceName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    post_install: &'a [ResourceName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pre_delete: &'a [ResourceName],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pre_install: &'a [ResourceName],
}

fn hooks(hooks: &Hooks) -> Encoded {
    Encoded::nested(&ResourceDependency {
        resdependency: HooksDocument {
            crd_install: &hooks.crd_install,
            post_delete: &hooks.post_delete,
            post_install: &hooks.post_install,
            pre_delete: &hooks.pre_delete,
            pre_install: &hooks.pre_install,
        },
    })
}

#[derive(Serialize)]
struct SubresourceOrder {
    subresorder: [&'static str; 1],
}

#[derive(Default)]
struct Writer {
    entries: BTreeMap<String, Encoded>,
}

impl Writer {
    fn put(&mut self, key: Key<'_>, value: Encoded) {
        self.entries.insert(key.to_string(), value);
    }

    fn sync(&mut self, sync: &SyncState) {
        let states = [
            (Key::Status, sync.status),
            (Key::CurrentState, sync.current),
            (Key::DesiredState, sync.desired),
        ];
        for (key, state) in states {
            let state = state.map(State::as_str);
            state.into_iter().for_each(|status| self.put(key, Encoded::of(&Status { status })));
        }
        let flags = [(Key::PendingTerminate, sync.pending_terminate), (Key::Stop, sync.stop)];
        for (key, flag) in flags {
            flag.into_iter().for_each(|flag| self.put(key, Encoded::of(&flag)));
        }
        if !sync.queue.is_empty() {
            self.put(Key::Queue, queue(&sync.queue));
        }
        if let Some(other) = sync.status_context {
            self.put(Key::StatusContext, Encoded::of(&other));
        }
    }

    fn app_instructions(&mut self, context: &AppContext) {
        self.put(Key::AppOrder, Encoded::nested(&AppOrder { apporder: &context.app_order }));
        let go: BTreeMap<&str, &str> = context.app_order.iter().map(|app| (app.as_str(), "go")).collect();
        let wrapped = [LOGICAL_CLOUD_APP, NETWORK_APP].iter().any(|app| context.apps.contains_key(*app));
        let value = match wrapped {
            true => Encoded::nested(&AppDependency { appdependency: go }),
            false => Encoded::nested(&go),
        };
        self.put(Key::AppDependency, value);
    }

    fn app(&mut self, name: &str, app: &App) {
        self.put(Key::App(name), Encoded::quoted(name));
        if !app.dependencies.is_empty() {
            let documents: Vec<DependencyDocument<'_>> = app
                .dependencies
                .iter()
                .map(|dependency| DependencyDocument {
                    app: &dependency.app,
                    op_status: dependency.op_status.as_str(),
                    wait: dependency.wait,
                })
                .collect();
            self.put(Key::Dependencies(name), Encoded::nested(&documents));
        }
        for (cluster, part) in &app.clusters {
            PartWriter { writer: self, app: name, cluster: &cluster.to_string() }.part(part);
        }
    }
}

struct PartWriter<'a> {
    writer: &'a mut Writer,
    app: &'a str,
    cluster: &'a str,
}

impl PartWriter<'_> {
    fn put(&mut self, of: PartKey<'_>, value: Encoded) {
        self.writer.put(Key::Part { app: self.app, cluster: self.cluster, of }, value);
    }

    fn part(&mut self, part: &Part) {
        self.put(PartKey::Cluster, Encoded::quoted(self.cluster));
        if let Some(group) = &part.group {
            self.put(PartKey::Group, Encoded::quoted(group));
        }
        if let Some(connectivity) = part.connectivity {
            self.put(PartKey::Connectivity, Encoded::quoted(connectivity.as_str()));
        }
        if let Some(ready) = part.resources_ready {
            self.put(PartKey::ResourcesReady, Encoded::of(&ready));
        }
        if let Some(reference) = part.reference {
            self.put(PartKey::Reference, Encoded::of(&reference));
        }
        if let Some(status) = &part.status {
            self.put(PartKey::Status, Encoded::Text(Arc::clone(status)));
        }
        if !part.order.is_empty() || !part.resources.is_empty() {
            self.put(PartKey::Order, Encoded::nested(&ResourceOrder { resorder: &part.order }));
        }
        if !part.hooks.is_empty() {
            self.put(PartKey::Hooks, hooks(&part.hooks));
        }
        for (name, resource) in &part.resources {
            self.resource(name.as_str(), resource);
        }
    }

    fn resource(&mut self, name: &str, resource: &Resource) {
        let key = |of| PartKey::Resource(name, of);
        self.put(key(ResourceKey::Manifest), Encoded::Text(Arc::clone(&resource.manifest)));
        if let Some(status) = resource.status {
            self.put(key(ResourceKey::Status), Encoded::of(&Status { status: status.as_str() }));
        }
        if let Some(ready) = resource.ready {
            self.put(key(ResourceKey::Ready), Encoded::of(&ready));
        }
        if let Some(success) = resource.success {
            self.put(key(ResourceKey::Success), Encoded::of(&success));
        }
        if let Some(reference) = resource.reference {
            self.put(key(ResourceKey::Reference), Encoded::of(&reference));
        }
        if let Some(definition) = &resource.definition {
            self.put(key(ResourceKey::Definition), Encoded::Text(Arc::clone(definition)));
        }
        if let Some(approval) = &resource.approval {
            self.put(key(ResourceKey::Approval), Encoded::Text(Arc::clone(approval)));
            let order = SubresourceOrder { subresorder: ["approval"] };
            self.put(key(ResourceKey::SubresourceOrder), Encoded::nested(&order));
        }
    }
}
