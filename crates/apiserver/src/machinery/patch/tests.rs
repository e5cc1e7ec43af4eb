//! Patches at work: tables of cases, and merge patch against a model.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::machinery::arbitrary;
use crate::machinery::schema::Schema;

fn schema() -> Schema {
    let schema = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "number": {"type": "integer"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-patch-strategy": "merge", "x-kubernetes-list-type": "set"},
            "plain": {"type": "array", "items": {"type": "string"}},
            "list": {
                "type": "array", "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "name", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "properties": {
                    "name": {"type": "string"}, "value": {"type": "string"},
                    "ports": {"type": "array", "x-kubernetes-patch-strategy": "merge", "x-kubernetes-patch-merge-key": "port", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                              "items": {"type": "object", "properties": {"port": {"type": "integer"}}}}}},
            },
            "union": {"type": "object", "properties": {"a": {"type": "object"}, "b": {"type": "object"}},
                      "x-kubernetes-patch-strategy": "retainKeys"},
        },
    });
    Schema::from_json(&schema, &Map::new()).expect("a good schema")
}

#[test]
fn strategic_merge_follows_its_cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("strategic_cases.json")).expect("JSON");
    for case in cases {
        let result = strategic_merge(&case["document"], &case["patch"], &schema());
        assert_eq!(result.as_ref(), Ok(&case["result"]), "{}", case["name"]);
    }
}

#[test]
fn wrong_strategic_patches_are_refused() {
    let document = json!({"list": [{"name": "a"}], "set": ["a"], "union": {"a": {}}});
    let cases = [
        (json!([]), "must be objects"),
        (json!({"$patch": "add"}), "unknown patch type"),
        (json!({"list": [{"value": "x"}]}), "does not contain declared merge key: name"),
        (json!({"list": [{"$patch": "delete"}]}), "does not contain declared merge key: name"),
        (json!({"list": [{"name": "a", "$patch": "add"}]}), "unknown patch type"),
        (json!({"list": ["a"]}), "not identical"),
        (json!({"$retainKeys": "a"}), "must be a list"),
        (json!({"union": {"$retainKeys": ["a"], "b": {}}}), "\"b\" is missing"),
        (json!({"$setElementOrder/set": "a"}), "must be a list"),
        (json!({"$setElementOrder/set": ["a"], "set": ["b"]}), "out of order"),
        (json!({"$setElementOrder/set": ["a", "b"], "set": ["b", "a"]}), "out of order"),
        (json!({"$deleteFromPrimitiveList/set": "a"}), "must be a list"),
    ];
    for (patch, expected) in cases {
        let error = strategic_merge(&document, &patch, &schema()).expect_err("wrong").to_string();
        assert!(error.contains(expected), "{patch}: {error}");
    }
}

#[test]
fn json_patches_apply_or_are_refused() {
    let document = json!({"a": {"b": [1, 2]}, "c": "x"});
    let patch = json!([
        {"op": "test", "path": "/c", "value": "x"}, {"op": "add", "path": "/a/b/-", "value": 3},
        {"op": "remove", "path": "/a/b/0"}, {"op": "replace", "path": "/c", "value": null},
        {"op": "copy", "from": "/a/b", "path": "/d"}, {"op": "move", "from": "/c", "path": "/e"},
    ]);
    assert_eq!(json_patch(&document, &patch), Ok(json!({"a": {"b": [2, 3]}, "d": [2, 3], "e": null})));
    let refused = |patch: Value| ApiError::from(json_patch(&document, &patch).expect_err("wrong")).code();
    assert_eq!(refused(json!({"op": "add"})), 400);
    assert_eq!(refused(json!([{"op": "jump", "path": "/a"}])), 400);
    assert_eq!(refused(json!([{"op": "test", "path": "/c", "value": "y"}])), 422);
    assert_eq!(refused(json!([{"op": "remove", "path": "/x"}])), 422);
    assert_eq!(refused(Value::Array(vec![json!({"op": "test", "path": "/c", "value": "x"}); 10_001])), 413);
}

#[test]
fn copies_cannot_explode() {
    let document = json!({"a": ["x".repeat(1000)]});
    let doubling = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let error = json_patch(&document, &Value::Array(vec![doubling; 40])).expect_err("too large");
    assert!(matches!(error, PatchError::TooLarge(_)), "{error}");
    let nesting = json!({"op": "copy", "from": "", "path": "/a"});
    let error = json_patch(&json!({"a": 1}), &Value::Array(vec![nesting; 200])).expect_err("too deep");
    assert!(matches!(error, PatchError::TooLarge(_)), "{error}");
}

/// RFC 7396, section 2, word for word.
fn merge_model(target: Option<&Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut result = target.and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            result.remove(name);
        } else {
            let merged = merge_model(result.get(name), value);
            result.insert(name.clone(), merged);
        }
    }
    Value::Object(result)
}

proptest! {
    #[test]
    fn merge_patch_is_the_rfc(document in arbitrary::json(), patch in arbitrary::json()) {
        match merge_patch(&document, &patch) {
            Ok(result) => prop_assert_eq!(result, merge_model(Some(&document), &patch)),
            Err(_) => prop_assert!(!patch.is_object()),
        }
    }

    #[test]
    fn no_patch_makes_the_server_panic(
        document in arbitrary::shaped_as(&schema()),
        patch in arbitrary::json_with_keys(&["$patch", "$retainKeys", "$setElementOrder/set", "$setElementOrder/list",
            "$deleteFromPrimitiveList/set", "list", "set", "name", "labels", "delete", "replace", "op", "path", "/a", "from"]),
    ) {
        let _ = strategic_merge(&document, &patch, &schema());
        let _ = json_patch(&document, &patch);
    }

    #[test]
    fn merging_a_document_into_itself_changes_nothing(document in arbitrary::fitting(&schema())) {
        prop_assert_eq!(strategic_merge(&document, &document, &schema()), Ok(document));
    }

    #[test]
    fn an_empty_patch_changes_nothing(document in arbitrary::shaped_as(&schema())) {
        if document.is_object() {
            prop_assert_eq!(strategic_merge(&document, &json!({}), &schema()), Ok(document));
        }
    }
}
