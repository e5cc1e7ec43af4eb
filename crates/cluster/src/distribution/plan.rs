//! Order and parallelism of an installation over SSH. Pure.
//!
//! The first control plane is set up alone. The others join one at a time, so that the members of etcd never change two at once;
//! workers join at the same time. Control planes that leave do so one at a time as well, and before others join: a dead one counts for
//! the majority that every change needs.

use std::time::Duration;

use drystone_api::{
    ClusterMember, CompositionMember, FailurePolicy, MemberRole, ObjectReference, OperationSpec,
};
use drystone_engine::plan::{PlanBuilder, PlanError};

use super::steps::{
    addons::ApplyAddons,
    install::{InstallFirst, JoinHost},
    kubeconfig::FetchKubeconfig,
    parameters::InstallParameters,
    prepare::PrepareHost,
    reset::ResetHost,
};
use crate::{
    plan::{Situation, Timing, role_of},
    steps::{
        access::{AwaitApi, AwaitNode, RemoveNode},
        addresses::LeaseAddresses,
        hosts::{Deprovision, HostParameters, Provision},
        objects::{EnsureZone, ForgetCluster},
    },
};

/// What a plan is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Installation<'a> {
    /// Hosts that are wanted and that are there.
    pub situation: Situation<'a>,
    /// Whether the hosts are composed: isolated, powered on, and given addresses before; powered off after.
    pub composed: bool,
    /// Whether one run on the first control plane does all hosts.
    pub once: bool,
    /// Whether there are manifests to apply.
    pub addons: bool,
    /// How long one run of the installer may take.
    pub limit: Duration,
}

const SECOND: Duration = Duration::from_secs(1);

impl Installation<'_> {
    fn parameters(&self, host: &str, role: MemberRole) -> InstallParameters {
        InstallParameters { host: host.to_owned(), role, ..Default::default() }
    }

    /// A control plane that works and stays, if there is one.
    fn standing(&self) -> Option<String> {
        let works = |host: &str| {
            let is_it = |member: &ClusterMember| {
                member.host == host && member.ready && member.role == MemberRole::ControlPlane
            };
            self.situation.present.iter().any(is_it)
        };
        self.control_planes().map(|member| member.host.clone()).find(|host| works(host))
    }

    fn control_planes(&self) -> impl Iterator<Item = &CompositionMember> {
        self.situation.wanted.iter().filter(|member| role_of(member) == MemberRole::ControlPlane)
    }

    /// Steps that every step on a host comes after, if hosts are composed.
    fn ground(&self) -> Option<String> {
        self.composed.then(|| "addresses".to_owned())
    }
}

/// The operation that brings wanted hosts in and unwanted ones out.
///
/// # Errors
/// [`PlanError`] when the plan would not be valid, which is a mistake of this module.
pub fn converge(installation: &Installation<'_>) -> Result<OperationSpec, PlanError> {
    let situation = &installation.situation;
    let name = format!("{}/{}", situation.subject.namespace, situation.subject.name);
    let title = if situation.present.is_empty() { "Install" } else { "Change" };
    let mut plan = PlanBuilder::new(format!("{title} cluster {name}"), situation.subject.clone());
    // What was installed stays: the next plan goes on from there.
    plan.on_failure(FailurePolicy::Continue).parallelism(64);
    let standing = installation.standing();
    let left = take_out(&mut plan, installation, standing.as_deref());
    if installation.composed {
        compose(&mut plan, installation, &left);
    }
    bring_in(&mut plan, installation, standing.as_deref(), &left);
    plan.build()
}

