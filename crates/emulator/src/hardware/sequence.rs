//! What a reset does in which state: a table, without effects.

use drystone_redfish::types::ResetType;

use crate::backend::BootState;

/// What hardware does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Power is off.
    Off,
    /// Firmware is at work.
    Post,
    /// The operating system starts.
    OsStarting,
    /// The operating system runs.
    OsRunning,
    /// On, but nothing boots.
    NoBoot,
    /// The operating system was asked to end.
    ShuttingDown,
    /// Power is about to be off.
    PoweringOff,
}

impl Phase {
    /// Whether power is on.
    pub const fn is_on(self) -> bool {
        !matches!(self, Self::Off)
    }

    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Post => "starting (firmware)",
            Self::OsStarting => "starting (operating system)",
            Self::OsRunning => "running",
            Self::NoBoot => "on without an operating system",
            Self::ShuttingDown => "shutting down",
            Self::PoweringOff => "powering off",
        }
    }
}

impl From<BootState> for Phase {
    fn from(state: BootState) -> Self {
        match state {
            BootState::Off => Self::Off,
            BootState::PostInProgress | BootState::OsBootStarted => Self::OsStarting,
            BootState::OsRunning => Self::OsRunning,
            BootState::NoBoot => Self::NoBoot,
        }
    }
}

/// One step of a sequence. Each can be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the operating system to end, and wait.
    ShutDown,
    /// Take the power away.
    PowerOff,
    /// Give power, and boot.
    PowerOn,
    /// Wait for a boot that is under way.
    AwaitBoot,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is so already.
    Nothing,
    /// Not now.
    Conflict,
    /// These, in order.
    Steps(&'static [Step]),
}

/// What a reset does in a phase. `ends_on` says whether power will be on when what is under way has ended: a host that shuts down in
/// order to start again does not stay off by itself. Without an operating system that listens, a graceful reset is a forced one:
/// firmware obeys at once.
pub(super) fn decide(kind: ResetType, phase: Phase, ends_on: bool) -> Decision {
    use Decision::{Conflict, Nothing, Steps};
    use ResetType::{
        ForceOff, ForceOn, ForceRestart, GracefulRestart, GracefulShutdown, Nmi, On, PowerCycle,
        PushPowerButton,
    };
    let ending = matches!(phase, Phase::ShuttingDown | Phase::PoweringOff);
    let listens = phase == Phase::OsRunning;
    match kind {
        On | ForceOn => match phase {
            Phase::Off => Steps(&[Step::PowerOn]),
            _ if ending => Conflict,
            _ => Nothing,
        },
        ForceOff => match phase {
            Phase::Off if !ends_on => Nothing,
            _ => Steps(&[Step::PowerOff]),
        },
        GracefulShutdown => match phase {
            Phase::Off if !ends_on => Nothing,
            _ if ending && !ends_on => Nothing,
            Phase::OsRunning | Phase::ShuttingDown => Steps(&[Step::ShutDown, Step::PowerOff]),
            _ => Steps(&[Step::PowerOff]),
        },
        GracefulRestart => match phase {
            Phase::Off => Conflict,
            _ if ending => Conflict,
            _ if listens => Steps(&[Step::ShutDown, Step::PowerOff, Step::PowerOn]),
            _ => Steps(&[Step::PowerOff, Step::PowerOn]),
        },
        ForceRestart => match phase {
            Phase::Off => Conflict,
            _ => Steps(&[Step::PowerOff, Step::PowerOn]),
        },
        PowerCycle => match phase {
            Phase::Off => Steps(&[Step::PowerOn]),
            _ => Steps(&[Step::PowerOff, Step::PowerOn]),
        },
        PushPowerButton => match phase {
            Phase::Off if !ends_on => decide(On, phase, ends_on),
            _ => decide(GracefulShutdown, phase, ends_on),
        },
        Nmi => match phase {
            Phase::Off => Conflict,
            // An emulated system has nothing to dump.
            _ => Nothing,
        },
    }
}

/// The phase that a sequence enters at once.
pub(super) fn entered(steps: &[Step], phase: Phase) -> Phase {
    match steps.first() {
        Some(Step::ShutDown) => Phase::ShuttingDown,
        Some(Step::PowerOff) => Phase::PoweringOff,
        Some(Step::PowerOn) => Phase::Post,
        Some(Step::AwaitBoot) | None => phase,
    }
}

/// Whether power is on after a sequence.
pub(super) fn ends_on(steps: &[Step], phase: Phase) -> bool {
    match steps.last() {
        Some(Step::PowerOn | Step::AwaitBoot) => true,
        Some(Step::PowerOff | Step::ShutDown) => false,
        None => phase.is_on(),
    }
}
