//! Hosts: what they are booted with, powering them on, powering them off.

use std::collections::BTreeMap;

use drystone_api::{
    BareMetalHost, CLUSTER_LABEL, CLUSTER_NAMESPACE_LABEL, Cluster, CompositionMember, GPU_RESOURCE,
    HostImage, ImageFormat, MemberRole, ProvisioningState, ResourceBlock, SITE_LABEL, SYSTEM_NAMESPACE,
    SecretReference, Site, Taint,
};
use drystone_engine::action::{Action, StepContext, StepError};
use drystone_identity::Secret as Hidden;
use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    ImageArchive, StepDependencies,
    addresses::LeaseOutput,
    joining::{admit, token_end},
    objects::{MANAGER, delete, subject},
    waiting::{Verdict, wait_until},
};
use crate::{
    bootstrap::{
        BootData, ClusterPki, ExternalAddresses, HostPlan, NodeCapacity, boot_data,
        host::{AddressDaemonAccess, ClusterPlan, EtcdPlace, Joining, reachable_boot_data},
        ssh_server::SshServer,
    },
    distribution::{HOST_SSH_PORT, keys},
    model::Names,
};

/// Image URL that stands for "boot the medium made of the host's user data, and nothing else".
pub const MEDIUM_IMAGE: &str = "medium:///";

/// Label of nodes that names their worker pool.
pub const POOL_LABEL: &str = "drystone.dev/pool";

/// How long the hosts' token is valid: as long as a cluster may reasonably live between renewals by re-provisioning.
const HOST_TOKEN_SECONDS: i64 = 365 * 24 * 3600;

/// How long a cluster may take to take a token before its host has booted; afterwards it must.
const ADMISSION: std::time::Duration = std::time::Duration::from_secs(10);

/// A host and its place in the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostParameters {
    /// BareMetalHost.
    pub host: String,
    /// Its namespace.
    pub namespace: String,
    /// Role.
    pub role: MemberRole,
    /// Worker pool; empty for the control plane.
    #[serde(default)]
    pub pool: String,
    /// Its place among several control planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etcd: Option<EtcdParameters>,
}

/// A host's place among several control planes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EtcdParameters {
    /// The members of etcd, this host among them.
    pub members: Vec<String>,
    /// Whether the others are there already.
    pub join: bool,
}

/// Powers a host on with the boot data of its role and waits until its operating system runs.
pub struct Provision(pub(super) StepDependencies);

impl Action for Provision {
    const NAME: &'static str = "cluster.provision";
    type Parameters = HostParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: HostParameters) -> Result<(), StepError> {
        let (cluster, names) = subject(context).await?;
        let image = image_for(context, &cluster, &parameters).await?;
        let data = self.boot_data(context, &cluster, &names, &parameters, &image).await?;
        let secret = names.boot_secret(&parameters.host);
        if begins_otherwise(context, &secret, &parameters).await? {
            context.progress(1, "the control plane begins anew, with other hosts");
            deprovision(context, &parameters.host).await?;
            let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &parameters.namespace);
            delete(&secrets, &secret).await?;
        }
        write_boot_secret(context, &names, &secret, &parameters, &data).await?;
        let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), &parameters.namespace);
        let reference = SecretReference { name: secret, namespace: None };
        let url = image.url.clone();
        let patch = json!({"spec": {
            "image": image, "userData": reference, "networkData": reference, "online": true,
        }});
        hosts
            .patch(&parameters.host, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(|error| StepError::from_kube("declaring what the host boots", &error))?;
        context.progress(10, "waiting for the host to boot");
        // A cluster that is there already takes the token before the host asks; a new one's control plane finds it in its own boot data.
        if has_ready_members(&cluster)
            && let Ok(Err(error)) = tokio::time::timeout(ADMISSION, admit(context, &parameters.host)).await
        {
            context.log(format!("the cluster does not take the host's token yet: {error}"));
        }
        wait_until(context, hosts, &parameters.host, |host: Option<&BareMetalHost>| {
            judge(host, &parameters.host, &url)
        })
        .await
    }
}

/// What a host is provisioned with: what the cluster says, else what the host's Site says, else the medium alone.
async fn image_for(
    context: &StepContext,
    cluster: &Cluster,
    parameters: &HostParameters,
) -> Result<HostImage, StepError> {
    if let Some(image) = cluster.spec.image_for(parameters.role, &parameters.pool) {
        return Ok(image.clone());
    }
    let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), &parameters.namespace);
    let host = hosts
        .get(&parameters.host)
        .await
        .map_err(|error| StepError::from_kube("reading the host", &error))?;
    let of_site = site_of(context, &host).await?.and_then(|site| site.spec.image);
    Ok(of_site.unwrap_or_else(|| HostImage {
        url: MEDIUM_IMAGE.to_owned(),
        format: Some(ImageFormat::LiveIso),
        ..Default::default()
    }))
}

