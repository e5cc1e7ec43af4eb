//! What the global Site says of the site: the site's own status, the connection, and how much has arrived.

use std::time::Duration;

use drystone_api::{
    ConnectionState, Site, SiteConnection, SiteStatus, SiteSynchronization, condition, set_condition,
};
use drystone_engine::harness::update_status;
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _};
use tokio::time::Instant;

use super::{courier::describe, there::Known};

/// Refused objects that are shown.
const SHOWN: usize = 8;

/// Conditions that the site says of itself.
const SITES_OWN: [&str; 3] = ["Ready", "ClusterReady", "HandedOff"];

/// Writes the status, seldom enough, and only when it is another one.
pub(super) struct Reporter {
    client: Client,
    interval: Duration,
    connection: SiteConnection,
    behind_since: Option<Time>,
    last: Option<Instant>,
    pub(super) is_due: bool,
}

impl Reporter {
    pub(super) fn new(client: Client, interval: Duration) -> Self {
        Self {
            client,
            interval,
            connection: SiteConnection::default(),
            behind_since: None,
            last: None,
            is_due: false,
        }
    }

    /// Something is declared that is not there yet, as of now; or all of it is.
    pub(super) fn note(&mut self, site: &Site, known: &Known) -> u32 {
        let pending = known.pending();
        if pending == 0 {
            self.behind_since = None;
        } else if self.behind_since.is_none() {
            // A replica that has just begun to lead goes on from what the one before it said.
            let before = site.status.as_ref().and_then(|status| status.synchronization.as_ref());
            let before = before.and_then(|synchronization| synchronization.behind_since.clone());
            self.behind_since = Some(before.unwrap_or_else(|| Time(Timestamp::now())));
        }
        pending
    }

    /// When the next write may be.
    pub(super) fn due_at(&self) -> Instant {
        self.last.map_or_else(Instant::now, |last| last + self.interval)
    }

    /// The connection is another one, or has failed again.
    pub(super) fn connection(&mut self, state: ConnectionState, message: &str) {
        let changed = self.connection.state != state || self.connection.since.is_none();
        let connected = state == ConnectionState::Connected;
        self.connection = SiteConnection {
            state,
            since: if changed { Some(Time(Timestamp::now())) } else { self.connection.since.clone() },
            failures: if connected { 0 } else { self.connection.failures.saturating_add(1) },
            message: message.to_owned(),
        };
        self.is_due = true;
    }

    pub(super) fn failures(&self) -> u32 {
        self.connection.failures
    }

    /// Writes the status if that may be now. What cannot be written is tried again at the next occasion.
    pub(super) async fn write(&mut self, site: &Site, known: &Known) {
        let pending = self.note(site, known);
        self.last = Some(Instant::now());
        self.is_due = false;
        let sites: Api<Site> = Api::namespaced(self.client.clone(), &site.namespace().unwrap_or_default());
        let change = |status: &mut SiteStatus| self.apply(known, pending, status);
        if let Err(error) = update_status(&sites, site, change).await {
            tracing::warn!(site = site.name_any(), %error, "status not written; trying again");
            self.is_due = true;
        }
    }

    fn apply(&self, known: &Known, pending: u32, status: &mut SiteStatus) {
        let now = Timestamp::now();
        if let Some(site) = &known.site {
            status.hosts = site.hosts;
            status.inspected_hosts = site.inspected_hosts;
            status.fabric_services = site.fabric_services;
            status.hosts_by_state.clone_from(&site.hosts_by_state);
            status.cluster.clone_from(&site.cluster);
            status.hand_off.clone_from(&site.hand_off);
            status.conditions.retain(|condition| !SITES_OWN.contains(&condition.type_.as_str()));
            let own =
                site.conditions.iter().filter(|condition| SITES_OWN.contains(&condition.type_.as_str()));
            status.conditions.extend(own.cloned());
            status.rollouts.clone_from(&site.rollouts);
        }
        let mut connection = self.connection.clone();
        // The same state under another leader is the same connection as far as its user is concerned.
        if let Some(before) = status.connection.as_ref().filter(|before| before.state == connection.state) {
            connection.since.clone_from(&before.since);
        }
        let synchronized = pending == 0 && connection.state == ConnectionState::Connected;
        let generation = match synchronized {
            true => known.wanted.generation,
            false => status.synchronization.as_ref().and_then(|before| before.generation),
        };
        status.synchronization = Some(SiteSynchronization {
            generation,
            objects: u32::try_from(known.wanted.parcels.len()).unwrap_or(u32::MAX),
            pending,
            behind_since: self.behind_since.clone(),
            refused: known
                .refusals()
                .take(SHOWN)
                .map(|(key, why)| format!("{}: {why}", describe(key)))
                .collect(),
        });
        if !known.conflicts.is_empty() {
            status.conflicts.clone_from(&known.conflicts);
        }
        let connected = connection.state == ConnectionState::Connected;
        let reason = format!("{:?}", connection.state);
        let new = condition("Connected", connected, &reason, connection.message.clone());
        set_condition(&mut status.conditions, new, now);
        let (reason, message) = match (synchronized, pending) {
            (true, _) => ("Delivered", String::new()),
            (false, 0) => ("Unknown", "the site does not answer".to_owned()),
            (false, _) => ("Behind", format!("{pending} objects have yet to be delivered")),
        };
        set_condition(&mut status.conditions, condition("Synchronized", synchronized, reason, message), now);
        status.connection = Some(connection);
    }
}
