//! Over a real etcd, which is killed and started again in the middle.

use drystone_loopback::free_port;
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use drystone_appcontext::{State, contract::Synchroniser as _};
use drystone_simulated_clusters::Fault;
use drystone_store::{
    Store,
    etcd::{EtcdOptions, EtcdStore},
};

use crate::world::{PATIENCE, World, config, context, deployment, hook, job, part};

/// An etcd that can be killed, and started again with what it had.
struct Etcd {
    process: Option<Child>,
    url: String,
    peer: String,
    directory: PathBuf,
    _kept: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Etcd {
    /// Starts one; `None`, and says so, if there is none to start.
    async fn start() -> Option<Self> {
        let kept = tempfile::tempdir().unwrap();
        let (url, peer) =
            (format!("http://127.0.0.1:{}", free_port()), format!("http://127.0.0.1:{}", free_port()));
        let directory = kept.path().join("data");
        let mut etcd = Self { process: None, url, peer, directory, _kept: kept };
        if !etcd.run() {
            println!("skipped: no etcd (Debian's package etcd-server has it)");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return None;
        }
        etcd.answers().await;
        Some(etcd)
    }

    fn run(&mut self) -> bool {
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(&self.directory)
            .args(["--name", "one", "--listen-client-urls", &self.url, "--advertise-client-urls", &self.url])
            .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer])
            .args(["--initial-cluster", &format!("one={}", self.peer)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = process.ok();
        self.process.is_some()
    }

    /// As a power cut would end it.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn store(&self) -> Arc<dyn Store> {
        EtcdStore::new(&EtcdOptions::new([self.url.clone()])).unwrap()
    }

    /// Waits until it answers.
    async fn answers(&self) {
        let store = self.store();
        let answers = async {
            while store.revision().await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, answers).await.expect("etcd does not answer");
    }

    /// Kills it, leaves it dead for a while, and has it back.
    async fn restart(&mut self) {
        self.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(self.run());
        self.answers().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_etcd_in_the_middle_delays_and_nothing_else() {
    let Some(mut etcd) = Etcd::start().await else { return };
    let world = World::over(2, etcd.store()).await;
    let mut resources: Vec<_> = (0..40).map(|number| config(&format!("c{number}"))).collect();
    resources.push(deployment("web", 1));
    let mut web = part(&resources);
    hook(&mut web, |hooks| &mut hooks.pre_install, job("before"));
    let old = context(1, &[("web", &[0, 1], web)]);
    let mut new = context(2, &[("web", &[0, 1], part(&resources[20..]))]);
    new.sync.status_context = Some(old.id);
    for context in [&old, &new] {
        world.contexts.create(context).await.unwrap();
    }
    for cluster in world.simulation.clusters() {
        cluster.set_fault(Fault::Late(Duration::from_millis(600)));
    }
    world.sync.install(old.id).await.unwrap();
    world.eventually("it is under way", || world.cluster(0).count() >= 5).await;
    assert!(world.cluster(0).count() < 40);
    etcd.restart().await;
    for cluster in world.simulation.clusters() {
        cluster.set_fault(Fault::Late(Duration::from_millis(60)));
    }
    world.until(old.id, State::Instantiated).await;
    for index in [0, 1] {
        let written = world.cluster(index).written();
        assert!(written.len() == 42 && written.values().all(|times| *times == 1), "{written:?}");
    }
    // And in the middle of an update, of which most is a removal.
    world.sync.update(old.id, new.id).await.unwrap();
    world.eventually("it is under way", || world.cluster(0).counts().deletes >= 1).await;
    etcd.restart().await;
    world.until(new.id, State::Instantiated).await;
    world.until(old.id, State::Updated).await;
    assert_eq!((world.cluster(0).count(), world.cluster(1).count()), (21, 21));
    world.sync.uninstall(new.id).await.unwrap();
    etcd.restart().await;
    world.until(new.id, State::Terminated).await;
    assert_eq!((world.cluster(0).count(), world.cluster(1).count()), (0, 0));
    world.idle().await;
}
