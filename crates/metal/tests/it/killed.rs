//! Controllers that are killed at each of their writes in turn: whoever comes after brings the host to the same end, resets none that runs what
//! it should, and erases no disk that is in use.

use std::time::Duration;

use drystone_api::{OperationalStatus, ProvisioningState};
use drystone_metal::{driver::redfish::Pauses, provisioner::redfish::Timing};
use serde_json::{Value, json};

use super::{
    emulated::Site,
    mortal::mortal,
    tap::{Deed, Tap},
    world::{NAMESPACE, PACING, World, in_house},
};

const MEDIUM: &str = "medium:///";

/// What becomes of a host while its controller is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is declared, and is to run a medium of its own.
    Installed,
    /// It runs one image, and is to run another one.
    Changed,
    /// It runs an image, and is deleted.
    Deleted,
}

/// A place where images are served.
async fn images() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = axum::Router::new().fallback(async || "an image");
    tokio::spawn(async move { axum::serve(listener, router).await });
    base
}

/// The stage for many hosts, each of which has its controller killed at another write.
struct Theatre {
    world: World,
    site: Site,
    images: String,
}

impl Theatre {
    async fn open(hosts: usize) -> Self {
        let hosts = format!(
            "hosts:\n- {{name: 'c{{nn}}', count: {hosts}, processor: {{cores: 8}}, memoryMiB: 16384, drives: [{{capacityGiB: 960}}]}}\n"
        );
        let (site, world) = (Site::start(&hosts).await, World::bare().await);
        world.add_secret("boot", json!({"userData": "#cloud-config\n{}\n"})).await;
        Self { world, site, images: images().await }
    }

    fn image(&self, number: u32) -> Value {
        json!({"url": format!("{}/os-{number}.iso", self.images), "format": "live-iso"})
    }

    /// Declares the host `name` behind a tap.
    async fn declare(&self, name: &str, image: Value) -> Tap {
        let mut bmc = self.site.bmc(&self.world, name).await;
        let real = bmc["address"].as_str().unwrap().trim_start_matches("redfish-virtualmedia+").to_owned();
        let tap = Tap::before(&real).await;
        bmc["address"] = json!(format!("redfish-virtualmedia+http://{}", tap.address));
        let spec = json!({"online": true, "bmc": bmc, "image": image, "userData": {"name": "boot"}});
        self.world.add_host(name, spec).await;
        tap
    }

    /// Runs controllers until they have written `writes` times and are killed at the next write, which is carried out or not. False if they have
    /// written no more, long after `is_done`.
    async fn live(&mut self, name: &str, fate: Fate, writes: usize, written: bool) -> bool {
        let (client, dying) = mortal(&self.world.server, NAMESPACE, writes, written);
        let process = self.world.process(client, PACING, ways).await;
        let done = async {
            self.is_done(name, fate).await;
            // What is written afterwards is part of it.
            tokio::time::sleep(Duration::from_millis(700)).await;
        };
        let killed = tokio::select! {
            () = dying.notified() => true,
            () = done => false,
        };
        drop(process);
        // What it had in hand is dropped before another one begins.
        tokio::time::sleep(Duration::from_millis(20)).await;
        killed
    }

