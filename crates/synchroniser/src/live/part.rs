//! An application on a cluster, as it is now.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use drystone_appcontext::{
    ClusterName, Connectivity, ContextId, Part, ResourceName, ResourceStatus, contexts::StatusValue,
};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    object::LiveObject,
    view::{Change, Feed, PartView, Presence, ResourceView},
    writer::Writer,
};
use crate::{
    cluster::{
        board::Look,
        channel::{Answers, Channel},
        kinds::Kind,
        link::Link,
        watching::Interest,
    },
    manifest::{Prepared, digest},
    plan::{Hook, Item, Role},
    readiness::bundle,
};

/// What the parts of a context share.
pub(crate) struct Shared {
    /// The context.
    pub(crate) id: ContextId,
    /// The context of its status.
    pub(crate) status_context: ContextId,
    pub(crate) writer: Writer,
    pub(crate) feed: Feed,
    /// Counts changes of parts.
    pub(crate) changed: watch::Sender<u64>,
    /// Most bytes of a part's status.
    pub(crate) status_bytes: usize,
}

/// What has become of an object.
#[derive(Debug, Clone)]
pub(crate) struct Fate {
    pub(crate) status: ResourceStatus,
    /// Whether it has done what it is for, as a hook.
    pub(crate) success: bool,
    /// Whether it is ready, as was written down.
    ready: Option<bool>,
    /// Why it was refused, or what it waits for.
    detail: String,
    presence: Presence,
    /// Its identifier, if it was applied by this process; another object of its name says nothing of it.
    pub(crate) uid: String,
    /// Older states of the object than this say nothing of it.
    generation: i64,
    /// Whether it was seen since it was applied.
    was_seen: bool,
    /// It is being worked on.
    under_way: bool,
}

#[derive(Debug)]
struct State {
    fates: Vec<Fate>,
    connectivity: Connectivity,
    away: String,
    ready: Option<bool>,
    /// What of the cluster has changed is to be told in the context's status.
    bundle_due: bool,
    /// Digest of what was put there last.
    bundle: Option<[u8; 32]>,
}

/// An application on a cluster.
pub(crate) struct LivePart {
    pub(crate) app: Arc<str>,
    pub(crate) cluster: ClusterName,
    pub(crate) label: Arc<str>,
    pub(crate) link: Arc<Link>,
    pub(crate) channel: Arc<Channel>,
    pub(crate) objects: Vec<LiveObject>,
    positions: HashMap<ResourceName, usize>,
    state: Mutex<State>,
    pub(crate) shared: Arc<Shared>,
    interests: Mutex<BTreeMap<Kind, Arc<Interest>>>,
    _listens: DropGuard,
}

/// Tells a part whether its cluster answers.
async fn listen(mut answers: watch::Receiver<Answers>, part: Weak<LivePart>) {
    loop {
        let now = answers.borrow_and_update().clone();
        match part.upgrade() {
            Some(part) => part.set_answers(&now),
            None => return,
        }
        if answers.changed().await.is_err() {
            return;
        }
    }
}

/// The resources of a part in their order, with their roles.
pub(crate) fn roles(part: &Part) -> Vec<(ResourceName, Role)> {
    let hooks = [
        (&part.hooks.crd_install, Hook::CrdInstall),
        (&part.hooks.pre_install, Hook::PreInstall),
        (&part.hooks.post_install, Hook::PostInstall),
        (&part.hooks.pre_delete, Hook::PreDelete),
        (&part.hooks.post_delete, Hook::PostDelete),
    ];
    let mut all: Vec<(ResourceName, Role)> = Vec::new();
    let mut seen = BTreeSet::new();
    let named = hooks
        .into_iter()
        .flat_map(|(names, hook)| names.iter().map(move |name| (name, Role::Hook(hook))))
        .chain(part.order.iter().map(|name| (name, Role::Main)));
    for (name, role) in named {
        // What is in no order is not applied, as with EMCO; what is named twice counts once.
        if part.resources.contains_key(name) && seen.insert(name.clone()) {
            all.push((name.clone(), role));
        }
    }
    all
}

