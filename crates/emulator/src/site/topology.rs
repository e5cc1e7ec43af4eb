//! Fabrics that are described by their shape: dragonflies and fat trees of any size, written out switch by switch.
//!
//! What comes out is what a file could have said with `switches` and `links`, in a fixed order, so that names, ports and
//! addresses stay the same from start to start.

use super::{
    document::{LinkDocument, SwitchDocument, TopologyDocument, TopologyKind},
    problem::Problems,
};

/// Most switches of one fabric.
pub(super) const MOST_SWITCHES: u64 = 16_384;
/// Most ports of one fabric.
const MOST_PORTS: u64 = 1 << 20;
/// Most ports of one switch.
pub(super) const MOST_SWITCH_PORTS: u32 = 1024;

/// Switches and links that a topology stands for.
#[derive(Debug, Default)]
pub(super) struct Generated {
    pub(super) switches: Vec<SwitchDocument>,
    pub(super) links: Vec<LinkDocument>,
}

/// What all switches of a topology have in common, checked.
struct Common<'a> {
    path: String,
    prefix: String,
    ports: u32,
    speed_gbps: u32,
    link_speed_gbps: u32,
    document: &'a TopologyDocument,
}

/// Writes a topology out. With a problem it is empty: sizes that do not fit are not tried.
pub(super) fn generate(
    path: &str,
    fabric: &str,
    document: &TopologyDocument,
    problems: &mut Problems,
) -> Generated {
    let prefix = document.prefix.clone().unwrap_or_else(|| fabric.to_ascii_lowercase());
    // Room for `-g0000s0000` behind it.
    problems.check_name(&format!("{path}.prefix"), &prefix, 20);
    problems.check_range(&format!("{path}.portsPerSwitch"), document.ports_per_switch, 2, MOST_SWITCH_PORTS);
    problems.check_range(&format!("{path}.speedGbps"), document.speed_gbps, 1, 10_000);
    let link_speed_gbps = document.link_speed_gbps.unwrap_or(document.speed_gbps);
    problems.check_range(&format!("{path}.linkSpeedGbps"), link_speed_gbps, 1, 10_000);
    let common = Common {
        path: path.to_owned(),
        prefix,
        ports: document.ports_per_switch.clamp(2, MOST_SWITCH_PORTS),
        speed_gbps: document.speed_gbps,
        link_speed_gbps,
        document,
    };
    common.check_fields(problems);
    let generated = match document.kind {
        TopologyKind::Dragonfly => common.dragonfly(problems),
        TopologyKind::FatTree if document.levels == Some(2) => common.leaves_and_spines(problems),
        TopologyKind::FatTree => common.pods(problems),
    };
    generated.unwrap_or_default()
}

