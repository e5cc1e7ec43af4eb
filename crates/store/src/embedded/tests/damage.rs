//! Files that are damaged or cut short, and records of any bytes: they are read or refused.

use drystone_hostile::{bytes, damaged};
use proptest::prelude::*;
use proptest::sample::Index;

use super::super::record::{Header, Position, Record};
use super::disk::Disk;
use super::{everything, open, options, put, write};

const POSITION: Position = Position { revision: 7, index: 0 };

/// The contents of a disk with a few objects on it.
async fn a_good_file() -> Vec<u8> {
    let disk = Disk::default();
    let store = open(&disk, options()).unwrap();
    for number in 0..40 {
        write(&store, vec![put(&format!("/k/{:02}", number % 9), &[number; 700])]).await.unwrap();
    }
    store.close().await;
    disk.contents()
}

/// Opens a store on such a file and uses it a little. It may be refused, and may refuse; it must come to an end.
async fn use_it(contents: Vec<u8>) {
    let disk = Disk::of(contents);
    let Ok(store) = open(&disk, options()) else { return };
    let _ = everything(&store, None).await;
    let _ = everything(&store, Some(5)).await;
    let _ = write(&store, vec![put("/k/00", b"new")]).await;
    store.close().await;
}

proptest! {
    #[test]
    fn any_bytes_are_a_record_or_damaged(stored in prop_oneof![
        damaged([Record::put(POSITION, b"/a", b"value", 5, None).encoded().to_vec()]),
        bytes(60),
    ]) {
        let header = Header::parse(&stored);
        let _ = header.as_ref().and_then(|header| header.key(&stored));
        if let Ok(record) = Record::decode(POSITION, &stored) {
            prop_assert_eq!(record.encoded(), &stored[..]);
            prop_assert_eq!(record.kv.key.len() + record.kv.value.len() + 41, stored.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_opened_or_refused(
        injuries in prop::collection::vec((any::<Index>(), any::<u8>(), 1..600_usize), 1..8),
        length in prop::option::of(any::<Index>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut contents = a_good_file().await;
            for (at, byte, run) in injuries {
                let start = at.index(contents.len());
                let end = (start + run).min(contents.len());
                contents[start..end].fill(byte);
            }
            if let Some(length) = length {
                contents.truncate(length.index(contents.len()));
            }
            use_it(contents).await;
        });
    }
}
