//! From Heat's list of resources to an inventory.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Group, Inventory, Naming, Network, Parent, Port, Server, Volume, attributes};
use crate::{Resource, StackRef};

const SERVER: &str = "OS::Nova::Server";
const PORT: &str = "OS::Neutron::Port";
const VOLUME: &str = "OS::Cinder::Volume";
const NETWORK: &str = "OS::Neutron::Net";
const FLOATING: [&str; 2] = ["OS::Neutron::FloatingIP", "OS::Neutron::FloatingIPAssociation"];
const ATTACHMENT: &str = "OS::Cinder::VolumeAttachment";
const GROUPS: [&str; 3] =
    ["OS::Heat::AutoScalingGroup", "OS::Heat::ResourceGroup", "OS::Heat::InstanceGroup"];

/// Stacks are nested a few deep. More means that what Heat says goes round in circles.
const DEEPEST: usize = 16;

/// Whether attributes of a resource are used here.
pub(crate) fn needs_attributes(resource: &Resource) -> bool {
    let kind = resource.kind.as_str();
    !resource.physical_id.is_empty() && ([SERVER, PORT, VOLUME].contains(&kind) || FLOATING.contains(&kind))
}

/// The resources, and how they lie in one another.
struct Tree<'a> {
    resources: &'a [Resource],
    /// The resource that a stack is, by the stack's id.
    owners: HashMap<&'a str, &'a Resource>,
}

impl<'a> Tree<'a> {
    fn new(top: &StackRef, resources: &'a [Resource]) -> Self {
        let mut owners = HashMap::new();
        for resource in resources {
            let nested = resource.nested.as_ref().map_or(resource.physical_id.as_str(), |stack| &stack.id);
            if !nested.is_empty() && nested != top.id && nested != resource.stack.id {
                owners.insert(nested, resource);
            }
        }
        Self { resources, owners }
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &'a Resource> {
        self.resources.iter().filter(move |resource| resource.kind == kind)
    }

    /// The resources that a resource lies in, the innermost first.
    fn above(&self, resource: &Resource) -> Vec<&'a Resource> {
        let mut above: Vec<&Resource> = Vec::new();
        let mut stack = resource.stack.id.as_str();
        while let Some(owner) = self.owners.get(stack)
            && above.len() < DEEPEST
        {
            above.push(owner);
            stack = &owner.stack.id;
        }
        above
    }

    /// Whether `needing` (a resource's name) of the same stack needs this resource.
    fn needed_by(resource: &Resource, other: &Resource) -> bool {
        resource.stack.id == other.stack.id && resource.required_by.contains(&other.name)
    }
}

/// Where a resource is in the stacks.
struct Place<'a> {
    parent: Option<Parent>,
    group: Option<&'a Resource>,
}

fn place<'a>(tree: &Tree<'a>, resource: &Resource) -> Place<'a> {
    let above = tree.above(resource);
    let parent = above.first().map(|parent| Parent {
        stack: parent.stack.clone(),
        resource: parent.name.clone(),
        in_group: above.get(1).is_some_and(|group| GROUPS.contains(&group.kind.as_str())),
    });
    // The outermost: a group in a group is scaled with it.
    let group = above.iter().rev().copied().find(|resource| GROUPS.contains(&resource.kind.as_str()));
    Place { parent, group }
}

/// Name in the VNFD, and the number that the names tell.
fn named(resource: &Resource, place: &Place<'_>, naming: &Naming) -> (String, Option<u32>) {
    if place.group.is_some() {
        return (resource.name.clone(), None);
    }
    if !naming.names.contains(&resource.name)
        && let Some((name, number)) = numbered(&resource.name)
        && naming.names.contains(name)
    {
        return (name.to_owned(), Some(number));
    }
    let number = place.parent.as_ref().and_then(|parent| numbered(&parent.resource));
    (resource.name.clone(), number.map(|(_, number)| number))
}

fn numbered(name: &str) -> Option<(&str, u32)> {
    let (name, number) = name.rsplit_once('-')?;
    Some((name, number.parse().ok()?))
}

/// Something that is to get a number among those of its name.
struct Counted<'a> {
    resource: &'a Resource,
    place: Place<'a>,
    name: String,
    number: Option<u32>,
}

