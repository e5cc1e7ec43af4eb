//! Power sequences: the table, and hardware over the simulated backend.

use std::{sync::Arc, time::Duration};

use drystone_agent::download::Detours;
use drystone_redfish::types::ResetType;
use proptest::prelude::*;

use super::{
    Accepted, BootOverride, BootTarget, Hardware, HardwareError, HardwareFiles, HostRecord, InsertedMedium,
    OverrideEnabled, Phase,
    record::BootFrom,
    sequence::{Decision, Step, decide, ends_on},
};
use crate::{
    backend::Backend,
    sim::{SimBackend, SimHostState},
    site::{SiteFile, Timing},
};

const PHASES: [Phase; 7] = [
    Phase::Off,
    Phase::Post,
    Phase::OsStarting,
    Phase::OsRunning,
    Phase::NoBoot,
    Phase::ShuttingDown,
    Phase::PoweringOff,
];

const ENDING: [Phase; 2] = [Phase::ShuttingDown, Phase::PoweringOff];

#[test]
fn resets_do_what_their_names_say() {
    use Decision::{Conflict, Nothing, Steps};
    let table = [
        (ResetType::On, Phase::Off, Steps(&[Step::PowerOn])),
        (ResetType::On, Phase::OsRunning, Nothing),
        (ResetType::On, Phase::ShuttingDown, Conflict),
        (ResetType::ForceOff, Phase::Off, Nothing),
        (ResetType::ForceOff, Phase::Post, Steps(&[Step::PowerOff])),
        (ResetType::GracefulShutdown, Phase::OsRunning, Steps(&[Step::ShutDown, Step::PowerOff])),
        (ResetType::GracefulShutdown, Phase::NoBoot, Steps(&[Step::PowerOff])),
        (ResetType::GracefulShutdown, Phase::ShuttingDown, Nothing),
        (
            ResetType::GracefulRestart,
            Phase::OsRunning,
            Steps(&[Step::ShutDown, Step::PowerOff, Step::PowerOn]),
        ),
        (ResetType::GracefulRestart, Phase::Off, Conflict),
        (ResetType::ForceRestart, Phase::NoBoot, Steps(&[Step::PowerOff, Step::PowerOn])),
        (ResetType::ForceRestart, Phase::Off, Conflict),
        (ResetType::PowerCycle, Phase::Off, Steps(&[Step::PowerOn])),
        (ResetType::PushPowerButton, Phase::Off, Steps(&[Step::PowerOn])),
        (ResetType::PushPowerButton, Phase::OsRunning, Steps(&[Step::ShutDown, Step::PowerOff])),
        (ResetType::Nmi, Phase::OsRunning, Nothing),
    ];
    for (kind, phase, expected) in table {
        assert_eq!(
            decide(kind, phase, phase.is_on() && !ENDING.contains(&phase)),
            expected,
            "{kind:?} while {phase:?}"
        );
    }
    // A host that only goes off in order to start again is to stay off.
    let restarting = |phase| decide(ResetType::GracefulShutdown, phase, true);
    assert_eq!(restarting(Phase::ShuttingDown), Steps(&[Step::ShutDown, Step::PowerOff]));
    assert_eq!(restarting(Phase::PoweringOff), Steps(&[Step::PowerOff]));
    assert_eq!(restarting(Phase::Off), Steps(&[Step::PowerOff]));
}

#[test]
fn every_reset_ends_in_the_state_that_it_is_for() {
    for kind in ResetType::ALL {
        for (phase, under_way) in PHASES.into_iter().flat_map(|phase| [(phase, false), (phase, true)]) {
            let Decision::Steps(steps) = decide(kind, phase, under_way) else { continue };
            let off = match kind {
                ResetType::ForceOff | ResetType::GracefulShutdown => true,
                ResetType::PushPowerButton => phase.is_on() || under_way,
                _ => false,
            };
            assert_eq!(ends_on(steps, phase), !off, "{kind:?} while {phase:?}");
        }
    }
}

/// How often a state is looked for, 5 ms apart: for longer than any machine takes.
const LOOKS: u32 = 24_000;

