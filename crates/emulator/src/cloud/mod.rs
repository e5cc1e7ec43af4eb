//! An emulated OpenStack: the wire protocol of Keystone and Heat, over virtual machines and volumes with a body, or without one.
//!
//! | module | what it is |
//! |---|---|
//! | [`hot`] | the language of templates; pure |
//! | [`plan`] | from a template to what is to be done; pure |
//! | [`model`], [`journal`] | stacks as data, and on disk |
//! | [`operations`], [`drive`] | what requests ask for, and carrying it out |
//! | [`bodies`] | what gives machines and volumes a body |
//! | [`http`], [`identity`], [`heat`], [`shown`] | the protocol |
//!
//! A request becomes a plan in one step, under a lock: ids, addresses and hosts are decided then. What is to be done is part of what is
//! written down, so that a cloud that was killed goes on where it was. Without bodies and delays a stack is complete
//! when the request is answered.

pub(crate) mod bodies;
mod drive;
mod faults;
mod heat;
mod hot;
mod http;
mod identity;
mod journal;
mod model;
mod operations;
mod plan;
mod refusal;
mod shown;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    faults::Faults,
    site::{CloudSpec, SiteFile, Timing},
    state::StateError,
};

use bodies::Bodies;
use faults::CloudFaults;
use identity::Accounts;
use journal::Journal;
use model::{Record, Status};
use plan::{Addresses, Catalogue, Hosts};

pub use identity::CloudAccount;
pub(crate) use plan::router;

/// Stacks that are gone and still told of, when somebody asks by their id.
const MOST_GONE: usize = 512;

/// A cloud.
pub(crate) struct Cloud {
    spec: CloudSpec,
    timing: Timing,
    catalogue: Catalogue,
    accounts: Accounts,
    faults: CloudFaults,
    /// The listener's own faults: none; ours are asked for with each request.
    no_faults: Faults,
    state: Mutex<State>,
    journal: Journal,
    bodies: Arc<dyn Bodies>,
    url: OnceLock<String>,
    me: Weak<Self>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

/// What there is now.
#[derive(Default)]
struct State {
    records: HashMap<Uuid, Record>,
    /// By project and name.
    names: BTreeMap<(Uuid, String), Uuid>,
    /// The record that a nested stack is part of.
    nested: HashMap<Uuid, Uuid>,
    addresses: Addresses,
    hosts: Hosts,
    /// One at a time works on a record.
    turns: HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>,
    /// Stacks that are gone, the latest last.
    gone: VecDeque<Record>,
}

/// What a cloud works with.
pub(crate) struct CloudSetup<'a> {
    /// The site.
    pub(crate) site: &'a SiteFile,
    /// Its cloud.
    pub(crate) spec: &'a CloudSpec,
    /// Directory for what is kept.
    pub(crate) directory: &'a Path,
    /// Passwords by user.
    pub(crate) passwords: BTreeMap<String, String>,
    /// What gives machines a body.
    pub(crate) bodies: Arc<dyn Bodies>,
    /// Ends everything.
    pub(crate) shutdown: CancellationToken,
    /// Counts the tasks that must have ended.
    pub(crate) tasks: TaskTracker,
}

/// What a cloud has that is there.
#[derive(Debug, Default)]
pub(crate) struct Present {
    /// Machines.
    pub(crate) machines: Vec<bodies::MachineSpec>,
    /// Volumes with their GiB.
    pub(crate) volumes: BTreeMap<Uuid, u64>,
    /// Floating addresses and where they lead.
    pub(crate) floating: Vec<(std::net::IpAddr, Option<std::net::IpAddr>)>,
}

impl Cloud {
    /// A cloud with the stacks that were written down. Nothing is done to them before [`Cloud::resume`].
    ///
    /// # Errors
    /// What was written down cannot be read.
    pub(crate) fn open(setup: CloudSetup<'_>) -> Result<Arc<Self>, StateError> {
        let (journal, records) = Journal::open(setup.directory.join("stacks.jsonl"))?;
        let mut state = State::default();
        for record in records {
            state.adopt(record);
        }
        let now = Instant::now();
        Ok(Arc::new_cyclic(|me| Self {
            accounts: Accounts::new(&setup.site.name, setup.spec, &setup.passwords),
            catalogue: Catalogue::of(setup.spec),
            faults: CloudFaults::new(&setup.spec.faults, now),
            no_faults: Faults::default(),
            spec: setup.spec.clone(),
            timing: setup.site.timing,
            state: Mutex::new(state),
            journal,
            bodies: setup.bodies,
            url: OnceLock::new(),
            me: Weak::clone(me),
            shutdown: setup.shutdown,
            tasks: setup.tasks,
        }))
    }

