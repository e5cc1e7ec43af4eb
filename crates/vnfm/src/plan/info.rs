//! What SOL003 shows of a VNF's resources, out of what the VIM has.
//!
//! Identifiers are made as Tacker makes them, so that its clients find what they look for: `vnfcResourceInfo.id` is the server's,
//! `vnfcInfo.id` is `VDU-ID`, `vnfcCpInfo.id` is `CP-VNFC`, `extCpInfo.id` is `cp-PORT`, link ports that the request gave are `req-ID`.

use std::collections::BTreeMap;

use drystone_sol003::types::{
    CpProtocolData, ExtLinkPortInfo, ExtManagedVirtualLinkData, ExtManagedVirtualLinkInfo,
    ExtVirtualLinkData, ExtVirtualLinkInfo, InstantiatedVnfInfo, IpAddressType, IpAddresses,
    IpOverEthernetAddressData, KeyValuePairs, LayerProtocol, ResourceHandle, ScaleInfo,
    VirtualStorageResourceInfo, VnfExtCpInfo, VnfLinkPortInfo, VnfOperationalState,
    VnfVirtualLinkResourceInfo, VnfcCpInfo, VnfcInfo, VnfcResourceInfo,
};
use serde_json::{Value, json};

use crate::model::{Inventory, Port, Server, Topology};

/// What is known besides the inventory.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Flavour.
    pub flavour: String,
    /// What the flavour is made of.
    pub topology: Topology,
    /// Level of each scaling aspect.
    pub levels: BTreeMap<String, u32>,
    /// Highest level of each scaling aspect.
    pub highest_levels: BTreeMap<String, u32>,
    /// Key of the VIM connection.
    pub vim: String,
    /// External links as they were asked for.
    pub external_links: Vec<ExtVirtualLinkData>,
    /// Internal links that are managed outside, as they were asked for.
    pub managed_links: Vec<ExtManagedVirtualLinkData>,
    /// `VDU_VNFc_mapping` of the instance's metadata: ids of components by VDU and index.
    pub component_names: BTreeMap<String, Vec<String>>,
    /// What the VIM is asked for each VDU: flavor and image.
    pub assets: BTreeMap<String, (Option<String>, Option<String>)>,
    /// What else is kept: `nfv`, `tenant`.
    pub metadata: KeyValuePairs,
}

/// What SOL003 shows of a VNF's resources.
pub fn instantiated(known: &Known, inventory: &Inventory) -> InstantiatedVnfInfo {
    let view = View { known, inventory };
    let mut metadata = known.metadata.clone();
    metadata.insert("stack_id".to_owned(), json!(inventory.stack));
    InstantiatedVnfInfo {
        flavour_id: known.flavour.clone(),
        vnf_state: VnfOperationalState::Started,
        scale_status: scale_infos(&known.levels),
        max_scale_levels: scale_infos(&known.highest_levels),
        ext_cp_info: view.external_connection_points(),
        ext_virtual_link_info: known.external_links.iter().map(|link| view.external_link(link)).collect(),
        ext_managed_virtual_link_info: known
            .managed_links
            .iter()
            .map(|link| view.managed_link(link))
            .collect(),
        vnfc_resource_info: inventory.servers.iter().map(|server| view.component_resource(server)).collect(),
        vnf_virtual_link_resource_info: inventory
            .networks
            .iter()
            .map(|(name, id)| view.internal_link(name, id))
            .collect(),
        virtual_storage_resource_info: view.storages(),
        vnfc_info: inventory.servers.iter().map(|server| view.component(server)).collect(),
        metadata,
    }
}

fn scale_infos(levels: &BTreeMap<String, u32>) -> Vec<ScaleInfo> {
    let info =
        |(aspect, level): (&String, &u32)| ScaleInfo { aspect_id: aspect.clone(), scale_level: *level };
    levels.iter().map(info).collect()
}

struct View<'a> {
    known: &'a Known,
    inventory: &'a Inventory,
}

impl<'a> View<'a> {
    fn handle(&self, id: &str, kind: &str) -> ResourceHandle {
        ResourceHandle {
            vim_connection_id: Some(self.known.vim.clone()).filter(|vim| !vim.is_empty()),
            resource_id: id.to_owned(),
            vim_level_resource_type: Some(kind.to_owned()),
            ..ResourceHandle::default()
        }
    }

