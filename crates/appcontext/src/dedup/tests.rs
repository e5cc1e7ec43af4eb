//! Nobody can tell: whatever is done to this store and to one without it, the answers are the same.

use drystone_store::{
    Compare, CompareTarget, EventKind, KeyRange, Operation, OperationResult,
    embedded::{CompactionPolicy, EmbeddedStore, Options},
};
use proptest::prelude::*;

use super::*;

fn memory() -> Arc<EmbeddedStore> {
    let options = Options { compaction: CompactionPolicy::MANUAL, ..Options::default() };
    Arc::new(EmbeddedStore::in_memory(options).unwrap())
}

fn options() -> DedupOptions {
    DedupOptions { larger_than: 4, prefixes: vec!["/c/".into()], cache_bytes: 64, ..DedupOptions::default() }
}

async fn over(below: &Arc<EmbeddedStore>) -> Arc<Deduplicated> {
    Deduplicated::open(Arc::clone(below) as _, options()).await.unwrap()
}

fn key() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => "/c/[ab]{1,2}", 1 => "/d/[ab]", 1 => "[ubs]"].prop_map(Bytes::from)
}

fn value() -> impl Strategy<Value = Bytes> {
    // Few of them, so that keys share values, some of which are large.
    prop::sample::select(vec![
        "",
        "x",
        "long value 1",
        "long value 2",
        "a longer value that is not cached at all, for it is 64 bytes",
    ])
    .prop_map(Bytes::from)
}

fn range() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        key().prop_map(KeyRange::single),
        prop::sample::select(vec!["/c/", "/c/a", "/"]).prop_map(KeyRange::prefix),
        key().prop_map(|start| KeyRange { start, end: Some(Bytes::new()) }),
        Just(KeyRange { start: Bytes::new(), end: Some(Bytes::new()) }),
        (key(), key()).prop_map(|(start, end)| KeyRange { start, end: Some(end) }),
    ]
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Operation::Put { key, value, lease: 0 }),
        1 => range().prop_map(Operation::Delete),
        1 => (range(), 0..3_usize, any::<bool>()).prop_map(|(range, limit, keys_only)| {
            Operation::Range(RangeRequest { limit, keys_only, ..RangeRequest::new(range) })
        }),
    ]
}

fn txn() -> impl Strategy<Value = Txn> {
    let target = prop_oneof![
        value().prop_map(CompareTarget::Value),
        (0..3_u64).prop_map(CompareTarget::Version),
        Just(CompareTarget::ModRevision(0)),
        // Revisions are other ones here and there: of these, all keys are later, or none is.
        (prop::sample::select(vec!["", "/c/b", "/d"]), prop::sample::select(vec![0, u64::MAX]))
            .prop_map(|(end, revision)| CompareTarget::NotChangedSince { end: end.into(), revision }),
    ];
    let compare = (key(), target).prop_map(|(key, target)| Compare { key, target });
    let operations = || prop::collection::vec(operation(), 0..4);
    (prop::collection::vec(compare, 0..2), operations(), operations())
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure })
}

#[derive(Debug, Clone)]
enum Step {
    Txn(Txn),
    Read(KeyRange),
    Collect,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => txn().prop_map(Step::Txn),
        3 => range().prop_map(Step::Read),
        1 => Just(Step::Collect),
        1 => Just(Step::Reopen),
    ]
}

/// Key, value, version.
type Pair = (Bytes, Bytes, u64);

/// What can be told of a pair without its revisions, which are other ones.
fn told(pairs: &[drystone_store::KeyValue]) -> Vec<Pair> {
    pairs.iter().map(|pair| (pair.key.clone(), pair.value.clone(), pair.version)).collect()
}

fn results(done: &TxnResponse) -> Vec<(Vec<Pair>, u64)> {
    let one = |result: &OperationResult| match result {
        OperationResult::Put(pair) => (told(pair.as_slice()), 0),
        OperationResult::Delete(pairs) => (told(pairs), 0),
        OperationResult::Range(found) => (told(&found.kvs), found.count),
    };
    done.results.iter().map(one).collect()
}

