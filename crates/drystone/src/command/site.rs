//! `drystone site`: the sites, and the way into them.

use clap::{Args, Subcommand};
use comfy_table::{Table, presets::NOTHING};
use drystone_api::{SYSTEM_NAMESPACE, Site};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use url::Url;

use super::{Failure, client};
use crate::cli::Access;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct SiteArgs {
    #[command(subcommand)]
    command: SiteCommand,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum SiteCommand {
    /// List the sites
    List,
    /// Print the URL of a site's gateway proxy, with its password: for `curl --proxy "$(drystone site proxy NAME)"`
    Proxy {
        /// Name of the site
        name: String,
    },
}

/// Lists, or prints.
pub(crate) async fn run(args: SiteArgs) -> Result<(), Failure> {
    let client = client(&args.access).await?;
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    match args.command {
        SiteCommand::List => {
            let mut table = Table::new();
            table.load_style(NOTHING).set_header(["NAME", "HOSTS", "FABRIC SERVICES", "GATEWAY", "EMULATED"]);
            for site in sites.list(&ListParams::default()).await? {
                table.add_row([
                    site.name_any(),
                    site.spec.bmcs.len().to_string(),
                    site.spec.fabric_services.len().to_string(),
                    site.spec.gateway.map(|gateway| gateway.proxy_url).unwrap_or_default(),
                    site.spec.emulated.to_string(),
                ]);
            }
            println!("{table}");
        }
        SiteCommand::Proxy { name } => {
            let site = sites.get_opt(&name).await?.ok_or_else(|| format!("there is no site {name}"))?;
            println!("{}", proxy(&client, &site).await?);
        }
    }
    Ok(())
}

/// The proxy's URL with user and password.
async fn proxy(client: &Client, site: &Site) -> Result<Url, Failure> {
    let gateway = site.spec.gateway.as_ref().ok_or("the site has no gateway")?;
    let mut url = Url::parse(&gateway.proxy_url)?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let data = secrets.get(&gateway.proxy_credentials_name).await?.data.unwrap_or_default();
    let text = |key: &str| -> Result<String, Failure> {
        let bytes = data.get(key).ok_or_else(|| format!("the proxy's Secret lacks `{key}`"))?;
        Ok(String::from_utf8(bytes.0.clone())?)
    };
    let cannot = |()| "the proxy's URL takes no credentials";
    url.set_username(&text("username")?).map_err(cannot)?;
    url.set_password(Some(&text("password")?)).map_err(cannot)?;
    Ok(url)
}
