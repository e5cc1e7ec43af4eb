//! `drystone site register`: tells the global controller of a site's local one.

use std::path::PathBuf;

use clap::Args;
use drystone_api::{ConflictPolicy, SYSTEM_NAMESPACE, Site, SiteController, SiteSpec};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::command::Failure;

const MANAGER: &str = "drystone-register";

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct RegisterArgs {
    /// Name of the site, as given to `drystone site init`
    name: String,
    /// kubeconfig of the local controller
    #[arg(long, value_name = "FILE")]
    site_kubeconfig: PathBuf,
    /// URL by which the global controller reaches the local one, if it is another than in the kubeconfig
    #[arg(long, value_name = "URL")]
    server: Option<url::Url>,
    /// Fields that are edited at the site stay as they are there
    #[arg(long)]
    site_wins: bool,
    /// Take the site over from another global controller
    #[arg(long)]
    take_over: bool,
}

/// Creates the Site and its Secret. What the site has already becomes what is declared for it.
pub(super) async fn run(global: &Client, args: RegisterArgs) -> Result<(), Failure> {
    let kubeconfig = kubeconfig(&args)?;
    let there = local_site(&kubeconfig, &args.name).await?;
    let secret_name = format!("{}-controller", args.name);
    let secret = Secret {
        metadata: ObjectMeta { name: Some(secret_name.clone()), ..ObjectMeta::default() },
        data: Some([("value".to_owned(), ByteString(serde_json::to_vec(&kubeconfig)?))].into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(global.clone(), SYSTEM_NAMESPACE);
    secrets.patch(&secret_name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret)).await?;
    let controller = SiteController {
        kubeconfig_secret_name: secret_name,
        conflict_policy: if args.site_wins { ConflictPolicy::SiteWins } else { ConflictPolicy::GlobalWins },
        take_over: args.take_over,
        poll_interval: None,
    };
    let sites: Api<Site> = Api::namespaced(global.clone(), SYSTEM_NAMESPACE);
    let known = sites.get_opt(&args.name).await?;
    let action = if known.is_some() {
        let patch = json!({"spec": {"controller": controller}});
        sites.patch(&args.name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        "registered again"
    } else {
        let spec = SiteSpec { controller: Some(controller), ..there };
        sites.create(&PostParams::default(), &Site::new(&args.name, spec)).await?;
        "registered"
    };
    println!("site {} {action}; see `drystone site status {}`", args.name, args.name);
    Ok(())
}

/// The kubeconfig, with the URL by which the site is reached.
fn kubeconfig(args: &RegisterArgs) -> Result<Kubeconfig, Failure> {
    let path = &args.site_kubeconfig;
    let mut config =
        Kubeconfig::read_from(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    let Some(server) = &args.server else { return Ok(config) };
    for cluster in config.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.server = Some(server.as_str().trim_end_matches('/').to_owned());
    }
    Ok(config)
}

/// What the site is, as its local controller says.
async fn local_site(kubeconfig: &Kubeconfig, name: &str) -> Result<SiteSpec, Failure> {
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig.clone(), &KubeConfigOptions::default()).await?;
    let server = config.cluster_url.clone();
    let sites: Api<Site> = Api::namespaced(Client::try_from(config)?, SYSTEM_NAMESPACE);
    let asked = tokio::time::timeout(std::time::Duration::from_secs(15), sites.get_opt(name)).await;
    let found = asked
        .map_err(|_| format!("the local controller at {server} does not answer"))?
        .map_err(|error| format!("asking the local controller at {server}: {error}"))?;
    let site = found.ok_or_else(|| {
        format!("the local controller at {server} has no site {name}; `drystone site init {name}` makes one")
    })?;
    Ok(site.spec)
}
