//! What a `StorageServer` means: its host, its exports, its PersistentVolumes; and what makes it invalid. Pure.

use std::{collections::BTreeSet, net::IpAddr, str::FromStr as _};

use drystone_api::{
    Cluster, ClusterHost, ClusterMember, MemberRole, StorageServer, StorageServerSpec, StorageVolume,
};
use drystone_quantity::Quantity;
use drystone_storage::{
    device::DeviceHint,
    export::{self, Export},
    manifest::{self, NfsVolume},
    volume::{self, Volume},
};
use ipnet::IpNet;
use kube::ResourceExt as _;
use serde_json::json;

use crate::model::InvalidCluster;

/// Label of PersistentVolumes: which StorageServer they are of.
pub const STORAGE_SERVER_LABEL: &str = "drystone.dev/storage-server";

const ACCESS_MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The host of a storage server, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub host: String,
    /// Its address, by which nodes mount.
    pub address: IpAddr,
}

/// Where a storage server is to be. `None`: its host has not been composed, or is not ready.
pub fn place(spec: &StorageServerSpec, members: &[ClusterMember]) -> Option<Place> {
    if spec.host.pool.is_empty() {
        return Some(Place { host: spec.host.name.clone(), address: spec.host.address? });
    }
    let ours = |member: &&ClusterMember| member.pool == spec.host.pool && member.ready;
    let member = members.iter().find(ours)?;
    Some(Place { host: member.host.clone(), address: member.address.parse().ok()? })
}

/// Networks that may mount: those that are given, or else each node.
pub fn clients(spec: &StorageServerSpec, members: &[ClusterMember]) -> Vec<IpNet> {
    let mut clients = spec.clients.clone();
    if clients.is_empty() {
        let addresses = members.iter().filter_map(|member| member.address.parse::<IpAddr>().ok());
        clients.extend(addresses.map(IpNet::from));
    }
    clients.sort();
    clients.dedup();
    clients
}

/// What is exported: each directory of a PersistentVolume to each network.
///
/// # Errors
/// The first that cannot be exported.
pub fn exports(spec: &StorageServerSpec, clients: &[IpNet]) -> Result<Vec<Export>, InvalidCluster> {
    let mut exports = Vec::new();
    let mut seen = BTreeSet::new();
    for (index, volume) in spec.persistent_volumes.iter().enumerate() {
        if !seen.insert(&volume.directory) {
            continue;
        }
        for client in clients {
            let export = Export::parse(&volume.directory, &client.to_string()).map_err(|problem| {
                let path = format!("spec.persistentVolumes[{index}].directory");
                InvalidCluster::new(path, problem.to_string())
            })?;
            exports.push(export);
        }
    }
    Ok(exports)
}

/// A drive, as the library has it.
///
/// # Errors
/// What is wrong with its device.
pub fn volume(volume: &StorageVolume) -> Result<Volume, String> {
    let mut device = if volume.device.is_empty() {
        DeviceHint::default()
    } else {
        DeviceHint::from_str(&volume.device).map_err(|error| error.to_string())?
    };
    if !volume.serial.is_empty() {
        device.serial = Some(volume.serial.clone());
    }
    if device == DeviceHint::default() {
        return Err("give device (/dev/vdb) or serial".to_owned());
    }
    Ok(Volume { device, mount_to: volume.mount_to.clone() })
}

/// PersistentVolumes on a server with this address.
///
/// # Errors
/// A manifest that the library does not take, which validation has excluded.
pub fn persistent_volumes(server: &StorageServer, address: IpAddr) -> Result<Vec<NfsVolume>, String> {
    let name = server.name_any();
    let mut volumes = Vec::new();
    for volume in &server.spec.persistent_volumes {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": volume.name, "labels": volume.labels},
            "spec": {
                "capacity": {"storage": volume.capacity},
                "accessModes": volume.access_modes,
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": volume.storage_class,
                "nfs": {"server": address.to_string(), "path": volume.directory},
            },
        });
        if !volume.mount_options.is_empty() {
            object["spec"]["mountOptions"] = json!(volume.mount_options);
        }
        let parsed = manifest::parse(&object.to_string()).map_err(|problem| problem.to_string())?;
        let labelled = parsed
            .into_iter()
            .map(|parsed| parsed.on_server(address).with_label(STORAGE_SERVER_LABEL, &name));
        volumes.extend(labelled);
    }
    Ok(volumes)
}

/// A cluster whose only host is the storage server's, for reaching it as hosts are reached; a composed host is reached as it is.
pub fn for_reaching(cluster: &Cluster, server: &StorageServer) -> Cluster {
    let mut seen = cluster.clone();
    let host = &server.spec.host;
    let (true, Some(address)) = (host.pool.is_empty(), host.address) else { return seen };
    if !seen.spec.distribution.is_installed() {
        // Reaching asks for no more than that hosts are listed.
        seen.spec.distribution = drystone_api::Distribution::Script;
    }
    seen.spec.hosts = vec![ClusterHost {
        name: host.name.clone(),
        address,
        role: MemberRole::Worker,
        pool: String::new(),
        port: host.access.as_ref().map(|access| access.port),
        host_keys: host.host_keys.clone(),
    }];
    if host.access.is_some() {
        seen.spec.access.clone_from(&host.access);
    }
    if !host.site.is_empty() {
        seen.spec.site = Some(host.site.clone());
    }
    seen
}

