//! Whatever is sent, there is an answer, and it is never one of 500 and more.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use serde_json::json;

use crate::world::{BASIC, MULTIPART, World, archive, kubeconfig, multipart};

/// Runs a check on samples of a strategy.
async fn each<S: Strategy>(count: usize, strategy: S, check: impl AsyncFn(S::Value)) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..count {
        let sample = strategy.new_tree(&mut runner).unwrap().current();
        check(sample).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_body_is_answered() {
    let world = World::start().await;
    let group = world.group().await;
    world.cluster("c1").await;
    let samples = [
        json!({"metadata": {"name": "x", "description": "d"}, "spec": {"compositeProfile": "cp1", "version": "r", "logicalCloud": "lc1", "overrideValues": [{"app": "a1", "values": {"a": "b"}}]}}),
        json!({"metadata": {"name": "x"}, "spec": {"app": "a1", "intent": {"allOf": [{"clusterProvider": "p", "cluster": "c1"}, {"anyOf": [{"clusterProvider": "p", "clusterLabel": "l"}]}]}}}),
        json!({"metadata": {"name": "x"}, "spec": {"host": "h", "port": 1, "type": "action", "priority": 5}}),
        json!({"clusterLabel": "x", "spec": {"kv": [{"a": "b"}], "revision": "1", "hard": {}}}),
    ];
    let keys = &[
        "metadata",
        "name",
        "spec",
        "app",
        "intent",
        "allOf",
        "anyOf",
        "kv",
        "path",
        "file",
        "files",
        "clusterLabel",
    ];
    let collections = [
        "controllers".to_owned(),
        "projects/p1/composite-apps/ca1/v1/deployment-intent-groups".to_owned(),
        format!("{group}/intents"),
        format!("{group}/generic-placement-intents"),
        "cluster-providers/p/cluster-sync-objects".to_owned(),
        "cluster-providers/p/clusters/c1/labels".to_owned(),
        "cluster-providers/p/clusters/c1/provider-networks".to_owned(),
        "projects/p1/logical-clouds/lc1/cluster-quotas".to_owned(),
        "projects/p1/logical-clouds/lc1/user-permissions".to_owned(),
    ];
    let distorted = prop::sample::select(samples.to_vec())
        .prop_flat_map(|sample| drystone_hostile::distorted(sample, keys));
    each(150, (prop::sample::select(collections.to_vec()), distorted), async |(collection, body)| {
        let answer = world.send("POST", &collection, &body).await;
        assert!(answer.status.as_u16() < 500, "{collection} {body}: {}", answer.text());
    })
    .await;
    let texts = samples.map(|sample| sample.to_string());
    each(
        100,
        (prop::sample::select(collections.to_vec()), drystone_hostile::damaged(texts)),
        async |(collection, bytes)| {
            let answer = world.ask("PUT", &format!("/v2/{collection}/x"), &[BASIC], bytes.clone()).await;
            assert!(answer.status.as_u16() < 500, "{collection} {bytes:?}: {}", answer.text());
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_form_is_answered() {
    let world = World::start().await;
    world.group().await;
    world.cluster("c1").await;
    let (chart, config) = (archive("a9"), kubeconfig("t"));
    let metadata = br#"{"metadata": {"name": "a9"}}"#;
    let forms = [
        multipart(&[("metadata", None, metadata), ("file", Some("f"), &chart)]),
        multipart(&[("metadata", None, metadata), ("file", Some("f"), config.as_bytes())]),
    ];
    let paths = ["projects/p1/composite-apps/ca1/v1/apps", "cluster-providers/p/clusters"];
    each(
        150,
        (prop::sample::select(paths.to_vec()), drystone_hostile::damaged(forms)),
        async |(path, form)| {
            let answer = world.ask("POST", &format!("/v2/{path}"), &[BASIC, MULTIPART], form).await;
            assert!(answer.status.as_u16() < 500, "{path}: {}", answer.text());
            if answer.status == 201 {
                let name = answer.body["metadata"]["name"].as_str().unwrap();
                let gone = world.send("DELETE", &format!("{path}/{name}"), &serde_json::Value::Null).await;
                assert_eq!(gone.status, 204);
            }
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_path_and_query_is_answered() {
    let world = World::start().await;
    let group = world.group().await;
    let odd = "[a-z%/.?&=+;0-9*'-]{0,40}";
    let asked = AtomicUsize::new(0);
    each(300, (prop::bool::ANY, odd), async |(is_status, rest)| {
        let path =
            if is_status { format!("/v2/{group}/status?{rest}") } else { format!("/v2/projects/p1/{rest}") };
        if path.parse::<http::Uri>().is_err() {
            return;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let answer = world.ask("GET", &path, &[BASIC], "").await;
        assert!(answer.status.as_u16() < 500, "{path}: {}", answer.text());
    })
    .await;
    let asked = asked.into_inner();
    assert!(asked > 200, "of 300 paths only {asked} could be asked for");
    let large = vec![b' '; 2 << 20];
    assert_eq!(world.ask("POST", "/v2/projects", &[BASIC], large).await.status, 413);
}
