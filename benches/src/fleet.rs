//! A hundred sites of ten servers: enrolled and inspected, installed, and patched with another operating-system image.
//!
//! One emulator has all thousand management controllers, each a Redfish service of its own on its own port; Drystone has a Site for each ten of
//! them. Delays are those of real servers divided by 60, as in [`crate::sites`]. What Drystone itself takes is not divided by anything, so that
//! the simulated time of a roll-out is the real one of the hardware, and the rest of what was measured.

mod images;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::Client;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{
    Failure, Setting,
    drystone::{Drystone, PATIENCE, create, processor_time, wait_until},
    hosts::{self, NAMESPACE, Status, Timeline},
    report::{Report, Row},
};

/// By what the delays of real servers are divided.
const SCALE: u32 = 60;
/// What the hardware alone takes for another image, on a real server: self-tests, image, reboot.
const HARDWARE: Duration = Duration::from_secs(180 + 90 + 120);
/// Requests at one time.
const AT_ONCE: usize = 16;

/// Measures it.
pub(crate) async fn measure(setting: &Setting, report: &mut Report) -> Result<(), Failure> {
    let (sites, servers) = (setting.usually(100, 10), 10);
    report.say(&format!("fleet: {sites} sites of {servers} servers"));
    let scratch = setting.scratch()?;
    let emulator = Emulator::start(setting, scratch.path(), sites * servers).await?;
    let drystone = Drystone::start(setting, scratch.path(), &[]).await?;
    let idle = drystone.memory()?;
    let fleet = Fleet { drystone: &drystone, emulator: &emulator, sites, servers };
    let measured = fleet.measure(report).await;
    report.add(Row {
        what: "memory of drystone up: idle, and with the fleet".to_owned(),
        ours: format!("{idle} MiB, {} MiB", drystone.memory()?),
        ..Row::default()
    });
    drystone.stop().await?;
    emulator.stop().await?;
    measured
}

/// What is measured.
struct Fleet<'a> {
    drystone: &'a Drystone,
    emulator: &'a Emulator,
    sites: usize,
    servers: usize,
}

impl Fleet<'_> {
    fn count(&self) -> usize {
        self.sites * self.servers
    }

    async fn measure(&self, report: &mut Report) -> Result<(), Failure> {
        let images = images::serve().await?;
        let client = self.drystone.client()?;
        let took = self.phase(report, "enrolled and inspected", self.enrol(&client), |host| {
            host.provisioning.state == "available"
        });
        took.await?;
        let first = format!("{images}/os-1.iso");
        self.phase(report, "installed with their first image", self.install(&client, &first), |host| {
            runs(host, &first)
        })
        .await?;
        let second = format!("{images}/os-2.iso");
        let took = self
            .phase(report, "patched with another image", self.patch(&client, &second), |host| {
                runs(host, &second)
            })
            .await?;
        let simulated = took.saturating_sub(HARDWARE / SCALE) + HARDWARE;
        report.add(Row {
            what: format!("{} sites of {} servers patched: simulated time", self.sites, self.servers),
            ours: format!("{:.0} s", simulated.as_secs_f64()),
            ..Row::default()
        });
        Ok(())
    }

    /// Has something done to all hosts, and measures until all of them are as they should be.
    async fn phase(
        &self,
        report: &mut Report,
        what: &str,
        asking: impl Future<Output = Result<(), Failure>>,
        is_done: impl Fn(&Status) -> bool,
    ) -> Result<Duration, Failure> {
        let watching = self.drystone.kube().await?;
        let (began, used) = (Instant::now(), self.busy()?);
        let enough = |known: &BTreeMap<String, Status>| {
            known.values().filter(|host| is_done(host)).count() >= self.count()
        };
        let following = hosts::follow(&watching, began, what, enough);
        let (timeline, ()): (Timeline, ()) = futures::try_join!(following, asking)?;
        let took = began.elapsed();
        timeline.say(report);
        let [drystone, emulator] = self.busy()?;
        let busy = [drystone.saturating_sub(used[0]), emulator.saturating_sub(used[1])];
        report.add(Row {
            what: format!("{} servers at {} sites {what}", self.count(), self.sites),
            ours: format!(
                "{:.2} s (processor time: drystone {:.1} s, emulator {:.1} s)",
                took.as_secs_f64(),
                busy[0].as_secs_f64(),
                busy[1].as_secs_f64()
            ),
            ..Row::default()
        });
        Ok(took)
    }

    /// Processor time of Drystone and of the emulator.
    fn busy(&self) -> Result<[Duration; 2], Failure> {
        Ok([self.drystone.processor_time()?, processor_time(self.emulator.pid)?])
    }

    fn url(&self, group: &str, plural: &str) -> String {
        format!("{}/{group}/namespaces/{NAMESPACE}/{plural}", self.drystone.url)
    }

    /// Declares the sites with their lists, and the credentials of each management controller.
    async fn enrol(&self, client: &Client) -> Result<(), Failure> {
        let (secrets, sites) =
            (self.url("api/v1", "secrets"), self.url("apis/drystone.dev/v1alpha1", "sites"));
        let (secrets, sites) = (secrets.as_str(), sites.as_str());
        let lists = self.emulator.controllers.chunks(self.servers).enumerate();
        let declared = futures::stream::iter(lists).map(|(number, list)| async move {
            let mut bmcs = Vec::new();
            for bmc in list {
                let name = bmc["name"].as_str().ok_or("a management controller without a name")?;
                let secret = format!("{name}-credentials");
                let data = json!({"username": bmc["user"], "password": bmc["password"]});
                let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "stringData": data});
                create(client, secrets, &object).await?;
                let address = format!("redfish-virtualmedia+{}", bmc["url"].as_str().unwrap_or_default());
                bmcs.push(json!({"name": name, "address": address, "credentialsName": secret}));
            }
            let object = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Site",
                "metadata": {"name": format!("site-{number:03}")}, "spec": {"bmcs": bmcs}});
            create(client, sites, &object).await
        });
        declared.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Declares an image for each host, as a user of Metal3 does.
    async fn install(&self, client: &Client, image: &str) -> Result<(), Failure> {
        let url = self.url("apis/metal3.io/v1alpha1", "baremetalhosts");
        let patch =
            json!({"spec": {"online": true, "image": {"url": image, "format": "live-iso"}}}).to_string();
        let (url, patch) = (url.as_str(), patch.as_str());
        let declared = futures::stream::iter(&self.emulator.controllers).map(|bmc| async move {
            let name = bmc["name"].as_str().unwrap_or_default();
            let request =
                client.patch(format!("{url}/{name}")).header("content-type", "application/merge-patch+json");
            request.body(patch.to_owned()).send().await?.error_for_status()?;
            Ok::<(), Failure>(())
        });
        declared.buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Declares another image for all of them: sites side by side, all servers of a site in one wave.
    async fn patch(&self, client: &Client, image: &str) -> Result<(), Failure> {
        let began = Instant::now();
        let url = self.url("apis/drystone.dev/v1alpha1", "softwaresets");
        let strategy =
            json!({"maxUnavailable": "100%", "maxUnavailablePerSite": "100%", "waves": [{"name": "all"}]});
        let set = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "SoftwareSet", "metadata": {"name": "os"},
            "spec": {"selector": {"all": true}, "osImage": {"url": image, "format": "live-iso"}, "strategy": strategy}});
        create(client, &url, &set).await?;
        let rollouts = self.url("apis/drystone.dev/v1alpha1", "rollouts");
        // It is large and asked for seldom.
        let ended = async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let list = crate::drystone::get(client, &rollouts).await?.unwrap_or_default();
            let status = list.pointer("/items/0/status").cloned().unwrap_or_default();
            match status["phase"].as_str() {
                Some("Succeeded") => Ok(Some(())),
                Some("Failed" | "Invalid" | "RolledBack") => Err(status["message"].to_string().into()),
                _ => Ok(None),
            }
        };
        wait_until("the end of the roll-out", ended).await?;
        println!("  the roll-out has succeeded after {:.2} s", began.elapsed().as_secs_f64());
        Ok(())
    }
}

