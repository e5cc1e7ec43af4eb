//! Which ended operations are no longer worth keeping. Pure.

use std::{cmp::Reverse, collections::HashMap};

use drystone_api::Operation;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::reference::ObjectKey;

/// How long ended operations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most ended operations per subject.
    pub per_subject: usize,
    /// Longest time after their end. The latest of a subject is kept longer: it tells how the subject came to be what it is.
    pub age: SignedDuration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { per_subject: 10, age: SignedDuration::from_hours(7 * 24) }
    }
}

/// The operations to be deleted: ended, and too many or too old for their subject. In the order of their keys.
pub fn expired<'a>(
    operations: impl IntoIterator<Item = &'a Operation>,
    retention: Retention,
    now: Timestamp,
) -> Vec<ObjectKey> {
    let mut by_subject: HashMap<_, Vec<(Timestamp, ObjectKey)>> = HashMap::new();
    for operation in operations {
        if let Some(end) = ended_at(operation) {
            by_subject.entry(&operation.spec.subject).or_default().push((end, ObjectKey::of(operation)));
        }
    }
    let mut expired = Vec::new();
    for mut ended in by_subject.into_values() {
        ended.sort_by_key(|(end, key)| (Reverse(*end), key.clone()));
        for (rank, (end, key)) in ended.into_iter().enumerate() {
            let too_old = rank > 0 && now.duration_since(end) > retention.age;
            if rank >= retention.per_subject.max(1) || too_old {
                expired.push(key);
            }
        }
    }
    expired.sort();
    expired
}

/// When an operation ended; `None` if it has not, is told to go on, or is being deleted anyway.
fn ended_at(operation: &Operation) -> Option<Timestamp> {
    let status = operation.status.as_ref().filter(|status| status.phase.is_final())?;
    if operation.metadata.deletion_timestamp.is_some() || operation.is_told_to_resume() {
        return None;
    }
    let end = status.finished_at.clone().or_else(|| operation.creation_timestamp());
    Some(end.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

#[cfg(test)]
mod tests {
    use drystone_api::{ObjectReference, OperationPhase, OperationSpec, OperationStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn ended(subject: &str, name: &str, hour: i64, phase: OperationPhase) -> Operation {
        let subject = ObjectReference { name: subject.to_owned(), ..ObjectReference::default() };
        let mut operation = Operation::new(name, OperationSpec { subject, ..OperationSpec::default() });
        let end = Timestamp::from_second(hour * 3_600).expect("in range");
        operation.status =
            Some(OperationStatus { phase, finished_at: Some(Time(end)), ..OperationStatus::default() });
        operation
    }

    fn names(operations: &[Operation], per_subject: usize, age_hours: i64, now_hour: i64) -> Vec<String> {
        let retention = Retention { per_subject, age: SignedDuration::from_hours(age_hours) };
        let now = Timestamp::from_second(now_hour * 3_600).expect("in range");
        expired(operations, retention, now).into_iter().map(|key| key.name).collect()
    }

    #[test]
    fn the_oldest_go_first_and_subjects_do_not_disturb_each_other() {
        let operations = [
            ended("a", "a1", 1, OperationPhase::Succeeded),
            ended("a", "a3", 3, OperationPhase::Failed),
            ended("a", "a2", 2, OperationPhase::Succeeded),
            ended("b", "b1", 1, OperationPhase::Undone),
        ];
        assert_eq!(names(&operations, 2, 1_000, 10), ["a1"]);
        assert_eq!(names(&operations, 1, 1_000, 10), ["a1", "a2"]);
    }

    #[test]
    fn old_ones_go_but_the_latest_stays() {
        let operations = [
            ended("a", "a1", 1, OperationPhase::Succeeded),
            ended("a", "a2", 2, OperationPhase::Succeeded),
            ended("a", "a9", 90, OperationPhase::Succeeded),
            ended("b", "b1", 1, OperationPhase::Succeeded),
        ];
        assert_eq!(names(&operations, 10, 24, 100), ["a1", "a2"]);
    }

    #[test]
    fn what_has_not_ended_is_never_pruned() {
        let operations = [
            ended("a", "a1", 1, OperationPhase::Running),
            ended("a", "a2", 2, OperationPhase::Undoing),
            ended("a", "a3", 3, OperationPhase::Succeeded),
        ];
        assert_eq!(names(&operations, 0, 0, 10_000), [""; 0]);
    }
}
