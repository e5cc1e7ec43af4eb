//! One pass over a BareMetalHost: asks the state machine what to do next, does it, writes what came of it.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    BareMetalHost, BareMetalHostStatus, CredentialsStatus, ImageFormat, OperationalStatus,
    ProvisioningState as State, SITE_LABEL, SecretReference,
};
use drystone_engine::{
    events::EventKind,
    harness::{
        Reconciler, Requeue, StatusError, add_finalizer, has_finalizer, is_deleted, remove_finalizer,
        update_status,
    },
    reference::reference_to,
};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use url::Url;

use super::{
    FINALIZER, MetalConfig,
    blocks::{self, BlockError},
    seed,
};
use crate::{
    driver::{BootProgress, Credentials, DriverError, HostDriver},
    medium::{MEDIUM_IMAGE, Seed},
    model::{BmcAddress, Inventory},
    plan::{Next, Surroundings, backoff, next},
};

/// How often a booting host is looked at.
const BOOT_POLL: Duration = Duration::from_millis(250);

/// How often a host at rest is looked at: power may change behind our back.
const STEADY_POLL: Duration = Duration::from_secs(60);

/// How long to wait for a Secret that is missing; its arrival is noticed at once anyway.
const MISSING_SECRET_POLL: Duration = Duration::from_secs(10);

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
    #[error("writing the boot medium: {0}")]
    Medium(#[from] std::io::Error),
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

/// What an action came to.
enum Outcome {
    /// Done; write this and look again after a while.
    Changed(Box<dyn Fn(&mut BareMetalHostStatus) + Send + Sync>, Duration),
    /// Still at work; look again soon.
    Working,
    /// The finalizer may go.
    Forgotten,
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
        let instance_id = seed.as_ref().map(Seed::instance_id);
        let version = secret.as_ref().map(|secret| secret.resource_version().unwrap_or_default());
        let annotated = |key: &str| host.annotations().contains_key(key);
        let around = Surroundings {
            deleting: is_deleted(&host),
            credentials_version: version.as_deref(),
            paused: annotated(PAUSED),
            detached: annotated(DETACHED),
            inspection_requested: host.annotations().get(INSPECT).is_some_and(|value| value != "disabled"),
            instance_id: instance_id.as_deref(),
        };
        let status = host.status.clone().unwrap_or_default();
        let decided = next(&host.spec, &status, around);
        blocks::follow(&self.client, &host).await?;
        self.carry_out(&api, &host, decided, secret.as_ref(), seed).await
    }
}

impl HostReconciler {
    async fn credentials(&self, host: &BareMetalHost) -> Result<Option<Secret>, HostError> {
        let Some(bmc) = &host.spec.bmc else { return Ok(None) };
        let secrets: Api<Secret> =
            Api::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        secrets.get_opt(&bmc.credentials_name).await.map_err(api_error("reading the credentials"))
    }

