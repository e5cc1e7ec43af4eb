//! Reading schemas from JSON into an arena.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::meta::OBJECT_META;
use super::node::{
    Additional, Arena, Checks, ListType, Node, NodeId, PatchStrategy, Pattern, Property, ValueType,
};
use super::{Schema, SchemaError};

/// Schemas of several kinds that share their definitions.
#[derive(Clone, Debug)]
pub struct SchemaSet {
    arena: Arc<Arena>,
    roots: HashMap<String, NodeId>,
}

impl SchemaSet {
    /// Reads `roots` (names of definitions) and everything they refer to.
    ///
    /// # Errors
    /// [`SchemaError`] on a malformed schema, or a name that is not defined.
    pub fn read(definitions: Map<String, Value>, roots: &[&str]) -> Result<Self, SchemaError> {
        let mut parser = Parser::new(definitions);
        let roots = roots
            .iter()
            .map(|name| Ok(((*name).to_owned(), parser.definition(name, name)?)))
            .collect::<Result<_, SchemaError>>()?;
        Ok(Self { arena: Arc::new(parser.finish()), roots })
    }

    /// The schema of one of the roots.
    pub fn schema(&self, name: &str) -> Option<Schema> {
        self.roots.get(name).map(|root| Schema { arena: Arc::clone(&self.arena), root: *root })
    }
}

pub(super) struct Parser {
    arena: Arena,
    definitions: Map<String, Value>,
    known: HashMap<String, NodeId>,
}

impl Parser {
    pub(super) fn new(definitions: Map<String, Value>) -> Self {
        Self { arena: Arena::default(), definitions, known: HashMap::new() }
    }

    pub(super) fn finish(mut self) -> Arena {
        self.arena.nodes.shrink_to_fit();
        self.arena
    }

    /// A schema as it stands.
    pub(super) fn root(&mut self, schema: &Value) -> Result<NodeId, SchemaError> {
        self.schema(schema, "")
    }

    /// The schema of an object with `apiVersion`, `kind` and `metadata`, which it need not mention.
    pub(super) fn object_root(&mut self, schema: &Value) -> Result<NodeId, SchemaError> {
        let id = match schema {
            Value::Null => self.schema(&Value::Object(Map::new()), "")?,
            schema => self.schema(schema, "")?,
        };
        self.add_type_and_metadata(id)?;
        Ok(id)
    }

    fn add_type_and_metadata(&mut self, id: NodeId) -> Result<(), SchemaError> {
        let text = self.add(Node { value_type: Some(ValueType::String), ..Node::default() })?;
        let metadata = self.definition(OBJECT_META, "metadata")?;
        let node = self.node_mut(id);
        node.value_type = Some(ValueType::Object);
        let mut properties: Vec<Property> = std::mem::take(&mut node.properties).into_vec();
        properties.retain(|property| !matches!(&*property.name, "apiVersion" | "kind" | "metadata"));
        for (name, node) in [("apiVersion", text), ("kind", text), ("metadata", metadata)] {
            properties.push(Property { name: name.into(), node, patch: PatchStrategy::default() });
        }
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        self.node_mut(id).properties = properties.into();
        Ok(())
    }

    fn add(&mut self, node: Node) -> Result<NodeId, SchemaError> {
        let index =
            u32::try_from(self.arena.nodes.len()).map_err(|_| error("", "the schema is too large"))?;
        self.arena.nodes.push(node);
        Ok(NodeId(index))
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.arena.nodes[id.0 as usize]
    }

    /// The node of a definition; read when first referred to. A place is taken before reading, so that a definition may
    /// refer to itself.
    fn definition(&mut self, name: &str, path: &str) -> Result<NodeId, SchemaError> {
        if let Some(id) = self.known.get(name) {
            return Ok(*id);
        }
        let Some(schema) = self.definitions.remove(name) else {
            return Err(error(path, &format!("$ref to {name}, which is not defined")));
        };
        let id = self.add(Node::default())?;
        self.known.insert(name.to_owned(), id);
        let node = self.read_node(&schema, path)?;
        *self.node_mut(id) = node;
        Ok(id)
    }

