//! Controllers that hang, die, are late, or talk rubbish.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, body::Body, response::Response, routing::post};
use drystone_appcontext::{
    ContextId,
    contract::{ActionController as _, ControllerError, PlacementController as _, Synchroniser as _},
};
use drystone_emco_grpc::{Address, Controller, Health, Options, Pool, State, notices::ReadinessNotices as _};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::{
    provider::{Manner, Provider},
    server::{Everybody, PATIENCE, Server, patient, pool, serve, services},
};

fn id(number: u64) -> ContextId {
    ContextId::new(number).unwrap()
}

async fn until(pool: &Pool, is_so: impl FnMut(&State) -> bool) -> State {
    let mut states = pool.watch("one").unwrap();
    let state = timeout(PATIENCE, states.wait_for(is_so)).await.expect("the state comes about").unwrap();
    state.clone()
}

/// Calls until a call has arrived, and has not been answered in time. On a slow machine not even the question may arrive in time.
async fn time_out(one: &Controller, provider: &Provider) {
    loop {
        assert_eq!(one.filter_clusters(id(1)).await, Err(ControllerError::TimedOut));
        if !provider.asked().is_empty() {
            return;
        }
    }
}

#[tokio::test]
async fn a_controller_that_does_not_answer_is_given_up_in_time() {
    let provider = Provider::new(Manner::Wait);
    let server = serve(&provider);
    let limit = Duration::from_millis(300);
    let pool = pool(server.address(), Options { controller_deadline: limit, ..patient() });
    until(&pool, |state| state.health == Health::Ready).await;
    let begun = Instant::now();
    time_out(&pool.controller("one"), &provider).await;
    assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
    // It is the call that hangs, not the controller.
    until(&pool, |state| state.health == Health::Ready).await;
    provider.leave.add_permits(1);
    // What was begun is finished all the same.
    timeout(PATIENCE, provider.finished.subscribe().wait_for(|finished| *finished == 1))
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_late_answer_is_not_taken_for_the_next_ones() {
    let provider = Provider::new(Manner::Wait);
    let server = serve(&provider);
    let limit = Duration::from_millis(200);
    let pool = pool(server.address(), Options { controller_deadline: limit, ..patient() });
    let one = pool.controller("one");
    time_out(&one, &provider).await;
    // The synchroniser's deadline is another one, and long enough.
    let second = tokio::spawn({
        let one = one.clone();
        async move { one.install(id(2)).await }
    });
    // The first question may have arrived several times.
    timeout(PATIENCE, provider.until_asked_for("install 2")).await.unwrap();
    provider.behave(Manner::Answer(Err(ControllerError::Refused("the third".into()))));
    provider.leave.add_permits(1_000);
    assert_eq!(one.install(id(3)).await, Err(ControllerError::Refused("the third".into())));
    timeout(PATIENCE, second).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_host_that_is_silent_is_found_out() {
    // The kernel accepts connections for it, and nobody reads them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::plain("127.0.0.1", silent.local_addr().unwrap().port());
    let options = Options {
        controller_deadline: Duration::from_millis(200),
        check_deadline: Duration::from_millis(200),
        ..patient()
    };
    let pool = pool(address, options);
    assert_eq!(pool.controller("one").filter_clusters(id(1)).await, Err(ControllerError::TimedOut));
    let state = until(&pool, |state| state.health == Health::Failing && state.failures > 2).await;
    assert!(state.last_failure.unwrap().message.contains("no answer within 200ms"));
}

#[tokio::test]
async fn a_controller_that_dies_in_mid_call_is_noticed_and_found_again() {
    let provider = Provider::new(Manner::Wait);
    let server = serve(&provider);
    let port = server.port;
    let pool = pool(server.address(), patient());
    let one = pool.controller("one");
    let call = {
        let one = one.clone();
        tokio::spawn(async move { one.install(id(1)).await })
    };
    timeout(PATIENCE, provider.until_asked(1)).await.unwrap();
    tokio::task::spawn_blocking(move || server.kill()).await.unwrap();
    let Err(ControllerError::Unreachable(said)) = timeout(PATIENCE, call).await.unwrap().unwrap() else {
        panic!("the call does not fail as it should")
    };
    assert!(said.starts_with(&format!("one at 127.0.0.1:{port}: ")), "{said}");
    // The first check to fail may have been under way when it died.
    until(&pool, |state| state.last_failure.as_ref().is_some_and(|last| last.message.contains("refused")))
        .await;
    let refused = one.install(id(2)).await.unwrap_err();
    assert!(matches!(&refused, ControllerError::Unreachable(said) if said.contains("refused")), "{refused}");
    provider.behave(Manner::Answer(Ok(())));
    let router = services(&provider, Arc::new(Everybody)).router();
    let _server = Server::start_at(port, router);
    let state = until(&pool, |state| state.health == Health::Ready).await;
    assert!(state.failures == 0 && state.last_failure.is_some_and(|failure| failure.at < state.since));
    one.install(id(3)).await.unwrap();
    assert_eq!(provider.asked(), ["install 1", "install 3"]);
}

#[tokio::test]
async fn a_stream_that_breaks_says_so_and_ends() {
    let provider = Provider::willing();
    let server = serve(&provider);
    let pool = pool(server.address(), patient());
    let mut news = pool.controller("one").alert("me", id(1)).await.unwrap();
    let next = tokio::spawn(async move { (news.next().await, news.next().await) });
    timeout(PATIENCE, provider.until_asked(1)).await.unwrap();
    tokio::task::spawn_blocking(move || server.kill()).await.unwrap();
    let (broken, ended) = timeout(PATIENCE, next).await.unwrap().unwrap();
    assert!(matches!(broken, Some(Err(ControllerError::Unreachable(_)))), "{broken:?}");
    assert_eq!(ended, None);
}

/// Whether a failure is the one that is expected.
type Judge = fn(&ControllerError) -> bool;

/// Answers every call with this, as far as HTTP is concerned.
async fn answers(body: &'static [u8], content_type: &'static str, status: Option<&'static str>) -> Server {
    let answer = move || async move {
        let mut response = Response::builder().header("content-type", content_type);
        if let Some(status) = status {
            response = response.header("grpc-status", status).header("grpc-message", "just so");
        }
        response.body(Body::from(body)).unwrap()
    };
    Server::start(Router::new().fallback(post(answer)))
}

#[tokio::test]
async fn rubbish_is_told_from_answers() {
    let cases: [(Server, Judge); 6] = [
        // Nothing that is protobuf; a yes about another context, after which the status is missing.
        (answers(&[0, 0, 0, 0, 3, 0xff, 0xff, 0xff], "application/grpc", None).await, unreachable_or_refused),
        (answers(b"<html>", "text/html", None).await, unreachable),
        (answers(b"", "application/grpc", None).await, unreachable),
        // A frame that promises more than comes, and one that promises gigabytes.
        (answers(&[0, 0, 0, 0, 200, 10], "application/grpc", None).await, unreachable_or_refused),
        (answers(&[0, 0xff, 0xff, 0xff, 0xff, 10], "application/grpc", None).await, unreachable_or_refused),
        // A status that is a controller's own.
        (
            answers(b"", "application/grpc", Some("9")).await,
            |error| matches!(error, ControllerError::Refused(said) if said.ends_with("just so")),
        ),
    ];
    for (number, (server, expected)) in cases.into_iter().enumerate() {
        let pool = pool(server.address(), patient());
        let one = pool.controller("one");
        for _ in 0..2 {
            let error = timeout(PATIENCE, one.filter_clusters(id(1))).await.unwrap().unwrap_err();
            assert!(expected(&error), "{number}: {error:?}");
        }
    }
}

fn unreachable(error: &ControllerError) -> bool {
    matches!(error, ControllerError::Unreachable(_))
}

fn unreachable_or_refused(error: &ControllerError) -> bool {
    matches!(error, ControllerError::Unreachable(_) | ControllerError::Refused(_))
}

#[tokio::test]
async fn what_speaks_no_http_is_unreachable() {
    for line in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let talking = std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                if stopping.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
                drop(stream.write_all(line.as_bytes()));
                drop(stream.read(&mut [0; 1024]));
            }
        });
        let pool = pool(Address::plain("127.0.0.1", port), patient());
        let error = timeout(PATIENCE, pool.controller("one").terminate(id(1))).await.unwrap().unwrap_err();
        assert!(unreachable(&error), "{line:?}: {error:?}");
        until(&pool, |state| state.health == Health::Failing).await;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(std::net::TcpStream::connect(("127.0.0.1", port)));
        talking.join().unwrap();
    }
}

#[tokio::test]
async fn an_answer_about_another_context_is_refused() {
    // appContext=1 "8", status=2 true, and trailers that only HTTP/2 has.
    let answer = || async {
        let frame = bytes_with_trailers(&[0, 0, 0, 0, 5, 10, 1, b'8', 16, 1]);
        Response::builder().header("content-type", "application/grpc").body(frame).unwrap()
    };
    let server = Server::start(Router::new().fallback(post(answer)));
    let pool = pool(server.address(), patient());
    let error = pool.controller("one").filter_clusters(id(7)).await.unwrap_err();
    assert!(error.to_string().contains("asked about AppContext 7, and answers about \"8\""), "{error}");
    pool.controller("one").filter_clusters(id(8)).await.unwrap();
}

fn bytes_with_trailers(frame: &'static [u8]) -> Body {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let frames = [
        Ok::<_, std::convert::Infallible>(http_body::Frame::data(axum::body::Bytes::from_static(frame))),
        Ok(http_body::Frame::trailers(trailers)),
    ];
    Body::new(http_body_util::StreamBody::new(futures::stream::iter(frames)))
}
