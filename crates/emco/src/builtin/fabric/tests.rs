use std::time::Duration;

use drystone_api::{
    AddressPoolPurpose, ClusterMember, ClusterSpec, ClusterStatus, ClusterZone, NumberRange, WorkerPool,
    ZonePhase,
    emco::{NetworkSpec, ProviderNetworkSpec, Subnet},
};
use drystone_engine::fake_api::FakeApi;

use super::*;

fn cluster(isolation: Isolation) -> Cluster {
    let labels = [("rack".to_owned(), "r1".to_owned())].into();
    let spec = ClusterSpec {
        zone: ClusterZone { isolation },
        workers: vec![WorkerPool { name: "w".to_owned(), labels, ..WorkerPool::default() }],
        ..ClusterSpec::default()
    };
    let mut cluster = Cluster::new("blue", spec);
    cluster.metadata.namespace = Some("tenant".to_owned());
    cluster.metadata.uid = Some("u-1".to_owned());
    let member = |host: &str, role, pool: &str| ClusterMember {
        host: host.to_owned(),
        role,
        pool: pool.to_owned(),
        ..ClusterMember::default()
    };
    let members = vec![member("h2", MemberRole::Worker, "w"), member("h1", MemberRole::ControlPlane, "")];
    cluster.status = Some(ClusterStatus { members, ..ClusterStatus::default() });
    cluster
}

fn subnet(range: &str, gateway: &str, excluded: &str) -> Subnet {
    Subnet {
        name: "s".to_owned(),
        subnet: range.to_owned(),
        gateway: gateway.to_owned(),
        exclude_ips: excluded.to_owned(),
    }
}

fn network(name: &str, subnets: Vec<Subnet>) -> Network {
    let path = format!("cluster-providers/drystone/clusters/tenant.blue/networks/{name}");
    Network::new(
        "x",
        NetworkSpec { path, cni_type: "ovn4nfv".to_owned(), ipv4_subnets: subnets, ..NetworkSpec::default() },
    )
}

fn provider(name: &str, kind: &str, vlan: Option<ProviderNetworkVlan>) -> ProviderNetwork {
    let spec = ProviderNetworkSpec {
        path: format!("cluster-providers/drystone/clusters/tenant.blue/provider-networks/{name}"),
        cni_type: "ovn4nfv".to_owned(),
        provider_net_type: kind.to_owned(),
        ipv4_subnets: vec![subnet(
            "172.16.33.0/24",
            "172.16.33.1/24",
            "172.16.33.2 172.16.33.4..172.16.33.7",
        )],
        ipv6_subnets: vec![subnet("fd00:33::/64", "", "")],
        vlan,
        ..ProviderNetworkSpec::default()
    };
    ProviderNetwork::new("x", spec)
}

fn vlan(id: &str, labels: &[&str]) -> ProviderNetworkVlan {
    ProviderNetworkVlan {
        vlan_id: id.to_owned(),
        vlan_node_selector: if labels.is_empty() { "any" } else { "specific" }.to_owned(),
        node_label_list: labels.iter().map(|label| (*label).to_owned()).collect(),
        ..ProviderNetworkVlan::default()
    }
}

fn hosts(network: &FabricNetwork) -> Vec<&str> {
    network.zone.spec.members.iter().filter_map(|member| member.host.as_deref()).collect()
}

#[test]
fn a_provider_network_is_a_zone_with_pools() {
    let declared =
        declare(&cluster(Isolation::Shared), &[], &[provider("out", "VLAN", Some(vlan("100", &[])))])
            .unwrap();
    let [out] = declared.as_slice() else { panic!("{declared:?}") };
    assert_eq!(hosts(out), ["h1", "h2"]);
    let spec = &out.zone.spec;
    assert!(spec.gateways && spec.default_routing && spec.isolation == Isolation::Shared);
    assert_eq!(spec.composition.as_deref(), Some("blue"));
    assert_eq!(out.zone.metadata.namespace.as_deref(), Some("tenant"));
    assert_eq!(out.zone.owner_references()[0].uid, "u-1");
    let [four, six] = out.pools.as_slice() else { panic!("{:?}", out.pools) };
    assert_eq!(spec.address_pools, [four.name_any(), six.name_any()]);
    let text = |nets: &[ipnet::IpNet]| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(four.spec.purpose, AddressPoolPurpose::Fabric);
    assert_eq!(text(&four.spec.ranges), ["172.16.33.0/24"]);
    assert_eq!(text(&four.spec.reserved), ["172.16.33.1/32", "172.16.33.2/32", "172.16.33.4/30"]);
    assert_eq!(four.spec.gateway, "172.16.33.1".parse().ok());
    assert_eq!(four.spec.vlans, Some(NumberRange { lower: 100, upper: 100 }));
    assert_eq!(
        (six.spec.vlans, six.spec.block_prefix_length),
        (None, 128),
        "a VLAN is in one pool of a zone only"
    );
}

