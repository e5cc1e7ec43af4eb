//! What the calls of Heat, and the few of its neighbours that there are, answer.

use std::{sync::Arc, time::Instant};

use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Cloud, State,
    hot::text_of,
    http::{Answer, Asked, Call},
    identity::Caller,
    model::{Record, Resource, Stack, state_name},
    operations::{Manner, StackBody, named},
    plan,
    refusal::Refusal,
};
use crate::site::CloudFaultDocument;

impl Cloud {
    /// Answers a call of somebody who may make it.
    pub(super) async fn call(self: &Arc<Self>, call: Call, asked: Asked) -> Result<Answer, Refusal> {
        match call {
            Call::CreateStack => self.create_stack(&asked).await,
            Call::ReplaceStack => self.update_stack(&asked, Manner::Replace).await,
            Call::MergeStack => self.update_stack(&asked, Manner::Merge).await,
            Call::DeleteStack => {
                let id = self.stack_id(&asked, true)?;
                self.delete(id).await?;
                Ok(Answer::empty(StatusCode::NO_CONTENT))
            }
            Call::MarkResource => self.mark_resource(&asked).await,
            Call::Signal => {
                let id = self.stack_id(&asked, false)?;
                self.signal(id, asked.part(3)).await?;
                Ok(Answer::good(Value::Null))
            }
            Call::Validate => Ok(Answer::good(Self::validate_template(&StackBody::read(&asked.body)?)?)),
            Call::Preview => self.preview(&asked),
            Call::ListStacks => Ok(self.list(&asked)),
            Call::ShowStack
            | Call::Template
            | Call::Files
            | Call::Environment
            | Call::Outputs
            | Call::Output
            | Call::Events => self.of_stack(call, &asked),
            Call::Resources | Call::ShowResource | Call::Metadata | Call::ResourceEvents => {
                self.of_resources(call, &asked)
            }
            Call::ShowFaults | Call::SetFault | Call::ClearFaults => self.of_faults(call, &asked),
            _ => self.of_neighbours(call, &asked),
        }
    }

    async fn create_stack(self: &Arc<Self>, asked: &Asked) -> Result<Answer, Refusal> {
        let body = StackBody::read(&asked.body)?;
        let name = body.name.clone().unwrap_or_default();
        let id = self.create(&asked.caller, body).await?;
        let location = self.location(asked.caller.project_id, &name, id, "");
        let told = json!({"stack": {"id": id, "links": [{"href": location, "rel": "self"}]}});
        Ok(Answer::of(StatusCode::CREATED, told).with("location", location))
    }

    async fn update_stack(self: &Arc<Self>, asked: &Asked, manner: Manner) -> Result<Answer, Refusal> {
        let id = self.stack_id(asked, true)?;
        self.update(id, StackBody::read(&asked.body)?, manner).await?;
        Ok(Answer::empty(StatusCode::ACCEPTED))
    }

    async fn mark_resource(self: &Arc<Self>, asked: &Asked) -> Result<Answer, Refusal> {
        let id = self.stack_id(asked, false)?;
        let unhealthy = match asked
            .body
            .get("mark_unhealthy")
            .map(text_of)
            .map(|text| text.to_ascii_lowercase())
            .as_deref()
        {
            Some("true") => true,
            Some("false") => false,
            _ => {
                return Err(Refusal::bad(
                    "Missing mandatory (mark_unhealthy) key from mark unhealthy request: true or false",
                ));
            }
        };
        let reason = asked.body.get("resource_status_reason").map(text_of);
        let preset = if unhealthy { "Marked unhealthy by user" } else { "Marked healthy by user" };
        self.mark(id, asked.part(3), unhealthy, reason.as_deref().unwrap_or(preset)).await?;
        Ok(Answer::good(Value::Null))
    }

    /// What a stack would be; nothing is taken for it.
    fn preview(&self, asked: &Asked) -> Result<Answer, Refusal> {
        let body = StackBody::read(&asked.body)?;
        let told = Self::validate_template(&body)?;
        let name = body.name.unwrap_or_default();
        Ok(Answer::good(
            json!({"stack": {"stack_name": name, "description": told["Description"], "parameters": body.parameters}}),
        ))
    }

