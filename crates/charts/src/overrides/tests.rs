use proptest::prelude::*;
use serde_json::json;

use super::*;

fn settled(overrides: &[(&str, &str)]) -> Result<Settled, OverrideError> {
    over(json!({}), overrides)
}

fn over(base: Value, overrides: &[(&str, &str)]) -> Result<Settled, OverrideError> {
    let map = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    settle(base, &map)
}

fn values(overrides: &[(&str, &str)]) -> Value {
    settled(overrides).unwrap().values
}

#[test]
fn values_are_what_they_look_like() {
    for (text, value) in [
        ("x", json!("x")),
        ("", json!("")),
        ("TRUE", json!(true)),
        ("null", Value::Null),
        ("7", json!(7)),
        ("-5", json!(-5)),
        ("+5", json!(5)),
        ("0", json!(0)),
        ("007", json!("007")),
        ("1.5", json!("1.5")),
        ("99999999999999999999", json!("99999999999999999999")),
        ("a=b=c", json!("a=b=c")),
        ("{1,b}", json!([1, "b"])),
        ("{}", json!([""])),
        (r"{a\,b,c}", json!(["a,b", "c"])),
        (r"a\,b", json!("a,b")),
        (r"c:\\x", json!(r"c:\x")),
        (" x ", json!(" x ")),
    ] {
        assert_eq!(values(&[("k", text)]), json!({"k": value}), "{text}");
    }
}

#[test]
fn keys_lead_into_maps_and_lists() {
    assert_eq!(values(&[("a.b.c", "x")]), json!({"a": {"b": {"c": "x"}}}));
    assert_eq!(values(&[(r"n.kubernetes\.io/role", "x")]), json!({"n": {"kubernetes.io/role": "x"}}));
    assert_eq!(values(&[("a[1].b", "x"), ("a[2][1]", "y")]), json!({"a": [null, {"b": "x"}, [null, "y"]]}));
    assert_eq!(values(&[("a", "1,b=2,c={x},d=e")]), json!({"a": 1, "b": 2, "c": ["x"], "d": "e"}));
    assert_eq!(values(&[("", "x")]), json!({}));
    assert_eq!(
        over(json!({"a": [1, 2], "m": {"k": 1}}), &[("a[1]", "x"), ("m.l", "y")]).unwrap().values,
        json!({"a": [1, "x"], "m": {"k": 1, "l": "y"}})
    );
}

#[test]
fn only_whole_numbers_are_arguments() {
    let settled = over(
        json!({"port": 80}),
        &[
            ("replicas", "3"),
            ("list", "{1,b}"),
            (r"a\.b.c\=d", "4"),
            ("password", "secret"),
            ("deep[1].x", "-1"),
        ],
    );
    assert_eq!(settled.unwrap().sets, [r"a\.b.c\=d=4", "deep[1].x=-1", "list[0]=1", "replicas=3"]);
}

#[test]
fn what_helm_refuses_is_refused() {
    for (key, value) in [
        ("a", "1,b"),
        ("a", "{1,2"),
        ("a[-1]", "1"),
        ("a[70000]", "1"),
        ("a[b]", "1"),
        ("a[0]x", "1"),
        ("a[0", "1"),
        ("a..b", "1"),
        ("a.", "1"),
        ("a,b", "1"),
    ] {
        let error = settled(&[(key, value)]).unwrap_err();
        assert_eq!(error.key, key);
        assert!(!error.to_string().contains("1,b"), "{error}");
    }
    assert!(settled(&[("a", "1"), ("a.b", "2")]).unwrap_err().to_string().contains("is a number, not a map"));
    let deep = ["a"; 33].join(".");
    assert!(settled(&[(&deep, "1")]).unwrap_err().to_string().contains("levels"));
}

proptest! {
    #[test]
    fn anything_is_answered(key in drystone_hostile::text(), value in drystone_hostile::text()) {
        let _ = settled(&[(&key, &value)]);
    }

    /// The arguments made of whole numbers lead back to where they came from.
    #[test]
    fn arguments_mean_their_places(keys in proptest::collection::vec("[a-z.=,\\[\\]\\\\]{1,6}", 1..4), number: i64) {
        let path = keys.iter().map(|key| escaped(key)).collect::<Vec<_>>().join(".");
        let first = settled(&[(&path, &number.to_string())]).unwrap();
        prop_assert_eq!(first.sets.len(), 1);
        let (key, value) = first.sets[0].rsplit_once('=').unwrap();
        prop_assert_eq!(settled(&[(key, value)]).unwrap(), first);
    }
}
