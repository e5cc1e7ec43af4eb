//! What a step works on, read anew when it begins: the occurrence, its instance, the package, and what is secret of them.

use std::{collections::BTreeMap, sync::Arc};

use drystone_api::nfv::{
    PARAMETERS_KEY, VIM_CONNECTION_KEY, Vim, VnfInstance, VnfInstanceStatus, VnfLcmOperation,
    VnfLcmOperationSpec, VnfPackage,
};
use drystone_engine::action::{StepContext, StepError};
use drystone_sol003::types::{KeyValuePairs, LcmOperationType, VimConnectionInfo};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt, api::ListParams};
use serde_json::{Map, Value};

use super::{Access, StepDependencies, VimSession};
use crate::{
    model::{Blueprint, Phase, StackAsk, StackRequest},
    plan::{
        connection::{Connection, resolve},
        outline::outline,
    },
};

/// Why a package cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("package {package} cannot be read from the library: {why}; upload it again")]
pub struct BlueprintError {
    /// Uid of the package.
    pub package: String,
    /// Why.
    pub why: String,
}

/// Packages by the uid of their VnfPackage. Cheap: what was read stays.
pub trait Blueprints: Send + Sync {
    /// A package.
    ///
    /// # Errors
    /// It is not in the library, or cannot be read.
    fn open(&self, package: &str) -> Result<Arc<dyn Blueprint>, BlueprintError>;
}

/// Reads what steps work on.
pub(super) struct Loader {
    pub(super) dependencies: StepDependencies,
}

/// What a step works on.
pub struct Loaded {
    /// The instance.
    pub instance: VnfInstance,
    /// The operation, with its parameters in full.
    pub operation: VnfLcmOperationSpec,
    /// `additionalParams` of the instantiation in full.
    pub instantiated_with: Map<String, Value>,
    /// The package that the instance is made of; for a change of the package, the new one.
    pub blueprint: Arc<dyn Blueprint>,
    /// The package before a change of it.
    pub old_blueprint: Option<Arc<dyn Blueprint>>,
    /// The VIM.
    pub connection: Connection,
}

impl Loader {
    /// What the step of this context works on, and the way to its VIM.
    pub(super) async fn load(
        &self,
        context: &StepContext,
    ) -> Result<(Loaded, Box<dyn VimSession>), StepError> {
        let namespace = &context.subject().namespace;
        let reader = Reader { client: context.client(), namespace };
        let occurrence: VnfLcmOperation = reader.get(&context.subject().name).await?;
        if occurrence.uid().as_deref() != Some(&context.subject().uid) {
            return Err(StepError::permanent("the operation that this is done for is gone"));
        }
        let instance: VnfInstance = reader.get(&occurrence.spec.instance).await?;
        let status = instance.status.clone().unwrap_or_default();
        let mut operation = occurrence.spec.clone();
        if let Some(secret) = &occurrence.spec.secret
            && let Some(full) = reader.secret_json(secret, PARAMETERS_KEY).await?
        {
            operation.parameters = full;
        }
        let kept = match &status.credentials {
            Some(secret) => reader.secret_json(secret, PARAMETERS_KEY).await?,
            None => None,
        };
        let instantiated_with = kept.unwrap_or_else(|| status.additional_parameters.clone());
        let (connection, access) = reader.connection(&operation, &status).await?;
        let (blueprint, old_blueprint) = self.packages(&reader, &instance, &operation).await?;
        let session = self.dependencies.vims.session(&access)?;
        let loaded = Loaded { instance, operation, instantiated_with, blueprint, old_blueprint, connection };
        Ok((loaded, session))
    }

    async fn packages(
        &self,
        reader: &Reader<'_>,
        instance: &VnfInstance,
        operation: &VnfLcmOperationSpec,
    ) -> Result<(Arc<dyn Blueprint>, Option<Arc<dyn Blueprint>>), StepError> {
        let open = |uid: &str| self.dependencies.blueprints.open(uid).map_err(StepError::permanent);
        let current = open(&reader.package(&instance.spec.vnfd_id).await?)?;
        if operation.operation != LcmOperationType::ChangeVnfPackage {
            return Ok((current, None));
        }
        let target = operation.parameters.get("vnfdId").and_then(Value::as_str).unwrap_or_default();
        let new = open(&reader.package(target).await?)?;
        Ok((new, Some(current)))
    }
}

/// What a step on a Kubernetes works with.
pub(crate) struct OnKubernetes {
    /// `additionalParams` of the instantiation in full.
    pub(crate) instantiated_with: Map<String, Value>,
    /// The request in full.
    pub(crate) request: Map<String, Value>,
    /// Uid of the package that the instance is made of; while the package is changed, still the old one.
    pub(crate) package: String,
    /// The VIM.
    pub(crate) access: Access,
    /// Name of the Site through whose gateway it is reached.
    pub(crate) gateway: Option<String>,
}

impl OnKubernetes {
    /// What the step of this context works with.
    pub(crate) async fn load(context: &StepContext) -> Result<Self, StepError> {
        let namespace = &context.subject().namespace;
        let reader = Reader { client: context.client(), namespace };
        let occurrence: VnfLcmOperation = reader.get(&context.subject().name).await?;
        if occurrence.uid().as_deref() != Some(&context.subject().uid) {
            return Err(StepError::permanent("the operation that this is done for is gone"));
        }
        let instance: VnfInstance = reader.get(&occurrence.spec.instance).await?;
        let status = instance.status.clone().unwrap_or_default();
        let mut operation = occurrence.spec.clone();
        if let Some(secret) = &occurrence.spec.secret
            && let Some(full) = reader.secret_json(secret, PARAMETERS_KEY).await?
        {
            operation.parameters = full;
        }
        let kept = match &status.credentials {
            Some(secret) => reader.secret_json(secret, PARAMETERS_KEY).await?,
            None => None,
        };
        let instantiated_with = kept.unwrap_or_else(|| status.additional_parameters.clone());
        let (connection, access) = reader.connection(&operation, &status).await?;
        let package = reader.package(&instance.spec.vnfd_id).await?;
        let request = operation.parameters;
        Ok(Self { instantiated_with, request, package, access, gateway: connection.gateway })
    }
}

