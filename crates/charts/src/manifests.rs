//! What a chart becomes: objects in the order in which they are installed, CustomResourceDefinitions, hooks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::yaml;

/// Annotation that makes an object a hook: its events.
const HOOK: &str = "helm.sh/hook";
/// Annotation with a hook's weight.
const WEIGHT: &str = "helm.sh/hook-weight";
/// Annotation that tells when a hook's object is deleted.
const DELETE_POLICY: &str = "helm.sh/hook-delete-policy";

/// The order in which helm installs kinds; others come after them by name.
const KINDS: [&str; 36] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
];

/// An object as it is to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`, where the manifest has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The file it came from, as helm names it.
    pub source: String,
    /// The manifest: YAML as the chart has it, JSON if it was an item of a list.
    pub manifest: String,
}

/// When a hook is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookEvent {
    /// Before anything else is installed.
    PreInstall,
    /// After all else was installed.
    PostInstall,
    /// Before anything is deleted.
    PreDelete,
    /// After all else was deleted.
    PostDelete,
    /// Before an update.
    PreUpgrade,
    /// After an update.
    PostUpgrade,
    /// Before a roll-back.
    PreRollback,
    /// After a roll-back.
    PostRollback,
    /// Only when somebody asks for a test.
    Test,
}

impl HookEvent {
    /// As it is written in an annotation and in an AppContext.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreInstall => "pre-install",
            Self::PostInstall => "post-install",
            Self::PreDelete => "pre-delete",
            Self::PostDelete => "post-delete",
            Self::PreUpgrade => "pre-upgrade",
            Self::PostUpgrade => "post-upgrade",
            Self::PreRollback => "pre-rollback",
            Self::PostRollback => "post-rollback",
            Self::Test => "test",
        }
    }

    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "pre-install" => Self::PreInstall,
            "post-install" => Self::PostInstall,
            "pre-delete" => Self::PreDelete,
            "post-delete" => Self::PostDelete,
            "pre-upgrade" => Self::PreUpgrade,
            "post-upgrade" => Self::PostUpgrade,
            "pre-rollback" => Self::PreRollback,
            "post-rollback" => Self::PostRollback,
            "test" | "test-success" => Self::Test,
            _ => return None,
        })
    }
}

/// An object that is applied on certain events, not with the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The object.
    #[serde(flatten)]
    pub object: Object,
    /// Its events; never only tests.
    pub events: BTreeSet<HookEvent>,
    /// Hooks of one event run by weight, then by name.
    pub weight: i64,
    /// When the object is deleted: `before-hook-creation`, `hook-succeeded`, `hook-failed`.
    pub delete_policies: Vec<String>,
}

/// What a chart became.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rendering {
    /// CustomResourceDefinitions: they come first.
    pub crds: Vec<Object>,
    /// All other objects, in the order in which they are installed.
    pub manifests: Vec<Object>,
    /// Hooks by weight, then name.
    pub hooks: Vec<Hook>,
    /// What the user should know although the chart was rendered.
    pub warnings: Vec<String>,
}

impl Rendering {
    /// Hooks of an event, in their order.
    pub fn hooks_of(&self, event: HookEvent) -> impl Iterator<Item = &Hook> {
        self.hooks.iter().filter(move |hook| hook.events.contains(&event))
    }

    /// Bytes of all manifests.
    pub fn size(&self) -> usize {
        let objects =
            self.crds.iter().chain(&self.manifests).chain(self.hooks.iter().map(|hook| &hook.object));
        objects.map(|object| object.manifest.len() + 256).sum()
    }
}

/// A manifest is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{source_file}, document {document}: {why}")]
pub struct ManifestError {
    /// The file.
    pub source_file: String,
    /// Which document of the file, from 1.
    pub document: usize,
    /// What is wrong, and what to do.
    pub why: String,
}

/// Reads what helm printed: manifests in their order, each with its source, then hooks.
///
/// # Errors
/// A manifest that is no object of Kubernetes.
pub fn of_helm(printed: &str) -> Result<Rendering, ManifestError> {
    let mut gathered = Gathered::default();
    let (mut source, mut document) = (String::new(), 0);
    for part in yaml_parts(printed) {
        let part = part.trim_start_matches(['\n', ' ']);
        let text =
            match part.strip_prefix("# Source: ").and_then(|rest| rest.split_once('\n').or(Some((rest, ""))))
            {
                Some((path, text)) => {
                    if source != path {
                        (source, document) = (path.to_owned(), 0);
                    }
                    text
                }
                None => part,
            };
        if yaml::documents(text).is_empty() {
            continue;
        }
        document += 1;
        gathered.add(&source, document, text)?;
    }
    Ok(gathered.finish())
}

/// Reads files of plain manifests. They are put into the order in which helm installs, as if they were a chart's templates.
///
/// # Errors
/// A manifest that is no object of Kubernetes.
pub fn of_files<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Rendering, ManifestError> {
    let mut gathered = Gathered::default();
    for (path, text) in files {
        for (index, document) in yaml::documents(text).into_iter().enumerate() {
            gathered.add(path, index + 1, document)?;
        }
    }
    let mut rendering = gathered.finish();
    rendering.manifests.sort_by(|one, other| rank(&one.kind).cmp(&rank(&other.kind)));
    Ok(rendering)
}

