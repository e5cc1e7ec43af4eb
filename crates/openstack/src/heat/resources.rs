//! Resources of stacks.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::{Heat, Repeat, Resource, StackRef, types::RawResource};
use crate::{Inventory, Naming, OpenStackError, inventory};

/// How deep stacks are looked into: as deep as Heat lets them be nested.
const DEPTH: &str = "5";

/// Resources asked about at one time.
const AT_ONCE: usize = 8;

#[derive(Deserialize)]
struct Several {
    resources: Vec<RawResource>,
}

#[derive(Deserialize)]
struct One {
    resource: RawResource,
}

impl Heat {
    /// The resources of a stack and of those nested in it, without attributes.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn resources(&self, stack: &StackRef) -> Result<Vec<Resource>, OpenStackError> {
        self.list_resources(stack, false).await
    }

    async fn list_resources(&self, stack: &StackRef, detail: bool) -> Result<Vec<Resource>, OpenStackError> {
        let mut query = vec![("nested_depth", DEPTH)];
        if detail {
            query.push(("with_detail", "true"));
        }
        let answer = self.get(&["stacks", &stack.name, &stack.id, "resources"], &query).await?;
        let resources = answer.parse::<Several>()?.resources;
        Ok(resources.into_iter().map(|resource| resource.understood(stack)).collect())
    }

    /// One resource, with its attributes. `stack` is the one whose template names it ([`Resource::stack`]).
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn resource(&self, stack: &StackRef, name: &str) -> Result<Resource, OpenStackError> {
        let answer = self.get(&["stacks", &stack.name, &stack.id, "resources", name], &[]).await?;
        Ok(answer.parse::<One>()?.resource.understood(stack))
    }

    /// Says that a resource is broken: the next change of the stack replaces it.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn mark_unhealthy(
        &self,
        stack: &StackRef,
        name: &str,
        reason: &str,
    ) -> Result<(), OpenStackError> {
        let body = json!({"mark_unhealthy": true, "resource_status_reason": reason});
        let path = ["stacks", &stack.name, &stack.id, "resources", name];
        self.send(&Method::PATCH, &path, &[], Some(&body), (Repeat::Safe, &[])).await.map(drop)
    }

    /// What is in a stack: servers, ports, volumes, networks and groups.
    ///
    /// One request, if Heat gives the attributes with the list; else one more for each server, port, floating address and volume,
    /// a few at a time.
    ///
    /// # Errors
    /// See [`OpenStackError`].
    pub async fn inventory(&self, stack: &StackRef, naming: &Naming) -> Result<Inventory, OpenStackError> {
        let resources = self.list_resources(stack, true).await?;
        let resources: Vec<Resource> = stream::iter(resources)
            .map(|resource| self.with_attributes(resource))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(inventory::build(stack, &resources, naming))
    }

    async fn with_attributes(&self, resource: Resource) -> Result<Resource, OpenStackError> {
        if resource.attributes.is_some() || !inventory::needs_attributes(&resource) {
            return Ok(resource);
        }
        let path = ["stacks", &resource.stack.name, &resource.stack.id, "resources", &resource.name];
        let also = [StatusCode::NOT_FOUND];
        let answer = self.send(&Method::GET, &path, &[], None, (Repeat::Safe, &also)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            // It went away meanwhile.
            return Ok(resource);
        }
        let detailed = answer.parse::<One>()?.resource.understood(&resource.stack);
        Ok(Resource { attributes: detailed.attributes, ..resource })
    }
}
