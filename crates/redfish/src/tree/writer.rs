//! Who owns what in a tree, and what becomes of it when owners change their minds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use serde_json::Value;

use super::{Change, ChangeKind, CollectionEntry, Entry, Item, Listed, Tree, body, pack::Shape};

/// Owners are numbers inside.
type Owner = u32;

/// Stands for a set of URIs: those of its members, exclusive or.
pub(super) type Mark = u128;

/// The members of a collection.
#[derive(Debug, Default)]
struct Members {
    uris: BTreeSet<Arc<str>>,
    mark: Mark,
}

/// A link that somebody adds to a resource.
type AddedLink = (&'static str, String, bool);

/// What an owner has.
#[derive(Debug, Default)]
struct Owned {
    resources: BTreeSet<Arc<str>>,
    collections: BTreeSet<Arc<str>>,
    members: BTreeSet<(Arc<str>, Arc<str>)>,
    links: BTreeSet<(Arc<str>, AddedLink)>,
}

/// A resource that others add links to: its body without these, and the links with how many owners add them.
#[derive(Debug, Default)]
struct Extended {
    own: Option<Arc<[u8]>>,
    links: BTreeMap<AddedLink, usize>,
}

/// What is needed to change a tree; readers do without.
#[derive(Debug, Default)]
pub(super) struct Writer {
    numbers: HashMap<String, Owner>,
    owners: HashMap<Owner, Owned>,
    /// Who put the body of a resource. Only for those that more than one owner has put.
    contested: HashMap<Arc<str>, Owner>,
    /// How many owners declare a collection.
    declared: HashMap<Arc<str>, usize>,
    /// Members by parent.
    children: HashMap<Arc<str>, Members>,
    /// How many reasons beside the first a member has to be in a collection, where there are any.
    more_reasons: HashMap<(Arc<str>, Arc<str>), u32>,
    extended: HashMap<Arc<str>, Extended>,
}

/// Type of a collection, and what it says beside its members.
type Declared = (String, Option<Arc<str>>);

/// Items, sorted out.
#[derive(Default)]
struct Sorted {
    owned: Owned,
    bodies: BTreeMap<Arc<str>, (Value, String)>,
    schemas: BTreeMap<Arc<str>, Declared>,
}

impl Sorted {
    fn of(items: impl IntoIterator<Item = Item>) -> Self {
        let mut sorted = Self::default();
        for item in items {
            sorted.add(item);
        }
        sorted
    }

    fn add(&mut self, item: Item) {
        match item {
            Item::Resource(value) => {
                let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
                let (Some(uri), Some(kind)) = (text("@odata.id"), text("@odata.type")) else {
                    return tracing::debug!("a body without @odata.id and @odata.type is no resource");
                };
                let uri: Arc<str> = uri.trim_end_matches('/').into();
                if value.get("Members").is_some_and(Value::is_array) && kind.ends_with("Collection") {
                    let schema = kind.rsplit('.').next().unwrap_or_default();
                    let schema = schema.trim_end_matches("Collection").to_owned();
                    return self.add(Item::collection(uri.to_string(), &schema));
                }
                self.owned.resources.insert(uri.clone());
                self.bodies.insert(uri, (value, kind));
            }
            Item::Collection { uri, schema, annotations } => {
                let uri: Arc<str> = uri.into();
                self.owned.collections.insert(uri.clone());
                let text = annotations.to_string();
                let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
                let more = inner.filter(|inner| !inner.is_empty()).map(Arc::from);
                self.schemas.insert(uri, (format!("#{schema}Collection.{schema}Collection"), more));
            }
            Item::Member { collection, uri } => {
                self.owned.members.insert((collection.into(), uri.into()));
            }
            Item::Link { from, path, to, single } => {
                self.owned.links.insert((from.into(), (path, to, single)));
            }
        }
    }
}

/// What changed, to be told at the end; a resource at most once.
#[derive(Default)]
struct Told(BTreeMap<Arc<str>, Change>);

impl Told {
    fn add(&mut self, change: Change) {
        self.0.insert(change.uri.clone(), change);
    }

    fn finish(self) -> Vec<Change> {
        self.0.into_values().collect()
    }
}

impl Writer {
    pub(super) fn owners(&self) -> Vec<String> {
        self.numbers.keys().cloned().collect()
    }

    /// URIs of the members of a collection.
    pub(super) fn members(&self, uri: &str) -> Vec<Arc<str>> {
        self.children.get(uri).map(|members| members.uris.iter().cloned().collect()).unwrap_or_default()
    }

    /// The members of a collection, and what stands for them.
    pub(super) fn list(&self, uri: &str) -> Listed {
        self.children.get(uri).map_or_else(Listed::default, |members| Listed {
            uris: members.uris.iter().cloned().collect(),
            mark: members.mark,
        })
    }

    pub(super) fn replace(
        &mut self,
        tree: &Tree,
        owner: &str,
        items: impl IntoIterator<Item = Item>,
    ) -> Vec<Change> {
        let sorted = Sorted::of(items);
        let number = self.number(owner);
        let old = self.owners.remove(&number).unwrap_or_default();
        let mut told = Told::default();
        self.take_away(tree, number, &old, &sorted.owned, &mut told);
        self.bring(tree, number, &old, sorted.bodies, &sorted.schemas, &sorted.owned, &mut told);
        let new = sorted.owned;
        let empty = new.resources.is_empty()
            && new.collections.is_empty()
            && new.members.is_empty()
            && new.links.is_empty();
        if empty {
            self.numbers.remove(owner);
        } else {
            self.owners.insert(number, new);
        }
        told.finish()
    }

    pub(super) fn put(
        &mut self,
        tree: &Tree,
        owner: &str,
        items: impl IntoIterator<Item = Item>,
    ) -> Vec<Change> {
        let sorted = Sorted::of(items);
        let number = self.number(owner);
        let mut owned = self.owners.remove(&number).unwrap_or_default();
        let mut told = Told::default();
        self.bring(tree, number, &owned, sorted.bodies, &sorted.schemas, &sorted.owned, &mut told);
        owned.resources.extend(sorted.owned.resources);
        owned.collections.extend(sorted.owned.collections);
        owned.members.extend(sorted.owned.members);
        owned.links.extend(sorted.owned.links);
        self.owners.insert(number, owned);
        told.finish()
    }

    pub(super) fn remove(&mut self, tree: &Tree, owner: &str, uris: &[String]) -> Vec<Change> {
        let number = self.number(owner);
        let mut owned = self.owners.remove(&number).unwrap_or_default();
        let mut told = Told::default();
        for uri in uris {
            if owned.resources.remove(uri.as_str()) {
                self.remove_resource(tree, number, uri, &mut told);
            }
        }
        self.owners.insert(number, owned);
        told.finish()
    }

    fn number(&mut self, owner: &str) -> Owner {
        if let Some(number) = self.numbers.get(owner) {
            return *number;
        }
        let used = self.numbers.values().copied().max().unwrap_or(0);
        self.numbers.insert(owner.to_owned(), used + 1);
        used + 1
    }

    /// Removes what an owner had and has no more.
    fn take_away(&mut self, tree: &Tree, number: Owner, old: &Owned, new: &Owned, told: &mut Told) {
        for (from, link) in old.links.difference(&new.links) {
            if let Some(extended) = self.extended.get_mut(from) {
                let left = extended.links.get_mut(link).map_or(0, |count| {
                    *count -= 1;
                    *count
                });
                if left == 0 {
                    extended.links.remove(link);
                }
                self.compose(tree, from, told);
            }
        }
        for (collection, member) in old.members.difference(&new.members) {
            self.leave(tree, collection, member);
        }
        for uri in old.resources.difference(&new.resources) {
            self.remove_resource(tree, number, uri, told);
        }
        for uri in old.collections.difference(&new.collections) {
            let left = self.declared.get_mut(uri).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if left == 0 {
                self.declared.remove(uri);
                tree.write(uri).remove(uri);
            }
        }
    }

    /// Adds what an owner has and had not, and what is different.
    #[allow(clippy::too_many_arguments)]
    fn bring(
        &mut self,
        tree: &Tree,
        number: Owner,
        old: &Owned,
        bodies: BTreeMap<Arc<str>, (Value, String)>,
        schemas: &BTreeMap<Arc<str>, Declared>,
        new: &Owned,
        told: &mut Told,
    ) {
        for uri in new.collections.difference(&old.collections) {
            *self.declared.entry(uri.clone()).or_default() += 1;
            let Some((kind, more)) = schemas.get(uri) else { continue };
            let Some(kind) = tree.kinds.index(kind) else { continue };
            let more = more.clone();
            let empty = Entry::Collection(Box::new(CollectionEntry { kind, page: None, listed: None, more }));
            tree.write(uri).entry(uri.clone()).or_insert(empty);
        }
        let mut touched = BTreeSet::new();
        for (from, link) in new.links.difference(&old.links) {
            let extended = self.extended.entry(from.clone()).or_default();
            if extended.links.is_empty() && extended.own.is_none() {
                extended.own = match tree.read(from).get(from) {
                    Some(Entry::Resource { body, .. }) => Some(tree.samples.unpack_shared(body)),
                    _ => None,
                };
            }
            *extended.links.entry(link.clone()).or_default() += 1;
            touched.insert(from.clone());
        }
        for (uri, (value, kind)) in bodies {
            let known = old.resources.contains(&uri);
            self.claim(tree, number, &uri, known);
            touched.remove(&uri);
            self.put_resource(tree, &uri, value, &kind, told);
        }
        for uri in touched {
            self.compose(tree, &uri, told);
        }
        for (collection, member) in new.members.difference(&old.members) {
            self.join(tree, collection, member);
        }
    }

    /// Notes who put a resource last, if it has been somebody else before.
    fn claim(&mut self, tree: &Tree, number: Owner, uri: &Arc<str>, known: bool) {
        if !known && tree.contains(uri) || self.contested.contains_key(uri) {
            self.contested.insert(uri.clone(), number);
        }
    }

    fn put_resource(&mut self, tree: &Tree, uri: &Arc<str>, value: Value, kind: &str, told: &mut Told) {
        let Some(kind) = tree.kinds.index(kind) else { return };
        let shape = Shape::of(kind, &value);
        let own = body::resource(value);
        let new: Arc<[u8]> = match self.extended.get_mut(uri) {
            Some(extended) => {
                let own: Arc<[u8]> = own.into();
                extended.own = Some(own.clone());
                with_links(&own, extended)
            }
            None => own.into(),
        };
        let body = tree.samples.pack(shape, &new);
        let old = tree.write(uri).insert(uri.clone(), Entry::Resource { body, kind });
        let before = match old {
            Some(Entry::Resource { body, .. }) => Some(tree.samples.unpack_shared(&body)),
            _ => None,
        };
        if before.is_none()
            && let Some((parent, _)) = uri.rsplit_once('/')
        {
            let parent: Arc<str> = parent.into();
            self.join(tree, &parent, uri);
        }
        if before.as_ref() != Some(&new)
            && let Some(odata_type) = tree.kinds.get(kind)
        {
            let kind = if before.is_some() { ChangeKind::Changed } else { ChangeKind::Created };
            told.add(Change {
                kind,
                uri: uri.clone(),
                odata_type,
                bodies: before.map(|before| (before, new)),
            });
        }
    }

    /// Makes the body of a resource anew after links to be added to it came or went.
    fn compose(&mut self, tree: &Tree, uri: &Arc<str>, told: &mut Told) {
        let Some(extended) = self.extended.get(uri) else { return };
        let own = extended.own.clone();
        let new = own.as_ref().map(|own| with_links(own, extended));
        if extended.links.is_empty() {
            self.extended.remove(uri);
        }
        let Some(new) = new else { return };
        let mut shard = tree.write(uri);
        let Some(Entry::Resource { body, kind }) = shard.get_mut(uri) else { return };
        let before = tree.samples.unpack_shared(body);
        if before != new {
            *body = tree.samples.pack_again(body, &new);
            let odata_type = tree.kinds.get(*kind);
            drop(shard);
            if let Some(odata_type) = odata_type {
                let bodies = Some((before, new));
                told.add(Change { kind: ChangeKind::Changed, uri: uri.clone(), odata_type, bodies });
            }
        }
    }

    fn remove_resource(&mut self, tree: &Tree, number: Owner, uri: &str, told: &mut Told) {
        // Somebody else has put it since.
        if self.contested.get(uri).is_some_and(|last| *last != number) {
            return;
        }
        self.contested.remove(uri);
        let Some((uri, Entry::Resource { kind, .. })) = tree.write(uri).remove_entry(uri) else { return };
        if let Some(extended) = self.extended.get_mut(&uri) {
            extended.own = None;
        }
        if let Some((parent, _)) = uri.rsplit_once('/') {
            self.leave(tree, parent, &uri);
        }
        if let Some(odata_type) = tree.kinds.get(kind) {
            told.add(Change { kind: ChangeKind::Removed, uri, odata_type, bodies: None });
        }
    }

    fn join(&mut self, tree: &Tree, collection: &Arc<str>, member: &Arc<str>) {
        let members = self.children.entry(collection.clone()).or_default();
        if members.uris.insert(member.clone()) {
            members.mark ^= body::mark_of(member);
        } else {
            *self.more_reasons.entry((collection.clone(), member.clone())).or_default() += 1;
        }
        forget_page(tree, collection);
    }

    fn leave(&mut self, tree: &Tree, collection: &str, member: &str) {
        let key = (Arc::from(collection), Arc::from(member));
        if let Some(reasons) = self.more_reasons.get_mut(&key) {
            *reasons -= 1;
            if *reasons == 0 {
                self.more_reasons.remove(&key);
            }
            return;
        }
        let Some(members) = self.children.get_mut(collection) else { return };
        if members.uris.remove(member) {
            members.mark ^= body::mark_of(member);
        }
        if members.uris.is_empty() {
            self.children.remove(collection);
        }
        forget_page(tree, collection);
    }
}

fn forget_page(tree: &Tree, collection: &str) {
    if let Some(Entry::Collection(entry)) = tree.write(collection).get_mut(collection) {
        (entry.page, entry.listed) = (None, None);
    }
}

/// A body with the links that are added to it.
fn with_links(own: &Arc<[u8]>, extended: &Extended) -> Arc<[u8]> {
    if extended.links.is_empty() {
        return own.clone();
    }
    let Ok(mut value) = serde_json::from_slice::<Value>(own) else { return own.clone() };
    for (path, to, single) in extended.links.keys() {
        body::add_link(&mut value, path, to, *single);
    }
    body::resource(value).into()
}
