//! What a cluster keeps, and its faults.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{broadcast, watch};

use crate::object::{Object, Template};

/// Deletions that are remembered for watches that begin a little later.
const REMEMBERED: usize = 10_000;

/// What is wrong with a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Connections break.
    Away,
    /// It takes requests and does not answer.
    Silent,
    /// 503 for everything.
    Unavailable,
    /// 401 for everything.
    Unauthorized,
    /// 403 for writes of a kind's name in URLs, with a message.
    Refuses(String, String),
    /// 422 for writes of objects of a name.
    Invalid(String),
    /// 500 for writes, so many times.
    Stumbles(u32),
    /// Writes land, and are answered, so much later, also those that nobody waits for any more.
    Late(std::time::Duration),
    /// A status, with a text that lists nothing, for questions about the kinds of a group's version.
    Discovery(u16),
}

/// Requests that were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Objects applied or created.
    pub writes: u64,
    /// Objects deleted.
    pub deletes: u64,
    /// Objects and lists read.
    pub reads: u64,
    /// Watches begun.
    pub watches: u64,
    /// Writes that were taken and have not landed yet.
    pub late: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) writes: AtomicU64,
    pub(crate) deletes: AtomicU64,
    pub(crate) reads: AtomicU64,
    pub(crate) watches: AtomicU64,
    pub(crate) late: AtomicU64,
}

/// Something that has happened to an object.
#[derive(Debug, Clone)]
pub(crate) struct Happening {
    pub(crate) resource: Arc<str>,
    pub(crate) what: &'static str,
    pub(crate) object: Object,
}

type Places = BTreeMap<(String, String), Object>;

#[derive(Debug)]
struct Kept {
    /// Objects by group, version and name of their kind in URLs.
    resources: HashMap<Arc<str>, Places>,
    deleted: Vec<Happening>,
    revision: u64,
    uid: u64,
    ready: bool,
    /// How often objects were written, by their kind and name.
    written: BTreeMap<String, u32>,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    kept: Mutex<Kept>,
    pub(crate) happenings: broadcast::Sender<Happening>,
    pub(crate) fault: watch::Sender<Fault>,
    pub(crate) counters: Counters,
    log: bool,
}

impl Cluster {
    pub(crate) fn new(log: bool) -> Self {
        let kept = Kept {
            resources: HashMap::new(),
            deleted: Vec::new(),
            revision: 1,
            uid: 0,
            ready: true,
            written: BTreeMap::new(),
        };
        Self {
            kept: Mutex::new(kept),
            happenings: broadcast::Sender::new(1024),
            fault: watch::Sender::new(Fault::None),
            counters: Counters::default(),
            log,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Breaks something, or mends it.
    pub fn set_fault(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Whether controllers do their work: objects written from now on stay as they are declared if not. Objects that wait for it get it.
    pub fn set_ready(&self, ready: bool) {
        let mut kept = self.kept();
        kept.ready = ready;
        if !ready {
            return;
        }
        let Kept { resources, revision, .. } = &mut *kept;
        let mut told = Vec::new();
        for (resource, places) in resources {
            for object in places.values_mut().filter(|object| !object.ready) {
                *revision += 1;
                (object.ready, object.revision) = (true, *revision);
                told.push(Happening { resource: resource.clone(), what: "MODIFIED", object: object.clone() });
            }
        }
        for happening in told {
            let _ = self.happenings.send(happening);
        }
    }

    /// What was asked so far.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            writes: of(&self.counters.writes),
            deletes: of(&self.counters.deletes),
            reads: of(&self.counters.reads),
            watches: of(&self.counters.watches),
            late: of(&self.counters.late),
        }
    }

    /// The objects that are there, as `resource/namespace/name`.
    pub fn objects(&self) -> Vec<String> {
        let kept = self.kept();
        let name = |resource: &Arc<str>, (namespace, name): &(String, String)| {
            format!("{resource}/{namespace}/{name}")
        };
        let all = kept
            .resources
            .iter()
            .flat_map(|(resource, places)| places.keys().map(move |place| name(resource, place)));
        let mut all: Vec<String> = all.collect();
        all.sort();
        all
    }

    /// How many objects there are.
    pub fn count(&self) -> usize {
        self.kept().resources.values().map(BTreeMap::len).sum()
    }

    /// An object as it is shown.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<serde_json::Value> {
        self.find(resource, namespace, name).map(|object| object.show(false))
    }