    /// The stack that a path names. `top` asks for one that is not nested.
    fn stack_id(&self, asked: &Asked, top: bool) -> Result<Uuid, Refusal> {
        let missing = || Refusal::missing("Stack", asked.part(1));
        let id = Uuid::parse_str(asked.part(2)).map_err(|_| missing())?;
        let state = self.lock();
        let record = state
            .record_of(id)
            .filter(|record| record.project == asked.caller.project_id)
            .ok_or_else(missing)?;
        let stack = record.stacks.get(&id).filter(|stack| stack.name == asked.part(1)).ok_or_else(missing)?;
        if top && stack.parent.is_some() {
            return Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "Forbidden",
                format!("The stack {} is nested in {}; change that", stack.name, record.name),
            ));
        }
        Ok(id)
    }

    /// Name and id of a stack by its name, or by its id; also of one that is gone, by its id.
    pub(super) fn find(&self, project: Uuid, named: &str) -> Option<(String, Uuid)> {
        let state = self.lock();
        if let Some(id) = state.names.get(&(project, named.to_owned())) {
            return Some((named.to_owned(), *id));
        }
        let id = Uuid::parse_str(named).ok()?;
        let live = state.record_of(id).filter(|record| record.project == project);
        let live = live.and_then(|record| record.stacks.get(&id)).map(|stack| (stack.name.clone(), id));
        live.or_else(|| {
            let gone = state.gone.iter().find(|record| record.id == id && record.project == project);
            gone.map(|record| (record.name.clone(), id))
        })
    }

    /// Reads a stack that a path names; one that is gone only if that is asked for.
    fn read<T>(
        &self,
        asked: &Asked,
        with_gone: bool,
        read: impl FnOnce(&Record, &Stack) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let missing = || Refusal::missing("Stack", asked.part(1));
        let id = Uuid::parse_str(asked.part(2)).map_err(|_| missing())?;
        let state = self.lock();
        let (mut of, project) = (state.record_of(id), asked.caller.project_id);
        if of.is_none() && with_gone {
            of = state.gone.iter().find(|record| record.id == id);
        }
        let record = of.filter(|record| record.project == project).ok_or_else(missing)?;
        let stack = record.stacks.get(&id).filter(|stack| stack.name == asked.part(1)).ok_or_else(missing)?;
        read(record, stack)
    }

    fn list(&self, asked: &Asked) -> Answer {
        let state = self.lock();
        let wanted = |record: &&Record| record.project == asked.caller.project_id && is_wanted(record, asked);
        let mut records: Vec<&Record> = state.records.values().filter(wanted).collect();
        let created = |record: &Record| record.top().map(|stack| stack.created);
        // The newest first, as Heat has it.
        records.sort_by(|one, other| created(other).cmp(&created(one)).then_with(|| one.id.cmp(&other.id)));
        let count = records.len();
        if let Some(marker) = asked.query("marker").and_then(|marker| Uuid::parse_str(marker).ok())
            && let Some(at) = records.iter().position(|record| record.id == marker)
        {
            records.drain(..=at);
        }
        if let Some(limit) = asked.query("limit").and_then(|limit| limit.parse().ok()) {
            records.truncate(limit);
        }
        let nested = asked.query("show_nested").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let stacks: Vec<Value> = records
            .into_iter()
            .flat_map(|record| record.stacks.values().map(move |stack| (record, stack)))
            .filter(|(_, stack)| nested || stack.parent.is_none())
            .map(|(record, stack)| self.stack_listed(record, stack))
            .collect();
        let mut told = json!({"stacks": stacks});
        if asked.query("with_count").is_some() {
            told["count"] = json!(count);
        }
        Answer::good(told)
    }

    fn of_stack(&self, call: Call, asked: &Asked) -> Result<Answer, Refusal> {
        self.read(asked, call == Call::ShowStack, |record, stack| {
            let told = match call {
                Call::ShowStack => {
                    let outputs = asked.query("resolve_outputs").is_none_or(|text| !text.eq_ignore_ascii_case("false"));
                    json!({"stack": self.stack_shown(record, stack, outputs)})
                }
                Call::Template if stack.parent.is_none() => record.inputs.template.clone(),
                Call::Template => template_of_nested(record, stack)?,
                Call::Files => json!(record.inputs.files),
                Call::Environment => json!({"parameters": record.inputs.parameters, "resource_registry":
                    record.inputs.environment.get("resource_registry").cloned().unwrap_or_else(|| json!({})), "parameter_defaults": {}}),
                Call::Outputs => {
                    let outputs = stack.outputs.iter().map(|(name, output)| json!({"output_key": name, "description": output.description}));
                    json!({"outputs": outputs.collect::<Vec<_>>()})
                }
                Call::Output => {
                    let name = asked.part(3);
                    let output = stack.outputs.get(name).ok_or_else(|| Refusal::missing("outputs", name))?;
                    json!({"output": {"output_key": name, "output_value": output.value, "description": output.description}})
                }
                _ => self.events(record, stack, asked, None),
            };
            Ok(Answer::good(told))
        })
    }

    fn events(&self, record: &Record, stack: &Stack, asked: &Asked, resource: Option<&Resource>) -> Value {
        let nested = depth(asked) > 0;
        let wanted = record.events.iter().filter(|event| {
            (event.stack == stack.id || (nested && resource.is_none()))
                && resource.is_none_or(|resource| event.resource == resource.name)
        });
        let mut events: Vec<Value> = wanted
            .filter_map(|event| Some(self.event_shown(record, record.stacks.get(&event.stack)?, event)))
            .collect();
        if asked.query("sort_dir") == Some("desc") {
            events.reverse();
        }
        if let Some(marker) = asked.query("marker")
            && let Some(at) = events.iter().position(|event| event["id"] == marker)
        {
            events.drain(..=at);
        }
        if let Some(limit) = asked.query("limit").and_then(|limit| limit.parse().ok()) {
            events.truncate(limit);
        }
        json!({"events": events})
    }

    fn of_resources(&self, call: Call, asked: &Asked) -> Result<Answer, Refusal> {
        self.read(asked, false, |record, stack| {
            if call == Call::Resources {
                let detail = asked.query("with_detail").is_some_and(|text| text.eq_ignore_ascii_case("true"));
                let mut shown = self.resources_shown(record, stack, depth(asked), detail);
                for (key, field) in [("type", "resource_type"), ("name", "resource_name"), ("status", "resource_status")] {
                    if let Some(wanted) = asked.query(key) {
                        shown.retain(|resource| resource[field] == wanted);
                    }
                }
                return Ok(Answer::good(json!({"resources": shown})));
            }
            let name = asked.part(3);
            let resource = named(&stack.resources, name).ok_or_else(|| Refusal::missing("Resource", name))?;
            let told = match call {
                Call::ShowResource => json!({"resource": self.resource_shown(record, stack, resource, true)}),
                Call::Metadata => json!({"metadata": if resource.metadata.is_null() { json!({}) } else { resource.metadata.clone() }}),
                _ => self.events(record, stack, asked, Some(resource)),
            };
            Ok(Answer::good(told))
        })
    }

    fn of_faults(&self, call: Call, asked: &Asked) -> Result<Answer, Refusal> {
        match call {
            Call::SetFault => {
                let document: CloudFaultDocument = serde_path_to_error::deserialize(&asked.body)
                    .map_err(|error| Refusal::bad(format!("{}: {}", error.path(), error.inner())))?;
                let fault = document
                    .resolve()
                    .map_err(|(field, reason)| Refusal::bad(format!("{field}: {reason}")))?;
                self.faults.set(fault, Instant::now());
            }
            Call::ClearFaults => self.faults.clear(),
            _ => {}
        }
        Ok(Answer::good(json!({"faults": self.faults.shown(Instant::now())})))
    }

    /// What is told beside stacks: just enough for clients that ask.
    fn of_neighbours(&self, call: Call, asked: &Asked) -> Result<Answer, Refusal> {
        let caller = &asked.caller;
        let told = match call {
            Call::ValidateToken => self.validate(asked.subject.as_deref().unwrap_or(&asked.token))?,
            Call::RevokeToken => {
                let subject = asked.subject.as_deref().unwrap_or(&asked.token);
                // Nobody takes another's token away.
                if self.accounts.caller(subject).as_ref() != Some(caller) || !self.accounts.revoke(subject) {
                    return Err(Refusal::missing("token", "X-Subject-Token"));
                }
                return Ok(Answer::empty(StatusCode::NO_CONTENT));
            }
            Call::Catalog => {
                json!({"catalog": self.catalog(caller), "links": {"next": null, "previous": null}})
            }
            Call::Projects => {
                json!({"projects": [{"id": caller.project_id.simple().to_string(), "name": caller.project, "domain_id": "default",
                "enabled": true, "is_domain": false}], "links": {"next": null, "previous": null}})
            }
            Call::Regions => {
                json!({"regions": [{"id": self.spec.region, "description": "", "parent_region_id": null}], "links": {"next": null, "previous": null}})
            }
            Call::BuildInfo => {
                json!({"api": {"revision": env!("CARGO_PKG_VERSION")}, "engine": {"revision": env!("CARGO_PKG_VERSION")}})
            }
            Call::ResourceTypes => json!({"resource_types": plan::known_types()}),
            Call::Networks => {
                json!({"networks": self.catalogue.networks.iter().map(|network| json!({"id": network.id, "name": network.name,
                "subnets": [network.subnet], "status": "ACTIVE"})).collect::<Vec<_>>()})
            }
            Call::Images => {
                json!({"images": self.catalogue.images.iter().map(|image| json!({"id": image.id, "name": image.name,
                "status": "active"})).collect::<Vec<_>>()})
            }
            Call::Flavors => {
                json!({"flavors": self.catalogue.flavors.iter().map(|flavor| json!({"id": flavor.id, "name": flavor.name,
                "vcpus": flavor.cores, "ram": flavor.memory_mib, "disk": flavor.disk_gib})).collect::<Vec<_>>()})
            }
            Call::Servers => {
                json!({"servers": servers(&self.lock(), caller).map(|(_, server)| server.attributes.clone()).collect::<Vec<_>>()})
            }
            Call::ShowServer => {
                let state = self.lock();
                let named = asked.part(0);
                let found =
                    servers(&state, caller).find(|(_, server)| Uuid::parse_str(named) == Ok(server.physical));
                let (_, server) = found.ok_or_else(|| Refusal::missing("Instance", named))?;
                json!({"server": server.attributes})
            }
            _ => return Err(Refusal::internal("a route without an answer")),
        };
        Ok(Answer::good(told))
    }
}

