//! Version 1 of the life cycle interface (SOL003 2.6.1) and version 2 (3.3.1): where the same thing is written differently.
//!
//! | what | version 1 | version 2 |
//! |---|---|---|
//! | `vimConnectionInfo` | list of at most one, each with its `id` | map by that id |
//! | `extCps[].cpConfig` | list | map |
//! | `operationParams` | text that is JSON | object |
//! | `currentVnfExtCpData`, `vnfcInfo`, `maxScaleLevels` | not there | there |

use serde_json::{Map, Value};

/// Members that hold external virtual links.
const LINKS: [&str; 3] = ["extVirtualLinks", "changedExtConnectivity", "currentVnfExtCpData"];

/// Why a body of version 1 cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Version1Error {
    /// A list is expected.
    #[error("{0}: a list is expected in version 1 of the API")]
    NotAList(String),
    /// An object is expected.
    #[error("{0}: an object is expected")]
    NotAnObject(String),
    /// More VIMs than one.
    #[error("vimConnectionInfo: a VNF uses one VIM, and {0} are given")]
    Several(usize),
    /// A connection without its id.
    #[error("vimConnectionInfo/0/id: it is missing")]
    NoId,
}

/// A request's body of version 1 in the shape of version 2.
///
/// # Errors
/// [`Version1Error`] with the attribute that is wrong.
pub fn upgrade(body: Value) -> Result<Value, Version1Error> {
    let Value::Object(mut members) = body else { return Ok(body) };
    if let Some(value) = members.remove("vimConnectionInfo") {
        members.insert("vimConnectionInfo".to_owned(), upgrade_connections(value)?);
    }
    if let Some(links) = members.get_mut("extVirtualLinks").and_then(Value::as_array_mut) {
        for (index, link) in links.iter_mut().enumerate() {
            let points = link.get_mut("extCps").and_then(Value::as_array_mut).into_iter().flatten();
            for (point, value) in points.enumerate() {
                upgrade_point(value, || format!("extVirtualLinks/{index}/extCps/{point}/cpConfig"))?;
            }
        }
    }
    Ok(Value::Object(members))
}

fn upgrade_connections(value: Value) -> Result<Value, Version1Error> {
    let list = match value {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        _ => return Err(Version1Error::NotAList("vimConnectionInfo".to_owned())),
    };
    if list.len() > 1 {
        return Err(Version1Error::Several(list.len()));
    }
    let mut connections = Map::new();
    for connection in list {
        let Value::Object(mut members) = connection else {
            return Err(Version1Error::NotAnObject("vimConnectionInfo/0".to_owned()));
        };
        let Some(Value::String(id)) = members.remove("id") else { return Err(Version1Error::NoId) };
        connections.insert(id, Value::Object(members));
    }
    Ok(Value::Object(connections))
}

fn upgrade_point(point: &mut Value, place: impl Fn() -> String) -> Result<(), Version1Error> {
    let Some(config) = point.get_mut("cpConfig") else { return Ok(()) };
    let list = match config.take() {
        Value::Array(list) => list,
        Value::Null => Vec::new(),
        _ => return Err(Version1Error::NotAList(place())),
    };
    let numbered = list.into_iter().enumerate().map(|(index, value)| (index.to_string(), value));
    *config = Value::Object(numbered.collect());
    Ok(())
}

/// A VNF instance of version 2 in the shape of version 1.
#[must_use]
pub fn downgrade_instance(mut instance: Value) -> Value {
    downgrade_members(&mut instance);
    let info = instance.get_mut("instantiatedVnfInfo").and_then(Value::as_object_mut);
    if let Some(info) = info {
        info.remove("vnfcInfo");
        info.remove("maxScaleLevels");
        let links = info.get_mut("extVirtualLinkInfo").and_then(Value::as_array_mut);
        for link in links.into_iter().flatten().filter_map(Value::as_object_mut) {
            link.remove("currentVnfExtCpData");
        }
    }
    instance
}

