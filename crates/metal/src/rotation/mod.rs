//! New passwords for management controllers: a random one each, made, set and kept so that a crash between any two requests locks
//! nobody out.
//!
//! Asked for by [`ROTATE_ANNOTATION`] on a BareMetalHost, which goes when it is done, or refused for good ([`ERROR_ANNOTATION`] says why).
//! Rooms: [`exchange`] (the order of requests), [`account`] (the account, by Redfish).

pub mod account;
pub mod exchange;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::BareMetalHost;
use drystone_engine::{
    events::{EventKind, EventSink},
    harness::{Controller, ControllerConfig, Reconciler, Requeue, is_deleted},
    reference::reference_to,
};
use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use self::exchange::{Exchange, ExchangeError, Kept, Vault, VaultError};
use crate::{
    driver::{Credentials, DriverError},
    model::BmcAddress,
};

/// Asks for a new password; its value is of no matter.
pub const ROTATE_ANNOTATION: &str = "drystone.dev/rotate-bmc-password";
/// When the password was changed last, on BareMetalHost and Secret.
pub const ROTATED_ANNOTATION: &str = "drystone.dev/bmc-password-rotated";
/// Why it was not, and will not be without another request.
pub const ERROR_ANNOTATION: &str = "drystone.dev/bmc-password-error";

/// Key of the Secret under which a new password is, until the management controller has it.
const NEXT: &str = "nextPassword";
/// Pause after a failure that may pass.
const RETRY: Duration = Duration::from_secs(5);

/// Reaches accounts of management controllers.
pub trait Accounts: Send + Sync + 'static {
    /// The account of a host's management controller.
    ///
    /// # Errors
    /// [`DriverError::Refused`] if its address names no controller whose accounts can be changed.
    fn open(&self, address: &BmcAddress, verify_tls: bool)
    -> Result<Box<dyn exchange::Account>, DriverError>;
}

/// What went wrong in a pass.
#[derive(Debug, thiserror::Error)]
enum RotationError {
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: kube::Error },
}

fn api_error(doing: &'static str) -> impl FnOnce(kube::Error) -> RotationError {
    move |source| RotationError::Api { doing, source }
}

/// Changes passwords until `shutdown`.
pub async fn run(
    client: Client,
    accounts: Arc<dyn Accounts>,
    events: Arc<dyn EventSink>,
    shutdown: CancellationToken,
) {
    let settings =
        ControllerConfig { events: events.clone(), concurrency: 64, ..ControllerConfig::default() };
    let rotation = Rotation { client: client.clone(), accounts, events };
    Controller::new(client, rotation, settings).run(shutdown).await;
}

struct Rotation {
    client: Client,
    accounts: Arc<dyn Accounts>,
    events: Arc<dyn EventSink>,
}

impl Reconciler for Rotation {
    type Object = BareMetalHost;
    type Error = RotationError;

    const NAME: &'static str = "bmc-passwords";

    async fn reconcile(&self, host: Arc<BareMetalHost>) -> Result<Requeue, RotationError> {
        if is_deleted(host.as_ref()) || !host.annotations().contains_key(ROTATE_ANNOTATION) {
            return Ok(Requeue::OnChange);
        }
        match self.rotate(&host).await? {
            Ok(()) => {
                self.settle(&host, ROTATED_ANNOTATION, ERROR_ANNOTATION, &Timestamp::now().to_string())
                    .await?;
                let note = "The management controller has a new password";
                self.tell(&host, EventKind::Normal, "PasswordRotated", note);
            }
            Err(ExchangeError::Refused(reason)) => {
                self.tell(&host, EventKind::Warning, "PasswordNotRotated", &reason);
                self.settle(&host, ERROR_ANNOTATION, "", &reason).await?;
            }
            Err(ExchangeError::Passing(reason)) => {
                self.tell(&host, EventKind::Warning, "PasswordNotRotatedYet", &reason);
                return Ok(Requeue::After(RETRY));
            }
        }
        Ok(Requeue::OnChange)
    }
}

