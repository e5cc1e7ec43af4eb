//! What requests would do.

use drystone_csar::preview::{Before, preview};
use serde_json::json;

use crate::{
    packages::{example, good, two_flavours},
    requests::seed_request,
};

#[test]
fn the_seeds_request_fits_the_example() {
    let package = good(&example());
    let look = preview(&package, &seed_request(), &Before::default()).unwrap();
    assert_eq!(look.unknown, Vec::<String>::new());
    let machines: Vec<_> =
        look.machines.iter().map(|(vdu, machines)| (vdu.as_str(), machines.before, machines.after)).collect();
    assert_eq!(machines, [("masterNode", 0, 1), ("storage_server", 0, 1), ("workerNode", 0, 2)]);
    let hooks: Vec<_> = look.hooks.iter().map(|hook| (hook.name.as_str(), hook.hook.file.as_str())).collect();
    assert_eq!(hooks, [("instantiate_end", "Scripts/kubernetes_mgmt.py")]);
    assert_eq!((look.operation, look.user_data_class.as_str()), ("INSTANTIATE", "KubernetesClusterUserData"));
    assert!(look.stack_request.unwrap().parameters.contains_key("nfv"));
}

#[test]
fn what_the_package_does_not_have_is_told_with_its_place() {
    let package = good(&example());
    let mut request = seed_request();
    request["extVirtualLinks"][1]["extCps"][0]["cpdId"] = json!("workerNode_CP9");
    let cluster = &mut request["additionalParams"]["k8s_cluster_installation_param"];
    cluster["script_path"] = json!("Scripts/none.sh");
    cluster["master_node"]["aspect_id"] = json!("masters");
    cluster["storage_server"]["cinder_volume_setup_params"][0]["volume_resource_id"] = json!("volume");
    cluster["pv_registration_params"][2]["pv_manifest_file_path"] = json!("../nfs-pv3.yaml");
    cluster["pv_registration_params"][1]["nfs_server_cp"] = json!("nobody");
    let unknown = preview(&package, &request, &Before::default()).unwrap().unknown;
    let cluster = "additionalParams.k8s_cluster_installation_param";
    assert_eq!(unknown.len(), 6, "{unknown:#?}");
    assert!(unknown[0].starts_with("extVirtualLinks[1].extCps[0].cpdId: the flavour `simple` has no connection point `workerNode_CP9`; it has `masterNode_CP1`"));
    assert_eq!(unknown[1], format!("{cluster}.script_path: the package has no file `Scripts/none.sh`"));
    assert!(unknown[2].starts_with(&format!(
        "{cluster}.master_node.aspect_id: the flavour `simple` has no group `masters`"
    )));
    assert!(
        unknown[3].starts_with(&format!(
            "{cluster}.storage_server.cinder_volume_setup_params[0].volume_resource_id"
        ))
    );
    assert!(unknown[4].starts_with(&format!("{cluster}.pv_registration_params[1].nfs_server_cp")));
    assert!(unknown[5].starts_with(&format!("{cluster}.pv_registration_params[2].pv_manifest_file_path")));
}

#[test]
fn scaling() {
    let package = good(&example());
    let before =
        |level: Option<&str>| Before { flavour: Some("simple".to_owned()), level: level.map(str::to_owned) };
    let mut request = json!({"type": "SCALE_OUT", "aspectId": "worker_instance", "numberOfSteps": 2});
    request["additionalParams"] = json!({"lcm-operation-user-data": "UserData/k8s_cluster_user_data.py", "lcm-operation-user-data-class": "KubernetesClusterUserData"});
    let look = preview(&package, &request, &before(None)).unwrap();
    assert_eq!((look.machines["workerNode"].before, look.machines["workerNode"].after), (2, 4));
    assert_eq!(look.scale["worker_instance"], 2);
    assert_eq!(
        look.hooks.iter().map(|hook| hook.name.as_str()).collect::<Vec<_>>(),
        ["scale_start", "scale_end"]
    );
    let template = look.stack_request.unwrap().template.unwrap();
    assert!(template.contains(r#""worker_instance":{"properties":{"desired_capacity":4}}"#), "{template}");
    let error = preview(&package, &request, &before(Some("instantiation_level_2"))).unwrap_err().to_string();
    assert!(error.contains("leads out of its levels, 0 to 2"), "{error}");
    request["type"] = json!("SCALE_IN");
    assert_eq!(
        preview(&package, &request, &before(Some("instantiation_level_2"))).unwrap().machines["workerNode"]
            .after,
        2
    );
    for (wrong, part) in [
        (json!({"aspectId": "worker_instance"}), "`type` is"),
        (json!({"aspectId": "worker_instance", "type": "SCALE_OUT", "numberOfSteps": -1}), "`numberOfSteps`"),
        (json!({"aspectId": "x", "type": "SCALE_OUT"}), "no scaling aspect `x`"),
        (json!({"cause": "x"}), "neither a `flavourId`"),
        (json!({"flavourId": "huge"}), "no flavour `huge`"),
        (json!({"flavourId": "simple", "instantiationLevelId": "vast"}), "no instantiation level `vast`"),
    ] {
        let error = preview(&package, &wrong, &before(None)).unwrap_err().to_string();
        assert!(error.contains(part), "{wrong}: {error}");
    }
}

#[test]
fn a_class_that_is_not_built_in_leaves_the_rest() {
    let package = good(&two_flavours());
    let request = json!({"flavourId": "groups"});
    assert!(preview(&package, &request, &Before::default()).unwrap().unknown.is_empty());
    let package = good(&example());
    let mut request = seed_request();
    request["additionalParams"]["lcm-operation-user-data-class"] = json!("Other");
    let look = preview(&package, &request, &Before::default()).unwrap();
    assert!(
        look.stack_request.is_none() && look.unknown[0].contains("`Other` is not built in"),
        "{:?}",
        look.unknown
    );
}
