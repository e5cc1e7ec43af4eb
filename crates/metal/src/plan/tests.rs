//! The state machine, by table and by property.

use drystone_api::{
    BareMetalHostSpec, BareMetalHostStatus, BmcDetails, CredentialsStatus, HostImage, OperationalStatus,
    ProvisionStatus, ProvisioningState as State,
};
use proptest::prelude::*;

use super::{Next, Surroundings, next};

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
        provisioning: ProvisionStatus { state, image: present.map(image), ..Default::default() },
        good_credentials: CredentialsStatus { credentials_version: "7".into(), ..Default::default() },
        ..Default::default()
    }
}

const AROUND: Surroundings<'static> = Surroundings {
    deleting: false,
    credentials_version: Some("7"),
    paused: false,
    detached: false,
    inspection_requested: false,
    instance_id: Some("abc"),
};

#[test]
fn a_host_comes_in_step_by_step() {
    let off = spec(false, None);
    let table = [
        (State::None, Next::Enter(State::Registering)),
        (State::Registering, Next::Enter(State::Inspecting)),
        (State::Inspecting, Next::Inspect),
        (State::Preparing, Next::Enter(State::Available)),
        (State::Available, Next::Power(false)),
        (State::Deprovisioning, Next::Deprovision),
    ];
    for (state, expected) in table {
        assert_eq!(next(&off, &status(state, None), AROUND), expected, "{state:?}");
    }
}

#[test]
fn an_image_is_provisioned_only_when_online() {
    let available = status(State::Available, None);
    assert_eq!(next(&spec(false, Some("a")), &available, AROUND), Next::Power(false));
    assert_eq!(next(&spec(true, Some("a")), &available, AROUND), Next::Enter(State::Provisioning));
    let without = Surroundings { instance_id: None, ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &available, without), Next::ReportMissingData);
}

#[test]
fn another_image_means_starting_over() {
    let running = status(State::Provisioned, Some("a"));
    assert_eq!(next(&spec(true, Some("a")), &running, AROUND), Next::Power(true));
    assert_eq!(next(&spec(true, Some("b")), &running, AROUND), Next::Enter(State::Deprovisioning));
    assert_eq!(next(&spec(true, None), &running, AROUND), Next::Enter(State::Deprovisioning));
}

#[test]
fn new_credentials_are_tried_before_anything_else() {
    let changed = Surroundings { credentials_version: Some("8"), ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &status(State::Provisioned, Some("a")), changed), Next::Register);
    let missing = Surroundings { credentials_version: None, ..AROUND };
    assert_eq!(
        next(&spec(true, None), &status(State::Available, None), missing),
        Next::ReportMissingCredentials
    );
}

#[test]
fn deletion_powers_off_first_and_gives_up_in_the_end() {
    let deleting = Surroundings { deleting: true, ..AROUND };
    let off = spec(false, None);
    assert_eq!(
        next(&off, &status(State::Provisioned, Some("a")), deleting),
        Next::Enter(State::Deprovisioning)
    );
    assert_eq!(
        next(&off, &status(State::Available, None), deleting),
        Next::Enter(State::PoweringOffBeforeDelete)
    );
    assert_eq!(next(&off, &status(State::PoweringOffBeforeDelete, None), deleting), Next::PowerOffAndForget);
    let mut hopeless = status(State::PoweringOffBeforeDelete, None);
    hopeless.error_count = 9;
    assert_eq!(next(&off, &hopeless, deleting), Next::Forget);
    assert_eq!(next(&off, &status(State::Registering, None), deleting), Next::Forget);
}

#[test]
fn annotations_hold_a_host_still() {
    let paused = Surroundings { paused: true, ..AROUND };
    assert_eq!(next(&spec(true, Some("a")), &status(State::Available, None), paused), Next::Rest);
    let detached = Surroundings { detached: true, ..AROUND };
    let mut running = status(State::Provisioned, Some("a"));
    assert_eq!(next(&spec(false, None), &running, detached), Next::ReportDetached);
    running.operational_status = OperationalStatus::Detached;
    assert_eq!(next(&spec(false, None), &running, detached), Next::Rest);
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

proptest! {
    /// Whatever the state, if every action succeeds the host comes to rest where the specification wants it.
    #[test]
    fn every_state_leads_home(start in 0_usize..STATES.len(), online: bool, wanted in 0_u8..3, present in 0_u8..3, deleting: bool) {
        let name = |n: u8| ["", "a", "b"].get(usize::from(n)).copied().filter(|n| !n.is_empty());
        let spec = spec(online, name(wanted));
        let mut status = status(STATES[start], name(present));
        let around = Surroundings { deleting, ..AROUND };
        for _ in 0..20 {
            match next(&spec, &status, around) {
                Next::Enter(state) => status.provisioning.state = state,
                Next::Register => status.good_credentials.credentials_version = "7".into(),
                Next::Inspect => status.provisioning.state = State::Preparing,
                Next::Provision => {
                    status.provisioning.image = spec.image.clone();
                    status.provisioning.state = State::Provisioned;
                }
                Next::Deprovision => {
                    status.provisioning.image = None;
                    status.provisioning.state = State::Available;
                }
                Next::Power(on) => {
                    prop_assert!(!deleting);
                    let provisioned = status.provisioning.state == State::Provisioned;
                    prop_assert_eq!(on, online);
                    prop_assert!(!online || wanted == 0 || provisioned, "an online host with an image runs it");
                    return Ok(());
                }
                Next::PowerOffAndForget | Next::Forget => {
                    prop_assert!(deleting);
                    return Ok(());
                }
                other => prop_assert!(false, "{:?} in {:?}", other, status.provisioning.state),
            }
        }
        prop_assert!(false, "never came to rest: {:?}", status.provisioning.state);
    }
}
