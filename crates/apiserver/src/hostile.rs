//! Input that means no good, for everything that reads what clients send: it is read or refused, and never more.

use std::time::Duration;

use drystone_hostile::{bytes, damaged, damaged_text, distorted, json, text};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::machinery::apply::{FieldSet, Managers};
use crate::machinery::document::{DEPTH_MAX, Document, is_too_deep};
use crate::machinery::patch::json_patch;
use crate::machinery::selector::{FieldSelector, LabelSelector};
use crate::machinery::status::ApiError;
use crate::machinery::table::jsonpath::JsonPath;
use crate::request::body::{Encoding, decode, decode_object, media_type, object_encoding};
use crate::request::options::{DeleteOptions, ListOptions, Selectors, WatchOptions, WriteOptions};
use crate::request::query::percent_decode;
use crate::request::{Accept, Query, RequestInfo};
use crate::storage::Continue;

const QUERIES: [&str; 10] = [
    "labelSelector=app%3Dweb%2Ctier%20in%20(a%2Cb)%2C!old&fieldSelector=metadata.name%3Dx%2Cstatus.phase!%3DRunning",
    "limit=500&continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJkZWZhdWx0L2EifQ",
    "resourceVersion=7&resourceVersionMatch=Exact",
    "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=30",
    "fieldManager=kubectl&fieldValidation=Strict&dryRun=All&force=true",
    "gracePeriodSeconds=-1&propagationPolicy=Foreground&orphanDependents=true",
    "pretty=true&watch=false&watch=0",
    "command=sh&command=-c&stdin=1&tty&container=a",
    "timeoutSeconds=18446744073709551615&gracePeriodSeconds=9223372036854775807&limit=18446744073709551615",
    "tailLines=5&sinceTime=2026-01-01T00%3A00%3A00Z&%6cimit=1&a+b=%zz%",
];
const PATHS: [&str; 8] = [
    "/api/v1/namespaces/default/pods/web/log",
    "/apis/apps/v1/namespaces/default/deployments/web/scale",
    "/api/v1/namespaces/default/finalize",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
    "/apis//a.b/v1///xs/%2e%2e/status/more/and/more",
    "/openapi/v3/apis/apps/v1",
    "/api",
    "/%",
];
const ACCEPTS: [&str; 5] = [
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
    "application/vnd.kubernetes.protobuf,application/yaml;q=0.9,*/*",
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    "application/json;stream=watch;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "text/html, application/xhtml+xml",
];
const YAML: [&str; 5] = [
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: \"1\"}}\ndata:\n  key: |\n    text\n    more\n",
    "a: &a [1, 2.5, ~, yes, 0x1f, 1e3, .inf, 2026-01-01]\nb: *a\nc: {<<: {d: 1}, d: 2}\n",
    "---\n- !!binary aGVsbG8=\n- !custom {x: y}\n...\n---\nsecond: 1\n",
    "\"quoted\\u0041\\n\": 'single''s'\n? complex\n: value\n# comment\n",
    "{\"json\": [true, null, {\"deep\": [[[[]]]]}]}",
];
const JSON: [&str; 3] = [
    r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "name": "b"}, "spec": {"x": [1, -2.5e3, "\u00e9\ud83d\ude00"]}}"#,
    r#"[{"op": "copy", "from": "/a", "path": "/b/-"}, {"op": "test", "path": "/a~1b", "value": null}]"#,
    r#"{"apiVersion": "meta/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 5, "preconditions": {"uid": "u"}, "dryRun": ["All"]}"#,
];
/// A Deployment named `a` with a replica, as a client of protobuf sends it.
const PROTOBUF: &[u8] = b"k8s\0\x0a\x15\x0a\x07apps/v1\x12\x0aDeployment\x12\x1d\x0a\x05\x0a\x01a\x5a\x00\x12\x14\x08\x01\x12\x08\x0a\x06\x0a\x01x\x12\x01y\x22\x04\x08\x19\x10\x01\x38\x00";

/// Refusals are the client's fault, and say so.
fn is_refusal(error: &ApiError) -> bool {
    (400..500).contains(&error.code())
}

