//! Certificate signing requests: who asks is noted by the server, and approval, once given or refused, stays.

use drystone_identity::UserInfo;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::metadata;
use super::super::modify::Part;
use crate::machinery::field_error::FieldError;
use crate::machinery::group::GroupKind;
use crate::machinery::status::ApiError;

/// The conditions that `approval` sets.
const DECISIONS: [&str; 2] = ["Approved", "Denied"];

pub(super) fn begin(object: &mut Value, user: &UserInfo) -> Result<(), ApiError> {
    if !object["spec"].is_object() {
        object["spec"] = json!({});
    }
    let spec = &mut object["spec"];
    spec["username"] = user.name.as_str().into();
    spec["groups"] = json!(user.groups);
    if let Some(uid) = &user.uid {
        spec["uid"] = uid.as_str().into();
    }
    if !user.extra.is_empty() {
        spec["extra"] = json!(user.extra);
    }
    Ok(())
}

pub(super) fn revise(part: Part, new: &mut Value, old: &Value) -> Result<(), ApiError> {
    new["spec"] = old["spec"].clone();
    let mut conditions = conditions(&new["status"]);
    let before = self::conditions(&old["status"]);
    let is_decision = |condition: &Value| DECISIONS.iter().any(|decision| condition["type"] == *decision);
    let mut status = match part {
        // Approval changes no certificate, and status no decision.
        Part::Approval => old["status"].as_object().cloned().unwrap_or_default(),
        _ => new["status"].as_object().cloned().unwrap_or_default(),
    };
    let (mine, kept): (Vec<_>, Vec<_>) = match part {
        Part::Approval => (
            conditions.extract_if(.., |condition| is_decision(condition)).collect(),
            before.iter().filter(|condition| !is_decision(condition)).cloned().collect(),
        ),
        _ => (
            conditions.extract_if(.., |condition| !is_decision(condition)).collect(),
            before.iter().filter(|condition| is_decision(condition)).cloned().collect(),
        ),
    };
    if part == Part::Approval {
        check_decisions(&mine, &before, old)?;
    } else if let Some(certificate) = old["status"]["certificate"].as_str().filter(|text| !text.is_empty())
        && status.get("certificate").and_then(Value::as_str) != Some(certificate)
    {
        return Err(invalid(
            old,
            FieldError::forbidden("status.certificate", "updates may not set or remove it"),
        ));
    }
    let mut merged: Vec<Value> = kept.into_iter().chain(mine).collect();
    for condition in &mut merged {
        complete(condition, &before);
    }
    if merged.is_empty() {
        status.remove("conditions");
    } else {
        status.insert("conditions".into(), merged.into());
    }
    set_status(new, status);
    Ok(())
}

fn set_status(object: &mut Value, status: Map<String, Value>) {
    if !status.is_empty() {
        object["status"] = Value::Object(status);
    } else if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
}

fn check_decisions(decisions: &[Value], before: &[Value], old: &Value) -> Result<(), ApiError> {
    let has = |list: &[Value], kind: &str| list.iter().any(|condition| condition["type"] == kind);
    for kind in DECISIONS {
        if has(before, kind) && !has(decisions, kind) {
            let message = format!("updates may not remove a condition of type {kind:?}");
            return Err(invalid(old, FieldError::forbidden("status.conditions", message)));
        }
    }
    if has(decisions, "Approved") && has(decisions, "Denied") {
        let message = "Approved and Denied conditions are mutually exclusive";
        return Err(invalid(old, FieldError::invalid("status.conditions", json!(decisions), message)));
    }
    Ok(())
}

fn invalid(object: &Value, error: FieldError) -> ApiError {
    let kind = GroupKind::new("certificates.k8s.io", "CertificateSigningRequest");
    ApiError::invalid(kind, metadata::text(object, "name"), vec![error])
}

fn conditions(status: &Value) -> Vec<Value> {
    status["conditions"].as_array().cloned().unwrap_or_default()
}

/// Notes when a condition was set.
fn complete(condition: &mut Value, before: &[Value]) {
    let now = metadata::timestamp(Timestamp::now());
    let same = before.iter().find(|old| old["type"] == condition["type"]);
    if condition["status"].as_str().unwrap_or_default().is_empty() {
        condition["status"] = "True".into();
    }
    let since = same.filter(|old| old["status"] == condition["status"]).map(|old| &old["lastTransitionTime"]);
    let since = since.filter(|since| since.is_string()).cloned();
    if !condition["lastTransitionTime"].is_string() {
        condition["lastTransitionTime"] = since.unwrap_or_else(|| now.as_str().into());
    }
    if !condition["lastUpdateTime"].is_string() {
        condition["lastUpdateTime"] = now.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(status: &Value) -> Value {
        json!({"metadata": {"name": "r"}, "spec": {"request": "x"}, "status": status})
    }

    #[test]
    fn a_decision_is_permanent_and_only_by_approval() {
        let old =
            request(&json!({"certificate": "C", "conditions": [{"type": "Approved", "status": "True"}]}));
        let mut denied = request(&json!({"conditions": [{"type": "Denied", "status": "True"}]}));
        assert!(revise(Part::Approval, &mut denied, &old).is_err());
        let mut by_status = request(&json!({"certificate": "C", "conditions": [{"type": "Denied"}]}));
        revise(Part::Status, &mut by_status, &old).unwrap();
        assert_eq!(conditions(&by_status["status"]).len(), 1);
        assert_eq!(by_status["status"]["conditions"][0]["type"], "Approved");
    }

    #[test]
    fn approval_keeps_the_certificate_and_the_request() {
        let old = request(&json!({"conditions": [{"type": "Failed", "status": "True"}]}));
        let mut new = json!({
            "metadata": {"name": "r"}, "spec": {"request": "other"},
            "status": {"certificate": "forged", "conditions": [{"type": "Approved"}]},
        });
        revise(Part::Approval, &mut new, &old).unwrap();
        assert_eq!(new["spec"]["request"], "x");
        assert!(new["status"]["certificate"].is_null());
        let kinds: Vec<_> =
            conditions(&new["status"]).iter().map(|condition| condition["type"].clone()).collect();
        assert_eq!(kinds, ["Failed", "Approved"]);
    }
}
