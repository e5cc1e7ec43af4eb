//! Killed at any write, to the API or to the contexts, and started again, an operation comes to the same end.

use std::time::Duration;

use drystone_api::emco::{ControllerType, LifecycleAction as Action};
use tokio::time::sleep;

use super::{
    mortal::Fate,
    world::{GROUP, World},
};

/// Runs a process until it is killed; `false` if the operation was through before.
async fn killed(world: &World, writes: u32, written: bool, name: &str) -> bool {
    let fate = Fate::after(writes, written);
    let process = world.process(Some(fate.clone()));
    let through = async {
        while !world.operation(name).await.phase.is_final() {
            sleep(Duration::from_millis(5)).await;
        }
        // What is written after that, if anything is.
        sleep(Duration::from_millis(100)).await;
    };
    let killed = tokio::select! {
        () = fate.dying.notified() => true,
        () = through => false,
    };
    // That which was to be written is.
    sleep(Duration::from_millis(10)).await;
    // Nothing of it is at work any more when the API answers again.
    process.abort();
    let _ = process.await;
    sleep(Duration::from_millis(10)).await;
    world.api.set_faults(|_, _| None);
    killed
}

/// Kills the process at each write of an operation in turn. How often it was killed.
async fn killed_everywhere(before: &[Action], action: Action, states: &[&str]) -> u32 {
    let mut kills = 0;
    for written in [true, false] {
        for writes in 0.. {
            let world = World::new().await;
            world.employ("hpa", ControllerType::Placement, 1).await;
            world.employ("adder", ControllerType::Action, 2).await;
            {
                let _first = world.process(None);
                world.approved().await;
                for action in before {
                    assert_eq!(world.done(GROUP, *action).await.0, 202);
                }
                sleep(Duration::from_millis(20)).await;
            }
            let name = world.ask(GROUP, action).await;
            if !killed(&world, writes, written, &name).await {
                assert!(writes > 5, "only {writes} writes: the kills did not come");
                break;
            }
            kills += 1;
            let _second = world.process(None);
            let status = world.through(&name).await;
            let told = format!("{action:?} after {writes} writes, written: {written}");
            assert_eq!((status.code, status.message.as_str()), (Some(202), ""), "{told}");
            assert_eq!(world.states().await, states, "{told}");
            assert_eq!(world.group().await.operation, None, "{told}");
            // That of the logical cloud, and one for each revision.
            let revisions = states.iter().filter(|state| state.starts_with("Instantiated")).count();
            assert_eq!(world.contexts.list().await.expect("answers").len(), 1 + revisions, "{told}");
            assert!(world.contexts.unfinished().await.expect("answers").is_empty(), "{told}");
            let context = world.contexts.load(world.present().await).await.expect("there");
            for app in context.apps.values() {
                let names: Vec<String> = app.clusters.keys().map(ToString::to_string).collect();
                assert_eq!(names, ["p+c1"], "{told}");
                assert_eq!(app.clusters.values().next().expect("one").resources.len(), 2, "{told}");
            }
        }
    }
    kills
}

#[tokio::test(flavor = "multi_thread")]
async fn instantiating_survives_a_kill_at_every_write() {
    let kills = killed_everywhere(&[], Action::Instantiate, &["Approved 0", "Instantiated 1"]).await;
    assert!(kills >= 30, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn updating_survives_a_kill_at_every_write() {
    let states = ["Approved 0", "Instantiated 1", "Updated 1", "Instantiated 2"];
    let kills = killed_everywhere(&[Action::Instantiate], Action::Update, &states).await;
    assert!(kills >= 30, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn terminating_survives_a_kill_at_every_write() {
    let states = ["Approved 0", "Instantiated 1", "Terminated 0"];
    let kills = killed_everywhere(&[Action::Instantiate], Action::Terminate, &states).await;
    assert!(kills >= 12, "{kills} kills");
}
