//! The two sequences of the seed ("Register rsync", "Register placement and action controllers"), arrow by arrow: documents in an API,
//! controllers and synchroniser behind gRPC on ports of their own, AppContexts in a real etcd.

use drystone_loopback::free_port;
use std::{
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use drystone_api::emco::{
    Cluster, Controller, ControllerConnection, ControllerSpec, ControllerType, LifecycleAction as Action,
    Network, NetworkSpec, Subnet, object_name,
};
use drystone_appcontext::{
    AppContextError, AppContexts, ContextId, State as Phase,
    contract::{ActionController, ControllerError, Event, PlacementController, Synchroniser},
    model::NETWORK_APP,
};
use drystone_emco_grpc::{Admission, Admitted, Services};
use drystone_store::{
    Store,
    etcd::{EtcdOptions, EtcdStore},
};
use kube::api::DeleteParams;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::world::{Calls, GROUP, World};

/// An etcd of the test's own.
struct Etcd {
    process: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Etcd {
    async fn start() -> Option<Self> {
        let directory = tempfile::tempdir().expect("made");
        let url = format!("http://127.0.0.1:{}", free_port());
        let peer = format!("http://127.0.0.1:{}", free_port());
        let process = Command::new("etcd")
            .arg("--data-dir")
            .arg(directory.path())
            .args(["--name", "one", "--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}"), "--unsafe-no-fsync"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            println!("skipped: no etcd (Debian's package etcd-server has it)");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return None;
        };
        let etcd = Self { process, url, _directory: directory };
        for _ in 0..1_200 {
            if etcd.store().revision().await.is_ok() {
                return Some(etcd);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("etcd does not answer");
    }

    fn store(&self) -> Arc<dyn Store> {
        EtcdStore::new(&EtcdOptions::new([self.url.clone()])).expect("a client")
    }
}

struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admits(&self, _: &http::request::Parts) -> Admitted {
        Admitted::Yes
    }
}

/// A controller of somebody else's: it has the AppContexts in etcd, and notes what it is asked, and what it finds there then.
struct Foreign {
    name: &'static str,
    calls: Calls,
    contexts: AppContexts,
}

impl Foreign {
    async fn note(&self, what: &str, context: ContextId) -> Result<(), ControllerError> {
        let found =
            self.contexts.load(context).await.map_err(|error| ControllerError::Refused(error.to_string()))?;
        let mut parts: Vec<String> = found
            .parts()
            .map(|(app, cluster, part)| {
                let names: Vec<&str> =
                    part.order.iter().map(drystone_appcontext::ResourceName::as_str).collect();
                format!("{app}@{}[{}]", cluster.cluster, names.join(","))
            })
            .collect();
        parts.sort();
        self.calls.lock().expect("not poisoned").push(format!("{} {what}: {}", self.name, parts.join(" ")));
        Ok(())
    }
}

fn failed(error: &AppContextError) -> ControllerError {
    ControllerError::Refused(error.to_string())
}

#[async_trait]
impl Synchroniser for Foreign {
    async fn install(&self, context: ContextId) -> Result<(), ControllerError> {
        self.note("InstallApp", context).await?;
        let done = self.contexts.edit_sync::<(), AppContextError, _>(context, |sync| {
            sync.status = Some(Phase::Instantiated);
            Ok(())
        });
        done.await.map_err(|error| failed(&error))
    }

    async fn uninstall(&self, context: ContextId) -> Result<(), ControllerError> {
        self.note("UninstallApp", context).await
    }

    async fn read(&self, _: ContextId) -> Result<(), ControllerError> {
        Err(ControllerError::Unimplemented("ReadAppContext".to_owned()))
    }

    async fn update(&self, _: ContextId, to: ContextId) -> Result<(), ControllerError> {
        self.note("UpdateApp", to).await
    }
}

#[async_trait]
impl PlacementController for Foreign {
    /// Leaves out the cluster that is named like the controller.
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError> {
        self.note("FilterClusters", context).await?;
        let name = self.name;
        let edited = self.contexts.edit::<(), AppContextError, _>(context, move |context| {
            for app in context.apps.values_mut() {
                app.clusters.retain(|cluster, _| !name.ends_with(&cluster.cluster));
            }
            Ok(())
        });
        edited.await.map_err(|error| failed(&error))
    }
}

#[async_trait]
impl ActionController for Foreign {
    /// Adds an object that is named after the controller.
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        _: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        self.note(&format!("UpdateAppContext {intent}"), context).await?;
        let name = self.name;
        let edited = self.contexts.edit::<(), AppContextError, _>(context, move |context| {
            for part in context.apps.values_mut().flat_map(|app| app.clusters.values_mut()) {
                part.put(drystone_appcontext::ResourceName::new(name, "ConfigMap"), "kind: ConfigMap");
            }
            Ok(())
        });
        edited.await.map_err(|error| failed(&error))
    }

    async fn terminate(&self, _: ContextId) -> Result<(), ControllerError> {
        Ok(())
    }

    async fn post_event(&self, context: ContextId, event: Event) -> Result<(), ControllerError> {
        self.note(&format!("PostEvent {event:?}"), context).await
    }
}

/// What somebody else's controller provides.
#[derive(Clone, Copy)]
enum Provides {
    Synchroniser,
    Placement,
    Action,
}

/// Serves a controller on a port; it ends with the guard.
async fn serve(name: &'static str, provides: Provides, calls: &Calls, etcd: &Etcd) -> (i64, DropGuard) {
    let foreign = Arc::new(Foreign { name, calls: calls.clone(), contexts: AppContexts::new(etcd.store()) });
    let services = Services::new(Arc::new(Everybody));
    let services = match provides {
        Provides::Synchroniser => services.synchroniser(foreign),
        Provides::Placement => services.placement(foreign),
        Provides::Action => services.action(foreign),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("free");
    let port = listener.local_addr().expect("bound").port();
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move { drystone_apiserver::serve_plain(listener, services.router(), stopping).await });
    (i64::from(port), stop.drop_guard())
}

/// Registers a controller, and waits until the connection to it is there: the first four arrows of both sequences.
async fn registered(world: &World, name: &str, kind: Option<ControllerType>, (port, priority): (i64, i64)) {
    let path = format!("controllers/{name}");
    let spec = ControllerSpec {
        path: path.clone(),
        host: "127.0.0.1".to_owned(),
        port,
        kind,
        priority,
        ..ControllerSpec::default()
    };
    world.put(&Controller::new(&object_name(&path), spec)).await;
    let mut last = None;
    for _ in 0..6_000 {
        let found = world.documents::<Controller>().get(&object_name(&path)).await.expect("it is saved");
        last = found.status;
        if last.as_ref().is_some_and(|status| status.connection == ControllerConnection::Connected) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("no connection to {name}: {last:?}");
}

async fn network(world: &World) {
    let path = "cluster-providers/p/clusters/c1/networks/net1";
    let spec = NetworkSpec {
        path: path.to_owned(),
        cni_type: "ovn4nfv".to_owned(),
        ipv4_subnets: vec![Subnet { subnet: "10.1.0.0/24".to_owned(), ..Subnet::default() }],
        ..NetworkSpec::default()
    };
    world.put(&Network::new(&object_name(path), spec)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn register_rsync() {
    let Some(etcd) = Etcd::start().await else { return };
    let world = World::over(etcd.store()).await.by_registration();
    let process = world.process(None);
    let (port, _serving) = serve("rsync", Provides::Synchroniser, &world.calls, &etcd).await;
    registered(&world, "rsync", None, (port, 0)).await;

    // Some time later: ncm calls rsync to instantiate network intents. The AppContext is there when rsync hears of it.
    network(&world).await;
    let cluster = "cluster-providers/p/clusters/c1";
    assert_eq!(world.done(cluster, Action::ApplyNetworks).await, (202, String::new()));
    assert_eq!(world.calls(), [format!("rsync InstallApp: {NETWORK_APP}@c1[net1+Network]")]);

    // The connection is not there: the record of rsync is read, and the connection made.
    drop(process);
    let _process = world.process(None);
    world.approved().await;
    assert_eq!(world.done(GROUP, Action::Instantiate).await, (202, String::new()));
    let installed = world.calls();
    assert_eq!(installed, ["rsync InstallApp: a@bad1[r1-a+Deployment] b@bad1[r1-b+Deployment]"]);

    // Nobody is registered any more: the built-in one is meant again, which this program does not have here.
    let controllers = world.documents::<Controller>();
    controllers.delete(&object_name("controllers/rsync"), &DeleteParams::default()).await.expect("deleted");
    let clusters = world.documents::<Cluster>();
    assert!(clusters.get(&object_name(cluster)).await.expect("there").status.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn register_placement_and_action_controllers() {
    let Some(etcd) = Etcd::start().await else { return };
    let world = World::over(etcd.store()).await.by_registration();
    let _process = world.process(None);
    let calls = &world.calls;
    let (rsync, _a) = serve("rsync", Provides::Synchroniser, calls, &etcd).await;
    let (first, _b) = serve("not-bad1", Provides::Placement, calls, &etcd).await;
    let (second, _c) = serve("not-c1", Provides::Placement, calls, &etcd).await;
    let (third, _d) = serve("adder", Provides::Action, calls, &etcd).await;
    let (fourth, _e) = serve("later", Provides::Action, calls, &etcd).await;
    registered(&world, "rsync", None, (rsync, 0)).await;
    // Not in the order in which they are called.
    registered(&world, "later", Some(ControllerType::Action), (fourth, 9)).await;
    registered(&world, "not-c1", Some(ControllerType::Placement), (second, 5)).await;
    registered(&world, "adder", Some(ControllerType::Action), (third, 3)).await;
    registered(&world, "not-bad1", Some(ControllerType::Placement), (first, 1)).await;
    for name in ["later", "not-c1", "adder", "not-bad1"] {
        world.intend(name).await;
    }
    world.approved().await;
    assert_eq!(world.done(GROUP, Action::Instantiate).await, (202, String::new()));
    let told = world.calls();
    let (a, b) = ("[r1-a+Deployment", "[r1-b+Deployment");
    let expected = [
        // The initial AppContext, by the placement intents: every cluster that will do.
        format!("not-bad1 FilterClusters: a@bad1{a}] a@c1{a}] a@c2{a}] b@bad1{b}] b@c1{b}] b@c2{b}]"),
        format!("not-c1 FilterClusters: a@c1{a}] a@c2{a}] b@c1{b}] b@c2{b}]"),
        format!("adder UpdateAppContext adder-intent: a@c2{a}] b@c2{b}]"),
        format!("later UpdateAppContext later-intent: a@c2{a},adder+ConfigMap] b@c2{b},adder+ConfigMap]"),
        format!(
            "rsync InstallApp: a@c2{a},adder+ConfigMap,later+ConfigMap] b@c2{b},adder+ConfigMap,later+ConfigMap]"
        ),
    ];
    assert_eq!(told[..5], expected);
    let mut events: Vec<&str> = told[5..].iter().filter_map(|call| call.split(':').next()).collect();
    events.sort_unstable();
    assert_eq!(events, ["adder PostEvent Instantiate", "later PostEvent Instantiate"]);
}
