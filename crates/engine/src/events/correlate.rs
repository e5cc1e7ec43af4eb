//! What becomes of an event: written anew, counted on one that exists, or dropped. Pure.
//!
//! The rules are those of Kubernetes' own components: the same event again only raises the count of the first one; more than
//! ten that differ in their text alone become one "combined" event; who tells more than 25 about one object may then tell one
//! every five minutes.

use std::collections::HashMap;

use drystone_api::ObjectReference;
use jiff::{SignedDuration, Timestamp};

use super::EventKind;

/// How long an event is remembered to be counted up; after that it is written anew.
const MEMORY: SignedDuration = SignedDuration::from_mins(10);

/// How many texts of one reason are told apart within [`MEMORY`].
const DISTINCT_TEXTS: usize = 10;

/// How many events about one object may be told in a burst.
const BURST: f64 = 25.0;

/// How many more per second after that.
const PER_SECOND: f64 = 1.0 / 300.0;

/// How many objects and events are remembered. Beyond, the oldest half is forgotten, which costs counts, not events.
const REMEMBERED: usize = 4_096;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Observation {
    /// To what.
    pub regarding: ObjectReference,
    /// Good news or not.
    pub kind: EventKind,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub note: String,
}

/// What to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Name of the event object.
    pub name: String,
    /// How often it happened. 1: the event is new; more: it exists under that name (or was lost, and is to be created).
    pub count: u32,
    /// When it happened first.
    pub first: Timestamp,
    /// When it happened last.
    pub last: Timestamp,
    /// What to say.
    pub observation: Observation,
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct Correlator {
    told: HashMap<Observation, Told>,
    similar: HashMap<Observation, Similar>,
    budgets: HashMap<ObjectReference, Budget>,
    serial: u32,
}

#[derive(Debug)]
struct Told {
    name: String,
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

#[derive(Debug)]
struct Similar {
    texts: Vec<String>,
    last: Timestamp,
}

#[derive(Debug)]
struct Budget {
    tokens: f64,
    last: Timestamp,
}

impl Correlator {
    /// Takes in something that happened; `None` if it is not to be told.
    pub fn observe(&mut self, observation: Observation, now: Timestamp) -> Option<Write> {
        self.forget_the_oldest();
        let (key, observation) = self.combine(observation, now);
        let allowed = self.spend(&observation.regarding, now);
        let serial = self.serial;
        let fresh = || Told {
            name: event_name(&observation.regarding.name, now, serial),
            count: 0,
            first: now,
            last: now,
        };
        let told = self.told.entry(key).or_insert_with(fresh);
        if is_past(told.last, now) {
            *told = fresh();
        }
        if !allowed && told.count == 0 {
            return None;
        }
        told.count = told.count.saturating_add(1);
        told.last = now;
        self.serial = self.serial.wrapping_add(1);
        let write = Write {
            name: told.name.clone(),
            count: told.count,
            first: told.first,
            last: told.last,
            observation,
        };
        allowed.then_some(write)
    }

    /// The key under which an event is counted, and the event with the text to be told.
    fn combine(&mut self, mut observation: Observation, now: Timestamp) -> (Observation, Observation) {
        let without_text = Observation { note: String::new(), ..observation.clone() };
        let similar = self
            .similar
            .entry(without_text.clone())
            .or_insert_with(|| Similar { texts: Vec::new(), last: now });
        if is_past(similar.last, now) {
            similar.texts.clear();
        }
        similar.last = now;
        if similar.texts.contains(&observation.note) {
            return (observation.clone(), observation);
        }
        if similar.texts.len() < DISTINCT_TEXTS {
            similar.texts.push(observation.note.clone());
            return (observation.clone(), observation);
        }
        observation.note = format!("(combined from similar events): {}", observation.note);
        (without_text, observation)
    }

