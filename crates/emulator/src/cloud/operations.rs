//! What requests ask for: stacks made, changed and removed, resources marked, policies signalled.

use std::{collections::BTreeMap, sync::Arc};

use http::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Cloud, State,
    hot::{self, kind_of, text_of},
    identity::Caller,
    model::{Action, Event, Inputs, Record, Resource, Status},
    plan::{self, Realized, World, settle_states},
    refusal::Refusal,
};

/// Most stacks of a project.
const MOST_STACKS: usize = 100_000;
/// Most bytes of the files that come with a template.
const MOST_FILE_BYTES: usize = 6 << 20;

/// How a stack is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// What is not said stays (PATCH).
    Merge,
    /// What is not said is as the template presets it (PUT).
    Replace,
}

/// The body of a request that makes or changes a stack.
#[derive(Debug, Default)]
pub(super) struct StackBody {
    pub(super) name: Option<String>,
    pub(super) template: Option<Value>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) parameters: Map<String, Value>,
    pub(super) cleared: Vec<String>,
    pub(super) environment: Map<String, Value>,
    pub(super) disable_rollback: Option<bool>,
    pub(super) timeout_minutes: Option<u64>,
    pub(super) tags: Option<Vec<String>>,
}

impl StackBody {
    /// Reads it.
    ///
    /// # Errors
    /// Something in it has another form than it should.
    pub(super) fn read(body: &Value) -> Result<Self, Refusal> {
        let map = body.as_object().ok_or_else(|| Refusal::bad("the body must be a JSON object"))?;
        let object = |key: &str| match map.get(key) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(inner)) => Ok(inner.clone()),
            Some(other) => Err(Refusal::bad(format!("{key} is {}, but must be a map", kind_of(other)))),
        };
        let template = match map.get("template").filter(|template| !template.is_null()) {
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::String(text)) => Some(hot::parse_text(text)?),
            Some(Value::Object(inner)) => Some(Value::Object(inner.clone())),
            Some(other) => {
                return Err(Refusal::bad(format!(
                    "template is {}, but must be a map or a text",
                    kind_of(other)
                )));
            }
            None if map.get("template_url").is_some_and(Value::is_string) => {
                return Err(Refusal::bad(
                    "template_url is not understood: this cloud fetches nothing; send the template",
                ));
            }
            None => None,
        };
        let mut files = BTreeMap::new();
        for (name, content) in object("files")? {
            files.insert(name, text_of(&content));
        }
        let bytes: usize = files.values().map(String::len).sum();
        if bytes > MOST_FILE_BYTES {
            return Err(Refusal::bad(format!(
                "the files have {bytes} bytes; at most {MOST_FILE_BYTES} are taken"
            )));
        }
        let timeout =
            match map.get("timeout_mins").filter(|value| !value.is_null()) {
                None => None,
                Some(value) => {
                    let minutes = text_of(value).parse::<u64>().ok().filter(|minutes| *minutes > 0);
                    Some(minutes.ok_or_else(|| {
                        Refusal::bad(format!("Only integer is allowed for timeout: {value}"))
                    })?)
                }
            };
        let tags = map.get("tags").map(text_of);
        let cleared =
            map.get("clear_parameters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        Ok(Self {
            name: map.get("stack_name").map(text_of),
            template,
            environment: environment(map, &files)?,
            files,
            parameters: object("parameters")?,
            cleared: cleared.iter().map(text_of).collect(),
            disable_rollback: boolean(map, "disable_rollback")?,
            timeout_minutes: timeout,
            tags: tags.map(|tags| {
                tags.split(',').map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
            }),
        })
    }
}

fn boolean(map: &Map<String, Value>, key: &str) -> Result<Option<bool>, Refusal> {
    let Some(value) = map.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    match text_of(value).to_ascii_lowercase().as_str() {
        "true" => Ok(Some(true)),
        "false" => Ok(Some(false)),
        other => Err(Refusal::bad(format!(
            "Unrecognized value \"{other}\" for \"{key}\", acceptable values are: true, false"
        ))),
    }
}

