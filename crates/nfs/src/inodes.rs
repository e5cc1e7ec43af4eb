//! Numbers by which the kernel knows files ↔ handles by which the server does.

use std::collections::HashMap;

/// Number of the root, as FUSE has it.
pub(crate) const ROOT: u64 = 1;

#[derive(Debug)]
struct Node {
    handle: Vec<u8>,
    /// How often the kernel was told of it and has not forgotten it.
    lookups: u64,
}

/// The files that the kernel knows.
#[derive(Debug)]
pub(crate) struct Inodes {
    by_number: HashMap<u64, Node>,
    by_handle: HashMap<Vec<u8>, u64>,
    /// For files whose own number is taken.
    spare: u64,
}

impl Inodes {
    pub(crate) fn new(root: Vec<u8>) -> Self {
        Self {
            by_handle: [(root.clone(), ROOT)].into(),
            by_number: [(ROOT, Node { handle: root, lookups: 1 })].into(),
            spare: u64::MAX,
        }
    }

    /// The number of a file, which the kernel is about to be told. The server's own number if no other file has it.
    pub(crate) fn remember(&mut self, handle: &[u8], fileid: u64) -> u64 {
        if let Some(number) = self.by_handle.get(handle) {
            if let Some(node) = self.by_number.get_mut(number) {
                node.lookups += 1;
            }
            return *number;
        }
        let mut number = fileid;
        while number <= ROOT || self.by_number.contains_key(&number) {
            number = self.spare;
            self.spare -= 1;
        }
        self.by_number.insert(number, Node { handle: handle.to_vec(), lookups: 1 });
        self.by_handle.insert(handle.to_vec(), number);
        number
    }

    /// The number of a file that the kernel knows.
    pub(crate) fn number(&self, handle: &[u8]) -> Option<u64> {
        self.by_handle.get(handle).copied()
    }

    /// The kernel forgot a file so many times.
    pub(crate) fn forget(&mut self, number: u64, times: u64) {
        let Some(node) = self.by_number.get_mut(&number).filter(|_| number != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(times);
        if node.lookups == 0
            && let Some(node) = self.by_number.remove(&number)
        {
            self.by_handle.remove(&node.handle);
        }
    }

    /// The handle of a file.
    pub(crate) fn handle(&self, number: u64) -> Option<Vec<u8>> {
        self.by_number.get(&number).map(|node| node.handle.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_forgotten_when_nobody_knows_them() {
        let mut inodes = Inodes::new(b"root".to_vec());
        let (a, b) = (inodes.remember(b"a", 70), inodes.remember(b"b", 70));
        assert_eq!(a, 70);
        assert_ne!(a, b);
        assert_eq!(inodes.remember(b"a", 70), a);
        assert!(inodes.remember(b"c", 1) != ROOT, "the root's number is the root's");
        inodes.forget(a, 1);
        assert_eq!(inodes.handle(a).as_deref(), Some(&b"a"[..]));
        inodes.forget(a, 1);
        assert_eq!((inodes.handle(a), inodes.number(b"a")), (None, None));
        inodes.forget(ROOT, 9);
        assert_eq!(inodes.handle(ROOT).as_deref(), Some(&b"root"[..]));
    }
}
