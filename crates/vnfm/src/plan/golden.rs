//! Plans of the example's operations, in files that people read: `plan/snapshots`.

use std::{path::Path, sync::Arc};

use drystone_api::{
    StepSpec,
    nfv::{VnfInstance, VnfInstanceSpec, VnfInstanceStatus, VnfLcmOperation, VnfLcmOperationSpec},
};
use drystone_csar::{Limits, Package};
use drystone_sol003::types::{ApiVersion, InstantiationState, LcmOperationType, VimConnectionInfo};
use serde_json::{Value, json};

use super::{
    connection::Connection,
    info::{Known, instantiated},
    operation::{Order, plan},
};
use crate::{
    mgmt::{Drivers, HookPlanner},
    model::{Blueprint, Hook, Inventory, Port, Problem, Server, Situation, Volume},
    steps::CsarBlueprint,
};

/// A hook is two steps, of which the second waits for the first.
struct TwoSteps;

impl HookPlanner for TwoSteps {
    fn steps(&self, hook: Hook, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        let step = |name: &str, after: &[String]| StepSpec {
            id: format!("{hook}/{name}"),
            action: "test.script".to_owned(),
            depends_on: after.to_vec(),
            ..StepSpec::default()
        };
        let inventory: Vec<String> =
            Some(situation.inventory.clone()).filter(|id| !id.is_empty()).into_iter().collect();
        let second = [inventory.clone(), vec![format!("{hook}/first")]].concat();
        Ok(vec![step("first", &inventory), step("second", &second)])
    }
}

fn blueprint() -> CsarBlueprint {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/vnf/kubernetes-cluster");
    CsarBlueprint(Arc::new(Package::open(&directory, &Limits::default()).expect("the example is good")))
}

fn server(vdu: &str, index: u32, grouped: bool) -> Server {
    let id = format!("{vdu}-{index}-id");
    let member = format!("{vdu}-member-{index}");
    Server {
        vdu: vdu.to_owned(),
        index,
        created: format!("2026-01-01T00:00:0{index}Z"),
        stack: if grouped { format!("{member}/nested") } else { "vnf-1/stack".to_owned() },
        resource: vdu.to_owned(),
        parent_stack: grouped.then(|| format!("{vdu}-group/nested")),
        parent_resource: grouped.then_some(member),
        ports: vec![Port { name: format!("{vdu}_CP"), id: format!("port-{id}"), ..Port::default() }],
        volumes: if grouped { Vec::new() } else { vec!["volume-id".to_owned()] },
        id,
        ..Server::default()
    }
}

/// The example's cluster with a third worker, instantiated.
fn instantiated_status(blueprint: &CsarBlueprint) -> VnfInstanceStatus {
    let mut servers = vec![server("masterNode", 0, true), server("storage_server", 0, false)];
    servers.extend((0..3).map(|index| server("workerNode", index, true)));
    let volume = Volume {
        name: "storage_server_volume".to_owned(),
        id: "volume-id".to_owned(),
        stack: "vnf-1/stack".to_owned(),
        resource: "storage_server_volume".to_owned(),
        ..Volume::default()
    };
    let inventory =
        Inventory { stack: "vnf-1/stack".to_owned(), servers, volumes: vec![volume], ..Inventory::default() };
    let flavour = blueprint.flavour("simple").expect("there is one");
    let known = Known {
        flavour: "simple".to_owned(),
        topology: flavour.topology(),
        levels: [("worker_instance".to_owned(), 1)].into(),
        highest_levels: flavour.highest_levels(),
        vim: "vim1".to_owned(),
        ..Known::default()
    };
    VnfInstanceStatus {
        instantiation_state: InstantiationState::Instantiated,
        instantiated_vnf_info: Some(instantiated(&known, &inventory)),
        ..VnfInstanceStatus::default()
    }
}

