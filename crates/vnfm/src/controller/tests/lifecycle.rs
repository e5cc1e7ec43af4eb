//! The way through without trouble.

use drystone_api::nfv::{
    PARAMETERS_KEY, VIM_CONNECTION_KEY, VnfLcmOperation, VnfLcmOperationSpec, VnfLcmOperationStatus,
};
use drystone_sol003::types::{
    ApiVersion, ChangeType, InstantiationState, LcmOperationState, LcmOperationType,
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::MicroTime};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::json;

use super::world::{NAMESPACE, World, connection, places, states};

use LcmOperationState::{Completed, Processing, Starting};

#[tokio::test(start_paused = true)]
async fn an_instance_is_instantiated_and_terminated() {
    let world = World::new(&[]).await;
    let _process = world.process();
    let done = world.instantiated().await;
    assert_eq!(states(&done), [Starting, Processing, Completed]);
    let instance = world.instance().await;
    assert_eq!(instance.instantiation_state, InstantiationState::Instantiated);
    assert_eq!((instance.operation.clone(), instance.vnf_product_name.as_deref()), (None, Some("Cluster")));
    assert_eq!(instance.vim_connection_info["default"].access_info["project"], "nfv");
    assert_eq!(places(&instance).len(), 4);
    let info = instance.instantiated_vnf_info.expect("has one");
    assert_eq!(info.ext_cp_info.len(), 4);
    assert_eq!(info.metadata["stack_id"].as_str().expect("a text").split('/').count(), 2);
    assert_eq!(info.vnfc_resource_info[0].metadata["flavor"], "m1.large");
    let changes = done.resource_changes.expect("there are some");
    assert!(changes.affected_vnfcs.iter().all(|vnfc| vnfc.change_type == ChangeType::Added));
    assert_eq!((changes.affected_vnfcs.len(), changes.affected_virtual_storages.len()), (4, 1));

    let done = world.done(LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    let changes = done.resource_changes.expect("there are some");
    assert!(changes.affected_vnfcs.iter().all(|vnfc| vnfc.change_type == ChangeType::Removed));
    assert_eq!(changes.affected_vnfcs.len(), 4);
    let instance = world.instance().await;
    assert_eq!(instance.instantiation_state, InstantiationState::NotInstantiated);
    assert!(instance.instantiated_vnf_info.is_none() && instance.vim_connection_info.is_empty());
    assert!(world.cloud.state().stacks.is_empty());
}

#[tokio::test(start_paused = true)]
async fn few_writes_are_needed() {
    let world = World::new(&[]).await;
    let _process = world.process();
    // Everything is known, and the finalizer of the instance is there.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let before = world.api.requests().len();
    world.instantiated().await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    let requests = world.api.requests();
    let writes: Vec<&String> =
        requests[before..].iter().filter(|request| !request.starts_with("GET")).collect();
    // One to make the occurrence and one to take the instance are the front end's.
    assert!(writes.len() <= 12, "{}: {writes:#?}", writes.len());
}

#[tokio::test(start_paused = true)]
async fn workers_come_and_the_newest_go() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.instantiated().await;
    let before = places(&world.instance().await);
    let out = json!({"type": "SCALE_OUT", "aspectId": "worker_instance", "numberOfSteps": 2});
    let done = world.done(LcmOperationType::Scale, out).await;
    let added = done.resource_changes.expect("some").affected_vnfcs;
    assert_eq!(added.iter().map(|vnfc| vnfc.change_type).collect::<Vec<_>>(), [ChangeType::Added; 2]);
    let instance = world.instance().await;
    let grown = places(&instance);
    assert!(before.iter().all(|place| grown.contains(place)), "{grown:?}");
    assert_eq!(instance.instantiated_vnf_info.expect("has one").scale_status[0].scale_level, 2);

    let into = json!({"type": "SCALE_IN", "aspectId": "worker_instance"});
    let done = world.done(LcmOperationType::Scale, into).await;
    let removed = done.resource_changes.expect("some").affected_vnfcs;
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].change_type, ChangeType::Removed);
    let shrunk = places(&world.instance().await);
    let gone: Vec<&String> = grown.iter().filter(|place| !shrunk.contains(place)).collect();
    assert_eq!(gone.len(), 1);
    assert!(gone[0].starts_with("worker-3="), "{gone:?}");
    assert!(gone[0].ends_with(&removed[0].id));
}

