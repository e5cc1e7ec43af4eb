//! Power of systems: `online` of a host says what is wanted, its controller brings it about.

use std::{sync::Arc, time::Duration};

use drystone_api::BareMetalHost;
use drystone_engine::reference::{ObjectKey, is_not_found};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Parameters, Reply, WriteRequest},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::{Inner, refused};
use crate::{names::key_of, render::system::RESET_TYPES, waiting::until};

const ACTION: &str = "ComputerSystem.Reset";
/// How long a host may take to get to a power state.
const POWER_LIMIT: Duration = Duration::from_secs(900);

/// `ComputerSystem.Reset`.
pub(super) async fn reset(
    inner: &Arc<Inner>,
    system: &str,
    request: WriteRequest<'_>,
) -> Result<Reply, ServiceError> {
    let key = key_of(system);
    let host =
        inner.feed.sources().hosts.get(&key).ok_or_else(|| ServiceError::not_found(request.target.uri))?;
    let mut parameters = Parameters::action(ACTION, request.body.into_object());
    parameters.require("ResetType");
    let reset_type = parameters.choice("ResetType", &RESET_TYPES);
    parameters.finish()?;
    let reset_type = reset_type.unwrap_or_default();
    let on = host.status.as_ref().is_some_and(|status| status.powered_on);
    let (off_first, on_then) = match reset_type.as_str() {
        "On" | "ForceOn" => (false, true),
        "ForceOff" | "GracefulShutdown" => (true, false),
        _ => (true, true),
    };
    if on == on_then && !(off_first && on_then) && host.spec.online == on_then {
        return Ok(Reply::no_operation());
    }
    // Whoever has claimed a host decides about its power.
    if host.spec.consumer_ref.is_some() {
        return Err(ServiceError::conflict(message::resource_in_use()));
    }
    if off_first && host.spec.disable_power_off {
        return Err(ServiceError::conflict(message::action_parameter_value_conflict(
            "ResetType",
            &reset_type,
        )));
    }
    let title = format!("{reset_type} of {system}");
    let work = inner.clone();
    inner
        .tasks
        .carry_out(title, async move {
            if off_first {
                switch(&work, &key, false).await?;
            }
            if on_then {
                switch(&work, &key, true).await?;
            }
            Ok(Reply::message(&message::success()))
        })
        .await
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