/// Like [`yaml::documents`], but comments stay: they tell the source.
fn yaml_parts(printed: &str) -> impl Iterator<Item = &str> {
    printed
        .split_inclusive('\n')
        .scan(0, |at, line| {
            let begin = *at;
            *at += line.len();
            Some((begin, line))
        })
        .filter(|(_, line)| {
            line.strip_prefix("---")
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        })
        .map(|(begin, _)| begin)
        .chain([printed.len()])
        .scan(0, move |from, to| {
            let part = &printed[*from..to];
            *from = to;
            Some(part.strip_prefix("---").unwrap_or(part))
        })
}

/// Where a kind is in the order: its place, or its name behind all places.
fn rank(kind: &str) -> (usize, &str) {
    match KINDS.iter().position(|known| *known == kind) {
        Some(place) => (place, ""),
        None => (KINDS.len(), kind),
    }
}

/// Objects that were read so far.
#[derive(Default)]
struct Gathered {
    rendering: Rendering,
}

impl Gathered {
    fn add(&mut self, source: &str, document: usize, text: &str) -> Result<(), ManifestError> {
        let refuse = |why: String| ManifestError { source_file: source.to_owned(), document, why };
        let value = yaml::read(text).map_err(&refuse)?;
        let Value::Object(object) = value else {
            return Err(refuse("it is not a mapping; write apiVersion, kind and metadata".to_owned()));
        };
        match items(&object) {
            Some(items) => {
                for item in items {
                    let Value::Object(item) = item else {
                        return Err(refuse(
                            "an item of the list is not a mapping; write an object".to_owned(),
                        ));
                    };
                    self.object(source, item, Value::Object(item.clone()).to_string()).map_err(&refuse)?;
                }
            }
            None => self.object(source, &object, format!("{}\n", text.trim())).map_err(&refuse)?,
        }
        Ok(())
    }

    fn object(&mut self, source: &str, value: &Map<String, Value>, manifest: String) -> Result<(), String> {
        let text = |value: Option<&Value>, name: &str| match value {
            Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
            Some(Value::Null) | None => Err(format!("{name} is missing; every object needs it")),
            Some(_) => Err(format!("{name} is not a text; quote it")),
        };
        let metadata = value.get("metadata");
        let field = |name: &str| metadata.and_then(|metadata| metadata.get(name));
        let object = Object {
            api_version: text(value.get("apiVersion"), "apiVersion")?,
            kind: text(value.get("kind"), "kind")?,
            name: text(field("name"), "metadata.name")?,
            namespace: field("namespace")
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            source: source.to_owned(),
            manifest,
        };
        let annotation =
            |name: &str| field("annotations").and_then(|all| all.get(name)).and_then(Value::as_str);
        let definition = object.kind == "CustomResourceDefinition"
            && object.api_version.starts_with("apiextensions.k8s.io/");
        match annotation(HOOK) {
            // What is in `crds` is no template, hence no hook, whatever was meant for helm 2.
            Some(_) if definition && source.contains("/crds/") => self.rendering.crds.push(object),
            Some(events) => self.hook(object, events, annotation(WEIGHT), annotation(DELETE_POLICY)),
            None if definition => self.rendering.crds.push(object),
            None => self.rendering.manifests.push(object),
        }
        Ok(())
    }

    fn hook(&mut self, object: Object, events: &str, weight: Option<&str>, policies: Option<&str>) {
        let names = || events.split(',').map(|event| event.trim().to_ascii_lowercase());
        let known: Option<BTreeSet<HookEvent>> = names().map(|event| HookEvent::of(&event)).collect();
        let Object { kind, name, source, .. } = &object;
        let Some(events) = known else {
            let strange = names().find(|event| HookEvent::of(event).is_none()).unwrap_or_default();
            let text =
                format!("{source}: {kind} {name} is left out, as helm does: there is no hook `{strange}`");
            self.rendering.warnings.push(text);
            return;
        };
        if events.iter().all(|event| *event == HookEvent::Test) {
            return;
        }
        let weight = weight.and_then(|weight| weight.parse().ok()).unwrap_or(0);
        let policies: Vec<String> = policies
            .unwrap_or_default()
            .split(',')
            .map(|policy| policy.trim().to_ascii_lowercase())
            .collect();
        let delete_policies = policies.into_iter().filter(|policy| !policy.is_empty()).collect();
        self.rendering.hooks.push(Hook { object, events, weight, delete_policies });
    }

    fn finish(mut self) -> Rendering {
        // Stable: helm printed them in the order of their kinds.
        self.rendering
            .hooks
            .sort_by(|one, other| (one.weight, &one.object.name).cmp(&(other.weight, &other.object.name)));
        self.rendering
    }
}

/// The items of a `List`, or of a list of one kind.
fn items(object: &Map<String, Value>) -> Option<&Vec<Value>> {
    let named = object.get("metadata").is_some_and(|metadata| metadata.get("name").is_some());
    let list = object.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    object.get("items").and_then(Value::as_array).filter(|_| list && !named)
}

#[cfg(test)]
mod tests;