    /// All ports, with the servers that have them.
    fn ports(&self) -> impl Iterator<Item = (Option<&'a Server>, &'a Port)> {
        let of_servers = self
            .inventory
            .servers
            .iter()
            .flat_map(|server| server.ports.iter().map(move |port| (Some(server), port)));
        of_servers.chain(self.inventory.ports.iter().map(|port| (None, port)))
    }

    /// The external link that a connection point is on.
    fn external_link_of(&self, connection_point: &str) -> Option<&ExtVirtualLinkData> {
        let names = |link: &&ExtVirtualLinkData| link.ext_cps.iter().any(|cp| cp.cpd_id == connection_point);
        self.known.external_links.iter().find(names)
    }

    fn is_external(&self, connection_point: &str) -> bool {
        let declared = self.known.topology.connection_points.get(connection_point);
        self.external_link_of(connection_point).is_some()
            || declared.is_some_and(|declared| declared.virtual_link.is_none())
    }

    fn is_on(&self, port: &Port, virtual_link: &str) -> bool {
        let declared = self.known.topology.connection_points.get(&port.name);
        declared.is_some_and(|declared| declared.virtual_link.as_deref() == Some(virtual_link))
    }

    fn external_connection_points(&self) -> Vec<VnfExtCpInfo> {
        let external = self.ports().filter(|(_, port)| self.is_external(&port.name));
        external
            .map(|(server, port)| {
                let link = self.external_link_of(&port.name);
                let asked = link.and_then(|link| link.ext_cps.iter().find(|cp| cp.cpd_id == port.name));
                VnfExtCpInfo {
                    id: external_id(port),
                    cpd_id: port.name.clone(),
                    cp_config_id: asked.and_then(|cp| cp.cp_config.keys().next().cloned()),
                    cp_protocol_info: protocol_info(port),
                    ext_link_port_id: link.map(|_| port.id.clone()),
                    associated_vnfc_cp_id: server.map(|server| component_cp_id(port, server)),
                }
            })
            .collect()
    }

    fn external_link(&self, link: &ExtVirtualLinkData) -> ExtVirtualLinkInfo {
        let on = |port: &Port| link.ext_cps.iter().any(|cp| cp.cpd_id == port.name);
        let ports = self.ports().filter(|(_, port)| on(port)).map(|(_, port)| ExtLinkPortInfo {
            id: port.id.clone(),
            resource_handle: self.handle(&port.id, "OS::Neutron::Port"),
            cp_instance_id: Some(external_id(port)),
        });
        let given = link.ext_link_ports.iter().map(|port| ExtLinkPortInfo {
            id: format!("req-{}", port.id),
            resource_handle: port.resource_handle.clone(),
            cp_instance_id: None,
        });
        ExtVirtualLinkInfo {
            id: link.id.clone(),
            resource_handle: ResourceHandle {
                vim_connection_id: link.vim_connection_id.clone(),
                resource_provider_id: link.resource_provider_id.clone(),
                ..self.handle(&link.resource_id, "OS::Neutron::Net")
            },
            ext_link_ports: ports.chain(given).collect(),
            current_vnf_ext_cp_data: link.ext_cps.clone(),
        }
    }

    fn link_ports(&self, virtual_link: &str) -> Vec<VnfLinkPortInfo> {
        let ports = self.ports().filter(|(_, port)| self.is_on(port, virtual_link));
        let ports = ports.map(|(server, port)| VnfLinkPortInfo {
            id: port.id.clone(),
            resource_handle: self.handle(&port.id, "OS::Neutron::Port"),
            cp_instance_id: Some(
                server.map_or_else(|| external_id(port), |server| component_cp_id(port, server)),
            ),
            cp_instance_type: Some(if server.is_some() { "VNFC_CP" } else { "EXT_CP" }.to_owned()),
        });
        ports.collect()
    }

    fn managed_link(&self, link: &ExtManagedVirtualLinkData) -> ExtManagedVirtualLinkInfo {
        let given = link.vnf_link_port.iter().map(|port| VnfLinkPortInfo {
            id: format!("req-{}", port.vnf_link_port_id),
            resource_handle: port.resource_handle.clone(),
            ..VnfLinkPortInfo::default()
        });
        let mut info = ExtManagedVirtualLinkInfo::asked_for(link);
        info.vnf_link_ports = self.link_ports(&link.vnf_virtual_link_desc_id);
        info.vnf_link_ports.extend(given);
        info
    }

