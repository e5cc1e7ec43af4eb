//! Changes that do not come to their end, and what is asked after them: whatever the order, of all contexts that have replaced each other one
//! is at the clusters, and then none.

use std::time::Duration;

use drystone_appcontext::{
    AppContext, AppContextError, QueueStatus, QueuedEvent, State, SyncEvent, SyncState,
    contract::Synchroniser as _,
};
use drystone_simulated_clusters::Fault;

use crate::world::{World, config, context, deployment, hook, job, part};

const A: &str = "v1/configmaps/apps/a";
const B: &str = "v1/configmaps/apps/b";
const C: &str = "v1/configmaps/apps/c";
const X: &str = "v1/configmaps/apps/x";
const WEB: &str = "apps/v1/deployments/apps/web";

/// Tells its status in the first.
fn successor(mut context: AppContext, of: &AppContext) -> AppContext {
    context.sync.status_context = Some(of.id);
    context
}

/// On both clusters: `a`, `b`, `x`, and a first `web`.
pub(crate) fn first() -> AppContext {
    let old = part(&[config("a"), config("b"), config("x"), deployment("web", 1)]);
    context(1, &[("web", &[0, 1], old)])
}

/// On both clusters: `a`, `c`, and another `web`.
pub(crate) fn second() -> AppContext {
    let new = part(&[config("a"), config("c"), deployment("web", 2)]);
    successor(context(2, &[("web", &[0, 1], new)]), &first())
}

/// On both clusters: `x`, and a third `web`; another application on the first one.
pub(crate) fn third() -> AppContext {
    let web = part(&[config("x"), deployment("web", 3)]);
    let other = part(&[config("other")]);
    successor(context(3, &[("other", &[0], other), ("web", &[0, 1], web)]), &first())
}

async fn stop(world: &World, context: &AppContext) {
    let stop = |sync: &mut SyncState| {
        sync.stop = Some(true);
        Ok::<(), AppContextError>(())
    };
    world.contexts.edit_sync(context.id, stop).await.unwrap();
}

/// Three contexts, the first of them installed.
async fn installed() -> World {
    let world = World::of(2).await;
    for context in [first(), second(), third()] {
        world.contexts.create(&context).await.unwrap();
    }
    world.sync.install(first().id).await.unwrap();
    world.until(first().id, State::Instantiated).await;
    world.idle().await;
    world
}

/// The second one is to replace the first one, and has done so on the first cluster; the other one does not answer.
async fn half_way(fault: Fault) -> World {
    let world = installed().await;
    world.cluster(1).set_fault(fault);
    world.sync.update(first().id, second().id).await.unwrap();
    world.eventually("one is changed", || world.cluster(0).objects() == [WEB, A, C]).await;
    assert_eq!(world.state(second().id).await, State::Instantiating);
    world
}

/// The same, stopped, and the cluster is back. Of both contexts there is something.
pub(crate) async fn stopped_half_way() -> World {
    let world = half_way(Fault::Away).await;
    stop(&world, &second()).await;
    world.until(second().id, State::InstantiateFailed).await;
    assert_eq!(world.state(first().id).await, State::Instantiated, "it was not told to give way");
    world.cluster(1).set_fault(Fault::None);
    assert_eq!(world.cluster(1).objects(), [WEB, A, B, X]);
    world
}

fn replicas(world: &World, cluster: usize) -> u64 {
    let web = world.cluster(cluster).get("apps/v1/deployments", "apps", "web").unwrap();
    web["spec"]["replicas"].as_u64().unwrap()
}

