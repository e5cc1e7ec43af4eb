//! Making, changing, finding and deleting stacks.

use std::{collections::BTreeMap, time::Duration};

use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Action, Heat, NewStack, Repeat, Stack, StackChange, StackRef, types::RawStack};
use crate::{OpenStackError, transport::Answer};

/// Most pages of a list; Heat's pages have up to 1000 entries.
const MOST_PAGES: usize = 1000;

/// A stack that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Which one.
    pub stack: StackRef,
    /// Whether it was there already: made by an earlier attempt whose answer was lost.
    pub adopted: bool,
}

#[derive(Deserialize)]
struct One {
    stack: RawStack,
}

#[derive(Deserialize)]
struct Several {
    stacks: Vec<RawStack>,
}

#[derive(Deserialize)]
struct Identified {
    stack: Id,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Heat {
    /// Begins to make a stack for an owner. `owner` is kept as a tag: an attempt whose answer was lost is found again by it, so that
    /// however often this is called, there is one stack.
    ///
    /// # Errors
    /// [`OpenStackError::Taken`] if the name is another owner's, [`OpenStackError::BeingDeleted`] if it will be free soon; else
    /// see [`OpenStackError`].
    pub async fn create(&self, stack: &NewStack, owner: &str) -> Result<Created, OpenStackError> {
        let body = new_stack(stack, owner);
        let sent = self.send(&Method::POST, &["stacks"], &[], Some(&body), (Repeat::Unsafe, &[])).await;
        let error = match sent {
            Ok(answer) => {
                let id = answer.parse::<Identified>()?.stack.id;
                return Ok(Created { stack: StackRef::new(&stack.name, id), adopted: false });
            }
            Err(error) => error,
        };
        // It may be there: because it was there before, or because only the answer got lost.
        if !(error.status() == Some(409) || error.is_transient()) {
            return Err(error);
        }
        // If that cannot be found out, what went wrong first says more.
        let Ok(Some(found)) = self.named(&stack.name).await else { return Err(error) };
        match self.stack(&found).await {
            Ok(found) if found.action == Action::Delete => {
                Err(OpenStackError::BeingDeleted { stack: found.reference })
            }
            Ok(found) if found.tags.iter().any(|tag| tag == owner) => {
                Ok(Created { stack: found.reference, adopted: true })
            }
            Ok(found) => Err(OpenStackError::Taken { stack: found.reference, owner: owner.to_owned() }),
            Err(_) => Err(error),
        }
    }

    /// The stack that has this name now.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn find(&self, name: &str) -> Result<Option<Stack>, OpenStackError> {
        let Some(reference) = self.named(name).await? else { return Ok(None) };
        match self.stack(&reference).await {
            Ok(stack) if stack.is_gone() => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            other => other.map(Some),
        }
    }

    /// Which stack a name leads to. For a moment it may be one that is deleted already.
    pub(super) async fn named(&self, name: &str) -> Result<Option<StackRef>, OpenStackError> {
        let also = [StatusCode::NOT_FOUND, StatusCode::FOUND, StatusCode::MOVED_PERMANENTLY];
        let query = [("resolve_outputs", "false")];
        let answer = self.send(&Method::GET, &["stacks", name], &query, None, (Repeat::Safe, &also)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status.is_success() {
            return understood(&answer).map(|stack| Some(stack.reference));
        }
        // Heat leads on to the URL with name and id. Only these two are taken from there: the token goes nowhere else.
        let location = answer.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
        let reference = location.and_then(StackRef::of_url);
        let reference = reference
            .ok_or_else(|| OpenStackError::malformed(&answer.call, "the redirection leads to no stack"))?;
        Ok(Some(reference))
    }

    /// A stack. One that was deleted may be shown for a while, as `DELETE_COMPLETE`.
    ///
    /// # Errors
    /// See [`OpenStackError`]; [`OpenStackError::is_not_found`] if there is none.
    pub async fn stack(&self, stack: &StackRef) -> Result<Stack, OpenStackError> {
        let query = [("resolve_outputs", "false")];
        understood(&self.get(&["stacks", &stack.name, &stack.id], &query).await?)
    }

    /// All stacks that have a tag, without their parameters.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn list(&self, tag: Option<&str>) -> Result<Vec<Stack>, OpenStackError> {
        let mut stacks: Vec<Stack> = Vec::new();
        for _ in 0..MOST_PAGES {
            let marker = stacks.last().map(|stack| stack.reference.id.clone());
            let mut query = vec![("limit", "500")];
            query.extend(tag.map(|tag| ("tags", tag)));
            query.extend(marker.as_deref().map(|marker| ("marker", marker)));
            let answer = self.get(&["stacks"], &query).await?;
            let page = answer.parse::<Several>()?.stacks;
            let Some(last) = page.last() else { return Ok(stacks) };
            if marker.as_deref() == Some(last.id()) {
                break;
            }
            for stack in page {
                stacks.push(
                    Stack::try_from(stack)
                        .map_err(|reason| OpenStackError::malformed(&answer.call, reason))?,
                );
            }
        }
        Err(OpenStackError::malformed("GET stacks", "the pages of the list do not end"))
    }

