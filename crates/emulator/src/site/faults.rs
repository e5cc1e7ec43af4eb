//! Faults that a site has from its start.

use std::time::Duration;

use super::{
    FaultKind, FaultSpec, HostSpec,
    document::{FaultDocument, FaultsDocument, HostFaultDocument, ServiceFaultDocument},
    problem::Problems,
};

/// How long an unanswered connection stays open unless told otherwise: longer than any client's patience.
const TIMEOUT_DELAY: Duration = Duration::from_secs(300);
/// How much longer a slow request takes unless told otherwise.
const SLOW_DELAY: Duration = Duration::from_secs(2);

/// How long a fault of this kind delays unless told otherwise.
pub(crate) const fn default_delay(kind: FaultKind) -> Duration {
    match kind {
        FaultKind::Timeout => TIMEOUT_DELAY,
        FaultKind::Slow => SLOW_DELAY,
        FaultKind::Unavailable503 | FaultKind::WrongPassword | FaultKind::PowerStuck => Duration::ZERO,
    }
}

/// Checks one fault.
pub(super) fn resolve(path: &str, fault: &FaultDocument, problems: &mut Problems) -> FaultSpec {
    let probability = fault.probability.unwrap_or(1.0);
    problems.check(probability > 0.0 && probability <= 1.0, &format!("{path}.probability"), || {
        format!("{probability} must be above 0 and at most 1")
    });
    if let Some(count) = fault.count {
        problems.check_range(&format!("{path}.count"), count, 1, 1_000_000);
    }
    let delays = matches!(fault.kind, FaultKind::Timeout | FaultKind::Slow);
    problems.check(fault.delay.is_none() || delays, &format!("{path}.delay"), || {
        "only the kinds timeout and slow have a delay".to_owned()
    });
    FaultSpec {
        kind: fault.kind,
        probability,
        count: fault.count,
        until: fault.until.map(|span| span.0),
        delay: fault.delay.map_or(default_delay(fault.kind), |span| span.0),
    }
}

/// Gives each host the faults listed for it in the site's own list, and returns those of the fabric services.
pub(super) fn distribute(
    document: FaultsDocument,
    hosts: &mut [HostSpec],
    services: &[String],
    problems: &mut Problems,
) -> Vec<(String, FaultSpec)> {
    for (index, listed) in document.bmc.into_iter().enumerate() {
        let path = format!("faults.bmc[{index}]");
        let HostFaultDocument { host, kind, probability, count, until, delay } = listed;
        let fault = resolve(&path, &FaultDocument { kind, probability, count, until, delay }, problems);
        match hosts.iter_mut().find(|spec| spec.name == host) {
            Some(spec) => spec.faults.push(fault),
            None => problems.add(format!("{path}.host"), format!("the site has no host {host:?}")),
        }
    }
    let mut faults = Vec::new();
    for (index, listed) in document.fabric.into_iter().enumerate() {
        let path = format!("faults.fabric[{index}]");
        let ServiceFaultDocument { service, kind, probability, count, until, delay } = listed;
        let fault = resolve(&path, &FaultDocument { kind, probability, count, until, delay }, problems);
        problems.check(services.contains(&service), &format!("{path}.service"), || {
            format!("the site has no fabric service {service:?}; it has {}", services.join(", "))
        });
        problems.check(kind != FaultKind::PowerStuck, &format!("{path}.kind"), || {
            "a fabric service has no power to be stuck; use timeout, unavailable503, wrongPassword or slow".to_owned()
        });
        faults.push((service, fault));
    }
    faults
}
