//! The plan of an operation: what the VIM is asked for, with the steps of hooks before and after it.

use std::collections::BTreeSet;

use drystone_api::{
    FailurePolicy, OperationSpec, StepSpec,
    nfv::{VimType, VnfInstance, VnfLcmOperation},
};
use drystone_engine::{action::Action, plan::Plan, reference::reference_to};
use drystone_sol003::types::{ApiVersion, InstantiatedVnfInfo, LcmOperationType};
use kube::ResourceExt;
use serde_json::Value;

use super::{
    changes::Before,
    connection::Connection,
    infrastructure::InfrastructurePlanner,
    outline::{Outline, outline},
};
use crate::{
    mgmt::Drivers,
    model::{Blueprint, Flavour, Hook, Problem, SecretNames, Situation},
    steps::{
        InventoryParameters, MarkUnhealthy, MarkUnhealthyParameters, ReadInventory, StackCreate,
        StackCreateParameters, StackDelete, StackDeleteParameters, StackUpdate, StackUpdateParameters,
    },
};

/// Id of the step whose output is the inventory afterwards.
pub const INVENTORY: &str = "inventory";

/// Id of the step whose output is the inventory before.
pub const INVENTORY_BEFORE: &str = "inventory/before";

/// Id of the step that makes or changes the stack.
pub const STACK: &str = "stack";

/// Id of the step that deletes the stack.
pub const STACK_DELETE: &str = "stack/delete";

/// Longest time for the VIM to do what it is asked, in seconds; what it says itself counts before.
const STACK_TIMEOUT: u32 = 3_600;

/// What an operation is planned from.
#[derive(Clone, Copy)]
pub struct Order<'a> {
    /// The instance.
    pub instance: &'a VnfInstance,
    /// The operation.
    pub occurrence: &'a VnfLcmOperation,
    /// Uid of the package that the instance is made of; for a change of the package, of the new one.
    pub package: &'a str,
    /// That package.
    pub blueprint: &'a dyn Blueprint,
    /// The VIM.
    pub connection: &'a Connection,
    /// Drivers of hooks.
    pub drivers: &'a Drivers,
    /// Who plans what happens on a Kubernetes.
    pub containers: Option<&'a dyn InfrastructurePlanner>,
}

/// Plans an operation. `None`: there is nothing to do but to write down that it is done.
///
/// # Errors
/// What is wrong with the request.
pub fn plan(order: &Order<'_>) -> Result<Option<OperationSpec>, Problem> {
    let instance = order.instance.status.clone().unwrap_or_default();
    let outline = outline(&order.occurrence.spec, &instance, order.blueprint)?;
    let info = instance.instantiated_vnf_info.unwrap_or_default();
    let planner = Planner { order: *order, outline, info: &info };
    let stages = planner.stages()?;
    let mut steps: Vec<StepSpec> = Vec::new();
    let mut before: Vec<String> = Vec::new();
    for mut stage in stages {
        chain(&mut stage, &before);
        if !stage.is_empty() {
            before = ends(&stage);
        }
        steps.append(&mut stage);
    }
    if steps.is_empty() {
        return Ok(None);
    }
    let name = order.instance.spec.vnf_instance_name.clone().unwrap_or_else(|| order.instance.name_any());
    let spec = OperationSpec {
        title: format!("{} {name}", title(order.occurrence.spec.operation)),
        subject: reference_to(order.occurrence),
        steps,
        on_failure: FailurePolicy::Stop,
        ..OperationSpec::default()
    };
    let checked = Plan::new(spec)
        .map_err(|error| Problem::unprocessable(format!("the operation cannot be planned: {error}")))?;
    Ok(Some(checked.into_spec()))
}

/// The plan that reads what there is after an operation was rolled back.
pub fn refresh(order: &Order<'_>) -> Option<OperationSpec> {
    let instance = order.instance.status.as_ref()?;
    let info = instance.instantiated_vnf_info.as_ref()?;
    let outline = Outline { flavour: info.flavour_id.clone(), ..Outline::default() };
    let planner = Planner { order: *order, outline, info };
    Some(OperationSpec {
        title: format!("Read what {} consists of", order.instance.name_any()),
        subject: reference_to(order.occurrence),
        steps: vec![planner.inventory(INVENTORY, Some(planner.stack()))],
        on_failure: FailurePolicy::Stop,
        ..OperationSpec::default()
    })
}