    /// How often each object was written (applied or created), if the simulation keeps a log.
    pub fn written(&self) -> BTreeMap<String, u32> {
        self.kept().written.clone()
    }

    pub(crate) fn find(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        let kept = self.kept();
        kept.resources.get(resource)?.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Takes a declared object; `None` if it is to be made and there is one.
    pub(crate) fn put(
        &self,
        resource: &str,
        (namespace, name): (&str, &str),
        template: Arc<Template>,
        only_new: bool,
    ) -> Option<Object> {
        let mut kept = self.kept();
        let key = (namespace.to_owned(), name.to_owned());
        let resource: Arc<str> = match kept.resources.get_key_value(resource) {
            Some((known, _)) => known.clone(),
            None => resource.into(),
        };
        if self.log {
            *kept.written.entry(format!("{resource}/{namespace}/{name}")).or_default() += 1;
        }
        let before = kept.resources.get(&resource).and_then(|places| places.get(&key)).cloned();
        if before.is_some() && only_new {
            return None;
        }
        if let Some(same) = before.as_ref().filter(|before| Arc::ptr_eq(&before.template, &template)) {
            return Some(same.clone());
        }
        kept.revision += 1;
        kept.uid += 1;
        let object = Object {
            template,
            namespace: key.0.clone(),
            name: key.1.clone(),
            uid: before.as_ref().map_or(kept.uid, |before| before.uid),
            revision: kept.revision,
            generation: before.as_ref().map_or(1, |before| before.generation + 1),
            ready: kept.ready,
        };
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        kept.resources.entry(resource.clone()).or_default().insert(key, object.clone());
        let _ = self.happenings.send(Happening { resource, what, object: object.clone() });
        Some(object)
    }

    /// Deletes an object.
    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) -> Option<Object> {
        let mut kept = self.kept();
        let places = kept.resources.get_mut(resource)?;
        let mut object = places.remove(&(namespace.to_owned(), name.to_owned()))?;
        kept.revision += 1;
        object.revision = kept.revision;
        let happening = Happening { resource: resource.into(), what: "DELETED", object: object.clone() };
        kept.deleted.push(happening.clone());
        if kept.deleted.len() > REMEMBERED {
            kept.deleted.drain(..REMEMBERED / 2);
        }
        let _ = self.happenings.send(happening);
        Some(object)
    }

    /// Deletes an object as somebody else would.
    pub fn lose(&self, resource: &str, namespace: &str, name: &str) -> bool {
        self.remove(resource, namespace, name).is_some()
    }

    /// The labelled objects of a resource, and the revision of that.
    pub(crate) fn list(&self, resource: &str, labelled: bool) -> (Vec<Object>, u64) {
        let kept = self.kept();
        let all = kept.resources.get(resource).into_iter().flat_map(BTreeMap::values);
        let fits = |object: &&Object| !labelled || object.is_labelled();
        (all.filter(fits).cloned().collect(), kept.revision)
    }

    /// What has happened to the labelled objects of a resource since a revision, and what will happen.
    pub(crate) fn since(
        &self,
        resource: &str,
        revision: u64,
    ) -> (Vec<Happening>, broadcast::Receiver<Happening>) {
        let kept = self.kept();
        let there = kept.resources.get_key_value(resource).into_iter().flat_map(|(resource, places)| {
            places.values().map(|object| {
                let (resource, object) = (resource.clone(), object.clone());
                Happening { resource, what: "MODIFIED", object }
            })
        });
        let gone = kept.deleted.iter().filter(|happening| &*happening.resource == resource).cloned();
        let mut all: Vec<Happening> = there.chain(gone).collect();
        all.retain(|happening| happening.object.revision > revision && happening.object.is_labelled());
        all.sort_by_key(|happening| happening.object.revision);
        (all, self.happenings.subscribe())
    }
}
