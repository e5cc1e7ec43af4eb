//! Instances: what they show of their package, and that none is deleted while it has resources.

use std::sync::Arc;

use drystone_api::nfv::VnfInstance;
use drystone_engine::harness::{
    Reconciler, Requeue, add_finalizer, has_finalizer, is_deleted, remove_finalizer, update_status,
};
use drystone_sol003::types::InstantiationState;
use kube::{Api, Client, ResourceExt};

use super::{Failure, World};

/// Keeps an instance while it has resources.
pub(super) const INSTANCE_FINALIZER: &str = "nfv.drystone.dev/instance";

/// See [`super::run`].
pub(super) struct Instances {
    pub(super) client: Client,
    pub(super) world: World,
}

impl Reconciler for Instances {
    type Object = VnfInstance;
    type Error = Failure;

    const NAME: &'static str = "vnf-instance";

    async fn reconcile(&self, instance: Arc<VnfInstance>) -> Result<Requeue, Failure> {
        let namespace = instance.namespace().unwrap_or_default();
        let api: Api<VnfInstance> = Api::namespaced(self.client.clone(), &namespace);
        let status = instance.status.clone().unwrap_or_default();
        if is_deleted(instance.as_ref()) {
            // Somebody who deletes it by hand has to terminate it; the front end does not let it come so far.
            if status.instantiation_state == InstantiationState::NotInstantiated && status.operation.is_none()
            {
                remove_finalizer(&api, instance.as_ref(), INSTANCE_FINALIZER).await?;
            }
            return Ok(Requeue::OnChange);
        }
        let mut current = instance.as_ref().clone();
        if !has_finalizer(&current, INSTANCE_FINALIZER) {
            current = add_finalizer(&api, &current, INSTANCE_FINALIZER).await?;
        }
        if status.package.is_none()
            && let Some(package) = self.world.package(&namespace, &instance.spec.vnfd_id)
        {
            let of = package.status.clone().unwrap_or_default();
            update_status(&api, &current, |status| {
                status.package = Some(package.name_any());
                status.vnf_provider.clone_from(&of.vnf_provider);
                status.vnf_product_name.clone_from(&of.vnf_product_name);
                status.vnf_software_version.clone_from(&of.vnf_software_version);
                status.vnfd_version.clone_from(&of.vnfd_version);
            })
            .await?;
        }
        Ok(Requeue::OnChange)
    }
}
