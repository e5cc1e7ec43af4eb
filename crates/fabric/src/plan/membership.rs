//! Who may be a member of which zones: isolation, roles, exclusive endpoints, zones of zones. Pure, over plain facts, for the
//! front ends that have to say which member is wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::Role;

/// Whether an endpoint of a zone may be in other zones too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// In no other zone; services of the fabric that joined as gateways excepted.
    #[default]
    Exclusive,
    /// Like `Exclusive`, but every member of role `Target` may be in other zones that allow it too.
    ServiceOnly,
    /// Members may be in other `Shared` zones.
    Shared,
}

impl Isolation {
    /// Whether a zone of this isolation tolerates that a member is in another zone too. Both zones have to.
    pub fn tolerates(self, role: Role, gateway: bool) -> bool {
        match self {
            Self::Exclusive => gateway && role == Role::Target,
            Self::ServiceOnly => role == Role::Target,
            Self::Shared => true,
        }
    }
}

impl From<drystone_api::Isolation> for Isolation {
    fn from(isolation: drystone_api::Isolation) -> Self {
        match isolation {
            drystone_api::Isolation::Exclusive => Self::Exclusive,
            drystone_api::Isolation::ServiceOnly => Self::ServiceOnly,
            drystone_api::Isolation::Shared => Self::Shared,
        }
    }
}

/// What a zone contains (Redfish `ZoneType`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ZoneKind {
    /// Endpoints.
    #[default]
    Endpoints,
    /// Other zones.
    Zones,
    /// Every endpoint, from its arrival.
    Default,
}

/// A member as it bears on membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberFacts {
    /// Id of the endpoint.
    pub endpoint: String,
    /// Its role.
    pub role: Role,
    /// Whether it joined as a gateway.
    pub gateway: bool,
    /// Endpoints that may not be in a zone while this one is (`MutuallyExclusiveEndpoints`).
    pub excludes: Vec<String>,
}

/// A zone as it bears on membership.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneFacts {
    /// Id.
    pub id: String,
    /// What it contains.
    pub kind: ZoneKind,
    /// Isolation.
    pub isolation: Isolation,
    /// Whether its members (of a zone of zones: all members of its zones) talk to each other without connections.
    pub default_routing: bool,
    /// Members, in the order given.
    pub members: Vec<MemberFacts>,
    /// Zones that contain it, in the order given.
    pub contained_by: Vec<String>,
}

/// A zone that may not be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// A member is listed twice.
    #[error("member {index}: endpoint {endpoint} is member {first} already; list it once")]
    Twice {
        /// Position of the second.
        index: usize,
        /// Position of the first.
        first: usize,
        /// The endpoint.
        endpoint: String,
    },
    /// A member is in another zone, and the isolation of one of the two forbids that.
    #[error(
        "member {index}: endpoint {endpoint} is in zone {other} already, and {strict} does not share it; remove it there or choose another isolation"
    )]
    InOtherZone {
        /// Position.
        index: usize,
        /// The endpoint.
        endpoint: String,
        /// The other zone.
        other: String,
        /// The zone whose isolation forbids it.
        strict: String,
    },
    /// Two members exclude each other.
    #[error(
        "member {index}: endpoint {endpoint} may not be in a zone with {other}, which is member {first}; leave one of them out"
    )]
    Excluded {
        /// Position.
        index: usize,
        /// The endpoint.
        endpoint: String,
        /// The one it may not be with.
        other: String,
        /// Position of that one.
        first: usize,
    },
    /// A zone of zones, or the default zone, lists endpoints.
    #[error("zone {zone} contains {what}, so it cannot list endpoints; list them in a zone of endpoints")]
    ListsEndpoints {
        /// The zone.
        zone: String,
        /// `other zones` or `every endpoint by itself`.
        what: &'static str,
    },
    /// A container does not exist.
    #[error("container {index}: there is no zone {container}; create it first")]
    NoContainer {
        /// Position.
        index: usize,
        /// The container.
        container: String,
    },
    /// A container is no zone of zones.
    #[error("container {index}: {container} is no zone of zones and cannot contain {zone}")]
    NotAContainer {
        /// Position.
        index: usize,
        /// The container.
        container: String,
        /// The zone.
        zone: String,
    },
    /// Zones contain each other in a circle.
    #[error("container {index}: zones would contain each other in a circle: {circle}")]
    Cycle {
        /// Position.
        index: usize,
        /// The circle, from zone to container.
        circle: String,
    },
    /// Deeper than zones of zones of endpoints.
    #[error(
        "container {index}: {zone} contains zones itself, so {container} cannot contain it; zones nest two deep at most"
    )]
    TooDeep {
        /// Position.
        index: usize,
        /// The zone.
        zone: String,
        /// The container.
        container: String,
    },
}

/// Checks a zone that is created or changed against the others of its fabric. Which of them has the same id does not count.
pub fn check(zone: &ZoneFacts, others: &[ZoneFacts]) -> Result<(), MembershipError> {
    check_members(zone)?;
    check_containers(zone, others)?;
    if zone.kind != ZoneKind::Endpoints {
        return Ok(());
    }
    let positions: HashMap<&str, usize> = by_position(zone).collect();
    let mut conflicts: BTreeMap<usize, MembershipError> = BTreeMap::new();
    // Containers and default zones never count.
    for other in others.iter().filter(|other| other.id != zone.id && other.kind == ZoneKind::Endpoints) {
        for theirs in &other.members {
            let Some(index) = positions.get(theirs.endpoint.as_str()).copied() else { continue };
            let own = &zone.members[index];
            let strict = if !zone.isolation.tolerates(own.role, own.gateway) {
                &zone.id
            } else if !other.isolation.tolerates(theirs.role, theirs.gateway) {
                &other.id
            } else {
                continue;
            };
            conflicts.entry(index).or_insert_with(|| MembershipError::InOtherZone {
                index,
                endpoint: own.endpoint.clone(),
                other: other.id.clone(),
                strict: strict.clone(),
            });
        }
    }
    conflicts.pop_first().map_or(Ok(()), |(_, conflict)| Err(conflict))
}