impl Common<'_> {
    /// Fields that say nothing about the kind are mistakes.
    fn check_fields(&self, problems: &mut Problems) {
        let document = self.document;
        let (dragonfly, fat_tree) = (TopologyKind::Dragonfly, TopologyKind::FatTree);
        for (field, given, kind, name) in [
            ("groups", document.groups.is_some(), dragonfly, "dragonfly"),
            ("switchesPerGroup", document.switches_per_group.is_some(), dragonfly, "dragonfly"),
            ("linksPerGroupPair", document.links_per_group_pair.is_some(), dragonfly, "dragonfly"),
            ("levels", document.levels.is_some(), fat_tree, "fatTree"),
            ("pods", document.pods.is_some(), fat_tree, "fatTree"),
            ("leaves", document.leaves.is_some(), fat_tree, "fatTree"),
        ] {
            problems.check(!given || document.kind == kind, &format!("{}.{field}", self.path), || {
                format!("only the kind {name} has this")
            });
        }
    }

    fn size_fits(&self, switches: u64, field: &str, problems: &mut Problems) -> bool {
        let fits = switches <= MOST_SWITCHES && switches * u64::from(self.ports) <= MOST_PORTS;
        problems.check(fits, &format!("{}.{field}", self.path), || {
            format!(
                "{switches} switches with {} ports are too many; a fabric has at most {MOST_SWITCHES} switches and {MOST_PORTS} ports",
                self.ports
            )
        });
        fits
    }

    fn switch(&self, name: String, edge_ports: u32) -> SwitchDocument {
        SwitchDocument { name, ports: edge_ports, speed_gbps: self.speed_gbps }
    }

    fn link(&self, from: &str, to: &str, count: u32) -> LinkDocument {
        LinkDocument { from: from.to_owned(), to: to.to_owned(), speed_gbps: self.link_speed_gbps, count }
    }

    /// Groups of switches that are all joined to each other; every pair of groups is joined by the same number of cables,
    /// spread over the switches of either.
    fn dragonfly(&self, problems: &mut Problems) -> Option<Generated> {
        let document = self.document;
        let groups = required(&self.path, "groups", document.groups, 2, 4096, problems)?;
        let size = required(&self.path, "switchesPerGroup", document.switches_per_group, 1, 512, problems)?;
        if !self.size_fits(u64::from(groups) * u64::from(size), "groups", problems) {
            return None;
        }
        let edge = document.endpoints_per_switch.unwrap_or(self.ports / 4);
        let inside = edge.saturating_add(size - 1);
        if inside >= self.ports {
            problems.add(
                format!("{}.endpointsPerSwitch", self.path),
                format!(
                    "{edge} endpoints and {} links inside the group leave none of {} ports for other groups",
                    size - 1,
                    self.ports
                ),
            );
            return None;
        }
        let outside = (self.ports - inside) * size;
        let most = outside / (groups - 1);
        let pair = document.links_per_group_pair.unwrap_or(most);
        if pair == 0 || pair > most {
            problems.add(
                format!("{}.linksPerGroupPair", self.path),
                format!(
                    "{pair} is outside of 1 to {most}: a group has {outside} ports for {} other groups",
                    groups - 1
                ),
            );
            return None;
        }
        Some(self.write_dragonfly(groups, size, edge, pair))
    }

    fn write_dragonfly(&self, groups: u32, size: u32, edge: u32, pair: u32) -> Generated {
        let (wide_group, wide_switch) = (digits(groups), digits(size));
        let name =
            |group: u32, switch: u32| format!("{}-g{group:0wide_group$}s{switch:0wide_switch$}", self.prefix);
        let mut generated = Generated::default();
        for group in 0..groups {
            for switch in 0..size {
                generated.switches.push(self.switch(name(group, switch), edge));
            }
            for one in 0..size {
                let others = (one + 1)..size;
                generated
                    .links
                    .extend(others.map(|other| self.link(&name(group, one), &name(group, other), 1)));
            }
        }
        // The next cable of a group leaves by its next switch in turn.
        let mut next = vec![0_u32; groups as usize];
        for one in 0..groups {
            for other in (one + 1)..groups {
                for _ in 0..pair {
                    let mut turn = |group: u32| {
                        let slot = &mut next[group as usize];
                        let switch = *slot % size;
                        *slot += 1;
                        name(group, switch)
                    };
                    let (from, to) = (turn(one), turn(other));
                    generated.links.push(self.link(&from, &to, 1));
                }
            }
        }
        generated
    }

    /// Two levels: every leaf is joined to every spine.
    fn leaves_and_spines(&self, problems: &mut Problems) -> Option<Generated> {
        problems.check(self.document.pods.is_none(), &format!("{}.pods", self.path), || {
            "a fat tree of two levels has leaves, no pods".to_owned()
        });
        let leaves = self.document.leaves.unwrap_or(self.ports);
        problems.check_range(&format!("{}.leaves", self.path), leaves, 1, self.ports);
        let edge = self.edge_ports(problems)?;
        let spines = self.ports - edge;
        if leaves == 0
            || leaves > self.ports
            || !self.size_fits(u64::from(leaves + spines), "leaves", problems)
        {
            return None;
        }
        let (wide_leaf, wide_spine) = (digits(leaves), digits(spines));
        let leaf = |number: u32| format!("{}-leaf{number:0wide_leaf$}", self.prefix);
        let spine = |number: u32| format!("{}-spine{number:0wide_spine$}", self.prefix);
        let mut generated = Generated::default();
        generated.switches.extend((0..leaves).map(|number| self.switch(leaf(number), edge)));
        generated.switches.extend((0..spines).map(|number| self.switch(spine(number), 0)));
        for low in 0..leaves {
            generated.links.extend((0..spines).map(|high| self.link(&leaf(low), &spine(high), 1)));
        }
        Some(generated)
    }

    /// Three levels: pods of edge and aggregation switches, all joined inside, under a level of cores.
    fn pods(&self, problems: &mut Problems) -> Option<Generated> {
        if let Some(levels) = self.document.levels {
            problems.check_range(&format!("{}.levels", self.path), levels, 2, 3);
        }
        problems.check(self.document.leaves.is_none(), &format!("{}.leaves", self.path), || {
            "a fat tree of three levels has pods; leaves belong to levels: 2".to_owned()
        });
        let half = self.ports / 2;
        problems.check(self.ports.is_multiple_of(2), &format!("{}.portsPerSwitch", self.path), || {
            format!("{} is odd; half of a switch's ports lead up", self.ports)
        });
        let pods = self.document.pods.unwrap_or(self.ports);
        problems.check_range(&format!("{}.pods", self.path), pods, 1, self.ports);
        let edge = self.document.endpoints_per_switch.unwrap_or(half);
        problems.check_range(&format!("{}.endpointsPerSwitch", self.path), edge, 1, half);
        let switches = u64::from(pods) * 2 * u64::from(half) + u64::from(half) * u64::from(half);
        let good =
            self.ports.is_multiple_of(2) && (1..=self.ports).contains(&pods) && (1..=half).contains(&edge);
        if !self.size_fits(switches, "pods", problems) || !good {
            return None;
        }
        let (wide_pod, wide, wide_core) = (digits(pods), digits(half), digits(half * half));
        let low = |pod: u32, number: u32| format!("{}-pod{pod:0wide_pod$}e{number:0wide$}", self.prefix);
        let high = |pod: u32, number: u32| format!("{}-pod{pod:0wide_pod$}a{number:0wide$}", self.prefix);
        let core = |number: u32| format!("{}-core{number:0wide_core$}", self.prefix);
        let mut generated = Generated::default();
        for pod in 0..pods {
            generated.switches.extend((0..half).map(|number| self.switch(low(pod, number), edge)));
            generated.switches.extend((0..half).map(|number| self.switch(high(pod, number), 0)));
            for number in 0..half {
                generated.links.extend((0..half).map(|up| self.link(&low(pod, number), &high(pod, up), 1)));
                let cores = (0..half).map(|up| core(number * half + up));
                generated.links.extend(cores.map(|up| self.link(&high(pod, number), &up, 1)));
            }
        }
        generated.switches.extend((0..half * half).map(|number| self.switch(core(number), 0)));
        Some(generated)
    }

    /// Edge ports of a leaf, at least one, with at least one port left to lead up.
    fn edge_ports(&self, problems: &mut Problems) -> Option<u32> {
        let edge = self.document.endpoints_per_switch.unwrap_or(self.ports / 2);
        problems.check_range(&format!("{}.endpointsPerSwitch", self.path), edge, 1, self.ports - 1);
        (1..self.ports).contains(&edge).then_some(edge)
    }
}

fn required(
    path: &str,
    field: &str,
    value: Option<u32>,
    least: u32,
    most: u32,
    problems: &mut Problems,
) -> Option<u32> {
    let path = format!("{path}.{field}");
    match value {
        None => problems.add(path, format!("a topology of this kind needs it: {least} to {most}")),
        Some(value) => {
            problems.check_range(&path, value, least, most);
            return (least..=most).contains(&value).then_some(value);
        }
    }
    None
}

/// Decimal digits of the highest number of so many things that are counted from 0.
fn digits(count: u32) -> usize {
    count.saturating_sub(1).to_string().len()
}