fn assert_empty(world: &World) {
    for cluster in world.simulation.clusters() {
        assert_eq!(cluster.objects(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_removal_in_the_middle_of_an_update_takes_both_away() {
    for fault in [Fault::Away, Fault::Silent, Fault::Unavailable] {
        let world = half_way(fault.clone()).await;
        world.sync.uninstall(second().id).await.unwrap();
        world.eventually("it goes where it can", || world.cluster(0).count() == 0).await;
        world.reaches(second().id, State::Terminating).await;
        world.cluster(1).set_fault(Fault::None);
        world.until(second().id, State::Terminated).await;
        assert_empty(&world);
        world.until(first().id, State::Updated).await;
    }
}

#[tokio::test]
async fn what_is_left_of_the_old_one_is_waited_for() {
    let world = installed().await;
    // What only the old one has is on a cluster of its own, which is away.
    let elsewhere = successor(context(4, &[("web", &[0], part(&[config("a")]))]), &first());
    world.contexts.create(&elsewhere).await.unwrap();
    world.cluster(1).set_fault(Fault::Away);
    world.sync.update(first().id, elsewhere.id).await.unwrap();
    world.eventually("one is changed", || world.cluster(0).objects() == [A]).await;
    world.sync.uninstall(elsewhere.id).await.unwrap();
    world.eventually("it goes where it can", || world.cluster(0).count() == 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.state(elsewhere.id).await, State::Terminating, "the old one is there");
    // Stopped, all of it is; asked again, all of it goes on.
    stop(&world, &elsewhere).await;
    world.until(elsewhere.id, State::TerminateFailed).await;
    world.until(first().id, State::UpdateFailed).await;
    world.idle().await;
    world.sync.uninstall(elsewhere.id).await.unwrap();
    world.reaches(elsewhere.id, State::Terminating).await;
    world.cluster(1).set_fault(Fault::None);
    world.until(elsewhere.id, State::Terminated).await;
    assert_empty(&world);
}

#[tokio::test]
async fn a_removal_tells_what_of_the_old_one_could_not_go() {
    let world = stopped_half_way().await;
    let lost = successor(context(5, &[("web", &[7], part(&[config("lost")]))]), &first());
    world.contexts.create(&lost).await.unwrap();
    // It names a cluster that is not there, and counts as installed.
    let installed = |sync: &mut SyncState| {
        sync.current = Some(State::Instantiated);
        Ok::<(), AppContextError>(())
    };
    world.contexts.edit_sync(lost.id, installed).await.unwrap();
    world.sync.update(lost.id, second().id).await.unwrap();
    world.until(lost.id, State::UpdateFailed).await;
    world.sync.uninstall(second().id).await.unwrap();
    world.until(second().id, State::TerminateFailed).await;
    let problems = world.sync.problems(second().id);
    assert!(problems.iter().any(|problem| problem.contains("lost+ConfigMap")), "{problems:?}");
    assert_empty(&world);
}

#[tokio::test]
async fn a_removal_that_overtakes_an_update_takes_the_old_one_away() {
    let mut world = installed().await;
    world.sync.stop();
    let queue = |sync: &mut SyncState| {
        let order = |event, other| QueuedEvent { event, other, status: QueueStatus::Pending };
        sync.queue = vec![order(SyncEvent::Update, Some(first().id)), order(SyncEvent::Terminate, None)];
        Ok::<(), AppContextError>(())
    };
    world.contexts.edit_sync(second().id, queue).await.unwrap();
    world.contexts.activate(second().id).await.unwrap();
    world.restart().await;
    world.until(second().id, State::Terminated).await;
    assert_empty(&world);
    assert_eq!(orders(&world, &second()).await, [QueueStatus::Skip, QueueStatus::Done]);
}

/// Each was to replace the other at some time, and both are to be removed at the same time: neither waits for the other.
#[tokio::test]
async fn two_that_were_to_replace_each_other_are_both_removed() {
    let mut world = installed().await;
    world.sync.stop();
    for (context, other) in [(first(), second()), (second(), first())] {
        let queue = |sync: &mut SyncState| {
            let order = |event, other, status| QueuedEvent { event, other, status };
            sync.queue = vec![
                order(SyncEvent::Update, Some(other.id), QueueStatus::Error),
                order(SyncEvent::Terminate, None, QueueStatus::Pending),
            ];
            (sync.current, sync.status) = (Some(State::InstantiateFailed), Some(State::InstantiateFailed));
            Ok::<(), AppContextError>(())
        };
        world.contexts.edit_sync(context.id, queue).await.unwrap();
        world.contexts.activate(context.id).await.unwrap();
    }
    world.restart().await;
    world.until(first().id, State::Terminated).await;
    world.until(second().id, State::Terminated).await;
    assert_empty(&world);
    world.idle().await;
}

#[tokio::test]
async fn one_rolls_back_from_an_update_that_was_stopped() {
    let world = stopped_half_way().await;
    world.sync.update(second().id, first().id).await.unwrap();
    world.until(first().id, State::Instantiated).await;
    world.until(second().id, State::Updated).await;
    for index in [0, 1] {
        assert_eq!(world.cluster(index).objects(), [WEB, A, B, X]);
        assert_eq!(replicas(&world, index), 1);
    }
    // And there is nothing that it stands in for.
    world.sync.uninstall(first().id).await.unwrap();
    world.until(first().id, State::Terminated).await;
    assert_empty(&world);
    assert_eq!(world.state(second().id).await, State::Updated);
}

#[tokio::test]
async fn a_third_one_takes_the_place_of_all_before_it() {
    let world = stopped_half_way().await;
    world.sync.update(second().id, third().id).await.unwrap();
    world.until(third().id, State::Instantiated).await;
    for before in [first().id, second().id] {
        world.until(before, State::Updated).await;
    }
    assert_eq!(world.cluster(0).objects(), [WEB, "v1/configmaps/apps/other", X]);
    assert_eq!(world.cluster(1).objects(), [WEB, X]);
    assert_eq!((replicas(&world, 0), replicas(&world, 1)), (3, 3));
    // Back to the first, over the one that was never finished.
    world.sync.update(third().id, first().id).await.unwrap();
    world.until(first().id, State::Instantiated).await;
    world.until(third().id, State::Updated).await;
    for index in [0, 1] {
        assert_eq!(world.cluster(index).objects(), [WEB, A, B, X]);
        assert_eq!(replicas(&world, index), 1);
    }
}

#[tokio::test]
async fn stopped_again_and_again_all_of_it_goes() {
    let world = stopped_half_way().await;
    world.cluster(0).set_fault(Fault::Away);
    world.sync.update(second().id, third().id).await.unwrap();
    world.eventually("the other one is changed", || world.cluster(1).objects().contains(&X.to_owned())).await;
    world.reaches(third().id, State::Instantiating).await;
    stop(&world, &third()).await;
    world.until(third().id, State::InstantiateFailed).await;
    world.sync.update(third().id, second().id).await.unwrap();
    world.reaches(second().id, State::Instantiating).await;
    world.sync.uninstall(second().id).await.unwrap();
    world.cluster(0).set_fault(Fault::None);
    world.until(second().id, State::Terminated).await;
    assert_empty(&world);
    for other in [first().id, third().id] {
        assert_eq!(world.state(other).await, State::Updated);
    }
}

/// An update that was stopped, of which the old one was told to give way all the same, and cannot: the other cluster is away.
async fn giving_way() -> World {
    let mut world = stopped_half_way().await;
    world.sync.stop();
    let give_way = |sync: &mut SyncState| {
        let (event, other) = (SyncEvent::UpdateDelete, Some(second().id));
        sync.queue.push(QueuedEvent { event, other, status: QueueStatus::Pending });
        Ok::<(), AppContextError>(())
    };
    world.contexts.edit_sync(first().id, give_way).await.unwrap();
    world.contexts.activate(first().id).await.unwrap();
    world.cluster(1).set_fault(Fault::Away);
    world.restart().await;
    world.reaches(first().id, State::Updating).await;
    world
}

async fn orders(world: &World, context: &AppContext) -> Vec<QueueStatus> {
    let sync = world.contexts.sync_state(context.id).await.unwrap();
    sync.queue.iter().map(|order| order.status).collect()
}

#[tokio::test]
async fn an_update_ends_what_is_done_to_those_before_it() {
    let world = giving_way().await;
    // `x`, which was to go, is in the third one again.
    world.sync.update(second().id, third().id).await.unwrap();
    world.reaches(third().id, State::Instantiating).await;
    world.until(first().id, State::UpdateFailed).await;
    world.cluster(1).set_fault(Fault::None);
    world.until(third().id, State::Instantiated).await;
    world.until(first().id, State::Updated).await;
    assert_eq!(world.cluster(0).objects(), [WEB, "v1/configmaps/apps/other", X]);
    assert_eq!(world.cluster(1).objects(), [WEB, X]);
    assert_eq!(orders(&world, &first()).await, [QueueStatus::Done, QueueStatus::Error, QueueStatus::Done]);
}

#[tokio::test]
async fn an_update_ends_an_installation_that_it_replaces() {
    let world = World::of(2).await;
    for context in [first(), second()] {
        world.contexts.create(&context).await.unwrap();
    }
    world.cluster(1).set_fault(Fault::Away);
    world.sync.install(first().id).await.unwrap();
    world.eventually("one is served", || world.cluster(0).count() == 4).await;
    world.sync.update(first().id, second().id).await.unwrap();
    world.until(first().id, State::InstantiateFailed).await;
    world.cluster(1).set_fault(Fault::None);
    world.until(second().id, State::Instantiated).await;
    world.until(first().id, State::Updated).await;
    for index in [0, 1] {
        assert_eq!(world.cluster(index).objects(), [WEB, A, C]);
        assert_eq!(replicas(&world, index), 2);
    }
}

#[tokio::test]
async fn one_takes_its_place_back_while_it_gives_way() {
    let world = giving_way().await;
    world.sync.update(second().id, first().id).await.unwrap();
    // It does not wait for the cluster that is away.
    world.reaches(first().id, State::Instantiating).await;
    world.eventually("it is back", || world.cluster(0).objects() == [WEB, A, B, X]).await;
    world.cluster(1).set_fault(Fault::None);
    world.until(first().id, State::Instantiated).await;
    world.until(second().id, State::Updated).await;
    for index in [0, 1] {
        assert_eq!(world.cluster(index).objects(), [WEB, A, B, X]);
        assert_eq!(replicas(&world, index), 1);
    }
    assert_eq!(orders(&world, &first()).await, [QueueStatus::Done, QueueStatus::Error, QueueStatus::Done]);
}

#[tokio::test]
async fn what_was_sent_before_a_removal_does_not_land_after_it() {
    let world = World::of(1).await;
    let only = |id, name: &str| context(id, &[("web", &[0], part(&[config(name)]))]);
    let (old, new) = (only(1, "a"), only(2, "b"));
    let new = successor(new, &old);
    for context in [&old, &new] {
        world.contexts.create(context).await.unwrap();
    }
    world.sync.install(old.id).await.unwrap();
    world.until(old.id, State::Instantiated).await;
    let delay = Duration::from_millis(300);
    world.cluster(0).set_fault(Fault::Late(delay));
    world.sync.update(old.id, new.id).await.unwrap();
    world.eventually("it is under way", || world.cluster(0).counts().late == 1).await;
    world.sync.uninstall(new.id).await.unwrap();
    world.until(new.id, State::Terminated).await;
    world.eventually("it has landed", || world.cluster(0).counts().late == 0).await;
    assert_empty(&world);
    assert_eq!(world.cluster(0).written()[B], 1, "it did land");
}

#[tokio::test]
async fn what_hooks_of_the_old_one_have_left_goes_with_it() {
    let world = World::of(1).await;
    let mut web = part(&[config("a")]);
    hook(&mut web, |hooks| &mut hooks.pre_install, job("before"));
    let old = context(1, &[("web", &[0], web)]);
    let new = successor(context(2, &[("web", &[0], part(&[config("a")]))]), &old);
    for context in [&old, &new] {
        world.contexts.create(context).await.unwrap();
    }
    world.sync.install(old.id).await.unwrap();
    world.until(old.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).count(), 2);
    world.sync.update(old.id, new.id).await.unwrap();
    world.until(new.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).objects(), [A]);
}

#[tokio::test]
async fn what_moves_to_another_namespace_leaves_nothing_in_the_first() {
    let world = World::of(1).await;
    let place = |namespace: &str| {
        let (name, text) = config("a");
        (name, text.replace("name: a\n", &format!("name: a\n  namespace: {namespace}\n")))
    };
    let old = context(1, &[("web", &[0], part(&[place("one")]))]);
    let new = successor(context(2, &[("web", &[0], part(&[place("two")]))]), &old);
    for context in [&old, &new] {
        world.contexts.create(context).await.unwrap();
    }
    world.sync.install(old.id).await.unwrap();
    world.until(old.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).objects(), ["v1/configmaps/one/a"]);
    world.sync.update(old.id, new.id).await.unwrap();
    world.until(new.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).objects(), ["v1/configmaps/two/a"]);
}

#[tokio::test]
async fn an_update_that_is_given_again_is_not_done_again() {
    let world = installed().await;
    for _ in 0..3 {
        world.sync.update(first().id, second().id).await.unwrap();
        world.until(second().id, State::Instantiated).await;
        world.until(first().id, State::Updated).await;
        world.idle().await;
        assert_eq!(world.cluster(0).written()[C], 1);
        assert_eq!(world.cluster(0).written()[WEB], 2);
    }
    assert_eq!(orders(&world, &first()).await, [QueueStatus::Done; 2]);
}
