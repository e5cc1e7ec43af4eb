//! Taking over from client-side apply.
//!
//! `kubectl apply` without `--server-side` keeps what it applied last in an annotation. When the same user comes back with
//! `--server-side`, what is still as that annotation says is theirs already, whichever manager holds it: it is taken without
//! conflict, and the annotation is kept up to date so that the way back is open.
//!
//! Source: Kubernetes "Server-Side Apply", upgrading from client-side apply.

use serde_json::Value;

use super::{FieldSet, compare, owned, tracked};
use crate::machinery::schema::SchemaNode;

/// Where client-side apply keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The fields that were applied from the client and are as they were applied.
pub(super) fn unchanged_since(schema: Option<SchemaNode<'_>>, live: &Value) -> FieldSet {
    let text = live["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let Ok(applied @ Value::Object(_)) = serde_json::from_str::<Value>(text) else {
        return FieldSet::default();
    };
    let changed = compare(schema, &tracked(&applied), &tracked(live));
    owned(schema, &applied).difference(&changed.modified).without_subtrees(&changed.removed)
}

/// Brings the annotation up to date, if there is one.
pub(super) fn note(object: &mut Value, config: &Value) {
    let Some(annotation) =
        object.pointer_mut("/metadata/annotations").and_then(|annotations| annotations.get_mut(LAST_APPLIED))
    else {
        return;
    };
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.pointer_mut("/metadata/annotations") {
        annotations.remove(LAST_APPLIED);
    }
    *annotation = format!("{config}\n").into();
}
