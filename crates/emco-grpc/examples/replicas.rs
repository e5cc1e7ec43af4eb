//! An action controller in Rust: sets the number of replicas of Deployments, by cluster.
//!
//! ```console
//! $ replicas ETCD_URL INTENTS [ADDRESS]
//! ```
//!
//! INTENTS is a JSON file: `{"INTENT": {"app": "web", "replicas": {"edge+c1": 3, "*": 1}}}`. The port is printed.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContext, AppContextError, AppContexts, ClusterName, ContextId,
    contract::{ActionController, ControllerError, Event},
};
use drystone_emco_grpc::{Admission, Admitted, Services};
use drystone_store::etcd::{EtcdOptions, EtcdStore};
use serde_json::Value;

/// What an intent says.
#[derive(serde::Deserialize)]
struct Intent {
    app: String,
    /// By cluster; `*` is any other.
    replicas: BTreeMap<String, u32>,
}

struct Replicas {
    contexts: AppContexts,
    intents: PathBuf,
}

impl Replicas {
    fn intent(&self, name: &str) -> Result<Intent, String> {
        let text =
            std::fs::read(&self.intents).map_err(|error| format!("{}: {error}", self.intents.display()))?;
        let mut all: BTreeMap<String, Intent> =
            serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", self.intents.display()))?;
        all.remove(name).ok_or_else(|| format!("there is no intent {name}"))
    }
}

/// Why a context is left as it is.
enum Problem {
    Context(AppContextError),
    Manifest(String),
}

impl From<AppContextError> for Problem {
    fn from(error: AppContextError) -> Self {
        Self::Context(error)
    }
}

fn apply(context: &mut AppContext, intent: &Intent) -> Result<(), Problem> {
    let Some(app) = context.apps.get_mut(&intent.app) else { return Ok(()) };
    for (cluster, part) in &mut app.clusters {
        let Some(number) = number(intent, cluster) else { continue };
        let deployments = part.resources.iter_mut().filter(|(name, _)| name.kind() == "Deployment");
        for (name, resource) in deployments {
            let manifest = with_replicas(&resource.manifest, number);
            let manifest =
                manifest.map_err(|error| Problem::Manifest(format!("{name} for {cluster}: {error}")))?;
            resource.manifest = manifest.into();
        }
    }
    Ok(())
}

fn number(intent: &Intent, cluster: &ClusterName) -> Option<u32> {
    intent.replicas.get(&cluster.to_string()).or_else(|| intent.replicas.get("*")).copied()
}

/// JSON is YAML too.
fn with_replicas(manifest: &str, number: u32) -> Result<String, String> {
    let mut object: Value = serde_saphyr::from_str(manifest).map_err(|error| error.to_string())?;
    let spec = object.get_mut("spec").and_then(Value::as_object_mut).ok_or("it has no spec")?;
    spec.insert("replicas".into(), number.into());
    serde_json::to_string(&object).map_err(|error| error.to_string())
}

#[async_trait]
impl ActionController for Replicas {
    async fn update_context(
        &self,
        context: ContextId,
        intent: &str,
        _: Option<ContextId>,
    ) -> Result<(), ControllerError> {
        let wanted = self.intent(intent).map_err(ControllerError::Refused)?;
        match self.contexts.edit(context, |found| apply(found, &wanted)).await {
            Ok(()) => {
                println!("intent {intent} is in AppContext {context}");
                Ok(())
            }
            Err(Problem::Context(error @ AppContextError::Store(_))) => {
                Err(ControllerError::Unreachable(error.to_string()))
            }
            Err(Problem::Context(error)) => Err(ControllerError::Refused(error.to_string())),
            Err(Problem::Manifest(error)) => Err(ControllerError::Refused(error)),
        }
    }

    async fn terminate(&self, _: ContextId) -> Result<(), ControllerError> {
        Err(ControllerError::Unimplemented("TerminateAppContext".into()))
    }

    async fn post_event(&self, context: ContextId, event: Event) -> Result<(), ControllerError> {
        println!("{event:?} of AppContext {context}");
        Ok(())
    }
}

/// Whoever reaches the port.
struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admits(&self, _: &http::request::Parts) -> Admitted {
        Admitted::Yes
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(etcd), Some(intents)) = (arguments.next(), arguments.next()) else {
        return Err("usage: replicas ETCD_URL INTENTS [ADDRESS]".into());
    };
    let store = EtcdStore::new(&EtcdOptions { keep_history: None, ..EtcdOptions::new([etcd]) })?;
    let replicas = Replicas { contexts: AppContexts::new(store), intents: intents.into() };
    let router = Services::new(Arc::new(Everybody)).action(Arc::new(replicas)).router();
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:0".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on port {}", listener.local_addr()?.port());
    axum::serve(listener, router).await?;
    Ok(())
}