    /// Goes on with what was under way. Call it once machines have been taken up, with the address that the cloud listens on.
    pub(crate) fn resume(self: &Arc<Self>, url: &str) {
        // Set once; a second call finds it set.
        let _ = self.url.set(url.to_owned());
        let busy: Vec<(Uuid, u64)> = {
            let state = self.lock();
            state
                .records
                .values()
                .filter(|record| record.is_busy())
                .map(|record| (record.id, record.generation))
                .collect()
        };
        for (id, generation) in busy {
            let cloud = Arc::clone(self);
            self.tasks.spawn(async move { cloud.drive(id, generation).await });
        }
    }

    /// What is there, and is to run.
    pub(crate) fn present(&self) -> Present {
        let state = self.lock();
        let mut present = Present::default();
        for (_, resource) in state.records.values().flat_map(Record::resources) {
            // What is to be made, or made anew, is when it is its turn.
            if resource.pending.is_some() {
                continue;
            }
            match resource.kind.as_str() {
                "OS::Nova::Server" => present.machines.push(self.machine(resource)),
                "OS::Cinder::Volume" => {
                    let gib = resource.attributes.get("size").and_then(serde_json::Value::as_u64);
                    present.volumes.insert(resource.physical, gib.unwrap_or(1));
                }
                "OS::Neutron::FloatingIP" => present.floating.extend(drive::floating(resource)),
                _ => {}
            }
        }
        present
    }

    /// Who may use it.
    pub(crate) fn accounts(&self) -> Vec<CloudAccount> {
        self.accounts.list()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is half done when a thread panics is not written down, and the process is not to go on for long.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address that it listens on.
    fn url(&self) -> &str {
        self.url.get().map_or("", String::as_str)
    }

    /// A delay of the site's under its scale.
    fn scaled(&self, delay: Duration) -> Duration {
        self.timing.scaled(delay)
    }

    /// Whether making things takes no time.
    fn is_instant(&self) -> bool {
        let delays = &self.spec.delays;
        let slow = [delays.server, delays.volume, delays.delete]
            .into_iter()
            .any(|delay| !self.scaled(delay).is_zero());
        self.bodies.is_instant() && !slow && !self.faults.delays_resources()
    }
}

impl State {
    /// Takes a record in, with what it holds.
    fn adopt(&mut self, record: Record) {
        let leaving = record.leaving.iter().map(|leaving| &leaving.resource);
        for resource in record.resources().map(|(_, resource)| resource).chain(leaving) {
            for nic in &resource.nics {
                let own = resource.physical == nic.port || resource.kind == "OS::Nova::Server";
                for address in nic.addresses.iter().filter(|_| own) {
                    self.addresses.take(nic.network, *address, nic.port);
                }
            }
            if let Some(host) = drive::host_of(resource) {
                self.hosts.add(host);
            }
        }
        self.index(record);
    }

    /// Takes a record in whose addresses and hosts are known already.
    fn index(&mut self, record: Record) {
        self.names.insert((record.project, record.name.clone()), record.id);
        let inside = record.stacks.keys().filter(|id| **id != record.id);
        self.nested.extend(inside.map(|id| (*id, record.id)));
        self.records.insert(record.id, record);
    }

    /// Takes a record out.
    fn forget(&mut self, id: Uuid) -> Option<Record> {
        let record = self.records.remove(&id)?;
        self.names.remove(&(record.project, record.name.clone()));
        self.forget_nested(&record);
        self.turns.remove(&id);
        Some(record)
    }

    /// Forgets which stacks are nested in a record.
    fn forget_nested(&mut self, record: &Record) {
        for inside in record.stacks.keys() {
            self.nested.remove(inside);
        }
    }

    /// Tells of a stack that is gone, for a while.
    fn remember(&mut self, mut record: Record) {
        record.inputs = model::Inputs::default();
        record.before = None;
        record.stacks.retain(|id, _| *id == record.id);
        self.gone.push_back(record);
        if self.gone.len() > MOST_GONE {
            self.gone.pop_front();
        }
    }

    /// The record that a stack, nested or not, is part of.
    fn record_of(&self, stack: Uuid) -> Option<&Record> {
        self.records.get(self.nested.get(&stack).unwrap_or(&stack))
    }

    /// The turn to work on a record.
    fn turn(&mut self, id: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.turns.entry(id).or_default())
    }
}

impl Record {
    /// Whether anything in it has failed or is still to be done.
    fn is_unfinished(&self) -> bool {
        !self.leaving.is_empty() || self.resources().any(|(_, resource)| resource.pending.is_some())
    }
}

/// The time.
fn now() -> Timestamp {
    Timestamp::now()
}

impl std::fmt::Debug for Cloud {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cloud").field("url", &self.url.get()).finish_non_exhaustive()
    }
}

impl Status {
    /// Of an outcome.
    const fn of(good: bool) -> Self {
        if good { Self::Complete } else { Self::Failed }
    }
}
