//! Which Service gets which external address. Pure.
//!
//! All Services are decided together, so that no address can be given twice: those that hold valid addresses keep them
//! (the oldest wins a dispute), then requests for particular addresses are met, then the rest gets the lowest free ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;

use super::pool::{Family, Pools};
use crate::{
    endpoints::desired::families,
    kind::{self, ObjectKey, annotation},
};

/// Annotation: addresses the user wants, separated by commas.
pub const REQUESTED_ADDRESS: &str = "drystone.dev/external-address";
/// Annotation: the pool the user wants an address of.
pub const REQUESTED_POOL: &str = "drystone.dev/external-pool";
/// The value of `spec.loadBalancerClass` that names this implementation; none means any.
pub const CLASS: &str = "drystone.dev/pool";

/// What one Service wants, and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The Service.
    pub key: ObjectKey,
    /// Its UID.
    pub uid: String,
    /// When it was created; decides who is first.
    pub created: Option<Timestamp>,
    /// Families it needs an address of.
    pub families: Vec<Family>,
    /// Particular addresses it asks for, or what is wrong with the request.
    pub requested: Result<Vec<IpAddr>, String>,
    /// The pool it asks for.
    pub pool: Option<String>,
    /// Addresses it has.
    pub held: Vec<IpAddr>,
}

impl Wish {
    /// Reads a Service; `None` if it wants no external address from us.
    pub fn of(service: &Service) -> Option<Self> {
        if !is_wanted(service) {
            return None;
        }
        let spec = service.spec.as_ref()?;
        let text =
            annotation(service, REQUESTED_ADDRESS).or(spec.load_balancer_ip.as_deref()).unwrap_or_default();
        let requested: Result<Vec<IpAddr>, String> = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| {
                part.parse().map_err(|_| format!("the requested address {part:?} is not an IP address"))
            })
            .collect();
        Some(Self {
            key: ObjectKey::of(service),
            uid: kind::uid(service).to_owned(),
            created: service.metadata.creation_timestamp.as_ref().map(|time| time.0),
            families: families(service),
            requested,
            pool: annotation(service, REQUESTED_POOL).filter(|name| !name.is_empty()).map(str::to_owned),
            held: held(service),
        })
    }
}

/// Whether the Service is of type LoadBalancer and ours to serve. One that is being deleted keeps its address until it is
/// gone.
pub fn is_wanted(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    let class = spec.load_balancer_class.as_deref();
    spec.type_.as_deref() == Some("LoadBalancer") && class.is_none_or(|class| class == CLASS)
}

/// The external addresses the Service's status shows.
pub fn held(service: &Service) -> Vec<IpAddr> {
    let ingress = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = ingress.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    ingress.filter_map(|ingress| ingress.ip.as_deref()?.parse().ok()).collect()
}

/// The addresses of each Service by UID, or why it has none.
pub type Assignments = BTreeMap<String, Result<Vec<IpAddr>, String>>;

/// Decides for all Services.
pub fn assign(wishes: &[Wish], pools: &Pools) -> Assignments {
    let mut ordered: Vec<&Wish> = wishes.iter().collect();
    ordered.sort_by(|a, b| a.created.cmp(&b.created).then_with(|| a.uid.cmp(&b.uid)));
    let mut taken = BTreeSet::new();
    let mut assignments = Assignments::new();
    for wish in &ordered {
        if keeps(wish, pools, &taken) {
            taken.extend(wish.held.iter().copied());
            assignments.insert(wish.uid.clone(), Ok(wish.held.clone()));
        }
    }
    let (asking, content): (Vec<&Wish>, Vec<&Wish>) =
        ordered.into_iter().partition(|wish| wish.requested.as_ref().is_ok_and(|list| !list.is_empty()));
    for wish in asking.into_iter().chain(content) {
        if !assignments.contains_key(&wish.uid) {
            let given = choose(wish, pools, &taken);
            taken.extend(given.iter().flatten().copied());
            assignments.insert(wish.uid.clone(), given);
        }
    }
    assignments
}