/// An occurrence of version 2 in the shape of version 1.
#[must_use]
pub fn downgrade_operation(mut operation: Value) -> Value {
    downgrade_members(&mut operation);
    if let Some(parameters) = operation.get_mut("operationParams") {
        downgrade_members(parameters);
        *parameters = Value::String(parameters.to_string());
    }
    operation
}

fn downgrade_members(value: &mut Value) {
    let Some(members) = value.as_object_mut() else { return };
    if let Some(Value::Object(connections)) = members.get_mut("vimConnectionInfo") {
        let list = std::mem::take(connections).into_iter().map(|(id, connection)| match connection {
            Value::Object(mut inner) => {
                inner.insert("id".to_owned(), Value::String(id));
                Value::Object(inner)
            }
            other => other,
        });
        let list: Vec<Value> = list.collect();
        members.insert("vimConnectionInfo".to_owned(), Value::Array(list));
    }
    for name in LINKS {
        let links = members.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten();
        for point in links.filter_map(|link| link.get_mut("extCps").and_then(Value::as_array_mut)).flatten() {
            if let Some(config @ Value::Object(_)) = point.get_mut("cpConfig") {
                let Value::Object(map) = config.take() else { continue };
                *config = Value::Array(map.into_iter().map(|(_, value)| value).collect());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_of_version_1_becomes_one_of_version_2_and_back() {
        let old = json!({"flavourId": "simple", "vimConnectionInfo": [{"id": "vim1", "vimId": "x", "vimType": "openstack"}],
            "extVirtualLinks": [{"id": "l", "resourceId": "n", "extCps": [{"cpdId": "CP", "cpConfig": [{"linkPortId": "p"}]}]}]});
        let new = upgrade(old.clone()).unwrap();
        assert_eq!(
            new,
            json!({"flavourId": "simple", "vimConnectionInfo": {"vim1": {"vimId": "x", "vimType": "openstack"}},
                "extVirtualLinks": [{"id": "l", "resourceId": "n", "extCps": [{"cpdId": "CP", "cpConfig": {"0": {"linkPortId": "p"}}}]}]})
        );
        let operation = downgrade_operation(json!({"id": "o", "operationParams": new}));
        let text: Value = serde_json::from_str(operation["operationParams"].as_str().unwrap()).unwrap();
        assert_eq!(text, old);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (bad, place) in [
            (json!({"vimConnectionInfo": {}}), "vimConnectionInfo: "),
            (json!({"vimConnectionInfo": [{}]}), "vimConnectionInfo/0/id"),
            (json!({"vimConnectionInfo": [1]}), "vimConnectionInfo/0"),
            (json!({"vimConnectionInfo": [{"id": "a"}, {"id": "b"}]}), "vimConnectionInfo"),
            (
                json!({"extVirtualLinks": [{"extCps": [{}, {"cpConfig": {}}]}]}),
                "extVirtualLinks/0/extCps/1/cpConfig",
            ),
        ] {
            let error = upgrade(bad.clone()).unwrap_err().to_string();
            assert!(error.starts_with(place), "{bad}: {error}");
        }
        assert_eq!(upgrade(json!([1])), Ok(json!([1])));
    }

    #[test]
    fn an_instance_loses_what_version_1_does_not_have() {
        let instance = json!({"id": "i", "vimConnectionInfo": {"v": {"vimType": "t"}}, "instantiatedVnfInfo": {"vnfcInfo": [], "flavourId": "f",
            "extVirtualLinkInfo": [{"id": "e", "currentVnfExtCpData": []}]}});
        assert_eq!(
            downgrade_instance(instance),
            json!({"id": "i", "vimConnectionInfo": [{"vimType": "t", "id": "v"}],
                "instantiatedVnfInfo": {"flavourId": "f", "extVirtualLinkInfo": [{"id": "e"}]}})
        );
    }
}