impl LivePart {
    /// A part as the context has it.
    pub(crate) fn new(
        (app, cluster, label): (&str, &ClusterName, Arc<str>),
        part: &Part,
        objects: Vec<LiveObject>,
        (link, channel): (Arc<Link>, Arc<Channel>),
        shared: Arc<Shared>,
    ) -> Arc<Self> {
        let fates = objects.iter().map(|object| {
            let known = part.resources.get(&object.name);
            Fate {
                status: known.and_then(|known| known.status).unwrap_or(ResourceStatus::Pending),
                success: known.and_then(|known| known.success).unwrap_or(false),
                ready: known.and_then(|known| known.ready),
                detail: String::new(),
                presence: Presence::NotPresent,
                uid: String::new(),
                generation: 0,
                was_seen: false,
                under_way: false,
            }
        });
        let state = State {
            fates: fates.collect(),
            connectivity: part.connectivity.unwrap_or(Connectivity::Unknown),
            away: String::new(),
            ready: part.resources_ready,
            bundle_due: false,
            bundle: part.status.as_deref().map(digest),
        };
        let positions =
            objects.iter().enumerate().map(|(index, object)| (object.name.clone(), index)).collect();
        let token = CancellationToken::new();
        let answers = channel.answers();
        let part = Arc::new(Self {
            app: app.into(),
            cluster: cluster.clone(),
            label,
            link,
            channel,
            objects,
            positions,
            state: Mutex::new(state),
            shared,
            interests: Mutex::default(),
            _listens: token.clone().drop_guard(),
        });
        let listener = Arc::downgrade(&part);
        tokio::spawn(async move { token.run_until_cancelled(listen(answers, listener)).await });
        part
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be written. To be called while the state is held that the value is of: what is decided later must also come later.
    fn put(&self, value: StatusValue) {
        self.shared.writer.put(&self.app, &self.cluster, value);
    }

    fn tell(&self, ready: Option<bool>) {
        self.shared.changed.send_modify(|count| *count = count.wrapping_add(1));
        let (context, status_context) = (self.shared.id, self.shared.status_context);
        let (app, cluster) = (self.app.clone(), self.cluster.clone());
        self.shared.feed.tell(match ready {
            Some(ready) => Change::Ready { context, status_context, app, cluster, ready },
            None => Change::Part { context, status_context, app, cluster },
        });
    }

    /// The object of a name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(&ResourceName::found(name)).copied()
    }

    /// As the planner wants it.
    pub(crate) fn items(&self) -> Vec<Item> {
        self.objects.iter().map(|object| object.item(&self.link.kinds)).collect()
    }

    /// What has become of an object.
    pub(crate) fn fate(&self, index: usize) -> Option<Fate> {
        self.state().fates.get(index).cloned()
    }

    /// Whether anything of it has been applied.
    pub(crate) fn has_begun(&self) -> bool {
        self.state().fates.iter().any(|fate| fate.status == ResourceStatus::Applied)
    }

    /// Whether every main resource has been applied.
    pub(crate) fn is_deployed(&self) -> bool {
        let state = self.state();
        let mut main = self.objects.iter().zip(&state.fates).filter(|(object, _)| object.role == Role::Main);
        main.all(|(_, fate)| fate.status == ResourceStatus::Applied)
    }

