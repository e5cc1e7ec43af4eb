//! The operation that sets a storage server up, moves it to another host, or takes it apart. Pure.

use std::time::Duration;

use drystone_api::{FailurePolicy, ObjectReference, OperationSpec};
use drystone_engine::plan::{PlanBuilder, PlanError};

use super::steps::{
    ExportDirectories, InstallClient, NodeParameters, PrepareVolumes, RegisterVolumes, ReleaseParameters,
    ReleaseVolumes, UnregisterParameters, UnregisterVolumes,
};

/// Id of the step whose output is the volumes.
pub const VOLUMES: &str = "volumes";

/// What a plan is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Host that it goes to.
    pub host: String,
    /// Address of the host that it was on before, if that was another one.
    pub moved_from: Option<String>,
    /// PersistentVolumes that are registered and are not wanted any more; all of them if it moves.
    pub unwanted: Vec<String>,
    /// Nodes that need an NFS client.
    pub nodes: Vec<String>,
}

const SECOND: Duration = Duration::from_secs(1);

/// The operation that makes a storage server what it should be.
///
/// What would have to be taken away is taken away first, and only if nobody uses it: where a PersistentVolume is cannot be changed, and
/// who has it mounted would lose it.
///
/// # Errors
/// [`PlanError`] when the plan would not be valid, which is a mistake of this module.
pub fn converge(subject: &ObjectReference, change: &Change) -> Result<OperationSpec, PlanError> {
    let title = if change.moved_from.is_some() { "Move" } else { "Set up" };
    let name = format!("{}/{}", subject.namespace, subject.name);
    let mut plan = PlanBuilder::new(format!("{title} storage server {name}"), subject.clone());
    // What was set up stays: the next plan goes on from there.
    plan.on_failure(FailurePolicy::Continue).parallelism(32);
    let mut before = Vec::new();
    if change.moved_from.is_some() || !change.unwanted.is_empty() {
        let parameters = UnregisterParameters {
            names: change.unwanted.clone(),
            servers: change.moved_from.iter().cloned().collect(),
        };
        plan.action::<UnregisterVolumes>("unregister", &parameters)
            .title("Take PersistentVolumes back that nobody uses")
            .estimate(SECOND)
            .timeout(Duration::from_secs(300));
        before.push("unregister".to_owned());
    }
    plan.action::<PrepareVolumes>(VOLUMES, &())
        .title(format!("Mount the drives of {}", change.host))
        .after_all(before)
        .estimate(SECOND * 5)
        .timeout(Duration::from_secs(3600));
    plan.action::<ExportDirectories>("export", &())
        .title(format!("Make {} an NFS server", change.host))
        .after(VOLUMES)
        .estimate(SECOND * 20)
        .timeout(Duration::from_secs(1800));
    let mut ready = vec!["export".to_owned()];
    for node in &change.nodes {
        let id = format!("client/{node}");
        plan.action::<InstallClient>(&id, &NodeParameters { node: node.clone() })
            .title(format!("Install the NFS client on {node}"))
            .estimate(SECOND * 20)
            .timeout(Duration::from_secs(1800));
        ready.push(id);
    }
    plan.action::<RegisterVolumes>("register", &())
        .title("Register PersistentVolumes in the cluster")
        .after_all(ready)
        .estimate(SECOND)
        .timeout(Duration::from_secs(300));
    plan.build()
}

/// The operation that takes a storage server apart. Data stays on the drives. `mounts` is where volumes are mounted, if its host can be
/// reached still.
///
/// # Errors
/// [`PlanError`] when the plan would not be valid, which is a mistake of this module.
pub fn dissolve(
    subject: &ObjectReference,
    registered: &UnregisterParameters,
    mounts: Option<Vec<String>>,
) -> Result<OperationSpec, PlanError> {
    let name = format!("{}/{}", subject.namespace, subject.name);
    let mut plan = PlanBuilder::new(format!("Take storage server {name} apart"), subject.clone());
    plan.on_failure(FailurePolicy::Continue);
    plan.action::<UnregisterVolumes>("unregister", registered)
        .title("Take PersistentVolumes back that nobody uses")
        .estimate(SECOND)
        .timeout(Duration::from_secs(300));
    if let Some(mounts) = mounts {
        plan.action::<ReleaseVolumes>("release", &ReleaseParameters { mounts })
            .title("End exports and unmount the drives")
            .after("unregister")
            .estimate(SECOND * 5)
            .timeout(Duration::from_secs(600));
    }
    plan.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> ObjectReference {
        ObjectReference {
            namespace: "research".into(),
            name: "data".into(),
            kind: "StorageServer".into(),
            ..Default::default()
        }
    }

    fn outline(plan: &OperationSpec) -> Vec<String> {
        plan.steps.iter().map(|step| format!("{} <- {}", step.id, step.depends_on.join(" "))).collect()
    }

    #[test]
    fn a_new_one_is_set_up_while_nodes_get_their_client() {
        let change = Change { host: "h".into(), nodes: vec!["n1".into(), "n2".into()], ..Change::default() };
        assert_eq!(
            outline(&converge(&subject(), &change).unwrap()),
            [
                "volumes <- ",
                "export <- volumes",
                "client/n1 <- ",
                "client/n2 <- ",
                "register <- export client/n1 client/n2"
            ]
        );
    }

    #[test]
    fn a_move_begins_with_what_may_not_be_in_use() {
        let change = Change {
            host: "h2".into(),
            moved_from: Some("10.0.0.1".into()),
            unwanted: vec!["pv1".into()],
            ..Change::default()
        };
        let plan = converge(&subject(), &change).unwrap();
        assert_eq!(
            outline(&plan),
            ["unregister <- ", "volumes <- unregister", "export <- volumes", "register <- export"]
        );
        assert_eq!(plan.steps[0].parameters["servers"][0], "10.0.0.1");
    }

    #[test]
    fn it_is_taken_apart_in_reverse() {
        let registered = UnregisterParameters { names: vec!["pv1".into()], servers: vec!["10.0.0.1".into()] };
        let plan = dissolve(&subject(), &registered, Some(vec!["/volume".into()])).unwrap();
        assert_eq!(outline(&plan), ["unregister <- ", "release <- unregister"]);
        assert_eq!(outline(&dissolve(&subject(), &registered, None).unwrap()), ["unregister <- "]);
    }
}
