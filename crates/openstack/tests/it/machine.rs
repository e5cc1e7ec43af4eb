//! The life of stacks on a real Keystone and Heat.

use std::{collections::BTreeSet, time::Instant};

use drystone_openstack::{
    Access, Action, Heat, Inventory, Keystone, Naming, NewStack, OpenStackError, StackChange, StackRef,
};
use serde_json::{Map, Value, json};

use super::peers::DEADLINE;
use crate::openstack_or_skip;

const TOP: &str = "
heat_template_version: 2021-04-16
parameters:
  nfv: {type: json}
resources:
  workers:
    type: OS::Heat::AutoScalingGroup
    properties:
      min_size: 0
      max_size: 10
      desired_capacity: {get_param: [nfv, VDU, worker, desired_capacity]}
      resource: {type: worker.yaml, properties: {nfv: {get_param: nfv}}}
  storage_CP: {type: 'OS::Neutron::Port', properties: {network: net0}}
  storage_volume: {type: 'OS::Cinder::Volume', properties: {size: 1}}
  storage:
    type: OS::Nova::Server
    properties:
      flavor: {get_param: [nfv, VDU, storage, computeFlavourId]}
      networks: [{port: {get_resource: storage_CP}}]
      block_device_mapping_v2: [{volume_id: {get_resource: storage_volume}, boot_index: -1}]
      metadata: {get_param: [nfv, VDU, storage, metadata]}
";

const WORKER: &str = "
heat_template_version: 2021-04-16
parameters:
  nfv: {type: json}
resources:
  worker:
    type: OS::Nova::Server
    properties:
      flavor: {get_param: [nfv, VDU, worker, computeFlavourId]}
      networks: [{port: {get_resource: worker_CP}}]
  worker_CP: {type: 'OS::Neutron::Port', properties: {network: net0}}
";

fn parameters(nfv: Value) -> Map<String, Value> {
    Map::from_iter([("nfv".to_owned(), nfv)])
}

fn new_stack(name: &str, storage: &Value) -> NewStack {
    let nfv = json!({"VDU": {
        "worker": {"desired_capacity": 2, "computeFlavourId": "m1"},
        "storage": {"computeFlavourId": "m1", "metadata": storage}}});
    NewStack {
        name: name.into(),
        template: TOP.into(),
        parameters: parameters(nfv),
        files: [("worker.yaml".to_owned(), WORKER.to_owned())].into(),
        ..NewStack::default()
    }
}

async fn done(heat: &Heat, stack: &StackRef, action: Action) -> Result<(), OpenStackError> {
    heat.wait(stack, action, DEADLINE, &mut |_| ()).await.map(drop)
}

async fn change(heat: &Heat, stack: &StackRef, nfv: Value) -> Result<(), OpenStackError> {
    let change = StackChange { parameters: parameters(nfv), ..StackChange::default() };
    heat.update(stack, &change, "op").await?;
    done(heat, stack, Action::Update).await
}

async fn inventory(heat: &Heat, stack: &StackRef, before: Option<&Inventory>) -> Inventory {
    let known = before.map(Inventory::known).unwrap_or_default();
    heat.inventory(stack, &Naming { names: BTreeSet::new(), known }).await.unwrap()
}

