//! What a subscriber is still to be told, in order, and what he has been told.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use drystone_api::nfv::VnfSubscriptionStatus;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use tokio::sync::Notify;

use super::events::{Event, Key};

/// Events that are kept for one subscriber; more are looked up again when these are delivered.
const MOST: usize = 10_000;
/// How long after something happened the watch may tell of it: that long, single events are remembered.
const LATE: Duration = Duration::from_secs(30);

/// The events of one subscriber.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Rings when there is something to do.
    pub(super) bell: Notify,
}

#[derive(Debug)]
struct State {
    queue: BTreeMap<Key, Event>,
    /// Some events found no place.
    overflown: bool,
    /// Not everything has been offered that there is: nothing is known of the time before what waits.
    filling: bool,
    delivered: BTreeMap<String, (u32, Timestamp)>,
    until: Timestamp,
    message: String,
    last_delivery: Option<Timestamp>,
}

impl State {
    fn is_delivered(&self, key: &Key) -> bool {
        match self.delivered.get(&key.subject) {
            Some((sequence, _)) => key.sequence <= *sequence,
            None => key.time <= self.until,
        }
    }
}

impl Outbox {
    /// An outbox that goes on where a status says; without one, with what happens from `began` on.
    pub(super) fn new(status: Option<&VnfSubscriptionStatus>, began: Timestamp, now: Timestamp) -> Self {
        let known = status.filter(|status| status.delivered_until.is_some());
        let until = known.and_then(|status| status.delivered_until.as_ref()).map_or(began, |until| until.0);
        let delivered = known.into_iter().flat_map(|status| &status.delivered);
        let state = State {
            queue: BTreeMap::new(),
            overflown: false,
            filling: true,
            delivered: delivered.map(|(subject, sequence)| (subject.clone(), (*sequence, now))).collect(),
            until,
            message: String::new(),
            last_delivery: known.and_then(|status| status.last_delivery.as_ref()).map(|time| time.0),
        };
        Self { state: Mutex::new(state), bell: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event in, unless it has been delivered. Of an event that waits already the newer form stays.
    pub(super) fn offer(&self, event: Event) {
        let mut state = self.lock();
        if state.is_delivered(&event.key) {
            return;
        }
        state.queue.insert(event.key.clone(), event);
        if state.queue.len() > MOST {
            // The last ones: those before them go first anyway.
            state.queue.pop_last();
            state.overflown = true;
        }
        drop(state);
        self.bell.notify_one();
    }

    /// What is to be delivered next.
    pub(super) fn first(&self) -> Option<Event> {
        self.lock().queue.first_key_value().map(|(_, event)| event.clone())
    }

    /// Whether everything was delivered that found a place, and something did not: then all must be offered again, until
    /// [`filled`](Self::filled).
    pub(super) fn wants_all(&self) -> bool {
        let mut state = self.lock();
        let wants = state.overflown && state.queue.is_empty();
        if wants {
            state.overflown = false;
            state.filling = true;
        }
        wants
    }

    /// Everything that there is has been offered.
    pub(super) fn filled(&self) {
        self.lock().filling = false;
        self.bell.notify_one();
    }

    /// Whether something about an instance waits, or about what was done with it.
    pub(super) fn waits_for(&self, instance: &str) -> bool {
        let state = self.lock();
        state.overflown || state.filling || state.queue.values().any(|event| event.instance_id == instance)
    }

    /// Notes that an event has been delivered.
    pub(super) fn delivered(&self, key: &Key, now: Timestamp, message: String) {
        let mut state = self.lock();
        state.queue.remove(key);
        state.delivered.insert(key.subject.clone(), (key.sequence, key.time));
        state.last_delivery = Some(now);
        state.message = message;
    }

    /// Notes why an event has not been delivered; whether that is news.
    pub(super) fn failed(&self, message: String) -> bool {
        let mut state = self.lock();
        let is_news = state.message != message;
        state.message = message;
        is_news
    }

    /// What is to be kept; forgets single events that are covered by the time until which everything is delivered.
    pub(super) fn status(&self, now: Timestamp) -> VnfSubscriptionStatus {
        let mut state = self.lock();
        let settled = now.checked_sub(LATE).unwrap_or(state.until);
        // All before the first that waits is delivered, and nothing comes any more from before `settled`.
        let before_first = state
            .queue
            .first_key_value()
            .and_then(|(key, _)| key.time.checked_sub(Duration::from_micros(1)).ok());
        let until = before_first.map_or(settled, |first| first.min(settled));
        if until > state.until && !state.filling && !(state.overflown && state.queue.is_empty()) {
            state.until = until;
        }
        let until = state.until;
        state.delivered.retain(|_, (_, time)| *time > until);
        VnfSubscriptionStatus {
            delivered_until: Some(MicroTime(until)),
            delivered: state.delivered.iter().map(|(id, (sequence, _))| (id.clone(), *sequence)).collect(),
            waiting: u32::try_from(state.queue.len()).unwrap_or(u32::MAX),
            message: state.message.clone(),
            last_delivery: state.last_delivery.map(Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::events::What;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn event(subject: &str, sequence: u32, second: i64) -> Event {
        Event {
            key: Key { time: at(second), subject: subject.to_owned(), sequence },
            instance_id: subject.to_owned(),
            instance: None,
            what: What::Created,
        }
    }

    fn drain(outbox: &Outbox, now: i64) -> Vec<(String, u32)> {
        let mut told = Vec::new();
        while let Some(event) = outbox.first() {
            outbox.delivered(&event.key, at(now), String::new());
            told.push((event.key.subject, event.key.sequence));
        }
        told
    }

    #[test]
    fn events_go_in_order_and_once_even_over_a_restart() {
        let outbox = Outbox::new(None, at(0), at(0));
        outbox.filled();
        for (subject, sequence, second) in [("b", 1, 3), ("a", 2, 5), ("a", 1, 2), ("old", 1, -5)] {
            outbox.offer(event(subject, sequence, second));
        }
        assert_eq!(drain(&outbox, 6), [("a".to_owned(), 1), ("b".to_owned(), 1), ("a".to_owned(), 2)]);
        // Offered again, as after a restart: by what was kept soon after, and long after.
        for now in [6, 1000] {
            let status = outbox.status(at(now));
            let again = Outbox::new(Some(&status), at(0), at(now));
            for (subject, sequence, second) in [("b", 1, 3), ("a", 2, 5), ("a", 1, 2), ("a", 3, 1001)] {
                again.offer(event(subject, sequence, second));
            }
            assert_eq!(drain(&again, 1002), [("a".to_owned(), 3)], "{now}");
        }
        assert!(outbox.status(at(1000)).delivered.is_empty());
    }

    #[test]
    fn what_waits_is_not_covered_by_the_time() {
        let outbox = Outbox::new(None, at(0), at(0));
        outbox.offer(event("a", 1, 10));
        outbox.offer(event("b", 1, 20));
        assert_eq!(outbox.status(at(5000)).delivered_until, Some(MicroTime(at(0))));
        outbox.filled();
        let status = outbox.status(at(5000));
        assert_eq!(status.waiting, 2);
        let again = Outbox::new(Some(&status), at(0), at(5000));
        again.offer(event("a", 1, 10));
        again.offer(event("b", 1, 20));
        assert_eq!(again.status(at(5000)).waiting, 2);
    }

    #[test]
    fn what_was_done_with_an_instance_keeps_it() {
        let outbox = Outbox::new(None, at(0), at(0));
        outbox.filled();
        outbox.offer(Event { instance_id: "instance".to_owned(), ..event("operation", 1, 1) });
        assert!(outbox.waits_for("instance") && !outbox.waits_for("operation"));
        drain(&outbox, 2);
        assert!(!outbox.waits_for("instance"));
    }

    #[test]
    fn too_much_is_asked_for_again() {
        let outbox = Outbox::new(None, at(0), at(0));
        for number in 0..MOST + 5 {
            outbox.offer(event(&format!("{number:06}"), 1, i64::try_from(number).unwrap() + 1));
        }
        assert_eq!(outbox.status(at(0)).waiting as usize, MOST);
        assert!(!outbox.wants_all() && outbox.waits_for("nobody"));
        drain(&outbox, 1);
        assert_eq!(outbox.status(at(100_000)).delivered_until, Some(MicroTime(at(0))));
        assert!(outbox.wants_all());
        assert!(!outbox.wants_all());
        assert_eq!(outbox.status(at(100_000)).delivered_until, Some(MicroTime(at(0))));
    }
}
