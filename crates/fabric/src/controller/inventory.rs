//! Switch objects: what a crawl found, written down where it changed.

use std::collections::BTreeSet;

use drystone_api::{FabricAgent, FabricRouting, Switch, SwitchSpec, SwitchStatus};
use drystone_engine::{
    harness::{Cache, StatusError, update_status},
    reference::{ObjectKey, is_not_found},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams},
};
use uuid::Uuid;

use crate::drivers::CrawledFabric;

const MANAGER: &str = "drystone-fabric";

/// Switches written at one time: enough to share the store's commits.
const AT_ONCE: usize = 64;

/// Longest part of a switch's id in its object's name.
const NAME_LENGTH: usize = 48;

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum InventoryError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("{doing} Switch {name}: {source}")]
    Api { doing: &'static str, name: String, source: kube::Error },
}

/// Name of a switch's object: its id as far as names allow, and what keeps apart switches of the same id.
pub(super) fn object_name(spec: &SwitchSpec) -> String {
    let identity = format!("{}\n{}\n{}", spec.fabric_uuid, spec.fabric, spec.id);
    let mark = Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes()).simple().to_string();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let readable: String = spec.id.chars().map(plain).take(NAME_LENGTH).collect();
    let readable = readable.trim_matches('-');
    let readable = if readable.is_empty() { "switch" } else { readable };
    format!("{readable}-{}", &mark[..8])
}

/// Brings the Switch objects of an agent to what its crawl found: new ones appear, changed ones change, and, if the crawl read
/// everything, those that it did not find vanish. Returns how many were written.
pub(super) async fn bring_switches(
    client: &Client,
    known: &Cache<Switch>,
    agent: &FabricAgent,
    found: &[CrawledFabric],
    complete: bool,
) -> Result<usize, InventoryError> {
    let namespace = agent.namespace().unwrap_or_default();
    let api: Api<Switch> = Api::namespaced(client.clone(), &namespace);
    // Fabrics that their agents route are shown as the agents have them; nothing is planned on them.
    let planned = found.iter().filter(|fabric| fabric.routing == FabricRouting::Drystone);
    let switches = planned.flat_map(|fabric| &fabric.switches);
    let mut names = BTreeSet::new();
    let mut changed = Vec::new();
    for (spec, status) in switches {
        let name = object_name(spec);
        names.insert(name.clone());
        let spec = SwitchSpec { agent: agent.name_any(), ..spec.clone() };
        let present = known.get(&ObjectKey::new(&namespace, &name));
        if present.as_ref().is_none_or(|present| present.spec != spec || differs(present, status)) {
            changed.push((name, spec, status.clone()));
        }
    }
    let count = changed.len();
    let metadata = ObjectMeta {
        labels: agent.metadata.labels.clone(),
        owner_references: agent.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..ObjectMeta::default()
    };
    let writes = changed.into_iter().map(|(name, spec, status)| {
        let metadata = ObjectMeta { name: Some(name), ..metadata.clone() };
        write(api.clone(), metadata, spec, status)
    });
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    if complete {
        let gone = known.list_where(|switch| {
            switch.spec.agent == agent.name_any()
                && switch.namespace().as_deref() == Some(&namespace)
                && !names.contains(&switch.name_any())
        });
        for switch in gone {
            let name = switch.name_any();
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(source) => return Err(InventoryError::Api { doing: "deleting", name, source }),
            }
        }
    }
    Ok(count)
}

/// Brings state and links of one switch up to date; its endpoints are not looked at.
pub(super) async fn refresh_switch(
    client: &Client,
    switch: &Switch,
    found: &SwitchStatus,
) -> Result<(), InventoryError> {
    let api: Api<Switch> = Api::namespaced(client.clone(), &switch.namespace().unwrap_or_default());
    update_status(&api, switch, |status: &mut SwitchStatus| {
        status.state = found.state;
        status.links.clone_from(&found.links);
        (status.link_count, status.links_down) = (found.link_count, found.links_down);
    })
    .await?;
    Ok(())
}

/// Whether a crawl says something else than the object; conditions are not the crawl's.
fn differs(present: &Switch, found: &SwitchStatus) -> bool {
    let Some(status) = &present.status else { return true };
    (status.state, &status.links, &status.endpoints) != (found.state, &found.links, &found.endpoints)
}

async fn write(
    api: Api<Switch>,
    metadata: ObjectMeta,
    spec: SwitchSpec,
    found: SwitchStatus,
) -> Result<(), InventoryError> {
    let name = metadata.name.clone().unwrap_or_default();
    let mut object = Switch::new(&name, spec);
    object.metadata = metadata;
    let params = PatchParams::apply(MANAGER).force();
    let object = api
        .patch(&name, &params, &Patch::Apply(&object))
        .await
        .map_err(|source| InventoryError::Api { doing: "declaring", name, source })?;
    update_status(&api, &object, |status: &mut SwitchStatus| {
        let conditions = std::mem::take(&mut status.conditions);
        *status = SwitchStatus { conditions, ..found.clone() };
    })
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_readable_and_never_the_same_for_two_switches() {
        let spec = |fabric: &str, id: &str| SwitchSpec {
            fabric: fabric.into(),
            id: id.into(),
            ..SwitchSpec::default()
        };
        let names = [("E", "eth-a"), ("F", "eth-a"), ("E", "ETH_A"), ("E", "__"), ("E", "")]
            .map(|(fabric, id)| object_name(&spec(fabric, id)));
        assert!(names[0].starts_with("eth-a-") && names[2].starts_with("eth-a-"));
        assert!(names[3].starts_with("switch-"));
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(object_name(&spec("E", &"x".repeat(500))).len() < 64);
    }
}
