//! Stacks are made, grown, healed and removed, as a VNF manager asks for it.

use std::collections::BTreeSet;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{SITE, Session, TestCloud, ids};

pub(super) const TOP: &str = "
heat_template_version: 2013-05-23
description: a cluster
parameters:
  nfv: {type: json}
resources:
  master_instance:
    type: OS::Heat::AutoScalingGroup
    properties:
      min_size: 1
      max_size: 3
      desired_capacity: {get_param: [nfv, VDU, masterNode, desired_capacity]}
      resource:
        type: nested/node.yaml
        properties:
          flavor: {get_param: [nfv, VDU, masterNode, computeFlavourId]}
          image: {get_param: [nfv, VDU, masterNode, vcImageId]}
          net: {get_param: [nfv, CP, masterNode_CP, network]}
          group: {get_resource: apart}
  worker_instance:
    type: OS::Heat::AutoScalingGroup
    properties:
      min_size: 0
      max_size: 5
      desired_capacity: 2
      resource:
        type: nested/node.yaml
        properties: {flavor: m1.small, image: ubuntu, net: net0}
  worker_scale_out:
    type: OS::Heat::ScalingPolicy
    properties:
      auto_scaling_group_id: {get_resource: worker_instance}
      adjustment_type: change_in_capacity
      scaling_adjustment: 1
  worker_scale_in:
    type: OS::Heat::ScalingPolicy
    properties:
      auto_scaling_group_id: {get_resource: worker_instance}
      adjustment_type: change_in_capacity
      scaling_adjustment: -1
  apart:
    type: OS::Nova::ServerGroup
    properties: {name: apart, policies: [anti-affinity]}
  vip_CP:
    type: OS::Neutron::Port
    properties: {network: net0, fixed_ips: [{ip_address: 10.10.0.80}]}
  storage_volume:
    type: OS::Cinder::Volume
    properties: {name: data, size: 5}
  storage_CP:
    type: OS::Neutron::Port
    properties: {network: net0}
  storage_FloatingIP:
    type: OS::Neutron::FloatingIP
    properties: {floating_network: ext, port_id: {get_resource: storage_CP}}
  storage:
    type: OS::Nova::Server
    properties:
      flavor: m1.small
      image: ubuntu
      networks: [{port: {get_resource: storage_CP}}]
      block_device_mapping_v2: [{volume_id: {get_resource: storage_volume}, device_name: vdb, boot_index: -1}]
      user_data_format: RAW
      user_data:
        str_replace: {template: 'echo $where', params: {$where: {get_attr: [vip_CP, fixed_ips, 0, ip_address]}}}
outputs:
  masters: {value: {get_attr: [master_instance, outputs_list, address]}}
  device: {value: {get_attr: [storage, name]}}
";

pub(super) const NODE: &str = "
heat_template_version: 2013-05-23
parameters:
  flavor: {type: string}
  image: {type: string}
  net: {type: string}
  group: {type: string, default: ''}
conditions:
  alone: {equals: [{get_param: group}, '']}
resources:
  node:
    type: OS::Nova::Server
    properties:
      flavor: {get_param: flavor}
      image: {get_param: image}
      networks: [{port: {get_resource: node_CP}}]
      scheduler_hints: {if: [alone, {}, {group: {get_param: group}}]}
  node_CP:
    type: OS::Neutron::Port
    properties: {network: {get_param: net}}
outputs:
  address: {value: {get_attr: [node_CP, fixed_ips, 0, ip_address]}}
";

fn cluster(name: &str) -> Value {
    json!({"stack_name": name, "template": TOP, "files": {"nested/node.yaml": NODE}, "timeout_mins": 20, "disable_rollback": true,
        "parameters": nfv(1)})
}

pub(super) fn nfv(masters: u32) -> Value {
    json!({"nfv": {"VDU": {"masterNode": {"computeFlavourId": "m1.large", "vcImageId": "ubuntu", "desired_capacity": masters}},
        "CP": {"masterNode_CP": {"network": "9d1ff9b0-0b1c-4a3c-8f0e-0a63f0b7c001"}}}})
}

