//! Transactions of which etcdctl knows nothing: with others inside, and comparisons over ranges. The same messages go to a real etcd.

use drystone_loopback::free_port;
use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::Message;

use crate::server::{Everybody, start};

/// The parts of etcd's messages that are used here, numbered as in `rpc.proto`.
#[derive(Clone, PartialEq, Message)]
struct Put {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
    #[prost(bool, tag = "4")]
    prev_kv: bool,
    #[prost(bool, tag = "5")]
    ignore_value: bool,
    #[prost(bool, tag = "6")]
    ignore_lease: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Range {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    range_end: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(message, optional, tag = "1")]
    range: Option<Range>,
    #[prost(message, optional, tag = "2")]
    put: Option<Put>,
    #[prost(message, optional, tag = "3")]
    delete: Option<Range>,
    #[prost(message, optional, boxed, tag = "4")]
    txn: Option<Box<Txn>>,
}

/// `result`: 0 equal, 1 greater, 2 less, 3 not equal; `target`: 0 version, 1 created, 2 changed, 3 value.
#[derive(Clone, PartialEq, Message)]
struct Compare {
    #[prost(int32, tag = "1")]
    result: i32,
    #[prost(int32, tag = "2")]
    target: i32,
    #[prost(bytes = "bytes", tag = "3")]
    key: Bytes,
    #[prost(int64, optional, tag = "4")]
    version: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    value: Option<Bytes>,
    #[prost(bytes = "bytes", tag = "64")]
    range_end: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Txn {
    #[prost(message, repeated, tag = "1")]
    compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    success: Vec<Operation>,
    #[prost(message, repeated, tag = "3")]
    failure: Vec<Operation>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Found {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Deleted {
    #[prost(int64, tag = "2")]
    deleted: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Written {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    prev_kv: Option<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    range: Option<Found>,
    #[prost(message, optional, tag = "2")]
    put: Option<Written>,
    #[prost(message, optional, tag = "3")]
    delete: Option<Deleted>,
    #[prost(message, optional, boxed, tag = "4")]
    txn: Option<Box<Answer>>,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(bool, tag = "2")]
    succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    responses: Vec<Response>,
}

fn put(key: &'static str, value: &'static str) -> Operation {
    let put = Put { key: key.into(), value: value.into(), ..Put::default() };
    Operation { put: Some(put), ..Operation::default() }
}

fn get(key: &'static str) -> Operation {
    Operation { range: Some(Range { key: key.into(), range_end: Bytes::new() }), ..Operation::default() }
}

fn inside(txn: Txn) -> Operation {
    Operation { txn: Some(Box::new(txn)), ..Operation::default() }
}

fn equal(key: &'static str, value: &'static str) -> Compare {
    Compare { target: 3, key: key.into(), value: Some(value.into()), ..Compare::default() }
}

/// Compares the versions of all keys of `/r/`.
fn versions(result: i32, version: i64) -> Compare {
    Compare {
        result,
        key: "/r/".into(),
        range_end: "/r0".into(),
        version: Some(version),
        ..Compare::default()
    }
}

/// The answer, or the status and what it says.
async fn ask(url: &str, txn: &Txn) -> Result<Answer, (String, String)> {
    call(url, "Txn", txn).await
}

/// The same of a method of `KV`.
async fn call<A: Message + Default>(
    url: &str,
    method: &str,
    question: &impl Message,
) -> Result<A, (String, String)> {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let body = question.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    framed.extend(body);
    let request = http::Request::post(format!("{url}/etcdserverpb.KV/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(axum::body::Body::from(framed))
        .unwrap();
    let response = client.request(request).await.unwrap();
    let mut trailers = response.headers().clone();
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    while let Some(frame) =
        std::future::poll_fn(|context| http_body::Body::poll_frame(std::pin::Pin::new(&mut body), context))
            .await
    {
        let frame = frame.unwrap();
        match frame.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers.extend(frame.into_trailers().unwrap()),
        }
    }
    let text = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    match text("grpc-status").as_str() {
        "0" => Ok(A::decode(&bytes[5..]).unwrap()),
        // Some encode spaces, some do not.
        status => Err((status.to_owned(), text("grpc-message").replace("%20", " "))),
    }
}

fn succeeded(answer: &Answer) -> Vec<bool> {
    let mut all = vec![answer.succeeded];
    for response in &answer.responses {
        all.extend(response.txn.iter().flat_map(|inside| succeeded(inside)));
    }
    all
}

/// What both have to do in the same way.
async fn transactions(url: &str) {
    let first = Txn {
        success: vec![put("/a", "1"), put("/r/1", "x"), put("/r/2", "x"), put("/r/2x", "y")],
        ..Txn::default()
    };
    ask(url, &first).await.unwrap();

    // The comparison inside is about how things were before the transaction, and its read about how they are in it.
    let nested = Txn {
        compare: vec![equal("/a", "1")],
        success: vec![
            put("/a", "2"),
            inside(Txn {
                compare: vec![equal("/a", "1")],
                success: vec![
                    get("/a"),
                    inside(Txn {
                        compare: vec![equal("/a", "2")],
                        success: vec![put("/wrong", "1")],
                        failure: vec![put("/right", "1"), get("/right")],
                    }),
                ],
                failure: vec![put("/wrong", "2")],
            }),
            get("/wrong"),
        ],
        failure: vec![inside(Txn { success: vec![put("/wrong", "3")], ..Txn::default() })],
    };
    let answer = ask(url, &nested).await.unwrap();
    assert_eq!(succeeded(&answer), [true, true, false]);
    let inner = answer.responses[1].txn.as_ref().unwrap();
    let value =
        |response: &Response| response.range.as_ref().unwrap().kvs.first().map(|pair| pair.value.clone());
    assert_eq!(value(&inner.responses[0]), Some("2".into()));
    assert_eq!(value(&inner.responses[1].txn.as_ref().unwrap().responses[1]), Some("1".into()));
    assert_eq!(value(&answer.responses[2]), None);
    // Again: now nothing holds.
    let again = ask(url, &nested).await.unwrap();
    assert_eq!(succeeded(&again), [false, true]);

    // Every key of the range; a range without keys is like a key that is not there.
    for (compare, expected) in [
        (versions(0, 1), true),
        (versions(1, 1), false),
        (versions(2, 2), true),
        (Compare { key: "/none/".into(), range_end: "/none0".into(), ..versions(0, 0) }, true),
        (Compare { key: "/r/".into(), range_end: "/r/2x".into(), ..equal("", "x") }, true),
        (Compare { key: "/r/".into(), range_end: "/r0".into(), ..equal("", "x") }, false),
        (Compare { key: "/none/".into(), range_end: "/none0".into(), ..equal("", "x") }, false),
        (Compare { key: "/r/2x".into(), range_end: vec![0].into(), result: 3, ..equal("", "x") }, true),
    ] {
        let txn = Txn { compare: vec![compare.clone()], success: vec![put("/r/1", "x")], ..Txn::default() };
        let txn = Txn { success: if expected { Vec::new() } else { txn.success.clone() }, ..txn };
        assert_eq!(ask(url, &txn).await.unwrap().succeeded, expected, "{compare:?}");
    }
    let kept = Put { key: "/a".into(), ignore_value: true, ..Put::default() };
    let keep = Operation { put: Some(kept), ..Operation::default() };
    let answer = ask(url, &Txn { success: vec![keep, get("/a")], ..Txn::default() }).await.unwrap();
    assert_eq!(value(&answer.responses[1]), Some("2".into()));

    // Written twice, if in one branch of another transaction.
    let twice = Txn {
        success: vec![put("/t", "1"), inside(Txn { failure: vec![put("/t", "2")], ..Txn::default() })],
        ..Txn::default()
    };
    let (status, message) = ask(url, &twice).await.unwrap_err();
    assert_eq!((status.as_str(), message.contains("duplicate")), ("3", true), "{message}");
    let either = Txn {
        success: vec![inside(Txn {
            success: vec![put("/t", "1")],
            failure: vec![put("/t", "2")],
            ..Txn::default()
        })],
        ..Txn::default()
    };
    assert_eq!(succeeded(&ask(url, &either).await.unwrap()), [true, true]);
}

/// Writes that keep what there is.
async fn writes(url: &str) {
    let first = Put { key: "/w".into(), value: "1".into(), ..Put::default() };
    let written: Written = call(url, "Put", &first).await.unwrap();
    let kept = Put { key: "/w".into(), ignore_value: true, prev_kv: true, ..Put::default() };
    let again: Written = call(url, "Put", &kept).await.unwrap();
    assert_eq!(again.prev_kv.unwrap().value, "1");
    assert_eq!(again.header.unwrap().revision, written.header.unwrap().revision + 1);
    let leased = Put { value: "2".into(), ignore_value: false, ignore_lease: true, ..kept.clone() };
    let changed: Written = call(url, "Put", &leased).await.unwrap();
    assert_eq!(changed.prev_kv.unwrap().value, "1");
    let answer = ask(url, &Txn { success: vec![get("/w")], ..Txn::default() }).await.unwrap();
    assert_eq!(answer.responses[0].range.as_ref().unwrap().kvs[0].value, "2");
    for (put, told) in [
        (Put { key: "/none".into(), ..kept.clone() }, "key not found"),
        (Put { key: Bytes::new(), ..kept.clone() }, "key is not provided"),
        (Put { value: "3".into(), ..kept.clone() }, "value is provided"),
    ] {
        let refused = call::<Written>(url, "Put", &put).await.unwrap_err();
        assert!(refused.0 == "3" && refused.1.contains(told), "{refused:?}");
    }
}

#[tokio::test]
async fn writes_keep_what_they_are_told_to() {
    writes(&start(Arc::new(Everybody)).await.url).await;
}

#[tokio::test]
async fn transactions_have_others_inside_and_compare_ranges() {
    transactions(&start(Arc::new(Everybody)).await.url).await;
}

struct Etcd {
    process: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// That a real etcd passes says that the test is about etcd.
#[tokio::test]
async fn and_so_they_do_in_a_real_etcd() {
    let (url, peer) =
        (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
    let directory = tempfile::tempdir().unwrap();
    let process = Command::new("etcd")
        .args(["--data-dir", directory.path().to_str().unwrap(), "--name", "one"])
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("one={peer}")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let Ok(process) = process else {
        println!("skipped: no etcd (Debian's package etcd-server has it)");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let _etcd = Etcd { process, _directory: directory };
    let store =
        drystone_store::etcd::EtcdStore::new(&drystone_store::etcd::EtcdOptions::new([url.clone()])).unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while store.check().await.is_err() {
        assert!(Instant::now() < deadline, "etcd does not answer");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    transactions(&url).await;
    writes(&url).await;
}
