//! Handing hosts to an orchestrator, pure: what it has to be told now, given what it was told before.
//!
//! An orchestrator is told the whole inventory of a site in one document with a generation. What it is told is noted in the Site's status
//! before it is told; so whatever is interrupted is told again in the same words under the same generation, and nothing else ever is under
//! that one.

mod check;
mod claim;
mod document;
mod inventory;

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{CredentialsReference, HandOffState, SiteHandOff, SiteHandOffStatus};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use sha2::{Digest as _, Sha256};

pub use check::{Problem, check, is_loopback};
pub use claim::{consumer, is_claimed, wants_claim, wants_release};
pub use document::{
    API_VERSION, Document, DocumentCluster, DocumentHost, HardwareSummary, HostDetails, KIND, NicSummary,
    ObjectName,
};
pub use inventory::{Inventory, inventory};

/// Greatest generation that is believed of an orchestrator that says to have a later one: the greatest that every JSON reader can count from.
pub const MOST_GENERATION: i64 = (1 << 53) - 2;

/// A Site, as far as documents name it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SiteIdentity {
    /// Its uid.
    pub uid: String,
    /// Its namespace and name.
    pub name: ObjectName,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// No orchestrator is wanted, and none has to be told anything any more.
    Over,
    /// There is nothing to be told yet.
    NoHosts,
    /// The orchestrator has taken what there is to be told. This is noted, unless it is what is noted already.
    Settled(Box<SiteHandOffStatus>),
    /// The orchestrator is to be told this.
    Tell {
        /// What is noted first, unless it is what is noted already.
        record: Box<SiteHandOffStatus>,
        /// What it is told.
        document: Box<Document>,
    },
}

/// What to do. `wanted` is what the specification says, and nothing if the site is to go; `record` is what was noted last.
pub fn decide(
    site: &SiteIdentity,
    wanted: Option<&SiteHandOff>,
    inventory: &Inventory,
    record: Option<&SiteHandOffStatus>,
    now: Timestamp,
) -> Decision {
    let known = record.filter(|record| is_active(record));
    if let Some(known) = known
        && (known.state == HandOffState::Withdrawn
            || wanted.map(endpoint) != known.target.as_ref().map(endpoint))
    {
        let record = if known.state == HandOffState::Withdrawn {
            known.clone()
        } else {
            next(known, HandOffState::Withdrawn, &known.hosts, String::new(), now)
        };
        return tell(site, record, &Inventory::default(), None);
    }
    let Some(wanted) = wanted else { return Decision::Over };
    let credentials = credentials(wanted, inventory);
    let digest = digest(inventory, credentials.as_ref());
    let Some(known) = known else {
        if inventory.hosts.is_empty() {
            return Decision::NoHosts;
        }
        // An orchestrator that had the site before goes on where it was; another one does not know the numbers.
        let base = SiteHandOffStatus {
            id: site.uid.clone(),
            generation: record.map_or(0, |record| record.generation),
            target: Some(wanted.clone()),
            ..SiteHandOffStatus::default()
        };
        let record = next(&base, HandOffState::Present, &[], digest, now);
        return tell(site, with_hosts(record, inventory), inventory, credentials);
    };
    let mut record = if known.digest == digest {
        known.clone()
    } else {
        let left: Vec<String> =
            known.hosts.iter().filter(|host| !inventory.hosts.contains_key(*host)).cloned().collect();
        with_hosts(next(known, HandOffState::Present, &left, digest, now), inventory)
    };
    record.target = Some(wanted.clone());
    if is_taken(&record) && record.phase != phase::IN_PROGRESS {
        return Decision::Settled(Box::new(record));
    }
    tell(site, record, inventory, credentials)
}

/// Words for what an orchestrator says of itself, beside those of its own.
pub mod phase {
    /// It has taken what it was told, and there is nothing more to be said.
    pub const ACCEPTED: &str = "Accepted";
    /// It has taken it, and is at work; it is asked again.
    pub const IN_PROGRESS: &str = "InProgress";
    /// It cannot do with it what it should; it is told again.
    pub const FAILED: &str = "Failed";
}

/// The orchestrator has taken what it was told.
pub fn taken(record: &SiteHandOffStatus, phase: &str, message: &str, now: Timestamp) -> SiteHandOffStatus {
    let mut record = record.clone();
    if !is_taken(&record) {
        record.delivered_at = Some(Time(now));
    }
    record.delivered_generation = Some(record.generation);
    let left: BTreeSet<&String> = record.withdrawn.iter().collect();
    record.hosts.retain(|host| !left.contains(host));
    phase.clone_into(&mut record.phase);
    message.clone_into(&mut record.message);
    record
}