async fn compare_stores(steps: Vec<Step>) {
    let (plain, below) = (memory(), memory());
    let mut store = over(&below).await;
    let everything = KeyRange { start: Bytes::new(), end: Some(Bytes::new()) };
    let watch = |store: Arc<dyn Store>| {
        let request = WatchRequest { range: everything.clone(), start_revision: Some(2) };
        async move { store.watch(request).await.unwrap() }
    };
    for step in steps {
        match step {
            Step::Txn(txn) => match (plain.txn(txn.clone()).await, store.txn(txn).await) {
                (Ok(expected), Ok(done)) => {
                    assert_eq!((done.succeeded, results(&done)), (expected.succeeded, results(&expected)));
                }
                (Err(_), Err(_)) => {}
                (expected, done) => {
                    // The branch that is not taken is not looked at if the branch is chosen here.
                    assert!(expected.is_err(), "{expected:?} {done:?}");
                    return;
                }
            },
            Step::Read(range) => {
                let request = RangeRequest::new(range);
                let (expected, found) =
                    (plain.range(request.clone()).await.unwrap(), store.range(request).await.unwrap());
                assert_eq!((told(&found.kvs), found.count), (told(&expected.kvs), expected.count));
            }
            Step::Collect => drop(store.collect(Duration::ZERO).await.unwrap()),
            Step::Reopen => store = over(&below).await,
        }
    }
    // The index says what is there.
    let counted = store.figures();
    let reopened = over(&below).await;
    let mut fresh = reopened.figures();
    // The length of what nobody has is only known where it was written.
    fresh.bytes = counted.bytes;
    assert_eq!(counted, fresh);
    // And whoever watched from the beginning has seen the same, although values are gone that no key has.
    store.collect(Duration::ZERO).await.unwrap();
    let (mut expected, mut seen) = (watch(plain.clone()).await, watch(store.clone()).await);
    let last = plain.range(RangeRequest::new(everything.clone())).await.unwrap().kvs;
    let mark = Txn {
        success: vec![Operation::Put { key: "/e".into(), value: "end".into(), lease: 0 }],
        ..Txn::default()
    };
    plain.txn(mark.clone()).await.unwrap();
    store.txn(mark).await.unwrap();
    loop {
        let expected: Vec<_> = events(&mut expected).await;
        assert_eq!(events(&mut seen).await, expected);
        if expected.iter().any(|(key, ..)| key == "/e") {
            break;
        }
    }
    let now = store
        .range(RangeRequest::new(KeyRange { start: Bytes::new(), end: Some("/e".into()) }))
        .await
        .unwrap();
    let before: Vec<_> = last.into_iter().filter(|pair| pair.key < "/e").collect();
    assert_eq!(told(&now.kvs), told(&before));
}

type Told = (Bytes, bool, Bytes, Option<Bytes>);

async fn events(stream: &mut WatchStream) -> Vec<Told> {
    loop {
        let batch = stream.next().await.unwrap().unwrap();
        if !batch.events.is_empty() {
            let told = |event: &Arc<drystone_store::Event>| {
                let previous = event.previous.as_ref().map(|previous| previous.value.clone());
                (event.kv.key.clone(), event.kind == EventKind::Put, event.kv.value.clone(), previous)
            };
            return batch.events.iter().map(told).collect();
        }
    }
}

proptest! {
    #[test]
    fn nobody_can_tell(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(compare_stores(steps));
    }

    #[test]
    fn whatever_lies_below_is_read_or_refused(value in drystone_hostile::bytes(60)) {
        let _ = layout::place(&value.into());
    }
}

fn put(key: &str, value: &str) -> Txn {
    let put = Operation::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: 0 };
    Txn { success: vec![put], ..Txn::default() }
}

fn delete(key: &str) -> Txn {
    Txn { success: vec![Operation::Delete(KeyRange::prefix(key.to_owned()))], ..Txn::default() }
}

