//! What to do next about a cluster: the operation that leads from the hosts that are in to the hosts that should be in.
//!
//! Pure. Every step is idempotent, so that a plan made again after a failure finds most of its work done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use drystone_api::{
    ClusterMember, CompositionMember, FailurePolicy, MemberRole, ObjectReference, OperationSpec,
};
use drystone_engine::plan::{PlanBuilder, PlanError};

use crate::{
    model::CONTROL_PLANE_GROUP,
    steps::{
        access::{AwaitApi, AwaitNode, RemoveNode},
        addresses::{LeaseAddresses, ReleaseAddresses},
        hosts::{Deprovision, EtcdParameters, HostParameters, Provision},
        members::{AddMember, PromoteMember, RemoveMember},
        objects::{EnsureZone, ForgetCluster, RemoveZone},
    },
};

/// How long a host may take to be off and empty: one with a disk boots once more, to be cleaned.
const EMPTY_LIMIT: Duration = Duration::from_secs(1800);

/// How long the slow steps are expected to take, and how long they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From power-on to a running operating system.
    pub boot: Duration,
    /// Limit of the same.
    pub boot_limit: Duration,
    /// From a running operating system to a ready node or API server.
    pub start: Duration,
    /// Limit of the same.
    pub start_limit: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(30),
            boot_limit: Duration::from_secs(1800),
            start: Duration::from_secs(5),
            start_limit: Duration::from_secs(300),
        }
    }
}

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation<'a> {
    /// The cluster.
    pub subject: ObjectReference,
    /// Hosts that should be in: the members of the composition.
    pub wanted: &'a [CompositionMember],
    /// Hosts that are in, or were being brought in.
    pub present: &'a [ClusterMember],
    /// Hosts that the control plane was begun with, if it is one of several; empty if it is one.
    pub first: &'a [String],
    /// Expected times.
    pub timing: Timing,
}

/// Role of a composition's member.
pub fn role_of(member: &CompositionMember) -> MemberRole {
    if member.group == CONTROL_PLANE_GROUP { MemberRole::ControlPlane } else { MemberRole::Worker }
}

impl Situation<'_> {
    /// Members that are wanted and not ready yet.
    pub fn arriving(&self) -> Vec<&CompositionMember> {
        let ready = |host: &str| self.present.iter().any(|member| member.host == host && member.ready);
        self.wanted.iter().filter(|member| !ready(&member.host)).collect()
    }

    /// Hosts that are in and not wanted any more.
    pub fn leaving(&self) -> Vec<&ClusterMember> {
        let wanted: BTreeSet<&str> = self.wanted.iter().map(|member| member.host.as_str()).collect();
        self.present.iter().filter(|member| !wanted.contains(member.host.as_str())).collect()
    }

    /// Whether the control plane has several hosts.
    pub fn is_replicated(&self) -> bool {
        !self.first.is_empty()
    }

    fn control_planes(&self) -> impl Iterator<Item = &CompositionMember> {
        self.wanted.iter().filter(|member| role_of(member) == MemberRole::ControlPlane)
    }

    /// Whether enough of the first control planes are left to have a majority, or had one: otherwise there is nothing to join.
    pub fn can_join(&self) -> bool {
        let was_one = |member: &&ClusterMember| member.role == MemberRole::ControlPlane && member.ready;
        let left = self.control_planes().filter(|member| self.first.contains(&member.host)).count();
        self.present.iter().any(|member| was_one(&member)) || left > self.first.len() / 2
    }

    /// A host's place in etcd: beginning together with the first ones, or joining those that are there.
    fn place(&self, member: &CompositionMember) -> Option<EtcdParameters> {
        if !self.is_replicated() || role_of(member) != MemberRole::ControlPlane {
            return None;
        }
        if self.first.contains(&member.host) {
            return Some(EtcdParameters { members: self.first.to_vec(), join: false });
        }
        let there = |other: &&CompositionMember| {
            self.first.contains(&other.host)
                || self.present.iter().any(|present| present.host == other.host && present.ready)
        };
        let others = self.control_planes().filter(there).map(|other| other.host.clone());
        let members = others.chain(std::iter::once(member.host.clone())).collect();
        Some(EtcdParameters { members, join: true })
    }

    /// Whether nothing is to be done.
    pub fn is_settled(&self) -> bool {
        self.arriving().is_empty() && self.leaving().is_empty()
    }
}

