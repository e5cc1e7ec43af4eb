//! Bodies of requests, in the shape of version 2 (SOL003, 5.5.2). What they do not know is ignored.

use std::collections::BTreeMap;

use drystone_sol003::types::{
    ExtManagedVirtualLinkData, ExtVirtualLinkData, KeyValuePairs, LcmOperationType, ScaleInfo, ScaleType,
    TerminationType, VimConnectionInfo,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{problem::Problem, request::typed};

/// `CreateVnfRequest`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Create {
    pub(super) vnfd_id: String,
    pub(super) vnf_instance_name: Option<String>,
    pub(super) vnf_instance_description: Option<String>,
    #[serde(default)]
    pub(super) metadata: KeyValuePairs,
}

/// `InstantiateVnfRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Instantiate {
    flavour_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    instantiation_level_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    localization_language: Option<String>,
    #[serde(flatten)]
    connectivity: Connectivity,
    #[serde(flatten)]
    settings: Settings,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connectivity {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ext_virtual_links: Vec<ExtVirtualLinkData>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ext_managed_virtual_links: Vec<ExtManagedVirtualLinkData>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vim_connection_info: BTreeMap<String, VimConnectionInfo>,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    additional_params: KeyValuePairs,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    extensions: KeyValuePairs,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    vnf_configurable_properties: KeyValuePairs,
}

/// `TerminateVnfRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Terminate {
    termination_type: TerminationType,
    #[serde(skip_serializing_if = "Option::is_none")]
    graceful_termination_timeout: Option<std::num::NonZeroU32>,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    additional_params: KeyValuePairs,
}

/// `ScaleVnfRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Scale {
    #[serde(rename = "type")]
    kind: ScaleType,
    aspect_id: String,
    #[serde(default = "one")]
    number_of_steps: std::num::NonZeroU32,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    additional_params: KeyValuePairs,
}

const fn one() -> std::num::NonZeroU32 {
    std::num::NonZeroU32::MIN
}

/// `ScaleVnfToLevelRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ScaleToLevel {
    #[serde(skip_serializing_if = "Option::is_none")]
    instantiation_level_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scale_info: Vec<ScaleInfo>,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    additional_params: KeyValuePairs,
}

/// `HealVnfRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Heal {
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    vnfc_instance_id: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heal_script: Option<String>,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    additional_params: KeyValuePairs,
}

/// `ChangeExtVnfConnectivityRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangeExtConn {
    ext_virtual_links: Vec<ExtVirtualLinkData>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    vim_connection_info: BTreeMap<String, VimConnectionInfo>,
    #[serde(default, skip_serializing_if = "KeyValuePairs::is_empty")]
    additional_params: KeyValuePairs,
}

/// `ChangeCurrentVnfPkgRequest`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ChangePackage {
    vnfd_id: String,
    #[serde(flatten)]
    connectivity: Connectivity,
    #[serde(flatten)]
    settings: Settings,
}

/// A body as parameters of an operation: read as its type, and written as that.
pub(super) fn parameters(operation: LcmOperationType, body: Value) -> Result<KeyValuePairs, Problem> {
    match operation {
        LcmOperationType::Instantiate => read::<Instantiate>(body),
        LcmOperationType::Terminate => read::<Terminate>(body),
        LcmOperationType::Scale => read::<Scale>(body),
        LcmOperationType::ScaleToLevel => read::<ScaleToLevel>(body),
        LcmOperationType::Heal => read::<Heal>(body),
        LcmOperationType::ChangeExtConn => read::<ChangeExtConn>(body),
        LcmOperationType::ChangeVnfPackage => read::<ChangePackage>(body),
        LcmOperationType::ChangeFlavour | LcmOperationType::Operate | LcmOperationType::ModifyInfo => {
            Err(Problem::bad_request("this operation has no task"))
        }
    }
}

fn read<T: DeserializeOwned + Serialize>(body: Value) -> Result<KeyValuePairs, Problem> {
    if !body.is_object() {
        return Err(Problem::bad_request("the body: an object is expected"));
    }
    let request: T = typed(body)?;
    match serde_json::to_value(request) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(Problem::bad_request("the body: an object is expected")),
        Err(error) => Err(Problem::internal(&error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_request_names_what_is_wrong() {
        use LcmOperationType as Operation;
        for (operation, body, place) in [
            (Operation::Instantiate, json!({}), "flavourId"),
            (Operation::Instantiate, json!({"flavourId": 1}), "flavourId"),
            (Operation::Instantiate, json!({"flavourId": "f", "vimConnectionInfo": {"a": {}}}), "vimType"),
            (
                Operation::Instantiate,
                json!({"flavourId": "f", "extVirtualLinks": [{"id": "a"}]}),
                "resourceId",
            ),
            (Operation::Instantiate, json!({"flavourId": "f", "additionalParams": []}), "map"),
            (Operation::Terminate, json!({"terminationType": "SOON"}), "terminationType"),
            (
                Operation::Terminate,
                json!({"terminationType": "GRACEFUL", "gracefulTerminationTimeout": 0}),
                "gracefulTerminationTimeout",
            ),
            (Operation::Scale, json!({"type": "SCALE_OUT"}), "aspectId"),
            (
                Operation::Scale,
                json!({"type": "SCALE_OUT", "aspectId": "a", "numberOfSteps": 0}),
                "numberOfSteps",
            ),
            (Operation::Heal, json!({"vnfcInstanceId": "x"}), "vnfcInstanceId"),
            (Operation::ChangeExtConn, json!({}), "extVirtualLinks"),
            (Operation::ChangeVnfPackage, json!({}), "vnfdId"),
            (Operation::Heal, json!([]), "the body"),
        ] {
            let problem = parameters(operation, body.clone()).unwrap_err();
            assert!(problem.detail.contains(place), "{operation:?} {body}: {}", problem.detail);
        }
    }

    #[test]
    fn what_is_not_known_is_ignored_and_defaults_are_written() {
        let body = json!({"type": "SCALE_IN", "aspectId": "a", "colour": "red"});
        let read = parameters(LcmOperationType::Scale, body).unwrap();
        assert_eq!(Value::Object(read), json!({"type": "SCALE_IN", "aspectId": "a", "numberOfSteps": 1}));
    }
}
