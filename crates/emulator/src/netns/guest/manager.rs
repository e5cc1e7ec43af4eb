//! The service manager in a host's PID 1: owns all units and all processes, does what the state machines of
//! [`super::service`] ask for, and answers `systemctl` and the boot sequence.
//!
//! One task owns everything; others send it [`Request`]s. That, and that it alone collects ended processes, is why no
//! ending is ever missed or taken for another's.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    signal::unix::Signal as SignalStream,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{
    control::{Call, Reply, Verb},
    enabled::Enabled,
    reaper,
    service::{Action, Ending, Service},
    spawn,
    unit_file::{self, UnitError},
};

/// How long the units together may take to end when the host shuts down.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// What the manager is asked for.
pub(super) enum Request {
    /// A call of `systemctl`.
    Call {
        /// What is asked.
        call: Call,
        /// Where the answer goes.
        reply: oneshot::Sender<Reply>,
    },
    /// Run a command that belongs to no unit.
    Run {
        /// Its argument vector.
        arguments: Vec<String>,
        /// Where its output is appended.
        log: PathBuf,
        /// How it ended, or why it could not start.
        reply: oneshot::Sender<Result<Ending, String>>,
    },
    /// Start all enabled units, in order.
    StartEnabled {
        /// Told when they have been started.
        done: oneshot::Sender<()>,
    },
}

/// Somebody waiting until units have settled.
struct Waiter {
    units: Vec<String>,
    reply: oneshot::Sender<Reply>,
    so_far: Reply,
}

/// Who a process belongs to.
enum Owner {
    Unit(String),
    Job(oneshot::Sender<Result<Ending, String>>),
}

/// The manager.
pub(super) struct Manager {
    root: PathBuf,
    hostname: String,
    enabled: Enabled,
    services: BTreeMap<String, Service>,
    processes: HashMap<i32, Owner>,
    waiters: Vec<Waiter>,
}

impl Manager {
    /// A manager for the host whose files are below `root`.
    pub(super) fn new(root: &Path, hostname: &str) -> Self {
        Self {
            root: root.to_owned(),
            hostname: hostname.to_owned(),
            enabled: Enabled::below(root),
            services: BTreeMap::new(),
            processes: HashMap::new(),
            waiters: Vec::new(),
        }
    }

