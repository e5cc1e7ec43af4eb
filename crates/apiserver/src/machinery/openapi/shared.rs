//! Definitions that belong to no resource of their own, but that paths refer to: what every kind has, what deletions
//! and patches take, and what subresources read and write.

use std::sync::LazyLock;

use k8s_openapi::api::{authentication, autoscaling, core, policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::names;

/// The definitions by name, with everything they refer to.
pub(super) static DEFINITIONS: LazyLock<Map<String, Value>> = LazyLock::new(generate);

fn generate() -> Map<String, Value> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    generator.subschema_for::<meta::ObjectMeta>();
    generator.subschema_for::<meta::ListMeta>();
    generator.subschema_for::<meta::Status>();
    generator.subschema_for::<meta::DeleteOptions>();
    generator.subschema_for::<core::v1::Binding>();
    generator.subschema_for::<policy::v1::Eviction>();
    generator.subschema_for::<autoscaling::v1::Scale>();
    generator.subschema_for::<authentication::v1::TokenRequest>();
    let mut definitions = generator.take_definitions(true);
    let patch = json!({
        "description": "A change in the form that the media type says: a JSON patch, a merge patch, a strategic merge patch, or a configuration to apply.",
        "type": "object",
    });
    definitions.insert(names::PATCH.to_owned(), patch);
    definitions
}
