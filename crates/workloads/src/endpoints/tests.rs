//! Endpoints of pods in all states, and slices under random change.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pod::tests::test_pod;

fn service(spec: &serde_json::Value) -> Service {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "svc", "labels": {"tier": "front"}},
        "spec": spec,
    }))
    .unwrap()
}

fn pod(name: &str, address: &str, ready: bool) -> Arc<Pod> {
    let mut pod = test_pod(name, Some("n1"), ready);
    pod.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    pod.status.as_mut().unwrap().pod_ip = Some(address.into());
    Arc::new(pod)
}

fn with_named_port(pod: &Arc<Pod>, number: i32) -> Arc<Pod> {
    let mut pod = pod.as_ref().clone();
    pod.spec.as_mut().unwrap().containers =
        serde_json::from_value(json!([{"name": "c", "ports": [{"name": "http", "containerPort": number}]}]))
            .unwrap();
    Arc::new(pod)
}

fn dying(pod: &Arc<Pod>) -> Arc<Pod> {
    let mut pod = pod.as_ref().clone();
    pod.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
    Arc::new(pod)
}

fn groups(service: &Service, pods: &[Arc<Pod>]) -> Groups {
    desired::groups(service, pods, Family::V4, &|_| Some("zone-a".into()))
}

#[test]
fn states_of_pods_become_conditions() {
    let service = service(&json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}));
    let pods = [
        pod("ready", "10.0.0.1", true),
        pod("starting", "10.0.0.2", false),
        dying(&pod("leaving", "10.0.0.3", true)),
        pod("addressless", "", true),
    ];
    let groups = groups(&service, &pods);
    let (ports, targets) = groups.first_key_value().unwrap();
    assert_eq!((groups.len(), ports[0].number), (1, 8080));
    let states: Vec<_> =
        targets.iter().map(|target| (target.ready, target.serving, target.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, false, false), (false, true, true)]);
    assert_eq!(targets[0].zone.as_deref(), Some("zone-a"));

    let old_form = legacy::endpoints(&service, None, &groups);
    let subset = &old_form.subsets.as_ref().unwrap()[0];
    assert_eq!(subset.addresses.as_ref().unwrap()[0].ip, "10.0.0.1");
    let waiting: Vec<_> =
        subset.not_ready_addresses.iter().flatten().map(|address| address.ip.as_str()).collect();
    assert_eq!(waiting, ["10.0.0.2"], "a pod that ends is not listed in the older form");
}

#[test]
fn named_ports_may_differ_between_pods() {
    let service = service(
        &json!({"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}),
    );
    let pods = [
        with_named_port(&pod("a", "10.0.0.1", true), 8080),
        with_named_port(&pod("b", "10.0.0.2", true), 9090),
        pod("portless", "10.0.0.3", true),
    ];
    let groups = groups(&service, &pods);
    let numbers: Vec<_> =
        groups.keys().map(|ports| ports.iter().map(|port| port.number).collect::<Vec<_>>()).collect();
    assert_eq!(numbers, [vec![], vec![8080], vec![9090]]);
    assert_eq!(slices::plan(&service, &[], &[(Family::V4, groups)], FOR_PODS).len(), 3);
}

#[test]
fn headless_services_publish_and_name_hosts() {
    let service =
        service(&json!({"clusterIP": "None", "selector": {"app": "web"}, "publishNotReadyAddresses": true}));
    let mut named = pod("web-0", "10.0.0.1", false).as_ref().clone();
    let spec = named.spec.as_mut().unwrap();
    (spec.hostname, spec.subdomain) = (Some("web-0".into()), Some("web".into()));
    let groups = groups(&service, &[Arc::new(named)]);
    let target = &groups.values().next().unwrap()[0];
    assert_eq!((target.ready, target.serving, target.hostname.as_deref()), (true, false, Some("web-0")));
    let actions = slices::plan(&service, &[], &[(Family::V4, groups)], FOR_PODS);
    let [Action::Create(slice)] = actions.as_slice() else { panic!("one slice expected: {actions:?}") };
    let labels = slice.metadata.labels.as_ref().unwrap();
    assert_eq!(labels.get(slices::HEADLESS_LABEL).map(String::as_str), Some(""));
    assert_eq!((labels["tier"].as_str(), labels[SERVICE_LABEL].as_str()), ("front", "web"));
}

#[test]
fn a_service_without_pods_has_one_empty_slice() {
    let service = service(&json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
    let wanted = [(Family::V4, Groups::new())];
    let actions = slices::plan(&service, &[], &wanted, FOR_PODS);
    let [Action::Create(slice)] = actions.as_slice() else { panic!("one slice expected: {actions:?}") };
    assert!(slice.endpoints.is_empty());
    let existing = [Arc::new(slice.as_ref().clone())];
    assert_eq!(slices::plan(&service, &existing, &wanted, FOR_PODS), []);
}

#[test]
fn endpoints_written_by_hand_are_mirrored() {
    let endpoints: Endpoints = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "default"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"port": 5432}]}],
    }))
    .unwrap();
    let groups = desired::groups_by_hand(&endpoints, Family::V4);
    let targets = groups.values().next().unwrap();
    assert_eq!((targets.len(), targets[0].ready, targets[1].ready), (2, true, false));
    assert!(desired::groups_by_hand(&endpoints, Family::V6).is_empty());
}

/// Carries actions out on a set of slices, as the API would.
fn apply(existing: &mut BTreeMap<String, Arc<EndpointSlice>>, actions: Vec<Action>) {
    for action in actions {
        match action {
            Action::Create(slice) => {
                let name = kind::name(slice.as_ref()).to_owned();
                assert!(existing.insert(name, Arc::from(slice)).is_none(), "a name used twice");
            }
            Action::Update { new, .. } => {
                existing.insert(kind::name(new.as_ref()).to_owned(), Arc::from(new));
            }
            Action::Delete(slice) => {
                existing.remove(kind::name(slice.as_ref()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After every change: each wanted endpoint is in exactly one slice, none is too large, and planning again changes nothing.
    #[test]
    fn slices_follow_the_pods(rounds in prop::collection::vec(prop::collection::btree_map(0u16..400, any::<bool>(), 0..350), 1..5)) {
        let service = service(&json!({"selector": {"app": "web"}, "ports": [{"port": 80}]}));
        let mut existing = BTreeMap::new();
        for round in rounds {
            let pods: Vec<_> = round
                .iter()
                .map(|(n, ready)| {
                    let [high, low] = n.to_be_bytes();
                    pod(&format!("p{n}"), &format!("10.0.{high}.{low}"), *ready)
                })
                .collect();
            let wanted = [(Family::V4, groups(&service, &pods))];
            let slices: Vec<_> = existing.values().cloned().collect();
            apply(&mut existing, slices::plan(&service, &slices, &wanted, FOR_PODS));

            let slices: Vec<_> = existing.values().cloned().collect();
            prop_assert_eq!(slices::plan(&service, &slices, &wanted, FOR_PODS), vec![]);
            let listed: Vec<IpAddr> = slices
                .iter()
                .inspect(|slice| assert!(slice.endpoints.len() <= 100))
                .flat_map(|slice| slice.endpoints.iter().map(|endpoint| endpoint.addresses[0].parse().unwrap()))
                .collect();
            let distinct: BTreeSet<_> = listed.iter().collect();
            prop_assert_eq!(distinct.len(), listed.len(), "an endpoint listed twice");
            prop_assert_eq!(listed.len(), pods.len());
        }
    }
}