/// The operation that brings wanted hosts in and unwanted ones out.
///
/// # Errors
/// [`PlanError`] when the plan would not be valid, which is a mistake of this module.
pub fn converge(situation: &Situation<'_>) -> Result<OperationSpec, PlanError> {
    let name = format!("{}/{}", situation.subject.namespace, situation.subject.name);
    let title = if situation.present.is_empty() { "Create" } else { "Resize" };
    let mut plan = PlanBuilder::new(format!("{title} cluster {name}"), situation.subject.clone());
    // A half-made cluster is kept: the next plan goes on from there, with a replacement for what failed.
    plan.on_failure(FailurePolicy::Continue).parallelism(64);
    let leaving = situation.leaving();
    remove_hosts(&mut plan, &leaving, true);
    let removed = remove_members(&mut plan, situation, &leaving);
    // A node keeps its network until it is off. A host that never became one has nothing to lose, and may never go off.
    let served = leaving.iter().filter(|member| member.ready);
    let off: Vec<String> = served.map(|member| power_off_step(&member.host)).collect();
    let hosts: Vec<String> = situation.wanted.iter().map(|member| member.host.clone()).collect();
    plan.action::<EnsureZone>("zone", &EnsureZone::parameters(&hosts))
        .title(format!("Isolate {} hosts in a fabric zone", hosts.len()))
        .after_all(off)
        .estimate(Duration::from_secs(1))
        .timeout(Duration::from_secs(120));
    // The first hosts keep their addresses: whoever begins must know them all, even those that have been replaced meanwhile.
    let gone = situation.first.iter().filter(|host| !hosts.contains(host));
    let hosts: Vec<String> = hosts.iter().chain(gone).cloned().collect();
    plan.action::<LeaseAddresses>(
        "addresses",
        &LeaseAddresses::parameters(&hosts, situation.is_replicated()),
    )
    .title("Lease addresses")
    .estimate(Duration::from_secs(1))
    .timeout(Duration::from_secs(60));
    let joined = add_members(&mut plan, situation, &removed);
    bring_in(&mut plan, situation, &joined);
    plan.build()
}

/// Takes the members of hosts that leave out of etcd. The dead ones go before new ones come: they count for the majority that every
/// change needs, and a new one would raise it.
fn remove_members(
    plan: &mut PlanBuilder,
    situation: &Situation<'_>,
    leaving: &[&ClusterMember],
) -> Vec<String> {
    let mut removed = Vec::new();
    if !situation.is_replicated() {
        return removed;
    }
    for member in leaving.iter().filter(|member| member.role == MemberRole::ControlPlane) {
        let Ok(address) = member.address.parse() else { continue };
        let id = format!("member-remove/{}", member.host);
        let step = plan
            .action::<RemoveMember>(&id, &RemoveMember::parameters(address))
            .title(format!("Take {} out of etcd", member.host))
            .after("api")
            .estimate(Duration::from_secs(1))
            .timeout(Duration::from_secs(300));
        // One after the other: each waits until etcd can bear it.
        step.after_all(removed.last().cloned());
        removed.push(id);
    }
    removed
}

/// Adds the members of hosts that join, one after the other: the next one comes when the one before has its vote. Returns the last step
/// for each.
fn add_members(
    plan: &mut PlanBuilder,
    situation: &Situation<'_>,
    removed: &[String],
) -> BTreeMap<String, String> {
    let mut joined = BTreeMap::new();
    let mut before: Option<String> = None;
    for member in situation.arriving() {
        if !situation.place(member).is_some_and(|place| place.join) {
            continue;
        }
        let host = &member.host;
        let (add, promote) = (format!("member-add/{host}"), format!("member-promote/{host}"));
        plan.action::<AddMember>(&add, &AddMember::parameters(host))
            .title(format!("Add {host} to etcd without a vote"))
            .after("addresses")
            .after("api")
            .after_all(removed.iter().cloned())
            .after_all(before.take())
            .estimate(Duration::from_secs(1))
            .timeout(Duration::from_secs(300));
        plan.action::<PromoteMember>(&promote, &PromoteMember::parameters(host))
            .title(format!("Give {host} its vote in etcd"))
            .after("addresses")
            .after(add)
            .after(format!("provision/{host}"))
            .estimate(situation.timing.start)
            .timeout(situation.timing.start_limit);
        before = Some(promote.clone());
        joined.insert(host.clone(), promote);
    }
    joined
}

