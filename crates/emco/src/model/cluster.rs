//! Clusters as placement sees them.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::emco::ClusterConnectivity;
use drystone_appcontext::ClusterName;
use drystone_quantity::{Format, Quantity};

/// Amounts of what pods ask for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Pods.
    pub pods: i64,
    /// GPUs.
    pub gpus: i64,
}

/// How an amount is written.
type Show<'a> = &'a dyn Fn(i64) -> String;

impl Amounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory: self.memory.saturating_add(other.memory),
            pods: self.pods.saturating_add(other.pods),
            gpus: self.gpus.saturating_add(other.gpus),
        }
    }

    /// What is left when `other` is taken away; may be negative.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(other.times(-1))
    }

    /// That many times as much.
    #[must_use]
    pub fn times(self, count: i64) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_mul(count),
            memory: self.memory.saturating_mul(count),
            pods: self.pods.saturating_mul(count),
            gpus: self.gpus.saturating_mul(count),
        }
    }

    /// What of `needed` is more than there is, in words: `memory: 8Gi needed, 2Gi free`.
    pub fn lacking(self, needed: Self) -> Vec<String> {
        let cpu = |milli: i64| format!("{milli}m");
        let bytes = |bytes: i64| Quantity::from_units(bytes, Format::BinarySi).to_string();
        let count = |count: i64| count.to_string();
        let table: [(&str, i64, i64, Show<'_>); 4] = [
            ("cpu", self.cpu_milli, needed.cpu_milli, &cpu),
            ("memory", self.memory, needed.memory, &bytes),
            ("pods", self.pods, needed.pods, &count),
            ("GPUs", self.gpus, needed.gpus, &count),
        ];
        let short = table.into_iter().filter(|(_, free, needed, _)| *needed > 0 && needed > free);
        short
            .map(|(what, free, needed, show)| {
                format!("{what}: {} needed, {} free", show(needed), show(free.max(0)))
            })
            .collect()
    }

    /// How much of what is free would stay free, in thousandths, of the resource that becomes scarcest.
    pub fn share_left(self, needed: Self) -> i64 {
        let pairs = [
            (self.cpu_milli, needed.cpu_milli),
            (self.memory, needed.memory),
            (self.pods, needed.pods),
            (self.gpus, needed.gpus),
        ];
        let wanted = pairs.into_iter().filter(|(_, needed)| *needed > 0);
        let share = |(free, needed): (i64, i64)| {
            if free <= 0 { 0 } else { ((i128::from(free - needed) * 1_000) / i128::from(free)).max(0) }
        };
        wanted.map(share).min().map_or(1_000, |share| i64::try_from(share).unwrap_or(1_000))
    }
}

/// What a live cluster has, and has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// What its nodes could still take.
    pub free: Amounts,
    /// What they have in all.
    pub total: Amounts,
}

/// What placement knows of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Its name.
    pub name: ClusterName,
    /// EMCO's labels; `key=value` and plain ones.
    pub labels: BTreeSet<String>,
    /// Key-value pairs that were given for it.
    pub values: BTreeMap<String, String>,
    /// Whether it answers.
    pub reachability: ClusterConnectivity,
    /// What its nodes could still take, if it is known.
    pub free: Option<Amounts>,
    /// What its nodes have in all, if it is known.
    pub total: Option<Amounts>,
    /// Why that is not known, if somebody asked.
    pub room_unknown: Option<String>,
}

impl ClusterFacts {
    /// A cluster of which nothing is known but its name.
    pub fn named(name: ClusterName) -> Self {
        Self {
            name,
            labels: BTreeSet::new(),
            values: BTreeMap::new(),
            reachability: ClusterConnectivity::Unknown,
            free: None,
            total: None,
            room_unknown: None,
        }
    }

    /// What its nodes have, or why that is not known.
    pub fn learn_room(&mut self, room: Result<Room, String>) {
        match room {
            Ok(room) => (self.free, self.total) = (Some(room.free), Some(room.total)),
            // It is shown to people, beside others.
            Err(why) => self.room_unknown = Some(why.chars().take(200).collect()),
        }
    }

    /// The value of a label or key-value pair: `""` for a label without one; `provider` and `cluster` are always there.
    pub fn value_of(&self, key: &str) -> Option<&str> {
        match key {
            "provider" => return Some(&self.name.provider),
            "cluster" => return Some(&self.name.cluster),
            _ => {}
        }
        let of_label = self.labels.iter().find_map(|label| {
            let (name, value) = label.split_once('=').unwrap_or((label, ""));
            (name == key).then_some(value)
        });
        of_label.or_else(|| self.values.get(key).map(String::as_str))
    }
}
