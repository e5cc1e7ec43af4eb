//! The driver that Drystone has for OpenStack finds in the emulated cloud what it finds in a real one.

use std::net::IpAddr;

use drystone_openstack::{
    Access, Action, Heat, Inventory, Keystone, Naming, NewStack, OpenStackError, StackChange, StackRef,
};
use serde_json::Value;

use super::{
    client::{PATIENCE, SITE, TestCloud},
    stacks::{NODE, TOP, nfv},
};

fn heat(cloud: &TestCloud) -> Heat {
    let endpoint = cloud.endpoint();
    let access = Access::new(&endpoint.auth_url, "nfv_user", "devstack".into(), "nfv");
    Heat::new(Keystone::new(access).unwrap())
}

fn parameters(masters: u32) -> serde_json::Map<String, Value> {
    nfv(masters).as_object().unwrap().clone()
}

fn cluster() -> NewStack {
    NewStack {
        name: "vnf-1".into(),
        template: TOP.into(),
        parameters: parameters(1),
        files: [("nested/node.yaml".to_owned(), NODE.to_owned())].into(),
        ..NewStack::default()
    }
}

async fn inventory(heat: &Heat, stack: &StackRef, before: Option<&Inventory>) -> Inventory {
    let naming = Naming { known: before.map(Inventory::known).unwrap_or_default(), ..Naming::default() };
    let requests = heat.counters().requests;
    let inventory = heat.inventory(stack, &naming).await.unwrap();
    assert_eq!(heat.counters().requests, requests + 1);
    inventory
}

fn ids<'a>(inventory: &'a Inventory, group: &'a str) -> Vec<&'a str> {
    inventory.servers_of(group).map(|server| server.id.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_is_made_once_read_grown_healed_and_deleted() {
    let cloud = TestCloud::start(SITE).await;
    let heat = heat(&cloud);
    let stack = heat.create(&cluster(), "op-1").await.unwrap().stack;
    assert!(heat.create(&cluster(), "op-1").await.unwrap().adopted);
    let failure = heat.create(&cluster(), "op-2").await.unwrap_err();
    assert!(matches!(failure, OpenStackError::Taken { .. }), "{failure}");
    heat.wait(&stack, Action::Create, PATIENCE, &mut |_| ()).await.unwrap();

    let first = inventory(&heat, &stack, None).await;
    assert_eq!((ids(&first, "master_instance").len(), ids(&first, "worker_instance").len()), (1, 2));
    let storage = first.server("storage", 0).unwrap();
    let port = first.port_of(storage, "storage_CP").unwrap();
    assert_eq!(port.floating, Some("172.24.4.2".parse::<IpAddr>().unwrap()));
    assert_eq!(first.port("vip_CP").unwrap().address(), Some("10.10.0.80".parse::<IpAddr>().unwrap()));
    let volume = first.volumes_of("storage_volume").next().unwrap();
    assert_eq!(
        (volume.server.as_deref(), volume.device.as_deref()),
        (Some(storage.id.as_str()), Some("/dev/vdb"))
    );
    assert!(first.servers.iter().all(|server| server.host.is_some() && server.zone.is_some()));

    let change = StackChange { parameters: parameters(3), ..StackChange::default() };
    heat.update(&stack, &change, "op-1").await.unwrap();
    heat.wait(&stack, Action::Update, PATIENCE, &mut |_| ()).await.unwrap();
    let grown = inventory(&heat, &stack, Some(&first)).await;
    assert_eq!(ids(&grown, "master_instance").len(), 3);

    let worker = grown.servers_of("worker_instance").next().unwrap().clone();
    heat.mark_unhealthy(&worker.stack, &worker.resource, "healed").await.unwrap();
    heat.update(&stack, &StackChange::default(), "op-1").await.unwrap();
    heat.wait(&stack, Action::Update, PATIENCE, &mut |_| ()).await.unwrap();
    let healed = inventory(&heat, &stack, Some(&grown)).await;
    let successor = healed.server(&worker.vdu, worker.index).unwrap();
    assert_ne!(successor.id, worker.id, "another server, with the number of the one that it replaces");
    assert_eq!(ids(&healed, "master_instance"), ids(&grown, "master_instance"));

    heat.delete(&stack).await.unwrap();
    heat.wait(&stack, Action::Delete, PATIENCE, &mut |_| ()).await.unwrap();
    assert_eq!(heat.find("vnf-1").await.unwrap(), None);
    assert_eq!(heat.counters().tokens, 1);
    cloud.stop().await;
}
