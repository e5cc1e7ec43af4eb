//! `drystone kubeconfig CLUSTER`.

use clap::Args;
use drystone_api::Cluster;
use kube::Api;

use super::{Failure, client, split_key};
use crate::cli::Access;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct KubeconfigArgs {
    /// Cluster: NAME or NAMESPACE/NAME
    cluster: String,
    /// Namespace of the cluster
    #[arg(short, long)]
    namespace: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// Prints the kubeconfig.
pub(crate) async fn run(args: KubeconfigArgs) -> Result<(), Failure> {
    let client = client(&args.access).await?;
    let (namespace, name) = split_key(&args.cluster, args.namespace.as_deref());
    // A name alone is looked for everywhere, so that `drystone kubeconfig mlops` just works.
    let cluster = match Api::<Cluster>::namespaced(client.clone(), &namespace).get_opt(&name).await? {
        Some(cluster) => cluster,
        None if args.namespace.is_none() && !args.cluster.contains('/') => only(&client, &name).await?,
        None => return Err(format!("there is no cluster {namespace}/{name}").into()),
    };
    let namespace = cluster.metadata.namespace.clone().unwrap_or_default();
    let secret = cluster.status.map(|status| status.kubeconfig_secret).unwrap_or_default();
    if secret.is_empty() {
        return Err(format!(
            "cluster {namespace}/{name} has no address yet; watch it with `drystone ops watch`"
        )
        .into());
    }
    print!("{}", drystone_cluster::access::kubeconfig(&client, &namespace, &secret).await?);
    Ok(())
}

async fn only(client: &kube::Client, name: &str) -> Result<Cluster, Failure> {
    let all = Api::<Cluster>::all(client.clone()).list(&kube::api::ListParams::default()).await?;
    let mut found = all.items.into_iter().filter(|cluster| cluster.metadata.name.as_deref() == Some(name));
    match (found.next(), found.next()) {
        (Some(cluster), None) => Ok(cluster),
        (None, _) => Err(format!("there is no cluster {name}").into()),
        (Some(_), Some(_)) => Err(format!("there are several clusters {name}; say NAMESPACE/{name}").into()),
    }
}
