//! What there is to deliver, kept current by watches, and whom a change concerns.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::reference::ObjectKey;
use futures::StreamExt as _;
use kube::{
    Api, Client,
    core::DynamicObject,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::kinds::{SECRETS, kinds, position};
use crate::plan::object::{Key, Parcel, Recipients, parcel, recipients, secrets_mentioned};

/// An object that is, or could be, delivered.
struct Entry {
    parcel: Arc<Parcel>,
    recipients: Recipients,
    /// Secrets that it mentions.
    secrets: BTreeSet<String>,
    /// Of a Site: the SoftwareSets of its cluster.
    software: Vec<String>,
    generation: Option<i64>,
}

/// Everything that is declared for one site.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    pub(super) parcels: BTreeMap<Key, Arc<Parcel>>,
    /// Generation of the Site.
    pub(super) generation: Option<i64>,
    /// Whether the Site itself is declared. Without it nothing is known of what the site is to have.
    pub(super) has_site: bool,
}

#[derive(Default)]
struct State {
    objects: HashMap<Key, Entry>,
    for_all: BTreeSet<Key>,
    for_site: HashMap<String, BTreeSet<Key>>,
    /// What a site's set was made from without being labelled for it.
    uses: HashMap<ObjectKey, BTreeSet<Key>>,
}

/// What is declared.
pub(super) struct Declared {
    owner: String,
    state: RwLock<State>,
    links: Mutex<HashMap<ObjectKey, Arc<Notify>>>,
    listed: watch::Sender<HashSet<usize>>,
}

impl Declared {
    /// Starts to watch, until `shutdown`.
    pub(super) fn start(client: &Client, owner: String, shutdown: &CancellationToken) -> Arc<Self> {
        let declared = Arc::new(Self {
            owner,
            state: RwLock::default(),
            links: Mutex::default(),
            listed: watch::Sender::new(HashSet::new()),
        });
        for kind in 0..kinds().len() {
            let watching = declared.clone().follow(client.clone(), kind);
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(watching));
        }
        declared
    }

    /// Who delivers.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Completes when everything is known. Before, nothing may be deleted at any site.
    pub(super) async fn ready(&self) -> bool {
        self.listed.subscribe().wait_for(|listed| listed.len() == kinds().len()).await.is_ok()
    }

    /// Told whenever something changes that concerns the site.
    pub(super) fn bell(&self, site: &ObjectKey) -> Arc<Notify> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).entry(site.clone()).or_default().clone()
    }

    /// The site is no longer delivered to.
    pub(super) fn forget(&self, site: &ObjectKey) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).remove(site);
        self.state.write().unwrap_or_else(PoisonError::into_inner).uses.remove(site);
    }

    /// What is declared for a site now. `also` are Secrets of whose changes the site is told, although they are not for it.
    pub(super) fn wanted(&self, site: &ObjectKey, also: &str) -> Wanted {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = Wanted::default();
        let mut uses = BTreeSet::new();
        if let Some(kind) = position("sites") {
            let key = Key { kind, namespace: site.namespace.clone(), name: site.name.clone() };
            let mut keys: BTreeSet<Key> = state.for_all.clone();
            keys.extend(state.for_site.get(&site.name).into_iter().flatten().cloned());
            if let Some(entry) = state.objects.get(&key) {
                wanted.generation = entry.generation;
                wanted.has_site = true;
                let sets = position("softwaresets").into_iter().flat_map(|kind| {
                    let names = entry.software.iter();
                    names.map(move |name| Key { kind, namespace: site.namespace.clone(), name: name.clone() })
                });
                uses.extend(sets);
                keys.extend(uses.iter().cloned());
            }
            // Another site is nobody's business; and who may write in another namespace has no say at sites.
            keys.retain(|other| other.kind != kind && other.namespace == site.namespace);
            keys.insert(key);
            for key in keys {
                let Some(entry) = state.objects.get(&key) else { continue };
                let secrets = entry.secrets.iter().map(|name| Key {
                    kind: SECRETS,
                    namespace: key.namespace.clone(),
                    name: name.clone(),
                });
                uses.extend(secrets);
                wanted.parcels.insert(key, entry.parcel.clone());
            }
        }
        let found = uses.iter().filter_map(|key| Some((key.clone(), state.objects.get(key)?.parcel.clone())));
        wanted.parcels.extend(found.collect::<Vec<_>>());
        uses.insert(Key { kind: SECRETS, namespace: site.namespace.clone(), name: also.to_owned() });
        state.uses.insert(site.clone(), uses);
        wanted
    }

    /// Version of a Secret, which changes when it does.
    pub(super) fn secret_version(&self, namespace: &str, name: &str) -> Option<String> {
        let key = Key { kind: SECRETS, namespace: namespace.to_owned(), name: name.to_owned() };
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.objects.get(&key).map(|entry| entry.parcel.version.clone())
    }

    async fn follow(self: Arc<Self>, client: Client, kind: usize) {
        let Some(resource) = kinds().get(kind) else { return };
        let api: Api<DynamicObject> = Api::all_with(client, resource);
        let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
        let mut seen = HashSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Apply(object)) => self.put(kind, object),
                Ok(Event::Delete(object)) => self.remove(&key_of(kind, &object)),
                Ok(Event::Init) => seen.clear(),
                Ok(Event::InitApply(object)) => {
                    seen.insert(key_of(kind, &object));
                    self.put(kind, object);
                }
                Ok(Event::InitDone) => {
                    let known: Vec<Key> = {
                        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
                        state.objects.keys().filter(|key| key.kind == kind).cloned().collect()
                    };
                    known.iter().filter(|key| !seen.contains(*key)).for_each(|key| self.remove(key));
                    seen = HashSet::new();
                    self.listed.send_modify(|listed| {
                        listed.insert(kind);
                    });
                }
                Err(error) => {
                    tracing::warn!(kind = resource.plural, %error, "watch interrupted; it is taken up again");
                }
            }
        }
    }

    fn put(&self, kind: usize, object: DynamicObject) {
        let key = key_of(kind, &object);
        if object.metadata.deletion_timestamp.is_some() {
            return self.remove(&key);
        }
        // What a controller has made is declared by nobody; the site's own controllers make it there.
        let owners = object.metadata.owner_references.iter().flatten();
        if owners.into_iter().any(|owner| owner.controller == Some(true)) {
            return self.remove(&key);
        }
        let generation = object.metadata.generation;
        let value = complete(kind, object);
        let recipients = recipients(&value);
        // Of the many Secrets only those are kept that could be meant.
        if kind == SECRETS
            && recipients == Recipients::Sites(BTreeSet::new())
            && key.namespace != SYSTEM_NAMESPACE
        {
            return self.remove(&key);
        }
        let software = value["spec"]["cluster"]["software"].as_array().into_iter().flatten();
        let software = software.filter_map(|name| name.as_str().map(str::to_owned)).collect();
        let entry = Entry {
            parcel: Arc::new(parcel(&value, &self.owner)),
            secrets: secrets_mentioned(&value),
            recipients,
            software,
            generation,
        };
        self.change(&key, Some(entry));
    }

    fn remove(&self, key: &Key) {
        self.change(key, None);
    }

    fn change(&self, key: &Key, new: Option<Entry>) {
        let mut concerned = Concerned::default();
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            let old = state.objects.remove(key);
            let is_same = matches!((&old, &new), (Some(old), Some(new))
                if old.parcel.version == new.parcel.version && old.recipients == new.recipients && old.generation == new.generation);
            for entry in old.iter().chain(&new) {
                concerned.add(&entry.recipients);
            }
            if let Some(old) = &old {
                state.unlist(key, &old.recipients);
            }
            if let Some(new) = new {
                state.list(key, &new.recipients);
                state.objects.insert(key.clone(), new);
            }
            if is_same {
                return;
            }
            let users =
                state.uses.iter().filter(|(_, used)| used.contains(key)).map(|(site, _)| site.clone());
            concerned.exactly.extend(users);
        }
        if position("sites") == Some(key.kind) {
            concerned.exactly.insert(ObjectKey::new(&key.namespace, &key.name));
        }
        let links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, bell) in links.iter().filter(|(site, _)| concerned.includes(site)) {
            bell.notify_one();
        }
    }
}

