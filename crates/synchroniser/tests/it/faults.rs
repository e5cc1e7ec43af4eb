//! Clusters that are away, do not know us, refuse, stumble or are slow; and orders that overtake others.

use drystone_appcontext::{Connectivity, ResourceStatus, State, contract::Synchroniser as _};
use drystone_simulated_clusters::Fault;

use crate::world::{World, config, context, deployment, hook, job, name, part};

/// What keeps a cluster from answering.
const AWAY: [Fault; 3] = [Fault::Away, Fault::Unavailable, Fault::Unauthorized];

#[tokio::test]
async fn a_cluster_that_is_away_is_waited_for_and_harms_nobody() {
    for fault in AWAY {
        let world = World::of(3).await;
        world.cluster(1).set_fault(fault.clone());
        let context = context(1, &[("web", &[0, 1, 2], part(&[config("a"), deployment("web", 1)]))]);
        world.contexts.create(&context).await.unwrap();
        world.sync.install(context.id).await.unwrap();
        world
            .eventually("the others are served", || {
                world.cluster(0).count() == 2 && world.cluster(2).count() == 2
            })
            .await;
        let view = || world.sync.view(context.id).unwrap().parts.remove(1);
        world
            .eventually(&format!("it is known to be away: {fault:?} {:?}", view()), || {
                view().connectivity == Connectivity::Retrying
            })
            .await;
        let waits = |view: drystone_synchroniser::PartView| {
            view.resources.iter().any(|r| r.status == ResourceStatus::Retrying)
        };
        world.eventually("its objects wait", || waits(view())).await;
        assert!(!view().away.is_empty());
        assert_eq!(world.state(context.id).await, State::Instantiating);
        world.cluster(1).set_fault(Fault::None);
        world.until(context.id, State::Instantiated).await;
        assert_eq!(world.cluster(1).count(), 2);
        assert_eq!(world.part(context.id, "web", 1).await.connectivity, Some(Connectivity::Available));
        if fault == Fault::Unauthorized {
            assert!(world.ways.asked("p+c1") > 1, "credentials were asked for anew");
        }
    }
}

#[tokio::test]
async fn a_cluster_may_go_away_while_hooks_run_and_while_things_go() {
    for fault in AWAY {
        let world = World::of(1).await;
        world.cluster(0).set_ready(false);
        let mut web = part(&[config("a"), deployment("web", 1)]);
        hook(&mut web, |hooks| &mut hooks.pre_install, job("before"));
        let context = context(1, &[("web", &[0], web)]);
        world.contexts.create(&context).await.unwrap();
        world.sync.install(context.id).await.unwrap();
        world.eventually("the hook runs", || world.cluster(0).count() == 1).await;
        world.cluster(0).set_fault(fault.clone());
        world.cluster(0).set_ready(true);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert_eq!(world.state(context.id).await, State::Instantiating);
        world.cluster(0).set_fault(Fault::None);
        world.until(context.id, State::Instantiated).await;
        assert_eq!(world.cluster(0).written()["batch/v1/jobs/apps/before"], 1);
        world.cluster(0).set_fault(fault);
        world.sync.uninstall(context.id).await.unwrap();
        world.reaches(context.id, State::Terminating).await;
        assert_eq!(world.cluster(0).count(), 3);
        world.cluster(0).set_fault(Fault::None);
        world.until(context.id, State::Terminated).await;
        assert_eq!(world.cluster(0).count(), 0);
    }
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_rest_is_done() {
    let world = World::of(2).await;
    let message = "exceeded quota: small, requested: pods=1, used: pods=1, limited: pods=1";
    world.cluster(0).set_fault(Fault::Refuses("configmaps".into(), message.into()));
    let web = part(&[config("a"), config("b"), crate::world::manifest("v1", "Secret", "s", "")]);
    let context = context(1, &[("web", &[0, 1], web)]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::InstantiateFailed).await;
    assert_eq!(world.cluster(0).objects(), ["v1/secrets/apps/s"], "what is beside it is done");
    assert_eq!(world.cluster(1).count(), 3, "and other clusters are");
    let problems = world.sync.problems(context.id);
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("web on p+c0, ") && problems[0].ends_with(message), "{problems:?}");
    let part = world.part(context.id, "web", 0).await;
    assert_eq!(part.resources[&config("a").0].status, Some(ResourceStatus::Failed));
    // Asked again when there is room, only what is missing is applied.
    world.cluster(0).set_fault(Fault::None);
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).count(), 3);
    assert_eq!(world.cluster(1).written()["v1/secrets/apps/s"], 1);
    assert!(world.sync.problems(context.id).is_empty());
}

#[tokio::test]
async fn what_may_pass_is_tried_again() {
    let world = World::of(1).await;
    world.cluster(0).set_fault(Fault::Stumbles(3));
    let context = context(1, &[("web", &[0], part(&[config("a"), config("b")]))]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).count(), 2);
}

