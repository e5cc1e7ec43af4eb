use proptest::prelude::*;

use super::{super::unit_file::parse, *};

fn service(fields: &str) -> Service {
    Service::new(parse("x.service", &format!("[Service]\n{fields}\n"), "h").unwrap())
}

fn spawned(action: Option<Action>) -> Vec<String> {
    match action {
        Some(Action::Spawn(command)) => command.arguments(&Default::default()),
        other => panic!("expected a process, got {other:?}"),
    }
}

const FAILURE: Ending = Ending::Code(1);

#[test]
fn a_simple_unit_runs_after_its_preparations_and_is_stopped() {
    let now = Instant::now();
    let mut unit = service("ExecStartPre=/p1\nExecStartPre=-/p2\nExecStart=/main");
    assert_eq!(spawned(unit.start(now)), ["/p1"]);
    assert_eq!(unit.spawned(Ok(10), now), None);
    assert!(!unit.is_settled());
    assert_eq!(spawned(unit.exited(10, Ending::Code(0), now)), ["/p2"]);
    assert_eq!(unit.spawned(Ok(11), now), None);
    assert_eq!(spawned(unit.exited(11, FAILURE, now)), ["/main"]);
    assert_eq!(unit.spawned(Ok(12), now), None);
    assert_eq!((unit.active_state(), unit.main_pid()), ("active", Some(12)));
    assert_eq!(unit.start(now), None, "starting what runs changes nothing");
    let term = Action::Signal { pid: 12, signal: Signal::SIGTERM, group: true };
    assert_eq!(unit.stop(now), Some(term));
    let later = unit.deadline().unwrap();
    let kill = Action::Signal { pid: 12, signal: Signal::SIGKILL, group: true };
    assert_eq!(unit.tick(later), Some(kill));
    assert_eq!(unit.exited(12, Ending::Signal(Signal::SIGKILL), later), None);
    assert_eq!(unit.active_state(), "inactive");
}

#[test]
fn restart_policies() {
    let outcomes = |policy: &str| {
        [Ending::Code(0), FAILURE, Ending::Signal(Signal::SIGSEGV)].map(|ending| {
            let now = Instant::now();
            let mut unit = service(&format!("ExecStart=/main\nRestart={policy}\nRestartSec=3"));
            unit.start(now);
            unit.spawned(Ok(1), now);
            unit.exited(1, ending, now);
            if unit.deadline().is_some() {
                assert_eq!(unit.tick(now), None, "not before its time");
                spawned(unit.tick(now + Duration::from_secs(3)));
                "again"
            } else {
                unit.active_state()
            }
        })
    };
    assert_eq!(outcomes("no"), ["inactive", "failed", "failed"]);
    assert_eq!(outcomes("always"), ["again", "again", "again"]);
    assert_eq!(outcomes("on-success"), ["again", "failed", "failed"]);
    assert_eq!(outcomes("on-failure"), ["inactive", "again", "again"]);
    assert_eq!(outcomes("on-abnormal"), ["inactive", "failed", "again"]);
}

#[test]
fn too_many_starts_end_in_failure() {
    let now = Instant::now();
    let mut unit = service("ExecStart=/main\nRestart=always\nRestartSec=0\nStartLimitBurst=3");
    unit.start(now);
    for pid in 1..=3 {
        unit.spawned(Ok(pid), now);
        unit.exited(pid, FAILURE, now);
        unit.tick(now);
    }
    assert_eq!(unit.failure(), Some("started 3 times within 10 s"));
    assert_eq!(unit.start(now), None);
    unit.reset();
    spawned(unit.start(now));
}

#[test]
fn a_program_that_is_missing_is_a_failure() {
    let now = Instant::now();
    let mut unit = service("ExecStart=/none");
    unit.start(now);
    unit.spawned(Err("no such file".to_owned()), now);
    assert_eq!(unit.failure(), Some("no such file"));
    let mut lenient = service("ExecStartPre=-/none\nExecStart=/main");
    lenient.start(now);
    assert_eq!(spawned(lenient.spawned(Err("no such file".to_owned()), now)), ["/main"]);
}

#[test]
fn oneshot_units() {
    let now = Instant::now();
    for (remain, state) in [("yes", "active"), ("no", "inactive")] {
        let mut unit =
            service(&format!("Type=oneshot\nRemainAfterExit={remain}\nExecStart=/a\nExecStart=/b"));
        unit.start(now);
        unit.spawned(Ok(1), now);
        assert_eq!(spawned(unit.exited(1, Ending::Code(0), now)), ["/b"]);
        unit.spawned(Ok(2), now);
        assert!(!unit.is_settled());
        unit.exited(2, Ending::Code(0), now);
        assert_eq!(unit.active_state(), state);
    }
}

#[test]
fn restart_stops_first_and_a_stop_in_between_wins() {
    let now = Instant::now();
    let mut unit = service("ExecStart=/main\nKillMode=process\nKillSignal=SIGINT");
    unit.start(now);
    unit.spawned(Ok(1), now);
    let interrupt = Action::Signal { pid: 1, signal: Signal::SIGINT, group: false };
    assert_eq!(unit.restart(now), Some(interrupt));
    spawned(unit.exited(1, Ending::Signal(Signal::SIGINT), now));
    unit.spawned(Ok(2), now);
    unit.restart(now);
    unit.stop(now);
    assert_eq!(unit.exited(2, Ending::Code(0), now), None);
    assert_eq!(unit.active_state(), "inactive");
    spawned(unit.restart(now));
}

proptest! {
    /// Whatever happens, at most one process belongs to a unit, and a stopped unit ends without one.
    #[test]
    fn never_two_processes(events in prop::collection::vec(0u8..6, 0..60)) {
        let mut now = Instant::now();
        let mut unit = service("ExecStartPre=/p\nExecStart=/main\nRestart=always\nRestartSec=1\nStartLimitIntervalSec=0");
        let (mut alive, mut next_pid): (Option<i32>, i32) = (None, 1);
        let perform = |unit: &mut Service, action: Option<Action>, alive: &mut Option<i32>, next_pid: &mut i32, now| {
            let mut action = action;
            while let Some(Action::Spawn(_)) = action {
                assert_eq!(*alive, None, "a second process was started");
                *alive = Some(*next_pid);
                action = unit.spawned(Ok(*next_pid), now);
                *next_pid += 1;
            }
        };
        for event in events {
            now += Duration::from_millis(700);
            let action = match event {
                0 => unit.start(now),
                1 => unit.stop(now),
                2 => unit.restart(now),
                3 => unit.tick(now),
                _ => match alive.take() {
                    Some(pid) => unit.exited(pid, if event == 4 { FAILURE } else { Ending::Code(0) }, now),
                    None => None,
                },
            };
            perform(&mut unit, action, &mut alive, &mut next_pid, now);
            prop_assert_eq!(unit.main_pid(), alive);
        }
        unit.stop(now);
        if let Some(pid) = alive {
            prop_assert_eq!(unit.exited(pid, FAILURE, now), None);
        }
        prop_assert!(!unit.has_process() && unit.active_state() == "inactive");
    }
}
