//! How fast it is. Run by hand, optimised: `cargo nextest run -p drystone-emco-rest --cargo-profile bench-quick --run-ignored all speed
//! --no-capture`.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::world::World;

const DOCUMENTS: usize = 10_000;

/// Requests per second of `count` requests, `at_once` at a time.
async fn rate(count: usize, at_once: usize, ask: impl AsyncFn(usize)) -> f64 {
    let begin = Instant::now();
    let asking = futures::stream::iter(0..count).map(|number| ask(number));
    asking.buffer_unordered(at_once).collect::<Vec<()>>().await;
    count as f64 / begin.elapsed().as_secs_f64()
}

/// The middle one of some durations.
fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; run by hand"]
async fn how_fast_documents_are_made_and_read() {
    let world = World::start().await;
    for at_once in [1, 8, 32] {
        let made = rate(1_000, at_once, async |number| {
            let body =
                json!({"metadata": {"name": format!("w{at_once}-{number}"), "description": "measured"}});
            assert_eq!(world.send("POST", "projects", &body).await.status, 201);
        })
        .await;
        println!("POST, {at_once} at a time: {made:.0}/s");
    }
    let left = DOCUMENTS - 3_000;
    rate(left, 32, async |number| {
        let body = json!({"metadata": {"name": format!("p{number}"), "description": "measured"}});
        assert_eq!(world.send("POST", "projects", &body).await.status, 201);
    })
    .await;
    for at_once in [1, 32] {
        let read = rate(20_000, at_once, async |number| {
            let answer = world.get(&format!("projects/p{}", number % left)).await;
            assert_eq!(answer.status, 200);
        })
        .await;
        println!("GET, {at_once} at a time: {read:.0}/s");
    }
    let mut times = Vec::new();
    let mut size = 0;
    for _ in 0..20 {
        let begin = Instant::now();
        let answer = world.ask("GET", "/v2/projects", &[crate::world::BASIC], "").await;
        times.push(begin.elapsed());
        size = answer.bytes.len();
        assert_eq!(answer.body.as_array().map_or(0, Vec::len), DOCUMENTS);
    }
    println!("list of {DOCUMENTS} ({size} bytes): {:?}", median(times));
    let gone = rate(left, 32, async |number| {
        assert_eq!(world.send("DELETE", &format!("projects/p{number}"), &Value::Null).await.status, 204);
    })
    .await;
    println!("DELETE, 32 at a time: {gone:.0}/s");
}