/// The environment that is sent, with those that it names among the files put under it.
fn environment(
    map: &Map<String, Value>,
    files: &BTreeMap<String, String>,
) -> Result<Map<String, Value>, Refusal> {
    let as_map = |value: Value| match value {
        Value::Object(inner) => Ok(inner),
        Value::Null => Ok(Map::new()),
        other => Err(Refusal::bad(format!("environment is {}, but must be a map", kind_of(&other)))),
    };
    let mut merged = Map::new();
    for name in map.get("environment_files").and_then(Value::as_array).into_iter().flatten() {
        let name = text_of(name);
        let text = files
            .get(&name)
            .ok_or_else(|| Refusal::bad(format!("environment_files: no file {name:?} was sent")))?;
        merge(&mut merged, as_map(hot::parse_text(text)?)?);
    }
    let own = match map.get("environment").cloned().unwrap_or_default() {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => hot::parse_text(&text)?,
        other => other,
    };
    // With files the client has merged them itself already, for clouds that cannot.
    merge(&mut merged, as_map(own)?);
    Ok(merged)
}

/// Puts sections over sections.
fn merge(under: &mut Map<String, Value>, over: Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
            (_, value) => {
                under.insert(key, value);
            }
        }
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.len() <= 255
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    if good {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::BAD_REQUEST,
        "StackValidationFailed",
        format!(
            "Invalid stack name {name} must contain only alphanumeric or \"_-.\" characters, must start with alpha and must be 255 characters or less."
        ),
    ))
}

impl Cloud {
    /// Makes a stack; returns its id.
    pub(super) async fn create(self: &Arc<Self>, caller: &Caller, body: StackBody) -> Result<Uuid, Refusal> {
        let name = body.name.clone().ok_or_else(|| Refusal::bad("Stack name is not specified."))?;
        check_name(&name)?;
        let template = body.template.ok_or_else(|| Refusal::bad("No template specified"))?;
        let inputs = Inputs {
            template,
            files: body.files,
            parameters: body.parameters,
            environment: body.environment,
        };
        let id = Uuid::new_v4();
        {
            let mut state = self.lock();
            let key = (caller.project_id, name.clone());
            if state.names.contains_key(&key) {
                return Err(Refusal::conflict("StackExists", format!("The Stack ({name}) already exists.")));
            }
            if state.records.len() >= MOST_STACKS {
                let message = format!("You have reached the maximum stacks per tenant, {MOST_STACKS}.");
                return Err(Refusal::new(StatusCode::FORBIDDEN, "RequestLimitExceeded", message));
            }
            let mut record = Record {
                id,
                name: name.clone(),
                project: caller.project_id,
                user: caller.user.clone(),
                inputs: Inputs::default(),
                before: None,
                disable_rollback: body.disable_rollback.unwrap_or(true),
                timeout_minutes: body.timeout_minutes,
                tags: body.tags.unwrap_or_default(),
                stacks: BTreeMap::new(),
                leaving: Vec::new(),
                events: Vec::new(),
                generation: 1,
            };
            let realized = self.realize(&mut state, &record, &inputs, BTreeMap::new())?;
            record.inputs = inputs;
            record.stacks = realized.stacks;
            record.enter(Action::Create, Status::InProgress, "Stack CREATE started", super::now());
            settle_states(&mut record, Action::Create);
            state.index(record);
        }
        self.carry_out(id, 1).await?;
        Ok(id)
    }

    /// Plans what a record is to be with other inputs.
    pub(super) fn realize(
        &self,
        state: &mut State,
        record: &Record,
        inputs: &Inputs,
        sizes: BTreeMap<(Uuid, String), u64>,
    ) -> Result<Realized, Refusal> {
        let world = World {
            catalogue: &self.catalogue,
            addresses: &mut state.addresses,
            hosts: &mut state.hosts,
            ids: &mut Uuid::new_v4,
            now: super::now(),
            project: record.project,
            previous: &record.stacks,
            sizes,
        };
        Ok(plan::realize(world, record.id, &record.name, inputs)?)
    }

    /// Changes a stack.
    pub(super) async fn update(
        self: &Arc<Self>,
        id: Uuid,
        body: StackBody,
        manner: Manner,
    ) -> Result<(), Refusal> {
        let generation = {
            let mut state = self.lock();
            let record = idle(&state, id)?;
            let inputs = match manner {
                Manner::Merge => merged(
                    &record.inputs,
                    body.template,
                    body.files,
                    body.parameters,
                    &body.cleared,
                    body.environment,
                ),
                Manner::Replace => Inputs {
                    template: body.template.ok_or_else(|| Refusal::bad("No template specified"))?,
                    files: body.files,
                    parameters: body.parameters,
                    environment: body.environment,
                },
            };
            let generation = self.begin(&mut state, id, inputs, BTreeMap::new())?;
            if let Some(record) = state.records.get_mut(&id) {
                record.disable_rollback = body.disable_rollback.unwrap_or(record.disable_rollback);
                record.timeout_minutes = body.timeout_minutes.or(record.timeout_minutes);
                record.tags = body.tags.unwrap_or_else(|| std::mem::take(&mut record.tags));
            }
            generation
        };
        self.carry_out(id, generation).await
    }

