//! Port names by number: a fabric has hundreds of thousands of ports and a few dozen names for them.

use std::collections::HashMap;

/// Number of a name in [`Names`].
pub(super) type NameIndex = u32;

/// A set of names, each with a number that never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, NameIndex>,
}

impl Names {
    /// The number of a name, new or known.
    pub(super) fn intern(&mut self, name: &str) -> NameIndex {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = u32::try_from(self.names.len()).unwrap_or(NameIndex::MAX);
        self.names.push(name.into());
        self.by_name.insert(name.into(), index);
        index
    }

    /// The number of a known name.
    pub(super) fn find(&self, name: &str) -> Option<NameIndex> {
        self.by_name.get(name).copied()
    }

    /// The name of a number; empty for a number that was never given.
    pub(super) fn name(&self, index: NameIndex) -> &str {
        self.names.get(index as usize).map_or("", |name| name)
    }
}
