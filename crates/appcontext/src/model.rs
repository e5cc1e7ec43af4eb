//! An AppContext as data.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::names::{ClusterName, ContextId, NameError, ResourceName};

/// Name of the app under which logical clouds are made.
pub const LOGICAL_CLOUD_APP: &str = "logical-cloud";

/// Name of the app under which the networks of a cluster are made.
pub const NETWORK_APP: &str = "network-intents";

/// The manifest of a resource that is kept for its status: the manifest itself is in the context that it refers to.
pub const ELSEWHERE: &str = "nil";

/// Defines an enumeration whose values are told by words.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value that a word stands for.
            pub fn of(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How far a context has got.
    State {
        /// Nothing has been asked for yet.
        Created = "Created",
        /// It is being installed.
        Instantiating = "Instantiating",
        /// It has been installed.
        Instantiated = "Instantiated",
        /// It could not be installed.
        InstantiateFailed = "InstantiateFailed",
        /// It is being removed.
        Terminating = "Terminating",
        /// It has been removed.
        Terminated = "Terminated",
        /// It could not be removed.
        TerminateFailed = "TerminateFailed",
        /// Another context takes its place.
        Updating = "Updating",
        /// Another context has taken its place.
        Updated = "Updated",
        /// Another context could not take its place.
        UpdateFailed = "UpdatedFailed",
    }
}

words! {
    /// How far a resource has got on its cluster.
    ResourceStatus {
        /// Nothing has been done yet.
        Pending = "Pending",
        /// It has been applied.
        Applied = "Applied",
        /// It was refused.
        Failed = "Failed",
        /// The cluster does not answer; it is tried again.
        Retrying = "Retrying",
        /// It has been deleted.
        Deleted = "Deleted",
    }
}

words! {
    /// Whether a cluster answers.
    Connectivity {
        /// It has not been asked.
        Unknown = "Unknown",
        /// It does.
        Available = "Available",
        /// It does not; it is tried again.
        Retrying = "Retrying",
    }
}

words! {
    /// What of an app another one waits for.
    OpStatus {
        /// All of it is ready.
        Ready = "Ready",
        /// All of it has been applied.
        Deployed = "Deployed",
    }
}

words! {
    /// What the synchroniser is asked to do.
    SyncEvent {
        /// Install the context.
        Instantiate = "Instantiate",
        /// Remove it.
        Terminate = "Terminate",
        /// Read the objects that it names.
        Read = "Read",
        /// A context was added below it.
        AddChildContext = "AddChildContext",
        /// Install it in the place of another one.
        Update = "Update",
        /// Remove what another one, which takes its place, does not have.
        UpdateDelete = "UpdateDelete",
    }
}

words! {
    /// How far an event has got.
    QueueStatus {
        /// It waits.
        Pending = "Pending",
        /// It is done.
        Done = "Done",
        /// It failed.
        Error = "Error",
        /// It was passed over.
        Skip = "Skip",
    }
}

/// Whose context it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// The project.
    pub project: String,
    /// The composite application.
    pub composite_app: String,
    /// Its version.
    pub version: String,
    /// Name of the Helm release; the version of the deployment intent group.
    pub release: String,
    /// The deployment intent group.
    pub deployment_intent_group: String,
    /// The namespace on the clusters.
    pub namespace: String,
    /// Level of the logical cloud: `0` or `1`.
    pub level: String,
    /// Contexts that go with it.
    pub child_contexts: Vec<ContextId>,
    /// The logical cloud.
    pub logical_cloud: String,
    /// Its namespace.
    pub logical_cloud_namespace: String,
    /// Its level.
    pub logical_cloud_level: String,
}

/// An event that waits for the synchroniser, or has been dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedEvent {
    /// What is to be done.
    pub event: SyncEvent,
    /// The other context, of updates.
    pub other: Option<ContextId>,
    /// How far it has got.
    pub status: QueueStatus,
}

/// What the synchroniser keeps in a context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncState {
    /// How far the context has got; what is shown to users.
    pub status: Option<State>,
    /// The state that it is in.
    pub current: Option<State>,
    /// The state that it is to be in.
    pub desired: Option<State>,
    /// Whether it is to be removed as soon as what is going on has ended.
    pub pending_terminate: Option<bool>,
    /// Whether the synchroniser is to stop.
    pub stop: Option<bool>,
    /// What it was asked to do, oldest first.
    pub queue: Vec<QueuedEvent>,
    /// The context that has the status of this one, after an update.
    pub status_context: Option<ContextId>,
}

