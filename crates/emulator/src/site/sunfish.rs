//! Agents in the manner of Sunfish: memory appliances on a CXL fabric.

use std::{collections::BTreeSet, time::Duration};

use url::Url;
use uuid::Uuid;

use super::{ApplianceSpec, FabricSpec, HostSpec, SunfishSpec, document::SunfishDocument, problem::Problems};

/// How often an agent looks whether its core still knows it, unless told otherwise.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Most adapters of an appliance, and most appliances and hosts of an agent.
const MOST: usize = 64;

/// Expands and checks all agents.
pub(super) fn resolve(
    site: Uuid,
    documents: Vec<SunfishDocument>,
    fabrics: &[FabricSpec],
    hosts: &[HostSpec],
    problems: &mut Problems,
) -> Vec<SunfishSpec> {
    let mut agents: Vec<SunfishSpec> = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let path = format!("sunfishAgents[{index}]");
        let good = (1..=32).contains(&document.id.len())
            && document.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        problems.check(good, &format!("{path}.id"), || {
            format!("{:?} must be 1 to 32 letters, digits and dashes", document.id)
        });
        let taken = super::fabrics::service_names(fabrics).contains(&document.id)
            || agents.iter().any(|other| other.id == document.id);
        problems.check(!taken, &format!("{path}.id"), || {
            format!("another service is called {:?} too", document.id)
        });
        if let Some(core) = &document.core {
            let usable = Url::parse(core).is_ok_and(|url| is_core(&url));
            problems.check(usable, &format!("{path}.core"), || {
                format!("{core:?} is no address of a core such as http://127.0.0.1:5000")
            });
        }
        let heartbeat = document.heartbeat.map_or(HEARTBEAT, |span| span.0);
        problems.check(!heartbeat.is_zero(), &format!("{path}.heartbeat"), || {
            "must be longer than nothing".to_owned()
        });
        for (number, host) in document.hosts.iter().enumerate() {
            problems.check(
                hosts.iter().any(|spec| spec.name == *host),
                &format!("{path}.hosts[{number}]"),
                || format!("the site has no host {host:?}"),
            );
            problems.check(
                !document.hosts[..number].contains(host),
                &format!("{path}.hosts[{number}]"),
                || format!("{host:?} is there twice"),
            );
        }
        let fits = (1..=MOST).contains(&document.appliances.len()) && document.hosts.len() <= MOST;
        problems.check(fits, &format!("{path}.appliances"), || {
            format!("an agent has 1 to {MOST} appliances and at most {MOST} hosts")
        });
        let appliances = appliances(&path, &document, problems);
        let uuid = Uuid::new_v5(&site, format!("fabric/{}", document.id).as_bytes());
        let SunfishDocument { id, core, hosts, .. } = document;
        agents.push(SunfishSpec { id, uuid, core, heartbeat, appliances, hosts });
    }
    agents
}

/// Whether an URL can be that of a core.
pub(crate) fn is_core(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.query().is_none()
}

fn appliances(path: &str, document: &SunfishDocument, problems: &mut Problems) -> Vec<ApplianceSpec> {
    let mut names = BTreeSet::new();
    let mut appliances = Vec::new();
    for (number, appliance) in document.appliances.iter().enumerate().take(MOST) {
        let path = format!("{path}.appliances[{number}]");
        problems.check_name(&format!("{path}.name"), &appliance.name, 32);
        problems.check(names.insert(&appliance.name), &format!("{path}.name"), || {
            format!("another appliance is called {:?} too", appliance.name)
        });
        problems.check_range(
            &format!("{path}.adapters"),
            appliance.adapters,
            1,
            u32::try_from(MOST).unwrap_or(u32::MAX),
        );
        problems.check_range(&format!("{path}.memoryMiB"), appliance.memory_mib, 1, 1 << 40);
        let spec = ApplianceSpec {
            name: appliance.name.clone(),
            adapters: appliance.adapters,
            memory_mib: appliance.memory_mib,
        };
        appliances.push(spec);
    }
    appliances
}
