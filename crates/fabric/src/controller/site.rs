//! The half of a Site that is about fabrics: a FabricAgent for each service it lists, and its pools of addresses.

use std::{net::IpAddr, sync::Arc};

use drystone_api::{
    AddressPool, AddressPoolPurpose, AddressPoolSpec, FabricAgent, FabricAgentSpec, NodeNetwork, SITE_LABEL,
    Site,
};
use drystone_engine::harness::{Reconciler, Requeue, is_deleted};
use ipnet::IpNet;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};

const MANAGER: &str = "drystone-fabric";

/// Prefix length of the block of external addresses that a cluster gets, unless the Site says otherwise.
const EXTERNAL_BLOCK: u8 = 28;

/// What could not be declared.
#[derive(Debug, thiserror::Error)]
#[error("declaring {what}: {source}")]
pub(super) struct SiteError {
    what: String,
    source: kube::Error,
}

pub(super) struct SiteReconciler {
    pub(super) client: Client,
}

impl Reconciler for SiteReconciler {
    type Object = Site;
    type Error = SiteError;

    const NAME: &'static str = "site-fabrics";

    async fn reconcile(&self, site: Arc<Site>) -> Result<Requeue, SiteError> {
        // The fabrics of a site with a local controller are that one's.
        if is_deleted(site.as_ref()) || site.spec.controller.is_some() {
            return Ok(Requeue::OnChange);
        }
        for service in &site.spec.fabric_services {
            let spec = FabricAgentSpec {
                address: service.address.clone(),
                credentials_name: Some(service.credentials_name.clone()),
                // What an administrator says about its tables stays.
                ..FabricAgentSpec::default()
            };
            let mut agent = FabricAgent::new(&service.name, spec);
            agent.metadata = metadata(&site, &service.name);
            self.apply(&site, &agent).await?;
        }
        if let Some(network) = &site.spec.node_network {
            let name = format!("{}-nodes", site.name_any());
            let mut pool = AddressPool::new(&name, node_pool(network));
            pool.metadata = metadata(&site, &name);
            self.apply(&site, &pool).await?;
        }
        for external in &site.spec.external_pools {
            let spec = AddressPoolSpec {
                purpose: AddressPoolPurpose::External,
                ranges: external.ranges.clone(),
                block_prefix_length: external.block_prefix_length.unwrap_or(EXTERNAL_BLOCK),
                ..Default::default()
            };
            let mut pool = AddressPool::new(&external.name, spec);
            pool.metadata = metadata(&site, &external.name);
            self.apply(&site, &pool).await?;
        }
        Ok(Requeue::OnChange)
    }
}

impl SiteReconciler {
    async fn apply<K>(&self, site: &Site, object: &K) -> Result<(), SiteError>
    where
        K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), &site.namespace().unwrap_or_default());
        let name = object.name_any();
        api.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(object))
            .await
            .map(drop)
            .map_err(|source| SiteError { what: format!("{} {name}", K::kind(&())), source })
    }
}

fn metadata(site: &Site, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(SITE_LABEL.to_owned(), site.name_any())].into()),
        owner_references: site.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    }
}

/// The pool that hosts get their addresses from: single addresses of the node network, without those that are taken by the
/// network itself and its gateway.
fn node_pool(network: &NodeNetwork) -> AddressPoolSpec {
    let host_bits = network.cidr.max_prefix_len();
    let single = |address: IpAddr| IpNet::new(address, host_bits).ok();
    AddressPoolSpec {
        purpose: AddressPoolPurpose::Node,
        ranges: vec![network.allocation.unwrap_or(network.cidr).trunc()],
        block_prefix_length: host_bits,
        reserved: [network.cidr.network(), network.cidr.broadcast(), network.gateway]
            .into_iter()
            .filter_map(single)
            .collect(),
        interface_prefix_length: Some(network.cidr.prefix_len()),
        gateway: Some(network.gateway),
        ..AddressPoolSpec::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_never_leased() {
        let network = NodeNetwork {
            cidr: "10.20.0.0/16".parse().expect("valid"),
            gateway: "10.20.0.1".parse().expect("valid"),
            allocation: None,
        };
        let spec = node_pool(&network);
        let status = drystone_api::AddressPoolStatus::default();
        let (_, blocks) = crate::plan::addresses::lease(&spec, &status, "a", 1).expect("plenty");
        assert_eq!(blocks[0].to_string(), "10.20.0.2/32");
        assert_eq!(spec.interface_prefix_length, Some(16));
    }
}