    /// Begins a change; returns the generation of it.
    fn begin(
        &self,
        state: &mut State,
        id: Uuid,
        inputs: Inputs,
        sizes: BTreeMap<(Uuid, String), u64>,
    ) -> Result<u64, Refusal> {
        let Some(mut record) = state.records.remove(&id) else {
            return Err(Refusal::missing("Stack", &id.to_string()));
        };
        let realized = match self.realize(state, &record, &inputs, sizes) {
            Ok(realized) => realized,
            Err(refusal) => {
                state.records.insert(id, record);
                return Err(refusal);
            }
        };
        record.before = Some(std::mem::replace(&mut record.inputs, inputs));
        state.forget_nested(&record);
        replan(&mut record, realized, Action::Update);
        let generation = record.generation;
        state.index(record);
        Ok(generation)
    }

    /// Removes a stack, whatever is being done to it.
    pub(super) async fn delete(self: &Arc<Self>, id: Uuid) -> Result<(), Refusal> {
        let generation = {
            let mut state = self.lock();
            let record =
                state.records.get_mut(&id).ok_or_else(|| Refusal::missing("Stack", &id.to_string()))?;
            let top = record.top();
            if top.is_some_and(|stack| stack.action == Action::Delete && stack.status == Status::InProgress) {
                return Ok(());
            }
            record.generation += 1;
            record.remove_all();
            record.enter(Action::Delete, Status::InProgress, "Stack DELETE started", super::now());
            record.generation
        };
        self.carry_out(id, generation).await
    }

    /// Marks a resource as broken, or as good again.
    pub(super) async fn mark(
        &self,
        stack: Uuid,
        resource: &str,
        unhealthy: bool,
        reason: &str,
    ) -> Result<(), Refusal> {
        let written = {
            let mut state = self.lock();
            let top = state
                .record_of(stack)
                .map(|record| record.id)
                .ok_or_else(|| Refusal::missing("Stack", &stack.to_string()))?;
            idle(&state, top)?;
            let missing = || Refusal::missing("Resource", resource);
            let record = state.records.get_mut(&top).ok_or_else(missing)?;
            let found =
                record.stacks.get_mut(&stack).and_then(|stack| named_mut(&mut stack.resources, resource));
            let found = found.ok_or_else(missing)?;
            let was_marked = found.action == Action::Check && found.status == Status::Failed;
            if unhealthy || was_marked {
                (found.action, found.status) = (Action::Check, Status::of(!unhealthy));
                reason.clone_into(&mut found.reason);
                found.updated = Some(super::now());
            }
            let event = event_of(stack, found);
            record.log(event);
            self.journal.write(top, Some(record))
        };
        written.wait().await.map_err(Refusal::internal)
    }

    /// Carries out a scaling policy.
    pub(super) async fn signal(self: &Arc<Self>, stack: Uuid, resource: &str) -> Result<(), Refusal> {
        let (top, generation) = {
            let mut state = self.lock();
            let record =
                state.record_of(stack).ok_or_else(|| Refusal::missing("Stack", &stack.to_string()))?;
            let top = record.id;
            let record = idle(&state, top)?;
            let resources = record.stacks.get(&stack).map(|stack| &stack.resources);
            let policy = resources.and_then(|resources| named(resources, resource));
            let policy = policy.ok_or_else(|| Refusal::missing("Resource", resource))?;
            if policy.kind != "OS::Heat::ScalingPolicy" {
                let message = format!("Resource {resource} is not able to receive a signal");
                return Err(Refusal::bad(message));
            }
            let group = policy.text("auto_scaling_group_id").and_then(|id| Uuid::parse_str(id).ok());
            let group =
                group.and_then(|id| record.resources().find(|(_, one)| one.nested && one.physical == id));
            let (home, group) = group
                .ok_or_else(|| Refusal::bad(format!("Alarm {resource} could not find scaling group")))?;
            let present = record.stacks.get(&group.physical).map_or(0, |inside| inside.resources.len());
            let size =
                plan::adjusted(&policy.properties, &group.properties, present).map_err(Refusal::bad)?;
            let sizes = BTreeMap::from([((home.id, group.name.clone()), size)]);
            let (policy, inputs) = (policy.clone(), record.inputs.clone());
            let generation = self.begin(&mut state, top, inputs, sizes)?;
            if let Some(record) = state.records.get_mut(&top) {
                let mut event = event_of(stack, &policy);
                "SIGNAL_COMPLETE".clone_into(&mut event.state);
                event.reason = format!("alarm state changed to {}", "alarm");
                record.log(event);
            }
            (top, generation)
        };
        self.carry_out(top, generation).await
    }

