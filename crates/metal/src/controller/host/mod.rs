//! One pass over a BareMetalHost: asks the state machine what to do next, does it, writes what came of it.
//!
//! Rooms: [`actions`] (what each decision does, through a way of provisioning), [`report`] (errors, and what a success
//! clears), [`seed`] (what a host is booted with).

mod actions;
mod report;
mod seed;

use std::{sync::Arc, time::Duration};

use drystone_api::{BareMetalHost, BareMetalHostStatus, OperationalStatus};
use drystone_engine::{
    harness::{
        Reconciler, Requeue, StatusError, add_finalizer, has_finalizer, is_deleted, remove_finalizer,
        update_status,
    },
    reference::reference_to,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};

use super::{
    FINALIZER, MetalConfig,
    blocks::{self, BlockError},
};
use crate::{
    driver::{Credentials, DriverError},
    medium::Seed,
    model::BmcAddress,
    plan::{Next, Surroundings, next},
    provisioner::{Job, Provisioner},
};

/// How often a host at rest is looked at: power may change behind our back.
const STEADY_POLL: Duration = Duration::from_secs(60);

const PAUSED: &str = "baremetalhost.metal3.io/paused";
const DETACHED: &str = "baremetalhost.metal3.io/detached";
const INSPECT: &str = "inspect.metal3.io";

/// What went wrong in a pass for reasons that are not the host's.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error(transparent)]
    Block(#[from] BlockError),
    #[error("{doing}: {source}")]
    Api { doing: &'static str, source: kube::Error },
}

fn api_error(doing: &'static str) -> impl FnOnce(kube::Error) -> HostError {
    move |source| HostError::Api { doing, source }
}

/// Whether a host's specification names a Secret.
pub(super) fn mentions(host: &BareMetalHost, secret: &str) -> bool {
    let spec = &host.spec;
    let references = [&spec.user_data, &spec.network_data, &spec.meta_data];
    spec.bmc.as_ref().is_some_and(|bmc| bmc.credentials_name == secret)
        || references.into_iter().flatten().any(|reference| reference.name == secret)
}

/// The controller.
pub(super) struct HostReconciler {
    pub(super) client: Client,
    pub(super) config: MetalConfig,
}

/// One pass: the host as it was read, and what belongs to it.
struct Pass<'a> {
    reconciler: &'a HostReconciler,
    api: Api<BareMetalHost>,
    host: BareMetalHost,
    secret: Option<Secret>,
    seed: Option<Seed>,
}

/// The way that a host goes, and how its management controller is reached.
struct Way {
    address: BmcAddress,
    credentials: Credentials,
    provisioner: Arc<dyn Provisioner>,
}

/// What an action came to.
enum Outcome {
    /// Done; write this and look again after a while.
    Changed(Box<dyn Fn(&mut BareMetalHostStatus) + Send + Sync>, Duration),
    /// Still at work; look again soon.
    Working(Duration),
    /// The finalizer may go.
    Forgotten,
}