#[tokio::test(start_paused = true)]
async fn what_is_healed_is_another_server_in_the_same_place() {
    let world = World::new(&[]).await;
    let _process = world.process();
    world.instantiated().await;
    let before = world.instance().await;
    let info = before.instantiated_vnf_info.clone().expect("has one");
    let second =
        info.vnfc_info.iter().filter(|component| component.vdu_id == "worker").nth(1).expect("two workers");
    let done = world.done(LcmOperationType::Heal, json!({"vnfcInstanceId": [second.id]})).await;
    let after = world.instance().await;
    let (before, after) = (places(&before), places(&after));
    let changed: Vec<&String> = after.iter().filter(|place| !before.contains(place)).collect();
    assert_eq!(changed.len(), 1);
    assert!(changed[0].starts_with("worker-1="), "{changed:?}");
    let kinds: Vec<_> =
        done.resource_changes.expect("some").affected_vnfcs.iter().map(|vnfc| vnfc.change_type).collect();
    assert_eq!(kinds, [ChangeType::Removed, ChangeType::Added]);
}

#[tokio::test(start_paused = true)]
async fn healing_everything_makes_the_stack_anew_in_version_1_or_when_told_to() {
    for (version, parameters, anew) in [
        (ApiVersion::V1, json!({}), true),
        (ApiVersion::V2, json!({"additionalParams": {"all": true}}), true),
        (ApiVersion::V2, json!({}), false),
    ] {
        let world = World::new(&[]).await;
        let _process = world.process();
        world.instantiated().await;
        let before = places(&world.instance().await);
        let name = world
            .ask_with(VnfLcmOperationSpec {
                instance: "vnf".to_owned(),
                operation: LcmOperationType::Heal,
                api_version: version,
                parameters: parameters.as_object().cloned().expect("an object"),
                ..VnfLcmOperationSpec::default()
            })
            .await;
        world.until(&name, Completed).await;
        let after = places(&world.instance().await);
        assert_eq!(after.len(), before.len());
        assert!(after.iter().all(|place| !before.contains(place)), "{after:?}");
        assert_eq!(world.cloud.state().made, if anew { 2 } else { 1 }, "{version:?} {parameters}");
    }
}

