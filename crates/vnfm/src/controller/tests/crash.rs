//! Killed at any write and started again, an operation comes to the same end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use drystone_engine::fake_api::Fault;
use drystone_sol003::types::{InstantiationState, LcmOperationState, LcmOperationType};
use serde_json::json;
use tokio::{sync::Notify, time::sleep};

use super::world::{World, places, states};

use LcmOperationState::{Completed, Processing, Starting};

/// Runs a process until it has written `writes` times; the next write is the last thing it does: it happens, or not. Whether it was
/// killed before the operation was complete.
async fn kill_at(world: &World, writes: u32, written: bool, name: &str) -> bool {
    let (count, kill) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
    let process = world.process();
    let (counted, dying) = (count.clone(), kill.clone());
    world.api.set_faults(move |method, _| {
        if method == "GET" || counted.fetch_add(1, Ordering::SeqCst) < writes {
            return None;
        }
        dying.notify_one();
        Some(if written { Fault::AnswerHangs } else { Fault::Hangs })
    });
    let killed = tokio::select! {
        () = kill.notified() => true,
        // Long after it is complete, and nothing is written any more.
        () = sleep(Duration::from_secs(600)) => false,
    };
    drop(process);
    sleep(Duration::from_millis(1)).await;
    world.api.set_faults(|_, _| None);
    if !killed {
        assert_eq!(world.status(name).await.operation_state, Completed);
    }
    killed
}

/// Kills the process at each write in turn, until there is none that it could be killed at.
async fn killed_everywhere(operation: LcmOperationType) -> u32 {
    let mut kills = 0;
    for written in [true, false] {
        for writes in 0.. {
            let world = World::new(&["instantiate_end", "heal_start", "heal_end"]).await;
            let mut before = Vec::new();
            let parameters = if operation == LcmOperationType::Instantiate {
                json!({"flavourId": "simple"})
            } else {
                let first = world.process();
                world.instantiated().await;
                drop(first);
                let instance = world.instance().await;
                before = places(&instance);
                let info = instance.instantiated_vnf_info.expect("has one");
                let worker =
                    info.vnfc_info.iter().find(|component| component.vdu_id == "worker").expect("there");
                json!({"vnfcInstanceId": [worker.id]})
            };
            let name = world.ask(operation, parameters).await;
            let killed = kill_at(&world, writes, written, &name).await;
            if !killed {
                assert!(writes > 5, "only {writes} writes: the kills did not come");
                break;
            }
            kills += 1;
            let _second = world.process();
            let done = world.until(&name, Completed).await;
            assert_eq!(states(&done), [Starting, Processing, Completed], "after {writes} writes");
            let instance = world.instance().await;
            assert_eq!(
                (instance.instantiation_state, instance.operation.clone()),
                (InstantiationState::Instantiated, None)
            );
            assert_eq!(world.cloud.state().made, 1, "after {writes} writes");
            let after = places(&instance);
            assert_eq!(after.len(), 4);
            if operation == LcmOperationType::Heal {
                let changed: Vec<_> = after.iter().filter(|place| !before.contains(place)).collect();
                assert_eq!(changed.len(), 1, "after {writes} writes: {changed:?}");
                assert!(changed[0].starts_with("worker-0="));
            }
            let changes = done.resource_changes.expect("some").affected_vnfcs.len();
            assert_eq!(changes, if operation == LcmOperationType::Heal { 2 } else { 4 });
        }
    }
    kills
}

#[tokio::test(start_paused = true)]
async fn instantiating_survives_a_kill_at_every_write() {
    let kills = killed_everywhere(LcmOperationType::Instantiate).await;
    assert!(kills >= 20, "{kills} kills");
}

#[tokio::test(start_paused = true)]
async fn healing_survives_a_kill_at_every_write() {
    let kills = killed_everywhere(LcmOperationType::Heal).await;
    assert!(kills >= 20, "{kills} kills");
}
