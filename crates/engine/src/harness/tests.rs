//! The harness, in simulated time, against an API in memory. Operations serve as objects; any kind would do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use drystone_api::{ObjectReference, Operation, OperationSpec, OperationStatus};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ObjectMeta, PostParams},
    runtime::watcher,
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Cache, Change, Controller, ControllerConfig, Reconciler, Requeue, add_finalizer, has_finalizer,
    remove_finalizer, update_status,
};
use crate::{
    events::{EventKind, EventSink},
    fake_api::{FakeApi, Fault},
    reference::{ObjectKey, owner_reference, reference_to},
};

/// What the reconciler does with an object, by the object's title.
#[derive(Default)]
struct Log {
    /// When, for which object, with which title.
    calls: Vec<(Instant, String, String)>,
    running: BTreeMap<String, u32>,
    most_at_once: usize,
    twice_at_once: bool,
}

#[derive(Clone, Default)]
struct Probe {
    log: Arc<Mutex<Log>>,
}

impl Probe {
    fn calls_of(&self, name: &str) -> Vec<String> {
        let log = self.log.lock().expect("not poisoned");
        log.calls.iter().filter(|(_, called, _)| called == name).map(|(_, _, title)| title.clone()).collect()
    }

    fn times_of(&self, name: &str) -> Vec<Instant> {
        let log = self.log.lock().expect("not poisoned");
        log.calls.iter().filter(|(_, called, _)| called == name).map(|(at, ..)| *at).collect()
    }
}

impl Reconciler for Probe {
    type Object = Operation;
    type Error = std::io::Error;

    const NAME: &'static str = "probe";

    async fn reconcile(&self, object: Arc<Operation>) -> Result<Requeue, std::io::Error> {
        let (name, title) = (object.name_any(), object.spec.title.clone());
        {
            let mut log = self.log.lock().expect("not poisoned");
            log.calls.push((Instant::now(), name.clone(), title.clone()));
            let mine = log.running.entry(name.clone()).or_default();
            *mine += 1;
            log.twice_at_once |= log.running[&name] > 1;
            log.most_at_once = log.most_at_once.max(log.running.values().filter(|&&count| count > 0).count());
        }
        let result = match title.as_str() {
            "slow" => {
                sleep(Duration::from_secs(10)).await;
                Ok(Requeue::OnChange)
            }
            "hangs" => std::future::pending().await,
            "fails" => Err(std::io::Error::other("as told")),
            "panics" => panic!("as told"),
            "again" => Ok(Requeue::After(Duration::from_secs(100))),
            _ => Ok(Requeue::OnChange),
        };
        self.log.lock().expect("not poisoned").running.entry(name).and_modify(|count| *count -= 1);
        result
    }

    fn error_policy(&self, _: &Operation, _: &std::io::Error, failures: u32) -> Duration {
        Duration::from_secs(1 << failures)
    }
}

fn path(name: &str) -> String {
    format!("/apis/drystone.dev/v1alpha1/namespaces/ns/operations/{name}")
}

async fn create(api: &FakeApi, name: &str, title: &str) -> Operation {
    let spec = OperationSpec { title: title.to_owned(), ..OperationSpec::default() };
    let operations: Api<Operation> = Api::namespaced(api.client(), "ns");
    operations.create(&PostParams::default(), &Operation::new(name, spec)).await.expect("created")
}

fn retitle(api: &FakeApi, name: &str, title: &str) {
    api.meddle(&path(name), |object| object["spec"]["title"] = json!(title));
}

/// Runs the probe's controller in the background until the guard is dropped.
fn start(
    client: Client,
    config: ControllerConfig,
    extend: impl FnOnce(Controller<Probe>) -> Controller<Probe>,
) -> (Probe, tokio_util::sync::DropGuard) {
    let probe = Probe::default();
    let shutdown = CancellationToken::new();
    let controller = extend(Controller::new(client, probe.clone(), config));
    tokio::spawn(controller.run(shutdown.clone()));
    (probe, shutdown.drop_guard())
}

