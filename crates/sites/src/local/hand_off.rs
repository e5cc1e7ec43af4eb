//! One pass over what a site's orchestrator is told: what has to be told is noted, told, and the answer is noted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drystone_api::{
    BareMetalHost, Cluster, HandOffState, SITE_LABEL, Site, SiteHandOff, SiteHandOffStatus, SiteStatus,
    condition, set_condition,
};
use drystone_engine::{
    events::EventKind,
    harness::{
        Cache, Reconciler, Requeue, add_finalizer, has_finalizer, is_deleted, remove_finalizer, update_status,
    },
    reference::{ObjectKey, is_conflict, is_not_found, reference_to},
};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    LocalConfig,
    controller::{MADE_FOR_LABEL, SiteError, api_error},
};
use crate::{
    hand_off::{Answer, HandoffError, orchestrator},
    plan::hand_off::{
        Decision, Document, Inventory, ObjectName, SiteIdentity, check, consumer, decide, given_up, gives_up,
        inventory, is_claimed, is_taken, overtaken, phase, taken, wants_claim, wants_release,
    },
};

/// Keeps a Site until its orchestrator knows that it goes.
const FINALIZER: &str = "drystone.dev/site-hand-off";

/// The condition that says whether the orchestrator has been told.
const CONDITION: &str = "HandedOff";

/// How long an orchestrator is told that a site leaves it, unless the specification says.
const WITHDRAWAL_LIMIT: u64 = 600;

/// How soon a Site is looked at again that somebody else has changed meanwhile.
const SOON: Duration = Duration::from_millis(100);

/// Hosts that are named at once.
const SHOWN: usize = 5;

pub(super) struct HandOffReconciler {
    pub(super) client: Client,
    pub(super) config: LocalConfig,
    pub(super) hosts: Cache<BareMetalHost>,
    pub(super) clusters: Cache<Cluster>,
    pub(super) attempts: Attempts,
}

impl Reconciler for HandOffReconciler {
    type Object = Site;
    type Error = SiteError;

    const NAME: &'static str = "site-hand-off";

    async fn reconcile(&self, site: Arc<Site>) -> Result<Requeue, SiteError> {
        let sites: Api<Site> = Api::namespaced(self.client.clone(), &site.namespace().unwrap_or_default());
        let key = ObjectKey::of(site.as_ref());
        // A site with a local controller is that one's business.
        if site.spec.controller.is_some() {
            self.attempts.forget(&key);
            if has_finalizer(site.as_ref(), FINALIZER) {
                let removed = remove_finalizer(&sites, site.as_ref(), FINALIZER).await;
                removed.map_err(api_error("removing the finalizer"))?;
            }
            return Ok(Requeue::OnChange);
        }
        if site.spec.hand_off.is_none() && !has_finalizer(site.as_ref(), FINALIZER) {
            return Ok(Requeue::OnChange);
        }
        // The controller's copy may be older than what was noted last.
        let present = sites.get_opt(&site.name_any()).await.map_err(api_error("reading the Site"))?;
        let Some(mut site) = present.filter(|present| present.uid() == site.uid()) else {
            self.attempts.forget(&key);
            return Ok(Requeue::OnChange);
        };
        if !is_deleted(&site) {
            let problems = check(&site);
            if !problems.is_empty() {
                let words: Vec<String> = problems.iter().map(ToString::to_string).collect();
                self.report(&sites, &site, false, "Invalid", &words.join("; ")).await?;
                return Ok(Requeue::OnChange);
            }
            if site.spec.hand_off.is_some() {
                site = add_finalizer(&sites, &site, FINALIZER)
                    .await
                    .map_err(api_error("adding the finalizer"))?;
            }
        }
        self.look(&sites, &site).await
    }
}

