//! `drystone site`: local controllers of sites, the sites themselves, and the way into them.

mod hosts;
mod init;
mod register;
mod rotate;
mod show;

use clap::{Args, Subcommand};
use drystone_api::{SYSTEM_NAMESPACE, Site};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
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
    /// Make this machine the local controller of a site
    Init(Box<init::InitArgs>),
    /// Register a site's local controller at the global one
    Register(register::RegisterArgs),
    /// List the sites
    List,
    /// Show how a site is
    Status {
        /// Name of the site
        name: String,
    },
    /// Put a host on a site's list
    AddHost(hosts::AddHostArgs),
    /// Take a host off a site's list: it is drained, given back and forgotten
    RemoveHost {
        /// Name of the site
        site: String,
        /// Name of the host
        host: String,
    },
    /// Say what hosts of a site's list are for
    SetRole {
        /// Name of the site
        site: String,
        /// HOST=control-plane, HOST=worker or HOST=spare
        #[arg(required = true, value_parser = hosts::role)]
        roles: Vec<(String, drystone_api::SiteHostRole)>,
    },
    /// Give every management controller of a site a new random password
    RotateBmcPasswords {
        /// Name of the site
        site: String,
    },
    /// Print the URL of a site's gateway proxy, with its password: for `curl --proxy "$(drystone site proxy NAME)"`
    Proxy {
        /// Name of the site
        name: String,
    },
}

impl SiteArgs {
    /// Whether this runs until it is told to stop.
    pub(crate) fn is_long_running(&self) -> bool {
        matches!(self.command, SiteCommand::Init(_))
    }
}

/// Does it.
pub(crate) async fn run(args: SiteArgs) -> Result<(), Failure> {
    let access = args.access;
    match args.command {
        SiteCommand::Init(args) => return init::run(*args).await,
        SiteCommand::Register(args) => return register::run(&client(&access).await?, args).await,
        _ => {}
    }
    let client = client(&access).await?;
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    match args.command {
        SiteCommand::Init(_) | SiteCommand::Register(_) => Ok(()),
        SiteCommand::List => show::list(&sites).await,
        SiteCommand::Status { name } => show::status(&site(&sites, &name).await?),
        SiteCommand::AddHost(args) => hosts::add(&client, &sites, args).await,
        SiteCommand::RemoveHost { site, host } => hosts::remove(&sites, &site, &host).await,
        SiteCommand::SetRole { site, roles } => hosts::set_roles(&sites, &site, &roles).await,
        SiteCommand::RotateBmcPasswords { site } => rotate::run(&client, &site).await,
        SiteCommand::Proxy { name } => {
            println!("{}", proxy(&client, &site(&sites, &name).await?).await?);
            Ok(())
        }
    }
}

async fn site(sites: &Api<Site>, name: &str) -> Result<Site, Failure> {
    Ok(sites.get_opt(name).await?.ok_or_else(|| format!("there is no site {name}"))?)
}

/// The URL of the gateway proxy of the site of that name, with user and password.
pub(crate) async fn proxy_of(client: &Client, name: &str) -> Result<Url, Failure> {
    proxy(client, &site(&Api::namespaced(client.clone(), SYSTEM_NAMESPACE), name).await?).await
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
