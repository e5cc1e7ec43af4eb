//! The chart `shop`, which has all that a chart can have.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use drystone_charts::{Config, HookEvent, Object, Renderer, Request};

use crate::pack;

fn shop() -> Request {
    pack::request("shop", pack::directory(&pack::data("shop"), "shop"))
}

fn with_profile() -> Request {
    Request { profile: Some(pack::directory(&pack::data("profile"), "")), ..shop() }
}

fn names<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Vec<String> {
    objects.into_iter().map(|object| format!("{} {}", object.kind, object.name)).collect()
}

/// Texts of manifests as helm printed them, without their sources.
fn printed(text: &str) -> Vec<String> {
    let documents = text.split("---\n# Source: ").filter(|part| !part.trim().is_empty());
    documents.filter_map(|part| part.split_once('\n')).map(|(_, text)| text.trim().to_owned()).collect()
}

/// A copy of the chart with the profile's files in it, as a user would make it by hand.
fn prepared_by_hand(directory: &Path) -> std::path::PathBuf {
    let chart = directory.join("shop");
    let copied =
        std::process::Command::new("cp").arg("-r").arg(pack::data("shop")).arg(&chart).status().unwrap();
    assert!(copied.success());
    fs::copy(pack::data("profile/shop.conf"), chart.join("config/shop.conf")).unwrap();
    fs::copy(pack::data("profile/extra.yaml"), chart.join("templates/extra.yaml")).unwrap();
    chart
}

#[tokio::test]
async fn a_chart_is_what_helm_makes_of_it() {
    let Some(helm) = pack::helm().await else { return };
    let rendering = pack::renderer(&helm).render(&shop()).await.unwrap();
    assert_eq!(
        names(&rendering.crds),
        ["CustomResourceDefinition tills.example.com", "CustomResourceDefinition coins.example.com"]
    );
    assert_eq!(
        names(&rendering.manifests),
        [
            "ConfigMap r1-values",
            "ConfigMap r1-files",
            "PersistentVolumeClaim r1-cache",
            "Service r1-shop",
            "Deployment r1-shop",
            "ServiceAccount r1-one",
            "ServiceAccount r1-two",
            "Till r1-till",
        ]
    );
    let by_hand = printed(&pack::by_hand(&helm, &pack::data("shop"), &["--no-hooks"]).unwrap());
    let ours: Vec<&str> = rendering.manifests.iter().map(|object| object.manifest.trim()).collect();
    let expanded = ["ServiceAccount"];
    for object in rendering.manifests.iter().filter(|object| !expanded.contains(&object.kind.as_str())) {
        assert!(
            by_hand.iter().any(|text| text == object.manifest.trim()),
            "{} is other than helm's",
            object.name
        );
    }
    assert_eq!(by_hand.len(), ours.len() - 2 + 1 + 1, "two definitions of one file, and a list of two");
    assert!(rendering.manifests[0].manifest.contains("kube: v1.33.0"));
    assert_eq!(rendering.manifests[4].namespace.as_deref(), Some("market"));
}

#[tokio::test]
async fn hooks_have_events_and_their_order() {
    let Some(helm) = pack::helm().await else { return };
    let rendering = pack::renderer(&helm).render(&shop()).await.unwrap();
    let hooks: Vec<_> = rendering.hooks.iter().map(|hook| (hook.object.name.as_str(), hook.weight)).collect();
    assert_eq!(hooks, [("r1-before", -1), ("r1-bye", 0), ("r1-a-after", 5), ("r1-migrate", 5)]);
    let of = |event| rendering.hooks_of(event).map(|hook| hook.object.name.as_str()).collect::<Vec<_>>();
    assert_eq!(of(HookEvent::PreInstall), ["r1-before", "r1-migrate"]);
    assert_eq!(of(HookEvent::PostInstall), ["r1-a-after"]);
    assert_eq!(of(HookEvent::PostDelete), ["r1-bye"]);
    assert_eq!(of(HookEvent::PreUpgrade), ["r1-migrate"]);
    assert_eq!(of(HookEvent::PreDelete), Vec::<&str>::new());
    let everything = printed(&pack::by_hand(&helm, &pack::data("shop"), &[]).unwrap());
    for hook in &rendering.hooks {
        assert!(everything.iter().any(|text| text == hook.object.manifest.trim()), "{}", hook.object.name);
    }
}

