//! How many hosts are missing: a first-fit simulation of the pods that the scheduler could not place.
//!
//! Pure. A pod counts only if an empty node of the pool could take it; what no new node would help is left alone, so
//! that a pod asking for the impossible never makes a cluster grow.

use std::collections::BTreeMap;

/// Amounts by resource name (`cpu` in millicores, `memory` in bytes, extended resources in units, `pods`).
pub type Amounts = BTreeMap<String, u64>;

/// A pod that was found unschedulable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PendingPod {
    /// `namespace/name`.
    pub name: String,
    /// What it requests.
    pub requests: Amounts,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Keys of the taints it tolerates; `*` for all.
    pub tolerated_taints: Vec<String>,
}

/// A pool that could grow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrowablePool {
    /// Name.
    pub name: String,
    /// Hosts it has or is about to have.
    pub size: u32,
    /// Most hosts it may have.
    pub max: u32,
    /// What one more node would offer.
    pub node: Amounts,
    /// Labels of its nodes.
    pub labels: BTreeMap<String, String>,
    /// Keys of its nodes' taints that keep pods away.
    pub taints: Vec<String>,
}

/// A node that came so lately that the scheduler may not have tried it yet: it takes pods before any pool grows. What older
/// nodes have free is of no use to the pods, or the scheduler would have placed them there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewNode {
    /// What it has free.
    pub free: Amounts,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Keys of its taints that keep pods away.
    pub taints: Vec<String>,
}

/// What to do about one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Pool.
    pub pool: String,
    /// Size it should have.
    pub size: u32,
    /// Pods that this is for.
    pub pods: Vec<String>,
}

struct Bin<'a> {
    /// The pool that grew by it, if it is not there yet.
    pool: Option<usize>,
    free: Amounts,
    labels: &'a BTreeMap<String, String>,
    taints: &'a [String],
}

impl Bin<'_> {
    fn admits(&self, pod: &PendingPod) -> bool {
        admits(self.labels, self.taints, pod) && fits(&self.free, &pod.requests)
    }
}

fn fits(free: &Amounts, wanted: &Amounts) -> bool {
    wanted
        .iter()
        .all(|(resource, amount)| *amount == 0 || free.get(resource).is_some_and(|has| has >= amount))
}

fn admits(labels: &BTreeMap<String, String>, taints: &[String], pod: &PendingPod) -> bool {
    let selected = pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let tolerated = |taint: &String| pod.tolerated_taints.iter().any(|key| key == "*" || key == taint);
    selected && taints.iter().all(tolerated)
}

fn take(free: &mut Amounts, wanted: &Amounts) {
    for (resource, amount) in wanted {
        if let Some(has) = free.get_mut(resource) {
            *has = has.saturating_sub(*amount);
        }
    }
}