/// Sites that a change concerns.
#[derive(Default)]
struct Concerned {
    all: bool,
    names: BTreeSet<String>,
    exactly: BTreeSet<ObjectKey>,
}

impl Concerned {
    fn add(&mut self, recipients: &Recipients) {
        match recipients {
            Recipients::All => self.all = true,
            Recipients::Sites(names) => self.names.extend(names.iter().cloned()),
        }
    }

    fn includes(&self, site: &ObjectKey) -> bool {
        self.all || self.names.contains(&site.name) || self.exactly.contains(site)
    }
}

impl State {
    fn list(&mut self, key: &Key, recipients: &Recipients) {
        match recipients {
            Recipients::All => {
                self.for_all.insert(key.clone());
            }
            Recipients::Sites(names) => {
                for name in names {
                    self.for_site.entry(name.clone()).or_default().insert(key.clone());
                }
            }
        }
    }

    fn unlist(&mut self, key: &Key, recipients: &Recipients) {
        self.for_all.remove(key);
        let Recipients::Sites(names) = recipients else { return };
        for name in names {
            if let Some(keys) = self.for_site.get_mut(name) {
                keys.remove(key);
                if keys.is_empty() {
                    self.for_site.remove(name);
                }
            }
        }
    }
}

/// Key of an object of a kind.
pub(super) fn key_of(kind: usize, object: &DynamicObject) -> Key {
    Key {
        kind,
        namespace: object.metadata.namespace.clone().unwrap_or_default(),
        name: object.metadata.name.clone().unwrap_or_default(),
    }
}

/// The object with its kind, which items of lists do not say, and without what is of no use here.
pub(super) fn complete(kind: usize, mut object: DynamicObject) -> Value {
    object.metadata.managed_fields = None;
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(resource) = kinds().get(kind) {
        value["apiVersion"] = resource.api_version.as_str().into();
        value["kind"] = resource.kind.as_str().into();
    }
    value
}