#[tokio::test(start_paused = true)]
async fn hooks_are_before_and_after_what_the_vim_does() {
    let hooks = ["instantiate_start", "instantiate_end", "scale_start", "scale_end", "terminate_end"];
    let world = World::new(&hooks).await;
    let _process = world.process();
    world.instantiated().await;
    assert_eq!(world.notes(), ["instantiate_start 0", "instantiate_end 4"]);
    assert_eq!(world.instance().await.nodes[0].name, "master1", "what a step wants kept is kept");
    let out = json!({"type": "SCALE_OUT", "aspectId": "worker_instance"});
    world.done(LcmOperationType::Scale, out).await;
    assert_eq!(world.notes()[2..], ["scale_start 4", "scale_end 5"]);
    world.done(LcmOperationType::Terminate, json!({"terminationType": "GRACEFUL"})).await;
    assert_eq!(world.notes()[4..], ["terminate_end 5"]);
    assert!(world.instance().await.nodes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn secrets_reach_the_vim_and_nothing_else() {
    let world = World::new(&[]).await;
    let _process = world.process();
    let secrets: Api<Secret> = Api::namespaced(world.api.client(), NAMESPACE);
    let full = json!({
        "flavourId": "simple",
        "vimConnectionInfo": connection(Some("hunter2")),
        "additionalParams": {"master_node": {"username": "u", "password": "swordfish"}},
    });
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {"name": "op-secret"},
        "data": {PARAMETERS_KEY: encoded(full.to_string().as_bytes())},
    }))
    .expect("a Secret");
    secrets.create(&PostParams::default(), &secret).await.expect("created");
    let name = world
        .ask_with(VnfLcmOperationSpec {
            instance: "vnf".to_owned(),
            operation: LcmOperationType::Instantiate,
            parameters: json!({
                "flavourId": "simple",
                "vimConnectionInfo": connection(None),
                "additionalParams": {"master_node": {"username": "u"}},
            })
            .as_object()
            .cloned()
            .expect("an object"),
            secret: Some("op-secret".to_owned()),
            ..VnfLcmOperationSpec::default()
        })
        .await;
    world.until(&name, Completed).await;
    assert!(world.cloud.state().users.contains("hunter2"), "the VIM was asked with the password");
    let instance = world.instance().await;
    assert_eq!(instance.vim_connection_info["vim1"].access_info["username"], "nfv_user");
    let kept =
        secrets.get(&instance.credentials.clone().expect("kept")).await.expect("there").data.expect("data");
    let connections = String::from_utf8(kept[VIM_CONNECTION_KEY].0.clone()).expect("text");
    assert!(connections.contains("hunter2"), "later operations need it");
    assert!(String::from_utf8_lossy(&kept[PARAMETERS_KEY].0).contains("swordfish"));
    for object in world.api.objects("/") {
        let is_secret = object["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.contains("secret") || name.contains("credentials"));
        let text = object.to_string();
        assert!(is_secret || !(text.contains("hunter2") || text.contains("swordfish")), "{text}");
    }
    world.done(LcmOperationType::Scale, json!({"type": "SCALE_OUT", "aspectId": "worker_instance"})).await;
    world.done(LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    assert!(world.api.objects("/secrets/vnf-credentials").is_empty(), "it is of no use any more");
}

fn encoded(bytes: &[u8]) -> serde_json::Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).expect("text")
}

#[tokio::test(start_paused = true)]
async fn what_is_modified_is_in_the_instance() {
    let world = World::new(&[]).await;
    let _process = world.process();
    let done = world
        .done(LcmOperationType::ModifyInfo, json!({"vnfInstanceName": "other", "metadata": {"a": 1}}))
        .await;
    assert_eq!(states(&done), [Processing, Completed]);
    assert_eq!(done.changed_info["vnfInstanceName"], "other");
    let instance = world.instances().get("vnf").await.expect("there");
    assert_eq!(instance.spec.vnf_instance_name.as_deref(), Some("other"));
    assert_eq!(
        (instance.spec.metadata["a"].clone(), instance.status.expect("has one").operation),
        (json!(1), None)
    );
}

#[tokio::test(start_paused = true)]
async fn occurrences_of_long_ago_are_forgotten() {
    let world = World::new(&[]).await;
    let api = world.occurrences();
    for (name, instance, state) in [
        ("of-the-gone", "gone", Completed),
        ("not-at-its-end", "gone", LcmOperationState::FailedTemp),
        ("before", "vnf", Completed),
    ] {
        let spec = VnfLcmOperationSpec { instance: instance.to_owned(), ..VnfLcmOperationSpec::default() };
        let mut made =
            api.create(&PostParams::default(), &VnfLcmOperation::new(name, spec)).await.expect("made");
        made.status = Some(VnfLcmOperationStatus {
            operation_state: state,
            state_entered_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..VnfLcmOperationStatus::default()
        });
        api.replace_status(name, &PostParams::default(), &made).await.expect("written");
    }
    let _process = world.process();
    world.instantiated().await;
    tokio::time::sleep(std::time::Duration::from_secs(301)).await;
    let left = api.list(&ListParams::default()).await.expect("listed").items;
    let mut left: Vec<String> = left.iter().map(ResourceExt::name_any).collect();
    left.sort();
    assert_eq!(left, ["not-at-its-end", "op-1"], "the youngest of what is there stays");
}
