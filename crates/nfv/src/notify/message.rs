//! Bodies of notifications (SOL003, 5.5.2.17 to 5.5.2.19). The same event has the same body and the same id, however often it is sent.

use drystone_api::nfv::{VnfLcmOperation, VnfSubscription};
use drystone_sol003::{
    types::{ApiVersion, LccnVerbosity, LcmOperationState, LcmOperationType},
    version1::downgrade_operation,
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    API_VERSION_ANNOTATION,
    events::{Event, What, state_of},
};
use crate::render::path_of;

/// By which version of the API somebody subscribed.
fn version_of(subscription: &VnfSubscription) -> ApiVersion {
    match subscription.annotations().get(API_VERSION_ANNOTATION).map(String::as_str) {
        Some("v1") => ApiVersion::V1,
        _ => ApiVersion::V2,
    }
}

/// The body for a subscriber; `endpoint` is how links begin.
pub(super) fn body(event: &Event, subscription: &VnfSubscription, endpoint: &str) -> Value {
    let subscriber = subscription.uid().unwrap_or_default();
    let name = format!("{subscriber}/{}/{}", event.key.subject, event.key.sequence);
    let version = version_of(subscription);
    let at = |path: String| json!({"href": format!("{endpoint}{}{path}", path_of(version))});
    let mut links = json!({"vnfInstance": at(format!("/vnf_instances/{}", event.instance_id)),
        "subscription": at(format!("/subscriptions/{subscriber}"))});
    let mut body = json!({
        "id": Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        "notificationType": event.kind(),
        "subscriptionId": subscriber,
        "timeStamp": event.key.time.to_string(),
        "vnfInstanceId": event.instance_id,
    });
    if let What::Entered(operation, index) = &event.what {
        links["vnfLcmOpOcc"] = at(format!("/vnf_lcm_op_occs/{}", event.key.subject));
        let verbosity =
            if version == ApiVersion::V1 { LccnVerbosity::Full } else { subscription.spec.verbosity };
        occurrence(&mut body, operation, *index, verbosity);
        if version == ApiVersion::V2 {
            body["verbosity"] = json!(verbosity);
        } else {
            body = downgrade_operation(body);
        }
    }
    body["_links"] = links;
    body
}

fn occurrence(body: &mut Value, operation: &VnfLcmOperation, index: usize, verbosity: LccnVerbosity) {
    let state = state_of(operation, index);
    let starts = state == LcmOperationState::Starting
        || (operation.spec.operation == LcmOperationType::ModifyInfo
            && state == LcmOperationState::Processing);
    body["notificationStatus"] = json!(if starts { "START" } else { "RESULT" });
    body["operationState"] = json!(state);
    body["operation"] = json!(operation.spec.operation);
    body["isAutomaticInvocation"] = json!(operation.spec.is_automatic_invocation);
    body["vnfLcmOpOccId"] = json!(operation.uid().unwrap_or_default());
    let Some(status) = &operation.status else { return };
    let failed = matches!(
        state,
        LcmOperationState::FailedTemp | LcmOperationState::Failed | LcmOperationState::RolledBack
    );
    let entered = status.transitions.get(index);
    let error = entered.and_then(|entered| entered.error.as_ref()).or(status.error.as_ref());
    if let Some(error) = error.filter(|_| failed) {
        body["error"] = json!(error);
    }
    // What changed is known when it is over; earlier changes of state say nothing of it, even if they are told late.
    let is_result = failed || state == LcmOperationState::Completed;
    if verbosity == LccnVerbosity::Short || !is_result {
        return;
    }
    if let Some(changes) = &status.resource_changes
        && let Ok(Value::Object(changes)) = serde_json::to_value(changes)
        && let Value::Object(body) = body
    {
        body.extend(changes);
    }
    if !status.changed_info.is_empty() {
        let told: Map<String, Value> = drystone_sol003::secrets::mask_object(&status.changed_info).0;
        body["changedInfo"] = Value::Object(told);
    }
    if !status.changed_ext_connectivity.is_empty() {
        body["changedExtConnectivity"] = json!(status.changed_ext_connectivity);
    }
}
