//! What is known of a resource: its attributes, as the services of an OpenStack would show them.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{catalogue, realize::Planner};
use crate::{
    cloud::{
        hot::{HotError, text_of},
        model::{Nic, Resource, Stack},
    },
    site::CloudNetwork,
};

/// A property's text; an empty one is none.
pub(super) fn text<'a>(properties: &'a Value, names: &[&str]) -> Option<&'a str> {
    let mut found = names.iter().filter_map(|name| properties.get(*name)).filter_map(Value::as_str);
    found.find(|text| !text.is_empty())
}

pub(super) fn wrong(property: &str, message: impl Into<String>) -> HotError {
    HotError::new(format!("properties.{property}"), message)
}

/// A MAC address for a port.
pub(super) fn mac(port: Uuid) -> String {
    let digest = Uuid::new_v5(&Uuid::NAMESPACE_OID, port.as_bytes()).into_bytes();
    format!("fa:16:3e:{:02x}:{:02x}:{:02x}", digest[0], digest[1], digest[2])
}

/// A name for what nobody named.
pub(super) fn named(resource: &Resource) -> String {
    let short = &resource.physical.simple().to_string()[..12];
    text(&resource.properties, &["name"]).map_or_else(|| format!("{}-{short}", resource.name), str::to_owned)
}

