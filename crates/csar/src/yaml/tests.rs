use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn every_value_has_its_place() {
    let node = parse("f.yaml", "a: 1\nb:\n  - x\n  - {c: ~}\n").unwrap();
    assert_eq!(node.at(&["a"]).unwrap().mark, Mark { line: 1, column: 4 });
    let list = node.get("b").unwrap().items();
    assert_eq!(list[0].mark, Mark { line: 3, column: 5 });
    assert!(list[1].get("c").unwrap().is_null());
    assert_eq!(list[1].entries()[0].mark, Mark { line: 4, column: 6 });
    assert_eq!(node.to_json(), json!({"a": 1, "b": ["x", {"c": null}]}));
}

#[test]
fn quotes_make_texts() {
    let node = parse("f", "a: '1'\nb: \"no\"\nc: !!str 2\nd: |\n  x\n").unwrap();
    assert_eq!(node.to_json(), json!({"a": "1", "b": "no", "c": "2", "d": "x\n"}));
    assert_eq!(node.get("a").unwrap().number(), None);
}

#[test]
fn anchors_and_merges() {
    let node = parse("f", "base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\nlist: [*b]\n").unwrap();
    let expected = json!({"base": {"x": 1, "y": 2}, "other": {"x": 1, "y": 3}, "list": [{"x": 1, "y": 2}]});
    assert_eq!(node.to_json(), expected);
}

#[test]
fn aliases_of_aliases_are_counted() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let line = format!(
            "a{level}: &a{level} [*a{before}, *a{before}, *a{before}, *a{before}, *a{before}, *a{before}]\n"
        );
        text.push_str(&line);
    }
    let problem = parse("f", &text).unwrap_err();
    assert!(problem.message.contains("more than 200000 values"), "{problem}");
}

#[test]
fn mistakes_have_their_place() {
    for (text, place, part) in [
        ("a: 1\na: 2\n", (2, 1), "second time; the first is in line 1"),
        ("a: [1\n", (1, 4), "not YAML"),
        ("a: *none\n", (1, 4), "not YAML"),
        ("---\na: 1\n---\nb: 1\n", (4, 1), "second document"),
        ("", (0, 0), "empty"),
        ("? [a]\n: 1\n", (1, 3), "not a text"),
    ] {
        let problem = parse("f.yaml", text).unwrap_err();
        assert_eq!((problem.line, problem.column), place, "{text:?}: {problem}");
        assert!(problem.message.contains(part), "{text:?}: {problem}");
    }
    let deep = "[".repeat(100) + &"]".repeat(100);
    assert!(parse("f", &deep).unwrap_err().message.contains("deeper than"));
}

const SAMPLES: [&str; 3] = [
    "a: &x {b: [1, 'two', ~]}\nc: *x\nd: |\n  text\n  more\n",
    "- a\n- !!str 1\n- {x: y, <<: {z: 1}}\n",
    "---\nk: v\n...\n---\n? k\n: \"\\u00e9\"\n",
];

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in drystone_hostile::damaged_text(SAMPLES)) {
        if let Ok(documents) = parse_all("f", &text) {
            for document in documents {
                document.to_json();
            }
        }
    }

    #[test]
    fn json_is_yaml(value in drystone_hostile::json(&["a", "b"])) {
        // Templates that are changed are written for Heat as JSON.
        let value = whole(value);
        let text = write_json(&value);
        prop_assert_eq!(parse("f", &text).unwrap().to_json(), value);
    }
}

/// Without numbers that YAML 1.1 reads otherwise.
fn whole(value: Json) -> Json {
    match value {
        Json::Number(number) => Json::from(number.as_i64().unwrap_or(7)),
        Json::Array(items) => Json::Array(items.into_iter().map(whole).collect()),
        Json::Object(map) => Json::Object(map.into_iter().map(|(key, value)| (key, whole(value))).collect()),
        other => other,
    }
}
