//! Comparisons. The store knows "equal"; what else etcd knows is decided here on what was read, and what depends on it is carried out
//! only if what was read is still so.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use drystone_store::{Compare, CompareTarget, KeyRange, KeyValue, RangeRequest, Revision, Store, StoreError};
use tonic::Status;

use crate::{convert, messages as etcd};

/// How often a transaction is tried whose keys change all the time: each time somebody else has got on.
pub(crate) const TRIES: usize = 32;

/// What some keys, and ranges of keys, were at one moment.
pub(crate) struct Seen {
    pairs: BTreeMap<Place, Vec<KeyValue>>,
    revision: Revision,
}

/// A key, and the end of a range that begins with it; empty for a single key.
pub(crate) type Place = (Bytes, Bytes);

/// Most keys of a range that are compared: each becomes a comparison of the store's.
const COMPARED: usize = 2000;

impl Seen {
    /// Looks at keys at one revision; at a later one, if that has been compacted meanwhile.
    pub(crate) async fn look(store: &dyn Store, places: &BTreeSet<Place>) -> Result<Self, Status> {
        let mut revision = None;
        let mut pairs = BTreeMap::new();
        for place in places {
            let (key, end) = place;
            let Some(range) = convert::range(key, end)? else {
                pairs.insert(place.clone(), Vec::new());
                continue;
            };
            let mut request = RangeRequest { revision, limit: COMPARED, ..RangeRequest::new(range) };
            let found = match store.range(request.clone()).await {
                // That every key is still as it was seen is checked by the transaction.
                Err(StoreError::Compacted { .. }) => {
                    request.revision = None;
                    store.range(request).await
                }
                other => other,
            };
            let found = found.map_err(|error| convert::status(&error))?;
            if found.more {
                return Err(Status::invalid_argument("a range that is compared has too many keys"));
            }
            revision.get_or_insert(found.revision);
            pairs.insert(place.clone(), found.kvs);
        }
        Ok(Self { pairs, revision: revision.unwrap_or(0) })
    }

    pub(crate) fn of(&self, key: &Bytes) -> Option<&KeyValue> {
        self.pairs.get(&(key.clone(), Bytes::new()))?.first()
    }

    /// Whether a comparison holds: for every key of a range; if there is none, as if there were one that is not there.
    pub(crate) fn holds(&self, compare: &etcd::Compare) -> bool {
        let pairs = self.pairs.get(&(compare.key.clone(), compare.range_end.clone()));
        match pairs.map_or(&[][..], Vec::as_slice) {
            [] => holds(compare, None),
            pairs => pairs.iter().all(|pair| holds(compare, Some(pair))),
        }
    }

    /// Holds as long as every key is what it was, and ranges have no others.
    pub(crate) fn unchanged(&self) -> Vec<Compare> {
        let mut conditions = BTreeMap::new();
        let mut ranges = Vec::new();
        for ((key, end), pairs) in &self.pairs {
            for pair in pairs {
                conditions.insert(&pair.key, unchanged(&pair.key, Some(pair)));
            }
            if end.is_empty() {
                conditions.entry(key).or_insert_with(|| unchanged(key, None));
            } else if let Ok(Some(KeyRange { start, end: Some(end) })) = convert::range(key, end) {
                let target = CompareTarget::NotChangedSince { end, revision: self.revision };
                ranges.push(Compare { key: start, target });
            }
        }
        conditions.into_values().chain(ranges).collect()
    }
}

fn unchanged(key: &Bytes, pair: Option<&KeyValue>) -> Compare {
    let revision = pair.map_or(0, |pair| pair.mod_revision);
    Compare { key: key.clone(), target: CompareTarget::ModRevision(revision) }
}

