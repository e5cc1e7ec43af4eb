use drystone_hostile::{distorted, text};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Resource;

const TOP: &str = "top-id";

fn top() -> StackRef {
    StackRef::new("vnf-1", TOP)
}

fn resource(stack: &str, name: &str, kind: &str, id: &str, more: &Value) -> Resource {
    let texts = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap_or_default() };
    Resource {
        name: name.into(),
        kind: kind.into(),
        physical_id: id.into(),
        status: "CREATE_COMPLETE".into(),
        reason: String::new(),
        stack: StackRef::new(format!("name-of-{stack}"), stack),
        nested: more["nested"].as_str().map(|id| StackRef::new(format!("name-of-{id}"), id)),
        parent: None,
        required_by: texts(&more["required_by"]),
        creation_time: more["time"].as_str().unwrap_or("2026-11-29T02:00:00Z").into(),
        attributes: more["attributes"].as_object().cloned(),
    }
}

/// A group `workers` with a member for each (member, server id, time), one server beside it with a volume, and a virtual address.
fn cluster(members: &[(&str, &str, &str)]) -> Vec<Resource> {
    let mut all = vec![
        resource(TOP, "workers", "OS::Heat::AutoScalingGroup", "g", &json!({"nested": "g"})),
        resource(
            TOP,
            "storage",
            "OS::Nova::Server",
            "s",
            &json!({"attributes": {"name": "vnf-1-storage",
            "OS-EXT-SRV-ATTR:host": "compute-2", "OS-EXT-AZ:availability_zone": "nova", "status": "ACTIVE",
            "addresses": {"mgmt": [{"addr": "10.0.0.9", "OS-EXT-IPS:type": "fixed"}, {"addr": "not an address"}]}}}),
        ),
        resource(
            TOP,
            "storage_volume",
            "OS::Cinder::Volume",
            "v",
            &json!({"required_by": ["storage"], "attributes":
            {"attachments": [{"server_id": "s", "device": "/dev/vdb"}]}}),
        ),
        resource(TOP, "storage_CP", "OS::Neutron::Port", "sp", &json!({"required_by": ["storage"]})),
        resource(
            TOP,
            "vip_CP",
            "OS::Neutron::Port",
            "vip",
            &json!({"required_by": ["vip_FIP"], "attributes":
            {"fixed_ips": [{"ip_address": "10.0.0.100", "subnet_id": "sub"}], "network_id": "n", "mac_address": "fa:16:3e:00:00:01"}}),
        ),
        resource(
            TOP,
            "vip_FIP",
            "OS::Neutron::FloatingIP",
            "f",
            &json!({"attributes": {"floating_ip_address": "192.0.2.7"}}),
        ),
        resource(TOP, "internal", "OS::Neutron::Net", "n", &json!({})),
    ];
    for (member, id, time) in members {
        let stack = format!("stack-of-{member}");
        let port = format!("port-of-{id}");
        all.push(resource("g", member, "worker.yaml", &stack, &json!({"nested": stack, "time": time})));
        all.push(resource(&stack, "worker_node", "OS::Nova::Server", id, &json!({"time": time})));
        all.push(resource(
            &stack,
            "worker_CP",
            "OS::Neutron::Port",
            &port,
            &json!({"required_by": ["worker_node"],
            "attributes": {"device_id": id, "fixed_ips": [{"ip_address": "10.0.0.1"}]}}),
        ));
    }
    all
}

const NOON: &str = "2026-11-29T12:00:00Z";
const LATER: &str = "2026-11-29T12:30:00Z";

#[test]
fn members_of_groups_are_numbered_and_linked() {
    let inventory = build(
        &top(),
        &cluster(&[("b", "w2", NOON), ("a", "w1", NOON), ("0", "w3", LATER)]),
        &Naming::default(),
    );
    let numbers: Vec<(u32, &str)> =
        inventory.servers_of("worker_node").map(|server| (server.index, server.id.as_str())).collect();
    assert_eq!(numbers, [(0, "w1"), (1, "w2"), (2, "w3")], "by age, then by member");
    assert_eq!(inventory.servers_of("workers").count(), 3, "also by scaling aspect");
    let server = inventory.server("worker_node", 1).unwrap();
    assert_eq!(server.group.as_deref(), Some("workers"));
    let parent = server.parent.clone().unwrap();
    assert_eq!(
        (parent.stack.to_string().as_str(), parent.resource.as_str(), parent.in_group),
        ("name-of-g/g", "b", true)
    );
    let port = inventory.port_of(server, "worker_CP").unwrap();
    assert_eq!((port.id.as_str(), port.index), ("port-of-w2", 1));
    assert_eq!(server.ports, ["port-of-w2"]);
    assert_eq!(inventory.groups[0].members, ["a", "b", "0"]);
    assert_eq!(inventory.counts(), BTreeMap::from([("storage", 1), ("worker_node", 3)]));
}

#[test]
fn what_stands_alone_is_found_too() {
    let inventory = build(&top(), &cluster(&[]), &Naming::default());
    let server = inventory.server("storage", 0).unwrap();
    assert_eq!((server.host.as_deref(), server.zone.as_deref()), (Some("compute-2"), Some("nova")));
    assert_eq!(
        server.addresses,
        [Address { network: "mgmt".into(), address: "10.0.0.9".parse().unwrap(), floating: false }]
    );
    assert_eq!((server.parent.as_ref(), server.group.as_ref()), (None, None));
    let volume = inventory.volumes_of("storage_volume").next().unwrap();
    assert_eq!((volume.server.as_deref(), volume.device.as_deref()), (Some("s"), Some("/dev/vdb")));
    assert_eq!(server.volumes, ["v"]);
    assert_eq!(
        inventory.port_of(server, "storage_CP").unwrap().id,
        "sp",
        "by who needs it: nobody names the server"
    );
    let vip = inventory.port("vip_CP").unwrap();
    assert_eq!(vip.server, None);
    assert_eq!(vip.address(), Some("192.0.2.7".parse().unwrap()));
    assert_eq!(vip.fixed[0].address, "10.0.0.100".parse::<IpAddr>().unwrap());
    assert_eq!(inventory.networks[0].name, "internal");
}

