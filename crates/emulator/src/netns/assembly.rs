//! Putting a site together and taking it apart: every step looks at what stands first, so an emulator that was killed
//! in the middle is carried on by the next.

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{Arc, Weak},
};

use tokio::sync::Mutex;

use super::{
    Inner,
    boot_spec::HostFiles,
    command, error,
    host::Host,
    names, namespace,
    plan::{self, SitePlan},
    switch,
};
use crate::{
    backend::{BackendError, BootState},
    site::SiteFile,
};

impl Inner {
    /// What the namespaces of this site are marked with.
    pub(super) fn owner(&self) -> String {
        self.state_directory.to_string_lossy().into_owned()
    }

    pub(super) fn host(&self, plan: &SitePlan, name: &str) -> Result<Host, BackendError> {
        let nics = plan
            .hosts
            .get(name)
            .cloned()
            .ok_or_else(|| error(format!("host {name}"), "the site has no such host"))?;
        let files = HostFiles { directory: self.state_directory.join("hosts").join(name) };
        Ok(Host {
            site: plan.site.clone(),
            name: name.to_owned(),
            nics,
            files,
            cgroups: self.cgroups.clone(),
            owner: self.owner(),
            devices: Vec::new(),
        })
    }

    pub(super) async fn started_host(&self, name: &str) -> Result<Host, BackendError> {
        let site = self.site.read().await;
        let running =
            site.as_ref().ok_or_else(|| error(format!("host {name}"), "the site has not been started"))?;
        self.host(&running.plan, name)
    }

    pub(super) async fn host_lock(&self, name: &str) -> Arc<Mutex<()>> {
        self.host_locks.lock().await.entry(name.to_owned()).or_default().clone()
    }

    /// The namespace and the interface of a switch port.
    pub(super) async fn port(&self, switch: &str, port: &str) -> Result<(String, String), BackendError> {
        let what = || format!("port {port} of switch {switch}");
        let site = self.site.read().await;
        let running = site.as_ref().ok_or_else(|| error(what(), "the site has not been started"))?;
        let switch =
            running.plan.switches.get(switch).ok_or_else(|| error(what(), "the site has no such switch"))?;
        let interface = names::interface(port);
        let ports = &switch.ports;
        if ports.edge.contains_key(&interface) || ports.interswitch.contains(&interface) {
            Ok((switch.namespace.clone(), interface))
        } else {
            Err(error(what(), "the switch has no such port"))
        }
    }

    /// Refuses to build over a site that an emulator runs from another directory; tidies up after one whose directory
    /// is gone.
    pub(super) async fn claim(&self, plan: &SitePlan) -> Result<(), BackendError> {
        let owner = self.owner();
        let mut abandoned = false;
        for name in plan.namespaces() {
            match namespace::owner(&name).await {
                Some(other) if other != owner && Path::new(&other).exists() => {
                    return Err(error(
                        format!("site {}", plan.site),
                        format!(
                            "network namespace {name} belongs to the emulator that runs from {other}; stop that \
                                 one or give this site another name"
                        ),
                    ));
                }
                Some(other) if other != owner => abandoned = true,
                _ => {}
            }
        }
        if abandoned {
            tracing::warn!(site = plan.site, "tidying up after an emulator whose state directory is gone");
            self.take_down(plan).await?;
        }
        Ok(())
    }

    /// Makes what is missing of switches and the cables between them.
    pub(super) async fn build_switches(&self, plan: &SitePlan) -> Result<(), BackendError> {
        let owner = self.owner();
        for (name, switch) in &plan.switches {
            if namespace::owner(&switch.namespace).await.as_deref() != Some(&owner) {
                switch::create(&switch.namespace, &switch.ports, &owner)
                    .await
                    .map_err(|reason| error(format!("building switch {name}"), reason))?;
            }
        }
        for link in &plan.links {
            self.build_link(link).await.map_err(|reason| {
                error(format!("cable {} – {}", link[0].interface, link[1].interface), reason)
            })?;
        }
        Ok(())
    }