    /// Checks a template; returns what is told of it.
    pub(super) fn validate_template(body: &StackBody) -> Result<Value, Refusal> {
        let template = body.template.as_ref().ok_or_else(|| Refusal::bad("No template specified"))?;
        let template = hot::Template::parse(template)?;
        template.order()?;
        for (name, definition) in &template.resources {
            let mapped =
                body.environment.get("resource_registry").and_then(|registry| registry.get(&definition.kind));
            let kind = mapped.and_then(Value::as_str).unwrap_or(&definition.kind);
            if !plan::is_known(kind) && !body.files.contains_key(kind) {
                let message =
                    format!("resources.{name}.type: The Resource Type ({kind}) could not be found.");
                return Err(Refusal::new(StatusCode::BAD_REQUEST, "StackValidationFailed", message));
            }
        }
        let parameters: Map<String, Value> = template
            .parameters
            .iter()
            .map(|(name, parameter)| {
                let kind = match parameter.kind.as_str() {
                    "number" => "Number",
                    "json" => "Json",
                    "comma_delimited_list" => "CommaDelimitedList",
                    "boolean" => "Boolean",
                    _ => "String",
                };
                let told = json!({"Type": kind, "Default": parameter.default, "NoEcho": parameter.hidden.to_string(), "Label": name, "Description": ""});
                (name.clone(), told)
            })
            .collect();
        Ok(
            json!({"Description": template.description, "Parameters": parameters, "ParameterGroups": [], "Environment": body.environment}),
        )
    }
}

/// What a record is made from with something said anew.
fn merged(
    known: &Inputs,
    template: Option<Value>,
    files: BTreeMap<String, String>,
    parameters: Map<String, Value>,
    cleared: &[String],
    environment: Map<String, Value>,
) -> Inputs {
    let mut inputs = known.clone();
    inputs.template = template.unwrap_or(inputs.template);
    inputs.files.extend(files);
    inputs.parameters.retain(|name, _| !cleared.contains(name));
    inputs.parameters.extend(parameters);
    merge(&mut inputs.environment, environment);
    inputs
}

/// The record, if nothing is being done to it.
fn idle(state: &State, id: Uuid) -> Result<&Record, Refusal> {
    let record = state.records.get(&id).ok_or_else(|| Refusal::missing("Stack", &id.to_string()))?;
    match record.top().filter(|stack| stack.status == Status::InProgress) {
        Some(busy) => Err(Refusal::conflict(
            "ActionInProgress",
            format!(
                "Stack {} already has an action ({}) in progress.",
                record.name,
                plan::state_action(busy.action)
            ),
        )),
        None => Ok(record),
    }
}

/// Puts a plan in place of what was there, with what is still to leave from before.
pub(super) fn replan(record: &mut Record, realized: Realized, action: Action) {
    record.stacks = realized.stacks;
    for leaving in &mut record.leaving {
        // Tried again.
        leaving.resource.status = Status::Complete;
    }
    record.leaving.extend(realized.leaving);
    record.generation += 1;
    let reason = format!("Stack {} started", plan::state_action(action));
    record.enter(action, Status::InProgress, &reason, super::now());
    settle_states(record, action);
}

/// A resource by its name, or by the id of what it stands for.
pub(super) fn named<'a>(resources: &'a BTreeMap<String, Resource>, name: &str) -> Option<&'a Resource> {
    let by_id = || {
        let id = Uuid::parse_str(name).ok()?;
        resources.values().find(|resource| resource.physical == id)
    };
    resources.get(name).or_else(by_id)
}

fn named_mut<'a>(resources: &'a mut BTreeMap<String, Resource>, name: &str) -> Option<&'a mut Resource> {
    let name = named(resources, name)?.name.clone();
    resources.get_mut(&name)
}

fn event_of(stack: Uuid, resource: &Resource) -> Event {
    Event {
        id: Uuid::new_v4(),
        time: super::now(),
        stack,
        resource: resource.name.clone(),
        kind: resource.kind.clone(),
        physical: resource.physical,
        state: super::model::state_name(resource.action, resource.status),
        reason: resource.reason.clone(),
    }
}
