//! What is refused, and in which words.

use drystone_charts::{Config, Limits, Renderer, Request, check_chart, check_profile};

use crate::pack;

const CHART: (&str, &str) = ("app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 0.1.0\n");

async fn refusal(request: Request) -> String {
    // Nothing of this comes as far as helm.
    Renderer::new(Config { helm: Some("/nowhere/helm".into()), ..Config::default() })
        .render(&request)
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn charts_that_cannot_be_are_refused() {
    for (app, files, told) in [
        (
            "app",
            vec![("other/Chart.yaml", "name: other")],
            "the app's name, `app`; at the root there is `other`",
        ),
        ("app", vec![], "at the root there is nothing"),
        ("app", vec![("app/Chart.yaml", "name: [")], "`app/Chart.yaml`"),
        ("app", vec![("app/README.md", "")], "neither Chart.yaml nor any manifest"),
        ("app", vec![("app/a.yaml", "kind: Pod")], "app/a.yaml, document 1: apiVersion is missing"),
    ] {
        let error = refusal(pack::request(app, pack::files(&files))).await;
        assert!(error.contains(told) && error.contains("`app`"), "{error}");
    }
    let library = pack::request("library", pack::directory(&pack::data("library"), "library"));
    assert!(refusal(library.clone()).await.contains("library chart cannot be installed"));
    assert!(check_chart("library", &library.chart, &Limits::default()).is_err());
    check_chart("app", &pack::files(&[CHART]), &Limits::default()).unwrap();
}

#[tokio::test]
async fn profiles_that_cannot_be_are_refused() {
    for (files, told) in [
        (vec![("x/manifest.yaml", "version: v1")], "it is `x/manifest.yaml` here"),
        (vec![("other.yaml", "")], "`manifest.yaml`: a profile has this file"),
        (vec![("manifest.yaml", "version: v2")], "version is not v1"),
        (vec![("manifest.yaml", "type: {values: v.yaml}")], "`v.yaml`: there is no such file"),
        (vec![("manifest.yaml", "type: {values: v.yaml}"), ("v.yaml", "- a")], "values are a mapping"),
        (vec![("manifest.yaml", "type: {values: v.yaml}"), ("v.yaml", "a: [")], "`v.yaml`"),
        (
            vec![("manifest.yaml", "type: {configresource: [{filepath: a, chartpath: app/a}]}")],
            "the profile has no file `a`",
        ),
        (
            vec![
                ("manifest.yaml", "type: {configresource: [{filepath: a, chartpath: app/../../a}]}"),
                ("a", ""),
            ],
            "leads out",
        ),
        (
            vec![("manifest.yaml", "type: {configresource: [{filepath: a, chartpath: else/a}]}"), ("a", "")],
            "not below `app/`",
        ),
        (
            vec![
                ("manifest.yaml", "type: {configresource: [{filepath: a, chartpath: app/Chart.yaml/a}]}"),
                ("a", ""),
            ],
            "a file where a directory is",
        ),
        (vec![("manifest.yaml", "type: {configresource: [{filepath: a}]}")], "chartpath"),
    ] {
        let mut request = pack::request("app", pack::files(&[CHART]));
        request.profile = Some(pack::files(&files));
        let error = refusal(request).await;
        assert!(error.contains(told) && error.contains("profile of app `app`"), "{told}: {error}");
    }
    assert!(check_profile(b"no archive", &Limits::default()).is_err());
    check_profile(&pack::directory(&pack::data("profile"), ""), &Limits::default()).unwrap();
}

#[tokio::test]
async fn helm_tells_what_is_wrong_with_templates() {
    let Some(helm) = pack::helm().await else { return };
    for (template, told) in [
        ("{{ required \"no host was given\" .Values.host }}", "no host was given"),
        ("{{ .Values.a.b.c }}", "nil pointer evaluating"),
        ("a: {{", "parse error at (app/templates/a.yaml"),
        ("a: [", "YAML parse error on app/templates/a.yaml"),
        ("kind: Pod", "templates/a.yaml, document 1: apiVersion is missing"),
    ] {
        let request = pack::request("app", pack::files(&[CHART, ("app/templates/a.yaml", template)]));
        let error = pack::renderer(&helm).render(&request).await.unwrap_err();
        assert!(error.to_string().contains(told) && !error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn secrets_are_in_no_message() {
    let mut request = pack::request("app", pack::files(&[CHART]));
    request.overrides.insert("a".to_owned(), "geheim,b".to_owned());
    let error = refusal(request).await;
    assert!(error.contains("override of `a`") && !error.contains("geheim"), "{error}");
}

#[tokio::test]
async fn templates_see_nothing_of_this_machine() {
    let Some(helm) = pack::helm().await else { return };
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  file: {{ .Files.Get \"../../../../../../etc/hostname\" | quote }}\n  own: {{ .Files.Get \"Chart.yaml\" | len | quote }}\n  host: {{ getHostByName \"localhost\" | quote }}\n  lookup: {{ lookup \"v1\" \"Namespace\" \"\" \"\" | toJson | quote }}\n";
    let request = pack::request("app", pack::files(&[CHART, ("app/templates/a.yaml", template)]));
    let rendering = pack::renderer(&helm).render(&request).await.unwrap();
    let text = &rendering.manifests[0].manifest;
    assert!(
        text.contains("file: \"\"") && text.contains("host: \"\"") && text.contains("lookup: \"{}\""),
        "{text}"
    );
    let environment =
        pack::request("app", pack::files(&[CHART, ("app/templates/a.yaml", "a: {{ env \"HOME\" }}")]));
    let error = pack::renderer(&helm).render(&environment).await.unwrap_err();
    assert!(error.to_string().contains("function \"env\" not defined"), "{error}");
}