impl Loaded {
    /// What the VIM is asked for.
    pub(super) fn stack_request(&self, phase: Phase) -> Result<StackRequest, StepError> {
        let nothing = VnfInstanceStatus::default();
        let status = self.instance.status.as_ref().unwrap_or(&nothing);
        let outline =
            outline(&self.operation, status, self.blueprint.as_ref()).map_err(StepError::permanent)?;
        let ask = StackAsk {
            operation: &self.operation,
            instance: status,
            instantiated_with: &self.instantiated_with,
            flavour: &outline.flavour,
            before: &outline.counts_before(),
            after: &outline.counts_after(),
            affected: &outline.affected_places(),
            entire: outline.entire,
            phase,
        };
        let blueprint = match (phase, &self.old_blueprint) {
            (Phase::Rollback, Some(old)) => old,
            _ => &self.blueprint,
        };
        blueprint.stack_request(&ask).map_err(StepError::permanent)
    }
}

struct Reader<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Reader<'_> {
    async fn get<K>(&self, name: &str) -> Result<K, StepError>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let doing = format!("reading {} {name}", K::kind(&()));
        api.get(name).await.map_err(|error| StepError::from_kube(&doing, &error))
    }

    /// What a key of a Secret says, as a JSON object. None if there is no such key.
    async fn secret_json(&self, name: &str, key: &str) -> Result<Option<Map<String, Value>>, StepError> {
        let secret: Secret = self.get(name).await?;
        let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(key)) else { return Ok(None) };
        serde_json::from_slice(&bytes.0)
            .map(Some)
            // The error would quote what is secret.
            .map_err(|_| StepError::permanent(format!("key {key} of Secret {name} is no JSON object")))
    }

    /// The VIM of an instance, with what is secret of it.
    async fn connection(
        &self,
        operation: &VnfLcmOperationSpec,
        status: &VnfInstanceStatus,
    ) -> Result<(Connection, Access), StepError> {
        let vims: Api<Vim> = Api::namespaced(self.client.clone(), self.namespace);
        let vims = vims
            .list(&ListParams::default())
            .await
            .map_err(|error| StepError::from_kube("reading the registered VIMs", &error))?;
        let vims: Vec<Arc<Vim>> = vims.items.into_iter().map(Arc::new).collect();
        let mut given = status.vim_connection_info.clone();
        let mut secrets: BTreeMap<String, KeyValuePairs> = BTreeMap::new();
        if let Some(name) = &status.credentials {
            for (key, value) in self.secret_json(name, VIM_CONNECTION_KEY).await?.unwrap_or_default() {
                secrets.insert(key, value.as_object().cloned().unwrap_or_default());
            }
        }
        if let Some(asked) = operation.parameters.get("vimConnectionInfo") {
            let asked: BTreeMap<String, VimConnectionInfo> = serde_json::from_value(asked.clone())
                .map_err(|_| StepError::permanent("vimConnectionInfo of the request cannot be read"))?;
            for (key, info) in asked {
                secrets.entry(key.clone()).or_default().extend(info.access_info.clone());
                given.insert(key, info);
            }
        }
        let connection = resolve(&given, &vims).map_err(StepError::permanent)?;
        let mut access = Access { info: connection.info.clone(), ..Access::default() };
        let named = connection.vim.as_ref().and_then(|name| vims.iter().find(|vim| vim.name_any() == *name));
        if let Some(vim) = named {
            access.certificate_authority.clone_from(&vim.spec.certificate_authority);
            if !vim.spec.credentials.is_empty() {
                access.secrets = secret_values(&self.get::<Secret>(&vim.spec.credentials).await?);
            }
        }
        access.secrets.extend(secrets.remove(&connection.key).unwrap_or_default());
        Ok((connection, access))
    }

    /// Uid of the onboarded package with that VNFD.
    async fn package(&self, vnfd_id: &str) -> Result<String, StepError> {
        let packages: Api<VnfPackage> = Api::namespaced(self.client.clone(), self.namespace);
        let packages = packages
            .list(&ListParams::default())
            .await
            .map_err(|error| StepError::from_kube("reading the VNF packages", &error))?;
        let has = |package: &VnfPackage| {
            package.status.as_ref().is_some_and(|status| status.vnfd_id.as_deref() == Some(vnfd_id))
        };
        let found = packages.items.iter().find(|package| has(package)).and_then(ResourceExt::uid);
        found.ok_or_else(|| StepError::permanent(format!("no package with the VNFD {vnfd_id} is onboarded")))
    }
}

/// The values of a Secret, as texts.
pub fn secret_values(secret: &Secret) -> KeyValuePairs {
    let text = |bytes: &[u8]| Value::String(String::from_utf8_lossy(bytes).into_owned());
    let data = secret.data.iter().flatten().map(|(key, bytes)| (key.clone(), text(&bytes.0)));
    let plain =
        secret.string_data.iter().flatten().map(|(key, value)| (key.clone(), Value::String(value.clone())));
    data.chain(plain).collect()
}