impl HandOffReconciler {
    async fn look(&self, sites: &Api<Site>, site: &Site) -> Result<Requeue, SiteError> {
        let record = site.status.as_ref().and_then(|status| status.hand_off.as_ref());
        let hosts = self.hosts(site).await;
        let cluster = self.cluster(site).await;
        let known = record.map(|record| record.hosts.as_slice()).unwrap_or_default();
        let stock = inventory(site, &hosts, cluster.as_deref(), known);
        self.release(site, &hosts, &stock).await?;
        let identity = SiteIdentity {
            uid: site.uid().unwrap_or_default(),
            name: ObjectName { namespace: site.namespace().unwrap_or_default(), name: site.name_any() },
        };
        let wanted = site.spec.hand_off.as_ref().filter(|_| !is_deleted(site));
        match decide(&identity, wanted, &stock, record, Timestamp::now()) {
            Decision::Over => {
                self.attempts.forget(&ObjectKey::of(site));
                if !self.release_all(site).await? {
                    return Ok(Requeue::After(SOON));
                }
                update_status(sites, site, |status: &mut SiteStatus| {
                    status.conditions.retain(|condition| condition.type_ != CONDITION);
                })
                .await?;
                let removed = remove_finalizer(sites, site, FINALIZER).await;
                removed.map_err(api_error("removing the finalizer"))?;
                Ok(Requeue::OnChange)
            }
            Decision::NoHosts => {
                let waiting = named(&stock.waiting);
                let message = match (waiting.is_empty(), site.spec.cluster.is_some()) {
                    (true, _) => "the list has no hosts".to_owned(),
                    (false, true) => format!("no host is a node that is ready yet: {waiting}"),
                    (false, false) => format!("no host has its operating system yet: {waiting}"),
                };
                self.report(sites, site, false, "WaitingForHosts", &message).await?;
                Ok(Requeue::OnChange)
            }
            Decision::Settled(record) => {
                self.attempts.forget(&ObjectKey::of(site));
                let message = delivered(&record);
                let settled = self.note(sites, site, &record, (true, "Delivered", &message)).await?;
                Ok(if settled.is_some() { Requeue::OnChange } else { Requeue::After(SOON) })
            }
            Decision::Tell { record, document } => {
                if document.state == HandOffState::Present && !self.claim(site, &stock).await? {
                    return Ok(Requeue::After(SOON));
                }
                self.tell(sites, site, *record, &document).await
            }
        }
    }

    async fn hosts(&self, site: &Site) -> Vec<Arc<BareMetalHost>> {
        let (namespace, name) = (site.namespace(), site.name_any());
        self.hosts.ready().await;
        self.hosts
            .list_where(|host| host.labels().get(SITE_LABEL) == Some(&name) && host.namespace() == namespace)
    }

    async fn cluster(&self, site: &Site) -> Option<Arc<Cluster>> {
        let name = site.name_any();
        self.clusters.ready().await;
        self.clusters
            .list_where(|cluster| cluster.labels().get(MADE_FOR_LABEL) == Some(&name))
            .into_iter()
            .next()
    }

    /// Gives back hosts that the orchestrator does not have any more.
    async fn release(
        &self,
        site: &Site,
        hosts: &[Arc<BareMetalHost>],
        stock: &Inventory,
    ) -> Result<(), SiteError> {
        let record = site.status.as_ref().and_then(|status| status.hand_off.as_ref());
        let (limit, now) = (record.map_or(WITHDRAWAL_LIMIT, withdrawal_limit), Timestamp::now());
        for host in hosts.iter().filter(|host| wants_release(host, site, stock, record, limit, now)) {
            self.set_consumer(host, &json!(null)).await?;
        }
        Ok(())
    }

    /// Gives back all hosts, as the API itself knows them; `false` if one has to be looked at again.
    async fn release_all(&self, site: &Site) -> Result<bool, SiteError> {
        let hosts: Api<BareMetalHost> =
            Api::namespaced(self.client.clone(), &site.namespace().unwrap_or_default());
        let of_site = ListParams::default().labels(&format!("{SITE_LABEL}={}", site.name_any()));
        let found = hosts.list(&of_site).await.map_err(api_error("listing BareMetalHosts"))?;
        let mut all = true;
        for host in found.items.iter().filter(|host| is_claimed(host, site)) {
            all &= self.set_consumer(host, &json!(null)).await?;
        }
        Ok(all)
    }

    /// Claims the hosts that the orchestrator is told of; `false` if somebody else was faster with one.
    async fn claim(&self, site: &Site, stock: &Inventory) -> Result<bool, SiteError> {
        let consumer = json!(consumer(site));
        let hosts = self.hosts(site).await;
        let mut all = true;
        for host in hosts.iter().filter(|host| wants_claim(host, site, stock)) {
            all &= self.set_consumer(host, &consumer).await?;
        }
        Ok(all)
    }

