//! Drivers of hosts that are being worked on: a management controller has few sessions, so a login serves for many passes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::Job;
use crate::{
    driver::{Credentials, DriverError, Drivers, HostDriver},
    model::BmcAddress,
};

/// A driver that nobody used for so long is dropped; its session ends with it.
const IDLE: Duration = Duration::from_secs(90);
/// How many are kept before the idle ones are looked for.
const MANY: usize = 64;

/// Drivers by the unique id of their host.
pub(super) struct OpenHosts {
    drivers: Arc<dyn Drivers>,
    open: Mutex<HashMap<String, Open>>,
}

struct Open {
    address: BmcAddress,
    credentials: Credentials,
    verify_tls: bool,
    driver: Arc<dyn HostDriver>,
    used: Instant,
}

impl OpenHosts {
    pub(super) fn new(drivers: Arc<dyn Drivers>) -> Self {
        Self { drivers, open: Mutex::default() }
    }

    /// The driver of a host; a new one when address or credentials have changed.
    pub(super) fn open(&self, job: &Job<'_>) -> Result<Arc<dyn HostDriver>, DriverError> {
        let (uid, now) = (job.uid(), Instant::now());
        let verify_tls = job.host.spec.bmc.as_ref().is_none_or(|bmc| !bmc.disable_certificate_verification);
        let Ok(mut open) = self.open.lock() else {
            return self.drivers.open(job.address, job.credentials, verify_tls).map(Arc::from);
        };
        if let Some(known) = open.get_mut(&uid)
            && known.address == *job.address
            && known.credentials == *job.credentials
            && known.verify_tls == verify_tls
        {
            known.used = now;
            return Ok(known.driver.clone());
        }
        let driver: Arc<dyn HostDriver> = self.drivers.open(job.address, job.credentials, verify_tls)?.into();
        if open.len() >= MANY {
            open.retain(|_, known| now.duration_since(known.used) < IDLE);
        }
        let (address, credentials) = (job.address.clone(), job.credentials.clone());
        open.insert(uid, Open { address, credentials, verify_tls, driver: driver.clone(), used: now });
        Ok(driver)
    }

    /// Forgets the driver of a host.
    pub(super) fn close(&self, uid: &str) {
        if let Ok(mut open) = self.open.lock() {
            open.remove(uid);
        }
    }
}
