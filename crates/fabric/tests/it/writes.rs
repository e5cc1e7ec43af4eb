//! How often a zone is made durable, and that what is not made durable is found again after a kill.

use std::time::Duration;

use drystone_api::Zone;
use drystone_store::Store as _;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};

use crate::world::{World, eventually, spec_of};

/// Key of a zone.
fn key(name: &str) -> String {
    format!("/registry/drystone.dev/zones/drystone-system/{name}")
}

/// Long enough for a write that is not waited for to be counted.
const PAUSE: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_written_twice() {
    let world = World::start().await;
    let before = world.store.revision().await.unwrap();
    world.declare("z", &["e1", "e4"]).await;
    let zone = world.ready("z").await;
    tokio::time::sleep(PAUSE).await;
    // Its creation, and what became of it: nothing between, and no event.
    assert_eq!(world.written_since(before).await, [key("z"), key("z")]);
    let status = zone.status.clone().unwrap();
    assert_eq!(status.fabrics[0].switches, ["a", "b"]);
    assert_eq!(world.switches.having("z").into_values().collect::<Vec<_>>(), [status.tag.unwrap(); 2]);

    let before = world.store.revision().await.unwrap();
    let mut changed = zone;
    changed.spec = spec_of(&["e1", "e2"]);
    world.api::<Zone>().replace("z", &PostParams::default(), &changed).await.unwrap();
    let zone = world.ready("z").await;
    tokio::time::sleep(PAUSE).await;
    assert_eq!(world.written_since(before).await, [key("z"), key("z")]);
    assert_eq!(zone.status.unwrap().fabrics[0].switches, ["a"]);
    assert_eq!(world.switches.having("z").into_keys().collect::<Vec<_>>(), ["a"]);

    let before = world.store.revision().await.unwrap();
    world.api::<Zone>().delete("z", &DeleteParams::default()).await.unwrap();
    gone(&world, "z").await;
    // Deletion begins, and ends when the switches have forgotten; beside that the event that says so.
    let written = world.written_since(before).await;
    assert_eq!(written.iter().filter(|written| **written == key("z")).count(), 2, "{written:?}");
    assert!(world.switches.having("z").is_empty() && world.switches.lock().shown.is_empty());
}

async fn gone(world: &World, name: &str) {
    let api: Api<Zone> = world.api();
    eventually("the zone is gone", async || api.get_opt(name).await.unwrap().is_none().then_some(())).await;
}

/// Zones that are in tables, one with an older number than the other, and of which no status tells.
async fn killed_in_the_middle() -> World {
    let mut world = World::start().await;
    world.switches.lock().silent = true;
    world.declare("first", &["e1", "e4"]).await;
    eventually("the first is in the tables", async || {
        (world.switches.having("first").len() == 2).then_some(())
    })
    .await;
    world.declare("second", &["e2", "e5"]).await;
    eventually("the second is in the tables", async || {
        (world.switches.having("second").len() == 2).then_some(())
    })
    .await;
    world.kill().await;
    world.switches.lock().silent = false;
    let zone = world.api::<Zone>().get("first").await.unwrap();
    assert_eq!(zone.status, None, "the test tests nothing: what was begun is in the status");
    world
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_begun_before_a_kill_is_found_in_the_tables_and_removed() {
    let mut world = killed_in_the_middle().await;
    // Deleted and changed before anybody looks at them again: only the tables tell where they are.
    world.api::<Zone>().delete("first", &DeleteParams::default()).await.unwrap();
    let mut second = world.api::<Zone>().get("second").await.unwrap();
    second.spec = spec_of(&["e2", "e3"]);
    world.api::<Zone>().replace("second", &PostParams::default(), &second).await.unwrap();
    world.restart();
    gone(&world, "first").await;
    assert!(world.switches.having("first").is_empty());
    world.ready("second").await;
    assert_eq!(world.switches.having("second").into_keys().collect::<Vec<_>>(), ["a"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zones_keep_the_tags_that_they_had_before_a_kill() {
    let mut world = killed_in_the_middle().await;
    let before = (world.switches.having("first"), world.switches.having("second"));
    // Comes first by its name, and must not get the tag of another one.
    world.declare("another", &["e3", "e6"]).await;
    world.restart();
    for name in ["first", "second", "another"] {
        world.ready(name).await;
    }
    assert_eq!((world.switches.having("first"), world.switches.having("second")), before);
    let reads = world.switches.lock().read;
    assert_eq!(reads, 2, "each table is asked once");

    // With all of them finished there is nothing to ask after a start.
    world.kill().await;
    world.switches.lock().tables.get_mut("a").unwrap().zones.remove("another");
    world.restart();
    eventually("the zone is put right", async || (world.switches.having("another").len() == 2).then_some(()))
        .await;
    assert_eq!(world.switches.lock().read, reads);
}
