use std::{collections::BTreeSet, fs};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn attachment(number: u16) -> Attachment {
    Attachment { container_id: format!("c{number}"), interface: "eth0".into() }
}

fn block(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

fn open(directory: &TempDir, blocks: &[&str]) -> AddressManager {
    let mut manager = AddressManager::open(&directory.path().join("addresses")).unwrap();
    manager.set_blocks(&blocks.iter().map(|text| block(text)).collect::<Vec<_>>());
    manager
}

#[test]
fn an_attachment_keeps_its_address_across_calls_and_restarts() {
    let directory = TempDir::new().unwrap();
    let first = {
        let mut manager = open(&directory, &["10.42.3.0/24"]);
        let first = manager.allocate(&attachment(1), Some(Path::new("/run/netns/a"))).unwrap();
        assert_eq!(manager.allocate(&attachment(1), None).unwrap(), first);
        first
    };
    let mut manager = open(&directory, &["10.42.3.0/24"]);
    assert_eq!(manager.allocate(&attachment(1), None).unwrap(), first);
    assert_eq!(
        manager.holdings()[&attachment(1)].network_namespace.as_deref(),
        Some(Path::new("/run/netns/a"))
    );
    assert_ne!(manager.allocate(&attachment(2), None).unwrap(), first);
}

#[test]
fn released_addresses_rest() {
    let directory = TempDir::new().unwrap();
    let mut manager = open(&directory, &["10.42.3.0/29"]);
    let mut seen = BTreeSet::new();
    for round in 0..6 {
        assert!(seen.insert(manager.allocate(&attachment(round), None).unwrap()), "reused too early");
        manager.release(&attachment(round)).unwrap();
    }
    // A restart does not forget where it was.
    drop(manager);
    let mut manager = open(&directory, &["10.42.3.0/29"]);
    assert_eq!(manager.allocate(&attachment(9), None).unwrap(), Ipv4Addr::new(10, 42, 3, 1));
}

#[test]
fn exhaustion_says_so_and_a_second_block_helps() {
    let directory = TempDir::new().unwrap();
    let mut manager = AddressManager::open(&directory.path().join("addresses")).unwrap();
    assert!(matches!(manager.allocate(&attachment(0), None), Err(IpamError::NoBlock)));
    manager.set_blocks(&[block("10.42.3.0/30")]);
    assert_eq!(manager.free(), 2);
    manager.allocate(&attachment(1), None).unwrap();
    manager.allocate(&attachment(2), None).unwrap();
    let error = manager.allocate(&attachment(3), None).unwrap_err();
    assert!(error.to_string().contains("10.42.3.0/30"), "{error}");
    manager.set_blocks(&[block("10.42.3.0/30"), block("10.42.9.0/30")]);
    assert_eq!(manager.allocate(&attachment(3), None).unwrap(), Ipv4Addr::new(10, 42, 9, 1));
    // A block that was taken away keeps its addresses held.
    manager.set_blocks(&[block("10.42.9.0/30")]);
    assert_eq!(manager.holdings().len(), 3);
    manager.release(&attachment(1)).unwrap();
    assert_eq!(manager.free(), 1);
}

#[test]
fn tiny_blocks_give_all_their_addresses() {
    let directory = TempDir::new().unwrap();
    let mut manager = open(&directory, &["10.0.0.1/32", "10.0.1.0/31"]);
    let all: BTreeSet<_> = (0..3).map(|n| manager.allocate(&attachment(n), None).unwrap()).collect();
    assert_eq!(all.len(), 3);
    (0..3).for_each(|n| assert!(manager.release(&attachment(n)).unwrap().is_some()));
    assert_eq!(manager.free(), 3);
}

#[test]
fn two_agents_cannot_share_a_journal() {
    let directory = TempDir::new().unwrap();
    let _first = open(&directory, &[]);
    let second = AddressManager::open(&directory.path().join("addresses"));
    assert!(matches!(second, Err(JournalError::Locked { .. })));
}

#[test]
fn damage_in_the_middle_is_reported_not_guessed() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("addresses");
    let mut manager = open(&directory, &["10.42.3.0/24"]);
    (0..3).for_each(|n| assert!(manager.allocate(&attachment(n), None).is_ok()));
    drop(manager);
    let mut text = fs::read(&path).unwrap();
    text[3] = b'\0';
    fs::write(&path, text).unwrap();
    assert!(matches!(AddressManager::open(&path), Err(JournalError::Corrupt { line: 1, .. })));
}

