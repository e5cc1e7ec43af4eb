//! Where the functions of a stack's template look things up.

use std::{cell::Cell, collections::BTreeMap};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{groups, is_group, realize::Planner};
use crate::cloud::{
    hot::{self, HotError, Scope, Template},
    model::Stack,
};

/// A stack's template looks things up here.
pub(super) struct StackScope<'a, 'w> {
    planner: &'a Planner<'w>,
    stack: &'a Stack,
    template: &'a Template,
    parameters: &'a BTreeMap<String, Value>,
    /// How many conditions are being looked at, each for the sake of the one before.
    conditions: Cell<usize>,
}

impl<'a, 'w> StackScope<'a, 'w> {
    pub(super) fn new(
        planner: &'a Planner<'w>,
        stack: &'a Stack,
        template: &'a Template,
        parameters: &'a BTreeMap<String, Value>,
    ) -> Self {
        Self { planner, stack, template, parameters, conditions: Cell::new(0) }
    }
}

impl Scope for StackScope<'_, '_> {
    fn parameter(&self, name: &str) -> Option<Value> {
        self.parameters
            .get(name)
            .or_else(|| self.stack.parameters.get(name).filter(|_| name.starts_with("OS::")))
            .cloned()
    }

    fn resource(&self, name: &str) -> Result<Value, String> {
        match self.stack.resources.get(name) {
            Some(resource) => Ok(json!(resource.physical)),
            // Its condition does not hold.
            None => Ok(Value::Null),
        }
    }

    fn attribute(&self, resource: &str, attribute: &str) -> Result<Value, String> {
        let Some(found) = self.stack.resources.get(resource) else { return Ok(Value::Null) };
        let value = if found.nested {
            let inside = self.planner.stacks.get(&found.physical);
            inside.and_then(|inside| self.of_stack(inside, &found.kind, attribute))
        } else {
            super::settle::attribute(found, attribute)
        };
        value.ok_or_else(|| format!("The Referenced Attribute ({resource} {attribute}) is incorrect."))
    }

    fn file(&self, name: &str) -> Option<String> {
        self.planner.files.get(name).cloned()
    }

    fn condition(&self, name: &str) -> Result<bool, HotError> {
        let condition = self.template.conditions.get(name);
        let condition =
            condition.ok_or_else(|| HotError::new("", format!("there is no condition {name:?}")))?;
        let path = format!("conditions.{name}");
        // More than there are can only be a circle.
        self.conditions.set(self.conditions.get() + 1);
        if self.conditions.get() > self.template.conditions.len() {
            return Err(HotError::new(path, "refers to itself"));
        }
        let holds = hot::holds(condition, self).map_err(|error| error.within(&path));
        self.conditions.set(self.conditions.get() - 1);
        holds
    }
}

impl StackScope<'_, '_> {
    fn of_stack(&self, inside: &Stack, kind: &str, attribute: &str) -> Option<Value> {
        if let Some(name) = attribute.strip_prefix("resource.") {
            return inside.resources.get(name).map(|member| json!(member.physical));
        }
        let outputs = |stack: &Stack| -> Value {
            Value::Object(
                stack.outputs.iter().map(|(name, output)| (name.clone(), output.value.clone())).collect(),
            )
        };
        if is_group(kind) {
            let nested = |id: Uuid| self.planner.stacks.get(&id).map(outputs);
            return groups::attribute(inside, nested, attribute);
        }
        match attribute {
            "outputs" => Some(outputs(inside)),
            "OS::stack_id" => Some(json!(inside.id)),
            other => inside.outputs.get(other).map(|output| output.value.clone()),
        }
    }
}
