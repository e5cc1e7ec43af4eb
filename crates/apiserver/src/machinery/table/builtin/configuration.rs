//! Namespaces and what is configured in them: secrets, config maps, service accounts, quotas, leases.

use super::Printer;
use crate::machinery::table::column::Column;
use crate::machinery::table::object::{Object, scalar};

pub(super) const NAMESPACE: Printer =
    Printer::new(&[Column::NAME, Column::text("Status"), Column::AGE], |namespace| {
        vec![namespace.name(), namespace.text("/status/phase").into(), namespace.age()]
    });

pub(super) const SECRET: Printer =
    Printer::new(&[Column::NAME, Column::text("Type"), Column::integer("Data"), Column::AGE], |secret| {
        vec![secret.name(), secret.text("/type").into(), secret.count("/data").into(), secret.age()]
    });

pub(super) const CONFIG_MAP: Printer =
    Printer::new(&[Column::NAME, Column::text("Data"), Column::AGE], |map| {
        let entries = map.count("/data") + map.count("/binaryData");
        vec![map.name(), entries.to_string().into(), map.age()]
    });

pub(super) const SERVICE_ACCOUNT: Printer =
    Printer::new(&[Column::NAME, Column::text("Secrets"), Column::AGE], |account| {
        vec![account.name(), account.count("/secrets").to_string().into(), account.age()]
    });

pub(super) const LEASE: Printer =
    Printer::new(&[Column::NAME, Column::text("Holder"), Column::AGE], |lease| {
        vec![lease.name(), lease.text("/spec/holderIdentity").into(), lease.age()]
    });

pub(super) const RESOURCE_QUOTA: Printer =
    Printer::new(&[Column::NAME, Column::text("Request"), Column::text("Limit"), Column::AGE], |quota| {
        vec![quota.name(), usage(quota, false).into(), usage(quota, true).into(), quota.age()]
    });

/// What is used of what is allowed: of the limits, or of everything else.
fn usage(quota: Object<'_>, limits: bool) -> String {
    let used = quota.at("/status/used");
    let parts: Vec<String> = quota
        .fields("/status/hard")
        .filter(|(resource, _)| resource.starts_with("limits.") == limits)
        .map(|(resource, hard)| {
            let used = used.get(resource).map_or_else(|| "0".to_owned(), scalar);
            format!("{resource}: {used}/{}", scalar(hard))
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn usage_is_divided_into_requests_and_limits() {
        let quota: Value = json!({"status": {
            "hard": {"limits.cpu": "4", "pods": "10", "requests.cpu": 2},
            "used": {"pods": "3", "limits.cpu": "500m"},
        }});
        let quota = Object::new(&quota, jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(usage(quota, false), "pods: 3/10, requests.cpu: 0/2");
        assert_eq!(usage(quota, true), "limits.cpu: 500m/4");
    }
}
