//! A template becomes a tree of stacks.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    Addresses, Catalogue, Hosts, groups, is_group,
    scope::StackScope,
    types::{self, Change},
};
use crate::{
    cloud::{
        hot::{self, Definition, HotError, Template},
        model::{Action, Inputs, Leaving, Nic, Output, Pending, Resource, Stack, Status},
    },
    site::CloudNetwork,
};

/// Deepest nesting of stacks.
const DEEPEST: u32 = 5;
/// Most resources of a stack with all that is nested in it.
const MOST_RESOURCES: usize = 2000;

/// What there is before anything is planned, and what is taken from it.
pub(in crate::cloud) struct World<'a> {
    /// What the cloud offers.
    pub(in crate::cloud) catalogue: &'a Catalogue,
    /// Addresses that are given out.
    pub(in crate::cloud) addresses: &'a mut Addresses,
    /// How full hosts are.
    pub(in crate::cloud) hosts: &'a mut Hosts,
    /// Gives new ids.
    pub(in crate::cloud) ids: &'a mut dyn FnMut() -> Uuid,
    /// The time.
    pub(in crate::cloud) now: Timestamp,
    /// Id of the project.
    pub(in crate::cloud) project: Uuid,
    /// Stacks as they were before, by id; empty for a new one.
    pub(in crate::cloud) previous: &'a BTreeMap<Uuid, Stack>,
    /// Sizes that groups shall have whatever they say, by stack and name.
    pub(in crate::cloud) sizes: BTreeMap<(Uuid, String), u64>,
}

/// What is wanted.
#[derive(Debug)]
pub(in crate::cloud) struct Realized {
    /// The stacks, by id.
    pub(in crate::cloud) stacks: BTreeMap<Uuid, Stack>,
    /// Resources of the stacks before that are not wanted any more.
    pub(in crate::cloud) leaving: Vec<Leaving>,
}

/// Plans a stack. If it cannot be, nothing has been taken.
///
/// # Errors
/// The template, its files, its environment or its parameters cannot be used.
pub(in crate::cloud) fn realize<'a>(
    world: World<'a>,
    id: Uuid,
    name: &str,
    inputs: &'a Inputs,
) -> Result<Realized, HotError> {
    let environment = Environment::read(inputs)?;
    let template = Template::parse(&inputs.template)?;
    let mut given = environment.parameters;
    given.extend(inputs.parameters.clone());
    // Presets of an environment are for whatever parameters there are.
    for (parameter, value) in environment.defaults {
        if template.parameters.contains_key(&parameter) {
            given.entry(parameter).or_insert(value);
        }
    }
    let mut planner = Planner {
        files: &inputs.files,
        registry: environment.registry,
        stacks: BTreeMap::new(),
        leaving: Vec::new(),
        ports: HashMap::new(),
        networks: HashMap::new(),
        groups: HashMap::new(),
        volumes: BTreeSet::new(),
        given: Vec::new(),
        placed: Vec::new(),
        count: 0,
        world,
    };
    planner.remember_groups();
    let frame = Frame { id, name: name.to_owned(), parent: None, depth: 0, base: 0 };
    let planned = hot::resolve(&template.parameters, &given)
        .and_then(|parameters| planner.stack(&frame, &template, &parameters));
    if let Err(error) = planned {
        planner.give_back();
        return Err(error);
    }
    let (mut stacks, mut leaving) = (planner.stacks, planner.leaving);
    super::settle::link(&mut stacks);
    leaving.sort_by_key(|leaving| std::cmp::Reverse(leaving.resource.level));
    Ok(Realized { stacks, leaving })
}

/// What an environment says.
#[derive(Debug, Default)]
struct Environment {
    parameters: Map<String, Value>,
    defaults: Map<String, Value>,
    registry: BTreeMap<String, String>,
}

