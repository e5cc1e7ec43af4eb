//! Sets of field paths, as tries.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::path::{BadPathElement, PathElement};

/// A set of paths. A node is itself a member, or only on the way to members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    nodes: BTreeMap<PathElement, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    member: bool,
    children: FieldSet,
}

/// `fieldsV1` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFields {
    /// A name is no path element.
    #[error(transparent)]
    Element(#[from] BadPathElement),
    /// A value is no object.
    #[error("fieldsV1 consists of objects only")]
    NotAnObject,
    /// Nested beyond all reason.
    #[error("fieldsV1 is nested too deeply")]
    TooDeep,
}

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;

impl FieldSet {
    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[PathElement]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = self.nodes.entry(first.clone()).or_default();
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.children.insert(rest);
        }
    }

    /// Whether the path is a member.
    pub fn contains(&self, path: &[PathElement]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(entry) = self.nodes.get(first) else { return false };
        if rest.is_empty() { entry.member } else { entry.children.contains(rest) }
    }

    /// Whether the path, or anything below it, is a member.
    pub fn reaches(&self, path: &[PathElement]) -> bool {
        match path.split_first() {
            None => !self.is_empty(),
            Some((first, rest)) => self
                .nodes
                .get(first)
                .is_some_and(|entry| if rest.is_empty() { true } else { entry.children.reaches(rest) }),
        }
    }

    /// What is below an element.
    pub fn child(&self, element: &PathElement) -> Option<&FieldSet> {
        self.nodes.get(element).map(|entry| &entry.children)
    }

    /// Members of either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (element, theirs) in &other.nodes {
            let entry = all.nodes.entry(element.clone()).or_default();
            entry.member |= theirs.member;
            entry.children = entry.children.union(&theirs.children);
        }
        all
    }

    /// Members of both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && theirs, false)
    }

    /// Members of this set that are not members of the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.combine(other, |mine, theirs| mine && !theirs, true)
    }

    fn combine(&self, other: &Self, keep: impl Fn(bool, bool) -> bool + Copy, keep_alone: bool) -> Self {
        let mut result = Self::default();
        for (element, mine) in &self.nodes {
            let entry = match other.nodes.get(element) {
                Some(theirs) => Entry {
                    member: keep(mine.member, theirs.member),
                    children: mine.children.combine(&theirs.children, keep, keep_alone),
                },
                None if keep_alone => mine.clone(),
                None => continue,
            };
            if entry.member || !entry.children.is_empty() {
                result.nodes.insert(element.clone(), entry);
            }
        }
        result
    }

    /// Members of this set that are neither members of the other nor below one: when a whole value goes, what is inside goes
    /// with it.
    #[must_use]
    pub fn without_subtrees(&self, other: &Self) -> Self {
        let mut result = Self::default();
        for (element, mine) in &self.nodes {
            let entry = match other.nodes.get(element) {
                Some(theirs) if theirs.member => continue,
                Some(theirs) => {
                    Entry { member: mine.member, children: mine.children.without_subtrees(&theirs.children) }
                }
                None => mine.clone(),
            };
            if entry.member || !entry.children.is_empty() {
                result.nodes.insert(element.clone(), entry);
            }
        }
        result
    }

    /// All members, parents before children.
    pub fn paths(&self) -> Vec<Vec<PathElement>> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<PathElement>, paths: &mut Vec<Vec<PathElement>>) {
        for (element, entry) in &self.nodes {
            prefix.push(element.clone());
            if entry.member {
                paths.push(prefix.clone());
            }
            entry.children.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// As `fieldsV1`.
    pub fn encode(&self) -> Value {
        let each = self.nodes.iter().map(|(element, entry)| {
            let mut inner = match entry.children.encode() {
                Value::Object(inner) => inner,
                _ => Map::new(),
            };
            if entry.member && !entry.children.is_empty() {
                inner.insert(".".to_owned(), Value::Object(Map::new()));
            }
            (element.encode(), Value::Object(inner))
        });
        Value::Object(each.collect())
    }

    /// Reads `fieldsV1`.
    ///
    /// # Errors
    /// [`BadFields`].
    pub fn decode(value: &Value) -> Result<Self, BadFields> {
        Self::decode_at(value, 0)
    }

    fn decode_at(value: &Value, depth: usize) -> Result<Self, BadFields> {
        if depth > MAX_DEPTH {
            return Err(BadFields::TooDeep);
        }
        let fields = value.as_object().ok_or(BadFields::NotAnObject)?;
        let mut set = Self::default();
        for (name, inner) in fields.iter().filter(|(name, _)| *name != ".") {
            let children = Self::decode_at(inner, depth + 1)?;
            let explicit = inner.get(".").is_some();
            let entry = Entry { member: explicit || children.is_empty(), children };
            set.nodes.insert(PathElement::decode(name)?, entry);
        }
        Ok(set)
    }
}

/// A path as shown to people.
pub fn display(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}