async fn some_time() {
    sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn each_change_is_reconciled_and_bursts_are_one() {
    let api = FakeApi::new();
    create(&api, "a", "slow").await;
    create(&api, "b", "slow").await;
    let (probe, _guard) = start(api.client(), ControllerConfig::default(), |controller| controller);
    some_time().await;
    // While the first reconciliation runs, much happens; one more call sees it all.
    for title in ["x", "y", "z"] {
        retitle(&api, "a", title);
    }
    sleep(Duration::from_secs(30)).await;
    assert_eq!(probe.calls_of("a"), ["slow", "z"]);
    let log = probe.log.lock().expect("not poisoned");
    assert!(!log.twice_at_once);
    assert_eq!(log.most_at_once, 2);
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_limited() {
    let api = FakeApi::new();
    for n in 0..6 {
        create(&api, &n.to_string(), "slow").await;
    }
    let config = ControllerConfig { concurrency: 2, ..ControllerConfig::default() };
    let (probe, _guard) = start(api.client(), config, |controller| controller);
    sleep(Duration::from_secs(60)).await;
    let log = probe.log.lock().expect("not poisoned");
    assert_eq!((log.calls.len(), log.most_at_once), (6, 2));
}

#[tokio::test(start_paused = true)]
async fn failures_back_off_per_object_until_one_succeeds() {
    let api = FakeApi::new();
    create(&api, "a", "fails").await;
    let (probe, _guard) = start(api.client(), ControllerConfig::default(), |controller| controller);
    sleep(Duration::from_secs(29)).await;
    let seconds = |times: Vec<Instant>| -> Vec<u64> {
        times
            .windows(2)
            .map(|pair| (pair[1] - pair[0]).as_millis().div_ceil(1_000))
            .map(|s| u64::try_from(s).expect("small"))
            .collect()
    };
    let pauses = seconds(probe.times_of("a"));
    assert!(pauses.starts_with(&[2, 4, 8]) || pauses.starts_with(&[3, 5, 9]), "{pauses:?}");
    retitle(&api, "a", "fine");
    some_time().await;
    retitle(&api, "a", "fails");
    let before = probe.times_of("a").len();
    sleep(Duration::from_millis(3_500)).await;
    assert!(probe.times_of("a").len() >= before + 2, "the count began anew");
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_or_panics_is_called_again_and_disturbs_nobody() {
    let api = FakeApi::new();
    create(&api, "h", "hangs").await;
    create(&api, "p", "panics").await;
    create(&api, "a", "again").await;
    let config = ControllerConfig { deadline: Duration::from_secs(20), ..ControllerConfig::default() };
    let (probe, _guard) = start(api.client(), config, |controller| controller);
    sleep(Duration::from_secs(201)).await;
    assert!(probe.times_of("h").len() > 3, "{}", probe.times_of("h").len());
    assert!(probe.times_of("p").len() > 3);
    assert_eq!(probe.times_of("a").len(), 3);
}

#[derive(Default)]
struct Events(Mutex<Vec<String>>);

impl EventSink for Events {
    fn publish(&self, regarding: &ObjectReference, kind: EventKind, reason: &str, note: &str) {
        let line = format!("{} {} {} {note}", kind.as_str(), regarding.name, reason);
        self.0.lock().expect("not poisoned").push(line);
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_object_is_told_about_and_the_others_go_on() {
    let api = FakeApi::new();
    create(&api, "good", "fine").await;
    create(&api, "bad", "fine").await;
    api.meddle(&path("bad"), |object| object["spec"]["title"] = json!({"not": "a string"}));
    let events = Arc::new(Events::default());
    let config = ControllerConfig { events: events.clone(), ..ControllerConfig::default() };
    let (probe, _guard) = start(api.client(), config, |controller| controller);
    some_time().await;
    assert_eq!(probe.calls_of("good"), ["fine"]);
    assert_eq!(probe.calls_of("bad"), [""; 0]);
    let told = events.0.lock().expect("not poisoned").clone();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("Warning bad InvalidObject the object cannot be read"), "{told:?}");
    retitle(&api, "bad", "mended");
    some_time().await;
    assert_eq!(probe.calls_of("bad"), ["mended"]);
}

#[tokio::test(start_paused = true)]
async fn what_belongs_to_an_object_makes_it_be_reconciled() {
    let api = FakeApi::new();
    let owner = create(&api, "a", "one").await;
    create(&api, "b", "two").await;
    let cache: Cache<ConfigMap> =
        Cache::start(Api::all(api.client()), watcher::Config::default(), CancellationToken::new());
    let (probe, _guard) = start(api.client(), ControllerConfig::default(), |controller| {
        controller
            .owns::<Secret>()
            .watches::<Secret>(watcher::Config::default(), |secret, objects| {
                objects.keys_where(|object| secret.labels().get("title") == Some(&object.spec.title))
            })
            .watches_cache(&cache, |map, _| vec![ObjectKey::new("ns", map.name_any())])
    });
    some_time().await;
    let calls = || (probe.calls_of("a").len(), probe.calls_of("b").len());
    assert_eq!(calls(), (1, 1));

    let secrets: Api<Secret> = Api::namespaced(api.client(), "ns");
    let owned = ObjectMeta {
        name: Some("owned".to_owned()),
        owner_references: Some(vec![owner_reference(&reference_to(&owner))]),
        ..ObjectMeta::default()
    };
    secrets
        .create(&PostParams::default(), &Secret { metadata: owned, ..Secret::default() })
        .await
        .expect("created");
    some_time().await;
    assert_eq!(calls(), (2, 1));

    let labelled = ObjectMeta {
        name: Some("labelled".to_owned()),
        labels: Some(BTreeMap::from([("title".to_owned(), "two".to_owned())])),
        ..ObjectMeta::default()
    };
    secrets
        .create(&PostParams::default(), &Secret { metadata: labelled, ..Secret::default() })
        .await
        .expect("created");
    some_time().await;
    assert_eq!(calls(), (2, 2));
    secrets.delete("labelled", &DeleteParams::default()).await.expect("deleted");
    some_time().await;
    assert_eq!(calls(), (2, 3));

    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "ns");
    let named = ObjectMeta { name: Some("a".to_owned()), ..ObjectMeta::default() };
    maps.create(&PostParams::default(), &ConfigMap { metadata: named, ..ConfigMap::default() })
        .await
        .expect("created");
    some_time().await;
    assert_eq!(calls(), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn shutdown_lets_reconciliations_end_but_not_for_ever() {
    for (title, grace, expected) in [("slow", 60, 10), ("hangs", 60, 60), ("fine", 60, 1)] {
        let api = FakeApi::new();
        create(&api, "a", title).await;
        let shutdown = CancellationToken::new();
        let config = ControllerConfig { grace: Duration::from_secs(grace), ..ControllerConfig::default() };
        let controller = Controller::new(api.client(), Probe::default(), config);
        let began = Instant::now();
        let stopping = async {
            some_time().await;
            shutdown.cancel();
        };
        tokio::join!(controller.run(shutdown.clone()), stopping);
        let took = began.elapsed();
        assert!(
            took >= Duration::from_secs(expected) && took < Duration::from_secs(expected + 2),
            "{title}: {took:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_before_anything_is_known_ends_at_once() {
    let api = FakeApi::new();
    create(&api, "a", "fine").await;
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let controller = Controller::new(api.client(), Probe::default(), ControllerConfig::default());
    let began = Instant::now();
    controller.run(shutdown).await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_cache_follows_and_catches_up() {
    let api = FakeApi::new();
    create(&api, "a", "one").await;
    create(&api, "b", "one").await;
    let cache: Cache<Operation> =
        Cache::start(Api::all(api.client()), watcher::Config::default(), CancellationToken::new());
    assert!(cache.ready().await);
    let titles = || -> Vec<(String, String)> {
        cache.list().iter().map(|object| (object.name_any(), object.spec.title.clone())).collect()
    };
    let pair = |name: &str, title: &str| (name.to_owned(), title.to_owned());
    assert_eq!(titles(), [pair("a", "one"), pair("b", "one")]);

    let mut changes = Box::pin(cache.changes());
    retitle(&api, "b", "two");
    some_time().await;
    assert_eq!(titles(), [pair("a", "one"), pair("b", "two")]);

    // Deleted while the watch was interrupted: the new list shows it.
    api.remove_unnoticed(&path("a"));
    api.expire_watches();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(titles(), [pair("b", "two")]);
    assert!(cache.get(&ObjectKey::new("ns", "a")).is_none());

    // What can no longer be read is no longer there.
    api.meddle(&path("b"), |object| object["spec"]["title"] = json!(7));
    some_time().await;
    assert_eq!(titles(), []);

    let mut told = Vec::new();
    while let Ok(Some(Change::Object(object))) = tokio::time::timeout(Duration::ZERO, changes.next()).await {
        told.push((object.name_any(), object.spec.title.clone()));
    }
    assert_eq!(told, [pair("b", "two"), pair("a", "one"), pair("b", "two")]);
}

#[tokio::test(start_paused = true)]
async fn one_object_of_a_cache_is_waited_for() {
    let api = FakeApi::new();
    create(&api, "a", "one").await;
    let cache: Cache<Operation> =
        Cache::start(Api::all(api.client()), watcher::Config::default(), CancellationToken::new());
    let titled = |name: &str, title: &'static str| {
        let (cache, key) = (cache.clone(), ObjectKey::new("ns", name));
        tokio::spawn(async move {
            cache.wait_for(&key, |object| object.filter(|object| object.spec.title == title).map(drop)).await;
        })
    };
    tokio::time::timeout(Duration::from_secs(60), titled("a", "one"))
        .await
        .expect("it is so")
        .expect("no panic");
    let (later, never, appears) = (titled("a", "two"), titled("a", "three"), titled("b", "new"));
    some_time().await;
    assert!(!later.is_finished() && !appears.is_finished());
    retitle(&api, "a", "two");
    create(&api, "b", "new").await;
    some_time().await;
    assert!(later.is_finished() && appears.is_finished() && !never.is_finished());

    let key = ObjectKey::new("ns", "a");
    let gone = cache.wait_for(&key, |object| object.is_none().then_some(()));
    api.remove_unnoticed(&path("a"));
    api.expire_watches();
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("a new list shows it");
    never.abort();
}

#[tokio::test(start_paused = true)]
async fn a_status_is_written_when_it_changed_and_on_top_of_others() {
    let api = FakeApi::new();
    let object = create(&api, "a", "one").await;
    let operations: Api<Operation> = Api::namespaced(api.client(), "ns");
    let writes = || api.requests().iter().filter(|request| request.starts_with("PUT")).count();

    let unchanged = update_status(&operations, &object, |_| {}).await.expect("nothing to do");
    assert_eq!((unchanged.status, writes()), (None, 0));

    // Somebody else writes in between: the change is made again on top.
    api.meddle(&path("a"), |object| object["status"] = json!({"message": "theirs"}));
    let change = |status: &mut OperationStatus| status.progress_percent = 50;
    let written = update_status(&operations, &object, change).await.expect("written");
    let status = written.status.clone().expect("has one");
    assert_eq!((status.progress_percent, status.message.as_str()), (50, "theirs"));
    let before = writes();
    update_status(&operations, &written, change).await.expect("nothing to do");
    assert_eq!(writes(), before);

    operations.delete("a", &DeleteParams::default()).await.expect("deleted");
    create(&api, "a", "another").await;
    let error = update_status(&operations, &written, |status| status.progress_percent = 60).await;
    assert_eq!(
        error.expect_err("another object").to_string(),
        "a was deleted and created again; its status was not written"
    );
}

#[tokio::test(start_paused = true)]
async fn finalizers_come_and_go_beside_those_of_others() {
    let api = FakeApi::new();
    let operations: Api<Operation> = Api::namespaced(api.client(), "ns");
    let object = create(&api, "a", "one").await;
    api.meddle(&path("a"), |object| object["metadata"]["finalizers"] = json!(["others/one"]));
    let object = add_finalizer(&operations, &object, "drystone.dev/test").await.expect("added");
    assert_eq!(object.finalizers(), ["others/one", "drystone.dev/test"]);
    assert!(has_finalizer(&object, "drystone.dev/test"));
    operations.delete("a", &DeleteParams::default()).await.expect("marked");
    remove_finalizer(&operations, &object, "drystone.dev/test").await.expect("removed");
    assert_eq!(api.objects("/a")[0]["metadata"]["finalizers"], json!(["others/one"]));
    let object = operations.get("a").await.expect("held by the other finalizer");
    remove_finalizer(&operations, &object, "others/one").await.expect("removed");
    assert!(api.objects("/a").is_empty());
    // Gone is as good as removed.
    remove_finalizer(&operations, &object, "others/one").await.expect("gone");

    let object = create(&api, "b", "one").await;
    api.set_faults(|method, _| (method == "PATCH").then_some(Fault::Unavailable));
    assert!(add_finalizer(&operations, &object, "drystone.dev/test").await.is_err());
}
