//! Pools of external addresses: parsing, and finding a free address. Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use crate::{config::ExternalPool, error::ConfigError};

/// Address family, as in `Service.spec.ipFamilies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Its name in the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }
}

/// Addresses from `first` to `last`, both included, of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

impl Range {
    /// Parses `a-b`, a network in CIDR notation or a single address.
    ///
    /// Of an IPv4 network larger than a /31 the network and broadcast addresses are left out.
    fn parse(text: &str) -> Result<Self, String> {
        let address = |part: &str| {
            let part = part.trim();
            part.parse::<IpAddr>().map_err(|_| format!("{part:?} is not an IP address"))
        };
        if let Some((first, last)) = text.split_once('-') {
            let range = Self { first: address(first)?, last: address(last)? };
            if Family::of(range.first) != Family::of(range.last) {
                return Err(format!("{text:?} mixes IPv4 and IPv6"));
            }
            if range.first > range.last {
                return Err(format!("{text:?} ends before it begins"));
            }
            return Ok(range);
        }
        if !text.contains('/') {
            let address = address(text)?;
            return Ok(Self { first: address, last: address });
        }
        let network: IpNet =
            text.trim().parse().map_err(|_| format!("{text:?} is not a network such as 203.0.113.0/28"))?;
        let (first, last) = (number(network.network()), number(network.broadcast()));
        let family = Family::of(network.network());
        let trim = u128::from(family == Family::V4 && network.prefix_len() < 31);
        Ok(Self { first: from_number(first + trim, family), last: from_number(last - trim, family) })
    }

    fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.first) && self.first <= address && address <= self.last
    }

    fn overlaps(&self, other: &Self) -> bool {
        Family::of(self.first) == Family::of(other.first)
            && self.first <= other.last
            && other.first <= self.last
    }

    /// The lowest address that is not taken. Costs as much as there are taken addresses in front of it.
    fn first_free(&self, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let family = Family::of(self.first);
        let mut candidate = number(self.first);
        for used in taken.range(self.first..=self.last) {
            if number(*used) != candidate {
                break;
            }
            candidate += 1;
        }
        let free = (candidate <= number(self.last)).then(|| from_number(candidate, family));
        free.filter(|address| self.contains(*address))
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX))),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// Whether Services that name no pool may use it.
    pub auto_assign: bool,
    ranges: Vec<Range>,
}

/// All pools, in the order in which they are tried.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pools(Vec<Pool>);

