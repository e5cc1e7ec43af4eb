//! Names in a request that are to be in the package.

use serde_json::Value;

use crate::{archive, package::Package, vnfd::Flavour};

/// Names of a request that the package, or the flavour, does not have: connection points, virtual links, the files and resources that
/// `k8s_cluster_installation_param` names. Each with its place in the request.
pub fn unknown_references(package: &Package, flavour: &Flavour, request: &Value) -> Vec<String> {
    let mut found = Found { package, flavour, unknown: Vec::new() };
    for (index, link) in list(request, "extVirtualLinks").iter().enumerate() {
        for (number, point) in list(link, "extCps").iter().enumerate() {
            found.point(point, "cpdId", &format!("extVirtualLinks[{index}].extCps[{number}]"));
        }
    }
    for (index, link) in list(request, "extManagedVirtualLinks").iter().enumerate() {
        if let Some(name) = link.get("vnfVirtualLinkDescId").and_then(Value::as_str)
            && !flavour.virtual_links.contains_key(name)
        {
            let place = format!("extManagedVirtualLinks[{index}].vnfVirtualLinkDescId");
            found.add(&place, name, "virtual link", flavour.virtual_links.keys());
        }
    }
    if let Some(cluster) = request.pointer("/additionalParams/k8s_cluster_installation_param") {
        found.cluster(cluster);
    }
    found.unknown
}

fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value.get(member).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

struct Found<'a> {
    package: &'a Package,
    flavour: &'a Flavour,
    unknown: Vec<String>,
}

impl<'a> Found<'a> {
    fn add(&mut self, place: &str, name: &str, what: &str, known: impl Iterator<Item = &'a String>) {
        let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        self.unknown.push(format!(
            "{place}: the flavour `{}` has no {what} `{name}`; it has {known}",
            self.flavour.id
        ));
    }

    /// A connection point of the VNFD.
    fn point(&mut self, value: &Value, member: &str, place: &str) {
        let Some(name) = value.get(member).and_then(Value::as_str) else { return };
        let flavour = self.flavour;
        if !flavour.connection_points.contains_key(name) && !flavour.external_points.contains(name) {
            let known = flavour.connection_points.keys().chain(&flavour.external_points);
            self.add(&format!("{place}.{member}"), name, "connection point", known);
        }
    }

    fn file(&mut self, value: &Value, member: &str, place: &str) {
        let Some(path) = value.get(member).and_then(Value::as_str) else { return };
        if !archive::resolve("", path).is_some_and(|path| self.package.has(&path)) {
            self.unknown.push(format!("{place}.{member}: the package has no file `{path}`"));
        }
    }

    /// A resource of the top template.
    fn resource(&mut self, value: &Value, member: &str, what: &str, place: &str) {
        let Some(name) = value.get(member).and_then(Value::as_str) else { return };
        let Some(hot) = &self.flavour.base_hot else { return };
        let resources = hot.top.resources();
        if !resources.iter().any(|entry| entry.key == name) {
            let known = resources.iter().map(|entry| &entry.key);
            self.add(&format!("{place}.{member}"), name, what, known);
        }
    }

    fn cluster(&mut self, cluster: &Value) {
        const PLACE: &str = "additionalParams.k8s_cluster_installation_param";
        self.file(cluster, "script_path", PLACE);
        self.file(cluster, "helm_installation_script_path", PLACE);
        for group in ["master_node", "worker_node", "storage_server"] {
            let Some(node) = cluster.get(group) else { continue };
            let place = format!("{PLACE}.{group}");
            for member in ["ssh_cp_name", "nic_cp_name", "cluster_cp_name"] {
                self.point(node, member, &place);
            }
            self.resource(node, "aspect_id", "group", &place);
            for (index, volume) in list(node, "cinder_volume_setup_params").iter().enumerate() {
                let place = format!("{place}.cinder_volume_setup_params[{index}]");
                self.resource(volume, "volume_resource_id", "resource", &place);
            }
        }
        for (index, volume) in list(cluster, "pv_registration_params").iter().enumerate() {
            let place = format!("{PLACE}.pv_registration_params[{index}]");
            self.file(volume, "pv_manifest_file_path", &place);
            self.point(volume, "nfs_server_cp", &place);
        }
    }
}
