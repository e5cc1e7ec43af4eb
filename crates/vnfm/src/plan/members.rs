//! The places of a VNF: which are filled before an operation, which after it, and which it concerns.

use std::collections::BTreeMap;

use drystone_sol003::types::{InstantiatedVnfInfo, VnfcResourceInfo};
use serde_json::Value;

use crate::model::{Member, Vnfc};

/// The VNFCs that an instance has, by VDU and index.
pub fn existing(info: &InstantiatedVnfInfo) -> Vec<Vnfc> {
    let storages: BTreeMap<&str, &str> = info
        .virtual_storage_resource_info
        .iter()
        .map(|storage| (storage.id.as_str(), storage.virtual_storage_desc_id.as_str()))
        .collect();
    let mut vnfcs: Vec<Vnfc> =
        info.vnfc_resource_info.iter().map(|resource| vnfc(resource, &storages)).collect();
    vnfcs.sort_by(|a, b| a.member.cmp(&b.member));
    vnfcs
}

fn vnfc(resource: &VnfcResourceInfo, storages: &BTreeMap<&str, &str>) -> Vnfc {
    let text =
        |name: &str| resource.metadata.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let index =
        resource.metadata.get("vdu_idx").and_then(Value::as_u64).and_then(|index| u32::try_from(index).ok());
    let group = (text("parent_stack_id"), text("parent_resource_name"));
    let name = text("resource_name");
    Vnfc {
        member: Member { vdu: resource.vdu_id.clone(), index: index.unwrap_or_default() },
        server: resource.compute_resource.resource_id.clone(),
        resource: (text("stack_id"), if name.is_empty() { resource.vdu_id.clone() } else { name }),
        group: Some(group).filter(|(stack, member)| !stack.is_empty() && !member.is_empty()),
        created: text("creation_time"),
        volumes: resource
            .storage_resource_ids
            .iter()
            .map(|id| (storages.get(id.as_str()).copied().unwrap_or_default().to_owned(), id.clone()))
            .collect(),
        connection_points: resource.vnfc_cp_info.iter().map(|cp| cp.id.clone()).collect(),
    }
}

/// How many there are of each VDU.
pub fn counts<'a>(members: impl IntoIterator<Item = &'a Member>) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for member in members {
        *counts.entry(member.vdu.clone()).or_insert(0) += 1;
    }
    counts
}

/// The places of so many instances of each VDU, from 0.
pub fn first(counts: &BTreeMap<String, u32>) -> Vec<Member> {
    let of = |(vdu, count): (&String, &u32)| {
        (0..*count).map(|index| Member { vdu: vdu.clone(), index }).collect::<Vec<_>>()
    };
    counts.iter().flat_map(of).collect()
}

/// The places after `difference`: `removed` are free, and new ones are the lowest that were free before.
pub fn changed(before: &[Vnfc], difference: &BTreeMap<String, i64>, removed: &[Vnfc]) -> Vec<Member> {
    let gone = |member: &Member| removed.iter().any(|vnfc| vnfc.member == *member);
    let mut after: Vec<Member> =
        before.iter().map(|vnfc| vnfc.member.clone()).filter(|member| !gone(member)).collect();
    for (vdu, &more) in difference {
        let taken =
            |index: u32| before.iter().any(|vnfc| vnfc.member.vdu == *vdu && vnfc.member.index == index);
        let wanted = usize::try_from(more).unwrap_or(0);
        let free = (0..u32::MAX).filter(|&index| !taken(index)).take(wanted);
        after.extend(free.map(|index| Member { vdu: vdu.clone(), index }));
    }
    after.sort();
    after
}

/// Which of a VDU's go when there are to be `fewer`: the newest first, or the oldest first.
pub fn victims(before: &[Vnfc], difference: &BTreeMap<String, i64>, oldest_first: bool) -> Vec<Vnfc> {
    let mut victims = Vec::new();
    for (vdu, &more) in difference {
        let fewer = usize::try_from(more.saturating_neg()).unwrap_or(0);
        let mut candidates: Vec<&Vnfc> = before.iter().filter(|vnfc| vnfc.member.vdu == *vdu).collect();
        candidates.sort_by_key(|vnfc| (vnfc.member.index, vnfc.created.clone()));
        if !oldest_first {
            candidates.reverse();
        }
        victims.extend(candidates.into_iter().take(fewer).cloned());
    }
    victims.sort_by(|a, b| a.member.cmp(&b.member));
    victims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vnfc(vdu: &str, index: u32) -> Vnfc {
        Vnfc {
            member: Member { vdu: vdu.to_owned(), index },
            server: format!("{vdu}{index}"),
            ..Vnfc::default()
        }
    }

    fn of(vdu: &str, more: i64) -> BTreeMap<String, i64> {
        BTreeMap::from([(vdu.to_owned(), more)])
    }

    fn indexes(members: &[Member], vdu: &str) -> Vec<u32> {
        members.iter().filter(|member| member.vdu == vdu).map(|member| member.index).collect()
    }

    #[test]
    fn new_ones_take_the_lowest_free_places() {
        let before = [vnfc("m", 0), vnfc("w", 0), vnfc("w", 2)];
        assert_eq!(indexes(&changed(&before, &of("w", 2), &[]), "w"), [0, 1, 2, 3]);
        assert_eq!(indexes(&changed(&before, &of("w", 2), &[]), "m"), [0]);
    }

    #[test]
    fn the_newest_go_first_or_the_oldest() {
        let before = [vnfc("m", 0), vnfc("w", 0), vnfc("w", 1), vnfc("w", 2)];
        let newest = victims(&before, &of("w", -2), false);
        assert_eq!(newest.iter().map(|vnfc| vnfc.member.index).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(indexes(&changed(&before, &of("w", -2), &newest), "w"), [0]);
        let oldest = victims(&before, &of("w", -1), true);
        assert_eq!(oldest[0].member.index, 0);
        assert_eq!(indexes(&changed(&before, &of("w", -1), &oldest), "w"), [1, 2]);
        assert!(victims(&before, &of("w", 1), true).is_empty());
    }

    #[test]
    fn places_begin_at_nought() {
        let counts_of = BTreeMap::from([("m".to_owned(), 1), ("w".to_owned(), 2)]);
        let members = first(&counts_of);
        assert_eq!((indexes(&members, "m"), indexes(&members, "w")), (vec![0], vec![0, 1]));
        assert_eq!(counts(&members), counts_of);
    }
}