/// Why an action did not succeed.
#[derive(Debug, thiserror::Error)]
enum ActionError {
    /// The host's own: is written into its status.
    #[error(transparent)]
    Host(#[from] DriverError),
    /// Of the API: the pass is tried again.
    #[error(transparent)]
    Pass(#[from] HostError),
}

impl Reconciler for HostReconciler {
    type Object = BareMetalHost;
    type Error = HostError;

    const NAME: &'static str = "baremetalhost";

    async fn reconcile(&self, host: Arc<BareMetalHost>) -> Result<Requeue, HostError> {
        let api: Api<BareMetalHost> =
            Api::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        if is_deleted(host.as_ref()) && !has_finalizer(host.as_ref(), FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        let host =
            add_finalizer(&api, host.as_ref(), FINALIZER).await.map_err(api_error("adding the finalizer"))?;
        let secret = self.credentials(&host).await?;
        let seed = seed::gather(&self.client, &host).await.map_err(api_error("reading boot data"))?;
        Box::pin(Pass { reconciler: self, api, host, secret, seed }.run()).await
    }
}

impl HostReconciler {
    async fn credentials(&self, host: &BareMetalHost) -> Result<Option<Secret>, HostError> {
        let Some(bmc) = &host.spec.bmc else { return Ok(None) };
        let secrets: Api<Secret> =
            Api::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        secrets.get_opt(&bmc.credentials_name).await.map_err(api_error("reading the credentials"))
    }
}

impl Pass<'_> {
    /// Decides, acts, writes.
    async fn run(&self) -> Result<Requeue, HostError> {
        let host = &self.host;
        let instance_id = self.seed.as_ref().map(Seed::instance_id);
        let version = self.secret.as_ref().map(|secret| secret.resource_version().unwrap_or_default());
        let annotated = |key: &str| host.annotations().contains_key(key);
        let around = Surroundings {
            deleting: is_deleted(host),
            credentials_version: version.as_deref(),
            paused: annotated(PAUSED),
            detached: annotated(DETACHED),
            inspection_requested: host.annotations().get(INSPECT).is_some_and(|value| value != "disabled"),
            instance_id: instance_id.as_deref(),
        };
        let status = host.status.clone().unwrap_or_default();
        let decided = next(&host.spec, &status, around);
        blocks::follow(&self.reconciler.client, host).await?;
        self.carry_out(decided).await
    }

    async fn carry_out(&self, decided: Next) -> Result<Requeue, HostError> {
        let outcome = match decided {
            Next::Rest => return Ok(Requeue::After(STEADY_POLL)),
            Next::Forget => Ok(Outcome::Forgotten),
            Next::Enter(state) => Ok(self.enter(state)),
            Next::ReportMissingCredentials => {
                return self.report_missing("the Secret with BMC credentials").await;
            }
            Next::ReportMissingData => return self.report_missing("a Secret with boot data").await,
            Next::ReportDetached => {
                let detach = |status: &mut BareMetalHostStatus| {
                    status.operational_status = OperationalStatus::Detached;
                };
                Ok(Outcome::Changed(Box::new(detach), STEADY_POLL))
            }
            Next::Register => self.register().await,
            Next::Inspect => self.inspect().await,
            Next::Provision => self.provision().await,
            Next::Deprovision => self.deprovision().await,
            Next::Power(on) => self.power(on).await,
            Next::PowerOffAndForget => self.power_off_and_forget().await,
        };
        match outcome {
            Ok(outcome) => self.write(outcome).await,
            Err(ActionError::Host(error)) => self.report(&error).await,
            Err(ActionError::Pass(error)) => Err(error),
        }
    }

    async fn write(&self, outcome: Outcome) -> Result<Requeue, HostError> {
        let (api, host) = (&self.api, &self.host);
        match outcome {
            Outcome::Working(again) => Ok(Requeue::After(again)),
            Outcome::Forgotten => {
                remove_finalizer(api, host, FINALIZER).await.map_err(api_error("removing the finalizer"))?;
                Ok(Requeue::OnChange)
            }
            Outcome::Changed(change, pause) => {
                let written = update_status(api, host, |status: &mut BareMetalHostStatus| {
                    change(status);
                    report::settle(status, host.status.as_ref());
                })
                .await?;
                blocks::follow(&self.reconciler.client, &written).await?;
                Ok(Requeue::After(pause))
            }
        }
    }

    /// The way of provisioning that this host goes, with what it needs.
    fn way(&self) -> Result<Way, DriverError> {
        let text = self.host.spec.bmc.as_ref().map(|bmc| bmc.address.clone()).unwrap_or_default();
        let address = BmcAddress::parse(&text).map_err(|error| DriverError::Refused {
            host: text.clone(),
            doing: "reading the address".to_owned(),
            reason: error.to_string(),
        })?;
        let credentials = self.secret.as_ref().map(read_credentials).unwrap_or_default();
        let way = self.reconciler.config.ways.find(&self.host, &address)?.clone();
        Ok(Way { address, credentials, provisioner: way })
    }

    fn job<'a>(&'a self, way: &'a Way) -> Job<'a> {
        Job {
            host: &self.host,
            address: &way.address,
            credentials: &way.credentials,
            seed: self.seed.as_ref(),
            events: self.reconciler.config.events.as_ref(),
        }
    }

    fn event(&self, kind: drystone_engine::events::EventKind, reason: &str, note: &str) {
        self.reconciler.config.events.publish(&reference_to(&self.host), kind, reason, note);
    }
}

fn read_credentials(secret: &Secret) -> Credentials {
    let text = |key: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.clone());
        bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default().trim().to_owned()
    };
    Credentials { username: text("username"), password: text("password") }
}
