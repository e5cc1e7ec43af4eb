//! OpenStack as a VIM: stacks of Heat.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use drystone_identity::Secret;
use drystone_openstack::{
    self as openstack, Action, CertificateCheck, Clouds, Heat, KnownServer, Naming, NewStack, OpenStackError,
    StackChange, StackRef, State,
};
use serde_json::{Map, Value};

use super::vim::{Access, InventoryAsk, Told, VimDriver, VimError, VimSession};
use crate::model::{Address, Inventory, Port, Server, StackRequest, Volume};

/// How long Heat may take for a stack. It gives up on its own after 20 minutes; a little more lets it say so.
const WITHIN: Duration = Duration::from_secs(21 * 60);

/// OpenStacks, with one token for all that use one with the same credentials.
#[derive(Debug, Default)]
pub struct OpenStackDriver {
    clouds: Clouds,
}

#[async_trait]
impl VimDriver for OpenStackDriver {
    fn session(&self, access: &Access) -> Result<Box<dyn VimSession>, VimError> {
        let heat = self.clouds.heat(&cloud_access(access)?).map_err(|error| refused(&error))?;
        Ok(Box::new(OpenStack { heat }))
    }
}

struct OpenStack {
    heat: Heat,
}

/// What a VimConnectionInfo says, as the client needs it.
fn cloud_access(access: &Access) -> Result<openstack::Access, VimError> {
    let text = |name: &str| {
        let given = access.secrets.get(name).or_else(|| access.info.access_info.get(name));
        given.or_else(|| access.info.interface_info.get(name)).and_then(Value::as_str).map(str::to_owned)
    };
    let needed = |name: &str| {
        text(name).filter(|value| !value.is_empty()).ok_or_else(|| {
            VimError::Permanent(format!(
                "the connection to the VIM has no {name}; complete it in vimConnectionInfo or in the Vim"
            ))
        })
    };
    let domain = |names: [&str; 2]| names.into_iter().find_map(text).unwrap_or_else(|| "Default".to_owned());
    let skip = access.info.interface_info.get("skipCertificateVerification");
    let skip =
        skip.is_some_and(|skip| skip == &Value::Bool(true) || skip == &Value::String("true".to_owned()));
    let certificates = match (skip, &access.certificate_authority) {
        (true, _) => CertificateCheck::Disabled,
        (false, Some(authority)) => CertificateCheck::Authorities(authority.clone()),
        (false, None) => CertificateCheck::Platform,
    };
    let password = Secret::from(needed("password")?.as_str());
    Ok(openstack::Access {
        user_domain: domain(["userDomain", "userDomainName"]),
        project_domain: domain(["projectDomain", "projectDomainName"]),
        region: text("region").filter(|region| !region.is_empty()),
        certificates,
        ..openstack::Access::new(needed("endpoint")?, needed("username")?, password, needed("project")?)
    })
}

fn refused(error: &OpenStackError) -> VimError {
    if error.is_transient() {
        VimError::Transient(error.to_string())
    } else {
        VimError::Permanent(error.to_string())
    }
}

fn reference(stack: &str) -> Result<StackRef, VimError> {
    stack.parse().map_err(VimError::Permanent)
}

impl OpenStack {
    async fn wait(&self, stack: &StackRef, action: Action, told: Told<'_>) -> Result<(), VimError> {
        let mut progress = |progress: openstack::Progress| told(progress.to_string());
        self.heat.wait(stack, action, WITHIN, &mut progress).await.map(drop).map_err(|error| refused(&error))
    }

    /// Completes a stack that was made before, by this attempt or an earlier one.
    async fn complete(
        &self,
        stack: &StackRef,
        owner: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<(), VimError> {
        let found = self.heat.stack(stack).await.map_err(|error| refused(&error))?;
        match found.state {
            State::Complete => Ok(()),
            State::Init | State::InProgress => self.wait(stack, found.action, told).await,
            State::Failed => {
                told(format!("{} is {}; it is completed", stack.name, found.status));
                let change = StackChange {
                    template: request.template.clone(),
                    parameters: request.parameters.clone(),
                    files: request.files.clone(),
                    ..StackChange::default()
                };
                self.heat.update(stack, &change, owner).await.map_err(|error| refused(&error))?;
                self.wait(stack, Action::Update, told).await
            }
        }
    }

    /// A change on top of what the stack has.
    async fn onto(&self, stack: &StackRef, request: &StackRequest) -> Result<StackChange, VimError> {
        let nothing_to_merge =
            request.template.is_none() && request.parameters.get("nfv").is_none_or(is_empty_object);
        if nothing_to_merge {
            return Ok(StackChange::default());
        }
        let asked = drystone_csar::userdata::StackRequest {
            template: request.template.clone(),
            parameters: request.parameters.clone(),
            files: request.files.clone(),
            existing: true,
        };
        let shown = self.heat.stack(stack).await.map_err(|error| refused(&error))?.parameters;
        // What Heat adds of itself (`OS::stack_id`) is nothing that it takes.
        let shown: Map<String, Value> =
            shown.into_iter().filter(|(name, _)| !name.starts_with("OS::")).collect();
        let (template, files) = match &request.template {
            None => (String::new(), BTreeMap::new()),
            Some(_) => {
                let template = self.heat.template(stack).await.map_err(|error| refused(&error))?;
                (template.to_string(), self.heat.files(stack).await.map_err(|error| refused(&error))?)
            }
        };
        let full = asked.onto(&template, &shown).map_err(|error| VimError::Permanent(error.to_string()))?;
        // Heat keeps parameters that a change does not name: those that stay as they are need not be sent, and hidden ones must not.
        let changed = |name: &String| request.parameters.contains_key(name);
        let parameters = full.parameters.into_iter().filter(|(name, _)| changed(name)).collect();
        let template = request.template.as_ref().and(full.template);
        Ok(StackChange { template, parameters, files, ..StackChange::default() })
    }
}

fn is_empty_object(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty)
}