fn bring_in(plan: &mut PlanBuilder, situation: &Situation<'_>, joined: &BTreeMap<String, String>) {
    let timing = situation.timing;
    for member in situation.arriving() {
        let host = &member.host;
        let parameters = HostParameters {
            host: host.clone(),
            namespace: member.host_namespace.clone(),
            role: role_of(member),
            pool: if role_of(member) == MemberRole::Worker { member.group.clone() } else { String::new() },
            etcd: situation.place(member),
        };
        plan.action::<Provision>(format!("provision/{host}"), &parameters)
            .title(format!("Power on and boot {host}"))
            .after("zone")
            .after("addresses")
            .estimate(timing.boot)
            .timeout(timing.boot_limit)
            .max_attempts(1);
    }
    let control_planes: Vec<String> = situation
        .arriving()
        .into_iter()
        .filter(|member| role_of(member) == MemberRole::ControlPlane && !joined.contains_key(&member.host))
        .map(|member| format!("provision/{}", member.host))
        .collect();
    plan.action::<AwaitApi>("api", &())
        .title("Wait for the API server")
        .after("addresses")
        .after_all(control_planes)
        .estimate(timing.start)
        .timeout(timing.start_limit);
    for member in situation.arriving() {
        let host = &member.host;
        plan.action::<AwaitNode>(format!("node/{host}"), &AwaitNode::parameters(host))
            .title(format!("Wait for node {host}"))
            .after(format!("provision/{host}"))
            .after("api")
            .after_all(joined.get(host).cloned())
            .estimate(timing.start)
            .timeout(timing.start_limit)
            .max_attempts(1);
    }
}

fn power_off_step(host: &str) -> String {
    format!("power-off/{host}")
}

/// Takes hosts out; returns the ids of the last steps.
fn remove_hosts(plan: &mut PlanBuilder, leaving: &[&ClusterMember], api_is_up: bool) -> Vec<String> {
    let mut last = Vec::new();
    for member in leaving {
        let host = &member.host;
        let deprovision = power_off_step(host);
        if api_is_up {
            plan.action::<RemoveNode>(format!("remove-node/{host}"), &RemoveNode::parameters(host))
                .title(format!("Remove node {host}"))
                .estimate(Duration::from_secs(1))
                .timeout(Duration::from_secs(60));
        }
        let step = plan
            .action::<Deprovision>(&deprovision, &Deprovision::parameters(host))
            .title(format!("Power off {host}"))
            .estimate(Duration::from_secs(3))
            .timeout(EMPTY_LIMIT);
        if api_is_up {
            step.after(format!("remove-node/{host}"));
        }
        last.push(deprovision);
    }
    last
}