    /// Begins to change a stack. Doing it again changes nothing more.
    ///
    /// # Errors
    /// See [`OpenStackError`]; 409, which is transient, while something else is done to the stack.
    pub async fn update(
        &self,
        stack: &StackRef,
        change: &StackChange,
        owner: &str,
    ) -> Result<(), OpenStackError> {
        let method = if change.replace { Method::PUT } else { Method::PATCH };
        let body = stack_change(change, owner);
        let path = ["stacks", &stack.name, &stack.id];
        self.send(&method, &path, &[], Some(&body), (Repeat::Safe, &[])).await.map(drop)
    }

    /// Begins to delete a stack. One that is not there counts as deleted.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn delete(&self, stack: &StackRef) -> Result<(), OpenStackError> {
        let path = ["stacks", &stack.name, &stack.id];
        let also = [StatusCode::NOT_FOUND];
        self.send(&Method::DELETE, &path, &[], None, (Repeat::Safe, &also)).await.map(drop)
    }

    /// The template that a stack has, nested ones too: that is where a member of a group has its properties.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn template(&self, stack: &StackRef) -> Result<Value, OpenStackError> {
        self.get(&["stacks", &stack.name, &stack.id, "template"], &[]).await?.parse()
    }

    /// The files that a stack's template names.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn files(&self, stack: &StackRef) -> Result<BTreeMap<String, String>, OpenStackError> {
        self.get(&["stacks", &stack.name, &stack.id, "files"], &[]).await?.parse()
    }
}

fn understood(answer: &Answer) -> Result<Stack, OpenStackError> {
    Stack::try_from(answer.parse::<One>()?.stack)
        .map_err(|reason| OpenStackError::malformed(&answer.call, reason))
}

/// Heat counts in minutes, and 0 would be "for ever".
fn minutes(timeout: Duration) -> u64 {
    timeout.as_secs().div_ceil(60).max(1)
}

fn new_stack(stack: &NewStack, owner: &str) -> Value {
    let mut body = json!({
        "stack_name": stack.name,
        "template": stack.template,
        "parameters": stack.parameters,
        "files": stack.files,
        "tags": owner,
        "timeout_mins": minutes(stack.timeout),
        "disable_rollback": !stack.rollback,
    });
    if let Some(environment) = &stack.environment {
        body["environment"] = json!(environment);
    }
    body
}

fn stack_change(change: &StackChange, owner: &str) -> Value {
    let mut body = Map::new();
    body.insert("parameters".to_owned(), json!(change.parameters));
    body.insert("disable_rollback".to_owned(), json!(!change.rollback));
    // A PUT without tags would take them away.
    body.insert("tags".to_owned(), json!(owner));
    if let Some(template) = &change.template {
        body.insert("template".to_owned(), json!(template));
        body.insert("files".to_owned(), json!(change.files));
    }
    if let Some(environment) = &change.environment {
        body.insert("environment".to_owned(), json!(environment));
    }
    if let Some(timeout) = change.timeout {
        body.insert("timeout_mins".to_owned(), json!(minutes(timeout)));
    }
    Value::Object(body)
}