impl Environment {
    fn read(inputs: &Inputs) -> Result<Self, HotError> {
        let mut read = Self::default();
        for (key, value) in &inputs.environment {
            let map = || {
                let empty = Map::new();
                match value {
                    Value::Object(map) => Ok(map.clone()),
                    Value::Null => Ok(empty),
                    _ => Err(HotError::new(format!("environment.{key}"), "must be a map")),
                }
            };
            match key.as_str() {
                "parameters" => read.parameters = map()?,
                "parameter_defaults" => read.defaults = map()?,
                "resource_registry" => {
                    for (name, target) in map()? {
                        let Value::String(target) = target else {
                            return Err(HotError::new(
                                format!("environment.resource_registry.{name}"),
                                "must be the name of a file or of a type; hooks and resources by name are not understood",
                            ));
                        };
                        read.registry.insert(name, target);
                    }
                }
                // How several environments were put together; what is merged is here.
                "encrypted_param_names" | "event_sinks" | "parameter_merge_strategies" => {}
                other => return Err(HotError::new(format!("environment.{other}"), "is not understood")),
            }
        }
        Ok(read)
    }
}

/// A stack that is being planned: where it is.
struct Frame {
    id: Uuid,
    name: String,
    parent: Option<(Uuid, String)>,
    depth: u32,
    /// Its resources are of higher levels than this.
    base: u32,
}

/// Where a resource is.
struct Place<'a> {
    stack: &'a Frame,
    name: &'a str,
    level: u32,
}

pub(super) struct Planner<'a> {
    pub(super) world: World<'a>,
    pub(super) files: &'a BTreeMap<String, String>,
    registry: BTreeMap<String, String>,
    pub(super) stacks: BTreeMap<Uuid, Stack>,
    leaving: Vec<Leaving>,
    /// Ports that are wanted.
    pub(super) ports: HashMap<Uuid, Nic>,
    /// Networks that stacks make; without a subnet, without addresses.
    pub(super) networks: HashMap<Uuid, Option<CloudNetwork>>,
    /// Server groups: their policy, and the hosts that their members are on.
    pub(super) groups: HashMap<Uuid, (String, Vec<String>)>,
    /// Volumes that are wanted.
    pub(super) volumes: BTreeSet<Uuid>,
    /// What was taken, to be given back if all comes to nothing.
    pub(super) given: Vec<(Uuid, IpAddr, Uuid)>,
    pub(super) placed: Vec<String>,
    count: usize,
}

