//! Waves: their order, and who comes in which.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::RolloutWave;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{PlanInput, PlannedHost, PlannedWave, limits::rounded_up};
use crate::{
    select::{HostFacts, selects},
    validate::Refusal,
};

/// Name of the wave that is made of the first host, where no waves are declared.
const CANARY: &str = "canary";

/// Name of the wave that is made of all hosts that are in no other.
const REST: &str = "rest";

/// Waves by index, each after those that it waits for; among those that are free, in the order in which they are declared.
///
/// # Errors
/// [`Refusal`] of a name that is taken or unknown, or of waves that wait for each other.
pub fn order(waves: &[RolloutWave]) -> Result<Vec<usize>, Refusal> {
    let mut index_of = BTreeMap::new();
    for (index, wave) in waves.iter().enumerate() {
        if let Some(first) = index_of.insert(wave.name.as_str(), index) {
            let reason = format!("`{}` is the name of waves[{first}] already", wave.name);
            return Err(Refusal::new(format!("waves[{index}].name"), reason));
        }
    }
    let mut waits = Vec::with_capacity(waves.len());
    for index in 0..waves.len() {
        waits.push(waits_for(waves, index, &index_of)?);
    }
    let mut ordered: Vec<usize> = Vec::with_capacity(waves.len());
    while ordered.len() < waves.len() {
        let free = (0..waves.len()).find(|index| {
            !ordered.contains(index) && waits[*index].iter().all(|before| ordered.contains(before))
        });
        match free {
            Some(index) => ordered.push(index),
            None => return Err(circle(waves, &waits, &ordered)),
        }
    }
    Ok(ordered)
}

/// Indices of the waves that one waits for.
fn waits_for(
    waves: &[RolloutWave],
    index: usize,
    index_of: &BTreeMap<&str, usize>,
) -> Result<BTreeSet<usize>, Refusal> {
    let Some(after) = &waves[index].after else { return Ok(index.checked_sub(1).into_iter().collect()) };
    let mut waits = BTreeSet::new();
    for (position, name) in after.iter().enumerate() {
        let found = index_of.get(name.as_str()).ok_or_else(|| {
            let reason = format!("there is no wave `{name}`");
            Refusal::new(format!("waves[{index}].after[{position}]"), reason)
        })?;
        waits.insert(*found);
    }
    Ok(waits)
}

fn circle(waves: &[RolloutWave], waits: &[BTreeSet<usize>], ordered: &[usize]) -> Refusal {
    // Each wave that is left waits for another one that is left: walking on, one is met twice.
    let left = |index: &usize| !ordered.contains(index);
    let mut path: Vec<usize> = Vec::new();
    let mut at = (0..waves.len()).find(left).unwrap_or_default();
    while !path.contains(&at) {
        path.push(at);
        at = waits[at].iter().copied().find(left).unwrap_or_default();
    }
    let from = path.iter().position(|index| *index == at).unwrap_or_default();
    let names: Vec<&str> =
        path[from..].iter().chain([&at]).map(|index| waves[*index].name.as_str()).collect();
    let reason = format!("waves wait for each other in a circle: {}", names.join(" → "));
    Refusal::new(format!("waves[{at}].after"), reason)
}

/// Puts every host that needs it into one wave. Waves that nobody is in are left out, and who waited for them waits for those
/// that they waited for.
pub(super) fn assign(
    input: &PlanInput<'_>,
    needed: &BTreeMap<String, PlannedHost>,
) -> Result<Vec<PlannedWave>, Refusal> {
    let declared = declared(input, needed.len());
    let ordered = order(&declared)
        .map_err(|refusal| Refusal::new(format!("spec.strategy.{}", refusal.field), refusal.reason))?;
    let index_of: BTreeMap<&str, usize> =
        declared.iter().enumerate().map(|(index, wave)| (wave.name.as_str(), index)).collect();
    let mut left = candidates(input, needed);
    let mut made: Vec<PlannedWave> = Vec::new();
    // Of each declared wave: the made waves that stand for it.
    let mut stands_for: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in ordered {
        let wave = &declared[index];
        let waits = waits_for(&declared, index, &index_of)?;
        let after: BTreeSet<usize> = waits.iter().flat_map(|before| stands_for[before].clone()).collect();
        let hosts = take(wave, &mut left);
        if hosts.is_empty() {
            stands_for.insert(index, after.into_iter().collect());
            continue;
        }
        stands_for.insert(index, vec![made.len()]);
        made.push(PlannedWave {
            name: wave.name.clone(),
            after: after.into_iter().collect(),
            hosts,
            soak_seconds: wave.soak_seconds,
            pause: wave.pause,
        });
    }
    if !left.is_empty() {
        let after = (0..made.len()).collect();
        let taken = |name: &str| made.iter().any(|wave| wave.name == name);
        let name = std::iter::once(REST.to_owned())
            .chain((2..).map(|number| format!("{REST}-{number}")))
            .find(|name| !taken(name))
            .unwrap_or_default();
        let hosts = left.into_iter().map(|host| host.name.clone()).collect();
        made.push(PlannedWave { name, after, hosts, ..PlannedWave::default() });
    }
    Ok(made)
}

/// The waves that are declared, or the canary.
fn declared(input: &PlanInput<'_>, needed: usize) -> Vec<RolloutWave> {
    if input.strategy.waves.is_empty() && needed > 1 {
        let hosts = Some(IntOrString::Int(1));
        return vec![RolloutWave { name: CANARY.to_owned(), hosts, ..RolloutWave::default() }];
    }
    input.strategy.waves.clone()
}

/// The hosts that need it, in the order in which they come: those that can be reached first, workers before control planes,
/// then by site and name.
fn candidates<'a>(input: &PlanInput<'a>, needed: &BTreeMap<String, PlannedHost>) -> Vec<&'a HostFacts> {
    let place = |site: &str| {
        let given = &input.strategy.site_order;
        given.iter().position(|name| name == site).unwrap_or(given.len())
    };
    let mut hosts: Vec<&HostFacts> =
        input.hosts.iter().filter(|host| needed.contains_key(&host.name)).collect();
    hosts.sort_by_cached_key(|host| {
        let control_plane = needed.get(&host.name).is_some_and(|planned| planned.control_plane);
        let (site, name) = (host.site.clone(), host.name.clone());
        (host.unreachable.is_some(), control_plane, place(&site), site, name)
    });
    hosts.dedup_by(|a, b| a.name == b.name);
    hosts
}

/// Takes a wave's hosts out of those that are left.
fn take(wave: &RolloutWave, left: &mut Vec<&HostFacts>) -> Vec<String> {
    let matches = |host: &HostFacts| wave.selector.as_ref().is_none_or(|selector| selects(selector, host));
    let matching = left.iter().filter(|host| matches(host)).count();
    let mut wanted = wave.hosts.as_ref().map_or(matching, |value| rounded_up(value, matching));
    let mut taken = Vec::new();
    left.retain(|host| {
        let take = wanted > 0 && matches(host);
        if take {
            wanted -= 1;
            taken.push(host.name.clone());
        }
        !take
    });
    taken
}
