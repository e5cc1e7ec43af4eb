//! Resource managers and the composing manager: which hosts a composition gets, and why these.
//!
//! Rooms: [`model`] (what the resource managers know), [`plan`] (pure: filters, candidates, scores, explanation),
//! [`snapshot`] (from resources to the model), [`controller`] (claims and releases).

mod claims;
pub mod controller;
pub mod model;
pub mod plan;
pub mod snapshot;

use drystone_api::{BareMetalHost, CompositionSpec, Explanation, ObjectReference, ResourceBlock, Switch};
use kube::{Api, Client, api::ListParams};

/// What a composition would get if it were declared now; nothing is reserved.
///
/// # Errors
/// When the API cannot be read.
pub async fn preview(
    client: &Client,
    name: &str,
    spec: &CompositionSpec,
) -> Result<Explanation, kube::Error> {
    let all = ListParams::default();
    let hosts = Api::<BareMetalHost>::all(client.clone()).list(&all).await?;
    let blocks = Api::<ResourceBlock>::all(client.clone()).list(&all).await?;
    let switches = Api::<Switch>::all(client.clone()).list(&all).await?;
    let shared = |list: Vec<_>| list.into_iter().map(std::sync::Arc::new).collect::<Vec<_>>();
    let blocks: Vec<_> = blocks.items.into_iter().map(std::sync::Arc::new).collect();
    let switches: Vec<_> = switches.items.into_iter().map(std::sync::Arc::new).collect();
    let snapshot = snapshot::assemble(&shared(hosts.items), &blocks, &switches);
    let owner =
        ObjectReference { kind: "Composition".to_owned(), name: name.to_owned(), ..Default::default() };
    Ok(plan::compose(&plan::Request { owner, spec, members: &[] }, &snapshot).explanation)
}
