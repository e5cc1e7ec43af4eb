//! Carries out what is to be done to stacks, and writes down how far it is.

use std::{sync::Arc, time::Instant};

use futures::{StreamExt as _, stream};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Cloud, State,
    bodies::{MachineNic, MachineSpec},
    hot::text_of,
    model::{Action, Leaving, Pending, Record, Resource, Status},
    operations::replan,
    plan::{self, Task, finish, settle_states},
    refusal::Refusal,
};
use crate::site::CloudFaultKind;

/// Tasks at once, of one stack.
const TOGETHER: usize = 16;

/// The compute host that a server is on.
pub(super) fn host_of(resource: &Resource) -> Option<&str> {
    let host = resource.attributes.get("OS-EXT-SRV-ATTR:host").and_then(Value::as_str);
    host.filter(|host| !host.is_empty() && resource.kind == "OS::Nova::Server")
}

impl Record {
    /// Everything is to go.
    pub(super) fn remove_all(&mut self) {
        for leaving in &mut self.leaving {
            leaving.resource.status = Status::Complete;
        }
        for (id, stack) in &mut self.stacks {
            let resources = std::mem::take(&mut stack.resources).into_values();
            self.leaving.extend(resources.map(|mut resource| {
                resource.status = Status::Complete;
                Leaving { stack: *id, resource }
            }));
        }
        self.leaving.sort_by_key(|leaving| std::cmp::Reverse(leaving.resource.level));
    }
}

impl State {
    /// Gives back what a resource had that is gone.
    fn release(&mut self, resource: &Resource) {
        for (index, nic) in resource.nics.iter().enumerate() {
            // A server's ports that have names are resources of their own.
            let implicit = Uuid::new_v5(&resource.physical, format!("port {index}").as_bytes());
            if nic.port == resource.physical || nic.port == implicit {
                nic.addresses
                    .iter()
                    .for_each(|address| self.addresses.release(nic.network, *address, nic.port));
            }
        }
        if let Some(host) = host_of(resource) {
            self.hosts.remove(host);
        }
    }
}

/// What comes next.
enum Next {
    /// There is more to do.
    More(plan::Wave),
    /// The action is over, and that is to be written down.
    Over,
    /// Somebody else has the record now.
    Theirs,
}

impl Cloud {
    /// Carries out an action that has begun: at once if that takes no time, else in a task of its own once it is written down.
    pub(super) async fn carry_out(self: &Arc<Self>, id: Uuid, generation: u64) -> Result<(), Refusal> {
        if self.is_instant() {
            self.drive(id, generation).await;
            return Ok(());
        }
        let written = {
            let state = self.lock();
            self.journal.write(id, state.records.get(&id))
        };
        written.wait().await.map_err(Refusal::internal)?;
        let cloud = Arc::clone(self);
        self.tasks.spawn(async move { cloud.drive(id, generation).await });
        Ok(())
    }

    /// Works on a record until nothing is left to do, something fails, somebody wants something else of it, or the cloud ends.
    pub(super) async fn drive(self: &Arc<Self>, id: Uuid, generation: u64) {
        let turn = self.lock().turn(id);
        let _alone = turn.lock().await;
        let mut generation = generation;
        loop {
            let wave = match self.next_wave(id, &mut generation) {
                Next::More(wave) => wave,
                Next::Over => break,
                Next::Theirs => return,
            };
            let work = stream::iter(wave).map(|task| async move {
                let outcome = self.perform(id, &task).await;
                (task, outcome)
            });
            let mut outcomes = work.buffer_unordered(TOGETHER);
            loop {
                let outcome = tokio::select! {
                    biased;
                    outcome = outcomes.next() => outcome,
                    () = self.shutdown.cancelled() => return,
                };
                let Some((task, outcome)) = outcome else { break };
                self.note(id, &task, &outcome);
            }
            drop(outcomes);
            if !self.is_instant() {
                self.write_down(id).await;
            }
        }
        self.write_down(id).await;
    }

    /// Makes a record, or that it is gone, durable.
    async fn write_down(&self, id: Uuid) {
        let written = {
            let state = self.lock();
            self.journal.write(id, state.records.get(&id))
        };
        if let Err(error) = written.wait().await {
            tracing::error!(stack = %id, %error, "cannot be written down");
        }
    }

