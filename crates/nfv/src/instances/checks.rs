//! What must be true of an instance for what is asked: pure.

use std::collections::BTreeSet;

use drystone_api::nfv::VnfInstance;
use drystone_sol003::{
    secrets::mask_object,
    types::{
        ApiVersion, InstantiatedVnfInfo, InstantiationState, KeyValuePairs, LcmOperationType,
        VimConnectionInfo,
    },
};
use kube::ResourceExt as _;
use serde_json::Value;

use crate::{problem::Problem, request::typed};

/// Members of a modification.
const MODIFIABLE: [&str; 8] = [
    "vnfInstanceName",
    "vnfInstanceDescription",
    "vnfdId",
    "vnfConfigurableProperties",
    "metadata",
    "extensions",
    "vimConnectionInfo",
    "vnfcInfoModifications",
];

/// What clients keep of an instance is told again to everybody who may read it: there is no place for secrets.
pub(super) fn metadata(metadata: &KeyValuePairs) -> Result<(), Problem> {
    if mask_object(metadata).1 {
        let detail = "metadata: a member of it is secret (a password, a token, a key), and metadata are told to all readers; put it into additionalParams";
        return Err(Problem::bad_request(detail));
    }
    let Some(mapping) = metadata.get("VDU_VNFc_mapping") else { return Ok(()) };
    let wrong = |what: &str| Problem::bad_request(format!("metadata/VDU_VNFc_mapping: {what}"));
    let Some(by_vdu) = mapping.as_object() else {
        return Err(wrong("an object of lists is expected, by VDU"));
    };
    let mut seen = BTreeSet::new();
    for (vdu, names) in by_vdu {
        let names = names.as_array().ok_or_else(|| wrong(&format!("{vdu}: a list is expected")))?;
        for name in names {
            let name = name.as_str().ok_or_else(|| wrong(&format!("{vdu}: a list of texts is expected")))?;
            if !seen.insert(name) {
                return Err(wrong(&format!("{name:?} is there twice")));
            }
        }
    }
    Ok(())
}

/// Nothing else may be done with the instance.
pub(super) fn is_free(instance: &VnfInstance) -> Result<(), Problem> {
    let held = instance.status.as_ref().and_then(|status| status.operation.as_ref());
    match held {
        None => Ok(()),
        Some(operation) => Err(Problem::conflict(format!(
            "another operation ({operation}) is at work on VNF instance {}, or has failed and is to be retried, rolled back or failed",
            instance.uid().unwrap_or_default()
        ))),
    }
}

/// The instance must be in a state for what is to be done.
pub(super) fn state(instance: &VnfInstance, wanted: InstantiationState, what: &str) -> Result<(), Problem> {
    let state = instance.status.as_ref().map(|status| status.instantiation_state).unwrap_or_default();
    if state == wanted {
        return Ok(());
    }
    let is = if state == InstantiationState::Instantiated { "INSTANTIATED" } else { "NOT_INSTANTIATED" };
    let id = instance.uid().unwrap_or_default();
    Err(Problem::conflict(format!("VNF instance {id} is {is}: it cannot be {what}")))
}

/// Whether an operation is possible in the instance's state.
pub(super) fn operation(operation: LcmOperationType, instance: &VnfInstance) -> Result<(), Problem> {
    is_free(instance)?;
    let (wanted, what) = match operation {
        LcmOperationType::ModifyInfo => return Ok(()),
        LcmOperationType::Instantiate => (InstantiationState::NotInstantiated, "instantiated"),
        LcmOperationType::Terminate => (InstantiationState::Instantiated, "terminated"),
        LcmOperationType::Heal => (InstantiationState::Instantiated, "healed"),
        LcmOperationType::Scale | LcmOperationType::ScaleToLevel => {
            (InstantiationState::Instantiated, "scaled")
        }
        _ => (InstantiationState::Instantiated, "changed"),
    };
    state(instance, wanted, what)
}

