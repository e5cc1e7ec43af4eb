//! The state machine, by table and by property.

use drystone_api::{
    BareMetalHostSpec, BareMetalHostStatus, BmcDetails, CredentialsStatus, HardwareDetails,
    HardwareRaidVolume, HostImage, OperationalStatus, ProvisionStatus, ProvisioningState as State, Raid,
    RootDeviceHints,
};
use proptest::prelude::*;

use super::*;

fn image(url: &str) -> HostImage {
    HostImage { url: url.to_owned(), ..Default::default() }
}

fn spec(online: bool, wanted: Option<&str>) -> BareMetalHostSpec {
    let bmc =
        BmcDetails { address: "redfish://bmc".into(), credentials_name: "bmc".into(), ..Default::default() };
    BareMetalHostSpec { bmc: Some(bmc), online, image: wanted.map(image), ..Default::default() }
}

fn status(state: State, present: Option<&str>) -> BareMetalHostStatus {
    BareMetalHostStatus {
        provisioning: ProvisionStatus {
            state,
            image: present.map(image),
            registered: Some(registered_as(&spec(false, None))),
            ..Default::default()
        },
        good_credentials: CredentialsStatus { credentials_version: "7".into(), ..Default::default() },
        ..Default::default()
    }
}

const AROUND: Surroundings<'static> = Surroundings {
    deleting: false,
    credentials: CredentialsFound::Version("7"),
    paused: false,
    detached: None,
    inspection_requested: false,
    inspection_disabled: false,
    reboots: &[],
    instance_id: Some("abc"),
    valid: true,
    slot_free: true,
    firmware_changed: false,
    since_deprovisioned: Duration::ZERO,
    pacing: &Pacing::METAL3,
};

const OFF: Next = Next::Power(Power::SoftOff);
const ON: Next = Next::Power(Power::On);

#[test]
fn a_host_comes_in_step_by_step() {
    let off = spec(false, None);
    let table = [
        (State::None, Next::Enter(State::Registering)),
        (State::Registering, Next::Enter(State::Inspecting)),
        (State::Inspecting, Next::Inspect),
        (State::Preparing, Next::Prepare),
        (State::Available, OFF),
        (State::Deprovisioning, Next::Deprovision),
    ];
    for (state, expected) in table {
        assert_eq!(next(&off, &status(state, None), &AROUND), expected, "{state:?}");
    }
    let unknown = BareMetalHostSpec::default();
    assert_eq!(next(&unknown, &status(State::None, None), &AROUND), Next::Enter(State::Unmanaged));
    let rest = Next::Rest(Pacing::METAL3.unmanaged);
    assert_eq!(next(&unknown, &status(State::Unmanaged, None), &AROUND), rest);
    assert_eq!(next(&off, &status(State::Unmanaged, None), &AROUND), Next::Enter(State::Registering));
}

#[test]
fn what_is_known_or_not_to_be_known_is_not_inspected() {
    let disabled = Surroundings { inspection_disabled: true, ..AROUND };
    for state in [State::Registering, State::Inspecting] {
        assert_eq!(next(&spec(false, None), &status(state, None), &disabled), Next::Enter(State::Preparing));
    }
    let mut known = status(State::Registering, None);
    known.hardware = Some(HardwareDetails::default());
    assert_eq!(next(&spec(false, None), &known, &AROUND), Next::Enter(State::Preparing));
    let again = Surroundings { inspection_requested: true, ..AROUND };
    assert_eq!(
        next(&spec(false, None), &status(State::Available, None), &again),
        Next::Enter(State::Inspecting)
    );
    assert_eq!(next(&spec(true, Some("a")), &status(State::Provisioned, Some("a")), &again), ON);
}

#[test]
fn an_image_is_provisioned_only_when_online() {
    let available = status(State::Available, None);
    assert_eq!(next(&spec(false, Some("a")), &available, &AROUND), OFF);
    assert_eq!(next(&spec(true, Some("a")), &available, &AROUND), Next::Enter(State::Provisioning));
    let without = Surroundings { instance_id: None, ..AROUND };
    let missing = Next::ReportMissing(Missing::BootData);
    assert_eq!(next(&spec(true, Some("a")), &available, &without), missing);
}

