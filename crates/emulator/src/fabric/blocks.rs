//! Pools of devices that an agent attaches to hosts: chassis full of them, a resource block for each device, and the
//! hosts as systems that blocks are added to and removed from. An attachment is state of the agent: it is kept and shown,
//! and the host's own BMC does not list the device.

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Parameters, Reply, RequestBody},
    types::{Chassis, CompositionStatus, ComputerSystem, Link, PowerState, ResourceBlock, Status},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    FabricService, lock,
    zones::{check_tag, missing_link},
};
use crate::{
    bmc::{self, body, changed, collection},
    site::{PoolSpec, PooledDevice},
};

const BLOCKS: &str = "/redfish/v1/CompositionService/ResourceBlocks";
const SYSTEMS: &str = "/redfish/v1/Systems";
const ADD: &str = "ComputerSystem.AddResourceBlock";
const REMOVE: &str = "ComputerSystem.RemoveResourceBlock";

/// A block: a device of a pool.
struct Block<'a> {
    id: String,
    pool: &'a PoolSpec,
    device: &'a PooledDevice,
}

impl FabricService {
    /// Reads a system, a chassis or something of the composition service.
    pub(super) fn read_pools(&self, room: &str, path: &[&str], uri: &str) -> Result<Value, ServiceError> {
        let missing = || ServiceError::not_found(uri);
        match (room, path) {
            ("Systems", []) => collection("ComputerSystem", SYSTEMS, &self.attached_hosts),
            ("Systems", [host]) => self.composed_system(host, uri),
            ("Chassis", []) => collection("Chassis", uri, self.pools.iter().map(|pool| pool.name.as_str())),
            ("Chassis", [name]) => {
                self.pool_chassis(self.pools.iter().find(|pool| pool.name == *name).ok_or_else(missing)?)
            }
            ("CompositionService", []) => Ok(json!({
                "@odata.id": uri, "@odata.type": "#CompositionService.v1_2_3.CompositionService",
                "Id": "CompositionService", "Name": "Composition service", "ServiceEnabled": true,
                "AllowOverprovisioning": false, "Status": {"State": "Enabled", "Health": "OK"},
                "ResourceBlocks": {"@odata.id": BLOCKS}})),
            ("CompositionService", ["ResourceBlocks"]) => {
                collection("ResourceBlock", BLOCKS, self.blocks().map(|block| block.id))
            }
            ("CompositionService", ["ResourceBlocks", id, rest @ ..]) => {
                let block = self.block(id).ok_or_else(missing)?;
                match rest {
                    [] => self.block_resource(&block),
                    [room, "1"] if *room == room_of(block.device) => device(&block, uri),
                    _ => Err(missing()),
                }
            }
            _ => Err(missing()),
        }
    }

    fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        self.pools.iter().flat_map(|pool| {
            let numbered = pool.devices.iter().enumerate();
            numbered.map(move |(index, device)| Block {
                id: format!("{}-{}", pool.name, index + 1),
                pool,
                device,
            })
        })
    }

    fn block(&self, id: &str) -> Option<Block<'_>> {
        self.blocks().find(|block| block.id == id)
    }

    fn block_resource(&self, block: &Block<'_>) -> Result<Value, ServiceError> {
        let uri = format!("{BLOCKS}/{}", block.id);
        let mut resource = ResourceBlock::at(&uri, &block.id);
        let device = vec![Link::to(format!("{uri}/{}/1", room_of(block.device)))];
        let kind = match block.device {
            PooledDevice::Gpu(_) => {
                resource.processors = device;
                "Processor"
            }
            PooledDevice::Memory { .. } => {
                resource.memory = device;
                "Memory"
            }
            PooledDevice::Drive(_) => {
                resource.drives = device;
                "Storage"
            }
        };
        let host = lock(&self.record).attachments.get(&block.id).cloned();
        resource.resource_block_type = vec![kind.to_owned()];
        resource.pool = Some(if host.is_some() { "Active" } else { "Free" }.to_owned());
        resource.composition_status = CompositionStatus {
            composition_state: Some(if host.is_some() { "Composed" } else { "Unused" }.to_owned()),
            reserved: Some(false),
            sharing_capable: Some(false),
            max_compositions: Some(1),
            number_of_compositions: Some(u32::from(host.is_some())),
        };
        resource.links.computer_systems =
            host.iter().map(|host| Link::to(format!("{SYSTEMS}/{host}"))).collect();
        resource.links.chassis = vec![Link::to(format!("/redfish/v1/Chassis/{}", block.pool.name))];
        resource.status = Status::healthy("Enabled");
        body(&resource)
    }

    fn pool_chassis(&self, pool: &PoolSpec) -> Result<Value, ServiceError> {
        let mut chassis = Chassis::at(&format!("/redfish/v1/Chassis/{}", pool.name), &pool.name);
        chassis.chassis_type = Some("Shelf".to_owned());
        chassis.power_state = Some(PowerState::On);
        chassis.links.resource_blocks = (1..=pool.devices.len())
            .map(|number| Link::to(format!("{BLOCKS}/{}-{number}", pool.name)))
            .collect();
        chassis.status = Status::healthy("Enabled");
        body(&chassis)
    }

    fn composed_system(&self, host: &str, uri: &str) -> Result<Value, ServiceError> {
        let known = self.attached_hosts.iter().any(|name| name == host);
        let hardware =
            self.links.hosts().get(host).filter(|_| known).ok_or_else(|| ServiceError::not_found(uri))?;
        let uri = format!("{SYSTEMS}/{host}");
        let mut system = ComputerSystem::at(&uri, host);
        system.system_type = Some("Physical".to_owned());
        system.uuid = Some(hardware.spec().uuid.to_string());
        system.power_state = Some(if hardware.is_on() { PowerState::On } else { PowerState::Off });
        let record = lock(&self.record);
        let blocks = record.attachments.iter().filter(|(_, holder)| *holder == host);
        system.links.resource_blocks =
            blocks.map(|(block, _)| Link::to(format!("{BLOCKS}/{block}"))).collect();
        system.status = Status::healthy("Enabled");
        for action in [ADD, REMOVE] {
            system.actions.insert(format!("#{action}"), json!({"target": format!("{uri}/Actions/{action}")}));
        }
        body(&system)
    }

    /// `ComputerSystem.AddResourceBlock` and `ComputerSystem.RemoveResourceBlock`.
    pub(super) async fn attach(
        &self,
        host: &str,
        action: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        let system = self.composed_system(host, uri)?;
        let mut parameters = Parameters::action(action, request.into_object());
        parameters.require("ResourceBlock");
        let link = parameters.link("ResourceBlock");
        let (block_tag, system_tag) =
            (parameters.string("ResourceBlockETag"), parameters.string("ComputerSystemETag"));
        parameters.finish()?;
        let link = link.unwrap_or_default();
        let found = link.strip_prefix(&format!("{BLOCKS}/")).and_then(|id| self.block(id));
        let block = found.ok_or_else(|| missing_link("ResourceBlock", &link))?;
        check_tag(system_tag.as_deref(), &system)?;
        check_tag(block_tag.as_deref(), &self.block_resource(&block)?)?;
        let changed_something =
            self.update(|record| match (record.attachments.get(&block.id).cloned(), action) {
                (Some(holder), ADD) if holder == host => Ok(false),
                (Some(_), ADD) => Err(ServiceError::conflict(message::resource_block_in_use(&link))),
                (None, ADD) => {
                    record.attachments.insert(block.id.clone(), host.to_owned());
                    Ok(true)
                }
                (Some(holder), _) if holder == host => {
                    record.attachments.remove(&block.id);
                    Ok(true)
                }
                _ => Err(ServiceError::conflict(message::action_parameter_value_conflict(
                    "ResourceBlock",
                    &link,
                ))),
            });
        if !changed_something.await? {
            return Ok(Reply::no_operation());
        }
        self.publish(&changed(&link, "ResourceBlock"));
        Ok(Reply::updated(self.composed_system(host, uri)?))
    }
}

/// Where the device of a block is listed.
fn room_of(device: &PooledDevice) -> &'static str {
    match device {
        PooledDevice::Gpu(_) => "Processors",
        PooledDevice::Memory { .. } => "Memory",
        PooledDevice::Drive(_) => "Drives",
    }
}

fn device(block: &Block<'_>, uri: &str) -> Result<Value, ServiceError> {
    match block.device {
        PooledDevice::Gpu(spec) => {
            let uuid =
                Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}/{}", block.pool.fabric, block.id).as_bytes());
            body(&bmc::gpu(uri, spec, uuid))
        }
        PooledDevice::Memory { size_mib } => body(&bmc::module(uri, *size_mib)),
        PooledDevice::Drive(spec) => bmc::drive(uri, spec, &block.id),
    }
}
