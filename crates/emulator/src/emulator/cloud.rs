//! Starts the cloud of a site.

use std::{collections::BTreeMap, sync::Arc};

use super::{Builder, EmulatorError};
use crate::{
    backend::BackendError,
    cloud::{
        Cloud, CloudSetup,
        bodies::{Bodies, SimBodies},
    },
    endpoints::{CloudEndpoint, CloudUserEndpoint},
    listener,
    netns::{NetnsBackend, NetnsBodies},
    site::{BackendKind, SiteFile},
    state::StateDirectory,
};

/// Name of the cloud among the addresses.
const CLOUD: &str = "cloud";

/// What gives the virtual machines of the site's cloud a body.
pub(super) fn make_bodies(
    site: &SiteFile,
    network: Option<NetnsBackend>,
) -> Result<Arc<dyn Bodies>, BackendError> {
    let what = || format!("cloud of site {}", site.name);
    let wanted = site.cloud.as_ref().and_then(|cloud| cloud.bodies);
    match (wanted, network) {
        (Some(BackendKind::Sim), _) | (None, None) => Ok(Arc::new(SimBodies)),
        (Some(BackendKind::Qemu), _) => Err(BackendError {
            what: what(),
            reason: "cloud.bodies: qemu is not among what machines can be; use netns or sim".to_owned(),
        }),
        (None, Some(_)) if site.cloud.is_none() => Ok(Arc::new(SimBodies)),
        (Some(BackendKind::Netns) | None, Some(network)) => {
            Ok(Arc::new(NetnsBodies::new(network, &site.name)?))
        }
        (Some(BackendKind::Netns), None) => Err(BackendError {
            what: what(),
            reason:
                "cloud.bodies: netns needs the site's gateway to be one of namespaces; use backend netns, too"
                    .to_owned(),
        }),
    }
}

impl Builder {
    /// Starts the site's cloud, if it has one: machines first, for those that ran on are expected to.
    pub(super) async fn start_cloud(
        &mut self,
        state: &StateDirectory,
        bodies: Arc<dyn Bodies>,
    ) -> Result<Option<CloudEndpoint>, EmulatorError> {
        let site = Arc::clone(&self.site);
        let Some(spec) = &site.cloud else { return Ok(None) };
        let directory = state.directory("cloud")?;
        let mut passwords = BTreeMap::new();
        for user in &spec.users {
            let password = match &user.password {
                Some(password) => password.clone(),
                None => state.password(&format!("cloud/password-{}", listener::file_name(&user.name)))?,
            };
            passwords.insert(user.name.clone(), password);
        }
        let cloud = Cloud::open(CloudSetup {
            site: &site,
            spec,
            directory: &directory,
            passwords,
            bodies: Arc::clone(&bodies),
            shutdown: self.serving.shutdown.clone(),
            tasks: self.serving.tasks.clone(),
        })?;
        let present = cloud.present();
        bodies.start(&spec.networks, present.machines, present.volumes).await?;
        for (floating, to) in present.floating {
            bodies.lead(floating, to).await?;
        }
        if let Some(listen) = spec.listen {
            self.ports.remember(CLOUD, listen);
        }
        let failed = |source| EmulatorError::Listen { service: CLOUD.to_owned(), source };
        let listener = self.ports.listen(CLOUD, 0).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        if let Some(wanted) = spec.listen.filter(|wanted| wanted.port() != 0 && *wanted != address) {
            // Users were told where it is; another port would be nowhere.
            return Err(failed(std::io::Error::new(
                std::io::ErrorKind::AddrInUse,
                format!("{wanted} (cloud.listen) is taken; choose another port"),
            )));
        }
        cloud.resume(&format!("http://{address}"));
        listener::serve(listener, Arc::clone(&cloud), &self.serving);
        let users = cloud.accounts().into_iter().map(|account| CloudUserEndpoint {
            name: account.user,
            password: account.password,
            project: account.project,
        });
        Ok(Some(CloudEndpoint {
            auth_url: format!("http://{address}/identity/v3"),
            region: spec.region.clone(),
            users: users.collect(),
        }))
    }
}
