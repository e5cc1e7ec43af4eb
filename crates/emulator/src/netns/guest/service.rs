//! The life of one unit as a state machine without effects: events and the time go in, what to do comes out. The
//! manager does it and reports back, so every path can be tested without processes.

use std::{collections::VecDeque, time::Duration};

use nix::sys::signal::Signal;
use tokio::time::Instant;

use super::{
    command_line::CommandLine,
    unit_file::{Restart, Unit},
};

/// A process that is still there this long after SIGKILL is asked again (it may hang in the kernel).
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// What the manager shall do next; it answers a `Spawn` with [`Service::spawned`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a process.
    Spawn(CommandLine),
    /// Signal a process, or with `group` its whole process group.
    Signal { pid: i32, signal: Signal, group: bool },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself.
    Code(i32),
    /// By a signal.
    Signal(Signal),
}

impl Ending {
    fn is_clean(self) -> bool {
        match self {
            Self::Code(code) => code == 0,
            // As in systemd: these are how one asks a program to end.
            Self::Signal(signal) => {
                matches!(signal, Signal::SIGHUP | Signal::SIGINT | Signal::SIGTERM | Signal::SIGPIPE)
            }
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "exit code {code}"),
            Self::Signal(signal) => write!(formatter, "signal {signal}"),
        }
    }
}

/// Where a unit is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Inactive,
    /// A command before the main one, or a oneshot command, is running.
    Starting {
        step: Step,
        pid: Option<i32>,
    },
    Running {
        pid: i32,
    },
    /// A oneshot unit with `RemainAfterExit` that has done its work.
    Exited,
    /// Will be started again.
    Waiting {
        until: Instant,
    },
    Stopping {
        pid: i32,
        kill_at: Instant,
        then_start: bool,
    },
    Failed {
        reason: String,
    },
}

/// Which command of a start is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Before(usize),
    Main(usize),
}

/// A unit and its life.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) unit: Unit,
    state: State,
    recent_starts: VecDeque<Instant>,
}

impl Service {
    pub(super) fn new(unit: Unit) -> Self {
        Self { unit, state: State::Inactive, recent_starts: VecDeque::new() }
    }

    /// Starts it unless it is active already.
    pub(super) fn start(&mut self, now: Instant) -> Option<Action> {
        match &mut self.state {
            State::Inactive | State::Failed { .. } | State::Waiting { .. } => self.begin(now),
            State::Stopping { then_start, .. } => {
                *then_start = true;
                None
            }
            State::Starting { .. } | State::Running { .. } | State::Exited => None,
        }
    }

    /// Stops it.
    pub(super) fn stop(&mut self, now: Instant) -> Option<Action> {
        self.stop_then(now, false)
    }

    /// Stops it if it runs, and starts it.
    pub(super) fn restart(&mut self, now: Instant) -> Option<Action> {
        let stopping = self.stop_then(now, true);
        if matches!(self.state, State::Inactive) { self.begin(now) } else { stopping }
    }

    fn stop_then(&mut self, now: Instant, start: bool) -> Option<Action> {
        match &mut self.state {
            State::Running { pid } | State::Starting { pid: Some(pid), .. } => {
                let (pid, signal) = (*pid, self.unit.kill_signal);
                self.state =
                    State::Stopping { pid, kill_at: now + self.unit.stop_timeout, then_start: start };
                Some(Action::Signal { pid, signal, group: !self.unit.kill_main_only })
            }
            State::Stopping { then_start, .. } => {
                *then_start = start;
                None
            }
            _ => {
                self.state = State::Inactive;
                None
            }
        }
    }

    /// Forgets a failure and the starts that count towards the limit.
    pub(super) fn reset(&mut self) {
        self.recent_starts.clear();
        if matches!(self.state, State::Failed { .. }) {
            self.state = State::Inactive;
        }
    }

    /// Makes the manager's patience end by `latest` at the latest (the host is shutting down).
    pub(super) fn hurry(&mut self, latest: Instant) {
        if let State::Stopping { kill_at, .. } = &mut self.state {
            *kill_at = latest.min(*kill_at);
        }
    }

    fn begin(&mut self, now: Instant) -> Option<Action> {
        if let Some((burst, interval)) = self.unit.start_limit {
            self.recent_starts.retain(|start| now.duration_since(*start) < interval);
            if self.recent_starts.len() >= burst {
                let reason = format!("started {burst} times within {} s", interval.as_secs_f64());
                self.state = State::Failed { reason };
                return None;
            }
        }
        self.recent_starts.push_back(now);
        let first = if self.unit.start_pre.is_empty() { Step::Main(0) } else { Step::Before(0) };
        self.run(first)
    }

    fn run(&mut self, step: Step) -> Option<Action> {
        self.state = State::Starting { step, pid: None };
        self.command(step).map(Action::Spawn)
    }

