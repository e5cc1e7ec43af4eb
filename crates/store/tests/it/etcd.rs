//! What only a store on etcd can meet: servers that go and come back, members that change, history that somebody else compacts.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use drystone_identity::{CertificateProfile, Usage, ca::CertificateAuthority};
use drystone_store::{
    KeyRange, RangeRequest, Store, StoreError, WatchRequest,
    etcd::{EtcdOptions, EtcdStore, EtcdUser, MembershipError},
};
use futures::StreamExt;

use crate::{
    basics::{put, values},
    stores::{Etcd, Keys, options, until_answered},
    watches::{revisions, watch},
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Writes until it is written, and returns the revision.
async fn insist(store: &EtcdStore, key: &str, value: &str) -> u64 {
    let begun = Instant::now();
    loop {
        match store.txn(put(key, value)).await {
            Ok(answer) => return answer.revision,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_watch_goes_on_where_it_was_when_its_server_comes_back() {
    let Some(mut server) = Etcd::alone() else { return };
    let store = server.store().await;
    let mut watchers = Vec::new();
    for start in [2, 30] {
        watchers.push((start, watch(store.as_ref(), "/w/", Some(start)).await));
    }
    let done = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU32::new(0));
    let writer = {
        let (store, done, written) = (Arc::clone(&store), Arc::clone(&done), Arc::clone(&written));
        tokio::spawn(async move {
            while !done.load(Ordering::Relaxed) {
                let number = written.load(Ordering::Relaxed);
                insist(&store, &format!("/w/{}", number % 7), &number.to_string()).await;
                written.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for _ in 0..3 {
        let (begun, before) = (Instant::now(), written.load(Ordering::Relaxed));
        while written.load(Ordering::Relaxed) < before + 15 {
            assert!(begun.elapsed() < PATIENCE, "nothing is written");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.start_again();
        until_answered(&store).await;
    }
    done.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    let last = insist(&store, "/w/last", "x").await;
    assert!(last > 30, "only {last} revisions");
    for (start, watcher) in watchers {
        let told = tokio::time::timeout(PATIENCE, revisions(watcher, last)).await.unwrap();
        assert_eq!(told, (start..=last).collect::<Vec<_>>(), "from {start}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_tells_etcd_who_it_is() {
    let Some(mut server) = Etcd::alone() else { return };
    let mut known = options(&[&server]);
    known.user = Some(EtcdUser { name: "root".into(), password: "secret".into() });
    // As long as it does not ask, it need not be told.
    let store = EtcdStore::new(&known).unwrap();
    until_answered(&store).await;
    let etcdctl = |arguments: &[&str]| {
        let mut command = std::process::Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &server.client_url()]).args(arguments);
        command.stdin(std::process::Stdio::null()).output()
    };
    for arguments in
        [&["user", "add", "root:secret"][..], &["user", "grant-role", "root", "root"], &["auth", "enable"]]
    {
        let Ok(output) = etcdctl(arguments) else {
            println!("skipped: no etcdctl (Debian's package etcd-client has it)");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        };
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    store.txn(put("/a", "1")).await.unwrap();
    let mut told = watch(store.as_ref(), "/a", Some(2)).await;
    assert_eq!(told.next().await.unwrap().unwrap().events.len(), 1);
    let strangers = [None, Some(EtcdUser { name: "root".into(), password: "wrong".into() })];
    for stranger in strangers {
        let mut unknown = known.clone();
        unknown.user = stranger;
        let refused = EtcdStore::new(&unknown).unwrap().check().await;
        assert!(matches!(refused, Err(StoreError::InvalidRequest(_))), "{refused:?}");
    }
    // Its tokens do not outlive it.
    server.kill();
    server.start_again();
    until_answered(&store).await;
    assert_eq!(insist(&store, "/a", "2").await, 3);
    assert_eq!(told.next().await.unwrap().unwrap().events.len(), 1);
    store.lease_revoke(store.lease_grant(60).await.unwrap()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compacted_is_said_to_be() {
    let Some(server) = Etcd::alone() else { return };
    let store = server.store().await;
    for number in 0..10 {
        store.txn(put("/k", &number.to_string())).await.unwrap();
    }
    store.compact(8).await.unwrap();
    let from = |start| WatchRequest { range: KeyRange::prefix("/"), start_revision: Some(start) };
    for start in [2, 7, 8] {
        let error = store.watch(from(start)).await.err().unwrap();
        let expected =
            matches!(error, StoreError::Compacted { requested, compacted: 9 } if requested == start);
        assert!(expected, "from {start}: {error}");
    }
    let mut told = store.watch(from(9)).await.unwrap();
    let first = told.next().await.unwrap().unwrap();
    assert_eq!((first.revision, &first.events[0].kv.value[..]), (9, &b"7"[..]));
    assert_eq!(first.events[0].previous.as_ref().unwrap().value, "6");
    let error = store.compact(100).await.unwrap_err();
    assert!(matches!(error, StoreError::FutureRevision { requested: 100, current: 11 }), "{error}");
    store.compact(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_compacted_after_its_time() {
    let Some(server) = Etcd::alone() else { return };
    let mut brief = options(&[&server]);
    brief.keep_history = Some(Duration::from_millis(300));
    let store = EtcdStore::new(&brief).unwrap();
    until_answered(&store).await;
    store.txn(put("/k", "1")).await.unwrap();
    store.txn(put("/k", "2")).await.unwrap();
    let old = RangeRequest { revision: Some(2), ..RangeRequest::new(KeyRange::prefix("/")) };
    let begun = Instant::now();
    while !matches!(store.range(old.clone()).await, Err(StoreError::Compacted { .. })) {
        assert!(begun.elapsed() < PATIENCE, "never compacted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(values(store.as_ref(), "/", None).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_is_told_so_and_can_go_on() {
    let Some(server) = Etcd::alone() else { return };
    let mut small = options(&[&server]);
    small.watch_buffer = 10;
    small.watch_patience = Duration::from_millis(200);
    let store = EtcdStore::new(&small).unwrap();
    until_answered(&store).await;
    let mut slow = watch(store.as_ref(), "/", None).await;
    let last = 1 + 50;
    for number in 0..50 {
        store.txn(put("/k", &number.to_string())).await.unwrap();
    }
    // Longer than a watcher may take.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut told = Vec::new();
    let missed = loop {
        match slow.next().await.unwrap() {
            Ok(batch) => told.push(batch.revision),
            Err(StoreError::WatcherTooSlow { missed }) => break missed,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(told, (2..missed).collect::<Vec<_>>());
    assert!(slow.next().await.is_none());
    let rest = revisions(watch(store.as_ref(), "/", Some(missed)).await, last).await;
    assert_eq!(rest, (missed..=last).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_lets_read() {
    let Some(server) = Etcd::alone_with(&["--quota-backend-bytes=4194304"]) else { return };
    let store = server.store().await;
    let value = "x".repeat(512 * 1024);
    let begun = Instant::now();
    let mut number = 0;
    // A server that is slow may also answer too late; then it is asked again.
    let mut last = None;
    while !matches!(last, Some(StoreError::NoSpace(_))) {
        assert!(begun.elapsed() < PATIENCE && number < 1000, "never refused: {last:?}");
        last = store.txn(put(&format!("/k/{}", number % 40), &value)).await.err();
        number += 1;
    }
    assert!(!values(store.as_ref(), "/k/0", None).await.is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_costs_no_more_than_the_time_limit() {
    // Reserved (tcpmux): nobody listens there.
    let nobody = "127.0.0.1:1";
    let mut options = EtcdOptions::new([format!("http://{nobody}")]);
    options.request_timeout = Duration::from_millis(500);
    let store = EtcdStore::new(&options).unwrap();
    let begun = Instant::now();
    let error = store.check().await.unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert!(error.contains(nobody), "{error}");
    // It certainly has not been written: the error must not say that this is unknown.
    let error = store.txn(put("/k", "v")).await.unwrap_err().to_string();
    assert!(!error.contains("not known"), "{error}");
}

/// A certificate authority and one certificate for everybody.
fn keys(directory: &Path) -> Keys {
    let now = jiff::Timestamp::now();
    let authority = CertificateAuthority::generate("etcd-ca", Duration::from_secs(3600), now).unwrap();
    let profile = CertificateProfile::server("etcd").ip([[127, 0, 0, 1].into()]).usage(Usage::ClientAuth);
    let identity = authority.issue(&profile, now).unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    Keys {
        authority: write("ca.crt", &authority.certificate_pem()),
        certificate: write("tls.crt", &identity.certificate_pem),
        key: write("tls.key", identity.key_pem.expose()),
    }
}

/// Changes membership, which etcd refuses while its members do not know each other well yet.
async fn change<T>(attempt: impl AsyncFn() -> Result<T, MembershipError>) -> T {
    let begun = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_members_lose_one_and_get_another() {
    let directory = tempfile::tempdir().unwrap();
    let keys = keys(directory.path());
    let members: Option<Vec<Etcd>> =
        ["a", "b", "c"].into_iter().map(|name| Etcd::new(name, Some(keys.clone()))).collect();
    let Some(mut members) = members else { return };
    let cluster: Vec<String> = members.iter().map(Etcd::entry).collect();
    for member in &mut members {
        member.start(&cluster.join(","), "new");
    }
    let mut all = options(&members.iter().collect::<Vec<_>>());
    all.follow_members = true;
    let store = EtcdStore::new(&all).unwrap();
    until_answered(&store).await;
    let mut told = watch(store.as_ref(), "/w/", Some(2)).await;

    // The one in use is killed under writes. Every write that was acknowledged is there afterwards.
    let mut acknowledged = BTreeSet::new();
    let begun = Instant::now();
    for number in 0.. {
        if acknowledged.len() == 20 {
            members[0].kill();
        }
        // A write of which is not known what became of it is not made again.
        if store.txn(put(&format!("/w/{number:03}"), "v")).await.is_ok() {
            acknowledged.insert(format!("/w/{number:03}"));
        }
        if acknowledged.len() == 60 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "only {} writes", acknowledged.len());
    }
    let there: BTreeSet<String> =
        values(store.as_ref(), "/w/", None).await.into_iter().map(|(key, _)| key).collect();
    assert!(acknowledged.is_subset(&there), "lost: {:?}", acknowledged.difference(&there));

    // Another takes its place.
    let dead = store.members().await.unwrap().into_iter().find(|member| member.name == "a").unwrap();
    for _ in 0..2 {
        change(async || store.remove_member(dead.id).await).await;
    }
    let mut new = Etcd::new("d", Some(keys)).unwrap();
    let added = change(async || store.add_learner(&new.peer_url()).await).await;
    let again = change(async || store.add_learner(&new.peer_url()).await).await;
    assert_eq!(again.id, added.id, "adding twice adds once");
    let cluster: Vec<String> = members[1..].iter().chain([&new]).map(Etcd::entry).collect();
    new.start(&cluster.join(","), "existing");
    for _ in 0..2 {
        change(async || store.promote(added.id).await).await;
    }
    let voting: Vec<_> =
        store.members().await.unwrap().into_iter().filter(|member| !member.learner).collect();
    assert_eq!(voting.len(), 3, "{voting:?}");

    // The store finds the new one by itself: with it and one of the old ones there is a majority.
    store.follow_members().await.unwrap();
    members[1].kill();
    let last = insist(&store, "/w/last", "x").await;
    let mut keys_told = BTreeSet::new();
    loop {
        let batch = tokio::time::timeout(PATIENCE, told.next()).await.unwrap().unwrap().unwrap();
        keys_told.extend(batch.events.iter().map(|event| String::from_utf8(event.kv.key.to_vec()).unwrap()));
        if batch.revision >= last {
            break;
        }
    }
    assert!(acknowledged.is_subset(&keys_told), "not told: {:?}", acknowledged.difference(&keys_told));
}
