//! The schemas that a document refers to, in the form that OpenAPI v3.0 wants.

use serde_json::{Map, Value, json};

use super::{Gvk, Resource, Schema, names, shared};

const GVK: &str = "x-kubernetes-group-version-kind";

/// Schemas by name, growing as they are referred to.
pub(super) struct Components<'a> {
    group: &'a str,
    version: &'a str,
    definitions: &'a Map<String, Value>,
    schemas: Map<String, Value>,
    /// Names that have been referred to and are yet to be read.
    wanted: Vec<String>,
}

impl<'a> Components<'a> {
    pub(super) fn new(group: &'a str, version: &'a str, definitions: &'a Map<String, Value>) -> Self {
        Self { group, version, definitions, schemas: Map::new(), wanted: Vec::new() }
    }

    /// All schemas, with everything they refer to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(name) = self.wanted.pop() {
            if self.schemas.contains_key(&name) {
                continue;
            }
            let schema = self.definition(&name);
            self.schemas.insert(name, schema);
        }
        self.schemas
    }

    /// The schema of a name, anything if it is not known.
    fn definition(&mut self, name: &str) -> Value {
        match self.definitions.get(name).or_else(|| shared::DEFINITIONS.get(name)) {
            Some(schema) => self.convert(schema),
            None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
        }
    }

    /// A reference to a named schema.
    pub(super) fn refer(&mut self, name: &str) -> Value {
        if !self.schemas.contains_key(name) {
            self.wanted.push(name.to_owned());
        }
        reference(name)
    }

    /// The schema of a built-in kind, marked with the kind.
    pub(super) fn built_in(&mut self, kind: Gvk<'_>) -> Value {
        let name = names::definition(kind.group, kind.version, kind.kind);
        if !self.schemas.contains_key(&name) {
            let mut schema = self.definition(&name);
            // k8s-openapi requires what its structs always have; the API takes objects without metadata, such as reviews.
            if let Some(Value::Array(required)) = schema.get_mut("required") {
                required.retain(|field| field != "metadata");
            }
            // A list of required fields may not be empty.
            if let Some(fields) = schema.as_object_mut() {
                fields.retain(|keyword, value| keyword != "required" || *value != json!([]));
            }
            schema[GVK] = json!([kind.extension()]);
            self.schemas.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// The schema of a resource's objects.
    pub(super) fn object(&mut self, resource: &Resource<'_>) -> Value {
        let kind = Gvk { group: self.group, version: self.version, kind: resource.kind };
        match resource.schema {
            Schema::BuiltIn => self.built_in(kind),
            Schema::Custom(schema) => {
                let name = names::custom_definition(self.group, self.version, resource.kind);
                if !self.schemas.contains_key(&name) {
                    let schema = self.custom(kind, schema);
                    self.schemas.insert(name.clone(), schema);
                }
                reference(&name)
            }
        }
    }

    /// The schema of a resource's lists.
    pub(super) fn list(&mut self, resource: &Resource<'_>) -> Value {
        let name = match resource.schema {
            Schema::BuiltIn => names::definition(self.group, self.version, resource.list_kind),
            Schema::Custom(_) => names::custom_definition(self.group, self.version, resource.list_kind),
        };
        if !self.schemas.contains_key(&name) {
            let kind = Gvk { group: self.group, version: self.version, kind: resource.list_kind };
            let items = self.object(resource);
            let metadata = self.refer(names::LIST_META);
            let schema = json!({
                "description": format!("{} is a list of {}.", resource.list_kind, resource.kind),
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": api_version(),
                    "kind": kind_field(),
                    "items": {"description": format!("The objects of kind {}.", resource.kind), "type": "array", "items": items},
                    "metadata": described(&metadata, "Standard list metadata."),
                },
                GVK: [kind.extension()],
            });
            self.schemas.insert(name.clone(), schema);
        }
        reference(&name)
    }

    /// `openAPIV3Schema` with what every object has.
    fn custom(&mut self, kind: Gvk<'_>, schema: &Value) -> Value {
        let mut schema = match self.convert(schema) {
            schema @ Value::Object(_) => schema,
            _ => json!({"x-kubernetes-preserve-unknown-fields": true}),
        };
        let metadata = self.refer(names::OBJECT_META);
        schema["type"] = "object".into();
        if !schema["properties"].is_object() {
            schema["properties"] = json!({});
        }
        schema["properties"]["apiVersion"] = api_version();
        schema["properties"]["kind"] = kind_field();
        schema["properties"]["metadata"] = described(&metadata, "Standard object metadata.");
        schema[GVK] = json!([kind.extension()]);
        schema
    }

    /// A schema in OpenAPI v3.0 form: nothing stands beside a `$ref`, and references lead into this document.
    fn convert(&mut self, schema: &Value) -> Value {
        let Value::Object(fields) = schema else {
            // `true` and `false` are schemas of JSON Schema, not of OpenAPI v3.0.
            return json!({});
        };
        let mut converted: Map<String, Value> = fields
            .iter()
            .filter(|(keyword, _)| {
                !matches!(keyword.as_str(), "$ref" | "$schema" | "$id" | "$defs" | "definitions" | "title")
            })
            .map(|(keyword, value)| (keyword.clone(), self.convert_keyword(keyword, value)))
            .collect();
        if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
            let reference = self.refer(target.rsplit('/').next().unwrap_or(target));
            if converted.is_empty() {
                return reference;
            }
            converted.insert("allOf".into(), json!([reference]));
        }
        let alternatives = ["type", "oneOf", "anyOf", "allOf"];
        let open = !alternatives.iter().any(|keyword| converted.contains_key(*keyword));
        if open && converted.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
            converted.insert("oneOf".into(), json!([{"type": "integer"}, {"type": "string"}]));
        }
        Value::Object(converted)
    }

    fn convert_keyword(&mut self, keyword: &str, value: &Value) -> Value {
        match (keyword, value) {
            ("properties", Value::Object(properties)) => {
                properties.iter().map(|(name, schema)| (name.clone(), self.convert(schema))).collect()
            }
            ("items" | "not", schema) | ("additionalProperties", schema @ Value::Object(_)) => {
                self.convert(schema)
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => {
                schemas.iter().map(|schema| self.convert(schema)).collect()
            }
            _ => value.clone(),
        }
    }
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn described(reference: &Value, description: &str) -> Value {
    json!({"description": description, "allOf": [reference]})
}

fn api_version() -> Value {
    json!({"description": "Group and version of the schema that the object follows.", "type": "string"})
}

fn kind_field() -> Value {
    json!({"description": "The kind of the object, in CamelCase; it cannot be changed.", "type": "string"})
}