/// Decides the growth of all pools. Large pods are placed first; pools are tried in the order given.
pub fn plan_growth(pools: &[GrowablePool], new_nodes: &[NewNode], pending: &[PendingPod]) -> Vec<Growth> {
    let present = new_nodes.iter().map(|node| Bin {
        pool: None,
        free: node.free.clone(),
        labels: &node.labels,
        taints: &node.taints,
    });
    let mut bins: Vec<Bin<'_>> = present.collect();
    let mut added = vec![0_u32; pools.len()];
    let mut causes: Vec<Vec<String>> = vec![Vec::new(); pools.len()];
    let mut pods: Vec<&PendingPod> = pending.iter().collect();
    pods.sort_by_key(|pod| {
        (std::cmp::Reverse(pod.requests.values().copied().max().unwrap_or(0)), pod.name.clone())
    });
    for pod in pods {
        if let Some(bin) = bins.iter_mut().find(|bin| bin.admits(pod)) {
            take(&mut bin.free, &pod.requests);
            if let Some(pool) = bin.pool {
                causes[pool].push(pod.name.clone());
            }
            continue;
        }
        let grows = pools.iter().enumerate().find_map(|(index, pool)| {
            let room = pool.size + added[index] < pool.max;
            let bin = Bin {
                pool: Some(index),
                free: pool.node.clone(),
                labels: &pool.labels,
                taints: &pool.taints,
            };
            (room && bin.admits(pod)).then_some((index, bin))
        });
        let Some((index, mut bin)) = grows else { continue };
        take(&mut bin.free, &pod.requests);
        bins.push(bin);
        added[index] += 1;
        causes[index].push(pod.name.clone());
    }
    pools
        .iter()
        .zip(added)
        .zip(causes)
        .filter(|((_, added), _)| *added > 0)
        .map(|((pool, added), pods)| Growth { pool: pool.name.clone(), size: pool.size + added, pods })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amounts(cpu: u64) -> Amounts {
        BTreeMap::from([("cpu".to_owned(), cpu)])
    }

    fn pod(name: &str, cpu: u64) -> PendingPod {
        PendingPod { name: name.to_owned(), requests: amounts(cpu), ..Default::default() }
    }

    fn pool(size: u32, max: u32, cpu: u64) -> GrowablePool {
        GrowablePool { name: "train".to_owned(), size, max, node: amounts(cpu), ..Default::default() }
    }

    #[test]
    fn grows_by_what_is_missing() {
        let growth =
            plan_growth(&[pool(2, 4, 16_000)], &[], &[pod("a", 8_000), pod("b", 8_000), pod("c", 8_000)]);
        assert_eq!(growth.len(), 1);
        assert_eq!(growth[0].size, 4);
        assert_eq!(growth[0].pods, ["a", "b", "c"]);
    }

    #[test]
    fn never_grows_for_what_no_node_can_take() {
        assert_eq!(plan_growth(&[pool(2, 4, 16_000)], &[], &[pod("huge", 17_000)]), []);
        let mut choosy = pod("choosy", 1);
        choosy.node_selector.insert("disk".to_owned(), "nvme".to_owned());
        assert_eq!(plan_growth(&[pool(2, 4, 16_000)], &[], &[choosy]), []);
        let mut gpu = pod("gpu", 1);
        gpu.requests.insert("drystone.dev/gpu".to_owned(), 1);
        assert_eq!(plan_growth(&[pool(2, 4, 16_000)], &[], &[gpu]), []);
    }

    #[test]
    fn a_node_that_has_just_come_takes_what_it_can() {
        let node = NewNode { free: amounts(16_000), ..NewNode::default() };
        let pods = [pod("a", 8_000), pod("b", 8_000)];
        assert_eq!(plan_growth(&[pool(3, 4, 16_000)], std::slice::from_ref(&node), &pods), []);
        let more = [pod("a", 8_000), pod("b", 8_000), pod("c", 1_000)];
        let growth = plan_growth(&[pool(3, 4, 16_000)], std::slice::from_ref(&node), &more);
        assert_eq!((growth[0].size, growth[0].pods.as_slice()), (4, ["c".to_owned()].as_slice()));
        let closed = NewNode { taints: vec!["control-plane".to_owned()], ..node };
        assert_eq!(plan_growth(&[pool(3, 4, 16_000)], &[closed], &pods)[0].size, 4);
    }

    #[test]
    fn tainted_pools_need_tolerance() {
        let tainted = GrowablePool { taints: vec!["gpu".to_owned()], ..pool(1, 2, 16_000) };
        assert_eq!(plan_growth(std::slice::from_ref(&tainted), &[], &[pod("a", 1)]), []);
        let tolerant = PendingPod { tolerated_taints: vec!["gpu".to_owned()], ..pod("a", 1) };
        assert_eq!(plan_growth(&[tainted], &[], &[tolerant]).len(), 1);
    }

    proptest! {
        #[test]
        fn growth_is_bounded_and_sufficient(
            size in 0_u32..5, room in 0_u32..5, node in 1_u64..50, pods in prop::collection::vec(0_u64..60, 0..30)
        ) {
            let pool = pool(size, size + room, node);
            let pending: Vec<_> = pods.iter().enumerate().map(|(i, cpu)| pod(&format!("p{i:02}"), *cpu)).collect();
            let growth = plan_growth(std::slice::from_ref(&pool), &[], &pending);
            prop_assert!(growth.len() <= 1);
            if let Some(growth) = growth.first() {
                prop_assert!(growth.size > pool.size && growth.size <= pool.max);
                let used: u64 = growth.pods.iter().filter_map(|name| pending.iter().find(|p| &p.name == name))
                    .map(|p| p.requests["cpu"]).sum();
                prop_assert!(used <= u64::from(growth.size - pool.size) * node, "more was placed than fits");
            }
            if room == 0 { prop_assert!(growth.is_empty()); }
        }
    }
}