/// The body of a modification, with the members that it may have, `null` for what is to be removed.
pub(super) fn modification(body: Value, instance: &VnfInstance) -> Result<KeyValuePairs, Problem> {
    let Value::Object(members) = body else {
        return Err(Problem::bad_request("the body: an object is expected"));
    };
    let told: KeyValuePairs =
        members.into_iter().filter(|(name, _)| MODIFIABLE.contains(&name.as_str())).collect();
    if told.is_empty() {
        let detail = format!("the body: nothing in it can be modified; there are {}", MODIFIABLE.join(", "));
        return Err(Problem::bad_request(detail));
    }
    for (name, value) in &told {
        let is_right = match name.as_str() {
            "vnfdId" => value.as_str().is_some_and(|id| !id.is_empty()),
            "vnfInstanceName" | "vnfInstanceDescription" => value.is_string() || value.is_null(),
            "vnfcInfoModifications" => value.is_array(),
            _ => value.is_object() || value.is_null(),
        };
        if !is_right {
            return Err(Problem::bad_request(format!("{name}: it has the wrong type")));
        }
    }
    if let Some(Value::Object(changed)) = told.get("metadata") {
        metadata(changed)?;
    }
    if let Some(Value::Object(connections)) = told.get("vimConnectionInfo") {
        let state = instance.status.as_ref().map(|status| status.instantiation_state).unwrap_or_default();
        if state == InstantiationState::NotInstantiated {
            let detail = "vimConnectionInfo: the VNF instance is NOT_INSTANTIATED and uses no VIM yet; give it with the instantiation";
            return Err(Problem::bad_request(detail));
        }
        for (id, value) in connections.iter().filter(|(_, value)| !value.is_null()) {
            typed::<VimConnectionInfo>(value.clone()).map_err(|problem| {
                Problem::bad_request(format!("vimConnectionInfo/{id}/{}", problem.detail))
            })?;
        }
    }
    if let Some(Value::Array(modifications)) = told.get("vnfcInfoModifications") {
        vnfc_modifications(modifications, instance)?;
    }
    Ok(told)
}

fn vnfc_modifications(modifications: &[Value], instance: &VnfInstance) -> Result<(), Problem> {
    let info = info(instance);
    for (index, modification) in modifications.iter().enumerate() {
        let place = format!("vnfcInfoModifications/{index}");
        let id = modification.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| Problem::bad_request(format!("{place}/id: it is missing")))?;
        if !info.is_some_and(|info| info.vnfc_info.iter().any(|vnfc| vnfc.id == id)) {
            return Err(Problem::bad_request(format!(
                "{place}/id: the VNF instance has no component {id:?}"
            )));
        }
        if !modification.get("vnfcConfigurableProperties").is_some_and(Value::is_object) {
            let detail = format!("{place}/vnfcConfigurableProperties: an object is expected");
            return Err(Problem::bad_request(detail));
        }
    }
    Ok(())
}

fn info(instance: &VnfInstance) -> Option<&InstantiatedVnfInfo> {
    instance.status.as_ref().and_then(|status| status.instantiated_vnf_info.as_ref())
}

/// Whether the parameters of an operation fit the instance. An instance that is not instantiated is refused for that, later.
pub(super) fn parameters(
    operation: LcmOperationType,
    version: ApiVersion,
    parameters: &KeyValuePairs,
    instance: &VnfInstance,
) -> Result<(), Problem> {
    self::operation(operation, instance)?;
    match operation {
        LcmOperationType::Scale => scale(parameters, info(instance)),
        LcmOperationType::ScaleToLevel => scale_to_level(parameters, info(instance)),
        LcmOperationType::Heal => heal(version, parameters, info(instance)),
        LcmOperationType::ChangeExtConn => {
            let links = parameters.get("extVirtualLinks").and_then(Value::as_array);
            if links.is_none_or(Vec::is_empty) {
                return Err(Problem::bad_request("extVirtualLinks: at least one is expected"));
            }
            Ok(())
        }
        LcmOperationType::ChangeVnfPackage => {
            let kind = parameters.get("additionalParams").and_then(|given| given.get("upgrade_type"));
            if kind.and_then(Value::as_str) == Some("RollingUpdate") {
                return Ok(());
            }
            Err(Problem::bad_request("additionalParams/upgrade_type: \"RollingUpdate\" is expected"))
        }
        _ => Ok(()),
    }
}

