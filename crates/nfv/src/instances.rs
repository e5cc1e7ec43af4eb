//! VNF instances: made, modified, deleted, and what is done with them.

mod begin;
mod checks;
mod requests;

use std::sync::Arc;

use axum::{
    body::Body,
    http::{Response, StatusCode},
};
use drystone_api::{
    SYSTEM_NAMESPACE,
    nfv::{VnfInstance, VnfInstanceSpec, VnfLcmOperation},
};
use drystone_sol003::{
    types::{ApiVersion, InstantiationState, KeyValuePairs, LcmOperationType, PackageOperationalState},
    version1::upgrade,
};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, PostParams, Preconditions},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    feed::{Entry, Shown},
    notify::{CREATED_ANNOTATION, NOTIFY_FINALIZER},
    problem::Problem,
    render::{operational_state, path_of},
    request::{Incoming, JSON, MERGE_PATCH, read_json, read_optional_json, typed},
    service::{Nfv, created, empty_response},
};

impl Nfv {
    /// POST `vnf_instances`.
    pub(crate) async fn create_instance(
        &self,
        incoming: Incoming,
        version: ApiVersion,
    ) -> Result<Response<Body>, Problem> {
        let body = read_json(&incoming.parts, incoming.body, JSON).await?;
        let request: requests::Create = typed(without_nulls(body))?;
        checks::metadata(&request.metadata)?;
        self.check_vnfd(&request.vnfd_id, version)?;
        let spec = VnfInstanceSpec {
            vnfd_id: request.vnfd_id,
            vnf_instance_name: request.vnf_instance_name,
            vnf_instance_description: request.vnf_instance_description,
            metadata: request.metadata,
            ..VnfInstanceSpec::default()
        };
        let mut instance = VnfInstance::new(&format!("vnf-{}", Uuid::new_v4()), spec);
        instance.annotations_mut().insert(CREATED_ANNOTATION.to_owned(), Timestamp::now().to_string());
        // So that whoever wants to know hears of its end too, whatever happens in between.
        instance.metadata.finalizers = Some(vec![NOTIFY_FINALIZER.to_owned()]);
        let instances: Api<VnfInstance> = Api::namespaced(self.0.client.clone(), SYSTEM_NAMESPACE);
        let written = instances.create(&PostParams::default(), &instance).await?;
        self.0.feed.instances.seen(&written).await;
        let id = written.uid().unwrap_or_default();
        let entry = self.instance(&id)?;
        let location = format!("{}{}/vnf_instances/{id}", incoming.base, path_of(version));
        Ok(created(entry.bytes(version, &incoming.base), &location))
    }

    /// Whether instances may be made of a VNFD.
    fn check_vnfd(&self, vnfd: &str, version: ApiVersion) -> Result<(), Problem> {
        let (unknown, disabled) = match version {
            ApiVersion::V1 => (StatusCode::NOT_FOUND, StatusCode::CONFLICT),
            ApiVersion::V2 => (StatusCode::UNPROCESSABLE_ENTITY, StatusCode::UNPROCESSABLE_ENTITY),
        };
        let Some(package) = self.0.around.package_of(vnfd) else {
            let vnfd: String = vnfd.chars().take(200).collect();
            let detail = format!("vnfdId: no onboarded VNF package has the VNFD {vnfd:?}; onboard it first");
            return Err(Problem::new(unknown, detail));
        };
        if operational_state(&package) == PackageOperationalState::Enabled {
            return Ok(());
        }
        let id = package.uid().unwrap_or_default();
        let detail = format!("vnfdId: VNF package {id} is DISABLED; enable it first");
        Err(Problem::new(disabled, detail))
    }

    /// The instance of an identifier.
    fn instance(&self, id: &str) -> Result<Arc<Entry<VnfInstance>>, Problem> {
        self.0.feed.instances.get(id).ok_or_else(|| Problem::not_found(VnfInstance::WHAT, id))
    }

    /// An instance of which `judge` approves, with its verdict. What the copy makes it refuse is judged once more by what the API has: the
    /// end of an operation may be seen before what it made of its instance.
    async fn judged<T>(
        &self,
        entry: &Entry<VnfInstance>,
        judge: impl Fn(&VnfInstance) -> Result<T, Problem>,
    ) -> Result<(Arc<VnfInstance>, T), Problem> {
        if let Ok(verdict) = judge(&entry.object) {
            return Ok((entry.object.clone(), verdict));
        }
        let instance = self.current(&entry.object).await?;
        let verdict = judge(&instance)?;
        Ok((Arc::new(instance), verdict))
    }

    /// An instance as the API has it now. An operation that is through, or gone, holds it no longer.
    async fn current(&self, known: &VnfInstance) -> Result<VnfInstance, Problem> {
        let (namespace, uid) = (known.namespace().unwrap_or_default(), known.uid().unwrap_or_default());
        let instances: Api<VnfInstance> = Api::namespaced(self.0.client.clone(), &namespace);
        let is_same = |now: &VnfInstance| {
            now.uid().as_deref() == Some(uid.as_str()) && now.metadata.deletion_timestamp.is_none()
        };
        let now = instances.get_opt(&known.name_any()).await?.filter(is_same);
        let mut now = now.ok_or_else(|| Problem::not_found(VnfInstance::WHAT, &uid))?;
        let holder = now.status.as_ref().and_then(|status| status.operation.clone());
        let Some(holder) = holder else { return Ok(now) };
        let operations: Api<VnfLcmOperation> = Api::namespaced(self.0.client.clone(), &namespace);
        let found = operations.get_opt(&holder).await?;
        let holds = found.is_some_and(|it| !it.status.unwrap_or_default().operation_state.is_final());
        if let Some(status) = now.status.as_mut().filter(|_| !holds) {
            status.operation = None;
        }
        Ok(now)
    }