impl Rotation {
    async fn rotate(&self, host: &BareMetalHost) -> Result<Result<(), ExchangeError>, RotationError> {
        let refused = |reason: String| Ok(Err(ExchangeError::Refused(reason)));
        let Some(bmc) = host.spec.bmc.as_ref().filter(|bmc| !bmc.credentials_name.is_empty()) else {
            return refused("the host has no management controller with credentials".to_owned());
        };
        let namespace = host.namespace().unwrap_or_default();
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &namespace);
        let all = hosts.list(&ListParams::default()).await.map_err(api_error("listing BareMetalHosts"))?;
        let shares = |other: &&BareMetalHost| {
            other.name_any() != host.name_any()
                && other.spec.bmc.as_ref().is_some_and(|other| other.credentials_name == bmc.credentials_name)
        };
        if let Some(other) = all.iter().find(shares) {
            return refused(format!(
                "Secret {} is also that of {}; give each management controller a Secret of its own",
                bmc.credentials_name,
                other.name_any()
            ));
        }
        let account =
            BmcAddress::parse(&bmc.address).map_err(|problem| problem.to_string()).and_then(|address| {
                let opened = self.accounts.open(&address, !bmc.disable_certificate_verification);
                opened.map_err(|error| error.to_string())
            });
        let account = match account {
            Ok(account) => account,
            Err(reason) => return refused(reason),
        };
        let vault = SecretVault {
            secrets: Api::namespaced(self.client.clone(), &namespace),
            name: bmc.credentials_name.clone(),
        };
        Ok(Exchange { account: account.as_ref(), vault: &vault }.run().await)
    }

    /// Takes the request away and notes what came of it; `gone` is a note that does not hold any more.
    async fn settle(
        &self,
        host: &BareMetalHost,
        note: &str,
        gone: &str,
        text: &str,
    ) -> Result<(), RotationError> {
        let mut annotations = json!({ROTATE_ANNOTATION: null, note: text});
        if !gone.is_empty() {
            annotations[gone] = serde_json::Value::Null;
        }
        let hosts: Api<BareMetalHost> =
            Api::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let patched = hosts.patch(&host.name_any(), &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(api_error("noting what came of a new password"))
    }

    fn tell(&self, host: &BareMetalHost, kind: EventKind, reason: &str, note: &str) {
        self.events.publish(&reference_to(host), kind, reason, note);
    }
}

/// The Secret of a management controller.
struct SecretVault {
    secrets: Api<Secret>,
    name: String,
}

#[async_trait::async_trait]
impl Vault for SecretVault {
    async fn read(&self) -> Result<Kept, VaultError> {
        let secret = self.secrets.get_opt(&self.name).await.map_err(|error| VaultError(error.to_string()))?;
        let secret =
            secret.ok_or_else(|| VaultError(format!("Secret {} is missing; create it", self.name)))?;
        let version = secret.resource_version().unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        let text = |key: &str| data.get(key).map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        Ok(Kept {
            credentials: Credentials {
                username: text("username").unwrap_or_default(),
                password: text("password").unwrap_or_default(),
            },
            next: text(NEXT),
            version,
        })
    }

    async fn write(&self, kept: &Kept) -> Result<Kept, VaultError> {
        let failed = |error: kube::Error| VaultError(error.to_string());
        let mut secret = self.secrets.get(&self.name).await.map_err(failed)?;
        // Whoever changed it meanwhile knows another password.
        secret.metadata.resource_version = Some(kept.version.clone());
        let data: &mut BTreeMap<String, ByteString> = secret.data.get_or_insert_default();
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        data.insert("password".to_owned(), bytes(&kept.credentials.password));
        match &kept.next {
            Some(next) => drop(data.insert(NEXT.to_owned(), bytes(next))),
            None => {
                data.remove(NEXT);
                let now = Timestamp::now().to_string();
                secret
                    .metadata
                    .annotations
                    .get_or_insert_default()
                    .insert(ROTATED_ANNOTATION.to_owned(), now);
            }
        }
        let written = self.secrets.replace(&self.name, &PostParams::default(), &secret).await;
        let written = written.map_err(failed)?;
        Ok(Kept { version: written.resource_version().unwrap_or_default(), ..kept.clone() })
    }
}
