//! What an operation is to do: decided by the state machines, checked, and planned.

use drystone_api::{
    OperationSpec, SYSTEM_NAMESPACE,
    emco::{
        Cluster, ControllerType, DeploymentIntentGroup, LifecycleAction, LifecycleOperation, LogicalCloud,
        StateEntry,
    },
};
use drystone_appcontext::{ContextId, State as Phase};
use drystone_engine::{harness::add_finalizer, plan::PlanError, reference::reference_to};
use k8s_openapi::jiff::Timestamp;
use kube::Api;

use super::{
    FINALIZER, Failure,
    operations::{Operations, context_of},
};
use crate::{
    logical_cloud,
    model::{CloudPath, Deployment, Entry, GENERIC_PLACEMENT, GroupPath, History, Refusal, State, Target},
    plan::{
        cloud, group, networks,
        operation::{self, Order, Outcome, Participant},
    },
    seams::Enlisted,
    steps::phase_of,
};

/// What an operation is to do.
pub(super) enum Prepared {
    /// It cannot be done.
    Refused(Refusal),
    /// It is so already.
    Nothing,
    /// The steps.
    Plan(Box<OperationSpec>),
}

/// A target as it is now.
struct Standing {
    history: History,
    phase: Option<Phase>,
    /// The context that carries the status.
    carrier: Option<ContextId>,
}

fn planned(plan: Result<OperationSpec, PlanError>) -> Prepared {
    match plan {
        Ok(spec) => Prepared::Plan(Box::new(spec)),
        Err(error) => Prepared::Refused(Refusal::failed(format!("defect in the plan: {error}"))),
    }
}

impl Operations {
    /// What an operation is to do with its targets, which are taken.
    pub(super) async fn prepare(
        &self,
        operation: &LifecycleOperation,
        targets: &[Target],
    ) -> Result<Prepared, Failure> {
        match targets {
            [Target::Group(path), rest @ ..] => {
                let other = rest.iter().find_map(|target| match target {
                    Target::Group(other) => Some(other),
                    _ => None,
                });
                self.of_group(operation, path, other).await
            }
            [Target::Cloud(path), ..] => self.of_cloud(operation, path).await,
            [target @ Target::Networks(_), ..] => self.of_networks(operation, target).await,
            [] => Ok(Prepared::Refused(Refusal::bad("spec.path: nothing is meant"))),
        }
    }

    async fn standing(&self, entries: &[StateEntry], carrier: &str) -> Result<Standing, Failure> {
        let history = History::from(entries);
        let phase = phase_of(&self.dependencies.contexts, &history).await?;
        let carrier = carrier.parse().ok().or_else(|| history.status_context());
        Ok(Standing { history, phase, carrier })
    }