/// The operation that takes a cluster apart and gives everything back.
///
/// # Errors
/// As [`converge`].
pub fn dissolve(
    subject: &ObjectReference,
    present: &[ClusterMember],
    wanted: &[CompositionMember],
) -> Result<OperationSpec, PlanError> {
    let mut plan =
        PlanBuilder::new(format!("Delete cluster {}/{}", subject.namespace, subject.name), subject.clone());
    plan.on_failure(FailurePolicy::Continue).parallelism(64);
    let claimed =
        wanted.iter().map(|member| ClusterMember { host: member.host.clone(), ..Default::default() });
    let mut members: Vec<ClusterMember> = present.iter().cloned().chain(claimed).collect();
    members.sort_by(|a, b| a.host.cmp(&b.host));
    members.dedup_by(|a, b| a.host == b.host);
    let hosts: Vec<&ClusterMember> = members.iter().collect();
    let off = remove_hosts(&mut plan, &hosts, false);
    plan.action::<RemoveZone>("zone", &())
        .title("Remove the fabric zone and its routes")
        .after_all(off)
        .estimate(Duration::from_secs(1))
        .timeout(Duration::from_secs(120));
    plan.action::<ReleaseAddresses>("addresses", &())
        .title("Give addresses back")
        .after("zone")
        .estimate(Duration::from_secs(1))
        .timeout(Duration::from_secs(60));
    plan.action::<ForgetCluster>("release", &())
        .title("Give hosts back to the pools")
        .after("addresses")
        .estimate(Duration::from_secs(1))
        .timeout(Duration::from_secs(300));
    plan.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(group: &str, host: &str) -> CompositionMember {
        CompositionMember { group: group.into(), host: host.into(), host_namespace: "drystone-system".into() }
    }

    fn present(host: &str, ready: bool) -> ClusterMember {
        ClusterMember { host: host.into(), ready, ..Default::default() }
    }

    fn subject() -> ObjectReference {
        ObjectReference {
            kind: "Cluster".into(),
            namespace: "research".into(),
            name: "mlops".into(),
            ..Default::default()
        }
    }

    fn situation<'a>(wanted: &'a [CompositionMember], present: &'a [ClusterMember]) -> Situation<'a> {
        Situation { subject: subject(), wanted, present, first: &[], timing: Timing::default() }
    }

    fn step<'a>(spec: &'a OperationSpec, id: &str) -> &'a drystone_api::StepSpec {
        spec.steps.iter().find(|step| step.id == id).unwrap_or_else(|| panic!("no step {id}"))
    }

    #[test]
    fn a_new_cluster_boots_all_hosts_at_once() {
        let wanted = [wanted("control-plane", "a"), wanted("train", "b"), wanted("train", "c")];
        let spec = converge(&situation(&wanted, &[])).expect("valid");
        assert_eq!(spec.title, "Create cluster research/mlops");
        for host in ["a", "b", "c"] {
            assert_eq!(step(&spec, &format!("provision/{host}")).depends_on, ["zone", "addresses"]);
            assert_eq!(
                step(&spec, &format!("node/{host}")).depends_on,
                [format!("provision/{host}"), "api".into()]
            );
        }
        assert_eq!(step(&spec, "api").depends_on, ["addresses", "provision/a"]);
    }

    #[test]
    fn growth_touches_only_the_new_host() {
        let wanted = [wanted("control-plane", "a"), wanted("train", "b"), wanted("train", "c")];
        let spec = converge(&situation(&wanted, &[present("a", true), present("b", true)])).expect("valid");
        let ids: Vec<&str> = spec.steps.iter().map(|step| step.id.as_str()).collect();
        assert_eq!(ids, ["zone", "addresses", "provision/c", "api", "node/c"]);
    }

    #[test]
    fn a_node_leaves_before_the_zone_changes_and_a_host_that_never_was_one_holds_up_nothing() {
        let wanted = [wanted("control-plane", "a"), wanted("train", "d")];
        let now = [present("a", true), present("b", true), present("c", false)];
        let spec = converge(&situation(&wanted, &now)).expect("valid");
        assert_eq!(step(&spec, "power-off/b").depends_on, ["remove-node/b"]);
        assert_eq!(step(&spec, "power-off/c").depends_on, ["remove-node/c"]);
        assert_eq!(step(&spec, "zone").depends_on, ["power-off/b"]);
    }

    #[test]
    fn deletion_switches_everything_off_first() {
        let spec = dissolve(&subject(), &[present("a", true)], &[wanted("train", "b")]).expect("valid");
        assert_eq!(step(&spec, "zone").depends_on, ["power-off/a", "power-off/b"]);
        assert_eq!(step(&spec, "release").depends_on, ["addresses"]);
    }

    const FIRST: [&str; 3] = ["a", "b", "c"];

    fn three(hosts: &[&str]) -> Vec<CompositionMember> {
        let control_planes = hosts.iter().map(|host| wanted("control-plane", host));
        control_planes.chain([wanted("train", "w")]).collect()
    }

    fn control_plane(host: &str, ready: bool) -> ClusterMember {
        let number = u32::from(host.as_bytes()[0]);
        ClusterMember {
            role: MemberRole::ControlPlane,
            address: format!("10.20.1.{number}"),
            ..present(host, ready)
        }
    }

    /// Every step with what it waits for.
    fn shown(spec: &OperationSpec) -> Vec<String> {
        spec.steps.iter().map(|step| format!("{} <- {}", step.id, step.depends_on.join(" "))).collect()
    }

    fn place(spec: &OperationSpec, host: &str) -> serde_json::Value {
        step(spec, &format!("provision/{host}")).parameters["etcd"].clone()
    }

    #[test]
    fn three_control_planes_begin_together() {
        let (wanted, first) = (three(&FIRST), FIRST.map(str::to_owned));
        let spec = converge(&Situation { first: &first, ..situation(&wanted, &[]) }).expect("valid");
        assert_eq!(
            shown(&spec),
            [
                "zone <- ",
                "addresses <- ",
                "provision/a <- zone addresses",
                "provision/b <- zone addresses",
                "provision/c <- zone addresses",
                "provision/w <- zone addresses",
                "api <- addresses provision/a provision/b provision/c",
                "node/a <- provision/a api",
                "node/b <- provision/b api",
                "node/c <- provision/c api",
                "node/w <- provision/w api",
            ]
        );
        assert_eq!(place(&spec, "b"), serde_json::json!({"members": ["a", "b", "c"], "join": false}));
        assert_eq!(place(&spec, "w"), serde_json::Value::Null);
        assert_eq!(step(&spec, "addresses").parameters["api"], true);
    }

    #[test]
    fn a_lost_control_plane_leaves_etcd_before_another_one_joins() {
        let (wanted, first) = (three(&["a", "c", "d"]), FIRST.map(str::to_owned));
        let now = [
            control_plane("a", true),
            control_plane("b", false),
            control_plane("c", true),
            present("w", true),
        ];
        let spec = converge(&Situation { first: &first, ..situation(&wanted, &now) }).expect("valid");
        assert_eq!(
            shown(&spec),
            [
                "remove-node/b <- ",
                "power-off/b <- remove-node/b",
                "member-remove/b <- api",
                "zone <- ",
                "addresses <- ",
                "member-add/d <- addresses api member-remove/b",
                "member-promote/d <- addresses member-add/d provision/d",
                "provision/d <- zone addresses",
                "api <- addresses",
                "node/d <- provision/d api member-promote/d",
            ]
        );
        assert_eq!(step(&spec, "member-remove/b").parameters["address"], "10.20.1.98");
        assert_eq!(place(&spec, "d"), serde_json::json!({"members": ["a", "c", "d"], "join": true}));
        let addresses = &step(&spec, "addresses").parameters["hosts"];
        assert_eq!(addresses, &serde_json::json!(["a", "c", "d", "w", "b"]), "b's address is kept");
    }

    #[test]
    fn two_lost_control_planes_are_replaced_one_after_the_other() {
        let (wanted, first) = (three(&["a", "d", "e"]), FIRST.map(str::to_owned));
        let now = [
            control_plane("a", true),
            control_plane("b", false),
            control_plane("c", false),
            present("w", true),
        ];
        let spec = converge(&Situation { first: &first, ..situation(&wanted, &now) }).expect("valid");
        assert_eq!(step(&spec, "member-remove/c").depends_on, ["api", "member-remove/b"]);
        let waits = &step(&spec, "member-add/e").depends_on;
        assert_eq!(
            waits,
            &["addresses", "api", "member-remove/b", "member-remove/c", "member-promote/d"]
                .map(str::to_owned)
        );
    }

    #[test]
    fn a_control_plane_that_never_was_begins_anew_when_most_of_it_is_lost() {
        let first = FIRST.map(str::to_owned);
        let can_join = |hosts: &[&str], now: &[ClusterMember]| {
            Situation { first: &first, ..situation(&three(hosts), now) }.can_join()
        };
        assert!(can_join(&["a", "b", "d"], &[]));
        assert!(!can_join(&["a", "d", "e"], &[control_plane("a", false)]));
        assert!(can_join(&["a", "d", "e"], &[control_plane("a", true)]));
    }

    #[test]
    fn nothing_to_do_is_settled() {
        let wanted = [wanted("control-plane", "a")];
        assert!(situation(&wanted, &[present("a", true)]).is_settled());
        assert!(!situation(&wanted, &[present("a", false)]).is_settled());
    }
}
