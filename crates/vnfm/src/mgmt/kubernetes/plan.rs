//! Which steps a hook of a Kubernetes cluster consists of. Pure.
//!
//! Nodes are worked on side by side; what must not be is said by dependencies:
//!
//! - the first control plane before all that join;
//! - control planes join one after another, for each is a member of etcd that the others must agree on;
//! - workers join side by side, as soon as the first control plane is there;
//! - the storage server is prepared beside all that, and PersistentVolumes are registered when it and the first control plane are ready;
//! - the cluster is registered as VIM at the end.

use std::time::Duration;

use drystone_api::StepSpec;
use drystone_engine::action::Action;
use drystone_sol003::types::{ApiVersion, LcmOperationType};
use serde_json::Value;

use super::{
    nodes::{NodeRef, Nodes, Role, of_role},
    parameters::Parameters,
    steps,
    task::{Source, Task},
};
use crate::{
    mgmt::HookPlanner,
    model::{Hook, HookPoint, Problem, Situation},
};

/// How long one run of an installer may take: what Tacker gives it, 45 minutes.
const INSTALL_LIMIT: Duration = Duration::from_secs(2700);

/// The driver of Kubernetes clusters.
#[derive(Debug, Clone, Copy, Default)]
pub struct KubernetesDriver;

impl HookPlanner for KubernetesDriver {
    fn steps(&self, hook: Hook, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        let parameters = Parameters::of(situation)?;
        let nodes = Nodes::of(situation, &parameters);
        let mut plan = HookPlan { hook, situation, parameters, nodes, steps: Vec::new() };
        match (hook.operation, hook.point) {
            (LcmOperationType::Instantiate, HookPoint::Start) => plan.check_counts()?,
            (LcmOperationType::Instantiate, HookPoint::End) => {
                plan.check_counts()?;
                plan.cluster();
            }
            (LcmOperationType::Scale | LcmOperationType::ScaleToLevel, point) => plan.scale(point)?,
            (LcmOperationType::Heal, point) => plan.heal(point)?,
            (LcmOperationType::Terminate, HookPoint::Start) => plan.before_termination(),
            (LcmOperationType::Terminate, HookPoint::End) => plan.after_termination(),
            (LcmOperationType::ChangeExtConn, HookPoint::Start) => plan.before_connectivity(),
            (LcmOperationType::ChangeExtConn, HookPoint::End) => plan.changed_connectivity(),
            _ => {}
        }
        Ok(plan.steps)
    }
}

/// A plan in the making.
struct HookPlan<'a> {
    hook: Hook,
    situation: &'a Situation,
    parameters: Parameters,
    nodes: Nodes,
    steps: Vec<StepSpec>,
}

