//! The store, looked at between any two of its changes to files.

use std::{cell::RefCell, fs, path::Path, rc::Rc};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn id(name: &str) -> UploadId {
    UploadId::new(name).unwrap()
}

fn anything() -> Inspect {
    Box::new(|_, _| Ok(Facts::default()))
}

fn image(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

async fn upload(store: &Store, name: &str, bytes: &[u8]) -> Result<(u64, Option<Finished>), StoreError> {
    let mut writer = store.begin(&id(name), bytes.len() as u64).await?;
    let rest = bytes[usize::try_from(writer.offset()).unwrap()..].to_vec();
    writer.write(vec![Bytes::from(rest)]).await?;
    writer.finish(Vec::new(), anything()).await
}

fn blobs(root: &Path) -> usize {
    fs::read_dir(root.join("blobs/sha256")).unwrap().count()
}

#[tokio::test]
async fn the_same_bytes_are_stored_once_and_as_long_as_somebody_has_them() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(10_000);
    for name in ["a", "b"] {
        let (offset, finished) = upload(&store, name, &bytes).await.unwrap();
        assert_eq!((offset, finished.unwrap().digest), (10_000, Digest::of(&bytes)));
    }
    upload(&store, "c", &image(9_999)).await.unwrap();
    assert_eq!(blobs(root.path()), 2);
    store.remove(&id("a")).await.unwrap();
    let (_, length) = store.read(&Digest::of(&bytes)).unwrap();
    assert_eq!(length, 10_000);
    drop(store);
    // Who has what is found again.
    let store = Store::open(root.path()).unwrap();
    assert_eq!(store.list(), [id("b"), id("c")]);
    store.remove(&id("b")).await.unwrap();
    assert!(store.read(&Digest::of(&bytes)).is_err());
    assert_eq!(blobs(root.path()), 1);
    assert!(store.look(&id("b")).is_none());
    store.remove(&id("b")).await.unwrap();
}

#[tokio::test]
async fn what_is_not_what_it_should_be_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(1_000);
    let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
    writer.write(vec![Bytes::from(bytes.clone())]).await.unwrap();
    let error = writer.finish(vec![Digest::of(b"other")], anything()).await.unwrap_err();
    assert!(error.to_string().contains(&Digest::of(&bytes).to_string()), "{error}");
    assert_eq!(store.look(&id("a")).unwrap().offset, 0);
    let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
    assert_eq!(writer.offset(), 0);
    writer.write(vec![Bytes::from(bytes.clone())]).await.unwrap();
    let refused = writer.finish(vec![Digest::of(&bytes)], Box::new(|_, _| Err("it is odd".to_owned())));
    assert!(matches!(refused.await, Err(StoreError::Refused(why)) if why == "it is odd"));
    assert_eq!(store.look(&id("a")).unwrap().offset, 0);
    assert_eq!(blobs(root.path()), 0);
    assert!(upload(&store, "a", &bytes).await.unwrap().1.is_some());
}

#[tokio::test]
async fn too_much_leaves_the_upload_where_it_was() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(1_000);
    let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
    writer.write(vec![Bytes::from(bytes[..400].to_vec())]).await.unwrap();
    assert_eq!(writer.checkpoint().await.unwrap(), 400);
    let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
    writer.write(vec![Bytes::from(image(500)), Bytes::from(image(500))]).await.unwrap();
    let error = writer.finish(Vec::new(), anything()).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLong { length: 1_000 }), "{error}");
    assert_eq!(store.look(&id("a")).unwrap().offset, 400);
    let (_, finished) = upload(&store, "a", &bytes).await.unwrap();
    assert_eq!(finished.unwrap().digest, Digest::of(&bytes));
}

#[tokio::test]
async fn the_newest_upload_takes_over() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(1_000);
    let mut old = store.begin(&id("a"), 1_000).await.unwrap();
    old.write(vec![Bytes::from(bytes[..300].to_vec())]).await.unwrap();
    let stopped = old.interrupted();
    let new = tokio::spawn({
        let store = store.clone();
        async move { store.begin(&id("a"), 1_000).await }
    });
    stopped.await;
    assert_eq!(old.checkpoint().await.unwrap(), 300);
    let new = new.await.unwrap().unwrap();
    assert_eq!(new.offset(), 300);
    drop(new);
    // Deleting stops it as well.
    let going = store.begin(&id("a"), 1_000).await.unwrap();
    let stopped = going.interrupted();
    let removed = tokio::spawn({
        let store = store.clone();
        async move { store.remove(&id("a")).await }
    });
    stopped.await;
    drop(going);
    removed.await.unwrap().unwrap();
    assert!(store.look(&id("a")).is_none());
}

