//! One pass over a BareMetalHost: asks the state machine what to do next, does it, writes what came of it.
//!
//! Rooms: [`actions`] (what each decision does, through a way of provisioning), [`report`] (errors, and what a success
//! clears), [`seed`] (what a host is booted with), [`hardware`] (HardwareData and what annotations bring),
//! [`firmware`] (HostFirmwareSettings), [`slots`], [`pauses`].

mod actions;
mod firmware;
mod hardware;
mod pauses;
mod report;
mod seed;
mod slots;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use drystone_api::{BareMetalHost, BareMetalHostStatus, ProvisioningState};
use drystone_engine::{
    events::EventKind,
    harness::{
        Reconciler, Requeue, StatusError, add_finalizer, has_finalizer, is_deleted, remove_finalizer,
        update_status,
    },
    reference::reference_to,
};
use k8s_openapi::{api::core::v1::Secret, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Map, Value, json};

pub(super) use pauses::Pauses;
pub(super) use slots::Slots;

use super::{
    FINALIZER, MetalConfig,
    blocks::{self, BlockError},
};
use crate::{
    driver::{Credentials, DriverError},
    medium::Seed,
    model::{Annotations, BmcAddress, BootVia, Problem, admission},
    plan::{CredentialsFound, Next, Surroundings, next},
    provisioner::{Job, Provisioner},
};

/// Label on Secrets that hosts need; Metal3's own, by which such Secrets are found.
const SECRET_LABEL: (&str, &str) = ("environment.metal3.io", "baremetal");

/// Most passes over a host in a row, before others that wait get their turn: from its declaration until it is available it takes six.
const PASSES: u32 = 12;

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
    pub(super) slots: Slots,
    pub(super) pauses: Pauses,
}

/// One pass: the host as it was read, and what belongs to it.
struct Pass<'a> {
    reconciler: &'a HostReconciler,
    api: Api<BareMetalHost>,
    host: BareMetalHost,
    secret: Option<Secret>,
    seed: Option<Seed>,
    annotations: Annotations,
    /// What is wrong with the resource.
    problems: Vec<Problem>,
    /// Firmware settings that are not as they are wanted.
    firmware_to_apply: Map<String, Value>,
    /// When the pass began.
    began: Timestamp,
}

/// The way that a host goes, and how its management controller is reached.
struct Way {
    address: BmcAddress,
    credentials: Credentials,
    provisioner: Arc<dyn Provisioner>,
}

/// What comes after a pass.
enum After {
    /// Another one, at once, over the host as it was written.
    Again(Box<BareMetalHost>),
    /// Rest.
    Rest(Requeue),
}

/// What an action came to.
enum Outcome {
    /// Done; write this and look again after a while. There is no error any more.
    Changed(Box<dyn Fn(&mut BareMetalHostStatus) + Send + Sync>, Duration),
    /// Write this and look again after a while. What was wrong is still wrong.
    Noted(Box<dyn Fn(&mut BareMetalHostStatus) + Send + Sync>, Duration),
    /// Still at work; look again soon. How far it is, for people.
    Working(Duration, String),
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
        Box::pin(self.work(Pass::new(self, api, host, secret, seed))).await
    }
}

impl HostReconciler {
    /// One pass after the other, as long as each leaves something for the next one: what the watch would bring back anyway, later, need not
    /// be waited for. A host of which something else is wanted meanwhile is begun with anew.
    async fn work(&self, mut pass: Pass<'_>) -> Result<Requeue, HostError> {
        let (uid, wanted) = (pass.uid(), pass.host.metadata.generation);
        for number in 1..=PASSES {
            if pass.may_act() {
                pass.firmware_to_apply = pass.firmware_to_apply().await?;
            }
            if number == 1 {
                if let Some(left) = self.pauses.left(&uid, pass.wanted()) {
                    return Ok(Requeue::After(left));
                }
                blocks::follow(&self.client, &pass.host).await?;
            }
            match pass.run().await? {
                After::Rest(requeue) => return Ok(requeue),
                After::Again(host) if host.metadata.generation == wanted => pass = pass.next(*host),
                After::Again(_) => break,
            }
        }
        Ok(Requeue::After(actions::AT_ONCE))
    }