/// A plan as one line for each step: id, action, what it waits for, and what it is told that is not long.
fn planned(operation: LcmOperationType, api_version: ApiVersion, parameters: &Value) -> String {
    let blueprint = blueprint();
    let mut instance = VnfInstance::new("vnf", VnfInstanceSpec::default());
    instance.metadata.uid = Some("1".to_owned());
    if operation != LcmOperationType::Instantiate {
        instance.status = Some(instantiated_status(&blueprint));
    }
    let parameters = parameters.as_object().cloned().expect("an object");
    let spec = VnfLcmOperationSpec { operation, api_version, parameters, ..VnfLcmOperationSpec::default() };
    let info = VimConnectionInfo { vim_type: "openstack".to_owned(), ..VimConnectionInfo::default() };
    let mut drivers = Drivers::new();
    drivers.add("kubernetes_mgmt.py", Arc::new(TwoSteps));
    let order = Order {
        instance: &instance,
        occurrence: &VnfLcmOperation::new("op", spec),
        package: "package-uid",
        blueprint: &blueprint,
        connection: &Connection { key: "vim1".to_owned(), info, ..Connection::default() },
        drivers: &drivers,
        containers: None,
    };
    let steps = plan(&order).expect("it can be planned").expect("there is something to do").steps;
    let lines = steps.iter().map(|step| {
        let told: Vec<String> = ["name", "stack", "resource", "reason", "keep", "renew", "known"]
            .into_iter()
            .filter_map(|member| Some(format!("{member}={}", brief(step.parameters.get(member)?))))
            .collect();
        format!("{} [{}] after {:?} {}\n", step.id, step.action, step.depends_on, told.join(" "))
    });
    lines.collect()
}

/// Lists of objects as how many there are.
fn brief(value: &Value) -> String {
    match value.as_array() {
        Some(items) if items.iter().any(Value::is_object) => format!("{} VNFCs", items.len()),
        _ => value.to_string(),
    }
}

use ApiVersion::{V1, V2};
use LcmOperationType::{ChangeExtConn, ChangeVnfPackage, Heal, Instantiate, Scale, ScaleToLevel, Terminate};

#[test]
fn plans_are_as_they_were() {
    let worker_1 = json!({"vnfcInstanceId": ["workerNode-1-id"]});
    let storage = json!({"vnfcInstanceId": ["storage_server-storage_server-0-id"]});
    let storage_anew = json!({
        "vnfcInstanceId": ["storage_server-storage_server-0-id"], "additionalParams": {"all": true},
    });
    let link =
        json!({"extVirtualLinks": [{"id": "l", "resourceId": "n", "extCps": [{"cpdId": "workerNode_CP2"}]}]});
    let package = json!({
        "vnfdId": "new",
        "additionalParams": {"upgrade_type": "RollingUpdate", "vdu_params": [{"vdu_id": "workerNode"}]},
    });
    let scale = |kind: &str| json!({"type": kind, "aspectId": "worker_instance"});
    let cases = [
        ("instantiate_v1", Instantiate, V1, json!({"flavourId": "simple"})),
        ("instantiate_v2", Instantiate, V2, json!({"flavourId": "complex"})),
        ("scale_out", Scale, V2, scale("SCALE_OUT")),
        ("scale_in_v1_oldest", Scale, V1, scale("SCALE_IN")),
        ("scale_in_v2_newest", Scale, V2, scale("SCALE_IN")),
        (
            "scale_to_level",
            ScaleToLevel,
            V2,
            json!({"scaleInfo": [{"aspectId": "worker_instance", "scaleLevel": 0}]}),
        ),
        ("heal_worker_v1", Heal, V1, worker_1),
        ("heal_storage_v2", Heal, V2, storage),
        ("heal_storage_anew_v2", Heal, V2, storage_anew),
        ("heal_all_servers_v2", Heal, V2, json!({})),
        ("heal_entire_v1", Heal, V1, json!({})),
        ("terminate", Terminate, V2, json!({"terminationType": "GRACEFUL"})),
        ("change_external_connectivity", ChangeExtConn, V2, link),
        ("change_package", ChangeVnfPackage, V2, package),
    ];
    for (name, operation, version, parameters) in cases {
        insta::assert_snapshot!(name, planned(operation, version, &parameters));
    }
}

#[test]
fn a_hook_without_a_driver_is_refused_by_name() {
    let blueprint = blueprint();
    let parameters = json!({"flavourId": "simple"}).as_object().cloned().expect("an object");
    let spec = VnfLcmOperationSpec { parameters, ..VnfLcmOperationSpec::default() };
    let order = Order {
        instance: &VnfInstance::new("vnf", VnfInstanceSpec::default()),
        occurrence: &VnfLcmOperation::new("op", spec),
        package: "package-uid",
        blueprint: &blueprint,
        connection: &Connection::default(),
        drivers: &Drivers::new(),
        containers: None,
    };
    let problem = plan(&order).expect_err("nobody can run it");
    assert!(problem.detail.contains("kubernetes_mgmt.py"), "{}", problem.detail);
}
