//! Comparisons. The store knows "equal"; what else etcd knows is decided here on what was read, and the transaction is carried out
//! only if what was read is still so.

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone_store::{
    Compare, CompareTarget, KeyValue, Operation, OperationResult, Revision, Store, StoreError, Txn,
};
use tonic::Status;

use crate::{convert, kv, messages as etcd};

/// How often a transaction is tried whose keys change all the time: each time somebody else has got on.
const TRIES: usize = 32;

/// Which way a transaction went, and what came of it.
pub(crate) struct Chosen {
    pub(crate) succeeded: bool,
    pub(crate) revision: Revision,
    pub(crate) results: Vec<OperationResult>,
}

/// Carries out a transaction.
pub(crate) async fn carry_out(
    store: &dyn Store,
    comparisons: &[etcd::Compare],
    success: &[Operation],
    failure: &[Operation],
) -> Result<Chosen, Status> {
    let equal: Option<Vec<Compare>> = comparisons.iter().map(as_equal).collect();
    if let Some(compare) = equal {
        let txn = Txn { compare, success: success.to_vec(), failure: failure.to_vec() };
        let done = store.txn(txn).await.map_err(|error| convert::status(&error))?;
        return Ok(Chosen { succeeded: done.succeeded, revision: done.revision, results: done.results });
    }
    if comparisons.iter().any(|compare| !compare.range_end.is_empty()) {
        return Err(Status::unimplemented("comparisons over ranges of keys are not carried out here"));
    }
    for _ in 0..TRIES {
        let seen = Seen::look(store, comparisons).await?;
        let succeeded = comparisons.iter().all(|compare| holds(compare, seen.of(&compare.key)));
        let branch = if succeeded { success } else { failure };
        let txn = Txn { compare: seen.unchanged(), success: branch.to_vec(), failure: Vec::new() };
        let done = store.txn(txn).await.map_err(|error| convert::status(&error))?;
        if done.succeeded {
            return Ok(Chosen { succeeded, revision: done.revision, results: done.results });
        }
    }
    Err(Status::unavailable("the keys compared change all the time; try again"))
}

/// Writes a key, keeping its value or its lease.
pub(crate) async fn put_over(
    store: &dyn Store,
    question: &etcd::PutRequest,
) -> Result<etcd::PutResponse, Status> {
    for _ in 0..TRIES {
        let found =
            store.range(kv::read_of(&question.key, None)).await.map_err(|error| convert::status(&error))?;
        let Some(present) = found.kvs.into_iter().next() else {
            return Err(Status::invalid_argument("etcdserver: key not found"));
        };
        let value = if question.ignore_value { present.value.clone() } else { question.value.clone() };
        let lease = if question.ignore_lease { present.lease } else { question.lease };
        let txn = Txn {
            compare: vec![unchanged(&question.key, Some(&present))],
            success: vec![Operation::Put { key: question.key.clone(), value, lease }],
            failure: Vec::new(),
        };
        let done = store.txn(txn).await.map_err(|error| convert::status(&error))?;
        if done.succeeded {
            let prev_kv = question.prev_kv.then(|| convert::pair(&present));
            return Ok(etcd::PutResponse { header: Some(kv::header_at(done.revision)), prev_kv });
        }
    }
    Err(Status::unavailable("the key changes all the time; try again"))
}

/// What the keys compared were at one moment.
struct Seen<'a> {
    pairs: BTreeMap<&'a Bytes, Option<KeyValue>>,
}

impl<'a> Seen<'a> {
    /// Looks at all keys at one revision; at a later one, if that has been compacted meanwhile.
    async fn look(store: &dyn Store, comparisons: &'a [etcd::Compare]) -> Result<Self, Status> {
        let mut revision = None;
        let mut pairs = BTreeMap::new();
        for compare in comparisons {
            if pairs.contains_key(&compare.key) {
                continue;
            }
            let found = match store.range(kv::read_of(&compare.key, revision)).await {
                // That every key is still as it was seen is checked by the transaction.
                Err(StoreError::Compacted { .. }) => store.range(kv::read_of(&compare.key, None)).await,
                other => other,
            };
            let found = found.map_err(|error| convert::status(&error))?;
            revision.get_or_insert(found.revision);
            pairs.insert(&compare.key, found.kvs.into_iter().next());
        }
        Ok(Self { pairs })
    }

    fn of(&self, key: &Bytes) -> Option<&KeyValue> {
        self.pairs.get(key).and_then(Option::as_ref)
    }

    fn unchanged(&self) -> Vec<Compare> {
        self.pairs.iter().map(|(key, pair)| unchanged(key, pair.as_ref())).collect()
    }
}

fn unchanged(key: &Bytes, pair: Option<&KeyValue>) -> Compare {
    let revision = pair.map_or(0, |pair| pair.mod_revision);
    Compare { key: key.clone(), target: CompareTarget::ModRevision(revision) }
}

/// The comparison, if it is one that the store knows.
fn as_equal(compare: &etcd::Compare) -> Option<Compare> {
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
