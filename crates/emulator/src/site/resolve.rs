//! From the site file as written to the site as it is: the order of the parts, and what they share.

use std::{collections::BTreeSet, time::Duration};

use uuid::Uuid;

use super::{
    SiteCredentials, SiteError, SiteFile, Timing, cloud,
    document::{SiteDocument, TimingDocument},
    fabrics::Cabling,
    faults, gateway,
    hosts::HostResolver,
    pools,
    problem::Problems,
    sunfish,
};

/// Expands and checks a site file.
pub(super) fn resolve(document: SiteDocument) -> Result<SiteFile, SiteError> {
    let mut problems = Problems::default();
    problems.check_name("name", &document.name, 32);
    let site = Uuid::new_v5(&Uuid::NAMESPACE_DNS, format!("{}.site.drystone.dev", document.name).as_bytes());
    let timing = timing(&document.timing, &mut problems);
    let user = document.credentials.user.unwrap_or_else(|| "admin".to_owned());
    let plain =
        (1..=32).contains(&user.len()) && user.chars().all(|c| c.is_ascii_graphic() && c != ':' && c != '/');
    problems.check(plain, "credentials.user", || {
        format!("{user:?} must be 1 to 32 printable ASCII characters without colon, slash and space")
    });
    if let Some(password) = &document.credentials.password {
        let good = (8..=64).contains(&password.chars().count());
        problems.check(good, "credentials.password", || "must be 8 to 64 characters".to_owned());
    }

    let mut cabling = Cabling::new(site, document.fabrics, &mut problems);
    let mut macs = BTreeSet::new();
    let mut resolver = HostResolver {
        site,
        backend: document.backend,
        templates: &document.templates,
        cabling: &mut cabling,
        macs: &mut macs,
        problems: &mut problems,
    };
    // Ports that the file names are taken before those that are left open, the gateway's like any host's.
    let gateway_mac =
        document.gateway.as_ref().map(|gateway| resolver.mac("gateway", gateway.mac, &["gateway"]));
    let named_port = document.gateway.as_ref().is_some_and(|gateway| gateway.port.is_some());
    let mut spec = None;
    let mut pending = document.gateway.zip(gateway_mac);
    if named_port {
        spec = pending
            .take()
            .map(|(document, mac)| gateway::resolve(document, mac, resolver.cabling, resolver.problems));
    }
    let mut hosts = resolver.resolve(&document.hosts);
    if let Some((document, mac)) = pending {
        spec = Some(gateway::resolve(document, mac, &mut cabling, &mut problems));
    }

    cabling.plug_bare(site, &mut macs, &mut problems);
    let fabrics = cabling.finish();
    let pools = pools::resolve(&document.pools, &fabrics, &mut problems);
    let sunfish_agents = sunfish::resolve(site, document.sunfish_agents, &fabrics, &hosts, &mut problems);
    let service_faults =
        faults::distribute(document.faults, &mut hosts, &fabrics, &sunfish_agents, &mut problems);
    let cloud = document
        .cloud
        .map(|cloud| cloud::resolve(site, cloud, document.backend, spec.as_ref(), &mut problems));
    problems.finish(SiteFile {
        name: document.name,
        backend: document.backend,
        timing,
        credentials: SiteCredentials { user, password: document.credentials.password },
        fabrics,
        hosts,
        pools,
        sunfish_agents,
        gateway: spec,
        cloud,
        service_faults,
    })
}

fn timing(document: &TimingDocument, problems: &mut Problems) -> Timing {
    let scale = document.scale.unwrap_or(1.0);
    problems.check((0.0..=1000.0).contains(&scale), "timing.scale", || {
        format!("{scale} is outside of 0 to 1000")
    });
    let latency = document.request_latency.map_or(Duration::ZERO, |span| span.0);
    problems.check(latency <= Duration::from_secs(60), "timing.requestLatency", || {
        "must be at most 60s".to_owned()
    });
    Timing {
        scale: if scale.is_finite() { scale.clamp(0.0, 1000.0) } else { 1.0 },
        post: document.post.map_or(Duration::from_secs(2), |span| span.0),
        boot_os: document.boot_os.map_or(Duration::from_secs(3), |span| span.0),
        image: document.image.map_or(Duration::from_secs(2), |span| span.0),
        shutdown: document.shutdown.map_or(Duration::from_secs(1), |span| span.0),
        request_latency: latency,
    }
}
