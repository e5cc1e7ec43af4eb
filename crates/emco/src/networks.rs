//! Networks of clusters: the context that takes their objects there.

use drystone_appcontext::{AppContext, ClusterName, ContextId};

use crate::{
    builtin::networks,
    library::Library,
    model::{ClusterFacts, Refusal},
};

/// The context of the networks of a cluster: networks, then provider networks.
///
/// # Errors
/// The cluster is not there any more.
pub(crate) fn context(
    library: &Library,
    cluster: &ClusterName,
    id: ContextId,
) -> Result<AppContext, Refusal> {
    library.cluster(cluster)?;
    let unknown = || ClusterFacts::named(cluster.clone());
    let facts = library.facts().remove(cluster).unwrap_or_else(unknown);
    let (all, provider_networks) = library.networks_of(cluster);
    networks::context(id, &facts, &all, &provider_networks)
}