impl Planner<'_> {
    /// Finds out what is known of a resource, once its properties are.
    pub(super) fn settle(&mut self, name: &str, kind: &str, resource: &mut Resource) -> Result<(), HotError> {
        name.clone_into(&mut resource.name);
        match kind {
            "OS::Neutron::Net" => self.settle_net(resource),
            "OS::Neutron::Subnet" => self.settle_subnet(resource)?,
            "OS::Neutron::Port" => self.settle_port(resource)?,
            "OS::Neutron::FloatingIP" => self.settle_floating(resource)?,
            "OS::Nova::ServerGroup" => self.settle_server_group(resource)?,
            "OS::Cinder::Volume" => self.settle_volume(resource)?,
            "OS::Nova::Server" => self.settle_server(resource)?,
            "OS::Heat::ScalingPolicy" => {
                check_policy(&resource.properties)?;
                resource.attributes = json!({"signal_url": "", "alarm_url": ""});
            }
            _ => resource.attributes = json!({"id": resource.physical, "name": named(resource)}),
        }
        Ok(())
    }

    fn settle_net(&mut self, resource: &mut Resource) {
        self.networks.entry(resource.physical).or_default();
        resource.attributes = json!({"id": resource.physical, "name": named(resource), "status": "ACTIVE", "subnets": [], "admin_state_up": true,
            "shared": false, "tenant_id": self.world.project.simple().to_string()});
    }

    fn settle_subnet(&mut self, resource: &mut Resource) -> Result<(), HotError> {
        let network = text(&resource.properties, &["network", "network_id"])
            .ok_or_else(|| wrong("network", "Property network not assigned"))?;
        let cidr = resource.text("cidr").unwrap_or_default();
        let parsed =
            cidr.parse::<ipnet::IpNet>().ok().filter(|cidr| cidr.prefix_len() + 2 <= cidr.max_prefix_len());
        let parsed =
            parsed.ok_or_else(|| wrong("cidr", format!("{cidr:?} is no network with room for machines")))?;
        let id = Uuid::parse_str(network).ok().filter(|id| self.networks.contains_key(id));
        let id = id.ok_or_else(|| {
            wrong(
                "network",
                format!("Unable to find network with name or id '{network}' among those of the stack"),
            )
        })?;
        let settled = CloudNetwork {
            name: network.to_owned(),
            id,
            subnet: resource.physical,
            cidr: parsed.trunc(),
            allocation: None,
        };
        self.networks.insert(id, Some(settled));
        resource.attributes = json!({"id": resource.physical, "name": named(resource), "network_id": id, "cidr": parsed.trunc(),
            "gateway_ip": catalogue::router(parsed.trunc())});
        Ok(())
    }

    /// A network, of the cloud or of the stack, by name or id; with addresses if it has a subnet.
    pub(super) fn network(
        &self,
        named: &str,
        property: &str,
    ) -> Result<(Uuid, Option<CloudNetwork>), HotError> {
        if let Some(network) = self.world.catalogue.network(named) {
            return Ok((network.id, Some(network.clone())));
        }
        let id = Uuid::parse_str(named).ok();
        let own = id.and_then(|id| Some((id, self.networks.get(&id)?.clone())));
        own.ok_or_else(|| {
            wrong(
                property,
                format!("Error validating value '{named}': Unable to find network with name or id '{named}'"),
            )
        })
    }

    fn settle_port(&mut self, resource: &mut Resource) -> Result<(), HotError> {
        let properties = resource.properties.clone();
        let named_network = text(&properties, &["network", "network_id"])
            .ok_or_else(|| wrong("network", "Property network not assigned"))?;
        let (id, network) = self.network(named_network, "network")?;
        let nic = match resource.nics.first().cloned() {
            Some(nic) => nic,
            None => {
                let wanted = fixed_addresses(&properties)?;
                let mac =
                    text(&properties, &["mac_address"]).map_or_else(|| mac(resource.physical), str::to_owned);
                let addresses = match &network {
                    Some(network) => self.addresses(resource, network, &wanted)?,
                    None => Vec::new(),
                };
                Nic { port: resource.physical, network: id, mac, addresses }
            }
        };
        let subnet = network.map(|network| network.subnet);
        let fixed: Vec<Value> =
            nic.addresses.iter().map(|address| json!({"subnet_id": subnet, "ip_address": address})).collect();
        resource.attributes = json!({"id": resource.physical, "name": named(resource), "network_id": id, "network": named_network,
            "mac_address": nic.mac, "fixed_ips": fixed, "device_id": "", "device_owner": "", "status": "DOWN", "admin_state_up": true,
            "allowed_address_pairs": properties.get("allowed_address_pairs").cloned().unwrap_or_else(|| json!([])),
            "security_groups": properties.get("security_groups").cloned().unwrap_or_else(|| json!([])),
            "port_security_enabled": properties.get("port_security_enabled").cloned().unwrap_or(json!(true)),
            "tenant_id": self.world.project.simple().to_string()});
        self.ports.insert(resource.physical, nic.clone());
        resource.nics = vec![nic];
        Ok(())
    }

    /// Gives a port the addresses that it asks for, or any. What is not to be had dooms the resource: that comes out when it is made.
    pub(super) fn addresses(
        &mut self,
        resource: &mut Resource,
        network: &CloudNetwork,
        wanted: &[Option<IpAddr>],
    ) -> Result<Vec<IpAddr>, HotError> {
        let port = resource.physical;
        let any = [None];
        let wanted = if wanted.is_empty() { &any[..] } else { wanted };
        let mut given = Vec::with_capacity(wanted.len());
        for (index, wanted) in wanted.iter().enumerate() {
            let address = match wanted {
                None => self.world.addresses.give(network, port),
                Some(address) => {
                    if !catalogue::is_usable(network.cidr, *address) {
                        let message = format!(
                            "{address} is not a valid address of a machine in the subnet {}",
                            network.cidr
                        );
                        return Err(wrong(&format!("fixed_ips.{index}.ip_address"), message));
                    }
                    let holder = self.world.addresses.holder(network.id, *address);
                    // What a port of this stack had is free if that port goes; it goes first.
                    let free = holder.is_none_or(|holder| {
                        holder == port || (self.was_mine(holder) && !self.ports.contains_key(&holder))
                    });
                    free.then(|| {
                        self.world.addresses.take(network.id, *address, port);
                        *address
                    })
                }
            };
            match (address, wanted) {
                (Some(address), _) => {
                    self.given.push((network.id, address, port));
                    given.push(address);
                }
                (None, Some(address)) => {
                    resource.doomed = Some(format!(
                        "IpAddressInUse: Unable to complete operation for network {}. The IP address {address} is in use.",
                        network.id
                    ));
                }
                (None, None) => {
                    resource.doomed = Some(format!(
                        "IpAddressGenerationFailure: No more IP addresses available on network {}.",
                        network.id
                    ));
                }
            }
        }
        Ok(given)
    }

    /// Whether a port was part of this stack before.
    fn was_mine(&self, port: Uuid) -> bool {
        self.world
            .previous
            .values()
            .flat_map(|stack| stack.resources.values())
            .any(|one| one.physical == port)
    }

    fn settle_floating(&mut self, resource: &mut Resource) -> Result<(), HotError> {
        let properties = resource.properties.clone();
        let network = text(&properties, &["floating_network", "floating_network_id"])
            .ok_or_else(|| wrong("floating_network", "Property floating_network not assigned"))?;
        let (id, network) = self.network(network, "floating_network")?;
        let nic = match (resource.nics.first().cloned(), network) {
            (Some(nic), _) => nic,
            (None, Some(network)) => {
                let wanted: Vec<Option<IpAddr>> = text(&properties, &["floating_ip_address"])
                    .map(|text| text.parse().ok())
                    .into_iter()
                    .collect();
                let addresses = self.addresses(resource, &network, &wanted)?;
                Nic { port: resource.physical, network: id, mac: mac(resource.physical), addresses }
            }
            (None, None) => return Err(wrong("floating_network", "the network has no subnet")),
        };
        let port = text(&properties, &["port_id"]).and_then(|port| Uuid::parse_str(port).ok());
        let fixed =
            port.and_then(|port| self.ports.get(&port)).and_then(|nic| nic.addresses.first().copied());
        resource.attributes = json!({"id": resource.physical, "floating_ip_address": nic.addresses.first(), "floating_network_id": id,
            "port_id": port, "fixed_ip_address": fixed, "status": if port.is_some() { "ACTIVE" } else { "DOWN" }});
        resource.nics = vec![nic];
        Ok(())
    }

    fn settle_server_group(&mut self, resource: &mut Resource) -> Result<(), HotError> {
        let policies = resource.properties.get("policies").cloned().unwrap_or_else(|| json!([]));
        let policy = policies.as_array().and_then(|list| list.first()).map(text_of);
        let policy = policy.unwrap_or_else(|| "anti-affinity".to_owned());
        if !matches!(policy.as_str(), "affinity" | "anti-affinity" | "soft-affinity" | "soft-anti-affinity") {
            return Err(wrong(
                "policies",
                format!(
                    "{policy:?} is none of affinity, anti-affinity, soft-affinity and soft-anti-affinity"
                ),
            ));
        }
        self.groups.entry(resource.physical).or_default().0.clone_from(&policy);
        resource.attributes = json!({"id": resource.physical, "name": named(resource), "policies": [policy], "members": [], "metadata": {}});
        Ok(())
    }

    fn settle_volume(&mut self, resource: &mut Resource) -> Result<(), HotError> {
        let size =
            resource.properties.get("size").map(text_of).and_then(|size| size.trim().parse::<u32>().ok());
        let size = size.filter(|size| (1..=16384).contains(size));
        let size = size.ok_or_else(|| wrong("size", "is no number of gibibytes from 1 to 16384"))?;
        if let Some(image) = text(&resource.properties, &["image"])
            && self.world.catalogue.image(image).is_none()
        {
            return Err(wrong(
                "image",
                format!("Error validating value '{image}': No images matching {{'name': '{image}'}}."),
            ));
        }
        self.volumes.insert(resource.physical);
        resource.attributes = json!({"id": resource.physical, "size": size, "name": named(resource), "display_name": named(resource),
            "status": "available", "attachments": [], "bootable": resource.properties.get("image").is_some().to_string(),
            "availability_zone": text(&resource.properties, &["availability_zone"]).unwrap_or("nova"),
            "created_at": self.world.now.to_string(), "volume_type": text(&resource.properties, &["volume_type"]),
            "metadata": resource.properties.get("metadata").cloned().unwrap_or_else(|| json!({}))});
        Ok(())
    }
}

