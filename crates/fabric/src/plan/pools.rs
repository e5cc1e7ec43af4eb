//! Address pools of zones: whether what isolated zones draw from overlaps.

use std::fmt;

use ipnet::IpNet;

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First.
    pub lower: u64,
    /// Last.
    pub upper: u64,
}

impl Span {
    const fn overlaps(self, other: Self) -> bool {
        self.lower <= other.upper && other.lower <= self.upper
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.lower, self.upper)
    }
}

/// A pool as it bears on isolation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PoolFacts {
    /// Id.
    pub id: String,
    /// Address ranges.
    pub ranges: Vec<IpNet>,
    /// The VRF that the addresses belong to; pools in different VRFs may overlap in them.
    pub vrf: Option<String>,
    /// VLAN identifiers.
    pub vlans: Vec<Span>,
    /// VXLAN network identifiers.
    pub vnis: Vec<Span>,
    /// Route targets.
    pub route_targets: Vec<Span>,
}

/// The pools of a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZonePools {
    /// The zone.
    pub zone: String,
    /// Zones that contain it with default routing; zones that have one in common are not isolated from each other.
    pub joined_by: Vec<String>,
    /// Pools in the order given.
    pub pools: Vec<PoolFacts>,
}

/// Pools that isolated zones cannot both have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "pool {index}: {pool} and {other_pool} of zone {other_zone} overlap in {what} {own} and {theirs}; isolated zones need ranges apart"
)]
pub struct PoolOverlap {
    /// Position of the pool in its zone.
    pub index: usize,
    /// The pool.
    pub pool: String,
    /// The other pool; the zone's own id stands for `other_zone` when both are the zone's.
    pub other_pool: String,
    /// The other zone.
    pub other_zone: String,
    /// What overlaps: `addresses`, `VLAN`, `VNI` or `route target`.
    pub what: &'static str,
    /// Range of the pool.
    pub own: String,
    /// Range of the other one.
    pub theirs: String,
}

/// Checks the pools of a zone against each other and against those of zones that are isolated from it. One pool may serve
/// several zones: what it leases is never leased twice.
pub fn check(zone: &ZonePools, others: &[ZonePools]) -> Result<(), Box<PoolOverlap>> {
    for (index, pool) in zone.pools.iter().enumerate() {
        let own = zone.pools[..index].iter().map(|other| (zone.zone.as_str(), other));
        let isolated = others.iter().filter(|other| {
            other.zone != zone.zone && !other.joined_by.iter().any(|id| zone.joined_by.contains(id))
        });
        let theirs = isolated.flat_map(|other| other.pools.iter().map(|pool| (other.zone.as_str(), pool)));
        for (other_zone, other) in own.chain(theirs).filter(|(_, other)| other.id != pool.id) {
            if let Some((what, own, theirs)) = overlap(pool, other) {
                return Err(Box::new(PoolOverlap {
                    index,
                    pool: pool.id.clone(),
                    other_pool: other.id.clone(),
                    other_zone: other_zone.to_owned(),
                    what,
                    own,
                    theirs,
                }));
            }
        }
    }
    Ok(())
}

fn overlap(a: &PoolFacts, b: &PoolFacts) -> Option<(&'static str, String, String)> {
    let mut nets = a.ranges.iter().flat_map(|own| b.ranges.iter().map(move |theirs| (own, theirs)));
    let touching = |pair: &(&IpNet, &IpNet)| pair.0.contains(pair.1) || pair.1.contains(pair.0);
    if a.vrf == b.vrf
        && let Some((own, theirs)) = nets.find(touching)
    {
        return Some(("addresses", own.to_string(), theirs.to_string()));
    }
    let numbers = [
        ("VLAN", &a.vlans, &b.vlans),
        ("VNI", &a.vnis, &b.vnis),
        ("route target", &a.route_targets, &b.route_targets),
    ];
    numbers.into_iter().find_map(|(what, own, theirs)| {
        let mut pairs = own.iter().flat_map(|own| theirs.iter().map(move |theirs| (own, theirs)));
        let (own, theirs) = pairs.find(|(own, theirs)| own.overlaps(**theirs))?;
        Some((what, own.to_string(), theirs.to_string()))
    })
}