    /// DELETE `vnf_instances/{id}`.
    pub(crate) async fn delete_instance(&self, incoming: &Incoming) -> Result<Response<Body>, Problem> {
        let entry = self.instance(incoming.id())?;
        let namespace = entry.object.namespace().unwrap_or_default();
        let instances: Api<VnfInstance> = Api::namespaced(self.0.client.clone(), &namespace);
        let may_go = |instance: &VnfInstance| -> Result<(), Problem> {
            checks::is_free(instance)?;
            checks::state(instance, InstantiationState::NotInstantiated, "deleted")
        };
        let (mut instance, ()) = self.judged(&entry, may_go).await?;
        for _ in 0..begin::ATTEMPTS {
            let preconditions = Preconditions {
                uid: instance.uid(),
                // Nothing may have begun in the meantime.
                resource_version: instance.resource_version(),
            };
            let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
            match instances.delete(&instance.name_any(), &parameters).await {
                Ok(_) => {
                    self.0.feed.instances.unseen(incoming.id()).await;
                    return Ok(empty_response(StatusCode::NO_CONTENT, None));
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    return Err(Problem::not_found(VnfInstance::WHAT, incoming.id()));
                }
                Err(error) => return Err(error.into()),
            }
            instance = Arc::new(self.current(&instance).await?);
            may_go(&instance)?;
        }
        Err(Problem::conflict("the VNF instance changes all the time; try again"))
    }

    /// PATCH `vnf_instances/{id}`.
    pub(crate) async fn modify_instance(
        &self,
        incoming: Incoming,
        version: ApiVersion,
    ) -> Result<Response<Body>, Problem> {
        let id = incoming.id().to_owned();
        let entry = self.instance(&id)?;
        let body = read_json(&incoming.parts, incoming.body, MERGE_PATCH).await?;
        let body = in_version_2(body, version)?;
        let judge = |instance: &VnfInstance| -> Result<KeyValuePairs, Problem> {
            let parameters = checks::modification(body.clone(), instance)?;
            checks::operation(LcmOperationType::ModifyInfo, instance)?;
            Ok(parameters)
        };
        let (instance, parameters) = self.judged(&entry, judge).await?;
        if let Some(vnfd) = parameters.get("vnfdId").and_then(Value::as_str)
            && vnfd != instance.spec.vnfd_id
        {
            self.check_vnfd(vnfd, version)?;
        }
        let operation = self.begin(&instance, version, LcmOperationType::ModifyInfo, parameters).await?;
        Ok(accepted(&incoming.base, version, &operation))
    }

    /// POST `vnf_instances/{id}/{task}`.
    pub(crate) async fn task(
        &self,
        incoming: Incoming,
        version: ApiVersion,
        operation: LcmOperationType,
    ) -> Result<Response<Body>, Problem> {
        let entry = self.instance(incoming.id())?;
        if matches!(operation, LcmOperationType::ChangeFlavour | LcmOperationType::Operate) {
            // SOL003: the resource of a task that is not supported does not exist.
            let what = if operation == LcmOperationType::Operate { "OPERATE" } else { "CHANGE_FLAVOUR" };
            let detail = format!("{what} is not supported for VNF instance {}", incoming.id());
            return Err(Problem::new(StatusCode::NOT_FOUND, detail));
        }
        crate::request::check_media(&incoming.parts, JSON)?;
        let body = read_optional_json(&incoming.parts, incoming.body).await?;
        let body = without_nulls(in_version_2(body, version)?);
        let parameters = requests::parameters(operation, body)?;
        let judge = |instance: &VnfInstance| checks::parameters(operation, version, &parameters, instance);
        let (instance, ()) = self.judged(&entry, judge).await?;
        if let (LcmOperationType::ChangeVnfPackage, Some(Value::String(vnfd))) =
            (operation, parameters.get("vnfdId"))
        {
            self.check_vnfd(vnfd, version)?;
        }
        let operation = self.begin(&instance, version, operation, parameters).await?;
        Ok(accepted(&incoming.base, version, &operation))
    }
}

/// A body in the shape of version 2.
fn in_version_2(body: Value, version: ApiVersion) -> Result<Value, Problem> {
    match version {
        ApiVersion::V1 => upgrade(body).map_err(|error| Problem::bad_request(error.to_string())),
        ApiVersion::V2 => Ok(body),
    }
}

/// Members that are `null` say nothing.
fn without_nulls(body: Value) -> Value {
    match body {
        Value::Object(members) => {
            let told: Map<String, Value> =
                members.into_iter().filter(|(_, value)| !value.is_null()).collect();
            Value::Object(told)
        }
        other => other,
    }
}

/// The reply to what has been begun.
fn accepted(base: &str, version: ApiVersion, operation: &str) -> Response<Body> {
    let location = format!("{base}{}/vnf_lcm_op_occs/{operation}", path_of(version));
    empty_response(StatusCode::ACCEPTED, Some(&location))
}
