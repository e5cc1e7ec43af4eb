//! Controllers that do what the VNF manager and the onboarding of packages do to objects, and nothing to the world.
//!
//! Operations on instances whose name contains `fails` fail until they are retried; those on instances whose name contains `slow` stay in
//! PROCESSING until they are cancelled.

use drystone_api::nfv::{
    OperationStateTransition, VnfInstance, VnfLcmOperation, VnfLcmOperationStatus, VnfPackage,
    VnfPackageStatus,
};
use drystone_sol003::types::{
    Checksum, InstantiationState, LcmOperationState, LcmOperationType, PackageOnboardingState,
    PackageUsageState, ProblemDetails,
};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::{
    Api, Client, ResourceExt as _,
    api::PostParams,
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::{Value, json};

pub(crate) const VNFD: &str = "b1bb0ce7-ebca-4fa7-95ed-4840d70a1177";

/// Takes packages in: those that begin with `PK`.
pub(crate) async fn onboard(client: Client) {
    let all: Api<VnfPackage> = Api::all(client.clone());
    let mut changed = std::pin::pin!(watcher(all, watcher::Config::default()).applied_objects());
    while let Some(package) = changed.next().await {
        let Ok(package) = package else { continue };
        let Some(content) = package.spec.content.clone() else { continue };
        let status = package.status.clone().unwrap_or_default();
        if status.observed_upload == Some(content.upload) {
            continue;
        }
        let mut next =
            VnfPackageStatus { observed_upload: Some(content.upload), ..VnfPackageStatus::default() };
        if content.length > 10 {
            next.onboarding_state = PackageOnboardingState::Onboarded;
            next.vnfd_id = Some(VNFD.to_owned());
            next.vnf_provider = Some("Company".to_owned());
            next.vnf_product_name = Some("Sample".to_owned());
            next.vnf_software_version = Some("1.0".to_owned());
            next.vnfd_version = Some("1.0".to_owned());
            next.checksum = Some(Checksum { algorithm: "sha-256".to_owned(), hash: content.sha256.clone() });
            next.usage_state = PackageUsageState::NotInUse;
        } else {
            next.onboarding_failure = Some(ProblemDetails {
                status: 400,
                detail: "TOSCA-Metadata/TOSCA.meta is missing".to_owned(),
                ..ProblemDetails::default()
            });
        }
        let mut package = package.clone();
        package.status = Some(next);
        let packages: Api<VnfPackage> = Api::namespaced(client.clone(), &package.namespace().unwrap());
        let _ = packages.replace_status(&package.name_any(), &PostParams::default(), &package).await;
    }
}

/// Carries operations out.
pub(crate) async fn carry_out(client: Client) {
    let all: Api<VnfLcmOperation> = Api::all(client.clone());
    let mut changed = std::pin::pin!(watcher(all, watcher::Config::default()).applied_objects());
    while let Some(operation) = changed.next().await {
        let Ok(operation) = operation else { continue };
        let instances: Api<VnfInstance> = Api::namespaced(client.clone(), &operation.namespace().unwrap());
        let Ok(Some(instance)) = instances.get_opt(&operation.spec.instance).await else { continue };
        // Only what has taken the instance begins.
        let held = instance.status.as_ref().and_then(|status| status.operation.clone());
        if held.as_deref() != Some(&operation.name_any()) {
            again_later(&client, &operation).await;
            continue;
        }
        step(&client, operation, instance).await;
    }
}

/// The instance is taken after the operation is written: it is looked at again.
async fn again_later(client: &Client, operation: &VnfLcmOperation) {
    let state = operation.status.as_ref().map(|status| status.operation_state).unwrap_or_default();
    if state.is_final() {
        return;
    }
    let (client, operation) = (client.clone(), operation.clone());
    tokio::spawn(async move {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let operations: Api<VnfLcmOperation> =
            Api::namespaced(client.clone(), &operation.namespace().unwrap());
        if let Ok(Some(mut now)) = operations.get_opt(&operation.name_any()).await
            && now.status.is_none()
        {
            now.annotations_mut().insert("looked-at".to_owned(), Timestamp::now().to_string());
            let _ = operations.replace(&now.name_any(), &PostParams::default(), &now).await;
        }
    });
}

fn enter(status: &mut VnfLcmOperationStatus, state: LcmOperationState, error: Option<&str>) {
    let now = MicroTime(Timestamp::now());
    let error = error.map(|detail| ProblemDetails {
        status: 500,
        detail: detail.to_owned(),
        ..ProblemDetails::default()
    });
    status.operation_state = state;
    status.state_entered_time = Some(now.clone());
    status.start_time.get_or_insert(now.clone());
    status.error.clone_from(&error);
    let sequence = u32::try_from(status.transitions.len()).unwrap() + 1;
    status.transitions.push(OperationStateTransition { sequence, state, time: Some(now), error });
}

async fn step(client: &Client, mut operation: VnfLcmOperation, instance: VnfInstance) {
    use LcmOperationState::{Completed, Failed, FailedTemp, Processing, RolledBack, RollingBack, Starting};
    let name = instance.spec.vnf_instance_name.clone().unwrap_or_default();
    let spec = operation.spec.clone();
    let is_new = operation.status.is_none();
    let status = operation.status.get_or_insert_default();
    match status.operation_state {
        Starting if is_new => enter(status, Starting, None),
        Starting => enter(status, Processing, None),
        Processing if spec.cancel.is_some() => enter(status, FailedTemp, Some("cancelled")),
        Processing if name.contains("slow") => return,
        Processing if name.contains("fails") && spec.retries == 0 => {
            enter(status, FailedTemp, Some("the stack failed"));
        }
        Processing => enter(status, Completed, None),
        FailedTemp if spec.fail => enter(status, Failed, Some("given up")),
        FailedTemp if spec.rollbacks > status.observed_rollbacks => {
            status.observed_rollbacks = spec.rollbacks;
            enter(status, RollingBack, None);
        }
        FailedTemp if spec.retries > status.observed_retries => {
            status.observed_retries = spec.retries;
            enter(status, Processing, None);
        }
        RollingBack => enter(status, RolledBack, None),
        _ => return,
    }
    let state = status.operation_state;
    if state.is_final() {
        release(client, &operation, instance, state == Completed).await;
    }
    let operations: Api<VnfLcmOperation> = Api::namespaced(client.clone(), &operation.namespace().unwrap());
    let _ = operations.replace_status(&operation.name_any(), &PostParams::default(), &operation).await;
}

/// Gives the instance back, changed if the operation succeeded.
async fn release(client: &Client, operation: &VnfLcmOperation, mut instance: VnfInstance, succeeded: bool) {
    let instances: Api<VnfInstance> = Api::namespaced(client.clone(), &instance.namespace().unwrap());
    let status = instance.status.get_or_insert_default();
    status.operation = None;
    match operation.spec.operation {
        LcmOperationType::Instantiate if succeeded => {
            status.instantiation_state = InstantiationState::Instantiated;
            status.instantiated_vnf_info = serde_json::from_value(info()).ok();
            let given = operation.spec.parameters.get("vimConnectionInfo").cloned().unwrap_or(json!({}));
            status.vim_connection_info = serde_json::from_value(given).unwrap();
        }
        LcmOperationType::Terminate if succeeded => {
            status.instantiation_state = InstantiationState::NotInstantiated;
            status.instantiated_vnf_info = None;
            status.vim_connection_info.clear();
        }
        _ => {}
    }
    instances.replace_status(&instance.name_any(), &PostParams::default(), &instance).await.unwrap();
}

fn info() -> Value {
    json!({"flavourId": "simple", "vnfState": "STARTED", "scaleStatus": [{"aspectId": "worker", "scaleLevel": 0}],
        "maxScaleLevels": [{"aspectId": "worker", "scaleLevel": 3}],
        "vnfcResourceInfo": [
            {"id": "res-1", "vduId": "VDU1", "computeResource": {"resourceId": "server-1"}},
            {"id": "res-2", "vduId": "VDU2", "computeResource": {"resourceId": "server-2"}}],
        "vnfcInfo": [
            {"id": "VDU1-res-1", "vduId": "VDU1", "vnfcResourceInfoId": "res-1", "vnfcState": "STARTED"},
            {"id": "VDU2-res-2", "vduId": "VDU2", "vnfcResourceInfoId": "res-2", "vnfcState": "STARTED"}]})
}
