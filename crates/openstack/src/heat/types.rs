//! What Heat says, as types.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};

/// A stack by name and id, which together make its URL. Written `NAME/ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "String")]
pub struct StackRef {
    /// Name; unique in a project.
    pub name: String,
    /// Id; unique for ever.
    pub id: String,
}

impl StackRef {
    /// The stack with this name and id.
    pub fn new(name: impl Into<String>, id: impl Into<String>) -> Self {
        Self { name: name.into(), id: id.into() }
    }

    /// The stack that a URL of Heat leads to, or that of a resource below it: `…/stacks/NAME/ID[/…]`.
    pub(crate) fn of_url(url: &str) -> Option<Self> {
        let path = url.split(['?', '#']).next()?;
        let mut segments = path.split('/').skip_while(|segment| *segment != "stacks").skip(1);
        let (name, id) = (segments.next()?, segments.next()?);
        let name = percent_decoded(name)?;
        (!name.is_empty() && !id.is_empty()).then(|| Self::new(name, id))
    }
}

/// Names of stacks are letters, digits, `_`, `-` and `.`; no other character is expected to be encoded.
fn percent_decoded(text: &str) -> Option<String> {
    url::form_urlencoded::parse(text.replace('+', "%2B").as_bytes()).next().map(|(name, _)| name.into_owned())
}

impl fmt::Display for StackRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.id)
    }
}

impl From<StackRef> for String {
    fn from(stack: StackRef) -> Self {
        stack.to_string()
    }
}

impl FromStr for StackRef {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((name, id)) if !name.is_empty() && !id.is_empty() && !id.contains('/') => {
                Ok(Self::new(name, id))
            }
            _ => Err(format!("{text:?} is no stack; it must be NAME/ID")),
        }
    }
}

impl<'de> Deserialize<'de> for StackRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What is being done to a stack or a resource, or was done last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
    /// A failed creation or change is taken back.
    Rollback,
    /// Something else, in Heat's words: `SUSPEND`, `CHECK`.
    Other(String),
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not begun.
    Init,
    /// Under way.
    InProgress,
    /// Done.
    Complete,
    /// It did not work.
    Failed,
}

/// Splits `CREATE_IN_PROGRESS` and the like.
pub(crate) fn split(status: &str) -> Option<(Action, State)> {
    let states =
        [("_IN_PROGRESS", State::InProgress), ("_COMPLETE", State::Complete), ("_FAILED", State::Failed)];
    let (action, state) = states
        .into_iter()
        .chain([("_SCHEDULED", State::Init)])
        .find_map(|(end, state)| Some((status.strip_suffix(end)?, state)))?;
    let action = match action {
        "CREATE" | "INIT" => Action::Create,
        "UPDATE" => Action::Update,
        "DELETE" => Action::Delete,
        "ROLLBACK" => Action::Rollback,
        "" => return None,
        other => Action::Other(other.to_owned()),
    };
    Some((action, state))
}

/// What a stack is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct NewStack {
    /// Name: a letter, then letters, digits, `_`, `-`, `.`.
    pub name: String,
    /// The template, as YAML or JSON.
    pub template: String,
    /// Values of its parameters. Never shown in errors.
    pub parameters: Map<String, Value>,
    /// Files that the template names, by the name that it uses.
    pub files: BTreeMap<String, String>,
    /// An environment (YAML), if there is one.
    pub environment: Option<String>,
    /// Heat gives up after so long; whole minutes.
    pub timeout: Duration,
    /// Whether Heat takes a failed creation back.
    pub rollback: bool,
}

impl Default for NewStack {
    /// A timeout of 20 minutes, no roll-back: what failed can be looked at, and repaired by another attempt.
    fn default() -> Self {
        Self {
            name: String::new(),
            template: String::new(),
            parameters: Map::new(),
            files: BTreeMap::new(),
            environment: None,
            timeout: Duration::from_secs(20 * 60),
            rollback: false,
        }
    }
}

/// How a stack is to be changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StackChange {
    /// The whole new template; without one the stack keeps what it has (not with `replace`).
    pub template: Option<String>,
    /// Parameters. Others keep their values, unless `replace`.
    pub parameters: Map<String, Value>,
    /// Files that the template names; only with a template.
    pub files: BTreeMap<String, String>,
    /// An environment (YAML), if there is one.
    pub environment: Option<String>,
    /// Whether the stack is to be exactly this (PUT), instead of this on top of what it is (PATCH).
    pub replace: bool,
    /// Heat gives up after so long, in whole minutes; as before without.
    pub timeout: Option<Duration>,
    /// Whether Heat takes a failed change back.
    pub rollback: bool,
}

/// A stack as Heat shows it. Parameters are not in `Debug` output.
#[derive(Clone, PartialEq)]
pub struct Stack {
    /// Which one.
    pub reference: StackRef,
    /// `CREATE_COMPLETE` and the like.
    pub status: String,
    /// What was done to it last.
    pub action: Action,
    /// How far that is.
    pub state: State,
    /// Heat's reason for the status.
    pub reason: String,
    /// Values of the parameters as Heat has them: JSON parameters are texts.
    pub parameters: Map<String, Value>,
    /// Whether Heat takes back what fails: then a failure is followed by a roll-back.
    pub rolls_back: bool,
    /// Its tags.
    pub tags: Vec<String>,
    /// When it was made, as Heat writes it.
    pub creation_time: String,
    /// When it was changed last, as Heat writes it.
    pub updated_time: Option<String>,
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack")
            .field("reference", &self.reference)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

impl Stack {
    /// Whether it is one that was deleted, and is only remembered.
    pub fn is_gone(&self) -> bool {
        self.action == Action::Delete && self.state == State::Complete
    }

