//! `VnfInstance` (SOL003, 5.5.2.2).

use drystone_api::nfv::{VnfInstance, VnfPackage};
use drystone_sol003::{
    secrets::{mask_object, without_masked},
    types::{ApiVersion, InstantiationState, KeyValuePairs, VimConnectionInfo},
    version1::downgrade_instance,
};
use serde_json::{Map, Value, json};

use super::{Around, Members, link, path_of};
use crate::feed::Shown;

impl Shown for VnfInstance {
    const WHAT: &'static str = "VNF instance";
    const DEFAULT_EXCLUDED: &'static [&'static str] =
        &["vimConnectionInfo", "instantiatedVnfInfo", "metadata", "extensions", "vnfConfigurableProperties"];
    const INDEX: &'static [&'static str] = &["vnfInstanceName", "vnfdId", "instantiationState"];

    fn indexed(&self) -> Vec<(&'static str, String)> {
        let state = self.status.as_ref().map(|status| status.instantiation_state).unwrap_or_default();
        let mut values =
            vec![("vnfdId", self.spec.vnfd_id.clone()), ("instantiationState", state_name(state).to_owned())];
        values.extend(self.spec.vnf_instance_name.clone().map(|name| ("vnfInstanceName", name)));
        values
    }

    fn body(&self, around: &Around, version: ApiVersion) -> Value {
        let status = self.status.clone().unwrap_or_default();
        let id = self.metadata.uid.clone().unwrap_or_default();
        let package = around.package_of(&self.spec.vnfd_id);
        let product = |own: Option<String>, of: fn(&VnfPackage) -> Option<String>| {
            own.or_else(|| package.as_deref().and_then(of)).unwrap_or_default()
        };
        let mut body = Members::default();
        body.put("id", &id);
        body.put_some("vnfInstanceName", self.spec.vnf_instance_name.as_ref());
        body.put_some("vnfInstanceDescription", self.spec.vnf_instance_description.as_ref());
        body.put("vnfdId", &self.spec.vnfd_id);
        body.put("vnfProvider", product(status.vnf_provider, |of| of.status.as_ref()?.vnf_provider.clone()));
        let name = product(status.vnf_product_name, |of| of.status.as_ref()?.vnf_product_name.clone());
        body.put("vnfProductName", name);
        let software =
            product(status.vnf_software_version, |of| of.status.as_ref()?.vnf_software_version.clone());
        body.put("vnfSoftwareVersion", software);
        body.put("vnfdVersion", product(status.vnfd_version, |of| of.status.as_ref()?.vnfd_version.clone()));
        if version == ApiVersion::V1 {
            body.put_some("vnfPkgId", package.as_ref().and_then(|package| package.metadata.uid.clone()));
        }
        body.put_told("vnfConfigurableProperties", &self.spec.vnf_configurable_properties);
        if !status.vim_connection_info.is_empty() {
            let connections = status.vim_connection_info.iter();
            let told: Map<String, Value> =
                connections.map(|(id, connection)| (id.clone(), told_connection(connection))).collect();
            body.put("vimConnectionInfo", told);
        }
        body.put("instantiationState", status.instantiation_state);
        if let Some(mut info) = status.instantiated_vnf_info {
            info.metadata = mask_object(&info.metadata).0;
            info.vnfc_resource_info.iter_mut().for_each(|vnfc| vnfc.metadata = mask_object(&vnfc.metadata).0);
            for vnfc in &mut info.vnfc_info {
                vnfc.vnfc_configurable_properties = mask_object(&vnfc.vnfc_configurable_properties).0;
            }
            body.put("instantiatedVnfInfo", info);
        }
        body.put_told("metadata", &self.spec.metadata);
        body.put_told("extensions", &self.spec.extensions);
        body.put("_links", links(&id, status.instantiation_state, version));
        match version {
            ApiVersion::V1 => downgrade_instance(body.finish()),
            ApiVersion::V2 => body.finish(),
        }
    }
}

fn state_name(state: InstantiationState) -> &'static str {
    match state {
        InstantiationState::NotInstantiated => "NOT_INSTANTIATED",
        InstantiationState::Instantiated => "INSTANTIATED",
    }
}

/// A connection without what is secret: the specification says that it is not there at all.
fn told_connection(connection: &VimConnectionInfo) -> Value {
    let told = |part: &KeyValuePairs| without_masked(&mask_object(part).0);
    let mut body = Members::default();
    body.put_some("vimId", connection.vim_id.as_ref());
    body.put("vimType", &connection.vim_type);
    for (name, part) in [
        ("interfaceInfo", &connection.interface_info),
        ("accessInfo", &connection.access_info),
        ("extra", &connection.extra),
    ] {
        if !part.is_empty() {
            body.put(name, told(part));
        }
    }
    body.finish()
}

fn links(id: &str, state: InstantiationState, version: ApiVersion) -> Value {
    let own = format!("{}/vnf_instances/{id}", path_of(version));
    let mut links = json!({"self": link(&own)});
    let tasks: &[(&str, &str)] = match state {
        InstantiationState::NotInstantiated => &[("instantiate", "instantiate")],
        InstantiationState::Instantiated => &[
            ("terminate", "terminate"),
            ("scale", "scale"),
            ("scaleToLevel", "scale_to_level"),
            ("heal", "heal"),
            ("changeExtConn", "change_ext_conn"),
            ("changeCurrentVnfPkg", "change_vnfpkg"),
        ],
    };
    for (name, task) in tasks {
        if *task != "change_vnfpkg" || version == ApiVersion::V2 {
            links[*name] = link(&format!("{own}/{task}"));
        }
    }
    links
}
