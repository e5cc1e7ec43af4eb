//! `etcdctl`, unmodified.

use std::{process::Stdio, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::Command,
    time::timeout,
};

use crate::server::{Everybody, OneUser, start};

const PATIENCE: Duration = Duration::from_secs(60);

fn is_there() -> bool {
    let there = std::process::Command::new("etcdctl").arg("version").stdout(Stdio::null()).status().is_ok();
    if !there {
        println!("skipped: no etcdctl (Debian's package etcd-client has it)");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    }
    there
}

fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", url]).args(arguments).kill_on_drop(true);
    command
}

async fn run(url: &str, arguments: &[&str]) -> (bool, String) {
    let output =
        timeout(PATIENCE, command(url, arguments).stdin(Stdio::null()).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said.into_owned())
}

async fn says(url: &str, arguments: &[&str]) -> String {
    let (good, said) = run(url, arguments).await;
    assert!(good, "etcdctl {arguments:?}: {said}");
    said
}

#[tokio::test]
async fn it_reads_writes_and_deletes() {
    if !is_there() {
        return;
    }
    let server = start(Arc::new(Everybody)).await;
    let url = server.url.as_str();
    for (key, value) in [("/context/7/", "\"7\""), ("/context/7/app/a/", "\"a\""), ("/other", "x")] {
        assert_eq!(says(url, &["put", key, value]).await.trim(), "OK");
    }
    assert_eq!(says(url, &["get", "/context/7/"]).await, "/context/7/\n\"7\"\n");
    let keys = says(url, &["get", "/context/", "--prefix", "--keys-only"]).await;
    assert_eq!(keys.split_whitespace().collect::<Vec<_>>(), ["/context/7/", "/context/7/app/a/"]);
    let newest =
        says(url, &["get", "", "--prefix", "--sort-by=MODIFY", "--order=DESCEND", "--limit=1"]).await;
    assert_eq!(newest, "/other\nx\n");
    assert_eq!(says(url, &["put", "/other", "y", "--prev-kv"]).await, "OK\n/other\nx\n");
    assert_eq!(says(url, &["get", "/other", "--rev=4"]).await, "/other\nx\n");
    assert_eq!(says(url, &["del", "/context/", "--prefix"]).await, "2\n");
    assert_eq!(says(url, &["get", "/context/", "--prefix"]).await, "");
    assert!(says(url, &["compact", "5"]).await.contains("compacted revision 5"));
    let (good, said) = run(url, &["get", "/other", "--rev=2"]).await;
    assert!(!good && said.contains("required revision has been compacted"), "{said}");
}

#[tokio::test]
async fn it_carries_out_transactions() {
    if !is_there() {
        return;
    }
    let server = start(Arc::new(Everybody)).await;
    says(&server.url, &["put", "/count", "5"]).await;
    for (comparison, expected) in [
        ("value(\"/count\") = \"5\"", "SUCCESS"),
        ("value(\"/count\") != \"5\"", "FAILURE"),
        ("mod(\"/count\") > \"1\"", "SUCCESS"),
        ("version(\"/nothing\") < \"1\"", "SUCCESS"),
        ("create(\"/count\") > \"100\"", "FAILURE"),
    ] {
        let mut child = command(&server.url, &["txn"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let text = format!("{comparison}\n\nget /count\n\nput /else 1\n\n");
        child.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
        let output = timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains(expected), "{comparison}: {said}");
        assert_eq!(said.contains("/count\n5"), expected == "SUCCESS", "{said}");
    }
    assert_eq!(says(&server.url, &["get", "/else"]).await, "/else\n1\n");
}

#[tokio::test]
async fn it_watches_and_holds_leases() {
    if !is_there() {
        return;
    }
    let server = start(Arc::new(Everybody)).await;
    let url = server.url.as_str();
    says(url, &["put", "/w/a", "0"]).await;
    let mut watching = command(url, &["watch", "/w/", "--prefix", "--rev=2", "--prev-kv"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let granted = says(url, &["lease", "grant", "600"]).await;
    let lease = granted.split_whitespace().nth(1).unwrap().to_owned();
    says(url, &["put", "/w/b", "1", "--lease", &lease]).await;
    assert!(says(url, &["lease", "timetolive", &lease]).await.contains("granted with TTL(600s)"));
    let with_keys = says(url, &["lease", "timetolive", "--keys", &lease]).await;
    assert!(with_keys.contains("attached keys([/w/b])"), "{with_keys}");
    assert!(says(url, &["lease", "keep-alive", "--once", &lease]).await.contains("TTL(600)"));
    says(url, &["lease", "revoke", &lease]).await;
    let mut seen = Vec::new();
    while seen.len() < 8 {
        let line = timeout(PATIENCE, lines.next_line()).await.expect("the watch goes on").unwrap();
        seen.extend(line.filter(|line| !line.is_empty()));
    }
    // Written, written, and deleted with its lease, which shows what was there before.
    assert_eq!(seen, ["PUT", "/w/a", "0", "PUT", "/w/b", "1", "DELETE", "/w/b"]);
    assert!(says(url, &["lease", "timetolive", &lease]).await.contains("already expired"));
    watching.kill().await.unwrap();
}

#[tokio::test]
async fn strangers_are_refused_and_users_are_not() {
    if !is_there() {
        return;
    }
    let server = start(Arc::new(OneUser)).await;
    let url = server.url.as_str();
    let (good, said) = run(url, &["put", "/a", "1"]).await;
    assert!(!good && said.contains("user name is empty"), "{said}");
    let (good, said) = run(url, &["--user", "root:wrong", "put", "/a", "1"]).await;
    assert!(!good && said.contains("authentication failed"), "{said}");
    assert_eq!(says(url, &["--user", "root:secret", "put", "/a", "1"]).await.trim(), "OK");
    assert_eq!(says(url, &["--user", "root:secret", "get", "/a"]).await, "/a\n1\n");
    let members = says(url, &["--user", "root:secret", "member", "list"]).await;
    assert!(members.contains(url), "{members}");
    // With a URL this release of etcdctl sends an authority that is none, which servers other than Go's refuse.
    let address = server.address.to_string();
    assert!(says(&address, &["--user", "root:secret", "endpoint", "status"]).await.contains("3.5.0"));
}
