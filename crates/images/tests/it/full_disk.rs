//! A file system that is really full.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use bytes::Bytes;
use drystone_images::{
    digest::Digest,
    store::{Store, StoreError},
};

use crate::{anything, id, image};

const MIB: usize = 1024 * 1024;

/// A small file system in memory, unmounted when dropped.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=8m", "drystone-images-test"]).arg(path);
        let mounted = command.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Self(path.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_done() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(directory.path()) else {
        println!("skipped: mounting a tmpfs needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let ballast = small.0.join("ballast");
    std::fs::write(&ballast, vec![1; 4 * MIB]).unwrap();
    let store = Store::open(&small.0.join("images")).unwrap();
    assert!(store.room().unwrap() < 5 * MIB as u64);
    let bytes = image(6 * MIB);
    let mut safe = 0;
    let error = loop {
        let mut writer = store.begin(&id("a"), bytes.len() as u64).await.unwrap();
        let from = usize::try_from(writer.offset()).unwrap();
        assert_eq!(from, safe);
        writer.write(vec![Bytes::from(bytes[from..from + MIB].to_vec())]).await.unwrap();
        match writer.checkpoint().await {
            Ok(offset) => safe = usize::try_from(offset).unwrap(),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(safe >= 2 * MIB, "{safe}");
    // What was not safe is gone, so that others have room.
    assert_eq!(std::fs::metadata(small.0.join("images/uploads/a/data")).unwrap().len(), safe as u64);
    assert_eq!(store.look(&id("a")).unwrap().offset, safe as u64);

    std::fs::remove_file(&ballast).unwrap();
    let mut writer = store.begin(&id("a"), bytes.len() as u64).await.unwrap();
    writer.write(vec![Bytes::from(bytes[safe..].to_vec())]).await.unwrap();
    let (_, finished) = writer.finish(vec![Digest::of(&bytes)], anything()).await.unwrap();
    assert_eq!(finished.unwrap().digest, Digest::of(&bytes));
}
