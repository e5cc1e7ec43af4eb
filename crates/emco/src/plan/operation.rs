//! The steps of life-cycle operations, as the engine carries them out.

use std::time::Duration;

use drystone_api::{FailurePolicy, ObjectReference, OperationSpec};
use drystone_appcontext::ContextId;
use drystone_engine::plan::{PlanBuilder, PlanError};

use crate::{
    model::{Entry, Target},
    steps::{
        ChooseClusters, ChooseClustersParameters, ControllerParameters, EventKind, FilterClusters,
        HaltContext, Install, InstallParameters, MakeCluster, MakeClusterParameters, OneContext, PostEvent,
        PostEventParameters, Record, RecordEntry, RecordParameters, TerminateContext, Uninstall,
        UpdateContext, WriteContext, WriteContextParameters,
    },
};

/// What is written down when an operation is through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whose history it is.
    pub target: Target,
    /// The entries.
    pub entries: Vec<Entry>,
    /// The context that carries the status from then on; as before if absent.
    pub status: Option<ContextId>,
}

/// A controller that takes part, with its intent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// The controller.
    pub name: String,
    /// Its intent.
    pub intent: String,
}

/// What is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it is done for.
    pub subject: ObjectReference,
    /// One line for people.
    pub title: String,
    /// What the context is of.
    pub target: Target,
    /// The context.
    pub context: ContextId,
    /// Placement controllers, in the order of their priority.
    pub placement: Vec<Participant>,
    /// Action controllers, in the order of their priority.
    pub action: Vec<Participant>,
    /// What is written down; one after the other.
    pub outcomes: Vec<Outcome>,
}

/// A new context is made, shaped by controllers, and handed to the synchroniser: in the place of `from`, if that is given. `new_cluster`:
/// whether a cluster may be made.
///
/// # Errors
/// When the plan is not valid, which would be a defect here.
pub fn install(
    order: &Order,
    from: Option<(ContextId, ContextId)>,
    new_cluster: bool,
) -> Result<OperationSpec, PlanError> {
    let mut plan = PlanBuilder::new(&order.title, order.subject.clone());
    let Order { target, context, .. } = order;
    let (path, context) = (target.path(), *context);
    let mut last = None;
    if new_cluster {
        let parameters = MakeClusterParameters { path: path.clone() };
        plan.action::<MakeCluster>("cluster", &parameters)
            .title("Make a cluster if none fits")
            .timeout(Duration::from_secs(3_600))
            .max_attempts(3)
            .estimate(Duration::from_secs(60));
        last = Some("cluster".to_owned());
    }
    let write =
        WriteContextParameters { path: path.clone(), context, status: from.map(|(_, status)| status) };
    plan.action::<WriteContext>("context", &write)
        .title("Render the applications and write their context")
        .after_all(last)
        .timeout(Duration::from_secs(900))
        .estimate(Duration::from_secs(2));
    last = Some("context".to_owned());
    if matches!(target, Target::Group(_)) {
        last = shape(&mut plan, order, from.map(|(from, _)| from), last);
    }
    let install = InstallParameters { context, from: from.map(|(from, _)| from) };
    plan.action::<Install>("install", &install)
        .title("Hand the context to the synchroniser")
        .after_all(last)
        .timeout(Duration::from_secs(660))
        .estimate(Duration::from_secs(1));
    let event = if from.is_some() { EventKind::Update } else { EventKind::Instantiate };
    finish(&mut plan, order, "install", event);
    plan.build()
}

/// Placement controllers, the choice of clusters, action controllers.
fn shape(
    plan: &mut PlanBuilder,
    order: &Order,
    from: Option<ContextId>,
    mut last: Option<String>,
) -> Option<String> {
    let context = order.context;
    let parameters = |participant: &Participant| ControllerParameters {
        controller: participant.name.clone(),
        intent: participant.intent.clone(),
        context,
        from,
    };
    for participant in &order.placement {
        let id = format!("filter/{}", participant.name);
        plan.action::<FilterClusters>(&id, &parameters(participant))
            .title(format!("{} says which clusters will do", participant.name))
            .after_all(last)
            .timeout(Duration::from_secs(60))
            .max_attempts(3);
        last = Some(id);
    }
    let choose = ChooseClustersParameters { path: order.target.path(), context };
    plan.action::<ChooseClusters>("choose", &choose).title("Keep one cluster of each group").after_all(last);
    last = Some("choose".to_owned());
    for participant in &order.action {
        let id = format!("action/{}/{}", participant.name, participant.intent);
        plan.action::<UpdateContext>(&id, &parameters(participant))
            .title(format!("{} shapes the context", participant.name))
            .after_all(last)
            .timeout(Duration::from_secs(60))
            .max_attempts(3);
        last = Some(id);
    }
    last
}

