//! The paths of a resource with their operations.

use serde_json::{Map, Value, json};

use super::components::Components;
use super::operation::{Operation, Scope, Target};
use super::{Gvk, Resource, Schema, Subresource, names};

/// A verb and the HTTP method by which it is asked for.
type Method = (&'static str, &'static str);

/// What can be done with all objects at once.
const COLLECTION: &[Method] = &[("list", "get"), ("create", "post"), ("deletecollection", "delete")];

/// What can be done with one object.
const OBJECT: &[Method] = &[("get", "get"), ("update", "put"), ("patch", "patch"), ("delete", "delete")];

/// What can be done with a subresource.
const SUBRESOURCE: &[Method] = &[("get", "get"), ("update", "put"), ("patch", "patch"), ("create", "post")];

/// Adds the paths of a resource.
pub(super) fn add(
    paths: &mut Map<String, Value>,
    components: &mut Components<'_>,
    group: &str,
    version: &str,
    resource: &Resource<'_>,
) {
    let base = format!("/{}", names::document_path(group, version));
    let own = Target {
        kind: Gvk { group, version, kind: resource.kind },
        object: components.object(resource),
        strategic_merge: matches!(resource.schema, Schema::BuiltIn),
        subresource: None,
    };
    let list = resource.verbs.contains(&"list").then(|| components.list(resource));
    let mut path =
        |address: String, scope: Scope, methods: &[Method], verbs: &[&str], target: &Target<'_>| {
            let mut operations = Map::new();
            for (verb, method) in methods.iter().filter(|(verb, _)| verbs.contains(verb)) {
                let operation = Operation { verb, scope, resource, target, list: list.as_ref() };
                operations.insert((*method).to_owned(), operation.render(components));
            }
            if !operations.is_empty() {
                operations.insert("parameters".into(), scope.path_parameters());
                paths.insert(address, Value::Object(operations));
            }
        };
    let plural = resource.plural;
    let (collection, scope) = if resource.namespaced {
        let everywhere = [("list", "get")];
        path(format!("{base}/{plural}"), Scope::EVERYWHERE, &everywhere, &resource.verbs, &own);
        (format!("{base}/namespaces/{{namespace}}/{plural}"), Scope::NAMESPACE)
    } else {
        (format!("{base}/{plural}"), Scope::CLUSTER)
    };
    let object = format!("{collection}/{{name}}");
    path(collection, scope, COLLECTION, &resource.verbs, &own);
    path(object.clone(), scope.named(), OBJECT, &resource.verbs, &own);
    for subresource in &resource.subresources {
        let target = subresource_target(&own, subresource);
        path(
            format!("{object}/{}", subresource.name),
            scope.named(),
            SUBRESOURCE,
            &subresource.verbs,
            &target,
        );
    }
}

fn subresource_target<'a>(own: &Target<'a>, subresource: &Subresource<'a>) -> Target<'a> {
    Target {
        kind: subresource.kind.unwrap_or(own.kind),
        // A kind of another group is filled in by the operation, which has the components.
        object: if subresource.kind.is_some() { Value::Null } else { own.object.clone() },
        strategic_merge: own.strategic_merge,
        subresource: Some(subresource.name),
    }
}

impl Scope {
    /// The parameters that are part of the path.
    fn path_parameters(self) -> Value {
        let parameter = |name: &str, description: &str| {
            json!({
                "name": name, "in": "path", "required": true, "description": description,
                "schema": {"type": "string", "uniqueItems": true},
            })
        };
        let mut parameters = Vec::new();
        if self.name {
            parameters.push(parameter("name", "Name of the object."));
        }
        if self.namespace {
            parameters.push(parameter("namespace", "Namespace of the object."));
        }
        parameters.into()
    }
}
