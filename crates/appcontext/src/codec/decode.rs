//! From keys and values to the model, as well as it can be.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use serde::Deserialize;

use super::{
    json,
    key::{Key, PartKey, ResourceKey},
};
use crate::{
    model::{
        App, AppContext, Connectivity, Dependency, ELSEWHERE, Hooks, Meta, OpStatus, Part, QueueStatus,
        QueuedEvent, Resource, ResourceStatus, State, SyncEvent, SyncState,
    },
    names::{ClusterName, ContextId, ResourceName},
};

/// Texts longer than this are looked for among those that there are already.
const SHARED_FROM: usize = 64;

/// Values whose addresses are known at a time.
const ADDRESSES: usize = 512;

/// Most problems that are told one by one.
const TOLD: usize = 100;

/// A context that was read.
#[derive(Debug)]
pub struct Decoded {
    /// The context.
    pub context: AppContext,
    /// Whether its own key is there: without it the context is half written, or half deleted.
    pub is_whole: bool,
    /// Keys that say nothing to us, or whose values do not; at most a hundred of them.
    pub unread: Vec<String>,
}

/// Reads a context from its keys (what follows `/context/<id>/`) and values, in any order.
pub fn decode<'a>(id: ContextId, pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Decoded {
    let mut decoder = Decoder::new(id);
    pairs.into_iter().for_each(|(key, value)| decoder.take(key, &Bytes::copy_from_slice(value)));
    decoder.finish()
}

/// Reads a context a pair at a time. A text that is there many times is kept once.
#[derive(Debug)]
pub struct Decoder {
    context: AppContext,
    is_whole: bool,
    apps: BTreeMap<String, Half<App>>,
    parts: BTreeMap<(String, ClusterName), Half<Part>>,
    resources: BTreeMap<(String, ClusterName, ResourceName), Half<Resource>>,
    texts: Texts,
    unread: Vec<String>,
}

/// Something of which a key may be missing that says that it is there.
#[derive(Debug)]
struct Half<T> {
    is_there: bool,
    content: T,
}

impl Decoder {
    /// A context of which nothing has been read yet.
    pub fn new(id: ContextId) -> Self {
        Self {
            context: AppContext::new(id, Meta::default()),
            is_whole: false,
            apps: BTreeMap::new(),
            parts: BTreeMap::new(),
            resources: BTreeMap::new(),
            texts: Texts::default(),
            unread: Vec::new(),
        }
    }

    /// Takes what follows `/context/<id>/`, and its value.
    pub fn take(&mut self, key: &[u8], value: &Bytes) {
        let parsed = std::str::from_utf8(key).ok().and_then(Key::parse);
        if parsed.and_then(|key| self.set(key, value)).is_none() && self.unread.len() < TOLD {
            self.unread.push(String::from_utf8_lossy(key).into_owned());
        }
    }

    /// The context. What has no key of its own is left out: a resource without a manifest, all of a cluster that is not among those of an
    /// app.
    pub fn finish(mut self) -> Decoded {
        for ((app, cluster, name), resource) in self.resources {
            match self.parts.get_mut(&(app, cluster)).filter(|_| resource.is_there) {
                Some(part) => drop(part.content.resources.insert(name, resource.content)),
                None => self.unread.push(format!("…/resource/{name}/")),
            }
        }
        for ((app, cluster), part) in self.parts {
            match self.apps.get_mut(&app).filter(|_| part.is_there) {
                Some(app) => drop(app.content.clusters.insert(cluster, part.content)),
                None => self.unread.push(format!("app/{app}/cluster/{cluster}/")),
            }
        }
        for (name, app) in self.apps {
            match app.is_there {
                true => drop(self.context.apps.insert(name, app.content)),
                false => self.unread.push(format!("app/{name}/")),
            }
        }
        self.unread.truncate(TOLD);
        Decoded { context: self.context, is_whole: self.is_whole, unread: self.unread }
    }

    /// `None` if the value makes no sense.
    fn set(&mut self, key: Key<'_>, value: &Bytes) -> Option<()> {
        match key {
            Key::Context => self.is_whole = true,
            Key::Meta => self.context.meta = meta(value)?,
            Key::AppOrder => {
                self.context.app_order = json::value::<AppOrder>(value)?.apporder.unwrap_or_default();
            }
            // It says no more than the order does.
            Key::AppDependency => {}
            Key::App(name) => self.app(name).is_there = true,
            Key::Dependencies(name) => self.app(name).content.dependencies = dependencies(value)?,
            Key::Part { app, cluster, of } => self.set_part(app, cluster.parse().ok()?, of, value)?,
            _ => set_sync(&mut self.context.sync, key, value)?,
        }
        Some(())
    }

