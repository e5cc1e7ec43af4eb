//! What installers are told about hosts and cluster.

use std::{collections::BTreeMap, net::IpAddr};

use drystone_api::{Cluster, MemberRole, Taint};
use drystone_engine::action::{StepContext, StepError};
use drystone_identity::Secret as Hidden;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::json;

use super::{
    super::{
        HOST_SSH_PORT, is_listed,
        kubeadm::{self, HostFacts},
        script::{self, Inventory, InventoryHost, role_name},
    },
    parameters::InstallParameters,
};
use crate::{
    model::Names,
    plan::role_of,
    steps::{
        StepDependencies,
        addresses::LeaseOutput,
        hosts::{POOL_LABEL, address_daemon_of},
    },
};

/// A host of the cluster.
#[derive(Debug, Clone)]
pub struct Place {
    /// Name.
    pub name: String,
    /// Role.
    pub role: MemberRole,
    /// Worker pool; empty if none.
    pub pool: String,
    /// Address; unknown for one that never had any.
    pub address: Option<IpAddr>,
    /// `wanted` or `leaving`.
    pub state: &'static str,
}

/// All hosts of the cluster, control planes first.
///
/// # Errors
/// When the Composition cannot be read.
pub async fn places(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
) -> Result<Vec<Place>, StepError> {
    let wanted = if is_listed(&cluster.spec) {
        super::super::listed(&cluster.spec)
    } else {
        let compositions: Api<drystone_api::Composition> =
            Api::namespaced(context.client().clone(), &names.namespace);
        let composition = compositions.get_opt(&names.composition()).await;
        let composition =
            composition.map_err(|error| StepError::from_kube("reading the Composition", &error))?;
        composition.and_then(|composition| composition.status).unwrap_or_default().members
    };
    let leased = context.input::<LeaseOutput>("addresses").unwrap_or_default();
    let members = cluster.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    let address = |host: &str| {
        let listed =
            cluster.spec.hosts.iter().find(|listed| listed.name == host).map(|listed| listed.address);
        let leased = || leased.hosts.get(host).map(ipnet::IpNet::addr);
        let known = || members.iter().find(|member| member.host == host)?.address.parse().ok();
        listed.or_else(leased).or_else(known)
    };
    let mut places: Vec<Place> = wanted
        .iter()
        .map(|member| Place {
            name: member.host.clone(),
            role: role_of(member),
            pool: if role_of(member) == MemberRole::Worker { member.group.clone() } else { String::new() },
            address: address(&member.host),
            state: "wanted",
        })
        .collect();
    let leaving = members.iter().filter(|member| wanted.iter().all(|wanted| wanted.host != member.host));
    places.extend(leaving.map(|member| Place {
        name: member.host.clone(),
        role: member.role,
        pool: member.pool.clone(),
        address: address(&member.host),
        state: "leaving",
    }));
    places.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
    Ok(places)
}

/// Labels and taints that the pool of a host gives it.
fn of_pool(cluster: &Cluster, pool: &str) -> (BTreeMap<String, String>, Vec<Taint>) {
    let found = cluster.spec.workers.iter().find(|worker| worker.name == pool);
    let mut labels = found.map(|pool| pool.labels.clone()).unwrap_or_default();
    if !pool.is_empty() {
        labels.insert(POOL_LABEL.to_owned(), pool.to_owned());
    }
    (labels, found.map(|pool| pool.taints.clone()).unwrap_or_default())
}

/// A host as kubeadm is told of it.
pub fn host_facts<'a>(cluster: &Cluster, places: &[Place], host: &'a str, address: IpAddr) -> HostFacts<'a> {
    let pool =
        places.iter().find(|place| place.name == host).map(|place| place.pool.clone()).unwrap_or_default();
    let (labels, taints) = of_pool(cluster, &pool);
    HostFacts { name: host, address, labels: labels.into_iter().collect(), taints }
}

/// `inventory.json`, and the token for the address daemon if hosts are composed.
///
/// # Errors
/// When the API does not answer.
pub async fn inventory(
    context: &StepContext,
    dependencies: &StepDependencies,
    cluster: &Cluster,
    names: &Names,
    places: &[Place],
    first: IpAddr,
) -> Result<(Inventory, Option<(Hidden, String)>), StepError> {
    let spec = &cluster.spec;
    let keys = cluster.status.as_ref().map(|status| status.host_keys.clone()).unwrap_or_default();
    let listed = is_listed(spec);
    let port = |name: &str| {
        let host = spec.hosts.iter().find(|host| host.name == name).and_then(|host| host.port);
        let of_access = spec.access.as_ref().map_or(22, |access| access.port);
        if listed { host.unwrap_or(of_access) } else { HOST_SSH_PORT }
    };
    let host_keys = |name: &str| {
        let host = spec.hosts.iter().find(|host| host.name == name);
        host.into_iter().flat_map(|host| host.host_keys.clone()).chain(keys.get(name).cloned()).collect()
    };
    let hosts = places.iter().map(|place| InventoryHost {
        name: place.name.clone(),
        address: place.address.map(|address| address.to_string()).unwrap_or_default(),
        port: port(&place.name),
        user: spec.access.as_ref().map_or_else(|| "root".to_owned(), |access| access.user.clone()),
        host_keys: host_keys(&place.name),
        role: role_name(place.role),
        pool: place.pool.clone(),
        labels: of_pool(cluster, &place.pool).0,
        state: place.state,
    });
    let mut inventory = Inventory {
        cluster: names.cluster.clone(),
        namespace: names.namespace.clone(),
        pod_cidr: spec.network.pod_cidr.to_string(),
        service_cidr: spec.network.service_cidr.to_string(),
        endpoint: kubeadm::endpoint(spec, first),
        hosts: hosts.collect(),
        address_daemon: serde_json::Value::Null,
    };
    let mut daemon = None;
    if !listed && let Some(place) = places.first() {
        let access = address_daemon_of(context, dependencies, names, &place.name).await?;
        inventory.address_daemon = json!({
            "url": access.url,
            "caFile": format!("{}/address-daemon-ca.crt", script::DIRECTORY),
            "tokenFile": format!("{}/address-daemon-token", script::DIRECTORY),
            "namespace": access.namespace,
            "pool": access.pool,
        });
        daemon = Some((access.token, access.ca_pem));
    }
    Ok((inventory, daemon))
}

