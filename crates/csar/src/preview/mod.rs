//! What a request would do, without anything being done: machines, hooks, the stack request, and what does not fit the package.

mod references;

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

pub use references::unknown_references;

use crate::{
    package::Package,
    userdata::{Operation, Situation, StackRequest, UserDataError, built_in, choose, grant_request},
    vnfd::{Direction, Flavour, Hook},
};

/// What a request would do.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    /// The operation, as SOL003 writes it: `INSTANTIATE`, `SCALE`.
    pub operation: &'static str,
    /// The flavour.
    pub flavour: String,
    /// Levels of aspects afterwards.
    pub scale: BTreeMap<String, u32>,
    /// Virtual machines by their VDU.
    pub machines: BTreeMap<String, Machines>,
    /// Hooks that are carried out, in their order: before the stack is changed, and after.
    pub hooks: Vec<PlannedHook>,
    /// The user-data class.
    pub user_data_class: String,
    /// What is asked of Heat; none if the class is not built in, of which `unknown` tells then.
    pub stack_request: Option<StackRequest>,
    /// What the request names and the package does not have.
    pub unknown: Vec<String>,
}

/// Virtual machines of a VDU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machines {
    /// How many there are before.
    pub before: u32,
    /// How many there are afterwards.
    pub after: u32,
    /// Name of the VIM's flavor.
    pub flavor: Option<String>,
    /// Name of the image.
    pub image: Option<String>,
}

/// A hook that is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedHook {
    /// Its name: `instantiate_end`.
    pub name: String,
    /// What it is carried out by.
    #[serde(flatten)]
    pub hook: Hook,
}

/// The state from which a request to scale is looked at.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// The flavour of the instance.
    pub flavour: Option<String>,
    /// The level at which it was instantiated; the default one unless given.
    pub level: Option<String>,
}

/// Looks at a request to instantiate (it has a `flavourId`) or to scale (it has an `aspectId`).
///
/// # Errors
/// If the request is neither, or names a flavour, level or aspect that is not there, or scales out of range.
pub fn preview(package: &Package, request: &Value, before: &Before) -> Result<Preview, UserDataError> {
    let text = |member: &str| request.get(member).and_then(Value::as_str);
    if let Some(flavour) = text("flavourId") {
        let flavour = known_flavour(package, flavour)?;
        let level = text("instantiationLevelId");
        let after = flavour.counts(level)?;
        let scale = flavour.scale_levels(level)?;
        let counts = after.into_iter().map(|(vdu, count)| (vdu, (0, i64::from(count)))).collect();
        return look(package, request, flavour, Operation::Instantiate, scale, &counts);
    }
    let Some(aspect) = text("aspectId") else {
        let message = "the request has neither a `flavourId`, to instantiate, nor an `aspectId`, to scale; those can be planned";
        return Err(UserDataError::Malformed(message.to_owned()));
    };
    let only = || match package.vnfd().flavours.keys().collect::<Vec<_>>().as_slice() {
        [flavour] => Some((*flavour).clone()),
        _ => None,
    };
    let flavour = before.flavour.clone().or_else(only);
    let flavour = flavour.ok_or_else(|| {
        UserDataError::Malformed("name the flavour of the instance that is scaled".to_owned())
    })?;
    let flavour = known_flavour(package, &flavour)?;
    let direction = match text("type") {
        Some("SCALE_OUT") => Direction::Out,
        Some("SCALE_IN") => Direction::In,
        _ => return Err(UserDataError::Malformed("`type` is SCALE_OUT or SCALE_IN".to_owned())),
    };
    let steps = request
        .get("numberOfSteps")
        .map_or(Some(1), Value::as_u64)
        .and_then(|steps| u32::try_from(steps).ok());
    let steps = steps
        .ok_or_else(|| UserDataError::Malformed("`numberOfSteps` is a whole number from 1".to_owned()))?;
    let mut scale = flavour.scale_levels(before.level.as_deref())?;
    let from = scale.get(aspect).copied().unwrap_or_default();
    let change = flavour.scale(aspect, from, steps, direction)?;
    let to =
        if direction == Direction::Out { from.saturating_add(steps) } else { from.saturating_sub(steps) };
    scale.insert(aspect.to_owned(), to);
    let counts = flavour.counts(before.level.as_deref())?.into_iter();
    let counts = counts
        .map(|(vdu, count)| (vdu.clone(), (count, change.get(&vdu).copied().unwrap_or_default())))
        .collect();
    look(package, request, flavour, Operation::Scale, scale, &counts)
}

