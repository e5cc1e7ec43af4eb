//! Objects, lists and watches through a kube client in the same process.

use drystone_apiserver::Profile;
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::Api;
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

fn config_map(name: &str, value: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() },
        data: Some([("key".to_owned(), value.to_owned())].into()),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn an_object_lives_and_dies() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let made = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    assert_eq!(maps.get("a").await.unwrap(), made);
    let exists = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(
        matches!(exists, kube::Error::Api(status) if status.reason == "AlreadyExists" && status.code == 409)
    );

    let mut changed = made.clone();
    changed.data = config_map("a", "2").data;
    let changed = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_ne!(changed.metadata.resource_version, made.metadata.resource_version);
    // The older form is refused, and a change that changes nothing is none.
    let stale = maps.replace("a", &PostParams::default(), &made).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(status) if status.reason == "Conflict"));
    let same = maps.replace("a", &PostParams::default(), &changed).await.unwrap();
    assert_eq!(same.metadata.resource_version, changed.metadata.resource_version);

    let patch = json!({"data": {"key": null, "other": "3"}});
    let patched = maps.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(patched.data.unwrap(), [("other".to_owned(), "3".to_owned())].into());

    maps.delete("a", &DeleteParams::default()).await.unwrap();
    let gone = maps.get("a").await.unwrap_err();
    assert!(matches!(gone, kube::Error::Api(status) if status.message == "configmaps \"a\" not found"));
}

#[tokio::test]
async fn names_are_generated() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let mut map = config_map("", "1");
    map.metadata = ObjectMeta { generate_name: Some("made-".into()), ..ObjectMeta::default() };
    let names: Vec<_> = futures::stream::iter(0..5)
        .then(|_| async { maps.create(&PostParams::default(), &map).await.unwrap().metadata.name.unwrap() })
        .collect()
        .await;
    assert!(names.iter().all(|name| name.starts_with("made-") && name.len() == 10), "{names:?}");
}

#[tokio::test]
async fn lists_are_paged_and_selected() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    for index in 0..25 {
        let mut map = config_map(&format!("m{index:02}"), "x");
        map.metadata.labels = Some([("parity".to_owned(), (index % 2).to_string())].into());
        maps.create(&PostParams::default(), &map).await.unwrap();
    }
    let mut params = ListParams::default().limit(10).labels("parity");
    let mut names = Vec::new();
    loop {
        let page = maps.list(&params).await.unwrap();
        names.extend(page.items.into_iter().filter_map(|map| map.metadata.name));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    assert_eq!(names, (0..25).map(|index| format!("m{index:02}")).collect::<Vec<_>>());
    let odd = maps.list(&ListParams::default().labels("parity in (1)")).await.unwrap();
    assert_eq!(odd.items.len(), 12);
    let one = maps.list(&ListParams::default().fields("metadata.name=m07")).await.unwrap();
    assert_eq!(one.items.len(), 1);
    let wrong = maps.list(&ListParams::default().fields("data.key=x")).await.unwrap_err();
    assert!(matches!(wrong, kube::Error::Api(status) if status.code == 400));
}

#[tokio::test]
async fn watches_tell_every_change_once() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    let before = maps.create(&PostParams::default(), &config_map("before", "0")).await.unwrap();
    let version = before.metadata.resource_version.unwrap();
    let params = WatchParams::default().labels("color=red");
    let mut events = maps.watch(&params, &version).await.unwrap().boxed();

    let mut red = config_map("a", "1");
    red.metadata.labels = Some([("color".to_owned(), "red".to_owned())].into());
    maps.create(&PostParams::default(), &red).await.unwrap();
    maps.create(&PostParams::default(), &config_map("plain", "1")).await.unwrap();
    let label = |color: &str| json!({"metadata": {"labels": {"color": color}}});
    let patch = |name: &'static str, color: &'static str| {
        let maps = maps.clone();
        async move { maps.patch(name, &PatchParams::default(), &Patch::Merge(label(color))).await.unwrap() }
    };
    patch("plain", "red").await;
    patch("a", "blue").await;
    maps.delete("plain", &DeleteParams::default()).await.unwrap();

    let mut seen = Vec::new();
    while seen.len() < 4 {
        match events.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(map) => seen.push(format!("added {}", map.metadata.name.unwrap())),
            WatchEvent::Modified(map) => seen.push(format!("modified {}", map.metadata.name.unwrap())),
            WatchEvent::Deleted(map) => seen.push(format!("deleted {}", map.metadata.name.unwrap())),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(seen, ["added a", "added plain", "deleted a", "deleted plain"]);
}

#[tokio::test]
async fn a_watch_can_begin_with_the_state() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
    maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let params = WatchParams::default().initial_events();
    let mut events = maps.watch(&params, "0").await.unwrap().boxed();
    let mut ended = false;
    while !ended {
        if let WatchEvent::Bookmark(bookmark) = events.try_next().await.unwrap().unwrap() {
            ended = bookmark.metadata.annotations.contains_key("k8s.io/initial-events-end");
        }
    }
    maps.create(&PostParams::default(), &config_map("b", "1")).await.unwrap();
    // Others write as well.
    let is_b = |event: &WatchEvent<ConfigMap>| match event {
        WatchEvent::Added(map) => map.metadata.name.as_deref() == Some("b"),
        _ => false,
    };
    while !is_b(&events.try_next().await.unwrap().unwrap()) {}
}

#[tokio::test]
async fn secrets_take_plain_text() {
    let cluster = Cluster::start(Profile::Management).await;
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client());
    let secret = Secret {
        metadata: ObjectMeta { name: Some("s".into()), ..ObjectMeta::default() },
        string_data: Some([("a".to_owned(), "b".to_owned())].into()),
        ..Secret::default()
    };
    let made = secrets.create(&PostParams::default(), &secret).await.unwrap();
    assert_eq!(made.data.unwrap()["a"].0, b"b");
    assert!(made.string_data.is_none());
}

#[tokio::test]
async fn nothing_is_made_where_there_is_no_namespace() {
    let cluster = Cluster::start(Profile::Management).await;
    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), "nowhere");
    let error = maps.create(&PostParams::default(), &config_map("a", "1")).await.unwrap_err();
    assert!(
        matches!(error, kube::Error::Api(status) if status.message == "namespaces \"nowhere\" not found")
    );
    let namespaces: Api<Namespace> = Api::all(cluster.client());
    let permanent = namespaces.delete("default", &DeleteParams::default()).await.unwrap_err();
    assert!(matches!(permanent, kube::Error::Api(status) if status.code == 403));
    eventually("the default namespace", async || namespaces.get_opt("default").await.unwrap()).await;
}
