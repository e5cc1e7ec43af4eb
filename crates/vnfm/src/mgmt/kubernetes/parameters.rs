//! `additionalParams.k8s_cluster_installation_param`: what the client wants of the cluster. Pure.
//!
//! Nothing secret is kept here: the request that is planned from has no passwords, and [`super::credentials`] reads them where they are
//! needed, out of the Secret that has the request in full.

use std::net::IpAddr;

use drystone_storage::export::{self, Export};
use drystone_storage::volume::check_mount_place;
use ipnet::IpNet;
use serde_json::Value;

use super::fields::Fields;
use crate::model::{Problem, Situation, Topology};

/// The member of `additionalParams`.
pub const PARAMETER: &str = "k8s_cluster_installation_param";

/// Where its members are, for messages.
const PATH: &str = "additionalParams.k8s_cluster_installation_param";

/// What Kubernetes the nodes get, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installer {
    /// A script of the package, with the arguments that Tacker's sample script takes.
    Script(String),
    /// Drystone's own script; Kubernetes is Drystone's, of which the nodes need nothing but the program, which is brought to them.
    Embedded,
    /// Drystone's own script; Kubernetes is kubeadm's, which the nodes' image has.
    Kubeadm,
}

/// A kind of node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGroup {
    /// The VDU whose instances the nodes are.
    pub vdu: String,
    /// Connection point by which they are logged in to.
    pub ssh_cp: String,
    /// Connection point by which they know each other.
    pub nic_cp: String,
    /// User to log in as.
    pub username: String,
}

/// The storage server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageServer {
    /// Its VDU and connection points.
    pub node: NodeGroup,
    /// Its volumes: name of the resource in the template, and where it is mounted; outer mounts before those inside of them.
    pub volumes: Vec<(String, String)>,
    /// What it exports.
    pub exports: Vec<Export>,
}

impl StorageServer {
    /// Where its volumes are mounted.
    pub fn mounts(&self) -> Vec<String> {
        self.volumes.iter().map(|(_, mount)| mount.clone()).collect()
    }
}

/// A manifest of PersistentVolumes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeManifest {
    /// Its path in the package.
    pub path: String,
    /// Connection point of the NFS server, whose address the volumes get.
    pub server_cp: String,
}

/// What the client wants of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// Who installs Kubernetes.
    pub installer: Installer,
    /// Name under which the cluster is registered as VIM; made of the instance's id if absent.
    pub vim_name: Option<String>,
    /// Script of the package that installs Helm on control planes.
    pub helm_script: Option<String>,
    /// Control planes.
    pub masters: NodeGroup,
    /// Workers.
    pub workers: NodeGroup,
    /// Addresses of pods, without host bits.
    pub pod_cidr: IpNet,
    /// Addresses of Services, without host bits.
    pub service_cidr: IpNet,
    /// Connection point whose address the cluster's API has.
    pub cluster_cp: String,
    /// Connection point whose floating address leads to it from outside.
    pub cluster_fip: Option<String>,
    /// Whether nodes reach the world through proxies; which ones may be secret.
    pub is_proxied: bool,
    /// The network of the nodes, which is not reached through the proxies.
    pub node_cidr: Option<IpNet>,
    /// The storage server.
    pub storage: Option<StorageServer>,
    /// Manifests of PersistentVolumes.
    pub manifests: Vec<VolumeManifest>,
}

impl Parameters {
    /// Reads those of an operation: of its request, or of the instantiation.
    ///
    /// # Errors
    /// A [`Problem`] that names the attribute.
    pub fn of(situation: &Situation) -> Result<Self, Problem> {
        let value = situation.parameter(PARAMETER).ok_or_else(|| Problem::bad(PATH, "is missing"))?;
        Self::parse(value, Some(&situation.topology))
    }

