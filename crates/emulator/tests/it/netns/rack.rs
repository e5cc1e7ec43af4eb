//! The example rack: twelve hosts at once.

use std::time::Instant;

use drystone_emulator::backend::{Backend, BootSource, BootState};
use futures::future::join_all;

use super::site::{TestSite, cannot_run, medium};

const RACK: &str = include_str!("../../../../../examples/sites/rack.yaml");

#[tokio::test(flavor = "multi_thread")]
async fn the_example_rack_boots_at_once() {
    if cannot_run() {
        return;
    }
    let start = Instant::now();
    let site = TestSite::start_with(RACK, &[]).await;
    println!("site built in {:?}", start.elapsed());
    let user_data = "#cloud-config
write_files:
- path: /etc/systemd/system/serve.service
  content: |
    [Service]
    ExecStart=/usr/local/bin/drystone serve 80 x
runcmd:
- systemctl enable --now serve
";
    let hosts: Vec<String> = site.file.hosts.iter().map(|host| host.name.clone()).collect();
    assert_eq!(hosts.len(), 12);
    let boots = Instant::now();
    let power_on = join_all(hosts.iter().enumerate().map(|(index, name)| {
        let network = format!(
            "version: 2\nethernets: {{eth0: {{addresses: [10.20.1.{}/16], gateway4: 10.20.0.1}}}}\n",
            index + 1
        );
        let path = site.state.path().join(format!("{name}.tar"));
        std::fs::write(&path, medium("i-1", name, user_data, &network)).unwrap();
        let site = &site;
        async move {
            let start = Instant::now();
            site.backend.power_on(site.host(name), BootSource::Medium(path)).await.unwrap();
            start.elapsed()
        }
    }))
    .await;
    let slowest = power_on.iter().max().unwrap();
    join_all(hosts.iter().map(|name| site.wait_for(name, BootState::OsRunning))).await;
    println!("12 hosts: slowest power on {slowest:?}, all running after {:?}", boots.elapsed());

    let first = &hosts[0];
    site.backend.power_off(site.host(first)).await.unwrap();
    let one = Instant::now();
    site.backend.power_on(site.host(first), BootSource::Disk).await.unwrap();
    println!("one host from disk: power on {:?}", one.elapsed());
    site.wait_for(first, BootState::OsRunning).await;
    println!("one host from disk: running after {:?}", one.elapsed());
    let stop = Instant::now();
    site.stop().await;
    println!("stopped in {:?}", stop.elapsed());
}
