//! Networks of clusters, and which interfaces of workloads are on them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::document::document;

document! {
    /// A network inside of a cluster.
    Network("Network", "networks", "emconet"), NetworkSpec, "Network",
    "cluster-providers/{clusterProvider}/clusters/{cluster}/networks/{network}", []
    {
        /// Which network plugin makes it.
        #[schemars(regex(pattern = r"^ovn4nfv$"))]
        pub cni_type: String,
        /// Subnets of IPv4.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 256))]
        pub ipv4_subnets: Vec<Subnet>,
        /// Subnets of IPv6.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 256))]
        pub ipv6_subnets: Vec<Subnet>,
    }
}

/// A subnet of a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subnet {
    /// Name.
    #[serde(default)]
    #[schemars(length(max = 128))]
    pub name: String,
    /// Addresses: `172.16.33.0/24`.
    #[schemars(length(min = 1, max = 49))]
    pub subnet: String,
    /// Address of the gateway, with the length of its prefix: `172.16.33.1/24`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 49))]
    pub gateway: String,
    /// Addresses that are not given to anybody, or ranges of them (`172.16.33.2..172.16.33.10`), with spaces between them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub exclude_ips: String,
}

document! {
    /// A network that a cluster shares with what is around it.
    ProviderNetwork("ProviderNetwork", "providernetworks", "emcopnet"), ProviderNetworkSpec, "ProviderNet",
    "cluster-providers/{clusterProvider}/clusters/{cluster}/provider-networks/{providerNetwork}", []
    {
        /// Which network plugin makes it.
        #[schemars(regex(pattern = r"^ovn4nfv$"))]
        pub cni_type: String,
        /// Subnets of IPv4.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 256))]
        pub ipv4_subnets: Vec<Subnet>,
        /// Subnets of IPv6.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 256))]
        pub ipv6_subnets: Vec<Subnet>,
        /// How it is joined to what is around: `VLAN` or `DIRECT`.
        #[schemars(regex(pattern = r"^(VLAN|DIRECT)$"))]
        pub provider_net_type: String,
        /// By which VLAN; with `VLAN`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub vlan: Option<ProviderNetworkVlan>,
    }
}

/// The VLAN of a provider network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderNetworkVlan {
    /// Its number, `0` to `4095`.
    #[serde(rename = "vlanID")]
    #[schemars(regex(pattern = r"^([0-9]|[1-9][0-9]{1,2}|[1-3][0-9]{3}|40[0-8][0-9]|409[0-5])$"))]
    pub vlan_id: String,
    /// Interface of the nodes that carries it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub provider_interface_name: String,
    /// Interface that is made of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub logical_interface_name: String,
    /// On which nodes: `any` or `specific`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(regex(pattern = r"^(any|specific)?$"))]
    pub vlan_node_selector: String,
    /// Labels of those nodes; with `specific`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub node_label_list: Vec<String>,
}

document! {
    /// Which interfaces the applications of a deployment intent group have.
    NetworkControllerIntent("NetworkControllerIntent", "networkcontrollerintents", "nintent"), NetworkControllerIntentSpec,
    "NetControlIntent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/network-controller-intent/{netControllerIntent}",
    []
    {}
}

document! {
    /// A workload whose interfaces are said.
    WorkloadIntent("WorkloadIntent", "workloadintents", "wintent"), WorkloadIntentSpec, "WorkloadIntent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/network-controller-intent/{netControllerIntent}/workload-intents/{workloadIntent}",
    [printcolumn = r#"{"name":"App","type":"string","jsonPath":".spec.app"}"#]
    {
        /// The application.
        #[schemars(length(min = 1, max = 128))]
        pub app: String,
        /// Name of the workload.
        #[schemars(length(min = 1, max = 253))]
        pub workload_resource: String,
        /// Its kind.
        #[serde(rename = "type")]
        #[schemars(length(min = 1, max = 128))]
        pub kind: String,
    }
}

document! {
    /// An interface of a workload.
    InterfaceIntent("InterfaceIntent", "interfaceintents", "iintent"), InterfaceIntentSpec, "WorkloadIfIntent",
    "projects/{project}/composite-apps/{compositeApp}/{compositeAppVersion}/deployment-intent-groups/{deploymentIntentGroup}/network-controller-intent/{netControllerIntent}/workload-intents/{workloadIntent}/interfaces/{interfaceIntent}",
    []
    {
        /// Its name in the pod.
        #[schemars(length(min = 1, max = 128))]
        pub interface: String,
        /// The network.
        #[schemars(length(min = 1, max = 128))]
        pub name: String,
        /// Whether the default route leads there: `true` or `false`.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        #[schemars(regex(pattern = r"^(true|false)?$"))]
        pub default_gateway: String,
        /// Its address.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        #[schemars(length(max = 45))]
        pub ip_address: String,
        /// Its hardware address.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        #[schemars(length(max = 17))]
        pub mac_address: String,
    }
}
