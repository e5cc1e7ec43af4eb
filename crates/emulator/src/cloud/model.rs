//! Stacks and their resources as data: what is kept, and what is shown is made of.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// What is being done, or was done last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Action {
    /// Nothing has been done yet.
    #[default]
    Init,
    /// Making.
    Create,
    /// Changing.
    Update,
    /// Removing.
    Delete,
    /// Going back to what was before.
    Rollback,
    /// Looking, or having been told that something is broken.
    Check,
}

/// How far an action is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum Status {
    /// Under way.
    InProgress,
    /// Done.
    #[default]
    Complete,
    /// Failed.
    Failed,
}

/// Action and status as Heat writes them: `CREATE_COMPLETE`.
pub(super) fn state_name(action: Action, status: Status) -> String {
    let action = match action {
        Action::Init => "INIT",
        Action::Create => "CREATE",
        Action::Update => "UPDATE",
        Action::Delete => "DELETE",
        Action::Rollback => "ROLLBACK",
        Action::Check => "CHECK",
    };
    let status = match status {
        Status::InProgress => "IN_PROGRESS",
        Status::Complete => "COMPLETE",
        Status::Failed => "FAILED",
    };
    format!("{action}_{status}")
}

/// What a stack is made from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Inputs {
    /// The template, read.
    pub(super) template: Value,
    /// Files that came with it, by name.
    pub(super) files: BTreeMap<String, String>,
    /// Parameters as they were given.
    pub(super) parameters: Map<String, Value>,
    /// The environment, read.
    pub(super) environment: Map<String, Value>,
}

/// A stack that a user made, with everything inside it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// Id of the stack.
    pub(super) id: Uuid,
    /// Name, unique in its project.
    pub(super) name: String,
    /// Project that it belongs to.
    pub(super) project: Uuid,
    /// Name of the user that made it.
    pub(super) user: String,
    /// What it is made from.
    pub(super) inputs: Inputs,
    /// What it was made from before the change under way, to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Inputs>,
    /// Whether a failure leaves everything as it then is.
    pub(super) disable_rollback: bool,
    /// How long an action may take, in minutes; told, and not kept to.
    pub(super) timeout_minutes: Option<u64>,
    /// Tags.
    #[serde(default)]
    pub(super) tags: Vec<String>,
    /// This stack and those nested in it, by id.
    pub(super) stacks: BTreeMap<Uuid, Stack>,
    /// Resources that are not wanted any more, and still there.
    #[serde(default)]
    pub(super) leaving: Vec<Leaving>,
    /// What happened, the latest last.
    #[serde(default)]
    pub(super) events: Vec<Event>,
    /// Counts the actions; who works for an earlier one stops.
    pub(super) generation: u64,
}

/// A stack, nested or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stack {
    /// Id.
    pub(super) id: Uuid,
    /// Name.
    pub(super) name: String,
    /// The stack that it is nested in, and the resource there that it is.
    #[serde(default)]
    pub(super) parent: Option<(Uuid, String)>,
    /// What its template says of it.
    #[serde(default)]
    pub(super) description: String,
    /// Its parameters as they are shown.
    pub(super) parameters: Map<String, Value>,
    /// What it tells.
    #[serde(default)]
    pub(super) outputs: BTreeMap<String, Output>,
    /// What is being done.
    pub(super) action: Action,
    /// How far that is.
    pub(super) status: Status,
    /// Why.
    pub(super) reason: String,
    /// When it was made.
    pub(super) created: Timestamp,
    /// When it was changed last.
    #[serde(default)]
    pub(super) updated: Option<Timestamp>,
    /// Its resources by name.
    pub(super) resources: BTreeMap<String, Resource>,
}

/// What a stack tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Output {
    /// The value.
    pub(super) value: Value,
    /// What it is.
    pub(super) description: String,
}

