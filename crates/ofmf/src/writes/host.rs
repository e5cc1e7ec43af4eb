//! Power of systems: `online` of a host says what is wanted, its controller brings it about.

use std::{sync::Arc, time::Duration};

use drystone_api::BareMetalHost;
use drystone_engine::{
    harness::until,
    reference::{ObjectKey, is_not_found},
};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Parameters, Reply, WriteRequest},
};
use futures::future::join_all;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{
    Inner, refused,
    systems::{self, hosts_of},
};
use crate::render::system::RESET_TYPES;

const ACTION: &str = "ComputerSystem.Reset";
/// How long a host may take to get to a power state.
const POWER_LIMIT: Duration = Duration::from_secs(900);

/// `ComputerSystem.Reset`, of a host or of all hosts of a composed system.
pub(super) async fn reset(
    inner: &Arc<Inner>,
    system: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let hosts = hosts_of(inner, system);
    if hosts.is_empty() {
        return Err(ServiceError::not_found(request.target.uri));
    }
    let mut parameters = Parameters::action(ACTION, request.body.into_object());
    parameters.require("ResetType");
    let reset_type = parameters.choice("ResetType", &RESET_TYPES);
    parameters.finish()?;
    let reset_type = reset_type.unwrap_or_default();
    let composed = systems::find(inner, system).is_some();
    let Some(change) = change_of(&reset_type, &hosts) else { return Ok(Reply::no_operation()) };
    check_resettable(&hosts, &reset_type, change, composed)?;
    let title = format!("{reset_type} of {system}");
    let keys: Vec<ObjectKey> = hosts.iter().map(|host| ObjectKey::of(host.as_ref())).collect();
    let work = inner.clone();
    inner
        .tasks
        .carry_out(title, async move {
            let each = keys.iter().map(|key| bring_to(&work, key, change));
            join_all(each).await.into_iter().collect::<Result<(), ServiceError>>()?;
            Ok(Reply::message(&message::success()))
        })
        .await
}

/// What becomes of a host's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PowerChange {
    /// It is switched off first.
    off_first: bool,
    /// It is on in the end.
    on_then: bool,
}

/// What a kind of reset does; `None` if all hosts are so already.
pub(super) fn change_of(reset_type: &str, hosts: &[Arc<BareMetalHost>]) -> Option<PowerChange> {
    let (off_first, on_then) = match reset_type {
        "On" | "ForceOn" => (false, true),
        "ForceOff" | "GracefulShutdown" => (true, false),
        _ => (true, true),
    };
    let is_so = |host: &Arc<BareMetalHost>| {
        let on = host.status.as_ref().is_some_and(|status| status.powered_on);
        on == on_then && host.spec.online == on_then
    };
    let nothing = !(off_first && on_then) && hosts.iter().all(is_so);
    (!nothing).then_some(PowerChange { off_first, on_then })
}

/// Whether hosts may be reset by who asks. `composed`: it is their own system that is reset.
pub(super) fn check_resettable(
    hosts: &[Arc<BareMetalHost>],
    reset_type: &str,
    change: PowerChange,
    composed: bool,
) -> Result<(), ServiceError> {
    // Whoever has claimed a host decides about its power.
    if !composed && hosts.iter().any(|host| host.spec.consumer_ref.is_some()) {
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    if change.off_first && hosts.iter().any(|host| host.spec.disable_power_off) {
        let message = message::action_parameter_value_conflict("ResetType", reset_type);
        return Err(ServiceError::conflict(message));
    }
    Ok(())
}

/// Brings a host's power to what a reset makes of it.
pub(super) async fn bring_to(
    inner: &Inner,
    key: &ObjectKey,
    change: PowerChange,
) -> Result<(), ServiceError> {
    if change.off_first {
        switch(inner, key, false).await?;
    }
    if change.on_then {
        switch(inner, key, true).await?;
    }
    Ok(())
}

/// Says what is wanted, and waits until it is so.
async fn switch(inner: &Inner, key: &ObjectKey, on: bool) -> Result<(), ServiceError> {
    let api: Api<BareMetalHost> = Api::namespaced(inner.client.clone(), &key.namespace);
    let patch = json!({"spec": {"online": on}});
    let gone = || ServiceError::conflict(message::operation_failed("the host is gone"));
    match api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Ok(_) => {}
        Err(error) if is_not_found(&error) => return Err(gone()),
        Err(error) => return Err(refused(&error)),
    }
    let reached = until(&inner.feed.sources().hosts, key, POWER_LIMIT, |host| {
        let Some(host) = host else { return Some(Err(gone())) };
        if host.spec.online != on {
            // Not seen yet, or somebody else wants otherwise by now.
            return None;
        }
        host.status.as_ref().filter(|status| status.powered_on == on).map(|_| Ok(()))
    })
    .await;
    let reached = reached.unwrap_or_else(|| {
        let wanted = if on { "on" } else { "off" };
        Err(ServiceError::conflict(message::operation_failed(&format!("the host did not switch {wanted}"))))
    });
    if let Some(host) = inner.feed.sources().hosts.get(key) {
        inner.feed.show_bare_metal_host(&host);
    }
    reached
}
