//! A cloud in memory: stacks with groups of servers, whose sizes are the parameter `counts`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    model::{Address, Inventory, Port, Server, StackRequest, Volume},
    steps::{Access, InventoryAsk, Told, VimDriver, VimError, VimSession},
};

/// A server: its member of a group, and which one it is of all that ever were there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) vdu: String,
    pub(super) member: String,
    pub(super) id: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Stack {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) machines: Vec<Machine>,
    pub(super) unhealthy: BTreeSet<String>,
    pub(super) complete: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) stacks: BTreeMap<String, Stack>,
    /// How many stacks were ever made.
    pub(super) made: u32,
    pub(super) serial: u32,
    pub(super) calls: Vec<String>,
    /// What goes wrong with the next calls that change something, half-way.
    pub(super) troubles: VecDeque<VimError>,
    pub(super) users: BTreeSet<String>,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Cloud {
    pub(super) state: Arc<Mutex<State>>,
    /// How long what changes something takes.
    pub(super) takes: Duration,
}

impl Cloud {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    pub(super) fn ids(&self, vdu: &str) -> Vec<String> {
        let state = self.state();
        let machines = state.stacks.values().flat_map(|stack| &stack.machines);
        machines.filter(|machine| machine.vdu == vdu).map(|machine| machine.id.clone()).collect()
    }

