//! Faults that a site has from its start.

use std::time::Duration;

use super::{
    Cable, FabricServices, FabricSpec, FaultKind, FaultSpec, HostSpec, SunfishSpec,
    document::{FaultDocument, FaultsDocument, HostFaultDocument, ServiceFaultDocument},
    fabrics,
    problem::{Problems, some_of},
};

/// How long an unanswered connection stays open unless told otherwise: longer than any client's patience.
const TIMEOUT_DELAY: Duration = Duration::from_secs(300);
/// How much longer a slow request takes, and how long a service that died is away, unless told otherwise.
const SLOW_DELAY: Duration = Duration::from_secs(2);
/// How a switch refuses a table unless told otherwise.
pub(crate) const REFUSED_STATUS: u16 = 503;
/// How a switch can refuse a table.
pub(crate) const REFUSED_STATUSES: [u16; 3] = [400, 503, 507];

/// How long a fault of this kind delays unless told otherwise.
pub(crate) const fn default_delay(kind: FaultKind) -> Duration {
    match kind {
        FaultKind::Timeout => TIMEOUT_DELAY,
        FaultKind::Slow | FaultKind::DiesBefore | FaultKind::DiesAfter => SLOW_DELAY,
        FaultKind::Unavailable503
        | FaultKind::WrongPassword
        | FaultKind::PowerStuck
        | FaultKind::TableRefused
        | FaultKind::TableIgnored
        | FaultKind::LinkDown
        | FaultKind::Unplugged
        | FaultKind::SwitchDown => Duration::ZERO,
    }
}

/// Checks one fault of a BMC.
pub(super) fn resolve(path: &str, fault: &FaultDocument, problems: &mut Problems) -> FaultSpec {
    problems.check(!fault.kind.is_of_fabrics(), &format!("{path}.kind"), || {
        "a BMC has no switches, cables and tables; use timeout, unavailable503, wrongPassword, powerStuck, slow, diesBefore \
         or diesAfter"
            .to_owned()
    });
    resolve_any(path, fault, problems)
}

fn resolve_any(path: &str, fault: &FaultDocument, problems: &mut Problems) -> FaultSpec {
    let probability = fault.probability.unwrap_or(1.0);
    problems.check(probability > 0.0 && probability <= 1.0, &format!("{path}.probability"), || {
        format!("{probability} must be above 0 and at most 1")
    });
    if let Some(count) = fault.count {
        problems.check_range(&format!("{path}.count"), count, 1, 1_000_000);
    }
    for (field, given) in [("probability", fault.probability.is_some()), ("count", fault.count.is_some())] {
        problems.check(!given || !fault.kind.is_of_cabling(), &format!("{path}.{field}"), || {
            "no request meets a fault of a switch or a cable; it is there until it is over".to_owned()
        });
    }
    let delays = default_delay(fault.kind) != Duration::ZERO;
    problems.check(fault.delay.is_none() || delays, &format!("{path}.delay"), || {
        "only the kinds timeout, slow, diesBefore and diesAfter have a delay".to_owned()
    });
    FaultSpec {
        probability,
        count: fault.count,
        until: fault.until.map(|span| span.0),
        delay: fault.delay.map_or(default_delay(fault.kind), |span| span.0),
        ..FaultSpec::new(fault.kind)
    }
}

/// Gives each host the faults listed for it in the site's own list, and returns those of the fabric services.
pub(super) fn distribute(
    document: FaultsDocument,
    hosts: &mut [HostSpec],
    fabrics: &[FabricSpec],
    agents: &[SunfishSpec],
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
    let listed = document.fabric.into_iter().enumerate();
    listed
        .map(|(index, listed)| {
            of_service(&format!("faults.fabric[{index}]"), listed, fabrics, agents, problems)
        })
        .collect()
}

