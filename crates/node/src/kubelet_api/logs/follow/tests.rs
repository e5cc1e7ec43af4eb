//! Following a file. No runtime answers here: one that cannot be reached says nothing about the container.

use std::{fs, io::Write};

use super::*;

fn entry(text: &str) -> String {
    format!("2026-01-01T00:00:01Z stdout F {text}\n")
}

#[tokio::test]
async fn a_rotated_file_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    fs::write(&path, entry("a") + &entry("b")).unwrap();
    let source = Source {
        runtime: Runtime::new(&directory.path().join("none.sock")).unwrap(),
        container: "c".into(),
        path: path.clone(),
        file: File::open(&path).await.unwrap(),
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let options = Options { follow: true, tail: Some(1), ..Options::default() };
    let sending = tokio::spawn(async move { send(source, options, &sender).await });
    let mut next = async || String::from_utf8(receiver.recv().await.unwrap().unwrap().to_vec()).unwrap();
    assert_eq!(next().await, "b\n");
    let mut old = fs::OpenOptions::new().append(true).open(&path).unwrap();
    write!(old, "{}", entry("c")).unwrap();
    assert_eq!(next().await, "c\n");
    fs::rename(&path, directory.path().join("0.log.old")).unwrap();
    write!(old, "{}", entry("d")).unwrap();
    fs::write(&path, entry("e")).unwrap();
    assert_eq!(next().await, "d\n");
    assert_eq!(next().await, "e\n");
    drop(receiver);
    sending.await.unwrap().unwrap();
}

#[tokio::test]
async fn without_follow_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("0.log");
    fs::write(&path, (0..10_000).map(|n| entry(&n.to_string())).collect::<String>()).unwrap();
    let source = Source {
        runtime: Runtime::new(&directory.path().join("none.sock")).unwrap(),
        container: "c".into(),
        path: path.clone(),
        file: File::open(&path).await.unwrap(),
    };
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let sending = tokio::spawn(async move { send(source, Options::default(), &sender).await });
    let mut all = Vec::new();
    while let Some(piece) = receiver.recv().await {
        all.extend_from_slice(&piece.unwrap());
    }
    sending.await.unwrap().unwrap();
    assert_eq!(all, (0..10_000).map(|n| format!("{n}\n")).collect::<String>().into_bytes());
}
