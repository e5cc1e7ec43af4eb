//! The site's cloud: an OpenStack of users, networks, images and flavors, as far as a file says what there is.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{BackendKind, GatewaySpec, duration::Span, problem::Problems};

/// How long a request without an answer stays open unless told otherwise: longer than any client's patience.
const HANG_DELAY: Duration = Duration::from_secs(300);
/// How much longer a slow request takes unless told otherwise.
const SLOW_DELAY: Duration = Duration::from_secs(2);
/// How long a token is good unless told otherwise.
const TOKEN_LIFE: Duration = Duration::from_secs(60 * 60);

/// An emulated OpenStack.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudSpec {
    /// Loopback address to listen on; any free port if absent.
    pub listen: Option<SocketAddr>,
    /// What gives virtual machines a body; the site's backend if absent.
    pub bodies: Option<BackendKind>,
    /// Name of its region.
    pub region: String,
    /// Who may use it. Names are unique.
    pub users: Vec<CloudUser>,
    /// Networks that virtual machines can be put on. Names and ids are unique.
    pub networks: Vec<CloudNetwork>,
    /// Images. Names are unique.
    pub images: Vec<CloudImage>,
    /// Flavors. Names are unique.
    pub flavors: Vec<CloudFlavor>,
    /// Availability zones, the first of which is the preset. Names are unique.
    pub zones: Vec<CloudZone>,
    /// How long things take.
    pub delays: CloudDelays,
    /// What goes wrong from the start.
    pub faults: Vec<CloudFaultSpec>,
}

/// A user of the cloud, with a role in one project.
#[derive(Clone, PartialEq, Eq)]
pub struct CloudUser {
    /// Name; in the domain `Default`.
    pub name: String,
    /// Password; made at the first start and kept in the state directory if absent.
    pub password: Option<String>,
    /// Name of the project; in the domain `Default`.
    pub project: String,
}

impl std::fmt::Debug for CloudUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloudUser")
            .field("name", &self.name)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

/// A network with one subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudNetwork {
    /// Name.
    pub name: String,
    /// Id of the network.
    pub id: Uuid,
    /// Id of its subnet.
    pub subnet: Uuid,
    /// Its addresses. The first one is the router's.
    pub cidr: IpNet,
    /// The part of it that addresses are given out from; all of it if absent.
    pub allocation: Option<IpNet>,
}

/// An image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudImage {
    /// Name.
    pub name: String,
    /// Id, derived from the names of site and image.
    pub id: Uuid,
    /// Accounts that are in it.
    pub users: Vec<ImageUser>,
}

/// An account that is in an image.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageUser {
    /// Login name; may become root without a password.
    pub name: String,
    /// Password; without one only keys let the user in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Public keys that let the user in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_authorized_keys: Vec<String>,
}

impl std::fmt::Debug for ImageUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageUser").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A flavor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudFlavor {
    /// Name.
    pub name: String,
    /// Id, derived from the names of site and flavor.
    pub id: Uuid,
    /// Virtual processors.
    pub cores: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Root disk in GiB.
    pub disk_gib: u64,
}

/// An availability zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CloudZone {
    /// Name.
    pub name: String,
    /// Names of its compute hosts, at least one.
    pub hosts: Vec<String>,
}

/// How long things take; scaled like the delays of hosts, but for the life of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CloudDelays {
    /// Making a virtual machine.
    pub server: Duration,
    /// Making a volume.
    pub volume: Duration,
    /// Removing either.
    pub delete: Duration,
    /// How long a token is good.
    pub token: Duration,
}

/// A fault of the cloud.
#[derive(Debug, Clone, PartialEq)]
pub struct CloudFaultSpec {
    /// What goes wrong.
    pub kind: CloudFaultKind,
    /// How likely it is met, above 0 and at most 1.
    pub probability: f64,
    /// How often it is met before it is over; no limit if absent.
    pub count: Option<u32>,
    /// How many times it is passed by before it is met first.
    pub after: u32,
    /// How long after it was set it is over; never if absent.
    pub until: Option<Duration>,
    /// How much longer a request or a resource takes (`slow`), after how long a hanging one ends.
    pub delay: Duration,
    /// Only for stacks whose name contains this.
    pub stack: Option<String>,
    /// Only for resources of this name in their template.
    pub resource: Option<String>,
}

/// What can go wrong with a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CloudFaultKind {
    /// Requests are answered with 503.
    Unavailable503,
    /// Requests are taken but not answered; the connection is closed after the delay.
    Timeout,
    /// Requests are answered after the delay.
    Slow,
    /// The token of a request has expired.
    TokenExpires,
    /// A resource cannot be made or changed; its stack fails half-way.
    ResourceFails,
    /// A resource cannot be removed; its stack fails half-way.
    DeletionFails,
    /// Making a resource takes the delay longer.
    ResourceHangs,
}

impl CloudFaultKind {
    /// Whether a request meets it, and not the making of a resource.
    pub const fn is_of_requests(self) -> bool {
        matches!(self, Self::Unavailable503 | Self::Timeout | Self::Slow | Self::TokenExpires)
    }