/// The orchestrator has been told something under a later number: the same is told under a number after that. So it is after the Site was
/// restored from a copy. Nothing if the number is none.
pub fn overtaken(record: &SiteHandOffStatus, theirs: i64) -> Option<SiteHandOffStatus> {
    (theirs >= record.generation && theirs < MOST_GENERATION)
        .then(|| SiteHandOffStatus { generation: theirs + 1, ..record.clone() })
}

/// The orchestrator did not take that the site leaves it: whether it is given up to tell it so. One that never took anything is told once;
/// one that has hosts, for `limit` seconds.
pub fn gives_up(record: &SiteHandOffStatus, limit: u64, now: Timestamp) -> bool {
    let Some(since) = record.since.as_ref().filter(|_| record.delivered_generation.is_some()) else {
        return record.state == HandOffState::Withdrawn;
    };
    let waited = u64::try_from(now.duration_since(since.0).as_secs()).unwrap_or(0);
    record.state == HandOffState::Withdrawn && waited >= limit
}

/// Nobody is told any more that the site leaves.
pub fn given_up(record: &SiteHandOffStatus) -> SiteHandOffStatus {
    SiteHandOffStatus { gave_up: true, hosts: Vec::new(), ..record.clone() }
}

/// Whether the orchestrator has taken the present generation.
pub fn is_taken(record: &SiteHandOffStatus) -> bool {
    record.generation > 0 && record.delivered_generation == Some(record.generation)
}

/// Whether an orchestrator knows of the site, or may: it has to be told when the site leaves it.
pub fn is_active(record: &SiteHandOffStatus) -> bool {
    let has_left = record.state == HandOffState::Withdrawn && (is_taken(record) || record.gave_up);
    record.generation > 0 && !has_left
}

/// What makes an orchestrator another one.
fn endpoint(target: &SiteHandOff) -> Option<&str> {
    target.webhook.as_ref().map(|webhook| webhook.url.as_str())
}

/// Which credentials are named.
fn credentials(wanted: &SiteHandOff, inventory: &Inventory) -> Option<CredentialsReference> {
    let named = wanted.webhook.as_ref().and_then(|webhook| webhook.credentials_ref.clone());
    named.or_else(|| inventory.kubeconfig.clone())
}

/// The record of the next generation.
fn next(
    record: &SiteHandOffStatus,
    state: HandOffState,
    withdrawn: &[String],
    digest: String,
    now: Timestamp,
) -> SiteHandOffStatus {
    SiteHandOffStatus {
        generation: record.generation + 1,
        state,
        since: Some(Time(now)),
        digest,
        withdrawn: withdrawn.to_vec(),
        phase: String::new(),
        message: String::new(),
        ..record.clone()
    }
}

/// Once told, the orchestrator may know these hosts too.
fn with_hosts(mut record: SiteHandOffStatus, inventory: &Inventory) -> SiteHandOffStatus {
    let all: BTreeSet<String> = record.hosts.drain(..).chain(inventory.hosts.keys().cloned()).collect();
    record.hosts = all.into_iter().collect();
    record
}

fn tell(
    site: &SiteIdentity,
    record: SiteHandOffStatus,
    inventory: &Inventory,
    credentials: Option<CredentialsReference>,
) -> Decision {
    let left = record.withdrawn.iter().map(|name| (name.clone(), None));
    let present = inventory.hosts.iter().map(|(name, details)| (name.clone(), Some(details.clone())));
    let hosts: BTreeMap<String, Option<HostDetails>> = left.chain(present).collect();
    let document = Document {
        api_version: API_VERSION,
        kind: KIND,
        id: record.id.clone(),
        generation: record.generation,
        state: record.state,
        site: site.name.clone(),
        cluster: inventory.cluster.clone(),
        credentials_ref: credentials,
        hosts: hosts
            .into_iter()
            .map(|(name, details)| DocumentHost {
                name,
                state: if details.is_some() { HandOffState::Present } else { HandOffState::Withdrawn },
                details,
            })
            .collect(),
    };
    Decision::Tell { record: Box::new(record), document: Box::new(document) }
}

/// SHA-256 of what a document says of the site, as 32 hexadecimal digits.
fn digest(inventory: &Inventory, credentials: Option<&CredentialsReference>) -> String {
    // What is digested has no maps but with keys that are texts, and nothing that cannot be written.
    let text = serde_json::to_vec(&(inventory, credentials)).unwrap_or_default();
    Sha256::digest(text).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
