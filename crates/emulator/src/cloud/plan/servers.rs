//! What is known of a server: where it runs, what it is plugged into, which volumes it has.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    realize::Planner,
    settle::{mac, named, text, wrong},
};
use crate::{
    cloud::{
        hot::{HotError, text_of},
        model::{Nic, Resource},
    },
    site::{CloudNetwork, CloudZone},
};

impl Planner<'_> {
    pub(super) fn settle_server(&mut self, resource: &mut Resource) -> Result<(), HotError> {
        let properties = resource.properties.clone();
        let flavor = text(&properties, &["flavor"]).unwrap_or_default();
        let Some(flavor) = self.world.catalogue.flavor(flavor).cloned() else {
            return Err(wrong(
                "flavor",
                format!("Error validating value '{flavor}': No Flavor matching {{'name': '{flavor}'}}."),
            ));
        };
        let image = match text(&properties, &["image"]) {
            None => None,
            Some(named) => Some(self.world.catalogue.image(named).cloned().ok_or_else(|| {
                wrong(
                    "image",
                    format!("Error validating value '{named}': No images matching {{'name': '{named}'}}."),
                )
            })?),
        };
        resource.volumes = self.devices(&properties)?;
        let boots =
            properties.get("block_device_mapping_v2").or_else(|| properties.get("block_device_mapping"));
        if image.is_none() && boots.and_then(Value::as_array).is_none_or(Vec::is_empty) {
            return Err(wrong("image", "Neither image nor bootable volume is specified for instance"));
        }
        resource.nics = self.nics(resource)?;
        let (zone, host) = self.host(resource)?;
        let addresses = self.shown_addresses(&resource.nics);
        resource.attributes = json!({"id": resource.physical, "name": named(resource), "status": "ACTIVE", "addresses": addresses,
            "flavor": {"id": flavor.id, "original_name": flavor.name, "vcpus": flavor.cores, "ram": flavor.memory_mib, "disk": flavor.disk_gib},
            "image": image.as_ref().map_or_else(|| json!(""), |image| json!({"id": image.id})),
            "OS-EXT-SRV-ATTR:host": host, "OS-EXT-SRV-ATTR:hypervisor_hostname": host, "OS-EXT-AZ:availability_zone": zone,
            "OS-EXT-SRV-ATTR:instance_name": format!("instance-{}", &resource.physical.simple().to_string()[..8]),
            "OS-EXT-STS:vm_state": "active", "OS-EXT-STS:power_state": 1, "created": self.world.now.to_string(),
            "metadata": properties.get("metadata").cloned().unwrap_or_else(|| json!({})), "key_name": properties.get("key_name"),
            "server_groups": properties.pointer("/scheduler_hints/group").into_iter().collect::<Vec<_>>(),
            "os-extended-volumes:volumes_attached": resource.volumes.iter().map(|(id, _)| json!({"id": id})).collect::<Vec<_>>(),
            "tenant_id": self.world.project.simple().to_string(), "accessIPv4": "", "accessIPv6": ""});
        Ok(())
    }

    fn shown_addresses(&self, nics: &[Nic]) -> Map<String, Value> {
        let mut shown: Map<String, Value> = Map::new();
        for nic in nics {
            let known = self.world.catalogue.networks.iter().find(|network| network.id == nic.network);
            let name = known.map_or_else(|| nic.network.to_string(), |network| network.name.clone());
            let list = shown.entry(name).or_insert_with(|| json!([]));
            let Value::Array(list) = list else { continue };
            list.extend(nic.addresses.iter().map(|address| {
                json!({"addr": address, "version": if address.is_ipv4() { 4 } else { 6 }, "OS-EXT-IPS-MAC:mac_addr": nic.mac,
                    "OS-EXT-IPS:type": "fixed"})
            }));
        }
        shown
    }

    /// The volumes of a server and the devices that they are.
    fn devices(&self, properties: &Value) -> Result<Vec<(Uuid, String)>, HotError> {
        let mut devices: Vec<(Uuid, String)> = Vec::new();
        for property in ["block_device_mapping_v2", "block_device_mapping"] {
            let list =
                properties.get(property).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for (index, mapping) in list.iter().enumerate() {
                let Some(volume) = text(mapping, &["volume_id"]) else {
                    if let Some(image) = text(mapping, &["image", "image_id"])
                        && self.world.catalogue.image(image).is_none()
                    {
                        let path = format!("{property}.{index}.image");
                        return Err(wrong(&path, format!("No images matching {{'name': '{image}'}}.")));
                    }
                    continue;
                };
                let id = Uuid::parse_str(volume).ok();
                let id = id.ok_or_else(|| {
                    wrong(
                        &format!("{property}.{index}.volume_id"),
                        format!("Unable to find volume '{volume}'"),
                    )
                })?;
                let boots = mapping.get("boot_index").map(text_of).as_deref() == Some("0");
                let named =
                    text(mapping, &["device_name"]).map(|name| name.trim_start_matches("/dev/").to_owned());
                let free = || {
                    let letters = if boots { 'a'..='a' } else { 'b'..='z' };
                    letters
                        .map(|letter| format!("vd{letter}"))
                        .find(|name| devices.iter().all(|(_, taken)| *taken != format!("/dev/{name}")))
                };
                let device = named.or_else(free).unwrap_or_else(|| "vdz".to_owned());
                devices.push((id, format!("/dev/{device}")));
            }
        }
        Ok(devices)
    }

    /// The network interfaces of a server: ports that it names, and ones that it gets for networks that it names.
    fn nics(&mut self, resource: &mut Resource) -> Result<Vec<Nic>, HotError> {
        let before = std::mem::take(&mut resource.nics);
        let empty = Vec::new();
        let networks = resource.properties.get("networks").cloned().unwrap_or_default();
        let mut nics = Vec::new();
        for (index, wanted) in networks.as_array().unwrap_or(&empty).iter().enumerate() {
            let path = format!("networks.{index}");
            if let Some(port) = text(wanted, &["port"]) {
                let nic = Uuid::parse_str(port).ok().and_then(|port| self.ports.get(&port).cloned());
                nics.push(nic.ok_or_else(|| {
                    wrong(&format!("{path}.port"), format!("Unable to find port with name or id '{port}'"))
                })?);
                continue;
            }
            let Some(network) = text(wanted, &["network", "uuid"]) else {
                return Err(wrong(&path, "One of the properties \"network\" and \"port\" must be set"));
            };
            let (id, network) = self.network(network, &format!("{path}.network"))?;
            let port = Uuid::new_v5(&resource.physical, format!("port {index}").as_bytes());
            if let Some(nic) = before.iter().find(|nic| nic.port == port && nic.network == id) {
                nics.push(nic.clone());
                continue;
            }
            let fixed = text(wanted, &["fixed_ip"]).map(|text| text.parse().ok());
            let wanted: Vec<Option<IpAddr>> = fixed.into_iter().collect();
            let addresses = match &network {
                Some(network) => self.implicit(resource, port, network, &wanted)?,
                None => Vec::new(),
            };
            nics.push(Nic { port, network: id, mac: mac(port), addresses });
        }
        Ok(nics)
    }

    /// Addresses for a port that a server gets without naming one.
    fn implicit(
        &mut self,
        resource: &mut Resource,
        port: Uuid,
        network: &CloudNetwork,
        wanted: &[Option<IpAddr>],
    ) -> Result<Vec<IpAddr>, HotError> {
        let server = std::mem::replace(&mut resource.physical, port);
        let given = self.addresses(resource, network, wanted);
        resource.physical = server;
        given
    }

    /// The zone and the host of a server: those that it has, or the emptiest that its group and its zone allow.
    fn host(&mut self, resource: &mut Resource) -> Result<(String, String), HotError> {
        let attribute = |name: &str| resource.attributes.get(name).and_then(Value::as_str).map(str::to_owned);
        if let (Some(zone), Some(host)) =
            (attribute("OS-EXT-AZ:availability_zone"), attribute("OS-EXT-SRV-ATTR:host"))
        {
            return Ok((zone, host));
        }
        let zones = &self.world.catalogue.zones;
        let wanted = text(&resource.properties, &["availability_zone"]);
        let zone: Option<&CloudZone> = match wanted {
            None => zones.first(),
            Some(name) => zones.iter().find(|zone| zone.name == name),
        };
        let Some(zone) = zone.cloned() else {
            let wanted = wanted.unwrap_or_default().to_owned();
            resource.doomed =
                Some(format!("BadRequest: The requested availability zone {wanted} is not available"));
            return Ok((wanted, String::new()));
        };
        let group = resource.properties.pointer("/scheduler_hints/group").and_then(Value::as_str);
        let group = group.and_then(|group| Uuid::parse_str(group).ok());
        let (policy, used) = group.and_then(|group| self.groups.get(&group).cloned()).unwrap_or_default();
        let allowed: Vec<&String> = match policy.as_str() {
            "anti-affinity" | "soft-anti-affinity" => {
                zone.hosts.iter().filter(|host| !used.contains(host)).collect()
            }
            "affinity" | "soft-affinity" if !used.is_empty() => {
                zone.hosts.iter().filter(|host| used.contains(host)).collect()
            }
            _ => zone.hosts.iter().collect(),
        };
        let chosen = self.world.hosts.emptiest(allowed.into_iter());
        let chosen = if policy.starts_with("soft") {
            chosen.or_else(|| self.world.hosts.emptiest(zone.hosts.iter()))
        } else {
            chosen
        };
        let Some(host) = chosen.cloned() else {
            resource.doomed = Some(
                "ResourceInError: Went to status ERROR due to \"Message: No valid host was found. \
                There are not enough hosts available., Code: 500\""
                    .to_owned(),
            );
            return Ok((zone.name, String::new()));
        };
        self.world.hosts.add(&host);
        self.placed.push(host.clone());
        if let Some(group) = group {
            self.groups.entry(group).or_default().1.push(host.clone());
        }
        Ok((zone.name, host))
    }
}
