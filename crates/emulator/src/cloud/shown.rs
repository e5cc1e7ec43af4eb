//! Stacks, resources and events as Heat shows them.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Cloud,
    model::{Action, Event, Record, Resource, Stack, Status, state_name},
};

/// A time as Heat writes it.
fn time(time: jiff::Timestamp) -> Value {
    json!(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

impl Cloud {
    fn stack_url(&self, record: &Record, stack: &Stack) -> String {
        format!(
            "{}/orchestration/v1/{}/stacks/{}/{}",
            self.url(),
            record.project.simple(),
            stack.name,
            stack.id
        )
    }

    /// A stack in a list.
    pub(super) fn stack_listed(&self, record: &Record, stack: &Stack) -> Value {
        json!({"id": stack.id, "stack_name": stack.name, "description": stack.description,
            "stack_status": state_name(stack.action, stack.status), "stack_status_reason": stack.reason,
            "creation_time": time(stack.created), "updated_time": stack.updated.map(time), "deletion_time": null,
            "stack_owner": record.user, "stack_user_project_id": record.project.simple().to_string(),
            "parent": stack.parent.as_ref().map(|(parent, _)| parent),
            "tags": if record.tags.is_empty() { Value::Null } else { json!(record.tags) },
            "links": [{"href": self.stack_url(record, stack), "rel": "self"}]})
    }

    /// A stack by itself.
    pub(super) fn stack_shown(&self, record: &Record, stack: &Stack, with_outputs: bool) -> Value {
        let mut shown = self.stack_listed(record, stack);
        shown["parameters"] = json!(stack.parameters);
        shown["template_description"] = json!(stack.description);
        shown["timeout_mins"] = json!(record.timeout_minutes);
        shown["disable_rollback"] = json!(record.disable_rollback);
        shown["capabilities"] = json!([]);
        shown["notification_topics"] = json!([]);
        if with_outputs && stack.status != Status::InProgress {
            shown["outputs"] = self.outputs(stack).into();
        }
        if (stack.action, stack.status) == (Action::Delete, Status::Complete) {
            shown["deletion_time"] = stack.updated.map_or(Value::Null, time);
        }
        shown
    }

    /// What a stack tells.
    #[expect(clippy::unused_self, reason = "one of the views")]
    fn outputs(&self, stack: &Stack) -> Vec<Value> {
        let outputs = stack.outputs.iter().map(|(name, output)| {
            json!({"output_key": name, "output_value": output.value, "description": output.description})
        });
        outputs.collect()
    }

    /// A resource; `attributes` only where it stands by itself.
    pub(super) fn resource_shown(
        &self,
        record: &Record,
        stack: &Stack,
        resource: &Resource,
        with_attributes: bool,
    ) -> Value {
        let home = self.stack_url(record, stack);
        let mut links = vec![
            json!({"href": format!("{home}/resources/{}", resource.name), "rel": "self"}),
            json!({"href": home, "rel": "stack"}),
        ];
        if let Some(inside) = record.stacks.get(&resource.physical).filter(|_| resource.nested) {
            links.push(json!({"href": self.stack_url(record, inside), "rel": "nested"}));
        }
        let needing = stack.resources.values().filter(|other| other.needs.contains(&resource.name));
        let required_by: Vec<&str> = needing.map(|other| other.name.as_str()).collect();
        // What has not been begun has nothing that it stands for yet.
        let physical = if resource.action == Action::Init && !resource.nested {
            json!("")
        } else {
            json!(resource.physical)
        };
        let mut shown = json!({"resource_name": resource.name, "logical_resource_id": resource.name,
            "physical_resource_id": physical, "resource_type": resource.kind,
            "resource_status": state_name(resource.action, resource.status), "resource_status_reason": resource.reason,
            "creation_time": time(resource.created), "updated_time": time(resource.updated.unwrap_or(resource.created)),
            "required_by": required_by, "links": links});
        if let Some((_, name)) = &stack.parent {
            shown["parent_resource"] = json!(name);
        }
        if with_attributes {
            shown["description"] = json!("");
            shown["attributes"] = self.attributes(record, resource);
        }
        shown
    }

    fn attributes(&self, record: &Record, resource: &Resource) -> Value {
        let Some(inside) = record.stacks.get(&resource.physical).filter(|_| resource.nested) else {
            if resource.kind == "OS::Heat::ScalingPolicy" {
                let url = format!(
                    "{}/orchestration/v1/{}/stacks/{}/{}/resources/{}/signal",
                    self.url(),
                    record.project.simple(),
                    record.name,
                    record.id,
                    resource.name
                );
                return json!({"signal_url": url, "alarm_url": url});
            }
            return resource.attributes.clone();
        };
        let outputs: Map<String, Value> =
            inside.outputs.iter().map(|(name, output)| (name.clone(), output.value.clone())).collect();
        let mut shown = json!({"outputs": outputs, "current_size": inside.resources.len(),
            "refs": inside.resources.values().map(|member| member.physical).collect::<Vec<_>>()});
        if let Value::Object(map) = &mut shown {
            map.extend(outputs);
        }
        shown
    }

    /// The resources of a stack, and of those nested in it so many levels deep; with their attributes if details are asked for.
    pub(super) fn resources_shown(
        &self,
        record: &Record,
        stack: &Stack,
        depth: u32,
        detail: bool,
    ) -> Vec<Value> {
        let mut shown: Vec<Value> = Vec::new();
        let leaving = record
            .leaving
            .iter()
            .filter(|leaving| leaving.stack == stack.id)
            .map(|leaving| &leaving.resource);
        let leaving = leaving.filter(|resource| !stack.resources.contains_key(&resource.name));
        for resource in stack.resources.values().chain(leaving) {
            shown.push(self.resource_shown(record, stack, resource, detail));
            if let Some(inside) =
                record.stacks.get(&resource.physical).filter(|_| resource.nested && depth > 0)
            {
                shown.extend(self.resources_shown(record, inside, depth - 1, detail));
            }
        }
        shown
    }

    /// An event.
    pub(super) fn event_shown(&self, record: &Record, stack: &Stack, event: &Event) -> Value {
        let home = self.stack_url(record, stack);
        let resource = format!("{home}/resources/{}", event.resource);
        json!({"id": event.id, "event_time": time(event.time), "resource_name": event.resource, "logical_resource_id": event.resource,
            "physical_resource_id": event.physical, "resource_status": event.state, "resource_status_reason": event.reason,
            "resource_type": event.kind,
            "links": [{"href": format!("{resource}/events/{}", event.id), "rel": "self"}, {"href": resource, "rel": "resource"},
                {"href": home, "rel": "stack"}]})
    }

    /// Where a stack is.
    pub(super) fn location(&self, project: Uuid, name: &str, id: Uuid, rest: &str) -> String {
        format!("{}/orchestration/v1/{}/stacks/{name}/{id}{rest}", self.url(), project.simple())
    }
}