/// Checks a storage server against its cluster.
///
/// # Errors
/// The first mistake, with its path.
pub fn validate(spec: &StorageServerSpec, cluster: &Cluster) -> Result<(), InvalidCluster> {
    validate_host(spec, cluster)?;
    let mut mounts = Vec::new();
    for (index, drive) in spec.volumes.iter().enumerate() {
        let path = |field: &str| format!("spec.volumes[{index}].{field}");
        volume(drive).map_err(|why| InvalidCluster::new(path("device"), why))?;
        volume::check_mount_place(&drive.mount_to)
            .map_err(|why| InvalidCluster::new(path("mountTo"), why))?;
        if mounts.contains(&drive.mount_to) {
            return Err(InvalidCluster::new(path("mountTo"), "another volume is mounted there"));
        }
        mounts.push(drive.mount_to.clone());
    }
    let mut names = BTreeSet::new();
    for (index, wanted) in spec.persistent_volumes.iter().enumerate() {
        let path = |field: &str| format!("spec.persistentVolumes[{index}].{field}");
        if !names.insert(&wanted.name) {
            return Err(InvalidCluster::new(path("name"), format!("{} is there twice", wanted.name)));
        }
        export::check_path(&wanted.directory).map_err(|why| InvalidCluster::new(path("directory"), why))?;
        if export::mount_of(&wanted.directory, &mounts).is_none() {
            let why = format!("{} does not lie on a volume ({})", wanted.directory, mounts.join(", "));
            return Err(InvalidCluster::new(path("directory"), why));
        }
        let capacity = wanted.capacity.parse::<Quantity>().ok().filter(|size| size.value() > 0);
        if capacity.is_none() {
            let why = format!("{:?} is no size; write it as 10Gi", wanted.capacity);
            return Err(InvalidCluster::new(path("capacity"), why));
        }
        let unknown = wanted.access_modes.iter().find(|mode| !ACCESS_MODES.contains(&mode.as_str()));
        if let Some(mode) = unknown {
            let why = format!("{mode:?} is none of {}", ACCESS_MODES.join(", "));
            return Err(InvalidCluster::new(path("accessModes"), why));
        }
    }
    // A server for everybody would be a leak.
    for (index, client) in spec.clients.iter().enumerate() {
        export::parse_network(&client.to_string())
            .map_err(|why| InvalidCluster::new(format!("spec.clients[{index}]"), why))?;
    }
    Ok(())
}