    /// The Secret with the credentials, labelled as Metal3 labels it.
    async fn credentials(&self, host: &BareMetalHost) -> Result<Option<Secret>, HostError> {
        let Some(bmc) = &host.spec.bmc else { return Ok(None) };
        let secrets: Api<Secret> =
            Api::namespaced(self.client.clone(), &host.namespace().unwrap_or_default());
        let found = secrets.get_opt(&bmc.credentials_name).await;
        let Some(secret) = found.map_err(api_error("reading the credentials"))? else { return Ok(None) };
        let (label, value) = SECRET_LABEL;
        if is_deleted(host) || secret.labels().get(label).is_some_and(|present| present == value) {
            return Ok(Some(secret));
        }
        let patch = json!({"metadata": {"labels": {label: value}}});
        let patched =
            secrets.patch(&bmc.credentials_name, &PatchParams::default(), &Patch::Merge(&patch)).await;
        patched.map(Some).map_err(api_error("labelling the credentials"))
    }
}

impl<'a> Pass<'a> {
    fn new(
        reconciler: &'a HostReconciler,
        api: Api<BareMetalHost>,
        host: BareMetalHost,
        secret: Option<Secret>,
        seed: Option<Seed>,
    ) -> Self {
        let (annotations, mut problems) = Annotations::read(host.annotations());
        problems.extend(admission::check(&host, &annotations));
        Self {
            reconciler,
            api,
            host,
            secret,
            seed,
            annotations,
            problems,
            firmware_to_apply: Map::new(),
            began: Timestamp::now(),
        }
    }

    /// The next one, over the host as it is then.
    fn next(self, host: BareMetalHost) -> Self {
        Self::new(self.reconciler, self.api, host, self.secret, self.seed)
    }

    /// Stands for everything that is wanted of the host: while it stays the same, another attempt is but a repetition.
    fn wanted(&self) -> u64 {
        let meta = &self.host.metadata;
        let mut hasher = DefaultHasher::new();
        (meta.generation, meta.deletion_timestamp.is_some(), &meta.annotations).hash(&mut hasher);
        self.secret.as_ref().and_then(kube::ResourceExt::resource_version).hash(&mut hasher);
        self.seed.as_ref().map(Seed::instance_id).hash(&mut hasher);
        Value::Object(self.firmware_to_apply.clone()).to_string().hash(&mut hasher);
        hasher.finish()
    }
}

