//! Hosts that are claimed for a Composition that does not exist any more: a composing manager that was stopped in the middle
//! of its claims, and went on when the Composition was gone. They are given back, unless something runs on them.

use std::time::Duration;

use drystone_api::{BareMetalHost, Composition, ObjectReference};
use kube::{Api, Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;

use super::Inventory;
use crate::claims::{release, token_of};

/// How often they are looked for.
const PERIOD: Duration = Duration::from_secs(30);

/// Sweeps until `shutdown`.
pub(super) async fn run(client: Client, inventory: Inventory, shutdown: CancellationToken) {
    loop {
        if let Err(error) = sweep(&client, &inventory).await {
            tracing::warn!("looking for hosts of vanished Compositions: {error}");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// One round; returns how many hosts were given back.
pub(super) async fn sweep(client: &Client, inventory: &Inventory) -> Result<usize, kube::Error> {
    let kind = |consumer: &ObjectReference| {
        consumer.kind == "Composition" && consumer.api_version.starts_with(drystone_api::GROUP)
    };
    let claimed = inventory.hosts.list_where(|host| host.spec.consumer_ref.as_ref().is_some_and(kind));
    let mut given_back = 0;
    for host in claimed {
        let Some(owner) = host.spec.consumer_ref.clone() else { continue };
        let api: Api<Composition> = Api::namespaced(client.clone(), &owner.namespace);
        // The API itself is asked, not the copy of it, which may not know of the Composition yet.
        let known = inventory.compositions.get(&(&owner).into()).is_some();
        if known || api.get_opt(&owner.name).await?.is_some() {
            continue;
        }
        if give_back(client, &host, &owner).await? {
            tracing::info!(host = %host.name_any(), %owner, "given back: its Composition does not exist");
            given_back += 1;
        }
    }
    Ok(given_back)
}

async fn give_back(
    client: &Client,
    host: &BareMetalHost,
    owner: &ObjectReference,
) -> Result<bool, kube::Error> {
    release(client, host, owner, token_of(host), false).await
}
