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

/// Whether something is to be done by an order that waits behind another one.
fn waits_behind(sync: &SyncState, index: usize, event: SyncEvent) -> bool {
    let mut later = sync.queue.iter().skip(index + 1);
    later.any(|queued| queued.event == event && queued.status == QueueStatus::Pending)
}

/// How a context stands to those whose place it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Standing {
    /// Some of them have not given way.
    pub(crate) stands_in: bool,
    /// That which the order names was told to give way to it, and nothing else since then.
    pub(crate) took_over: bool,
}

/// What becomes of the order at a place of the queue.
pub(crate) fn judge(sync: &SyncState, index: usize, standing: Standing) -> Verdict {
    let Some(queued) = sync.queue.get(index) else { return Verdict::Skip("there is no such order") };
    let Some(course) = course(queued.event) else { return Verdict::Skip("nobody carries such orders out") };
    if sync.stop == Some(true) {
        return Verdict::Skip("the context is stopped");
    }
    if queued.event != SyncEvent::Terminate && waits_behind(sync, index, SyncEvent::Terminate) {
        return Verdict::Skip("the context is to be removed");
    }
    if queued.event == SyncEvent::UpdateDelete && waits_behind(sync, index, SyncEvent::Update) {
        return Verdict::Skip("the context is to take its place back");
    }
    let state = sync.current.unwrap_or(State::Created);
    if state == course.running {
        return Verdict::Resume(course);
    }
    match (queued.event, state) {
        // What was never begun has left nothing behind.
        (SyncEvent::Terminate, State::Created | State::Terminated) if !standing.stands_in => {
            Verdict::Nothing(State::Terminated)
        }
        // It was given again, by who does not know what became of the first.
        (SyncEvent::Update, State::Instantiated) if standing.took_over => Verdict::Nothing(State::Instantiated),
        (SyncEvent::Terminate, _)
        | (
            SyncEvent::Instantiate | SyncEvent::Read,
            State::Created | State::Instantiated | State::InstantiateFailed,
        )
        // One that never gave way, because what was to replace it was stopped, takes its place back all the same.
        | (
            SyncEvent::Update,
            State::Created
            | State::Instantiated
            | State::InstantiateFailed
            | State::Updating
            | State::Updated
            | State::UpdateFailed,
        )
        | (
            SyncEvent::UpdateDelete,
            State::Instantiated
            | State::InstantiateFailed
            | State::UpdateFailed
            | State::TerminateFailed
            | State::Instantiating,
        ) => Verdict::Begin(course),
        _ => Verdict::Skip("the context is not in a state for that"),
    }
}

#[cfg(test)]
mod tests {
    use drystone_appcontext::QueuedEvent;

    use super::*;

    const ALONE: Standing = Standing { stands_in: false, took_over: false };

    fn sync(state: Option<State>, queue: &[(SyncEvent, QueueStatus)]) -> SyncState {
        let queue =
            queue.iter().map(|(event, status)| QueuedEvent { event: *event, other: None, status: *status });
        SyncState { current: state, queue: queue.collect(), ..SyncState::default() }
    }

    #[test]
    fn orders_have_their_states() {
        let one = |state, event| judge(&sync(Some(state), &[(event, QueueStatus::Pending)]), 0, ALONE);
        let installing = course(SyncEvent::Instantiate).unwrap();
        assert_eq!(
            judge(&sync(None, &[(SyncEvent::Instantiate, QueueStatus::Pending)]), 0, ALONE),
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
        assert!(
            matches!(one(State::Instantiated, SyncEvent::Update), Verdict::Begin(_)),
            "it never gave way"
        );
        let again = sync(Some(State::Instantiated), &[(SyncEvent::Update, QueueStatus::Pending)]);
        let took_over = Standing { took_over: true, ..ALONE };
        assert_eq!(judge(&again, 0, took_over), Verdict::Nothing(State::Instantiated));
        assert!(matches!(one(State::Created, SyncEvent::AddChildContext), Verdict::Skip(_)));
    }

    #[test]
    fn what_stands_in_for_others_is_removed_though_it_never_came() {
        let removal = sync(None, &[(SyncEvent::Terminate, QueueStatus::Pending)]);
        assert_eq!(judge(&removal, 0, ALONE), Verdict::Nothing(State::Terminated));
        assert!(matches!(judge(&removal, 0, Standing { stands_in: true, ..ALONE }), Verdict::Begin(_)));
    }

    #[test]
    fn who_takes_its_place_back_does_not_give_way() {
        let queue =
            [(SyncEvent::UpdateDelete, QueueStatus::Pending), (SyncEvent::Update, QueueStatus::Pending)];
        let back = sync(Some(State::Updating), &queue);
        assert!(matches!(judge(&back, 0, ALONE), Verdict::Skip(_)));
        assert!(matches!(judge(&back, 1, ALONE), Verdict::Begin(_)));
    }

    #[test]
    fn a_removal_overtakes_and_a_stop_stops() {
        let queue =
            [(SyncEvent::Instantiate, QueueStatus::Pending), (SyncEvent::Terminate, QueueStatus::Pending)];
        let both = sync(Some(State::Instantiating), &queue);
        assert!(matches!(judge(&both, 0, ALONE), Verdict::Skip(_)));
        assert!(matches!(judge(&both, 1, ALONE), Verdict::Begin(_)));
        assert_eq!(next(&both), Some((0, SyncEvent::Instantiate)));
        let stopped = SyncState { stop: Some(true), ..both };
        assert!(matches!(judge(&stopped, 1, ALONE), Verdict::Skip(_)));
    }
}