    fn internal_link(&self, name: &str, id: &str) -> VnfVirtualLinkResourceInfo {
        VnfVirtualLinkResourceInfo {
            id: id.to_owned(),
            vnf_virtual_link_desc_id: name.to_owned(),
            network_resource: self.handle(id, "OS::Neutron::Net"),
            vnf_link_ports: self.link_ports(name),
        }
    }

    fn component_resource(&self, server: &Server) -> VnfcResourceInfo {
        let connection_points = server.ports.iter().map(|port| {
            let external = self.is_external(&port.name);
            VnfcCpInfo {
                id: component_cp_id(port, server),
                cpd_id: port.name.clone(),
                vnf_ext_cp_id: external.then(|| external_id(port)),
                vnf_link_port_id: (!external).then(|| port.id.clone()),
                cp_protocol_info: if external { Vec::new() } else { protocol_info(port) },
            }
        });
        VnfcResourceInfo {
            id: server.id.clone(),
            vdu_id: server.vdu.clone(),
            compute_resource: self.handle(&server.id, "OS::Nova::Server"),
            zone_id: server.zone.clone(),
            storage_resource_ids: server.volumes.clone(),
            vnfc_cp_info: connection_points.collect(),
            metadata: component_metadata(server, self.known.assets.get(&server.vdu)),
        }
    }

    fn component(&self, server: &Server) -> VnfcInfo {
        let index = usize::try_from(server.index).unwrap_or(usize::MAX);
        let named = self.known.component_names.get(&server.vdu).and_then(|names| names.get(index));
        VnfcInfo {
            id: named.cloned().unwrap_or_else(|| format!("{}-{}", server.vdu, server.id)),
            vdu_id: server.vdu.clone(),
            vnfc_resource_info_id: Some(server.id.clone()),
            vnfc_state: VnfOperationalState::Started,
            ..VnfcInfo::default()
        }
    }

    fn storages(&self) -> Vec<VirtualStorageResourceInfo> {
        let storage = |volume: &crate::model::Volume| VirtualStorageResourceInfo {
            id: volume.id.clone(),
            virtual_storage_desc_id: volume.name.clone(),
            storage_resource: self.handle(&volume.id, "OS::Cinder::Volume"),
            metadata: json!({"stack_id": volume.stack, "resource_name": volume.resource})
                .as_object()
                .cloned()
                .unwrap_or_default(),
        };
        self.inventory.volumes.iter().map(storage).collect()
    }
}

fn external_id(port: &Port) -> String {
    format!("cp-{}", port.id)
}

fn component_cp_id(port: &Port, server: &Server) -> String {
    format!("{}-{}", port.name, server.id)
}

fn component_metadata(server: &Server, assets: Option<&(Option<String>, Option<String>)>) -> KeyValuePairs {
    let mut metadata = KeyValuePairs::new();
    let mut put = |name: &str, value: Value| drop(metadata.insert(name.to_owned(), value));
    put("stack_id", json!(server.stack));
    put("resource_name", json!(server.resource));
    put("creation_time", json!(server.created));
    put("vdu_idx", json!(server.index));
    if let (Some(stack), Some(resource)) = (&server.parent_stack, &server.parent_resource) {
        put("parent_stack_id", json!(stack));
        put("parent_resource_name", json!(resource));
    }
    if let Some((flavor, image)) = assets {
        flavor.iter().for_each(|flavor| put("flavor", json!(flavor)));
        image.iter().for_each(|image| put(&format!("image-{}", server.vdu), json!(image)));
    }
    if let Some(zone) = &server.zone {
        put("zone", json!(zone));
    }
    if let Some(host) = &server.host {
        put("host", json!(host));
    }
    metadata
}

fn protocol_info(port: &Port) -> Vec<CpProtocolData> {
    let addresses = port.addresses.iter().map(|address| IpAddresses {
        kind: if address.address.contains(':') { IpAddressType::Ipv6 } else { IpAddressType::Ipv4 },
        fixed_addresses: vec![address.address.clone()],
        subnet_id: Some(address.subnet.clone()).filter(|subnet| !subnet.is_empty()),
        ..IpAddresses::default()
    });
    let ip_addresses: Vec<IpAddresses> = addresses.collect();
    if ip_addresses.is_empty() {
        return Vec::new();
    }
    vec![CpProtocolData {
        layer_protocol: LayerProtocol::IpOverEthernet,
        ip_over_ethernet: Some(IpOverEthernetAddressData { ip_addresses, ..Default::default() }),
    }]
}