    /// Reads them. Without a topology, VDUs stay empty, and what needs them is not checked.
    ///
    /// # Errors
    /// A [`Problem`] that names the attribute.
    pub fn parse(value: &Value, topology: Option<&Topology>) -> Result<Self, Problem> {
        let fields = Fields::at(PATH, value)?;
        let master = fields.required_object("master_node")?;
        let worker = fields.required_object("worker_node")?;
        if let Some(first) = fields.objects("private_registry_connection_info")?.first() {
            return Err(first
                .problem("server", "private registries are not supported; let the nodes' image know them"));
        }
        let proxy = fields.object("proxy")?;
        let node_cidr = match &proxy {
            Some(proxy) => network(proxy, "k8s_node_cidr")?,
            None => None,
        };
        if let Some(proxy) = &proxy {
            for name in ["http_proxy", "https_proxy", "no_proxy"] {
                check_proxy(proxy, name)?;
            }
        }
        let storage =
            fields.object("storage_server")?.map(|storage| storage_server(&storage, topology)).transpose()?;
        let parameters = Self {
            installer: installer(&fields)?,
            vim_name: fields.text("vim_name")?.map(str::to_owned),
            helm_script: package_path(&fields, "helm_installation_script_path")?,
            pod_cidr: network(&master, "pod_cidr")?
                .unwrap_or_else(|| IpNet::from_octets([192, 168, 0, 0], 16)),
            service_cidr: network(&master, "cluster_cidr")?
                .unwrap_or_else(|| IpNet::from_octets([10, 96, 0, 0], 12)),
            cluster_cp: master.required_text("cluster_cp_name")?.to_owned(),
            cluster_fip: master.text("cluster_fip_name")?.map(str::to_owned),
            masters: node_group(&master, topology)?,
            workers: node_group(&worker, topology)?,
            is_proxied: proxy.is_some(),
            node_cidr,
            manifests: manifests(&fields, storage.as_ref())?,
            storage,
        };
        parameters.check_networks(&master)?;
        if topology.is_some() {
            parameters.check_groups(&fields)?;
        }
        Ok(parameters)
    }

    /// Pods, Services and nodes need networks of their own.
    fn check_networks(&self, master: &Fields<'_>) -> Result<(), Problem> {
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        let clash = |name: &str, own: &IpNet, what: &str, other: &IpNet| {
            let why =
                format!("{own} overlaps {what} {other}; pods, Services and nodes need networks of their own");
            Err(master.problem(name, why))
        };
        if overlap(&self.pod_cidr, &self.service_cidr) {
            return clash("cluster_cidr", &self.service_cidr, "pod_cidr", &self.pod_cidr);
        }
        if let Some(nodes) = &self.node_cidr {
            if overlap(&self.pod_cidr, nodes) {
                return clash("pod_cidr", &self.pod_cidr, "proxy.k8s_node_cidr", nodes);
            }
            if overlap(&self.service_cidr, nodes) {
                return clash("cluster_cidr", &self.service_cidr, "proxy.k8s_node_cidr", nodes);
            }
        }
        Ok(())
    }

    /// Each VDU has one role.
    fn check_groups(&self, fields: &Fields<'_>) -> Result<(), Problem> {
        if self.masters.vdu == self.workers.vdu {
            let why = format!("control planes and workers are both instances of VDU {}", self.workers.vdu);
            return Err(fields.problem("worker_node", why));
        }
        let storage = self.storage.iter().map(|storage| &storage.node.vdu);
        for vdu in storage {
            if *vdu == self.masters.vdu || *vdu == self.workers.vdu {
                return Err(
                    fields.problem("storage_server", format!("VDU {vdu} is a node of the cluster already"))
                );
            }
        }
        Ok(())
    }

    /// Says why an address cannot be a node's, if so.
    pub fn problem_with_node(&self, address: IpAddr) -> Option<String> {
        let networks = [("pod_cidr", &self.pod_cidr), ("cluster_cidr", &self.service_cidr)];
        let (name, network) = networks.into_iter().find(|(_, network)| network.contains(&address))?;
        Some(format!("the node's address {address} lies in {name} ({network}); choose another {name}"))
    }
}

trait FromOctets {
    fn from_octets(octets: [u8; 4], prefix: u8) -> Self;
}

impl FromOctets for IpNet {
    fn from_octets(octets: [u8; 4], prefix: u8) -> Self {
        ipnet::Ipv4Net::new_assert(octets.into(), prefix).into()
    }
}