/// Zone, addresses and power for composed hosts.
fn compose(plan: &mut PlanBuilder, installation: &Installation<'_>, left: &Left) {
    let situation = &installation.situation;
    let hosts: Vec<String> = situation.wanted.iter().map(|member| member.host.clone()).collect();
    plan.action::<EnsureZone>("zone", &EnsureZone::parameters(&hosts))
        .title(format!("Isolate {} hosts in a fabric zone", hosts.len()))
        .after_all(left.last.iter().cloned())
        .estimate(SECOND)
        .timeout(Duration::from_secs(120));
    plan.action::<LeaseAddresses>("addresses", &LeaseAddresses::parameters(&hosts, false))
        .title("Lease addresses")
        .estimate(SECOND)
        .timeout(Duration::from_secs(60));
    for member in situation.arriving() {
        let role = role_of(member);
        let parameters = HostParameters {
            host: member.host.clone(),
            namespace: member.host_namespace.clone(),
            role,
            pool: if role == MemberRole::Worker { member.group.clone() } else { String::new() },
            etcd: None,
        };
        plan.action::<Provision>(format!("provision/{}", member.host), &parameters)
            .title(format!("Power on and boot {}", member.host))
            .after("zone")
            .after("addresses")
            .estimate(situation.timing.boot)
            .timeout(situation.timing.boot_limit)
            .max_attempts(1);
    }
}

/// Steps that others wait for.
#[derive(Debug, Default)]
struct Left {
    /// Control planes that have left etcd.
    control_planes: Vec<String>,
    /// The last step of every host that leaves and was ready.
    last: Vec<String>,
}

fn take_out(plan: &mut PlanBuilder, installation: &Installation<'_>, standing: Option<&str>) -> Left {
    let mut left = Left::default();
    let mut leaving = installation.situation.leaving();
    leaving.sort_by(|a, b| (a.role, &a.host).cmp(&(b.role, &b.host)));
    for member in leaving {
        let last = take_out_one(plan, installation, standing, member, &left);
        if member.role == MemberRole::ControlPlane {
            left.control_planes.push(last.clone());
        }
        if member.ready {
            left.last.push(last);
        }
    }
    left
}

/// Takes one host out; returns the last step.
fn take_out_one(
    plan: &mut PlanBuilder,
    installation: &Installation<'_>,
    standing: Option<&str>,
    member: &ClusterMember,
    left: &Left,
) -> String {
    let host = &member.host;
    let (reset, node) = (format!("reset/{host}"), format!("remove-node/{host}"));
    let is_control_plane = member.role == MemberRole::ControlPlane;
    // A control plane's member of etcd leaves before its node does; a worker's pods leave before its kubelet does.
    let mut steps = Vec::new();
    if !installation.once {
        steps.push(reset.clone());
    }
    if standing.is_some() {
        steps.insert(if is_control_plane { steps.len() } else { 0 }, node.clone());
    }
    let mut before: Option<String> = left.control_planes.last().filter(|_| is_control_plane).cloned();
    for id in &steps {
        let step = if *id == node {
            plan.action::<RemoveNode>(id, &RemoveNode::parameters(host))
                .title(format!("Remove node {host}"))
                .estimate(SECOND)
                .timeout(Duration::from_secs(60))
        } else {
            let parameters = InstallParameters {
                via: standing.unwrap_or_default().to_owned(),
                dead: !member.ready,
                expendable: installation.composed && !is_control_plane,
                ..installation.parameters(host, member.role)
            };
            plan.action::<ResetHost>(id, &parameters)
                .title(format!("Take Kubernetes off {host}"))
                .estimate(Duration::from_secs(20))
                .timeout(installation.limit)
        };
        step.after_all(before.take());
        before = Some(id.clone());
    }
    if installation.composed {
        let id = format!("power-off/{host}");
        plan.action::<Deprovision>(&id, &Deprovision::parameters(host))
            .title(format!("Power off {host}"))
            .after_all(before.take())
            .estimate(Duration::from_secs(3))
            .timeout(Duration::from_secs(600));
        before = Some(id);
    }
    before.unwrap_or_default()
}

