//! Opened fabric services, so that their sessions are kept.

use std::{collections::HashMap, sync::Arc};

use drystone_api::FabricAgent;
use drystone_engine::reference::ObjectKey;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::Mutex;

use crate::drivers::{Credentials, DriverError, Drivers, FabricService};

/// A service, and the address and version of the credentials that it was opened with.
type OpenService = (String, Arc<dyn FabricService>);

/// Opened services by agent.
#[derive(Clone)]
pub(crate) struct Services {
    client: Client,
    drivers: Arc<dyn Drivers>,
    open: Arc<Mutex<HashMap<ObjectKey, OpenService>>>,
}

/// Why a service could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error("Secret {0} with the credentials of the fabric service is missing; create it")]
    NoCredentials(String),
    #[error("reading credentials: {0}")]
    Api(#[from] kube::Error),
}

impl Services {
    pub(crate) fn new(client: Client, drivers: Arc<dyn Drivers>) -> Self {
        Self { client, drivers, open: Arc::default() }
    }

    /// The service of an agent; opened anew when address or credentials changed.
    pub(crate) async fn of(&self, agent: &FabricAgent) -> Result<Arc<dyn FabricService>, OpenError> {
        let secret = self.secret(agent).await?;
        let version = secret.as_ref().and_then(kube::ResourceExt::resource_version).unwrap_or_default();
        let verify = !agent.spec.disable_certificate_verification;
        let stamp = format!("{} {verify} {version}", agent.spec.address);
        let key = ObjectKey::of(agent);
        let mut open = self.open.lock().await;
        if let Some((known, service)) = open.get(&key)
            && *known == stamp
        {
            return Ok(service.clone());
        }
        let credentials = secret.map(credentials_of);
        let service = self.drivers.open(&agent.spec.address, credentials.as_ref(), verify)?;
        let service: Arc<dyn FabricService> = Arc::from(service);
        open.insert(key, (stamp, service.clone()));
        Ok(service)
    }

    async fn secret(&self, agent: &FabricAgent) -> Result<Option<Secret>, OpenError> {
        let Some(name) = &agent.spec.credentials_name else { return Ok(None) };
        let namespace = agent.namespace().unwrap_or_default();
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let secret = secrets.get_opt(name).await?;
        secret.map(Some).ok_or_else(|| OpenError::NoCredentials(format!("{namespace}/{name}")))
    }
}

fn credentials_of(secret: Secret) -> Credentials {
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        data.get(key).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok()).unwrap_or_default()
    };
    Credentials { username: text("username"), password: text("password") }
}