#[tokio::test]
async fn profile_and_overrides_are_what_helm_does_with_files_and_set() {
    let Some(helm) = pack::helm().await else { return };
    let sets = [
        (r"nodeSelector.kubernetes\.io/os", "linux"),
        ("hosts[1]", r"c.example\,d.example"),
        ("large", "1000000"),
        ("huge", "123456789012"),
        ("image.tag", "007"),
        ("weights", "{5,x}"),
        ("flags.debug", "null"),
        ("removable", "null"),
        ("password", r"it\,is=secret"),
        ("nested[1].port", "1000001"),
    ];
    let overrides: BTreeMap<String, String> =
        sets.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let directory = tempfile::tempdir().unwrap();
    let chart = prepared_by_hand(directory.path());
    let values = pack::data("profile/override_values.yaml");
    for overridden in [false, true] {
        let mut request = with_profile();
        let mut arguments = vec!["--no-hooks".to_owned(), "-f".to_owned(), values.display().to_string()];
        if overridden {
            request.overrides.clone_from(&overrides);
            arguments.extend(
                overrides.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]),
            );
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let by_hand = printed(&pack::by_hand(&helm, &chart, &arguments).unwrap());
        let rendering = pack::renderer(&helm).render(&request).await.unwrap();
        let mut compared = 0;
        for object in rendering.manifests.iter().filter(|object| object.kind != "ServiceAccount") {
            let text = object.manifest.trim();
            assert!(
                by_hand.iter().any(|other| other == text),
                "{}:\n{text}\n{}",
                object.name,
                by_hand.join("\n----\n")
            );
            compared += 1;
        }
        assert_eq!(compared + 2, by_hand.len(), "the file of definitions and the list are the two others");
        let all: String = rendering.manifests.iter().map(|object| object.manifest.as_str()).collect();
        assert!(all.contains("greeting=good day") && all.contains("replicas: 3"), "the profile counts");
        assert_eq!(all.contains("it,is=secret"), overridden);
        assert_eq!(all.contains("huge: int64 123456789012"), overridden, "{all}");
    }
}

#[tokio::test]
async fn plain_manifests_need_no_helm() {
    let renderer = Renderer::new(Config { helm: Some("/nowhere/helm".into()), ..Config::default() });
    let mut request = pack::request("plain", pack::directory(&pack::data("plain"), "plain"));
    request.profile = Some(pack::files(&[
        (
            "manifest.yaml",
            "version: v1\ntype: {values: v.yaml, configresource: [{filepath: s.yaml, chartpath: plain/more/s.yaml}]}",
        ),
        ("v.yaml", "a: 1"),
        ("s.yaml", "{apiVersion: v1, kind: Secret, metadata: {name: s}}"),
    ]));
    let rendering = renderer.render(&request).await.unwrap();
    assert_eq!(
        names(&rendering.manifests),
        ["Namespace plain", "Secret s", "Service plain", "Deployment plain"]
    );
    assert!(rendering.warnings[0].contains("change nothing"), "{:?}", rendering.warnings);
    let chart = renderer.render(&shop()).await.unwrap_err();
    assert!(chart.to_string().contains("/nowhere/helm") && chart.is_transient(), "{chart}");
}

#[tokio::test]
async fn what_was_rendered_is_not_rendered_again() {
    let Some(helm) = pack::helm().await else { return };
    let directory = tempfile::tempdir().unwrap();
    // Random: rendered anew it would be another.
    let chart = pack::files(&[
        ("lots/Chart.yaml", "apiVersion: v2\nname: lots\nversion: 0.1.0\n"),
        (
            "lots/templates/a.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {a: {{ randAlphaNum 40 }}}\n",
        ),
    ]);
    let config = Config {
        helm: Some(helm.program.clone()),
        directory: Some(directory.path().join("kept")),
        ..Config::default()
    };
    let request = pack::request("lots", chart);
    let renderer = Renderer::new(config.clone());
    let all = (0..8).map(|_| renderer.render(&request));
    let rendered = futures_of(all).await;
    assert!(
        rendered.iter().all(|other| Arc::ptr_eq(other, &rendered[0])),
        "one process for all who ask at once"
    );
    let restarted = Renderer::new(config);
    assert_eq!(restarted.render(&request).await.unwrap(), rendered[0], "kept over a restart");
    let other = Request { release: "r2".to_owned(), ..request };
    assert_ne!(restarted.render(&other).await.unwrap(), rendered[0]);
}

/// All at once on one task each.
async fn futures_of<F>(futures: impl Iterator<Item = F>) -> Vec<Arc<drystone_charts::Rendering>>
where
    F: Future<Output = Result<Arc<drystone_charts::Rendering>, drystone_charts::RenderError>>,
{
    let mut pinned: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        pinned.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(result) => {
                done.push(result.unwrap());
                false
            }
            std::task::Poll::Pending => true,
        });
        if pinned.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}

#[tokio::test]
async fn templates_that_never_end_are_ended() {
    let Some(helm) = pack::helm().await else { return };
    let chart = |template: &str| {
        let template = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{template}");
        pack::request(
            "bad",
            pack::files(&[
                ("bad/Chart.yaml", "apiVersion: v2\nname: bad\nversion: 0.1.0\n"),
                ("bad/templates/a.yaml", &template),
            ]),
        )
    };
    let mut config = Config { helm: Some(helm.program.clone()), ..Config::default() };
    config.process.processor = 2;
    let renderer = Renderer::new(config.clone());
    let nested = "{{- range until 100000 }}{{- range until 100000 }}{{- end }}{{- end }}";
    let error = renderer.render(&chart(nested)).await.unwrap_err();
    assert!(error.to_string().contains("processor time") && !error.is_transient(), "{error}");
    config.process.processor = 60;
    config.process.memory = 256 << 20;
    let renderer = Renderer::new(config.clone());
    let error = renderer.render(&chart("  a: {{ repeat 900000000 \"x\" }}")).await.unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    config.process = drystone_charts::ProcessLimits {
        output: 1 << 20,
        wall: Duration::from_secs(300),
        ..Default::default()
    };
    let renderer = Renderer::new(config);
    let error = renderer.render(&chart("  a: {{ repeat 2000000 \"x\" }}")).await.unwrap_err();
    assert!(error.to_string().contains("printed more"), "{error}");
}