#[test]
fn who_has_a_number_keeps_it_and_who_takes_its_place_gets_it() {
    let before = build(
        &top(),
        &cluster(&[("a", "w1", NOON), ("b", "w2", NOON), ("c", "w3", NOON)]),
        &Naming::default(),
    );
    let naming = Naming { known: before.known(), ..Naming::default() };
    // `a` was healed: another server, younger. `b` is gone, `d` is new.
    let after =
        build(&top(), &cluster(&[("a", "w9", LATER), ("c", "w3", NOON), ("d", "w4", LATER)]), &naming);
    let numbers: BTreeMap<&str, u32> =
        after.servers_of("worker_node").map(|server| (server.id.as_str(), server.index)).collect();
    assert_eq!(numbers, BTreeMap::from([("w9", 0), ("w3", 2), ("w4", 1)]));
    assert_eq!(after.port_of(after.server("worker_node", 1).unwrap(), "worker_CP").unwrap().id, "port-of-w4");
}

#[test]
fn numbers_in_names_are_read_only_where_the_vnfd_has_the_name() {
    let mut all = Vec::new();
    for number in [1, 0] {
        let (server, port) = (format!("VDU1-{number}"), format!("CP1-{number}"));
        all.push(resource(TOP, &server, "OS::Nova::Server", &format!("s{number}"), &json!({})));
        all.push(resource(
            TOP,
            &port,
            "OS::Neutron::Port",
            &format!("p{number}"),
            &json!({"required_by": [server]}),
        ));
    }
    all.push(resource(TOP, "db-7", "OS::Nova::Server", "db", &json!({})));
    let naming = Naming { names: ["VDU1", "CP1", "db-7"].map(str::to_owned).into(), known: Vec::new() };
    let inventory = build(&top(), &all, &naming);
    assert_eq!(inventory.server("VDU1", 0).unwrap().id, "s0");
    assert_eq!(inventory.server("VDU1", 1).unwrap().id, "s1");
    assert_eq!(inventory.server("db-7", 0).unwrap().id, "db");
    assert_eq!(inventory.port_of(inventory.server("VDU1", 1).unwrap(), "CP1").unwrap().id, "p1");
}

#[test]
fn a_nested_template_beside_others_is_numbered_by_the_resource_that_it_is() {
    let mut all = Vec::new();
    for number in [0, 2] {
        let stack = format!("n{number}");
        all.push(resource(TOP, &format!("VDU1-{number}"), "VDU1.yaml", &stack, &json!({"nested": stack})));
        all.push(resource(&stack, "VDU1", "OS::Nova::Server", &format!("s{number}"), &json!({})));
    }
    let inventory = build(&top(), &all, &Naming::default());
    assert_eq!(inventory.server("VDU1", 2).unwrap().id, "s2");
    assert!(!inventory.server("VDU1", 2).unwrap().parent.as_ref().unwrap().in_group);
    assert_eq!(inventory.server("VDU1", 1), None);
}

#[test]
fn it_survives_being_written_down() {
    let inventory = build(&top(), &cluster(&[("a", "w1", NOON)]), &Naming::default());
    let text = serde_json::to_string(&inventory).unwrap();
    assert!(text.contains("\"stack\":\"vnf-1/top-id\""), "{text}");
    assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), inventory);
}

#[test]
fn stacks_that_lie_in_each_other_do_not_hang() {
    let all = [
        resource("a", "x", "x.yaml", "b", &json!({})),
        resource("b", "y", "y.yaml", "a", &json!({})),
        resource("a", "s", "OS::Nova::Server", "1", &json!({})),
    ];
    assert_eq!(build(&top(), &all, &Naming::default()).servers.len(), 1);
}

proptest! {
    #[test]
    fn any_attributes_give_an_inventory_with_unique_numbers(
        attributes in distorted(json!({"fixed_ips": [{"ip_address": "10.0.0.1"}], "attachments": [{"device": "/dev/vdb"}],
            "addresses": {"n": [{"addr": "10.0.0.1"}]}, "device_id": "1"}), &["fixed_ips", "attachments", "addresses"]),
        names in proptest::collection::vec(text(), 1..6),
        known in proptest::collection::vec((0..4_u32, text()), 0..4),
    ) {
        let kinds = ["OS::Nova::Server", "OS::Neutron::Port", "OS::Cinder::Volume"];
        let all: Vec<Resource> = names.iter().enumerate().map(|(number, name)| {
            resource(TOP, name, kinds[number % 3], &number.to_string(), &json!({"attributes": attributes, "required_by": names}))
        }).collect();
        let known = known.into_iter().map(|(index, id)| KnownServer { id, vdu: names[0].clone(), index, parent_resource: None });
        let naming = Naming { names: BTreeSet::new(), known: known.collect() };
        let inventory = build(&top(), &all, &naming);
        let numbers: BTreeSet<_> = inventory.servers.iter().map(|server| (&server.vdu, server.index)).collect();
        prop_assert_eq!(numbers.len(), inventory.servers.len());
    }
}
