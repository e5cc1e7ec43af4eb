//! What the cluster says of itself to whoever joins: the ConfigMap `kube-public/cluster-info`.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::{IpNet, Ipv4Net};
use k8s_openapi::api::{
    core::v1::{ConfigMap, Secret},
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api, Client, Config,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::command::Failure;

pub(super) const MANAGER: &str = "drystone-kubernetes";
const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
/// Key of the authority's certificate.
const AUTHORITY: &str = "ca.crt";
/// Key of [`ClusterInfo`].
const INFO: &str = "cluster.json";
/// Bits of a node's block of pod addresses.
const BLOCK_PREFIX: u8 = 24;
/// Group of those who may read the control planes' keys, which are encrypted.
pub(super) const CONTROL_PLANES: &str = "system:bootstrappers:drystone:control-planes";
/// Secret with these keys.
pub(super) const KEYS_SECRET: &str = "drystone-control-plane-keys";

/// What nodes need to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClusterInfo {
    /// Addresses of pods.
    #[serde(rename = "podCIDR")]
    pub(super) pod_cidr: IpNet,
    /// Addresses of Services.
    #[serde(rename = "serviceCIDR")]
    pub(super) service_cidr: IpNet,
    /// Whose certificate the API's is for beside its own.
    #[serde(default)]
    pub(super) additional_addresses: Vec<IpAddr>,
    /// Blocks of pod addresses by node.
    #[serde(default)]
    pub(super) blocks: BTreeMap<String, Ipv4Net>,
    /// Control planes that are members of etcd, by node.
    #[serde(default)]
    pub(super) members: BTreeMap<String, IpAddr>,
}

impl ClusterInfo {
    /// A block that no node has; the node's own if it has one.
    pub(super) fn allocate(&mut self, node: &str) -> Result<Ipv4Net, String> {
        if let Some(block) = self.blocks.get(node) {
            return Ok(*block);
        }
        let IpNet::V4(pods) = self.pod_cidr else {
            return Err(format!("pods have addresses of {}, which is not IPv4", self.pod_cidr));
        };
        // A small network is shared by four nodes at least.
        let prefix = BLOCK_PREFIX.max((pods.prefix_len() + 2).min(30));
        let mut free = pods.subnets(prefix).map_err(|error| error.to_string())?;
        let block = free
            .find(|block| !self.blocks.values().any(|taken| taken == block))
            .ok_or_else(|| format!("all blocks of {pods} are taken by {} nodes", self.blocks.len()))?;
        self.blocks.insert(node.to_owned(), block);
        Ok(block)
    }
}

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn read(map: &ConfigMap) -> Result<(ClusterInfo, String), Failure> {
    let data = map.data.clone().unwrap_or_default();
    let text = |key: &str| {
        data.get(key).cloned().ok_or_else(|| format!("ConfigMap {NAMESPACE}/{NAME} has no {key}"))
    };
    let info = serde_json::from_str(&text(INFO)?).map_err(|error| format!("{NAME}: {INFO}: {error}"))?;
    Ok((info, text(AUTHORITY)?))
}

/// Publishes it, if it is not there, and lets anybody read it.
pub(super) async fn publish(client: &Client, authority: &str, info: &ClusterInfo) -> Result<(), Failure> {
    let map = ConfigMap {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([
            (AUTHORITY.to_owned(), authority.to_owned()),
            (INFO.to_owned(), serde_json::to_string(info)?),
        ])),
        ..ConfigMap::default()
    };
    match maps(client).create(&PostParams::default(), &map).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    let everybody = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous"},
                           {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"}]);
    let rule = |resource: &str, name: &str| json!({"apiGroups": [""], "resources": [resource], "resourceNames": [name], "verbs": ["get"]});
    allow(client, NAMESPACE, "drystone:cluster-info", &rule("configmaps", NAME), &everybody).await?;
    let joining = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": CONTROL_PLANES}]);
    allow(client, "kube-system", "drystone:control-plane-keys", &rule("secrets", KEYS_SECRET), &joining).await
}

async fn allow(
    client: &Client,
    namespace: &str,
    name: &str,
    rule: &serde_json::Value,
    subjects: &serde_json::Value,
) -> Result<(), Failure> {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": {"name": name}, "rules": [rule]});
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name}, "subjects": subjects,
    });
    let apply = PatchParams::apply(MANAGER).force();
    Api::<Role>::namespaced(client.clone(), namespace).patch(name, &apply, &Patch::Apply(&role)).await?;
    Api::<RoleBinding>::namespaced(client.clone(), namespace)
        .patch(name, &apply, &Patch::Apply(&binding))
        .await?;
    Ok(())
}

