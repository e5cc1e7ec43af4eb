//! Reaching the hosts of a cluster over SSH.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use drystone_api::{BareMetalHost, Cluster, HostAccess, SITE_LABEL, SYSTEM_NAMESPACE};
use drystone_engine::action::{StepContext, StepError};
use drystone_identity::Secret as Hidden;
use drystone_ssh::{
    Credentials, HostKeys, PinnedKey, PrivateKey, Privilege, Session, SshError, Target, Timeouts,
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{HOST_SSH_PORT, is_listed, keys};
use crate::{gateway::Gateway, model::Names, steps::addresses::LeaseOutput};

/// A host that was reached.
#[derive(Debug)]
pub struct Reached {
    /// The connection.
    pub session: Session,
    /// How commands run as root.
    pub privilege: Privilege,
    /// Address of the host.
    pub address: IpAddr,
    /// Secrets that must not be shown.
    pub secrets: Vec<Hidden>,
}

/// Where a host is and how to get in, before it is tried.
struct Way {
    target: Target,
    privilege: Privilege,
    secrets: Vec<Hidden>,
    /// Whether the key that it shows is to be kept.
    learns: bool,
}

/// Connects to a host. What may pass (it boots, the network is being set up) is tried again for as long as `patience` lasts.
///
/// # Errors
/// Permanent, if the host is another one or does not let us in.
pub async fn connect(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    host: &str,
    patience: Duration,
) -> Result<Reached, StepError> {
    let way = way(context, cluster, names, host).await?;
    let end = tokio::time::Instant::now() + patience;
    let mut pause = Duration::from_millis(250);
    let session = loop {
        match Session::connect(&way.target, Timeouts::default()).await {
            Ok(session) => break session,
            Err(error) if error.is_permanent() => return Err(failure(&error)),
            Err(error) if tokio::time::Instant::now() + pause >= end => return Err(failure(&error)),
            Err(error) => context.progress(5, error.to_string()),
        }
        context.wait_for(tokio::time::sleep(pause)).await?;
        pause = (pause * 2).min(Duration::from_secs(5));
    };
    if way.learns {
        learn(context, names, host, &session.host_key().public_key).await?;
        context.log(format!("host {host} is known by {} from now on", session.host_key()));
    }
    let address = way.target.address.ip();
    Ok(Reached { session, privilege: way.privilege, address, secrets: way.secrets })
}

/// An error of SSH as one of the step.
pub fn failure(error: &SshError) -> StepError {
    if error.is_permanent() { StepError::permanent(error) } else { StepError::transient(error) }
}

async fn way(context: &StepContext, cluster: &Cluster, names: &Names, host: &str) -> Result<Way, StepError> {
    if is_listed(&cluster.spec) {
        listed(context, cluster, names, host).await
    } else {
        composed(context, cluster, names, host).await
    }
}

async fn gateway(context: &StepContext, site: Option<&str>) -> Result<Option<Gateway>, StepError> {
    let Some(site) = site else { return Ok(None) };
    let found = Gateway::of_site(context.client(), site).await;
    found.map_err(|error| StepError::from_kube("reading the site's gateway", &error))
}

/// A host that the specification lists.
async fn listed(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    name: &str,
) -> Result<Way, StepError> {
    let spec = &cluster.spec;
    let listed = spec.hosts.iter().find(|host| host.name == name);
    let status = cluster.status.clone().unwrap_or_default();
    let was = status.members.iter().find(|member| member.host == name);
    let access = spec
        .access
        .as_ref()
        .ok_or_else(|| StepError::permanent("spec.access is missing; it says how hosts are reached"))?;
    // A host that was taken off the list is still to be reached once.
    let address =
        listed.map(|host| host.address).or_else(|| was.and_then(|member| member.address.parse().ok()));
    let address =
        address.ok_or_else(|| StepError::permanent(format!("nothing says where host {name} is")))?;
    let port = listed.and_then(|host| host.port).unwrap_or(access.port);
    let mut keys: Vec<&String> = listed.iter().flat_map(|host| &host.host_keys).collect();
    keys.extend(status.host_keys.get(name));
    let pinned = keys.iter().map(|key| PinnedKey::parse(key)).collect::<Result<Vec<_>, _>>();
    let pinned = pinned.map_err(StepError::permanent)?;
    let learns = pinned.is_empty() && access.trust_on_first_use;
    let (credentials, privilege, secrets) = credentials(context, access, names).await?;
    let gateway = gateway(context, spec.site.as_deref()).await?;
    let target = Target {
        address: SocketAddr::new(address, port),
        proxy: gateway.map(|gateway| gateway.for_ssh()).transpose().map_err(StepError::permanent)?,
        user: access.user.clone(),
        credentials,
        host_keys: if learns { HostKeys::LearnFirst } else { HostKeys::Pinned(pinned) },
    };
    Ok(Way { target, privilege, secrets, learns })
}

async fn credentials(
    context: &StepContext,
    access: &HostAccess,
    names: &Names,
) -> Result<(Credentials, Privilege, Vec<Hidden>), StepError> {
    let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &names.namespace);
    let name = &access.credentials_name;
    let secret = secrets
        .get_opt(name)
        .await
        .map_err(|error| StepError::from_kube("reading the hosts' credentials", &error))?;
    let secret = secret.ok_or_else(|| {
        StepError::transient(format!(
            "Secret {}/{name} (spec.access.credentialsName) does not exist",
            names.namespace
        ))
    })?;
    let data = secret.data.unwrap_or_default();
    let text = |key: &str| {
        let bytes = data.get(key).and_then(|bytes| std::str::from_utf8(&bytes.0).ok())?;
        Some(Hidden::new(bytes.trim_end_matches(['\r', '\n'])))
    };
    let (key, password) = (text(keys::LOGIN_KEY), text("password"));
    let sudo = text("sudo-password").or_else(|| password.clone());
    let shown: Vec<Hidden> =
        [sudo.clone(), password.clone(), text("passphrase")].into_iter().flatten().collect();
    let credentials = match (key, password) {
        (Some(key), _) => {
            let key = PrivateKey::from_text(&key, text("passphrase").as_ref());
            Credentials::Key(key.map_err(|error| StepError::permanent(format!("Secret {name}: {error}")))?)
        }
        (None, Some(password)) => Credentials::Password(password),
        (None, None) => {
            let why = format!("Secret {name} has neither {} nor password", keys::LOGIN_KEY);
            return Err(StepError::permanent(why));
        }
    };
    Ok((credentials, Privilege::Root(sudo), shown))
}