/// What lies in a stack beside a resource, in the order of age: its own name breaks ties.
fn counted<'a>(tree: &Tree<'a>, kind: &'static str, naming: &Naming) -> Vec<Counted<'a>> {
    let mut all: Vec<Counted<'a>> = tree
        .of_kind(kind)
        .map(|resource| {
            let place = place(tree, resource);
            let (name, number) = named(resource, &place, naming);
            Counted { resource, place, name, number }
        })
        .collect();
    let member = |counted: &Counted<'_>| {
        counted.place.parent.as_ref().map(|parent| parent.resource.clone()).unwrap_or_default()
    };
    all.sort_by_cached_key(|counted| {
        (
            counted.name.clone(),
            counted.resource.creation_time.clone(),
            member(counted),
            counted.resource.name.clone(),
        )
    });
    all
}

/// The numbers of things of one name: those known keep theirs, what the names tell comes next, the rest gets the lowest free ones.
fn number(counted: &mut [Counted<'_>], known: &dyn Fn(&Counted<'_>) -> Option<u32>) {
    let mut taken: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for one in counted.iter_mut() {
        let number = known(one).or(one.number);
        let free = number.filter(|number| taken.entry(one.name.clone()).or_default().insert(*number));
        one.number = free;
    }
    for one in counted.iter_mut().filter(|one| one.number.is_none()) {
        let taken = taken.entry(one.name.clone()).or_default();
        let mut next = 0;
        while !taken.insert(next) {
            next += 1;
        }
        one.number = Some(next);
    }
}

/// The inventory of a stack from the resources that Heat lists.
pub(crate) fn build(top: &StackRef, resources: &[Resource], naming: &Naming) -> Inventory {
    let tree = Tree::new(top, resources);
    let mut servers = servers(&tree, naming);
    let ports = ports(&tree, naming, &servers);
    let volumes = volumes(&tree, naming, &servers);
    for server in servers.iter_mut().filter(|server| !server.id.is_empty()) {
        let mine = |other: &Option<String>| other.as_deref() == Some(&server.id);
        server.ports = ports.iter().filter(|port| mine(&port.server)).map(|port| port.id.clone()).collect();
        server.volumes =
            volumes.iter().filter(|volume| mine(&volume.server)).map(|volume| volume.id.clone()).collect();
    }
    let networks = tree.of_kind(NETWORK).filter(|network| !network.physical_id.is_empty());
    let networks = networks.map(|network| Network {
        id: network.physical_id.clone(),
        name: network.name.clone(),
        stack: network.stack.clone(),
    });
    Inventory {
        stack: top.clone(),
        servers,
        ports,
        volumes,
        networks: networks.collect(),
        groups: groups(&tree),
    }
}

fn servers(tree: &Tree<'_>, naming: &Naming) -> Vec<Server> {
    let mut counted = counted(tree, SERVER, naming);
    number(&mut counted, &|one| {
        let of_vdu = || naming.known.iter().filter(|known| known.vdu == one.name);
        let by_id = of_vdu().find(|known| !known.id.is_empty() && known.id == one.resource.physical_id);
        let member =
            one.place.parent.as_ref().filter(|parent| parent.in_group).map(|parent| &parent.resource);
        let by_member = || {
            member.and_then(|member| of_vdu().find(|known| known.parent_resource.as_ref() == Some(member)))
        };
        by_id.or_else(by_member).map(|known| known.index)
    });
    let mut servers: Vec<Server> = counted
        .into_iter()
        .map(|Counted { resource, place, name, number }| {
            let text = |attribute| attributes::text(resource, attribute).map(str::to_owned);
            Server {
                id: resource.physical_id.clone(),
                vdu: name,
                index: number.unwrap_or_default(),
                resource: resource.name.clone(),
                stack: resource.stack.clone(),
                parent: place.parent,
                group: place.group.map(|group| group.name.clone()),
                name: text("name"),
                status: text("status"),
                resource_status: resource.status.clone(),
                zone: text("OS-EXT-AZ:availability_zone"),
                host: text("OS-EXT-SRV-ATTR:host"),
                creation_time: resource.creation_time.clone(),
                ports: Vec::new(),
                volumes: Vec::new(),
                addresses: attributes::addresses(resource),
            }
        })
        .collect();
    servers.sort_by(|a, b| (&a.vdu, a.index).cmp(&(&b.vdu, b.index)));
    servers
}

/// The server that a resource belongs to: the one that its service names, else the one that needs it.
fn server_of<'s>(named: Option<&str>, resource: &Resource, servers: &'s [Server]) -> Option<&'s Server> {
    let by_id = named.and_then(|id| servers.iter().find(|server| server.id == id));
    by_id.or_else(|| {
        servers.iter().find(|server| {
            server.stack.id == resource.stack.id && resource.required_by.contains(&server.resource)
        })
    })
}