impl Pass<'_> {
    fn uid(&self) -> String {
        self.host.uid().unwrap_or_default()
    }

    fn state(&self) -> ProvisioningState {
        self.host.status.as_ref().map(|status| status.provisioning.state).unwrap_or_default()
    }

    /// Whether the host needs no slot: what boots from virtual media loads no provisioning network.
    fn is_exempt(&self) -> bool {
        let address = self.host.spec.bmc.as_ref().map(|bmc| BmcAddress::parse(&bmc.address));
        address
            .is_none_or(|address| address.is_ok_and(|address| address.scheme.boot == BootVia::VirtualMedia))
    }

    /// Whether the host is to be worked on.
    fn may_act(&self) -> bool {
        !self.annotations.paused && !is_deleted(&self.host) && self.problems.is_empty()
    }

    /// Decides, acts, writes.
    async fn run(&self) -> Result<After, HostError> {
        let host = &self.host;
        let deleting = is_deleted(host);
        if self.may_act()
            && let Some(requeue) = self.take_over().await?
        {
            return Ok(After::Rest(requeue));
        }
        let status = host.status.clone().unwrap_or_default();
        let slots = &self.reconciler.slots;
        if !self.is_exempt() {
            slots.follow(&self.uid(), status.provisioning.state);
        }
        let instance_id = self.seed.as_ref().map(Seed::instance_id);
        let version = self.secret.as_ref().and_then(kube::ResourceExt::resource_version);
        let credentials = match (&self.secret, &version) {
            (Some(secret), Some(version)) if is_complete(&read_credentials(secret)) => {
                CredentialsFound::Version(version)
            }
            (Some(_), _) => CredentialsFound::Incomplete,
            (None, _) => CredentialsFound::Missing,
        };
        let deprovisioned = status.operation_history.deprovision.end.as_ref().map(|end| end.0);
        let around = Surroundings {
            deleting,
            credentials,
            paused: self.annotations.paused,
            detached: self.annotations.detached,
            inspection_requested: self.annotations.inspection_requested,
            inspection_disabled: self.annotations.inspection_disabled
                || host.spec.inspection_mode.as_deref() == Some("disabled"),
            reboots: &self.annotations.reboots,
            instance_id: instance_id.as_deref(),
            valid: self.problems.is_empty(),
            slot_free: self.is_exempt() || slots.is_free(&self.uid()),
            firmware_changed: !self.firmware_to_apply.is_empty(),
            since_deprovisioned: deprovisioned.map_or(Duration::MAX, |end| elapsed(end, self.began)),
            pacing: &self.reconciler.config.pacing,
        };
        self.carry_out(next(&host.spec, &status, &around)).await
    }

    async fn carry_out(&self, decided: Next) -> Result<After, HostError> {
        let outcome = match &decided {
            Next::Rest(pause) => return Ok(After::Rest(Requeue::After(*pause))),
            Next::Forget => Ok(Outcome::Forgotten),
            Next::Enter(state) => Ok(self.enter(*state)),
            Next::Delay => Ok(self.delay()),
            Next::Attach => Ok(self.attach()),
            Next::ReportMissing(missing) => return self.report_missing(*missing).await.map(After::Rest),
            Next::ReportInvalid => return self.report_invalid().await.map(After::Rest),
            Next::Register => self.register().await,
            Next::Inspect => self.inspect().await,
            Next::Prepare => self.prepare().await,
            Next::Provision => self.provision().await,
            Next::Deprovision => self.deprovision().await,
            Next::Power(wanted) => self.power(*wanted).await,
            Next::RefuseReboot => self.refuse_reboot().await,
            Next::Detach => self.detach().await,
            Next::PowerOffBeforeDelete => self.power_off_before_delete().await,
            Next::Delete => self.delete().await,
        };
        match outcome {
            Ok(outcome) => self.write(outcome).await,
            Err(ActionError::Host(error)) => self.report(&decided, &error).await,
            Err(ActionError::Pass(error)) => Err(error),
        }
    }

    async fn write(&self, outcome: Outcome) -> Result<After, HostError> {
        let (api, host) = (&self.api, &self.host);
        let (change, note, pause) = match outcome {
            Outcome::Forgotten => {
                remove_finalizer(api, host, FINALIZER).await.map_err(api_error("removing the finalizer"))?;
                self.reconciler.slots.follow(&self.uid(), ProvisioningState::None);
                self.reconciler.pauses.forget(&self.uid());
                return Ok(After::Rest(Requeue::OnChange));
            }
            Outcome::Working(again, note) => (None, note, again),
            Outcome::Changed(change, pause) => (Some((change, true)), String::new(), pause),
            Outcome::Noted(change, pause) => (Some((change, false)), String::new(), pause),
        };
        let written = update_status(api, host, |status: &mut BareMetalHostStatus| {
            if let Some((change, settles)) = &change {
                change(status);
                if *settles {
                    report::settle(status);
                }
            }
            report::finish(status, host.status.as_ref(), &note);
        })
        .await?;
        if change.is_none() {
            return Ok(After::Rest(Requeue::After(pause)));
        }
        blocks::follow(&self.reconciler.client, &written).await?;
        let again = pause == actions::AT_ONCE;
        Ok(if again { After::Again(Box::new(written)) } else { After::Rest(Requeue::After(pause)) })
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

    fn event(&self, kind: EventKind, reason: &str, note: &str) {
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

fn is_complete(credentials: &Credentials) -> bool {
    !credentials.username.is_empty() && !credentials.password.is_empty()
}

/// Time that has passed; none if the clock went back.
fn elapsed(since: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}
