//! `VnfLcmOpOcc` (SOL003, 5.5.2.13).

use drystone_api::nfv::VnfLcmOperation;
use drystone_engine::reference::ObjectKey;
use drystone_sol003::{
    types::{ApiVersion, LcmOperationState, ResourceChanges},
    version1::downgrade_operation,
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::{Around, Members, link, path_of};
use crate::{feed::Shown, routes::Verdict};

/// Label of an operation: uid of its instance, which is known even when that is gone.
pub(crate) const INSTANCE_UID_LABEL: &str = "nfv.drystone.dev/vnf-instance-uid";

impl Shown for VnfLcmOperation {
    const WHAT: &'static str = "operation occurrence";
    const DEFAULT_EXCLUDED: &'static [&'static str] =
        &["operationParams", "error", "resourceChanges", "changedInfo", "changedExtConnectivity"];
    const INDEX: &'static [&'static str] = &["operationState", "operation", "vnfInstanceId"];

    fn indexed(&self) -> Vec<(&'static str, String)> {
        let name =
            |value: Result<Value, _>| value.ok().and_then(|value: Value| value.as_str().map(str::to_owned));
        let state = self.status.as_ref().map(|status| status.operation_state).unwrap_or_default();
        let (state, operation): (Result<_, serde_json::Error>, _) =
            (serde_json::to_value(state), serde_json::to_value(self.spec.operation));
        let values = [
            ("operationState", name(state)),
            ("operation", name(operation)),
            ("vnfInstanceId", self.labels().get(INSTANCE_UID_LABEL).cloned()),
        ];
        values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn body(&self, around: &Around, version: ApiVersion) -> Value {
        let status = self.status.clone().unwrap_or_default();
        let id = self.metadata.uid.clone().unwrap_or_default();
        let instance = instance_id(self, around);
        let created = self.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        let started = status.start_time.as_ref().map(|time| time.0.to_string()).or(created);
        let entered = status.state_entered_time.as_ref().map(|time| time.0.to_string());
        let mut body = Members::default();
        body.put("id", &id);
        body.put("operationState", status.operation_state);
        body.put_some("stateEnteredTime", entered.or_else(|| started.clone()));
        body.put_some("startTime", started);
        body.put("vnfInstanceId", &instance);
        body.put_some("grantId", status.grant_id.as_ref());
        body.put("operation", self.spec.operation);
        body.put("isAutomaticInvocation", self.spec.is_automatic_invocation);
        body.put("operationParams", Value::Object(Map::new()));
        body.put_told("operationParams", &self.spec.parameters);
        let is_pending = self.spec.cancel.is_some() && may_be(Verdict::Cancel, status.operation_state);
        body.put("isCancelPending", is_pending);
        body.put_some("cancelMode", self.spec.cancel.filter(|_| is_pending));
        body.put_some("error", status.error.as_ref());
        let changes = status.resource_changes.as_ref().filter(|changes| !changes.is_empty());
        body.put_some("resourceChanges", changes.map(told_changes));
        body.put_told("changedInfo", &status.changed_info);
        if !status.changed_ext_connectivity.is_empty() {
            body.put("changedExtConnectivity", &status.changed_ext_connectivity);
        }
        body.put_told(
            "modificationsTriggeredByVnfPkgChange",
            &status.modifications_triggered_by_vnf_pkg_change,
        );
        // Not of the specification, which lets clients ignore what they do not know.
        body.put_some("progress", status.progress.as_ref());
        body.put("_links", links(&id, &instance, status.operation_state, version));
        match version {
            ApiVersion::V1 => downgrade_operation(body.finish()),
            ApiVersion::V2 => body.finish(),
        }
    }
}

/// Identifier of the instance that an operation is about; empty if nobody knows.
pub(crate) fn instance_id(operation: &VnfLcmOperation, around: &Around) -> String {
    if let Some(uid) = operation.labels().get(INSTANCE_UID_LABEL) {
        return uid.clone();
    }
    let key = ObjectKey::new(operation.namespace().unwrap_or_default(), &operation.spec.instance);
    around.instances.get(&key).and_then(|instance| instance.metadata.uid.clone()).unwrap_or_default()
}

/// Changes without what is secret in the metadata of components.
fn told_changes(changes: &ResourceChanges) -> ResourceChanges {
    let mut changes = changes.clone();
    for vnfc in &mut changes.affected_vnfcs {
        vnfc.metadata = drystone_sol003::secrets::mask_object(&vnfc.metadata).0;
    }
    changes
}

/// Whether something can be said of an operation in a state (reference: state machine of SOL003, 5.6.2).
pub(crate) const fn may_be(verdict: Verdict, state: LcmOperationState) -> bool {
    match verdict {
        Verdict::Retry | Verdict::Rollback | Verdict::Fail => matches!(state, LcmOperationState::FailedTemp),
        Verdict::Cancel => matches!(
            state,
            LcmOperationState::Starting | LcmOperationState::Processing | LcmOperationState::RollingBack
        ),
    }
}

fn links(id: &str, instance: &str, state: LcmOperationState, version: ApiVersion) -> Value {
    let root = path_of(version);
    let own = format!("{root}/vnf_lcm_op_occs/{id}");
    let mut links =
        json!({"self": link(&own), "vnfInstance": link(&format!("{root}/vnf_instances/{instance}"))});
    for (name, verdict) in [
        ("retry", Verdict::Retry),
        ("rollback", Verdict::Rollback),
        ("fail", Verdict::Fail),
        ("cancel", Verdict::Cancel),
    ] {
        if may_be(verdict, state) {
            links[name] = link(&format!("{own}/{name}"));
        }
    }
    links
}
