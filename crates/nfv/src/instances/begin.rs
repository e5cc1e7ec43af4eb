//! An operation begins: it is written down, then it takes the instance, or nothing is left of it.

use std::sync::Arc;

use drystone_api::nfv::{
    PARAMETERS_KEY, VNF_INSTANCE_LABEL, VnfInstance, VnfLcmOperation, VnfLcmOperationSpec,
};
use drystone_engine::reference::{describe_kube_error, owner_reference, reference_to};
use drystone_sol003::{
    secrets::mask_object,
    types::{ApiVersion, KeyValuePairs, LcmOperationType},
};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, PostParams},
};
use uuid::Uuid;

use super::checks;
use crate::{feed::Shown as _, problem::Problem, render::INSTANCE_UID_LABEL, service::Nfv};

/// How often a change that others were faster than is tried.
pub(super) const ATTEMPTS: usize = 5;
/// Longest value of a label.
const LONGEST_LABEL: usize = 63;

impl Nfv {
    /// Begins an operation on an instance that is fit for it; returns its identifier.
    pub(super) async fn begin(
        &self,
        instance: &VnfInstance,
        version: ApiVersion,
        operation: LcmOperationType,
        parameters: KeyValuePairs,
    ) -> Result<String, Problem> {
        let written = self.write_operation(instance, version, operation, parameters).await?;
        match self.take(instance, operation, &written.name_any()).await {
            Ok(instance) => {
                self.0.feed.operations.seen(&written).await;
                self.0.feed.instances.seen(&instance).await;
                Ok(written.uid().unwrap_or_default())
            }
            Err(problem) => {
                self.forget(&written).await;
                Err(problem)
            }
        }
    }

    /// Writes down what is to be done. What is secret of it goes into a Secret that goes with it.
    async fn write_operation(
        &self,
        instance: &VnfInstance,
        version: ApiVersion,
        operation: LcmOperationType,
        parameters: KeyValuePairs,
    ) -> Result<VnfLcmOperation, Problem> {
        let namespace = instance.namespace().unwrap_or_default();
        let name = format!("vnf-op-{}", Uuid::new_v4());
        let (told, has_secrets) = mask_object(&parameters);
        let secret = has_secrets.then(|| format!("{name}-parameters"));
        // Whoever plans it looks at what everybody may see of it: what is secret changes no plan.
        let mut object = VnfLcmOperation::new(
            &name,
            VnfLcmOperationSpec {
                instance: instance.name_any(),
                operation,
                api_version: version,
                parameters: told,
                secret: secret.clone(),
                ..VnfLcmOperationSpec::default()
            },
        );
        object.metadata.namespace = Some(namespace.clone());
        object.labels_mut().insert(INSTANCE_UID_LABEL.to_owned(), instance.uid().unwrap_or_default());
        if instance.name_any().len() <= LONGEST_LABEL {
            object.labels_mut().insert(VNF_INSTANCE_LABEL.to_owned(), instance.name_any());
        }
        let operations: Api<VnfLcmOperation> = Api::namespaced(self.0.client.clone(), &namespace);
        if let Some(foresight) = &self.0.foresight {
            foresight.check(Arc::new(instance.clone()), &object)?;
        }
        let written = operations.create(&PostParams::default(), &object).await?;
        if let Some(secret) = secret {
            let whole = serde_json::to_vec(&parameters).map_err(|error| Problem::internal(&error))?;
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(secret),
                    owner_references: Some(vec![owner_reference(&reference_to(&written))]),
                    ..ObjectMeta::default()
                },
                data: Some([(PARAMETERS_KEY.to_owned(), ByteString(whole))].into()),
                ..Secret::default()
            };
            let secrets: Api<Secret> = Api::namespaced(self.0.client.clone(), &namespace);
            if let Err(error) = secrets.create(&PostParams::default(), &secret).await {
                self.forget(&written).await;
                return Err(error.into());
            }
        }
        Ok(written)
    }

    /// Takes the instance for an operation: of several that try at once, one succeeds.
    async fn take(
        &self,
        instance: &VnfInstance,
        operation: LcmOperationType,
        name: &str,
    ) -> Result<VnfInstance, Problem> {
        let namespace = instance.namespace().unwrap_or_default();
        let instances: Api<VnfInstance> = Api::namespaced(self.0.client.clone(), &namespace);
        let uid = instance.uid().unwrap_or_default();
        let mut now = instance.clone();
        for _ in 0..ATTEMPTS {
            if now.status.as_ref().and_then(|status| status.operation.as_deref()) == Some(name) {
                // It was taken for this one meanwhile, or the answer to that was lost.
                return Ok(now);
            }
            checks::operation(operation, &now)?;
            now.status.get_or_insert_default().operation = Some(name.to_owned());
            match instances.replace_status(&now.name_any(), &PostParams::default(), &now).await {
                Ok(taken) => return Ok(taken),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    return Err(Problem::not_found(VnfInstance::WHAT, &uid));
                }
                Err(error) => return Err(error.into()),
            }
            now = self.current(&now).await?;
        }
        Err(Problem::conflict(format!("VNF instance {uid} changes all the time; try again")))
    }

    /// Removes an operation that has not begun.
    async fn forget(&self, operation: &VnfLcmOperation) {
        let namespace = operation.namespace().unwrap_or_default();
        let operations: Api<VnfLcmOperation> = Api::namespaced(self.0.client.clone(), &namespace);
        if let Err(error) = operations.delete(&operation.name_any(), &DeleteParams::default()).await {
            let error = describe_kube_error(&error);
            tracing::warn!(
                operation = operation.name_any(),
                "an operation that did not begin is left: {error}"
            );
        }
    }
}
