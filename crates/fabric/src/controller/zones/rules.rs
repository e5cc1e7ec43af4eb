//! The planner's rules of membership, asked about Zone resources and answered by field. Pure.

use drystone_api::{Zone, ZoneType};
use kube::ResourceExt as _;

use super::reason::{Problem, Reason};
use crate::plan::membership::{self, MemberFacts, MembershipError, ZoneFacts, ZoneKind};

/// An endpoint and the position in `spec.members` that brought it.
pub(super) struct Listed {
    /// Position in `spec.members`.
    pub(super) position: usize,
    /// The endpoint.
    pub(super) facts: MemberFacts,
}

/// Checks the members that a zone lists in one fabric, and its containers among the zones of its namespace.
pub(super) fn check(zone: &Zone, listed: &[Listed], zones: &[Zone]) -> Result<(), Problem> {
    let own = ZoneFacts { members: listed.iter().map(|one| one.facts.clone()).collect(), ..facts(zone) };
    let others: Vec<ZoneFacts> = zones.iter().map(facts).collect();
    if zone.spec.kind != ZoneType::ZoneOfEndpoints && !zone.spec.members.is_empty() {
        let what = "only a zone of endpoints lists members";
        return Err(Problem::wrong(Reason::Invalid, "spec.members", what));
    }
    membership::check(&own, &others).map_err(|error| problem(&error, listed))
}

/// A zone without its members: of others only what they contain counts here, for the planner knows who is where.
fn facts(zone: &Zone) -> ZoneFacts {
    ZoneFacts {
        id: zone.name_any(),
        kind: match zone.spec.kind {
            ZoneType::ZoneOfEndpoints => ZoneKind::Endpoints,
            ZoneType::ZoneOfZones => ZoneKind::Zones,
            ZoneType::Default => ZoneKind::Default,
        },
        isolation: zone.spec.isolation.into(),
        default_routing: zone.spec.default_routing,
        members: Vec::new(),
        contained_by: zone.spec.contained_by.clone(),
    }
}

fn problem(error: &MembershipError, listed: &[Listed]) -> Problem {
    let member = |index: &usize| {
        let position = listed.get(*index).map_or(*index, |one| one.position);
        format!("spec.members[{position}]")
    };
    let container = |index: &usize| format!("spec.containedBy[{index}]");
    match error {
        MembershipError::Twice { index, first, endpoint } => {
            let what = format!("endpoint {endpoint} is {} already; list it once", member(first));
            Problem::wrong(Reason::DuplicateMember, &member(index), &what)
        }
        MembershipError::Excluded { index, endpoint, other, first } => {
            let what = format!(
                "endpoint {endpoint} may not be in a zone with {other}, which is {}; leave one of them out",
                member(first)
            );
            Problem::wrong(Reason::MembershipConflict, &member(index), &what)
        }
        MembershipError::InOtherZone { index, endpoint, other, .. } => {
            let what = format!("endpoint {endpoint} is in zone {other} already");
            Problem::waiting(Reason::MembershipConflict, &member(index), &what)
        }
        MembershipError::ListsEndpoints { .. } => {
            Problem::wrong(Reason::Invalid, "spec.members", "only a zone of endpoints lists members")
        }
        MembershipError::NoContainer { index, container: name } => {
            let what = format!("zone {name} does not exist");
            Problem::waiting(Reason::Waiting, &container(index), &what)
        }
        MembershipError::NotAContainer { index, container: name, .. } => {
            let what = format!("zone {name} is no ZoneOfZones and contains nothing");
            Problem::wrong(Reason::Invalid, &container(index), &what)
        }
        MembershipError::Cycle { index, circle } => {
            let what = format!("zones would contain each other: {circle}");
            Problem::wrong(Reason::Cycle, &container(index), &what)
        }
        MembershipError::TooDeep { index, .. } => {
            let what = "zones nest two deep at most: only a zone of endpoints can be contained";
            Problem::wrong(Reason::Cycle, &container(index), what)
        }
    }
}
