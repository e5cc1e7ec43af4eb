//! VIMs: whether they answer, and that none is deleted while instances are on it.

use std::{sync::Arc, time::Duration};

use drystone_api::nfv::{Vim, VimState, VimStatus, VimType, VnfInstance};
use drystone_engine::harness::{
    Reconciler, Requeue, add_finalizer, has_finalizer, is_deleted, remove_finalizer, update_status,
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::Time};
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{Failure, World, prepare::uses};
use crate::{
    cnf,
    plan::connection::connection_info,
    steps::{Access, VimDriver, VimError, secret_values},
};

/// Keeps a VIM while instances are on it.
pub(super) const VIM_FINALIZER: &str = "nfv.drystone.dev/vim";

/// How often a VIM that answers is asked.
const WELL: Duration = Duration::from_secs(300);

/// How often one that does not is asked.
const UNWELL: Duration = Duration::from_secs(15);

/// Longest wait for its answer.
const DEADLINE: Duration = Duration::from_secs(30);

/// See [`super::run`].
pub(super) struct Vims {
    pub(super) client: Client,
    pub(super) world: World,
    pub(super) driver: Arc<dyn VimDriver>,
}

impl Reconciler for Vims {
    type Object = Vim;
    type Error = Failure;

    const NAME: &'static str = "vim";

    async fn reconcile(&self, vim: Arc<Vim>) -> Result<Requeue, Failure> {
        let api: Api<Vim> = Api::namespaced(self.client.clone(), &vim.namespace().unwrap_or_default());
        if is_deleted(vim.as_ref()) {
            if self.world.occurrences.any(|operation| operation.may_use(&vim))
                || self.world.instances.any(|instance| uses(instance, &vim))
                || self.is_used(&vim).await?
            {
                return Ok(Requeue::After(UNWELL));
            }
            remove_finalizer(&api, vim.as_ref(), VIM_FINALIZER).await?;
            return Ok(Requeue::OnChange);
        }
        let mut current = vim.as_ref().clone();
        if !has_finalizer(&current, VIM_FINALIZER) {
            current = add_finalizer(&api, &current, VIM_FINALIZER).await?;
        }
        let found = self.ask(&vim).await;
        let wanted = report(&current, &found);
        update_status(&api, &current, |status| {
            let unchanged = VimStatus { updated_at: status.updated_at.clone(), ..wanted.clone() };
            if *status != unchanged {
                *status = wanted.clone();
            }
        })
        .await?;
        Ok(Requeue::After(if found.is_ok() { WELL } else { UNWELL }))
    }
}

type Found = Result<(Vec<String>, Option<String>), VimError>;

impl Vims {
    /// The same of the API, for what cannot be undone: the end of an operation may be known here before what it made of its instance.
    async fn is_used(&self, vim: &Vim) -> Result<bool, Failure> {
        let instances: Api<VnfInstance> =
            Api::namespaced(self.client.clone(), &vim.namespace().unwrap_or_default());
        let all = instances.list(&ListParams::default()).await?.items;
        Ok(all.iter().any(|instance| uses(instance, vim)))
    }

    async fn ask(&self, vim: &Vim) -> Found {
        let mut access = Access {
            info: connection_info(vim),
            certificate_authority: vim.spec.certificate_authority.clone(),
            ..Access::default()
        };
        if !vim.spec.credentials.is_empty() {
            let secrets: Api<Secret> =
                Api::namespaced(self.client.clone(), &vim.namespace().unwrap_or_default());
            let secret = secrets.get(&vim.spec.credentials).await;
            let secret = secret.map_err(|_| {
                VimError::Transient(format!(
                    "Secret {} with its credentials is not there",
                    vim.spec.credentials
                ))
            })?;
            access.secrets = secret_values(&secret);
        }
        let asked = async {
            match vim.spec.kind {
                VimType::OpenStack => self.driver.session(&access)?.check().await,
                VimType::Kubernetes => {
                    let gateway = vim.spec.gateway.as_deref();
                    Ok((cnf::namespaces(&self.client, &access, gateway).await?, None))
                }
            }
        };
        let late = || VimError::Transient(format!("no answer within {} s", DEADLINE.as_secs()));
        tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| Err(late()))
    }
}

/// What its status says then.
fn report(vim: &Vim, found: &Found) -> VimStatus {
    let before = vim.status.clone().unwrap_or_default();
    let common = VimStatus {
        updated_at: Some(Time(Timestamp::now())),
        observed_generation: vim.metadata.generation,
        ..before
    };
    match found {
        Ok((regions, tenant)) => VimStatus {
            state: VimState::Active,
            regions: regions.clone(),
            tenant_id: tenant.clone(),
            message: String::new(),
            ..common
        },
        Err(error) => VimStatus { state: VimState::Unreachable, message: error.to_string(), ..common },
    }
}