fn title(operation: LcmOperationType) -> &'static str {
    match operation {
        LcmOperationType::Instantiate => "Instantiate",
        LcmOperationType::Scale | LcmOperationType::ScaleToLevel => "Scale",
        LcmOperationType::ChangeFlavour => "Change flavour of",
        LcmOperationType::Terminate => "Terminate",
        LcmOperationType::Heal => "Heal",
        LcmOperationType::Operate => "Operate",
        LcmOperationType::ChangeExtConn => "Change external connectivity of",
        LcmOperationType::ModifyInfo => "Modify",
        LcmOperationType::ChangeVnfPackage => "Change package of",
    }
}

/// Makes steps that wait for nothing wait for `before`.
fn chain(stage: &mut [StepSpec], before: &[String]) {
    for step in stage.iter_mut() {
        let own = step.depends_on.iter().any(|id| !before.contains(id) && !is_inventory(id));
        if !own {
            for id in before {
                if !step.depends_on.contains(id) {
                    step.depends_on.push(id.clone());
                }
            }
        }
    }
}

/// Steps read inventories, which does not make them wait for what is done last.
fn is_inventory(id: &str) -> bool {
    id == INVENTORY || id == INVENTORY_BEFORE
}

/// Steps that no other of the stage waits for.
fn ends(stage: &[StepSpec]) -> Vec<String> {
    let waited_for: BTreeSet<&String> = stage.iter().flat_map(|step| &step.depends_on).collect();
    stage.iter().map(|step| &step.id).filter(|id| !waited_for.contains(id)).cloned().collect()
}

/// The name of the stack of an instance.
pub fn stack_name(instance: &VnfInstance, version: ApiVersion) -> String {
    let id = instance.uid().unwrap_or_default();
    match version {
        ApiVersion::V2 => format!("vnf-{id}"),
        ApiVersion::V1 => {
            let named = instance.spec.vnf_instance_name.as_deref().filter(|name| is_stack_name(name));
            named.map_or_else(|| format!("vnflcm_{id}"), str::to_owned)
        }
    }
}

/// What Heat takes as a name.
fn is_stack_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    name.len() <= 255 && name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(good)
}

struct Planner<'a> {
    order: Order<'a>,
    outline: Outline,
    info: &'a InstantiatedVnfInfo,
}

