//! A process that is killed while it takes in an image, again and again.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Command, Stdio},
};

use bytes::Bytes;
use drystone_images::{digest::Digest, store::Store};

use crate::{anything, id, image};

const LENGTH: usize = 8 * 1024 * 1024;
const PIECE: usize = 100_000;
/// Directory of the store, for the process that is to be killed.
const CHILD: &str = "DRYSTONE_IMAGES_TEST_STORE";

/// Takes in what is missing, and says of each piece that it is safe.
async fn take_in(directory: &Path) {
    let bytes = image(LENGTH);
    let store = Store::open(directory).unwrap();
    loop {
        let mut writer = store.begin(&id("a"), LENGTH as u64).await.unwrap();
        let from = usize::try_from(writer.offset()).unwrap();
        let to = LENGTH.min(from + PIECE);
        for piece in bytes[from..to].chunks(PIECE / 3) {
            writer.write(vec![Bytes::from(piece.to_vec())]).await.unwrap();
        }
        let (offset, finished) = writer.finish(vec![Digest::of(&bytes)], anything()).await.unwrap();
        println!("\nsafe {offset}");
        if finished.is_some() {
            return;
        }
    }
}

#[tokio::test]
async fn a_killed_process_has_lost_nothing_that_it_acknowledged() {
    if let Ok(directory) = std::env::var(CHILD) {
        return take_in(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let (mut told, mut kills) = (0, 0);
    loop {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--exact",
            "kill::a_killed_process_has_lost_nothing_that_it_acknowledged",
            "--nocapture",
        ]);
        command
            .env(CHILD, directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        // Killed at another instant each time: after some pieces, and a while that differs.
        let (mut pieces, mut line) = (1 + kills % 4, String::new());
        while pieces > 0 && output.read_line(&mut line).unwrap() > 0 {
            if let Some(offset) = line.trim().strip_prefix("safe ") {
                told = offset.parse::<u64>().unwrap();
                pieces -= 1;
            }
            line.clear();
        }
        std::thread::sleep(std::time::Duration::from_micros(kills * 777 % 9_000));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        // Whole lines only: the last one may be cut off.
        for line in rest.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            if let Some(offset) = line.trim().strip_prefix("safe ") {
                told = offset.parse().unwrap();
            }
        }
        kills += 1;
        assert!(kills < 1_000, "it does not come to its end: {told}");
        let store = Store::open(directory.path()).unwrap();
        let snapshot = store.look(&id("a")).unwrap();
        assert!(snapshot.offset >= told, "kill {kills}: {snapshot:?} after {told} was acknowledged");
        if let Some(finished) = snapshot.finished {
            let (_, length) = store.read(&finished.digest).unwrap();
            assert_eq!((finished.digest, length), (Digest::of(&image(LENGTH)), LENGTH as u64));
            break;
        }
        assert!(told < LENGTH as u64, "{status}");
    }
    assert!(kills > 5, "{kills}");
    let path = directory.path().join("blobs/sha256").join(Digest::of(&image(LENGTH)).hex());
    assert_eq!(Digest::of(&std::fs::read(path).unwrap()), Digest::of(&image(LENGTH)));
    assert!(!directory.path().join("uploads/a/data").exists());
}
