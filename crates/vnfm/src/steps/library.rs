//! Packages of the library, as the life cycle needs them.

use std::{collections::BTreeMap, sync::Arc};

use drystone_csar::{
    Direction, Flavour as CsarFlavour, Library, Package,
    userdata::{self, Operation},
    vnfd::LevelError,
};
use drystone_sol003::types::{InstantiatedVnfInfo, KeyValuePairs, LcmOperationType};
use serde_json::{Value, json};

use super::load::{BlueprintError, Blueprints};
use crate::{
    model::{
        Blueprint, ConnectionPoint, Flavour, Member, Phase, Problem, ProblemKind, StackAsk, StackRequest,
        Topology, Vnfc,
    },
    plan::members,
};

/// The packages of a library.
#[derive(Debug, Clone)]
pub struct LibraryBlueprints(pub Library);

impl Blueprints for LibraryBlueprints {
    fn open(&self, package: &str) -> Result<Arc<dyn Blueprint>, BlueprintError> {
        let opened = self.0.package(package);
        let opened =
            opened.map_err(|error| BlueprintError { package: package.to_owned(), why: error.to_string() })?;
        Ok(Arc::new(CsarBlueprint(opened)))
    }
}

/// A package.
#[derive(Debug, Clone)]
pub struct CsarBlueprint(pub Arc<Package>);

impl Blueprint for CsarBlueprint {
    fn flavour(&self, id: &str) -> Result<&dyn Flavour, Problem> {
        let found = self.0.flavour(id).ok_or_else(|| {
            let known = self.0.vnfd().flavours.keys().cloned().collect::<Vec<_>>().join(", ");
            Problem::bad("flavourId", format!("the VNFD has no flavour {id:?}; it has {known}"))
        })?;
        Ok(found)
    }

    fn stack_request(&self, ask: &StackAsk<'_>) -> Result<StackRequest, Problem> {
        let asked = Asked::of(ask)?;
        let additional = asked.request.get("additionalParams");
        let names_class = |parameters: Option<&Value>| {
            parameters.is_some_and(|parameters| parameters.get(userdata::CLASS_PARAMETER).is_some())
        };
        // What the instantiation named holds for what comes after it.
        let instantiated_with = Value::Object(ask.instantiated_with.clone());
        let parameters = if names_class(additional) { additional } else { Some(&instantiated_with) };
        let choice = userdata::choose(&self.0, parameters).map_err(|error| refused(&error))?;
        let class = userdata::built_in(&choice.class).map_err(|error| refused(&error))?;
        let situation = userdata::Situation {
            package: &self.0,
            request: &asked.request,
            instance: &asked.instance,
            grant_request: &asked.grant_request,
            grant: &json!({}),
        };
        let request = class.stack_request(asked.operation, &situation).map_err(|error| refused(&error))?;
        let userdata::StackRequest { template, parameters, files, existing } = request;
        Ok(StackRequest { template, parameters, files, existing })
    }
}

fn refused(error: &userdata::UserDataError) -> Problem {
    Problem {
        kind: ProblemKind::BadRequest,
        attribute: Some("additionalParams".to_owned()),
        detail: error.to_string(),
    }
}

fn no_level(error: &LevelError) -> Problem {
    let attribute = match error {
        LevelError::Level { .. } => "instantiationLevelId",
        LevelError::Aspect { .. } => "aspectId",
        LevelError::Range { .. } => "numberOfSteps",
    };
    Problem::bad(attribute, error.to_string())
}

impl Flavour for CsarFlavour {
    fn topology(&self) -> Topology {
        let connection_points = self.connection_points.iter().map(|(name, cp)| {
            (name.clone(), ConnectionPoint { vdu: cp.vdu.clone(), virtual_link: cp.virtual_link.clone() })
        });
        let scaled_by = |aspect: &String| {
            let vdus = self.vdus.iter().filter(|(_, vdu)| vdu.deltas.contains_key(aspect));
            vdus.map(|(name, _)| name.clone()).collect()
        };
        Topology {
            vdus: self.vdus.iter().map(|(name, vdu)| (name.clone(), vdu.storages.clone())).collect(),
            connection_points: connection_points.collect(),
            virtual_links: self.virtual_links.keys().cloned().collect(),
            aspects: self.aspects.keys().map(|aspect| (aspect.clone(), scaled_by(aspect))).collect(),
        }
    }

    fn assets(&self) -> BTreeMap<String, (Option<String>, Option<String>)> {
        let of = |(name, vdu): (&String, &drystone_csar::vnfd::Vdu)| {
            (name.clone(), (vdu.flavor.clone(), vdu.image.as_ref().map(|image| image.name.clone())))
        };
        self.vdus.iter().map(of).collect()
    }

    fn hooks(&self) -> BTreeMap<String, String> {
        self.hooks.iter().map(|(name, hook)| (name.clone(), hook.file.clone())).collect()
    }

    fn highest_levels(&self) -> BTreeMap<String, u32> {
        self.aspects.iter().map(|(name, aspect)| (name.clone(), aspect.max_level)).collect()
    }

    fn levels(&self, instantiation_level: Option<&str>) -> Result<BTreeMap<String, u32>, Problem> {
        self.scale_levels(instantiation_level).map_err(|error| no_level(&error))
    }

    fn counts(&self, instantiation_level: Option<&str>) -> Result<BTreeMap<String, u32>, Problem> {
        CsarFlavour::counts(self, instantiation_level).map_err(|error| no_level(&error))
    }

