//! Who depends on whom, by UID. Only objects that have owners, or that wait for their dependents, are in it.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

/// One owner of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: String,
    /// The owner is not to go before the object does.
    pub(super) blocks: bool,
}

#[derive(Debug)]
struct Node {
    uid: String,
    owners: Vec<Owner>,
}

/// The index.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: HashMap<Bytes, Node>,
    dependents: HashMap<String, HashSet<Bytes>>,
    /// Objects that wait for their dependents, by UID.
    waiting: HashMap<String, Bytes>,
}

impl Graph {
    /// Notes an object as it is now; whether it has owners that it did not have before, and the keys of those that wait for their dependents
    /// and need not wait for this one any more.
    pub(super) fn note(
        &mut self,
        key: &Bytes,
        uid: String,
        owners: Vec<Owner>,
        waits: bool,
    ) -> (bool, Vec<Bytes>) {
        let before = self.nodes.remove(key);
        if let Some(before) = &before {
            self.unlink(key, before);
        }
        let known = |owner: &Owner| {
            before
                .as_ref()
                .is_some_and(|node| node.uid == uid && node.owners.iter().any(|own| own.uid == owner.uid))
        };
        let is_new = owners.iter().any(|owner| !known(owner));
        let still =
            |own: &Owner| owners.iter().any(|owner| owner.uid == own.uid && owner.blocks >= own.blocks);
        let let_go = before.iter().flat_map(|node| &node.owners).filter(|own| !still(own));
        let released = let_go.filter_map(|own| self.waiting.get(&own.uid).cloned()).collect();
        for owner in &owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        if waits {
            self.waiting.insert(uid.clone(), key.clone());
        }
        self.nodes.insert(key.clone(), Node { uid, owners });
        (is_new, released)
    }

    /// Forgets an object; the keys of those of its owners that wait for their dependents.
    pub(super) fn forget(&mut self, key: &Bytes) -> Vec<Bytes> {
        let Some(node) = self.nodes.remove(key) else { return Vec::new() };
        self.unlink(key, &node);
        node.owners.iter().filter_map(|owner| self.waiting.get(&owner.uid).cloned()).collect()
    }

    fn unlink(&mut self, key: &Bytes, node: &Node) {
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(key);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        if self.waiting.get(&node.uid) == Some(key) {
            self.waiting.remove(&node.uid);
        }
    }

    /// The UID of an object, if it is in the index.
    pub(super) fn uid(&self, key: &Bytes) -> Option<&str> {
        self.nodes.get(key).map(|node| node.uid.as_str())
    }

    /// The objects that have an owner of this UID.
    pub(super) fn dependents(&self, uid: &str) -> Vec<Bytes> {
        self.dependents.get(uid).into_iter().flatten().cloned().collect()
    }

    /// The dependents that must be gone before the owner of this UID. One that waits for the owner itself, round about, is
    /// none: else both would wait for ever.
    pub(super) fn blocking(&self, uid: &str) -> Vec<Bytes> {
        let blocks = |key: &Bytes| {
            self.nodes.get(key).is_some_and(|node| {
                node.owners.iter().any(|owner| owner.uid == uid && owner.blocks)
                    && !self.waits_for(&node.uid, uid)
            })
        };
        self.dependents(uid).into_iter().filter(blocks).collect()
    }

    /// Whether the object of UID `from` is among those that `to` depends on, round about.
    fn waits_for(&self, from: &str, to: &str) -> bool {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut next = vec![from];
        while let Some(uid) = next.pop() {
            if uid == to {
                return true;
            }
            if !seen.insert(uid) {
                continue;
            }
            let dependents = self.dependents.get(uid).into_iter().flatten();
            next.extend(dependents.filter_map(|key| self.nodes.get(key)).map(|node| node.uid.as_str()));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Bytes {
        Bytes::copy_from_slice(name.as_bytes())
    }

    fn owner(uid: &str) -> Owner {
        Owner { uid: uid.into(), blocks: true }
    }

    #[test]
    fn dependents_are_found_and_forgotten() {
        let mut graph = Graph::default();
        assert!(graph.note(&key("pod"), "p".into(), vec![owner("r")], false).0);
        assert!(!graph.note(&key("pod"), "p".into(), vec![owner("r")], false).0);
        assert!(graph.note(&key("pod"), "p".into(), vec![owner("r"), owner("s")], false).0);
        assert_eq!(graph.dependents("r"), [key("pod")]);
        graph.note(&key("set"), "r".into(), Vec::new(), true);
        assert_eq!(graph.blocking("r"), [key("pod")]);
        assert_eq!(graph.forget(&key("pod")), [key("set")]);
        assert!(graph.dependents("r").is_empty() && graph.dependents("s").is_empty());
    }

    #[test]
    fn who_is_let_go_by_a_change_need_not_wait_any_more() {
        let mut graph = Graph::default();
        graph.note(&key("set"), "r".into(), Vec::new(), true);
        graph.note(&key("pod"), "p".into(), vec![owner("r"), owner("s")], false);
        let free = Owner { blocks: false, ..owner("r") };
        assert_eq!(
            graph.note(&key("pod"), "p".into(), vec![free, owner("s")], false),
            (false, vec![key("set")])
        );
        assert!(graph.blocking("r").is_empty());
        graph.note(&key("pod"), "p".into(), vec![owner("r"), owner("s")], false);
        assert_eq!(graph.note(&key("pod"), "p".into(), vec![owner("s")], false), (false, vec![key("set")]));
        assert!(graph.dependents("r").is_empty());
    }

    #[test]
    fn circles_do_not_block() {
        let mut graph = Graph::default();
        graph.note(&key("a"), "a".into(), vec![owner("b")], true);
        graph.note(&key("b"), "b".into(), vec![owner("a")], true);
        assert!(graph.blocking("a").is_empty() && graph.blocking("b").is_empty());
    }

    #[test]
    fn an_object_of_the_same_name_is_another() {
        let mut graph = Graph::default();
        graph.note(&key("pod"), "p1".into(), vec![owner("r")], false);
        assert!(graph.note(&key("pod"), "p2".into(), vec![owner("r")], false).0);
    }
}