fn of_service(
    path: &str,
    listed: ServiceFaultDocument,
    fabrics: &[FabricSpec],
    agents: &[SunfishSpec],
    problems: &mut Problems,
) -> (String, FaultSpec) {
    let ServiceFaultDocument { service, kind, probability, count, until, delay, status, switch, port } =
        listed;
    let fault = resolve_any(path, &FaultDocument { kind, probability, count, until, delay }, problems);
    problems.check(kind != FaultKind::PowerStuck, &format!("{path}.kind"), || {
        "a fabric service has no power to be stuck; use timeout, unavailable503, wrongPassword or slow"
            .to_owned()
    });
    let has_status = kind == FaultKind::TableRefused;
    problems.check(status.is_none() || has_status, &format!("{path}.status"), || {
        "only the kind tableRefused has a status".to_owned()
    });
    let status = status.unwrap_or(REFUSED_STATUS);
    problems.check(REFUSED_STATUSES.contains(&status), &format!("{path}.status"), || {
        format!("{status} is none of 400, 503 and 507")
    });
    let fault = FaultSpec { status, switch, port, ..fault };
    let shows = |fabric: &&FabricSpec| match fabric.services {
        FabricServices::Agent => fabric.id == service,
        FabricServices::PerSwitch => fabric.switches.iter().any(|switch| *switch.name == *service),
    };
    match fabrics.iter().find(shows) {
        Some(fabric) => check_place(path, &service, &fault, fabric, problems),
        None if agents.iter().any(|agent| agent.id == service) => {
            problems.check(!kind.is_of_fabrics(), &format!("{path}.kind"), || {
                "a Sunfish agent has no such switches, cables and tables; use timeout, unavailable503, slow, diesBefore or diesAfter"
                    .to_owned()
            });
        }
        None => problems.add(
            format!("{path}.service"),
            format!(
                "the site has no fabric service {service:?}; it has {}",
                some_of(fabrics::service_names(fabrics).iter())
            ),
        ),
    }
    (service, fault)
}

/// Checks the switch and the port that a fault names: those that its kind needs, in the fabric of the service.
fn check_place(path: &str, service: &str, fault: &FaultSpec, fabric: &FabricSpec, problems: &mut Problems) {
    let needs_port = matches!(fault.kind, FaultKind::LinkDown | FaultKind::Unplugged);
    problems.check(fault.port.is_some() == needs_port, &format!("{path}.port"), || {
        "the kinds linkDown and unplugged need a port, others have none".to_owned()
    });
    problems.check(fault.switch.is_none() || fault.kind.is_of_fabrics(), &format!("{path}.switch"), || {
        "only faults of switches, cables and tables have one".to_owned()
    });
    // A switch that speaks for itself need not be named.
    let own = (fabric.services == FabricServices::PerSwitch).then_some(service);
    let Some(name) = fault.switch.as_deref().or(own) else {
        problems.check(!fault.kind.is_of_cabling(), &format!("{path}.switch"), || {
            "the agent speaks for several switches; name one".to_owned()
        });
        return;
    };
    let Some(switch) = fabric.switches.iter().find(|switch| *switch.name == *name) else {
        return problems
            .add(format!("{path}.switch"), format!("fabric {} has no switch {name:?}", fabric.id));
    };
    problems.check(own.is_none_or(|own| own == name), &format!("{path}.switch"), || {
        format!("switch {service} speaks only for itself")
    });
    let Some(port) = fault.port.as_deref().filter(|_| needs_port) else { return };
    match switch.port(port) {
        None => problems.add(format!("{path}.port"), format!("switch {name} has no port {port:?}")),
        Some(spec) => {
            let edge = !matches!(spec.cable, Cable::Switch { .. });
            let good = edge || fault.kind == FaultKind::LinkDown;
            problems.check(good && spec.cable != Cable::Unplugged, &format!("{path}.port"), || {
                format!("port {port} of switch {name} has nothing plugged in that this could happen to")
            });
        }
    }
}