    fn difference(&self, aspect: &str, from: u32, to: u32) -> Result<BTreeMap<String, i64>, Problem> {
        let direction = if to >= from { Direction::Out } else { Direction::In };
        if to == from {
            return Ok(BTreeMap::new());
        }
        self.scale(aspect, from, from.abs_diff(to), direction).map_err(|error| no_level(&error))
    }
}

/// What user data are made from.
struct Asked {
    operation: Operation,
    request: Value,
    instance: Value,
    grant_request: Value,
}

impl Asked {
    fn of(ask: &StackAsk<'_>) -> Result<Self, Problem> {
        let nothing = InstantiatedVnfInfo::default();
        let info = ask.instance.instantiated_vnf_info.as_ref().unwrap_or(&nothing);
        let existing = members::existing(info);
        let affected: Vec<&Vnfc> =
            existing.iter().filter(|vnfc| ask.affected.contains(&vnfc.member)).collect();
        let request = Value::Object(ask.operation.parameters.clone());
        let scales =
            matches!(ask.operation.operation, LcmOperationType::Scale | LcmOperationType::ScaleToLevel);
        let (operation, request, info, come, go) = match (ask.operation.operation, ask.phase) {
            (LcmOperationType::Instantiate, _) => (
                Operation::Instantiate,
                request,
                info.clone(),
                additions(&BTreeMap::new(), ask.after),
                Vec::new(),
            ),
            (LcmOperationType::Heal, _) if ask.entire => {
                let request = renewed(info, ask.instantiated_with);
                let come = additions(&BTreeMap::new(), ask.after);
                (Operation::Instantiate, request, InstantiatedVnfInfo::default(), come, Vec::new())
            }
            (LcmOperationType::Heal, _) => {
                (Operation::Heal, request, info.clone(), same(&affected), affected.clone())
            }
            _ if scales && ask.phase == Phase::Forward => {
                let come = additions(ask.before, ask.after);
                (Operation::Scale, request, info.clone(), come, affected.clone())
            }
            _ if scales && affected.is_empty() => {
                let come = additions(ask.before, ask.after);
                (Operation::ScaleRollback, request, info.clone(), come, Vec::new())
            }
            _ if scales => {
                // Those that went come again: as if the VNF were without them.
                let gone: Vec<&str> = affected.iter().map(|vnfc| vnfc.server.as_str()).collect();
                let mut without = info.clone();
                without.vnfc_resource_info.retain(|resource| !gone.contains(&resource.id.as_str()));
                (Operation::Scale, request, without, additions(ask.after, ask.before), Vec::new())
            }
            (LcmOperationType::ChangeExtConn, phase) => {
                let operation = match phase {
                    Phase::Forward => Operation::ChangeExternalConnectivity,
                    Phase::Rollback => Operation::ChangeExternalConnectivityRollback,
                };
                (operation, request, info.clone(), Vec::new(), Vec::new())
            }
            (LcmOperationType::ChangeVnfPackage, phase) => {
                let operation = match phase {
                    Phase::Forward => Operation::ChangePackage,
                    Phase::Rollback => Operation::ChangePackageRollback,
                };
                (operation, request, info.clone(), same(&affected), affected.clone())
            }
            (other, _) => return Err(Problem::unprocessable(format!("{other:?} asks nothing of a stack"))),
        };
        Ok(Self {
            operation,
            request,
            instance: json!({"instantiatedVnfInfo": info}),
            grant_request: json!({"addResources": come, "removeResources": removals(&go)}),
        })
    }
}

/// The definitions of what comes: for each VDU so many as there are more in `after`.
fn additions(before: &BTreeMap<String, u32>, after: &BTreeMap<String, u32>) -> Vec<Value> {
    let mut come = Vec::new();
    for (vdu, &count) in after {
        for index in before.get(vdu).copied().unwrap_or_default()..count {
            come.push(compute(&Member { vdu: vdu.clone(), index }));
        }
    }
    come
}

/// The definitions of what is replaced.
fn same(vnfcs: &[&Vnfc]) -> Vec<Value> {
    vnfcs.iter().map(|vnfc| compute(&vnfc.member)).collect()
}

fn compute(member: &Member) -> Value {
    json!({"id": format!("{}-{}", member.vdu, member.index), "type": "COMPUTE", "resourceTemplateId": member.vdu})
}

fn removals(vnfcs: &[&Vnfc]) -> Vec<Value> {
    let removal = |vnfc: &&Vnfc| {
        let mut definition = compute(&vnfc.member);
        definition["resource"] = json!({"resourceId": vnfc.server});
        definition
    };
    vnfcs.iter().map(removal).collect()
}

/// The instantiation again, with the links that the instance has now.
fn renewed(info: &InstantiatedVnfInfo, instantiated_with: &KeyValuePairs) -> Value {
    let external = info.ext_virtual_link_info.iter().map(|link| {
        json!({
            "id": link.id,
            "resourceId": link.resource_handle.resource_id,
            "extCps": link.current_vnf_ext_cp_data,
        })
    });
    let managed = info.ext_managed_virtual_link_info.iter().map(|link| {
        json!({
            "id": link.id,
            "vnfVirtualLinkDescId": link.vnf_virtual_link_desc_id,
            "resourceId": link.network_resource.resource_id,
        })
    });
    json!({
        "flavourId": info.flavour_id,
        "extVirtualLinks": external.collect::<Vec<_>>(),
        "extManagedVirtualLinks": managed.collect::<Vec<_>>(),
        "additionalParams": instantiated_with,
    })
}
