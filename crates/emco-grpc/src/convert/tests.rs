use proptest::prelude::*;
use prost::Message as _;

use super::*;

/// Bytes as protoc's encoders write them: the contract's numbers of fields, by hand.
fn field(number: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2, u8::try_from(text.len()).unwrap()];
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[test]
fn messages_have_the_numbers_of_the_contract() {
    let update = wire::ContextUpdateRequest {
        app_context: "7".into(),
        intent_name: "labels".into(),
        update_from_app_context: earlier(None),
    };
    assert_eq!(update.encode_to_vec(), [field(1, "7"), field(2, "labels"), field(3, "<nil>")].concat());
    let event =
        wire::PostEventRequest { app_context: "7".into(), event_type: event_to_wire(Event::Update).into() };
    assert_eq!(event.encode_to_vec(), [field(1, "7"), vec![2 << 3, 2]].concat());
    let filtered = wire::FilterResponse { app_context: "7".into(), status: true, message: "m".into() };
    assert_eq!(filtered.encode_to_vec(), [field(1, "7"), vec![2 << 3, 1], field(3, "m")].concat());
    let published = wire::ClusterEventResponse {
        provider_name: "p".into(),
        cluster_name: "c".into(),
        status: true,
        message: "m".into(),
    };
    assert_eq!(
        published.encode_to_vec(),
        [field(1, "p"), field(2, "c"), vec![3 << 3, 1], field(4, "m")].concat()
    );
    let notice =
        Readiness { id: ContextId::new(7).unwrap(), app: "a".into(), cluster: ClusterName::new("p", "c") };
    assert_eq!(
        readiness_to_wire("me", &notice).encode_to_vec(),
        [field(1, "me"), field(2, "drystone"), field(3, "7"), field(4, "a"), field(5, "p+c")].concat()
    );
}

#[test]
fn registrations_have_the_numbers_of_the_contract() {
    let query = StatusQuery {
        client: "me".into(),
        subject: StatusSubject::Cluster(ClusterName::new("p", "c")),
        kind: StatusKind::Deployed,
        apps: vec!["a".into()],
        clusters: vec!["p+c".into()],
        resources: vec!["r".into()],
        details: true,
    };
    let key = [field(1, "p"), field(2, "c")].concat();
    let expected = [
        field(1, "me"),
        [vec![4 << 3 | 2, u8::try_from(key.len()).unwrap()], key].concat(),
        vec![5 << 3, 4],
        field(6, "a"),
        field(7, "p+c"),
        field(8, "r"),
        vec![9 << 3, 1],
    ]
    .concat();
    assert_eq!(status_registration(&query).encode_to_vec(), expected);
    assert_eq!(status_query(status_registration(&query)), Ok(query));
}

#[test]
fn there_may_be_no_earlier_context() {
    assert_eq!(earlier_context("<nil>"), Ok(None));
    assert_eq!(earlier_context(""), Ok(None));
    assert_eq!(earlier_context("9"), Ok(ContextId::new(9)));
    assert!(earlier_context("nil").unwrap_err().to_string().contains("update_from_appContext is \"nil\""));
    assert_eq!(earlier(ContextId::new(9)), "9");
}

#[test]
fn what_means_nothing_is_said() {
    assert_eq!(event(3), Err(Meaningless::Number { field: "event_type", value: 3 }));
    let long = context("app_context", &"x".repeat(10_000)).unwrap_err();
    assert!(long.to_string().len() < 300, "texts of peers are not repeated whole");
    let nobody = status_query(wire::StatusRegistration::default());
    assert!(nobody.unwrap_err().to_string().contains("digKey, lcKey or clusterKey is missing"));
    let nowhere =
        wire::ReadyNotification { app_context: "7".into(), cluster: "c".into(), ..Default::default() };
    assert!(readiness(&nowhere).unwrap_err().to_string().contains("PROVIDER+CLUSTER"));
}

fn names() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9.-]{0,8}"
}

fn clusters() -> impl Strategy<Value = ClusterName> {
    (names(), names()).prop_map(|(provider, cluster)| ClusterName::new(provider, cluster))
}

fn values() -> impl Strategy<Value = StatusValue> {
    use StatusValue::{Deployed, Error, NotDeployed, NotReady, Ready};
    prop_oneof![Just(Error), Just(NotReady), Just(Ready), Just(NotDeployed), Just(Deployed)]
}

fn cluster_statuses() -> impl Strategy<Value = Vec<ClusterStatus>> {
    let resource = (names(), names(), values()).prop_map(|(name, kind, value)| ResourceStatus {
        name,
        group: String::new(),
        version: "v1".into(),
        kind,
        value,
    });
    let status = (clusters(), values(), proptest::collection::vec(resource, 0..3))
        .prop_map(|(cluster, value, resources)| ClusterStatus { cluster, value, resources });
    proptest::collection::vec(status, 0..3)
}

/// Messages that mean something.
fn samples() -> Vec<Vec<u8>> {
    let cluster = ClusterName::new("p", "c");
    let resource = ResourceStatus {
        name: "r".into(),
        group: "apps".into(),
        version: "v1".into(),
        kind: "Deployment".into(),
        value: StatusValue::Ready,
    };
    let status =
        ClusterStatus { cluster: cluster.clone(), value: StatusValue::Ready, resources: vec![resource] };
    let app = AppStatus { app: "a".into(), value: StatusValue::NotReady, clusters: vec![status.clone()] };
    let notice = StatusNotice { value: StatusValue::Deployed, apps: vec![app], clusters: vec![status] };
    let query = StatusQuery {
        client: "me".into(),
        subject: StatusSubject::LogicalCloud { project: "p".into(), logical_cloud: "lc".into() },
        kind: StatusKind::Ready,
        apps: vec!["a".into()],
        clusters: Vec::new(),
        resources: Vec::new(),
        details: false,
    };
    let readiness = Readiness { id: ContextId::new(7).unwrap(), app: "a".into(), cluster: cluster.clone() };
    vec![
        status_notice_to_wire(notice).encode_to_vec(),
        status_registration(&query).encode_to_vec(),
        readiness_to_wire("me", &readiness).encode_to_vec(),
        cluster_event_request(&cluster, ClusterEvent::Deleted).encode_to_vec(),
    ]
}

proptest! {
    #[test]
    fn notices_come_back_as_they_went(
        value in values(),
        apps in proptest::collection::vec((names(), values(), cluster_statuses()), 0..3),
        clusters in cluster_statuses(),
    ) {
        let apps = apps.into_iter().map(|(app, value, clusters)| AppStatus { app, value, clusters }).collect();
        let notice = StatusNotice { value, apps, clusters };
        let bytes = status_notice_to_wire(notice.clone()).encode_to_vec();
        let read = wire::StatusNotification::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(status_notice(read), Ok(notice));
    }

    #[test]
    fn no_bytes_do_harm(bytes in drystone_hostile::damaged(samples())) {
        if let Ok(read) = wire::StatusRegistration::decode(bytes.as_slice()) {
            let _ = status_query(read);
        }
        if let Ok(read) = wire::StatusNotification::decode(bytes.as_slice()) {
            let _ = status_notice(read);
        }
        if let Ok(read) = wire::ReadyNotification::decode(bytes.as_slice()) {
            let _ = readiness(&read);
        }
        if let Ok(read) = wire::ClusterEventRequest::decode(bytes.as_slice()) {
            let _ = cluster_event(&read);
        }
    }
}
