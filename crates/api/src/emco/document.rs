//! What all documents have.

use kube::Resource;

/// A document of EMCO: a resource whose identity is a path.
pub trait Document: Resource<DynamicType = ()> {
    /// Its path below `/v2`; `{name}` stands for a name.
    const PATTERN: &'static str;
    /// What EMCO calls it in messages: `<Thing> not found`.
    const THING: &'static str;

    /// `spec.path`.
    fn path(&self) -> &str;

    /// `spec.description`, `spec.userData1` and `spec.userData2`.
    fn remarks(&self) -> (&str, &str, &str);

    /// The document's own name: the last of its path, or the last but one where that is a version.
    fn document_name(&self) -> &str {
        super::path::last_name(self.path())
    }
}

/// Defines a kind of document: its specification has the members that all have, and its own.
macro_rules! document {
    (
        $(#[$documentation:meta])*
        $kind:ident($name:tt, $plural:tt, $short:tt), $spec:ident, $thing:tt, $pattern:tt,
        [$($setting:ident = $value:tt),*]
        { $($(#[$about:meta])* pub $field:ident: $type:ty,)* }
    ) => {
        $(#[$documentation])*
        #[derive(
            kube::CustomResource, Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize,
            schemars::JsonSchema,
        )]
        #[kube(
            group = "emco.drystone.dev",
            version = "v1alpha1",
            kind = $name,
            plural = $plural,
            shortname = $short,
            category = "emco",
            namespaced,
            derive = "PartialEq",
            printcolumn = r#"{"name":"Path","type":"string","jsonPath":".spec.path"}"#,
            $($setting = $value,)*
            printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
        )]
        #[serde(rename_all = "camelCase")]
        pub struct $spec {
            #[doc = concat!("Its path below `/v2`: `", $pattern, "`.")]
            #[schemars(length(min = 1, max = 2048))]
            pub path: String,
            /// What it is, for people.
            #[serde(default, skip_serializing_if = "String::is_empty")]
            #[schemars(length(max = 1024))]
            pub description: String,
            /// Whatever its owner wants to keep with it.
            #[serde(default, skip_serializing_if = "String::is_empty")]
            #[schemars(length(max = 512))]
            pub user_data1: String,
            /// Whatever its owner wants to keep with it.
            #[serde(default, skip_serializing_if = "String::is_empty")]
            #[schemars(length(max = 512))]
            pub user_data2: String,
            $($(#[$about])* pub $field: $type,)*
        }

        impl $crate::emco::Document for $kind {
            const PATTERN: &'static str = $pattern;
            const THING: &'static str = $thing;

            fn path(&self) -> &str {
                &self.spec.path
            }

            fn remarks(&self) -> (&str, &str, &str) {
                (&self.spec.description, &self.spec.user_data1, &self.spec.user_data2)
            }
        }
    };
}
pub(super) use document;
