//! Stores, and contexts to keep in them.

use drystone_loopback::free_port;
use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use drystone_appcontext::{App, AppContext, ClusterName, ContextId, Meta, Part, ResourceName};
use drystone_store::{
    Store,
    embedded::{EmbeddedStore, Options},
    etcd::{EtcdOptions, EtcdStore},
};

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// An etcd of a test's own.
pub(crate) struct Etcd {
    process: Child,
    pub(crate) url: String,
    directory: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Etcd {
    /// `None` where etcd is not installed; says so.
    pub(crate) async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let (client, peer) = (free_port(), free_port());
        let (url, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let process = Command::new("etcd")
            .args(["--data-dir", directory.path().to_str().unwrap(), "--name", "one"])
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args([
                "--initial-cluster",
                &format!("one={peer}"),
                "--unsafe-no-fsync",
                "--quota-backend-bytes",
                "8000000000",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            println!("skipped: no etcd (Debian's package etcd-server has it)");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return None;
        };
        let etcd = Self { process, url, directory };
        let store = etcd.store();
        let deadline = Instant::now() + PATIENCE;
        while store.revision().await.is_err() {
            assert!(Instant::now() < deadline, "etcd does not answer");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(etcd)
    }

    pub(crate) fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        EtcdStore::new(&EtcdOptions::new([self.url.clone()])).unwrap()
    }
}

/// A store in memory.
pub(crate) fn memory() -> Arc<dyn Store> {
    Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap())
}

/// Makes tests of functions that take a store: one for each kind of store.
macro_rules! on_every_store {
    ($($name:ident,)*) => {
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::fixture::memory()).await;
            })*
        }
        mod on_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(etcd) = crate::fixture::Etcd::start().await else { return };
                super::$name(etcd.store()).await;
            })*
        }
    };
}
pub(crate) use on_every_store;

pub(crate) fn id(number: u64) -> ContextId {
    ContextId::new(number).unwrap()
}

pub(crate) fn cluster(number: usize) -> ClusterName {
    ClusterName::new("edge", format!("c{number:04}"))
}

/// A context with `resources` resources of about `bytes` bytes of one app on each of `clusters` clusters.
pub(crate) fn context(id: ContextId, clusters: usize, resources: usize, bytes: usize) -> AppContext {
    let mut context = AppContext::new(id, Meta { project: "p".into(), ..Meta::default() });
    context.app_order = vec!["web".into()];
    let manifests: Vec<Arc<str>> = (0..resources)
        .map(|number| {
            let name = format!("cm{number}");
            format!(
                "kind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{x: \"{}\"}}\n",
                name.repeat(bytes / name.len())
            )
            .into()
        })
        .collect();
    let mut app = App::default();
    for number in 0..clusters {
        let mut part = Part { group: Some(number.to_string()), ..Part::default() };
        for (number, manifest) in manifests.iter().enumerate() {
            part.put(ResourceName::new(&format!("cm{number}"), "ConfigMap"), Arc::clone(manifest));
        }
        app.clusters.insert(cluster(number), part);
    }
    context.apps.insert("web".into(), app);
    context
}