/// The comparison, if it is one that the store knows.
pub(crate) fn as_equal(compare: &etcd::Compare) -> Option<Compare> {
    if compare.result() != etcd::CompareResult::Equal || !compare.range_end.is_empty() {
        return None;
    }
    let number = |number: &i64| u64::try_from(*number).ok();
    let target = match (compare.target(), &compare.value) {
        (etcd::Target::Version, Some(etcd::TargetValue::Version(version))) => {
            CompareTarget::Version(number(version)?)
        }
        (etcd::Target::Create, Some(etcd::TargetValue::CreateRevision(revision))) => {
            CompareTarget::CreateRevision(number(revision)?)
        }
        (etcd::Target::Mod, Some(etcd::TargetValue::ModRevision(revision))) => {
            CompareTarget::ModRevision(number(revision)?)
        }
        (etcd::Target::Value, Some(etcd::TargetValue::Value(value))) => CompareTarget::Value(value.clone()),
        _ => return None,
    };
    Some(Compare { key: compare.key.clone(), target })
}

/// Whether a comparison holds. A key that is not there has the numbers 0 and no value, which is like no other.
fn holds(compare: &etcd::Compare, pair: Option<&KeyValue>) -> bool {
    let number = |of: fn(&KeyValue) -> u64| pair.map_or(0, |pair| convert::signed(of(pair)));
    let order = match (compare.target(), &compare.value) {
        (etcd::Target::Value, value) => {
            let Some(pair) = pair else { return false };
            let wanted = match value {
                Some(etcd::TargetValue::Value(value)) => value.clone(),
                _ => Bytes::new(),
            };
            pair.value.cmp(&wanted)
        }
        (etcd::Target::Version, value) => number(|pair| pair.version).cmp(&match value {
            Some(etcd::TargetValue::Version(version)) => *version,
            _ => 0,
        }),
        (etcd::Target::Create, value) => number(|pair| pair.create_revision).cmp(&match value {
            Some(etcd::TargetValue::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        (etcd::Target::Mod, value) => number(|pair| pair.mod_revision).cmp(&match value {
            Some(etcd::TargetValue::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        (etcd::Target::Lease, value) => pair.map_or(0, |pair| pair.lease).cmp(&match value {
            Some(etcd::TargetValue::Lease(lease)) => *lease,
            _ => 0,
        }),
    };
    match compare.result() {
        etcd::CompareResult::Equal => order.is_eq(),
        etcd::CompareResult::NotEqual => order.is_ne(),
        etcd::CompareResult::Greater => order.is_gt(),
        etcd::CompareResult::Less => order.is_lt(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(result: etcd::CompareResult, target: etcd::Target, value: etcd::TargetValue) -> etcd::Compare {
        let mut compare = etcd::Compare { key: "k".into(), value: Some(value), ..etcd::Compare::default() };
        compare.set_result(result);
        compare.set_target(target);
        compare
    }

    fn pair(value: &str, version: u64) -> KeyValue {
        let value = value.to_owned().into();
        KeyValue { key: "k".into(), value, create_revision: 4, mod_revision: 7, version, lease: 0 }
    }

    #[test]
    fn comparisons_hold_as_in_etcd() {
        use etcd::{CompareResult::*, Target, TargetValue};
        let value = |result, value: &'static str| {
            compare(result, Target::Value, TargetValue::Value(value.as_bytes().into()))
        };
        let present = pair("m", 3);
        assert!(holds(&value(Greater, "a"), Some(&present)) && !holds(&value(Greater, "z"), Some(&present)));
        assert!(holds(&value(NotEqual, "a"), Some(&present)) && !holds(&value(NotEqual, "a"), None));
        let version = |result, number| compare(result, Target::Version, TargetValue::Version(number));
        assert!(holds(&version(Less, 4), Some(&present)) && holds(&version(Greater, -1), None));
        assert!(holds(&version(Equal, 0), None) && !holds(&version(NotEqual, 3), Some(&present)));
    }

    #[test]
    fn only_what_the_store_knows_is_left_to_it() {
        use etcd::{CompareResult::*, Target, TargetValue};
        assert!(as_equal(&compare(Equal, Target::Mod, TargetValue::ModRevision(7))).is_some());
        assert!(as_equal(&compare(Equal, Target::Mod, TargetValue::ModRevision(-1))).is_none());
        assert!(as_equal(&compare(NotEqual, Target::Mod, TargetValue::ModRevision(7))).is_none());
        // What is compared is not what is looked at.
        assert!(as_equal(&compare(Equal, Target::Mod, TargetValue::Version(7))).is_none());
    }
}
