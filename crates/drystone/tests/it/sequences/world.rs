//! A Drystone whose AppContexts are in a real etcd, with simulated clusters: what the sequences are carried out on, and looked at.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use drystone_appcontext::{AppContexts, ContextId};
use drystone_simulated_clusters::{Options, Simulation};
use drystone_store::{
    EventKind, KeyRange, RangeRequest, Store, WatchRequest,
    etcd::{EtcdOptions, EtcdStore},
};
use futures::StreamExt as _;
use reqwest::{
    Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::{Value, json};

use crate::{
    etcd::{Etcd, User},
    process::Up,
};

/// How long anything may take on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(300);

/// Asks again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Something that was written to etcd, or deleted.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: String,
    /// None if it was deleted.
    pub(crate) value: Option<String>,
}

/// Everything. What is above in it ends first.
pub(crate) struct World {
    up: Option<Up>,
    pub(crate) user: User,
    pub(crate) simulation: Simulation,
    /// The store of AppContexts, as foreign controllers reach it.
    pub(crate) contexts: AppContexts,
    store: Arc<dyn Store>,
    changes: Arc<Mutex<Vec<Change>>>,
    etcd: Etcd,
    pub(crate) directory: tempfile::TempDir,
}

fn start(directory: &Path, etcd: &str) -> Up {
    Up::start(directory, &["--appcontext-etcd", etcd])
}

