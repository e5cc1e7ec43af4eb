//! Entries of zones that nobody knows: reported where tables are shared, removed where they are Drystone's alone.

use std::collections::BTreeMap;

use drystone_api::FabricAgent;
use drystone_fabric::model::{ForwardingZone, Member};
use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::world::{World, eventually};

/// Puts a zone of nobody into a switch's table.
fn intrude(world: &World, switch: &str, zone: &str) {
    let members = BTreeMap::from([(
        "02:00:00:00:00:03".to_owned(),
        Member { port: "p3".to_owned(), ..Member::default() },
    )]);
    let entry = ForwardingZone { tag: 4_000, members, flood_ports: Vec::new() };
    world.switches.lock().tables.entry(switch.to_owned()).or_default().zones.insert(zone.to_owned(), entry);
}

async fn condition(world: &World) -> Option<(String, String)> {
    let agent = world.api::<FabricAgent>().get("agent").await.unwrap();
    let conditions = agent.status?.conditions;
    let found = conditions.into_iter().find(|condition| condition.type_ == "TablesClean")?;
    Some((found.reason, found.message))
}

async fn events(world: &World, reason: &str) -> usize {
    let all: Api<Event> = world.api();
    let events = all.list(&ListParams::default()).await.unwrap().items;
    events.iter().filter(|event| event.reason.as_deref() == Some(reason)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_zone_is_for_is_reported_and_removed_only_where_tables_are_ours_alone() {
    let mut world = World::start().await;
    world.declare("ours", &["e1", "e4"]).await;
    world.ready("ours").await;
    world.kill().await;
    intrude(&world, "a", "theirs");
    world.restart();
    let reported = eventually("it is reported", async || {
        condition(&world).await.filter(|(reason, _)| reason == "StrayEntries")
    })
    .await;
    assert_eq!(reported.1, "1 zones on 1 switches (a: theirs)");
    assert_eq!(world.switches.having("theirs").len(), 1, "left alone");
    eventually("an event tells", async || (events(&world, "StrayEntries").await == 1).then_some(())).await;

    let exclusive = json!({"spec": {"tables": "Exclusive"}});
    let agents = world.api::<FabricAgent>();
    agents.patch("agent", &PatchParams::default(), &Patch::Merge(&exclusive)).await.unwrap();
    eventually("it is removed", async || world.switches.having("theirs").is_empty().then_some(())).await;
    eventually("an event tells", async || (events(&world, "StrayEntriesRemoved").await == 1).then_some(()))
        .await;
    assert_eq!(world.switches.having("ours").len(), 2, "what is ours stays");
}
