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
        let failures = chosen(stack, self.read_events(stack, &query).await?);
        if !failures.is_empty() {
            return Ok(failures);
        }
        // Asked with a depth, Heat says nothing of a stack that has no resources any more.
        Ok(chosen(stack, self.read_events(stack, &query[..3]).await?))
    }
}

/// Of events that are failures, the latest first, those that say why something failed.
fn chosen(stack: &StackRef, events: Vec<Event>) -> Vec<ResourceFailure> {
    let nested = format!("{}-", stack.name);
    let mut failures: Vec<ResourceFailure> = Vec::new();
    let mut endings = 0;
    for Event { resource, status, reason, .. } in events {
        // The stack's own failure only repeats what its resource said. The second one is the end of what was done before.
        if resource == stack.name {
            endings += 1;
            if endings > 1 {
                break;
            }
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
        let event = |resource: &str, reason: &str| Event {
            id: String::new(),
            resource: resource.into(),
            status: "CREATE_FAILED".into(),
            reason: reason.into(),
            physical_id: String::new(),
            time: String::new(),
        };
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
}