impl SyncState {
    /// How far the context is if whatever it was asked to do, and waits, counts as begun: an order that was accepted a moment ago shows in
    /// no state yet, and one that was stopped goes on until it is closed. `Instantiating`, `Updating` and `Terminating` are told for as long
    /// as something is, or will be, done, and never after that.
    pub fn phase(&self) -> State {
        let waiting = || self.queue.iter().filter(|queued| queued.status == QueueStatus::Pending);
        if waiting().any(|queued| queued.event == SyncEvent::Terminate) {
            return State::Terminating;
        }
        let running = waiting().find_map(|queued| match queued.event {
            SyncEvent::Instantiate | SyncEvent::Read | SyncEvent::Update => Some(State::Instantiating),
            SyncEvent::UpdateDelete => Some(State::Updating),
            SyncEvent::Terminate | SyncEvent::AddChildContext => None,
        });
        if let Some(running) = running {
            return running;
        }
        let status = self.status.unwrap_or(State::Created);
        // EMCO's synchroniser leaves the status as it was when it is stopped.
        match status {
            State::Instantiating if self.stop == Some(true) => State::InstantiateFailed,
            State::Updating if self.stop == Some(true) => State::UpdateFailed,
            State::Terminating if self.stop == Some(true) => State::TerminateFailed,
            status => status,
        }
    }

    /// Whether it was asked to do something that is not done yet.
    pub fn has_orders(&self) -> bool {
        self.queue.iter().any(|queued| queued.status == QueueStatus::Pending)
    }
}

/// What of a composite application goes to which cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct AppContext {
    /// Its number.
    pub id: ContextId,
    /// Whose it is.
    pub meta: Meta,
    /// How far it has got.
    pub sync: SyncState,
    /// Names of the apps, in order.
    pub app_order: Vec<String>,
    /// The apps.
    pub apps: BTreeMap<String, App>,
}

impl AppContext {
    /// A context without apps.
    pub fn new(id: ContextId, meta: Meta) -> Self {
        Self { id, meta, sync: SyncState::default(), app_order: Vec::new(), apps: BTreeMap::new() }
    }

    /// What goes to a cluster of an app.
    pub fn part(&self, app: &str, cluster: &ClusterName) -> Option<&Part> {
        self.apps.get(app)?.clusters.get(cluster)
    }

    /// What goes to a cluster of an app, to be changed.
    pub fn part_mut(&mut self, app: &str, cluster: &ClusterName) -> Option<&mut Part> {
        self.apps.get_mut(app)?.clusters.get_mut(cluster)
    }

    /// Every part: app, cluster, and what goes there.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &ClusterName, &Part)> {
        self.apps.iter().flat_map(|(name, app)| {
            app.clusters.iter().map(move |(cluster, part)| (name.as_str(), cluster, part))
        })
    }

    /// Whether every name can be part of a key.
    ///
    /// # Errors
    /// [`NameError`] names the first that cannot.
    pub fn check_names(&self) -> Result<(), NameError> {
        for (app, content) in &self.apps {
            check("the app", app)?;
            for (cluster, part) in &content.clusters {
                check("the cluster", &cluster.to_string())?;
                let fits = |part: &str| !part.is_empty() && !part.contains(crate::names::SEPARATOR);
                // More than one separator would be read as another cluster.
                if !fits(&cluster.provider) || cluster.cluster.is_empty() {
                    return Err(NameError::Cluster(cluster.to_string()));
                }
                part.resources.keys().try_for_each(|name| check("the resource", name.as_str()))?;
            }
        }
        Ok(())
    }
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() || name == "instruction" || name.contains('/') {
        return Err(NameError::Key { what, name: name.to_owned() });
    }
    Ok(())
}

/// An app of a context.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct App {
    /// The clusters that it goes to.
    pub clusters: BTreeMap<ClusterName, Part>,
    /// The apps that it waits for.
    pub dependencies: Vec<Dependency>,
}

/// What an app waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// The other app.
    pub app: String,
    /// What of it.
    pub op_status: OpStatus,
    /// Seconds to wait after that.
    pub wait: u32,
}

/// Resources that are not applied together with the others, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Custom resource definitions.
    pub crd_install: Vec<ResourceName>,
    /// Before anything is applied.
    pub pre_install: Vec<ResourceName>,
    /// After everything has been applied.
    pub post_install: Vec<ResourceName>,
    /// Before anything is deleted.
    pub pre_delete: Vec<ResourceName>,
    /// After everything has been deleted.
    pub post_delete: Vec<ResourceName>,
}

