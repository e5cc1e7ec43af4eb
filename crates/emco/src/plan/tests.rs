//! State machines.

use drystone_appcontext::{ContextId, State as Phase};
use jiff::Timestamp;

use super::{cloud, group, networks};
use crate::model::{History, State};

fn context(number: u64) -> ContextId {
    ContextId::new(number).expect("positive")
}

/// Does what is asked, with context `new`; the synchroniser is at `phase`.
fn step(history: &mut History, phase: Option<Phase>, ask: group::Ask, new: u64) -> Result<group::Task, u16> {
    let task = group::decide("g", history, phase, ask).map_err(|refusal| refusal.code)?;
    history.0.extend(group::entries(task, ContextId::new(new), Timestamp::UNIX_EPOCH));
    Ok(task)
}

#[test]
fn a_whole_life() {
    use group::{Ask, Task};
    let mut history = History::default();
    assert_eq!(step(&mut history, None, Ask::Instantiate, 1), Err(409));
    assert_eq!(step(&mut history, None, Ask::Approve, 0), Ok(Task::Note(State::Approved)));
    assert_eq!(step(&mut history, None, Ask::Approve, 0), Ok(Task::Nothing));
    assert_eq!(step(&mut history, None, Ask::Instantiate, 1), Ok(Task::Install));
    assert_eq!(step(&mut history, Some(Phase::Instantiated), Ask::Instantiate, 9), Err(409));
    let replace = Task::Replace { from: context(1), status: context(1), revision: 1 };
    assert_eq!(step(&mut history, Some(Phase::Instantiated), Ask::Update, 2), Ok(replace));
    let replace = Task::Replace { from: context(2), status: context(1), revision: 2 };
    assert_eq!(step(&mut history, Some(Phase::Instantiated), Ask::Update, 3), Ok(replace));
    assert_eq!(history.revision(), 3);
    let restore = Task::Restore { from: context(3), to: context(2), revision: 3 };
    assert_eq!(step(&mut history, Some(Phase::Instantiated), Ask::Rollback(2), 0), Ok(restore));
    assert_eq!((history.revision(), history.context()), (4, Some(context(2))));
    assert_eq!(
        step(&mut history, Some(Phase::Instantiated), Ask::Rollback(4), 0),
        Err(409),
        "it is deployed"
    );
    assert_eq!(step(&mut history, Some(Phase::Instantiated), Ask::Rollback(7), 0), Err(404));
    assert_eq!(step(&mut history, None, Ask::Terminate, 0), Ok(Task::Remove { context: context(2) }));
    assert_eq!(step(&mut history, None, Ask::Terminate, 0), Err(409));
    assert_eq!(history.status_context(), Some(context(1)));
    assert_eq!(history.contexts(), [context(1), context(2), context(3)]);
}

/// EMCO lets them go on side by side, and whichever writes last wins.
#[test]
fn one_change_at_a_time() {
    use group::{Ask, Task};
    let mut history = History::default();
    for (ask, new) in [(Ask::Approve, 0), (Ask::Instantiate, 1), (Ask::Update, 2)] {
        step(&mut history, Some(Phase::Instantiated), ask, new).expect("allowed");
    }
    for phase in [Phase::Instantiating, Phase::Updating] {
        for ask in [Ask::Update, Ask::MigrateFrom, Ask::Rollback(1)] {
            let refused = group::decide("g", &history, Some(phase), ask).expect_err("not now");
            assert!(refused.code == 409 && refused.message.contains("or stop it"), "{refused:?}");
        }
        let halt = Task::Halt { context: context(2), state: State::InstantiateStopped };
        assert_eq!(step(&mut history.clone(), Some(phase), Ask::Stop, 0), Ok(halt));
        let remove = Task::Remove { context: context(2) };
        assert_eq!(step(&mut history.clone(), Some(phase), Ask::Terminate, 0), Ok(remove));
    }
    step(&mut history, Some(Phase::Instantiating), Ask::Stop, 0).expect("allowed");
    // It was stopped, and has not come to rest.
    assert_eq!(step(&mut history, Some(Phase::Instantiating), Ask::Rollback(1), 0), Err(409));
    let restore = Task::Restore { from: context(2), to: context(1), revision: 2 };
    assert_eq!(step(&mut history, Some(Phase::InstantiateFailed), Ask::Rollback(1), 0), Ok(restore));
}

