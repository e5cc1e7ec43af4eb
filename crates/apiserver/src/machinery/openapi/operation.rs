//! One operation: parameters, bodies, answers, extensions.

use serde_json::{Map, Value, json};

use super::components::Components;
use super::{Gvk, Resource, names};

/// Media types of patches that every kind takes.
const PATCHES: &[&str] =
    &["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// The media type of patches that only built-in kinds take. `kubectl apply` looks for it.
const STRATEGIC_MERGE_PATCH: &str = "application/strategic-merge-patch+json";

/// What an operation works on, as far as the path says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    pub(super) namespace: bool,
    pub(super) name: bool,
    everywhere: bool,
}

impl Scope {
    pub(super) const CLUSTER: Self = Self { namespace: false, name: false, everywhere: false };
    pub(super) const NAMESPACE: Self = Self { namespace: true, name: false, everywhere: false };
    /// Objects of all namespaces.
    pub(super) const EVERYWHERE: Self = Self { namespace: false, name: false, everywhere: true };

    /// One object of the scope.
    pub(super) const fn named(self) -> Self {
        Self { name: true, ..self }
    }
}

/// What is read and written.
pub(super) struct Target<'a> {
    pub(super) kind: Gvk<'a>,
    /// Reference to its schema; null if it is to be looked up by kind.
    pub(super) object: Value,
    pub(super) strategic_merge: bool,
    pub(super) subresource: Option<&'a str>,
}

/// An operation before it is rendered.
pub(super) struct Operation<'a> {
    pub(super) verb: &'a str,
    pub(super) scope: Scope,
    pub(super) resource: &'a Resource<'a>,
    pub(super) target: &'a Target<'a>,
    /// Reference to the schema of lists.
    pub(super) list: Option<&'a Value>,
}

impl Operation<'_> {
    pub(super) fn render(&self, components: &mut Components<'_>) -> Value {
        let object = match &self.target.object {
            Value::Null => components.built_in(self.target.kind),
            object => object.clone(),
        };
        let mut operation = Map::new();
        operation.insert("operationId".into(), self.id().into());
        operation.insert("description".into(), self.description().into());
        operation.insert("parameters".into(), self.parameters());
        if let Some(body) = self.body(components, &object) {
            operation.insert("requestBody".into(), body);
        }
        operation.insert("responses".into(), self.responses(components, &object));
        operation.insert("x-kubernetes-action".into(), self.action().into());
        operation.insert("x-kubernetes-group-version-kind".into(), self.target.kind.extension());
        Value::Object(operation)
    }

    fn action(&self) -> &str {
        match self.verb {
            "create" if self.target.subresource.is_some() => "connect",
            "create" => "post",
            "update" => "put",
            verb => verb,
        }
    }

    /// Unique in the document, and such as generators of clients can make function names of.
    fn id(&self) -> String {
        let scope = match self.scope {
            Scope { everywhere: true, .. } => "ForAllNamespaces",
            Scope { namespace: true, .. } => "Namespaced",
            _ => "",
        };
        let subresource = self.target.subresource.unwrap_or_default();
        format!("{}{scope}{}{}", self.verb, capitalized(self.resource.plural), capitalized(subresource))
    }

    fn description(&self) -> String {
        let of = self.target.subresource.map(|name| format!("{name} of ")).unwrap_or_default();
        let kind = self.resource.kind;
        match self.verb {
            "create" if of.is_empty() => format!("Create an object of kind {kind}."),
            "create" => format!("Post to {of}an object of kind {kind}."),
            "deletecollection" => format!("Delete all objects of kind {kind} that match."),
            "delete" => format!("Delete an object of kind {kind}."),
            "list" => format!("List or watch objects of kind {kind}."),
            "get" => format!("Read {of}an object of kind {kind}."),
            "patch" => format!("Change parts of {of}an object of kind {kind}."),
            _ => format!("Replace {of}an object of kind {kind}."),
        }
    }

    fn parameters(&self) -> Value {
        let mut parameters = vec![text("pretty", "Indent the answer.")];
        match self.verb {
            "list" => parameters.extend(selection(true)),
            "deletecollection" => {
                parameters.extend(selection(false));
                parameters.extend(deletion());
            }
            "delete" => parameters.extend(deletion()),
            "create" | "update" | "patch" => parameters.extend(writing()),
            _ => {}
        }
        if self.verb == "patch" {
            parameters.push(boolean("force", "With server-side apply: take fields that others manage."));
        }
        parameters.into()
    }

    fn body(&self, components: &mut Components<'_>, object: &Value) -> Option<Value> {
        match self.verb {
            "create" | "update" => Some(json!({"required": true, "content": {"*/*": {"schema": object}}})),
            "patch" => {
                let patch = components.refer(names::PATCH);
                let strategic = self.target.strategic_merge.then_some(STRATEGIC_MERGE_PATCH);
                let content: Map<String, Value> = PATCHES
                    .iter()
                    .copied()
                    .chain(strategic)
                    .map(|media_type| (media_type.to_owned(), json!({"schema": patch})))
                    .collect();
                Some(json!({"required": true, "content": content}))
            }
            "delete" | "deletecollection" => {
                let options = components.refer(names::DELETE_OPTIONS);
                Some(json!({"content": {"*/*": {"schema": options}}}))
            }
            _ => None,
        }
    }

    fn responses(&self, components: &mut Components<'_>, object: &Value) -> Value {
        let answer = |description: &str, schema: &Value| {
            let content: Map<String, Value> = ["application/json", "application/yaml"]
                .into_iter()
                .map(|media_type| (media_type.to_owned(), json!({"schema": schema})))
                .collect();
            json!({"description": description, "content": content})
        };
        let mut responses = Map::new();
        match self.verb {
            "list" => {
                responses.insert("200".into(), answer("OK", self.list.unwrap_or(object)));
            }
            "delete" | "deletecollection" => {
                let status = components.refer(names::STATUS);
                responses.insert("200".into(), answer("OK", &status));
                if self.verb == "delete" {
                    responses.insert("202".into(), answer("Accepted", &status));
                }
            }
            verb => {
                responses.insert("200".into(), answer("OK", object));
                if matches!(verb, "create" | "update" | "patch") {
                    responses.insert("201".into(), answer("Created", object));
                }
            }
        }
        responses.insert("401".into(), json!({"description": "Unauthorized"}));
        Value::Object(responses)
    }
}