impl Pools {
    /// Parses the configured pools.
    ///
    /// # Errors
    /// If a name is missing or used twice, a range cannot be read, or two ranges overlap (an address would have two owners).
    pub fn parse(pools: &[ExternalPool]) -> Result<Self, ConfigError> {
        let mut parsed: Vec<Pool> = Vec::new();
        for (index, pool) in pools.iter().enumerate() {
            let field = |name: &str| format!("externalPools[{index}].{name}");
            if pool.name.is_empty() || parsed.iter().any(|other| other.name == pool.name) {
                return Err(ConfigError::new(
                    field("name"),
                    format!("{:?} must be a name that no other pool has", pool.name),
                ));
            }
            if pool.ranges.is_empty() {
                return Err(ConfigError::new(
                    field("ranges"),
                    "must list at least one range, such as 203.0.113.0/28",
                ));
            }
            let mut ranges: Vec<Range> = Vec::new();
            for (position, text) in pool.ranges.iter().enumerate() {
                let field = field(&format!("ranges[{position}]"));
                let range = Range::parse(text).map_err(|problem| ConfigError::new(&field, problem))?;
                let mut others = parsed.iter().flat_map(|pool| &pool.ranges).chain(&ranges);
                if others.any(|other| other.overlaps(&range)) {
                    return Err(ConfigError::new(field, format!("{text:?} overlaps another range")));
                }
                ranges.push(range);
            }
            parsed.push(Pool { name: pool.name.clone(), auto_assign: pool.auto_assign, ranges });
        }
        Ok(Self(parsed))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pool that an address belongs to.
    pub fn owner(&self, address: IpAddr) -> Option<&Pool> {
        self.0.iter().find(|pool| pool.ranges.iter().any(|range| range.contains(address)))
    }

    /// The pool of that name.
    pub fn named(&self, name: &str) -> Option<&Pool> {
        self.0.iter().find(|pool| pool.name == name)
    }

    /// A free address of a family: of the named pool, or of the first that gives addresses without being named.
    pub fn allocate(&self, pool: Option<&str>, family: Family, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let usable = self.0.iter().filter(|candidate| match pool {
            Some(name) => candidate.name == name,
            None => candidate.auto_assign,
        });
        let ranges = usable.flat_map(|pool| &pool.ranges).filter(|range| Family::of(range.first) == family);
        ranges.filter_map(|range| range.first_free(taken)).next()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pools(ranges: &[&[&str]]) -> Result<Pools, ConfigError> {
        let pools: Vec<_> = ranges
            .iter()
            .enumerate()
            .map(|(index, ranges)| ExternalPool {
                name: format!("pool{index}"),
                ranges: ranges.iter().map(|range| (*range).to_owned()).collect(),
                auto_assign: index != 1,
            })
            .collect();
        Pools::parse(&pools)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_mistakes_refused() {
        let pools =
            pools(&[&["10.0.0.0/30", "10.0.0.10-10.0.0.11", "fd00::/126"], &["10.1.0.0/31"]]).unwrap();
        let mut taken = BTreeSet::new();
        let mut given = Vec::new();
        while let Some(address) = pools.allocate(None, Family::V4, &taken) {
            taken.insert(address);
            given.push(address.to_string());
        }
        assert_eq!(given, ["10.0.0.1", "10.0.0.2", "10.0.0.10", "10.0.0.11"]);
        assert_eq!(pools.allocate(None, Family::V6, &taken), Some(ip("fd00::")));
        assert_eq!(pools.allocate(Some("pool1"), Family::V4, &taken), Some(ip("10.1.0.0")));
        assert_eq!(pools.allocate(Some("nowhere"), Family::V4, &taken), None);
        assert_eq!(pools.owner(ip("10.1.0.1")).map(|pool| pool.name.as_str()), Some("pool1"));
        assert_eq!(pools.owner(ip("10.0.0.3")), None);

        for (wrong, field) in [
            (&[&["10.0.0.5-10.0.0.1"][..]][..], "externalPools[0].ranges[0]"),
            (&[&["10.0.0.1-fd00::1"]], "externalPools[0].ranges[0]"),
            (&[&["10.0.0.0/33"]], "externalPools[0].ranges[0]"),
            (&[&["ten"]], "externalPools[0].ranges[0]"),
            (&[&["10.0.0.1", "10.0.0.0/29"]], "externalPools[0].ranges[1]"),
            (&[&["10.0.0.0/24"], &["10.0.0.128-10.0.1.3"]], "externalPools[1].ranges[0]"),
            (&[&[]], "externalPools[0].ranges"),
        ] {
            assert_eq!(super::tests::pools(wrong).unwrap_err().field, field, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn an_address_given_is_free_and_of_the_pool(taken in prop::collection::btree_set(0u8..=255, 0..256)) {
            let pools = pools(&[&["10.0.0.16-10.0.0.200"]]).unwrap();
            let taken: BTreeSet<IpAddr> = taken.iter().map(|byte| IpAddr::from([10, 0, 0, *byte])).collect();
            match pools.allocate(None, Family::V4, &taken) {
                Some(address) => {
                    prop_assert!(!taken.contains(&address));
                    prop_assert!(pools.owner(address).is_some());
                }
                None => prop_assert!((16u8..=200).all(|byte| taken.contains(&IpAddr::from([10, 0, 0, byte])))),
            }
        }

        #[test]
        fn ranges_never_panic(text in "[0-9a-f:./-]{0,24}") {
            let _ = Range::parse(&text);
        }
    }
}
