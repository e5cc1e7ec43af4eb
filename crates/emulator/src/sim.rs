//! The backend that keeps state only: hosts boot at once and run nothing, switches forward nothing. Light enough for
//! tens of thousands of hosts; delays come from the site's timing, which is applied by [`crate::hardware`].

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    backend::{
        Backend, BackendError, BootSource, BootState, ForwardingZones, GatewayConfig, GatewayEndpoints,
    },
    site::{HostSpec, SiteFile},
};

/// What a simulated host is.
#[derive(Debug, Clone, Copy)]
struct SimHost {
    boot: BootState,
    installed: bool,
}

/// A host as it was when an earlier emulator ended.
#[derive(Debug, Clone)]
pub struct SimHostState {
    /// Name.
    pub name: String,
    /// Whether it was on.
    pub on: bool,
    /// Whether its disk holds a system.
    pub installed: bool,
}

/// State only.
#[derive(Debug, Default)]
pub struct SimBackend {
    hosts: Mutex<HashMap<String, SimHost>>,
}

impl SimBackend {
    /// Hosts as they were before; others are off with an empty disk.
    pub fn new(hosts: impl IntoIterator<Item = SimHostState>) -> Self {
        let known = hosts.into_iter().map(|host| {
            let boot = match (host.on, host.installed) {
                (false, _) => BootState::Off,
                (true, true) => BootState::OsRunning,
                (true, false) => BootState::NoBoot,
            };
            (host.name, SimHost { boot, installed: host.installed })
        });
        Self { hosts: Mutex::new(known.collect()) }
    }

    fn change<T>(&self, host: &HostSpec, change: impl FnOnce(&mut SimHost) -> T) -> T {
        let mut hosts = lock(&self.hosts);
        if let Some(known) = hosts.get_mut(&host.name) {
            return change(known);
        }
        let mut fresh = SimHost { boot: BootState::Off, installed: false };
        let result = change(&mut fresh);
        hosts.insert(host.name.clone(), fresh);
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while holding it cannot leave the map half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait::async_trait]
impl Backend for SimBackend {
    async fn start(
        &self,
        site: &SiteFile,
        gateway: &GatewayConfig,
    ) -> Result<GatewayEndpoints, BackendError> {
        // There is no inside that anything could be dialled from: the addresses are told, and nothing answers there.
        let controller = site.gateway.as_ref().map_or(gateway.controller, |spec| {
            SocketAddr::new(spec.node_address.addr(), spec.controller_port)
        });
        Ok(GatewayEndpoints { proxy: gateway.proxy_listen, controller })
    }

    async fn program_switch(&self, _switch: &str, _zones: &ForwardingZones) -> Result<(), BackendError> {
        // No frames, nothing to forward: the table is what the service keeps of it.
        Ok(())
    }

    async fn program_zones(
        &self,
        _switch: &str,
        _whole: &(dyn Fn() -> ForwardingZones + Sync),
    ) -> Result<(), BackendError> {
        Ok(())
    }

    async fn set_port(&self, _switch: &str, _port: &str, _up: bool) -> Result<(), BackendError> {
        Ok(())
    }

    async fn power_on(&self, host: &HostSpec, boot: BootSource) -> Result<(), BackendError> {
        self.change(host, |state| {
            if state.boot == BootState::Off {
                state.installed |= matches!(boot, BootSource::Medium(_));
                state.boot = if state.installed { BootState::OsRunning } else { BootState::NoBoot };
            }
        });
        Ok(())
    }

    async fn shut_down(&self, host: &HostSpec) -> Result<(), BackendError> {
        self.change(host, |state| {
            if state.boot == BootState::OsRunning {
                state.boot = BootState::Off;
            }
        });
        Ok(())
    }

    async fn power_off(&self, host: &HostSpec) -> Result<(), BackendError> {
        self.change(host, |state| state.boot = BootState::Off);
        Ok(())
    }

    async fn wipe_disk(&self, host: &HostSpec) -> Result<(), BackendError> {
        self.change(host, |state| {
            if state.boot != BootState::Off {
                return Err(BackendError {
                    what: format!("wiping the disk of host {}", host.name),
                    reason: "the host is on; switch it off first".to_owned(),
                });
            }
            state.installed = false;
            Ok(())
        })
    }

    async fn boot_state(&self, host: &HostSpec) -> Result<BootState, BackendError> {
        Ok(self.change(host, |state| state.boot))
    }

    async fn stop(&self) -> Result<(), BackendError> {
        lock(&self.hosts).values_mut().for_each(|state| state.boot = BootState::Off);
        Ok(())
    }
}