/// Where a host finds archives of images: one that boots a system of its own sees nothing of the machine that Drystone is on, and fetches them.
fn archives(archives: &[ImageArchive], image: &HostImage, drystone: &str) -> Vec<String> {
    let place = |archive: &ImageArchive| {
        if image.url == MEDIUM_IMAGE { archive.file.clone() } else { format!("{drystone}{}", archive.path) }
    };
    archives.iter().map(place).collect()
}

fn has_ready_members(cluster: &Cluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| status.members.iter().any(|member| member.ready))
}

fn judge(host: Option<&BareMetalHost>, name: &str, url: &str) -> Verdict<()> {
    let Some(host) = host else { return Verdict::Failed(format!("BareMetalHost {name} was deleted")) };
    let Some(status) = &host.status else { return Verdict::Wait };
    let booted = status.provisioning.image.as_ref().is_some_and(|image| image.url == url);
    if status.provisioning.state == ProvisioningState::Provisioned && status.powered_on && booted {
        return Verdict::Done(());
    }
    if status.is_hopeless() {
        return Verdict::Failed(format!("host {name}: {}: {}", status.error_type, status.error_message));
    }
    Verdict::Wait
}

impl Provision {
    async fn boot_data(
        &self,
        context: &StepContext,
        cluster: &Cluster,
        names: &Names,
        parameters: &HostParameters,
        image: &HostImage,
    ) -> Result<BootData, StepError> {
        let client = context.client().clone();
        let leased: LeaseOutput = context.input("addresses")?;
        let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), &parameters.namespace);
        let host = hosts
            .get(&parameters.host)
            .await
            .map_err(|error| StepError::from_kube("reading the host", &error))?;
        if cluster.spec.distribution.is_installed() {
            let host_plan = host_plan(context, cluster, parameters, &host, &leased).await?;
            let keys = keys::ensure(&client, cluster, names, &parameters.host).await;
            let keys = keys.map_err(StepError::transient)?;
            let access = SshServer {
                port: HOST_SSH_PORT,
                host_key: keys.host_text,
                authorized_keys: vec![keys.login.public_key()],
            };
            return reachable_boot_data(&host_plan, &access).map_err(StepError::permanent);
        }
        let members = composed(context, names).await?;
        let control_plane = control_plane_address(&members, &leased)?;
        let pki = read_pki(context, names).await?;
        if parameters.etcd.is_some() && pki.etcd_authority.is_none() {
            return Err(StepError::permanent(format!(
                "Secret {} has no authority for etcd (`etcd-ca.crt`), for it was made by an older version; delete the cluster and create it again",
                names.pki_secret()
            )));
        }
        let daemon = address_daemon(context, &self.0, names, &host).await?;
        let plan = ClusterPlan {
            name: &names.cluster,
            pki: &pki,
            control_plane,
            pod_cidr: cluster.spec.network.pod_cidr,
            service_cidr: cluster.spec.network.service_cidr,
            external: external(cluster, &leased),
            images: &archives(&self.0.images, image, &daemon.url),
            address_daemon: daemon,
            joining: Joining {
                hosts: members.into_iter().map(|member| member.host).collect(),
                until: token_end(Timestamp::now()),
            },
        };
        let host_plan = host_plan(context, cluster, parameters, &host, &leased).await?;
        boot_data(&plan, &host_plan).map_err(StepError::permanent)
    }
}

/// How a host will reach the address daemon: through its site's gateway, if there is one.
pub(crate) async fn address_daemon_of(
    context: &StepContext,
    dependencies: &StepDependencies,
    names: &Names,
    host: &str,
) -> Result<AddressDaemonAccess, StepError> {
    let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), SYSTEM_NAMESPACE);
    let host = hosts.get(host).await.map_err(|error| StepError::from_kube("reading the host", &error))?;
    address_daemon(context, dependencies, names, &host).await
}