    /// A field may say otherwise than its type whether it is one value for server-side apply.
    fn with_map_type(&mut self, id: NodeId, field: &Value) -> Result<NodeId, SchemaError> {
        let Some(map_type) = field.get("x-kubernetes-map-type").and_then(Value::as_str) else {
            return Ok(id);
        };
        let node = Node { atomic: map_type == "atomic", ..self.node_mut(id).clone() };
        self.add(node)
    }

    fn schema(&mut self, schema: &Value, path: &str) -> Result<NodeId, SchemaError> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or(reference);
            let id = self.definition(name, path)?;
            return self.with_map_type(id, schema);
        }
        let node = self.read_node(schema, path)?;
        let embedded = node.embedded_resource;
        let id = self.add(node)?;
        if embedded {
            self.add_type_and_metadata(id)?;
        }
        Ok(id)
    }

    fn read_node(&mut self, schema: &Value, path: &str) -> Result<Node, SchemaError> {
        let fields = match schema {
            Value::Object(fields) => fields,
            // `true` and `{}` allow anything.
            Value::Bool(true) => return Ok(Node { preserve_unknown: true, ..Node::default() }),
            _ => return Err(error(path, "must be an object")),
        };
        let flag = |name: &str| fields.get(name) == Some(&Value::Bool(true));
        let mut node = Node {
            value_type: value_type(fields, path)?,
            nullable: flag("nullable"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded_resource: flag("x-kubernetes-embedded-resource"),
            atomic: fields.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
            list_type: list_type(fields),
            list_map_keys: strings(fields.get("x-kubernetes-list-map-keys")),
            default: fields.get("default").map(|value| Box::new(value.clone())),
            required: strings(fields.get("required")),
            checks: self.checks(fields, path)?.map(Box::new),
            ..Node::default()
        };
        node.properties = self.properties(fields, path)?;
        (node.additional, node.additional_node) = self.additional(fields, path)?;
        if let Some(items) = fields.get("items") {
            node.items = Some(self.schema(items, &format!("{path}.items"))?);
        }
        Ok(node)
    }

    fn properties(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Result<Box<[Property]>, SchemaError> {
        let Some(properties) = fields.get("properties") else { return Ok(Box::default()) };
        let Value::Object(properties) = properties else {
            return Err(error(&format!("{path}.properties"), "must be an object"));
        };
        let mut list = Vec::with_capacity(properties.len());
        for (name, schema) in properties {
            let node = self.schema(schema, &format!("{path}.properties[{name}]"))?;
            list.push(Property { name: name.as_str().into(), node, patch: patch_strategy(schema) });
        }
        list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(list.into())
    }

    fn additional(
        &mut self,
        fields: &Map<String, Value>,
        path: &str,
    ) -> Result<(Additional, Option<NodeId>), SchemaError> {
        match fields.get("additionalProperties") {
            None | Some(Value::Bool(false)) => Ok((Additional::None, None)),
            Some(Value::Bool(true)) => Ok((Additional::Any, None)),
            Some(Value::Object(schema)) if schema.is_empty() => Ok((Additional::Any, None)),
            Some(schema) => {
                let node = self.schema(schema, &format!("{path}.additionalProperties"))?;
                Ok((Additional::Map, Some(node)))
            }
        }
    }

    fn checks(&mut self, fields: &Map<String, Value>, path: &str) -> Result<Option<Checks>, SchemaError> {
        let number = |name: &str| fields.get(name).and_then(Value::as_f64);
        let size = |name: &str| {
            fields.get(name).and_then(Value::as_u64).map(|size| usize::try_from(size).unwrap_or(usize::MAX))
        };
        let exclusive = |name: &str| fields.get(name) == Some(&Value::Bool(true));
        let names = ["allOf", "anyOf", "oneOf"];
        let [all_of, any_of, one_of] = names.map(|name| self.alternatives(fields, name, path));
        let not = match fields.get("not") {
            Some(schema) => Some(self.schema(schema, &format!("{path}.not"))?),
            None => None,
        };
        let checks = Checks {
            format: fields.get("format").and_then(Value::as_str).map(Into::into),
            enumeration: fields.get("enum").and_then(Value::as_array).map(|list| list.as_slice().into()),
            minimum: number("minimum").map(|limit| (limit, exclusive("exclusiveMinimum"))),
            maximum: number("maximum").map(|limit| (limit, exclusive("exclusiveMaximum"))),
            multiple_of: number("multipleOf"),
            min_length: size("minLength"),
            max_length: size("maxLength"),
            min_items: size("minItems"),
            max_items: size("maxItems"),
            min_properties: size("minProperties"),
            max_properties: size("maxProperties"),
            unique_items: exclusive("uniqueItems"),
            pattern: fields.get("pattern").and_then(Value::as_str).map(Pattern::new),
            all_of: all_of?,
            any_of: any_of?,
            one_of: one_of?,
            not,
        };
        Ok((!checks.is_empty()).then_some(checks))
    }

    fn alternatives(
        &mut self,
        fields: &Map<String, Value>,
        name: &str,
        path: &str,
    ) -> Result<Box<[NodeId]>, SchemaError> {
        let schemas = fields.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        schemas
            .iter()
            .enumerate()
            .map(|(index, schema)| self.schema(schema, &format!("{path}.{name}[{index}]")))
            .collect()
    }
}

impl Checks {
    fn is_empty(&self) -> bool {
        let value = self.format.is_none() && self.enumeration.is_none() && self.pattern.is_none();
        let number = self.minimum.is_none() && self.maximum.is_none() && self.multiple_of.is_none();
        let sizes = [
            self.min_length,
            self.max_length,
            self.min_items,
            self.max_items,
            self.min_properties,
            self.max_properties,
        ];
        let logic =
            self.all_of.is_empty() && self.any_of.is_empty() && self.one_of.is_empty() && self.not.is_none();
        value && number && logic && !self.unique_items && sizes.iter().all(Option::is_none)
    }
}

fn value_type(fields: &Map<String, Value>, path: &str) -> Result<Option<ValueType>, SchemaError> {
    match fields.get("type") {
        None => Ok(None),
        Some(Value::String(name)) => match name.as_str() {
            "object" => Ok(Some(ValueType::Object)),
            "array" => Ok(Some(ValueType::Array)),
            "string" => Ok(Some(ValueType::String)),
            "integer" => Ok(Some(ValueType::Integer)),
            "number" => Ok(Some(ValueType::Number)),
            "boolean" => Ok(Some(ValueType::Boolean)),
            "" => Ok(None),
            other => Err(error(&format!("{path}.type"), &format!("unknown type {other:?}"))),
        },
        Some(_) => Err(error(&format!("{path}.type"), "must be a string")),
    }
}

fn list_type(fields: &Map<String, Value>) -> ListType {
    match fields.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map,
        _ => ListType::Atomic,
    }
}

fn patch_strategy(schema: &Value) -> PatchStrategy {
    let strategies = schema.get("x-kubernetes-patch-strategy").and_then(Value::as_str).unwrap_or_default();
    let has = |name: &str| strategies.split(',').any(|strategy| strategy == name);
    PatchStrategy {
        merge: has("merge"),
        retain_keys: has("retainKeys"),
        replace: has("replace"),
        merge_key: schema.get("x-kubernetes-patch-merge-key").and_then(Value::as_str).map(Into::into),
    }
}

fn strings(list: Option<&Value>) -> Box<[Box<str>]> {
    let items = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(|item| item.as_str().map(Into::into)).collect()
}

fn error(path: &str, message: &str) -> SchemaError {
    let path = if path.is_empty() { "the root" } else { path.trim_start_matches('.') };
    SchemaError { path: path.to_owned(), message: message.to_owned() }
}
