//! The steps of a power sequence, over the backend, with the delays of the site.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use super::{Hardware, Phase, agent, medium, record::BootFrom};
use crate::backend::{BootSource, BootState};

/// How often the backend is asked how far a boot has come.
const POLL: Duration = Duration::from_millis(100);
/// The same after a while.
const SLOW_POLL: Duration = Duration::from_secs(1);
/// How long an operating system may take to start, or to end, before that counts as failed.
const BOOT_LIMIT: Duration = Duration::from_secs(600);
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);

impl Hardware {
    /// Asks the operating system to end and waits until it has, the site's delay at least; not for ever, since it may
    /// not listen. False if another command came.
    pub(super) async fn shut_down(&self, number: u64) -> bool {
        self.enter(number, Phase::ShuttingDown, String::new());
        if let Err(error) = self.backend.shut_down(&self.spec).await {
            tracing::warn!(host = self.spec.name, %error, "the host does not shut down; its power is taken away");
            return true;
        }
        if !self.pause(self.timing.scaled(self.timing.shutdown), number).await {
            return false;
        }
        let start = Instant::now();
        while start.elapsed() < SHUTDOWN_LIMIT {
            if self.backend.boot_state(&self.spec).await.is_ok_and(|state| state == BootState::Off) {
                return true;
            }
            if !self.pause(POLL, number).await {
                return false;
            }
        }
        true
    }

    /// Takes the power away. A backend that fails is asked again; the host counts as off only when it is.
    pub(super) async fn power_off(&self, number: u64) -> bool {
        const ATTEMPTS: u32 = 5;
        self.enter(number, Phase::PoweringOff, String::new());
        self.end_agent();
        for attempt in 1..=ATTEMPTS {
            match self.backend.power_off(&self.spec).await {
                Ok(()) => {
                    medium::remove(self.medium_path());
                    self.forget_boot().await;
                    self.enter(number, Phase::Off, String::new());
                    return true;
                }
                Err(error) => {
                    tracing::error!(host = self.spec.name, %error, attempt, "the host cannot be switched off");
                    tokio::time::sleep(POLL * attempt).await;
                }
            }
        }
        self.enter(number, Phase::NoBoot, "it cannot be switched off; see the emulator's log".to_owned());
        false
    }

    /// Gives power, lets the firmware work, and boots. False if another command came.
    pub(super) async fn power_on(self: &Arc<Self>, number: u64) -> bool {
        self.enter(number, Phase::Post, String::new());
        if !self.pause(self.timing.scaled(self.timing.post), number).await {
            return false;
        }
        let source = match self.next_boot_source().await {
            Ok(source) => source,
            Err(reason) => return self.no_boot(number, reason).await,
        };
        let installs = matches!(source, BootFrom::Image(_));
        let boot = match source {
            BootFrom::Disk if self.disk_seed.exists() => BootSource::Medium(self.disk_seed.clone()),
            BootFrom::Disk => BootSource::Disk,
            BootFrom::Image(image) => {
                let verify = self.lock().record.verify_certificate;
                match medium::fetch(&image, verify, self.medium_path()).await {
                    Ok(()) => BootSource::Medium(self.medium_path().to_owned()),
                    // Not the disk instead: an old system that starts by mistake is worse than none.
                    Err(error) => {
                        return self.no_boot(number, format!("the medium cannot be read: {error}")).await;
                    }
                }
            }
        };
        if self.overtaken(number) {
            return false;
        }
        if installs && !self.backend.boots_media(&self.spec) {
            if let Some(config) = agent::on_medium(self.medium_path()) {
                return self.run_agent(config, number).await;
            }
            // A medium that is booted by itself installs its own system.
            medium::remove(&self.disk_seed);
        }
        if let Err(error) = self.backend.power_on(&self.spec, boot).await {
            tracing::error!(host = self.spec.name, %error, "the host does not boot");
            return self.no_boot(number, error.to_string()).await;
        }
        if installs && let Err(error) = self.keep(|record| record.installed = true).await {
            return self.no_boot(number, error.to_string()).await;
        }
        self.enter(number, Phase::OsStarting, String::new());
        self.await_boot(number).await
    }

    /// Runs the agent instead of what is on its medium. That it is being booted stays on record for as long as it runs: after a
    /// restart of the emulator it begins anew. False if another command came.
    async fn run_agent(self: &Arc<Self>, config: drystone_agent::medium::AgentConfig, number: u64) -> bool {
        // It holds credentials of the host, and has been read.
        medium::remove(self.medium_path());
        self.enter(number, Phase::OsStarting, String::new());
        if !self.pause(self.timing.scaled(self.timing.boot_os), number).await {
            return false;
        }
        let running = agent::start(self, config, self.detours.clone());
        *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
        self.enter(number, Phase::OsRunning, String::new());
        true
    }

    /// Waits until the operating system runs, the site's delay at least. False if another command came.
    pub(super) async fn await_boot(&self, number: u64) -> bool {
        // A host that found nothing to boot says so at once.
        if self.backend.boot_state(&self.spec).await.is_ok_and(|state| state == BootState::NoBoot) {
            return self.no_boot(number, "nothing bootable was found".to_owned()).await;
        }
        if !self.pause(self.timing.scaled(self.timing.boot_os), number).await {
            return false;
        }
        let start = Instant::now();
        while start.elapsed() < BOOT_LIMIT {
            match self.backend.boot_state(&self.spec).await {
                Ok(BootState::OsRunning) => {
                    self.forget_boot().await;
                    self.enter(number, Phase::OsRunning, String::new());
                    return true;
                }
                Ok(BootState::NoBoot) => return self.no_boot(number, "the boot failed".to_owned()).await,
                Ok(BootState::Off) => {
                    // It switched itself off while starting.
                    self.went_off(number).await;
                    return true;
                }
                Ok(BootState::PostInProgress | BootState::OsBootStarted) => {}
                Err(error) => tracing::warn!(host = self.spec.name, %error, "the boot cannot be followed"),
            }
            let pause = if start.elapsed() < Duration::from_secs(30) { POLL } else { SLOW_POLL };
            if !self.pause(pause, number).await {
                return false;
            }
        }
        self.no_boot(number, format!("the operating system does not run after {} s", BOOT_LIMIT.as_secs()))
            .await
    }

    /// What this boot reads: what an earlier emulator had begun, else what the override says, which is spent by it.
    async fn next_boot_source(&self) -> Result<BootFrom, String> {
        let begun = self.lock().record.booting.clone();
        if let Some(begun) = begun {
            return Ok(begun);
        }
        let mut source = BootFrom::Disk;
        let kept = self.keep(|record| {
            source = record.take_boot_source();
            record.booting = Some(source.clone());
        });
        kept.await.map_err(|error| error.to_string())?;
        Ok(source)
    }

    /// The host is on and idle. The sequence has come to its end, if not to a good one.
    async fn no_boot(&self, number: u64, reason: String) -> bool {
        tracing::info!(host = self.spec.name, reason, "the host is on and boots nothing");
        self.forget_boot().await;
        self.enter(number, Phase::NoBoot, reason);
        true
    }

    /// Forgets what the boot read: the next one decides anew.
    async fn forget_boot(&self) {
        if let Err(error) = self.keep(|record| record.booting = None).await {
            tracing::warn!(host = self.spec.name, %error, "the end of a boot could not be kept");
        }
    }
}