/// A resource of a stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Resource {
    /// Its name in the template.
    pub(super) name: String,
    /// Its type.
    pub(super) kind: String,
    /// Id of what it stands for; of the nested stack, if it is one.
    pub(super) physical: Uuid,
    /// What is being done.
    pub(super) action: Action,
    /// How far that is.
    pub(super) status: Status,
    /// Why.
    pub(super) reason: String,
    /// When it was made.
    pub(super) created: Timestamp,
    /// When it was changed last.
    #[serde(default)]
    pub(super) updated: Option<Timestamp>,
    /// Its properties, evaluated.
    pub(super) properties: Value,
    /// Its metadata, evaluated.
    #[serde(default)]
    pub(super) metadata: Value,
    /// What is known of it.
    pub(super) attributes: Value,
    /// Names of the resources that it needs.
    #[serde(default)]
    pub(super) needs: Vec<String>,
    /// How late it comes: after all those of lower levels.
    pub(super) level: u32,
    /// What is still to be done.
    #[serde(default)]
    pub(super) pending: Option<Pending>,
    /// Why it cannot be made, if that is known beforehand.
    #[serde(default)]
    pub(super) doomed: Option<String>,
    /// Whether it is a stack nested in this one.
    #[serde(default)]
    pub(super) nested: bool,
    /// Network interfaces: a port's own, or those of a server.
    #[serde(default)]
    pub(super) nics: Vec<Nic>,
    /// Volumes of a server with the devices that they are.
    #[serde(default)]
    pub(super) volumes: Vec<(Uuid, String)>,
}

/// What is still to be done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Pending {
    /// It is to be made.
    Create,
    /// It is to be changed.
    Update,
    /// It is to be made anew under the same id: its disk starts empty.
    Rebuild,
}

/// A resource that is to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Leaving {
    /// The stack that it is in.
    pub(super) stack: Uuid,
    /// It.
    pub(super) resource: Resource,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Nic {
    /// Id of the port.
    pub(super) port: Uuid,
    /// Id of the network.
    pub(super) network: Uuid,
    /// MAC address.
    pub(super) mac: String,
    /// Addresses.
    pub(super) addresses: Vec<IpAddr>,
}

/// Something that happened to a resource, or to the stack itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Event {
    /// Its id.
    pub(super) id: Uuid,
    /// When.
    pub(super) time: Timestamp,
    /// The stack.
    pub(super) stack: Uuid,
    /// The resource; the stack's own name for what happened to the stack.
    pub(super) resource: String,
    /// Its type.
    pub(super) kind: String,
    /// Id of what it stands for.
    pub(super) physical: Uuid,
    /// The state that was reached.
    pub(super) state: String,
    /// Why.
    pub(super) reason: String,
}

/// Most events that are kept of a stack.
const MOST_EVENTS: usize = 300;

impl Record {
    /// The stack itself.
    pub(super) fn top(&self) -> Option<&Stack> {
        self.stacks.get(&self.id)
    }

    /// Whether something is being done to it.
    pub(super) fn is_busy(&self) -> bool {
        self.top().is_some_and(|stack| stack.status == Status::InProgress)
    }

    /// How deep a stack is nested: 0 for the stack itself.
    pub(super) fn depth(&self, stack: Uuid) -> u32 {
        let mut depth = 0;
        let mut at = self.stacks.get(&stack);
        while let Some((parent, _)) = at.and_then(|stack| stack.parent.as_ref()) {
            depth += 1;
            at = self.stacks.get(parent);
        }
        depth
    }

    /// Every resource in it.
    pub(super) fn resources(&self) -> impl Iterator<Item = (&Stack, &Resource)> {
        self.stacks.values().flat_map(|stack| stack.resources.values().map(move |resource| (stack, resource)))
    }

    /// Writes down that something happened.
    pub(super) fn log(&mut self, event: Event) {
        if self.events.len() >= MOST_EVENTS {
            self.events.remove(0);
        }
        self.events.push(event);
    }

    /// Sets the state of the stack itself, with an event.
    pub(super) fn enter(&mut self, action: Action, status: Status, reason: &str, now: Timestamp) {
        let Some(stack) = self.stacks.get_mut(&self.id) else { return };
        (stack.action, stack.status) = (action, status);
        reason.clone_into(&mut stack.reason);
        if action != Action::Create {
            stack.updated = Some(now);
        }
        let event = Event {
            id: Uuid::new_v4(),
            time: now,
            stack: self.id,
            resource: self.name.clone(),
            kind: "OS::Heat::Stack".to_owned(),
            physical: self.id,
            state: state_name(action, status),
            reason: reason.to_owned(),
        };
        self.log(event);
    }
}

impl Resource {
    /// Whether it failed, or was told to be broken.
    pub(super) fn is_unhealthy(&self) -> bool {
        self.status == Status::Failed
    }

    /// Whether it is to be replaced. A stack inside is, if somebody marked it; else only what failed in it.
    pub(super) fn is_broken(&self) -> bool {
        self.is_unhealthy() && (!self.nested || self.action == Action::Check)
    }

    /// The text of a property.
    pub(super) fn text(&self, property: &str) -> Option<&str> {
        self.properties.get(property).and_then(Value::as_str)
    }
}
