//! What the command line adds to `kubectl`.

pub(crate) mod app;
mod app_plan;
pub(crate) mod compose;
pub(crate) mod destroy;
pub(crate) mod explain;
pub(crate) mod image;
pub(crate) mod join_token;
pub(crate) mod kubeconfig;
pub(crate) mod kubernetes;
pub(crate) mod ops;
pub(crate) mod secrets;
pub(crate) mod site;
pub(crate) mod software;
pub(crate) mod vnf;

use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::cli::Access;

/// Why a command failed: shown to the user with its causes.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A client of Drystone's API.
pub(crate) async fn client(access: &Access) -> Result<Client, Failure> {
    Ok(Client::try_from(config(access).await?)?)
}

/// How Drystone's API is reached.
pub(crate) async fn config(access: &Access) -> Result<kube::Config, Failure> {
    let path = access.kubeconfig.clone().ok_or(
        "no kubeconfig: give --kubeconfig FILE or set KUBECONFIG; `drystone up` writes one into its data directory",
    )?;
    let file =
        Kubeconfig::read_from(&path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    Ok(kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)
}

/// `namespace/name` or `name` (in `default`).
pub(crate) fn split_key(text: &str, namespace: Option<&str>) -> (String, String) {
    match text.split_once('/') {
        Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
        None => (namespace.unwrap_or("default").to_owned(), text.to_owned()),
    }
}
