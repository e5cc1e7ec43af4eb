use drystone_api::emco::{NetworkSpec, ProviderNetworkSpec, ProviderNetworkVlan, Subnet};
use drystone_appcontext::ClusterName;

use super::*;

fn network(name: &str) -> Network {
    let subnet = Subnet {
        name: "s1".to_owned(),
        subnet: "10.20.30.0/24".to_owned(),
        gateway: "10.20.30.1/24".to_owned(),
        exclude_ips: "10.20.30.2..10.20.30.9".to_owned(),
    };
    let path = format!("cluster-providers/p/clusters/c/networks/{name}");
    let spec = NetworkSpec {
        path,
        description: "what it is for".to_owned(),
        user_data1: "x".to_owned(),
        cni_type: "ovn4nfv".to_owned(),
        ipv4_subnets: vec![subnet],
        ..NetworkSpec::default()
    };
    Network::new(name, spec)
}

fn provider_network(name: &str) -> ProviderNetwork {
    let vlan = ProviderNetworkVlan {
        vlan_id: "100".to_owned(),
        provider_interface_name: "eth1".to_owned(),
        logical_interface_name: "eth1.100".to_owned(),
        vlan_node_selector: "any".to_owned(),
        ..ProviderNetworkVlan::default()
    };
    let spec = ProviderNetworkSpec {
        path: format!("cluster-providers/p/clusters/c/provider-networks/{name}"),
        cni_type: "ovn4nfv".to_owned(),
        provider_net_type: "VLAN".to_owned(),
        vlan: Some(vlan),
        ..ProviderNetworkSpec::default()
    };
    ProviderNetwork::new(name, spec)
}

fn facts(wrapper: Option<&str>) -> ClusterFacts {
    let mut facts = ClusterFacts::named(ClusterName::new("p", "c"));
    facts.values.extend(wrapper.map(|value| (WRAPPER.to_owned(), value.to_owned())));
    facts
}

#[test]
fn networks_become_the_objects_of_the_plugin() {
    let objects = objects(&facts(None), &[network("red")], &[provider_network("blue")]).unwrap();
    assert_eq!(
        objects,
        [
            json!({
                "apiVersion": "k8s.plugin.opnfv.org/v1alpha1", "kind": "Network",
                "metadata": {"name": "red", "labels": {"net": "red"}},
                "spec": {"cniType": "ovn4nfv", "ipv4Subnets": [{
                    "name": "s1", "subnet": "10.20.30.0/24", "gateway": "10.20.30.1/24", "excludeIps": "10.20.30.2..10.20.30.9"}]}
            }),
            json!({
                "apiVersion": "k8s.plugin.opnfv.org/v1alpha1", "kind": "ProviderNetwork", "metadata": {"name": "blue"},
                "spec": {"cniType": "ovn4nfv", "providerNetType": "VLAN", "vlan": {
                    "vlanId": "100", "providerInterfaceName": "eth1", "logicalInterfaceName": "eth1.100", "vlanNodeSelector": "any"}}
            })
        ]
    );
}

#[test]
fn with_multus_each_is_followed_by_its_attachment() {
    let networks = [network("b"), network("a")];
    let objects = objects(&facts(Some("multus")), &networks, &[provider_network("b")]).unwrap();
    let names: Vec<_> = objects
        .iter()
        .map(|object| (manifest::text(object, "/kind"), manifest::text(object, "/metadata/name")))
        .collect();
    let attachment = "NetworkAttachmentDefinition";
    assert_eq!(
        names,
        [
            ("Network", "a"),
            (attachment, "a"),
            ("Network", "b"),
            (attachment, "b"),
            ("ProviderNetwork", "b"),
            (attachment, "b")
        ]
    );
    let config: Value = serde_json::from_str(manifest::text(&objects[1], "/spec/config")).unwrap();
    assert_eq!(config, json!({"cniVersion": "0.3.1", "type": "ovn4nfvk8s-cni", "nfn-network": "a"}));
}

#[test]
fn the_context_has_one_app_for_one_cluster() {
    let id = ContextId::of("networks");
    let context =
        context(id, &facts(Some("Multus")), &[network("red")], &[provider_network("blue")]).unwrap();
    context.check_names().unwrap();
    assert_eq!(
        (context.app_order.as_slice(), context.sync.status_context),
        (&["network-intents".to_owned()][..], Some(id))
    );
    let part = context.part("network-intents", &ClusterName::new("p", "c")).unwrap();
    let order: Vec<&str> = part.order.iter().map(ResourceName::as_str).collect();
    let expected = [
        "red+Network",
        "red+NetworkAttachmentDefinition",
        "blue+ProviderNetwork",
        "blue+NetworkAttachmentDefinition",
    ];
    assert_eq!(order, expected);
    assert!(part.hooks.is_empty());
    let none = super::context(id, &facts(None), &[], &[]).unwrap();
    assert_eq!(none.parts().count(), 1, "the cluster is there, with nothing to do");
}