    /// The next tasks of a record, or its end.
    fn next_wave(&self, id: Uuid, generation: &mut u64) -> Next {
        let mut state = self.lock();
        loop {
            let record = state.records.get_mut(&id).filter(|record| record.generation == *generation);
            let Some(record) = record else { return Next::Theirs };
            let wave = plan::next(record);
            if !wave.is_empty() {
                let now = super::now();
                wave.iter().for_each(|task| finish(record, task, None, now));
                let action = record.top().map_or(Action::Create, |stack| stack.action);
                settle_states(record, action);
                return Next::More(wave);
            }
            match self.conclude(&mut state, id) {
                // It is being taken back.
                Some(other) => *generation = other,
                None => return Next::Over,
            }
        }
    }

    /// Notes how a task ended.
    fn note(&self, id: Uuid, task: &Task, outcome: &Result<(), String>) {
        let mut state = self.lock();
        if let (Task::Remove(_, resource), Ok(())) = (task, outcome) {
            state.release(resource);
        }
        let Some(record) = state.records.get_mut(&id) else { return };
        finish(record, task, Some(outcome), super::now());
        let action = record.top().map_or(Action::Create, |stack| stack.action);
        settle_states(record, action);
    }

    /// Nothing can be done any more: the action is complete, or has failed. If it is taken back, returns the generation of that.
    fn conclude(&self, state: &mut State, id: Uuid) -> Option<u64> {
        let mut record = state.records.remove(&id)?;
        let action = record.top().map_or(Action::Create, |stack| stack.action);
        let failure = failure(&record);
        let good = !record.is_unfinished() && failure.is_none();
        let now = super::now();
        let (status, told) = if good {
            (Status::Complete, format!("Stack {} completed successfully", plan::state_action(action)))
        } else {
            (
                Status::Failed,
                format!("Resource {} failed: {}", plan::state_action(action), failure.unwrap_or_default()),
            )
        };
        record.enter(action, status, &told, now);
        if good && action == Action::Delete {
            state.records.insert(id, record);
            if let Some(record) = state.forget(id) {
                state.remember(record);
            }
            return None;
        }
        if good {
            record.before = None;
        } else if !record.disable_rollback && self.take_back(state, &mut record, action) {
            let generation = record.generation;
            state.index(record);
            return Some(generation);
        }
        settle_states(&mut record, action);
        state.index(record);
        None
    }

    /// Plans the way back from an action that failed.
    fn take_back(&self, state: &mut State, record: &mut Record, action: Action) -> bool {
        if action == Action::Create {
            record.generation += 1;
            record.remove_all();
            record.enter(Action::Rollback, Status::InProgress, "Stack ROLLBACK started", super::now());
            return true;
        }
        let before = record.before.take().filter(|_| action == Action::Update);
        let Some(before) = before else { return false };
        match self.realize(state, record, &before, std::collections::BTreeMap::new()) {
            Ok(realized) => {
                record.inputs = before;
                replan(record, realized, Action::Rollback);
                true
            }
            Err(refusal) => {
                tracing::warn!(stack = record.name, reason = refusal.message, "there is no way back");
                false
            }
        }
    }

    /// Carries out a task.
    async fn perform(&self, record: Uuid, task: &Task) -> Result<(), String> {
        let (stack, resource, removal) = match task {
            Task::Make(_, _, resource) => (self.name_of(record), resource, false),
            Task::Remove(_, resource) => (self.name_of(record), resource, true),
        };
        let fault =
            self.faults.meet_resource(Instant::now(), (&stack, &resource.name), removal, rand::random);
        if let Some(fault) = fault {
            if fault.kind != CloudFaultKind::ResourceHangs {
                return Err(format!(
                    "Error: resources.{}: the cloud was told to let this fail",
                    resource.name
                ));
            }
            tokio::time::sleep(fault.delay).await;
        }
        if let (Some(reason), false) = (&resource.doomed, removal) {
            return Err(format!("{}: resources.{}", reason.trim_end_matches('.'), resource.name));
        }
        let delays = &self.spec.delays;
        let delay = match (removal, resource.kind.as_str()) {
            (true, "OS::Nova::Server" | "OS::Cinder::Volume") => delays.delete,
            (false, "OS::Nova::Server") => delays.server,
            (false, "OS::Cinder::Volume") => delays.volume,
            _ => std::time::Duration::ZERO,
        };
        let delay = self.scaled(delay);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if self.bodies.is_instant() {
            return Ok(());
        }
        let done = match task {
            Task::Make(pending, _, resource) => self.make(*pending, resource).await,
            Task::Remove(_, resource) => self.remove(resource).await,
        };
        done.map_err(|error| format!("Error: resources.{}: {error}", resource.name))
    }