#[test]
fn another_image_means_starting_over_and_another_checksum_does_not() {
    let running = status(State::Provisioned, Some("a"));
    assert_eq!(next(&spec(true, Some("a")), &running, &AROUND), ON);
    let mut other_checksum = spec(true, Some("a"));
    other_checksum.image.as_mut().unwrap().checksum = "new".to_owned();
    assert_eq!(next(&other_checksum, &running, &AROUND), ON);
    for wanted in [Some("b"), None] {
        let next = next(&spec(true, wanted), &running, &AROUND);
        assert_eq!(next, Next::Enter(State::Deprovisioning));
    }
}

#[test]
fn a_custom_deployment_is_like_an_image() {
    let method = |name: &str| Some(drystone_api::CustomDeploy { method: name.to_owned() });
    let mut wanted = spec(true, None);
    wanted.custom_deploy = method("install");
    let mut host = status(State::Available, None);
    assert_eq!(next(&wanted, &host, &AROUND), Next::Enter(State::Provisioning));
    host.provisioning.state = State::Provisioned;
    host.provisioning.custom_deploy = method("install");
    assert_eq!(next(&wanted, &host, &AROUND), ON);
    wanted.custom_deploy = method("other");
    assert_eq!(next(&wanted, &host, &AROUND), Next::Enter(State::Deprovisioning));
}

#[test]
fn what_failed_is_tried_again_later_and_not_for_ever() {
    let mut host = status(State::Available, None);
    (host.provisioning_fail_count, host.last_attempted_image) = (2, Some(image("a")));
    let wait = Next::Rest(Duration::from_secs(240));
    assert_eq!(next(&spec(true, Some("a")), &host, &AROUND), wait);
    let later = Surroundings { since_deprovisioned: Duration::from_secs(240), ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &host, &later), Next::Enter(State::Provisioning));
    assert_eq!(
        next(&spec(true, Some("b")), &host, &AROUND),
        Next::Enter(State::Provisioning),
        "another image"
    );
    let mut corrected = spec(true, Some("a"));
    corrected.image.as_mut().unwrap().checksum = "right".to_owned();
    assert_eq!(next(&corrected, &host, &AROUND), Next::Enter(State::Provisioning));
    host.provisioning_fail_count = 5;
    let later = Surroundings { since_deprovisioned: Duration::from_secs(1 << 30), ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &host, &later), Next::Rest(Pacing::METAL3.steady));
}

#[test]
fn disks_and_firmware_are_prepared_when_they_change() {
    let host = status(State::Available, None);
    let prepared = Next::Enter(State::Preparing);
    let firmware = Surroundings { firmware_changed: true, ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &host, &firmware), prepared);
    let mut wanted = spec(false, None);
    wanted.root_device_hints = Some(RootDeviceHints { model: Some("m".into()), ..Default::default() });
    assert_eq!(next(&wanted, &host, &AROUND), prepared);
    let mut wanted = spec(false, None);
    wanted.raid = Some(Raid::default());
    assert_eq!(next(&wanted, &host, &AROUND), OFF, "what is absent keeps what is there");
    let volume = HardwareRaidVolume { level: "1".into(), ..Default::default() };
    wanted.raid = Some(Raid { hardware_volumes: Some(vec![volume]), ..Default::default() });
    assert_eq!(next(&wanted, &host, &AROUND), prepared);
    let mut prepared_host = host.clone();
    prepared_host.provisioning.raid.clone_from(&wanted.raid);
    assert_eq!(next(&wanted, &prepared_host, &AROUND), OFF);
    wanted.raid = Some(Raid { hardware_volumes: Some(vec![]), ..Default::default() });
    assert_eq!(next(&wanted, &prepared_host, &AROUND), prepared, "an empty list removes");
}

#[test]
fn something_else_may_have_provisioned_a_host() {
    let mut external = spec(true, None);
    external.externally_provisioned = true;
    for state in [State::Registering, State::Available] {
        let entered = Next::Enter(State::ExternallyProvisioned);
        assert_eq!(next(&external, &status(state, None), &AROUND), entered);
    }
    let host = status(State::ExternallyProvisioned, None);
    assert_eq!(next(&external, &host, &AROUND), ON);
    external.externally_provisioned = false;
    assert_eq!(next(&external, &host, &AROUND), Next::Enter(State::Provisioned));
}

#[test]
fn new_credentials_are_tried_before_anything_else() {
    let changed = Surroundings { credentials: CredentialsFound::Version("8"), ..AROUND };
    let running = status(State::Provisioned, Some("a"));
    assert_eq!(next(&spec(true, Some("a")), &running, &changed), Next::Register);
    let mut moved = spec(true, Some("a"));
    moved.bmc.as_mut().unwrap().address = "redfish://elsewhere".to_owned();
    assert_eq!(next(&moved, &running, &AROUND), Next::Register);
    for (credentials, missing) in [
        (CredentialsFound::Missing, Missing::Credentials),
        (CredentialsFound::Incomplete, Missing::UsernameOrPassword),
    ] {
        let around = Surroundings { credentials, ..AROUND };
        let host = status(State::Available, None);
        assert_eq!(next(&spec(true, None), &host, &around), Next::ReportMissing(missing));
    }
}