#[async_trait]
impl VimSession for OpenStack {
    async fn create(
        &self,
        name: &str,
        owner: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<String, VimError> {
        let stack = NewStack {
            name: name.to_owned(),
            template: request.template.clone().unwrap_or_default(),
            parameters: request.parameters.clone(),
            files: request.files.clone(),
            ..NewStack::default()
        };
        let made = self.heat.create(&stack, owner).await.map_err(|error| refused(&error))?;
        if made.adopted {
            self.complete(&made.stack, owner, request, told).await?;
        } else {
            self.wait(&made.stack, Action::Create, told).await?;
        }
        Ok(made.stack.to_string())
    }

    async fn update(
        &self,
        stack: &str,
        owner: &str,
        request: &StackRequest,
        told: Told<'_>,
    ) -> Result<(), VimError> {
        let stack = reference(stack)?;
        let change = if request.existing {
            self.onto(&stack, request).await?
        } else {
            StackChange {
                template: request.template.clone(),
                parameters: request.parameters.clone(),
                files: request.files.clone(),
                ..StackChange::default()
            }
        };
        self.heat.update(&stack, &change, owner).await.map_err(|error| refused(&error))?;
        self.wait(&stack, Action::Update, told).await
    }

    async fn delete(&self, stack: &str, told: Told<'_>) -> Result<(), VimError> {
        let stack = reference(stack)?;
        self.heat.delete(&stack).await.map_err(|error| refused(&error))?;
        self.wait(&stack, Action::Delete, told).await
    }

    async fn find(&self, name: &str, owner: &str) -> Result<Option<String>, VimError> {
        let found = self.heat.find(name).await.map_err(|error| refused(&error))?;
        let found = found.filter(|stack| {
            let gone = stack.action == Action::Delete && stack.state == State::Complete;
            !gone && stack.tags.iter().any(|tag| tag == owner)
        });
        Ok(found.map(|stack| stack.reference.to_string()))
    }

    async fn mark_unhealthy(&self, stack: &str, resource: &str, reason: &str) -> Result<(), VimError> {
        self.heat.mark_unhealthy(&reference(stack)?, resource, reason).await.map_err(|error| refused(&error))
    }

    async fn inventory(&self, ask: InventoryAsk<'_>) -> Result<Inventory, VimError> {
        let known = ask.known.iter().map(|vnfc| KnownServer {
            id: vnfc.server.clone(),
            vdu: vnfc.member.vdu.clone(),
            index: vnfc.member.index,
            parent_resource: vnfc.group.as_ref().map(|(_, member)| member.clone()),
        });
        let naming = Naming { names: ask.names.iter().cloned().collect(), known: known.collect() };
        let found =
            self.heat.inventory(&reference(ask.stack)?, &naming).await.map_err(|error| refused(&error))?;
        Ok(inventory(&found))
    }

    async fn check(&self) -> Result<(Vec<String>, Option<String>), VimError> {
        let session = self.heat.keystone().check().await.map_err(|error| refused(&error))?;
        Ok((session.regions.into_iter().collect(), Some(session.project)))
    }
}

/// What the client found, as the life cycle shows it.
fn inventory(found: &openstack::Inventory) -> Inventory {
    let of_server = |port: &openstack::Port, id: &str| port.server.as_deref() == Some(id) && !id.is_empty();
    let servers = found.servers.iter().map(|server| Server {
        vdu: server.vdu.clone(),
        index: server.index,
        id: server.id.clone(),
        name: server.name.clone().unwrap_or_default(),
        host: server.host.clone(),
        zone: server.zone.clone(),
        created: server.creation_time.clone(),
        stack: server.stack.to_string(),
        resource: server.resource.clone(),
        parent_stack: server
            .parent
            .as_ref()
            .filter(|parent| parent.in_group)
            .map(|parent| parent.stack.to_string()),
        parent_resource: server
            .parent
            .as_ref()
            .filter(|parent| parent.in_group)
            .map(|parent| parent.resource.clone()),
        ports: found.ports.iter().filter(|it| of_server(it, &server.id)).map(port).collect(),
        volumes: server.volumes.clone(),
    });
    let servers: Vec<Server> = servers.collect();
    let alone = |port: &&openstack::Port| !found.servers.iter().any(|server| of_server(port, &server.id));
    let volumes = found.volumes.iter().map(|volume| Volume {
        name: volume.name.clone(),
        id: volume.id.clone(),
        stack: volume.stack.to_string(),
        resource: volume.resource.clone(),
        server: volume.server.clone(),
        device: volume.device.clone(),
    });
    Inventory {
        stack: found.stack.to_string(),
        servers,
        ports: found.ports.iter().filter(alone).map(port).collect(),
        volumes: volumes.collect(),
        networks: found.networks.iter().map(|network| (network.name.clone(), network.id.clone())).collect(),
    }
}

fn port(port: &openstack::Port) -> Port {
    let addresses = port.fixed.iter().map(|fixed| Address {
        address: fixed.address.to_string(),
        subnet: fixed.subnet.clone().unwrap_or_default(),
    });
    Port {
        name: port.name.clone(),
        id: port.id.clone(),
        addresses: addresses.collect(),
        floating: port.floating.map(|address| address.to_string()),
    }
}