    fn trouble(&self) -> Result<(), VimError> {
        self.state().troubles.pop_front().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl VimDriver for Cloud {
    fn session(&self, access: &Access) -> Result<Box<dyn VimSession>, VimError> {
        let user = access.secrets.get("password").and_then(|password| password.as_str()).unwrap_or_default();
        self.state().users.insert(user.to_owned());
        Ok(Box::new(self.clone()))
    }
}

impl State {
    /// Brings a stack to the sizes that are asked for: unhealthy machines are replaced, or are the first to go.
    fn converge(&mut self, name: &str, counts: &serde_json::Value) {
        let Some(mut stack) = self.stacks.remove(name) else { return };
        for (vdu, count) in counts.as_object().into_iter().flatten() {
            let wanted = usize::try_from(count.as_u64().unwrap_or_default()).unwrap_or_default();
            let unhealthy = std::mem::take(&mut stack.unhealthy);
            let (mine, others): (Vec<Machine>, Vec<Machine>) =
                stack.machines.drain(..).partition(|machine| machine.vdu == *vdu);
            let (bad, mut good): (Vec<Machine>, Vec<Machine>) =
                mine.into_iter().partition(|machine| unhealthy.contains(&machine.member));
            stack.unhealthy =
                unhealthy.into_iter().filter(|member| !bad.iter().any(|it| it.member == *member)).collect();
            let room = wanted.saturating_sub(good.len());
            for machine in bad.into_iter().take(room) {
                self.serial += 1;
                good.push(Machine { id: format!("server-{}", self.serial), ..machine });
            }
            while good.len() < wanted {
                self.serial += 1;
                let (member, id) = (format!("member-{}", self.serial), format!("server-{}", self.serial));
                good.push(Machine { vdu: vdu.clone(), member, id });
            }
            good.truncate(wanted);
            stack.machines = others.into_iter().chain(good).collect();
        }
        stack.complete = true;
        self.stacks.insert(name.to_owned(), stack);
    }
}

fn name_of(stack: &str) -> &str {
    stack.split('/').next().unwrap_or_default()
}

#[async_trait]
impl VimSession for Cloud {
    async fn create(
        &self,
        name: &str,
        owner: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<String, VimError> {
        {
            let mut state = self.state();
            state.calls.push(format!("create {name}"));
            match state.stacks.get(name) {
                Some(there) if there.owner != owner => return Err(VimError::Permanent("taken".to_owned())),
                Some(_) => {}
                None => {
                    state.made += 1;
                    let id = format!("stack-{}", state.made);
                    let stack = Stack { id, owner: owner.to_owned(), ..Stack::default() };
                    state.stacks.insert(name.to_owned(), stack);
                }
            }
        }
        told("CREATE_IN_PROGRESS".to_owned());
        tokio::time::sleep(self.takes).await;
        self.trouble()?;
        let mut state = self.state();
        state.converge(name, &request.parameters["counts"]);
        Ok(format!("{name}/{}", state.stacks[name].id))
    }

    async fn update(
        &self,
        stack: &str,
        _: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<(), VimError> {
        self.state().calls.push(format!("update {}", request.parameters["counts"]));
        told("UPDATE_IN_PROGRESS".to_owned());
        tokio::time::sleep(self.takes).await;
        self.trouble()?;
        self.state().converge(name_of(stack), &request.parameters["counts"]);
        Ok(())
    }

    async fn delete(&self, stack: &str, _: Told<'_>) -> Result<(), VimError> {
        self.state().calls.push(format!("delete {}", name_of(stack)));
        tokio::time::sleep(self.takes).await;
        self.trouble()?;
        self.state().stacks.remove(name_of(stack));
        Ok(())
    }

    async fn find(&self, name: &str, owner: &str) -> Result<Option<String>, VimError> {
        let state = self.state();
        let stack = state.stacks.get(name).filter(|stack| stack.owner == owner);
        Ok(stack.map(|stack| format!("{name}/{}", stack.id)))
    }

    async fn mark_unhealthy(&self, stack: &str, resource: &str, reason: &str) -> Result<(), VimError> {
        let mut state = self.state();
        state.calls.push(format!("mark {stack} {resource} {reason}"));
        // A member is marked in its group's stack, a server in the member's own.
        let member = match stack.strip_prefix("member/") {
            Some(member) => member.to_owned(),
            None => resource.to_owned(),
        };
        let found =
            state.stacks.values_mut().find(|stack| stack.machines.iter().any(|it| it.member == member));
        match found {
            Some(stack) => drop(stack.unhealthy.insert(member)),
            None => return Err(VimError::Permanent(format!("there is no {member}"))),
        }
        Ok(())
    }

    async fn inventory(&self, ask: InventoryAsk<'_>) -> Result<Inventory, VimError> {
        let state = self.state();
        let stack =
            state.stacks.get(name_of(ask.stack)).ok_or_else(|| VimError::Permanent("no stack".to_owned()))?;
        let mut servers: Vec<Server> = Vec::new();
        for machine in &stack.machines {
            let known = ask.known.iter().find(|vnfc| {
                vnfc.group.as_ref().is_some_and(|(_, member)| *member == machine.member)
                    && vnfc.member.vdu == machine.vdu
            });
            let free = |index: &u32| {
                let kept = ask.known.iter().any(|vnfc| {
                    let there = stack
                        .machines
                        .iter()
                        .any(|it| vnfc.group.as_ref().is_some_and(|(_, member)| *member == it.member));
                    vnfc.member.vdu == machine.vdu && vnfc.member.index == *index && there
                });
                !kept && !servers.iter().any(|server| server.vdu == machine.vdu && server.index == *index)
            };
            let index = known.map_or_else(|| (0..).find(free).unwrap_or_default(), |vnfc| vnfc.member.index);
            servers.push(server(machine, index));
        }
        servers.sort_by(|a, b| (&a.vdu, a.index).cmp(&(&b.vdu, b.index)));
        let storage = stack.machines.iter().find(|machine| machine.vdu == "storage_server");
        let volumes = storage.map(|machine| Volume {
            name: "storage_server_volume".to_owned(),
            id: format!("volume-of-{}", stack.id),
            server: Some(machine.id.clone()),
            device: Some("/dev/vdb".to_owned()),
            ..Volume::default()
        });
        Ok(Inventory {
            stack: ask.stack.to_owned(),
            servers,
            volumes: volumes.into_iter().collect(),
            ..Inventory::default()
        })
    }

    async fn check(&self) -> Result<(Vec<String>, Option<String>), VimError> {
        Ok((vec!["RegionOne".to_owned()], Some("project-1".to_owned())))
    }
}

fn server(machine: &Machine, index: u32) -> Server {
    let port = Port {
        name: format!("{}_CP", machine.vdu),
        id: format!("port-of-{}", machine.id),
        addresses: vec![Address { address: "10.10.0.7".to_owned(), subnet: "subnet-1".to_owned() }],
        floating: None,
    };
    Server {
        vdu: machine.vdu.clone(),
        index,
        id: machine.id.clone(),
        created: machine.id.clone(),
        stack: format!("member/{}", machine.member),
        resource: machine.vdu.clone(),
        parent_stack: Some(format!("group/{}", machine.vdu)),
        parent_resource: Some(machine.member.clone()),
        ports: vec![port],
        volumes: Vec::new(),
        ..Server::default()
    }
}