async fn address_daemon(
    context: &StepContext,
    dependencies: &StepDependencies,
    names: &Names,
    host: &BareMetalHost,
) -> Result<AddressDaemonAccess, StepError> {
    let client = context.client().clone();
    let site = site_of(context, host).await?;
    let gateway = site.and_then(|site| site.spec.gateway).map(|gateway| gateway.controller_address);
    let address =
        gateway.filter(|address| !address.is_empty()).unwrap_or(dependencies.controller_address.clone());
    let request = TokenRequest {
        spec: TokenRequestSpec { expiration_seconds: Some(HOST_TOKEN_SECONDS), ..Default::default() },
        ..Default::default()
    };
    let accounts: Api<ServiceAccount> = Api::namespaced(client, &names.namespace);
    let token = accounts
        .create_token_request(&names.host_account(), &PostParams::default(), &request)
        .await
        .map_err(|error| StepError::from_kube("requesting the hosts' token", &error))?;
    let token = token.status.map(|status| status.token).unwrap_or_default();
    Ok(AddressDaemonAccess {
        url: format!("https://{address}"),
        ca_pem: dependencies.drystone_ca_pem.clone(),
        token: Hidden::new(token),
        namespace: names.namespace.clone(),
        pool: names.pod_pool(),
    })
}

/// The Site that a host belongs to, if it belongs to one.
async fn site_of(context: &StepContext, host: &BareMetalHost) -> Result<Option<Site>, StepError> {
    let Some(name) = host.labels().get(SITE_LABEL) else { return Ok(None) };
    let sites: Api<Site> = Api::namespaced(context.client().clone(), SYSTEM_NAMESPACE);
    sites.get_opt(name).await.map_err(|error| StepError::from_kube("reading the Site", &error))
}

/// The hosts that were composed for the cluster.
async fn composed(context: &StepContext, names: &Names) -> Result<Vec<CompositionMember>, StepError> {
    let compositions: Api<drystone_api::Composition> =
        Api::namespaced(context.client().clone(), &names.namespace);
    let composition = compositions
        .get(&names.composition())
        .await
        .map_err(|error| StepError::from_kube("reading the Composition", &error))?;
    Ok(composition.status.map(|status| status.members).unwrap_or_default())
}

/// Address of the control plane: its own, if it has several hosts, else that of the host with this role in the composition.
fn control_plane_address(
    members: &[CompositionMember],
    leased: &LeaseOutput,
) -> Result<std::net::IpAddr, StepError> {
    let host = members.iter().find(|member| crate::plan::role_of(member) == MemberRole::ControlPlane);
    let address = host.and_then(|host| leased.hosts.get(&host.host)).map(IpNet::addr);
    leased.api.or(address).ok_or_else(|| StepError::transient("the control plane has no address yet"))
}

use ipnet::IpNet;

fn external(cluster: &Cluster, leased: &LeaseOutput) -> Vec<ExternalAddresses> {
    let pool = cluster.spec.network.external_pool.iter();
    pool.map(|name| ExternalAddresses { name: name.clone(), ranges: leased.external.clone() }).collect()
}

pub(crate) async fn read_pki(context: &StepContext, names: &Names) -> Result<ClusterPki, StepError> {
    let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &names.namespace);
    let secret = secrets
        .get(&names.pki_secret())
        .await
        .map_err(|error| StepError::from_kube("reading the keys", &error))?;
    ClusterPki::from_secret_data(&secret.data.unwrap_or_default()).map_err(StepError::permanent)
}

/// Everything about the host itself: hardware from its ResourceBlock, labels and taints from its pool.
async fn host_plan(
    context: &StepContext,
    cluster: &Cluster,
    parameters: &HostParameters,
    host: &BareMetalHost,
    leased: &LeaseOutput,
) -> Result<HostPlan, StepError> {
    let blocks: Api<ResourceBlock> = Api::namespaced(context.client().clone(), &parameters.namespace);
    let block = blocks
        .get(&parameters.host)
        .await
        .map_err(|error| StepError::from_kube("reading the ResourceBlock", &error))?;
    let address = *leased
        .hosts
        .get(&parameters.host)
        .ok_or_else(|| StepError::permanent(format!("no address was leased for {}", parameters.host)))?;
    let boot_mac = host.spec.boot_mac_address.to_ascii_lowercase();
    let status = block.status.unwrap_or_default();
    let first_nic = status.nics.first().map(|nic| nic.mac.clone()).unwrap_or_default();
    let pool = cluster.spec.workers.iter().find(|pool| pool.name == parameters.pool);
    let mut labels = pool.map(|pool| pool.labels.clone()).unwrap_or_default();
    let mut taints: Vec<Taint> = pool.map(|pool| pool.taints.clone()).unwrap_or_default();
    if parameters.role == MemberRole::ControlPlane {
        labels.insert("node-role.kubernetes.io/control-plane".to_owned(), String::new());
        taints.push(Taint {
            key: "node-role.kubernetes.io/control-plane".to_owned(),
            value: String::new(),
            effect: "NoSchedule".to_owned(),
        });
    } else {
        labels.insert(POOL_LABEL.to_owned(), parameters.pool.clone());
    }
    if !status.chassis.is_empty() {
        labels.insert("topology.kubernetes.io/zone".to_owned(), status.chassis.clone());
    }
    Ok(HostPlan {
        name: parameters.host.clone(),
        role: parameters.role,
        address,
        gateway: leased.gateway,
        mac: if boot_mac.is_empty() { first_nic } else { boot_mac },
        capacity: capacity(&status),
        labels,
        taints,
        etcd: parameters.etcd.as_ref().map(|etcd| etcd_place(etcd, leased)).transpose()?,
    })
}

