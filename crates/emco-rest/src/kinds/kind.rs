//! A kind of documents as the service handles it, whatever its type.

use std::{
    any::Any,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{self, Document, DocumentPath, PathError},
};
use drystone_engine::harness::{Caches, WatchedObject};
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, Client, CustomResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::{Behaviour, FileRule, Form, Reference};
use crate::{
    refusal::Refusal,
    schema::{Faults, Field, Shape},
    tree::Tree,
};

/// What all documents have in their specification, and in their body elsewhere.
const COMMON: [&str; 4] = ["path", "description", "userData1", "userData2"];

/// How long a document is written again whose status others write at the same time.
const MEANWHILE: Duration = Duration::from_secs(10);

/// The pause between two of these writes.
const PAUSE: Duration = Duration::from_millis(2);

/// A document, whatever its type.
pub(crate) trait Shown: Any + Send + Sync + std::fmt::Debug {
    /// Its path.
    fn path(&self) -> &str;
    /// Its metadata as a resource.
    fn meta(&self) -> &ObjectMeta;
    /// The body that clients see, without files and secrets.
    fn body(&self) -> Value;
    /// What it needs besides what it is below.
    fn references(&self) -> Vec<Reference>;
    /// What no other may have, too.
    fn claims(&self) -> Option<String>;
    /// The files that it has.
    fn files(&self) -> Vec<drystone_api::emco::FileReference>;
    /// What is wrong with it beyond its schema.
    fn faults(&self, has_file: bool) -> Vec<String>;
    /// Whether it may be deleted now.
    fn may_go(&self) -> Result<(), Refusal>;
    /// Whether something below it may be made, changed or deleted now.
    fn may_have_children(&self, child: &'static str, is_deletion: bool) -> Result<(), Refusal>;
    /// Itself, to be asked for its type.
    fn as_any(&self) -> &dyn Any;
}

/// A kind of documents, whatever its type.
#[async_trait]
pub(crate) trait Kind: Send + Sync + std::fmt::Debug {
    /// Its name: `App`.
    fn name(&self) -> &'static str;
    /// In plural, as access policy names it: `apps`.
    fn plural(&self) -> &str;
    /// What EMCO calls it.
    fn thing(&self) -> &'static str;
    /// Pattern of its paths.
    fn pattern(&self) -> &'static str;
    /// Its files.
    fn files(&self) -> FileRule;
    /// Status of the reply to a PUT of something that was there.
    fn replaced(&self) -> StatusCode;
    /// Whether a path is of the kind.
    fn parse<'a>(&self, path: &'a str) -> Result<DocumentPath<'a>, PathError>;
    /// The schema of the body's `spec`, for people.
    fn schema(&self) -> Value;
    /// Reads `spec` of a body.
    fn read(&self, spec: Value) -> Result<Map<String, Value>, Refusal>;
    /// Makes a document of a specification.
    fn make(&self, name: &str, spec: Map<String, Value>) -> Result<Arc<dyn Shown>, Refusal>;
    /// Follows the documents of the kind until `shutdown`; the result tells when all are there.
    fn follow(
        &'static self,
        caches: &Caches,
        tree: &Tree,
        shutdown: &CancellationToken,
    ) -> tokio::task::JoinHandle<bool>;
    /// Writes a new document.
    async fn create(&self, client: &Client, new: &dyn Shown) -> Result<Arc<dyn Shown>, Refusal>;
    /// Writes a document in the place of an old one, if that is still as it was.
    async fn replace(
        &self,
        client: &Client,
        old: &dyn Shown,
        new: &dyn Shown,
    ) -> Result<Arc<dyn Shown>, Refusal>;
    /// Deletes a document.
    async fn delete(&self, client: &Client, old: &dyn Shown) -> Result<(), Refusal>;
}

/// A kind of documents.
#[derive(Debug)]
struct Of<K> {
    name: &'static str,
    plural: String,
    shape: Shape,
    schema: Value,
    kind: PhantomData<fn() -> K>,
}

