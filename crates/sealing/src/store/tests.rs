use std::time::Duration;

use drystone_store::embedded::{CompactionPolicy, EmbeddedStore, Options};
use drystone_store::{Compare, CompareTarget, EventKind, KeyValue, Operation, OperationResult, WatchBatch};

use super::*;
use crate::ring::sealed_by;

const SECRET: &str = "/registry/core/secrets/ns/a";
const OTHER: &str = "/registry/core/configmaps/ns/a";

fn options() -> Options {
    Options { compaction: CompactionPolicy::MANUAL, ..Options::default() }
}

fn below() -> Arc<EmbeddedStore> {
    Arc::new(EmbeddedStore::in_memory(options()).unwrap())
}

async fn open(below: &Arc<EmbeddedStore>, key: &SealingKey) -> Result<Arc<SealedStore>, SealedStoreError> {
    SealedStore::open(Arc::clone(below) as _, key.clone(), &[SECRETS]).await
}

fn put_of(key: &str, value: &str) -> Operation {
    Operation::Put { key: key.to_owned().into(), value: value.to_owned().into(), lease: 0 }
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    let txn = Txn { success: vec![put_of(key, value)], ..Txn::default() };
    store.txn(txn).await.unwrap().revision
}

async fn get(store: &dyn Store, key: &str) -> Result<Option<KeyValue>, StoreError> {
    let found = store.range(RangeRequest::new(KeyRange::single(key.to_owned()))).await?;
    Ok(found.kvs.into_iter().next())
}

async fn value(store: &dyn Store, key: &str) -> Bytes {
    get(store, key).await.unwrap().unwrap().value
}

async fn next(stream: &mut WatchStream) -> WatchBatch {
    loop {
        let batch = tokio::time::timeout(Duration::from_secs(60), stream.next()).await;
        let batch = batch.expect("a change").expect("a stream").unwrap();
        if !batch.events.is_empty() {
            return batch;
        }
    }
}

