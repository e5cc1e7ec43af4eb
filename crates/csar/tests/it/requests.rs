//! Stack requests, in full.

use std::fs;

use drystone_csar::{
    Package,
    userdata::{Operation, Situation, StackRequest, UserDataError, built_in, choose, merge_patch},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::packages::{example, good, two_flavours};

/// A situation with parts of its own.
struct Case {
    package: Package,
    class: &'static str,
    request: Value,
    instance: Value,
    grant_request: Value,
    grant: Value,
}

impl Case {
    fn new(package: Package, class: &'static str) -> Self {
        Self {
            package,
            class,
            request: json!({}),
            instance: json!({}),
            grant_request: json!({}),
            grant: json!({}),
        }
    }

    fn make(&self, operation: Operation) -> Result<StackRequest, UserDataError> {
        let situation = Situation {
            package: &self.package,
            request: &self.request,
            instance: &self.instance,
            grant_request: &self.grant_request,
            grant: &self.grant,
        };
        built_in(self.class)?.stack_request(operation, &situation)
    }

    fn made(&self, operation: Operation) -> StackRequest {
        self.make(operation).unwrap_or_else(|error| panic!("{operation:?}: {error}"))
    }
}

fn nfv(request: &StackRequest) -> &Value {
    &request.parameters["nfv"]
}

fn template(request: &StackRequest) -> Value {
    serde_json::from_str(request.template.as_ref().unwrap()).unwrap()
}

fn computes(machines: &[(&str, &str)]) -> Value {
    machines.iter().map(|(id, vdu)| json!({"id": id, "type": "COMPUTE", "resourceTemplateId": vdu})).collect()
}

pub(crate) fn seed_request() -> Value {
    let path = example().join("../requests/instantiate-simple.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

const NETWORK: &str = "f0c82461-36b5-4d86-8322-b0bc19cda65f";

/// The cluster of the example, with 1 + 2 nodes.
fn kubernetes() -> Case {
    let mut case = Case::new(good(&example()), "KubernetesClusterUserData");
    case.request = seed_request();
    let machines =
        [("m0", "masterNode"), ("w0", "workerNode"), ("w1", "workerNode"), ("s0", "storage_server")];
    case.grant_request = json!({"addResources": computes(&machines)});
    case
}

#[test]
fn the_seeds_request_as_printed() {
    let case = kubernetes();
    let choice = choose(&case.package, case.request.get("additionalParams")).unwrap();
    assert_eq!(
        (choice.class.as_str(), choice.script.as_deref()),
        ("KubernetesClusterUserData", Some("UserData/k8s_cluster_user_data.py"))
    );
    let request = case.made(Operation::Instantiate);
    let node = json!({"flavor": "m1.medium", "image": "kubernetes-node"});
    let point = json!({"network": NETWORK, "fixed_ips": []});
    let expected = json!({"nfv": {
        "VDU": {"masterNode": node, "workerNode": node, "storage_server": {"flavor": "m1.medium", "image": "storage-server"}},
        "CP": {"masterNode_CP1": point, "workerNode_CP2": point, "storage_server_CP": point},
    }});
    assert_eq!(Value::Object(request.parameters.clone()), expected);
    let text = fs::read_to_string(example().join("BaseHOT/simple/simple_hot_top.yaml")).unwrap();
    assert_eq!(request.template.as_deref(), Some(text.as_str()), "the template as it is written");
    assert_eq!(
        request.files.keys().collect::<Vec<_>>(),
        ["simple_nested_master.yaml", "simple_nested_worker.yaml"]
    );
    assert!(!request.existing);
}

#[test]
fn kubernetes_with_addresses_and_a_larger_level() {
    let mut case = kubernetes();
    let addresses = json!([{"type": "IPV4", "fixedAddresses": ["10.10.0.7", "10.10.0.8"], "subnetId": "sub"}, {"type": "IPV4", "numDynamicAddresses": 1}]);
    case.request["extVirtualLinks"][0]["extCps"][0]["cpConfig"][0]["cpProtocolData"][0]["ipOverEthernet"] =
        json!({"ipAddresses": addresses});
    case.request["extVirtualLinks"].as_array_mut().unwrap().truncate(1);
    case.grant_request = json!({"addResources": computes(&[("m", "masterNode"), ("1", "workerNode"), ("2", "workerNode"), ("3", "workerNode"), ("4", "workerNode")])});
    let request = case.made(Operation::Instantiate);
    let cps = json!({"masterNode_CP1": {"network": NETWORK, "fixed_ips": [{"ip_address": "10.10.0.8", "subnet": "sub"}]}});
    assert_eq!(nfv(&request)["CP"], cps, "ports without a network are left out");
    assert_eq!(template(&request)["resources"]["worker_instance"]["properties"]["desired_capacity"], 4);
    // A parameter of the template that the request states.
    case.request["additionalParams"]["nfv"] = json!({"VDU": {}});
    assert_eq!(*nfv(&case.made(Operation::Instantiate)), json!({"VDU": {}}));
}

/// An instance of the example as it is when it runs.
fn running() -> Value {
    let vnfc = |vdu: &str, id: &str| json!({"id": id, "vduId": vdu, "computeResource": {"resourceId": id}, "metadata": {"flavor": "old.flavor", (format!("image-{vdu}")): "old-image"}});
    json!({"instantiatedVnfInfo": {
        "flavourId": "simple",
        "vnfcResourceInfo": [vnfc("masterNode", "a"), vnfc("workerNode", "b"), vnfc("workerNode", "c"), vnfc("storage_server", "d")],
        "extVirtualLinkInfo": [{"resourceHandle": {"resourceId": "net-now"}, "currentVnfExtCpData": [{"cpdId": "workerNode_CP2", "cpConfig": {}}]}],
    }})
}

#[test]
fn kubernetes_in_its_other_operations() {
    let mut case = kubernetes();
    case.instance = running();
    case.request = json!({"type": "SCALE_OUT", "aspectId": "worker_instance", "numberOfSteps": 1});
    case.grant_request = json!({"addResources": computes(&[("n", "workerNode")])});
    let group = |capacity: u32| json!({"properties": {"desired_capacity": capacity}});
    let scaled = case.made(Operation::Scale);
    assert_eq!(
        template(&scaled),
        json!({"resources": {"master_instance": group(1), "worker_instance": group(3)}})
    );
    assert!(scaled.existing && scaled.files.is_empty());
    assert_eq!(template(&case.made(Operation::ScaleRollback))["resources"]["worker_instance"], group(2));
    case.grant_request = json!({"removeResources": computes(&[("x", "workerNode")])});
    assert_eq!(template(&case.made(Operation::Scale))["resources"]["worker_instance"], group(1));
    // The storage server is in no group.
    case.grant_request = json!({"addResources": computes(&[("x", "storage_server")])});
    let error = case.make(Operation::Scale).unwrap_err();
    assert!(matches!(&error, UserDataError::NotScalable(vdu) if vdu == "storage_server"), "{error}");
    case.request = json!({});
    assert_eq!(
        case.made(Operation::Heal),
        StackRequest {
            parameters: serde_json::Map::from_iter([("nfv".to_owned(), json!({}))]),
            existing: true,
            ..StackRequest::default()
        }
    );
    case.request = json!({"extVirtualLinks": [{"resourceId": "net-new", "extCps": [{"cpdId": "workerNode_CP2", "cpConfig": {}}]}]});
    assert_eq!(
        *nfv(&case.made(Operation::ChangeExternalConnectivity)),
        json!({"CP": {"workerNode_CP2": {"network": "net-new", "fixed_ips": []}}})
    );
    assert_eq!(
        *nfv(&case.made(Operation::ChangeExternalConnectivityRollback)),
        json!({"CP": {"workerNode_CP2": {"network": "net-now", "fixed_ips": []}}})
    );
    assert_eq!(
        nfv(&case.made(Operation::ChangePackage))["VDU"]["workerNode"],
        json!({"flavor": "m1.medium", "image": "kubernetes-node"})
    );
    assert_eq!(
        nfv(&case.made(Operation::ChangePackageRollback))["VDU"]["workerNode"],
        json!({"flavor": "old.flavor", "image": "old-image"})
    );
}

#[test]
fn a_change_is_merged_into_the_stack() {
    let mut case = kubernetes();
    let first = case.made(Operation::Instantiate);
    case.instance = running();
    case.grant_request = json!({"addResources": computes(&[("n", "workerNode")])});
    let change = case.made(Operation::Scale);
    // As Heat shows it: a text.
    let mut stored = first.parameters.clone();
    stored.insert("nfv".to_owned(), json!(nfv(&first).to_string()));
    let full = change.onto(first.template.as_ref().unwrap(), &stored).unwrap();
    assert_eq!(full.parameters, first.parameters);
    let template = template(&full);
    assert_eq!(template["resources"]["worker_instance"]["properties"]["desired_capacity"], 3);
    assert_eq!(template["resources"]["worker_instance"]["properties"]["max_size"], 4);
    assert_eq!(template["heat_template_version"], "2013-05-23");
    assert!(!full.existing);
}

/// The flavour with groups of the package for version 2.
fn groups() -> Case {
    let mut case = Case::new(good(&two_flavours()), "DefaultUserData");
    let addresses = json!([{"type": "IPV4", "fixedAddresses": ["10.0.0.5", "10.0.0.6"], "subnetId": "sub-1"}, {"type": "IPV4", "fixedAddresses": ["10.1.0.5"]}]);
    let data = json!({"cpProtocolData": [{"layerProtocol": "IP_OVER_ETHERNET", "ipOverEthernet": {"ipAddresses": addresses}}]});
    case.request = json!({
        "flavourId": "groups",
        "extVirtualLinks": [{"id": "l", "resourceId": "net-1", "extCps": [{"cpdId": "VDU1_CP1", "cpConfig": {"a": data}}, {"cpdId": "VDU2_CP1", "cpConfig": {"a": data}}]}],
        "additionalParams": {"nfv": {"VDU": {"VDU2": {"extra": 1}}}},
    });
    case.grant_request = json!({"addResources": computes(&[("r1", "VDU1"), ("r2", "VDU1"), ("r3", "VDU2")])});
    case.grant = json!({
        "zones": [{"id": "z", "zoneId": "nova"}],
        "addResources": [{"resourceDefinitionId": "r1"}, {"resourceDefinitionId": "r2", "zoneId": "z"}],
        "vimAssets": {"softwareImages": [{"vnfdSoftwareImageId": "VDU1", "vimSoftwareImageId": "glance-1"}]},
    });
    case
}

#[test]
fn default_user_data_instantiates() {
    let mut case = groups();
    let request = case.made(Operation::Instantiate);
    assert_eq!(
        *nfv(&request),
        json!({
            "VDU": {
                "VDU1": {"computeFlavourId": "m1.tiny", "vcImageId": "glance-1", "locationConstraints": "nova", "desired_capacity": 2},
                "VDU2": {"computeFlavourId": "m1.small", "extra": 1},
                "Volume": {"vcImageId": "image-two"},
            },
            "CP": {
                "VDU1_CP1": {"network": "net-1"},
                "VDU2_CP1": {"network": "net-1", "fixed_ips": [{"ip_address": "10.0.0.5", "subnet": "sub-1"}]},
            },
        })
    );
    let text = fs::read_to_string(two_flavours().join("BaseHOT/groups/top.yaml")).unwrap();
    assert_eq!(request.template.as_deref(), Some(text.as_str()));
    assert_eq!(request.files.keys().collect::<Vec<_>>(), ["VDU1.yaml"]);
    // A network of the VIM in place of the internal one.
    case.request["extManagedVirtualLinks"] =
        json!([{"id": "m", "vnfVirtualLinkDescId": "internalVL", "resourceId": "managed"}]);
    let resources = &template(&case.made(Operation::Instantiate))["resources"];
    assert_eq!(resources["VDU1_scale_group"]["properties"]["resource"]["properties"]["net2"], "managed");
    assert_eq!((resources.get("internalVL"), resources.get("internalVL_subnet")), (None, None));
    assert!(resources.get("VDU2").is_some());
}

#[test]
fn default_user_data_in_its_other_operations() {
    let mut case = groups();
    let vnfc = |vdu: &str| json!({"vduId": vdu, "metadata": {"flavor": "f-old", "image-VDU1": "i-old"}});
    let link = json!({"resourceHandle": {"resourceId": "net-now"}, "currentVnfExtCpData": [{"cpdId": "VDU2_CP1", "cpConfig": {"a": {"cpProtocolData": [{"ipOverEthernet": {"ipAddresses": [{"fixedAddresses": ["10.0.0.9"]}]}}]}}}]});
    case.instance = json!({"instantiatedVnfInfo": {"flavourId": "groups", "vnfcResourceInfo": [vnfc("VDU1"), vnfc("VDU2")], "extVirtualLinkInfo": [link]}});
    case.request = json!({"type": "SCALE_OUT", "aspectId": "VDU1_scale"});
    case.grant_request = json!({"addResources": computes(&[("n", "VDU1")])});
    let scaled = case.made(Operation::Scale);
    assert_eq!((nfv(&scaled), &scaled.template), (&json!({"VDU": {"VDU1": {"desired_capacity": 2}}}), &None));
    assert_eq!(*nfv(&case.made(Operation::ScaleRollback)), json!({"VDU": {"VDU1": {"desired_capacity": 1}}}));
    assert_eq!(*nfv(&case.made(Operation::Heal)), json!({}));
    case.request = json!({"extVirtualLinks": [{"resourceId": "net-new", "extCps": [{"cpdId": "VDU1_CP1", "cpConfig": {}}]}]});
    assert_eq!(
        *nfv(&case.made(Operation::ChangeExternalConnectivity)),
        json!({"CP": {"VDU1_CP1": {"network": "net-new"}}})
    );
    let now = json!({"VDU2_CP1": {"network": "net-now", "fixed_ips": [{"ip_address": "10.0.0.9", "subnet": null}]}});
    assert_eq!(*nfv(&case.made(Operation::ChangeExternalConnectivityRollback)), json!({"CP": now}));
    assert_eq!(
        *nfv(&case.made(Operation::ChangePackage)),
        json!({
            "VDU": {"VDU1": {"computeFlavourId": "m1.tiny", "vcImageId": "glance-1"}, "VDU2": {"computeFlavourId": "m1.small"}, "Volume": {"vcImageId": "image-two"}},
            "CP": {"VDU1_CP1": {"network": "net-new"}},
        })
    );
    assert_eq!(
        *nfv(&case.made(Operation::ChangePackageRollback)),
        json!({
            "VDU": {"VDU1": {"computeFlavourId": "f-old", "vcImageId": "i-old"}, "VDU2": {"computeFlavourId": "f-old"}, "Volume": {"vcImageId": null}},
            "CP": now,
        })
    );
}

/// The flavour with a resource for each virtual machine.
fn single() -> Case {
    let mut case = groups();
    case.class = "StandardUserData";
    case.request["flavourId"] = json!("single");
    case
}

#[test]
fn standard_user_data_instantiates() {
    let case = single();
    let request = case.made(Operation::Instantiate);
    let template = template(&request);
    let mut names: Vec<&String> = template["resources"].as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["VDU1-0", "VDU1-1", "VDU2-0", "internalVL"]);
    let properties = &template["resources"]["VDU1-1"]["properties"];
    assert_eq!(properties["image"], json!({"get_param": ["nfv", "VDU", "VDU1-1", "vcImageId"]}));
    assert_eq!(
        properties["subnet1"],
        json!({"get_param": ["nfv", "CP", "VDU1_CP1-1", "fixed_ips", 0, "subnet"]})
    );
    assert_eq!(properties["net2"], json!({"get_resource": "internalVL"}));
    let machine = |zone: Value| json!({"computeFlavourId": "m1.tiny", "vcImageId": "glance-1", "locationConstraints": zone});
    let point = json!({"network": "net-1", "fixed_ips": [{"subnet": "sub-1"}]});
    assert_eq!(
        *nfv(&request),
        json!({
            "VDU": {
                "VDU1-0": machine(Value::Null),
                "VDU1-1": machine(json!("nova")),
                "VDU2-0": {"computeFlavourId": "m1.small"},
                "Volume-0": {"vcImageId": "image-two"},
                "VDU2": {"extra": 1},
            },
            "CP": {"VDU1_CP1-0": point, "VDU1_CP1-1": point, "VDU2_CP1-0": {"network": "net-1"}},
        })
    );
    assert_eq!(request.files.keys().collect::<Vec<_>>(), ["VDU1.yaml", "VDU2.yaml"]);
}

/// An instance with VDU1-0, VDU1-1 and VDU2-0.
fn single_running() -> Case {
    let mut case = single();
    let first = case.made(Operation::Instantiate);
    let vnfc = |vdu: &str, id: &str, index: u32| json!({"vduId": vdu, "computeResource": {"resourceId": id}, "metadata": {"vdu_idx": index}});
    let link = json!({"resourceHandle": {"resourceId": "net-now"}, "currentVnfExtCpData": [{"cpdId": "VDU1_CP1", "cpConfig": {}}]});
    case.instance = json!({"instantiatedVnfInfo": {
        "flavourId": "single",
        "vnfcResourceInfo": [vnfc("VDU1", "a", 0), vnfc("VDU1", "b", 1), vnfc("VDU2", "c", 0)],
        "extVirtualLinkInfo": [link],
        "extManagedVirtualLinkInfo": [{"vnfVirtualLinkDescId": "internalVL", "networkResource": {"resourceId": "managed"}}],
        "metadata": {"nfv": nfv(&first).clone()},
    }});
    case.request = json!({});
    case.grant = json!({});
    case
}

#[test]
fn standard_user_data_scales() {
    let mut case = single_running();
    case.grant_request = json!({"addResources": computes(&[("n", "VDU1")])});
    let out = case.made(Operation::Scale);
    assert!(out.existing);
    let resources = template(&out)["resources"].clone();
    assert_eq!(
        resources.as_object().unwrap().keys().collect::<Vec<_>>(),
        ["VDU1-2"],
        "the internal network is a managed one"
    );
    assert_eq!(resources["VDU1-2"]["properties"]["net2"], "managed");
    assert_eq!(
        *nfv(&out),
        json!({
            "VDU": {"VDU1-2": {"computeFlavourId": "m1.tiny", "vcImageId": "image-one"}},
            "CP": {"VDU1_CP1-2": {"network": "net-now", "fixed_ips": []}},
        })
    );
    assert_eq!(template(&case.made(Operation::ScaleRollback)), json!({"resources": {"VDU1-2": null}}));
    case.grant_request = json!({"removeResources": [{"type": "COMPUTE", "resourceTemplateId": "VDU1", "resource": {"resourceId": "b"}}]});
    let fewer = case.made(Operation::Scale);
    assert_eq!((template(&fewer), fewer.parameters.len()), (json!({"resources": {"VDU1-1": null}}), 0));
    case.grant_request["removeResources"][0]["resource"]["resourceId"] = json!("nobody");
    assert!(case.make(Operation::Scale).unwrap_err().to_string().contains("`nobody`"));
    // An index in use is passed over.
    case.instance["instantiatedVnfInfo"]["vnfcResourceInfo"][0]["metadata"]["vdu_idx"] = json!(2);
    case.grant_request = json!({"addResources": computes(&[("n", "VDU1")])});
    assert!(template(&case.made(Operation::Scale))["resources"].get("VDU1-3").is_some());
}

#[test]
fn standard_user_data_in_its_other_operations() {
    let mut case = single_running();
    let stored = case.instance["instantiatedVnfInfo"]["metadata"]["nfv"].clone();
    let removed = json!([{"type": "COMPUTE", "resourceTemplateId": "VDU1", "resource": {"resourceId": "b"}}]);
    case.grant_request = json!({"removeResources": removed});
    assert_eq!(*nfv(&case.made(Operation::Heal)), json!({"VDU": stored["VDU"]}));
    case.grant = json!({"vimAssets": {"softwareImages": [{"vnfdSoftwareImageId": "VDU1", "vimSoftwareImageId": "glance-2"}]}});
    let healed = case.made(Operation::Heal);
    assert_eq!(nfv(&healed)["VDU"]["VDU1-1"]["vcImageId"], "glance-2");
    assert_eq!(nfv(&healed)["VDU"]["VDU1-0"]["vcImageId"], "glance-1", "the other one keeps its own");
    case.request = json!({"extVirtualLinks": [{"resourceId": "net-new", "extCps": [{"cpdId": "VDU2_CP1", "cpConfig": {}}]}]});
    assert_eq!(
        *nfv(&case.made(Operation::ChangeExternalConnectivity)),
        json!({"CP": {"VDU2_CP1-0": {"network": "net-new"}}})
    );
    assert_eq!(*nfv(&case.made(Operation::ChangeExternalConnectivityRollback)), stored);
    let changed = case.made(Operation::ChangePackage);
    assert!(!changed.existing && changed.files.len() == 2);
    assert_eq!(nfv(&changed)["VDU"]["VDU1-1"]["vcImageId"], "glance-2", "the target");
    assert_eq!(nfv(&changed)["VDU"]["VDU1-0"]["vcImageId"], "glance-1", "not the target");
    assert_eq!(nfv(&changed)["CP"]["VDU2_CP1-0"], json!({"network": "net-new"}));
    assert_eq!(nfv(&changed)["CP"]["VDU1_CP1-0"], stored["CP"]["VDU1_CP1-0"]);
    let back = case.made(Operation::ChangePackageRollback);
    assert_eq!((nfv(&back)["CP"].clone(), back.existing), (stored["CP"].clone(), false));
    assert_eq!(template(&back)["resources"]["VDU1-1"]["properties"]["net2"], "managed");
}

#[test]
fn wrong_choices_are_told() {
    let package = good(&example());
    let error = |parameters: Value| {
        choose(&package, Some(&parameters))
            .and_then(|choice| built_in(&choice.class).map(drop))
            .unwrap_err()
            .to_string()
    };
    let script = "UserData/k8s_cluster_user_data.py";
    assert!(
        error(json!({"lcm-operation-user-data": script})).contains("`lcm-operation-user-data-class` is not")
    );
    assert!(
        error(json!({"lcm-operation-user-data-class": "X"})).contains("`lcm-operation-user-data` is not")
    );
    assert!(
        error(json!({"lcm-operation-user-data": "UserData/none.py", "lcm-operation-user-data-class": "X"}))
            .contains("no script `UserData/none.py`")
    );
    assert!(
        error(json!({"lcm-operation-user-data": "../../etc/passwd", "lcm-operation-user-data-class": "X"}))
            .contains("no script")
    );
    let unknown =
        error(json!({"lcm-operation-user-data": script, "lcm-operation-user-data-class": "MyUserData"}));
    assert!(unknown.starts_with("the user-data class `MyUserData` is not built in"), "{unknown}");
    assert_eq!(choose(&package, None).unwrap().class, "DefaultUserData");
    let mut case = kubernetes();
    case.request["flavourId"] = json!("huge");
    assert_eq!(
        case.make(Operation::Instantiate).unwrap_err().to_string(),
        "the VNFD has no flavour `huge`; it has complex, simple"
    );
    case.class = "StandardUserData";
    case.request["flavourId"] = json!("simple");
    assert!(case.make(Operation::Instantiate).unwrap_err().to_string().contains("no resource `masterNode`"));
}

#[test]
fn patches_of_rfc_7396() {
    for (target, patch, result) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(merge_patch(target, &patch), result);
    }
}

const KEYS: &[&str] = &[
    "extVirtualLinks",
    "extCps",
    "cpdId",
    "cpConfig",
    "cpProtocolData",
    "resourceId",
    "nfv",
    "VDU",
    "addResources",
    "type",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_request_is_answered(
        request in drystone_hostile::distorted(seed_request(), KEYS),
        grant_request in drystone_hostile::json(KEYS),
        grant in drystone_hostile::json(KEYS),
        instance in drystone_hostile::distorted(running(), KEYS),
        class in prop::sample::select(vec!["DefaultUserData", "StandardUserData", "KubernetesClusterUserData"]),
        operation in prop::sample::select(vec![Operation::Instantiate, Operation::Scale, Operation::ScaleRollback, Operation::ChangeExternalConnectivity, Operation::Heal, Operation::ChangePackage, Operation::ChangePackageRollback]),
    ) {
        let package = good(&example());
        let situation = Situation { package: &package, request: &request, instance: &instance, grant_request: &grant_request, grant: &grant };
        let _ = choose(&package, request.get("additionalParams"));
        let _ = built_in(class).unwrap().stack_request(operation, &situation);
    }
}