/// Something beside a server: its name, the number of its server or its own, and the server.
type Beside<'a, 's> = (&'a Resource, String, u32, Option<&'s Server>);

fn beside<'a, 's>(
    tree: &Tree<'a>,
    kind: &'static str,
    naming: &Naming,
    servers: &'s [Server],
    named_server: &dyn Fn(&Resource) -> Option<String>,
) -> Vec<Beside<'a, 's>> {
    let mut counted = counted(tree, kind, naming);
    counted.retain(|one| !one.resource.physical_id.is_empty());
    let of = |resource: &Resource| server_of(named_server(resource).as_deref(), resource, servers);
    number(&mut counted, &|one| of(one.resource).map(|server| server.index));
    let mut all: Vec<Beside<'a, 's>> = counted
        .into_iter()
        .map(|one| (one.resource, one.name, one.number.unwrap_or_default(), of(one.resource)))
        .collect();
    all.sort_by(|a, b| (&a.1, a.2).cmp(&(&b.1, b.2)));
    all
}

fn id_of(server: Option<&Server>) -> Option<String> {
    server.map(|server| server.id.clone()).filter(|id| !id.is_empty())
}

fn ports(tree: &Tree<'_>, naming: &Naming, servers: &[Server]) -> Vec<Port> {
    let floating: Vec<&Resource> = FLOATING.into_iter().flat_map(|kind| tree.of_kind(kind)).collect();
    let leads_to = |address: &Resource, port: &Resource| {
        attributes::text(address, "port_id") == Some(&port.physical_id) || Tree::needed_by(port, address)
    };
    let named_server = |port: &Resource| attributes::text(port, "device_id").map(str::to_owned);
    beside(tree, PORT, naming, servers, &named_server)
        .into_iter()
        .map(|(port, name, index, server)| Port {
            id: port.physical_id.clone(),
            name,
            index,
            resource: port.name.clone(),
            stack: port.stack.clone(),
            server: id_of(server),
            network: attributes::text(port, "network_id").map(str::to_owned),
            mac: attributes::text(port, "mac_address").map(str::to_owned),
            fixed: attributes::fixed(port),
            floating: floating
                .iter()
                .filter(|address| leads_to(address, port))
                .find_map(|address| attributes::floating(address)),
            creation_time: port.creation_time.clone(),
        })
        .collect()
}

fn volumes(tree: &Tree<'_>, naming: &Naming, servers: &[Server]) -> Vec<Volume> {
    // A volume may be needed by its attachment only, which the server is needed by as well.
    let attachments: Vec<&Resource> = tree.of_kind(ATTACHMENT).collect();
    let named_server = |volume: &Resource| {
        let (server, _) = attributes::attachment(volume);
        let through = || {
            let attachment = attachments.iter().find(|attachment| Tree::needed_by(volume, attachment))?;
            let all = tree.of_kind(SERVER);
            let server = all.into_iter().find(|server| Tree::needed_by(server, attachment))?;
            Some(server.physical_id.clone())
        };
        server.or_else(through)
    };
    beside(tree, VOLUME, naming, servers, &named_server)
        .into_iter()
        .map(|(volume, name, index, server)| Volume {
            id: volume.physical_id.clone(),
            name,
            index,
            resource: volume.name.clone(),
            stack: volume.stack.clone(),
            server: id_of(server),
            device: attributes::attachment(volume).1,
            creation_time: volume.creation_time.clone(),
        })
        .collect()
}

fn groups(tree: &Tree<'_>) -> Vec<Group> {
    let of_group = |group: &Resource| -> Option<Group> {
        let stack = group
            .nested
            .clone()
            .or_else(|| Some(StackRef::new(&group.name, &group.physical_id)))
            .filter(|stack| !stack.id.is_empty())?;
        let mut members: Vec<&Resource> =
            tree.resources.iter().filter(|resource| resource.stack.id == stack.id).collect();
        members.sort_by_key(|member| (&member.creation_time, &member.name));
        let stack = members.first().map_or(stack, |member| member.stack.clone());
        let members = members.into_iter().map(|member| member.name.clone()).collect();
        Some(Group { name: group.name.clone(), stack, members })
    };
    GROUPS.into_iter().flat_map(|kind| tree.of_kind(kind)).filter_map(of_group).collect()
}