fn bring_in(plan: &mut PlanBuilder, installation: &Installation<'_>, standing: Option<&str>, left: &Left) {
    let situation = &installation.situation;
    let arriving = situation.arriving();
    for member in &arriving {
        prepare(plan, installation, member);
    }
    let first = standing
        .map(str::to_owned)
        .or_else(|| installation.control_planes().next().map(|member| member.host.clone()));
    let Some(first) = first else { return };
    let install = format!("install/{first}");
    let installs = standing.is_none() || installation.once;
    if installs {
        let prepared = arriving.iter().filter(|member| installation.once || member.host == first);
        let prepared: Vec<String> = prepared.map(|member| format!("prepare/{}", member.host)).collect();
        plan.action::<InstallFirst>(&install, &installation.parameters(&first, MemberRole::ControlPlane))
            .title(if installation.once {
                format!("Run the installer on {first} for all hosts")
            } else {
                format!("Set the first control plane up on {first}")
            })
            .after_all(prepared)
            .after_all(installation.ground())
            .estimate(Duration::from_secs(90))
            .timeout(installation.limit)
            .max_attempts(3);
    }
    let kubeconfig = installation.parameters(&first, MemberRole::ControlPlane);
    plan.action::<FetchKubeconfig>("kubeconfig", &kubeconfig)
        .title(format!("Fetch the administrator's kubeconfig from {first}"))
        .after_all(installs.then_some(install))
        .after_all(installation.ground())
        .estimate(SECOND)
        .timeout(Duration::from_secs(120));
    plan.action::<AwaitApi>("api", &())
        .title("Wait for the API server")
        .after("kubeconfig")
        .estimate(situation.timing.start)
        .timeout(situation.timing.start_limit);
    if installation.addons {
        plan.action::<ApplyAddons>("addons", &installation.parameters(&first, MemberRole::ControlPlane))
            .title("Apply the add-ons")
            .after("api")
            .after_all(installation.ground())
            .estimate(Duration::from_secs(5))
            .timeout(Duration::from_secs(300));
    }
    let joined = join(plan, installation, &arriving, &first, left);
    await_nodes(plan, installation, &arriving, &first, &joined);
}

fn prepare(plan: &mut PlanBuilder, installation: &Installation<'_>, member: &CompositionMember) {
    let host = &member.host;
    plan.action::<PrepareHost>(format!("prepare/{host}"), &installation.parameters(host, role_of(member)))
        .title(format!("Reach and prepare {host}"))
        .after_all(installation.ground())
        .after_all(installation.composed.then(|| format!("provision/{host}")))
        .estimate(Duration::from_secs(5))
        .timeout(Duration::from_secs(900));
}

/// Steps by which hosts join, by host.
fn join(
    plan: &mut PlanBuilder,
    installation: &Installation<'_>,
    arriving: &[&CompositionMember],
    first: &str,
    left: &Left,
) -> Vec<String> {
    let mut joined = Vec::new();
    if installation.once {
        return joined;
    }
    let mut before: Option<String> = None;
    for member in arriving.iter().filter(|member| member.host != first) {
        let (host, role) = (&member.host, role_of(member));
        let id = format!("join/{host}");
        let parameters = InstallParameters { via: first.to_owned(), ..installation.parameters(host, role) };
        let step = plan
            .action::<JoinHost>(&id, &parameters)
            .title(format!("Let {host} join"))
            .after("api")
            .after(format!("prepare/{host}"))
            .after_all(installation.ground())
            .estimate(Duration::from_secs(40))
            .timeout(installation.limit)
            .max_attempts(3);
        if role == MemberRole::ControlPlane {
            step.after_all(left.control_planes.iter().cloned()).after_all(before.take());
            before = Some(id.clone());
        }
        joined.push(host.clone());
    }
    joined
}

fn await_nodes(
    plan: &mut PlanBuilder,
    installation: &Installation<'_>,
    arriving: &[&CompositionMember],
    first: &str,
    joined: &[String],
) {
    let timing: Timing = installation.situation.timing;
    for member in arriving {
        let host = &member.host;
        let joins = joined.contains(host).then(|| format!("join/{host}"));
        plan.action::<AwaitNode>(format!("node/{host}"), &AwaitNode::parameters(host))
            .title(format!("Wait for node {host}"))
            .after("api")
            .after_all(installation.addons.then(|| "addons".to_owned()))
            .after_all(joins)
            .after_all((installation.once).then(|| format!("install/{first}")))
            .estimate(timing.start)
            .timeout(timing.start_limit)
            .max_attempts(1);
    }
}