fn validate_host(spec: &StorageServerSpec, cluster: &Cluster) -> Result<(), InvalidCluster> {
    let host = &spec.host;
    if host.pool.is_empty() {
        if host.name.is_empty() || host.address.is_none() {
            let why = "give name and address of a host that is there, or the pool that it is composed in";
            return Err(InvalidCluster::new("spec.host", why));
        }
        if host.access.is_none() && cluster.spec.access.is_none() {
            let why = "say how the host is reached over SSH, for the cluster does not say it either";
            return Err(InvalidCluster::new("spec.host.access", why));
        }
        return Ok(());
    }
    if !host.name.is_empty() || host.address.is_some() {
        return Err(InvalidCluster::new(
            "spec.host",
            "a host of a pool has no name and no address of its own here",
        ));
    }
    if !cluster.spec.distribution.is_installed() {
        let why = "hosts of this cluster's distribution are not reached over SSH; name a host that is there";
        return Err(InvalidCluster::new("spec.host.pool", why));
    }
    let pool = cluster.spec.workers.iter().find(|pool| pool.name == host.pool);
    let pool = pool.ok_or_else(|| {
        InvalidCluster::new("spec.host.pool", format!("the cluster has no pool {:?} of workers", host.pool))
    })?;
    if pool.replicas != 1 || pool.max_replicas.is_some_and(|most| most > 1) {
        let why =
            format!("pool {:?} must have one host, and may not grow: the drives are in one host", host.pool);
        return Err(InvalidCluster::new("spec.host.pool", why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use drystone_api::StoragePersistentVolume;

    use super::*;

    fn cluster() -> Cluster {
        serde_json::from_value(json!({
            "apiVersion": "drystone.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": "mlops", "namespace": "research"},
            "spec": {
                "controlPlane": {"replicas": 1, "host": {"cores": 4, "memory": "16Gi"}},
                "workers": [{"name": "storage", "replicas": 1, "host": {"cores": 1, "memory": "1Gi"}},
                            {"name": "train", "replicas": 2, "host": {"cores": 1, "memory": "1Gi"}}],
                "network": {"podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16"},
                "distribution": "Kubeadm",
            },
        }))
        .unwrap()
    }

    fn spec() -> StorageServerSpec {
        serde_json::from_value(json!({
            "cluster": "mlops",
            "host": {"pool": "storage"},
            "volumes": [{"device": "/dev/vdb", "mountTo": "/volume"}],
            "persistentVolumes": [{"name": "pv1", "directory": "/volume/nfs/pv1", "capacity": "1Gi"}],
        }))
        .unwrap()
    }

    fn member(host: &str, pool: &str, address: &str, ready: bool) -> ClusterMember {
        ClusterMember {
            host: host.into(),
            pool: pool.into(),
            address: address.into(),
            ready,
            ..ClusterMember::default()
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(validate(&spec(), &cluster()), Ok(()));
        let wrong = |change: &dyn Fn(&mut StorageServerSpec)| {
            let mut spec = spec();
            change(&mut spec);
            validate(&spec, &cluster()).unwrap_err().path
        };
        assert_eq!(wrong(&|spec| spec.host.pool = "none".into()), "spec.host.pool");
        assert_eq!(wrong(&|spec| spec.host.pool = "train".into()), "spec.host.pool");
        assert_eq!(wrong(&|spec| spec.host.pool.clear()), "spec.host");
        assert_eq!(wrong(&|spec| spec.host.name = "h".into()), "spec.host");
        assert_eq!(wrong(&|spec| spec.volumes[0].device.clear()), "spec.volumes[0].device");
        assert_eq!(wrong(&|spec| spec.volumes[0].mount_to = "/etc".into()), "spec.volumes[0].mountTo");
        let volume = |change: fn(&mut StoragePersistentVolume)| {
            wrong(&move |spec| change(&mut spec.persistent_volumes[0]))
        };
        assert_eq!(
            volume(|volume| volume.directory = "/elsewhere".into()),
            "spec.persistentVolumes[0].directory"
        );
        assert_eq!(
            volume(|volume| volume.directory = "/volume/../etc".into()),
            "spec.persistentVolumes[0].directory"
        );
        assert_eq!(volume(|volume| volume.capacity = "much".into()), "spec.persistentVolumes[0].capacity");
        assert_eq!(
            volume(|volume| volume.access_modes = vec!["Any".into()]),
            "spec.persistentVolumes[0].accessModes"
        );
        assert_eq!(
            wrong(&|spec| spec.persistent_volumes.push(spec.persistent_volumes[0].clone())),
            "spec.persistentVolumes[1].name"
        );
        assert_eq!(wrong(&|spec| spec.clients = vec!["0.0.0.0/0".parse().unwrap()]), "spec.clients[0]");
        let mut embedded = cluster();
        embedded.spec.distribution = drystone_api::Distribution::Embedded;
        assert_eq!(validate(&spec(), &embedded).unwrap_err().path, "spec.host.pool");
    }

    #[test]
    fn the_pools_host_is_the_place_and_nodes_may_mount() {
        let members = [
            member("h1", "train", "10.0.0.1", true),
            member("h2", "storage", "10.0.0.2", true),
            member("h3", "train", "", false),
        ];
        let found = place(&spec(), &members).unwrap();
        assert_eq!((found.host.as_str(), found.address.to_string().as_str()), ("h2", "10.0.0.2"));
        assert_eq!(place(&spec(), &[member("h2", "storage", "10.0.0.2", false)]), None);
        let may = clients(&spec(), &members);
        assert_eq!(may.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1/32", "10.0.0.2/32"]);
        assert_eq!(exports(&spec(), &may).unwrap().len(), 2);
    }

    #[test]
    fn volumes_are_registered_under_the_servers_address() {
        let mut server = StorageServer::new("data", spec());
        server.spec.persistent_volumes[0].mount_options = vec!["soft".into()];
        let volumes = persistent_volumes(&server, [10, 0, 0, 2].into()).unwrap();
        let object = volumes[0].object();
        assert_eq!(object["spec"]["nfs"], json!({"server": "10.0.0.2", "path": "/volume/nfs/pv1"}));
        assert_eq!(object["spec"]["persistentVolumeReclaimPolicy"], "Retain");
        assert_eq!(object["metadata"]["labels"][STORAGE_SERVER_LABEL], "data");
        assert_eq!(object["spec"]["mountOptions"], json!(["soft"]));
    }

    #[test]
    fn a_host_that_is_there_is_reached_as_listed_ones_are() {
        let mut server = StorageServer::new("data", spec());
        assert_eq!(for_reaching(&cluster(), &server).spec, cluster().spec);
        server.spec.host =
            serde_json::from_value(json!({"name": "nas", "address": "10.9.9.9", "hostKeys": ["SHA256:x"],
                "access": {"credentialsName": "nas", "port": 2022}}))
            .unwrap();
        let seen = for_reaching(&cluster(), &server).spec;
        assert_eq!((seen.hosts[0].name.as_str(), seen.hosts[0].port), ("nas", Some(2022)));
        assert_eq!(seen.access.unwrap().credentials_name, "nas");
    }
}