fn ids(inventory: &Inventory, vdu: &str) -> Vec<(u32, String)> {
    inventory.servers_of(vdu).map(|server| (server.index, server.id.clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_grows_is_healed_and_deleted() {
    let cloud = openstack_or_skip!(3600);
    let heat = cloud.heat();
    let mut told = Vec::new();
    let created = heat.create(&new_stack("vnf-a", &json!({"seconds": 3})), "op").await.unwrap();
    assert!(!created.adopted);
    let stack = created.stack;
    let made = heat
        .wait(&stack, Action::Create, DEADLINE, &mut |news| told.extend(news.events))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(made.tags, ["op"]);
    assert_eq!(made.json_parameter("nfv").unwrap()["VDU"]["worker"]["desired_capacity"], 2);
    assert!(
        told.iter().any(|event| event.resource == "storage" && event.status == "CREATE_IN_PROGRESS"),
        "{told:?}"
    );
    let positions: BTreeSet<&str> = told.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(positions.len(), told.len(), "each event once");

    let first = inventory(&heat, &stack, None).await;
    assert_eq!(first.counts().into_iter().collect::<Vec<_>>(), [("storage", 1), ("worker", 2)]);
    let storage = first.server("storage", 0).unwrap();
    assert_eq!((storage.status.as_deref(), storage.zone.as_deref()), (Some("ACTIVE"), Some("nova")));
    assert_eq!(
        first.volumes_of("storage_volume").next().unwrap().server.as_deref(),
        Some(storage.id.as_str())
    );
    for server in &first.servers {
        let port = first.port_of(server, &format!("{}_CP", server.vdu)).unwrap();
        assert!(port.address().is_some());
    }
    assert_eq!(first.groups[0].members.len(), 2);
    assert_eq!(heat.counters().tokens, 1, "one token for the whole operation");

    // The same again: nothing more is made.
    let again = heat.create(&new_stack("vnf-a", &json!({})), "op").await.unwrap();
    assert_eq!((again.stack, again.adopted), (stack.clone(), true));
    let failure = heat.create(&new_stack("vnf-a", &json!({})), "somebody else").await.unwrap_err();
    assert!(matches!(failure, OpenStackError::Taken { .. }), "{failure}");

    let healed = grow_and_heal(&heat, &stack, &first).await;
    let shrunk = shrink(&heat, &stack, &healed).await;
    put(&heat, &stack, &shrunk).await;
    delete(&heat, &stack).await;
    assert_eq!(heat.counters().tokens, 1, "one token for all of it");
}

async fn grow_and_heal(heat: &Heat, stack: &StackRef, first: &Inventory) -> Inventory {
    // Grow by one.
    change(
        heat,
        stack,
        json!({"VDU": {"worker": {"desired_capacity": 3, "computeFlavourId": "m1"},
        "storage": {"computeFlavourId": "m1", "metadata": {}}}}),
    )
    .await
    .unwrap();
    let grown = inventory(heat, stack, Some(first)).await;
    assert_eq!(ids(&grown, "worker")[..2], ids(first, "worker"));
    assert_eq!(ids(&grown, "worker").len(), 3);

    // Heal the first worker: another server with its number, and nothing else changes.
    let worker = grown.server("worker", 0).unwrap();
    heat.mark_unhealthy(&worker.stack, &worker.resource, "healed").await.unwrap();
    heat.update(stack, &StackChange::default(), "op").await.unwrap();
    done(heat, stack, Action::Update).await.unwrap();
    let healed = inventory(heat, stack, Some(&grown)).await;
    assert_ne!(ids(&healed, "worker")[0], ids(&grown, "worker")[0]);
    assert_eq!(ids(&healed, "worker")[1..], ids(&grown, "worker")[1..]);
    assert_eq!(ids(&healed, "storage"), ids(&grown, "storage"));
    healed
}

async fn shrink(heat: &Heat, stack: &StackRef, healed: &Inventory) -> Inventory {
    // Shrink by a chosen one: a member that is marked goes first.
    let victim = healed.server("worker", 1).unwrap().clone();
    let parent = victim.parent.clone().unwrap();
    assert!(parent.in_group);
    heat.mark_unhealthy(&parent.stack, &parent.resource, "to be removed").await.unwrap();
    change(
        heat,
        stack,
        json!({"VDU": {"worker": {"desired_capacity": 2, "computeFlavourId": "m1"},
        "storage": {"computeFlavourId": "m1", "metadata": {}}}}),
    )
    .await
    .unwrap();
    let shrunk = inventory(heat, stack, Some(healed)).await;
    let left: Vec<u32> = shrunk.servers_of("worker").map(|server| server.index).collect();
    assert_eq!(left, [0, 2], "number 1 went, the others are who they were");
    shrunk
}

async fn put(heat: &Heat, stack: &StackRef, shrunk: &Inventory) {
    // The template and its files can be read, and put as a whole.
    assert!(heat.template(stack).await.unwrap()["resources"]["storage"].is_object());
    let files = heat.files(stack).await.unwrap();
    assert_eq!(files["worker.yaml"], WORKER);
    let mut template: Value = heat.template(stack).await.unwrap();
    template["resources"].as_object_mut().unwrap().remove("storage");
    let whole = StackChange {
        template: Some(template.to_string()),
        files,
        parameters: parameters(json!({"VDU": {"worker": {"desired_capacity": 1, "computeFlavourId": "m1"}}})),
        replace: true,
        ..StackChange::default()
    };
    heat.update(stack, &whole, "op").await.unwrap();
    done(heat, stack, Action::Update).await.unwrap();
    let rest = inventory(heat, stack, Some(shrunk)).await;
    assert_eq!(rest.counts().into_iter().collect::<Vec<_>>(), [("worker", 1)]);
    assert_eq!(heat.stack(stack).await.unwrap().tags, ["op"], "still known as ours");
    assert_eq!(heat.list(Some("op")).await.unwrap().len(), 1);
}

async fn delete(heat: &Heat, stack: &StackRef) {
    heat.delete(stack).await.unwrap();
    done(heat, stack, Action::Delete).await.unwrap();
    heat.delete(stack).await.unwrap();
    assert_eq!(heat.find("vnf-a").await.unwrap(), None);
    // Its name is free at once.
    let next = heat.create(&new_stack("vnf-a", &json!({})), "op").await.unwrap();
    assert!(!next.adopted && next.stack != *stack);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_is_told_repaired_or_taken_away() {
    let cloud = openstack_or_skip!(3600);
    let heat = cloud.heat();
    let failing = new_stack("vnf-b", &json!({"fail": "No valid host was found"}));
    let stack = heat.create(&failing, "op").await.unwrap().stack;
    let failure = done(&heat, &stack, Action::Create).await.unwrap_err();
    let OpenStackError::StackFailed { failures, status, .. } = &failure else { panic!("{failure}") };
    assert_eq!(status, "CREATE_FAILED");
    let storage = failures.iter().find(|failure| failure.resource == "storage").unwrap();
    assert!(storage.reason.contains("No valid host was found"), "{}", storage.reason);
    // What is there of it can be seen, so that it can be told and taken away.
    assert!(inventory(&heat, &stack, None).await.port("storage_CP").is_some());

    // The next attempt finds the stack, and mends it. Heat may still be calling off what else was under way, and say so.
    assert!(heat.create(&failing, "op").await.unwrap().adopted);
    let good = json!({"VDU": {"worker": {"desired_capacity": 2, "computeFlavourId": "m1"},
        "storage": {"computeFlavourId": "m1", "metadata": {}}}});
    let end = Instant::now() + DEADLINE;
    while let Err(failure) = change(&heat, &stack, good.clone()).await {
        assert!(failure.to_string().contains("cancelled") && Instant::now() < end, "{failure}");
    }
    let mended = inventory(&heat, &stack, None).await;
    assert!(!mended.server("storage", 0).unwrap().id.is_empty());

    let failure = taken_back(&heat).await;
    assert!(
        failure.to_string().contains("ROLLBACK_COMPLETE") && failure.to_string().contains("No quota"),
        "{failure}"
    );

    // What is not there, and what is wrong.
    let nothing = StackRef::new("vnf-none", "00000000-0000-4000-8000-000000000000");
    assert!(heat.stack(&nothing).await.unwrap_err().is_not_found());
    assert!(heat.update(&nothing, &StackChange::default(), "op").await.unwrap_err().is_not_found());
    assert!(heat.mark_unhealthy(&stack, "none", "").await.unwrap_err().is_not_found());
    assert_eq!(heat.find("vnf-none").await.unwrap(), None);
    let bad = NewStack {
        template: "heat_template_version: 2021-04-16\nparameters: {nfv: {type: json}}\nresources: {a: {type: 'OS::No::Such'}}".into(),
        ..new_stack("vnf-d", &json!({}))
    };
    let failure = heat.create(&bad, "op").await.unwrap_err();
    assert!(failure.status() == Some(400) && failure.to_string().contains("OS::No::Such"), "{failure}");
    assert!(!failure.is_transient());

    // Who may not.
    let wrong = Access { password: "devstack-wrong".into(), ..cloud.access() };
    let failure = Keystone::new(wrong).unwrap().check().await.unwrap_err();
    assert!(
        matches!(failure, OpenStackError::Unauthorized { .. })
            && !failure.to_string().contains("devstack-wrong")
    );
    let elsewhere = Access { project: "no-such-project".into(), ..cloud.access() };
    assert!(matches!(
        Keystone::new(elsewhere).unwrap().check().await.unwrap_err(),
        OpenStackError::Unauthorized { .. }
    ));
}

/// Heat's own way back. Now and then it fails by itself: a stack inside of the stack is called off, is gone, and is looked for.
async fn taken_back(heat: &Heat) -> OpenStackError {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let name = format!("vnf-c{attempt}");
        let new = NewStack { rollback: true, ..new_stack(&name, &json!({"fail": "No quota"})) };
        let stack = heat.create(&new, "op").await.unwrap().stack;
        let failure = done(heat, &stack, Action::Create).await.unwrap_err();
        let said = failure.to_string();
        if attempt == 5 || !(said.contains("ROLLBACK_FAILED") && said.contains("could not be found")) {
            return failure;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_end_or_are_taken_back_are_not_noticed() {
    const LIFETIME: u32 = 20;
    let cloud = openstack_or_skip!(LIFETIME);
    let heat = cloud.heat();
    let stack = heat.create(&new_stack("vnf-e", &json!({"seconds": 30})), "op").await.unwrap().stack;
    done(&heat, &stack, Action::Create).await.unwrap();
    let asked = heat.counters().tokens;
    assert!(asked >= 2, "it took longer than a token lasts; {asked} tokens");
    assert_eq!(inventory(&heat, &stack, None).await.servers.len(), 3);

    heat.stack(&stack).await.unwrap();
    let before = heat.counters().tokens;
    cloud.revoke_tokens().await;
    heat.stack(&stack).await.unwrap();
    assert_eq!(heat.counters().tokens, before + 1, "one that was taken back is replaced, once");
    assert!(cloud.tokens_issued() > 0);
    heat.delete(&stack).await.unwrap();
    tokio::time::timeout(DEADLINE, done(&heat, &stack, Action::Delete)).await.unwrap().unwrap();
}