#[tokio::test]
async fn an_upload_is_taken_back_or_begun_anew() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(1_000);
    let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
    writer.write(vec![Bytes::from(bytes[..600].to_vec())]).await.unwrap();
    writer.checkpoint().await.unwrap();
    assert!(matches!(
        store.begin(&id("a"), 999).await,
        Err(StoreError::LengthChanged { was: 1_000, is: 999 })
    ));
    assert!(matches!(
        store.rewind(&id("a"), 700, 1_000).await,
        Err(StoreError::Beyond { to: 700, offset: 600 })
    ));
    store.rewind(&id("a"), 500, 900).await.unwrap();
    let (_, finished) = upload(&store, "a", &bytes[..900]).await.unwrap();
    assert_eq!(finished.unwrap().digest, Digest::of(&bytes[..900]));
    assert!(matches!(store.rewind(&id("a"), 1, 900).await, Err(StoreError::Beyond { .. })));
    store.rewind(&id("a"), 0, 20).await.unwrap();
    assert_eq!(blobs(root.path()), 0);
    assert!(upload(&store, "a", &image(20)).await.unwrap().1.is_some());
}

#[tokio::test]
async fn what_is_complete_is_not_added_to() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(1_000);
    let mut first = store.begin(&id("a"), 1_000).await.unwrap();
    let second = tokio::spawn({
        let store = store.clone();
        async move { store.begin(&id("a"), 1_000).await }
    });
    first.interrupted().await;
    first.write(vec![Bytes::from(bytes.clone())]).await.unwrap();
    assert!(first.finish(Vec::new(), anything()).await.unwrap().1.is_some());
    assert!(matches!(second.await.unwrap(), Err(StoreError::Complete)));
    assert!(matches!(store.begin(&id("a"), 999).await, Err(StoreError::Complete)));
    assert_eq!(store.look(&id("a")).unwrap().finished.unwrap().digest, Digest::of(&bytes));
    // Bytes that were damaged are replaced by the same that are good.
    let path = root.path().join("blobs/sha256").join(Digest::of(&bytes).hex());
    fs::write(&path, &image(1_001)[1..]).unwrap();
    assert!(upload(&store, "b", &bytes).await.unwrap().1.is_some());
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[tokio::test]
async fn a_request_without_bytes_ends_an_upload_that_is_whole() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let bytes = image(1_000);
    let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
    writer.write(vec![Bytes::from(bytes.clone())]).await.unwrap();
    // All came, and then the connection broke.
    assert_eq!(writer.checkpoint().await.unwrap(), 1_000);
    assert!(store.look(&id("a")).unwrap().finished.is_none());
    let writer = store.begin(&id("a"), 1_000).await.unwrap();
    let (_, finished) = writer.finish(Vec::new(), anything()).await.unwrap();
    assert_eq!(finished.unwrap().digest, Digest::of(&bytes));
}

#[tokio::test]
async fn damage_is_found() {
    let root = tempfile::tempdir().unwrap();
    let bytes = image(1_000);
    let data = root.path().join("uploads/a/data");
    let begun = async || {
        let store = Store::open(root.path()).unwrap();
        let mut writer = store.begin(&id("a"), 1_000).await.unwrap();
        writer.write(vec![Bytes::from(bytes[..600].to_vec())]).await.unwrap();
        writer.checkpoint().await.unwrap()
    };
    for damage in [bytes[..599].to_vec(), image(601)[1..].to_vec(), Vec::new()] {
        assert_eq!(begun().await, 600);
        fs::write(&data, damage).unwrap();
        let store = Store::open(root.path()).unwrap();
        assert_eq!(store.begin(&id("a"), 1_000).await.unwrap().offset(), 0);
    }
    assert_eq!(begun().await, 600);
    fs::write(root.path().join("uploads/a/record.json"), b"{").unwrap();
    let store = Store::open(root.path()).unwrap();
    assert!(store.look(&id("a")).is_none());
    assert!(upload(&store, "a", &bytes).await.unwrap().1.is_some());
    // What is lost can be sent again.
    fs::remove_file(root.path().join("blobs/sha256").join(Digest::of(&bytes).hex())).unwrap();
    let snapshot = store.look(&id("a")).unwrap();
    assert!(snapshot.lost && snapshot.finished.is_none() && snapshot.offset == 0);
    assert!(upload(&store, "a", &bytes).await.unwrap().1.is_some());
    assert!(!store.look(&id("a")).unwrap().lost);
}

