//! What an operation comes to: which places are filled before it and after it, and which it concerns. All that can be wrong with a
//! request is found here, before anything is done.

use std::collections::BTreeMap;

use drystone_api::nfv::{VnfInstanceStatus, VnfLcmOperationSpec};
use drystone_sol003::types::{
    ApiVersion, InstantiatedVnfInfo, InstantiationState, KeyValuePairs, LcmOperationType, ScaleInfo,
};
use serde_json::Value;

use super::members;
use crate::model::{Blueprint, Flavour, Member, Problem, Vnfc};

/// What an operation comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The operation.
    pub operation: LcmOperationType,
    /// The flavour.
    pub flavour: String,
    /// VNFCs before.
    pub before: Vec<Vnfc>,
    /// Places that are filled afterwards.
    pub after: Vec<Member>,
    /// VNFCs that are removed, healed or changed.
    pub affected: Vec<Vnfc>,
    /// Whether the VNF is deleted and made anew.
    pub entire: bool,
    /// Whether volumes of what is healed are made anew as well.
    pub with_volumes: bool,
    /// Levels of the scaling aspects afterwards.
    pub levels: BTreeMap<String, u32>,
}

impl Outline {
    /// Whether places are freed for good.
    pub fn removes(&self) -> bool {
        let freed = |vnfc: &Vnfc| !self.after.contains(&vnfc.member);
        self.affected.iter().any(freed)
    }

    /// How many there are of each VDU before.
    pub fn counts_before(&self) -> BTreeMap<String, u32> {
        members::counts(self.before.iter().map(|vnfc| &vnfc.member))
    }

    /// How many there are of each VDU afterwards.
    pub fn counts_after(&self) -> BTreeMap<String, u32> {
        members::counts(&self.after)
    }

    /// Places of what is affected.
    pub fn affected_places(&self) -> Vec<Member> {
        self.affected.iter().map(|vnfc| vnfc.member.clone()).collect()
    }
}

/// Finds out what an operation comes to. `blueprint` is the package's; for a change of the package, the new one's.
///
/// # Errors
/// What is wrong with the request.
pub fn outline(
    operation: &VnfLcmOperationSpec,
    instance: &VnfInstanceStatus,
    blueprint: &dyn Blueprint,
) -> Result<Outline, Problem> {
    check_state(operation.operation, instance)?;
    let nothing = InstantiatedVnfInfo::default();
    let info = instance.instantiated_vnf_info.as_ref().unwrap_or(&nothing);
    let request =
        Request { operation, parameters: &operation.parameters, info, before: members::existing(info) };
    match operation.operation {
        LcmOperationType::Instantiate => request.instantiate(blueprint),
        LcmOperationType::Scale => request.scale(blueprint.flavour(&info.flavour_id)?),
        LcmOperationType::ScaleToLevel => request.scale_to_level(blueprint.flavour(&info.flavour_id)?),
        LcmOperationType::Heal => request.heal(),
        LcmOperationType::Terminate => request.terminate(),
        LcmOperationType::ChangeExtConn => request.change_external_connectivity(),
        LcmOperationType::ChangeVnfPackage => request.change_package(blueprint.flavour(&info.flavour_id)?),
        LcmOperationType::ModifyInfo => Ok(request.unchanged()),
        LcmOperationType::ChangeFlavour | LcmOperationType::Operate => Err(Problem::unprocessable(
            "changing the flavour and operating (start, stop) are not supported; instantiate another instance instead",
        )),
    }
}

fn check_state(operation: LcmOperationType, instance: &VnfInstanceStatus) -> Result<(), Problem> {
    let (needed, word) = match operation {
        LcmOperationType::ModifyInfo => return Ok(()),
        LcmOperationType::Instantiate => (InstantiationState::NotInstantiated, "NOT_INSTANTIATED"),
        _ => (InstantiationState::Instantiated, "INSTANTIATED"),
    };
    if instance.instantiation_state == needed {
        return Ok(());
    }
    Err(Problem::conflict(format!("the instance is not {word}")))
}

struct Request<'a> {
    operation: &'a VnfLcmOperationSpec,
    parameters: &'a KeyValuePairs,
    info: &'a InstantiatedVnfInfo,
    before: Vec<Vnfc>,
}