impl Planner<'_> {
    /// Members of server groups that stay keep their hosts to themselves.
    fn remember_groups(&mut self) {
        let resources = self.world.previous.values().flat_map(|stack| stack.resources.values());
        for server in resources.filter(|one| one.kind == "OS::Nova::Server" && !one.is_unhealthy()) {
            let group = server.properties.pointer("/scheduler_hints/group").and_then(Value::as_str);
            let host = server.attributes.get("OS-EXT-SRV-ATTR:host").and_then(Value::as_str);
            if let (Some(Ok(group)), Some(host)) = (group.map(Uuid::parse_str), host) {
                self.groups.entry(group).or_default().1.push(host.to_owned());
            }
        }
    }

    fn give_back(&mut self) {
        for (network, address, port) in self.given.drain(..) {
            self.world.addresses.release(network, address, port);
        }
        for host in self.placed.drain(..) {
            self.world.hosts.remove(&host);
        }
    }

    /// Plans a stack; returns the highest level in it.
    fn stack(
        &mut self,
        frame: &Frame,
        template: &Template,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<u32, HotError> {
        if frame.depth > DEEPEST {
            return Err(HotError::new("", format!("stacks are nested deeper than {DEEPEST} levels")));
        }
        let before = self.world.previous;
        let previous = before.get(&frame.id);
        let mut stack = blank(frame, template, parameters, self.world.project, self.world.now);
        if let Some(previous) = previous {
            (stack.created, stack.updated) = (previous.created, previous.updated);
            (stack.action, stack.status) = (previous.action, previous.status);
            previous.reason.clone_into(&mut stack.reason);
        }
        let mut highest = frame.base;
        for name in template.order()? {
            let path = format!("resources.{name}");
            let Some(definition) = template.resources.get(&name) else { continue };
            let scope = StackScope::new(self, &stack, template, parameters);
            if let Some(condition) = &definition.condition
                && !hot::holds(condition, &scope).map_err(|error| error.within(&path))?
            {
                continue;
            }
            let evaluated = evaluate(definition, &scope).map_err(|error| error.within(&path))?;
            let needs: Vec<String> = definition
                .needs()
                .into_iter()
                .filter(|needed| stack.resources.contains_key(needed))
                .collect();
            let below = needs.iter().filter_map(|needed| stack.resources.get(needed)).map(|one| one.level);
            let level = below.max().unwrap_or(frame.base) + 1;
            let place = Place { stack: frame, name: &name, level };
            let mut resource =
                self.resource(&place, definition, evaluated).map_err(|error| error.within(&path))?;
            resource.needs = needs;
            highest = highest.max(resource.level);
            stack.resources.insert(name, resource);
        }
        stack.outputs = self.outputs(template, &stack, parameters)?;
        for (name, resource) in previous.iter().flat_map(|previous| &previous.resources) {
            if !stack.resources.contains_key(name) {
                self.leave(frame.id, resource);
            }
        }
        self.stacks.insert(frame.id, stack);
        Ok(highest)
    }

    fn outputs(
        &self,
        template: &Template,
        stack: &Stack,
        parameters: &BTreeMap<String, Value>,
    ) -> Result<BTreeMap<String, Output>, HotError> {
        let scope = StackScope::new(self, stack, template, parameters);
        let told = template.outputs.iter().map(|(name, (value, description))| {
            let value =
                hot::evaluate(value, &scope).map_err(|error| error.within(&format!("outputs.{name}")))?;
            Ok((name.clone(), Output { value, description: description.clone() }))
        });
        told.collect()
    }

    /// A resource that was there is not wanted any more; nor is what is inside it.
    fn leave(&mut self, stack: Uuid, resource: &Resource) {
        if resource.nested {
            let before = self.world.previous;
            let inside = before.get(&resource.physical);
            for inner in inside.iter().flat_map(|inside| inside.resources.values()) {
                self.leave(resource.physical, inner);
            }
        }
        self.leaving.push(Leaving { stack, resource: resource.clone() });
    }

    fn resource(
        &mut self,
        place: &Place<'_>,
        definition: &Definition,
        (properties, metadata): (Map<String, Value>, Value),
    ) -> Result<Resource, HotError> {
        self.count += 1;
        if self.count > MOST_RESOURCES {
            return Err(HotError::new("", format!("the stack has more than {MOST_RESOURCES} resources")));
        }
        let kind = self.registry.get(&definition.kind).unwrap_or(&definition.kind).clone();
        let old = self.world.previous.get(&place.stack.id).and_then(|stack| stack.resources.get(place.name));
        // Another type, or something broken, is replaced.
        let kept = old.filter(|old| old.kind == definition.kind && !old.is_broken()).cloned();
        if let Some(old) = old.filter(|_| kept.is_none()).cloned() {
            self.leave(place.stack.id, &old);
        }
        let mut resource = match types::find(&kind) {
            Some(known) => self.leaf(place, known, kept, &properties)?,
            None => self.nested(place, &kind, kept, &properties)?,
        };
        resource.kind.clone_from(&definition.kind);
        resource.metadata = metadata;
        Ok(resource)
    }

    /// A resource that is no stack.
    fn leaf(
        &mut self,
        place: &Place<'_>,
        known: &types::Type,
        kept: Option<Resource>,
        properties: &Map<String, Value>,
    ) -> Result<Resource, HotError> {
        types::check(known, properties)?;
        let value = Value::Object(properties.clone());
        let difference = kept.as_ref().and_then(|old| types::difference(known, &old.properties, &value));
        let kept = match (kept, difference) {
            (Some(old), Some(Change::Replace)) => {
                self.leave(place.stack.id, &old);
                None
            }
            (kept, _) => kept,
        };
        let pending = match (&kept, difference) {
            (None, _) => Some(Pending::Create),
            // What has not been made yet is made as it is wanted now.
            (Some(old), _) if old.pending == Some(Pending::Create) => Some(Pending::Create),
            (Some(_), Some(Change::Rebuild)) => Some(Pending::Rebuild),
            (Some(old), _) if old.pending == Some(Pending::Rebuild) => Some(Pending::Rebuild),
            (Some(_), Some(_)) => Some(Pending::Update),
            (Some(old), None) => old.pending,
        };
        let mut resource = kept.unwrap_or_else(|| self.fresh(place));
        resource.level = place.level;
        resource.properties = value;
        resource.pending = pending;
        resource.doomed = None;
        self.settle(place.name, known.name, &mut resource)?;
        Ok(resource)
    }

    /// A resource that is a stack: a group, or a template in a file.
    fn nested(
        &mut self,
        place: &Place<'_>,
        kind: &str,
        kept: Option<Resource>,
        properties: &Map<String, Value>,
    ) -> Result<Resource, HotError> {
        let previous = self.world.previous;
        let before = kept.as_ref().and_then(|old| Some((old, previous.get(&old.physical)?)));
        let (template, parameters) = if is_group(kind) {
            let told = self.world.sizes.get(&(place.stack.id, place.name.to_owned())).copied();
            (groups::template(kind, properties, before, told, self.world.ids)?, BTreeMap::new())
        } else {
            let file = self.files.get(kind).ok_or_else(|| HotError::new("type", unknown_type(kind)))?;
            let inner = |error: HotError| error.within(kind);
            let template = Template::parse(&Value::String(file.clone())).map_err(inner)?;
            let given: Map<String, Value> = properties
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            let parameters = hot::resolve(&template.parameters, &given).map_err(inner)?;
            (template, parameters)
        };
        let mut resource = kept.unwrap_or_else(|| self.fresh(place));
        let frame = Frame {
            id: resource.physical,
            name: format!(
                "{}-{}-{}",
                place.stack.name,
                place.name,
                &resource.physical.simple().to_string()[..12]
            ),
            parent: Some((place.stack.id, place.name.to_owned())),
            depth: place.stack.depth + 1,
            base: place.level,
        };
        resource.level = self.stack(&frame, &template, &parameters)?;
        resource.properties = Value::Object(properties.clone());
        resource.nested = true;
        resource.attributes = json!({});
        Ok(resource)
    }

    fn fresh(&mut self, place: &Place<'_>) -> Resource {
        Resource {
            name: place.name.to_owned(),
            kind: String::new(),
            physical: (self.world.ids)(),
            action: Action::Init,
            status: Status::Complete,
            reason: String::new(),
            created: self.world.now,
            updated: None,
            properties: Value::Null,
            metadata: Value::Null,
            attributes: json!({}),
            needs: Vec::new(),
            level: place.level,
            pending: None,
            doomed: None,
            nested: false,
            nics: Vec::new(),
            volumes: Vec::new(),
        }
    }
}

