//! The two forms of events, core/v1 and events.k8s.io/v1, over one storage: the core form is stored.

use serde_json::{Map, Value};

/// Core field and `events.k8s.io` field of the same meaning.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("source", "deprecatedSource"),
];

/// An `events.k8s.io` event in the core form.
pub(crate) fn to_core(event: Value) -> Value {
    rename(event, "v1", |name| RENAMED.iter().find(|(_, new)| *new == name).map(|(core, _)| *core))
}

/// A core event in the form of `events.k8s.io`.
pub(crate) fn from_core(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |name| {
        RENAMED.iter().find(|(core, _)| *core == name).map(|(_, new)| *new)
    })
}

fn rename(event: Value, api_version: &str, other: impl Fn(&str) -> Option<&'static str>) -> Value {
    let Value::Object(fields) = event else { return event };
    let mut renamed: Map<String, Value> = fields
        .into_iter()
        .map(|(name, value)| match other(&name) {
            Some(other) => (other.to_owned(), value),
            None => (name, value),
        })
        .collect();
    renamed.insert("apiVersion".into(), api_version.into());
    Value::Object(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn there_and_back() {
        let event = json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n",
            "regarding": {"kind": "Pod"}, "reason": "R", "eventTime": "t", "reportingController": "c",
        });
        let core = to_core(event.clone());
        assert_eq!(core["message"], "n");
        assert_eq!(core["involvedObject"]["kind"], "Pod");
        assert_eq!(from_core(core), event);
    }
}