fn by_position(zone: &ZoneFacts) -> impl Iterator<Item = (&str, usize)> {
    zone.members.iter().enumerate().map(|(index, member)| (member.endpoint.as_str(), index))
}

fn check_members(zone: &ZoneFacts) -> Result<(), MembershipError> {
    let what = match zone.kind {
        ZoneKind::Endpoints => None,
        ZoneKind::Zones => Some("other zones"),
        ZoneKind::Default => Some("every endpoint by itself"),
    };
    if let Some(what) = what {
        return match zone.members.is_empty() {
            true => Ok(()),
            false => Err(MembershipError::ListsEndpoints { zone: zone.id.clone(), what }),
        };
    }
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (endpoint, index) in by_position(zone) {
        if let Some(first) = seen.insert(endpoint, index) {
            return Err(MembershipError::Twice { index, first, endpoint: endpoint.to_owned() });
        }
    }
    // Either of two may name the other; the later one in the list is reported.
    let mut pairs: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (index, member) in zone.members.iter().enumerate() {
        let others = member.excludes.iter().filter_map(|other| seen.get(other.as_str()));
        pairs.extend(others.filter(|at| **at != index).map(|at| (index.max(*at), index.min(*at))));
    }
    pairs.first().map_or(Ok(()), |(index, first)| {
        Err(MembershipError::Excluded {
            index: *index,
            endpoint: zone.members[*index].endpoint.clone(),
            other: zone.members[*first].endpoint.clone(),
            first: *first,
        })
    })
}

fn check_containers(zone: &ZoneFacts, others: &[ZoneFacts]) -> Result<(), MembershipError> {
    let by_id: HashMap<&str, &ZoneFacts> =
        others.iter().filter(|other| other.id != zone.id).map(|other| (other.id.as_str(), other)).collect();
    for (index, container) in zone.contained_by.iter().enumerate() {
        if *container == zone.id {
            let circle = format!("{container} → {container}");
            return Err(MembershipError::Cycle { index, circle });
        }
        let Some(found) = by_id.get(container.as_str()) else {
            return Err(MembershipError::NoContainer { index, container: container.clone() });
        };
        if let Some(circle) = circle(zone, found, &by_id) {
            return Err(MembershipError::Cycle { index, circle });
        }
        let (container, id) = (container.clone(), zone.id.clone());
        if found.kind != ZoneKind::Zones {
            return Err(MembershipError::NotAContainer { index, container, zone: id });
        }
        if zone.kind == ZoneKind::Zones || zone.kind == ZoneKind::Default {
            return Err(MembershipError::TooDeep { index, zone: id, container });
        }
    }
    Ok(())
}

/// The way from a zone over a container back to the zone, if there is one.
fn circle(zone: &ZoneFacts, container: &ZoneFacts, by_id: &HashMap<&str, &ZoneFacts>) -> Option<String> {
    let mut trails: Vec<Vec<&str>> = vec![vec![zone.id.as_str(), container.id.as_str()]];
    let mut seen: HashSet<&str> = HashSet::new();
    while let Some(trail) = trails.pop() {
        let at = trail.last().and_then(|id| by_id.get(id))?;
        for next in &at.contained_by {
            let mut longer = trail.clone();
            longer.push(next);
            if *next == zone.id {
                return Some(longer.join(" → "));
            }
            if seen.insert(next) && by_id.contains_key(next.as_str()) {
                trails.push(longer);
            }
        }
    }
    None
}

/// Zones as switches carry them: those that a zone of zones with default routing joins are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The id inside switches: the zone's own, or the container's.
    pub id: String,
    /// The zones that it is made of.
    pub zones: Vec<String>,
    /// Whether all its members talk to each other; if not, only those that connections join.
    pub default_routing: bool,
}

/// Which zones switches carry. A zone that containers with default routing join is carried as part of each of these; containers
/// without default routing only group. The default zone is carried, with all endpoints, if it has default routing.
pub fn carried(zones: &[ZoneFacts]) -> Vec<Carried> {
    let joining: BTreeMap<&str, Vec<String>> = zones
        .iter()
        .filter(|zone| zone.kind == ZoneKind::Zones && zone.default_routing)
        .map(|container| {
            let inside = zones.iter().filter(|zone| zone.contained_by.contains(&container.id));
            (container.id.as_str(), inside.map(|zone| zone.id.clone()).collect())
        })
        .collect();
    let joined = |zone: &ZoneFacts| zone.contained_by.iter().any(|id| joining.contains_key(id.as_str()));
    let alone = zones.iter().filter(|zone| match zone.kind {
        ZoneKind::Endpoints => !joined(zone),
        ZoneKind::Default => zone.default_routing,
        ZoneKind::Zones => false,
    });
    let single = alone.map(|zone| Carried {
        id: zone.id.clone(),
        zones: vec![zone.id.clone()],
        default_routing: zone.default_routing,
    });
    let together = joining.iter().filter(|(_, inside)| !inside.is_empty()).map(|(id, inside)| Carried {
        id: (*id).to_owned(),
        zones: inside.clone(),
        default_routing: true,
    });
    let mut all: Vec<Carried> = single.chain(together).collect();
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}
