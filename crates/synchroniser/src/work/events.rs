//! Which order is allowed in which state of a context. Pure.

use drystone_appcontext::{QueueStatus, State, SyncEvent, SyncState};

/// What becomes of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It begins.
    Begin(Course),
    /// It was under way when the process ended: it goes on.
    Resume(Course),
    /// There is nothing to do: the context is as it wants it.
    Nothing(State),
    /// It is passed over.
    Skip(&'static str),
}

/// The states of a context while an order is carried out, and after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Course {
    /// While it goes on.
    pub(crate) running: State,
    /// When it was done.
    pub(crate) done: State,
    /// When it could not be done.
    pub(crate) failed: State,
}

/// The course of an event; `None` for what is not carried out.
pub(crate) fn course(event: SyncEvent) -> Option<Course> {
    let (running, done, failed) = match event {
        SyncEvent::Instantiate | SyncEvent::Read | SyncEvent::Update => {
            (State::Instantiating, State::Instantiated, State::InstantiateFailed)
        }
        SyncEvent::Terminate => (State::Terminating, State::Terminated, State::TerminateFailed),
        SyncEvent::UpdateDelete => (State::Updating, State::Updated, State::UpdateFailed),
        SyncEvent::AddChildContext => return None,
    };
    Some(Course { running, done, failed })
}

/// The first order that waits.
pub(crate) fn next(sync: &SyncState) -> Option<(usize, SyncEvent)> {
    let waits =
        |(_, queued): &(usize, &drystone_appcontext::QueuedEvent)| queued.status == QueueStatus::Pending;
    sync.queue.iter().enumerate().find(waits).map(|(index, queued)| (index, queued.event))
}

/// Whether the context is to be removed by an order that waits.
pub(crate) fn is_terminated_later(sync: &SyncState, than: usize) -> bool {
    let later = sync.queue.iter().skip(than + 1);
    later
        .into_iter()
        .any(|queued| queued.event == SyncEvent::Terminate && queued.status == QueueStatus::Pending)
}

/// What becomes of the order at a place of the queue.
pub(crate) fn judge(sync: &SyncState, index: usize) -> Verdict {
    let Some(queued) = sync.queue.get(index) else { return Verdict::Skip("there is no such order") };
    let Some(course) = course(queued.event) else { return Verdict::Skip("nobody carries such orders out") };
    if sync.stop == Some(true) {
        return Verdict::Skip("the context is stopped");
    }
    if queued.event != SyncEvent::Terminate && is_terminated_later(sync, index) {
        return Verdict::Skip("the context is to be removed");
    }
    let state = sync.current.unwrap_or(State::Created);
    if state == course.running {
        return Verdict::Resume(course);
    }
    match (queued.event, state) {
        // What was never begun has left nothing behind.
        (SyncEvent::Terminate, State::Created | State::Terminated) => Verdict::Nothing(State::Terminated),
        (SyncEvent::Terminate, _)
        | (
            SyncEvent::Instantiate | SyncEvent::Read,
            State::Created | State::Instantiated | State::InstantiateFailed,
        )
        | (
            SyncEvent::Update,
            State::Created | State::Updated | State::UpdateFailed | State::InstantiateFailed,
        )
        | (
            SyncEvent::UpdateDelete,
            State::Instantiated | State::InstantiateFailed | State::UpdateFailed | State::Instantiating,
        ) => Verdict::Begin(course),
        _ => Verdict::Skip("the context is not in a state for that"),
    }
}

#[cfg(test)]
mod tests {
    use drystone_appcontext::QueuedEvent;

    use super::*;

    fn sync(state: Option<State>, queue: &[(SyncEvent, QueueStatus)]) -> SyncState {
        let queue =
            queue.iter().map(|(event, status)| QueuedEvent { event: *event, other: None, status: *status });
        SyncState { current: state, queue: queue.collect(), ..SyncState::default() }
    }

    #[test]
    fn orders_have_their_states() {
        let one = |state, event| judge(&sync(Some(state), &[(event, QueueStatus::Pending)]), 0);
        let installing = course(SyncEvent::Instantiate).unwrap();
        assert_eq!(
            judge(&sync(None, &[(SyncEvent::Instantiate, QueueStatus::Pending)]), 0),
            Verdict::Begin(installing)
        );
        assert_eq!(one(State::Instantiating, SyncEvent::Instantiate), Verdict::Resume(installing));
        assert!(
            matches!(one(State::Terminating, SyncEvent::Instantiate), Verdict::Skip(_)),
            "not while it is removed"
        );
        assert!(matches!(one(State::Terminated, SyncEvent::Instantiate), Verdict::Skip(_)));
        assert_eq!(one(State::Terminated, SyncEvent::Terminate), Verdict::Nothing(State::Terminated));
        assert!(matches!(one(State::InstantiateFailed, SyncEvent::Terminate), Verdict::Begin(_)));
        assert!(matches!(one(State::Updated, SyncEvent::Update), Verdict::Begin(_)));
        assert!(matches!(one(State::Created, SyncEvent::AddChildContext), Verdict::Skip(_)));
    }

    #[test]
    fn a_removal_overtakes_and_a_stop_stops() {
        let queue =
            [(SyncEvent::Instantiate, QueueStatus::Pending), (SyncEvent::Terminate, QueueStatus::Pending)];
        let both = sync(Some(State::Instantiating), &queue);
        assert!(matches!(judge(&both, 0), Verdict::Skip(_)));
        assert!(matches!(judge(&both, 1), Verdict::Begin(_)));
        assert_eq!(next(&both), Some((0, SyncEvent::Instantiate)));
        let stopped = SyncState { stop: Some(true), ..both };
        assert!(matches!(judge(&stopped, 1), Verdict::Skip(_)));
    }
}