    fn driver(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
    ) -> Result<Box<dyn HostDriver>, DriverError> {
        let bmc = host.spec.bmc.clone().unwrap_or_default();
        let refused = |reason: String| DriverError::Refused {
            host: bmc.address.clone(),
            doing: "reading the address".to_owned(),
            reason,
        };
        let address = BmcAddress::parse(&bmc.address).map_err(|error| refused(error.to_string()))?;
        let data = secret.and_then(|secret| secret.data.clone()).unwrap_or_default();
        let text = |key: &str| {
            data.get(key)
                .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let credentials = Credentials { username: text("username"), password: text("password") };
        self.config.drivers.open(&address, &credentials, !bmc.disable_certificate_verification)
    }

    async fn carry_out(
        &self,
        api: &Api<BareMetalHost>,
        host: &BareMetalHost,
        decided: Next,
        secret: Option<&Secret>,
        seed: Option<Seed>,
    ) -> Result<Requeue, HostError> {
        let outcome = match decided {
            Next::Rest => return Ok(Requeue::After(STEADY_POLL)),
            Next::Forget => Ok(Outcome::Forgotten),
            Next::Enter(state) => Ok(self.enter(host, state)),
            Next::ReportMissingCredentials => {
                return self.report_missing(api, host, "the Secret with BMC credentials").await;
            }
            Next::ReportMissingData => {
                return self.report_missing(api, host, "a Secret with boot data").await;
            }
            Next::ReportDetached => {
                let detach = |status: &mut BareMetalHostStatus| {
                    status.operational_status = OperationalStatus::Detached;
                };
                Ok(Outcome::Changed(Box::new(detach), STEADY_POLL))
            }
            Next::Register => self.register(host, secret).await,
            Next::Inspect => match self.inspect(host, secret).await {
                Ok((inventory, powered_on)) => {
                    blocks::record(&self.client, host, &inventory).await?;
                    self.take_as_found(api, host, powered_on).await?;
                    self.clear_inspection_request(api, host).await?;
                    Ok(inspected(&inventory, &host.name_any(), powered_on))
                }
                Err(error) => Err(error),
            },
            Next::Provision => {
                let seed = seed.unwrap_or_default();
                let archive = seed.archive()?;
                self.provision(host, secret, &seed, archive).await
            }
            Next::Deprovision => self.deprovision(host, secret).await,
            Next::Power(on) => self.power(host, secret, on).await,
            Next::PowerOffAndForget => self.power_off_and_forget(host, secret).await,
        };
        match outcome {
            Ok(Outcome::Working) => Ok(Requeue::After(BOOT_POLL)),
            Ok(Outcome::Forgotten) => {
                remove_finalizer(api, host, FINALIZER).await.map_err(api_error("removing the finalizer"))?;
                Ok(Requeue::OnChange)
            }
            Ok(Outcome::Changed(change, pause)) => {
                let written = update_status(api, host, |status: &mut BareMetalHostStatus| {
                    change(status);
                    settle(status, host.status.as_ref());
                })
                .await?;
                blocks::follow(&self.client, &written).await?;
                Ok(Requeue::After(pause))
            }
            Err(error) => self.report(api, host, &error).await,
        }
    }

    fn event(&self, host: &BareMetalHost, kind: EventKind, reason: &str, note: &str) {
        self.config.events.publish(&reference_to(host), kind, reason, note);
    }

    fn enter(&self, host: &BareMetalHost, state: State) -> Outcome {
        let event = match state {
            State::Inspecting => Some(("InspectionStarted", "Hardware inspection started")),
            State::Provisioning => Some(("ProvisioningStarted", "Image provisioning started")),
            State::Deprovisioning => Some(("DeprovisioningStarted", "Image deprovisioning started")),
            _ => None,
        };
        if let Some((reason, note)) = event {
            self.event(host, EventKind::Normal, reason, note);
        }
        let change = move |status: &mut BareMetalHostStatus| {
            status.provisioning.state = state;
            if state == State::Unmanaged {
                status.operational_status = OperationalStatus::Discovered;
            }
        };
        Outcome::Changed(Box::new(change), Duration::from_millis(1))
    }

    async fn register(&self, host: &BareMetalHost, secret: Option<&Secret>) -> Result<Outcome, DriverError> {
        self.driver(host, secret)?.verify().await?;
        self.event(host, EventKind::Normal, "BMCAccessValidated", "Verified access to BMC");
        let credentials = CredentialsStatus {
            credentials: secret
                .map(|secret| SecretReference { name: secret.name_any(), namespace: secret.namespace() }),
            credentials_version: secret.and_then(kube::ResourceExt::resource_version).unwrap_or_default(),
        };
        let change = move |status: &mut BareMetalHostStatus| {
            status.good_credentials = credentials.clone();
            status.tried_credentials = credentials.clone();
        };
        Ok(Outcome::Changed(Box::new(change), Duration::from_millis(1)))
    }

    async fn inspect(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
    ) -> Result<(Inventory, bool), DriverError> {
        let driver = self.driver(host, secret)?;
        let inventory = driver.inspect().await?;
        let state = driver.state().await?;
        self.event(host, EventKind::Normal, "InspectionComplete", "Hardware inspection completed");
        Ok((inventory, state.powered_on))
    }

    /// A host that is met for the first time, made by a Site and running, is wanted running: it belongs to the hosts that
    /// start fast, until its first use.
    async fn take_as_found(
        &self,
        api: &Api<BareMetalHost>,
        host: &BareMetalHost,
        powered_on: bool,
    ) -> Result<(), HostError> {
        let first = host.status.as_ref().is_none_or(|status| status.hardware.is_none());
        let from_site = host.labels().contains_key(SITE_LABEL);
        if first && from_site && powered_on && !host.spec.online {
            let patch = json!({"spec": {"online": true}});
            let patched = api.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(api_error("taking the host as it was found"))?;
        }
        Ok(())
    }

    async fn clear_inspection_request(
        &self,
        api: &Api<BareMetalHost>,
        host: &BareMetalHost,
    ) -> Result<(), HostError> {
        if host.annotations().get(INSPECT).is_some_and(|value| value != "disabled") {
            let patch = json!({"metadata": {"annotations": {INSPECT: null}}});
            let patched = api.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await;
            patched.map_err(api_error("clearing the inspection request"))?;
        }
        Ok(())
    }

    /// Boots the wanted image. What is found half-done (a crash came between) is gone on with: a host that already runs
    /// from its medium is not switched off again.
    async fn provision(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
        seed: &Seed,
        archive: Vec<u8>,
    ) -> Result<Outcome, DriverError> {
        let (key, instance) = (host.uid().unwrap_or_default(), seed.instance_id());
        let url = self.image_url(host, seed, &key, &instance, archive)?;
        let driver = self.driver(host, secret)?;
        let state = driver.state().await?;
        let ours = |medium: &String| {
            self.config.media.is_url_of(medium, &key, &instance)
                || (seed.image != MEDIUM_IMAGE && *medium == seed.image)
        };
        if state.powered_on && state.medium.as_ref().is_some_and(ours) {
            if state.progress < BootProgress::OperatingSystemRunning {
                return Ok(Outcome::Working);
            }
            driver.eject().await?;
            self.config.media.withdraw(&key, &instance);
            self.event(host, EventKind::Normal, "ProvisioningComplete", "Image provisioning completed");
            let image = host.spec.image.clone();
            let change = move |status: &mut BareMetalHostStatus| {
                status.provisioning.state = State::Provisioned;
                status.provisioning.image.clone_from(&image);
                status.provisioning.instance_id.clone_from(&instance);
                status.powered_on = true;
            };
            return Ok(Outcome::Changed(Box::new(change), STEADY_POLL));
        }
        driver.power_off(false).await?;
        driver.boot_medium_once(&url).await?;
        driver.power_on().await?;
        self.event(host, EventKind::Normal, "PowerOn", "Host booting from its medium");
        Ok(Outcome::Working)
    }

    /// What to insert: the medium made of the seed, or a live image as it is.
    fn image_url(
        &self,
        host: &BareMetalHost,
        seed: &Seed,
        key: &str,
        instance: &str,
        archive: Vec<u8>,
    ) -> Result<Url, DriverError> {
        if seed.image == MEDIUM_IMAGE {
            return Ok(self.config.media.offer(key, instance, archive));
        }
        let live = host.spec.image.as_ref().is_some_and(|image| image.format == Some(ImageFormat::LiveIso));
        let refused = |reason: &str| DriverError::Refused {
            host: host.name_any(),
            doing: format!("provisioning {}", seed.image),
            reason: reason.to_owned(),
        };
        if !live {
            return Err(refused(
                "disk images cannot be written yet; use format live-iso, or medium:/// for user data alone",
            ));
        }
        Url::parse(&seed.image).map_err(|_| refused("spec.image.url is not a URL"))
    }

    async fn deprovision(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
    ) -> Result<Outcome, DriverError> {
        let driver = self.driver(host, secret)?;
        driver.power_off(false).await?;
        driver.eject().await?;
        if host.spec.automated_cleaning_mode.as_deref() != Some("disabled") {
            driver.erase_drives().await?;
        }
        let status = host.status.clone().unwrap_or_default();
        self.config.media.withdraw(&host.uid().unwrap_or_default(), &status.provisioning.instance_id);
        self.event(host, EventKind::Normal, "DeprovisioningComplete", "Image deprovisioning completed");
        let change = |status: &mut BareMetalHostStatus| {
            status.provisioning.state = State::Available;
            status.provisioning.image = None;
            status.provisioning.instance_id = String::new();
            status.powered_on = false;
        };
        Ok(Outcome::Changed(Box::new(change), Duration::from_millis(1)))
    }

    async fn power(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
        on: bool,
    ) -> Result<Outcome, DriverError> {
        let driver = self.driver(host, secret)?;
        let state = driver.state().await?;
        if on && !state.powered_on {
            driver.power_on().await?;
            self.event(host, EventKind::Normal, "PowerOn", "Host powered on");
        } else if !on && state.powered_on {
            driver.power_off(true).await?;
            self.event(host, EventKind::Normal, "PowerOff", "Host powered off");
        }
        let change = move |status: &mut BareMetalHostStatus| status.powered_on = on;
        Ok(Outcome::Changed(Box::new(change), STEADY_POLL))
    }

    async fn power_off_and_forget(
        &self,
        host: &BareMetalHost,
        secret: Option<&Secret>,
    ) -> Result<Outcome, DriverError> {
        if secret.is_some() && host.spec.bmc.is_some() {
            self.driver(host, secret)?.power_off(true).await?;
        }
        Ok(Outcome::Forgotten)
    }

    async fn report_missing(
        &self,
        api: &Api<BareMetalHost>,
        host: &BareMetalHost,
        what: &str,
    ) -> Result<Requeue, HostError> {
        let message =
            format!("{what} is missing; create it in namespace {}", host.namespace().unwrap_or_default());
        update_status(api, host, |status: &mut BareMetalHostStatus| {
            status.operational_status = OperationalStatus::Error;
            "registration error".clone_into(&mut status.error_type);
            status.error_message.clone_from(&message);
        })
        .await?;
        Ok(Requeue::After(MISSING_SECRET_POLL))
    }

    /// Writes a failure down and says when to try again.
    async fn report(
        &self,
        api: &Api<BareMetalHost>,
        host: &BareMetalHost,
        error: &DriverError,
    ) -> Result<Requeue, HostError> {
        let state = host.status.as_ref().map(|status| status.provisioning.state).unwrap_or_default();
        let kind = match state {
            _ if matches!(error, DriverError::Unauthorized { .. }) => "registration error",
            State::None | State::Unmanaged | State::Registering => "registration error",
            State::Inspecting => "inspection error",
            State::Provisioning | State::Deprovisioning => "provisioning error",
            _ => "power management error",
        };
        let message = error.to_string();
        let written = update_status(api, host, |status: &mut BareMetalHostStatus| {
            status.operational_status = OperationalStatus::Error;
            kind.clone_into(&mut status.error_type);
            status.error_message.clone_from(&message);
            status.error_count =
                host.status.as_ref().map_or(0, |status| status.error_count).saturating_add(1);
        })
        .await?;
        blocks::follow(&self.client, &written).await?;
        let errors = written.status.map_or(1, |status| status.error_count);
        let reason = kind.split(' ').map(capitalized).collect::<String>();
        self.event(host, EventKind::Warning, &reason, &message);
        Ok(Requeue::After(backoff(errors)))
    }
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn inspected(inventory: &Inventory, name: &str, powered_on: bool) -> Outcome {
    let details = inventory.hardware_details(name);
    let change = move |status: &mut BareMetalHostStatus| {
        status.hardware = Some(details.clone());
        status.provisioning.state = State::Preparing;
        status.powered_on = powered_on;
    };
    Outcome::Changed(Box::new(change), Duration::from_millis(1))
}

/// After a success: no error any more; the time of the last change is kept when nothing changed.
fn settle(status: &mut BareMetalHostStatus, before: Option<&BareMetalHostStatus>) {
    if !matches!(status.operational_status, OperationalStatus::Detached | OperationalStatus::Discovered) {
        status.operational_status = OperationalStatus::OK;
    }
    status.error_type.clear();
    status.error_message.clear();
    status.error_count = 0;
    if before != Some(status) {
        status.last_updated = Some(Time(Timestamp::now()));
    }
}