    fn command(&self, step: Step) -> Option<CommandLine> {
        match step {
            Step::Before(index) => self.unit.start_pre.get(index).cloned(),
            Step::Main(index) => self.unit.start.get(index).cloned(),
        }
    }

    fn next(&self, step: Step) -> Option<Step> {
        let next = match step {
            Step::Before(index) if index + 1 < self.unit.start_pre.len() => Step::Before(index + 1),
            Step::Before(_) => Step::Main(0),
            Step::Main(index) => Step::Main(index + 1),
        };
        self.command(next).map(|_| next)
    }

    /// The process of the last `Spawn` runs, or could not be started.
    pub(super) fn spawned(&mut self, outcome: Result<i32, String>, now: Instant) -> Option<Action> {
        let State::Starting { step, pid: None } = self.state else { return None };
        match outcome {
            Ok(pid) if matches!(step, Step::Main(_)) && !self.unit.oneshot => {
                self.state = State::Running { pid }
            }
            Ok(pid) => self.state = State::Starting { step, pid: Some(pid) },
            Err(reason) if self.command(step).is_some_and(|command| command.ignore_failure) => {
                tracing::debug!(unit = self.unit.name, reason, "ignored failure");
                return self.advance(step);
            }
            Err(reason) => self.settle(false, false, reason, now),
        }
        None
    }

    /// One of its processes ended.
    pub(super) fn exited(&mut self, process: i32, ending: Ending, now: Instant) -> Option<Action> {
        match self.state {
            State::Starting { step, pid: Some(pid) } if pid == process => {
                if ending.is_clean() || self.command(step).is_some_and(|command| command.ignore_failure) {
                    return self.advance(step);
                }
                self.settle(false, matches!(ending, Ending::Signal(_)), format!("starting: {ending}"), now);
            }
            State::Running { pid } if pid == process => {
                self.settle(ending.is_clean(), matches!(ending, Ending::Signal(_)), ending.to_string(), now);
                if !self.unit.kill_main_only {
                    return Some(Action::Signal { pid, signal: Signal::SIGKILL, group: true });
                }
            }
            State::Stopping { pid, then_start, .. } if pid == process => {
                self.state = State::Inactive;
                return if then_start { self.begin(now) } else { None };
            }
            _ => {}
        }
        None
    }

    fn advance(&mut self, step: Step) -> Option<Action> {
        if let Some(next) = self.next(step) {
            return self.run(next);
        }
        self.state = if self.unit.remain_after_exit { State::Exited } else { State::Inactive };
        None
    }

    /// It ended without having been told to.
    fn settle(&mut self, clean: bool, by_signal: bool, reason: String, now: Instant) {
        let again = match self.unit.restart {
            Restart::Never => false,
            Restart::Always => true,
            Restart::OnSuccess => clean,
            Restart::OnFailure => !clean,
            Restart::OnAbnormal => !clean && by_signal,
        };
        self.state = match (again, clean) {
            (true, _) => State::Waiting { until: now + self.unit.restart_delay },
            (false, true) => State::Inactive,
            (false, false) => State::Failed { reason },
        };
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Action> {
        match &mut self.state {
            State::Waiting { until } if *until <= now => self.begin(now),
            State::Stopping { pid, kill_at, .. } if *kill_at <= now => {
                *kill_at = now + KILL_AGAIN;
                Some(Action::Signal { pid: *pid, signal: Signal::SIGKILL, group: !self.unit.kill_main_only })
            }
            _ => None,
        }
    }

    /// When [`Service::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { until } => Some(until),
            State::Stopping { kill_at, .. } => Some(kill_at),
            _ => None,
        }
    }

    /// Whether what was last asked of it has come to an end, one way or the other.
    pub(super) fn is_settled(&self) -> bool {
        !matches!(self.state, State::Starting { .. } | State::Stopping { .. })
    }

    /// Whether it has a process.
    pub(super) fn has_process(&self) -> bool {
        self.main_pid().is_some()
    }

    /// Its process, if it has one.
    pub(super) fn main_pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid } | State::Stopping { pid, .. } => Some(pid),
            State::Starting { pid, .. } => pid,
            _ => None,
        }
    }

    /// The state as `systemctl is-active` prints it.
    pub(super) fn active_state(&self) -> &'static str {
        match self.state {
            State::Inactive => "inactive",
            State::Starting { .. } | State::Waiting { .. } => "activating",
            State::Running { .. } | State::Exited => "active",
            State::Stopping { .. } => "deactivating",
            State::Failed { .. } => "failed",
        }
    }

    /// Why it failed, if it did.
    pub(super) fn failure(&self) -> Option<&str> {
        match &self.state {
            State::Failed { reason } => Some(reason),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
