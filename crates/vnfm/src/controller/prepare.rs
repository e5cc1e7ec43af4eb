//! What happens before an occurrence is carried out: who holds the instance, whether the request can be followed, and how.

use std::{sync::Arc, time::Duration};

use drystone_api::nfv::{Vim, VnfInstance, VnfLcmOperation, VnfPackage};
use drystone_engine::{
    harness::{Requeue, update_status},
    operations,
    reference::ObjectKey,
};
use drystone_sol003::types::{
    InstantiationState, LcmOperationState, LcmOperationType, PackageOnboardingState, VimConnectionInfo,
};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{
    Failure,
    occurrences::{Occurrences, engine_name, state_of},
};
use crate::{
    model::{Blueprint, Problem},
    plan::{
        connection::{Connection, resolve},
        operation::{Order, plan},
    },
};

/// Who makes an occurrence takes the instance for it, within this time. Afterwards it is taken here: it was made by hand.
const TAKING: Duration = Duration::from_secs(5);

/// Whether an occurrence may begin.
enum Holder {
    /// It holds the instance.
    This,
    /// Nobody holds it.
    Nobody,
    /// Another one holds it.
    Other(String),
}

/// All that an occurrence is planned from.
pub(super) struct Ground {
    pub(super) instance: Arc<VnfInstance>,
    pub(super) package: String,
    pub(super) blueprint: Arc<dyn Blueprint>,
    pub(super) connection: Connection,
    /// The package, for what the instance shows of it.
    pub(super) package_object: Arc<VnfPackage>,
}

impl Occurrences {
    pub(super) async fn prepare(&self, occurrence: &VnfLcmOperation) -> Result<Requeue, Failure> {
        let Some(instance) = self.instance(occurrence) else {
            return self.without_instance(occurrence).await;
        };
        let age = age(occurrence);
        match self.holder(occurrence, &instance).await? {
            Holder::This => {}
            _ if age < TAKING => return Ok(Requeue::After(TAKING.saturating_sub(age))),
            Holder::Nobody => {
                self.take(occurrence, &instance).await?;
                // The change comes back through the watch.
                return Ok(Requeue::OnChange);
            }
            Holder::Other(other) => {
                let problem = Problem::conflict(format!(
                    "{other} is under way, or waits for a decision; no other operation may begin"
                ));
                self.end(occurrence, LcmOperationState::RolledBack, Some(problem.details())).await?;
                return Ok(Requeue::OnChange);
            }
        }
        match self.plan(occurrence, instance) {
            Err(problem) => {
                self.end(occurrence, LcmOperationState::RolledBack, Some(problem.details())).await?;
            }
            Ok(None) => self.begun(occurrence, None).await?,
            Ok(Some(spec)) => {
                let name = engine_name(occurrence, "carry-out");
                operations::start(&self.client, &name, spec).await?;
                self.begun(occurrence, Some(&name)).await?;
            }
        }
        Ok(Requeue::OnChange)
    }

    async fn without_instance(&self, occurrence: &VnfLcmOperation) -> Result<Requeue, Failure> {
        let age = age(occurrence);
        if age < TAKING {
            return Ok(Requeue::After(TAKING.saturating_sub(age)));
        }
        let detail = format!("there is no VnfInstance {}", occurrence.spec.instance);
        let problem = Problem::not_found("instance", detail);
        self.end(occurrence, LcmOperationState::RolledBack, Some(problem.details())).await?;
        Ok(Requeue::OnChange)
    }

    /// Who holds the instance. One that has ended, or is gone, holds nothing.
    async fn holder(&self, occurrence: &VnfLcmOperation, instance: &VnfInstance) -> Result<Holder, Failure> {
        let holder = instance.status.as_ref().and_then(|status| status.operation.clone());
        let Some(holder) = holder else { return Ok(Holder::Nobody) };
        if holder == occurrence.name_any() {
            return Ok(Holder::This);
        }
        let key = ObjectKey::new(occurrence.namespace().unwrap_or_default(), &holder);
        let holds = match self.world.occurrences.get(&key) {
            Some(other) => !state_of(&other).is_final(),
            // What is not known yet must not be taken for what is gone.
            None => {
                let found = self.api(occurrence).get_opt(&holder).await?;
                found.is_some_and(|other| !state_of(&other).is_final())
            }
        };
        Ok(if holds { Holder::Other(holder) } else { Holder::Nobody })
    }

    async fn take(&self, occurrence: &VnfLcmOperation, instance: &VnfInstance) -> Result<(), Failure> {
        let api: Api<VnfInstance> =
            Api::namespaced(self.client.clone(), &occurrence.namespace().unwrap_or_default());
        let (name, seen) =
            (occurrence.name_any(), instance.status.as_ref().and_then(|status| status.operation.clone()));
        update_status(&api, instance, |status| {
            // Not from somebody who was quicker.
            if status.operation == seen {
                status.operation = Some(name.clone());
            }
        })
        .await?;
        Ok(())
    }

