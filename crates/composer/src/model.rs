//! What the resource managers know at one moment: hosts, what they have, in which pool they are, how far apart they are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use drystone_api::{Accelerator, BlockPool, Drive, FailureDomain, ObjectReference, quantity::Memory};
use k8s_openapi::jiff::Timestamp;

pub use crate::topology::Distances;

/// A host as the composer sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Name of the BareMetalHost.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Site it stands in.
    pub site: String,
    /// Pool it is in.
    pub pool: BlockPool,
    /// Kept out of compositions by an administrator.
    pub maintenance: bool,
    /// Kept for the cluster of its site: only a group that lists it by name gets it.
    pub dedicated: bool,
    /// Who claimed it.
    pub consumer: Option<ObjectReference>,
    /// Processor cores.
    pub cores: u32,
    /// Memory.
    pub memory: Memory,
    /// Accelerators.
    pub accelerators: Vec<Accelerator>,
    /// Capacity of all drives.
    pub storage: Memory,
    /// Drives.
    pub drives: Vec<Drive>,
    /// Speed of the fastest port in Gbit/s.
    pub bandwidth_gbps: u32,
    /// Chassis.
    pub chassis: String,
    /// Rack; empty if unknown.
    pub rack: String,
    /// Power drawn under load, in watts; 0 if unknown.
    pub watts: u32,
    /// Power drawn when idle, in watts; 0 if unknown.
    pub idle_watts: u32,
    /// Whether it is powered on.
    pub powered_on: bool,
    /// Positions in [`Distances`] of the switches that it is cabled to, sorted, each once.
    pub switches: Vec<u32>,
    /// Why it is not usable, if it is not.
    pub message: String,
    /// Position in [`Snapshot::quotas`] of the pool that looks after it.
    pub quota: Option<usize>,
}

/// Hosts of a pool that new compositions leave unclaimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quota {
    /// The pool, for people.
    pub pool: String,
    /// How many stay unclaimed.
    pub min_free: u32,
    /// Most power of a chassis in watts.
    pub chassis_watts: Option<u32>,
}

/// What somebody else's composition keeps others out of, or until when it holds its hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tenant {
    /// The composition.
    pub owner: ObjectReference,
    /// No other hosts in the same domain.
    pub isolated_by: Option<FailureDomain>,
    /// When its hosts are given back, if that is known.
    pub until: Option<Timestamp>,
}

/// Everything a plan is made from.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Hosts in order of namespace and name.
    pub hosts: Vec<Host>,
    /// Distances between switches.
    pub distances: Arc<Distances>,
    /// What pools ask for.
    pub quotas: Vec<Quota>,
    /// Compositions that are of concern to others.
    pub tenants: Vec<Tenant>,
    index: Index,
}

/// What is equal has the same number, so that plans compare numbers.
#[derive(Debug, Clone, Default)]
struct Index {
    site: Vec<u32>,
    chassis: Vec<u32>,
    rack: Vec<u32>,
    attachment: Vec<u32>,
    attachments: Vec<Vec<u32>>,
}

fn number<K: std::hash::Hash + Eq>(known: &mut HashMap<K, u32>, key: K) -> u32 {
    let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
    *known.entry(key).or_insert(next)
}

impl Index {
    fn of(hosts: &[Host]) -> Self {
        let sites: BTreeSet<&str> = hosts.iter().map(|host| host.site.as_str()).collect();
        let site_numbers: HashMap<&str, u32> = sites.iter().copied().zip(0..).collect();
        let (mut chassis, mut racks, mut switches) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut index = Self::default();
        for host in hosts {
            index.site.push(site_numbers.get(host.site.as_str()).copied().unwrap_or(0));
            index.chassis.push(number(&mut chassis, (host.site.as_str(), host.chassis.as_str())));
            index.rack.push(number(&mut racks, (host.site.as_str(), host.rack.as_str())));
            let attachment = number(&mut switches, host.switches.as_slice());
            index.attachment.push(attachment);
            if index.attachments.len() == attachment as usize {
                index.attachments.push(host.switches.clone());
            }
        }
        index
    }
}

