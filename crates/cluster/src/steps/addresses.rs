//! Addresses of hosts, and the cluster's share of an external pool.

use std::{collections::BTreeMap, net::IpAddr};

use drystone_api::{AddressPool, AddressPoolPurpose, BareMetalHost, SITE_LABEL, SYSTEM_NAMESPACE};
use drystone_engine::action::{Action, StepContext, StepError};
use ipnet::IpNet;
use kube::{Api, ResourceExt as _, api::ListParams};
use serde::{Deserialize, Serialize};

use super::{StepDependencies, objects::subject};
use crate::model::Names;

/// Leases an address for each host, and external addresses for the cluster.
pub struct LeaseAddresses(pub(super) StepDependencies);

/// Hosts that need an address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseParameters {
    hosts: Vec<String>,
    /// Whether the control plane needs an address of its own.
    #[serde(default)]
    api: bool,
}

/// What was leased.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseOutput {
    /// Address of each host, with the prefix length of the node network.
    pub hosts: BTreeMap<String, IpNet>,
    /// Default gateway.
    pub gateway: Option<IpAddr>,
    /// External addresses.
    pub external: Vec<IpNet>,
    /// Address of the control plane, if its hosts take turns to have one.
    #[serde(default)]
    pub api: Option<IpAddr>,
}

impl LeaseAddresses {
    /// For these hosts.
    pub fn parameters(hosts: &[String], api: bool) -> LeaseParameters {
        LeaseParameters { hosts: hosts.to_vec(), api }
    }

    async fn lease(&self, pool: &str, holder: &str) -> Result<Vec<IpNet>, StepError> {
        let lease = self.0.addresses.lease(SYSTEM_NAMESPACE, pool, holder, 1).await;
        lease.map_err(|error| StepError::transient(format!("leasing from pool {pool}: {error}")))
    }
}

/// The pool that the hosts of a site get their addresses from.
pub(crate) async fn node_pool(context: &StepContext, host: &str) -> Result<AddressPool, StepError> {
    let hosts: Api<BareMetalHost> = Api::namespaced(context.client().clone(), SYSTEM_NAMESPACE);
    let host =
        hosts.get(host).await.map_err(|error| StepError::from_kube("reading the BareMetalHost", &error))?;
    let site = host.labels().get(SITE_LABEL).cloned().unwrap_or_default();
    let pools: Api<AddressPool> = Api::namespaced(context.client().clone(), SYSTEM_NAMESPACE);
    let selector = ListParams::default().labels(&format!("{SITE_LABEL}={site}"));
    let found =
        pools.list(&selector).await.map_err(|error| StepError::from_kube("listing AddressPools", &error))?;
    let pool = found.into_iter().find(|pool| pool.spec.purpose == AddressPoolPurpose::Node);
    pool.ok_or_else(|| {
        StepError::transient(format!(
            "site `{site}` of host {} has no AddressPool of purpose Node; give its Site a nodeNetwork",
            host.name_any()
        ))
    })
}

impl Action for LeaseAddresses {
    const NAME: &'static str = "cluster.lease-addresses";
    type Parameters = LeaseParameters;
    type Output = LeaseOutput;

    async fn run(
        &self,
        context: &StepContext,
        parameters: LeaseParameters,
    ) -> Result<LeaseOutput, StepError> {
        let (cluster, names) = subject(context).await?;
        let mut output = LeaseOutput::default();
        if let Some(first) = parameters.hosts.first() {
            let pool = node_pool(context, first).await?;
            output.gateway = pool.spec.gateway;
            if parameters.api {
                let blocks = self.lease(&pool.name_any(), &names.api_holder()).await?;
                output.api = blocks.first().map(IpNet::addr);
            }
            let holders: Vec<String> = parameters.hosts.iter().map(|host| names.host_holder(host)).collect();
            let leased = self.0.addresses.lease_each(SYSTEM_NAMESPACE, &pool.name_any(), &holders).await;
            let leased = leased.map_err(|error| {
                StepError::transient(format!("leasing from pool {}: {error}", pool.name_any()))
            })?;
            for (host, blocks) in parameters.hosts.iter().zip(leased) {
                let Some(block) = blocks.first() else { continue };
                let prefix = pool.spec.interface_prefix_length.unwrap_or(block.prefix_len());
                let address = IpNet::new(block.addr(), prefix).map_err(|_| {
                    StepError::permanent(format!("pool {}: /{prefix} is no prefix", pool.name_any()))
                })?;
                output.hosts.insert(host.clone(), address);
            }
        }
        if let Some(pool) = &cluster.spec.network.external_pool {
            output.external = self.lease(pool, &names.lease_holder()).await?;
        }
        Ok(output)
    }
}

/// Gives every address of the cluster back.
pub struct ReleaseAddresses(pub(super) StepDependencies);

impl ReleaseAddresses {
    /// Holders of a cluster's leases: the cluster itself and its hosts.
    fn is_ours(names: &Names, holder: &str) -> bool {
        holder == names.lease_holder() || holder.starts_with(&format!("{}/", names.lease_holder()))
    }
}

impl Action for ReleaseAddresses {
    const NAME: &'static str = "cluster.release-addresses";
    type Parameters = ();
    type Output = ();

    async fn run(&self, context: &StepContext, (): ()) -> Result<(), StepError> {
        let (_, names) = subject(context).await?;
        let pools: Api<AddressPool> = Api::namespaced(context.client().clone(), SYSTEM_NAMESPACE);
        let found = pools
            .list(&ListParams::default())
            .await
            .map_err(|error| StepError::from_kube("listing AddressPools", &error))?;
        for pool in found {
            let leases = pool.status.iter().flat_map(|status| &status.leases);
            let holders: Vec<&str> = leases
                .map(|lease| lease.holder.as_str())
                .filter(|holder| Self::is_ours(&names, holder))
                .collect();
            for holder in holders {
                let released = self.0.addresses.release(SYSTEM_NAMESPACE, &pool.name_any(), holder).await;
                released.map_err(|error| StepError::transient(format!("giving back {holder}: {error}")))?;
            }
        }
        Ok(())
    }
}
