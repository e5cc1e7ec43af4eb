//! Folds repeated events into one with a count, and stops a single object from flooding the API. Pure.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::api::ObjectMeta;

use super::Report;

/// Remembered distinct events; the oldest are forgotten first and then start a new count.
const MEMORY: usize = 2048;
/// Events one object may cause in a burst.
const BURST: f64 = 25.0;
/// Further events per second of one object: one in five minutes.
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// What to do about a report.
#[derive(Debug)]
pub enum Verdict {
    /// Write a new event.
    Create(Event),
    /// The same was reported before: raise its count (the event is complete, in case the stored one has expired).
    Repeat(Event),
    /// The object has reported too much.
    Drop,
}

/// What makes two reports the same event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    component: &'static str,
    object: String,
    reason: &'static str,
    message: String,
}

struct Seen {
    name: String,
    first: Timestamp,
    count: i32,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// The memory of what was reported.
#[derive(Default)]
pub struct Correlator {
    seen: HashMap<Identity, Seen>,
    order: VecDeque<Identity>,
    buckets: HashMap<String, Bucket>,
    serial: u64,
}

impl Correlator {
    /// Takes note of a report and says what to write.
    pub fn observe(&mut self, report: &Report, now: Timestamp) -> Verdict {
        let object = object_identity(&report.regarding);
        if !self.take_token(&format!("{}/{object}", report.component), now) {
            return Verdict::Drop;
        }
        let identity = Identity {
            component: report.component,
            object,
            reason: report.reason,
            message: report.message.clone(),
        };
        if let Some(seen) = self.seen.get_mut(&identity) {
            seen.count = seen.count.saturating_add(1);
            return Verdict::Repeat(event(report, &seen.name, seen.first, now, seen.count));
        }
        self.serial += 1;
        let stamp = now.as_nanosecond().unsigned_abs() & u128::from(u64::MAX);
        let object_name = report.regarding.name.as_deref().unwrap_or_default();
        let name = format!("{object_name}.{stamp:x}{:x}", self.serial & 0xff);
        let event = event(report, &name, now, now, 1);
        self.remember(identity, Seen { name, first: now, count: 1 });
        Verdict::Create(event)
    }

    fn remember(&mut self, identity: Identity, seen: Seen) {
        if self.order.len() >= MEMORY
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(identity.clone());
        self.seen.insert(identity, seen);
    }

    fn take_token(&mut self, object: &str, now: Timestamp) -> bool {
        if self.buckets.len() >= MEMORY {
            // Full buckets carry no information.
            self.buckets.retain(|_, bucket| refilled(bucket, now) < BURST);
        }
        let bucket = self.buckets.entry(object.to_owned()).or_insert(Bucket { tokens: BURST, at: now });
        bucket.tokens = refilled(bucket, now);
        bucket.at = now;
        let allowed = bucket.tokens >= 1.0;
        if allowed {
            bucket.tokens -= 1.0;
        }
        allowed
    }
}

fn refilled(bucket: &Bucket, now: Timestamp) -> f64 {
    let elapsed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
    (bucket.tokens + elapsed * REFILL_PER_SECOND).min(BURST)
}

fn object_identity(object: &ObjectReference) -> String {
    let part = |value: &Option<String>| value.clone().unwrap_or_default();
    format!("{}/{}/{}/{}", part(&object.kind), part(&object.namespace), part(&object.name), part(&object.uid))
}

fn event(report: &Report, name: &str, first: Timestamp, last: Timestamp, count: i32) -> Event {
    // Events about cluster-scoped objects live in the default namespace.
    let namespace = report.regarding.namespace.clone().filter(|ns| !ns.is_empty());
    Event {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.unwrap_or_else(|| "default".to_owned())),
            ..Default::default()
        },
        involved_object: report.regarding.clone(),
        reason: Some(report.reason.to_owned()),
        message: Some(report.message.clone()),
        source: Some(EventSource { component: Some(report.component.to_owned()), host: None }),
        reporting_component: Some(report.component.to_owned()),
        first_timestamp: Some(Time(first)),
        last_timestamp: Some(Time(last)),
        count: Some(count),
        type_: Some(report.severity.as_str().to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Severity;

    fn report(object: &str, message: &str) -> Report {
        Report {
            component: "test",
            regarding: ObjectReference { name: Some(object.into()), ..Default::default() },
            severity: Severity::Normal,
            reason: "Tested",
            message: message.into(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn repetitions_raise_the_count_of_the_first() {
        let mut correlator = Correlator::default();
        let Verdict::Create(first) = correlator.observe(&report("p", "m"), at(0)) else {
            panic!("not created")
        };
        let Verdict::Repeat(second) = correlator.observe(&report("p", "m"), at(5)) else {
            panic!("not repeated")
        };
        assert_eq!(first.metadata.name, second.metadata.name);
        assert_eq!(
            (second.count, second.first_timestamp, second.last_timestamp),
            (Some(2), Some(Time(at(0))), Some(Time(at(5))))
        );
        assert!(matches!(correlator.observe(&report("p", "other"), at(5)), Verdict::Create(_)));
        assert!(matches!(correlator.observe(&report("q", "m"), at(5)), Verdict::Create(_)));
    }

    #[test]
    fn one_object_cannot_flood() {
        let mut correlator = Correlator::default();
        let written = (0..200)
            .filter(|n| !matches!(correlator.observe(&report("p", &n.to_string()), at(0)), Verdict::Drop))
            .count();
        assert_eq!(written, 25);
        assert!(matches!(correlator.observe(&report("p", "later"), at(301)), Verdict::Create(_)));
        assert!(matches!(correlator.observe(&report("q", "m"), at(0)), Verdict::Create(_)));
    }
}