fn queries() -> impl Strategy<Value = Query> {
    prop_oneof![4 => damaged_text(QUERIES), 1 => text()].prop_map(|text| Query::parse(&text))
}

fn headers(names: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = HeaderMap> {
    let header = prop::sample::select(names).prop_flat_map(|(name, values)| {
        damaged(values).prop_filter_map("no header value", move |value| {
            Some((HeaderName::from_static(name), HeaderValue::from_bytes(&value).ok()?))
        })
    });
    vec(header, 0..5).prop_map(|headers| {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value);
        }
        map
    })
}

const NEGOTIATION: &[(&str, &[&str])] = &[
    ("accept", &ACCEPTS),
    (
        "content-type",
        &["application/json; charset=utf-8", "application/yaml", "application/vnd.kubernetes.protobuf"],
    ),
    ("user-agent", &["kubectl/v1.35.0 (linux/amd64) kubernetes/abc", ""]),
];

proptest! {
    #[test]
    fn any_query_is_a_listing_a_watch_a_write_or_refused(query in queries(), headers in headers(NEGOTIATION)) {
        if let Err(error) = ListOptions::parse(&query) {
            prop_assert!(is_refusal(&error), "{error}");
        }
        match WatchOptions::parse(&query) {
            // A deadline can be computed from it.
            Ok(options) => prop_assert!(options.timeout.is_none_or(|timeout| timeout <= Duration::from_secs(366 * 86_400))),
            Err(error) => prop_assert!(is_refusal(&error), "{error}"),
        }
        match WriteOptions::parse(&query, &headers) {
            Ok(options) => {
                let manager = &options.field_manager;
                prop_assert!(!manager.is_empty() && manager.chars().count() <= 128 && !manager.chars().any(char::is_control));
            }
            Err(error) => prop_assert!(is_refusal(&error), "{error}"),
        }
        if let Err(error) = DeleteOptions::parse(None, &query) {
            prop_assert!(is_refusal(&error), "{error}");
        }
    }

    #[test]
    fn any_body_of_a_deletion_is_read_or_refused(body in distorted(
        serde_json::from_str(JSON[2]).expect("JSON"), &["gracePeriodSeconds", "preconditions", "propagationPolicy", "dryRun"])) {
        if let Err(error) = DeleteOptions::parse(Some(body), &Query::default()) {
            prop_assert!(is_refusal(&error), "{error}");
        }
    }

    #[test]
    fn selectors_are_read_or_refused_and_select_without_fail(query in queries(), object in json(&["metadata", "labels", "name"])) {
        match Selectors::parse(&query) {
            Ok(selectors) => {
                let _ = selectors.labels.map(|selector| selector.matches(&object));
                let _ = selectors.fields.map(|selector| selector.matches(&object));
            }
            Err(error) => prop_assert!(is_refusal(&error), "{error}"),
        }
    }

    #[test]
    fn field_selectors_keep_what_they_were_told(name in text(), value in "[a-z\\\\,= é]{0,12}") {
        let escaped: String =
            value.chars().flat_map(|c| ['\\'].into_iter().filter(move |_| ",=\\".contains(c)).chain([c])).collect();
        if let Ok(selector) = FieldSelector::parse(&format!("metadata.name={escaped}")) {
            prop_assert_eq!(selector.exact("metadata.name"), Some(value.as_str()));
        }
        let _ = (FieldSelector::parse(&name), LabelSelector::parse(&name));
    }

    #[test]
    fn any_path_is_taken_apart(path in prop_oneof![damaged_text(PATHS), text()], method in "[A-Z]{3,7}", query in queries()) {
        let method = Method::from_bytes(method.as_bytes()).expect("a token");
        let info = RequestInfo::parse(&method, &path, &query);
        if let Some(resource) = info.resource {
            prop_assert!(!resource.version.is_empty() && !resource.resource.is_empty());
            prop_assert!(info.verb != "get" || !resource.name.is_empty());
        }
        prop_assert!(percent_decode(&path).len() <= 3 * path.len());
    }

    #[test]
    fn any_headers_are_negotiated_with(headers in headers(NEGOTIATION)) {
        let _ = Accept::negotiate(&headers, |_| true);
        let _ = Accept::negotiate(&headers, |_| false);
        let kind = media_type(&headers);
        if let Err(error) = object_encoding(&headers) {
            prop_assert!(error.code() == 415 && !kind.is_empty());
        }
    }

    #[test]
    fn any_continue_token_is_a_place_below_the_list_or_refused(token in damaged_text(
        ["eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiJkZWZhdWx0L2EifQ"])) {
        if let Ok(next) = Continue::parse(&token) {
            prop_assert_eq!(Continue::parse(&next.to_token()), Ok(next));
        }
    }

    #[test]
    fn any_body_is_a_document_or_refused(
        (body, encoding) in prop_oneof![
            damaged(YAML).prop_map(|body| (body, Encoding::Yaml)),
            damaged(JSON).prop_map(|body| (body, Encoding::Json)),
            damaged([PROTOBUF]).prop_map(|body| (body, Encoding::Protobuf)),
            (bytes(80), prop::sample::select(vec![Encoding::Yaml, Encoding::Json, Encoding::Protobuf])),
        ]
    ) {
        match decode(&body, encoding) {
            Ok(document) => prop_assert!(!is_too_deep(&document.value)),
            Err(error) => prop_assert!(is_refusal(&error), "{error}"),
        }
        let _ = decode_object(&body, encoding);
    }

    #[test]
    fn any_json_path_selects_or_is_refused(
        path in damaged_text([".status.conditions[?(@.type==\"Ready\")].status", "$.a['b'][-1][1:3][*].*", ".spec.x\\.y[?(@.n<=-1.5)]"]),
        object in json(&["status", "conditions", "type", "a", "b", "n"]),
    ) {
        if let Ok(path) = JsonPath::parse(&path) {
            prop_assert!(path.select(&object).len() <= 400);
        }
    }

    #[test]
    fn any_managed_fields_are_read_or_refused(fields in distorted(
        json!({"metadata": {"managedFields": [{"manager": "a", "operation": "Apply", "apiVersion": "v1", "time": "2026-01-01T00:00:00Z",
            "fieldsV1": {"f:spec": {"k:{\"name\":\"x\"}": {".": {}, "f:image": {}}, "v:\"a\"": {}, "i:0": {}}}}]}}),
        &["f:spec", "k:{\"name\":\"x\"}", "k:{", "v:", "v:1", "i:-1", "i:0", ".", "", "fieldsV1"])) {
        if let Ok(managers) = Managers::of(&fields) {
            let mut object = fields.clone();
            managers.write_to(&mut object);
            prop_assert!(Managers::of(&object).is_ok(), "what was written is read again");
        }
        if let Ok(set) = FieldSet::decode(&fields["metadata"]["managedFields"][0]["fieldsV1"]) {
            prop_assert_eq!(FieldSet::decode(&set.encode()), Ok(set));
        }
    }
}