/// Hardware of one host in a directory of its own, without delays.
struct Bench {
    hardware: Arc<Hardware>,
    backend: Arc<SimBackend>,
    files: HardwareFiles,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new(on: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = HardwareFiles {
            records: directory.path().to_owned(),
            media: directory.path().to_owned(),
            detours: Detours::default(),
        };
        let backend =
            Arc::new(SimBackend::new([SimHostState { name: "c01".to_owned(), on, installed: false }]));
        let record = HostRecord { on, ..HostRecord::default() };
        Self { hardware: Self::start(&files, &backend, record), backend, files, _directory: directory }
    }

    fn start(files: &HardwareFiles, backend: &Arc<SimBackend>, record: HostRecord) -> Arc<Hardware> {
        let text = "{name: s, hosts: [{name: c01, processor: {cores: 1}, memoryMiB: 1024}]}";
        let site = SiteFile::parse(text).unwrap();
        let timing = Timing { scale: 0.0, ..site.timing };
        let backend: Arc<dyn Backend> = Arc::clone(backend) as _;
        Hardware::new(Arc::new(site.hosts[0].clone()), timing, backend, files, record)
    }

    /// Waits until no command is under way.
    async fn settle(&self) {
        for _ in 0..LOOKS {
            if self.hardware.situation().record.pending.is_none() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?} does not come to rest", self.hardware.situation());
    }