fn etcd_place(parameters: &EtcdParameters, leased: &LeaseOutput) -> Result<EtcdPlace, StepError> {
    let address = |host: &String| match leased.hosts.get(host) {
        Some(address) => Ok((host.clone(), address.addr())),
        None => Err(StepError::permanent(format!("no address was leased for {host}, a member of etcd"))),
    };
    let members = parameters.members.iter().map(address).collect::<Result<_, _>>()?;
    Ok(EtcdPlace { members, join: parameters.join })
}

/// What a node on this hardware offers.
pub(crate) fn capacity(hardware: &drystone_api::ResourceBlockStatus) -> NodeCapacity {
    let mut capacity = BTreeMap::from([
        ("cpu".to_owned(), hardware.cores.to_string()),
        ("memory".to_owned(), format!("{}Mi", hardware.memory.mebibytes())),
        ("pods".to_owned(), "110".to_owned()),
    ]);
    if hardware.gpu_count > 0 {
        capacity.insert(GPU_RESOURCE.to_owned(), hardware.gpu_count.to_string());
    }
    capacity
}

/// Annotation on the boot Secret of a control-plane host: the hosts that it begins together with.
const FIRST_ANNOTATION: &str = "drystone.dev/first-control-planes";

/// What [`FIRST_ANNOTATION`] says for a host; nothing for one that joins.
fn first_members(parameters: &HostParameters) -> Option<String> {
    parameters.etcd.as_ref().filter(|etcd| !etcd.join).map(|etcd| etcd.members.join(","))
}

/// Whether a host was booted to begin a control plane together with others than those that are wanted now, so that it will never
/// belong to this one.
async fn begins_otherwise(
    context: &StepContext,
    secret: &str,
    parameters: &HostParameters,
) -> Result<bool, StepError> {
    let Some(wanted) = first_members(parameters) else { return Ok(false) };
    let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &parameters.namespace);
    let existing = secrets
        .get_opt(secret)
        .await
        .map_err(|error| StepError::from_kube("reading the boot Secret", &error))?;
    Ok(existing.is_some_and(|existing| existing.annotations().get(FIRST_ANNOTATION) != Some(&wanted)))
}

async fn write_boot_secret(
    context: &StepContext,
    names: &Names,
    name: &str,
    parameters: &HostParameters,
    data: &BootData,
) -> Result<(), StepError> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let labels = [
        (CLUSTER_LABEL.to_owned(), names.cluster.clone()),
        (CLUSTER_NAMESPACE_LABEL.to_owned(), names.namespace.clone()),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.into()),
            annotations: first_members(parameters).map(|first| [(FIRST_ANNOTATION.to_owned(), first)].into()),
            ..Default::default()
        },
        data: Some(
            [
                ("userData".to_owned(), bytes(data.user_data.expose())),
                ("networkData".to_owned(), bytes(&data.network_config)),
            ]
            .into(),
        ),
        ..Default::default()
    };
    let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &parameters.namespace);
    // A host that is provisioned already must not see new boot data: a token in it differs each time it is made.
    let existing = secrets
        .get_opt(name)
        .await
        .map_err(|error| StepError::from_kube("reading the boot Secret", &error))?;
    if existing.is_some() {
        return Ok(());
    }
    secrets
        .patch(name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&secret))
        .await
        .map_err(|error| StepError::from_kube("writing the boot Secret", &error))?;
    Ok(())
}

/// Powers a host off and waits until nothing of the cluster runs on it any more.
pub struct Deprovision;

/// The host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeprovisionParameters {
    host: String,
}

impl Deprovision {
    /// For this host.
    pub fn parameters(host: &str) -> DeprovisionParameters {
        DeprovisionParameters { host: host.to_owned() }
    }
}