/// Changes it; again if somebody else changed it meanwhile.
pub(super) async fn change<T>(
    client: &Client,
    mut change: impl FnMut(&mut ClusterInfo) -> Result<T, String>,
) -> Result<(T, ClusterInfo), Failure> {
    for _ in 0..20 {
        let mut map = maps(client).get(NAME).await?;
        let (mut info, _) = read(&map)?;
        let before = info.clone();
        let outcome = change(&mut info)?;
        if info == before {
            return Ok((outcome, info));
        }
        map.data.get_or_insert_default().insert(INFO.to_owned(), serde_json::to_string(&info)?);
        match maps(client).replace(NAME, &PostParams::default(), &map).await {
            Ok(_) => return Ok((outcome, info)),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(format!("ConfigMap {NAMESPACE}/{NAME} is changed by others all the time").into())
}

/// Reads it without credentials from an API server that is not known yet, and checks that it is the cluster's by the digest of its
/// authority's public key; then once more over a connection that this authority vouches for.
pub(super) async fn discover(url: &str, digest: &str) -> Result<(ClusterInfo, String), Failure> {
    let mut config = Config::new(url.parse()?);
    config.accept_invalid_certs = true;
    let (_, authority) = read(&get(config).await?)?;
    let found = drystone_identity::tls::public_key_digest(&authority)?;
    if found != digest {
        return Err(
            format!("the cluster at {url} has an authority with the digest {found}, not {digest}").into()
        );
    }
    let client = with_authority(url, &authority)?;
    let (info, again) = read(&maps(&client).get(NAME).await?)?;
    if again != authority {
        return Err(format!("the cluster at {url} changed its authority meanwhile").into());
    }
    Ok((info, authority))
}

async fn get(config: Config) -> Result<ConfigMap, Failure> {
    Ok(maps(&Client::try_from(config)?).get(NAME).await?)
}

/// A configuration without credentials, for a server that an authority vouches for.
pub(super) fn config_with_authority(url: &str, authority: &str) -> Result<Config, Failure> {
    let mut config = Config::new(url.parse()?);
    let begin = authority.find("-----BEGIN CERTIFICATE-----").ok_or("the authority is no certificate")?;
    let text: String =
        authority[begin..].lines().skip(1).take_while(|line| !line.starts_with("-----")).collect();
    use base64::Engine as _;
    config.root_cert = Some(vec![base64::engine::general_purpose::STANDARD.decode(text.trim())?]);
    Ok(config)
}

fn with_authority(url: &str, authority: &str) -> Result<Client, Failure> {
    Ok(Client::try_from(config_with_authority(url, authority)?)?)
}

/// The control planes' keys, encrypted, as whoever has this token may read them.
pub(super) async fn keys(url: &str, authority: &str, token: &str) -> Result<Vec<u8>, Failure> {
    let mut config = config_with_authority(url, authority)?;
    config.auth_info.token = Some(token.to_owned().into());
    let secrets: Api<Secret> = Api::namespaced(Client::try_from(config)?, "kube-system");
    let data = secrets.get(KEYS_SECRET).await?.data.unwrap_or_default();
    data.get("keys")
        .map(|bytes| bytes.0.clone())
        .ok_or_else(|| format!("Secret {KEYS_SECRET} has no keys").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(pods: &str) -> ClusterInfo {
        ClusterInfo {
            pod_cidr: pods.parse().unwrap(),
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            additional_addresses: Vec::new(),
            blocks: BTreeMap::new(),
            members: BTreeMap::new(),
        }
    }

    #[test]
    fn nodes_have_blocks_of_their_own() {
        let mut cluster = info("192.168.0.0/22");
        let blocks: Vec<String> =
            ["a", "b", "a", "c", "d"].map(|node| cluster.allocate(node).unwrap().to_string()).into();
        assert_eq!(
            blocks,
            ["192.168.0.0/24", "192.168.1.0/24", "192.168.0.0/24", "192.168.2.0/24", "192.168.3.0/24"]
        );
        assert!(cluster.allocate("e").unwrap_err().contains("all blocks"));
        cluster.blocks.remove("b");
        assert_eq!(cluster.allocate("e").unwrap().to_string(), "192.168.1.0/24");
        assert_eq!(info("10.0.0.0/24").allocate("a").unwrap().to_string(), "10.0.0.0/26");
        assert!(info("fd00::/48").allocate("a").is_err());
    }
}