impl World {
    /// `None` where etcd is not installed; says so.
    pub(crate) async fn start(clusters: usize) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let etcd = Etcd::start(directory.path())?;
        let options = EtcdOptions { keep_history: None, ..EtcdOptions::new([etcd.url.clone()]) };
        let store = EtcdStore::new(&options).unwrap();
        until("an answer of etcd", async || store.check().await.ok()).await;
        let store: Arc<dyn Store> = store;
        let changes = watch(store.as_ref()).await;
        let up = start(directory.path(), &etcd.url);
        let simulation =
            Simulation::start(clusters, &Options { log: true, ..Options::default() }).await.unwrap();
        Some(Self {
            user: User::of(&up),
            up: Some(up),
            simulation,
            contexts: AppContexts::new(store.clone()),
            store,
            changes,
            etcd,
            directory,
        })
    }

    /// `127.0.0.1:2379`.
    pub(crate) fn etcd(&self) -> &str {
        self.etcd.url.trim_start_matches("http://")
    }

    /// Drystone ends, and begins again with what it had.
    pub(crate) fn restart(&mut self) {
        self.up.take().unwrap().stop();
        let up = start(self.directory.path(), &self.etcd.url);
        self.user = User::of(&up);
        self.up = Some(up);
    }

    pub(crate) fn stop(mut self) {
        self.up.take().unwrap().stop();
    }

    fn log(&self) -> String {
        let log = self.up.as_ref().unwrap().log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Asks EMCO's REST interface: code and body.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, String) {
        let request = self.user.request(method, &format!("/v2/{path}")).header(ACCEPT, "application/json");
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.expect(path);
        (answer.status().as_u16(), answer.text().await.expect(path))
    }

    /// Asks for what must be answered with this code.
    async fn must(&self, method: Method, path: &str, body: Option<&Value>, code: u16) -> String {
        let (answered, text) = self.ask(method.clone(), path, body).await;
        assert_eq!(answered, code, "{method} {path}: {text}\n{}", self.log());
        text
    }

    /// Makes a document.
    pub(crate) async fn create(&self, collection: &str, name: &str, spec: Value) -> Value {
        let document = json!({"metadata": {"name": name}, "spec": spec});
        let text = self.must(Method::POST, collection, Some(&document), 201).await;
        serde_json::from_str(&text).expect(collection)
    }

    /// Makes a document that has a file.
    pub(crate) async fn upload(&self, collection: &str, name: &str, spec: Value, file: &[u8]) {
        let document = json!({"metadata": {"name": name}, "spec": spec});
        let mut body = format!(
            "--XX\r\nContent-Disposition: form-data; name=metadata\r\n\r\n{document}\r\n\
             --XX\r\nContent-Disposition: form-data; name=file; filename=filename\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(file);
        body.extend_from_slice(b"\r\n--XX--\r\n");
        let request = self.user.request(Method::POST, &format!("/v2/{collection}"));
        let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=XX").body(body);
        let answer = request.send().await.expect(collection);
        let code = answer.status().as_u16();
        assert_eq!(code, 201, "{collection}/{name}: {}", answer.text().await.unwrap_or_default());
    }

    /// Has something done, which is answered with this code.
    pub(crate) async fn act(&self, path: &str, code: u16) {
        self.must(Method::POST, path, None, code).await;
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let text = self.must(Method::GET, path, None, 200).await;
        serde_json::from_str(&text).expect(path)
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.must(Method::DELETE, path, None, 204).await;
    }

    /// Registers a controller, as the sequences begin: its record is answered, kept, and Drystone connects to it.
    pub(crate) async fn register(&self, name: &str, spec: Value) {
        let made = self.create("controllers", name, spec.clone()).await;
        for (member, value) in spec.as_object().unwrap() {
            assert_eq!(made["spec"][member], *value, "{made}");
        }
        let kept = self.get(&format!("controllers/{name}")).await;
        assert_eq!(kept, made, "what is kept is what was answered");
        self.connected(name).await;
    }

    /// Waits until Drystone is connected to a controller.
    pub(crate) async fn connected(&self, name: &str) {
        let what = format!("a connection to {name}");
        until(&what, async || (self.connection(name).await["connection"] == "Connected").then_some(())).await;
    }

    /// What is known of the connection to a controller.
    pub(crate) async fn connection(&self, name: &str) -> Value {
        let path = "/apis/emco.drystone.dev/v1alpha1/namespaces/drystone-system/controllers";
        let list = self.user.send(Method::GET, path, None).await;
        let path = format!("controllers/{name}");
        let mut items = list["items"].as_array().expect("items").iter();
        items
            .find(|item| item["spec"]["path"] == path.as_str())
            .map_or(Value::Null, |item| item["status"].clone())
    }

    /// Onboards simulated clusters by their kubeconfigs, and waits until they answer.
    pub(crate) async fn onboard(&self, clusters: &[(&str, &str)]) {
        for (index, (provider, name)) in clusters.iter().enumerate() {
            if clusters[..index].iter().all(|(other, _)| other != provider) {
                self.create("cluster-providers", provider, Value::Null).await;
            }
            let kubeconfig = format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: k, cluster: {{server: '{}'}}}}]\n\
                 users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n",
                self.simulation.url(index)
            );
            let collection = format!("cluster-providers/{provider}/clusters");
            self.upload(&collection, name, Value::Null, kubeconfig.as_bytes()).await;
        }
        let path = "/apis/emco.drystone.dev/v1alpha1/namespaces/drystone-system/clusters";
        until("clusters that answer", async || {
            let list = self.user.send(Method::GET, path, None).await;
            let items = list["items"].as_array()?;
            let answer = items.iter().filter(|item| item["status"]["connectivity"] == "Available").count();
            (answer == clusters.len()).then_some(())
        })
        .await;
    }

    /// How far something is, when it is in this state.
    pub(crate) async fn status(&self, path: &str, query: &str, state: &str) -> Value {
        self.settled(path, query, |status| status["deployedStatus"] == state).await
    }

    /// How far something is, when it is on its clusters and ready.
    pub(crate) async fn ready(&self, path: &str, query: &str) -> Value {
        let is_ready =
            |status: &Value| status["readyStatus"] == "Ready" && status["deployedStatus"] == "Instantiated";
        self.settled(path, query, is_ready).await
    }

    async fn settled(&self, path: &str, query: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let status = self.get(&format!("{path}/status?{query}")).await;
            if is_so(&status) {
                return status;
            }
            let failed = status["deployedStatus"].as_str().is_some_and(|state| state.ends_with("Failed"));
            assert!(!failed && begun.elapsed() < PATIENCE, "{path}: {status}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Keys in etcd.
    pub(crate) async fn keys(&self, prefix: &str) -> Vec<String> {
        let request =
            RangeRequest { keys_only: true, ..RangeRequest::new(KeyRange::prefix(prefix.to_owned())) };
        let found = self.store.range(request).await.unwrap();
        found.kvs.iter().map(|pair| String::from_utf8_lossy(&pair.key).into_owned()).collect()
    }

    /// Numbers of the AppContexts of which there is anything in etcd.
    pub(crate) async fn context_numbers(&self) -> BTreeSet<String> {
        let keys = self.keys("/context/").await;
        keys.iter().filter_map(|key| key.split('/').nth(2)).map(str::to_owned).collect()
    }

    /// The first change of etcd that is meant, when it has been seen.
    pub(crate) async fn change(&self, what: &str, is_meant: impl Fn(&Change) -> bool) -> Change {
        until(what, async || self.changes.lock().unwrap().iter().find(|change| is_meant(change)).cloned())
            .await
    }

    /// Waits until etcd has no AppContexts.
    pub(crate) async fn nothing_is_left(&self) {
        for prefix in ["/context/", "/activecontext/"] {
            let what = format!("the end of {prefix}");
            until(&what, async || self.keys(prefix).await.is_empty().then_some(())).await;
        }
    }
}

/// The context that a status query tells of last.
pub(crate) fn context_of(status: &Value) -> ContextId {
    let actions = status["states"]["actions"].as_array().expect("actions");
    let instance = actions.last().and_then(|action| action["instance"].as_str()).expect("an instance");
    instance.parse().expect("a context")
}

/// Follows everything that happens to AppContexts in etcd, from now on.
async fn watch(store: &dyn Store) -> Arc<Mutex<Vec<Change>>> {
    let start_revision = Some(store.revision().await.unwrap() + 1);
    // With `/activecontext/` and what is between them.
    let range = KeyRange { start: "/activecontext/".into(), end: Some("/context0".into()) };
    let mut stream = store.watch(WatchRequest { range, start_revision }).await.unwrap();
    let changes = Arc::<Mutex<Vec<Change>>>::default();
    let seen = changes.clone();
    tokio::spawn(async move {
        while let Some(Ok(batch)) = stream.next().await {
            let told = batch.events.iter().map(|event| Change {
                revision: event.kv.mod_revision,
                key: String::from_utf8_lossy(&event.kv.key).into_owned(),
                value: (event.kind == EventKind::Put)
                    .then(|| String::from_utf8_lossy(&event.kv.value).into_owned()),
            });
            seen.lock().unwrap().extend(told);
        }
    });
    changes
}
