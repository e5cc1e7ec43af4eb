//! ResourceBlocks: the composer's view of a host, kept in step with it.

use drystone_api::{
    BareMetalHost, ResourceBlock, ResourceBlockSpec, ResourceBlockStatus, ResourceBlockType, SITE_LABEL,
};
use drystone_engine::harness::{StatusError, update_status};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};

use crate::{model::Inventory, plan::pool::pool_of};

/// What could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlockError {
    #[error(transparent)]
    Status(#[from] StatusError),
    #[error("writing the ResourceBlock: {0}")]
    Api(#[from] kube::Error),
}

async fn block_of(
    client: &Client,
    host: &BareMetalHost,
) -> Result<(Api<ResourceBlock>, ResourceBlock), kube::Error> {
    let namespace = host.namespace().unwrap_or_default();
    let api: Api<ResourceBlock> = Api::namespaced(client.clone(), &namespace);
    let name = host.name_any();
    if let Some(block) = api.get_opt(&name).await? {
        return Ok((api, block));
    }
    let spec = ResourceBlockSpec {
        kind: ResourceBlockType::ComputerSystem,
        host: Some(name.clone()),
        source: host.spec.bmc.as_ref().map(|bmc| bmc.address.clone()).unwrap_or_default(),
        maintenance: false,
    };
    let mut block = ResourceBlock::new(&name, spec);
    block.metadata = ObjectMeta {
        name: Some(name),
        labels: host.labels().get(SITE_LABEL).map(|site| [(SITE_LABEL.to_owned(), site.clone())].into()),
        owner_references: host.controller_owner_ref(&()).map(|owner| vec![owner]),
        ..Default::default()
    };
    let block = api.create(&PostParams::default(), &block).await?;
    Ok((api, block))
}

/// Writes what inspection found.
pub(super) async fn record(
    client: &Client,
    host: &BareMetalHost,
    inventory: &Inventory,
) -> Result<(), BlockError> {
    let (api, block) = block_of(client, host).await?;
    update_status(&api, &block, |status: &mut ResourceBlockStatus| {
        status.cores = inventory.cores;
        status.threads = inventory.threads;
        status.memory = inventory.memory;
        status.accelerators.clone_from(&inventory.accelerators);
        status.gpu_count = inventory.gpu_count();
        status.drives = inventory.block_drives();
        status.nics.clone_from(&inventory.nics);
        status.chassis.clone_from(&inventory.chassis);
        status.idle_watts = inventory.idle_watts;
        status.busy_watts = inventory.busy_watts;
        status.last_inspection = Some(Time(Timestamp::now()));
    })
    .await?;
    Ok(())
}

/// Brings pool and consumer in step with the host. A host that was never inspected has no block yet.
pub(super) async fn follow(client: &Client, host: &BareMetalHost) -> Result<(), BlockError> {
    let inspected = host.status.as_ref().is_some_and(|status| status.hardware.is_some());
    if !inspected {
        return Ok(());
    }
    let (api, block) = block_of(client, host).await?;
    let (pool, message) = pool_of(host);
    update_status(&api, &block, |status: &mut ResourceBlockStatus| {
        status.pool = pool;
        status.message.clone_from(&message);
        status.consumer.clone_from(&host.spec.consumer_ref);
    })
    .await?;
    Ok(())
}
