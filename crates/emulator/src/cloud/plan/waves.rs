//! What is to be done next: first what leaves, those that others need last; then what is to be made or changed, those that others need first.

use jiff::Timestamp;
use uuid::Uuid;

use crate::cloud::model::{Action, Event, Pending, Record, Resource, Status, state_name};

/// Something to be done to one resource.
#[derive(Debug, Clone)]
pub(in crate::cloud) enum Task {
    /// It is to be made, changed or made anew.
    Make(Pending, Uuid, Box<Resource>),
    /// It is to be removed.
    Remove(Uuid, Box<Resource>),
}

/// Tasks that need nothing of each other.
pub(in crate::cloud) type Wave = Vec<Task>;

/// The next tasks; none if all is done, or if something failed.
pub(in crate::cloud) fn next(record: &Record) -> Wave {
    let failed_leaving = record.leaving.iter().any(|leaving| {
        leaving.resource.action == Action::Delete && leaving.resource.status == Status::Failed
    });
    if failed_leaving {
        return Wave::new();
    }
    if let Some(highest) = record.leaving.iter().map(|leaving| leaving.resource.level).max() {
        let due = record.leaving.iter().filter(|leaving| leaving.resource.level == highest);
        return due.map(|leaving| Task::Remove(leaving.stack, Box::new(leaving.resource.clone()))).collect();
    }
    let pending = || record.resources().filter(|(_, resource)| resource.pending.is_some());
    if pending().any(|(_, resource)| resource.is_unhealthy()) {
        return Wave::new();
    }
    let Some(lowest) = pending().map(|(_, resource)| resource.level).min() else { return Wave::new() };
    pending()
        .filter(|(_, resource)| resource.level == lowest)
        .filter_map(|(stack, resource)| {
            Some(Task::Make(resource.pending?, stack.id, Box::new(resource.clone())))
        })
        .collect()
}

/// The resource that a task is about, as it is in the record.
fn subject<'a>(record: &'a mut Record, task: &Task) -> Option<&'a mut Resource> {
    match task {
        Task::Make(_, stack, resource) => record.stacks.get_mut(stack)?.resources.get_mut(&resource.name),
        Task::Remove(_, resource) => {
            let found =
                record.leaving.iter_mut().find(|leaving| leaving.resource.physical == resource.physical);
            found.map(|leaving| &mut leaving.resource)
        }
    }
}

/// Writes down that a task is under way (`outcome` absent), done, or why it failed.
pub(in crate::cloud) fn finish(
    record: &mut Record,
    task: &Task,
    outcome: Option<&Result<(), String>>,
    now: Timestamp,
) {
    let (action, stack) = match task {
        Task::Make(Pending::Create, stack, _) => (Action::Create, *stack),
        Task::Make(Pending::Update | Pending::Rebuild, stack, _) => (Action::Update, *stack),
        Task::Remove(stack, _) => (Action::Delete, *stack),
    };
    let (status, reason) = match outcome {
        None => (Status::InProgress, "state changed".to_owned()),
        Some(Ok(())) => (Status::Complete, "state changed".to_owned()),
        Some(Err(reason)) => (Status::Failed, reason.clone()),
    };
    let Some(resource) = subject(record, task) else { return };
    (resource.action, resource.status) = (action, status);
    resource.reason.clone_from(&reason);
    if action != Action::Create {
        resource.updated = Some(now);
    }
    if status == Status::Complete {
        resource.pending = None;
    }
    let event = Event {
        id: Uuid::new_v4(),
        time: now,
        stack,
        resource: resource.name.clone(),
        kind: resource.kind.clone(),
        physical: resource.physical,
        state: state_name(action, status),
        reason,
    };
    let gone = resource.physical;
    record.log(event);
    if matches!((task, status), (Task::Remove(..), Status::Complete)) {
        record.leaving.retain(|leaving| leaving.resource.physical != gone);
    }
}

/// Sets the states of nested stacks, and of the resources that they are, by what is inside; innermost first.
pub(in crate::cloud) fn settle_states(record: &mut Record, action: Action) {
    let over = !record.is_busy();
    let mut nested: Vec<(u32, Uuid)> =
        record.stacks.keys().filter(|id| **id != record.id).map(|id| (record.depth(*id), *id)).collect();
    nested.sort_unstable_by(|one, other| other.cmp(one));
    for (_, id) in nested {
        let Some(stack) = record.stacks.get_mut(&id) else { continue };
        let failed = stack.resources.values().find(|one| one.is_unhealthy());
        let reason =
            failed.map(|one| format!("Resource {} failed: {}", state_action(one.action), one.reason));
        let busy =
            stack.resources.values().any(|one| one.pending.is_some() || one.status == Status::InProgress);
        let status = match (&reason, busy) {
            (Some(_), _) => Status::Failed,
            // What others failed at keeps this from being finished.
            (None, true) if over => Status::Failed,
            (None, true) => Status::InProgress,
            (None, false) => Status::Complete,
        };
        // What was made in an update of the whole was created all the same.
        let made =
            if stack.updated.is_none() && stack.action == Action::Create { Action::Create } else { action };
        let same = stack.status == Status::Complete && status == Status::Complete;
        let action = if same { stack.action } else { made };
        (stack.action, stack.status) = (action, status);
        stack.reason = reason.unwrap_or_else(|| format!("Stack {} {}", state_action(action), told(status)));
        let (reason, parent) = (stack.reason.clone(), stack.parent.clone());
        let Some((parent, name)) = parent else { continue };
        let resource = record.stacks.get_mut(&parent).and_then(|parent| parent.resources.get_mut(&name));
        let Some(resource) = resource else { continue };
        // Whoever marked it wants all of it replaced; that is not undone by what is inside.
        if resource.action == Action::Check && resource.status == Status::Failed {
            continue;
        }
        (resource.action, resource.status) = (action, status);
        resource.reason = if status == Status::Failed { reason } else { "state changed".to_owned() };
    }
}

/// An action in the words of a stack's reason.
pub(in crate::cloud) fn state_action(action: Action) -> &'static str {
    match action {
        Action::Init => "INIT",
        Action::Create => "CREATE",
        Action::Update => "UPDATE",
        Action::Delete => "DELETE",
        Action::Rollback => "ROLLBACK",
        Action::Check => "CHECK",
    }
}

/// A status in the words of a stack's reason.
pub(in crate::cloud) fn told(status: Status) -> &'static str {
    match status {
        Status::InProgress => "started",
        Status::Complete => "completed successfully",
        Status::Failed => "failed",
    }
}
