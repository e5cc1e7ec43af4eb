//! Inventories are read with few requests, also from a Heat that gives no details in lists.

use std::net::IpAddr;

use drystone_openstack::{Naming, StackRef};
use serde_json::{Value, json};

use super::fake::{Fake, Reply, error};

fn resource(stack: &str, name: &str, kind: &str, id: &str, more: &Value) -> Value {
    let url = "http://h/v1/p1/stacks";
    let mut resource = json!({"resource_name": name, "logical_resource_id": name, "resource_type": kind, "physical_resource_id": id,
        "resource_status": "CREATE_COMPLETE", "resource_status_reason": "state changed", "required_by": [],
        "creation_time": "2026-11-29T02:00:00Z", "links": [
            {"rel": "self", "href": format!("{url}/{stack}/{stack}-id/resources/{name}")},
            {"rel": "stack", "href": format!("{url}/{stack}/{stack}-id")}]});
    resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    resource
}

fn port_attributes() -> Value {
    json!({"fixed_ips": [{"ip_address": "10.0.0.5", "subnet_id": "s"}], "device_id": "server-1"})
}

fn resources(detail: bool) -> Reply {
    let mut resources = vec![
        resource("vnf", "group", "OS::Heat::AutoScalingGroup", "group-id", &json!({})),
        resource("group", "member", "w.yaml", "nested-id", &json!({"parent_resource": "group"})),
        resource("nested", "VDU1", "OS::Nova::Server", "server-1", &json!({"parent_resource": "member"})),
        resource(
            "nested",
            "CP1",
            "OS::Neutron::Port",
            "port-1",
            &json!({"parent_resource": "member", "required_by": ["VDU1"]}),
        ),
    ];
    if detail {
        resources[3]["attributes"] = port_attributes();
        resources[2]["attributes"] = json!({"name": "vnf-VDU1"});
    }
    (200, json!({"resources": resources}))
}

#[tokio::test]
async fn one_request_is_enough() {
    let cloud = Fake::start(|seen| resources(seen.query.contains("with_detail=true"))).await;
    let inventory =
        cloud.heat().inventory(&StackRef::new("vnf", "vnf-id"), &Naming::default()).await.unwrap();
    let server = inventory.server("VDU1", 0).unwrap();
    assert_eq!((server.name.as_deref(), server.group.as_deref()), (Some("vnf-VDU1"), Some("group")));
    let port = inventory.port_of(server, "CP1").unwrap();
    assert_eq!(port.address(), Some("10.0.0.5".parse::<IpAddr>().unwrap()));
    assert_eq!(cloud.seen().len(), 1);
}

#[tokio::test]
async fn without_details_each_is_asked_about_where_it_lies() {
    let cloud = Fake::start(|seen| match seen.path.as_str() {
        "/stacks/vnf/vnf-id/resources" => resources(false),
        "/stacks/nested/nested-id/resources/CP1" => {
            let port = resource(
                "nested",
                "CP1",
                "OS::Neutron::Port",
                "port-1",
                &json!({"attributes": port_attributes()}),
            );
            (200, json!({"resource": port}))
        }
        // It went away meanwhile.
        "/stacks/nested/nested-id/resources/VDU1" => error(404, "EntityNotFound", "none"),
        path => panic!("{path}"),
    })
    .await;
    let inventory =
        cloud.heat().inventory(&StackRef::new("vnf", "vnf-id"), &Naming::default()).await.unwrap();
    let server = inventory.server("VDU1", 0).unwrap();
    assert_eq!(inventory.port_of(server, "CP1").unwrap().fixed[0].subnet.as_deref(), Some("s"));
    assert_eq!(cloud.seen().len(), 3);
}

#[tokio::test]
async fn marking_unhealthy_names_the_stack_that_the_resource_is_in() {
    let cloud =
        Fake::start(|seen| if seen.method == "PATCH" { (200, Value::Null) } else { resources(true) }).await;
    let heat = cloud.heat();
    let inventory = heat.inventory(&StackRef::new("vnf", "vnf-id"), &Naming::default()).await.unwrap();
    let server = inventory.server("VDU1", 0).unwrap();
    heat.mark_unhealthy(&server.stack, &server.resource, "healed").await.unwrap();
    let seen = cloud.seen().pop().unwrap();
    assert_eq!(seen.path, "/stacks/nested/nested-id/resources/VDU1");
    assert_eq!(seen.body, json!({"mark_unhealthy": true, "resource_status_reason": "healed"}));
}
