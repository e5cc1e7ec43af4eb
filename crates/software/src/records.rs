//! HostSoftware objects: made where they are missing, and what is written into them.

use drystone_api::{
    BareMetalHost, HostSoftware, HostSoftwareSpec, HostSoftwareStatus, condition, set_condition,
};
use drystone_engine::{
    harness::update_status,
    reference::{is_conflict, owner_reference, reference_to},
};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{Api, Client, ResourceExt as _, api::PostParams};

use crate::{
    access::{AccessError, HostAccess, HostDoor},
    facts::{ApiError, REACHABLE, api_error},
    inventory::{Inventory, parse, script},
    ways,
};
use drystone_api::SoftwareAccess;

/// How long the question what is on a host may take.
const QUESTION: std::time::Duration = std::time::Duration::from_secs(120);

/// The HostSoftware of a host; made if there is none.
///
/// # Errors
/// [`ApiError`].
pub async fn ensure(client: &Client, host: &BareMetalHost) -> Result<HostSoftware, ApiError> {
    let namespace = host.namespace().unwrap_or_default();
    let api: Api<HostSoftware> = Api::namespaced(client.clone(), &namespace);
    let name = host.name_any();
    if let Some(found) = api.get_opt(&name).await.map_err(api_error("reading the HostSoftware"))? {
        return Ok(found);
    }
    let mut software = HostSoftware::new(&name, HostSoftwareSpec::default());
    software.metadata.namespace = Some(namespace);
    software.metadata.owner_references = Some(vec![owner_reference(&reference_to(host))]);
    match api.create(&PostParams::default(), &software).await {
        Ok(made) => Ok(made),
        Err(error) if is_conflict(&error) => {
            api.get(&name).await.map_err(api_error("reading the HostSoftware"))
        }
        Err(error) => Err(api_error("creating the HostSoftware")(error)),
    }
}

/// Changes the status of a host's HostSoftware, if there is one.
///
/// # Errors
/// [`ApiError`].
pub async fn change(
    client: &Client,
    namespace: &str,
    host: &str,
    change: impl Fn(&mut HostSoftwareStatus),
) -> Result<(), ApiError> {
    let api: Api<HostSoftware> = Api::namespaced(client.clone(), namespace);
    let Some(found) = api.get_opt(host).await.map_err(api_error("reading the HostSoftware"))? else {
        return Ok(());
    };
    match update_status(&api, &found, change).await {
        Ok(_) | Err(drystone_engine::harness::StatusError::Replaced { .. }) => Ok(()),
        Err(drystone_engine::harness::StatusError::Api { source, .. }) => {
            Err(api_error("writing the HostSoftware")(source))
        }
    }
}

/// Writes down what was read.
///
/// # Errors
/// [`ApiError`].
pub async fn write(
    client: &Client,
    namespace: &str,
    host: &str,
    inventory: &Inventory,
) -> Result<(), ApiError> {
    write_if(client, namespace, host, inventory, |_| true).await
}

/// Writes down what was read, where `wanted` says so of what is written there.
///
/// # Errors
/// [`ApiError`].
pub async fn write_if(
    client: &Client,
    namespace: &str,
    host: &str,
    inventory: &Inventory,
    wanted: impl Fn(&HostSoftwareStatus) -> bool,
) -> Result<(), ApiError> {
    let now = Timestamp::now();
    change(client, namespace, host, |status| {
        if !wanted(status) {
            return;
        }
        inventory.write_to(status);
        status.observed_at = Some(Time(now));
        set_condition(&mut status.conditions, condition(REACHABLE, true, "Answers", ""), now);
    })
    .await
}

/// Writes down whether a host was reached. A key that it has shown for the first time is the one that it must have from now on.
async fn reached(
    client: &Client,
    namespace: &str,
    host: &str,
    result: Result<Option<String>, &AccessError>,
) -> Result<(), ApiError> {
    let now = Timestamp::now();
    change(client, namespace, host, |status| match &result {
        Ok(key) => {
            if let Some(key) = key
                && status.host_keys.is_empty()
            {
                status.host_keys.push(key.clone());
            }
            set_condition(&mut status.conditions, condition(REACHABLE, true, "Answers", ""), now);
        }
        Err(error) => {
            let reason = if matches!(error, AccessError::Refused(_)) { "Refused" } else { "Unreachable" };
            set_condition(
                &mut status.conditions,
                condition(REACHABLE, false, reason, error.to_string()),
                now,
            );
        }
    })
    .await
}

/// Opens the way to a host, and writes down whether that was possible.
///
/// # Errors
/// [`AccessError`].
pub async fn open(
    client: &Client,
    door: &dyn HostDoor,
    namespace: &str,
    host: &str,
    access: &SoftwareAccess,
) -> Result<Box<dyn HostAccess>, AccessError> {
    let way = match ways::find(client, namespace, host, access).await {
        Ok(way) => Ok(way),
        Err(error) => Err(error.into_access()),
    };
    let (opened, learn) = match way {
        Ok(way) => (door.open(&way).await, way.host_keys.is_empty()),
        Err(error) => (Err(error), false),
    };
    let noted = match &opened {
        Ok(access) => Ok(access.host_key().filter(|_| learn)),
        Err(error) => Err(error),
    };
    let written = reached(client, namespace, host, noted).await;
    let access = opened?;
    // A key that is not written down would be learned again, from whoever answers then.
    written.map_err(|error| AccessError::Unreachable(error.to_string()))?;
    Ok(access)
}

/// Asks a host what is on it.
///
/// # Errors
/// [`AccessError`].
pub async fn read<'a>(
    access: &dyn HostAccess,
    files: impl IntoIterator<Item = &'a str>,
) -> Result<Inventory, AccessError> {
    let answer = access.run(&script(files), QUESTION).await?.succeeded("reading what is on the host")?;
    parse(&answer.output).map_err(|error| AccessError::Failed(error.to_string()))
}
