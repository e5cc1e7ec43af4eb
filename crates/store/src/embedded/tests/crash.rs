//! Power failures at every point of a store's life: what was acknowledged is there, and nothing is there by half.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::Disk;
use super::{everything, open, options, put, write};
use crate::{KeyRange, KeyValue, Operation, Revision, Store};

/// Far more writes than the disk is given flushes.
const MOST_WRITES: usize = 200;

/// The pairs at each revision, as far as it is known.
type Past = BTreeMap<Revision, BTreeMap<String, Vec<u8>>>;

/// A transaction that writes two keys with the same value, so that half of it would show, and sometimes deletes.
fn transaction(rng: &mut StdRng) -> Vec<Operation> {
    let pair = rng.random_range(0..12);
    let value = vec![rng.random::<u8>(); rng.random_range(1..3000)];
    let mut operations =
        vec![put(&format!("/left/{pair:02}"), &value), put(&format!("/right/{pair:02}"), &value)];
    if rng.random_bool(0.2) {
        let gone = (pair + 1) % 12;
        for side in ["left", "right"] {
            operations.push(Operation::Delete(KeyRange::single(format!("/{side}/{gone:02}"))));
        }
    }
    operations
}

fn apply(state: &mut BTreeMap<String, Vec<u8>>, operations: &[Operation]) {
    for operation in operations {
        match operation {
            Operation::Put { key, value, .. } => {
                state.insert(String::from_utf8(key.to_vec()).unwrap(), value.to_vec());
            }
            Operation::Delete(range) => state.retain(|key, _| !range.contains(key.as_bytes())),
            Operation::Range(_) => {}
        }
    }
}

fn contents(kvs: &[KeyValue]) -> BTreeMap<String, Vec<u8>> {
    kvs.iter().map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.value.to_vec())).collect()
}

/// Writes until the power fails; `past` gets what was acknowledged, and what was under way comes back.
async fn live(disk: &Disk, past: &mut Past, rng: &mut StdRng) -> Vec<Operation> {
    // The power may fail already while the store is opened.
    let Ok(store) = open(disk, options()) else { return Vec::new() };
    for _ in 0..MOST_WRITES {
        let operations = transaction(rng);
        if rng.random_bool(0.05) {
            let revision = store.revision().await.unwrap();
            let _ = store.compact(revision.saturating_sub(rng.random_range(0..20))).await;
        }
        match write(&store, operations.clone()).await {
            Ok(response) => {
                let mut state = past.last_key_value().unwrap().1.clone();
                apply(&mut state, &operations);
                past.insert(response.revision, state);
            }
            Err(_) => return operations,
        }
    }
    panic!("{MOST_WRITES} writes were acknowledged in fewer flushes than that");
}

/// Opens the store after a power failure and compares it with what was acknowledged.
async fn check(disk: &Disk, past: &mut Past, under_way: &[Operation], case: &str) {
    let store = open(disk, options()).unwrap_or_else(|error| panic!("{case}: cannot be opened: {error}"));
    let revision = store.revision().await.unwrap();
    let (acknowledged, last) =
        past.last_key_value().map(|(revision, state)| (*revision, state.clone())).unwrap();
    let mut with_lost_answer = last.clone();
    apply(&mut with_lost_answer, under_way);
    let expected = match revision {
        same if same == acknowledged => last,
        next if next == acknowledged + 1 => with_lost_answer,
        other => panic!("{case}: at revision {other}, but {acknowledged} was acknowledged"),
    };
    assert_eq!(contents(&everything(&store, None).await.unwrap()), expected, "{case}: at {revision}");
    past.insert(revision, expected);
    for (old, state) in past.iter().rev().take(30) {
        match everything(&store, Some(*old)).await {
            Ok(kvs) => assert_eq!(contents(&kvs), *state, "{case}: at old revision {old}"),
            Err(crate::StoreError::Compacted { compacted, .. }) => assert!(*old < compacted, "{case}"),
            Err(error) => panic!("{case}: at old revision {old}: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_power_failures() {
    for seed in 0..60 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut disk = Disk::default();
        // A new file gets its name when it is complete, so there is no half-made one to crash in.
        drop(open(&disk, options()).unwrap());
        let mut past = Past::from([(1, BTreeMap::new())]);
        for failure in 0..4 {
            disk.fail_power_after(rng.random_range(0..25));
            let under_way = live(&disk, &mut past, &mut rng).await;
            assert!(!disk.has_power());
            disk = disk.after_power_failure(rng.random());
            let case = format!("seed {seed}, failure {failure}");
            check(&disk, &mut past, &under_way, &case).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_lose_nothing_either() {
    for seed in 100..115 {
        let mut rng = StdRng::seed_from_u64(seed);
        let disk = Disk::default();
        let store = std::sync::Arc::new(open(&disk, options()).unwrap());
        disk.fail_power_after(rng.random_range(1..30));
        let writers: Vec<_> = (0..16)
            .map(|writer| {
                let store = std::sync::Arc::clone(&store);
                tokio::spawn(async move {
                    let mut acknowledged = 0_u32;
                    let key = format!("/writer/{writer:02}");
                    while write(&store, vec![put(&key, &(acknowledged + 1).to_le_bytes())]).await.is_ok() {
                        acknowledged += 1;
                        assert!(acknowledged < 10_000, "no flush fails");
                    }
                    (key, acknowledged)
                })
            })
            .collect();
        let mut acknowledged = Vec::new();
        for writer in writers {
            acknowledged.push(writer.await.unwrap());
        }
        drop(store);
        let survived = open(&disk.after_power_failure(seed), options()).unwrap();
        let found = contents(&everything(&survived, None).await.unwrap());
        for (key, count) in acknowledged {
            let stored = found.get(&key).map_or(0, |value| u32::from_le_bytes(value[..].try_into().unwrap()));
            assert!(
                stored == count || stored == count + 1,
                "seed {seed}: {key} has {stored}, {count} were acknowledged"
            );
        }
    }
}
