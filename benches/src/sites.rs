//! A site's first installation: from its list of hosts until each of them runs what its cluster boots.
//!
//! Hosts are state only, with the delays of real ones divided by 60: 180 s of self-tests (3 s), 90 s for an image and 120 s for a reboot
//! (3.5 s until the operating system runs). What the hosts' own software takes is measured with clusters.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use reqwest::Client;
use serde_json::json;

use crate::{
    Failure, Setting,
    drystone::{Drystone, get},
    hosts,
    report::{Report, Row},
    statistics::{Sorted, summary},
};

/// Delays of the hardware alone: what no controller can make shorter.
const HARDWARE: Duration = Duration::from_millis(6_500);

/// Measures it.
pub(crate) async fn measure(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    report.say(&format!(
        "sites: from the list to installed hosts, emulated with real delays divided by 60 (the hardware alone takes {} ms)",
        HARDWARE.as_millis()
    ));
    let single = repeat(setting, report, 1, 0).await?;
    let ten = repeat(setting, report, 10, 0).await?;
    let failing = repeat(setting, report, 10, 2).await?;
    for (what, took) in [
        ("site of 1 server", &single),
        ("site of 10 servers", &ten),
        ("site of 10 servers, 2 more do not answer for themselves and are replaced by spares", &failing),
    ] {
        report.add(Row { what: what.to_owned(), ours: summary(took), ..Row::default() });
    }
    Ok(())
}

async fn repeat(
    setting: &Setting,
    report: &Report,
    servers: usize,
    failing: usize,
) -> Result<Sorted, Failure> {
    let mut took = Vec::new();
    for _ in 0..setting.usually(5, 1) {
        let scratch = setting.scratch()?;
        let file = scratch.path().join("site.yaml");
        std::fs::write(&file, site_file(servers + failing, failing)?)?;
        let file = file.to_str().ok_or("the directory's name is not UTF-8")?;
        let drystone =
            Drystone::start(setting, scratch.path(), &["--backend", "sim", "--site", file]).await?;
        let measured = install(&drystone, report, servers, failing).await;
        drystone.stop().await?;
        took.push(measured?);
    }
    Ok(Sorted::new(took))
}

/// So many servers, of which the first ones refuse the right password.
fn site_file(servers: usize, failing: usize) -> Result<String, Failure> {
    let mut text = format!(
        "name: bench\nbackend: sim\ntiming: {{post: 3s, bootOs: 3.5s, shutdown: 1s, requestLatency: 2ms}}\n\
         fabrics:\n- id: Ethernet\n  services: perSwitch\n  switches:\n  - {{name: eth, ports: 32, speedGbps: 25}}\n\
         hosts:\n- name: \"server-{{nn}}\"\n  count: {servers}\n  rack: r1\n  processor: {{model: EPYC 9124, cores: 16}}\n  \
         memoryMiB: 65536\n  drives: [{{capacityGiB: 960, media: NVMe, count: 2}}]\n  nics: [{{name: eth0, switches: [eth]}}]\n\
         gateway:\n  switch: eth\n  nodeAddress: 10.40.0.1/16\n  nodeAllocation: 10.40.1.0/24\n  campusAddress: 203.0.113.1/24\n"
    );
    if failing > 0 {
        text.push_str("faults:\n  bmc:\n");
    }
    for number in 2..2 + failing {
        writeln!(text, "  - {{host: server-{number:02}, kind: wrongPassword}}")?;
    }
    Ok(text)
}

/// Gives the hosts their roles and the site its cluster, and waits until as many hosts are installed as are wanted.
async fn install(
    drystone: &Drystone,
    report: &Report,
    servers: usize,
    failing: usize,
) -> Result<Duration, Failure> {
    let (client, watching): (Client, _) = (drystone.client()?, drystone.kube().await?);
    let url =
        format!("{}/apis/drystone.dev/v1alpha1/namespaces/{}/sites/bench", drystone.url, hosts::NAMESPACE);
    let site = get(&client, &url).await?.ok_or("the site is not declared")?;
    let mut list = site["spec"]["bmcs"].clone();
    let all = list.as_array_mut().ok_or("the site has no list")?;
    let count = all.len();
    for (index, host) in all.iter_mut().enumerate() {
        let role = match index {
            0 => "ControlPlane",
            index if index >= count - failing => "Spare",
            _ => "Worker",
        };
        host["role"] = role.into();
    }
    let (began, used) = (Instant::now(), drystone.processor_time()?);
    let patch = json!({"spec": {"bmcs": list, "cluster": {"namespace": "default"}}});
    let request = client.patch(&url).header("content-type", "application/merge-patch+json");
    request.body(patch.to_string()).send().await?.error_for_status()?;
    let timeline = hosts::follow(&watching, began, "the installation", |known| {
        known.values().filter(|status| status.is_installed()).count() >= servers
    })
    .await?;
    let took = began.elapsed();
    let busy = drystone.processor_time()?.saturating_sub(used);
    report.say(&format!(
        "{servers} servers in {:.2} s; drystone up computed for {:.2} s",
        took.as_secs_f64(),
        busy.as_secs_f64()
    ));
    timeline.say(report);
    steps(&client, drystone, report).await?;
    Ok(took)
}

/// Says which steps the site's cluster was made in, and when they began and ended.
async fn steps(client: &Client, drystone: &Drystone, report: &Report) -> Result<(), Failure> {
    let url = format!("{}/apis/drystone.dev/v1alpha1/namespaces/default/operations", drystone.url);
    let list = get(client, &url).await?.unwrap_or_default();
    for operation in list["items"].as_array().into_iter().flatten() {
        let created = operation.pointer("/metadata/creationTimestamp");
        let (started, ended) = (&operation["status"]["startedAt"], &operation["status"]["finishedAt"]);
        report.say(&format!("  {}: {created:?} {started} {ended}", operation["spec"]["title"]));
        for step in operation["status"]["steps"].as_array().into_iter().flatten() {
            report.say(&format!("    {} {} {}", step["id"], step["startedAt"], step["finishedAt"]));
        }
    }
    Ok(())
}
