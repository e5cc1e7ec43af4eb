//! Emulated sites: an emulator process for each site file, declared as a Site with its Secrets.
//!
//! The emulator outlives a Drystone that is killed, as hardware would; a Drystone that starts finds it again by its state
//! directory. A Drystone that is told to stop stops its emulated sites as well.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use drystone_api::{
    ExternalPool, GLOBAL_LABEL, NodeNetwork, SITE_LABEL, SYSTEM_NAMESPACE, Site, SiteBmc, SiteFabricService,
    SiteGateway, SiteSpec,
};
use drystone_emulator::endpoints::{Endpoints, Service};
use drystone_metal::rotation::ROTATED_ANNOTATION;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{server::Server, vim};
use crate::{command::Failure, personality::emulator::Backend};

const MANAGER: &str = "drystone-up";

/// How long an emulator may take until its services answer.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take to switch everything off.
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// An emulated site that this Drystone looks after.
pub(crate) struct EmulatedSite {
    name: String,
    state: PathBuf,
}

/// Starts, or finds again, the emulator of a site file. Its hosts see the files that are `shown` at the same paths.
pub(crate) async fn start(
    file: &Path,
    data: &Path,
    server: &Server,
    backend: Option<Backend>,
    shown: &[PathBuf],
) -> Result<(EmulatedSite, Endpoints), Failure> {
    let site = drystone_emulator::site::load(file)?;
    let state = data.join("sites").join(&site.name);
    drystone_identity::files::private_directory(&state)?;
    if let Some(endpoints) = running(&state).await {
        tracing::info!(site = site.name, "emulator is running already");
        return Ok((EmulatedSite { name: site.name, state }, endpoints));
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(state.join("emulator.log"))?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("emulator").arg("--site").arg(file).arg("--state").arg(&state);
    command.arg("--controller").arg(server.address.to_string());
    if let Some(plain) = server.plain_address {
        command.arg("--core").arg(format!("http://{plain}"));
    }
    for file in shown {
        command.arg("--show").arg(file);
    }
    if let Some(backend) = backend {
        command.arg("--backend").arg(backend.as_str());
    }
    // A process group of its own: it must not end with the terminal's Ctrl-C, nor with this process.
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let deadline = tokio::time::Instant::now() + START_LIMIT;
    loop {
        if let Some(endpoints) = running(&state).await {
            return Ok((EmulatedSite { name: site.name, state }, endpoints));
        }
        if let Some(status) = child.try_wait()? {
            let text = std::fs::read_to_string(state.join("emulator.log")).unwrap_or_default();
            let last = text.lines().last().unwrap_or_default().to_owned();
            return Err(format!("the emulator of site {} ended with {status}: {last}", site.name).into());
        }
        if tokio::time::Instant::now() > deadline {
            give_up(child).await;
            let (name, limit) = (site.name, START_LIMIT.as_secs());
            return Err(format!("the emulator of site {name} was not ready within {limit} s").into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Ends an emulator that does not come up: it takes down what it has made, if it is able to.
async fn give_up(mut child: std::process::Child) {
    let told = i32::try_from(child.id()).is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok());
    let deadline = tokio::time::Instant::now() + STOP_LIMIT;
    while told && tokio::time::Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::warn!("ending the emulator: {error}");
    }
}

/// The endpoints of a running emulator.
async fn running(state: &Path) -> Option<Endpoints> {
    let endpoints = drystone_emulator::endpoints::read(state).ok()??;
    (is_alive(endpoints.pid) && is_emulator(endpoints.pid)).then_some(endpoints)
}

/// Whether a process is an emulator: after a restart of the machine its number may be that of another one.
fn is_emulator(pid: u32) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    arguments.split(|byte| *byte == 0).nth(1) == Some(b"emulator")
}

/// Whether a process runs. One that has ended and is not yet collected does not.
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // The state follows the name, which is in parentheses and may hold anything.
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

impl EmulatedSite {
    /// Tells the emulator to switch everything off, and waits until it has.
    pub(crate) async fn stop(&self) {
        let Some(endpoints) = running(&self.state).await else { return };
        let Ok(pid) = i32::try_from(endpoints.pid) else { return };
        if let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM) {
            tracing::warn!(site = self.name, "stopping the emulator: {error}");
        }
        let deadline = tokio::time::Instant::now() + STOP_LIMIT;
        // It forgets its endpoints first, and has taken everything down only when it has ended.
        while is_alive(endpoints.pid) {
            if tokio::time::Instant::now() > deadline {
                tracing::warn!(
                    site = self.name,
                    "the emulator did not end within {} s",
                    STOP_LIMIT.as_secs()
                );
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Declares a Site for what the emulator offers, with Secrets for the credentials.
pub(crate) async fn declare(
    client: &Client,
    site: &EmulatedSite,
    endpoints: &Endpoints,
) -> Result<(), Failure> {
    for service in endpoints.bmcs.iter().chain(&endpoints.fabric_services) {
        credentials(client, site, &secret_name(&service.name), &service.user, &service.password).await?;
    }
    let mut spec = SiteSpec { emulated: true, ..SiteSpec::default() };
    spec.bmcs = endpoints.bmcs.iter().map(bmc).collect();
    spec.fabric_services = endpoints
        .fabric_services
        .iter()
        .map(|service| SiteFabricService {
            name: object_name(&service.name),
            address: service.url.clone(),
            credentials_name: secret_name(&service.name),
        })
        .collect();
    if let Some(gateway) = &endpoints.gateway {
        let name = format!("{}-gateway", site.name);
        credentials(client, site, &secret_name(&name), &gateway.user, &gateway.password).await?;
        spec.gateway = Some(SiteGateway {
            proxy_url: gateway.proxy_url.clone(),
            proxy_credentials_name: secret_name(&name),
            controller_address: gateway.controller_address.clone(),
        });
        spec.node_network = Some(NodeNetwork {
            cidr: gateway.node_network.trunc(),
            gateway: gateway.node_network.addr(),
            allocation: gateway.node_allocation,
        });
        spec.external_pools = gateway
            .external_pools
            .iter()
            .map(|pool| ExternalPool {
                name: pool.name.clone(),
                ranges: pool.ranges.clone(),
                block_prefix_length: None,
            })
            .collect();
    }
    let sites: Api<Site> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let known = sites.get_opt(&site.name).await?;
    if let Some(known) = known {
        let is_global = known.labels().contains_key(GLOBAL_LABEL);
        if is_global || known.spec.cluster.is_some() {
            spec.bmcs = readdressed(&known.spec.bmcs, &spec.bmcs);
        }
        if is_global && spec.bmcs == known.spec.bmcs {
            return Ok(());
        }
    }
    if let Some(cloud) = &endpoints.cloud {
        let gateway = spec.gateway.is_some().then(|| site.name.clone());
        vim::declare(client, &site.name, cloud, gateway).await?;
    }
    let mut object = Site::new(&site.name, spec);
    object.metadata.namespace = Some(SYSTEM_NAMESPACE.to_owned());
    sites.patch(&site.name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    Ok(())
}

/// A list that somebody has edited stays as it is, but for what the emulator knows better: where its management controllers listen.
fn readdressed(list: &[SiteBmc], emulated: &[SiteBmc]) -> Vec<SiteBmc> {
    let addressed = list.iter().map(|bmc| {
        let found = emulated.iter().find(|other| other.name == bmc.name);
        let address = found.map_or(&bmc.address, |other| &other.address).clone();
        SiteBmc { address, ..bmc.clone() }
    });
    addressed.collect()
}

/// Names of objects are lower case; those of fabrics need not be.
fn object_name(service: &str) -> String {
    service.to_ascii_lowercase()
}

fn secret_name(service: &str) -> String {
    format!("{}-credentials", object_name(service))
}

/// Address of a management controller in Metal3's form.
fn bmc(service: &Service) -> SiteBmc {
    SiteBmc {
        name: object_name(&service.name),
        address: format!("redfish-virtualmedia+{}", service.url),
        credentials_name: secret_name(&service.name),
        ..SiteBmc::default()
    }
}

async fn credentials(
    client: &Client,
    site: &EmulatedSite,
    name: &str,
    user: &str,
    password: &str,
) -> Result<(), Failure> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(SITE_LABEL.to_owned(), site.name.clone())].into()),
            ..Default::default()
        },
        data: Some([("username".to_owned(), bytes(user)), ("password".to_owned(), bytes(password))].into()),
        ..Default::default()
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    // The emulator tells the password that the site began with, not one that was set by Redfish.
    if let Some(present) = secrets.get_opt(name).await?
        && present.annotations().contains_key(ROTATED_ANNOTATION)
    {
        return Ok(());
    }
    secrets.patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret)).await?;
    Ok(())
}

/// What is left of an emulated site on this machine.
pub(crate) fn leftovers(file: &Path, data: &Path) -> Vec<String> {
    match drystone_emulator::site::load(file) {
        Ok(site) => {
            let state = data.join("sites").join(&site.name);
            drystone_emulator::netns::inspect_leftovers(&site, &state)
        }
        Err(error) => vec![format!("{}: {error}", file.display())],
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::SiteHostRole;

    use super::*;

    #[test]
    fn an_edited_list_keeps_its_hosts_and_their_roles() {
        let bmc = |name: &str, address: &str, role| SiteBmc {
            name: name.into(),
            address: address.into(),
            role,
            ..SiteBmc::default()
        };
        let list =
            [bmc("a", "old", SiteHostRole::ControlPlane), bmc("elsewhere", "kept", SiteHostRole::Worker)];
        let emulated =
            [bmc("a", "new", SiteHostRole::Worker), bmc("off-the-list", "x", SiteHostRole::Worker)];
        let expected = [bmc("a", "new", SiteHostRole::ControlPlane), list[1].clone()];
        assert_eq!(readdressed(&list, &emulated), expected);
    }
}