impl Action for Deprovision {
    const NAME: &'static str = "cluster.deprovision";
    type Parameters = DeprovisionParameters;
    type Output = ();

    async fn run(&self, context: &StepContext, parameters: DeprovisionParameters) -> Result<(), StepError> {
        deprovision(context, &parameters.host).await
    }
}

async fn deprovision(context: &StepContext, name: &str) -> Result<(), StepError> {
    let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), SYSTEM_NAMESPACE);
    empty(context, &hosts, name).await?;
    declare(&hosts, name, json!({"networkData": null})).await.map(drop)
}

/// Changes what is wanted of a host; false if there is no such host any more.
async fn declare(hosts: &Api<BareMetalHost>, name: &str, spec: serde_json::Value) -> Result<bool, StepError> {
    match hosts.patch(name, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec}))).await {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(StepError::from_kube("declaring that the host is to be off", &error)),
    }
}

/// Takes the system from a host, and waits until it is off and clean. Its network data stay meanwhile: the agent that cleans its disks needs an
/// address too.
async fn empty(context: &StepContext, hosts: &Api<BareMetalHost>, name: &str) -> Result<(), StepError> {
    let hopeless = |host: &BareMetalHost| {
        host.status.as_ref().is_some_and(drystone_api::BareMetalHostStatus::is_hopeless)
    };
    let before = hosts.get_opt(name).await;
    let before = before.map_err(|error| StepError::from_kube("reading the host", &error))?;
    if !declare(hosts, name, json!({"image": null, "userData": null, "online": false})).await? {
        return Ok(());
    }
    if before.as_ref().is_some_and(hopeless) {
        // It is out of the zone and out of the pools; nobody is helped by waiting for its repair.
        context.log("the host has failed again and again; it is left to its controller");
        return Ok(());
    }
    wait_until(context, hosts.clone(), name, |host: Option<&BareMetalHost>| {
        if host.is_some_and(hopeless) {
            return Verdict::Done(());
        }
        let Some(status) = host.and_then(|host| host.status.as_ref()) else { return Verdict::Done(()) };
        let clean = !matches!(
            status.provisioning.state,
            ProvisioningState::Provisioned
                | ProvisioningState::Provisioning
                | ProvisioningState::Deprovisioning
        );
        if clean && !status.powered_on { Verdict::Done(()) } else { Verdict::Wait }
    })
    .await
}

#[cfg(test)]
mod tests {
    use drystone_api::{ClusterSpec, ControlPlane, WorkerPool};

    use super::*;

    fn image(url: &str) -> HostImage {
        HostImage { url: url.to_owned(), ..HostImage::default() }
    }

    #[test]
    fn the_nearest_image_counts() {
        let pool = |name: &str, image| WorkerPool { name: name.to_owned(), image, ..WorkerPool::default() };
        let mut spec = ClusterSpec {
            workers: vec![pool("a", Some(image("http://a/1"))), pool("b", None)],
            ..ClusterSpec::default()
        };
        let url =
            |spec: &ClusterSpec, role, pool: &str| spec.image_for(role, pool).map(|image| image.url.clone());
        assert_eq!(url(&spec, MemberRole::Worker, "a").as_deref(), Some("http://a/1"));
        assert_eq!(url(&spec, MemberRole::Worker, "b"), None);
        spec.image = Some(image("http://a/2"));
        assert_eq!(url(&spec, MemberRole::Worker, "a").as_deref(), Some("http://a/1"));
        assert_eq!(url(&spec, MemberRole::Worker, "b").as_deref(), Some("http://a/2"));
        assert_eq!(url(&spec, MemberRole::ControlPlane, "").as_deref(), Some("http://a/2"));
        spec.control_plane = ControlPlane { image: Some(image("http://a/3")), ..ControlPlane::default() };
        assert_eq!(url(&spec, MemberRole::ControlPlane, "").as_deref(), Some("http://a/3"));
    }

    #[test]
    fn only_hosts_without_a_system_of_their_own_see_files_of_this_machine() {
        let known = [ImageArchive { file: "/images/a.tar".into(), path: "/archives/x/a.tar".into() }];
        assert_eq!(archives(&known, &image(MEDIUM_IMAGE), "https://10.20.0.1:6443"), ["/images/a.tar"]);
        let fetched = archives(&known, &image("https://images.example/node.raw"), "https://10.20.0.1:6443");
        assert_eq!(fetched, ["https://10.20.0.1:6443/archives/x/a.tar"]);
    }
}