fn scale(parameters: &KeyValuePairs, info: Option<&InstantiatedVnfInfo>) -> Result<(), Problem> {
    let aspect = parameters.get("aspectId").and_then(Value::as_str).unwrap_or_default();
    let steps = parameters.get("numberOfSteps").and_then(Value::as_u64).unwrap_or(1);
    let is_out = parameters.get("type").and_then(Value::as_str) == Some("SCALE_OUT");
    let (level, most) = levels(aspect, info).ok_or_else(|| unknown_aspect("aspectId", aspect, info))?;
    let fits = if is_out { most.is_none_or(|most| level + steps <= most) } else { steps <= level };
    if fits {
        return Ok(());
    }
    let most = most.map_or_else(|| "unknown".to_owned(), |most| most.to_string());
    Err(Problem::bad_request(format!(
        "numberOfSteps: aspect {aspect} is at level {level}, and levels go from 0 to {most}: {steps} steps lead outside"
    )))
}

fn scale_to_level(parameters: &KeyValuePairs, info: Option<&InstantiatedVnfInfo>) -> Result<(), Problem> {
    let wanted = parameters.get("scaleInfo").and_then(Value::as_array);
    if parameters.contains_key("instantiationLevelId") == wanted.is_some() {
        let detail = "instantiationLevelId, scaleInfo: one of them is expected, and only one";
        return Err(Problem::bad_request(detail));
    }
    for (index, wanted) in wanted.into_iter().flatten().enumerate() {
        let aspect = wanted.get("aspectId").and_then(Value::as_str).unwrap_or_default();
        let level = wanted.get("scaleLevel").and_then(Value::as_u64).unwrap_or_default();
        let place = format!("scaleInfo/{index}/aspectId");
        let (_, most) = levels(aspect, info).ok_or_else(|| unknown_aspect(&place, aspect, info))?;
        if let Some(most) = most.filter(|most| level > *most) {
            let detail = format!("scaleInfo/{index}/scaleLevel: the highest level of {aspect} is {most}");
            return Err(Problem::bad_request(detail));
        }
    }
    Ok(())
}

/// Level of an aspect, and its highest.
fn levels(aspect: &str, info: Option<&InstantiatedVnfInfo>) -> Option<(u64, Option<u64>)> {
    let info = info?;
    let now = info.scale_status.iter().find(|level| level.aspect_id == aspect)?;
    let most = info.max_scale_levels.iter().find(|level| level.aspect_id == aspect);
    Some((now.scale_level.into(), most.map(|most| most.scale_level.into())))
}

fn unknown_aspect(place: &str, aspect: &str, info: Option<&InstantiatedVnfInfo>) -> Problem {
    let known =
        info.map(|info| info.scale_status.iter().map(|level| level.aspect_id.as_str()).collect::<Vec<_>>());
    let known =
        known.filter(|known| !known.is_empty()).map_or_else(|| "none".to_owned(), |known| known.join(", "));
    let aspect: String = aspect.chars().take(80).collect();
    Problem::bad_request(format!("{place}: the VNF has no scaling aspect {aspect:?}; there is {known}"))
}