    pub(super) fn plan(
        &self,
        occurrence: &VnfLcmOperation,
        instance: Arc<VnfInstance>,
    ) -> Result<Option<drystone_api::OperationSpec>, Problem> {
        let ground = self.ground(occurrence, instance)?;
        if occurrence.spec.operation == LcmOperationType::Terminate {
            self.nobody_depends_on(occurrence, &ground.instance)?;
        }
        plan(&self.order(occurrence, &ground))
    }

    pub(super) fn order<'a>(&'a self, occurrence: &'a VnfLcmOperation, ground: &'a Ground) -> Order<'a> {
        Order {
            instance: &ground.instance,
            occurrence,
            package: &ground.package,
            blueprint: ground.blueprint.as_ref(),
            connection: &ground.connection,
            drivers: &self.config.drivers,
            containers: self.config.containers.as_deref(),
        }
    }

    /// Finds what an occurrence is planned from.
    pub(super) fn ground(
        &self,
        occurrence: &VnfLcmOperation,
        instance: Arc<VnfInstance>,
    ) -> Result<Ground, Problem> {
        let namespace = occurrence.namespace().unwrap_or_default();
        let changes_package = occurrence.spec.operation == LcmOperationType::ChangeVnfPackage;
        let target =
            occurrence.spec.parameters.get("vnfdId").and_then(Value::as_str).filter(|_| changes_package);
        let vnfd_id = target.unwrap_or(&instance.spec.vnfd_id);
        let package_object = self.world.package(&namespace, vnfd_id).ok_or_else(|| {
            Problem::unprocessable(format!("no package with the VNFD {vnfd_id} is onboarded"))
        })?;
        let onboarded = package_object.status.as_ref().map(|status| status.onboarding_state);
        if onboarded != Some(PackageOnboardingState::Onboarded) {
            return Err(Problem::unprocessable(format!(
                "the package with the VNFD {vnfd_id} is not onboarded"
            )));
        }
        let package = package_object.uid().unwrap_or_default();
        let blueprint = self
            .config
            .blueprints
            .open(&package)
            .map_err(|error| Problem::unprocessable(error.to_string()))?;
        let connection = self.connection(occurrence, &instance, &namespace)?;
        Ok(Ground { instance, package, blueprint, connection, package_object })
    }

    /// The VIM of an instance. What only changes what is known of an instance needs none.
    fn connection(
        &self,
        occurrence: &VnfLcmOperation,
        instance: &VnfInstance,
        namespace: &str,
    ) -> Result<Connection, Problem> {
        let mut given =
            instance.status.as_ref().map(|status| status.vim_connection_info.clone()).unwrap_or_default();
        if let Some(asked) =
            occurrence.spec.parameters.get("vimConnectionInfo").filter(|asked| !asked.is_null())
        {
            let asked: std::collections::BTreeMap<String, VimConnectionInfo> =
                serde_json::from_value(asked.clone())
                    .map_err(|error| Problem::bad("vimConnectionInfo", format!("cannot be read: {error}")))?;
            given.extend(asked);
        }
        match resolve(&given, &self.world.vims_in(namespace)) {
            Err(_) if occurrence.spec.operation == LcmOperationType::ModifyInfo => Ok(Connection::default()),
            resolved => resolved,
        }
    }

    /// A cluster that other VNFs run on is not taken away under them.
    fn nobody_depends_on(&self, occurrence: &VnfLcmOperation, instance: &VnfInstance) -> Result<(), Problem> {
        let forced = occurrence.spec.parameters.get("additionalParams").and_then(|given| given.get("force"));
        if forced == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let namespace = occurrence.namespace().unwrap_or_default();
        let made = |vim: &Arc<Vim>| vim.spec.made_by.as_deref() == Some(&instance.name_any());
        for vim in self.world.vims_in(&namespace).iter().filter(|vim| made(vim)) {
            let users = self.world.instances.list_where(|other| {
                other.name_any() != instance.name_any() && uses(other, vim) && is_instantiated(other)
            });
            let Some(user) = users.first() else { continue };
            let name = user.spec.vnf_instance_name.clone().unwrap_or_else(|| user.name_any());
            return Err(Problem::conflict(format!(
                "the VNF {name} ({}) runs on the cluster that this instance is (VIM {}); terminate it first, or set additionalParams.force",
                user.uid().unwrap_or_default(),
                vim.name_any(),
            )));
        }
        Ok(())
    }
}

fn is_instantiated(instance: &VnfInstance) -> bool {
    let status = instance.status.as_ref();
    status.is_some_and(|status| status.instantiation_state == InstantiationState::Instantiated)
}

/// Whether an instance is on a VIM.
pub(super) fn uses(instance: &VnfInstance, vim: &Vim) -> bool {
    let Some(status) = instance.status.as_ref() else { return false };
    let here = instance.metadata.namespace == vim.metadata.namespace;
    here && status.vim_connection_info.values().any(|info| info.vim_id.is_some() && info.vim_id == vim.uid())
}

/// How long ago an occurrence was made.
fn age(occurrence: &VnfLcmOperation) -> Duration {
    let Some(created) = occurrence.creation_timestamp() else { return Duration::MAX };
    Duration::try_from(Timestamp::now().duration_since(created.0)).unwrap_or_default()
}