    async fn build_link(&self, link: &[plan::Port; 2]) -> Result<(), command::ToolError> {
        let mut plugged = 0;
        for port in link {
            let links = namespace::links(&port.namespace).await?;
            plugged += usize::from(links.iter().any(|link| link.name == port.interface));
        }
        if plugged < link.len() {
            for port in link {
                switch::detach(&port.namespace, &[port.interface.as_str()].into()).await?;
            }
            let [a, b] = link;
            let cable =
                format!("link add {} type veth peer name {} netns {}", a.interface, b.interface, b.namespace);
            command::Tool::ip_batch_in(&a.namespace, &[cable]).run().await?;
        }
        // Even if both ends are there: an emulator may have been killed before it got here.
        let down = self.down_ports.lock().await;
        for port in link {
            let plug = switch::attach(&port.interface, down.is_up(&port.namespace, &port.interface));
            command::Tool::ip_batch_in(&port.namespace, &plug).run().await?;
        }
        Ok(())
    }

    /// Tidies up hosts whose PID 1 ended, or that were about to be switched on, when an earlier emulator was killed. A virtual
    /// machine that it switched on runs on.
    pub(super) async fn tidy_hosts(&self, plan: &SitePlan, site: &SiteFile) -> Result<(), BackendError> {
        let are_namespaces = site.hosts.iter().filter(|host| !self.machines && !host.virtual_machine);
        let names: BTreeSet<&str> = are_namespaces.map(|host| host.name.as_str()).collect();
        for name in plan.hosts.keys().filter(|name| names.contains(name.as_str())) {
            let host = self.host(plan, name)?;
            let half_on = host.boot_state().is_ok_and(|state| state == BootState::PostInProgress);
            if half_on || host.is_untidy() {
                host.power_off().await.map_err(|reason| error(format!("tidying up host {name}"), reason))?;
            }
        }
        Ok(())
    }

    /// Switches off every host and removes every namespace; goes on after a failure and reports the first.
    pub(super) async fn take_down(&self, plan: &SitePlan) -> Result<(), BackendError> {
        let mut first_failure = None;
        let hosts: Vec<Host> = plan.hosts.keys().filter_map(|name| self.host(plan, name).ok()).collect();
        let switched_off = futures::future::join_all(hosts.iter().map(|host| async {
            let lock = self.host_lock(&host.name).await;
            let _alone = lock.lock().await;
            host.power_off_with_site()
                .await
                .map_err(|reason| error(format!("switching off host {}", host.name), reason))?;
            let console = host.files.console();
            match std::fs::remove_file(&console) {
                Err(reason) if reason.kind() != io::ErrorKind::NotFound => {
                    Err(error(console.display().to_string(), reason))
                }
                _ => Ok(()),
            }
        }))
        .await;
        for outcome in switched_off {
            first_failure = first_failure.or(outcome.err());
        }
        for name in plan.namespaces() {
            if let Err(reason) = namespace::delete(&name).await {
                first_failure =
                    first_failure.or(Some(error(format!("removing network namespace {name}"), reason)));
            }
        }
        first_failure.map_or(Ok(()), Err)
    }

    /// Tidies up a host once its PID 1 has ended, if this backend is still there.
    pub(super) async fn tidy_when_ended(this: Weak<Self>, host: Host, mut child: tokio::process::Child) {
        // Whatever the status: the host is off.
        let _ = child.wait().await;
        if let Some(this) = this.upgrade() {
            this.tidy(&host).await;
        }
    }

    pub(super) async fn tidy(&self, host: &Host) {
        let lock = self.host_lock(&host.name).await;
        let _alone = lock.lock().await;
        if host.is_untidy()
            && let Err(reason) = host.power_off().await
        {
            tracing::warn!(host = host.name, %reason, "tidying up after a host that shut down");
        }
    }
}