impl Request<'_> {
    /// Everything stays where it is.
    fn unchanged(&self) -> Outline {
        Outline {
            operation: self.operation.operation,
            flavour: self.info.flavour_id.clone(),
            after: self.before.iter().map(|vnfc| vnfc.member.clone()).collect(),
            before: self.before.clone(),
            levels: levels(&self.info.scale_status),
            ..Outline::default()
        }
    }

    fn instantiate(&self, blueprint: &dyn Blueprint) -> Result<Outline, Problem> {
        let flavour_id = self.text("flavourId")?.ok_or_else(|| missing("flavourId"))?;
        let flavour = blueprint.flavour(flavour_id)?;
        let level = self.text("instantiationLevelId")?;
        Ok(Outline {
            flavour: flavour_id.to_owned(),
            after: members::first(&flavour.counts(level)?),
            levels: flavour.levels(level)?,
            ..self.unchanged()
        })
    }

    fn scale(&self, flavour: &dyn Flavour) -> Result<Outline, Problem> {
        let aspect = self.text("aspectId")?.ok_or_else(|| missing("aspectId"))?;
        let steps = match self.parameters.get("numberOfSteps") {
            None => 1,
            Some(steps) => steps.as_u64().filter(|&steps| steps > 0).ok_or_else(|| {
                Problem::bad("numberOfSteps", format!("{steps} is not a whole number of at least 1"))
            })?,
        };
        let out = match self.text("type")? {
            Some("SCALE_OUT") => true,
            Some("SCALE_IN") => false,
            Some(other) => {
                return Err(Problem::bad("type", format!("{other:?} is neither SCALE_OUT nor SCALE_IN")));
            }
            None => return Err(missing("type")),
        };
        let highest = flavour.highest_levels();
        let known = || highest.keys().cloned().collect::<Vec<_>>().join(", ");
        let most = *highest.get(aspect).ok_or_else(|| {
            Problem::bad(
                "aspectId",
                format!("the flavour has no scaling aspect {aspect:?}; it has {}", known()),
            )
        })?;
        let mut levels = levels(&self.info.scale_status);
        let from = levels.get(aspect).copied().unwrap_or_default();
        let steps = u32::try_from(steps).unwrap_or(u32::MAX);
        let to = if out { from.checked_add(steps) } else { from.checked_sub(steps) };
        let to = to.filter(|to| *to <= most).ok_or_else(|| {
            let direction = if out { "out" } else { "in" };
            Problem::bad(
                "numberOfSteps",
                format!(
                    "{aspect} is at level {from} of 0 to {most}: it cannot be scaled {direction} by {steps}"
                ),
            )
        })?;
        let difference = flavour.difference(aspect, from, to)?;
        levels.insert(aspect.to_owned(), to);
        Ok(self.rescaled(&difference, levels))
    }

    fn scale_to_level(&self, flavour: &dyn Flavour) -> Result<Outline, Problem> {
        let wanted = match (self.text("instantiationLevelId")?, self.parameters.get("scaleInfo")) {
            (Some(level), None) => flavour.levels(Some(level))?,
            (None, Some(given)) => {
                let given: Vec<ScaleInfo> = serde_json::from_value(given.clone())
                    .map_err(|error| Problem::bad("scaleInfo", format!("cannot be read: {error}")))?;
                self::levels(&given)
            }
            _ => {
                return Err(Problem::bad(
                    "instantiationLevelId",
                    "give either instantiationLevelId or scaleInfo",
                ));
            }
        };
        let highest = flavour.highest_levels();
        let mut levels = levels(&self.info.scale_status);
        let mut difference = BTreeMap::new();
        for (aspect, to) in wanted {
            match highest.get(&aspect) {
                None => {
                    return Err(Problem::bad(
                        "scaleInfo",
                        format!("the flavour has no scaling aspect {aspect:?}"),
                    ));
                }
                Some(most) if to > *most => {
                    return Err(Problem::bad(
                        "scaleInfo",
                        format!("{aspect} has levels 0 to {most}, not {to}"),
                    ));
                }
                Some(_) => {}
            }
            let from = levels.insert(aspect.clone(), to).unwrap_or_default();
            for (vdu, more) in flavour.difference(&aspect, from, to)? {
                *difference.entry(vdu).or_insert(0) += more;
            }
        }
        Ok(self.rescaled(&difference, levels))
    }

    fn rescaled(&self, difference: &BTreeMap<String, i64>, levels: BTreeMap<String, u32>) -> Outline {
        // Version 1 takes the oldest, unless told otherwise.
        let reversed = self.additional("is_reverse").is_some_and(is_true);
        let oldest_first = self.operation.api_version == ApiVersion::V1 && !reversed;
        let affected = members::victims(&self.before, difference, oldest_first);
        let after = members::changed(&self.before, difference, &affected);
        Outline { affected, after, levels, ..self.unchanged() }
    }

    fn heal(&self) -> Result<Outline, Problem> {
        let named = match self.parameters.get("vnfcInstanceId") {
            None => Vec::new(),
            Some(ids) => {
                strings(ids).ok_or_else(|| Problem::bad("vnfcInstanceId", "must be a list of identifiers"))?
            }
        };
        let all = self.additional("all").is_some_and(is_true);
        let version_1 = self.operation.api_version == ApiVersion::V1;
        // Volumes hold what cannot be made again: they are replaced only where somebody says so.
        let with_volumes = if version_1 {
            self.additional("tacker_extension_heal_include_block_storage").is_some_and(is_true)
        } else {
            all
        };
        let affected = if named.is_empty() { self.before.clone() } else { self.named(&named)? };
        let entire = named.is_empty() && (version_1 || all);
        Ok(Outline { affected, entire, with_volumes: with_volumes || entire, ..self.unchanged() })
    }

    /// The VNFCs of these ids: of `vnfcResourceInfo` in version 1, of `vnfcInfo` in version 2.
    fn named(&self, ids: &[&str]) -> Result<Vec<Vnfc>, Problem> {
        let mut found = Vec::new();
        for (number, id) in ids.iter().enumerate() {
            let server = match self.operation.api_version {
                ApiVersion::V1 => self
                    .info
                    .vnfc_resource_info
                    .iter()
                    .find(|resource| resource.id == *id)
                    .map(|resource| &resource.id),
                ApiVersion::V2 => self
                    .info
                    .vnfc_info
                    .iter()
                    .find(|component| component.id == *id)
                    .and_then(|component| component.vnfc_resource_info_id.as_ref()),
            };
            let vnfc = server.and_then(|server| self.before.iter().find(|vnfc| vnfc.server == *server));
            let vnfc = vnfc.ok_or_else(|| {
                let attribute = format!("vnfcInstanceId[{number}]");
                Problem::bad(attribute, format!("the instance has no component {id:?}"))
            })?;
            if !found.contains(vnfc) {
                found.push(vnfc.clone());
            }
        }
        found.sort_by(|a, b| a.member.cmp(&b.member));
        Ok(found)
    }

    fn terminate(&self) -> Result<Outline, Problem> {
        match self.text("terminationType")? {
            Some("FORCEFUL" | "GRACEFUL") => {}
            Some(other) => {
                let detail = format!("{other:?} is neither FORCEFUL nor GRACEFUL");
                return Err(Problem::bad("terminationType", detail));
            }
            None => return Err(missing("terminationType")),
        }
        Ok(Outline {
            affected: self.before.clone(),
            after: Vec::new(),
            levels: BTreeMap::new(),
            ..self.unchanged()
        })
    }

    fn change_external_connectivity(&self) -> Result<Outline, Problem> {
        let links = self.parameters.get("extVirtualLinks").and_then(Value::as_array);
        if links.is_none_or(Vec::is_empty) {
            return Err(missing("extVirtualLinks"));
        }
        Ok(self.unchanged())
    }

    fn change_package(&self, flavour: &dyn Flavour) -> Result<Outline, Problem> {
        self.text("vnfdId")?.ok_or_else(|| missing("vnfdId"))?;
        match self.additional("upgrade_type").and_then(Value::as_str) {
            Some("RollingUpdate") => {}
            _ => return Err(Problem::bad("additionalParams.upgrade_type", "must be RollingUpdate")),
        }
        let given = self.additional("vdu_params").and_then(Value::as_array);
        let given =
            given.filter(|given| !given.is_empty()).ok_or_else(|| missing("additionalParams.vdu_params"))?;
        let topology = flavour.topology();
        let mut vdus = Vec::new();
        for (number, of) in given.iter().enumerate() {
            let attribute = format!("additionalParams.vdu_params[{number}].vdu_id");
            let vdu = of.get("vdu_id").and_then(Value::as_str).ok_or_else(|| missing(&attribute))?;
            if !topology.vdus.contains_key(vdu) {
                return Err(Problem::bad(attribute, format!("the new package has no VDU {vdu:?}")));
            }
            vdus.push(vdu);
        }
        let affected = self.before.iter().filter(|vnfc| vdus.contains(&vnfc.member.vdu.as_str()));
        Ok(Outline { affected: affected.cloned().collect(), ..self.unchanged() })
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        match self.parameters.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(Problem::bad(name, "must be a text that is not empty")),
        }
    }

    fn additional(&self, name: &str) -> Option<&Value> {
        self.parameters.get("additionalParams")?.get(name)
    }
}

/// Levels by aspect.
pub fn levels(infos: &[ScaleInfo]) -> BTreeMap<String, u32> {
    infos.iter().map(|info| (info.aspect_id.clone(), info.scale_level)).collect()
}

fn missing(attribute: &str) -> Problem {
    Problem::bad(attribute, "is missing")
}

/// Clients write truth in several ways.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(truth) => *truth,
        Value::String(text) => text.eq_ignore_ascii_case("true"),
        _ => false,
    }
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}
