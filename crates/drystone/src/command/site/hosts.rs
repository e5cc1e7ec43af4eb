//! The list of a site's hosts.

use clap::Args;
use drystone_api::{SYSTEM_NAMESPACE, Site, SiteBmc, SiteHostRole};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};

use super::site;
use crate::command::Failure;

const MANAGER: &str = "drystone-site-command";

/// How often a change is made again on top of somebody else's.
const ATTEMPTS: u32 = 8;

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct AddHostArgs {
    /// Name of the site
    site: String,
    /// Name of the host
    host: String,
    /// Address of its management controller, as in a BareMetalHost: `redfish-virtualmedia+https://10.0.0.7/redfish/v1/Systems/1`
    #[arg(long)]
    address: String,
    /// Secret with the keys `username` and `password`; without `--user`, it is there already
    #[arg(long, value_name = "SECRET")]
    credentials: Option<String>,
    /// Makes the Secret, with this user
    #[arg(long)]
    user: Option<String>,
    /// The user's password
    #[arg(long, env = "DRYSTONE_BMC_PASSWORD", hide_env_values = true, requires = "user")]
    password: Option<String>,
    /// What the host is for
    #[arg(long, default_value = "worker", value_parser = role_name)]
    role: SiteHostRole,
}

/// `HOST=ROLE`.
pub(super) fn role(text: &str) -> Result<(String, SiteHostRole), String> {
    let (host, role) = text.split_once('=').ok_or("expected HOST=ROLE, such as server-01=control-plane")?;
    Ok((host.to_owned(), role_name(role)?))
}

fn role_name(text: &str) -> Result<SiteHostRole, String> {
    let all = [SiteHostRole::ControlPlane, SiteHostRole::Worker, SiteHostRole::Spare];
    let found = all.into_iter().find(|role| role.label() == text);
    found.ok_or_else(|| format!("{text:?} is no role; there are control-plane, worker and spare"))
}

/// Puts a host on the list.
pub(super) async fn add(client: &Client, sites: &Api<Site>, args: AddHostArgs) -> Result<(), Failure> {
    let credentials = args.credentials.unwrap_or_else(|| format!("{}-credentials", args.host));
    if let Some(user) = &args.user {
        let password = args.password.ok_or("give the password in DRYSTONE_BMC_PASSWORD")?;
        write_secret(client, &credentials, user, &password).await?;
    }
    let bmc = SiteBmc {
        name: args.host,
        address: args.address,
        credentials_name: credentials,
        role: args.role,
        ..SiteBmc::default()
    };
    change(sites, &args.site, |list| {
        if list.iter().any(|other| other.name == bmc.name) {
            return Err(format!("{} is on the list already", bmc.name).into());
        }
        list.push(bmc.clone());
        Ok(())
    })
    .await
}

async fn write_secret(client: &Client, name: &str, user: &str, password: &str) -> Result<(), Failure> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some([("username".to_owned(), bytes(user)), ("password".to_owned(), bytes(password))].into()),
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    secrets.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret)).await?;
    Ok(())
}

/// Takes a host off the list.
pub(super) async fn remove(sites: &Api<Site>, name: &str, host: &str) -> Result<(), Failure> {
    change(sites, name, |list| {
        let before = list.len();
        list.retain(|bmc| bmc.name != host);
        if list.len() == before { Err(format!("site {name} lists no host {host}").into()) } else { Ok(()) }
    })
    .await
}

/// Says what hosts are for.
pub(super) async fn set_roles(
    sites: &Api<Site>,
    name: &str,
    roles: &[(String, SiteHostRole)],
) -> Result<(), Failure> {
    change(sites, name, |list| {
        for (host, role) in roles {
            let bmc = list.iter_mut().find(|bmc| bmc.name == *host);
            bmc.ok_or_else(|| format!("site {name} lists no host {host}"))?.role = *role;
        }
        Ok(())
    })
    .await
}

/// Changes the list as it is now, never on top of somebody else's change.
async fn change(
    sites: &Api<Site>,
    name: &str,
    make: impl Fn(&mut Vec<SiteBmc>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for _ in 0..ATTEMPTS {
        let mut site = site(sites, name).await?;
        make(&mut site.spec.bmcs)?;
        match sites.replace(&site.name_any(), &PostParams::default(), &site).await {
            Ok(changed) => {
                println!("site {name} lists {} hosts", changed.spec.bmcs.len());
                return Ok(());
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(format!("site {name} keeps being changed by others; try again").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_written_as_their_labels() {
        assert_eq!(role("a=control-plane"), Ok(("a".to_owned(), SiteHostRole::ControlPlane)));
        assert!(role("a").is_err());
        assert!(role("a=master").is_err_and(|why| why.contains("control-plane, worker and spare")));
    }
}