/// A context that is there already takes the place of another one.
///
/// # Errors
/// As [`install`].
pub fn restore(order: &Order, from: ContextId) -> Result<OperationSpec, PlanError> {
    let mut plan = PlanBuilder::new(&order.title, order.subject.clone());
    let install = InstallParameters { context: order.context, from: Some(from) };
    plan.action::<Install>("install", &install)
        .title("Hand the context to the synchroniser")
        .timeout(Duration::from_secs(660));
    finish(&mut plan, order, "install", EventKind::Update);
    plan.build()
}

/// A context is removed from its clusters.
///
/// # Errors
/// As [`install`].
pub fn remove(order: &Order) -> Result<OperationSpec, PlanError> {
    let mut plan = PlanBuilder::new(&order.title, order.subject.clone());
    plan.on_failure(FailurePolicy::Stop);
    let mut before = Vec::new();
    for participant in &order.action {
        let id = format!("terminate/{}", participant.name);
        if before.contains(&id) {
            continue;
        }
        let parameters = ControllerParameters {
            controller: participant.name.clone(),
            intent: participant.intent.clone(),
            context: order.context,
            from: None,
        };
        plan.action::<TerminateContext>(&id, &parameters)
            .title(format!("{} hears that the context goes", participant.name))
            .timeout(Duration::from_secs(60))
            .max_attempts(3);
        before.push(id);
    }
    plan.action::<Uninstall>("uninstall", &OneContext { context: order.context })
        .title("Have the synchroniser remove it")
        .after_all(before)
        .timeout(Duration::from_secs(660));
    finish(&mut plan, order, "uninstall", EventKind::Terminate);
    plan.build()
}

/// The synchroniser stops working on a context.
///
/// # Errors
/// As [`install`].
pub fn halt(order: &Order) -> Result<OperationSpec, PlanError> {
    let mut plan = PlanBuilder::new(&order.title, order.subject.clone());
    plan.on_failure(FailurePolicy::Stop);
    plan.action::<HaltContext>("halt", &OneContext { context: order.context })
        .title("Have the synchroniser stop");
    record(&mut plan, order, Some("halt".to_owned()));
    plan.build()
}

/// Only the outcome is written down.
///
/// # Errors
/// As [`install`].
pub fn note(order: &Order) -> Result<OperationSpec, PlanError> {
    let mut plan = PlanBuilder::new(&order.title, order.subject.clone());
    plan.on_failure(FailurePolicy::Stop);
    record(&mut plan, order, None);
    plan.build()
}

fn finish(plan: &mut PlanBuilder, order: &Order, after: &str, event: EventKind) {
    let last = record(plan, order, Some(after.to_owned()));
    let mut names: Vec<String> =
        order.placement.iter().chain(&order.action).map(|participant| participant.name.clone()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let parameters = PostEventParameters { controller: name.clone(), context: order.context, event };
        plan.action::<PostEvent>(format!("event/{name}"), &parameters)
            .title(format!("Tell {name} what has happened"))
            .after_all(last.clone())
            .timeout(Duration::from_secs(30))
            .max_attempts(1);
    }
}

/// Writes the outcomes, one after the other. The id of the last step.
fn record(plan: &mut PlanBuilder, order: &Order, mut last: Option<String>) -> Option<String> {
    for (at, outcome) in order.outcomes.iter().enumerate() {
        let id = format!("record/{}", at + 1);
        let parameters = RecordParameters {
            path: outcome.target.path(),
            entries: outcome.entries.iter().map(RecordEntry::from).collect(),
            status: outcome.status,
        };
        plan.action::<Record>(&id, &parameters)
            .title(format!("Write down what became of {}", outcome.target.name()))
            .after_all(last)
            .max_attempts(20);
        last = Some(id);
    }
    last
}
