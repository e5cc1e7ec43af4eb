//! Why a zone is not Ready, in words that front ends can tell apart: the reason of its `Ready` condition.

use crate::plan::zone::ZoneError;

/// Reasons. Their names are part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) enum Reason {
    /// Something that is named does not exist yet.
    Waiting,
    /// An endpoint is not known.
    UnknownEndpoint,
    /// An endpoint of another fabric than the zone's.
    ForeignEndpoint,
    /// A member is listed twice.
    DuplicateMember,
    /// A host is locked by somebody else.
    Locked,
    /// An endpoint is in another zone that does not share it.
    MembershipConflict,
    /// Pools of isolated zones overlap.
    PoolOverlap,
    /// Zones contain each other, or too deep.
    Cycle,
    /// Members cannot reach each other over links that are up.
    Disconnected,
    /// The specification contradicts itself.
    Invalid,
    /// A switch or its agent does not take what the zone needs; what may pass is tried again.
    Refused,
    /// A switch or its agent cannot be asked at present; that is tried again.
    Hindered,
}

impl Reason {
    /// The reason as conditions have it.
    pub(in crate::controller) const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "Waiting",
            Self::UnknownEndpoint => "UnknownEndpoint",
            Self::ForeignEndpoint => "ForeignEndpoint",
            Self::DuplicateMember => "DuplicateMember",
            Self::Locked => "Locked",
            Self::MembershipConflict => "MembershipConflict",
            Self::PoolOverlap => "PoolOverlap",
            Self::Cycle => "Cycle",
            Self::Disconnected => "Disconnected",
            Self::Invalid => "Invalid",
            Self::Refused => drystone_api::ZONE_REFUSED,
            Self::Hindered => "Hindered",
        }
    }
}

/// What stands in the way of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) struct Problem {
    /// Reason.
    pub(in crate::controller) reason: Reason,
    /// `path: what`.
    pub(in crate::controller) message: String,
    /// Whether it may go away without the zone being changed.
    pub(in crate::controller) passing: bool,
}

impl Problem {
    /// Something that only a change of the zone puts right.
    pub(in crate::controller) fn wrong(reason: Reason, path: &str, what: &str) -> Self {
        Self { reason, message: format!("{path}: {what}"), passing: false }
    }

    /// Something that others may put right.
    pub(in crate::controller) fn waiting(reason: Reason, path: &str, what: &str) -> Self {
        Self { reason, message: format!("{path}: {what}"), passing: true }
    }

    /// What the planner refused.
    pub(in crate::controller) fn of(error: &ZoneError) -> Self {
        let reason = match error {
            ZoneError::Conflict { .. } | ZoneError::OwnTree { .. } => Reason::MembershipConflict,
            ZoneError::Disconnected { .. } => Reason::Disconnected,
            ZoneError::Vanished { .. } => Reason::UnknownEndpoint,
            ZoneError::NotInvolved { .. } | ZoneError::ConnectionOutside { .. } => Reason::Invalid,
        };
        Self { reason, message: error.to_string(), passing: true }
    }
}