/// Servers of the caller's project.
fn servers<'a>(state: &'a State, caller: &Caller) -> impl Iterator<Item = (&'a Stack, &'a Resource)> {
    let project = caller.project_id;
    let records = state.records.values().filter(move |record| record.project == project);
    records
        .flat_map(Record::resources)
        .filter(|(_, resource)| resource.kind == "OS::Nova::Server" && resource.pending.is_none())
}

/// How many levels of nested stacks are asked for.
fn depth(asked: &Asked) -> u32 {
    let depth = asked.query("nested_depth").map(|text| text.parse().unwrap_or(u32::MAX));
    depth.unwrap_or_default().min(64)
}

/// Whether the filters of a list let a stack pass.
fn is_wanted(record: &Record, asked: &Asked) -> bool {
    let Some(stack) = record.top() else { return false };
    let status = state_name(stack.action, stack.status);
    let passes = |key: &str, value: &str| {
        let mut given = asked.query.iter().filter(|(name, _)| name == key).peekable();
        given.peek().is_none() || given.any(|(_, wanted)| wanted.split(',').any(|one| one == value))
    };
    let tagged = asked
        .query("tags")
        .is_none_or(|tags| tags.split(',').all(|tag| record.tags.iter().any(|own| own == tag)));
    passes("name", &record.name)
        && passes("stack_name", &record.name)
        && passes("id", &record.id.to_string())
        && passes("status", &status)
        && tagged
}

/// The template of a nested stack: the file that it is made from, or the members of the group.
fn template_of_nested(record: &Record, stack: &Stack) -> Result<Value, Refusal> {
    let kind = stack
        .parent
        .as_ref()
        .and_then(|(parent, name)| Some(&record.stacks.get(parent)?.resources.get(name)?.kind));
    if let Some(file) = kind.and_then(|kind| record.inputs.files.get(kind)) {
        return Ok(super::hot::parse_text(file)?);
    }
    let members = stack
        .resources
        .values()
        .map(|member| (member.name.clone(), json!({"type": member.kind, "properties": member.properties})));
    Ok(
        json!({"heat_template_version": "2015-04-30", "resources": members.collect::<serde_json::Map<_, _>>()}),
    )
}