    async fn reach(&self, phase: Phase) {
        for _ in 0..LOOKS {
            if self.hardware.situation().phase == phase {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{:?} instead of {phase:?}", self.hardware.situation());
    }
}

/// Serves a few bytes as an image, and counts how often it is asked for.
async fn image_server() -> (String, Arc<std::sync::atomic::AtomicU32>) {
    let count = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let seen = Arc::clone(&count);
    let serve = move || {
        let seen = Arc::clone(&seen);
        async move {
            seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            "medium"
        }
    };
    let router = axum::Router::new().route("/image", axum::routing::get(serve));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/image", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, count)
}

async fn boot_from(hardware: &Arc<Hardware>, url: &str) {
    let medium = InsertedMedium { url: url.to_owned(), credentials: None, write_protected: true };
    let boot =
        BootOverride { enabled: OverrideEnabled::Once, target: BootTarget::Cd, ..BootOverride::default() };
    let change = |record: &mut HostRecord| (record.medium, record.boot) = (Some(medium), boot);
    hardware.change(super::Change::Medium, change).await.unwrap();
    hardware.reset(ResetType::On).await.unwrap();
}

#[tokio::test]
async fn a_medium_is_booted_once_and_then_the_disk() {
    let bench = Bench::new(false);
    let (url, fetched) = image_server().await;
    boot_from(&bench.hardware, &url).await;
    bench.reach(Phase::OsRunning).await;
    assert_eq!(bench.hardware.situation().record.boot.enabled, OverrideEnabled::Disabled);
    bench.hardware.reset(ResetType::ForceRestart).await.unwrap();
    bench.reach(Phase::OsRunning).await;
    assert_eq!(fetched.load(std::sync::atomic::Ordering::SeqCst), 1);
    bench.hardware.reset(ResetType::GracefulShutdown).await.unwrap();
    bench.reach(Phase::Off).await;
    bench.hardware.erase_drives().await.unwrap();
    bench.hardware.reset(ResetType::On).await.unwrap();
    bench.reach(Phase::NoBoot).await;
}

#[tokio::test]
async fn a_medium_that_cannot_be_read_boots_nothing_and_says_why() {
    let bench = Bench::new(false);
    boot_from(&bench.hardware, "http://127.0.0.1:1/secret").await;
    bench.reach(Phase::NoBoot).await;
    let reason = bench.hardware.situation().reason;
    assert!(reason.contains("medium") && !reason.contains("secret"), "{reason}");
    assert_eq!(bench.hardware.reset(ResetType::On).await.unwrap(), Accepted::NothingToDo);
}

#[tokio::test]
async fn drives_are_erased_only_without_power() {
    let bench = Bench::new(true);
    bench.hardware.resume().await.unwrap();
    bench.reach(Phase::NoBoot).await;
    assert!(matches!(
        bench.hardware.erase_drives().await,
        Err(HardwareError::Conflict { phase: Phase::NoBoot, .. })
    ));
}

#[tokio::test]
async fn what_was_accepted_is_carried_out_after_a_restart() {
    let mut bench = Bench::new(false);
    let (url, _) = image_server().await;
    boot_from(&bench.hardware, &url).await;
    bench.reach(Phase::OsRunning).await;
    bench.settle().await;
    // The backend outlives the emulator, as namespaces do. Each record is one of a command acknowledged and not begun.
    for (kind, expected) in [
        (ResetType::ForceRestart, Phase::OsRunning),
        (ResetType::ForceOff, Phase::Off),
        (ResetType::On, Phase::OsRunning),
    ] {
        let record = HostRecord {
            pending: Some(kind),
            on: expected.is_on(),
            ..bench.files.load(bench.hardware.spec()).unwrap()
        };
        bench.hardware = Bench::start(&bench.files, &bench.backend, record);
        bench.hardware.resume().await.unwrap();
        bench.reach(expected).await;
        bench.settle().await;
        assert_eq!(bench.files.load(bench.hardware.spec()).unwrap().pending, None, "{kind:?}");
    }
}

#[tokio::test]
async fn a_boot_that_was_cut_short_reads_the_same_medium_again() {
    let bench = Bench::new(false);
    let (url, fetched) = image_server().await;
    let medium = InsertedMedium { url, credentials: None, write_protected: true };
    let record = HostRecord {
        on: true,
        pending: Some(ResetType::On),
        booting: Some(BootFrom::Image(medium)),
        ..HostRecord::default()
    };
    assert!(!record.is_settled_on());
    let bench = Bench { hardware: Bench::start(&bench.files, &bench.backend, record), ..bench };
    bench.hardware.resume().await.unwrap();
    bench.reach(Phase::OsRunning).await;
    assert_eq!(fetched.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(bench.hardware.situation().record.booting, None);
}

#[tokio::test]
async fn a_button_that_was_pressed_means_the_same_after_a_restart() {
    let bench = Bench::new(false);
    bench.hardware.reset(ResetType::PushPowerButton).await.unwrap();
    let pressed = bench.hardware.situation().record;
    assert_eq!((pressed.on, pressed.pending), (true, Some(ResetType::On)));
    bench.reach(Phase::NoBoot).await;
    bench.settle().await;
    bench.hardware.reset(ResetType::PushPowerButton).await.unwrap();
    let pressed_again = bench.hardware.situation().record;
    assert_eq!((pressed_again.on, pressed_again.pending), (false, Some(ResetType::GracefulShutdown)));
    bench.reach(Phase::Off).await;
    bench.settle().await;
    // Killed before it was on.
    let bench = Bench { hardware: Bench::start(&bench.files, &bench.backend, pressed), ..bench };
    bench.hardware.resume().await.unwrap();
    bench.reach(Phase::NoBoot).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_kept_changes_nothing() {
    let bench = Bench::new(false);
    std::fs::remove_dir_all(&bench.files.records).unwrap();
    assert!(matches!(bench.hardware.reset(ResetType::On).await, Err(HardwareError::State(_))));
    assert_eq!(bench.hardware.situation().phase, Phase::Off);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// After any commands, however fast, the host comes to rest as its record says, and the record is what is on disk.
    #[test]
    fn any_commands_end_in_the_state_on_record(kinds in prop::collection::vec(0..ResetType::ALL.len(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new(false);
            for kind in &kinds {
                // A conflict is an answer too.
                let _ = bench.hardware.reset(ResetType::ALL[*kind]).await;
            }
            let on = bench.hardware.situation().record.on;
            let last = kinds.last().map(|kind| ResetType::ALL[*kind]);
            let is_off = matches!(last, Some(ResetType::ForceOff | ResetType::GracefulShutdown));
            assert!(!(on && is_off), "{last:?} does not count");
            bench.reach(if on { Phase::NoBoot } else { Phase::Off }).await;
            bench.settle().await;
            let situation = bench.hardware.situation();
            assert_eq!(bench.files.load(bench.hardware.spec()).unwrap(), situation.record);
        });
    }
}