    /// Sets or removes the consumer of a host, unless the host has changed meanwhile.
    async fn set_consumer(&self, host: &BareMetalHost, consumer: &Value) -> Result<bool, SiteError> {
        let (namespace, name) = (host.namespace().unwrap_or_default(), host.name_any());
        let hosts: Api<BareMetalHost> = Api::namespaced(self.client.clone(), &namespace);
        let body = json!({"metadata": {"uid": host.uid(), "resourceVersion": host.resource_version()},
            "spec": {"consumerRef": consumer}});
        match hosts.patch(&name, &PatchParams::default(), &Patch::Merge(&body)).await {
            Ok(_) => Ok(true),
            Err(error) if is_conflict(&error) || is_not_found(&error) => Ok(false),
            Err(error) => Err(api_error(format!("changing the consumer of {name}"))(error)),
        }
    }

    /// Notes what is to be told, tells it, and notes the answer.
    async fn tell(
        &self,
        sites: &Api<Site>,
        site: &Site,
        record: SiteHandOffStatus,
        document: &Document,
    ) -> Result<Requeue, SiteError> {
        let key = ObjectKey::of(site);
        if let Some(left) = self.attempts.left(&key, &record) {
            return Ok(Requeue::After(left));
        }
        let Some(target) = &record.target else { return Ok(Requeue::OnChange) };
        let Some(orchestrator) = orchestrator(&self.client, &document.site.namespace, target) else {
            return Ok(Requeue::OnChange);
        };
        let before = standing(site).unwrap_or((false, "Delivering", String::new()));
        let noted = self.note(sites, site, &record, (before.0, before.1, &before.2)).await?;
        let Some(site) = noted else { return Ok(Requeue::After(SOON)) };
        let answer = match document.state {
            HandOffState::Present => orchestrator.hand_over(document).await,
            HandOffState::Withdrawn => orchestrator.withdraw(document).await,
        };
        match answer {
            Ok(answer) => self.took(sites, &site, &record, &answer).await,
            Err(error) => self.failed(sites, &site, record, &error).await,
        }
    }

    async fn took(
        &self,
        sites: &Api<Site>,
        site: &Site,
        record: &SiteHandOffStatus,
        answer: &Answer,
    ) -> Result<Requeue, SiteError> {
        let after = taken(record, &answer.phase, &answer.message, Timestamp::now());
        let message = delivered(&after);
        let in_progress = answer.phase == phase::IN_PROGRESS && after.state == HandOffState::Present;
        let (is_done, reason) = match (after.state, in_progress) {
            (HandOffState::Withdrawn, _) => (false, "Withdrawn"),
            (HandOffState::Present, true) => (false, phase::IN_PROGRESS),
            (HandOffState::Present, false) => (true, "Delivered"),
        };
        // What is not noted is told again under the same number.
        let noted = self.note(sites, site, &after, (is_done, reason, &message)).await?;
        if noted.is_some() && !is_taken(record) {
            let reason =
                if after.state == HandOffState::Withdrawn { "HandOffWithdrawn" } else { "HandedOff" };
            self.config.events.publish(&reference_to(site), EventKind::Normal, reason, &message);
        }
        let key = ObjectKey::of(site);
        if in_progress {
            let pause = self.attempts.again(&key, &after, false, &self.config);
            return Ok(Requeue::After(pause));
        }
        self.attempts.forget(&key);
        // Whoever is to be told next is found out in another pass.
        Ok(Requeue::After(SOON))
    }

    async fn failed(
        &self,
        sites: &Api<Site>,
        site: &Site,
        record: SiteHandOffStatus,
        error: &HandoffError,
    ) -> Result<Requeue, SiteError> {
        let mut after = record.clone();
        let mut message = format!("generation {}: {error}", record.generation);
        let mut reason = if record.state == HandOffState::Withdrawn { "Withdrawing" } else { "NotDelivered" };
        match error {
            HandoffError::NotDone { phase, message } => {
                after.phase.clone_from(phase);
                after.message.clone_from(message);
            }
            HandoffError::Overtaken(theirs) => after = overtaken(&record, *theirs).unwrap_or(after),
            _ => {}
        }
        if gives_up(&after, withdrawal_limit(&record), Timestamp::now()) {
            after = given_up(&after);
            reason = "WithdrawalGivenUp";
            message = format!("it is given up to tell that the site leaves: {error}");
        }
        let is_news = standing(site).is_none_or(|(_, _, before)| before != message);
        self.note(sites, site, &after, (false, reason, &message)).await?;
        if is_news {
            let reference = reference_to(site);
            self.config.events.publish(&reference, EventKind::Warning, reason, &message);
        }
        let pause = self.attempts.again(&ObjectKey::of(site), &after, true, &self.config);
        Ok(Requeue::After(if after.gave_up { SOON } else { pause }))
    }