/// Addresses that a port asks for; an entry without one asks for any.
fn fixed_addresses(properties: &Value) -> Result<Vec<Option<IpAddr>>, HotError> {
    let list = match properties.get("fixed_ips") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(wrong("fixed_ips", "must be a list of maps")),
    };
    let asked = list.iter().enumerate().map(|(index, entry)| match entry.get("ip_address") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(address) => {
            let parsed = text_of(address).parse().map(Some);
            parsed.map_err(|_| {
                wrong(
                    &format!("fixed_ips.{index}.ip_address"),
                    format!("{} is no IP address", text_of(address)),
                )
            })
        }
    });
    asked.collect()
}

fn check_policy(properties: &Value) -> Result<(), HotError> {
    let kind = text(properties, &["adjustment_type"]).unwrap_or_default();
    if !matches!(kind, "change_in_capacity" | "exact_capacity" | "percent_change_in_capacity") {
        return Err(wrong(
            "adjustment_type",
            format!("{kind:?} is none of change_in_capacity, exact_capacity and percent_change_in_capacity"),
        ));
    }
    let amount = properties.get("scaling_adjustment").map(text_of).unwrap_or_default();
    match amount.trim().parse::<i64>() {
        Ok(_) => Ok(()),
        Err(_) => Err(wrong("scaling_adjustment", format!("{amount:?} is no number"))),
    }
}