    fn app(&mut self, name: &str) -> &mut Half<App> {
        self.apps.entry(name.to_owned()).or_insert_with(|| Half { is_there: false, content: App::default() })
    }

    fn set_part(&mut self, app: &str, cluster: ClusterName, of: PartKey<'_>, value: &Bytes) -> Option<()> {
        if let PartKey::Resource(name, of) = of {
            return self.set_resource(app, cluster, name, of, value);
        }
        let status = if of == PartKey::Status { Some(self.text(value)?) } else { None };
        let part = self
            .parts
            .entry((app.to_owned(), cluster))
            .or_insert_with(|| Half { is_there: false, content: Part::default() });
        let content = &mut part.content;
        match of {
            PartKey::Cluster => part.is_there = true,
            PartKey::Group => content.group = Some(json::word(value)?),
            PartKey::Connectivity => content.connectivity = Some(Connectivity::of(&json::word(value)?)?),
            PartKey::ResourcesReady => content.resources_ready = Some(json::truth(value)?),
            PartKey::Reference => content.reference = Some(json::word(value)?.parse().ok()?),
            PartKey::Status => content.status = status,
            PartKey::Order => {
                content.order = json::value::<ResourceOrder>(value)?.resorder.unwrap_or_default();
            }
            PartKey::Hooks => content.hooks = hooks(value)?,
            PartKey::Resource(..) => return None,
        }
        Some(())
    }

    fn set_resource(
        &mut self,
        app: &str,
        cluster: ClusterName,
        name: &str,
        of: ResourceKey,
        value: &Bytes,
    ) -> Option<()> {
        let text = match of {
            ResourceKey::Manifest | ResourceKey::Definition | ResourceKey::Approval => {
                Some(self.text(value)?)
            }
            _ => None,
        };
        let key = (app.to_owned(), cluster, ResourceName::found(name));
        let resource = self
            .resources
            .entry(key)
            .or_insert_with(|| Half { is_there: false, content: Resource::new(ELSEWHERE) });
        let content = &mut resource.content;
        match of {
            ResourceKey::Manifest => {
                content.manifest = text?;
                resource.is_there = true;
            }
            ResourceKey::Status => content.status = Some(ResourceStatus::of(&status(value)?)?),
            ResourceKey::Ready => content.ready = Some(json::truth(value)?),
            ResourceKey::Success => content.success = Some(json::truth(value)?),
            ResourceKey::Reference => content.reference = Some(json::word(value)?.parse().ok()?),
            ResourceKey::Definition => content.definition = text,
            ResourceKey::Approval => content.approval = text,
            // There is only the approval.
            ResourceKey::SubresourceOrder => {}
        }
        Some(())
    }

    fn text(&mut self, value: &Bytes) -> Option<Arc<str>> {
        self.texts.of(value)
    }
}

/// Texts that were read, each once.
#[derive(Debug, Default)]
struct Texts {
    by_value: HashMap<Bytes, Arc<str>>,
    /// Stores that keep a value once also return it as the same bytes: which then need not be looked at again. The bytes are kept with the
    /// text, so that no others come to be at their address.
    by_address: HashMap<(usize, usize), (Bytes, Arc<str>)>,
    /// Whether that has been of any use.
    is_same: bool,
    forgotten: u32,
}

impl Texts {
    /// A text, shared with those that are the same.
    fn of(&mut self, value: &Bytes) -> Option<Arc<str>> {
        if value.len() <= SHARED_FROM {
            return json::text(value).map(Arc::from);
        }
        let address = (value.as_ptr().addr(), value.len());
        if let Some((_, text)) = self.by_address.get(&address) {
            self.is_same = true;
            return Some(Arc::clone(text));
        }
        let text = match self.by_value.get(value) {
            Some(text) => Arc::clone(text),
            None => {
                let text: Arc<str> = json::text(value)?.into();
                self.by_value.insert(value.clone(), Arc::clone(&text));
                text
            }
        };
        if self.by_address.len() == ADDRESSES {
            self.by_address.clear();
            self.forgotten += 1;
        }
        // Other stores return every value in bytes of its own, which had better go.
        if self.is_same || self.forgotten < 4 {
            self.by_address.insert(address, (value.clone(), Arc::clone(&text)));
        }
        Some(text)
    }
}

/// What the synchroniser keeps, from its keys and values; others are passed over.
pub(crate) fn decode_sync<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> SyncState {
    let mut sync = SyncState::default();
    for (key, value) in pairs {
        if let Some(key) = std::str::from_utf8(key).ok().and_then(Key::parse) {
            // What makes no sense is as if it were not there.
            let _ = set_sync(&mut sync, key, value);
        }
    }
    sync
}