impl HookPlan<'_> {
    fn id(&self, name: &str) -> String {
        format!("{}/{name}", self.hook)
    }

    fn id_of(&self, name: &str, node: &NodeRef) -> String {
        format!("{}/{name}/{}", self.hook, node.name)
    }

    fn task(&self, node: Option<&NodeRef>) -> Task {
        Task {
            source: Source::of(self.situation),
            node: node.cloned(),
            nodes: self.nodes.after.clone(),
            via: of_role(&self.nodes.standing, Role::ControlPlane).cloned().collect(),
            volumes_kept: self.volumes_are_kept(),
            forced: self.situation.parameters.get("terminationType").is_some_and(|kind| kind == "FORCEFUL"),
        }
    }

    /// Adds a step. All of them read the inventory.
    fn add<A: Action<Parameters = Task>>(
        &mut self,
        id: String,
        title: String,
        task: &Task,
        after: Vec<String>,
        (estimate, limit): (u32, Duration),
    ) -> String {
        let inventories = [Some(&self.situation.inventory), self.situation.inventory_before.as_ref()];
        let mut depends_on: Vec<String> =
            inventories.into_iter().flatten().filter(|id| !id.is_empty()).cloned().collect();
        for id in after {
            if !depends_on.contains(&id) {
                depends_on.push(id);
            }
        }
        self.steps.push(StepSpec {
            id: id.clone(),
            action: A::NAME.to_owned(),
            title,
            depends_on,
            // A structure of texts and numbers always becomes JSON.
            parameters: serde_json::to_value(task).unwrap_or(Value::Null),
            timeout_seconds: u32::try_from(limit.as_secs()).unwrap_or(u32::MAX),
            estimate_seconds: estimate,
            ..StepSpec::default()
        });
        id
    }

    fn add_node<A: Action<Parameters = Task>>(
        &mut self,
        name: &str,
        title: &str,
        node: &NodeRef,
        after: Vec<String>,
        cost: (u32, u64),
    ) -> String {
        let task = self.task(Some(node));
        self.add_task::<A>(name, title, node, &task, after, cost)
    }

    fn add_task<A: Action<Parameters = Task>>(
        &mut self,
        name: &str,
        title: &str,
        node: &NodeRef,
        task: &Task,
        after: Vec<String>,
        (estimate, limit): (u32, u64),
    ) -> String {
        let title = format!("{title} {}", node.name);
        self.add::<A>(self.id_of(name, node), title, task, after, (estimate, Duration::from_secs(limit)))
    }

    fn add_cluster<A: Action<Parameters = Task>>(
        &mut self,
        name: &str,
        title: &str,
        task: &Task,
        after: Vec<String>,
        (estimate, limit): (u32, u64),
    ) -> String {
        self.add::<A>(self.id(name), title.to_owned(), task, after, (estimate, Duration::from_secs(limit)))
    }

    fn check_counts(&self) -> Result<(), Problem> {
        let count = |role| of_role(&self.nodes.after, role).count();
        if count(Role::ControlPlane) == 0 {
            let vdu = &self.parameters.masters.vdu;
            return Err(Problem::unprocessable(format!(
                "the cluster would have no control plane (VDU {vdu})"
            )));
        }
        match (&self.parameters.storage, count(Role::Storage)) {
            (None, _) | (Some(_), 1) => Ok(()),
            (Some(storage), count) => Err(Problem::unprocessable(format!(
                "there must be one storage server (VDU {}), not {count}",
                storage.node.vdu
            ))),
        }
    }

    /// As the life cycle decides it: volumes are made anew only if the client says so, or if everything is.
    fn volumes_are_kept(&self) -> bool {
        let name = match self.situation.api_version {
            ApiVersion::V1 => "tacker_extension_heal_include_block_storage",
            ApiVersion::V2 => "all",
        };
        let is_true = |value: &Value| match value {
            Value::Bool(value) => *value,
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            _ => false,
        };
        let given = self.situation.additional_parameters().and_then(|given| given.get(name));
        !self.situation.entire && !given.is_some_and(is_true)
    }

    /// All of the cluster, from machines that have nothing.
    fn cluster(&mut self) {
        let after = self.nodes.after.clone();
        let masters: Vec<NodeRef> = of_role(&after, Role::ControlPlane).cloned().collect();
        let Some((first, others)) = masters.split_first() else { return };
        let prepared: Vec<String> = after.iter().map(|node| self.prepare(node)).collect();
        let begun = self.add_node::<steps::InstallFirst>(
            "install",
            "Install Kubernetes on",
            first,
            vec![self.id_of("prepare", first)],
            (120, INSTALL_LIMIT.as_secs()),
        );
        let mut last = begun.clone();
        let mut joined = vec![begun.clone()];
        for master in others {
            let before = vec![self.id_of("prepare", master), last.clone()];
            last = self.join(master, std::slice::from_ref(first), before);
            joined.push(last.clone());
        }
        let workers: Vec<NodeRef> = of_role(&after, Role::Worker).cloned().collect();
        for worker in &workers {
            let before = vec![self.id_of("prepare", worker), begun.clone()];
            joined.push(self.join(worker, std::slice::from_ref(first), before));
        }
        if self.parameters.helm_script.is_some() {
            for master in &masters {
                let before = vec![self.id_of("prepare", master), self.joined_id(master, first)];
                joined.push(self.add_node::<steps::InstallHelm>(
                    "helm",
                    "Install Helm on",
                    master,
                    before,
                    (10, 300),
                ));
            }
        }
        let with_storage = self.storage(std::slice::from_ref(first), &begun);
        let mut all = [prepared, joined, with_storage].concat();
        all.retain(|id| !id.contains("/prepare/"));
        let task = Task { via: vec![first.clone()], ..self.task(None) };
        let before = [vec![self.id_of("prepare", first)], all].concat();
        self.add_cluster::<steps::RegisterVim>("vim", "Register the cluster as VIM", &task, before, (3, 600));
    }

    fn joined_id(&self, node: &NodeRef, first: &NodeRef) -> String {
        self.id_of(if node == first { "install" } else { "join" }, node)
    }

    fn prepare(&mut self, node: &NodeRef) -> String {
        self.add_node::<steps::PrepareNode>("prepare", "Reach and prepare", node, Vec::new(), (10, 900))
    }

    fn join(&mut self, node: &NodeRef, via: &[NodeRef], before: Vec<String>) -> String {
        let task = Task { via: via.to_vec(), ..self.task(Some(node)) };
        // How the control plane that invites is known is in the outcome of its preparation.
        let mut before = before;
        before.extend(
            via.iter().filter(|node| self.nodes.added.contains(node)).map(|node| self.id_of("prepare", node)),
        );
        self.add_task::<steps::JoinNode>("join", "Join", node, &task, before, (60, INSTALL_LIMIT.as_secs()))
    }

    /// NFS clients on new nodes, and, if it is new, the storage server with its PersistentVolumes. Returns the ids.
    fn storage(&mut self, via: &[NodeRef], cluster: &str) -> Vec<String> {
        if self.parameters.storage.is_none() {
            return Vec::new();
        }
        let added = self.nodes.added.clone();
        let mut ids = Vec::new();
        for node in added.iter().filter(|node| node.role != Role::Storage) {
            let before = vec![self.id_of("prepare", node)];
            ids.push(self.add_node::<steps::InstallNfsClient>(
                "nfs-client",
                "Install the NFS client on",
                node,
                before,
                (15, 1500),
            ));
        }
        let Some(server) = of_role(&added, Role::Storage).next().cloned() else { return ids };
        let before = vec![self.id_of("prepare", &server)];
        let ready = self.add_node::<steps::PrepareStorage>(
            "storage",
            "Prepare volumes and exports on",
            &server,
            before,
            (30, 3600),
        );
        ids.push(ready.clone());
        if !self.parameters.manifests.is_empty() {
            let mut before = vec![ready, self.id_of("prepare", &server)];
            if !cluster.is_empty() {
                before.push(cluster.to_owned());
            }
            ids.push(self.register_volumes(via, before));
        }
        ids
    }

    fn register_volumes(&mut self, via: &[NodeRef], mut before: Vec<String>) -> String {
        before.extend(
            via.iter().filter(|node| self.nodes.added.contains(node)).map(|node| self.id_of("prepare", node)),
        );
        let task = Task { via: via.to_vec(), ..self.task(None) };
        self.add_cluster::<steps::RegisterVolumes>(
            "volumes",
            "Register PersistentVolumes",
            &task,
            before,
            (5, 600),
        )
    }

    fn scale(&mut self, point: HookPoint) -> Result<(), Problem> {
        let changed = self.nodes.added.iter().chain(&self.nodes.leaving);
        for node in changed {
            let what = match node.role {
                Role::Worker => continue,
                Role::ControlPlane => "control planes",
                Role::Storage => "the storage server",
            };
            let why = format!(
                "{what} (VDU {}) cannot be scaled, only workers (VDU {})",
                node.vdu, self.parameters.workers.vdu
            );
            return Err(Problem::unprocessable(why));
        }
        match point {
            HookPoint::Start => {
                for node in self.nodes.leaving.clone() {
                    self.add_node::<steps::RemoveNode>(
                        "remove",
                        "Drain and remove",
                        &node,
                        Vec::new(),
                        (20, 900),
                    );
                }
            }
            HookPoint::End => self.more_nodes(),
            HookPoint::RollbackStart | HookPoint::RollbackEnd => {}
        }
        Ok(())
    }

    /// New nodes for a cluster that works.
    fn more_nodes(&mut self) {
        let via: Vec<NodeRef> = of_role(&self.nodes.standing, Role::ControlPlane).cloned().collect();
        let added = self.nodes.added.clone();
        for node in &added {
            self.prepare(node);
        }
        let mut last: Option<String> = None;
        for node in &added {
            let before = vec![self.id_of("prepare", node)];
            match node.role {
                Role::Storage => {}
                Role::Worker => drop(self.join(node, &via, before)),
                Role::ControlPlane => {
                    let before = before.into_iter().chain(last.take()).collect();
                    last = Some(self.join(node, &via, before));
                    if self.parameters.helm_script.is_some() {
                        let before = vec![self.id_of("prepare", node), self.id_of("join", node)];
                        self.add_node::<steps::InstallHelm>(
                            "helm",
                            "Install Helm on",
                            node,
                            before,
                            (10, 300),
                        );
                    }
                }
            }
        }
        self.storage(&via, "");
        // The others learn of the new ones; of those that leave nothing remains either.
        if !added.is_empty() {
            self.tell_the_others();
        }
    }

    fn tell_the_others(&mut self) {
        for node in self.nodes.standing.clone() {
            self.add_node::<steps::UpdateHosts>(
                "hosts",
                "Tell of the other nodes:",
                &node,
                Vec::new(),
                (3, 300),
            );
        }
    }

    /// Whether nothing of the cluster stays.
    fn is_rebuilt(&self) -> Result<bool, Problem> {
        let standing = |role| of_role(&self.nodes.standing, role).count();
        let leaving = of_role(&self.nodes.leaving, Role::ControlPlane).count();
        if self.situation.entire || (standing(Role::ControlPlane) == 0 && standing(Role::Worker) == 0) {
            return Ok(true);
        }
        if leaving > 0 && standing(Role::ControlPlane) == 0 {
            let why = "no control plane would be left to join the new one to; heal the entire cluster (without vnfcInstanceId)";
            return Err(Problem::conflict(why));
        }
        let total = leaving + standing(Role::ControlPlane);
        if leaving > 1 && leaving > total.saturating_sub(1) / 2 {
            let why = format!(
                "of {total} control planes, {leaving} cannot be healed at once: etcd would lose its majority; heal fewer"
            );
            return Err(Problem::conflict(why));
        }
        Ok(false)
    }

    fn heal(&mut self, point: HookPoint) -> Result<(), Problem> {
        let is_rebuilt = self.is_rebuilt()?;
        match (point, is_rebuilt) {
            (HookPoint::Start, false) => self.before_heal(),
            (HookPoint::End, false) => self.more_nodes(),
            (HookPoint::End, true) => {
                self.check_counts()?;
                // Nothing of it stands, whatever was healed: a storage server that stays is prepared again, which keeps what it has.
                self.nodes.added = self.nodes.after.clone();
                self.cluster();
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes out what is made anew. First of all whatever may refuse.
    fn before_heal(&mut self) {
        let leaving = self.nodes.leaving.clone();
        let mut checked = Vec::new();
        if of_role(&leaving, Role::Storage).next().is_some() && !self.parameters.manifests.is_empty() {
            let task = self.task(None);
            let id = self.add_cluster::<steps::TakeVolumesBack>(
                "volumes",
                "Check that nobody uses the storage, and take PersistentVolumes back",
                &task,
                Vec::new(),
                (5, 600),
            );
            checked.push(id);
        }
        let mut last: Option<String> = None;
        for node in &leaving {
            match node.role {
                Role::Storage => {}
                Role::Worker => {
                    self.add_node::<steps::RemoveNode>(
                        "remove",
                        "Drain and remove",
                        node,
                        checked.clone(),
                        (20, 900),
                    );
                }
                Role::ControlPlane => {
                    let before = checked.iter().cloned().chain(last.take()).collect();
                    last = Some(self.add_node::<steps::RemoveControlPlane>(
                        "remove",
                        "Take out",
                        node,
                        before,
                        (10, 600),
                    ));
                }
            }
        }
    }

    fn before_termination(&mut self) {
        let task = self.task(None);
        self.add_cluster::<steps::CheckDependants>(
            "dependants",
            "Check that no other VNF runs on the cluster",
            &task,
            Vec::new(),
            (1, 60),
        );
    }

    fn after_termination(&mut self) {
        let task = self.task(None);
        self.add_cluster::<steps::ForgetVim>(
            "vim",
            "Take the cluster's registration as VIM back",
            &task,
            Vec::new(),
            (1, 60),
        );
    }

    /// A PersistentVolume cannot follow a server that gets another address while somebody uses it: that is found out before anything moves.
    fn before_connectivity(&mut self) {
        let links = self.situation.parameters.get("extVirtualLinks").and_then(Value::as_array);
        let points = links.into_iter().flatten().filter_map(|link| link.get("extCps")?.as_array()).flatten();
        let moved: Vec<&str> = points.filter_map(|point| point.get("cpdId")?.as_str()).collect();
        let moves = self.parameters.manifests.iter().any(|it| moved.contains(&it.server_cp.as_str()));
        if !moves {
            return;
        }
        let task = self.task(None);
        self.add_cluster::<steps::TakeVolumesBack>(
            "volumes",
            "Check that nobody uses the storage, which moves, and take PersistentVolumes back",
            &task,
            Vec::new(),
            (5, 600),
        );
    }

    /// Nodes of a cluster keep their addresses; the storage server may get another.
    fn changed_connectivity(&mut self) {
        let via: Vec<NodeRef> = of_role(&self.nodes.standing, Role::ControlPlane).cloned().collect();
        let task = self.task(None);
        let checked = self.add_cluster::<steps::CheckAddresses>(
            "addresses",
            "Check the nodes' addresses",
            &task,
            Vec::new(),
            (1, 60),
        );
        for node in self.nodes.standing.clone() {
            self.add_node::<steps::UpdateHosts>(
                "hosts",
                "Tell of the other nodes:",
                &node,
                vec![checked.clone()],
                (3, 300),
            );
        }
        if self.parameters.storage.is_some() && !self.parameters.manifests.is_empty() {
            self.register_volumes(&via, vec![checked]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::{
        mgmt::kubernetes::samples::{places, situation, vnfcs},
        model::Member,
    };

    fn steps(hook: &str, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        KubernetesDriver.steps(Hook::from_name(hook).unwrap(), situation)
    }

    /// A plan as a text: each step with what it waits for, without what is the same everywhere.
    fn shown(steps: &[StepSpec]) -> String {
        let line = |step: &StepSpec| {
            let waits: Vec<&str> = step.depends_on.iter().map(String::as_str).collect();
            let via = step.parameters["via"].as_array().map(Vec::len).unwrap_or_default();
            format!("{} [{}] via {via}\n    after {}\n", step.id, step.action, waits.join(", "))
        };
        steps.iter().map(line).collect()
    }

    fn heal(affected: &[(&str, u32)], masters: u32, workers: u32) -> Situation {
        let all = places(masters, workers);
        let mut situation = situation(LcmOperationType::Heal, &all, &all);
        let healed: Vec<Member> =
            affected.iter().map(|(vdu, index)| Member { vdu: (*vdu).to_owned(), index: *index }).collect();
        situation.affected = vnfcs(&healed);
        situation
    }

    #[test]
    fn plans_of_instantiation() {
        let simple = situation(LcmOperationType::Instantiate, &[], &places(1, 2));
        insta::assert_snapshot!("instantiate_1_2", shown(&steps("instantiate_end", &simple).unwrap()));
        let complex = situation(LcmOperationType::Instantiate, &[], &places(3, 2));
        insta::assert_snapshot!("instantiate_3_2", shown(&steps("instantiate_end", &complex).unwrap()));
        assert_eq!(steps("instantiate_start", &simple).unwrap(), []);
    }

    #[test]
    fn plans_of_scaling() {
        let out = situation(LcmOperationType::Scale, &places(3, 1), &places(3, 3));
        insta::assert_snapshot!("scale_out", shown(&steps("scale_end", &out).unwrap()));
        assert_eq!(steps("scale_start", &out).unwrap(), []);
        let mut inwards = situation(LcmOperationType::Scale, &places(1, 3), &places(1, 1));
        inwards.affected = vnfcs(&[
            Member { vdu: "workerNode".into(), index: 1 },
            Member { vdu: "workerNode".into(), index: 2 },
        ]);
        insta::assert_snapshot!("scale_in", shown(&steps("scale_start", &inwards).unwrap()));
        assert_eq!(steps("scale_end", &inwards).unwrap(), []);
        let masters = situation(LcmOperationType::Scale, &places(1, 1), &places(3, 1));
        let problem = steps("scale_start", &masters).unwrap_err();
        assert!(
            problem.to_string().contains("control planes (VDU masterNode) cannot be scaled"),
            "{problem}"
        );
    }

    #[test]
    fn plans_of_healing() {
        let worker = heal(&[("workerNode", 1)], 1, 2);
        insta::assert_snapshot!("heal_worker_start", shown(&steps("heal_start", &worker).unwrap()));
        insta::assert_snapshot!("heal_worker_end", shown(&steps("heal_end", &worker).unwrap()));
        let master = heal(&[("masterNode", 0)], 3, 1);
        insta::assert_snapshot!("heal_master_start", shown(&steps("heal_start", &master).unwrap()));
        insta::assert_snapshot!("heal_master_end", shown(&steps("heal_end", &master).unwrap()));
        let storage = heal(&[("storage_server", 0)], 1, 2);
        insta::assert_snapshot!("heal_storage_start", shown(&steps("heal_start", &storage).unwrap()));
        insta::assert_snapshot!("heal_storage_end", shown(&steps("heal_end", &storage).unwrap()));
        let mut entire = heal(&[], 3, 2);
        entire.affected = entire.before.clone();
        entire.entire = true;
        assert_eq!(steps("heal_start", &entire).unwrap(), []);
        let again = steps("heal_end", &entire).unwrap();
        let first = situation(LcmOperationType::Instantiate, &[], &places(3, 2));
        let ids = |steps: &[StepSpec]| -> Vec<String> {
            steps.iter().map(|step| step.id.split_once('/').unwrap().1.to_owned()).collect()
        };
        assert_eq!(
            ids(&again),
            ids(&steps("instantiate_end", &first).unwrap()),
            "the entire cluster is made as at first"
        );
        // All servers, one by one: the same, as nothing of the cluster stands.
        entire.entire = false;
        assert_eq!(ids(&steps("heal_end", &entire).unwrap()), ids(&again));
    }

    #[test]
    fn what_would_cost_the_cluster_is_refused() {
        let only = steps("heal_start", &heal(&[("masterNode", 0)], 1, 2)).unwrap_err();
        assert!(only.to_string().contains("heal the entire cluster"), "{only}");
        let majority = steps("heal_start", &heal(&[("masterNode", 0), ("masterNode", 1)], 3, 2)).unwrap_err();
        assert!(majority.to_string().contains("lose its majority"), "{majority}");
        assert!(steps("heal_start", &heal(&[("masterNode", 1)], 2, 2)).is_ok());
        let none = situation(LcmOperationType::Instantiate, &[], &places(0, 2));
        assert!(steps("instantiate_start", &none).unwrap_err().to_string().contains("no control plane"));
    }

    #[test]
    fn plans_of_ends_and_changes() {
        let all = places(1, 1);
        let mut end = situation(LcmOperationType::Terminate, &all, &[]);
        end.parameters = json!({"terminationType": "GRACEFUL"});
        insta::assert_snapshot!("terminate_start", shown(&steps("terminate_start", &end).unwrap()));
        insta::assert_snapshot!("terminate_end", shown(&steps("terminate_end", &end).unwrap()));
        let task = |situation: &Situation| -> Task {
            serde_json::from_value(steps("terminate_start", situation).unwrap()[0].parameters.clone())
                .unwrap()
        };
        assert!(!task(&end).forced);
        end.parameters = json!({"terminationType": "FORCEFUL"});
        assert!(task(&end).forced);
        let change = situation(LcmOperationType::ChangeExtConn, &all, &all);
        let start = |point: &str| {
            let mut moving = change.clone();
            moving.parameters = json!({"extVirtualLinks": [
                {"id": "l", "resourceId": "n", "extCps": [{"cpdId": point, "cpConfig": {}}]}]});
            shown(&steps("change_external_connectivity_start", &moving).unwrap())
        };
        assert_eq!(start("workerNode_CP"), "", "the storage stays where it is");
        insta::assert_snapshot!("change_ext_conn_start", start("storage_server_CP"));
        insta::assert_snapshot!(
            "change_ext_conn",
            shown(&steps("change_external_connectivity_end", &change).unwrap())
        );
    }

    #[test]
    fn volumes_are_kept_unless_the_client_wants_new_ones() {
        let kept = |version: ApiVersion, given: Value| {
            let mut situation = heal(&[("storage_server", 0)], 1, 1);
            situation.api_version = version;
            situation.parameters = json!({"additionalParams": given});
            let task: Task =
                serde_json::from_value(steps("heal_start", &situation).unwrap()[0].parameters.clone())
                    .unwrap();
            task.volumes_kept
        };
        assert!(kept(ApiVersion::V1, json!({})) && kept(ApiVersion::V2, json!({})));
        assert!(!kept(ApiVersion::V2, json!({"all": true})));
        assert!(!kept(ApiVersion::V1, json!({"tacker_extension_heal_include_block_storage": "True"})));
    }

    /// What every plan must be, whatever the cluster.
    fn check(steps: &[StepSpec]) {
        let known: BTreeSet<&str> =
            steps.iter().map(|step| step.id.as_str()).chain(["inventory", "inventory-before"]).collect();
        let mut seen: BTreeSet<&str> = ["inventory", "inventory-before"].into();
        for step in steps {
            for before in &step.depends_on {
                assert!(known.contains(before.as_str()), "{} waits for {before}, which is nowhere", step.id);
                assert!(seen.contains(before.as_str()), "{} waits for {before}, which comes later", step.id);
            }
            assert!(seen.insert(&step.id), "{} is there twice", step.id);
            assert!(!step.parameters.to_string().contains("password"), "{}", step.id);
        }
        let joins: Vec<&StepSpec> =
            steps.iter().filter(|step| step.id.contains("/join/masternode-")).collect();
        let by_id: BTreeMap<&str, &StepSpec> = steps.iter().map(|step| (step.id.as_str(), step)).collect();
        for pair in joins.windows(2) {
            assert!(pair[1].depends_on.contains(&pair[0].id), "control planes join one after another");
        }
        for step in steps.iter().filter(|step| step.id.contains("/join/workernode-")) {
            assert!(
                !step
                    .depends_on
                    .iter()
                    .any(|id| by_id.get(id.as_str()).is_some_and(|s| s.id.contains("/join/")))
            );
        }
    }

    proptest! {
        #[test]
        fn plans_hold_together(masters in 1_u32..6, workers in 0_u32..12, more in 0_u32..12, which in 0_u32..12) {
            check(&steps("instantiate_end", &situation(LcmOperationType::Instantiate, &[], &places(masters, workers))).unwrap());
            let scale = situation(LcmOperationType::Scale, &places(masters, workers), &places(masters, workers + more));
            let out = steps("scale_end", &scale).unwrap();
            check(&out);
            prop_assert_eq!(out.iter().filter(|step| step.id.contains("/join/")).count(), more as usize);
            if which < workers {
                let situation = heal(&[("workerNode", which), ("storage_server", 0)], masters, workers);
                for hook in ["heal_start", "heal_end"] {
                    check(&steps(hook, &situation).unwrap());
                }
            }
        }
    }
}