/// All kinds; made once.
pub(crate) fn all() -> &'static [Box<dyn Kind>] {
    static ALL: std::sync::OnceLock<Vec<Box<dyn Kind>>> = std::sync::OnceLock::new();
    macro_rules! kinds {
        ($($kind:ident),*) => { vec![$(Box::new(Of::<emco::$kind>::new(stringify!($kind)))),*] };
    }
    ALL.get_or_init(|| drystone_api::for_each_emco_document!(kinds))
}

impl<K> Of<K>
where
    K: Behaviour + CustomResourceExt,
{
    fn new(name: &'static str) -> Self {
        let definition = K::crd();
        let plural = definition.spec.names.plural.clone();
        let versions = definition.spec.versions.into_iter();
        let schema = versions.filter_map(|version| version.schema?.open_api_v3_schema).next();
        let spec = schema.and_then(|schema| schema.properties?.remove("spec")).unwrap_or_default();
        let hidden = |name: &str| {
            COMMON.contains(&name) || K::FILES.members().contains(&name) || K::HIDDEN.contains(&name)
        };
        let mut schema = serde_json::to_value(&spec).unwrap_or_default();
        if let Some(properties) = schema["properties"].as_object_mut() {
            properties.retain(|name, _| !hidden(name));
        }
        if let Some(required) = schema["required"].as_array_mut() {
            required.retain(|name| !name.as_str().is_some_and(hidden));
        }
        let shape = match Shape::of(&spec) {
            Shape::Object(fields) => {
                Shape::Object(fields.into_iter().filter(|Field { name, .. }| !hidden(name)).collect())
            }
            other => other,
        };
        Self { name, plural, shape, schema, kind: PhantomData }
    }
}