    /// The value of a JSON parameter: Heat shows it as a text.
    pub fn json_parameter(&self, name: &str) -> Option<Value> {
        match self.parameters.get(name)? {
            Value::String(text) => serde_json::from_str(text).ok(),
            other => Some(other.clone()),
        }
    }
}

/// A stack in Heat's own form.
#[derive(Deserialize)]
pub(super) struct RawStack {
    id: String,
    stack_name: String,
    stack_status: String,
    #[serde(default)]
    stack_status_reason: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    disable_rollback: Option<bool>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    creation_time: Option<String>,
    #[serde(default)]
    updated_time: Option<String>,
}

impl RawStack {
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

impl TryFrom<RawStack> for Stack {
    type Error = String;

    fn try_from(raw: RawStack) -> Result<Self, Self::Error> {
        let (action, state) = split(&raw.stack_status)
            .ok_or_else(|| format!("{:?} is no status of a stack", raw.stack_status))?;
        Ok(Self {
            reference: StackRef::new(raw.stack_name, raw.id),
            status: raw.stack_status,
            action,
            state,
            reason: raw.stack_status_reason.unwrap_or_default(),
            parameters: raw.parameters.unwrap_or_default(),
            rolls_back: raw.disable_rollback == Some(false),
            tags: raw.tags.unwrap_or_default(),
            creation_time: raw.creation_time.unwrap_or_default(),
            updated_time: raw.updated_time,
        })
    }
}

/// A resource of a stack, or of one nested in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Name in its template.
    pub name: String,
    /// Type: `OS::Nova::Server`, or the file of a nested template.
    pub kind: String,
    /// Id of the real thing; empty if there is none yet.
    pub physical_id: String,
    /// `CREATE_COMPLETE` and the like.
    pub status: String,
    /// Heat's reason for the status.
    pub reason: String,
    /// The stack whose template names it.
    pub stack: StackRef,
    /// The stack that it is, if it is one.
    pub nested: Option<StackRef>,
    /// Name of the resource, in the stack above, that its stack is.
    pub parent: Option<String>,
    /// Names of the resources of the same stack that need it.
    pub required_by: Vec<String>,
    /// When it was made, as Heat writes it.
    pub creation_time: String,
    /// What its service says of it; missing where Heat was not asked.
    pub attributes: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    rel: String,
    #[serde(default)]
    href: String,
}

/// A resource in Heat's own form.
#[derive(Deserialize)]
pub(super) struct RawResource {
    resource_name: String,
    #[serde(default)]
    resource_type: String,
    #[serde(default)]
    physical_resource_id: Option<String>,
    #[serde(default)]
    resource_status: String,
    #[serde(default)]
    resource_status_reason: Option<String>,
    #[serde(default)]
    parent_resource: Option<String>,
    #[serde(default)]
    required_by: Option<Vec<String>>,
    #[serde(default)]
    links: Vec<Link>,
    #[serde(default)]
    creation_time: Option<String>,
    #[serde(default)]
    attributes: Option<Map<String, Value>>,
}

impl RawResource {
    /// `asked` is the stack whose resources were asked for: that of a resource whose links do not tell.
    pub(super) fn understood(self, asked: &StackRef) -> Resource {
        let link = |rel: &str| self.links.iter().find(|link| link.rel == rel);
        let stack = link("stack").and_then(|link| StackRef::of_url(&link.href));
        let nested = link("nested").and_then(|link| StackRef::of_url(&link.href));
        Resource {
            stack: stack.unwrap_or_else(|| asked.clone()),
            nested,
            name: self.resource_name,
            kind: self.resource_type,
            physical_id: self.physical_resource_id.unwrap_or_default(),
            status: self.resource_status,
            reason: self.resource_status_reason.unwrap_or_default(),
            parent: self.parent_resource.filter(|name| !name.is_empty()),
            required_by: self.required_by.unwrap_or_default(),
            creation_time: self.creation_time.unwrap_or_default(),
            attributes: self.attributes,
        }
    }
}

/// Something that happened in a stack.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Name of the resource, or of the stack itself.
    #[serde(rename = "resource_name")]
    pub resource: String,
    /// `CREATE_COMPLETE` and the like.
    #[serde(rename = "resource_status", default)]
    pub status: String,
    /// Heat's reason.
    #[serde(rename = "resource_status_reason", default, deserialize_with = "or_empty")]
    pub reason: String,
    /// Id of the real thing, if there is one.
    #[serde(rename = "physical_resource_id", default, deserialize_with = "or_empty")]
    pub physical_id: String,
    /// When, as Heat writes it.
    #[serde(rename = "event_time", default, deserialize_with = "or_empty")]
    pub time: String,
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}