#[test]
fn labels_select_hosts() {
    for (labels, expected) in [
        (&["rack=r1"][..], &["h2"][..]),
        (&["rack"], &["h2"]),
        (&["kubernetes.io/hostname=h1", "rack=r9"], &["h1"]),
        (&["node-role.kubernetes.io/control-plane"], &["h1"]),
    ] {
        let declared =
            declare(&cluster(Isolation::Shared), &[], &[provider("out", "VLAN", Some(vlan("7", labels)))])
                .unwrap();
        assert_eq!(hosts(&declared[0]), expected, "{labels:?}");
    }
    let none =
        declare(&cluster(Isolation::Shared), &[], &[provider("out", "VLAN", Some(vlan("7", &["rack=r9"])))])
            .unwrap_err();
    assert!(none.message.contains("no host has one of the labels rack=r9"), "{none}");
}

#[test]
fn networks_stay_inside_and_have_names_of_their_own() {
    let networks = [network("red", vec![subnet("10.1.0.0/24", "", "")]), network("bare", vec![])];
    let declared =
        declare(&cluster(Isolation::Shared), &networks, &[provider("red", "DIRECT", None)]).unwrap();
    assert_eq!(
        declared.iter().map(|network| network.zone.spec.gateways).collect::<Vec<_>>(),
        [false, false, true]
    );
    assert_eq!(declared[0].pools.len(), 0, "a network without addresses needs no pool");
    let mut names: Vec<_> = declared.iter().map(|network| network.zone.name_any()).collect();
    assert!(names.iter().all(|name| name.starts_with("blue-net-")), "{names:?}");
    names.dedup();
    assert_eq!(names.len(), 3);
}

#[test]
fn what_cannot_be_carried_out_is_refused_with_its_field() {
    let exclusive = declare(&cluster(Isolation::Exclusive), &[network("red", vec![])], &[]).unwrap_err();
    assert!(
        exclusive.message.contains("tenant/blue") && exclusive.message.contains("spec.zone.isolation"),
        "{exclusive}"
    );
    assert!(declare(&cluster(Isolation::Exclusive), &[], &[]).unwrap().is_empty());
    let mut young = cluster(Isolation::Shared);
    young.status = None;
    assert!(declare(&young, &[network("red", vec![])], &[]).unwrap_err().message.contains("no hosts yet"));
    for (subnets, told) in [
        (
            vec![subnet("10.1.0.0", "", ""), subnet("x", "", "")],
            "ipv4Subnets[0].subnet: \"10.1.0.0\" is no network",
        ),
        (vec![subnet("fd00::/64", "", "")], "ipv4Subnets[0].subnet: fd00::/64 is of the other family"),
        (
            vec![subnet("10.1.0.0/16", "", ""), subnet("10.1.2.0/24", "", "")],
            "ipv4Subnets[1].subnet: 10.1.2.0/24 and 10.1.0.0/16 overlap",
        ),
        (
            vec![subnet("10.1.0.0/24", "10.2.0.1/24", "")],
            "ipv4Subnets[0].gateway: 10.2.0.1/24 is no address of 10.1.0.0/24",
        ),
        (
            vec![subnet("10.1.0.0/24", "", "10.1.0.9..10.1.0.2")],
            "excludeIps: 10.1.0.9..10.1.0.2 ends before it begins",
        ),
        (vec![subnet("10.1.0.0/24", "", "10.1.1.1")], "excludeIps: 10.1.1.1 is not in 10.1.0.0/24"),
        (vec![subnet("10.1.0.0/24", "", "a..b")], "is neither an address nor a range"),
    ] {
        let message =
            declare(&cluster(Isolation::Shared), &[network("red", subnets)], &[]).unwrap_err().message;
        assert!(message.contains(told) && message.contains("network red of cluster blue"), "{message}");
    }
    assert!(
        declare(&cluster(Isolation::Shared), &[], &[provider("x", "VLAN", None)])
            .unwrap_err()
            .message
            .contains("vlan is missing")
    );
}