fn heal(
    version: ApiVersion,
    parameters: &KeyValuePairs,
    info: Option<&InstantiatedVnfInfo>,
) -> Result<(), Problem> {
    let all = parameters.get("additionalParams").and_then(|given| given.get("all"));
    if all.is_some_and(|all| !all.is_boolean()) {
        return Err(Problem::bad_request("additionalParams/all: true or false is expected"));
    }
    let wanted = parameters.get("vnfcInstanceId").and_then(Value::as_array);
    for (index, id) in wanted.into_iter().flatten().filter_map(Value::as_str).enumerate() {
        let is_known = info.is_some_and(|info| match version {
            ApiVersion::V1 => info.vnfc_resource_info.iter().any(|vnfc| vnfc.id == id),
            ApiVersion::V2 => info.vnfc_info.iter().any(|vnfc| vnfc.id == id),
        });
        if !is_known {
            let of = if version == ApiVersion::V1 { "vnfcResourceInfo" } else { "vnfcInfo" };
            let id: String = id.chars().take(200).collect();
            let detail = format!("vnfcInstanceId/{index}: {id:?} is the id of no {of} of the VNF instance");
            return Err(Problem::bad_request(detail));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use drystone_api::nfv::{VnfInstanceSpec, VnfInstanceStatus};
    use serde_json::json;

    use super::*;

    fn instance() -> VnfInstance {
        let info = json!({"flavourId": "f", "vnfState": "STARTED", "scaleStatus": [{"aspectId": "a", "scaleLevel": 1}],
            "maxScaleLevels": [{"aspectId": "a", "scaleLevel": 2}],
            "vnfcResourceInfo": [{"id": "r1", "vduId": "V", "computeResource": {"resourceId": "x"}}],
            "vnfcInfo": [{"id": "V-1", "vduId": "V", "vnfcState": "STARTED"}]});
        let mut instance = VnfInstance::new("i", VnfInstanceSpec::default());
        instance.status = Some(VnfInstanceStatus {
            instantiation_state: InstantiationState::Instantiated,
            instantiated_vnf_info: Some(serde_json::from_value(info).unwrap()),
            ..VnfInstanceStatus::default()
        });
        instance
    }

    fn check(operation: LcmOperationType, version: ApiVersion, body: Value) -> Result<(), u16> {
        let Value::Object(body) = body else { panic!("an object") };
        parameters(operation, version, &body, &instance()).map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn levels_and_components_must_be_there() {
        use LcmOperationType::{Heal, Instantiate, Scale, ScaleToLevel};
        let v2 = ApiVersion::V2;
        let scale = |kind: &str, steps: u32| json!({"type": kind, "aspectId": "a", "numberOfSteps": steps});
        assert_eq!(check(Scale, v2, scale("SCALE_OUT", 1)), Ok(()));
        assert_eq!(check(Scale, v2, scale("SCALE_OUT", 2)), Err(400));
        assert_eq!(check(Scale, v2, scale("SCALE_IN", 1)), Ok(()));
        assert_eq!(check(Scale, v2, scale("SCALE_IN", 2)), Err(400));
        assert_eq!(check(Scale, v2, json!({"type": "SCALE_IN", "aspectId": "b"})), Err(400));
        assert_eq!(
            check(ScaleToLevel, v2, json!({"scaleInfo": [{"aspectId": "a", "scaleLevel": 2}]})),
            Ok(())
        );
        assert_eq!(
            check(ScaleToLevel, v2, json!({"scaleInfo": [{"aspectId": "a", "scaleLevel": 3}]})),
            Err(400)
        );
        assert_eq!(check(ScaleToLevel, v2, json!({})), Err(400));
        assert_eq!(check(Heal, v2, json!({"vnfcInstanceId": ["V-1"]})), Ok(()));
        assert_eq!(check(Heal, v2, json!({"vnfcInstanceId": ["r1"]})), Err(400));
        assert_eq!(check(Heal, ApiVersion::V1, json!({"vnfcInstanceId": ["r1"]})), Ok(()));
        assert_eq!(check(Instantiate, v2, json!({})), Err(409));
    }

    #[test]
    fn modifications_are_of_what_can_be_modified() {
        let status = |body: Value| modification(body, &instance()).map_err(|problem| problem.status.as_u16());
        assert!(status(json!({"vnfInstanceName": "n", "metadata": {"a": null}, "colour": 1})).is_ok());
        for bad in [
            json!([]),
            json!({"colour": 1}),
            json!({"vnfInstanceName": 1}),
            json!({"metadata": {"password": "x"}}),
            json!({"metadata": {"VDU_VNFc_mapping": {"V": ["a", "a"]}}}),
            json!({"vnfcInfoModifications": [{"id": "nobody", "vnfcConfigurableProperties": {}}]}),
            json!({"vnfcInfoModifications": [{"id": "V-1"}]}),
            json!({"vimConnectionInfo": {"v": {}}}),
        ] {
            assert_eq!(status(bad.clone()).err(), Some(400), "{bad}");
        }
    }
}
