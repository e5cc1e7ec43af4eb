//! What happened in a stack.

use http::{Method, StatusCode};
use serde::Deserialize;

use super::{Event, Heat, Repeat, StackRef};
use crate::{OpenStackError, ResourceFailure};

/// Failures that are told.
const MOST_FAILURES: usize = 10;

#[derive(Deserialize)]
struct Events {
    events: Vec<Event>,
}

impl Heat {
    /// What happened in a stack after the event `after`, or from the beginning, in order; at most 1000 events.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn events(&self, stack: &StackRef, after: Option<&str>) -> Result<Vec<Event>, OpenStackError> {
        let mut query = vec![("sort_dir", "asc"), ("limit", "1000")];
        query.extend(after.map(|after| ("marker", after)));
        self.read_events(stack, &query).await
    }

    async fn read_events(
        &self,
        stack: &StackRef,
        query: &[(&str, &str)],
    ) -> Result<Vec<Event>, OpenStackError> {
        let path = ["stacks", &stack.name, &stack.id, "events"];
        let also = [StatusCode::NOT_FOUND];
        let answer = self.send(&Method::GET, &path, query, None, (Repeat::Safe, &also)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        Ok(answer.parse::<Events>()?.events)
    }

    /// What failed in a stack the last time that something was done to it, in those nested in it too: the latest first, each resource
    /// once. Events outlive the resources that a roll-back takes away.
    pub(super) async fn failures(&self, stack: &StackRef) -> Result<Vec<ResourceFailure>, OpenStackError> {
        let query =
            [("resource_status", "FAILED"), ("sort_dir", "desc"), ("limit", "50"), ("nested_depth", "5")];
        let mut failures = chosen(stack, self.read_events(stack, &query).await?);
        if !failures.iter().any(is_cause) {
            // Asked with a depth, Heat says nothing of a stack that has no resources any more. The same is asked without where it names nothing
            // but what was called off.
            for failure in chosen(stack, self.read_events(stack, &query[..3]).await?) {
                if !failures.iter().any(|known| known.resource == failure.resource) {
                    failures.push(failure);
                }
            }
        }
        Ok(failures)
    }
}

/// Whether something failed by itself, and was not called off because something else had.
fn is_cause(failure: &ResourceFailure) -> bool {
    !failure.reason.contains("cancelled")
}

/// Of events that are failures, the latest first, those that say why something failed.
fn chosen(stack: &StackRef, events: Vec<Event>) -> Vec<ResourceFailure> {
    let nested = format!("{}-", stack.name);
    let mut failures: Vec<ResourceFailure> = Vec::new();
    let mut ending: Option<String> = None;
    for Event { resource, status, reason, .. } in events {
        // The stack's own failure only repeats what its resource said. An earlier one is the end of what was done before, unless both are of its
        // creation, of which there is one.
        if resource == stack.name {
            if ending.is_some_and(|later| later != status || status != "CREATE_FAILED") {
                break;
            }
            ending = Some(status);
            continue;
        }
        let known = failures.iter().any(|failure| failure.resource == resource);
        if !known && !resource.starts_with(&nested) && failures.len() < MOST_FAILURES {
            failures.push(ResourceFailure { resource, status, reason });
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_failed_last_is_told() {
        let event = |resource: &str, reason: &str| event(resource, "UPDATE_FAILED", reason);
        let events = vec![
            event("vnf-1", "Resource CREATE failed: no host"),
            event("vnf-1-workers-x7", "no host"),
            event("VDU1", "no host"),
            event("VDU1", "no quota"),
            event("vnf-1", "Resource CREATE failed: before"),
            event("VDU2", "before"),
        ];
        let failures = chosen(&StackRef::new("vnf-1", "7"), events);
        let told: Vec<_> =
            failures.iter().map(|failure| (failure.resource.as_str(), failure.reason.as_str())).collect();
        assert_eq!(told, [("VDU1", "no host")]);
    }

    #[test]
    fn what_was_called_off_does_not_hide_why() {
        let events = vec![
            event("vnf-1", "CREATE_FAILED", "Resource CREATE failed: cancelled"),
            event("workers", "CREATE_FAILED", "resources.workers: Stack CREATE cancelled"),
            event("vnf-1", "CREATE_FAILED", "Resource CREATE failed: no quota"),
            event("storage", "CREATE_FAILED", "no quota"),
        ];
        let failures = chosen(&StackRef::new("vnf-1", "7"), events);
        let told: Vec<_> =
            failures.iter().map(|failure| (failure.resource.as_str(), is_cause(failure))).collect();
        assert_eq!(told, [("workers", false), ("storage", true)]);
    }

    fn event(resource: &str, status: &str, reason: &str) -> Event {
        Event {
            id: String::new(),
            resource: resource.into(),
            status: status.into(),
            reason: reason.into(),
            physical_id: String::new(),
            time: String::new(),
        }
    }
}
