//! Claims on hosts: `spec.consumerRef`, set and cleared under the host's resourceVersion, so that no host ever has two
//! owners whoever else writes; with a fencing token, so that nobody acts on what he decided too long ago.

use std::time::Duration;

use drystone_api::{
    BareMetalHost, CompositionMember, FENCING_ANNOTATION, ObjectReference, POWERED_BY_ANNOTATION,
    ProvisioningState,
};
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

/// The token of the last claim on a host; 0 if there was none.
pub(crate) fn token_of(host: &BareMetalHost) -> u64 {
    host.annotations().get(FENCING_ANNOTATION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn hosts(client: &Client, namespace: &str) -> Api<BareMetalHost> {
    Api::namespaced(client.clone(), namespace)
}

/// How often a claim is tried on a host that is written meanwhile: its status is, again and again, by whoever looks after it.
const TRIES: u32 = 8;

/// How much longer the pause before each try is.
const PAUSE: Duration = Duration::from_millis(2);

/// Claims a host under a token. A host that is ours already gets the token as well. The host as it is then, if it was written.
pub(crate) async fn claim(
    client: &Client,
    member: &CompositionMember,
    owner: &ObjectReference,
    token: u64,
) -> Result<(Claim, Option<BareMetalHost>), kube::Error> {
    let api = hosts(client, &member.host_namespace);
    for attempt in 0..TRIES {
        tokio::time::sleep(PAUSE * attempt).await;
        let Some(host) = api.get_opt(&member.host).await? else {
            return Ok((Claim::Lost(format!("{} is gone", member.host)), None));
        };
        let outcome = judge(&host, owner, token);
        if matches!(outcome, Claim::Lost(_)) || (outcome == Claim::Held && token_of(&host) == token) {
            return Ok((outcome, None));
        }
        let annotations = json!({FENCING_ANNOTATION: token.to_string()});
        match patch(&api, &host, &json!({"consumerRef": owner}), &annotations).await {
            Ok(written) => return Ok((outcome, Some(written))),
            // Whether it still is to be had is judged anew: that somebody wrote does not say that it is not.
            Err(error) if is_conflict(&error) => {}
            Err(error) if is_not_found(&error) => {
                return Ok((Claim::Lost(format!("{} is gone", member.host)), None));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((Claim::Lost(format!("{} changed again and again meanwhile", member.host)), None))
}

/// What a claim on a host as it is would come to.
fn judge(host: &BareMetalHost, owner: &ObjectReference, token: u64) -> Claim {
    let (name, last) = (host.name_any(), token_of(host));
    if last > token {
        return Claim::Lost(format!("{name} was claimed under a later token ({last})"));
    }
    match &host.spec.consumer_ref {
        Some(consumer) if !same(consumer, owner) => Claim::Lost(format!("{name} was claimed by {consumer}")),
        Some(_) => Claim::Held,
        // Under this token it was claimed and given back already: by a later decision than the one that claims now.
        None if last == token => Claim::Lost(format!("{name} was given back meanwhile")),
        None if is_deleting(host) => Claim::Lost(format!("{name} is being deleted")),
        None => Claim::Taken,
    }
}

fn is_deleting(host: &BareMetalHost) -> bool {
    host.metadata.deletion_timestamp.is_some()
}

async fn patch(
    api: &Api<BareMetalHost>,
    host: &BareMetalHost,
    spec: &Value,
    annotations: &Value,
) -> Result<BareMetalHost, kube::Error> {
    let metadata = json!({"resourceVersion": host.resource_version(), "annotations": annotations});
    let body = json!({"metadata": metadata, "spec": spec});
    api.patch(&host.name_any(), &PatchParams::default(), &Patch::Merge(&body)).await
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
/// by a later call. Returns whether the host is no longer ours. A host that was claimed under a later token than `token` is
/// left alone: this decision is older than that claim.
pub(crate) async fn release(
    client: &Client,
    host: &BareMetalHost,
    owner: &ObjectReference,
    token: u64,
    evict: bool,
) -> Result<bool, kube::Error> {
    if !host.spec.consumer_ref.as_ref().is_some_and(|consumer| same(consumer, owner)) {
        return Ok(true);
    }
    if token_of(host) > token {
        return Ok(false);
    }
    let api = hosts(client, &host.namespace().unwrap_or_default());
    // A host that never had anything of its user stays as it is: it may have been warm before.
    let untouched = host.spec.user_data.is_none() && host.spec.network_data.is_none();
    let change = if is_clean(host) && untouched {
        json!({"consumerRef": null})
    } else if is_clean(host) {
        json!({"consumerRef": null, "userData": null, "networkData": null, "metaData": null, "online": false})
    } else if evict && host.spec.image.is_some() {
        json!({"image": null, "userData": null, "networkData": null, "metaData": null, "online": false})
    } else {
        return Ok(false);
    };
    let mut annotations = json!({FENCING_ANNOTATION: token.max(token_of(host)).to_string()});
    // What its user did with the power is not the word of an administrator against the pool's.
    let online = change["online"].as_bool().unwrap_or(host.spec.online);
    let record = host.annotations().get(POWERED_BY_ANNOTATION);
    if record.is_some_and(|record| record.ends_with("=on") != online) {
        annotations[POWERED_BY_ANNOTATION] = Value::Null;
    }
    match patch(&api, host, &change, &annotations).await {
        Ok(_) => Ok(is_clean(host)),
        Err(error) if is_conflict(&error) => Ok(false),
        Err(error) if is_not_found(&error) => Ok(true),
        Err(error) => Err(error),
    }
}