#[tokio::test]
async fn values_are_there_once_and_go_with_their_last_key() {
    let below = memory();
    let store = over(&below).await;
    let value = "a value that is large".to_owned();
    for number in 0..50 {
        store.txn(put(&format!("/c/{number}"), &value)).await.unwrap();
    }
    let length = value.len() as u64;
    let all = Figures { values: 1, bytes: length, references: 50, referenced_bytes: 50 * length };
    assert_eq!(store.figures(), all);
    assert_eq!(over(&below).await.figures(), all);
    store.txn(delete("/c/1")).await.unwrap();
    assert_eq!(store.collect(Duration::ZERO).await.unwrap(), 0);
    assert_eq!(store.figures().references, 39);
    let revision = store.revision().await.unwrap();
    store.txn(delete("/c/")).await.unwrap();
    // Not while somebody might still read an older revision.
    assert_eq!(store.collect(Duration::from_secs(3600)).await.unwrap(), 0);
    assert_eq!(store.collect(Duration::ZERO).await.unwrap(), 1);
    assert_eq!(store.figures(), Figures::default());
    // Even so, whoever does finds it, as long as there is history.
    let old = RangeRequest { revision: Some(revision), ..RangeRequest::new(KeyRange::single("/c/2")) };
    let reopened = over(&below).await;
    assert_eq!(reopened.range(old.clone()).await.unwrap().kvs[0].value, value);
    store.compact(store.revision().await.unwrap()).await.unwrap();
    assert!(matches!(over(&below).await.range(old).await, Err(StoreError::Compacted { .. })));
    // It can come back.
    store.txn(put("/c/again", &value)).await.unwrap();
    let found = over(&below).await.range(RangeRequest::new(KeyRange::single("/c/again"))).await.unwrap();
    assert_eq!(found.kvs[0].value, value);
}

#[tokio::test]
async fn what_is_the_stores_own_is_not_seen_and_not_deleted() {
    let below = memory();
    let store = over(&below).await;
    store.txn(put("/c/1", "a value that is large")).await.unwrap();
    let everything = KeyRange { start: vec![0].into(), end: Some(Bytes::new()) };
    let found = store.range(RangeRequest::new(everything.clone())).await.unwrap();
    assert_eq!((found.count, &found.kvs[0].key[..]), (1, &b"/c/1"[..]));
    store.txn(Txn { success: vec![Operation::Delete(everything)], ..Txn::default() }).await.unwrap();
    // The secret is still there, and the value that a new key has is the one that there is.
    store.txn(put("/c/2", "a value that is large")).await.unwrap();
    let found = over(&below).await.range(RangeRequest::new(KeyRange::single("/c/2"))).await.unwrap();
    assert_eq!(found.kvs[0].value, "a value that is large");
}

#[tokio::test]
async fn values_under_a_lease_go_with_it() {
    let below = memory();
    let store = over(&below).await;
    let lease = store.lease_grant(600).await.unwrap();
    let put = Operation::Put { key: "/c/1".into(), value: "a value that is large".into(), lease };
    store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    assert_eq!(store.figures(), Figures::default());
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(store.range(RangeRequest::new(KeyRange::single("/c/1"))).await.unwrap().count, 0);
}

/// Writers and the collector at the same time: no key is ever without its value.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_do_not_go_while_keys_come() {
    let below = memory();
    let store = over(&below).await;
    let writers = (0..4).map(|writer| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for round in 0..200_u32 {
                let (key, value) = (format!("/c/{writer}"), format!("a large value {}", round % 3));
                store.txn(put(&key, &value)).await.unwrap();
                let found = store.range(RangeRequest::new(KeyRange::single(key.clone()))).await.unwrap();
                assert_eq!(found.kvs[0].value, value);
                store.txn(delete(&key)).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut removed = 0;
    while !writers.iter().all(tokio::task::JoinHandle::is_finished) {
        removed += store.collect(Duration::ZERO).await.unwrap();
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    removed += store.collect(Duration::ZERO).await.unwrap();
    assert!(removed > 0);
    assert_eq!((store.figures(), over(&below).await.figures()), (Figures::default(), Figures::default()));
}

/// As much as may be asked for at once, all of it new, fits into the store below.
#[tokio::test]
async fn the_store_below_takes_what_is_kept_once_besides() {
    let below = Arc::new(EmbeddedStore::in_memory(DedupOptions::below()).unwrap());
    let store = over(&below).await;
    let put = |number: usize| Operation::Put {
        key: format!("/c/{number}").into(),
        value: format!("a large value {number}").into(),
        lease: 0,
    };
    let count = crate::Limits::EMBEDDED.operations;
    store.txn(Txn { success: (0..count).map(put).collect(), ..Txn::default() }).await.unwrap();
    assert_eq!(store.figures().values, count);
}
