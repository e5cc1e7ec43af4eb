//! The downward API: fields of a pod, and resources of a container, as text.

use std::{collections::BTreeMap, net::IpAddr};

use drystone_quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::NodeFacts;

/// What cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// No such field.
    #[error("field {0:?} is not supported by the downward API")]
    Field(String),
    /// No such resource.
    #[error("resource {0:?} is not supported by the downward API")]
    Resource(String),
    /// A divisor that is not a quantity above zero.
    #[error("divisor {0:?} is not a quantity above zero")]
    Divisor(String),
    /// No such container.
    #[error("container {0:?} is not in the pod")]
    Container(String),
}

/// The value of a field such as `metadata.labels['app']` or `status.podIP`.
///
/// # Errors
/// [`FieldError`] if the path is not supported.
pub fn field(pod: &Pod, path: &str, addresses: &[IpAddr], host: IpAddr) -> Result<String, FieldError> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let list = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    if let Some((map, key)) = subscript(path) {
        let entries = match map {
            "metadata.labels" => &metadata.labels,
            "metadata.annotations" => &metadata.annotations,
            _ => return Err(FieldError::Field(path.to_owned())),
        };
        return Ok(entries.as_ref().and_then(|entries| entries.get(key)).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.hostIP" | "status.hostIPs" => host.to_string(),
        "status.podIP" => addresses.first().map(ToString::to_string).unwrap_or_default(),
        "status.podIPs" => list(addresses),
        _ => return Err(FieldError::Field(path.to_owned())),
    })
}

/// `map['key']` → map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    Some((map, key))
}

/// `key="value"` per line, as the downward API writes maps.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The value of a resource of a container, in units of the divisor, rounded up; what the node has if there is no limit.
///
/// # Errors
/// [`FieldError`] if the resource or divisor is not supported.
pub fn resource(
    container: &Container,
    selector: &ResourceFieldSelector,
    node: &NodeFacts,
) -> Result<String, FieldError> {
    let unknown = || FieldError::Resource(selector.resource.clone());
    let (kind, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|resources| resources.limits.as_ref());
    let own = match kind {
        "limits" => limits,
        "requests" => resources.and_then(|resources| resources.requests.as_ref()),
        _ => return Err(unknown()),
    };
    let given = own.and_then(|own| own.get(name)).or_else(|| {
        // A container that asks for nothing special asks for its limit.
        limits.filter(|_| kind == "requests").and_then(|limits| limits.get(name))
    });
    let text = match (given, kind) {
        (Some(quantity), _) => quantity.0.clone(),
        (None, "limits") => node.allocatable.get(name).cloned().unwrap_or_else(|| "0".to_owned()),
        (None, _) => "0".to_owned(),
    };
    let divisor = selector.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let divisor = if matches!(divisor, "" | "0") { "1" } else { divisor };
    let amount: Quantity = text.parse().map_err(|_| unknown())?;
    let unit = divisor.parse().ok().filter(|unit: &Quantity| !unit.is_negative());
    let count = unit.and_then(|unit| amount.in_units_of(unit));
    Ok(count.ok_or_else(|| FieldError::Divisor(divisor.to_owned()))?.to_string())
}
