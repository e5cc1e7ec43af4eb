//! Connections that an agent was given: which endpoints may use what of each other.

use std::sync::Arc;

use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Properties, Reply, RequestBody},
    types::{Connection, Link, Status},
};
use serde_json::Value;

use super::{
    FabricService,
    links::happening,
    lock,
    record::{ConnectionRecord, is_good_id},
};
use crate::bmc::body;

/// Most connections of a fabric.
const MOST: usize = 65_536;

impl FabricService {
    fn connection_uri(&self, id: &str) -> String {
        self.uri(&format!("/Connections/{id}"))
    }

    /// A connection.
    pub(super) fn connection(&self, id: &str) -> Result<Value, ServiceError> {
        let uri = self.connection_uri(id);
        let record = lock(&self.record);
        let kept = record.connections.get(id).ok_or_else(|| ServiceError::not_found(&uri))?;
        let mut connection = Connection::at(&uri, &kept.name);
        connection.description.clone_from(&kept.description);
        connection.connection_type.clone_from(&kept.kind);
        connection.links.initiator_endpoints =
            kept.initiators.iter().map(|id| Link::to(self.endpoint_uri(id))).collect();
        connection.links.target_endpoints =
            kept.targets.iter().map(|id| Link::to(self.endpoint_uri(id))).collect();
        connection.status = Status::healthy("Enabled");
        body(&connection)
    }

    /// POST of a connection.
    pub(super) async fn create_connection(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut properties = Properties::create(request.required()?);
        let id = properties.string("Id");
        if let Some(id) = id.as_deref().filter(|id| !is_good_id(id)) {
            properties.format_error::<()>("Id", id);
        }
        let name = properties.string("Name");
        let description = properties.nullable_string("Description").flatten();
        let kind = properties.choice("ConnectionType", &["Memory", "Storage"]);
        properties.require("Links");
        let links = properties.object("Links", |links| {
            let mut side = |name: &str| {
                links.require(name);
                self.read_endpoints(links, name).unwrap_or_default()
            };
            (side("InitiatorEndpoints"), side("TargetEndpoints"))
        });
        properties.finish()?;
        let (initiators, targets) = links.unwrap_or_default();
        let created = self.update(|record| {
            if record.connections.len() >= MOST {
                return Err(ServiceError::conflict(message::create_limit_reached()));
            }
            let id = id.unwrap_or_else(|| record.fresh_id("connection"));
            if record.connections.contains_key(&id) {
                return Err(ServiceError::conflict(message::resource_already_exists(
                    "Connection",
                    "Id",
                    &id,
                )));
            }
            let name = name.unwrap_or_else(|| format!("Connection {id}"));
            let connection = ConnectionRecord { name, description, kind, initiators, targets };
            record.connections.insert(id.clone(), Arc::new(connection));
            Ok(id)
        });
        let id = created.await?;
        let text = "The connection %1 of the fabric %2 was created.";
        let uri = self.connection_uri(&id);
        self.publish(&happening(
            "ConnectionCreated",
            text,
            false,
            &[&id, &self.spec().id],
            &uri,
            "Connection",
        ));
        Ok(Reply::created(self.connection(&id)?))
    }

    /// DELETE of a connection.
    pub(super) async fn delete_connection(&self, id: &str, uri: &str) -> Result<Reply, ServiceError> {
        self.update(|record| {
            record.connections.remove(id).map(|_| ()).ok_or_else(|| ServiceError::not_found(uri))
        })
        .await?;
        let text = "The connection %1 of the fabric %2 was removed.";
        self.publish(&happening("ConnectionRemoved", text, false, &[id, &self.spec().id], uri, "Connection"));
        Ok(Reply::no_content())
    }
}
