//! Registered controllers: connections to them are made, kept and watched.

use std::{sync::Arc, time::Duration};

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{Controller, ControllerConnection, Document as _},
};
use drystone_emco_grpc::{Address, Health, InvalidAddress, Pool, Security, Tls};
use drystone_engine::harness::{Reconciler, Requeue, StatusError, is_deleted, update_status};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff};
use kube::{Api, Client, Resource as _};

use super::RegisteredControllers;

/// How often it is looked how a connection is.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Keeps the pool in line with what is registered.
pub(super) struct Connections {
    pub(super) client: Client,
    pub(super) pool: Pool,
    pub(super) registry: RegisteredControllers,
    /// Authority of controllers that name none.
    pub(super) authority_pem: String,
}

impl Reconciler for Connections {
    type Object = Controller;
    type Error = StatusError;

    const NAME: &'static str = "emco-controller";

    async fn reconcile(&self, controller: Arc<Controller>) -> Result<Requeue, StatusError> {
        let name = controller.document_name();
        if is_deleted(controller.as_ref()) || self.registry.is_superseded(&controller) {
            return Ok(Requeue::OnChange);
        }
        if self.registry.is_built_in(name) {
            self.pool.remove(name);
            self.tell(&controller, ControllerConnection::BuiltIn, None).await?;
            return Ok(Requeue::OnChange);
        }
        if let Err(error) = self.address(&controller).and_then(|address| self.pool.set(name, address)) {
            self.pool.remove(name);
            self.tell(&controller, ControllerConnection::Failing, Some(error.to_string())).await?;
            return Ok(Requeue::OnChange);
        }
        let Some(state) = self.pool.state(name) else { return Ok(Requeue::After(LOOK_AGAIN)) };
        let connection = match state.health {
            Health::Untried => ControllerConnection::Unknown,
            Health::Ready => ControllerConnection::Connected,
            Health::Failing => ControllerConnection::Failing,
        };
        self.tell(&controller, connection, state.trouble().map(str::to_owned)).await?;
        let soon = connection == ControllerConnection::Unknown;
        Ok(Requeue::After(if soon { Duration::from_millis(300) } else { LOOK_AGAIN }))
    }
}

impl Connections {
    fn address(&self, controller: &Controller) -> Result<Address, InvalidAddress> {
        let spec = &controller.spec;
        let security = if spec.tls {
            let authority_pem =
                spec.certificate_authority.clone().unwrap_or_else(|| self.authority_pem.clone());
            Security::Tls(Tls { authority_pem, server_name: None, identity_pem: None })
        } else {
            Security::Plain
        };
        Address::of(&spec.host, spec.port, security)
    }

    async fn tell(
        &self,
        controller: &Controller,
        connection: ControllerConnection,
        message: Option<String>,
    ) -> Result<(), StatusError> {
        let api: Api<Controller> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let (now, generation) = (jiff::Timestamp::now(), controller.meta().generation);
        update_status(&api, controller, |status| {
            if status.connection != connection || status.since.is_none() {
                status.since = Some(Time(now));
            }
            status.connection = connection;
            status.message = message.clone().unwrap_or_default();
            status.observed_generation = generation;
        })
        .await?;
        Ok(())
    }
}