fn runs(host: &Status, image: &str) -> bool {
    host.is_installed() && host.provisioning.image.as_ref().is_some_and(|present| present.url == image)
}

/// An emulator of its own, which Drystone knows nothing of but the addresses of its management controllers.
struct Emulator {
    child: Child,
    pid: u32,
    controllers: Vec<Value>,
}

impl Emulator {
    async fn start(setting: &Setting, scratch: &Path, hosts: usize) -> Result<Self, Failure> {
        let (file, state) = (scratch.join("fleet.yaml"), scratch.join("emulator"));
        std::fs::write(&file, site_file(hosts)?)?;
        std::fs::create_dir_all(&state)?;
        let log = std::fs::File::create(scratch.join("emulator.log"))?;
        let mut command = Command::new(&setting.program);
        command
            .arg("emulator")
            .arg("--site")
            .arg(&file)
            .arg("--state")
            .arg(&state)
            .args(["--controller", "127.0.0.1:1"]);
        let child =
            command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?;
        let pid = child.id().ok_or("the emulator has ended")?;
        let endpoints: PathBuf = state.join("endpoints.json");
        let found = wait_until("the emulator", async || Ok(std::fs::read_to_string(&endpoints).ok())).await?;
        let controllers =
            serde_json::from_str::<Value>(&found)?["bmcs"].as_array().cloned().unwrap_or_default();
        Ok(Self { child, pid, controllers })
    }

    async fn stop(mut self) -> Result<(), Failure> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGTERM)?;
        tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        Ok(())
    }
}

fn site_file(hosts: usize) -> Result<String, Failure> {
    let mut text = format!(
        "name: fleet\nbackend: sim\ntiming: {{post: {}ms, bootOs: {}ms, shutdown: 1s, requestLatency: 2ms}}\nhosts:\n",
        180_000 / SCALE,
        210_000 / SCALE
    );
    writeln!(
        text,
        "- {{name: 'server-{{nnnn}}', count: {hosts}, processor: {{model: EPYC 9124, cores: 16}}, memoryMiB: 65536, \
         drives: [{{capacityGiB: 960, media: NVMe, count: 2}}]}}"
    )?;
    Ok(text)
}
