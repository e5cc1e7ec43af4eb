//! Objects that may be malformed.
//!
//! A list or watch of typed objects fails as a whole when one of them cannot be read (it was written under another version of
//! its definition, or validation was lax). Wrapped in [`Guarded`], the bad one is set aside with its metadata, and the others
//! go on.

use std::{borrow::Cow, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error};
use serde_json::Value;

/// An object that could not be read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{why}")]
pub struct InvalidObject {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What is wrong with it.
    pub why: String,
}

/// An object, or what is known of it if it cannot be read.
#[derive(Debug, Clone)]
pub struct Guarded<K>(pub Result<Arc<K>, InvalidObject>);

impl<K> Guarded<K> {
    /// The object, if it could be read.
    pub fn valid(&self) -> Option<&Arc<K>> {
        self.0.as_ref().ok()
    }
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
            // No controller reads who wrote which field, and it is often larger than the rest. The API keeps it when an object
            // is written without.
            metadata.remove("managedFields");
        }
        let why = match K::deserialize(&value) {
            Ok(object) => return Ok(Self(Ok(Arc::new(object)))),
            Err(error) => error.to_string(),
        };
        // Without metadata it is no object at all, and nobody can be told which one it is.
        let metadata = value.get("metadata").ok_or_else(|| D::Error::missing_field("metadata"))?;
        let metadata = ObjectMeta::deserialize(metadata).map_err(D::Error::custom)?;
        Ok(Self(Err(InvalidObject { metadata, why })))
    }
}

impl<K: Resource + Clone> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(object) => object.meta(),
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(object) => Arc::make_mut(object).meta_mut(),
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::Operation;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_malformed_object_is_set_aside_and_the_others_are_read() {
        let list: Vec<Guarded<Operation>> = serde_json::from_value(json!([
            {"metadata": {"name": "bad", "namespace": "ns"}, "spec": {"title": 7}},
            {"metadata": {"name": "good", "namespace": "ns", "managedFields": [{"manager": "x"}]},
                "spec": {"title": "x", "subject": {}, "steps": []}},
        ]))
        .expect("both are objects");
        assert_eq!(list[0].name_any(), "bad");
        let fields = list[1].valid().and_then(|operation| operation.metadata.managed_fields.as_ref());
        assert_eq!(fields, None);
        let why = list[0].0.as_ref().expect_err("malformed").to_string();
        assert!(why.contains("integer `7`, expected a string"), "{why}");
        assert_eq!(list[1].valid().map(|operation| operation.spec.title.as_str()), Some("x"));
    }

    #[test]
    fn what_has_no_metadata_is_an_error() {
        assert!(serde_json::from_value::<Guarded<Operation>>(json!({"spec": {}})).is_err());
    }
}
