//! Resource managers and the composing manager: which hosts a composition gets, and why these.
//!
//! Rooms: [`model`] and [`topology`] (what the resource managers know), [`plan`] (pure: filters, candidates, scores,
//! explanation), [`queue`] (pure: who is served first), [`snapshot`] (from resources to the model), [`fencing`] and the claims,
//! [`controller`] (claims and releases), [`pool`] (power).

mod claims;
pub mod controller;
pub mod fencing;
mod inventory;
pub mod model;
pub mod plan;
pub mod pool;
pub mod queue;
pub mod snapshot;
pub mod topology;

use std::sync::Arc;

use drystone_api::{
    BareMetalHost, Composition, CompositionSpec, Explanation, ObjectReference, ResourceBlock, ResourcePool,
    Switch,
};
use kube::{Api, Client, Resource, api::ListParams};
use serde::de::DeserializeOwned;

async fn all<K>(client: &Client) -> Result<Vec<Arc<K>>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let list = Api::<K>::all(client.clone()).list(&ListParams::default()).await?;
    Ok(list.items.into_iter().map(Arc::new).collect())
}

/// What a composition would get if it were declared now; nothing is reserved.
///
/// # Errors
/// When the API cannot be read.
pub async fn preview(
    client: &Client,
    name: &str,
    spec: &CompositionSpec,
) -> Result<Explanation, kube::Error> {
    let observed = snapshot::Observed {
        hosts: all::<BareMetalHost>(client).await?,
        blocks: all::<ResourceBlock>(client).await?,
        pools: all::<ResourcePool>(client).await?,
        compositions: all::<Composition>(client).await?,
    };
    let switches = all::<Switch>(client).await?;
    let nodes = topology::nodes_of(switches.iter().map(AsRef::as_ref));
    let snapshot = snapshot::assemble(&observed, model::Distances::new(nodes).into());
    let owner =
        ObjectReference { kind: "Composition".to_owned(), name: name.to_owned(), ..Default::default() };
    Ok(plan::compose(&plan::Request::new(owner, spec, &[]), &snapshot).explanation)
}