impl<K> Shown for K
where
    K: Behaviour + WatchedObject + Serialize,
{
    fn path(&self) -> &str {
        Document::path(self)
    }

    fn meta(&self) -> &ObjectMeta {
        kube::Resource::meta(self)
    }

    fn body(&self) -> Value {
        let path = Document::path(self);
        let mut spec = spec_of(self);
        for name in COMMON.iter().chain(K::FILES.members()) {
            spec.remove(*name);
        }
        let (description, first, second) = self.remarks();
        let metadata = json!({"name": self.document_name(), "description": description,
                              "userData1": first, "userData2": second});
        match K::to_body(spec, path) {
            Form::Spec(spec) if spec.is_empty() => json!({"metadata": metadata}),
            Form::Spec(spec) => json!({"metadata": metadata, "spec": spec}),
            Form::Whole(body) => body,
        }
    }

    fn references(&self) -> Vec<Reference> {
        Behaviour::references(self)
    }

    fn claims(&self) -> Option<String> {
        Behaviour::claims(self)
    }

    fn files(&self) -> Vec<drystone_api::emco::FileReference> {
        let mut spec = spec_of(self);
        let found = K::FILES.members().iter().filter_map(|name| spec.remove(*name));
        let each = found.flat_map(|found| match found {
            Value::Array(files) => files,
            one => vec![one],
        });
        each.filter_map(|file| serde_json::from_value(file).ok()).collect()
    }

    fn faults(&self, has_file: bool) -> Vec<String> {
        Behaviour::faults(self, has_file)
    }

    fn may_go(&self) -> Result<(), Refusal> {
        Behaviour::may_go(self)
    }

    fn may_have_children(&self, child: &'static str, is_deletion: bool) -> Result<(), Refusal> {
        Behaviour::may_have_children(self, child, is_deletion)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// The specification of a document.
fn spec_of<K: Serialize>(object: &K) -> Map<String, Value> {
    let whole = serde_json::to_value(object).unwrap_or_default();
    match whole {
        Value::Object(mut whole) => match whole.remove("spec") {
            Some(Value::Object(spec)) => spec,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

/// What stays the same as long as only the status of a document changes.
fn substance<K: kube::Resource>(object: &K) -> (Option<&str>, Option<i64>, bool) {
    let meta = kube::Resource::meta(object);
    (meta.uid.as_deref(), meta.generation, meta.deletion_timestamp.is_some())
}

impl<K> Of<K>
where
    K: Behaviour + WatchedObject + Serialize,
{
    fn api(client: &Client) -> Api<K> {
        Api::namespaced(client.clone(), SYSTEM_NAMESPACE)
    }

    fn typed<'a>(&self, object: &'a dyn Shown) -> Result<&'a K, Refusal> {
        let wrong = || Refusal::internal(&format!("{} is no {}", object.path(), self.name));
        object.as_any().downcast_ref::<K>().ok_or_else(wrong)
    }
}

#[async_trait]
impl<K> Kind for Of<K>
where
    K: Behaviour + CustomResourceExt + WatchedObject + Serialize,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn plural(&self) -> &str {
        &self.plural
    }

    fn thing(&self) -> &'static str {
        K::THING
    }

    fn pattern(&self) -> &'static str {
        K::PATTERN
    }

    fn files(&self) -> FileRule {
        K::FILES
    }

    fn replaced(&self) -> StatusCode {
        K::REPLACED
    }

    fn parse<'a>(&self, path: &'a str) -> Result<DocumentPath<'a>, PathError> {
        DocumentPath::parse(K::PATTERN, path)
    }

    fn schema(&self) -> Value {
        self.schema.clone()
    }

    fn read(&self, mut spec: Value) -> Result<Map<String, Value>, Refusal> {
        K::from_body(&mut spec);
        let spec = if spec.is_null() { Value::Object(Map::new()) } else { spec };
        let mut faults = Faults::default();
        let read = self.shape.read(spec, "spec", &mut faults);
        faults.into_result()?;
        match read {
            Some(Value::Object(spec)) => Ok(spec),
            _ => Ok(Map::new()),
        }
    }

    fn make(&self, name: &str, spec: Map<String, Value>) -> Result<Arc<dyn Shown>, Refusal> {
        let whole = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE},
            "spec": spec
        });
        let made: K = serde_path_to_error::deserialize(whole).map_err(|error| {
            let path = error.path().to_string();
            Refusal::unprocessable(format!("{path}: {}", error.inner()))
        })?;
        Ok(Arc::new(made))
    }

    fn follow(
        &'static self,
        caches: &Caches,
        tree: &Tree,
        shutdown: &CancellationToken,
    ) -> tokio::task::JoinHandle<bool> {
        tree.clone().follow(self, caches.of::<K>(), shutdown)
    }

    async fn create(&self, client: &Client, new: &dyn Shown) -> Result<Arc<dyn Shown>, Refusal> {
        let new = self.typed(new)?;
        match Self::api(client).create(&PostParams::default(), new).await {
            Ok(made) => Ok(Arc::new(made)),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(Refusal::conflict(format!(
                "{} already exists: {}; if it was deleted, what was made of it is still being taken away: try again",
                K::THING,
                Document::path(new)
            ))),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(
        &self,
        client: &Client,
        old: &dyn Shown,
        new: &dyn Shown,
    ) -> Result<Arc<dyn Shown>, Refusal> {
        let (old, new) = (self.typed(old)?, self.typed(new)?);
        let (api, path) = (Self::api(client), Document::path(new));
        let name = kube::Resource::meta(old).name.clone().unwrap_or_default();
        let missing = || Refusal::not_found(K::THING, path);
        let deadline = Instant::now() + MEANWHILE;
        let mut now = old.clone();
        loop {
            now.may_become(new)?;
            let mut written = new.clone();
            *written.meta_mut() = kube::Resource::meta(&now).clone();
            match api.replace(&name, &PostParams::default(), &written).await {
                Ok(made) => return Ok(Arc::new(made)),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => return Err(missing()),
                Err(error) => return Err(error.into()),
            }
            now = api.get_opt(&name).await?.ok_or_else(missing)?;
            // Controllers write its status at any time, which is nobody's business who replaces the specification.
            if substance(&now) != substance(old) || Instant::now() >= deadline {
                let text = format!("{path} was changed by somebody else meanwhile; try again");
                return Err(Refusal::conflict(text));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn delete(&self, client: &Client, old: &dyn Shown) -> Result<(), Refusal> {
        let meta = old.meta();
        let name = meta.name.clone().unwrap_or_default();
        let preconditions = Preconditions { uid: meta.uid.clone(), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match Self::api(client).delete(&name, &parameters).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => {
                Err(Refusal::not_found(K::THING, old.path()))
            }
            Err(error) => Err(error.into()),
        }
    }
}