    /// Serves requests until `end` says so, then stops all units.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut children: SignalStream,
        end: impl Future<Output = ()>,
    ) {
        tokio::pin!(end);
        loop {
            self.settle_waiters();
            let deadline = self.services.values().filter_map(Service::deadline).min();
            tokio::select! {
                () = &mut end => break,
                _ = children.recv() => self.collect(),
                () = until(deadline) => self.tick(),
                Some(request) = requests.recv() => self.handle(request),
            }
        }
        self.stop_all(children).await;
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Call { call, reply } => self.call(&call, reply),
            Request::Run { arguments, log, reply } => match spawn::job(&arguments, &log) {
                Ok(pid) => {
                    self.processes.insert(pid, Owner::Job(reply));
                }
                // Who asked may have gone; then nobody needs to know.
                Err(reason) => drop(reply.send(Err(reason))),
            },
            Request::StartEnabled { done } => {
                for name in self.boot_order() {
                    if let Err(error) = self.begin(&name, Service::start) {
                        eprintln!("{error}");
                    }
                }
                let _ = done.send(());
            }
        }
    }

    /// Enabled units, each after those that its `After=` names.
    fn boot_order(&self) -> Vec<String> {
        let names = self.enabled.names();
        let after = names
            .iter()
            .map(|name| {
                unit_file::load(&self.root, name, &self.hostname).map(|unit| unit.after).unwrap_or_default()
            })
            .collect::<Vec<_>>();
        let mut ordered: Vec<String> = Vec::new();
        // As many rounds as units suffice; what a circle holds back is started in the order of enabling.
        for _ in 0..names.len() {
            for (name, after) in names.iter().zip(&after) {
                let ready = after.iter().all(|before| !names.contains(before) || ordered.contains(before));
                if ready && !ordered.contains(name) {
                    ordered.push(name.clone());
                }
            }
        }
        let left: Vec<String> = names.into_iter().filter(|name| !ordered.contains(name)).collect();
        ordered.extend(left);
        ordered
    }

    fn call(&mut self, call: &Call, reply: oneshot::Sender<Reply>) {
        let mut answer = Reply::default();
        let mut units = Vec::new();
        if matches!(call.verb, Verb::ListUnits)
            || (matches!(call.verb, Verb::Status) && call.units.is_empty())
        {
            answer.output = self.services.values().map(summary).collect();
        }
        for name in &call.units {
            match self.apply(call, name, &mut answer) {
                Ok(name) => units.push(name),
                Err(error) => {
                    let code = if matches!(error, UnitError::NotFound(_)) { 5 } else { 1 };
                    answer.code = answer.code.max(code);
                    answer.error.push_str(&format!("{error}\n"));
                }
            }
        }
        let changing = match call.verb {
            Verb::Start | Verb::Stop | Verb::Restart | Verb::TryRestart => true,
            Verb::Enable | Verb::Disable => call.now,
            _ => false,
        };
        if call.no_block || !changing {
            units.clear();
        }
        self.waiters.push(Waiter { units, reply, so_far: answer });
    }

    /// Does a call for one unit; returns the unit's full name.
    fn apply(&mut self, call: &Call, name: &str, answer: &mut Reply) -> Result<String, UnitError> {
        let name = unit_file::full_name(name)?;
        match call.verb {
            Verb::Start => self.begin(&name, Service::start)?,
            Verb::Restart => self.begin(&name, Service::restart)?,
            Verb::TryRestart if self.services.get(&name).is_some_and(Service::has_process) => {
                self.begin(&name, Service::restart)?;
            }
            Verb::Stop => self.stop(&name),
            Verb::Enable => {
                unit_file::load(&self.root, &name, &self.hostname)?;
                write_list(self.enabled.add(&name))?;
                if call.now {
                    self.begin(&name, Service::start)?;
                }
            }
            Verb::Disable => {
                write_list(self.enabled.remove(&name))?;
                if call.now {
                    self.stop(&name);
                }
            }
            Verb::IsActive | Verb::IsFailed => {
                let state = self.services.get(&name).map_or("inactive", Service::active_state);
                answer.output.push_str(&format!("{state}\n"));
                let wanted = if matches!(call.verb, Verb::IsActive) { "active" } else { "failed" };
                answer.code = answer.code.max(if state == wanted { 0 } else { 3 });
            }
            Verb::IsEnabled => {
                let enabled = self.enabled.contains(&name);
                answer.output.push_str(if enabled { "enabled\n" } else { "disabled\n" });
                answer.code = answer.code.max(u8::from(!enabled));
            }
            Verb::Status => self.status(&name, answer)?,
            Verb::ResetFailed => self.services.get_mut(&name).into_iter().for_each(Service::reset),
            Verb::TryRestart | Verb::DaemonReload | Verb::ListUnits => {}
        }
        Ok(name)
    }

    fn status(&self, name: &str, answer: &mut Reply) -> Result<(), UnitError> {
        match self.services.get(name) {
            Some(service) => {
                answer.output.push_str(&summary(service));
                answer.output.push_str(&format!("  output: {}\n", spawn::unit_log(name).display()));
            }
            None => {
                let unit = unit_file::load(&self.root, name, &self.hostname)?;
                answer.output.push_str(&summary(&Service::new(unit)));
            }
        }
        let active = self.services.get(name).is_some_and(|service| service.active_state() == "active");
        answer.code = answer.code.max(if active { 0 } else { 3 });
        Ok(())
    }

    /// Starts or restarts a unit, with its file read anew.
    fn begin(
        &mut self,
        name: &str,
        change: fn(&mut Service, Instant) -> Option<Action>,
    ) -> Result<(), UnitError> {
        let unit = unit_file::load(&self.root, name, &self.hostname)?;
        if !unit.ignored.is_empty() {
            eprintln!("{name}: not honoured on an emulated host: {}", unit.ignored.join(", "));
        }
        let service = match self.services.entry(name.to_owned()) {
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Service::new(unit)),
            std::collections::btree_map::Entry::Occupied(entry) => {
                let service = entry.into_mut();
                service.unit = unit;
                service
            }
        };
        let action = change(service, Instant::now());
        self.perform(name, action);
        Ok(())
    }

    fn stop(&mut self, name: &str) {
        let action = self.services.get_mut(name).and_then(|service| service.stop(Instant::now()));
        self.perform(name, action);
    }

    /// Does what a unit's state machine asks for, until it asks for nothing more.
    fn perform(&mut self, name: &str, mut action: Option<Action>) {
        while let Some(next) = action.take() {
            let Some(service) = self.services.get_mut(name) else { return };
            match next {
                Action::Signal { pid, signal, group } => send_signal(pid, signal, group),
                Action::Spawn(command) => {
                    let outcome = spawn::unit_process(&service.unit, &command);
                    match &outcome {
                        Ok(pid) => drop(self.processes.insert(*pid, Owner::Unit(name.to_owned()))),
                        Err(reason) => eprintln!("{name}: {reason}"),
                    }
                    action = service.spawned(outcome, Instant::now());
                }
            }
        }
    }

    fn collect(&mut self) {
        for (pid, ending) in reaper::collect() {
            match self.processes.remove(&pid) {
                Some(Owner::Job(reply)) => drop(reply.send(Ok(ending))),
                Some(Owner::Unit(name)) => {
                    let service = self.services.get_mut(&name);
                    let action = service.and_then(|service| service.exited(pid, ending, Instant::now()));
                    self.perform(&name, action);
                }
                // An orphan of some other process.
                None => {}
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in names {
            let action = self.services.get_mut(&name).and_then(|service| service.tick(now));
            self.perform(&name, action);
        }
    }

    /// Answers those whose units have all settled.
    fn settle_waiters(&mut self) {
        let settled = |name: &String| self.services.get(name).is_none_or(Service::is_settled);
        for waiter in std::mem::take(&mut self.waiters) {
            if !waiter.units.iter().all(settled) {
                self.waiters.push(waiter);
                continue;
            }
            let mut reply = waiter.so_far;
            for service in waiter.units.iter().filter_map(|name| self.services.get(name)) {
                if let Some(reason) = service.failure() {
                    reply.code = reply.code.max(1);
                    reply.error.push_str(&format!("{} failed: {reason}\n", service.unit.name));
                }
            }
            let _ = waiter.reply.send(reply);
        }
    }

    /// Stops everything, patiently at first.
    async fn stop_all(&mut self, mut children: SignalStream) {
        let latest = Instant::now() + SHUTDOWN_DEADLINE;
        let names: Vec<String> = self.services.keys().cloned().collect();
        for name in &names {
            self.stop(name);
        }
        self.services.values_mut().for_each(|service| service.hurry(latest));
        let give_up = latest + Duration::from_secs(2);
        while self.services.values().any(Service::has_process) && Instant::now() < give_up {
            let deadline = self.services.values().filter_map(Service::deadline).min();
            tokio::select! {
                _ = children.recv() => self.collect(),
                () = until(deadline) => self.tick(),
                () = sleep_until(give_up) => {}
            }
        }
    }
}

/// A write to the list of enabled units, in the terms of unit errors.
fn write_list(outcome: std::io::Result<()>) -> Result<(), UnitError> {
    outcome.map_err(|error| UnitError::Read {
        path: "the list of enabled units".to_owned(),
        reason: error.to_string(),
    })
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn send_signal(pid: i32, signal: Signal, group: bool) {
    let target = Pid::from_raw(pid);
    let sent = if group { killpg(target, signal) } else { kill(target, signal) };
    match sent {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => eprintln!("signal {signal} to {pid}: {error}"),
    }
}

fn summary(service: &Service) -> String {
    let mut line =
        format!("{} - {}\n  state: {}", service.unit.name, service.unit.description, service.active_state());
    if let Some(pid) = service.main_pid() {
        line.push_str(&format!(", PID {pid}"));
    }
    if let Some(reason) = service.failure() {
        line.push_str(&format!(", {reason}"));
    }
    line.push('\n');
    line
}