impl Hooks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The resources of every hook.
    pub fn all(&self) -> impl Iterator<Item = &ResourceName> {
        [&self.crd_install, &self.pre_install, &self.post_install, &self.pre_delete, &self.post_delete]
            .into_iter()
            .flatten()
    }
}

/// What of an app goes to one cluster.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Part {
    /// Of the clusters of an app with the same group, one is kept.
    pub group: Option<String>,
    /// The resources to apply, in order; hooks are not among them.
    pub order: Vec<ResourceName>,
    /// What is applied before, or after.
    pub hooks: Hooks,
    /// Every resource, hooks too.
    pub resources: BTreeMap<ResourceName, Resource>,
    /// Whether the cluster answers.
    pub connectivity: Option<Connectivity>,
    /// Whether all resources are ready.
    pub resources_ready: Option<bool>,
    /// The context in which that is told, of parts that are kept for their status.
    pub reference: Option<ContextId>,
    /// What the cluster says of the resources: the status of a ResourceBundleState, as JSON.
    pub status: Option<Arc<str>>,
}

impl Part {
    /// Adds a resource, or replaces its manifest; a new one is the last in the order.
    pub fn put(&mut self, name: ResourceName, manifest: impl Into<Arc<str>>) {
        let manifest = manifest.into();
        if let Some(there) = self.resources.get_mut(&name) {
            there.manifest = manifest;
            return;
        }
        if !self.hooks.all().any(|hook| *hook == name) && !self.order.contains(&name) {
            self.order.push(name.clone());
        }
        self.resources.insert(name, Resource::new(manifest));
    }
}

/// A resource of a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The object, as YAML or JSON; [`ELSEWHERE`] if it is in the context that `reference` names.
    pub manifest: Arc<str>,
    /// How far it has got.
    pub status: Option<ResourceStatus>,
    /// Whether it is ready.
    pub ready: Option<bool>,
    /// Whether it has succeeded, of hooks.
    pub success: Option<bool>,
    /// The context that has the manifest.
    pub reference: Option<ContextId>,
    /// The object as the cluster has it, where it was asked for.
    pub definition: Option<Arc<str>>,
    /// What the approval of a certificate signing request is to say.
    pub approval: Option<Arc<str>>,
}

impl Resource {
    /// A resource of which nothing is known but what it is to be.
    pub fn new(manifest: impl Into<Arc<str>>) -> Self {
        Self {
            manifest: manifest.into(),
            status: None,
            ready: None,
            success: None,
            reference: None,
            definition: None,
            approval: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_wait_count_as_begun() {
        let order = |event, status| QueuedEvent { event, other: None, status };
        let state = |status, stop, queue: &[QueuedEvent]| SyncState {
            status,
            stop,
            queue: queue.to_vec(),
            ..SyncState::default()
        };
        let phase = |status, stop, queue: &[QueuedEvent]| state(status, stop, queue).phase();
        let (update, terminate) = (SyncEvent::Update, SyncEvent::Terminate);
        let waiting = [order(update, QueueStatus::Error), order(update, QueueStatus::Pending)];
        assert_eq!(phase(None, None, &[]), State::Created);
        assert_eq!(phase(Some(State::Updated), None, &waiting), State::Instantiating);
        assert_eq!(
            phase(Some(State::Instantiated), Some(true), &waiting),
            State::Instantiating,
            "it ends soon"
        );
        assert_eq!(phase(Some(State::Instantiated), None, &waiting[..1]), State::Instantiated);
        let both = [waiting[1].clone(), order(terminate, QueueStatus::Pending)];
        assert_eq!(phase(Some(State::TerminateFailed), None, &both), State::Terminating);
        let gives_way = [order(SyncEvent::UpdateDelete, QueueStatus::Pending)];
        assert_eq!(phase(Some(State::Instantiated), None, &gives_way), State::Updating);
        assert!(state(None, None, &gives_way).has_orders() && !state(None, None, &waiting[..1]).has_orders());
        // As others leave it when they are stopped.
        assert_eq!(phase(Some(State::Instantiating), Some(true), &[]), State::InstantiateFailed);
        assert_eq!(phase(Some(State::Terminating), Some(true), &[]), State::TerminateFailed);
        assert_eq!(phase(Some(State::Terminating), Some(false), &[]), State::Terminating);
    }
}
