//! A container network function with a persistent volume: made, scaled, healed, ended.

use drystone_sol003::types::{LcmOperationState, LcmOperationType};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Service},
};
use kube::{Api, ResourceExt, api::PostParams};
use serde_json::{Value, json};

use crate::cluster::{Lab, eventually};

fn instantiation() -> Value {
    json!({
        "flavourId": "simple",
        "instantiationLevelId": "two",
        "additionalParams": {"lcm-kubernetes-def-files": ["Files/kubernetes/storage.yaml", "Files/kubernetes/web.yaml"]},
    })
}

async fn volume(lab: &Lab) {
    let volumes: Api<PersistentVolume> = Api::all(lab.client.clone());
    let volume = json!({"metadata": {"name": "pv1"}, "spec": {
        "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"], "persistentVolumeReclaimPolicy": "Retain",
        "nfs": {"server": "192.0.2.9", "path": "/volume/pv1"},
    }});
    volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_is_made_scaled_healed_and_ended() {
    let lab = Lab::start().await;
    volume(&lab).await;
    lab.instance("web").await;
    lab.must("web", LcmOperationType::Instantiate, instantiation()).await;
    let pods = lab.pods().await;
    assert_eq!(pods.len(), 2, "{pods:?}");
    let mut expected: Vec<String> = pods.iter().map(|pod| format!("VDU1-{pod}")).collect();
    expected.sort();
    let mut components = lab.components("web").await;
    components.sort();
    assert_eq!(components, expected, "VNFCs are pods, by their names");
    let claim = lab.api::<PersistentVolumeClaim>().get("web-data").await.unwrap();
    assert_eq!(claim.spec.unwrap().volume_name.as_deref(), Some("pv1"));

    let scale = |kind: &str| json!({"type": kind, "aspectId": "web_servers", "numberOfSteps": 1});
    lab.must("web", LcmOperationType::Scale, scale("SCALE_OUT")).await;
    assert_eq!(lab.pods().await.len(), 3);
    assert!(
        pods.iter().all(|pod| futures::executor::block_on(lab.pods()).contains(pod)),
        "those before stay"
    );
    lab.must("web", LcmOperationType::Scale, scale("SCALE_IN")).await;
    assert_eq!(lab.pods().await.len(), 2);

    let before = lab.pods().await;
    let victim = format!("VDU1-{}", before[0]);
    lab.must("web", LcmOperationType::Heal, json!({"vnfcInstanceId": [victim]})).await;
    let after = lab.pods().await;
    assert!(!after.contains(&before[0]) && after.contains(&before[1]), "{before:?} became {after:?}");
    assert!(!lab.components("web").await.contains(&victim));

    let vim = lab.api::<drystone_api::nfv::Vim>().get("cluster").await.unwrap().status.unwrap();
    assert_eq!(vim.state, drystone_api::nfv::VimState::Active);
    assert!(vim.regions.contains(&"default".to_owned()), "{vim:?}");

    lab.must("web", LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    assert!(lab.pods().await.is_empty());
    assert!(lab.api::<Deployment>().get_opt("web").await.unwrap().is_none());
    assert!(lab.api::<Service>().get_opt("web").await.unwrap().is_none());
    assert!(lab.api::<PersistentVolumeClaim>().get_opt("web-data").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_others_is_left_alone_and_a_roll_back_leaves_nothing() {
    let lab = Lab::start().await;
    volume(&lab).await;
    // Somebody has a Service of that name.
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 1}]}});
    let service =
        lab.api::<Service>().create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await;
    let theirs = service.unwrap().uid();
    lab.instance("web").await;
    let failed = lab.operate("web", LcmOperationType::Instantiate, instantiation()).await;
    let status = failed.status.clone().unwrap();
    assert_eq!(status.operation_state, LcmOperationState::FailedTemp);
    assert!(status.error.unwrap().detail.contains("does not belong to this VNF"));
    let operations = lab.api::<drystone_api::nfv::VnfLcmOperation>();
    let order = kube::api::Patch::Merge(json!({"spec": {"rollbacks": 1}}));
    operations.patch(&failed.name_any(), &kube::api::PatchParams::default(), &order).await.unwrap();
    eventually("the roll-back", async || {
        let now = operations.get(&failed.name_any()).await.unwrap();
        (now.status.unwrap().operation_state == LcmOperationState::RolledBack).then_some(())
    })
    .await;
    assert!(lab.api::<PersistentVolumeClaim>().get_opt("web-data").await.unwrap().is_none());
    assert_eq!(lab.api::<Service>().get("web").await.unwrap().uid(), theirs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_makes_no_sense_changes_nothing() {
    let lab = Lab::start().await;
    lab.instance("web").await;
    for (change, said) in [
        (json!({"lcm-kubernetes-def-files": ["Files/none.yaml"]}), "Files/none.yaml"),
        (json!({"lcm-kubernetes-def-files": ["Files/kubernetes/storage.yaml"]}), "VDU1"),
        (json!({}), "lcm-kubernetes-def-files"),
    ] {
        let mut request = instantiation();
        request["additionalParams"] = change;
        let refused = lab.operate("web", LcmOperationType::Instantiate, request).await.status.unwrap();
        assert_eq!(refused.operation_state, LcmOperationState::RolledBack);
        assert!(refused.error.as_ref().unwrap().detail.contains(said), "{:?}", refused.error);
    }
    assert!(lab.api::<ConfigMap>().get_opt("none").await.unwrap().is_none());
    assert!(lab.api::<Deployment>().get_opt("web").await.unwrap().is_none());
    assert!(!lab.package.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chart_is_a_function_too() {
    let has_helm = std::process::Command::new("helm")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_helm {
        println!("skipped: needs helm");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let lab = Lab::start().await;
    volume(&lab).await;
    lab.instance("web").await;
    let request = json!({
        "flavourId": "simple",
        "instantiationLevelId": "two",
        "additionalParams": {
            "helm_chart_path": "Files/charts/web",
            "helm_value_names": {"VDU1": {"replica": "replicaCount"}},
            "helm_parameters": ["storage=512Mi"],
        },
    });
    lab.must("web", LcmOperationType::Instantiate, request).await;
    let pods = lab.pods().await;
    assert_eq!(pods.len(), 2);
    let claims = lab.api::<PersistentVolumeClaim>().list(&kube::api::ListParams::default()).await.unwrap();
    let asked = serde_json::to_value(&claims.items[0].spec).unwrap();
    assert_eq!(asked["resources"]["requests"]["storage"], "512Mi");
    let scale = json!({"type": "SCALE_OUT", "aspectId": "web_servers", "numberOfSteps": 1});
    lab.must("web", LcmOperationType::Scale, scale).await;
    assert_eq!(lab.pods().await.len(), 3);
    assert_eq!(lab.components("web").await.len(), 3);
    let victim = format!("VDU1-{}", pods[0]);
    lab.must("web", LcmOperationType::Heal, json!({"vnfcInstanceId": [victim]})).await;
    let after = lab.pods().await;
    assert!(!after.contains(&pods[0]) && after.len() == 3, "{after:?}");
    lab.must("web", LcmOperationType::Terminate, json!({"terminationType": "FORCEFUL"})).await;
    assert!(lab.pods().await.is_empty());
    assert!(lab.api::<Deployment>().list(&kube::api::ListParams::default()).await.unwrap().items.is_empty());
}