fn known_flavour<'p>(package: &'p Package, id: &str) -> Result<&'p Flavour, UserDataError> {
    package.flavour(id).ok_or_else(|| UserDataError::Flavour {
        flavour: id.to_owned(),
        known: package.vnfd().flavours.keys().cloned().collect::<Vec<_>>().join(", "),
    })
}

/// Puts it together. `counts` are the machines before, and by how much they change.
fn look(
    package: &Package,
    request: &Value,
    flavour: &Flavour,
    operation: Operation,
    scale: BTreeMap<String, u32>,
    counts: &BTreeMap<String, (u32, i64)>,
) -> Result<Preview, UserDataError> {
    let name = if operation == Operation::Instantiate { "INSTANTIATE" } else { "SCALE" };
    let machines = counts.iter().map(|(vdu_name, (before, change))| {
        let vdu = flavour.vdus.get(vdu_name);
        let after = u32::try_from(i64::from(*before).saturating_add(*change)).unwrap_or_default();
        let machines = Machines {
            before: *before,
            after,
            flavor: vdu.and_then(|vdu| vdu.flavor.clone()),
            image: vdu.and_then(|vdu| vdu.image.as_ref()).map(|image| image.name.clone()),
        };
        (vdu_name.clone(), machines)
    });
    let machines = machines.collect();
    let hooks = ["start", "end"].iter().filter_map(|moment| {
        let name = format!("{}_{moment}", operation.method());
        let hook = flavour.hooks.get(&name)?.clone();
        Some(PlannedHook { name, hook })
    });
    let hooks = hooks.collect();
    let mut unknown = unknown_references(package, flavour, request);
    let choice = choose(package, request.get("additionalParams"))?;
    let instance = instance(flavour, counts);
    let changes = counts.iter().map(|(vdu, (_, change))| (vdu.clone(), *change)).collect();
    let granted = grant_request(&changes, &instance);
    let situation =
        Situation { package, request, instance: &instance, grant_request: &granted, grant: &Value::Null };
    let made = flavour
        .base_hot
        .is_some()
        .then(|| built_in(&choice.class).and_then(|class| class.stack_request(operation, &situation)));
    let stack_request = match made {
        Some(Err(error @ UserDataError::Class { .. })) => {
            unknown.push(error.to_string());
            None
        }
        other => other.transpose()?,
    };
    Ok(Preview {
        operation: name,
        flavour: flavour.id.clone(),
        scale,
        machines,
        hooks,
        user_data_class: choice.class,
        stack_request,
        unknown,
    })
}

/// A VnfInstance with so many machines. Those of StandardUserData are numbered.
fn instance(flavour: &Flavour, counts: &BTreeMap<String, (u32, i64)>) -> Value {
    let machines = counts.iter().flat_map(|(vdu, (before, _))| (0..*before).map(move |index| (vdu, index)));
    let vnfcs: Vec<Value> = machines
        .map(|(vdu, index)| {
            let id = format!("{vdu}-{index}");
            json!({"id": id, "vduId": vdu, "computeResource": {"resourceId": id}, "metadata": {"vdu_idx": index}})
        })
        .collect();
    json!({"instantiatedVnfInfo": {"flavourId": flavour.id, "vnfcResourceInfo": vnfcs, "metadata": {"nfv": {}}}})
}