    async fn is_done(&self, name: &str, fate: Fate) {
        if fate == Fate::Deleted {
            let end = std::time::Instant::now() + super::world::DEADLINE;
            while let Some(host) = self.world.hosts().get_opt(name).await.unwrap() {
                assert!(std::time::Instant::now() < end, "not deleted in time: {host:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            return;
        }
        let image = match fate {
            Fate::Installed => MEDIUM.to_owned(),
            Fate::Changed | Fate::Deleted => self.image(2)["url"].as_str().unwrap().to_owned(),
        };
        self.world
            .until(name, "installed", |_, status| {
                status.provisioning.state == ProvisioningState::Provisioned
                    && status.operational_status == OperationalStatus::OK
                    && status.powered_on
                    && status.provisioning.image.as_ref().is_some_and(|present| present.url == image)
            })
            .await;
    }

    /// One host, whose controller is killed after `writes` writes. Whether that was before its end.
    async fn play(&mut self, name: &str, fate: Fate, writes: usize, written: bool) -> bool {
        let first = if fate == Fate::Installed { json!({"url": MEDIUM}) } else { self.image(1) };
        let tap = self.declare(name, first).await;
        if fate != Fate::Installed {
            let client = self.world.client.clone();
            let process = self.world.process(client, PACING, ways).await;
            self.world.until_state(name, ProvisioningState::Provisioned).await;
            drop(process);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let before = tap.deeds().len();
        match fate {
            Fate::Installed => {}
            Fate::Changed => self.world.patch(name, json!({"spec": {"image": self.image(2)}})).await,
            Fate::Deleted => {
                self.world.hosts().delete(name, &kube::api::DeleteParams::default()).await.unwrap();
            }
        }
        let killed = self.live(name, fate, writes, written).await;
        let (client, story) = (self.world.client.clone(), self.world.told(name));
        let process = self.world.process(client, PACING, ways).await;
        let end = tokio::time::timeout(super::world::DEADLINE, self.is_done(name, fate)).await;
        assert!(end.is_ok(), "{name}, killed after {writes} writes, does not come to its end: {story:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(process);
        check(
            &tap.deeds()[before..],
            fate,
            &format!("{name}, {fate:?}, killed after {writes} writes ({written})"),
        );
        killed
    }
}

fn ways(
    media: drystone_metal::http::BootMedia,
) -> Vec<std::sync::Arc<dyn drystone_metal::provisioner::Provisioner>> {
    vec![in_house(media, Pauses::default(), Timing { soft_off: Duration::ZERO, ..Timing::default() })]
}

/// Whether what was done to a host is what was to be done.
fn check(deeds: &[Deed], fate: Fate, what: &str) {
    let reset = |kind: &str| Deed::Reset(kind.to_owned());
    let mut on = fate != Fate::Installed;
    for deed in deeds {
        match deed {
            Deed::Erase => assert!(!on, "{what}: a disk in use was erased: {deeds:?}"),
            Deed::Reset(kind) => on = kind == "On",
        }
    }
    let count = |deed: &Deed| deeds.iter().filter(|other| *other == deed).count();
    match fate {
        Fate::Installed => assert_eq!(deeds, [reset("On")], "{what}"),
        Fate::Changed => {
            assert_eq!((count(&reset("On")), on), (1, true), "{what}: {deeds:?}");
            assert!(count(&reset("ForceOff")) == 1 && count(&Deed::Erase) >= 1, "{what}: {deeds:?}");
        }
        Fate::Deleted => {
            assert_eq!((count(&reset("On")), on), (0, false), "{what}: {deeds:?}");
            assert!(count(&Deed::Erase) >= 1, "{what}: {deeds:?}");
        }
    }
}

/// Kills at each write in turn, which is carried out or not, until there is none left to be killed at. How often that was.
async fn everywhere(fate: Fate, written: bool) -> usize {
    let mut theatre = Theatre::open(60).await;
    let mut kills = 0;
    while theatre.play(&format!("c{:02}", kills + 1), fate, kills, written).await {
        kills += 1;
    }
    theatre.site.stop().await;
    println!("{fate:?}: killed at {kills} points, {}", if written { "after the write" } else { "before it" });
    kills
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_comes_to_its_end_and_resets_the_host_once() {
    let kills = everywhere(Fate::Installed, true).await;
    assert!(kills >= 10, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_whose_writes_are_lost_comes_to_its_end_and_resets_the_host_once() {
    let kills = everywhere(Fate::Installed, false).await;
    assert!(kills >= 10, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_comes_and_disks_are_erased_only_while_nobody_uses_them() {
    let kills = everywhere(Fate::Changed, true).await;
    assert!(kills >= 5, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_image_comes_though_writes_are_lost() {
    let kills = everywhere(Fate::Changed, false).await;
    assert!(kills >= 5, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_host_goes_switched_off_and_empty() {
    let kills = everywhere(Fate::Deleted, true).await;
    assert!(kills >= 4, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_host_goes_though_writes_are_lost() {
    let kills = everywhere(Fate::Deleted, false).await;
    assert!(kills >= 4, "{kills} kills");
}
