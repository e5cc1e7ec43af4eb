//! JSONPath, and the columns of custom kinds.

use super::*;
use crate::machinery::table::jsonpath::JsonPath;

fn host() -> Value {
    json!({
        "metadata": {
            "name": "n7", "creationTimestamp": "2026-01-10T11:58:00Z",
            "labels": {"app.kubernetes.io/name": "metal", "tier": "a"},
        },
        "spec": {"cores": 16, "load": 0.5, "online": true, "tags": ["x", "y", "z"]},
        "status": {
            "conditions": [
                {"type": "Available", "status": "False", "weight": 1},
                {"type": "Ready", "status": "True", "weight": 5},
                {"type": "Idle", "status": "Unknown"},
            ],
            "since": "2026-01-09T00:00:00Z", "bad": "soon", "nothing": null,
        },
    })
}

fn select(path: &str) -> Value {
    JsonPath::parse(path).unwrap().select(&host()).into_iter().cloned().collect()
}

#[test]
fn paths_select_what_they_say() {
    let cases = [
        (".spec.cores", json!([16])),
        ("$.spec.cores", json!([16])),
        (".spec.missing.deeper", json!([])),
        (".spec['cores']", json!([16])),
        (".spec[\"cores\"]", json!([16])),
        (r".metadata.labels.app\.kubernetes\.io/name", json!(["metal"])),
        (".metadata.labels['app.kubernetes.io/name']", json!(["metal"])),
        (r".metadata.labels['app\.kubernetes\.io/name']", json!(["metal"])),
        (".spec.tags[0]", json!(["x"])),
        (".spec.tags[-1]", json!(["z"])),
        (".spec.tags[3]", json!([])),
        (".spec.tags[-4]", json!([])),
        (".spec.tags[1:]", json!(["y", "z"])),
        (".spec.tags[:-1]", json!(["x", "y"])),
        (".spec.tags[2:1]", json!([])),
        (".spec.tags[*]", json!(["x", "y", "z"])),
        (".metadata.labels.*", json!(["metal", "a"])),
        (".status.conditions[*].type", json!(["Available", "Ready", "Idle"])),
        (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
        (".status.conditions[?( @.type == 'Ready' )].status", json!(["True"])),
        (".status.conditions[?(@.type!='Ready')].type", json!(["Available", "Idle"])),
        (".status.conditions[?(@.weight>1)].type", json!(["Ready"])),
        (".status.conditions[?(@.weight<=1)].type", json!(["Available"])),
        (".status.conditions[?(@.weight)].type", json!(["Available", "Ready"])),
        (".spec[?(@==true)]", json!([true])),
    ];
    for (path, wanted) in cases {
        assert_eq!(select(path), wanted, "{path}");
    }
    assert_eq!(select("."), json!([host()]));
}

#[test]
fn other_texts_are_refused_where_they_go_wrong() {
    let cases = [
        ("spec", 0),
        (".spec..cores", 6),
        (".spec[", 6),
        (".spec[]", 6),
        (".spec['cores]", 13),
        (".spec[1", 7),
        (".spec[9999999999999999999]", 25),
        (".a[?(@.b==c)]", 11),
        (".a[?(@.b=1)]", 9),
        (".a[?(@.b[?(@.c)])]", 9),
        (".ä..", 3),
        (".a(b)", 2),
    ];
    for (path, position) in cases {
        let error = JsonPath::parse(path).unwrap_err();
        assert_eq!(error.position, position, "{error}");
    }
}

#[test]
fn custom_columns() {
    let column = |name: &str, column_type: &str, path: &str| json!({"name": name, "type": column_type, "jsonPath": path});
    let mut hidden = column("Bad path", "string", "]");
    hidden["priority"] = 1.into();
    let columns = Columns::of_custom(&[
        column("Cores", "integer", ".spec.cores"),
        column("Whole load", "integer", ".spec.load"),
        column("Load", "number", ".spec.load"),
        column("Online", "boolean", ".spec.online"),
        column("Not a truth", "boolean", ".spec.cores"),
        column("Tags", "string", ".spec.tags"),
        column("Each", "string", ".spec.tags[*]"),
        column("Ready", "string", ".status.conditions[?(@.type==\"Ready\")].status"),
        column("Missing", "string", ".status.missing"),
        column("Null", "string", ".status.nothing"),
        column("Since", "date", ".status.since"),
        column("Not a date", "date", ".status.bad"),
        column("Age", "date", ".metadata.creationTimestamp"),
        hidden,
    ]);
    insta::assert_snapshot!(print(&columns, &[host()]));
}

#[test]
fn without_columns_there_are_name_and_age() {
    insta::assert_snapshot!(print(&Columns::of_custom(&[]), &[host()]), @r"
    NAME  AGE
    n7    2m
    ");
}
