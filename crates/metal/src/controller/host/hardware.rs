//! What is known of a host's hardware: written as HardwareData, taken over from there or from annotations.

use drystone_api::{
    BareMetalHostStatus, HardwareData, HardwareDataSpec, HardwareDetails, ProvisioningState as State,
};
use drystone_engine::harness::{Requeue, update_status};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{HostError, Pass, actions::AT_ONCE, api_error, blocks, report};
use crate::model::{
    Inventory,
    annotations::{HARDWARE_DETAILS, STATUS},
};

impl Pass<'_> {
    fn hardware_data(&self) -> Api<HardwareData> {
        Api::namespaced(self.reconciler.client.clone(), &self.host.namespace().unwrap_or_default())
    }

    /// Takes over what annotations bring: a status, hardware. `None` if there is nothing to take over.
    pub(super) async fn take_over(&self) -> Result<Option<Requeue>, HostError> {
        let host = &self.host;
        if let Some(status) = &self.annotations.status {
            let fresh = host.status.as_ref().is_none_or(|own| own.provisioning.state == State::None);
            if fresh {
                let mut status = status.clone();
                if let Some(known) = self.known_hardware().await? {
                    status.hardware = Some(known);
                }
                self.write_status(move |own| own.clone_from(&status)).await?;
            }
            self.remove_annotation(STATUS).await?;
            return Ok(Some(Requeue::After(AT_ONCE)));
        }
        let Some(details) = &self.annotations.hardware else { return Ok(None) };
        self.write_hardware_data(details).await?;
        let inventory = Inventory::from_details(details);
        blocks::record(&self.reconciler.client, host, &inventory).await?;
        self.write_status(|own| own.hardware = Some(details.clone())).await?;
        self.remove_annotation(HARDWARE_DETAILS).await?;
        Ok(Some(Requeue::After(AT_ONCE)))
    }

    /// What an earlier life of the host left behind, or somebody wrote for it.
    pub(super) async fn known_hardware(&self) -> Result<Option<HardwareDetails>, HostError> {
        let found = self.hardware_data().get_opt(&self.host.name_any()).await;
        let found = found.map_err(api_error("reading the HardwareData"))?;
        let is_ours = |data: &HardwareData| {
            let mut owners = data.owner_references().iter().filter(|owner| owner.kind == "BareMetalHost");
            owners.all(|owner| Some(&owner.uid) == self.host.uid().as_ref())
        };
        Ok(found.filter(is_ours).and_then(|data| data.spec.hardware))
    }

    /// Writes what was found, over what was known.
    pub(super) async fn write_hardware_data(&self, details: &HardwareDetails) -> Result<(), HostError> {
        let name = self.host.name_any();
        let spec = HardwareDataSpec { hardware: Some(details.clone()) };
        let owners = self.host.controller_owner_ref(&()).map(|owner| vec![owner]);
        let mut data = HardwareData::new(&name, spec);
        data.metadata =
            ObjectMeta { name: Some(name.clone()), owner_references: owners.clone(), ..Default::default() };
        let api = self.hardware_data();
        match api.create(&PostParams::default(), &data).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                let patch = json!({"metadata": {"ownerReferences": owners}, "spec": data.spec});
                let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
                patched.map(drop).map_err(api_error("writing the HardwareData"))
            }
            Err(error) => Err(api_error("writing the HardwareData")(error)),
        }
    }

    pub(super) async fn remove_annotation(&self, name: &str) -> Result<(), HostError> {
        if self.host.annotations().contains_key(name) {
            let patch = json!({"metadata": {"annotations": {name: null}}});
            self.patch(&patch).await.map_err(api_error("removing an annotation"))?;
        }
        Ok(())
    }

    async fn write_status(&self, change: impl Fn(&mut BareMetalHostStatus)) -> Result<(), HostError> {
        update_status(&self.api, &self.host, |status: &mut BareMetalHostStatus| {
            change(status);
            report::finish(status, self.host.status.as_ref(), "");
        })
        .await?;
        Ok(())
    }
}