/// `podtemplates` → `Podtemplates`.
fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn query(name: &str, value_type: &str, description: &str) -> Value {
    json!({
        "name": name, "in": "query", "description": description,
        "schema": {"type": value_type, "uniqueItems": true},
    })
}

fn text(name: &str, description: &str) -> Value {
    query(name, "string", description)
}

fn boolean(name: &str, description: &str) -> Value {
    query(name, "boolean", description)
}

/// Which objects, and in which state.
fn selection(watch: bool) -> Vec<Value> {
    let mut parameters = vec![
        text("labelSelector", "Only objects whose labels match."),
        text("fieldSelector", "Only objects whose fields match."),
        query("limit", "integer", "At most so many objects; the answer says how to continue."),
        text("continue", "The rest of a list that a limit cut off."),
        text("resourceVersion", "Which state of the objects."),
        text("resourceVersionMatch", "How resourceVersion is meant: Exact or NotOlderThan."),
        query("timeoutSeconds", "integer", "Longest time for the answer, in seconds."),
    ];
    if watch {
        parameters.extend([
            boolean("watch", "Follow changes instead of listing."),
            boolean(
                "allowWatchBookmarks",
                "Tell the resource version from time to time, with events of type BOOKMARK.",
            ),
            boolean("sendInitialEvents", "Begin a watch with the objects that there are."),
        ]);
    }
    parameters
}

/// How objects are written. `kubectl` validates on the server where it finds `fieldValidation`.
fn writing() -> Vec<Value> {
    vec![
        text("dryRun", "All: do everything but store the result."),
        text("fieldManager", "Who the changed fields belong to, for server-side apply."),
        text("fieldValidation", "What happens on unknown and duplicate fields: Ignore, Warn or Strict."),
    ]
}

fn deletion() -> Vec<Value> {
    vec![
        text("dryRun", "All: do everything but delete."),
        query("gracePeriodSeconds", "integer", "Time to end in an orderly way, in seconds; 0 for none."),
        text("propagationPolicy", "What becomes of dependents: Orphan, Background or Foreground."),
    ]
}