    /// Whether every main resource has been applied and is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let state = self.state();
        self.ready_in(&state)
    }

    fn ready_in(&self, state: &State) -> bool {
        let mut main = self.objects.iter().zip(&state.fates).filter(|(object, _)| object.role == Role::Main);
        main.all(|(_, fate)| fate.status == ResourceStatus::Applied && fate.presence == Presence::Ready)
    }

    /// An object is being worked on, or is not any more.
    pub(crate) fn set_under_way(&self, index: usize, under_way: bool) {
        if let Some(fate) = self.state().fates.get_mut(index) {
            fate.under_way = under_way;
        }
    }

    /// An object has got further.
    pub(crate) fn set_status(&self, index: usize, status: ResourceStatus, detail: &str) {
        let changed = {
            let mut state = self.state();
            let Some(fate) = state.fates.get_mut(index) else { return };
            let changed = fate.status != status || fate.detail != detail;
            (fate.status, fate.detail) = (status, detail.to_owned());
            // What was seen before says nothing of it.
            (fate.presence, fate.was_seen) = (Presence::NotPresent, false);
            if changed && let Some(object) = self.objects.get(index) {
                self.put(StatusValue::Resource(object.name.clone(), status));
            }
            changed
        };
        if changed {
            self.link.board.touch(&self.label);
            self.tell(None);
        }
    }

    /// What the cluster said of an object that was applied: states before that do not count.
    pub(crate) fn set_identity(&self, index: usize, uid: &str, generation: i64) {
        if let Some(fate) = self.state().fates.get_mut(index) {
            (fate.uid, fate.generation) = (uid.to_owned(), generation);
        }
    }

    /// A hook has done what it is for.
    pub(crate) fn set_success(&self, index: usize) {
        let mut state = self.state();
        if let Some(fate) = state.fates.get_mut(index) {
            fate.success = true;
        }
        if let Some(object) = self.objects.get(index) {
            self.put(StatusValue::ResourceSuccess(object.name.clone(), true));
        }
    }

    /// Forgets what was done: everything is to be done again, but what `keep` says of.
    pub(crate) fn reset(&self, keep: impl Fn(usize) -> bool) {
        {
            let mut state = self.state();
            for (index, fate) in state.fates.iter_mut().enumerate() {
                let status = if keep(index) { ResourceStatus::Applied } else { ResourceStatus::Pending };
                fate.presence = Presence::NotPresent;
                if fate.status != status {
                    fate.status = status;
                    fate.detail.clear();
                    self.put(StatusValue::Resource(self.objects[index].name.clone(), status));
                }
                if fate.success && !keep(index) {
                    fate.success = false;
                    self.put(StatusValue::ResourceSuccess(self.objects[index].name.clone(), false));
                }
            }
        }
        self.link.board.touch(&self.label);
    }

    /// Whether the cluster answers has become known.
    pub(crate) fn set_answers(&self, answers: &Answers) {
        let (connectivity, why) = match answers {
            Answers::Unknown => return,
            Answers::Yes => (Connectivity::Available, ""),
            Answers::No(why) => (Connectivity::Retrying, why.as_str()),
        };
        let tell = {
            let mut state = self.state();
            let changed = state.connectivity != connectivity;
            let mut tell = changed || state.away != why;
            state.connectivity = connectivity;
            state.away = why.to_owned();
            if changed {
                self.put(StatusValue::Connectivity(connectivity));
            }
            for (object, fate) in self.objects.iter().zip(&mut state.fates).filter(|(_, fate)| fate.under_way)
            {
                if connectivity == Connectivity::Retrying && fate.status == ResourceStatus::Pending {
                    fate.status = ResourceStatus::Retrying;
                    self.put(StatusValue::Resource(object.name.clone(), fate.status));
                    tell = true;
                }
            }
            tell
        };
        if tell {
            self.tell(None);
        }
    }

    /// Watches a kind for as long as this part is followed.
    pub(crate) fn watch(&self, kind: &Kind) {
        let mut interests = self.interests.lock().unwrap_or_else(PoisonError::into_inner);
        if !interests.contains_key(kind) {
            interests.insert(kind.clone(), self.link.watches.follow(kind));
        }
    }

    /// Begins to follow what becomes of it.
    pub(crate) fn follow(self: &Arc<Self>) {
        let telling = self.objects.iter().filter(|object| object.tells());
        let kinds: BTreeSet<Kind> =
            telling.filter_map(|object| object.prepared.as_ref().ok()).map(|one| one.kind.clone()).collect();
        kinds.iter().for_each(|kind| self.watch(kind));
        let makes_pods =
            |kind: &Kind| kind.api_version.starts_with("apps/") || kind.api_version.starts_with("batch/");
        if kinds.iter().any(makes_pods) {
            self.watch(&Kind::new("v1", "Pod"));
        }
        self.link.enrol(self);
    }

    /// Watches nothing any more.
    pub(crate) fn unfollow(&self) {
        self.interests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// What an object has come to, as far as it is known.
    fn presence(&self, object: &LiveObject, fate: &Fate) -> (Presence, String) {
        let Ok(prepared) = &object.prepared else { return (Presence::NotPresent, fate.detail.clone()) };
        if fate.status != ResourceStatus::Applied {
            return (Presence::NotPresent, fate.detail.clone());
        }
        if !object.tells() {
            return (Presence::Ready, String::new());
        }
        match self.link.board.look(&prepared.kind, &prepared.namespace, &prepared.name) {
            Look::Unknown => (Presence::NotReady, "it has not been seen yet".to_owned()),
            // The watch may not have told of it yet.
            Look::Absent if !fate.uid.is_empty() && !fate.was_seen => {
                (Presence::NotReady, "it has not been seen yet".to_owned())
            }
            Look::Absent => (Presence::NotPresent, "it is not there".to_owned()),
            Look::There(seen) if seen.label != self.label => {
                (Presence::NotPresent, "it belongs to another application".to_owned())
            }
            Look::There(seen) if seen.generation < fate.generation => {
                (Presence::NotReady, "it has not been seen as it is now".to_owned())
            }
            Look::There(seen) if seen.readiness.is_ready() || fate.success => {
                (Presence::Ready, String::new())
            }
            Look::There(seen) => (Presence::NotReady, seen.readiness.detail().to_owned()),
        }
    }

    /// Whether the cluster shows an object of that name that is ours.
    fn is_seen(&self, object: &LiveObject) -> bool {
        let Ok(prepared) = &object.prepared else { return false };
        let look = self.link.board.look(&prepared.kind, &prepared.namespace, &prepared.name);
        matches!(look, Look::There(seen) if seen.label == self.label)
    }

    /// Looks at what the cluster shows now, and tells what is different.
    pub(crate) fn refresh(&self) {
        let (turned, changed) = {
            let mut state = self.state();
            let mut changed = false;
            for (index, object) in self.objects.iter().enumerate() {
                let Some(fate) = state.fates.get(index) else { continue };
                let (presence, detail) = self.presence(object, fate);
                let Some(fate) = state.fates.get_mut(index) else { continue };
                fate.was_seen |= presence == Presence::Ready || self.is_seen(object);
                changed |= fate.presence != presence || fate.detail != detail;
                (fate.presence, fate.detail) = (presence, detail);
                let ready = presence == Presence::Ready;
                let is_told = fate.ready.unwrap_or(false);
                if is_told != ready && (object.tells() || !ready) {
                    fate.ready = Some(ready);
                    self.put(StatusValue::ResourceReady(object.name.clone(), ready));
                }
            }
            let ready = self.ready_in(&state);
            let turned = (state.ready != Some(ready)).then_some(ready);
            if let Some(ready) = turned {
                state.ready = Some(ready);
                self.put(StatusValue::ResourcesReady(ready));
            }
            state.bundle_due = true;
            (turned, changed)
        };
        if turned.is_some() || changed {
            self.tell(turned);
        }
    }

    /// Puts what the cluster shows into the context, if that is due.
    pub(crate) fn bundle(&self) {
        let mut state = self.state();
        if !std::mem::take(&mut state.bundle_due) {
            return;
        }
        let told = self.link.board.told(&self.label);
        if told.is_empty() && state.bundle.is_none() {
            return;
        }
        let ready = state.ready.unwrap_or(false);
        let text = bundle::status(ready, self.objects.len(), &told, self.shared.status_bytes);
        let digest = digest(&text);
        if state.bundle != Some(digest) {
            state.bundle = Some(digest);
            self.put(StatusValue::Status(text.into()));
        }
    }

    /// The part, as others see it.
    pub(crate) fn view(&self) -> PartView {
        let state = self.state();
        let resources = self.objects.iter().zip(&state.fates).map(|(object, fate)| {
            let prepared = object.prepared.as_ref();
            let text = |of: fn(&Prepared) -> &str| prepared.map(|one| of(one).to_owned()).unwrap_or_default();
            ResourceView {
                name: object.name.clone(),
                api_version: text(|one| &one.kind.api_version),
                kind: object.kind().to_owned(),
                object: text(|one| &one.name),
                namespace: text(|one| &one.namespace),
                is_hook: object.role != Role::Main,
                status: fate.status,
                presence: fate.presence,
                detail: fate.detail.clone(),
            }
        });
        PartView {
            app: self.app.to_string(),
            cluster: self.cluster.clone(),
            connectivity: state.connectivity,
            away: state.away.clone(),
            ready: self.ready_in(&state),
            resources: resources.collect(),
        }
    }
}
