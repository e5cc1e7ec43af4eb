//! The node's blocks of pod addresses: the remembered ones at once, then what the address daemon says.

use std::{path::PathBuf, sync::Arc, time::Duration};

use drystone_cni::network::PodNetwork;
use ipnet::Ipv4Net;
use tokio::sync::watch;

use super::{
    readiness::{Part, Readiness},
    retry::Retry,
};
use crate::{
    config::{AddressDaemonConfig, NodeConfig},
    join::addresses::{self, AddressError},
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A lease that is of no use.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error(transparent)]
    Address(#[from] AddressError),
    #[error("the address daemon gave no block; is its pool exhausted?")]
    Empty,
    #[error(
        "the address daemon gave block {block}, which is not in podCIDR {pod_cidr}; correct the pool or podCIDR"
    )]
    Foreign { block: Ipv4Net, pod_cidr: Ipv4Net },
    #[error("remembering the blocks was interrupted")]
    Interrupted,
}

/// Gets the blocks and gives them to the pods' network.
#[derive(Debug)]
pub(super) struct BlockKeeper {
    pub(super) config: Arc<NodeConfig>,
    pub(super) file: PathBuf,
    pub(super) network: Arc<PodNetwork>,
    pub(super) told: watch::Sender<Vec<Ipv4Net>>,
    pub(super) readiness: Arc<Readiness>,
}

impl BlockKeeper {
    /// Uses what can be used without asking anybody.
    pub(super) fn begin(&self) {
        if self.config.address_daemon.is_none() {
            let given: Vec<Ipv4Net> = self.config.pod_blocks.iter().map(Ipv4Net::trunc).collect();
            self.use_blocks(if given.is_empty() { vec![self.config.pod_cidr.trunc()] } else { given });
            return;
        }
        match addresses::remembered(&self.file) {
            Ok(blocks) if blocks.is_empty() => {}
            Ok(blocks) => match self.check(&blocks) {
                Ok(()) => self.use_blocks(blocks),
                // The cluster's addresses were changed since.
                Err(error) => tracing::warn!(%error, "remembered blocks of pod addresses are not used"),
            },
            Err(error) => tracing::warn!(%error, "blocks of pod addresses are not remembered"),
        }
    }

    /// Leases until that succeeds once; goes on until it is dropped, so that those who follow the blocks do not see an end.
    pub(super) async fn run(self) {
        self.lease_once().await;
        std::future::pending::<()>().await;
    }

    async fn lease_once(&self) {
        let Some(daemon) = &self.config.address_daemon else { return };
        let mut retry = Retry::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            match self.lease(daemon).await {
                Ok(blocks) => {
                    tracing::info!(?blocks, "pod addresses are leased");
                    self.use_blocks(blocks);
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "pod addresses cannot be leased; trying again");
                    if self.told.borrow().is_empty() {
                        self.readiness.set(Part::Addresses, Err(error.to_string()));
                    }
                }
            }
            tokio::time::sleep(retry.pause()).await;
        }
    }

    /// What the daemon gave is on disk when this returns: it must not be forgotten while pods use it.
    async fn lease(&self, daemon: &AddressDaemonConfig) -> Result<Vec<Ipv4Net>, LeaseError> {
        let blocks = addresses::lease(daemon, &self.config.node_name).await?;
        if blocks.is_empty() {
            return Err(LeaseError::Empty);
        }
        self.check(&blocks)?;
        let (file, kept) = (self.file.clone(), blocks.clone());
        let remembered = tokio::task::spawn_blocking(move || addresses::remember(&file, &kept)).await;
        remembered.map_err(|_| LeaseError::Interrupted)??;
        Ok(blocks)
    }

    /// Pods outside the pods' network would be taken for strangers by every rule of the cluster.
    fn check(&self, blocks: &[Ipv4Net]) -> Result<(), LeaseError> {
        let pod_cidr = self.config.pod_cidr;
        match blocks.iter().find(|block| !pod_cidr.contains(*block)) {
            Some(block) => Err(LeaseError::Foreign { block: *block, pod_cidr }),
            None => Ok(()),
        }
    }

    fn use_blocks(&self, blocks: Vec<Ipv4Net>) {
        if *self.told.borrow() != blocks {
            self.network.set_blocks(&blocks);
            self.told.send_replace(blocks);
        }
        self.readiness.set(Part::Addresses, Ok(()));
    }
}

#[cfg(test)]
mod tests;