    fn name_of(&self, record: Uuid) -> String {
        self.lock().records.get(&record).map(|record| record.name.clone()).unwrap_or_default()
    }

    async fn make(&self, pending: Pending, resource: &Resource) -> Result<(), crate::backend::BackendError> {
        match resource.kind.as_str() {
            "OS::Cinder::Volume" => {
                let gib = resource.attributes.get("size").and_then(Value::as_u64).unwrap_or(1);
                self.bodies.make_volume(resource.physical, gib).await
            }
            "OS::Nova::Server" => {
                let machine = self.machine(resource);
                match pending {
                    Pending::Create => self.bodies.make_machine(&machine).await,
                    Pending::Update => self.bodies.change_machine(&machine, false).await,
                    Pending::Rebuild => self.bodies.change_machine(&machine, true).await,
                }
            }
            "OS::Cinder::VolumeAttachment" => match attachment(resource) {
                Some((machine, volume, device)) => self.bodies.attach(machine, volume, &device).await,
                None => Ok(()),
            },
            "OS::Neutron::FloatingIP" => match floating(resource) {
                Some((floating, to)) => self.bodies.lead(floating, to).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    async fn remove(&self, resource: &Resource) -> Result<(), crate::backend::BackendError> {
        match resource.kind.as_str() {
            "OS::Cinder::Volume" => self.bodies.remove_volume(resource.physical).await,
            "OS::Nova::Server" => self.bodies.remove_machine(resource.physical).await,
            "OS::Cinder::VolumeAttachment" => match attachment(resource) {
                Some((machine, volume, device)) => self.bodies.detach(machine, volume, &device).await,
                None => Ok(()),
            },
            "OS::Neutron::FloatingIP" => match floating(resource) {
                Some((floating, _)) => self.bodies.lead(floating, None).await,
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The machine that a server is.
    pub(super) fn machine(&self, server: &Resource) -> MachineSpec {
        let text = |name: &str| server.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        let number = |pointer: &str| server.attributes.pointer(pointer).and_then(Value::as_u64).unwrap_or(1);
        let nics = server.nics.iter().map(|nic| MachineNic {
            network: nic.network,
            mac: nic.mac.clone(),
            addresses: nic.addresses.clone(),
        });
        MachineSpec {
            id: server.physical,
            name: server.attributes.get("name").map(text_of).unwrap_or_default(),
            image: server.text("image").and_then(|image| self.catalogue.image(image)).cloned(),
            nics: nics.collect(),
            volumes: server.volumes.iter().filter(|(_, device)| device != "/dev/vda").cloned().collect(),
            user_data: server.properties.get("user_data").filter(|data| !data.is_null()).map(text_of),
            admin_password: text("admin_pass"),
            memory_mib: number("/flavor/ram"),
            cores: number("/flavor/vcpus"),
        }
    }
}

/// Why an action failed: what the first of the failed resources says.
fn failure(record: &Record) -> Option<String> {
    let leaving = record.leaving.iter().map(|leaving| &leaving.resource);
    let all = record.resources().map(|(_, resource)| resource).filter(|resource| resource.pending.is_some());
    let mut failed = leaving.chain(all).filter(|resource| resource.status == Status::Failed);
    failed.next().map(|resource| resource.reason.clone())
}

/// Server, volume and device of an attachment.
fn attachment(resource: &Resource) -> Option<(Uuid, Uuid, String)> {
    let id = |name: &str| resource.text(name).and_then(|text| Uuid::parse_str(text).ok());
    let device = resource.text("mountpoint").filter(|device| !device.is_empty()).unwrap_or("/dev/vdc");
    Some((id("instance_uuid")?, id("volume_id")?, device.to_owned()))
}

/// A floating address and where it leads.
pub(super) fn floating(resource: &Resource) -> Option<(std::net::IpAddr, Option<std::net::IpAddr>)> {
    let address = resource.nics.first()?.addresses.first()?;
    let to = resource.attributes.get("fixed_ip_address").and_then(Value::as_str);
    Some((*address, to.and_then(|to| to.parse().ok())))
}
