//! What sealing costs, printed: `cargo nextest run -p drystone-sealing figures --no-capture`; with `--release` for figures that mean something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use drystone_sealing::store::SECRETS;
use drystone_sealing::{SealedStore, SealingKey};
use drystone_store::embedded::{EmbeddedStore, Options};
use drystone_store::{KeyRange, Operation, RangeRequest, Store, Txn};

const OBJECTS: usize = 2000;
const OTHERS: &str = "/registry/core/configmaps/";

/// Time for each object: writing, reading one by one, listing.
struct Costs {
    write: Duration,
    read: Duration,
    list: Duration,
}

async fn measure(store: &dyn Store, prefix: &str) -> Costs {
    let value = Bytes::from(vec![b'x'; 1024]);
    let key = |index: usize| Bytes::from(format!("{prefix}ns/{index:05}"));
    let each = |begun: Instant| begun.elapsed() / u32::try_from(OBJECTS).unwrap();
    let begun = Instant::now();
    for index in 0..OBJECTS {
        let put = Operation::Put { key: key(index), value: value.clone(), lease: 0 };
        store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    }
    let write = each(begun);
    let begun = Instant::now();
    for index in 0..OBJECTS {
        let found = store.range(RangeRequest::new(KeyRange::single(key(index)))).await.unwrap();
        assert_eq!(found.kvs[0].value, value);
    }
    let read = each(begun);
    let begun = Instant::now();
    let all = store.range(RangeRequest::new(KeyRange::prefix(prefix.to_owned()))).await.unwrap();
    let list = each(begun);
    assert!(all.kvs.len() == OBJECTS && all.kvs.iter().all(|pair| pair.value == value));
    Costs { write, read, list }
}

#[tokio::test]
async fn what_sealing_costs() {
    let below = || Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
    let plain = below();
    let sealed = SealedStore::open(below(), SealingKey::generate().unwrap(), &[SECRETS]).await.unwrap();
    println!("objects of 1 KiB in memory, each: write, read, list");
    for (what, store, prefix) in [
        ("Secrets in clear", plain.as_ref() as &dyn Store, SECRETS),
        ("Secrets sealed", sealed.as_ref(), SECRETS),
        ("others, without sealing", plain.as_ref(), OTHERS),
        ("others, with sealing", sealed.as_ref(), OTHERS),
    ] {
        let Costs { write, read, list } = measure(store, prefix).await;
        println!("{what:24} {write:>12.2?} {read:>12.2?} {list:>12.2?}");
    }
}