/// A host that was composed, which has an SSH server of ours.
async fn composed(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    name: &str,
) -> Result<Way, StepError> {
    let client = context.client().clone();
    let keys = keys::ensure(&client, cluster, names, name).await.map_err(StepError::transient)?;
    let known = PinnedKey::parse(&keys.host.public_key()).map_err(StepError::permanent)?;
    let address = composed_address(context, cluster, name)?;
    let hosts: Api<BareMetalHost> = Api::namespaced(client, SYSTEM_NAMESPACE);
    let found = hosts.get_opt(name).await;
    let found = found.map_err(|error| StepError::from_kube("reading the BareMetalHost", &error))?;
    let site = found.and_then(|host| host.labels().get(SITE_LABEL).cloned());
    let gateway = gateway(context, site.as_deref()).await?;
    let target = Target {
        address: SocketAddr::new(address, HOST_SSH_PORT),
        proxy: gateway.map(|gateway| gateway.for_ssh()).transpose().map_err(StepError::permanent)?,
        user: "root".to_owned(),
        credentials: Credentials::Key(keys.login),
        host_keys: HostKeys::Pinned(vec![known]),
    };
    Ok(Way { target, privilege: Privilege::User, secrets: Vec::new(), learns: false })
}

fn composed_address(context: &StepContext, cluster: &Cluster, name: &str) -> Result<IpAddr, StepError> {
    let leased = context.input::<LeaseOutput>("addresses").ok();
    let leased = leased.and_then(|leased| leased.hosts.get(name).map(ipnet::IpNet::addr));
    let members = cluster.status.iter().flat_map(|status| &status.members);
    let mut known =
        members.filter(|member| member.host == name).filter_map(|member| member.address.parse().ok());
    leased
        .or_else(|| known.next())
        .ok_or_else(|| StepError::permanent(format!("no address was leased for {name}")))
}

async fn learn(context: &StepContext, names: &Names, host: &str, key: &str) -> Result<(), StepError> {
    let clusters: Api<Cluster> = Api::namespaced(context.client().clone(), &names.namespace);
    let patch = json!({"status": {"hostKeys": {host: key}}});
    let patched = clusters.patch_status(&names.cluster, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| StepError::from_kube("writing the host's key down", &error))
}
