//! What an operator does with a composite application.

use drystone_api::emco::{
    ControllerType, DeploymentIntentGroup, LifecycleAction as Action, LifecycleParameters, LifecyclePhase,
    object_name,
};
use drystone_appcontext::{
    AppContextError, ClusterName, ContextId, OpStatus, QueueStatus, QueuedEvent, State as Phase, SyncEvent,
    SyncState,
};
use drystone_engine::harness::Caches;
use kube::api::DeleteParams;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use super::{
    super::operations::ended,
    world::{CLOUD, GROUP, World},
};
use crate::library::Library;

async fn clusters_of(world: &World, app: &str) -> Vec<String> {
    let context = world.contexts.load(world.present().await).await.expect("there");
    context.apps[app].clusters.keys().map(ToString::to_string).collect()
}

/// A group that is approved and instantiated; a process must be there.
async fn deployed(world: &World) {
    world.approved().await;
    assert_eq!(world.done(GROUP, Action::Instantiate).await.0, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life() {
    let world = World::new().await;
    let _process = world.process(None);
    world.employ("hpa", ControllerType::Placement, 9).await;
    world.employ("first", ControllerType::Action, 3).await;
    world.employ("later", ControllerType::Action, 20).await;
    world.approved().await;

    assert_eq!(world.done(GROUP, Action::Instantiate).await, (202, String::new()));
    let expected = [
        "hpa: filter",
        "first: update first-intent from nothing",
        "later: update later-intent from nothing",
        "rsync: install",
        "first: event Instantiate",
        "hpa: event Instantiate",
        "later: event Instantiate",
    ];
    assert_eq!(sorted_tail(world.calls(), 4), expected);
    assert_eq!(world.states().await, ["Approved 0", "Instantiated 1"]);
    assert_eq!(clusters_of(&world, "a").await, ["p+c1"], "bad1 is left out, then the first by name");
    let first = world.present().await;
    let context = world.contexts.load(first).await.expect("there");
    assert_eq!(context.meta.release, "r1");
    assert_eq!(
        (context.apps["b"].dependencies[0].app.as_str(), context.apps["b"].dependencies[0].op_status),
        ("a", OpStatus::Ready)
    );
    let part = context.part("a", &ClusterName::new("p", "c1")).expect("there");
    let order: Vec<&str> = part.order.iter().map(drystone_appcontext::ResourceName::as_str).collect();
    assert_eq!(order, ["r1-a+Deployment", "first+ConfigMap", "later+ConfigMap"]);

    is_updated(&world, first).await;
    let second = world.present().await;
    is_rolled_back(&world, first).await;
    is_terminated(&world).await;
    is_deleted(&world, [first, second]).await;
}

async fn is_updated(world: &World, first: ContextId) {
    world.override_value("colour", "red").await;
    let name = world.ask(GROUP, Action::Update).await;
    let updated = world.through(&name).await;
    assert_eq!((updated.code, updated.revision), (Some(202), Some(2)));
    let second = world.present().await;
    assert_ne!(first, second);
    let context = world.contexts.load(second).await.expect("there");
    assert!(
        context.apps["a"]
            .clusters
            .values()
            .next()
            .expect("one")
            .resources
            .values()
            .any(|it| it.manifest.contains("red"))
    );
    assert_eq!(context.sync.status_context, Some(first));
    assert_eq!(world.group().await.status_context_id, first.to_string());
    assert!(world.calls().contains(&"first: update first-intent from another".to_owned()));
}

async fn is_rolled_back(world: &World, first: ContextId) {
    let parameters = LifecycleParameters { revision: Some(1), ..LifecycleParameters::default() };
    let name = world.ask_with(GROUP, Action::Rollback, parameters).await;
    assert_eq!(world.through(&name).await.revision, Some(3));
    assert_eq!(world.present().await, first);
    let calls = world.calls();
    assert!(
        calls[0] == "rsync: update" && !calls.iter().any(|call| call.contains("update first")),
        "{calls:?}"
    );
}

async fn is_terminated(world: &World) {
    assert_eq!(world.done(GROUP, Action::Terminate).await.0, 202);
    let calls = world.calls();
    let at = |call: &str| {
        calls.iter().position(|known| known == call).unwrap_or_else(|| panic!("{call}: {calls:?}"))
    };
    assert!(
        at("first: terminate") < at("rsync: uninstall")
            && at("rsync: uninstall") < at("later: event Terminate")
    );
    assert_eq!(
        world.states().await,
        [
            "Approved 0",
            "Instantiated 1",
            "Updated 1",
            "Instantiated 2",
            "Updated 2",
            "Instantiated 3",
            "Terminated 0"
        ]
    );
}

async fn is_deleted(world: &World, contexts: [ContextId; 2]) {
    let groups = world.documents::<DeploymentIntentGroup>();
    groups.delete(&object_name(GROUP), &DeleteParams::default()).await.expect("deleted");
    gone(world).await;
    for context in contexts {
        assert!(!world.contexts.exists(context).await.expect("answers"));
    }
}

/// Events go out side by side.
fn sorted_tail(mut calls: Vec<String>, from: usize) -> Vec<String> {
    let tail = from.min(calls.len());
    calls[tail..].sort();
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_refused_with_its_code_and_changes_nothing() {
    let world = World::new().await;
    let _process = world.process(None);
    assert_eq!(world.done(GROUP, Action::Instantiate).await.0, 409, "not approved");
    assert_eq!(world.done("projects/p1/nothing", Action::Approve).await.0, 400);
    assert_eq!(world.done(&format!("{GROUP}-other"), Action::Approve).await.0, 404);
    assert_eq!(world.done(GROUP, Action::Approve).await.0, 202);
    let refused = world.done(GROUP, Action::Instantiate).await;
    assert_eq!(refused, (409, "logical cloud lc is not instantiated".to_owned()));
    assert_eq!(world.done(super::world::CLOUD, Action::Instantiate).await.0, 202);

    world.intend("nobody").await;
    let refused = world.done(GROUP, Action::Instantiate).await;
    assert_eq!(refused.0, 404);
    assert!(refused.1.starts_with("Controller nobody not found"), "{refused:?}");
    world.known.lock().expect("not poisoned").insert("nobody".to_owned(), (ControllerType::Action, 1));

    world.override_value("broken", "yes").await;
    assert_eq!(
        world.done(GROUP, Action::Instantiate).await,
        (422, "chart of app a: it does not render".to_owned())
    );
    world.override_value("broken", "yes").await;

    world.depend("a", "b").await;
    let refused = world.done(GROUP, Action::Instantiate).await;
    assert_eq!(refused.0, 422);
    assert!(refused.1.contains("a -> b -> a"), "{refused:?}");
    assert_eq!(world.states().await, ["Approved 0"]);
    assert_eq!(world.contexts.list().await.expect("answers").len(), 1, "that of the logical cloud");
    assert_eq!(world.group().await.operation, None, "the group is free");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_refuses_leaves_no_context() {
    let world = World::new().await;
    let _process = world.process(None);
    world.employ("strict", ControllerType::Action, 1).await;
    world.approved().await;
    *world.refuses.lock().expect("not poisoned") = Some("strict".to_owned());
    let refused = world.done(GROUP, Action::Instantiate).await;
    assert_eq!(refused, (500, "controller strict, updating the context: not like that".to_owned()));
    assert_eq!(world.states().await, ["Approved 0"]);
    assert_eq!(world.contexts.list().await.expect("answers").len(), 1);
    assert_eq!(world.calls(), ["strict: update strict-intent from nothing"]);
    *world.refuses.lock().expect("not poisoned") = None;
    assert_eq!(world.done(GROUP, Action::Instantiate).await.0, 202, "and works when it does not");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_on_one_group_follow_each_other() {
    let world = World::new().await;
    let _process = world.process(None);
    world.approved().await;
    let first = world.ask(GROUP, Action::Instantiate).await;
    let second = world.ask(GROUP, Action::Instantiate).await;
    let mut codes = [world.through(&first).await.code, world.through(&second).await.code];
    codes.sort_unstable();
    assert_eq!(codes, [Some(202), Some(409)]);
    let phase = world.contexts.sync_state(world.present().await).await.expect("there").status;
    assert_eq!(phase, Some(Phase::Instantiated));
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_hear_of_an_end_though_another_one_is_gone() {
    let world = World::new().await;
    world.employ("first", ControllerType::Action, 1).await;
    world.employ("second", ControllerType::Action, 2).await;
    let _process = world.process(None);
    deployed(&world).await;
    world.calls();
    world.known.lock().expect("not poisoned").remove("first");
    let refused = world.done(GROUP, Action::Update).await;
    assert!(refused.0 == 404 && refused.1.contains("first"), "{refused:?}");
    assert_eq!(world.done(GROUP, Action::Terminate).await.0, 202);
    let calls = world.calls();
    assert!(calls.iter().any(|call| call == "second: terminate"), "{calls:?}");
    assert!(!calls.iter().any(|call| call.starts_with("first")), "{calls:?}");
}

/// The synchroniser has been asked for something that it has not done yet, or not any more.
async fn busy(world: &World, context: ContextId, event: SyncEvent, status: QueueStatus) {
    let order = |sync: &mut SyncState| {
        sync.queue = vec![QueuedEvent { event, other: None, status }];
        Ok::<(), AppContextError>(())
    };
    world.contexts.edit_sync(context, order).await.expect("written");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_change_at_a_time_and_a_stop_at_any() {
    let world = World::new().await;
    let _process = world.process(None);
    deployed(&world).await;
    assert_eq!(world.done(GROUP, Action::Update).await.0, 202);
    let present = world.present().await;
    // It is accepted, and its synchroniser has not even begun: the context says that it is instantiated.
    busy(&world, present, SyncEvent::Instantiate, QueueStatus::Pending).await;
    let back = || LifecycleParameters { revision: Some(1), ..LifecycleParameters::default() };
    let refused = world.done(GROUP, Action::Update).await;
    assert!(refused.0 == 409 && refused.1.contains("still being instantiated or updated"), "{refused:?}");
    let name = world.ask_with(GROUP, Action::Rollback, back()).await;
    assert_eq!(world.through(&name).await.code, Some(409));
    assert_eq!(world.done(GROUP, Action::Stop).await, (202, String::new()));
    let stopped = async || world.contexts.sync_state(present).await.expect("there").stop;
    assert_eq!(stopped().await, Some(true));
    // What was stopped ends in a moment.
    let name = world.ask_with(GROUP, Action::Rollback, back()).await;
    assert_eq!(world.through(&name).await.code, Some(409));
    busy(&world, present, SyncEvent::Instantiate, QueueStatus::Error).await;
    world.calls();
    let name = world.ask_with(GROUP, Action::Rollback, back()).await;
    assert_eq!(world.through(&name).await.code, Some(202));
    assert!(world.calls().contains(&"rsync: update".to_owned()));
    assert_eq!(stopped().await, Some(false), "it was for what went on then");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_is_removed_all_the_same() {
    let world = World::new().await;
    let _process = world.process(None);
    deployed(&world).await;
    let present = world.present().await;
    busy(&world, present, SyncEvent::Instantiate, QueueStatus::Pending).await;
    assert_eq!(world.done(GROUP, Action::Stop).await.0, 202);
    assert_eq!(world.done(GROUP, Action::Terminate).await.0, 202);
    assert!(world.calls().contains(&"rsync: uninstall".to_owned()));
    assert_eq!(world.contexts.sync_state(present).await.expect("there").stop, Some(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts_stay_for_as_long_as_there_is_something_to_do_with_them() {
    let world = World::new().await;
    let _process = world.process(None);
    deployed(&world).await;
    let first = world.present().await;
    assert_eq!(world.done(GROUP, Action::Update).await.0, 202);
    assert_eq!(world.done(GROUP, Action::Terminate).await.0, 202);
    // It has not given way on a cluster that is away.
    busy(&world, first, SyncEvent::UpdateDelete, QueueStatus::Pending).await;
    let groups = world.documents::<DeploymentIntentGroup>();
    groups.delete(&object_name(GROUP), &DeleteParams::default()).await.expect("deleted");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(groups.get_opt(&object_name(GROUP)).await.expect("answers").is_some());
    assert!(world.contexts.exists(first).await.expect("answers"));
    busy(&world, first, SyncEvent::UpdateDelete, QueueStatus::Done).await;
    gone(&world).await;
    assert!(!world.contexts.exists(first).await.expect("answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_deletes_what_was_stopped_has_its_removal_go_on() {
    let world = World::new().await;
    let _process = world.process(None);
    deployed(&world).await;
    assert_eq!(world.done(GROUP, Action::Terminate).await.0, 202);
    let stopped = |sync: &mut SyncState| {
        (sync.status, sync.stop) = (Some(Phase::TerminateFailed), Some(true));
        Ok::<(), AppContextError>(())
    };
    let present = world.present().await;
    world.contexts.edit_sync(present, stopped).await.expect("written");
    world.calls();
    let groups = world.documents::<DeploymentIntentGroup>();
    groups.delete(&object_name(GROUP), &DeleteParams::default()).await.expect("deleted");
    gone(&world).await;
    assert_eq!(world.calls(), ["rsync: uninstall"]);
    assert!(!world.contexts.exists(present).await.expect("answers"));
}

/// Waits until the group is gone.
async fn gone(world: &World) {
    let groups = world.documents::<DeploymentIntentGroup>();
    for _ in 0..6_000 {
        if groups.get_opt(&object_name(GROUP)).await.expect("answers").is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the group stays");
}

async fn current(library: &crate::library::Library, world: &World) {
    let client = world.api.client();
    Box::pin(library.caught_up(&client)).await.expect("current");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_may_not_be_deleted_and_says_what_comes_first() {
    use drystone_engine::harness::Caches;
    use tokio_util::sync::CancellationToken;

    let world = World::new().await;
    let _process = world.process(None);
    world.approved().await;
    let stop = CancellationToken::new();
    let _stopping = stop.clone().drop_guard();
    let library = crate::library::Library::of(&Caches::new(world.api.client(), stop));
    assert!(library.ready().await);
    let statuses = crate::status::Statuses::new(library.clone(), world.contexts.clone());
    current(&library, &world).await;
    statuses.settled(GROUP).await.expect("nothing is deployed yet");
    assert_eq!(world.done(GROUP, Action::Instantiate).await.0, 202);
    current(&library, &world).await;
    // Whoever deletes need not wait: by itself it will not change.
    for path in [GROUP, CLOUD] {
        let refused = statuses.settled(path).await.expect_err("it is deployed");
        assert_eq!(refused.code, 409);
        assert!(refused.message.contains("terminate it first"), "{refused:?}");
    }
    assert_eq!(world.done(GROUP, Action::Terminate).await.0, 202);
    current(&library, &world).await;
    statuses.settled(GROUP).await.expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_is_told_of_for_as_long_as_it_matters() {
    let world = World::new().await;
    let process = world.process(None);
    deployed(&world).await;
    drop(process);
    let shutdown = CancellationToken::new();
    let library = Library::of(&Caches::new(world.api.client(), shutdown.clone()));
    assert!(library.ready().await);
    let done = library
        .operations
        .list_where(|operation| operation.spec.path == GROUP && operation.spec.action == Action::Instantiate);
    let mut done = done[0].as_ref().clone();
    let told = ended(&done, &library).expect("it has ended");
    assert_eq!((told.subject.as_str(), told.subject_is_gone), (GROUP, false));
    assert_eq!(told.at, done.status.as_ref().and_then(|status| status.end_time.clone()).expect("has one").0);
    done.spec.path = format!("{GROUP}-of-yesterday");
    assert!(ended(&done, &library).expect("it has ended").subject_is_gone);
    done.status.get_or_insert_default().phase = LifecyclePhase::Running;
    assert_eq!(ended(&done, &library), None);
    shutdown.cancel();
}