/// Whether what a Service holds is what it may and wants to hold.
fn keeps(wish: &Wish, pools: &Pools, taken: &BTreeSet<IpAddr>) -> bool {
    let Ok(requested) = &wish.requested else { return false };
    let distinct: BTreeSet<_> = wish.held.iter().collect();
    !wish.held.is_empty()
        && distinct.len() == wish.held.len()
        && wish.held.iter().map(|address| Family::of(*address)).eq(wish.families.iter().copied())
        && requested.iter().all(|address| wish.held.contains(address))
        && wish.held.iter().all(|address| {
            let owner = pools.owner(*address);
            !taken.contains(address)
                && owner.is_some_and(|owner| wish.pool.as_ref().is_none_or(|pool| *pool == owner.name))
        })
}

fn choose(wish: &Wish, pools: &Pools, taken: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, String> {
    if pools.is_empty() {
        return Err("no pool of external addresses is configured".into());
    }
    let requested = wish.requested.clone()?;
    if let Some(pool) = wish.pool.as_deref().filter(|pool| pools.named(pool).is_none()) {
        return Err(format!("there is no pool of external addresses named {pool:?}"));
    }
    let mut taken = taken.clone();
    let mut given = Vec::new();
    for family in &wish.families {
        let address = match requested.iter().find(|address| Family::of(**address) == *family) {
            Some(address) => requested_address(*address, wish, pools, &taken)?,
            None => pools
                .allocate(wish.pool.as_deref(), *family, &taken)
                .ok_or_else(|| exhausted(wish, *family))?,
        };
        taken.insert(address);
        given.push(address);
    }
    match requested.iter().find(|address| !given.contains(address)) {
        Some(address) => {
            Err(format!("the requested address {address} is of a family the Service does not use"))
        }
        None => Ok(given),
    }
}

fn requested_address(
    address: IpAddr,
    wish: &Wish,
    pools: &Pools,
    taken: &BTreeSet<IpAddr>,
) -> Result<IpAddr, String> {
    let Some(owner) = pools.owner(address) else {
        return Err(format!("the requested address {address} is in no pool"));
    };
    if let Some(pool) = wish.pool.as_ref().filter(|pool| **pool != owner.name) {
        return Err(format!("the requested address {address} is in pool {:?}, not in {pool:?}", owner.name));
    }
    if taken.contains(&address) {
        return Err(format!("the requested address {address} is in use by another Service"));
    }
    Ok(address)
}

fn exhausted(wish: &Wish, family: Family) -> String {
    let family = family.as_str();
    match &wish.pool {
        Some(pool) => format!("pool {pool:?} has no free {family} address"),
        None => format!("no pool has a free {family} address"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::config::ExternalPool;

    fn pools() -> Pools {
        let pool = |name: &str, ranges: &[&str], auto_assign| ExternalPool {
            name: name.into(),
            ranges: ranges.iter().map(|range| (*range).to_owned()).collect(),
            auto_assign,
        };
        Pools::parse(&[
            pool("campus", &["192.0.2.1-192.0.2.4", "2001:db8::1-2001:db8::4"], true),
            pool("precious", &["198.51.100.0/30"], false),
        ])
        .unwrap()
    }

    fn wish(uid: &str, age: i64) -> Wish {
        Wish {
            key: ObjectKey::new("default", uid),
            uid: uid.into(),
            created: Some(Timestamp::from_second(age).unwrap()),
            families: vec![Family::V4],
            requested: Ok(Vec::new()),
            pool: None,
            held: Vec::new(),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn shown(assignments: &Assignments, uid: &str) -> String {
        match &assignments[uid] {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Err(problem) => problem.clone(),
        }
    }

    #[test]
    fn what_is_held_stays_and_requests_come_before_the_rest() {
        let holder = Wish { held: vec![ip("192.0.2.2")], ..wish("holder", 9) };
        let asker = Wish { requested: Ok(vec![ip("192.0.2.1")]), ..wish("asker", 8) };
        let late = Wish { requested: Ok(vec![ip("192.0.2.2")]), ..wish("late", 3) };
        let stranger = Wish { requested: Ok(vec![ip("10.0.0.1")]), ..wish("stranger", 3) };
        let vip = Wish { pool: Some("precious".into()), ..wish("vip", 4) };
        let lost = Wish { pool: Some("nowhere".into()), ..wish("lost", 4) };
        let dual = Wish { families: vec![Family::V4, Family::V6], ..wish("dual", 5) };
        let moved = Wish { held: vec![ip("172.16.0.1")], ..wish("moved", 6) };
        let wishes = [wish("plain", 1), holder, asker, late, stranger, vip, lost, dual, moved];
        let assignments = assign(&wishes, &pools());
        for (uid, expected) in [
            ("holder", "192.0.2.2"),
            ("asker", "192.0.2.1"),
            ("plain", "192.0.2.3"),
            ("dual", "192.0.2.4,2001:db8::1"),
            ("vip", "198.51.100.1"),
            ("moved", "no pool has a free IPv4 address"),
            ("late", "the requested address 192.0.2.2 is in use by another Service"),
            ("stranger", "the requested address 10.0.0.1 is in no pool"),
            ("lost", "there is no pool of external addresses named \"nowhere\""),
        ] {
            assert_eq!(shown(&assignments, uid), expected, "{uid}");
        }
    }

    #[test]
    fn a_dispute_is_won_by_the_older() {
        let old = Wish { held: vec![ip("192.0.2.1")], ..wish("old", 1) };
        let young = Wish { held: vec![ip("192.0.2.1")], ..wish("young", 2) };
        let assignments = assign(&[young, old], &pools());
        assert_eq!(
            (shown(&assignments, "old"), shown(&assignments, "young")),
            ("192.0.2.1".into(), "192.0.2.2".into())
        );
    }

    #[test]
    fn services_are_read() {
        let service = |spec: serde_json::Value| -> Service {
            serde_json::from_value(json!({
                "metadata": {"name": "s", "namespace": "d", "uid": "u", "annotations": {REQUESTED_POOL: "precious"}},
                "spec": spec,
                "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "elsewhere"}]}},
            }))
            .unwrap()
        };
        let wish =
            Wish::of(&service(json!({"type": "LoadBalancer", "loadBalancerIP": "192.0.2.9"}))).unwrap();
        assert_eq!((wish.requested, wish.held), (Ok(vec![ip("192.0.2.9")]), vec![ip("192.0.2.9")]));
        assert_eq!(wish.pool.as_deref(), Some("precious"));
        assert!(
            Wish::of(&service(json!({"type": "LoadBalancer", "loadBalancerIP": "x"})))
                .unwrap()
                .requested
                .is_err()
        );
        assert!(
            Wish::of(&service(json!({"type": "LoadBalancer", "loadBalancerClass": "other/lb"}))).is_none()
        );
        assert!(Wish::of(&service(json!({"type": "NodePort"}))).is_none());
    }

    fn any_wish() -> impl Strategy<Value = Wish> {
        let address = (0u8..8).prop_map(|n| IpAddr::from([192, 0, 2, n]));
        let families =
            prop_oneof![Just(vec![Family::V4]), Just(vec![Family::V6]), Just(vec![Family::V4, Family::V6])];
        (
            0i64..4,
            families,
            prop::option::of(address.clone()),
            prop::collection::vec(address, 0..3),
            any::<bool>(),
        )
            .prop_map(|(age, families, requested, held, precious)| Wish {
                families,
                requested: Ok(requested.into_iter().collect()),
                pool: precious.then(|| "precious".into()),
                held,
                ..wish("", age)
            })
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_the_outcome_is_stable(mut wishes in prop::collection::vec(any_wish(), 0..12)) {
            for (n, wish) in wishes.iter_mut().enumerate() {
                wish.uid = format!("s{n}");
            }
            let pools = pools();
            let first = assign(&wishes, &pools);
            let mut seen = BTreeSet::new();
            for address in first.values().flatten().flatten() {
                prop_assert!(seen.insert(*address), "{} given twice", address);
                prop_assert!(pools.owner(*address).is_some());
            }
            for wish in &mut wishes {
                wish.held = first[&wish.uid].clone().unwrap_or_default();
            }
            // Reasons of refusal may change with what is taken; who has what may not.
            let given = |assignments: Assignments| -> Vec<_> { assignments.into_values().map(Result::ok).collect() };
            prop_assert_eq!(given(assign(&wishes, &pools)), given(first));
        }
    }
}
