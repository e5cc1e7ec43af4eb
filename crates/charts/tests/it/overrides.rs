//! Overrides beside helm's own `--set`: what templates see of them, types included, and what is refused.

use std::collections::BTreeMap;

use drystone_charts::Request;

use crate::pack;

const TEMPLATE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  json: {{ .Values | toJson | quote }}\n  go: {{ printf \"%#v\" .Values | quote }}\n  plain: {{ printf \"%v\" .Values | quote }}\n";
const VALUES: &str = "chart: {own: 1000000, gone: 1, list: [1, 2]}\n";
const PROFILE: &str = "file: 1000000\nlist: [a, b, {c: 1}]\nmap: {k: v, deep: {x: 0644}}\nnothing: null\n";

#[tokio::test]
async fn overrides_are_what_set_makes_of_them() {
    let Some(helm) = pack::helm().await else { return };
    let files = [
        ("app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0\n"),
        ("app/values.yaml", VALUES),
        ("app/templates/a.yaml", TEMPLATE),
    ];
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let profile = directory.path().join("values.yaml");
    std::fs::write(&profile, PROFILE).unwrap();
    let base = Request {
        profile: Some(pack::files(&[
            ("manifest.yaml", "version: v1\ntype: {values: v.yaml}"),
            ("v.yaml", PROFILE),
        ])),
        ..pack::request("app", pack::files(&files))
    };
    let renderer = pack::renderer(&helm);
    let mut refused = 0;
    for case in CASES {
        let overrides: BTreeMap<String, String> =
            case.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut arguments = vec!["-f".to_owned(), profile.display().to_string()];
        arguments
            .extend(overrides.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let by_hand = pack::by_hand(&helm, &directory.path().join("app"), &arguments);
        let ours = renderer.render(&Request { overrides, ..base.clone() }).await;
        match (by_hand, ours) {
            (Ok(text), Ok(rendering)) => {
                let text = text.split_once("a.yaml\n").unwrap().1;
                assert_eq!(rendering.manifests[0].manifest.trim(), text.trim(), "{case:?}");
            }
            (Err(_), Err(_)) => refused += 1,
            (by_hand, ours) => panic!("{case:?}: by hand {by_hand:?}, ours {ours:?}"),
        }
    }
    assert!((10..CASES.len() / 2).contains(&refused), "{refused} of {} were refused", CASES.len());
}

const CASES: &[&[(&str, &str)]] = &[
    &[],
    &[("a", "1")],
    &[("a", "1000000")],
    &[("a", "TRUE"), ("b", "False"), ("c", "nUll")],
    &[("a", "007"), ("b", "0"), ("c", "00"), ("d", "-0"), ("e", "+5"), ("f", "1.5"), ("g", "0x10")],
    &[("a", "9223372036854775807"), ("b", "9223372036854775808"), ("c", "-9223372036854775808")],
    &[("a", "")],
    &[("a", " x ")],
    &[("a", r"b\,c")],
    &[("a", "b,c=d")],
    &[("a", "b,c")],
    &[("a", "b,")],
    &[("a", ",b=1")],
    &[("a", "{1,b,true,null}")],
    &[("a", "{}")],
    &[("a", "{x},b=1")],
    &[("a", "{x}b=1")],
    &[("a", "{x}b")],
    &[("a", "{x,y")],
    &[("a", r"{x\,y,z\}}")],
    &[("a", "{a,{b},c}")],
    &[("a", "{ a, b }")],
    &[("a", "b=c=d")],
    &[("a", r"\a\\b")],
    &[("a", r"x\")],
    &[("a.b.c", "1")],
    &[("a..b", "1")],
    &[(".a", "1")],
    &[("a.", "1")],
    &[("", "1")],
    &[(r"kubernetes\.io/role", "x"), (r"q\=r", "5"), (r"s\[0\]", "6")],
    &[("a", "1"), ("a.b", "2")],
    &[("a", "null"), ("a.b", "2")],
    &[("a", "null"), ("a[0]", "2")],
    &[("a", "x"), ("a[0]", "2")],
    &[("a[0]", "1"), ("a[2]", "x")],
    &[("a[1].b", "1"), ("a[1].c", "x"), ("a[0]", "null")],
    &[("a[1][2]", "5"), ("a[1][0].x", "y")],
    &[("a[0]", "x"), ("a[0][1]", "y")],
    &[("a[0]", "x"), ("a[0].b", "1")],
    &[("a[0]", "{1,2},b=3")],
    &[("a[0]", "x,b=3")],
    &[("a[0]", "")],
    &[("a[-1]", "1")],
    &[("a[70000]", "1")],
    &[("a[x]", "1")],
    &[("a[ 1]", "1")],
    &[("a[0", "1")],
    &[("a[0]x", "1")],
    &[("a[0],b", "1")],
    &[("[0]", "1"), ("b", "2")],
    &[("list[1]", "5"), ("list[2].d", "6"), ("list[4]", "x")],
    &[("list[2].c", "1000000")],
    &[("list", "{}")],
    &[("list", "x")],
    &[("map.k", "null"), ("map.deep.y", "1000000")],
    &[("map", "null")],
    &[("map", "1")],
    &[("nothing.x", "1")],
    &[("nothing[0]", "1")],
    &[("chart.own", "5")],
    &[("chart.gone", "null")],
    &[("chart", "null")],
    &[("chart.list[0]", "7")],
    &[("file", "2000000")],
    &[("a.b", "1"), ("a[0]", "1")],
    &[("a.b,c", "1")],
];