#[test]
fn a_document_that_grows_when_it_is_read_is_refused() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let entries = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{entries}]\n"));
    }
    assert!(Document::from_yaml(bomb.as_bytes()).is_err());
    let open = "[".repeat(1 << 20);
    assert!(Document::from_yaml(open.as_bytes()).is_err());
    assert!(Document::from_json(open.as_bytes()).is_err());
    let objects = "{\"a\":".repeat(DEPTH_MAX + 2);
    assert!(Document::from_json(objects.as_bytes()).is_err());
    // Messages within messages: an outermost one of unknown length, and then the same field again and again.
    let deep = [PROTOBUF, &[0x12, 0x7f].repeat(1 << 16)].concat();
    assert!(decode(&deep, Encoding::Protobuf).is_err());
}

#[test]
fn repeated_fields_are_told_in_few_words() {
    let key = "k".repeat(1 << 20);
    let body = format!("{{\"{key}\": {{{}}}}}", vec!["\"a\": 1"; 500].join(", "));
    let document = Document::from_json(body.as_bytes()).expect("JSON");
    assert!(document.duplicates.len() <= 100 && document.duplicates.iter().all(|path| path.len() < 2000));
}

#[test]
fn a_patch_that_doubles_is_stopped() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let patch = Value::Array(vec![double; 1000]);
    assert!(json_patch(&json!({"a": ["x".repeat(100)]}), &patch).is_err());
}