    async fn group_standing(&self, path: &GroupPath) -> Result<Result<Standing, Refusal>, Failure> {
        match self.dependencies.library.group(path) {
            Ok(group) => {
                let status = group.status.clone().unwrap_or_default();
                Ok(Ok(self.standing(&status.state_info, &status.status_context_id).await?))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    async fn of_group(
        &self,
        operation: &LifecycleOperation,
        path: &GroupPath,
        other: Option<&GroupPath>,
    ) -> Result<Prepared, Failure> {
        let Some(ask) = group_ask(operation) else {
            let action = operation.spec.action;
            let refusal =
                Refusal::bad(format!("{action:?} is nothing that is done with deployment intent groups"));
            return Ok(Prepared::Refused(refusal));
        };
        let standing = match self.group_standing(path).await? {
            Ok(standing) => standing,
            Err(refusal) => return Ok(Prepared::Refused(refusal)),
        };
        let mut task = match group::decide(&path.name, &standing.history, standing.phase, ask) {
            Ok(task) => task,
            Err(refusal) => return Ok(Prepared::Refused(refusal)),
        };
        if let (group::Task::Replace { status, .. }, Some(carrier)) = (&mut task, standing.carrier) {
            *status = carrier;
        }
        if let Some(other) = other {
            let taking = match self.group_standing(other).await? {
                Ok(other_standing) => group::decide(
                    &other.name,
                    &other_standing.history,
                    other_standing.phase,
                    group::Ask::MigrateTo,
                ),
                Err(refusal) => Err(refusal),
            };
            if let Err(refusal) = taking {
                return Ok(Prepared::Refused(refusal));
            }
        }
        Ok(self.plan_group(operation, path, other, task))
    }

    fn plan_group(
        &self,
        operation: &LifecycleOperation,
        path: &GroupPath,
        other: Option<&GroupPath>,
        task: group::Task,
    ) -> Prepared {
        let library = &self.dependencies.library;
        let new = context_of(operation);
        let declared = other.unwrap_or(path);
        let now = Timestamp::now();
        let mut order = Order {
            subject: reference_to(operation),
            title: format!("{:?} {}", operation.spec.action, path.name),
            target: Target::Group(declared.clone()),
            context: new,
            placement: Vec::new(),
            action: Vec::new(),
            outcomes: vec![Outcome {
                target: Target::Group(path.clone()),
                entries: group::entries(task, Some(new), now),
                status: None,
            }],
        };
        let needs_documents = matches!(task, group::Task::Install | group::Task::Replace { .. });
        let deployment = match library.deployment(declared) {
            Ok(deployment) => Some(deployment),
            Err(refusal) if needs_documents => return Prepared::Refused(refusal),
            // What is deployed can be removed whatever has become of the documents.
            Err(_) => None,
        };
        if let Some(deployment) = &deployment
            && let Err(refusal) = self.enlist(&mut order, deployment, needs_documents)
        {
            return Prepared::Refused(refusal);
        }
        let may_grow = library.group(declared).is_ok_and(|group| group.spec.new_cluster.is_some());
        match task {
            group::Task::Nothing => Prepared::Nothing,
            group::Task::Note(_) => planned(operation::note(&order)),
            group::Task::Install => {
                order.outcomes[0].status = Some(new);
                planned(operation::install(&order, None, may_grow))
            }
            group::Task::Replace { from, status, .. } => {
                if let Some(other) = other {
                    migrate(&mut order, other, status);
                }
                planned(operation::install(&order, Some((from, status)), may_grow))
            }
            group::Task::Restore { from, to, .. } => {
                order.context = to;
                planned(operation::restore(&order, from))
            }
            group::Task::Remove { context } => {
                order.context = context;
                planned(operation::remove(&order))
            }
            group::Task::Halt { context, .. } => {
                order.context = context;
                planned(operation::halt(&order))
            }
        }
    }

    /// Finds the controllers that intents name, in the order of their priority. Unless they must be there, one that is gone is passed over:
    /// the others hear all the same.
    fn enlist(&self, order: &mut Order, deployment: &Deployment, must_be_there: bool) -> Result<(), Refusal> {
        let mut found: Vec<(Enlisted, &Vec<String>)> = Vec::new();
        for (name, intents) in &deployment.intents {
            if name == GENERIC_PLACEMENT {
                continue;
            }
            let group = &deployment.path.name;
            match self.dependencies.controllers.enlisted(name) {
                Some(enlisted) => found.push((enlisted, intents)),
                None if must_be_there => {
                    let text = format!("Controller {name} not found: an intent of {group} names it");
                    return Err(Refusal::missing(text));
                }
                None => tracing::warn!(
                    group,
                    "{}: controller {name} is gone and does not hear of it",
                    order.title
                ),
            }
        }
        found.sort_by(|(a, _), (b, _)| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        for (enlisted, intents) in found {
            let participants = intents
                .iter()
                .map(|intent| Participant { name: enlisted.name.clone(), intent: intent.clone() });
            match enlisted.kind {
                // One call, whatever the intents: it reads them itself.
                ControllerType::Placement => order.placement.extend(participants.take(1)),
                ControllerType::Action => order.action.extend(participants),
            }
        }
        Ok(())
    }

    async fn of_cloud(&self, operation: &LifecycleOperation, path: &CloudPath) -> Result<Prepared, Failure> {
        let library = &self.dependencies.library;
        let ask = match operation.spec.action {
            LifecycleAction::Instantiate => cloud::Ask::Instantiate,
            LifecycleAction::Update => cloud::Ask::Update,
            LifecycleAction::Terminate => cloud::Ask::Terminate,
            LifecycleAction::Stop => cloud::Ask::Stop,
            other => {
                let refusal = Refusal::bad(format!("{other:?} is nothing that is done with logical clouds"));
                return Ok(Prepared::Refused(refusal));
            }
        };
        let status = match library.cloud(path) {
            Ok(cloud) => cloud.status.clone().unwrap_or_default(),
            Err(refusal) => return Ok(Prepared::Refused(refusal)),
        };
        let standing = self.standing(&status.state_info, &status.status_context_id).await?;
        let task = cloud::decide(&path.name, &standing.history, standing.phase, ask);
        let task = task.and_then(|task| match task {
            cloud::Task::Install | cloud::Task::Replace { .. } => {
                logical_cloud::check(library, path).map(|()| task)
            }
            cloud::Task::Remove { .. } => self.is_free(path).map(|()| task),
            cloud::Task::Halt { .. } => Ok(task),
        });
        let task = match task {
            Ok(task) => task,
            Err(refusal) => return Ok(Prepared::Refused(refusal)),
        };
        let mut order = self.plain_order(operation, Target::Cloud(path.clone()));
        let time = Timestamp::now();
        let entry = |state, context| Entry { state, context: Some(context), revision: 0, time };
        let new = order.context;
        let (entries, carrier) = match task {
            cloud::Task::Install => (vec![entry(State::Instantiated, new)], Some(new)),
            cloud::Task::Replace { from, .. } => {
                (vec![entry(State::Updated, from), entry(State::Instantiated, new)], None)
            }
            cloud::Task::Remove { context } => (vec![entry(State::Terminated, context)], None),
            cloud::Task::Halt { context, state } => (vec![entry(state, context)], None),
        };
        order.outcomes = vec![Outcome { target: order.target.clone(), entries, status: carrier }];
        Ok(match task {
            cloud::Task::Install => planned(operation::install(&order, None, false)),
            cloud::Task::Replace { from, status } => {
                let status = standing.carrier.unwrap_or(status);
                planned(operation::install(&order, Some((from, status)), false))
            }
            cloud::Task::Remove { context } => {
                order.context = context;
                planned(operation::remove(&order))
            }
            cloud::Task::Halt { context, .. } => {
                order.context = context;
                planned(operation::halt(&order))
            }
        })
    }

    /// No deployment may be in a logical cloud that is terminated.
    fn is_free(&self, path: &CloudPath) -> Result<(), Refusal> {
        for group in self.dependencies.library.groups.list() {
            let Some(own) = GroupPath::parse(drystone_api::emco::Document::path(group.as_ref())) else {
                continue;
            };
            let inside = own.project == path.project && group.spec.logical_cloud == path.name;
            let status = group.status.clone().unwrap_or_default();
            if inside && History::from(&status.state_info[..]).state().is_deployed() {
                return Err(Refusal::bad(format!(
                    "logical cloud {} is in use by deployment intent group {}; terminate that first",
                    path.name, own.name
                )));
            }
        }
        Ok(())
    }

    async fn of_networks(
        &self,
        operation: &LifecycleOperation,
        target: &Target,
    ) -> Result<Prepared, Failure> {
        let Target::Networks(name) = target else {
            return Ok(Prepared::Refused(Refusal::bad("only clusters have networks")));
        };
        let ask = match operation.spec.action {
            LifecycleAction::ApplyNetworks => networks::Ask::Apply,
            LifecycleAction::TerminateNetworks => networks::Ask::Terminate,
            LifecycleAction::StopNetworks => networks::Ask::Stop,
            other => {
                let refusal =
                    Refusal::bad(format!("{other:?} is nothing that is done with the networks of a cluster"));
                return Ok(Prepared::Refused(refusal));
            }
        };
        let status = match self.dependencies.library.cluster(name) {
            Ok(cluster) => cluster.status.clone().unwrap_or_default().networks,
            Err(refusal) => return Ok(Prepared::Refused(refusal)),
        };
        let standing = self.standing(&status.state_info, &status.status_context_id).await?;
        let task = match networks::decide(&name.to_string(), &standing.history, standing.phase, ask) {
            Ok(task) => task,
            Err(refusal) => return Ok(Prepared::Refused(refusal)),
        };
        let mut order = self.plain_order(operation, target.clone());
        let time = Timestamp::now();
        let new = order.context;
        let (state, context, carrier) = match task {
            networks::Task::Nothing => return Ok(Prepared::Nothing),
            networks::Task::Install => (State::Applied, new, Some(new)),
            networks::Task::Remove { context } => (State::Terminated, context, None),
            networks::Task::Halt { context, state } => (state, context, None),
        };
        let entries = vec![Entry { state, context: Some(context), revision: 0, time }];
        order.outcomes = vec![Outcome { target: target.clone(), entries, status: carrier }];
        order.context = context;
        Ok(match task {
            networks::Task::Nothing => Prepared::Nothing,
            networks::Task::Install => planned(operation::install(&order, None, false)),
            networks::Task::Remove { .. } => planned(operation::remove(&order)),
            networks::Task::Halt { .. } => planned(operation::halt(&order)),
        })
    }

    fn plain_order(&self, operation: &LifecycleOperation, target: Target) -> Order {
        Order {
            subject: reference_to(operation),
            title: format!("{:?} {}", operation.spec.action, target.name()),
            target,
            context: context_of(operation),
            placement: Vec::new(),
            action: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// From now on the targets do not go without their contexts.
    pub(super) async fn keep_contexts(&self, targets: &[Target]) -> Result<(), Failure> {
        let library = &self.dependencies.library;
        for target in targets {
            match target {
                Target::Group(path) => {
                    if let Ok(group) = library.group(path) {
                        let api: Api<DeploymentIntentGroup> =
                            Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
                        add_finalizer(&api, group.as_ref(), FINALIZER).await?;
                    }
                }
                Target::Cloud(path) => {
                    if let Ok(cloud) = library.cloud(path) {
                        let api: Api<LogicalCloud> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
                        add_finalizer(&api, cloud.as_ref(), FINALIZER).await?;
                    }
                }
                Target::Networks(name) => {
                    if let Ok(cluster) = library.cluster(name) {
                        let api: Api<Cluster> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
                        add_finalizer(&api, cluster.as_ref(), FINALIZER).await?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// The source loses what is deployed, the other group gets it, with the context that carries the status.
fn migrate(order: &mut Order, other: &GroupPath, status: ContextId) {
    let Some(source) = order.outcomes.first_mut() else { return };
    let deployed: Vec<Entry> = source.entries.split_off(source.entries.len().saturating_sub(1));
    let entries = deployed.into_iter().map(|entry| Entry { revision: 1, ..entry }).collect();
    order.outcomes.insert(0, Outcome { target: Target::Group(other.clone()), entries, status: Some(status) });
}

fn group_ask(operation: &LifecycleOperation) -> Option<group::Ask> {
    Some(match operation.spec.action {
        LifecycleAction::Approve => group::Ask::Approve,
        LifecycleAction::Instantiate => group::Ask::Instantiate,
        LifecycleAction::Update => group::Ask::Update,
        LifecycleAction::Migrate => group::Ask::MigrateFrom,
        LifecycleAction::Rollback => {
            let revision = operation.spec.parameters.revision.unwrap_or(0);
            group::Ask::Rollback(u64::try_from(revision).unwrap_or(0))
        }
        LifecycleAction::Terminate => group::Ask::Terminate,
        LifecycleAction::Stop => group::Ask::Stop,
        _ => return None,
    })
}