#[test]
fn a_store_has_one_process() {
    let root = tempfile::tempdir().unwrap();
    // What others put there does not matter.
    for stranger in ["uploads/.hidden", "uploads/file", "blobs/sha256/file", "lost+found"] {
        let path = root.path().join(stranger);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    let store = Store::open(root.path()).unwrap();
    assert!(matches!(Store::open(root.path()), Err(StoreError::InUse(_))));
    let identity = store.identity().to_owned();
    drop(store);
    assert_eq!(Store::open(root.path()).unwrap().identity(), identity);
    assert!(root.path().join("uploads/file").exists() && root.path().join("blobs/sha256/file").exists());
}

/// Copies a directory.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a client of the upload `a` was told last, at each of the instants at which the machine could have crashed.
struct Instants {
    root: tempfile::TempDir,
    told: Rc<RefCell<u64>>,
    seen: Rc<RefCell<Vec<u64>>>,
}

impl Instants {
    fn watch(store: &Path) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (told, seen): (Rc<RefCell<u64>>, Rc<RefCell<Vec<u64>>>) = Default::default();
        let (store, copies) = (store.to_owned(), root.path().to_owned());
        let (told_then, seen_then) = (told.clone(), seen.clone());
        files::OBSERVER.set(Some(Box::new(move || {
            let mut seen = seen_then.borrow_mut();
            copy(&store, &copies.join(seen.len().to_string()));
            seen.push(*told_then.borrow());
        })));
        Self { root, told, seen }
    }

    fn stop(&self) -> Vec<u64> {
        files::OBSERVER.set(None);
        self.seen.borrow().clone()
    }
}

/// Runs a session on this thread, so that it is observed.
fn session(store: &Store, length: u64) -> Session {
    let upload = {
        let mut uploads = store.uploads();
        let directory = store.inner.root.join("uploads/a");
        uploads
            .entry(id("a"))
            .or_insert_with(|| Arc::new(Upload::new(id("a"), directory, Record::empty(length))))
            .clone()
    };
    let place = upload.place.clone().try_lock_owned().unwrap();
    Session::resume(upload, place).unwrap()
}

#[test]
fn a_crash_at_any_instant_keeps_what_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let bytes = image(5_000);
    let store = Store::open(root.path()).unwrap();
    let instants = Instants::watch(root.path());
    for piece in bytes.chunks(1_000) {
        let mut session = session(&store, 5_000);
        for part in piece.chunks(300) {
            session.append(part).unwrap();
        }
        if session.is_whole() {
            store.commit(session, &[Digest::of(&bytes)], anything()).unwrap();
        } else {
            session.checkpoint().unwrap();
            *instants.told.borrow_mut() = session.offset();
            session.rest();
        }
    }
    let told = instants.stop();
    assert!(told.len() > 40, "{told:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (number, told) in told.iter().enumerate() {
        let root = instants.root.path().join(number.to_string());
        let store = Store::open(&root).unwrap();
        let snapshot = store.look(&id("a"));
        let offset = snapshot.as_ref().map_or(0, |snapshot| snapshot.offset);
        assert!(
            offset >= *told && offset.is_multiple_of(1_000),
            "instant {number}: {snapshot:?}, told {told}"
        );
        let finished = match snapshot.and_then(|snapshot| snapshot.finished) {
            Some(finished) => finished,
            None => {
                // Not only the record says so: the bytes are there.
                let writer = runtime.block_on(store.begin(&id("a"), 5_000)).unwrap();
                assert!(
                    writer.offset() >= *told,
                    "instant {number}: {} after {told} was told",
                    writer.offset()
                );
                drop(writer);
                runtime.block_on(upload(&store, "a", &bytes)).unwrap().1.unwrap()
            }
        };
        assert_eq!(finished.digest, Digest::of(&bytes), "instant {number}");
        assert_eq!(fs::read(root.join("blobs/sha256").join(finished.digest.hex())).unwrap(), bytes);
        assert!(!root.join("uploads/a/data").exists(), "instant {number}");
        runtime.block_on(store.remove(&id("a"))).unwrap();
        assert_eq!(blobs(&root), 0, "instant {number}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Pieces, pauses, restarts and repetitions come to the same bytes.
    #[test]
    fn whatever_the_way_the_bytes_are_the_same(length in 1_usize..3_000, steps in prop::collection::vec((1_usize..900, 0_u8..4), 1..30)) {
        let root = tempfile::tempdir().unwrap();
        let bytes = image(length);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut store = Store::open(root.path()).unwrap();
        runtime.block_on(async {
            for (size, then) in steps {
                let mut writer = store.begin(&id("a"), length as u64).await.unwrap();
                let from = usize::try_from(writer.offset()).unwrap();
                let to = length.min(from + size);
                if to == length { break; }
                writer.write(vec![Bytes::from(bytes[from..to].to_vec())]).await.unwrap();
                match then {
                    // Dropped: as if the request had been forgotten.
                    0 => drop(writer),
                    1 => {
                        writer.checkpoint().await.unwrap();
                        while Arc::strong_count(&store.inner) > 1 { tokio::task::yield_now().await; }
                        drop(store);
                        store = Store::open(root.path()).unwrap();
                    }
                    _ => assert_eq!(writer.checkpoint().await.unwrap(), to as u64),
                }
            }
            let (_, finished) = upload(&store, "a", &bytes).await.unwrap();
            assert_eq!(finished.unwrap().digest, Digest::of(&bytes));
        });
    }
}