    /// How long it delays unless told otherwise.
    pub const fn default_delay(self) -> Duration {
        match self {
            Self::Timeout | Self::ResourceHangs => HANG_DELAY,
            Self::Slow => SLOW_DELAY,
            Self::Unavailable503 | Self::TokenExpires | Self::ResourceFails | Self::DeletionFails => {
                Duration::ZERO
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CloudDocument {
    listen: Option<SocketAddr>,
    bodies: Option<BackendKind>,
    region: Option<String>,
    users: Vec<UserDocument>,
    #[serde(default)]
    networks: Vec<NetworkDocument>,
    #[serde(default)]
    images: Vec<ImageDocument>,
    #[serde(default)]
    flavors: Vec<FlavorDocument>,
    #[serde(default)]
    zones: Vec<CloudZone>,
    #[serde(default)]
    delays: DelaysDocument,
    #[serde(default)]
    faults: Vec<CloudFaultDocument>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UserDocument {
    name: String,
    password: Option<String>,
    project: String,
}

impl std::fmt::Debug for UserDocument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserDocument").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NetworkDocument {
    name: String,
    id: Option<Uuid>,
    cidr: IpNet,
    allocation: Option<IpNet>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ImageDocument {
    name: String,
    #[serde(default)]
    users: Vec<ImageUser>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FlavorDocument {
    name: String,
    cores: u32,
    #[serde(rename = "memoryMiB", alias = "memory")]
    memory_mib: u64,
    #[serde(rename = "diskGiB", alias = "disk")]
    disk_gib: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DelaysDocument {
    server: Option<Span>,
    volume: Option<Span>,
    delete: Option<Span>,
    token: Option<Span>,
}

/// A fault as it is written; also what the cloud takes at run time.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CloudFaultDocument {
    kind: CloudFaultKind,
    probability: Option<f64>,
    count: Option<u32>,
    #[serde(default)]
    after: u32,
    until: Option<Span>,
    delay: Option<Span>,
    stack: Option<String>,
    resource: Option<String>,
}

impl CloudFaultDocument {
    /// The fault; what cannot be is told by field and reason.
    pub(crate) fn resolve(self) -> Result<CloudFaultSpec, (&'static str, String)> {
        let probability = self.probability.unwrap_or(1.0);
        if !(probability > 0.0 && probability <= 1.0) {
            return Err(("probability", format!("{probability} must be above 0 and at most 1")));
        }
        if self.count == Some(0) {
            return Err(("count", "0 times is never; leave the fault out".to_owned()));
        }
        if self.kind.is_of_requests() && self.resource.is_some() {
            return Err(("resource", "only faults of resources have one".to_owned()));
        }
        Ok(CloudFaultSpec {
            kind: self.kind,
            probability,
            count: self.count,
            after: self.after,
            until: self.until.map(|span| span.0),
            delay: self.delay.map_or(self.kind.default_delay(), |span| span.0),
            stack: self.stack,
            resource: self.resource,
        })
    }
}

/// Checks the cloud.
pub(super) fn resolve(
    site: Uuid,
    document: CloudDocument,
    backend: BackendKind,
    gateway: Option<&GatewaySpec>,
    problems: &mut Problems,
) -> CloudSpec {
    if let Some(listen) = document.listen {
        problems.check(listen.ip().is_loopback(), "cloud.listen", || {
            format!("{listen} is no loopback address; an emulated cloud is for this machine only")
        });
    }
    let bodies = document.bodies.unwrap_or(backend);
    problems.check(bodies == BackendKind::Sim || gateway.is_some(), "cloud.bodies", || {
        "virtual machines with a body need the site's gateway, by which they are reached".to_owned()
    });
    let id = |kind: &str, name: &str| Uuid::new_v5(&site, format!("cloud {kind} {name}").as_bytes());
    let networks = document.networks.into_iter().map(|network| CloudNetwork {
        id: network.id.unwrap_or_else(|| id("network", &network.name)),
        subnet: id("subnet", &network.name),
        name: network.name,
        cidr: network.cidr,
        allocation: network.allocation,
    });
    let images = document.images.into_iter().map(|image| CloudImage {
        id: id("image", &image.name),
        name: image.name,
        users: image.users,
    });
    let flavors = document.flavors.into_iter().map(|flavor| CloudFlavor {
        id: id("flavor", &flavor.name),
        name: flavor.name,
        cores: flavor.cores,
        memory_mib: flavor.memory_mib,
        disk_gib: flavor.disk_gib,
    });
    let zones = if document.zones.is_empty() { vec![preset_zone()] } else { document.zones };
    let span = |span: Option<Span>, preset| span.map_or(preset, |span: Span| span.0);
    let delays = &document.delays;
    let spec = CloudSpec {
        listen: document.listen,
        bodies: document.bodies,
        region: document.region.unwrap_or_else(|| "RegionOne".to_owned()),
        users: document
            .users
            .into_iter()
            .map(|user| CloudUser { name: user.name, password: user.password, project: user.project })
            .collect(),
        networks: networks.collect(),
        images: images.collect(),
        flavors: flavors.collect(),
        zones,
        delays: CloudDelays {
            server: span(delays.server, Duration::ZERO),
            volume: span(delays.volume, Duration::ZERO),
            delete: span(delays.delete, Duration::ZERO),
            token: span(delays.token, TOKEN_LIFE),
        },
        faults: faults(document.faults, problems),
    };
    check(&spec, bodies, gateway, problems);
    spec
}

fn preset_zone() -> CloudZone {
    CloudZone { name: "nova".to_owned(), hosts: (1..=3).map(|n| format!("compute-{n}")).collect() }
}

fn faults(documents: Vec<CloudFaultDocument>, problems: &mut Problems) -> Vec<CloudFaultSpec> {
    let numbered = documents.into_iter().enumerate();
    let resolved = numbered.filter_map(|(index, document)| match document.resolve() {
        Ok(fault) => Some(fault),
        Err((field, reason)) => {
            problems.add(format!("cloud.faults[{index}].{field}"), reason);
            None
        }
    });
    resolved.collect()
}

fn check(spec: &CloudSpec, bodies: BackendKind, gateway: Option<&GatewaySpec>, problems: &mut Problems) {
    problems.check(!spec.users.is_empty(), "cloud.users", || {
        "give at least one user: {name, project}".to_owned()
    });
    unique("users", spec.users.iter().map(|user| user.name.clone()), problems);
    unique("networks", spec.networks.iter().map(|network| network.name.clone()), problems);
    unique("images", spec.images.iter().map(|image| image.name.clone()), problems);
    unique("flavors", spec.flavors.iter().map(|flavor| flavor.name.clone()), problems);
    unique("zones", spec.zones.iter().map(|zone| zone.name.clone()), problems);
    for (index, user) in spec.users.iter().enumerate() {
        let path = format!("cloud.users[{index}]");
        problems.check(is_plain(&user.project), &format!("{path}.project"), || plain_names(&user.project));
        if let Some(password) = &user.password {
            let good = (1..=255).contains(&password.chars().count());
            problems.check(good, &format!("{path}.password"), || "must be 1 to 255 characters".to_owned());
        }
    }
    for (index, zone) in spec.zones.iter().enumerate() {
        problems.check(!zone.hosts.is_empty(), &format!("cloud.zones[{index}].hosts"), || {
            "give at least one host".to_owned()
        });
    }
    for (index, image) in spec.images.iter().enumerate() {
        for (number, user) in image.users.iter().enumerate() {
            problems.check_name(&format!("cloud.images[{index}].users[{number}].name"), &user.name, 32);
        }
    }
    let mut seen: Vec<(IpNet, String)> = Vec::new();
    if let Some(gateway) = gateway.filter(|_| bodies != BackendKind::Sim) {
        seen.push((gateway.node_address.trunc(), "the node network".to_owned()));
        seen.push((gateway.campus_address.trunc(), "the campus network".to_owned()));
        seen.extend(gateway.external_ranges().map(|range| (range, "an external pool".to_owned())));
    }
    for (index, network) in spec.networks.iter().enumerate() {
        check_network(&format!("cloud.networks[{index}]"), network, &seen, problems);
        seen.push((network.cidr, format!("network {}", network.name)));
    }
    let mut ids = BTreeSet::new();
    for (index, network) in spec.networks.iter().enumerate() {
        problems.check(ids.insert(network.id), &format!("cloud.networks[{index}].id"), || {
            format!("another network has the id {} too", network.id)
        });
    }
}

fn check_network(path: &str, network: &CloudNetwork, seen: &[(IpNet, String)], problems: &mut Problems) {
    let cidr = network.cidr;
    problems.check(cidr == cidr.trunc(), &format!("{path}.cidr"), || {
        format!("{cidr} has host bits set; write {}", cidr.trunc())
    });
    problems.check(cidr.prefix_len() + 3 <= cidr.max_prefix_len(), &format!("{path}.cidr"), || {
        format!("{cidr} has no room for machines; it needs at least three bits for hosts")
    });
    if let Some(allocation) = network.allocation {
        problems.check(cidr.contains(&allocation), &format!("{path}.allocation"), || {
            format!("{allocation} lies outside of {cidr}")
        });
    }
    if let Some((other, of)) = seen.iter().find(|(other, _)| other.contains(&cidr) || cidr.contains(other)) {
        problems.add(format!("{path}.cidr"), format!("{cidr} overlaps {other} ({of})"));
    }
}

fn unique(list: &str, names: impl Iterator<Item = String>, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for (index, name) in names.enumerate() {
        let path = format!("cloud.{list}[{index}].name");
        problems.check(is_plain(&name), &path, || plain_names(&name));
        problems.check(seen.insert(name.clone()), &path, || format!("{name:?} is there twice"));
    }
}

fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.chars().all(|c| c.is_ascii_graphic() || c == ' ')
}

fn plain_names(name: &str) -> String {
    format!("{name:?} must be 1 to 64 printable ASCII characters")
}
