//! Claims on hosts: `spec.consumerRef`, set and cleared under the host's resourceVersion, so that no host ever has two
//! owners whoever else writes.

use drystone_api::{BareMetalHost, CompositionMember, ObjectReference, ProvisioningState};
use drystone_engine::reference::{is_conflict, is_not_found};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

/// Outcome of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The host is ours now.
    Taken,
    /// It was ours before.
    Held,
    /// Somebody else has it, or it is gone.
    Lost(String),
}

/// Whether a reference points at the same object: by kind, namespace and name.
pub(crate) fn same(a: &ObjectReference, b: &ObjectReference) -> bool {
    (&a.kind, &a.namespace, &a.name) == (&b.kind, &b.namespace, &b.name)
}

fn hosts(client: &Client, namespace: &str) -> Api<BareMetalHost> {
    Api::namespaced(client.clone(), namespace)
}

/// Claims a host.
pub(crate) async fn claim(
    client: &Client,
    member: &CompositionMember,
    owner: &ObjectReference,
) -> Result<Claim, kube::Error> {
    let api = hosts(client, &member.host_namespace);
    let Some(host) = api.get_opt(&member.host).await? else {
        return Ok(Claim::Lost(format!("{} is gone", member.host)));
    };
    match &host.spec.consumer_ref {
        Some(consumer) if same(consumer, owner) => return Ok(Claim::Held),
        Some(consumer) => return Ok(Claim::Lost(format!("{} was claimed by {consumer}", member.host))),
        None => {}
    }
    match patch(&api, &host, &json!({"consumerRef": owner})).await {
        Ok(()) => Ok(Claim::Taken),
        Err(error) if is_conflict(&error) => Ok(Claim::Lost(format!("{} changed meanwhile", member.host))),
        Err(error) => Err(error),
    }
}

async fn patch(api: &Api<BareMetalHost>, host: &BareMetalHost, spec: &Value) -> Result<(), kube::Error> {
    let body = json!({"metadata": {"resourceVersion": host.resource_version()}, "spec": spec});
    api.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await.map(drop)
}

/// Whether nothing of its user runs on a host any more, or its controller cannot take it away: then the host is in no pool, so
/// that nobody gets it before it is repaired and emptied.
pub(crate) fn is_clean(host: &BareMetalHost) -> bool {
    let status = host.status.clone().unwrap_or_default();
    let busy = matches!(
        status.provisioning.state,
        ProvisioningState::Provisioned | ProvisioningState::Provisioning | ProvisioningState::Deprovisioning
    );
    host.spec.image.is_none() && (!busy || status.is_hopeless())
}

/// Gives a host back if it is ours and clean. With `evict`, what runs on it is taken away first; the host is given back
/// by a later call. Returns whether the host is no longer ours.
pub(crate) async fn release(
    client: &Client,
    host: &BareMetalHost,
    owner: &ObjectReference,
    evict: bool,
) -> Result<bool, kube::Error> {
    if !host.spec.consumer_ref.as_ref().is_some_and(|consumer| same(consumer, owner)) {
        return Ok(true);
    }
    let api = hosts(client, &host.namespace().unwrap_or_default());
    let change = if is_clean(host) {
        json!({"consumerRef": null, "userData": null, "networkData": null, "metaData": null, "online": false})
    } else if evict && host.spec.image.is_some() {
        json!({"image": null, "userData": null, "networkData": null, "metaData": null, "online": false})
    } else {
        return Ok(false);
    };
    match patch(&api, host, &change).await {
        Ok(()) => Ok(is_clean(host)),
        Err(error) if is_conflict(&error) => Ok(false),
        Err(error) if is_not_found(&error) => Ok(true),
        Err(error) => Err(error),
    }
}