/// An attribute of a resource that is no stack, as templates ask for it.
pub(super) fn attribute(resource: &Resource, attribute: &str) -> Option<Value> {
    let addresses = |resource: &Resource| {
        resource.attributes.get("addresses").and_then(Value::as_object).cloned().unwrap_or_default()
    };
    match attribute {
        "show" => Some(resource.attributes.clone()),
        "first_address" if resource.kind == "OS::Nova::Server" => {
            resource.nics.first().and_then(|nic| nic.addresses.first()).map(|address| json!(address))
        }
        "networks" if resource.kind == "OS::Nova::Server" => {
            let named = addresses(resource).into_iter().map(|(name, list)| {
                let list = list.as_array().cloned().unwrap_or_default();
                (name, list.iter().filter_map(|one| one.get("addr")).cloned().collect())
            });
            Some(Value::Object(named.collect()))
        }
        "instance_name" => resource.attributes.get("OS-EXT-SRV-ATTR:instance_name").cloned(),
        other => resource.attributes.get(other).cloned(),
    }
}

/// What resources know of each other: ports and volumes of their server, server groups of their members.
pub(super) fn link(stacks: &mut BTreeMap<Uuid, Stack>) {
    let mut ports: BTreeMap<Uuid, Uuid> = BTreeMap::new();
    let mut volumes: BTreeMap<Uuid, (Uuid, String, Value)> = BTreeMap::new();
    let mut members: BTreeMap<Uuid, Vec<Uuid>> = BTreeMap::new();
    for resource in stacks.values().flat_map(|stack| stack.resources.values()) {
        match resource.kind.as_str() {
            "OS::Nova::Server" => {
                let host = resource.attributes.get("OS-EXT-SRV-ATTR:host").cloned().unwrap_or_default();
                ports.extend(resource.nics.iter().map(|nic| (nic.port, resource.physical)));
                volumes.extend(
                    resource
                        .volumes
                        .iter()
                        .map(|(id, device)| (*id, (resource.physical, device.clone(), host.clone()))),
                );
                let group = resource.properties.pointer("/scheduler_hints/group").and_then(Value::as_str);
                if let Some(Ok(group)) = group.map(Uuid::parse_str) {
                    members.entry(group).or_default().push(resource.physical);
                }
            }
            "OS::Cinder::VolumeAttachment" => {
                let id = |name| resource.text(name).and_then(|text| Uuid::parse_str(text).ok());
                if let (Some(server), Some(volume)) = (id("instance_uuid"), id("volume_id")) {
                    let device = text(&resource.properties, &["mountpoint"]).unwrap_or("/dev/vdc").to_owned();
                    volumes.insert(volume, (server, device, Value::Null));
                }
            }
            _ => {}
        }
    }
    for resource in stacks.values_mut().flat_map(|stack| stack.resources.values_mut()) {
        let id = resource.physical;
        match resource.kind.as_str() {
            "OS::Neutron::Port" => {
                let server = ports.get(&id);
                resource.attributes["device_id"] = server.map_or(json!(""), |server| json!(server));
                resource.attributes["device_owner"] = json!(server.map_or("", |_| "compute:nova"));
                resource.attributes["status"] = json!(if server.is_some() { "ACTIVE" } else { "DOWN" });
            }
            "OS::Cinder::Volume" => {
                let attached: Vec<Value> = volumes.get(&id).into_iter().map(|(server, device, host)| {
                    json!({"server_id": server, "attachment_id": Uuid::new_v5(server, id.as_bytes()), "volume_id": id, "id": id,
                        "device": device, "host_name": host})
                }).collect();
                resource.attributes["status"] =
                    json!(if attached.is_empty() { "available" } else { "in-use" });
                resource.attributes["attachments"] = json!(attached);
            }
            "OS::Nova::ServerGroup" => {
                resource.attributes["members"] = json!(members.get(&id).cloned().unwrap_or_default());
            }
            _ => {}
        }
    }
}