#[test]
fn places_are_waited_for() {
    let full = Surroundings { slot_free: false, ..AROUND };
    assert_eq!(next(&spec(false, None), &status(State::Registering, None), &full), Next::Delay);
    assert_eq!(next(&spec(true, Some("a")), &status(State::Available, None), &full), Next::Delay);
    assert_eq!(next(&spec(true, Some("b")), &status(State::Provisioned, Some("a")), &full), Next::Delay);
    assert_eq!(next(&spec(true, Some("a")), &status(State::Provisioning, None), &full), Next::Provision);
}

#[test]
fn reboots_are_off_and_on_again() {
    let running = status(State::Provisioned, Some("a"));
    let wanted = spec(true, Some("a"));
    let soft = Reboot { once: true, ..Default::default() };
    let phased = Reboot::default();
    let hard = Reboot { hard: true, ..Default::default() };
    for (reboots, expected) in [
        (vec![soft], OFF),
        (vec![phased], OFF),
        (vec![soft, hard], Next::Power(Power::HardOff)),
        (vec![], ON),
    ] {
        let around = Surroundings { reboots: &reboots, ..AROUND };
        assert_eq!(next(&wanted, &running, &around), expected, "{reboots:?}");
    }
    let available = status(State::Available, None);
    let around = Surroundings { reboots: &[soft], ..AROUND };
    assert_eq!(next(&spec(true, None), &available, &around), ON, "only when provisioned");
    let forced = [Reboot { force: true, ..soft }];
    let around = Surroundings { reboots: &forced, ..AROUND };
    assert_eq!(next(&spec(true, None), &available, &around), OFF, "unless by force");
    let mut always_on = wanted.clone();
    always_on.disable_power_off = true;
    let around = Surroundings { reboots: &[soft], ..AROUND };
    assert_eq!(next(&always_on, &running, &around), Next::RefuseReboot);
}

#[test]
fn deletion_powers_off_first_and_gives_up_in_the_end() {
    let deleting = Surroundings { deleting: true, ..AROUND };
    let off = spec(false, None);
    let table = [
        (State::Provisioning, Next::Enter(State::Deprovisioning)),
        (State::Provisioned, Next::Enter(State::Deprovisioning)),
        (State::Deprovisioning, Next::Deprovision),
        (State::Available, Next::Enter(State::PoweringOffBeforeDelete)),
        (State::ExternallyProvisioned, Next::Enter(State::PoweringOffBeforeDelete)),
        (State::PoweringOffBeforeDelete, Next::PowerOffBeforeDelete),
        (State::Registering, Next::Enter(State::Deleting)),
        (State::Deleting, Next::Delete),
        (State::Unmanaged, Next::Forget),
        (State::None, Next::Forget),
    ];
    for (state, expected) in table {
        assert_eq!(next(&off, &status(state, None), &deleting), expected, "{state:?}");
    }
    let mut hopeless = status(State::PoweringOffBeforeDelete, None);
    hopeless.error_count = 4;
    assert_eq!(next(&off, &hopeless, &deleting), Next::Enter(State::Deleting));
    hopeless.provisioning.state = State::Deleting;
    assert_eq!(next(&off, &hopeless, &deleting), Next::Forget);
    let nobody = Surroundings { credentials: CredentialsFound::Missing, ..deleting };
    assert_eq!(next(&off, &status(State::Provisioned, Some("a")), &nobody), Next::Enter(State::Deleting));
    assert_eq!(next(&off, &status(State::Deleting, None), &nobody), Next::Forget);
}

#[test]
fn annotations_hold_a_host_still() {
    let rest = Next::Rest(Pacing::METAL3.steady);
    let paused = Surroundings { paused: true, ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &status(State::Available, None), &paused), rest);
    let paused = Surroundings { deleting: true, ..paused };
    assert_eq!(next(&spec(true, Some("a")), &status(State::Available, None), &paused), rest);
    let invalid = Surroundings { valid: false, ..AROUND };
    assert_eq!(
        next(&spec(false, None), &status(State::Provisioned, Some("a")), &invalid),
        Next::ReportInvalid
    );
}

