//! Conditions: what is true of an object, why, and since when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Builds a condition; `last_transition_time` is filled by [`set_condition`].
pub fn condition(kind: &str, status: bool, reason: &str, message: impl Into<String>) -> Condition {
    Condition {
        type_: kind.to_owned(),
        status: if status { "True" } else { "False" }.to_owned(),
        reason: reason.to_owned(),
        message: message.into(),
        observed_generation: None,
        last_transition_time: Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH),
    }
}

/// Puts a condition into a list, keeping the transition time when the status did not change.
pub fn set_condition(conditions: &mut Vec<Condition>, mut new: Condition, now: k8s_openapi::jiff::Timestamp) {
    match conditions.iter_mut().find(|existing| existing.type_ == new.type_) {
        Some(existing) => {
            new.last_transition_time =
                if existing.status == new.status { existing.last_transition_time.clone() } else { Time(now) };
            *existing = new;
        }
        None => {
            new.last_transition_time = Time(now);
            conditions.push(new);
        }
    }
}

/// Whether a condition is present and true.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}
