//! What tests use: the seed's sample request, and the package it is about.

use drystone_api::ObjectReference;
use drystone_sol003::types::LcmOperationType;
use serde_json::{Value, json};

use crate::model::{ConnectionPoint, Member, Situation, Topology, Vnfc};

/// `k8s_cluster_installation_param` of the seed's sample, without its passwords.
pub(crate) fn seed_parameters() -> Value {
    let node = |aspect: &str, cp: &str| json!({"aspect_id": aspect, "ssh_cp_name": cp, "nic_cp_name": cp, "username": "ubuntu"});
    let mut master = node("master_instance", "masterNode_CP1");
    master["pod_cidr"] = json!("192.168.3.0/16");
    master["cluster_cidr"] = json!("10.199.187.0/24");
    master["cluster_cp_name"] = json!("masterNode_CP1");
    let export =
        |number: u32| json!({"export_dir": format!("/volume/nfs/pv{number}"), "export_to": "10.10.0.0/24"});
    let manifest = |number: u32| json!({"pv_manifest_file_path": format!("Files/kubernetes/nfs-pv{number}.yaml"), "nfs_server_cp": "storage_server_CP"});
    json!({
        "script_path": "Scripts/install_k8s_cluster.sh",
        "vim_name": "kubernetes_vim",
        "master_node": master,
        "worker_node": node("worker_instance", "workerNode_CP2"),
        "proxy": {
            "http_proxy": "http://user1:password1@host1:port1",
            "https_proxy": "https://user2:password2@host2:port2",
            "no_proxy": "192.168.246.0/24,10.0.0.1",
            "k8s_node_cidr": "10.10.0.0/24"
        },
        "storage_server": {
            "ssh_cp_name": "storage_server_CP",
            "username": "ubuntu",
            "cinder_volume_setup_params": [{"volume_resource_id": "storage_server_volume", "mount_to": "/volume"}],
            "nfs_server_setup_params": [export(1), export(2), export(3)]
        },
        "pv_registration_params": [manifest(1), manifest(2), manifest(3)]
    })
}

/// The package's flavour.
pub(crate) fn topology() -> Topology {
    let cp = |vdu: Option<&str>| ConnectionPoint { vdu: vdu.map(str::to_owned), virtual_link: None };
    Topology {
        vdus: [
            ("masterNode".to_owned(), Vec::new()),
            ("workerNode".to_owned(), Vec::new()),
            ("storage_server".to_owned(), vec!["storage_server_volume".to_owned()]),
        ]
        .into(),
        connection_points: [
            ("masterNode_CP1".to_owned(), cp(Some("masterNode"))),
            ("workerNode_CP2".to_owned(), cp(Some("workerNode"))),
            ("storage_server_CP".to_owned(), cp(Some("storage_server"))),
            ("vip_CP".to_owned(), cp(None)),
        ]
        .into(),
        aspects: [
            ("master_instance".to_owned(), vec!["masterNode".to_owned()]),
            ("worker_instance".to_owned(), vec!["workerNode".to_owned()]),
        ]
        .into(),
        ..Topology::default()
    }
}

/// The places of a cluster of so many control planes and workers, and its storage server.
pub(crate) fn places(masters: u32, workers: u32) -> Vec<Member> {
    let of = |vdu: &str, count: u32| {
        (0..count).map(|index| Member { vdu: vdu.to_owned(), index }).collect::<Vec<_>>()
    };
    [of("masterNode", masters), of("storage_server", 1), of("workerNode", workers)].concat()
}

/// VNFCs at these places.
pub(crate) fn vnfcs(places: &[Member]) -> Vec<Vnfc> {
    let vnfc = |member: &Member| Vnfc {
        member: member.clone(),
        server: format!("id-{}-{}", member.vdu, member.index),
        ..Vnfc::default()
    };
    places.iter().map(vnfc).collect()
}

/// An operation on such a cluster.
pub(crate) fn situation(operation: LcmOperationType, before: &[Member], after: &[Member]) -> Situation {
    let reference = |kind: &str, name: &str| ObjectReference {
        api_version: "nfv.drystone.dev/v1alpha1".into(),
        kind: kind.into(),
        namespace: "drystone-system".into(),
        name: name.into(),
        uid: format!("uid-of-{name}"),
    };
    let parameters = json!({"k8s_cluster_installation_param": seed_parameters()});
    let instantiates = operation == LcmOperationType::Instantiate;
    Situation {
        instance: reference("VnfInstance", "vnf-1"),
        occurrence: reference("VnfLcmOperation", "op-1"),
        operation,
        package: "package-uid".into(),
        flavour: "simple".into(),
        topology: topology(),
        parameters: if instantiates { json!({"additionalParams": parameters}) } else { json!({}) },
        instantiated_with: if instantiates {
            serde_json::Map::new()
        } else {
            parameters.as_object().cloned().unwrap_or_default()
        },
        before: vnfcs(before),
        after: after.to_vec(),
        inventory: "inventory".into(),
        inventory_before: (!before.is_empty()).then(|| "inventory-before".into()),
        ..Situation::default()
    }
}