#[test]
fn a_detached_host_is_nobodys() {
    let detached = Surroundings { detached: Some(Detached::default()), ..AROUND };
    let mut running = status(State::Provisioned, Some("a"));
    assert_eq!(next(&spec(false, None), &running, &detached), Next::Detach);
    let forced = Detached { force: true, ..Default::default() };
    let busy = status(State::Inspecting, None);
    assert_eq!(next(&spec(false, None), &busy, &detached), Next::Inspect);
    assert_eq!(
        next(&spec(false, None), &busy, &Surroundings { detached: Some(forced), ..AROUND }),
        Next::Detach
    );
    running.operational_status = OperationalStatus::Detached;
    assert_eq!(next(&spec(false, None), &running, &detached), Next::Rest(Pacing::METAL3.detached));
    assert_eq!(next(&spec(false, None), &running, &AROUND), Next::Attach);
    let deleted = Surroundings { deleting: true, ..detached };
    assert_eq!(next(&spec(false, None), &running, &deleted), Next::Enter(State::Deleting));
    let delayed = Detached { delay_deletion: true, force: false };
    let deleted = Surroundings { deleting: true, detached: Some(delayed), ..AROUND };
    assert_eq!(next(&spec(false, None), &running, &deleted), Next::Rest(Pacing::METAL3.detached));
}

const STATES: [State; 12] = [
    State::None,
    State::Unmanaged,
    State::Registering,
    State::Inspecting,
    State::Preparing,
    State::Available,
    State::Provisioning,
    State::Provisioned,
    State::Deprovisioning,
    State::ExternallyProvisioned,
    State::PoweringOffBeforeDelete,
    State::Deleting,
];

/// A world in which every action succeeds.
fn succeed(next: &Next, spec: &BareMetalHostSpec, status: &mut BareMetalHostStatus, deleting: bool) {
    match next {
        Next::Enter(state) => status.provisioning.state = *state,
        Next::Register => status.good_credentials.credentials_version = "7".into(),
        Next::Inspect => status.provisioning.state = State::Preparing,
        Next::Prepare => status.provisioning.state = State::Available,
        Next::Provision => {
            status.provisioning.image.clone_from(&spec.image);
            status.provisioning.state = State::Provisioned;
        }
        Next::Deprovision => {
            status.provisioning.image = None;
            status.provisioning.state =
                if deleting { State::PoweringOffBeforeDelete } else { State::Available };
        }
        Next::PowerOffBeforeDelete => status.provisioning.state = State::Deleting,
        other => panic!("{other:?} is not expected in {:?}", status.provisioning.state),
    }
}

proptest! {
    /// Whatever the state, if every action succeeds the host comes to rest where the specification wants it.
    #[test]
    fn every_state_leads_home(start in 0_usize..STATES.len(), online: bool, wanted in 0_u8..3, present in 0_u8..3, deleting: bool) {
        let name = |n: u8| ["", "a", "b"].get(usize::from(n)).copied().filter(|n| !n.is_empty());
        let spec = spec(online, name(wanted));
        let mut status = status(STATES[start], name(present));
        let around = Surroundings { deleting, ..AROUND };
        for _ in 0..20 {
            match next(&spec, &status, &around) {
                Next::Power(power) => {
                    prop_assert!(!deleting);
                    let provisioned = status.provisioning.state == State::Provisioned;
                    prop_assert_eq!(power.is_on(), online);
                    prop_assert!(!online || wanted == 0 || provisioned, "an online host with an image runs it");
                    return Ok(());
                }
                Next::Delete | Next::Forget => {
                    prop_assert!(deleting);
                    return Ok(());
                }
                next => succeed(&next, &spec, &mut status, deleting),
            }
        }
        prop_assert!(false, "never came to rest: {:?}", status.provisioning.state);
    }

    /// What is wrong with a resource, or paused, never reaches the hardware.
    #[test]
    fn nothing_happens_to_hosts_that_are_paused_or_wrong(start in 0_usize..STATES.len(), online: bool, wanted in 0_u8..3, paused: bool) {
        let name = |n: u8| ["", "a", "b"].get(usize::from(n)).copied().filter(|n| !n.is_empty());
        let around = Surroundings { paused, valid: false, ..AROUND };
        let decided = next(&spec(online, name(wanted)), &status(STATES[start], None), &around);
        prop_assert!(matches!(decided, Next::Rest(_) | Next::ReportInvalid), "{:?}", decided);
    }
}
