//! An nftables table as data, and the transactions that make it or change it. Pure.

use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

/// Name of the table; its family is `ip`.
pub const TABLE: &str = "drystone";

/// A set, or a map if its elements have values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// `set` or `map`.
    pub kind: SetKind,
    /// Type, timeout, flags: what is between the braces.
    pub definition: String,
    /// Elements; the values are empty for a set.
    pub elements: BTreeMap<String, String>,
}

/// What a set is called in nftables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetKind {
    /// Elements only.
    Set,
    /// Elements with values.
    Map,
}

impl fmt::Display for SetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set => "set",
            Self::Map => "map",
        })
    }
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Where the kernel calls it: type, hook and priority. None for a chain that others jump to.
    pub hook: Option<&'static str>,
    /// Rules.
    pub rules: Vec<String>,
}

/// The contents of the table, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Sets and maps.
    pub sets: BTreeMap<String, Set>,
    /// Chains.
    pub chains: BTreeMap<String, Chain>,
}

impl Ruleset {
    /// A transaction that makes the table, whatever was there before.
    pub fn render(&self) -> String {
        format!("{}add table ip {TABLE}\n{}", removal(), self.change_from(&Self::default()))
    }

    /// A transaction that makes this table out of another; empty if they are the same. Entries that the kernel added itself,
    /// such as the clients of a Service with affinity, stay.
    pub fn change_from(&self, old: &Self) -> String {
        let mut script = Script::default();
        self.declare(old, &mut script);
        self.delete_elements(old, &mut script);
        // Rules go before what they refer to.
        for name in old.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            script.line(format_args!("flush chain ip {TABLE} {name}"));
        }
        self.write_rules(old, &mut script);
        self.add_elements(old, &mut script);
        for name in old.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            script.line(format_args!("delete chain ip {TABLE} {name}"));
        }
        for (name, set) in old.sets.iter().filter(|(name, _)| !self.sets.contains_key(*name)) {
            script.line(format_args!("delete {} ip {TABLE} {name}", set.kind));
        }
        script.0
    }

    /// Chains and sets that are new, still empty, so that everything can refer to everything.
    fn declare(&self, old: &Self, script: &mut Script) {
        for (name, chain) in self.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
            match chain.hook {
                Some(hook) => {
                    script.line(format_args!("add chain ip {TABLE} {name} {{ {hook}; policy accept; }}"));
                }
                None => script.line(format_args!("add chain ip {TABLE} {name}")),
            }
        }
        for (name, set) in self.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
            script.line(format_args!("add {} ip {TABLE} {name} {{ {}; }}", set.kind, set.definition));
        }
    }

    fn delete_elements(&self, old: &Self, script: &mut Script) {
        for (name, set) in &old.sets {
            let kept = self.sets.get(name).map(|set| &set.elements);
            let gone: Vec<&str> = set
                .elements
                .iter()
                .filter(|(key, value)| kept.is_none_or(|kept| kept.get(*key) != Some(value)))
                .map(|(key, _)| key.as_str())
                .collect();
            if !gone.is_empty() {
                script.line(format_args!("delete element ip {TABLE} {name} {{ {} }}", gone.join(", ")));
            }
        }
    }

    fn add_elements(&self, old: &Self, script: &mut Script) {
        for (name, set) in &self.sets {
            let before = old.sets.get(name).map(|set| &set.elements);
            let new: Vec<String> = set
                .elements
                .iter()
                .filter(|(key, value)| before.is_none_or(|before| before.get(*key) != Some(value)))
                .map(|(key, value)| match set.kind {
                    SetKind::Set => key.clone(),
                    SetKind::Map => format!("{key} : {value}"),
                })
                .collect();
            if !new.is_empty() {
                script.line(format_args!("add element ip {TABLE} {name} {{ {} }}", new.join(", ")));
            }
        }
    }

    fn write_rules(&self, old: &Self, script: &mut Script) {
        for (name, chain) in &self.chains {
            let before = old.chains.get(name);
            if before == Some(chain) {
                continue;
            }
            if before.is_some() {
                script.line(format_args!("flush chain ip {TABLE} {name}"));
            }
            for rule in &chain.rules {
                script.line(format_args!("add rule ip {TABLE} {name} {rule}"));
            }
        }
    }
}

/// A transaction that removes the table, if it is there.
pub fn removal() -> String {
    format!("add table ip {TABLE}\ndelete table ip {TABLE}\n")
}

#[derive(Default)]
struct Script(String);

impl Script {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "{line}");
    }
}
