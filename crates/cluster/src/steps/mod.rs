//! The effects that a cluster's life is made of, as actions of the engine. Most declare something and wait until the
//! domain in charge has made it so.

use std::{future::Future, pin::Pin, sync::Arc};

use drystone_engine::action::{ActionRegistry, RegistryError};
use ipnet::IpNet;

pub mod access;
pub mod addresses;
pub mod hosts;
mod joining;
pub mod members;
pub mod objects;

mod waiting;

/// A lease that was not given; the text says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(pub String);

/// Result of a lease: blocks of addresses.
pub type Leased<'a> = Pin<Box<dyn Future<Output = Result<Vec<IpNet>, AddressError>> + Send + 'a>>;

/// Result of leases for several holders: the blocks of each, in their order.
pub type LeasedEach<'a> = Pin<Box<dyn Future<Output = Result<Vec<Vec<IpNet>>, AddressError>> + Send + 'a>>;

/// Leases of addresses; the fabric manager's address daemon, passed in by whoever assembles the program.
pub trait Addresses: Send + Sync + 'static {
    /// Leases `count` blocks of a pool; the same ones when asked again.
    fn lease<'a>(&'a self, namespace: &'a str, pool: &'a str, holder: &'a str, count: usize) -> Leased<'a>;

    /// Leases a block of a pool for each of these holders; the same ones when asked again. The blocks are in the order of the holders. Who can
    /// do that in one write is to do so.
    fn lease_each<'a>(&'a self, namespace: &'a str, pool: &'a str, holders: &'a [String]) -> LeasedEach<'a> {
        Box::pin(async move {
            let mut all = Vec::with_capacity(holders.len());
            for holder in holders {
                all.push(self.lease(namespace, pool, holder, 1).await?);
            }
            Ok(all)
        })
    }

    /// Gives back all that `holder` has of a pool. Returns no blocks.
    fn release<'a>(&'a self, namespace: &'a str, pool: &'a str, holder: &'a str) -> Leased<'a>;
}

/// What the actions need beside the API.
#[derive(Clone)]
pub struct StepDependencies {
    /// Leases of addresses.
    pub addresses: Arc<dyn Addresses>,
    /// Certificate authority of Drystone's HTTPS port (PEM), for hosts that call it.
    pub drystone_ca_pem: String,
    /// Where hosts reach Drystone if their site names no gateway: `10.0.0.5:6443`.
    pub controller_address: String,
    /// Archives of images that every node imports when it starts.
    pub images: Vec<ImageArchive>,
}

/// An archive of container images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageArchive {
    /// Where it is on hosts that see files of the machine that Drystone is on: those that boot a medium without an operating system.
    pub file: String,
    /// Path on Drystone's HTTPS port, where all others fetch it without credentials.
    pub path: String,
}

/// Registers all actions of this domain.
///
/// # Errors
/// [`RegistryError`] when a name is taken.
pub fn register(registry: &mut ActionRegistry, dependencies: &StepDependencies) -> Result<(), RegistryError> {
    registry.register(objects::EnsureZone)?;
    registry.register(objects::RemoveZone)?;
    registry.register(objects::ForgetCluster)?;
    registry.register(addresses::LeaseAddresses(dependencies.clone()))?;
    registry.register(addresses::ReleaseAddresses(dependencies.clone()))?;
    registry.register(hosts::Provision(dependencies.clone()))?;
    registry.register(hosts::Deprovision)?;
    registry.register(members::AddMember)?;
    registry.register(members::PromoteMember)?;
    registry.register(members::RemoveMember)?;
    registry.register(access::AwaitApi)?;
    registry.register(access::AwaitNode)?;
    registry.register(access::RemoveNode)?;
    crate::distribution::steps::register(registry, dependencies)?;
    crate::storage::steps::register(registry)?;
    Ok(())
}
