//! What happens when the engine is done: the instance is written, then the occurrence.

use std::{collections::BTreeMap, time::Duration};

use drystone_api::{
    Operation, OperationPhase,
    nfv::{
        PARAMETERS_KEY, VIM_CONNECTION_KEY, VNF_INSTANCE_LABEL, VnfInstance, VnfInstanceStatus,
        VnfLcmOperation,
    },
};
use drystone_engine::{
    harness::{Requeue, update_status},
    operations,
    reference::{ObjectKey, is_conflict, is_not_found, owner_reference, reference_to},
};
use drystone_sol003::types::{
    KeyValuePairs, LcmOperationState, LcmOperationType, ProblemDetails, ResourceChanges,
};
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Map, Value, json};

use super::{
    Failure,
    occurrences::{Occurrences, engine_name, state_of},
    prepare::Ground,
};
use crate::{
    model::Problem,
    plan::{changes, completion, operation::refresh, state},
};

/// After a failure to read what there is, it is tried again.
const REFRESH_AGAIN: Duration = Duration::from_secs(10);

/// What can be modified of an instance's information.
const MODIFIABLE: [&str; 5] =
    ["vnfInstanceName", "vnfInstanceDescription", "metadata", "extensions", "vnfConfigurableProperties"];

impl Occurrences {
    /// Writes down that it is done, and what it changed.
    pub(super) async fn complete(
        &self,
        occurrence: &VnfLcmOperation,
        engine: Option<&Operation>,
    ) -> Result<(), Failure> {
        let api: Api<VnfInstance> =
            Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default());
        // Read anew: what is written down of changes must not come from an outdated copy.
        let instance = match api.get(&occurrence.spec.instance).await {
            Ok(instance) => instance,
            Err(error) if is_not_found(&error) => {
                return self.done(occurrence, None, engine, &VnfInstanceStatus::default()).await;
            }
            Err(error) => return Err(error.into()),
        };
        let holds = |instance: &VnfInstance| {
            instance.status.as_ref().and_then(|status| status.operation.as_deref())
                == Some(&occurrence.name_any())
        };
        if !holds(&instance) {
            // Written before a crash: only the occurrence itself is missing.
            let status = instance.status.clone().unwrap_or_default();
            return self.done(occurrence, Some(&instance), engine, &status).await;
        }
        let ground = match self.ground(occurrence, instance.clone().into()) {
            Ok(ground) => ground,
            Err(problem) => return self.cannot_complete(occurrence, &problem).await,
        };
        let mut after = match completion::completed(&self.order(occurrence, &ground), engine) {
            Ok(after) => after,
            Err(problem) => return self.cannot_complete(occurrence, &problem).await,
        };
        match occurrence.spec.operation {
            LcmOperationType::Instantiate => {
                after.credentials = self.keep_secrets(occurrence, &instance).await?;
            }
            LcmOperationType::ModifyInfo => modify_components(occurrence, &mut after),
            _ => {}
        }
        self.change_specification(occurrence, &instance, &ground, &mut after).await?;
        let name = occurrence.name_any();
        let written = update_status(&api, &instance, |status| {
            if status.operation.as_deref() == Some(&name) {
                // Steps may have written host keys meanwhile: nodes that the plan does not name stay.
                *status = VnfInstanceStatus {
                    operation: None,
                    nodes: merged_nodes(status, &after),
                    ..after.clone()
                };
            }
        })
        .await?;
        if occurrence.spec.operation == LcmOperationType::Terminate {
            self.forget_secrets(&instance).await?;
        }
        self.done(occurrence, Some(&written), engine, &after).await
    }

    /// The engine did its part, and what it says makes no sense with what is here: somebody has to look at it.
    async fn cannot_complete(&self, occurrence: &VnfLcmOperation, problem: &Problem) -> Result<(), Failure> {
        let now = Timestamp::now();
        let error = ProblemDetails { status: 500, ..problem.details() };
        self.write(occurrence, |status| {
            let from = LcmOperationState::Processing;
            state::enter(status, from, LcmOperationState::FailedTemp, Some(error.clone()), now);
        })
        .await
    }

    async fn done(
        &self,
        occurrence: &VnfLcmOperation,
        instance: Option<&VnfInstance>,
        engine: Option<&Operation>,
        after: &VnfInstanceStatus,
    ) -> Result<(), Failure> {
        let operation = occurrence.spec.operation;
        let info = after.instantiated_vnf_info.clone().unwrap_or_default();
        let changed = engine.map(|engine| changes::changes(operation, &completion::before(engine), &info));
        let changed: Option<ResourceChanges> = changed.filter(|changed| !changed.is_empty());
        let now = Timestamp::now();
        let modified = modifications(occurrence);
        let by_package = (operation == LcmOperationType::ChangeVnfPackage)
            .then(|| instance.map(|instance| json!({"vnfdId": instance.spec.vnfd_id})))
            .flatten();
        self.write(occurrence, |status| {
            if !state::enter(status, LcmOperationState::Processing, LcmOperationState::Completed, None, now) {
                return;
            }
            status.resource_changes.clone_from(&changed);
            status.changed_info.clone_from(&modified);
            if operation == LcmOperationType::ChangeExtConn {
                let links = occurrence.spec.parameters.get("extVirtualLinks").cloned().unwrap_or_default();
                status.changed_ext_connectivity = serde_json::from_value(links).unwrap_or_default();
            }
            if let Some(Value::Object(changes)) = &by_package {
                status.modifications_triggered_by_vnf_pkg_change.clone_from(changes);
            }
            if let Some(progress) = &mut status.progress {
                progress.percent = 100;
                progress.remaining_seconds = None;
                progress.message = "done".to_owned();
            }
        })
        .await
    }

    /// What is modified of an instance, or by a change of its package, is in its specification.
    async fn change_specification(
        &self,
        occurrence: &VnfLcmOperation,
        instance: &VnfInstance,
        ground: &Ground,
        after: &mut VnfInstanceStatus,
    ) -> Result<(), Failure> {
        let patch = match occurrence.spec.operation {
            LcmOperationType::ModifyInfo => Value::Object(modifications(occurrence)),
            LcmOperationType::ChangeVnfPackage => {
                let package = ground.package_object.status.clone().unwrap_or_default();
                after.package = Some(ground.package_object.name_any());
                after.vnf_provider = package.vnf_provider;
                after.vnf_product_name = package.vnf_product_name;
                after.vnf_software_version = package.vnf_software_version;
                after.vnfd_version = package.vnfd_version;
                json!({"vnfdId": package.vnfd_id})
            }
            _ => return Ok(()),
        };
        if patch.as_object().is_none_or(Map::is_empty) {
            return Ok(());
        }
        let api: Api<VnfInstance> =
            Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"spec": patch}));
        api.patch(&instance.name_any(), &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Keeps what later operations need of the request's secrets in a Secret of the instance: its name.
    async fn keep_secrets(
        &self,
        occurrence: &VnfLcmOperation,
        instance: &VnfInstance,
    ) -> Result<Option<String>, Failure> {
        let Some(from) = &occurrence.spec.secret else { return Ok(None) };
        let secrets: Api<Secret> =
            Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default());
        let told = secrets.get(from).await?;
        let body = told.data.as_ref().and_then(|data| data.get(PARAMETERS_KEY));
        let body: Map<String, Value> =
            body.and_then(|bytes| serde_json::from_slice(&bytes.0).ok()).unwrap_or_default();
        let object = |name: &str| body.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let connections = object("vimConnectionInfo").into_iter().map(|(key, info)| {
            let access = info.get("accessInfo").cloned().unwrap_or_else(|| json!({}));
            (key, access)
        });
        let connections: Map<String, Value> = connections.collect();
        let bytes =
            |members: &Map<String, Value>| ByteString(serde_json::to_vec(members).unwrap_or_default());
        let name = secret_name(instance);
        let mut secret = Secret {
            data: Some(BTreeMap::from([
                (PARAMETERS_KEY.to_owned(), bytes(&object("additionalParams"))),
                (VIM_CONNECTION_KEY.to_owned(), bytes(&connections)),
            ])),
            ..Secret::default()
        };
        secret.metadata.name = Some(name.clone());
        secret.metadata.owner_references = Some(vec![owner_reference(&reference_to(instance))]);
        secret.metadata.labels = Some(BTreeMap::from([(VNF_INSTANCE_LABEL.to_owned(), instance.name_any())]));
        match secrets.create(&PostParams::default(), &secret).await {
            Err(error) if is_conflict(&error) => {
                let patch = Patch::Merge(json!({"data": secret.data}));
                secrets.patch(&name, &PatchParams::default(), &patch).await?;
            }
            created => drop(created?),
        }
        Ok(Some(name))
    }

    /// What was kept for operations after the instantiation is of no use any more.
    async fn forget_secrets(&self, instance: &VnfInstance) -> Result<(), Failure> {
        if instance.status.as_ref().is_none_or(|status| status.credentials.is_none()) {
            return Ok(());
        }
        let secrets: Api<Secret> =
            Api::namespaced(self.client.clone(), &instance.namespace().unwrap_or_default());
        match secrets.delete(&secret_name(instance), &DeleteParams::default()).await {
            Err(error) if !is_not_found(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Everything was undone. What the VIM has now may be other servers than before: they are read before the instance is given back.
    pub(super) async fn undone(&self, occurrence: &VnfLcmOperation) -> Result<Requeue, Failure> {
        let changed = !matches!(
            occurrence.spec.operation,
            LcmOperationType::Instantiate | LcmOperationType::ModifyInfo
        );
        if changed
            && state_of(occurrence) == LcmOperationState::RollingBack
            && let Some(requeue) = self.refresh(occurrence).await?
        {
            return Ok(requeue);
        }
        let error = occurrence.status.as_ref().and_then(|status| {
            let failed = status.transitions.iter().rev().find(|change| change.error.is_some());
            failed.and_then(|change| change.error.clone())
        });
        self.end(occurrence, LcmOperationState::RolledBack, error).await?;
        Ok(Requeue::OnChange)
    }

    /// Reads what there is after a roll-back, and writes it down. When to look again, if that is not through yet.
    async fn refresh(&self, occurrence: &VnfLcmOperation) -> Result<Option<Requeue>, Failure> {
        let Some(instance) = self.instance(occurrence) else { return Ok(None) };
        let Ok(ground) = self.ground(occurrence, instance) else { return Ok(None) };
        let order = self.order(occurrence, &ground);
        let Some(spec) = refresh(&order) else { return Ok(None) };
        let key =
            ObjectKey::new(occurrence.namespace().unwrap_or_default(), engine_name(occurrence, "refresh"));
        let Some(engine) = self.world.operations.get(&key) else {
            operations::start(&self.client, &key.name, spec).await?;
            return Ok(Some(Requeue::OnChange));
        };
        let phase = engine.status.as_ref().map(|status| status.phase).unwrap_or_default();
        if phase == OperationPhase::Failed && !engine.is_told_to_resume() {
            operations::go_on(self.client.clone(), &key, engine.spec.retries + 1).await?;
            return Ok(Some(Requeue::After(REFRESH_AGAIN)));
        }
        if phase != OperationPhase::Succeeded {
            return Ok(Some(Requeue::OnChange));
        }
        if let Ok(after) = completion::rolled_back(&order, &engine) {
            let api: Api<VnfInstance> =
                Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default());
            let name = occurrence.name_any();
            update_status(&api, ground.instance.as_ref(), |status| {
                if status.operation.as_deref() == Some(&name) {
                    status.instantiated_vnf_info.clone_from(&after.instantiated_vnf_info);
                }
            })
            .await?;
        }
        Ok(None)
    }
}

/// Name of the Secret of an instance.
fn secret_name(instance: &VnfInstance) -> String {
    format!("{}-credentials", instance.name_any())
}

fn merged_nodes(now: &VnfInstanceStatus, after: &VnfInstanceStatus) -> Vec<drystone_api::nfv::VnfNode> {
    if after.instantiated_vnf_info.is_none() {
        return Vec::new();
    }
    let mut nodes = after.nodes.clone();
    for node in &mut nodes {
        let known = now.nodes.iter().find(|known| known.name == node.name && known.vnfc == node.vnfc);
        if let Some(known) = known.filter(|_| node.host_keys.is_empty()) {
            node.host_keys.clone_from(&known.host_keys);
        }
    }
    nodes
}

/// What a request modifies of an instance's information.
fn modifications(occurrence: &VnfLcmOperation) -> KeyValuePairs {
    if occurrence.spec.operation != LcmOperationType::ModifyInfo {
        return KeyValuePairs::new();
    }
    let given = &occurrence.spec.parameters;
    let member = |name: &&str| given.get(*name).map(|value| ((*name).to_owned(), value.clone()));
    MODIFIABLE.iter().filter_map(member).collect()
}

/// `vnfcInfoModifications`: what may be configured of components.
fn modify_components(occurrence: &VnfLcmOperation, after: &mut VnfInstanceStatus) {
    let given = occurrence.spec.parameters.get("vnfcInfoModifications").and_then(Value::as_array);
    let Some(info) = &mut after.instantiated_vnf_info else { return };
    for change in given.into_iter().flatten() {
        let id = change.get("id").and_then(Value::as_str).unwrap_or_default();
        let properties = change.get("vnfcConfigurableProperties").and_then(Value::as_object);
        let component = info.vnfc_info.iter_mut().find(|component| component.id == id);
        if let (Some(component), Some(properties)) = (component, properties) {
            component.vnfc_configurable_properties.extend(properties.clone());
        }
    }
}