    fn spend(&mut self, regarding: &ObjectReference, now: Timestamp) -> bool {
        let budget =
            self.budgets.entry(regarding.clone()).or_insert_with(|| Budget { tokens: BURST, last: now });
        let elapsed = now.duration_since(budget.last).as_secs_f64().max(0.0);
        budget.tokens = (budget.tokens + elapsed * PER_SECOND).min(BURST);
        budget.last = now;
        let allowed = budget.tokens >= 1.0;
        if allowed {
            budget.tokens -= 1.0;
        }
        allowed
    }

    fn forget_the_oldest(&mut self) {
        halve(&mut self.told, |told| told.last);
        halve(&mut self.similar, |similar| similar.last);
        halve(&mut self.budgets, |budget| budget.last);
    }
}

/// Drops the older half of a map that has become too large.
fn halve<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, last: impl Fn(&V) -> Timestamp) {
    if map.len() < REMEMBERED {
        return;
    }
    let mut times: Vec<Timestamp> = map.values().map(&last).collect();
    let middle = times.len() / 2;
    let (_, &mut median, _) = times.select_nth_unstable(middle);
    map.retain(|_, value| last(value) > median);
}

fn is_past(last: Timestamp, now: Timestamp) -> bool {
    now.duration_since(last) > MEMORY
}

/// `object.time`, as Kubernetes names events; the serial number tells events of the same instant apart.
fn event_name(object: &str, now: Timestamp, serial: u32) -> String {
    // A name has 253 characters at most.
    let object: String = object.chars().take(220).collect();
    format!("{object}.{:x}{:04x}", now.as_nanosecond(), serial & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(note: &str) -> Observation {
        Observation {
            regarding: ObjectReference { name: "mlops".to_owned(), ..ObjectReference::default() },
            kind: EventKind::Normal,
            reason: "Tested".to_owned(),
            note: note.to_owned(),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    #[test]
    fn the_same_again_is_counted() {
        let mut correlator = Correlator::default();
        let first = correlator.observe(observation("x"), at(0)).expect("told");
        let second = correlator.observe(observation("x"), at(5)).expect("told");
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(first.name, second.name);
        assert_eq!((second.first, second.last), (at(0), at(5)));
    }

    #[test]
    fn after_a_while_it_is_news_again() {
        let mut correlator = Correlator::default();
        let first = correlator.observe(observation("x"), at(0)).expect("told");
        let later = correlator.observe(observation("x"), at(601)).expect("told");
        assert_eq!(later.count, 1);
        assert_ne!(first.name, later.name);
    }

    #[test]
    fn different_texts_of_one_reason_are_combined() {
        let mut correlator = Correlator::default();
        let names: std::collections::BTreeSet<String> = (0..20)
            .map(|n| correlator.observe(observation(&n.to_string()), at(0)).expect("told"))
            .map(|write| write.name)
            .collect();
        assert_eq!(names.len(), DISTINCT_TEXTS + 1);
        let last = correlator.observe(observation("another"), at(1)).expect("told");
        assert_eq!(last.observation.note, "(combined from similar events): another");
        assert_eq!(last.count, 11);
    }

    #[test]
    fn a_flood_is_dammed_per_object() {
        let mut correlator = Correlator::default();
        let told = (0..100).filter(|_| correlator.observe(observation("x"), at(0)).is_some()).count();
        assert_eq!(told, 25);
        let mut other = observation("x");
        other.regarding.name = "other".to_owned();
        assert!(correlator.observe(other, at(0)).is_some());
        // What was not told is counted in what is told next.
        assert_eq!(correlator.observe(observation("x"), at(301)).expect("told").count, 101);
    }

    #[test]
    fn memory_is_bounded() {
        let mut correlator = Correlator::default();
        for n in 0..3 * REMEMBERED {
            let mut observation = observation("x");
            observation.regarding.name = n.to_string();
            correlator.observe(observation, at(i64::try_from(n).expect("small")));
        }
        assert!(correlator.told.len() <= REMEMBERED && correlator.budgets.len() <= REMEMBERED);
    }
}