/// Environment variables for the user's program.
///
/// # Errors
/// When the Secret of the environment cannot be read.
pub async fn environment(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
    parameters: &InstallParameters,
    places: &[Place],
    address: IpAddr,
) -> Result<Vec<(String, Hidden)>, StepError> {
    let settings = script::settings(&cluster.spec);
    let mut environment: Vec<(String, Hidden)> =
        settings.environment.iter().map(|(name, value)| (name.clone(), Hidden::new(value.clone()))).collect();
    if !settings.environment_secret.is_empty() {
        let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &names.namespace);
        let secret = secrets
            .get(&settings.environment_secret)
            .await
            .map_err(|error| StepError::from_kube("reading spec.script.environmentSecret", &error))?;
        for (name, value) in secret.data.unwrap_or_default() {
            let text = String::from_utf8(value.0).map_err(|_| {
                StepError::permanent(format!("Secret {}: {name} is not UTF-8", settings.environment_secret))
            })?;
            environment.push((name, Hidden::new(text)));
        }
    }
    let first = places.iter().find(|place| place.role == MemberRole::ControlPlane && place.state == "wanted");
    let first = first.and_then(|place| place.address).unwrap_or(address);
    let pool = places.iter().find(|place| place.name == parameters.host).map(|place| place.pool.clone());
    for (name, value) in [
        ("DRYSTONE_CLUSTER", names.cluster.clone()),
        ("DRYSTONE_NAMESPACE", names.namespace.clone()),
        ("DRYSTONE_CLUSTER_UID", super::super::uid(cluster)),
        ("DRYSTONE_HOST", parameters.host.clone()),
        ("DRYSTONE_ADDRESS", address.to_string()),
        ("DRYSTONE_ROLE", role_name(parameters.role).to_owned()),
        ("DRYSTONE_POOL", pool.unwrap_or_default()),
        ("DRYSTONE_ENDPOINT", kubeadm::endpoint(&cluster.spec, first)),
        ("DRYSTONE_POD_CIDR", cluster.spec.network.pod_cidr.to_string()),
        ("DRYSTONE_SERVICE_CIDR", cluster.spec.network.service_cidr.to_string()),
        ("DRYSTONE_INVENTORY", format!("{}/inventory.json", script::DIRECTORY)),
        ("DRYSTONE_ADMIN_CONF", script::admin_conf(&settings).to_owned()),
    ] {
        environment.push((name.to_owned(), Hidden::new(value)));
    }
    Ok(environment)
}

/// The user's program out of its ConfigMap or Secret; nothing if hosts get it themselves.
///
/// # Errors
/// When it is not there.
pub async fn program(
    context: &StepContext,
    cluster: &Cluster,
    names: &Names,
) -> Result<Option<Vec<u8>>, StepError> {
    let settings = script::settings(&cluster.spec);
    let (kind, name) = match (settings.config_map.as_str(), settings.secret.as_str()) {
        ("", "") => return Ok(None),
        ("", secret) => ("Secret", secret),
        (map, _) => ("ConfigMap", map),
    };
    let reading =
        |error: kube::Error| StepError::from_kube(&format!("reading {kind} {name} (spec.script)"), &error);
    let found = if kind == "Secret" {
        let secrets: Api<Secret> = Api::namespaced(context.client().clone(), &names.namespace);
        let secret = secrets.get(name).await.map_err(reading)?;
        secret.data.and_then(|mut data| data.remove(&settings.key)).map(|bytes| bytes.0)
    } else {
        let maps: Api<ConfigMap> = Api::namespaced(context.client().clone(), &names.namespace);
        let map = maps.get(name).await.map_err(reading)?;
        let text = map.data.and_then(|mut data| data.remove(&settings.key)).map(String::into_bytes);
        text.or_else(|| map.binary_data.and_then(|mut data| data.remove(&settings.key)).map(|bytes| bytes.0))
    };
    let missing =
        || StepError::permanent(format!("{kind} {name} has no key `{}` (spec.script.key)", settings.key));
    found.map(Some).ok_or_else(missing)
}