/// A network, of which host bits are taken off: the seed's own example has some.
fn network(fields: &Fields<'_>, name: &str) -> Result<Option<IpNet>, Problem> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    export::parse_network(text).map(Some).map_err(|why| fields.problem(name, why))
}

fn check_proxy(fields: &Fields<'_>, name: &str) -> Result<(), Problem> {
    match fields.text(name)? {
        // The value may be a secret: it is not shown.
        Some(text) if text.contains(['\'', '"', '\\', '`', '$', ' ']) => {
            Err(fields.problem(name, "must not contain spaces, quotes, backslashes or `$`"))
        }
        _ => Ok(()),
    }
}

/// A path in the package.
fn package_path(fields: &Fields<'_>, name: &str) -> Result<Option<String>, Problem> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let odd = |part: &str| part.is_empty() || part == ".." || part.contains('\\');
    let text = text.strip_prefix("./").unwrap_or(text);
    if text.split('/').any(odd) {
        return Err(fields.problem(
            name,
            format!("`{text}` must be a path in the package, without `..` and not absolute"),
        ));
    }
    Ok(Some(text.to_owned()))
}

fn installer(fields: &Fields<'_>) -> Result<Installer, Problem> {
    let script = package_path(fields, "script_path")?;
    match (fields.text("distribution")?, script) {
        (None | Some("Script"), Some(script)) => Ok(Installer::Script(script)),
        (Some("Embedded"), None) => Ok(Installer::Embedded),
        (Some("Kubeadm"), None) => Ok(Installer::Kubeadm),
        (None | Some("Script"), None) => {
            Err(fields.problem("script_path", "is missing; or write `distribution`: Embedded or Kubeadm"))
        }
        (Some("Embedded" | "Kubeadm"), Some(_)) => {
            Err(fields.problem("script_path", "is of no use with this `distribution`; leave one of them out"))
        }
        (Some(_), _) => Err(fields.problem("distribution", "must be Script, Embedded or Kubeadm")),
    }
}

/// The VDU of a kind of node: named (`vdu_id`), scaled by an aspect, or what a connection point is bound to.
fn vdu_of(fields: &Fields<'_>, topology: Option<&Topology>) -> Result<String, Problem> {
    let Some(topology) = topology else { return Ok(String::new()) };
    let known = |name: &str, vdu: &str| {
        if topology.vdus.contains_key(vdu) {
            return Ok(vdu.to_owned());
        }
        let all: Vec<&str> = topology.vdus.keys().map(String::as_str).collect();
        Err(fields.problem(name, format!("the flavour has no VDU {vdu}; it has {}", all.join(", "))))
    };
    if let Some(vdu) = fields.text("vdu_id")? {
        return known("vdu_id", vdu);
    }
    let ssh_cp = fields.required_text("ssh_cp_name")?;
    let bound = topology.vdu_of_connection_point(ssh_cp);
    if let Some(aspect) = fields.text("aspect_id")? {
        // The name of a group in the template, which packages use as the name of the scaling aspect too.
        match topology.aspects.get(aspect).map(Vec::as_slice) {
            Some([vdu]) => return known("aspect_id", vdu),
            Some(several) if bound.is_some_and(|vdu| several.iter().any(|other| other == vdu)) => {}
            Some(several) => {
                let why = format!("aspect {aspect} scales {}; name the VDU as `vdu_id`", several.join(", "));
                return Err(fields.problem("aspect_id", why));
            }
            None if bound.is_some() => {}
            None => {
                let why =
                    format!("the flavour has no scaling aspect {aspect}, and {ssh_cp} is bound to no VDU");
                return Err(fields.problem("aspect_id", why));
            }
        }
    }
    let vdu = bound.ok_or_else(|| {
        let all: Vec<&str> = topology.connection_points.keys().map(String::as_str).collect();
        let why = format!(
            "the flavour has no connection point {ssh_cp} that is bound to a VDU; it has {}",
            all.join(", ")
        );
        fields.problem("ssh_cp_name", why)
    })?;
    known("ssh_cp_name", vdu)
}

