//! Manifests of a package: read, checked, put in order. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::DEFINITION_FILES;
use crate::model::Problem;

/// Largest manifest, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// Most objects of one VNF.
const MAX_OBJECTS: usize = 1000;

/// Kinds whose pods are a VDU's.
pub const WORKLOADS: [&str; 5] = ["DaemonSet", "Deployment", "Pod", "ReplicaSet", "StatefulSet"];

/// What others need comes before them. Kinds that are not named come with the custom resources, before the workloads.
const ORDER: [&[&str]; 8] = [
    &["Namespace"],
    &["CustomResourceDefinition", "PriorityClass", "RuntimeClass", "StorageClass"],
    &[
        "LimitRange",
        "NetworkPolicy",
        "PersistentVolume",
        "PodDisruptionBudget",
        "ResourceQuota",
        "ServiceAccount",
    ],
    &["ClusterRole", "Role"],
    &["ClusterRoleBinding", "RoleBinding"],
    &["ConfigMap", "PersistentVolumeClaim", "Secret", "Service"],
    &[],
    &[
        "CronJob",
        "DaemonSet",
        "Deployment",
        "Job",
        "Pod",
        "ReplicaSet",
        "ReplicationController",
        "StatefulSet",
    ],
];
const CUSTOM: usize = 6;
const LAST: usize = 8;

/// An object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Resource {
    /// The manifest: its path in the package.
    pub file: String,
    /// Which of its objects, from 0.
    pub index: u32,
    /// What comes before it: objects of a lower rank.
    pub rank: usize,
    /// The object.
    pub object: Value,
}

impl Resource {
    /// A text of it, by JSON pointer; empty if there is none.
    pub fn text(&self, path: &str) -> &str {
        self.object.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its kind.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// What it is called in plans: unique in a VNF.
    pub fn id(&self) -> String {
        let group = self.text("/apiVersion").split_once('/').map_or("", |(group, _)| group);
        let kind = if group.is_empty() { self.kind().to_owned() } else { format!("{}.{group}", self.kind()) };
        format!("{kind}/{}", self.name())
    }
}

/// Paths of manifests that a request names.
///
/// # Errors
/// The parameter is missing, or is no list of texts.
pub fn files(parameter: Option<&Value>) -> Result<Vec<String>, Problem> {
    let attribute = || format!("additionalParams.{DEFINITION_FILES}");
    let wrong = || Problem::bad(attribute(), "must be a list with the paths of the manifests in the package");
    let list = parameter.and_then(Value::as_array).filter(|list| !list.is_empty()).ok_or_else(wrong)?;
    list.iter().map(|path| path.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

/// Reads manifests; `read` gives the content of a file of the package.
///
/// # Errors
/// A file is not there or holds something else than Kubernetes objects, with the place of the mistake.
pub fn resources(
    files: &[String],
    read: &dyn Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Vec<Resource>, Problem> {
    let mut resources: Vec<Resource> = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, file) in files.iter().enumerate() {
        let attribute = format!("additionalParams.{DEFINITION_FILES}[{number}]");
        let wrong = |why: String| Problem::bad(&attribute, format!("{file}: {why}"));
        let bytes = read(file).map_err(wrong)?;
        for (index, object) in objects(&bytes).map_err(wrong)?.into_iter().enumerate() {
            let place = |why: &str| wrong(format!("object {}: {why}", index + 1));
            let rank = check(&object).map_err(|why| place(&why))?;
            let resource = Resource {
                file: file.clone(),
                index: u32::try_from(index).unwrap_or(u32::MAX),
                rank,
                object,
            };
            if !seen.insert((resource.id(), resource.text("/metadata/namespace").to_owned())) {
                return Err(place(&format!("{} is there twice", resource.id())));
            }
            resources.push(resource);
        }
    }
    if resources.is_empty() {
        let attribute = format!("additionalParams.{DEFINITION_FILES}");
        return Err(Problem::bad(attribute, "the manifests hold no objects"));
    }
    if resources.len() > MAX_OBJECTS {
        let attribute = format!("additionalParams.{DEFINITION_FILES}");
        return Err(Problem::bad(
            attribute,
            format!("there are {} objects, more than {MAX_OBJECTS}", resources.len()),
        ));
    }
    resources.sort_by_key(|resource| resource.rank);
    Ok(resources)
}

/// The object that a step works on.
///
/// # Errors
/// It is not there: the package is another one.
pub fn resource(
    file: &str,
    index: u32,
    read: &dyn Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Resource, Problem> {
    let all = resources(&[file.to_owned()], read)?;
    let found = all.into_iter().find(|resource| resource.index == index);
    found.ok_or_else(|| Problem::unprocessable(format!("{file} has no object {}", index + 1)))
}

/// The objects of a manifest: of several documents, and of Lists.
fn objects(bytes: &[u8]) -> Result<Vec<Value>, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it has {} bytes, more than {MAX_BYTES}", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                match list.remove("items") {
                    Some(Value::Array(items)) => objects.extend(items),
                    _ => return Err("a List needs items".to_owned()),
                }
            }
            object => objects.push(object),
        }
    }
    Ok(objects)
}