impl Snapshot {
    /// Puts the hosts in order, so that plans do not depend on the order of observation.
    pub fn new(mut hosts: Vec<Host>, distances: impl Into<Arc<Distances>>) -> Self {
        hosts.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let index = Index::of(&hosts);
        Self { hosts, distances: distances.into(), index, ..Self::default() }
    }

    /// The same with what pools ask for.
    #[must_use]
    pub fn with_quotas(mut self, quotas: Vec<Quota>) -> Self {
        self.quotas = quotas;
        self
    }

    /// The same with other compositions.
    #[must_use]
    pub fn with_tenants(mut self, tenants: Vec<Tenant>) -> Self {
        self.tenants = tenants;
        self
    }

    /// Position of a host.
    pub fn position(&self, namespace: &str, name: &str) -> Option<usize> {
        let key = (namespace, name);
        self.hosts.binary_search_by(|host| (host.namespace.as_str(), host.name.as_str()).cmp(&key)).ok()
    }

    /// Number of the site of a host.
    pub(crate) fn site(&self, host: usize) -> u32 {
        self.index.site[host]
    }

    /// Number of the chassis of a host; chassis of different sites are different.
    pub(crate) fn chassis(&self, host: usize) -> u32 {
        self.index.chassis[host]
    }

    /// Number of what a host is attached to: hosts with the same number are equally far from everything.
    pub(crate) fn attachment(&self, host: usize) -> u32 {
        self.index.attachment[host]
    }

    /// Number of different attachments.
    pub(crate) fn attachment_count(&self) -> usize {
        self.index.attachments.len()
    }

    /// Switches of an attachment.
    pub(crate) fn switches_of(&self, attachment: u32) -> &[u32] {
        &self.index.attachments[attachment as usize]
    }

    /// Switches on the shortest way between two attachments over any fabric that both are on.
    pub(crate) fn between(&self, a: u32, b: u32) -> Option<u16> {
        let (from, to) = (self.switches_of(a), self.switches_of(b));
        if a == b && !from.is_empty() {
            return Some(1);
        }
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        pairs.filter_map(|(from, to)| self.distances.hops(from, to)).min()
    }

    /// Numbers of the domains of a kind that a host is in; none if that is not known.
    pub(crate) fn domains(&self, host: usize, by: FailureDomain) -> &[u32] {
        let known = &self.hosts[host];
        match by {
            FailureDomain::Chassis if !known.chassis.is_empty() => &self.index.chassis[host..=host],
            FailureDomain::Rack if !known.rack.is_empty() => &self.index.rack[host..=host],
            FailureDomain::Switch => &known.switches,
            FailureDomain::Chassis | FailureDomain::Rack => &[],
        }
    }

    /// Name of the domain of a host, for people.
    pub(crate) fn domain_name(&self, host: usize, by: FailureDomain) -> String {
        let known = &self.hosts[host];
        match by {
            FailureDomain::Chassis => known.chassis.clone(),
            FailureDomain::Rack => known.rack.clone(),
            FailureDomain::Switch => {
                let names: Vec<&str> = known.switches.iter().map(|at| self.distances.name(*at)).collect();
                names.join(", ")
            }
        }
    }

    /// Power already drawn or promised in each chassis: claimed hosts under load, the others as they are.
    pub(crate) fn chassis_load(&self) -> BTreeMap<u32, u64> {
        let mut load = BTreeMap::new();
        for (position, host) in self.hosts.iter().enumerate() {
            let watts = match (&host.consumer, host.powered_on) {
                (Some(_), _) => host.watts,
                (None, true) => host.idle_watts,
                (None, false) => 0,
            };
            *load.entry(self.chassis(position)).or_default() += u64::from(watts);
        }
        load
    }
}
