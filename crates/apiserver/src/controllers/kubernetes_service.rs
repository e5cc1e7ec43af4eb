//! The Service `kubernetes` in namespace `default`, by which pods reach this server, and its endpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::bootstrap::ensure_object;
use crate::config::ServiceNetwork;
use crate::machinery::status::ApiError;
use crate::operations::modify::{self, Change, OnConflict, Ownership, Part};
use crate::operations::{Target, Writer, system};
use crate::server::state::State;

/// How often it is looked whether all is as it should be.
const CHECK_EVERY: Duration = Duration::from_secs(30);

/// Keeps the Service and its endpoint until the server stops.
pub(super) async fn run(state: Arc<State>, network: ServiceNetwork, advertised: SocketAddr) {
    loop {
        if let Err(error) = ensure(&state, &network, advertised).await {
            tracing::warn!(%error, "the Service \"kubernetes\" is not as it should be");
        }
        tokio::select! {
            () = state.stopping.cancelled() => return,
            () = tokio::time::sleep(CHECK_EVERY) => {}
        }
    }
}

/// Makes the Service and its endpoint, and corrects the endpoint.
pub(super) async fn ensure(
    state: &State,
    network: &ServiceNetwork,
    advertised: SocketAddr,
) -> Result<(), ApiError> {
    // Pods find the server at the first address of the network, which the default certificate is for as well.
    let first = network.cidrs.first().and_then(|cidr| cidr.hosts().next());
    let Some(first) = first else { return Ok(()) };
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    ensure_object(
        state,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "type": "ClusterIP", "clusterIP": first.to_string(), "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": advertised.port()}],
            },
        }),
    )
    .await?;
    let subsets = json!([{
        "addresses": [{"ip": advertised.ip().to_string()}],
        "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
    }]);
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": subsets,
    });
    keep(state, "", "endpoints", endpoints, &["subsets"]).await?;
    let family = if advertised.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{"addresses": [advertised.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
    });
    keep(state, "discovery.k8s.io", "endpointslices", slice, &["endpoints", "ports"]).await
}

/// Makes an object, or corrects the named fields of the one that is there.
async fn keep(
    state: &State,
    group: &str,
    plural: &str,
    object: Value,
    fields: &[&str],
) -> Result<(), ApiError> {
    let catalog = state.registry.catalog();
    let resource = catalog.resource(group, "v1", plural).ok_or(ApiError::NoSuchResource)?;
    let target = Target::new(resource, "default", "kubernetes");
    ensure_object(state, object.clone()).await?;
    let make = |current: &Value| {
        let mut new = current.clone();
        for field in fields {
            new[field] = object[field].clone();
        }
        Ok((new, Ownership::Changed))
    };
    let change = Change { part: Part::Main, on_conflict: OnConflict::Retry, make: &make };
    let (user, options) = system();
    modify::modify(state, &target, &change, &mut Writer::new(&user, &options)).await.map(|_| ())
}