#[tokio::test]
async fn secrets_are_sealed_below_and_clear_above() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    let range = KeyRange::prefix("/registry/");
    let mut watch = store.watch(WatchRequest { range, start_revision: None }).await.unwrap();
    put(store.as_ref(), SECRET, r#"{"password":"first"}"#).await;
    put(store.as_ref(), OTHER, r#"{"open":"yes"}"#).await;
    let revision = put(store.as_ref(), SECRET, r#"{"password":"second"}"#).await;

    let sealed = value(below.as_ref(), SECRET).await;
    assert!(sealed.starts_with(crate::ring::MAGIC) && !sealed.windows(6).any(|window| window == b"second"));
    assert_eq!(value(below.as_ref(), OTHER).await, r#"{"open":"yes"}"#, "other kinds are as they were");
    assert_eq!(value(store.as_ref(), SECRET).await, r#"{"password":"second"}"#);
    for range in
        [KeyRange::prefix("/registry/core/"), KeyRange { start: "/".into(), end: Some(Bytes::new()) }]
    {
        let all = store.range(RangeRequest::new(range)).await.unwrap();
        assert!(all.kvs.iter().any(|pair| pair.value == r#"{"password":"second"}"#));
    }
    let old = RangeRequest { revision: Some(revision - 1), ..RangeRequest::new(KeyRange::single(SECRET)) };
    assert_eq!(store.range(old).await.unwrap().kvs[0].value, r#"{"password":"first"}"#);

    assert_eq!(next(&mut watch).await.events[0].kv.value, r#"{"password":"first"}"#);
    assert_eq!(next(&mut watch).await.events[0].kv.value, r#"{"open":"yes"}"#);
    let batch = next(&mut watch).await;
    assert_eq!(batch.events[0].kv.value, r#"{"password":"second"}"#);
    assert_eq!(batch.events[0].previous.as_ref().unwrap().value, r#"{"password":"first"}"#);
    let delete = Operation::Delete(KeyRange::single(SECRET));
    let done = store.txn(Txn { success: vec![delete], ..Txn::default() }).await.unwrap();
    assert!(
        matches!(&done.results[0], OperationResult::Delete(pairs) if pairs[0].value == r#"{"password":"second"}"#)
    );
    let batch = next(&mut watch).await;
    assert_eq!(batch.events[0].kind, EventKind::Delete);
    assert_eq!(batch.events[0].previous.as_ref().unwrap().value, r#"{"password":"second"}"#);
}

#[tokio::test]
async fn transactions_answer_as_without() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    let revision = put(store.as_ref(), SECRET, "1").await;
    let stale = Txn {
        compare: vec![Compare { key: SECRET.into(), target: CompareTarget::ModRevision(revision - 1) }],
        success: vec![put_of(SECRET, "2")],
        failure: vec![Operation::Range(RangeRequest::new(KeyRange::single(SECRET)))],
    };
    let refused = store.txn(stale.clone()).await.unwrap();
    assert!(!refused.succeeded);
    assert_eq!(refused.results.len(), 1, "what the guard looked at is not shown");
    assert!(matches!(&refused.results[0], OperationResult::Range(found) if found.kvs[0].value == "1"));
    let written = Txn {
        compare: vec![Compare { key: SECRET.into(), target: CompareTarget::ModRevision(revision) }],
        ..stale
    };
    let done = store.txn(written).await.unwrap();
    assert!(
        done.succeeded
            && matches!(&done.results[0], OperationResult::Put(Some(before)) if before.value == "1")
    );

    let compared = Txn {
        compare: vec![Compare { key: SECRET.into(), target: CompareTarget::Value("2".into()) }],
        ..Txn::default()
    };
    assert!(
        matches!(store.txn(compared).await, Err(StoreError::InvalidRequest(why)) if why.contains("revision"))
    );
    let both =
        Txn { success: vec![put_of(SECRET, "3")], failure: vec![put_of(OTHER, "x")], ..Txn::default() };
    assert!(matches!(store.txn(both).await, Err(StoreError::InvalidRequest(_))));
}

#[tokio::test]
async fn a_wrong_key_opens_nothing_and_changes_nothing() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    put(store.as_ref(), SECRET, "{}").await;
    let before = below.revision().await.unwrap();
    let other = SealingKey::generate().unwrap();
    let error = open(&below, &other).await.unwrap_err().to_string();
    assert!(error.contains(&key.fingerprint().unwrap()) && error.contains("Nothing was changed"), "{error}");
    assert_eq!(below.revision().await.unwrap(), before);
    assert_eq!(value(open(&below, &key).await.unwrap().as_ref(), SECRET).await, "{}");
}

#[tokio::test]
async fn moved_damaged_and_clear_values_are_refused() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    put(store.as_ref(), SECRET, "{mine}").await;
    let sealed = value(below.as_ref(), SECRET).await;
    let replay = |value: Bytes, key: &'static str| {
        let put = Operation::Put { key: key.into(), value, lease: 0 };
        let below = Arc::clone(&below);
        async move { below.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap() }
    };
    let elsewhere = "/registry/core/secrets/other/a";
    replay(sealed.clone(), elsewhere).await;
    let error = get(store.as_ref(), elsewhere).await.unwrap_err().to_string();
    assert!(error.contains("moved there from another key") && error.contains(elsewhere), "{error}");
    let mut damaged = sealed.to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    replay(damaged.into(), SECRET).await;
    assert!(get(store.as_ref(), SECRET).await.unwrap_err().to_string().contains("damaged"));
    replay(Bytes::from_static(b"{}"), SECRET).await;
    assert!(get(store.as_ref(), SECRET).await.unwrap_err().to_string().contains("in clear"));

    let error = open(&below, &key).await.unwrap_err();
    assert!(matches!(&error, SealedStoreError::Damaged(keys) if *keys == [elsewhere]), "{error}");
    let removed = SealedStore::remove_damaged(Arc::clone(&below) as _, &key, &[SECRETS]).await.unwrap();
    assert_eq!(removed, [elsewhere]);
    open(&below, &key).await.unwrap();
}

#[tokio::test]
async fn damaged_values_can_be_deleted() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    put(below.as_ref(), SECRET, "drystone:sealed:v1:nonsense").await;
    let delete = Operation::Delete(KeyRange::single(SECRET));
    assert!(store.txn(Txn { success: vec![delete], ..Txn::default() }).await.unwrap().succeeded);
    assert!(get(store.as_ref(), SECRET).await.unwrap().is_none());
}

#[tokio::test]
async fn sealed_values_without_their_data_keys_are_not_given_new_ones() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    put(store.as_ref(), SECRET, "{}").await;
    let delete = Operation::Delete(KeyRange::prefix(ring::PREFIX));
    below.txn(Txn { success: vec![delete], ..Txn::default() }).await.unwrap();
    let error = open(&below, &key).await.unwrap_err();
    assert!(matches!(&error, SealedStoreError::NoKeys { key } if key == SECRET), "{error}");
}

#[tokio::test]
async fn what_is_in_clear_is_sealed_when_it_is_opened() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let lease = below.lease_grant(3600).await.unwrap();
    let leased = Operation::Put { key: SECRET.into(), value: "{leased}".into(), lease };
    below.txn(Txn { success: vec![leased], ..Txn::default() }).await.unwrap();
    for index in 0..1200 {
        put(below.as_ref(), &format!("{SECRETS}ns/{index}"), &format!("{{{index}}}")).await;
    }
    put(below.as_ref(), OTHER, "{clear}").await;
    let store = open(&below, &key).await.unwrap();
    assert!(store.has_remains().await.unwrap());
    let all = below.range(RangeRequest::new(KeyRange::prefix(SECRETS))).await.unwrap();
    assert_eq!(all.kvs.len(), 1201);
    assert!(all.kvs.iter().all(|pair| sealed_by(&pair.value) == Ok(KeyId(1))));
    assert_eq!(get(store.as_ref(), SECRET).await.unwrap().unwrap().lease, lease);
    assert_eq!(value(store.as_ref(), &format!("{SECRETS}ns/777")).await, "{777}");
    assert_eq!(value(below.as_ref(), OTHER).await, "{clear}");
    let kept = store.forget_history().await.unwrap();
    let before = RangeRequest { revision: Some(kept - 1), ..RangeRequest::new(KeyRange::single(SECRET)) };
    assert!(matches!(store.range(before).await, Err(StoreError::Compacted { .. })));
    store.remains_are_gone().await.unwrap();
    assert!(!open(&below, &key).await.unwrap().has_remains().await.unwrap());
}

#[tokio::test]
async fn a_rotation_rewrites_everything_and_keeps_the_old_key_as_long_as_history_needs_it() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let store = open(&below, &key).await.unwrap();
    for index in 0..700 {
        put(store.as_ref(), &format!("{SECRETS}ns/{index:03}"), &format!("{{{index}}}")).await;
    }
    let before = below.revision().await.unwrap();
    assert!(!store.work().await.unwrap(), "there is nothing to do");
    assert_eq!(store.rotate().await.unwrap(), KeyId(2));
    let new = put(store.as_ref(), SECRET, "{new}").await;
    assert_eq!(sealed_by(&value(below.as_ref(), SECRET).await), Ok(KeyId(2)));
    assert_eq!(value(store.as_ref(), &format!("{SECRETS}ns/001")).await, "{1}", "the old key still opens");
    assert!(store.work().await.unwrap());
    let status = store.status().await.unwrap();
    let used: Vec<_> = status.keys.iter().map(|key| (key.id, key.retired, key.values)).collect();
    assert_eq!(used, [(KeyId(1), true, 0), (KeyId(2), false, 701)]);

    // History before the rewriting needs the old key, and it is there.
    assert!(store.work().await.unwrap());
    let old = RangeRequest {
        revision: Some(before),
        ..RangeRequest::new(KeyRange::single(format!("{SECRETS}ns/002")))
    };
    assert_eq!(store.range(old).await.unwrap().kvs[0].value, "{2}");
    assert_eq!(store.status().await.unwrap().keys.len(), 2);
    store.compact(new).await.unwrap();
    store.work().await.unwrap();
    assert_eq!(store.status().await.unwrap().keys.len(), 2, "some of the history is there still");
    store.compact(store.revision().await.unwrap()).await.unwrap();
    store.work().await.unwrap();
    assert_eq!(store.status().await.unwrap().keys.len(), 1);
    assert!(!store.work().await.unwrap());
    assert_eq!(value(open(&below, &key).await.unwrap().as_ref(), &format!("{SECRETS}ns/699")).await, "{699}");
}

#[tokio::test]
async fn servers_that_have_not_heard_of_a_rotation_take_part_in_it() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let (one, two) = (open(&below, &key).await.unwrap(), open(&below, &key).await.unwrap());
    put(two.as_ref(), SECRET, "{1}").await;
    let range = KeyRange::prefix(SECRETS);
    let mut watch = two.watch(WatchRequest { range, start_revision: None }).await.unwrap();
    one.rotate().await.unwrap();
    // Written by one that knows nothing of the new key, and by one that does.
    put(two.as_ref(), SECRET, "{2}").await;
    assert_eq!(sealed_by(&value(below.as_ref(), SECRET).await), Ok(KeyId(2)));
    one.rotate().await.unwrap();
    put(one.as_ref(), SECRET, "{3}").await;
    assert_eq!(value(two.as_ref(), SECRET).await, "{3}");
    assert_eq!(next(&mut watch).await.events[0].kv.value, "{2}");
    assert_eq!(next(&mut watch).await.events[0].kv.value, "{3}");
    // The old keys go on one server; the other one notices when it writes.
    while one.work().await.unwrap() {
        one.compact(one.revision().await.unwrap()).await.unwrap();
    }
    put(two.as_ref(), SECRET, "{4}").await;
    assert_eq!(value(one.as_ref(), SECRET).await, "{4}");
}

#[tokio::test]
async fn writers_do_not_lose_against_a_rotation() {
    let (below, key) = (below(), SealingKey::generate().unwrap());
    let (one, two) = (open(&below, &key).await.unwrap(), open(&below, &key).await.unwrap());
    let writer = tokio::spawn(async move {
        for index in 0..300 {
            put(two.as_ref(), &format!("{SECRETS}ns/{}", index % 20), &format!("{{{index}}}")).await;
        }
    });
    for _ in 0..10 {
        one.rotate().await.unwrap();
        one.work().await.unwrap();
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    while one.work().await.unwrap() {
        one.compact(one.revision().await.unwrap()).await.unwrap();
    }
    let status = one.status().await.unwrap();
    assert_eq!((status.keys.len(), status.keys[0].values), (1, 20));
    for index in 280..300 {
        assert_eq!(value(one.as_ref(), &format!("{SECRETS}ns/{}", index % 20)).await, format!("{{{index}}}"));
    }
}

fn holds(path: &std::path::Path, text: &str) -> bool {
    std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_file_that_held_clear_text_holds_none_afterwards() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let key = SealingKey::generate().unwrap();
    let clear = EmbeddedStore::open(&path, Options::default()).unwrap();
    put(&clear, SECRET, "{marked-old}").await;
    put(&clear, SECRET, "{marked-new}").await;
    put(&clear, OTHER, "{open}").await;
    clear.close().await;
    drop(clear);
    assert!(holds(&path, "marked-old") && holds(&path, "marked-new"), "or this test shows nothing");
    let store = open_embedded(&path, Options::default(), &key, &[SECRETS]).await.unwrap();
    assert_eq!(value(store.as_ref(), SECRET).await, "{marked-new}");
    assert!(!store.has_remains().await.unwrap());
    put(store.as_ref(), SECRET, "{marked-later}").await;
    assert!(holds(&path, "{open}") && !holds(&path, "marked"), "only what is no secret is in clear");
    drop(store);
    let other = SealingKey::generate().unwrap();
    assert!(open_embedded(&path, Options::default(), &other, &[SECRETS]).await.is_err());
    let store = open_embedded(&path, Options::default(), &key, &[SECRETS]).await.unwrap();
    assert_eq!(value(store.as_ref(), SECRET).await, "{marked-later}");
}