/// Whether it is an object at all; its rank.
fn check(object: &Value) -> Result<usize, String> {
    for path in ["/apiVersion", "/kind", "/metadata/name"] {
        if object.pointer(path).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("{} is missing", path[1..].replace('/', ".")));
        }
    }
    let core = object["apiVersion"].as_str().is_some_and(|version| {
        let group = version.split_once('/').map_or("", |(group, _)| group);
        group.is_empty() || group.ends_with(".k8s.io") || !group.contains('.')
    });
    let kind = object["kind"].as_str().unwrap_or_default();
    let known = ORDER.iter().position(|kinds| kinds.contains(&kind)).filter(|_| core);
    Ok(known.unwrap_or(CUSTOM))
}

/// Ranks, from first to last.
pub fn ranks() -> impl DoubleEndedIterator<Item = usize> {
    0..LAST
}

/// The namespace of a VNF: what the request says, or else what the manifests say.
///
/// # Errors
/// Objects are in several namespaces, or in another than the request says.
pub fn namespace(resources: &[Resource], asked: Option<&str>) -> Result<String, Problem> {
    let named: BTreeSet<&str> = resources
        .iter()
        .map(|resource| resource.text("/metadata/namespace"))
        .filter(|name| !name.is_empty())
        .collect();
    let attribute = "additionalParams.namespace";
    match (asked.filter(|asked| !asked.is_empty()), named.len()) {
        (Some(asked), _) => match named.iter().find(|name| **name != asked) {
            None => Ok(asked.to_owned()),
            Some(other) => Err(Problem::bad(
                attribute,
                format!("is {asked:?}, but a manifest puts an object into {other:?}"),
            )),
        },
        (None, 0) => Ok("default".to_owned()),
        (None, 1) => Ok(named.into_iter().next().unwrap_or("default").to_owned()),
        (None, _) => {
            let names = named.into_iter().collect::<Vec<_>>().join(", ");
            Err(Problem::bad(
                attribute,
                format!("objects of one VNF are in one namespace; the manifests have {names}"),
            ))
        }
    }
}

/// The workload of a VDU.
///
/// # Errors
/// There is none of that name, or there are several.
pub fn workload<'a>(resources: &'a [Resource], vdu: &str, name: &str) -> Result<&'a Resource, Problem> {
    let is_it = |resource: &&Resource| WORKLOADS.contains(&resource.kind()) && resource.name() == name;
    let mut found = resources.iter().filter(is_it);
    match (found.next(), found.next()) {
        (Some(resource), None) => Ok(resource),
        (None, _) => Err(Problem::bad(
            format!("additionalParams.{DEFINITION_FILES}"),
            format!(
                "no manifest has a workload ({}) named {name:?}, which is the VDU {vdu}",
                WORKLOADS.join(", ")
            ),
        )),
        (Some(one), Some(other)) => Err(Problem::bad(
            format!("additionalParams.{DEFINITION_FILES}"),
            format!("both {} and {} are named as the VDU {vdu}", one.id(), other.id()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec: {replicas: 1}
---
# nothing
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: settings}}
- {apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data}}
---
apiVersion: example.com/v1
kind: Deployment
metadata: {name: thing}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
";

    fn read(text: &'static str) -> impl Fn(&str) -> Result<Vec<u8>, String> {
        move |_| Ok(text.as_bytes().to_vec())
    }

    fn problem(text: &'static str) -> String {
        resources(&["a.yaml".to_owned()], &read(text)).unwrap_err().to_string()
    }

    #[test]
    fn what_is_needed_comes_first() {
        let all = resources(&["a.yaml".to_owned()], &read(ALL)).unwrap();
        let ids: Vec<String> = all.iter().map(Resource::id).collect();
        assert_eq!(
            ids,
            [
                "Namespace/shop",
                "ConfigMap/settings",
                "PersistentVolumeClaim/data",
                "Deployment.example.com/thing",
                "Deployment.apps/web"
            ]
        );
        assert_eq!(resource("a.yaml", 0, &read(ALL)).unwrap().id(), "Deployment.apps/web");
        assert!(resource("a.yaml", 9, &read(ALL)).is_err());
        assert_eq!(namespace(&all, None).unwrap(), "shop");
        assert_eq!(
            namespace(&all, Some("other")).unwrap_err().attribute.as_deref(),
            Some("additionalParams.namespace")
        );
        assert_eq!(workload(&all, "VDU1", "web").unwrap().kind(), "Deployment");
        assert!(workload(&all, "VDU1", "none").unwrap_err().to_string().contains("VDU1"));
    }

    #[test]
    fn mistakes_have_their_place() {
        assert!(
            problem("{apiVersion: v1, kind: Pod}").contains("a.yaml: object 1: metadata.name is missing")
        );
        assert!(problem("just text").contains("apiVersion is missing"));
        assert!(problem("a: [").contains("a.yaml"));
        assert!(problem("").contains("no objects"));
        let twice = "{apiVersion: v1, kind: Pod, metadata: {name: a}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: a}}";
        assert!(problem(twice).contains("object 2: Pod/a is there twice"));
        let mixed = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: one}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: two}}";
        let all = resources(&["a".to_owned()], &read(mixed)).unwrap();
        assert!(namespace(&all, None).unwrap_err().to_string().contains("one, two"));
        assert!(files(None).is_err() && files(Some(&serde_json::json!([1]))).is_err());
    }
}