fn node_group(fields: &Fields<'_>, topology: Option<&Topology>) -> Result<NodeGroup, Problem> {
    let ssh_cp = fields.required_text("ssh_cp_name")?.to_owned();
    let username = fields.required_text("username")?;
    if username.starts_with('-') || !username.chars().all(|c| c.is_ascii_alphanumeric() || "._-@".contains(c))
    {
        return Err(fields.problem("username", "must be letters, digits, `.`, `_`, `-`, `@`"));
    }
    Ok(NodeGroup {
        vdu: vdu_of(fields, topology)?,
        nic_cp: fields.text("nic_cp_name")?.map_or_else(|| ssh_cp.clone(), str::to_owned),
        ssh_cp,
        username: username.to_owned(),
    })
}

fn storage_server(fields: &Fields<'_>, topology: Option<&Topology>) -> Result<StorageServer, Problem> {
    let node = node_group(fields, topology)?;
    let storages = topology.and_then(|topology| topology.vdus.get(&node.vdu)).cloned().unwrap_or_default();
    let mut volumes: Vec<(String, String)> = Vec::new();
    for volume in fields.required_objects("cinder_volume_setup_params")? {
        let resource = volume.required_text("volume_resource_id")?;
        if !storages.is_empty() && !storages.iter().any(|storage| storage == resource) {
            let why = format!("VDU {} has no storage {resource}; it has {}", node.vdu, storages.join(", "));
            return Err(volume.problem("volume_resource_id", why));
        }
        let mount = volume.required_text("mount_to")?;
        check_mount_place(mount).map_err(|why| volume.problem("mount_to", why))?;
        if volumes.iter().any(|(other, _)| other == resource) {
            return Err(volume.problem("volume_resource_id", format!("{resource} is mounted twice")));
        }
        if volumes.iter().any(|(_, other)| other == mount) {
            return Err(volume.problem("mount_to", format!("two volumes are mounted at {mount}")));
        }
        volumes.push((resource.to_owned(), mount.to_owned()));
    }
    volumes.sort_by(|a, b| a.1.cmp(&b.1));
    let mounts: Vec<String> = volumes.iter().map(|(_, mount)| mount.clone()).collect();
    let mut exports = Vec::new();
    for (index, export) in fields.required_objects("nfs_server_setup_params")?.iter().enumerate() {
        let (directory, clients) = (export.required_text("export_dir")?, export.required_text("export_to")?);
        let parsed = Export::parse(directory, clients).and_then(|parsed| {
            exports.push(parsed);
            export::validate(&mounts, &exports)
        });
        parsed.map_err(|problem| export.problem(problem.field, problem.why))?;
        debug_assert_eq!(exports.len(), index + 1);
    }
    Ok(StorageServer { node, volumes, exports })
}