fn set_sync(sync: &mut SyncState, key: Key<'_>, value: &[u8]) -> Option<()> {
    match key {
        Key::Status => sync.status = Some(State::of(&status(value)?)?),
        Key::CurrentState => sync.current = Some(State::of(&status(value)?)?),
        Key::DesiredState => sync.desired = Some(State::of(&status(value)?)?),
        Key::PendingTerminate => sync.pending_terminate = Some(json::truth(value)?),
        Key::Stop => sync.stop = Some(json::truth(value)?),
        Key::Queue => sync.queue = queue(value)?,
        Key::StatusContext => sync.status_context = Some(json::word(value)?.parse().ok()?),
        _ => return None,
    }
    Some(())
}

#[derive(Deserialize)]
struct StatusDocument {
    #[serde(rename = "Status", alias = "status")]
    status: String,
}

/// `{"Status":"word"}`, or just the word.
fn status(value: &[u8]) -> Option<String> {
    match json::value::<StatusDocument>(value) {
        Some(document) => Some(document.status),
        None => json::word(value),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct MetaDocument {
    project: Option<String>,
    composite_app: Option<String>,
    version: Option<String>,
    release: Option<String>,
    deployment_intent_group: Option<String>,
    namespace: Option<String>,
    level: Option<String>,
    #[serde(rename = "ChildContextIDs")]
    child_contexts: Option<Vec<String>>,
    logical_cloud: Option<String>,
    logical_cloud_namespace: Option<String>,
    logical_cloud_level: Option<String>,
}

pub(crate) fn meta(value: &[u8]) -> Option<Meta> {
    let document: MetaDocument = json::value(value)?;
    let text = |text: Option<String>| json::clean(text.unwrap_or_default());
    Some(Meta {
        project: text(document.project),
        composite_app: text(document.composite_app),
        version: text(document.version),
        release: text(document.release),
        deployment_intent_group: text(document.deployment_intent_group),
        namespace: text(document.namespace),
        level: text(document.level),
        child_contexts: document.child_contexts.into_iter().flatten().flat_map(|id| id.parse()).collect(),
        logical_cloud: text(document.logical_cloud),
        logical_cloud_namespace: text(document.logical_cloud_namespace),
        logical_cloud_level: text(document.logical_cloud_level),
    })
}

#[derive(Deserialize)]
struct QueueDocument {
    #[serde(rename = "AcQueue")]
    queue: Option<Vec<QueueElement>>,
}

#[derive(Deserialize)]
struct QueueElement {
    event: String,
    #[serde(rename = "uCID")]
    other: Option<String>,
    status: String,
}

fn queue(value: &[u8]) -> Option<Vec<QueuedEvent>> {
    let document: QueueDocument = json::value(value)?;
    let elements = document.queue.unwrap_or_default().into_iter();
    elements
        .map(|element| {
            Some(QueuedEvent {
                event: SyncEvent::of(&element.event)?,
                other: element.other.and_then(|other| other.parse().ok()),
                status: QueueStatus::of(&element.status)?,
            })
        })
        .collect()
}

#[derive(Deserialize)]
struct AppOrder {
    apporder: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct DependencyDocument {
    app: String,
    #[serde(rename = "opStatus", alias = "opstatus", alias = "OpStatus")]
    op_status: Option<String>,
    wait: Option<u32>,
}

fn dependencies(value: &[u8]) -> Option<Vec<Dependency>> {
    let documents: Option<Vec<DependencyDocument>> = json::value(value)?;
    let documents = documents.unwrap_or_default().into_iter();
    Some(
        documents
            .map(|document| {
                let told = document.op_status.unwrap_or_default();
                let known =
                    OpStatus::ALL.iter().copied().find(|known| known.as_str().eq_ignore_ascii_case(&told));
                // Whoever says nothing waits for the most.
                let op_status = known.unwrap_or(OpStatus::Ready);
                Dependency { app: document.app, op_status, wait: document.wait.unwrap_or(0) }
            })
            .collect(),
    )
}

#[derive(Deserialize)]
struct ResourceOrder {
    resorder: Option<Vec<ResourceName>>,
}

#[derive(Deserialize)]
struct ResourceDependency {
    resdependency: Option<serde_json::Map<String, serde_json::Value>>,
}

/// What ncm writes here (each resource, with `go`) names no hooks.
fn hooks(value: &[u8]) -> Option<Hooks> {
    let document: ResourceDependency = json::value(value)?;
    let mut named = document.resdependency.unwrap_or_default();
    let mut of = |hook: &str| -> Vec<ResourceName> {
        named.remove(hook).and_then(|names| serde_json::from_value(names).ok()).unwrap_or_default()
    };
    Some(Hooks {
        crd_install: of("crd-install"),
        pre_install: of("pre-install"),
        post_install: of("post-install"),
        pre_delete: of("pre-delete"),
        post_delete: of("post-delete"),
    })
}