/// The attributes of a resource by the link of the stack that it is in.
async fn attributes(session: &Session, stack: &str, resource: &Value) -> Value {
    let path = resource["links"].as_array().unwrap().iter().find(|link| link["rel"] == "self").unwrap();
    let path = path["href"].as_str().unwrap().strip_prefix(&session.heat).unwrap().to_owned();
    assert!(path.starts_with("/stacks/"), "{stack}: {path}");
    session.get(&path).await["resource"]["attributes"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_made_and_told_of() {
    let cloud = TestCloud::start(SITE).await;
    let session = cloud.session().await;
    let id = session.create(&cluster("vnf-1")).await;
    let shown = session.get("/stacks/vnf-1").await["stack"].clone();
    assert_eq!((&shown["id"], &shown["stack_status"]), (&json!(id), &json!("CREATE_COMPLETE")), "{shown}");
    let told: Value = serde_json::from_str(shown["parameters"]["nfv"].as_str().unwrap()).unwrap();
    assert_eq!(told, nfv(1)["nfv"]);
    assert_eq!(shown["outputs"].as_array().unwrap().len(), 2);

    let resources = session.resources("vnf-1").await;
    assert_eq!(ids(&resources, "node").len(), 3);
    let node = resources.iter().find(|one| one["resource_name"] == "node").unwrap();
    assert!(node["parent_resource"].is_string(), "{node}");
    let port = resources.iter().find(|one| one["resource_name"] == "storage_CP").unwrap();
    assert_eq!(port["required_by"], json!(["storage", "storage_FloatingIP"]));
    let addresses: BTreeSet<String> = {
        let mut found = BTreeSet::new();
        for port in resources.iter().filter(|one| one["resource_type"] == "OS::Neutron::Port") {
            let attributes = attributes(&session, "vnf-1", port).await;
            found.insert(attributes["fixed_ips"][0]["ip_address"].as_str().unwrap().to_owned());
        }
        found
    };
    assert_eq!(addresses.len(), 5, "{addresses:?}");
    assert!(addresses.contains("10.10.0.80") && addresses.contains("10.10.0.2"));
    let volume = session.get("/stacks/vnf-1/resources/storage_volume").await["resource"].clone();
    let storage = session.get("/stacks/vnf-1/resources/storage").await["resource"].clone();
    assert_eq!(volume["attributes"]["attachments"][0]["device"], "/dev/vdb");
    assert_eq!(volume["attributes"]["attachments"][0]["server_id"], storage["physical_resource_id"]);
    let floating =
        session.get("/stacks/vnf-1/resources/storage_FloatingIP").await["resource"]["attributes"].clone();
    assert_eq!(floating["floating_ip_address"], "172.24.4.2");

    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_is_grown_healed_and_removed() {
    let mut cloud = TestCloud::start(SITE).await;
    let session = cloud.session().await;
    let id = session.create(&cluster("vnf-1")).await;
    let resources = session.resources("vnf-1").await;
    // Three masters are on three hosts; what was there stays.
    assert_eq!(session.patch("/stacks/vnf-1", &json!({"parameters": nfv(3)})).await, StatusCode::ACCEPTED);
    assert_eq!(session.status("vnf-1").await, "UPDATE_COMPLETE");
    let grown = session.resources("vnf-1").await;
    let (before, after) = (ids(&resources, "node"), ids(&grown, "node"));
    assert!(after.len() == 5 && before.iter().all(|id| after.contains(id)));
    let group = session.get("/stacks/vnf-1/resources/apart").await["resource"]["attributes"].clone();
    assert_eq!(group["members"].as_array().unwrap().len(), 3);
    let mut hosts = BTreeSet::new();
    for node in grown.iter().filter(|one| one["resource_name"] == "node") {
        let attributes = attributes(&session, "vnf-1", node).await;
        if attributes["server_groups"][0] == group["id"] {
            hosts.insert(attributes["OS-EXT-SRV-ATTR:host"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(hosts.len(), 3);

    // A server that is marked is another one after an update, with the same port; its volume is kept.
    let mark = json!({"mark_unhealthy": true, "resource_status_reason": "healed"});
    assert_eq!(session.patch("/stacks/vnf-1/resources/storage", &mark).await, StatusCode::OK);
    assert_eq!(
        session.get("/stacks/vnf-1/resources/storage").await["resource"]["resource_status"],
        "CHECK_FAILED"
    );
    // The cloud is killed in between, and knows everything afterwards.
    cloud.restart().await;
    let session = cloud.session().await;
    assert_eq!(session.patch("/stacks/vnf-1", &json!({})).await, StatusCode::ACCEPTED);
    let healed = session.resources("vnf-1").await;
    assert_ne!(ids(&healed, "storage"), ids(&grown, "storage"));
    for name in ["storage_volume", "storage_CP", "node", "node_CP", "vip_CP"] {
        assert_eq!(ids(&healed, name), ids(&grown, name), "{name}");
    }
    let volume = session.get("/stacks/vnf-1/resources/storage_volume").await["resource"].clone();
    assert_eq!(volume["attributes"]["attachments"][0]["server_id"], ids(&healed, "storage")[0].as_str());

    // A member that is marked goes first.
    let member = grown.iter().find(|one| {
        one["resource_type"] == "nested/node.yaml" && one["parent_resource"] == "master_instance"
    });
    let member = member.unwrap();
    let path = member["links"][0]["href"].as_str().unwrap().strip_prefix(&session.heat).unwrap();
    assert_eq!(session.patch(path, &mark).await, StatusCode::OK);
    assert_eq!(session.patch("/stacks/vnf-1", &json!({"parameters": nfv(2)})).await, StatusCode::ACCEPTED);
    let shrunk = session.resources("vnf-1").await;
    assert_eq!(ids(&shrunk, "node").len(), 4);
    assert!(!shrunk.iter().any(|one| one["resource_name"] == member["resource_name"]));

    let (status, _) = session.send(Method::DELETE, "/stacks/vnf-1", None).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_eq!(session.send(Method::GET, "/stacks/vnf-1", None).await.0, StatusCode::NOT_FOUND);
    assert_eq!(
        session.status(&format!("vnf-1/{id}")).await,
        "DELETE_COMPLETE",
        "by its id it is still told of"
    );

    // All addresses are free again.
    session.create(&cluster("vnf-2")).await;
    assert_eq!(session.status("vnf-2").await, "CREATE_COMPLETE");
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_scale_groups() {
    let cloud = TestCloud::start(SITE).await;
    let session = cloud.session().await;
    session.create(&cluster("vnf-1")).await;
    let workers = |resources: &[Value]| {
        resources.iter().filter(|one| one["parent_resource"] == "worker_instance").count()
    };
    for (policy, wanted) in [("worker_scale_out", 3), ("worker_scale_out", 4), ("worker_scale_in", 3)] {
        let path = format!("/stacks/vnf-1/resources/{policy}/signal");
        assert_eq!(session.send(Method::POST, &path, Some(&json!({}))).await.0, StatusCode::OK);
        assert_eq!(workers(&session.resources("vnf-1").await), wanted);
    }
    // An update that says nothing of it leaves the size alone.
    session.patch("/stacks/vnf-1", &json!({"parameters": nfv(2)})).await;
    assert_eq!(workers(&session.resources("vnf-1").await), 3);
    let events = session.get("/stacks/vnf-1/resources/worker_scale_out/events?sort_dir=desc&limit=1").await;
    assert_eq!(events["events"][0]["resource_status"], "SIGNAL_COMPLETE");
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_fails_half_way_and_is_tried_again_or_taken_back() {
    let site = format!(
        "{SITE}  faults: [{{kind: resourceFails, resource: storage, count: 2}}, {{kind: deletionFails, resource: storage_CP, count: 1}}]\n"
    );
    let cloud = TestCloud::start(&site).await;
    let session = cloud.session().await;
    session.create(&cluster("vnf-1")).await;
    let shown = session.get("/stacks/vnf-1").await["stack"].clone();
    assert_eq!(shown["stack_status"], "CREATE_FAILED");
    assert!(shown["stack_status_reason"].as_str().unwrap().contains("resources.storage"), "{shown}");
    let failed = session.resources("vnf-1").await;
    assert_eq!(
        session.get("/stacks/vnf-1/resources/storage").await["resource"]["resource_status"],
        "CREATE_FAILED"
    );
    session.patch("/stacks/vnf-1", &json!({})).await;
    assert_eq!(session.status("vnf-1").await, "UPDATE_FAILED");

    // One that is to be taken back leaves nothing; it fails because its fixed address is taken.
    let mut body = cluster("vnf-2");
    body["disable_rollback"] = json!(false);
    session.create(&body).await;
    assert_eq!(session.status("vnf-2").await, "ROLLBACK_FAILED", "one port would not go");
    assert_eq!(session.send(Method::DELETE, "/stacks/vnf-2", None).await.0, StatusCode::NO_CONTENT);
    assert_eq!(session.send(Method::GET, "/stacks/vnf-2", None).await.0, StatusCode::NOT_FOUND);

    session.patch("/stacks/vnf-1", &json!({})).await;
    let shown = session.get("/stacks/vnf-1").await["stack"].clone();
    assert_eq!(shown["stack_status"], "UPDATE_COMPLETE", "{shown}");
    let mended = session.resources("vnf-1").await;
    for kept in ["storage_CP", "storage_volume"] {
        assert_eq!(ids(&mended, kept), ids(&failed, kept), "{kept}");
    }
    assert_eq!(ids(&mended, "node").len(), 3);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_time_is_gone_on_with_after_a_kill() {
    let site = format!("{SITE}  delays: {{server: 10s, volume: 2s}}\n");
    let mut cloud = TestCloud::start(&site).await;
    let session = cloud.session().await;
    session.create(&cluster("vnf-1")).await;
    assert_eq!(session.status("vnf-1").await, "CREATE_IN_PROGRESS");
    let (status, refusal) = session.send(Method::PATCH, "/stacks/vnf-1", Some(&json!({}))).await;
    assert_eq!((status, &refusal["error"]["type"]), (StatusCode::CONFLICT, &json!("ActionInProgress")));
    let planned = ids(&session.resources("vnf-1").await, "vip_CP");
    cloud.restart().await;
    let session = cloud.session().await;
    session.wait_for("vnf-1", "CREATE_COMPLETE").await;
    assert_eq!(ids(&session.resources("vnf-1").await, "vip_CP"), planned);

    // A stack may be removed while it is being made.
    session.create(&cluster("vnf-2")).await;
    assert_eq!(session.send(Method::DELETE, "/stacks/vnf-2", None).await.0, StatusCode::NO_CONTENT);
    let end = std::time::Instant::now() + super::client::PATIENCE;
    while session.send(Method::GET, "/stacks/vnf-2", None).await.0 != StatusCode::NOT_FOUND {
        assert!(std::time::Instant::now() < end);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_templates_are_refused_and_take_nothing() {
    let cloud = TestCloud::start(SITE).await;
    let session = cloud.session().await;
    let one = |resource: &str| format!("{{heat_template_version: 2013-05-23, resources: {{a: {resource}}}}}");
    let port = |more: &str| one(&format!("{{type: 'OS::Neutron::Port', properties: {{{more}}}}}"));
    for (template, wanted) in [
        (one("{type: 'OS::Sahara::Cluster'}"), "OS::Sahara::Cluster"),
        (one("{type: missing.yaml}"), "missing.yaml"),
        (port("network: nowhere"), "resources.a.properties.network"),
        (port("network: net0, colour: red"), "Unknown Property colour"),
        (port("network: net0, fixed_ips: [{ip_address: 10.11.0.1}]"), "10.11.0.1"),
        (port("network: {get_param: absent}"), "absent"),
        (port("network: {get_resource: b}"), "\"b\""),
        (port("network: {yaql: {expression: x}}"), "yaql"),
        (one("{type: 'OS::Nova::Server', properties: {flavor: m9, image: ubuntu}}"), "m9"),
        (one("{type: 'OS::Nova::Server', properties: {image: ubuntu}}"), "flavor"),
        (one("{type: 'OS::Heat::None', depends_on: a}"), "Circular"),
        ("{heat_template_version: '1'}".to_owned(), "heat_template_version"),
        ("[".to_owned(), "YAML"),
    ] {
        let body = json!({"stack_name": "bad", "template": template});
        let (status, refusal) = session.send(Method::POST, "/stacks", Some(&body)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{template}: {refusal}");
        let message = refusal["error"]["message"].as_str().unwrap();
        assert!(message.contains(wanted), "{template}: {message}");
    }
    for body in [
        json!([]),
        json!({"stack_name": "1x", "template": one("{type: 'OS::Heat::None'}")}),
        json!({"stack_name": "a"}),
    ] {
        assert_eq!(
            session.send(Method::POST, "/stacks", Some(&body)).await.0,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    assert_eq!(session.get("/stacks").await["stacks"], json!([]));
    session.create(&json!({"stack_name": "good", "template": port("network: net0")})).await;
    let first =
        session.get("/stacks/good/resources/a").await["resource"]["attributes"]["fixed_ips"][0].clone();
    assert_eq!(first["ip_address"], "10.10.0.2", "no refused stack has kept an address");
    cloud.stop().await;
}
