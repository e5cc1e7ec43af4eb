//! Which ended operations are no longer worth keeping, and their deletion: of the engine's own, and of the kinds of others that come to an
//! end, such as VNF LCM operation occurrences.

use std::{cmp::Reverse, collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use drystone_api::{ObjectReference, Operation};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, Preconditions},
};

use crate::{
    harness::{Cache, WatchedObject},
    reference::{ObjectKey, describe_kube_error, is_conflict, is_not_found},
};

/// How long ended operations are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Most ended operations per subject.
    pub per_subject: usize,
    /// Longest time after their end. The latest of a subject that is still there is kept longer: it tells how the subject came to be what it is.
    pub age: SignedDuration,
    /// Shortest time after their end, however many there are: somebody may be about to ask what came of them.
    pub at_least: SignedDuration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            per_subject: 10,
            age: SignedDuration::from_hours(7 * 24),
            at_least: SignedDuration::from_secs(0),
        }
    }
}

/// An operation that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended<S> {
    /// What it was about.
    pub subject: S,
    /// Whether that is no longer there.
    pub subject_is_gone: bool,
    /// When it ended.
    pub at: Timestamp,
}

/// The operations to be deleted: ended, and too many or too old for their subject. In the order of their keys. Pure.
pub fn expired<S: Hash + Eq>(
    operations: impl IntoIterator<Item = (ObjectKey, Ended<S>)>,
    retention: Retention,
    now: Timestamp,
) -> Vec<ObjectKey> {
    let mut by_subject: HashMap<S, Vec<(Timestamp, bool, ObjectKey)>> = HashMap::new();
    for (key, ended) in operations {
        by_subject.entry(ended.subject).or_default().push((ended.at, ended.subject_is_gone, key));
    }
    let mut expired = Vec::new();
    for mut ended in by_subject.into_values() {
        ended.sort_by_key(|(end, _, key)| (Reverse(*end), key.clone()));
        for (rank, (end, gone, key)) in ended.into_iter().enumerate() {
            let age = now.duration_since(end);
            let too_old = (rank > 0 || gone) && age > retention.age;
            let too_many = rank >= retention.per_subject.max(1);
            if (too_many || too_old) && age >= retention.at_least {
                expired.push(key);
            }
        }
    }
    expired.sort();
    expired
}

/// How an operation ended; `None` if it has not, is told to go on, or is being deleted anyway. It goes with its subject, which owns it.
pub(super) fn ended(operation: &Operation) -> Option<Ended<ObjectReference>> {
    let status = operation.status.as_ref().filter(|status| status.phase.is_final())?;
    if operation.metadata.deletion_timestamp.is_some() || operation.is_told_to_resume() {
        return None;
    }
    let end = status.finished_at.clone().or_else(|| operation.metadata.creation_timestamp.clone());
    let at = end.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some(Ended { subject: operation.spec.subject.clone(), subject_is_gone: false, at })
}

/// Deletes what has ended and is not worth keeping, again and again, beginning after the first interval. Returns
/// only if the copy of the objects is given up before it is complete.
pub async fn keep_pruned<K, S>(
    client: Client,
    objects: Cache<K>,
    ended: impl Fn(&K) -> Option<Ended<S>> + Send,
    retention: Retention,
    interval: Duration,
) where
    K: WatchedObject + Resource<Scope = NamespaceResourceScope>,
    S: Hash + Eq,
{
    loop {
        tokio::time::sleep(interval).await;
        if !objects.ready().await {
            return;
        }
        prune(&client, &objects.list(), &ended, retention).await;
    }
}

/// Deletes what of these has ended and is not worth keeping.
pub(super) async fn prune<K, S>(
    client: &Client,
    all: &[Arc<K>],
    ended: &impl Fn(&K) -> Option<Ended<S>>,
    retention: Retention,
) where
    K: WatchedObject + Resource<Scope = NamespaceResourceScope>,
    S: Hash + Eq,
{
    let by_key: HashMap<ObjectKey, &Arc<K>> =
        all.iter().map(|object| (ObjectKey::of(object.as_ref()), object)).collect();
    let found = by_key.iter().filter_map(|(key, object)| Some((key.clone(), ended(object)?)));
    for key in expired(found, retention, Timestamp::now()) {
        if let Some(object) = by_key.get(&key) {
            delete(client, &key, object.as_ref()).await;
        }
    }
}

/// Deletes an ended operation, and what it owns. What fails is tried again with the next look.
async fn delete<K>(client: &Client, key: &ObjectKey, object: &K)
where
    K: WatchedObject + Resource<Scope = NamespaceResourceScope>,
{
    // Only what was looked at, as it was then: not another one of the name, and not one that has been told to go on.
    let meta = object.meta();
    let preconditions =
        Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let kind = K::kind(&());
    match api.delete(&key.name, &parameters).await {
        Ok(_) => tracing::debug!(%kind, operation = %key, "ended long ago; deleted"),
        Err(error) if is_not_found(&error) || is_conflict(&error) => {}
        Err(error) => {
            tracing::warn!(%kind, operation = %key, error = %describe_kube_error(&error), "not pruned; trying again later");
        }
    }
}

#[cfg(test)]
mod tests {
    use drystone_api::{ObjectReference, OperationPhase, OperationSpec, OperationStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::{ended as ended_of, *};

    fn ended(subject: &str, name: &str, hour: i64, phase: OperationPhase) -> Operation {
        let subject = ObjectReference { name: subject.to_owned(), ..ObjectReference::default() };
        let mut operation = Operation::new(name, OperationSpec { subject, ..OperationSpec::default() });
        let end = Timestamp::from_second(hour * 3_600).expect("in range");
        operation.status =
            Some(OperationStatus { phase, finished_at: Some(Time(end)), ..OperationStatus::default() });
        operation
    }

    fn names(operations: &[Operation], per_subject: usize, age_hours: i64, now_hour: i64) -> Vec<String> {
        let age = SignedDuration::from_hours(age_hours);
        let retention = Retention { per_subject, age, ..Retention::default() };
        let now = Timestamp::from_second(now_hour * 3_600).expect("in range");
        let found = operations.iter().filter_map(|one| Some((ObjectKey::of(one), ended_of(one)?)));
        expired(found, retention, now).into_iter().map(|key| key.name).collect()
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

    #[test]
    fn what_ended_just_now_stays_and_what_is_about_nothing_goes() {
        let end = |name: &str, hour: i64, gone: bool| {
            let at = Timestamp::from_second(hour * 3_600).expect("in range");
            (ObjectKey::new("n", name), Ended { subject: gone, subject_is_gone: gone, at })
        };
        let retention = Retention {
            per_subject: 1,
            age: SignedDuration::from_hours(10),
            at_least: SignedDuration::from_hours(1),
        };
        let all = [
            end("old", 1, true),
            end("a", 1, false),
            end("b", 20, false),
            end("c", 20, false),
            end("d", 1, false),
        ];
        let now = |hour: i64| Timestamp::from_second(hour * 3_600).expect("in range");
        let names = |now| -> Vec<String> {
            expired(all.clone(), retention, now).into_iter().map(|key| key.name).collect()
        };
        assert_eq!(names(now(20)), ["a", "d", "old"]);
        assert_eq!(names(now(21)), ["a", "c", "d", "old"]);
    }
}
