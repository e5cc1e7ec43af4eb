//! Hosts, sets and imagined roll-outs for the tests of plans.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{
    HostRolloutPhase as Phase, HostSelector, MemberRole, PackageManager, PinnedSet, RolloutStrategy,
    SoftwarePackage,
};

use crate::{
    inventory::Inventory,
    plan::{
        PlanInput, RolloutPlan, Timing,
        decide::{ControlPlanes, Decision, Observed, Wishes, decide},
        plan,
    },
    select::HostFacts,
};

/// A host with `hello` of a version; an empty version for none.
pub(super) fn host(name: &str, site: &str, hello: &str) -> HostFacts {
    let mut inventory = Inventory { manager: PackageManager::Debian, ..Inventory::default() };
    if !hello.is_empty() {
        inventory.packages.insert("hello".to_owned(), hello.to_owned());
    }
    HostFacts {
        name: name.to_owned(),
        site: site.to_owned(),
        provisioned: true,
        inventory: Some(inventory),
        ..HostFacts::default()
    }
}

/// The same as a member of a cluster.
pub(super) fn member(host: HostFacts, cluster: &str, role: MemberRole) -> HostFacts {
    HostFacts { cluster: cluster.to_owned(), role: Some(role), ..host }
}

/// A set that wants `hello` 1.1 everywhere.
pub(super) fn hello() -> PinnedSet {
    PinnedSet {
        name: "base".to_owned(),
        selector: HostSelector { all: true, ..HostSelector::default() },
        packages: vec![SoftwarePackage {
            name: "hello".to_owned(),
            version: "1.1".to_owned(),
            ..SoftwarePackage::default()
        }],
        ..PinnedSet::default()
    }
}

/// The plan for these hosts.
pub(super) fn made(hosts: &[HostFacts], strategy: &RolloutStrategy) -> RolloutPlan {
    let sets = [hello()];
    plan(&PlanInput { sets: &sets, hosts, strategy, timing: Timing::default() }).expect("a plan")
}

/// Control planes of these hosts, none of them down.
pub(super) fn control_planes(hosts: &[HostFacts]) -> BTreeMap<String, ControlPlanes> {
    let mut found: BTreeMap<String, ControlPlanes> = BTreeMap::new();
    for host in hosts.iter().filter(|host| host.role == Some(MemberRole::ControlPlane)) {
        found.entry(host.cluster.clone()).or_default().members.insert(host.name.clone());
    }
    found
}

/// A rollout that is let run.
pub(super) struct Run<'a> {
    pub(super) plan: &'a RolloutPlan,
    pub(super) observed: Observed,
    /// Hosts that fail.
    pub(super) failing: BTreeSet<String>,
    /// Decisions, as they came.
    pub(super) decisions: Vec<Decision>,
}

impl<'a> Run<'a> {
    pub(super) fn new(plan: &'a RolloutPlan, hosts: &[HostFacts]) -> Self {
        let unreachable =
            hosts.iter().filter_map(|host| Some((host.name.clone(), host.unreachable.clone()?))).collect();
        let observed = Observed {
            control_planes: control_planes(hosts),
            unreachable,
            wishes: Wishes { approved: true, ..Wishes::default() },
            ..Observed::default()
        };
        Self { plan, observed, failing: BTreeSet::new(), decisions: Vec::new() }
    }

    /// Decides once and does it, but for the hosts that begin.
    pub(super) fn decide(&mut self) -> Decision {
        let decision = decide(self.plan, &self.observed);
        for wave in &decision.finished_waves {
            self.observed.finished_waves.insert(wave.clone(), self.observed.now);
        }
        for host in decision.defer.keys() {
            self.observed.phases.insert(host.clone(), Phase::Deferred);
        }
        for host in &decision.start {
            self.observed.phases.insert(host.clone(), Phase::Running);
        }
        for host in &decision.roll_back {
            self.observed.phases.insert(host.clone(), Phase::RollingBack);
        }
        self.decisions.push(decision.clone());
        decision
    }

    /// Hosts under way.
    pub(super) fn under_way(&self) -> Vec<String> {
        let phases = self.observed.phases.iter();
        phases.filter(|(_, phase)| phase.is_under_way()).map(|(host, _)| host.clone()).collect()
    }

    /// Brings a host that is under way to its end.
    pub(super) fn end(&mut self, host: &str) {
        let phase = match self.observed.phases.get(host) {
            Some(Phase::RollingBack) => Phase::RolledBack,
            _ if self.failing.contains(host) => Phase::FailedRolledBack,
            _ => Phase::Updated,
        };
        self.observed.phases.insert(host.to_owned(), phase);
    }
}
