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

    /// What failed in a stack, in those nested in it too: the latest first, each resource once. Events outlive the resources that a
    /// roll-back takes away.
    pub(super) async fn failures(&self, stack: &StackRef) -> Result<Vec<ResourceFailure>, OpenStackError> {
        let query =
            [("resource_status", "FAILED"), ("sort_dir", "desc"), ("limit", "50"), ("nested_depth", "5")];
        let mut failures: Vec<ResourceFailure> = Vec::new();
        for event in self.read_events(stack, &query).await? {
            let known = failures.iter().any(|failure| failure.resource == event.resource);
            // The stack's own failure only repeats what its resource said.
            if event.resource == stack.name || known || failures.len() >= MOST_FAILURES {
                continue;
            }
            let Event { resource, status, reason, .. } = event;
            failures.push(ResourceFailure { resource, status, reason });
        }
        Ok(failures)
    }
}
