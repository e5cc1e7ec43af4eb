//! The API server: creates, each of them durable; a long list; memory.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use reqwest::Client;
use serde_json::{Value, json};

use crate::{
    Failure, Setting,
    drystone::{Drystone, create},
    report::{Report, Row},
    statistics::{Sorted, milliseconds},
};

/// Clients at once, and what kube-apiserver 1.36 on etcd 3.6 did with as many.
const CLIENTS: [(usize, &str); 3] = [
    (1, "450/s, p99 7 ms (kube-apiserver 1.36, etcd 3.6)"),
    (10, "1050/s, p99 30 ms"),
    (50, "1700/s, p99 85 ms"),
];

/// Objects in the long list.
const LISTED: usize = 10_000;
/// Clients that make it.
const MAKERS: usize = 50;
/// How long it does nothing before its memory is looked at.
const IDLE: Duration = Duration::from_secs(5);

/// Measures it.
pub(crate) async fn measure(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.say(
        "API server: drystone up without a site, clients over HTTPS with certificates, one connection each",
    );
    let scratch = setting.scratch()?;
    let drystone = Drystone::start(setting, scratch.path(), &[]).await?;
    tokio::time::sleep(IDLE).await;
    let idle = drystone.memory()?;
    report.add(Row {
        what: "memory, idle".into(),
        ours: format!("{idle} MiB"),
        earlier: "272 MiB + 39 MiB (kube-apiserver + etcd)",
        ..Row::default()
    });
    let measured = load(setting, report, &drystone).await;
    match measured {
        Ok(made) => {
            drystone.kill().await?;
            let drystone = Drystone::start(setting, scratch.path(), &[]).await?;
            let checked = check(&drystone, &made).await;
            drystone.stop().await?;
            let all = checked?;
            report.say(&format!("all {all} objects that were acknowledged are there after kill -9"));
            Ok(())
        }
        Err(error) => {
            drystone.stop().await?;
            Err(error)
        }
    }
}

/// Creates and lists; returns the namespaces that were filled, with the number of objects in each.
async fn load(
    setting: &Setting,
    report: &mut Report,
    drystone: &Drystone,
) -> Result<Vec<(String, usize)>, Failure> {
    let mut made = Vec::new();
    let period = Duration::from_secs(if setting.quick { 1 } else { 10 });
    for (clients, earlier) in CLIENTS {
        let namespace = format!("create-{clients}");
        let until = Until::Passed(period);
        let (took, latencies) = creates(drystone, &namespace, clients, until).await?;
        made.push((namespace, latencies.len()));
        let rate = latencies.len() as f64 / took.as_secs_f64();
        let (middle, slow) = (milliseconds(latencies.median()), milliseconds(latencies.percentile(99)));
        report.add(Row {
            what: format!("creates of a ConfigMap of 250 bytes, clients at once: {clients}"),
            ours: format!("{rate:.0}/s, p50 {middle}, p99 {slow}"),
            earlier,
            ..Row::default()
        });
    }
    let namespace = "list".to_owned();
    let (_, latencies) = creates(drystone, &namespace, MAKERS, Until::Made(LISTED / MAKERS)).await?;
    let client = drystone.client()?;
    let url = format!("{}/api/v1/namespaces/{namespace}/configmaps", drystone.url);
    let mut lists = Vec::new();
    let mut size = 0;
    for _ in 0..setting.usually(21, 3) {
        let began = Instant::now();
        size = client.get(&url).send().await?.error_for_status()?.bytes().await?.len();
        lists.push(began.elapsed());
    }
    let lists = Sorted::new(lists);
    report.add(Row {
        what: format!("list of {} objects, JSON", latencies.len()),
        ours: format!(
            "p50 {}, p90 {} ({:.1} MB)",
            milliseconds(lists.median()),
            milliseconds(lists.percentile(90)),
            size as f64 / 1e6
        ),
        earlier: "39 to 55 ms (kube-apiserver)",
        ..Row::default()
    });
    made.push((namespace, latencies.len()));
    let objects: usize = made.iter().map(|(_, count)| count).sum();
    report.add(Row {
        what: format!("memory with {objects} objects"),
        ours: format!("{} MiB", drystone.memory()?),
        ..Row::default()
    });
    Ok(made)
}

/// When a client has created enough.
#[derive(Debug, Clone, Copy)]
enum Until {
    /// After this time.
    Passed(Duration),
    /// After so many objects.
    Made(usize),
}

/// Fills a namespace with so many clients at once; returns how long it took, and each create.
async fn creates(
    drystone: &Drystone,
    namespace: &str,
    clients: usize,
    until: Until,
) -> Result<(Duration, Sorted), Failure> {
    let first = drystone.client()?;
    create(&first, &format!("{}/api/v1/namespaces", drystone.url), &json!({"metadata": {"name": namespace}}))
        .await?;
    let url = format!("{}/api/v1/namespaces/{namespace}/configmaps", drystone.url);
    let mut ready = Vec::new();
    for number in 0..clients {
        let client = drystone.client()?;
        // The connection is there before the clock starts.
        client.get(format!("{}/readyz", drystone.url)).send().await?.error_for_status()?;
        ready.push((number, client));
    }
    let began = Instant::now();
    let tasks = ready
        .into_iter()
        .map(|(number, client)| tokio::spawn(one_client(client, url.clone(), number, began, until)));
    let outcomes = try_join_all(tasks).await?;
    let took = began.elapsed();
    let mut latencies = Vec::new();
    for outcome in outcomes {
        latencies.extend(outcome?);
    }
    Ok((took, Sorted::new(latencies)))
}

async fn one_client(
    client: Client,
    url: String,
    number: usize,
    began: Instant,
    until: Until,
) -> Result<Vec<Duration>, Failure> {
    let mut latencies = Vec::new();
    loop {
        let enough = match until {
            Until::Passed(period) => began.elapsed() >= period,
            Until::Made(count) => latencies.len() >= count,
        };
        if enough {
            return Ok(latencies);
        }
        let object = configmap(number, latencies.len());
        let start = Instant::now();
        create(&client, &url, &object).await?;
        latencies.push(start.elapsed());
    }
}

/// A ConfigMap whose JSON has 250 bytes.
fn configmap(client: usize, number: usize) -> Value {
    const SIZE: usize = 250;
    let with = |filling: &str| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{client}-{number}")},
               "data": {"value": filling}})
    };
    let empty = with("").to_string().len();
    with(&"x".repeat(SIZE.saturating_sub(empty)))
}

/// Counts what is there; returns how many objects.
async fn check(drystone: &Drystone, made: &[(String, usize)]) -> Result<usize, Failure> {
    let client = drystone.client()?;
    let mut all = 0;
    for (namespace, count) in made {
        let url = format!("{}/api/v1/namespaces/{namespace}/configmaps", drystone.url);
        let list: Value = client.get(&url).send().await?.error_for_status()?.json().await?;
        let items = list["items"].as_array().map_or(0, Vec::len);
        if items < *count {
            return Err(format!(
                "{namespace}: {count} creates were acknowledged, and {items} objects are there after kill -9"
            )
            .into());
        }
        all += count;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_of_the_size_that_is_said() {
        for (client, number) in [(0, 0), (49, 12_345)] {
            assert_eq!(configmap(client, number).to_string().len(), 250);
        }
    }
}
