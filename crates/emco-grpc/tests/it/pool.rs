//! Connections come and go with the controllers.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use drystone_appcontext::{
    ContextId,
    contract::{ControllerError, PlacementController as _},
};
use drystone_emco_grpc::{Address, Health, Options, Pool};
use tokio::time::timeout;

use crate::{
    provider::{Manner, Provider},
    server::{Everybody, PATIENCE, Server, patient, pool, serve, services},
};

fn id(number: u64) -> ContextId {
    ContextId::new(number).unwrap()
}

#[tokio::test]
async fn a_change_of_address_is_followed_and_calls_under_way_go_on() {
    let (first, second) = (Provider::new(Manner::Wait), Provider::willing());
    let (old, new) = (serve(&first), serve(&second));
    let pool = pool(old.address(), patient());
    let one = pool.controller("one");
    let under_way = {
        let one = one.clone();
        tokio::spawn(async move { one.filter_clusters(id(1)).await })
    };
    timeout(PATIENCE, first.until_asked(1)).await.unwrap();
    pool.set("one", new.address()).unwrap();
    assert_eq!(pool.state("one").unwrap().address, new.address());
    one.filter_clusters(id(2)).await.unwrap();
    first.leave.add_permits(1);
    timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap();
    assert_eq!((first.asked(), second.asked()), (vec!["filter 1".to_owned()], vec!["filter 2".to_owned()]));
    // An address that is none changes nothing.
    assert!(pool.set("one", Address::plain("no host", 1)).is_err());
    one.filter_clusters(id(3)).await.unwrap();
}

#[tokio::test]
async fn who_is_removed_is_not_called_any_more() {
    let provider = Provider::new(Manner::Wait);
    let server = serve(&provider);
    let pool = pool(server.address(), patient());
    pool.set("other", server.address()).unwrap();
    let one = pool.controller("one");
    let under_way = {
        let one = one.clone();
        tokio::spawn(async move { one.filter_clusters(id(1)).await })
    };
    timeout(PATIENCE, provider.until_asked(1)).await.unwrap();
    assert!(pool.remove("one") && !pool.remove("one"));
    let ended = timeout(PATIENCE, under_way).await.unwrap().unwrap().unwrap_err();
    assert!(ended.to_string().contains("has been removed"), "{ended}");
    let unknown = one.filter_clusters(id(2)).await.unwrap_err();
    assert!(unknown.to_string().contains("there is no controller one"), "{unknown}");
    assert_eq!((pool.state("one"), pool.names()), (None, vec!["other".to_owned()]));
    pool.retain(|name| name == "nobody");
    assert!(pool.names().is_empty());
    // The name may be given again.
    provider.behave(Manner::Answer(Ok(())));
    pool.set("one", server.address()).unwrap();
    one.filter_clusters(id(3)).await.unwrap();
}

#[tokio::test]
async fn a_call_does_not_wait_for_the_end_of_a_pause() {
    let port = drystone_loopback::free_port();
    let hour = Duration::from_secs(3_600);
    let options = Options { first_pause: hour, longest_pause: hour, ..patient() };
    let pool = pool(Address::plain("127.0.0.1", port), options);
    let mut states = pool.watch("one").unwrap();
    let failing =
        timeout(PATIENCE, states.wait_for(|state| state.health == Health::Failing)).await.unwrap().unwrap();
    assert!(failing.next_check.unwrap() > failing.since + Duration::from_secs(2_000));
    drop(failing);
    let one = pool.controller("one");
    assert!(matches!(one.filter_clusters(id(1)).await, Err(ControllerError::Unreachable(_))));
    let provider = Provider::willing();
    let _server = Server::start_at(port, services(&provider, Arc::new(Everybody)).router());
    timeout(PATIENCE, one.filter_clusters(id(2))).await.expect("it is tried at once").unwrap();
    assert_eq!(pool.state("one").unwrap().health, Health::Ready);
}

#[tokio::test]
async fn who_does_not_answer_is_tried_less_and_less_often() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tried = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&tried);
    std::thread::spawn(move || {
        while let Ok((connection, _)) = listener.accept() {
            counter.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    let options = Options {
        first_pause: Duration::from_millis(40),
        longest_pause: Duration::from_millis(640),
        ..patient()
    };
    let begun = Instant::now();
    let pool = pool(Address::plain("127.0.0.1", port), options);
    let mut states = pool.watch("one").unwrap();
    timeout(PATIENCE, states.wait_for(|state| state.failures >= 6)).await.unwrap().unwrap();
    // At 0, 40, 120, 280, 600, 1240 ms and so on, each pause up to a quarter shorter; a check may connect twice.
    let most = 2 * (6 + u32::try_from(begun.elapsed().as_millis() / 480).unwrap());
    let tries = tried.load(Ordering::Relaxed);
    assert!((6..=most).contains(&tries), "{tries} tries, at most {most}");
    assert!(begun.elapsed() >= Duration::from_millis(3 * 1_240 / 4));
}

#[tokio::test]
async fn connections_end_with_the_pool() {
    let provider = Provider::willing();
    let server = serve(&provider);
    let pool: Pool = pool(server.address(), patient());
    let one = pool.controller("one");
    let mut states = pool.watch("one").unwrap();
    drop(pool);
    one.filter_clusters(id(1)).await.unwrap();
    drop(one);
    // Its keeper holds the other end.
    let ended = async { while states.changed().await.is_ok() {} };
    timeout(PATIENCE, ended).await.expect("the keeper ends");
}
