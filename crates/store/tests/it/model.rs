//! Random transactions, checked against a model that keeps every state there ever was.

use std::collections::BTreeMap;

use bytes::Bytes;
use drystone_store::embedded::{CompactionPolicy, EmbeddedStore, Options};
use drystone_store::{
    Compare, CompareTarget, EventKind, KeyRange, KeyValue, Operation, OperationResult, RangeRequest,
    RangeResponse, Revision, Store, StoreError, Txn, TxnResponse, WatchRequest,
};
use futures::StreamExt;
use proptest::prelude::*;

use crate::stores::{Etcd, until_answered};

type Pairs = BTreeMap<Bytes, KeyValue>;

/// Every state there ever was, the simplest way.
#[derive(Debug, Clone)]
struct Model {
    states: BTreeMap<Revision, Pairs>,
    compacted: Revision,
}

impl Model {
    fn new() -> Self {
        Self { states: BTreeMap::from([(1, Pairs::new())]), compacted: 0 }
    }

    fn revision(&self) -> Revision {
        *self.states.last_key_value().unwrap().0
    }

    fn latest(&self) -> &Pairs {
        self.states.last_key_value().unwrap().1
    }

    fn txn(&mut self, txn: &Txn) -> Result<TxnResponse, ()> {
        if !is_valid(&txn.success) || !is_valid(&txn.failure) {
            return Err(());
        }
        let mut pairs = self.latest().clone();
        let succeeded = txn.compare.iter().all(|compare| holds(&pairs, compare));
        let next = self.revision() + 1;
        let mut wrote = false;
        let mut results = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            results.push(match operation {
                Operation::Put { key, value, lease } => {
                    wrote = true;
                    let before = pairs.get(key).cloned();
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision: before.as_ref().map_or(next, |kv| kv.create_revision),
                        mod_revision: next,
                        version: before.as_ref().map_or(0, |kv| kv.version) + 1,
                        lease: *lease,
                    };
                    pairs.insert(key.clone(), kv);
                    OperationResult::Put(before)
                }
                Operation::Delete(range) => {
                    let doomed: Vec<_> =
                        pairs.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
                    for kv in &doomed {
                        wrote = true;
                        pairs.remove(&kv.key);
                    }
                    OperationResult::Delete(doomed)
                }
                Operation::Range(request) => {
                    let revision = if wrote { next } else { next - 1 };
                    OperationResult::Range(range(&pairs, revision, request))
                }
            });
        }
        if wrote {
            self.states.insert(next, pairs);
        }
        Ok(TxnResponse { succeeded, revision: self.revision(), results })
    }
}

fn is_valid(operations: &[Operation]) -> bool {
    let mut puts = Vec::new();
    for operation in operations {
        if let Operation::Put { key, .. } = operation {
            if puts.contains(&key) {
                return false;
            }
            puts.push(key);
        }
    }
    !operations.iter().any(|operation| {
        matches!(operation, Operation::Delete(range) if puts.iter().any(|key| range.contains(key)))
    })
}

fn holds(pairs: &Pairs, compare: &Compare) -> bool {
    let kv = pairs.get(&compare.key);
    match &compare.target {
        CompareTarget::ModRevision(revision) => kv.map_or(0, |kv| kv.mod_revision) == *revision,
        CompareTarget::CreateRevision(revision) => kv.map_or(0, |kv| kv.create_revision) == *revision,
        CompareTarget::Version(version) => kv.map_or(0, |kv| kv.version) == *version,
        CompareTarget::Value(value) => kv.map(|kv| &kv.value) == Some(value),
        CompareTarget::NotChangedSince { end, revision } => {
            let range = KeyRange { start: compare.key.clone(), end: Some(end.clone()) };
            pairs.values().all(|kv| !range.contains(&kv.key) || kv.mod_revision <= *revision)
        }
    }
}

fn range(pairs: &Pairs, revision: Revision, request: &RangeRequest) -> RangeResponse {
    let all: Vec<_> = pairs.values().filter(|kv| request.range.contains(&kv.key)).cloned().collect();
    let count = all.len();
    if request.count_only {
        return RangeResponse { revision, kvs: Vec::new(), count: count as u64, more: false };
    }
    let limit = if request.limit == 0 { count } else { request.limit };
    let mut kvs: Vec<_> = all.into_iter().take(limit).collect();
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
    }
    RangeResponse { revision, more: kvs.len() < count, kvs, count: count as u64 }
}