#[tokio::test]
async fn a_removal_ends_an_installation_and_a_stop_ends_both() {
    let world = World::of(2).await;
    world.cluster(1).set_fault(Fault::Silent);
    let context = context(1, &[("web", &[0, 1], part(&[config("a")]))]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.eventually("one is served", || world.cluster(0).count() == 1).await;
    world.sync.uninstall(context.id).await.unwrap();
    world.eventually("it goes", || world.cluster(0).count() == 0).await;
    world.reaches(context.id, State::Terminating).await;
    let stop = |sync: &mut drystone_appcontext::SyncState| {
        sync.stop = Some(true);
        Ok::<(), drystone_appcontext::AppContextError>(())
    };
    world.contexts.edit_sync(context.id, stop).await.unwrap();
    world.until(context.id, State::TerminateFailed).await;
    world.cluster(1).set_fault(Fault::None);
    world.sync.uninstall(context.id).await.unwrap();
    // What is asked after a stop is done.
    world.until(context.id, State::Terminated).await;
    assert_eq!(world.cluster(1).count(), 0);
    // Once more changes nothing.
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
}

#[tokio::test]
async fn objects_of_others_are_left_alone_and_strange_clusters_are_told() {
    let world = World::of(1).await;
    let first = context(1, &[("web", &[0], part(&[config("a")]))]);
    let second = context(2, &[("web", &[0], part(&[config("a")]))]);
    for context in [&first, &second] {
        world.contexts.create(context).await.unwrap();
        world.sync.install(context.id).await.unwrap();
        world.until(context.id, State::Instantiated).await;
    }
    world.sync.uninstall(first.id).await.unwrap();
    world.until(first.id, State::Terminated).await;
    assert_eq!(world.cluster(0).count(), 1, "it belongs to the second context now");
    let lost = context(3, &[("web", &[5], part(&[config("a")]))]);
    world.contexts.create(&lost).await.unwrap();
    world.sync.install(lost.id).await.unwrap();
    world.until(lost.id, State::InstantiateFailed).await;
    assert_eq!(
        world.sync.problems(lost.id),
        [format!("web on {}, a+ConfigMap: there is no cluster p+c5", name(5))]
    );
}

#[tokio::test]
async fn a_removal_is_not_ended_by_the_same_order() {
    let world = World::of(1).await;
    let context = context(1, &[("web", &[0], part(&[config("a")]))]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    world.cluster(0).set_fault(Fault::Silent);
    world.sync.uninstall(context.id).await.unwrap();
    world.reaches(context.id, State::Terminating).await;
    world.sync.uninstall(context.id).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    assert_eq!(world.state(context.id).await, State::Terminating);
    world.cluster(0).set_fault(Fault::None);
    world.until(context.id, State::Terminated).await;
    assert_eq!(world.cluster(0).count(), 0);
}

#[tokio::test]
async fn a_hook_is_waited_for_while_there_is_no_way_to_see_it() {
    let world = World::of(1).await;
    world.ways.close(true);
    let mut web = part(&[config("a")]);
    hook(&mut web, |hooks| &mut hooks.pre_install, job("before"));
    let context = context(1, &[("web", &[0], web)]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    // Who writes has asked, and who watches.
    world.eventually("a way is asked for", || world.ways.asked("p+c0") > 5).await;
    world.ways.close(false);
    world.until(context.id, State::Instantiated).await;
    assert_eq!(world.cluster(0).count(), 2);
}

/// A kind that the context does not define itself.
fn widget() -> (drystone_appcontext::ResourceName, String) {
    crate::world::manifest("example.com/v1", "Widget", "w", "{size: 1}")
}

#[tokio::test]
async fn what_nobody_can_find_is_not_gone() {
    let definition = crate::world::manifest(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "widgets.example.com",
        "{group: example.com, scope: Namespaced, names: {kind: Widget, plural: widgets}, versions: [{name: v1}]}",
    );
    for status in [500, 403, 200] {
        let mut world = World::of(1).await;
        let kinds = context(1, &[("kinds", &[0], part(std::slice::from_ref(&definition)))]);
        let web = context(2, &[("web", &[0], part(&[widget()]))]);
        for context in [&kinds, &web] {
            world.contexts.create(context).await.unwrap();
            world.sync.install(context.id).await.unwrap();
            world.until(context.id, State::Instantiated).await;
        }
        world.idle().await;
        assert_eq!(world.cluster(0).count(), 2);
        // Somebody who does not know the kind yet, and cannot learn it.
        world.forget();
        world.cluster(0).set_fault(Fault::Discovery(status));
        world.sync.uninstall(web.id).await.unwrap();
        world.until(web.id, State::TerminateFailed).await;
        assert_eq!(world.cluster(0).count(), 2, "{status}");
        let part = world.part(web.id, "web", 0).await;
        assert_eq!(part.resources[&widget().0].status, Some(ResourceStatus::Failed), "{status}");
        world.cluster(0).set_fault(Fault::None);
        world.sync.uninstall(web.id).await.unwrap();
        world.until(web.id, State::Terminated).await;
        assert_eq!(world.cluster(0).count(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_way_that_has_changed_is_asked_for_when_it_is_needed() {
    let world = World::of(1).await;
    let context = context(1, &[("web", &[0], part(&[config("a")]))]);
    world.contexts.create(&context).await.unwrap();
    world.sync.install(context.id).await.unwrap();
    world.until(context.id, State::Instantiated).await;
    let asked = world.ways.asked("p+c0");
    world.sync.reconnect(&name(0)).await;
    assert_eq!(world.ways.asked("p+c0"), asked, "what nobody needs yet is not made");
    world.sync.uninstall(context.id).await.unwrap();
    world.until(context.id, State::Terminated).await;
    assert_eq!(world.ways.asked("p+c0"), asked + 1);
}