    /// Writes the record, unless somebody else has written another one meanwhile: then nothing. The rest of the status is the condition.
    async fn note(
        &self,
        sites: &Api<Site>,
        site: &Site,
        record: &SiteHandOffStatus,
        (status, reason, message): (bool, &str, &str),
    ) -> Result<Option<Site>, SiteError> {
        let before = site.status.as_ref().and_then(|status| status.hand_off.clone());
        let written = update_status(sites, site, |now: &mut SiteStatus| {
            if now.hand_off == before {
                now.hand_off = Some(record.clone());
                let new = condition(CONDITION, status, reason, message);
                set_condition(&mut now.conditions, new, Timestamp::now());
            }
        })
        .await?;
        let is_ours = written.status.as_ref().and_then(|status| status.hand_off.as_ref()) == Some(record);
        Ok(is_ours.then_some(written))
    }

    async fn report(
        &self,
        sites: &Api<Site>,
        site: &Site,
        status: bool,
        reason: &str,
        message: &str,
    ) -> Result<(), SiteError> {
        update_status(sites, site, |now: &mut SiteStatus| {
            let new = condition(CONDITION, status, reason, message);
            set_condition(&mut now.conditions, new, Timestamp::now());
        })
        .await?;
        Ok(())
    }
}

/// What the condition says now.
fn standing(site: &Site) -> Option<(bool, &str, String)> {
    let conditions = &site.status.as_ref()?.conditions;
    let found = conditions.iter().find(|condition| condition.type_ == CONDITION)?;
    Some((found.status == "True", &found.reason, found.message.clone()))
}

/// How long an orchestrator is told that hosts, or the site, leave it, in seconds.
fn withdrawal_limit(record: &SiteHandOffStatus) -> u64 {
    let webhook = record.target.as_ref().and_then(|target| target.webhook.as_ref());
    webhook.and_then(|webhook| webhook.withdrawal_limit).map_or(WITHDRAWAL_LIMIT, |limit| limit.0)
}

/// What has been taken, in words.
fn delivered(record: &SiteHandOffStatus) -> String {
    let number = record.hosts.len();
    let hosts = if number == 1 { "host" } else { "hosts" };
    let mut words = vec![format!("generation {}: {number} {hosts}", record.generation)];
    words.extend(Some(record.phase.clone()).filter(|phase| phase != phase::ACCEPTED && !phase.is_empty()));
    words.extend(Some(record.message.clone()).filter(|message| !message.is_empty()));
    words.join("; ")
}

/// The first few names.
fn named(names: &[String]) -> String {
    let first = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Orchestrators that have not taken what they were told, or are at work, and when they are told again.
#[derive(Default)]
pub(super) struct Attempts(Mutex<HashMap<ObjectKey, Attempt>>);

struct Attempt {
    target: Option<SiteHandOff>,
    state: HandOffState,
    generation: i64,
    has_failed: bool,
    count: u32,
    next: Instant,
}

impl Attempt {
    /// Whether what is to be told now has to wait: not for what another orchestrator did, and what is new waits only for one that fails.
    fn concerns(&self, record: &SiteHandOffStatus) -> bool {
        let is_same = self.target == record.target && self.state == record.state;
        is_same && (self.has_failed || self.generation == record.generation)
    }
}

impl Attempts {
    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, Attempt>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long to wait before it is told again.
    fn left(&self, key: &ObjectKey, record: &SiteHandOffStatus) -> Option<Duration> {
        let all = self.lock();
        let attempt = all.get(key).filter(|attempt| attempt.concerns(record))?;
        attempt.next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// It is to be told again: after what pause.
    fn again(
        &self,
        key: &ObjectKey,
        record: &SiteHandOffStatus,
        has_failed: bool,
        config: &LocalConfig,
    ) -> Duration {
        let mut all = self.lock();
        let before =
            all.get(key).filter(|attempt| attempt.concerns(record) && attempt.has_failed == has_failed);
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        let pause = config.hand_off_backoff.random_delay(count);
        let (target, state) = (record.target.clone(), record.state);
        let next = Instant::now() + pause;
        let attempt = Attempt { target, state, generation: record.generation, has_failed, count, next };
        all.insert(key.clone(), attempt);
        pause
    }

    fn forget(&self, key: &ObjectKey) {
        self.lock().remove(key);
    }
}