fn key() -> impl Strategy<Value = Bytes> {
    (0..3_u8, 0..5_u8).prop_map(|(directory, name)| Bytes::from(format!("/{directory}/{name}")))
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::single),
        (0..3_u8).prop_map(|directory| KeyRange::prefix(format!("/{directory}/"))),
        (key(), key()).prop_map(|(start, end)| KeyRange { start, end: Some(end) }),
        key().prop_map(|start| KeyRange { start, end: Some(Bytes::new()) }),
        Just(KeyRange { start: Bytes::new(), end: Some(Bytes::new()) }),
    ]
}

fn range_request() -> impl Strategy<Value = RangeRequest> {
    (key_range(), 0..4_usize, any::<bool>(), 0..4_u8).prop_map(|(range, limit, keys_only, count)| {
        RangeRequest { limit, keys_only, count_only: count == 0, ..RangeRequest::new(range) }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (key(), any::<u8>()).prop_map(|(key, value)| Operation::Put { key, value: vec![value; 3].into(), lease: 0 }),
        2 => key_range().prop_map(Operation::Delete),
        1 => range_request().prop_map(Operation::Range),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let target = prop_oneof![
        (0..12_u64).prop_map(CompareTarget::ModRevision),
        (0..12_u64).prop_map(CompareTarget::CreateRevision),
        (0..3_u64).prop_map(CompareTarget::Version),
        any::<u8>().prop_map(|value| CompareTarget::Value(vec![value; 3].into())),
        (prop_oneof![3 => key(), 1 => Just(Bytes::new())], 0..12_u64)
            .prop_map(|(end, revision)| CompareTarget::NotChangedSince { end, revision }),
    ];
    (key(), target).prop_map(|(key, target)| Compare { key, target })
}

#[derive(Debug, Clone)]
enum Step {
    Txn(Txn),
    /// A read at some share of the revisions there are.
    Read(RangeRequest, f64),
    /// Compaction at some share of the revisions there are.
    Compact(f64),
    Reopen,
}

fn txn() -> impl Strategy<Value = Txn> {
    let operations = || prop::collection::vec(operation(), 0..4);
    (prop::collection::vec(compare(), 0..2), operations(), operations())
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => txn().prop_map(Step::Txn),
        4 => (range_request(), 0.0..1.1).prop_map(|(request, share)| Step::Read(request, share)),
        1 => (0.0..1.1).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

fn at(share: f64, revision: Revision) -> Revision {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let at = (share * revision as f64) as Revision;
    at.max(1)
}

fn same(left: &TxnResponse, right: &TxnResponse) -> bool {
    format!("{left:?}") == format!("{right:?}")
}

async fn compare_read(store: &dyn Store, model: &Model, request: RangeRequest, revision: Revision) {
    let asked = RangeRequest { revision: Some(revision), ..request.clone() };
    let answer = store.range(asked).await;
    match answer {
        Err(StoreError::FutureRevision { .. }) => assert!(revision > model.revision()),
        Err(StoreError::Compacted { compacted, .. }) => {
            assert_eq!(compacted, model.compacted);
            assert!(revision < compacted);
        }
        Err(error) => panic!("{error}"),
        Ok(response) => {
            assert!(revision >= model.compacted && revision <= model.revision());
            let pairs = model.states.range(..=revision).next_back().unwrap().1;
            let expected = range(pairs, model.revision(), &request);
            assert_eq!(format!("{response:?}"), format!("{expected:?}"), "at revision {revision}");
        }
    }
}

/// The changes between two states, as a watch tells them.
fn changes(before: &Pairs, after: &Pairs) -> Vec<(EventKind, Bytes, Bytes)> {
    let keys: std::collections::BTreeSet<_> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter_map(|key| match (before.get(key), after.get(key)) {
            (Some(_), None) => Some((EventKind::Delete, key.clone(), Bytes::new())),
            (old, Some(new)) if old != Some(new) => Some((EventKind::Put, key.clone(), new.value.clone())),
            _ => None,
        })
        .collect()
}

/// A watch from every revision that is left tells exactly the changes since, in order.
async fn compare_watches(store: &dyn Store, model: &Model, range: &KeyRange, first: Revision, marks: bool) {
    for start in first.max(2)..=model.revision() {
        let request = WatchRequest { range: range.clone(), start_revision: Some(start) };
        let mut watch = store.watch(request).await.unwrap();
        let mut expected: BTreeMap<Revision, Vec<_>> = BTreeMap::new();
        let mut before = model.states.range(..start).next_back().unwrap().1;
        for (revision, after) in model.states.range(start..) {
            let changes: Vec<_> =
                changes(before, after).into_iter().filter(|(_, key, _)| range.contains(key)).collect();
            if !changes.is_empty() {
                expected.insert(*revision, changes);
            }
            before = after;
        }
        // Only the embedded store tells how far it has come when nothing of the range has changed.
        let last = if marks { model.revision() } else { expected.keys().next_back().copied().unwrap_or(0) };
        let mut reached = start - 1;
        let mut told: BTreeMap<Revision, Vec<_>> = BTreeMap::new();
        while reached < last {
            let batch = watch.next().await.unwrap().unwrap();
            assert!(batch.revision > reached, "watches go forward");
            reached = batch.revision;
            for event in batch.events {
                let before = model.states.range(..reached).next_back().unwrap().1.get(&event.kv.key);
                assert_eq!(event.previous.as_ref(), before, "previous pair at {reached}");
                told.entry(reached).or_default().push((
                    event.kind,
                    event.kv.key.clone(),
                    event.kv.value.clone(),
                ));
            }
        }
        told.values_mut().for_each(|events| events.sort_by(|left, right| left.1.cmp(&right.1)));
        assert_eq!(told, expected, "from revision {start}");
    }
}

async fn run(steps: Vec<Step>, watched: KeyRange) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options = || Options { compaction: CompactionPolicy::MANUAL, ..Options::default() };
    let mut store = EmbeddedStore::open(&path, options()).unwrap();
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Txn(txn) => match (store.txn(txn.clone()).await, model.txn(&txn)) {
                (Ok(answer), Ok(expected)) => assert!(same(&answer, &expected), "{answer:?}\n{expected:?}"),
                (Err(StoreError::InvalidRequest(_)), Err(())) => {}
                (answer, expected) => panic!("{answer:?}\n{expected:?}"),
            },
            Step::Read(request, share) => {
                let revision = at(share, model.revision());
                compare_read(&store, &model, request, revision).await;
            }
            Step::Compact(share) => {
                let revision = at(share, model.revision());
                match store.compact(revision).await {
                    Ok(()) => model.compacted = model.compacted.max(revision),
                    Err(StoreError::FutureRevision { .. }) => assert!(revision > model.revision()),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Reopen => {
                store.close().await;
                store = EmbeddedStore::open(&path, options()).unwrap();
            }
        }
        assert_eq!(store.revision().await.unwrap(), model.revision());
    }
    compare_watches(&store, &model, &watched, model.compacted, true).await;
}

/// The same on etcd. Watches begin one revision after the compacted one.
async fn run_on_etcd(steps: Vec<Step>, watched: KeyRange) {
    let Some(mut server) = Etcd::alone() else { return };
    let store = server.store().await;
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Txn(txn) => match (store.txn(txn.clone()).await, model.txn(&txn)) {
                (Ok(answer), Ok(expected)) => assert!(same(&answer, &expected), "{answer:?}\n{expected:?}"),
                (Err(StoreError::InvalidRequest(_)), Err(())) => {}
                (answer, expected) => panic!("{answer:?}\n{expected:?}"),
            },
            Step::Read(request, share) => {
                let revision = at(share, model.revision());
                compare_read(store.as_ref(), &model, request, revision).await;
            }
            Step::Compact(share) => {
                let revision = at(share, model.revision());
                match store.compact(revision).await {
                    Ok(()) => model.compacted = model.compacted.max(revision),
                    Err(StoreError::FutureRevision { .. }) => assert!(revision > model.revision()),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Reopen => {
                server.kill();
                server.start_again();
                until_answered(&store).await;
            }
        }
        assert_eq!(store.revision().await.unwrap(), model.revision());
    }
    compare_watches(store.as_ref(), &model, &watched, model.compacted + 1, false).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60), watched in key_range()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps, watched));
    }

    /// Transactions that share a commit behave as if each had come alone, in the order of their revisions.
    #[test]
    fn a_batch_is_a_sequence(txns in prop::collection::vec(txn(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = EmbeddedStore::in_memory(Options::default()).unwrap();
            // The requests enter the queue in this order, since the futures are first polled in this order.
            let answers = futures::future::join_all(txns.iter().cloned().map(|txn| store.txn(txn))).await;
            let mut model = Model::new();
            for (txn, answer) in txns.iter().zip(answers) {
                match (answer, model.txn(txn)) {
                    (Ok(answer), Ok(expected)) => assert!(same(&answer, &expected), "{answer:?}\n{expected:?}"),
                    (Err(StoreError::InvalidRequest(_)), Err(())) => {}
                    (answer, expected) => panic!("{answer:?}\n{expected:?}"),
                }
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, ..ProptestConfig::default() })]

    #[test]
    fn etcd_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60), watched in key_range()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run_on_etcd(steps, watched));
    }
}