/// The operation that takes Kubernetes off hosts that were not composed, and forgets the cluster. With `abandon`, hosts are left alone.
///
/// # Errors
/// As [`converge`].
pub fn dissolve(
    subject: &ObjectReference,
    members: &[ClusterMember],
    abandon: bool,
    limit: Duration,
) -> Result<OperationSpec, PlanError> {
    let mut plan =
        PlanBuilder::new(format!("Delete cluster {}/{}", subject.namespace, subject.name), subject.clone());
    plan.on_failure(FailurePolicy::Continue).parallelism(64);
    let mut last = Vec::new();
    if !abandon {
        let workers = members.iter().filter(|member| member.role == MemberRole::Worker);
        for member in workers {
            last.push(reset(&mut plan, member, limit, &[]));
        }
        // One after the other: each takes its member out of etcd as long as there is a majority.
        let mut before = last.clone();
        let control_planes = members.iter().filter(|member| member.role == MemberRole::ControlPlane);
        for member in control_planes {
            let step = reset(&mut plan, member, limit, &before);
            before = vec![step.clone()];
            last.push(step);
        }
    }
    plan.action::<ForgetCluster>("release", &())
        .title("Forget the cluster")
        .after_all(last)
        .estimate(SECOND)
        .timeout(Duration::from_secs(300));
    plan.build()
}

