//! The little that registering PersistentVolumes needs of a cluster: by its API, or by `kubectl` on one of its hosts.

use std::time::Duration;

use drystone_ssh::{Exit, Host, Program, ProgramError, quote};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::error::StorageError;

/// Who writes objects.
const MANAGER: &str = "drystone-storage";

/// Most bytes of a list by `kubectl`.
const MAX_LIST: usize = 64 * 1024 * 1024;

/// How long `kubectl` may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Kinds that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// PersistentVolumes.
    Volumes,
    /// PersistentVolumeClaims of all namespaces.
    Claims,
    /// Pods of all namespaces.
    Pods,
}

impl Listed {
    const fn plural(self) -> &'static str {
        match self {
            Self::Volumes => "persistentvolumes",
            Self::Claims => "persistentvolumeclaims",
            Self::Pods => "pods",
        }
    }
}

/// A cluster.
pub trait Cluster: Sync {
    /// All objects of a kind.
    fn list(&self, what: Listed) -> impl Future<Output = Result<Vec<Value>, StorageError>> + Send;

    /// Makes a PersistentVolume, or changes it to be so.
    fn apply(&self, volume: &Value) -> impl Future<Output = Result<(), StorageError>> + Send;

    /// Begins to delete a PersistentVolume with this uid; a success if it is gone.
    fn delete(&self, name: &str, uid: &str) -> impl Future<Output = Result<(), StorageError>> + Send;
}

impl Cluster for Client {
    async fn list(&self, what: Listed) -> Result<Vec<Value>, StorageError> {
        match what {
            Listed::Volumes => list::<PersistentVolume>(self, what).await,
            Listed::Claims => list::<PersistentVolumeClaim>(self, what).await,
            Listed::Pods => list::<Pod>(self, what).await,
        }
    }

    async fn apply(&self, volume: &Value) -> Result<(), StorageError> {
        let name = volume.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let volumes: Api<PersistentVolume> = Api::all(self.clone());
        let parameters = PatchParams::apply(MANAGER).force();
        let applied = volumes.patch(name, &parameters, &Patch::Apply(volume)).await;
        applied.map(drop).map_err(failed(format!("registering PersistentVolume {name}")))
    }

    async fn delete(&self, name: &str, uid: &str) -> Result<(), StorageError> {
        let volumes: Api<PersistentVolume> = Api::all(self.clone());
        let preconditions = Preconditions { uid: Some(uid.to_owned()), ..Preconditions::default() };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match volumes.delete(name, &parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Ok(_) => Ok(()),
            Err(error) => Err(failed(format!("deleting PersistentVolume {name}"))(error)),
        }
    }
}

fn failed(doing: String) -> impl FnOnce(kube::Error) -> StorageError {
    move |source| StorageError::Kubernetes { doing, source: Box::new(source) }
}

async fn list<K>(client: &Client, what: Listed) -> Result<Vec<Value>, StorageError>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let doing = || format!("listing {}", what.plural());
    let api: Api<K> = Api::all(client.clone());
    let mut parameters = ListParams::default().limit(500);
    let mut all = Vec::new();
    loop {
        let page = api.list(&parameters).await.map_err(failed(doing()))?;
        for object in &page.items {
            let value = serde_json::to_value(object);
            all.push(value.map_err(|error| StorageError::unexpected(doing(), error.to_string()))?);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// `kubectl` on one of the cluster's hosts.
#[derive(Debug, Clone)]
pub struct Kubectl<'a> {
    /// The host.
    pub host: Host<'a>,
    /// The administrator's kubeconfig there: `/etc/kubernetes/admin.conf`.
    pub kubeconfig: String,
}

impl Kubectl<'_> {
    fn command(&self, arguments: &str) -> String {
        format!("export LC_ALL=C KUBECONFIG={}\nexec kubectl {arguments}\n", quote(&self.kubeconfig))
    }
}

impl Cluster for Kubectl<'_> {
    async fn list(&self, what: Listed) -> Result<Vec<Value>, StorageError> {
        let doing = format!("listing {}", what.plural());
        let scope = if what == Listed::Volumes { "" } else { "--all-namespaces " };
        let text = self.command(&format!("get {} {scope}-o json", what.plural()));
        let answer = self.host.ask(Program::new(&doing, &text).answer(MAX_LIST).limit(LIMIT)).await?;
        let mut list: Value = serde_json::from_str(&answer)
            .map_err(|error| StorageError::unexpected(&doing, error.to_string()))?;
        match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(StorageError::unexpected(doing, "it is no list")),
        }
    }

    async fn apply(&self, volume: &Value) -> Result<(), StorageError> {
        let name = volume.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let text = self.command("apply -f -");
        let program = Program::new(format!("registering PersistentVolume {name}"), &text)
            .input(volume.to_string())
            .limit(LIMIT);
        Ok(self.host.run(program).await.map(drop)?)
    }

    async fn delete(&self, name: &str, _uid: &str) -> Result<(), StorageError> {
        let doing = format!("deleting PersistentVolume {name}");
        let text =
            self.command(&format!("delete persistentvolume {} --wait=false --ignore-not-found", quote(name)));
        let outcome = self.host.attempt(Program::new(&doing, &text).limit(LIMIT)).await?;
        if outcome.exit == Exit::Status(0) || outcome.stderr.text().contains("NotFound") {
            return Ok(());
        }
        Ok(outcome.succeeded(&doing).map(drop).map_err(ProgramError::from)?)
    }
}
