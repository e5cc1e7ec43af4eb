//! Hosts that an orchestrator has are nobody else's: while they are, the Site is their consumer. They are given back when the orchestrator
//! has let go of them, so that a host is not wiped under it.

use drystone_api::{BareMetalHost, GROUP, ObjectReference, Site, SiteHandOffStatus};
use k8s_openapi::jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _};

use super::{Inventory, is_active, is_taken};

/// Who the consumer of a handed-over host is.
pub fn consumer(site: &Site) -> ObjectReference {
    ObjectReference {
        api_version: Site::api_version(&()).into_owned(),
        kind: Site::kind(&()).into_owned(),
        namespace: site.namespace().unwrap_or_default(),
        name: site.name_any(),
        uid: String::new(),
    }
}

/// Whether a host has been handed over for this site.
pub fn is_claimed(host: &BareMetalHost, site: &Site) -> bool {
    host.spec.consumer_ref.as_ref().is_some_and(|consumer| {
        consumer.kind == Site::kind(&())
            && consumer.api_version.starts_with(GROUP)
            && Some(&consumer.namespace) == site.namespace().as_ref()
            && consumer.name == site.name_any()
    })
}

/// Whether a host of the site is to be claimed before the orchestrator is told of it. Those of a cluster are the cluster's.
pub fn wants_claim(host: &BareMetalHost, site: &Site, inventory: &Inventory) -> bool {
    site.spec.cluster.is_none()
        && host.spec.consumer_ref.is_none()
        && inventory.hosts.contains_key(&host.name_any())
}

/// Whether a host is given back: the orchestrator does not have it any more, or has not answered for `limit` seconds that it lets it go.
pub fn wants_release(
    host: &BareMetalHost,
    site: &Site,
    inventory: &Inventory,
    record: Option<&SiteHandOffStatus>,
    limit: u64,
    now: Timestamp,
) -> bool {
    let name = host.name_any();
    if !is_claimed(host, site) || inventory.hosts.contains_key(&name) {
        return false;
    }
    let Some(record) = record.filter(|record| is_active(record)) else { return true };
    if !record.hosts.contains(&name) {
        return true;
    }
    let since = record.since.as_ref().filter(|_| record.withdrawn.contains(&name) && !is_taken(record));
    since.is_some_and(|since| {
        u64::try_from(now.duration_since(since.0).as_secs()).is_ok_and(|waited| waited >= limit)
    })
}