#[tokio::test]
async fn networks_are_declared_changed_and_taken_back() {
    let api = FakeApi::new();
    let fabric = FabricNetworks::new(api.client());
    let cluster = cluster(Isolation::Shared);
    let (red, out) = (network("red", vec![subnet("10.1.0.0/24", "", "")]), provider("out", "DIRECT", None));
    fabric.apply(&cluster, std::slice::from_ref(&red), std::slice::from_ref(&out)).await.unwrap();
    assert_eq!((api.objects("/zones/").len(), api.objects("/addresspools/").len()), (2, 3));
    let before = api.requests().len();
    fabric.apply(&cluster, std::slice::from_ref(&red), std::slice::from_ref(&out)).await.unwrap();
    let writes = api.requests().split_off(before);
    assert!(writes.iter().all(|request| request.starts_with("GET")), "nothing is written twice: {writes:?}");
    let states = fabric.state(&cluster).await.unwrap();
    assert_eq!(states.iter().map(|state| state.phase).collect::<Vec<_>>(), [ZonePhase::Pending; 2]);
    assert!(states.iter().any(|state| state.path == *red.path()));

    assert!(!fabric.settled(&cluster).await.unwrap());
    for zone in api.objects("/zones/") {
        let path = format!(
            "/apis/drystone.dev/v1alpha1/namespaces/tenant/zones/{}",
            zone["metadata"]["name"].as_str().unwrap()
        );
        api.meddle(&path, |zone| {
            let generation = zone["metadata"]["generation"].clone();
            zone["status"] = serde_json::json!({"phase": "Ready", "observedGeneration": generation});
        });
    }
    assert!(fabric.settled(&cluster).await.unwrap());

    let wider = network("red", vec![subnet("10.1.0.0/23", "", "")]);
    fabric.apply(&cluster, &[wider], &[]).await.unwrap();
    let pools = api.objects("/addresspools/");
    assert_eq!(pools.len(), 1, "{pools:?}");
    assert_eq!(pools[0]["spec"]["ranges"][0], "10.1.0.0/23");
    let zones = api.objects("/zones/");
    assert_eq!(zones.len(), 1);
    let path = format!(
        "/apis/drystone.dev/v1alpha1/namespaces/tenant/zones/{}",
        zones[0]["metadata"]["name"].as_str().unwrap()
    );
    api.meddle(&path, |zone| {
        let generation = zone["metadata"]["generation"].clone();
        zone["status"] =
            serde_json::json!({"phase": "Failed", "observedGeneration": generation, "message": "no way"});
    });
    let failed = fabric.settled(&cluster).await.unwrap_err();
    assert!(
        failed.code == 422 && failed.message.contains("network red") && failed.message.contains("no way"),
        "{failed}"
    );

    assert_eq!(fabric.refusal(&cluster).await.unwrap().map(|refusal| refusal.message), None);
    for (reason, is_refused) in [("Hindered", false), ("Refused", true)] {
        api.meddle(&path, |zone| {
            zone["status"] = serde_json::json!({
                "phase": "Programming", "message": "in one zone only",
                "conditions": [{"type": "Ready", "status": "False", "reason": reason, "message": "in one zone only",
                    "lastTransitionTime": "2026-11-29T00:00:00Z"}],
            });
        });
        assert!(!fabric.settled(&cluster).await.unwrap(), "it is tried again");
        let refusal = fabric.refusal(&cluster).await.unwrap();
        assert_eq!(refusal.is_some(), is_refused, "what does not answer is waited for: {refusal:?}");
        assert!(refusal.is_none_or(|told| told.code == 422 && told.message.contains("in one zone only")));
    }

    for _ in 0..600 {
        if fabric.remove(&cluster).await.unwrap() {
            assert_eq!((api.objects("/zones/").len(), api.objects("/addresspools/").len()), (0, 0));
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the networks are never gone");
}

#[tokio::test]
async fn networks_have_the_hosts_that_their_cluster_has() {
    let api = FakeApi::new();
    let fabric = FabricNetworks::new(api.client());
    let mut cluster = cluster(Isolation::Shared);
    let red = network("red", vec![subnet("10.1.0.0/24", "", "")]);
    let workers = provider("out", "VLAN", Some(vlan("7", &["rack=r1"])));
    fabric.apply(&cluster, std::slice::from_ref(&red), std::slice::from_ref(&workers)).await.unwrap();
    let members = |api: &FakeApi| {
        let zones = api.objects("/zones/");
        let hosts = zones.iter().map(|zone| {
            let members = zone["spec"]["members"].as_array().unwrap().clone();
            members.iter().map(|member| member["host"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        });
        let mut hosts: Vec<_> = hosts.collect();
        hosts.sort();
        hosts
    };
    assert_eq!(members(&api), [vec!["h1", "h2"], vec!["h2"]]);
    // One that is declared, but not applied.
    let later = network("later", vec![]);
    // A change that is not applied.
    let wider = network("red", vec![subnet("10.1.0.0/23", "", "")]);
    let networks = [wider, later];
    let status = cluster.status.as_mut().unwrap();
    status.members.remove(0);
    for host in ["h4", "h3"] {
        let (host, pool) = (host.to_owned(), "w".to_owned());
        status.members.push(ClusterMember { host, pool, ..ClusterMember::default() });
    }
    let changed = fabric.follow(&cluster, &networks, std::slice::from_ref(&workers)).await.unwrap();
    assert_eq!(changed.len(), 2, "{changed:?}");
    assert_eq!(members(&api), [vec!["h1", "h3", "h4"], vec!["h3", "h4"]]);
    assert!(api.objects("/addresspools/").iter().any(|pool| pool["spec"]["ranges"][0] == "10.1.0.0/24"));
    let before = api.requests().len();
    assert_eq!(fabric.follow(&cluster, &networks, &[workers]).await.unwrap(), [""; 0]);
    assert!(api.requests().split_off(before).iter().all(|request| request.starts_with("GET")));
}
