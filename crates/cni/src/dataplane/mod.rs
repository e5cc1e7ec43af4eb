//! The service data plane of a node: what kube-proxy does, as one nftables table.
//!
//! [`rules::ruleset`] computes the whole table out of the Services and what is known of the node, and is pure.
//! [`ruleset::Ruleset`] renders it, or the difference from another, as one nftables transaction. [`DataPlane`] applies that,
//! announces external addresses ([`announce`]) and forgets stale UDP flows ([`conntrack`]).
//!
//! A connection to a Service costs one map look-up, however many Services there are:
//!
//! ```text
//! prerouting, output ─> dispatch ── address . protocol . port ──> svc-…  balance over all endpoints
//!                                                            └──> ext-…  policy for outside clients, then svc-… or loc-…
//! postrouting: a pod that reaches itself, outside clients of pods elsewhere, and pods leaving the cluster: source NAT
//! ```

pub mod announce;
pub mod conntrack;
pub mod model;
pub mod rules;
pub mod ruleset;

use tokio::sync::Mutex;

use self::{
    model::{NodeView, ServicePort},
    ruleset::Ruleset,
};
use crate::{
    network::NetworkError,
    tools::{ToolError, Tools},
};

/// What the kernel was told last.
#[derive(Debug)]
struct Applied {
    ruleset: Ruleset,
    services: Vec<ServicePort>,
}

/// Keeps the kernel's tables as the Services want them.
#[derive(Debug)]
pub struct DataPlane {
    tools: Tools,
    applied: Mutex<Option<Applied>>,
}

impl DataPlane {
    /// A data plane in the network namespace of `tools`.
    pub fn new(tools: Tools) -> Self {
        Self { tools, applied: Mutex::new(None) }
    }

    /// Makes the kernel's table that of these Services: only what changed since the last call, or all of it the first time
    /// and when the table is not as it was left. The table changes in one transaction or not at all.
    ///
    /// # Errors
    /// [`NetworkError`] if a tool fails; call again.
    pub async fn apply(&self, services: &[ServicePort], node: &NodeView) -> Result<(), NetworkError> {
        let wanted = rules::ruleset(services, node);
        let mut applied = self.applied.lock().await;
        match applied.as_ref() {
            Some(before) => {
                let change = wanted.change_from(&before.ruleset);
                if !change.is_empty()
                    && let Err(error) = self.tools.nft(&change).await
                {
                    tracing::warn!(%error, "the nftables table is not as it was left; it is written anew");
                    self.write(&wanted).await?;
                }
            }
            None => self.write(&wanted).await?,
        }
        let before = applied.replace(Applied { ruleset: wanted, services: services.to_vec() });
        // From here on the table is right; what follows can be repeated.
        announce::apply(&self.tools, &node.interface, announce::SERVICES, &node.announced).await?;
        let before = before.map(|before| before.services).unwrap_or_default();
        conntrack::forget(&self.tools, &conntrack::stale_flows(&before, services)).await;
        Ok(())
    }

    /// Writes the table anew if somebody removed it. Returns whether that was so.
    ///
    /// # Errors
    /// [`NetworkError`] if a tool fails.
    pub async fn repair(&self) -> Result<bool, NetworkError> {
        let applied = self.applied.lock().await;
        let Some(Applied { ruleset, .. }) = applied.as_ref() else { return Ok(false) };
        let list = self.tools.run("nft", &["list", "chain", "ip", ruleset::TABLE, rules::DISPATCH], "").await;
        match list {
            Ok(_) => Ok(false),
            Err(error) if error.says("No such file or directory") => {
                self.write(ruleset).await?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the table and the announced addresses.
    ///
    /// # Errors
    /// [`NetworkError`] if a tool fails.
    pub async fn remove(&self, node: &NodeView) -> Result<(), NetworkError> {
        *self.applied.lock().await = None;
        self.tools.nft(&ruleset::removal()).await?;
        let none = std::collections::BTreeSet::new();
        announce::apply(&self.tools, &node.interface, announce::SERVICES, &none).await
    }

    async fn write(&self, ruleset: &Ruleset) -> Result<(), ToolError> {
        self.tools.nft(&ruleset.render()).await
    }
}