/// EMCO instantiates a group again while it is being terminated, and takes the first context of a revision, of whatever life.
#[test]
fn lives_do_not_mix() {
    use group::Ask;
    let mut history = History::default();
    for (ask, new) in [(Ask::Approve, 0), (Ask::Instantiate, 1), (Ask::Update, 2), (Ask::Terminate, 0)] {
        step(&mut history, Some(Phase::Instantiated), ask, new).expect("allowed");
    }
    assert_eq!(step(&mut history, Some(Phase::Terminating), Ask::Instantiate, 3), Err(409));
    step(&mut history, Some(Phase::Terminated), Ask::Instantiate, 3).expect("allowed");
    step(&mut history, Some(Phase::Instantiated), Ask::Update, 4).expect("allowed");
    assert_eq!(history.context_of_revision(1), Some(context(3)));
    assert_eq!(history.revisions(), [1, 2]);
    assert_eq!(history.status_context(), Some(context(3)));
}

#[test]
fn stopping_is_for_what_goes_on() {
    use group::{Ask, Task};
    let mut history = History::default();
    step(&mut history, None, Ask::Approve, 0).expect("allowed");
    step(&mut history, None, Ask::Instantiate, 1).expect("allowed");
    assert_eq!(step(&mut history.clone(), Some(Phase::Instantiated), Ask::Stop, 0), Err(409));
    let halt = Task::Halt { context: context(1), state: State::InstantiateStopped };
    assert_eq!(step(&mut history, Some(Phase::Instantiating), Ask::Stop, 0), Ok(halt));
    step(&mut history, Some(Phase::Instantiating), Ask::Terminate, 0).expect("allowed");
    step(&mut history, Some(Phase::Terminating), Ask::Stop, 0).expect("allowed");
    assert_eq!(history.state(), State::TerminateStopped);
    assert_eq!(
        group::may_be_deleted("g", &history, Some(Phase::Terminating)).map_err(|it| it.code),
        Err(409)
    );
    assert_eq!(
        step(&mut history, Some(Phase::Terminating), Ask::Instantiate, 2),
        Err(409),
        "it is not at rest"
    );
    assert!(step(&mut history.clone(), Some(Phase::TerminateFailed), Ask::Instantiate, 2).is_ok());
    step(&mut history, Some(Phase::Terminating), Ask::Terminate, 0).expect("what is left can be removed");
    assert_eq!(
        group::may_be_deleted("g", &history, Some(Phase::Terminating)).map_err(|it| it.code),
        Err(409)
    );
    group::may_be_deleted("g", &history, Some(Phase::Terminated)).expect("allowed");
}

#[test]
fn logical_clouds() {
    use cloud::{Ask, Task};
    let code = |result: Result<Task, crate::model::Refusal>| result.map_err(|refusal| refusal.code);
    let mut history = History::default();
    assert_eq!(code(cloud::decide("c", &history, None, Ask::Terminate)), Err(409));
    assert_eq!(code(cloud::decide("c", &history, None, Ask::Instantiate)), Ok(Task::Install));
    let installed = group::entries(group::Task::Install, Some(context(5)), Timestamp::UNIX_EPOCH);
    history.0.extend(installed);
    assert_eq!(code(cloud::decide("c", &history, Some(Phase::Instantiated), Ask::Instantiate)), Err(409));
    assert_eq!(code(cloud::decide("c", &history, Some(Phase::InstantiateFailed), Ask::Update)), Err(409));
    let replace = Task::Replace { from: context(5), status: context(5) };
    assert_eq!(code(cloud::decide("c", &history, Some(Phase::Instantiated), Ask::Update)), Ok(replace));
    let remove = Task::Remove { context: context(5) };
    assert_eq!(
        code(cloud::decide("c", &history, Some(Phase::InstantiateFailed), Ask::Terminate)),
        Ok(remove)
    );
    assert_eq!(
        code(cloud::decide("c", &history, Some(Phase::Terminated), Ask::Instantiate)),
        Ok(Task::Install)
    );
    assert!(cloud::may_be_deleted("c", &history, Some(Phase::Instantiated)).is_err());
    assert!(cloud::may_be_deleted("c", &history, Some(Phase::TerminateFailed)).is_ok());
}

#[test]
fn networks_are_applied_once() {
    use networks::{Ask, Task};
    let mut history = History::default();
    assert_eq!(networks::decide("p+c", &history, None, Ask::Terminate), Ok(Task::Nothing));
    assert_eq!(networks::decide("p+c", &history, None, Ask::Apply), Ok(Task::Install));
    let mut entry = group::entries(group::Task::Install, Some(context(5)), Timestamp::UNIX_EPOCH).remove(0);
    entry.state = State::Applied;
    history.0.push(entry);
    assert_eq!(networks::decide("p+c", &history, Some(Phase::Instantiated), Ask::Apply), Ok(Task::Nothing));
    let remove = Task::Remove { context: context(5) };
    assert_eq!(networks::decide("p+c", &history, Some(Phase::Instantiated), Ask::Terminate), Ok(remove));
}