fn reset(plan: &mut PlanBuilder, member: &ClusterMember, limit: Duration, after: &[String]) -> String {
    let id = format!("reset/{}", member.host);
    let parameters = InstallParameters { host: member.host.clone(), role: member.role, ..Default::default() };
    plan.action::<ResetHost>(&id, &parameters)
        .title(format!("Take Kubernetes off {}", member.host))
        .after_all(after.iter().cloned())
        .estimate(Duration::from_secs(20))
        .timeout(limit);
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CONTROL_PLANE_GROUP;

    fn wanted(control_planes: usize, workers: usize) -> Vec<CompositionMember> {
        let member = |group: &str, host: String| CompositionMember {
            group: group.into(),
            host,
            host_namespace: "drystone-system".into(),
        };
        let first = (1..=control_planes).map(|number| member(CONTROL_PLANE_GROUP, format!("cp{number}")));
        let second = (1..=workers).map(|number| member("train", format!("w{number:02}")));
        first.chain(second).collect()
    }

    fn present(wanted: &[CompositionMember], ready: bool) -> Vec<ClusterMember> {
        let member = |member: &CompositionMember| ClusterMember {
            host: member.host.clone(),
            role: role_of(member),
            ready,
            ..Default::default()
        };
        wanted.iter().map(member).collect()
    }

    fn installation<'a>(wanted: &'a [CompositionMember], present: &'a [ClusterMember]) -> Installation<'a> {
        let subject = ObjectReference {
            kind: "Cluster".into(),
            namespace: "research".into(),
            name: "mlops".into(),
            ..Default::default()
        };
        let situation = Situation { subject, wanted, present, first: &[], timing: Timing::default() };
        Installation {
            situation,
            composed: false,
            once: false,
            addons: false,
            limit: Duration::from_secs(1800),
        }
    }

    /// Every step with what it waits for, a line each.
    fn shown(spec: &OperationSpec) -> String {
        let line = |step: &drystone_api::StepSpec| format!("{} <- {}\n", step.id, step.depends_on.join(" "));
        spec.steps.iter().map(line).collect()
    }

    /// Steps that may run at the same time: each wave has all whose dependencies are in earlier ones.
    fn waves(spec: &OperationSpec) -> Vec<Vec<String>> {
        let mut done: Vec<String> = Vec::new();
        let mut waves = Vec::new();
        while done.len() < spec.steps.len() {
            let ready = |step: &&drystone_api::StepSpec| {
                !done.contains(&step.id) && step.depends_on.iter().all(|id| done.contains(id))
            };
            let wave: Vec<String> = spec.steps.iter().filter(ready).map(|step| step.id.clone()).collect();
            assert!(!wave.is_empty(), "a cycle");
            done.extend(wave.iter().cloned());
            waves.push(wave);
        }
        waves
    }

    #[test]
    fn three_control_planes_and_ten_workers() {
        let wanted = wanted(3, 10);
        let spec = converge(&Installation { addons: true, ..installation(&wanted, &[]) }).expect("valid");
        insta::assert_snapshot!(shown(&spec));
        let waves = waves(&spec);
        let in_wave = |id: &str| waves.iter().position(|wave| wave.iter().any(|step| step == id)).expect(id);
        assert_eq!(waves[0].iter().filter(|id| id.starts_with("prepare/")).count(), 13, "all at once");
        let workers: Vec<usize> = (1..=10).map(|number| in_wave(&format!("join/w{number:02}"))).collect();
        assert!(workers.iter().all(|wave| *wave == workers[0]), "workers join at once: {workers:?}");
        assert_eq!(workers[0], in_wave("join/cp2"), "and with the second control plane");
        assert!(in_wave("join/cp2") < in_wave("join/cp3"), "control planes one at a time");
        assert!(in_wave("install/cp1") < in_wave("join/cp2"));
    }

    #[test]
    fn composed_hosts_are_zoned_and_booted_before() {
        let wanted = wanted(1, 2);
        let spec = converge(&Installation { composed: true, ..installation(&wanted, &[]) }).expect("valid");
        insta::assert_snapshot!(shown(&spec));
    }

    #[test]
    fn one_run_for_all_hosts() {
        let wanted = wanted(3, 2);
        let spec = converge(&Installation { once: true, ..installation(&wanted, &[]) }).expect("valid");
        insta::assert_snapshot!(shown(&spec));
    }

    #[test]
    fn growth_touches_only_the_new_host() {
        let all = wanted(3, 2);
        let now = present(&all[..4], true);
        let spec = converge(&installation(&all, &now)).expect("valid");
        assert_eq!(
            shown(&spec),
            "prepare/w02 <- \nkubeconfig <- \napi <- kubeconfig\njoin/w02 <- api prepare/w02\nnode/w02 <- api join/w02\n"
        );
        let join = spec.steps.iter().find(|step| step.id == "join/w02").expect("there");
        assert_eq!(join.parameters["via"], "cp1");
    }

    #[test]
    fn a_dead_control_plane_is_out_before_another_one_joins() {
        let all = wanted(4, 0);
        let mut now = present(&all[..3], true);
        now[0].ready = false;
        let spec = converge(&installation(&all[1..], &now)).expect("valid");
        insta::assert_snapshot!(shown(&spec));
        let reset = spec.steps.iter().find(|step| step.id == "reset/cp1").expect("there");
        assert_eq!((&reset.parameters["via"], &reset.parameters["dead"]), (&"cp2".into(), &true.into()));
    }

    #[test]
    fn a_worker_leaves() {
        let all = wanted(1, 2);
        let now = present(&all, true);
        let spec = converge(&installation(&all[..2], &now)).expect("valid");
        let expected = "remove-node/w02 <- \nreset/w02 <- remove-node/w02\n";
        assert!(shown(&spec).starts_with(expected), "{}", shown(&spec));
        let composed = Installation { composed: true, ..installation(&all[..2], &now) };
        let spec = converge(&composed).expect("valid");
        assert!(
            shown(&spec).contains("power-off/w02 <- reset/w02\nzone <- power-off/w02\n"),
            "{}",
            shown(&spec)
        );
    }

    #[test]
    fn an_interrupted_installation_goes_on() {
        let wanted = wanted(1, 1);
        let now = present(&wanted, false);
        let again = converge(&installation(&wanted, &now)).expect("valid");
        let new = converge(&installation(&wanted, &[])).expect("valid");
        assert_eq!(shown(&again), shown(&new));
    }

    #[test]
    fn deletion_takes_control_planes_last_and_one_at_a_time() {
        let members = present(&wanted(3, 2), true);
        let subject = ObjectReference { name: "mlops".into(), ..Default::default() };
        let limit = Duration::from_secs(600);
        let spec = dissolve(&subject, &members, false, limit).expect("valid");
        insta::assert_snapshot!(shown(&spec));
        let spec = dissolve(&subject, &members, true, limit).expect("valid");
        assert_eq!(shown(&spec), "release <- \n");
    }
}