fn manifests(fields: &Fields<'_>, storage: Option<&StorageServer>) -> Result<Vec<VolumeManifest>, Problem> {
    let mut all: Vec<VolumeManifest> = Vec::new();
    for entry in fields.objects("pv_registration_params")? {
        let path = package_path(&entry, "pv_manifest_file_path")?
            .ok_or_else(|| entry.problem("pv_manifest_file_path", "is missing"))?;
        let server_cp = entry.required_text("nfs_server_cp")?.to_owned();
        let Some(storage) = storage else {
            return Err(entry.problem("nfs_server_cp", "there is no storage_server"));
        };
        if server_cp != storage.node.ssh_cp && server_cp != storage.node.nic_cp {
            let (ssh, nic) = (&storage.node.ssh_cp, &storage.node.nic_cp);
            let why = format!("{server_cp} is no connection point of the storage server ({ssh}, {nic})");
            return Err(entry.problem("nfs_server_cp", why));
        }
        if all.iter().any(|other| other.path == path) {
            return Err(entry.problem("pv_manifest_file_path", format!("{path} is registered twice")));
        }
        all.push(VolumeManifest { path, server_cp });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::mgmt::kubernetes::samples::{seed_parameters, topology};

    fn parsed(change: impl FnOnce(&mut Value)) -> Result<Parameters, String> {
        let mut value = seed_parameters();
        change(&mut value);
        Parameters::parse(&value, Some(&topology())).map_err(|problem| problem.to_string())
    }

    #[test]
    fn the_seeds_sample_is_read() {
        let parameters = parsed(|_| {}).unwrap();
        assert_eq!(parameters.installer, Installer::Script("Scripts/install_k8s_cluster.sh".into()));
        assert_eq!(parameters.pod_cidr.to_string(), "192.168.0.0/16", "host bits are taken off");
        assert_eq!(parameters.service_cidr.to_string(), "10.199.187.0/24");
        assert_eq!(parameters.masters.vdu, "masterNode");
        assert_eq!(parameters.workers.nic_cp, "workerNode_CP2");
        let storage = parameters.storage.unwrap();
        assert_eq!(
            (storage.node.vdu.as_str(), storage.node.nic_cp.as_str()),
            ("storage_server", "storage_server_CP")
        );
        assert_eq!(storage.volumes, [("storage_server_volume".to_owned(), "/volume".to_owned())]);
        assert_eq!(storage.exports.len(), 3);
        assert_eq!(parameters.manifests[2].path, "Files/kubernetes/nfs-pv3.yaml");
        assert_eq!(parameters.node_cidr.unwrap().to_string(), "10.10.0.0/24");
    }

    #[test]
    fn version_two_names_vdus() {
        let parameters = parsed(|value| {
            value["master_node"] = json!({
                "vdu_id": "masterNode", "ssh_cp_name": "masterNode_CP1", "username": "ubuntu", "cluster_cp_name": "vip_CP"
            });
            value["worker_node"]["aspect_id"] = Value::Null;
            for gone in ["proxy", "storage_server", "pv_registration_params", "vim_name"] {
                value.as_object_mut().unwrap().remove(gone);
            }
        });
        let parameters = parameters.unwrap();
        assert_eq!(
            (parameters.masters.vdu.as_str(), parameters.workers.vdu.as_str()),
            ("masterNode", "workerNode")
        );
        assert_eq!(parameters.masters.nic_cp, "masterNode_CP1");
        assert_eq!(
            (parameters.pod_cidr.to_string(), parameters.service_cidr.to_string()),
            ("192.168.0.0/16".into(), "10.96.0.0/12".into())
        );
        assert!(parameters.storage.is_none() && !parameters.is_proxied);
    }

    #[test]
    fn distributions_stand_in_for_scripts() {
        let by = |distribution: &str| {
            parsed(|value| {
                value.as_object_mut().unwrap().remove("script_path");
                value["distribution"] = json!(distribution);
            })
        };
        assert_eq!(by("Embedded").unwrap().installer, Installer::Embedded);
        assert_eq!(by("Kubeadm").unwrap().installer, Installer::Kubeadm);
        assert!(by("Magic").unwrap_err().contains("distribution: must be"));
        assert!(
            parsed(|value| value["distribution"] = json!("Embedded")).unwrap_err().contains("script_path")
        );
    }

    type Change = fn(&mut Value);

    fn are_named(cases: &[(Change, &str)]) {
        for (change, expected) in cases {
            let error = parsed(change).expect_err(expected);
            assert!(error.starts_with("additionalParams.k8s_cluster_installation_param"), "{error}");
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn mistakes_of_nodes_and_networks_are_named_by_their_path() {
        are_named(&[
            (|v| v["script_path"] = Value::Null, "script_path: is missing"),
            (
                |v| v["script_path"] = json!("../../etc/passwd"),
                "script_path: `../../etc/passwd` must be a path in the package",
            ),
            (|v| v["script_path"] = json!("/bin/sh"), "script_path"),
            (|v| v["master_node"] = json!([]), "master_node: must be an object"),
            (|v| v["master_node"]["username"] = json!(7), "master_node.username: must be a string"),
            (|v| v["master_node"]["username"] = json!("-oProxyCommand=x"), "master_node.username"),
            (|v| v["master_node"]["ssh_cp_name"] = Value::Null, "master_node.ssh_cp_name: is missing"),
            (
                |v| v["master_node"]["cluster_cp_name"] = Value::Null,
                "master_node.cluster_cp_name: is missing",
            ),
            (
                |v| v["master_node"]["pod_cidr"] = json!("192.168.0.0/99"),
                "master_node.pod_cidr: `192.168.0.0/99` is no network",
            ),
            (
                |v| v["master_node"]["cluster_cidr"] = json!("192.168.7.0/24"),
                "master_node.cluster_cidr: 192.168.7.0/24 overlaps pod_cidr",
            ),
            (
                |v| v["proxy"]["k8s_node_cidr"] = json!("192.168.7.0/24"),
                "master_node.pod_cidr: 192.168.0.0/16 overlaps proxy.k8s_node_cidr",
            ),
            (|v| v["proxy"]["http_proxy"] = json!("http://a'b"), "proxy.http_proxy: must not contain"),
            (
                |v| v["worker_node"]["vdu_id"] = json!("nobody"),
                "worker_node.vdu_id: the flavour has no VDU nobody",
            ),
            (|v| v["worker_node"]["vdu_id"] = json!("masterNode"), "worker_node: control planes and workers"),
        ]);
    }

    #[test]
    fn mistakes_of_storage_are_named_by_their_path() {
        are_named(&[
            (
                |v| v["storage_server"]["cinder_volume_setup_params"] = json!([]),
                "storage_server.cinder_volume_setup_params: must have",
            ),
            (
                |v| v["storage_server"]["cinder_volume_setup_params"][0]["mount_to"] = json!("/etc"),
                "cinder_volume_setup_params[0].mount_to",
            ),
            (
                |v| v["storage_server"]["cinder_volume_setup_params"][0]["volume_resource_id"] = json!("x"),
                "cinder_volume_setup_params[0].volume_resource_id: VDU storage_server has no storage x",
            ),
            (
                |v| v["storage_server"]["nfs_server_setup_params"][1]["export_dir"] = json!("/srv"),
                "nfs_server_setup_params[1].export_dir: /srv does not lie on a volume",
            ),
            (
                |v| {
                    v["storage_server"]["nfs_server_setup_params"][2]["export_dir"] =
                        json!("/volume/nfs/pv1");
                },
                "nfs_server_setup_params[2].export_dir: /volume/nfs/pv1 is exported to 10.10.0.0/24 twice",
            ),
            (
                |v| v["storage_server"]["nfs_server_setup_params"][0]["export_to"] = json!("0.0.0.0/0"),
                "[0].export_to",
            ),
            (
                |v| v["pv_registration_params"][1]["nfs_server_cp"] = json!("x"),
                "pv_registration_params[1].nfs_server_cp",
            ),
            (
                |v| v["pv_registration_params"][1]["pv_manifest_file_path"] = Value::Null,
                "[1].pv_manifest_file_path: is missing",
            ),
            (
                |v| v["storage_server"] = Value::Null,
                "pv_registration_params[0].nfs_server_cp: there is no storage_server",
            ),
            (
                |v| v["private_registry_connection_info"] = json!([{"server": "x"}]),
                "private_registry_connection_info[0].server",
            ),
        ]);
    }

    #[test]
    fn nodes_lie_outside_of_the_clusters_networks() {
        let parameters = parsed(|_| {}).unwrap();
        assert_eq!(parameters.problem_with_node([10, 10, 0, 7].into()), None);
        assert!(parameters.problem_with_node([192, 168, 1, 1].into()).unwrap().contains("pod_cidr"));
        assert!(parameters.problem_with_node([10, 199, 187, 1].into()).unwrap().contains("cluster_cidr"));
    }

    proptest! {
        #[test]
        fn damaged_requests_are_read_or_refused(text in drystone_hostile::damaged_text([seed_parameters().to_string()])) {
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && let Ok(parameters) = Parameters::parse(&value, Some(&topology()))
                && let Some(storage) = &parameters.storage
            {
                prop_assert_eq!(export::validate(&storage.mounts(), &storage.exports), Ok(()));
            }
        }
    }
}