#[test]
fn the_journal_does_not_grow_for_ever() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("addresses");
    let mut manager = open(&directory, &["10.42.3.0/24"]);
    let kept = manager.allocate(&attachment(0), None).unwrap();
    for n in 1..700 {
        manager.allocate(&attachment(n), None).unwrap();
        manager.release(&attachment(n)).unwrap();
    }
    let lines = fs::read_to_string(&path).unwrap().lines().count();
    assert!(lines < 700, "{lines} lines");
    let last = manager.last;
    drop(manager);
    let manager = open(&directory, &["10.42.3.0/24"]);
    assert_eq!(manager.holdings()[&attachment(0)].address, kept);
    assert_eq!(manager.last, last);
}

#[derive(Debug, Clone)]
enum Step {
    Allocate(u16),
    Release(u16),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u16..24).prop_map(Step::Allocate),
        3 => (0_u16..24).prop_map(Step::Release),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

type Model = BTreeMap<Attachment, Ipv4Addr>;

fn state(manager: &AddressManager) -> Model {
    manager.holdings().iter().map(|(attachment, holding)| (attachment.clone(), holding.address)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_address_is_ever_held_twice(steps in steps()) {
        const BLOCKS: [&str; 2] = ["10.42.3.0/29", "10.42.7.0/28"];
        let directory = TempDir::new().unwrap();
        let mut manager = open(&directory, &BLOCKS);
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Allocate(n) => match manager.allocate(&attachment(n), None) {
                    Ok(address) => {
                        let before = model.insert(attachment(n), address);
                        prop_assert!(before.is_none_or(|before| before == address));
                    }
                    Err(IpamError::Exhausted { .. }) => prop_assert_eq!(model.len(), 6 + 14),
                    Err(error) => panic!("{error}"),
                },
                Step::Release(n) => {
                    prop_assert_eq!(manager.release(&attachment(n)).unwrap(), model.remove(&attachment(n)));
                }
                Step::Restart => {
                    drop(manager);
                    manager = open(&directory, &BLOCKS);
                }
            }
            prop_assert_eq!(&state(&manager), &model);
            prop_assert_eq!(model.values().collect::<BTreeSet<_>>().len(), model.len());
            prop_assert_eq!(manager.free(), 20 - model.len());
        }
    }

    /// A crash leaves any prefix of what was written behind the last sync, perhaps with its last bytes lost to zeros.
    #[test]
    fn a_crash_loses_nothing_that_was_answered(
        before in steps(),
        crashing in prop_oneof![(0_u16..24).prop_map(Step::Allocate), (0_u16..24).prop_map(Step::Release)],
        cut in 0.0..1.0,
        zeroed in 0_usize..8,
    ) {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("addresses");
        let mut manager = open(&directory, &["10.42.3.0/27"]);
        let apply = |manager: &mut AddressManager, step: &Step| match step {
            Step::Allocate(n) => drop(manager.allocate(&attachment(*n), None)),
            Step::Release(n) => drop(manager.release(&attachment(*n)).unwrap()),
            Step::Restart => {}
        };
        before.iter().for_each(|step| apply(&mut manager, step));
        let (answered, answered_length) = (state(&manager), fs::metadata(&path).unwrap().len());
        apply(&mut manager, &crashing);
        let finished = state(&manager);
        drop(manager);

        let mut text = fs::read(&path).unwrap();
        let tail = text.len() as u64 - answered_length;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let kept = answered_length + (tail as f64 * cut) as u64;
        text.truncate(usize::try_from(kept).unwrap());
        let unsynced = text.len() - usize::try_from(answered_length).unwrap();
        let length = text.len();
        text[length - zeroed.min(unsynced)..].fill(0);
        fs::write(&path, text).unwrap();

        let mut manager = open(&directory, &["10.42.3.0/27"]);
        let recovered = state(&manager);
        prop_assert!(recovered == answered || recovered == finished, "{recovered:?}");
        // And the journal can be written on.
        manager.allocate(&attachment(99), None).unwrap();
        let expected = state(&manager);
        drop(manager);
        prop_assert_eq!(state(&open(&directory, &["10.42.3.0/27"])), expected);
    }
}