impl Planner<'_> {
    fn operation(&self) -> LcmOperationType {
        self.order.occurrence.spec.operation
    }

    /// Stages: each begins when the one before is done.
    fn stages(&self) -> Result<Vec<Vec<StepSpec>>, Problem> {
        let (start, end) = (Hook::start(self.operation()), Hook::end(self.operation()));
        let hooked = self.has(start)? | self.has(end)?;
        let reads_before = hooked
            && !matches!(self.operation(), LcmOperationType::Instantiate | LcmOperationType::ModifyInfo)
            && self.order.connection.kind() == VimType::OpenStack;
        let before = reads_before.then(|| self.inventory(INVENTORY_BEFORE, Some(self.stack())));
        let situation = self.situation(if reads_before { INVENTORY_BEFORE } else { "" }, None);
        let start = self.hook(start, &situation)?;
        let infrastructure = match self.order.connection.kind() {
            VimType::OpenStack => self.stack_stages(),
            VimType::Kubernetes => vec![self.containers(&situation)?],
        };
        let reads_after = infrastructure.iter().flatten().any(|step| step.id == INVENTORY);
        let now = if reads_after {
            INVENTORY
        } else if reads_before {
            INVENTORY_BEFORE
        } else {
            ""
        };
        let before_id = reads_before.then(|| INVENTORY_BEFORE.to_owned());
        let end = self.hook(end, &self.situation(now, before_id))?;
        let first = [before.into_iter().collect(), start];
        Ok(first.into_iter().chain(infrastructure).chain([end]).collect())
    }

    /// A hook that the package has, and its script. Where it has none for scaling to a level, those for scaling stand in: what is to be
    /// done with members that come and go is the same.
    fn script(&self, hook: Hook) -> Result<Option<(Hook, String)>, Problem> {
        // A package is changed by the new one's rules.
        let mut hooks = match self.order.blueprint.flavour(&self.outline.flavour) {
            Ok(flavour) => flavour.hooks(),
            Err(_) if self.outline.flavour.is_empty() => return Ok(None),
            Err(problem) => return Err(problem),
        };
        let stands_in = (hook.operation == LcmOperationType::ScaleToLevel)
            .then_some(Hook { operation: LcmOperationType::Scale, ..hook });
        let mut candidates = [Some(hook), stands_in].into_iter().flatten();
        Ok(candidates.find_map(|hook| Some((hook, hooks.remove(&hook.to_string())?))))
    }

    fn has(&self, hook: Hook) -> Result<bool, Problem> {
        Ok(self.script(hook)?.is_some())
    }

    fn hook(&self, hook: Hook, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        let Some((hook, script)) = self.script(hook)? else { return Ok(Vec::new()) };
        let driver = self.order.drivers.for_script(&script).ok_or_else(|| {
            let known = self.order.drivers.scripts().collect::<Vec<_>>().join(", ");
            let known =
                if known.is_empty() { "there is none".to_owned() } else { format!("there are {known}") };
            Problem::unprocessable(format!(
                "the package has {hook} done by {script}, for which there is no built-in driver ({known})"
            ))
        })?;
        driver.steps(hook, situation)
    }

    fn containers(&self, situation: &Situation) -> Result<Vec<StepSpec>, Problem> {
        let planner = self.order.containers.ok_or_else(|| {
            Problem::unprocessable("VIMs of type Kubernetes are not supported by this manager")
        })?;
        planner.steps(&self.outline, situation)
    }

    fn stack_stages(&self) -> Vec<Vec<StepSpec>> {
        match self.operation() {
            LcmOperationType::Instantiate => vec![vec![self.create()], vec![self.inventory(INVENTORY, None)]],
            LcmOperationType::Terminate => vec![vec![self.delete()]],
            LcmOperationType::ModifyInfo => Vec::new(),
            _ if self.outline.entire => {
                vec![vec![self.delete()], vec![self.create()], vec![self.inventory(INVENTORY, None)]]
            }
            _ => vec![self.marks(), vec![self.update()], vec![self.inventory(INVENTORY, None)]],
        }
    }

    fn stack(&self) -> String {
        self.info.metadata.get("stack_id").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    fn owner(&self) -> String {
        self.order.instance.uid().unwrap_or_default()
    }

    fn before(&self) -> Before {
        Before::of(self.info, &self.order.connection.key)
    }

    fn create(&self) -> StepSpec {
        let name = match self.stack().split_once('/') {
            // Made anew, it keeps its name.
            Some((name, _)) => name.to_owned(),
            None => stack_name(self.order.instance, self.order.occurrence.spec.api_version),
        };
        let parameters = StackCreateParameters { name, owner: self.owner(), keep: self.outline.entire };
        let title = if self.outline.entire { "Make the stack anew" } else { "Make the stack" };
        StepSpec {
            timeout_seconds: STACK_TIMEOUT,
            max_attempts: 3,
            estimate_seconds: 60,
            ..step::<StackCreate>(STACK, title, &parameters)
        }
    }

    fn update(&self) -> StepSpec {
        let scales = matches!(self.operation(), LcmOperationType::Scale | LcmOperationType::ScaleToLevel);
        let adds = self.outline.after.len() + self.outline.affected.len() > self.outline.before.len();
        let known = self.outline.before.iter().map(|vnfc| vnfc.server.clone());
        let parameters = StackUpdateParameters {
            stack: self.stack(),
            owner: self.owner(),
            known: if scales && adds { known.collect() } else { Vec::new() },
        };
        StepSpec {
            timeout_seconds: STACK_TIMEOUT,
            max_attempts: 3,
            estimate_seconds: 60,
            ..step::<StackUpdate>(STACK, "Change the stack", &parameters)
        }
    }

    fn delete(&self) -> StepSpec {
        let parameters = StackDeleteParameters {
            stack: self.stack(),
            owner: self.owner(),
            renew: self.outline.entire,
            before: self.before(),
        };
        StepSpec {
            timeout_seconds: STACK_TIMEOUT,
            max_attempts: 3,
            estimate_seconds: 30,
            ..step::<StackDelete>(STACK_DELETE, "Delete the stack", &parameters)
        }
    }

    /// What the VIM is to replace, or to take away first.
    fn marks(&self) -> Vec<StepSpec> {
        let heals = self.operation() == LcmOperationType::Heal;
        let mut steps = Vec::new();
        for vnfc in &self.outline.affected {
            let place = format!("{}-{}", vnfc.member.vdu, vnfc.member.index);
            let target = match (&vnfc.group, self.operation()) {
                (_, LcmOperationType::Heal) => Some(vnfc.resource.clone()),
                (Some(group), LcmOperationType::Scale | LcmOperationType::ScaleToLevel) => {
                    Some(group.clone())
                }
                _ => None,
            };
            let Some((stack, resource)) = target else { continue };
            let reason = if heals { "healed" } else { "removed" };
            steps.push(mark(&format!("unhealthy/{place}"), stack, resource, reason));
            if heals && self.outline.with_volumes {
                steps.extend(self.mark_volumes(&place, &vnfc.volumes));
            }
        }
        steps
    }

    fn mark_volumes(&self, place: &str, volumes: &[(String, String)]) -> Vec<StepSpec> {
        let of = |(name, id): &(String, String)| {
            let storage = self.info.virtual_storage_resource_info.iter().find(|storage| storage.id == *id)?;
            let text = |member: &str| storage.metadata.get(member).and_then(Value::as_str).map(str::to_owned);
            let stack = text("stack_id").filter(|stack| !stack.is_empty())?;
            let resource =
                text("resource_name").filter(|name| !name.is_empty()).unwrap_or_else(|| name.clone());
            Some(mark(&format!("unhealthy/{place}/{resource}"), stack, resource, "healed"))
        };
        volumes.iter().filter_map(of).collect()
    }

    fn inventory(&self, id: &str, stack: Option<String>) -> StepSpec {
        let topology = self.order.blueprint.flavour(&self.outline.flavour).map(Flavour::topology);
        let topology = topology.unwrap_or_default();
        let storages = topology.vdus.values().flatten();
        let names: BTreeSet<String> = topology
            .vdus
            .keys()
            .chain(topology.connection_points.keys())
            .chain(storages)
            .chain(&topology.virtual_links)
            .cloned()
            .collect();
        // Made anew, nobody is known.
        let before = self.before();
        let known = if self.outline.entire && id == INVENTORY { Vec::new() } else { before.vnfcs.clone() };
        let parameters = InventoryParameters { stack, names: names.into_iter().collect(), known, before };
        let title = if id == INVENTORY_BEFORE { "Read what there is" } else { "Read what there is now" };
        StepSpec {
            timeout_seconds: 120,
            estimate_seconds: 1,
            ..step::<ReadInventory>(id, title, &parameters)
        }
    }

    fn situation(&self, inventory: &str, inventory_before: Option<String>) -> Situation {
        let Order { instance, occurrence, package, blueprint, connection, .. } = self.order;
        let status = instance.status.clone().unwrap_or_default();
        let flavour = blueprint.flavour(&self.outline.flavour);
        Situation {
            instance: reference_to(instance),
            occurrence: reference_to(occurrence),
            operation: self.operation(),
            api_version: occurrence.spec.api_version,
            package: package.to_owned(),
            flavour: self.outline.flavour.clone(),
            topology: flavour.map(Flavour::topology).unwrap_or_default(),
            parameters: Value::Object(occurrence.spec.parameters.clone()),
            instantiated_with: status.additional_parameters,
            secrets: SecretNames { operation: occurrence.spec.secret.clone(), instance: status.credentials },
            before: self.outline.before.clone(),
            after: self.outline.after.clone(),
            affected: self.outline.affected.clone(),
            entire: self.outline.entire,
            inventory: inventory.to_owned(),
            inventory_before,
            vim: connection.key.clone(),
            gateway: connection.gateway.clone(),
        }
    }
}

fn mark(id: &str, stack: String, resource: String, reason: &str) -> StepSpec {
    let title = format!("Mark {resource} as to be {reason}");
    let parameters = MarkUnhealthyParameters { stack, resource, reason: reason.to_owned() };
    StepSpec { timeout_seconds: 120, estimate_seconds: 1, ..step::<MarkUnhealthy>(id, &title, &parameters) }
}

fn step<A: Action>(id: &str, title: &str, parameters: &A::Parameters) -> StepSpec {
    StepSpec {
        id: id.to_owned(),
        action: A::NAME.to_owned(),
        title: title.to_owned(),
        // A structure of texts and lists; it can always be written.
        parameters: serde_json::to_value(parameters).unwrap_or_default(),
        ..StepSpec::default()
    }
}