fn blank(
    frame: &Frame,
    template: &Template,
    parameters: &BTreeMap<String, Value>,
    project: Uuid,
    now: Timestamp,
) -> Stack {
    let mut shown: Map<String, Value> = parameters
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), hot::shown(template.parameters.get(name)?, value))))
        .collect();
    shown.insert("OS::project_id".to_owned(), json!(project.simple().to_string()));
    shown.insert("OS::stack_id".to_owned(), json!(frame.id));
    shown.insert("OS::stack_name".to_owned(), json!(frame.name));
    Stack {
        id: frame.id,
        name: frame.name.clone(),
        parent: frame.parent.clone(),
        description: template.description.clone(),
        parameters: shown,
        outputs: BTreeMap::new(),
        action: Action::Create,
        status: Status::InProgress,
        reason: String::new(),
        created: now,
        updated: None,
        resources: BTreeMap::new(),
    }
}

fn evaluate(
    definition: &Definition,
    scope: &StackScope<'_, '_>,
) -> Result<(Map<String, Value>, Value), HotError> {
    if definition.literal {
        return Ok((definition.properties.clone(), definition.metadata.clone()));
    }
    let mut properties = Map::new();
    for (name, value) in &definition.properties {
        let evaluated =
            hot::evaluate(value, scope).map_err(|error| error.within(&format!("properties.{name}")))?;
        properties.insert(name.clone(), evaluated);
    }
    let metadata = hot::evaluate(&definition.metadata, scope).map_err(|error| error.within("metadata"))?;
    Ok((properties, metadata))
}

fn unknown_type(kind: &str) -> String {
    let known = types::known_types().join(", ");
    if kind.ends_with(".yaml") || kind.ends_with(".yml") || kind.ends_with(".template") {
        format!("Could not fetch remote template \"{kind}\": no such file came with the template")
    } else {
        format!(
            "The Resource Type ({kind}) could not be found. This cloud has {known}, and templates in files"
        )
    }
}
