//! Zones that an agent was given: which endpoints may exchange traffic. Forwarding follows the switches' tables.

use std::{collections::BTreeSet, sync::Arc};

use drystone_redfish::{
    error::ServiceError,
    etag::ETag,
    message,
    server::{Parameters, Properties, Reply, RequestBody},
    types::{Link, Status, Zone},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    FabricService,
    links::happening,
    lock,
    record::{ZoneRecord, is_good_id},
    tree::MAX_ZONES,
};
use crate::bmc::body;

const ADD: &str = "Zone.AddEndpoint";
const REMOVE: &str = "Zone.RemoveEndpoint";

impl FabricService {
    fn zone_uri(&self, id: &str) -> String {
        self.uri(&format!("/Zones/{id}"))
    }

    /// A zone.
    pub(super) fn zone(&self, id: &str) -> Result<Value, ServiceError> {
        let uri = self.zone_uri(id);
        let record = lock(&self.record);
        let kept = record.zones.get(id).ok_or_else(|| ServiceError::not_found(&uri))?;
        let mut zone = Zone::at(&uri, &kept.name);
        zone.zone_type = Some("ZoneOfEndpoints".to_owned());
        zone.description.clone_from(&kept.description);
        zone.default_routing_enabled = Some(kept.default_routing);
        zone.links.endpoints = kept.endpoints.iter().map(|id| Link::to(self.endpoint_uri(id))).collect();
        zone.links.involved_switches =
            kept.switches.iter().map(|switch| Link::to(self.uri(&format!("/Switches/{switch}")))).collect();
        zone.status = Status::healthy("Enabled");
        for action in [ADD, REMOVE] {
            zone.actions.insert(format!("#{action}"), json!({"target": format!("{uri}/Actions/{action}")}));
        }
        body(&zone)
    }

    /// POST of a zone.
    pub(super) async fn create_zone(&self, request: RequestBody) -> Result<Reply, ServiceError> {
        let mut properties = Properties::create(request.required()?);
        let id = properties.string("Id");
        if let Some(id) = id.as_deref().filter(|id| !is_good_id(id)) {
            properties.format_error::<()>("Id", id);
        }
        let name = properties.string("Name");
        let description = properties.nullable_string("Description").flatten();
        properties.choice("ZoneType", &["ZoneOfEndpoints"]);
        let default_routing = properties.boolean("DefaultRoutingEnabled").unwrap_or(true);
        let links = properties.object("Links", |links| {
            let endpoints = self.read_endpoints(links, "Endpoints");
            (endpoints.unwrap_or_default(), self.read_switches(links))
        });
        properties.finish()?;
        let (endpoints, switches) = links.unwrap_or_default();
        let created = self.update(|record| {
            if record.zones.len() >= MAX_ZONES as usize {
                return Err(ServiceError::conflict(message::create_limit_reached()));
            }
            let id = id.unwrap_or_else(|| record.fresh_id("zone"));
            if record.zones.contains_key(&id) {
                return Err(ServiceError::conflict(message::resource_already_exists("Zone", "Id", &id)));
            }
            self.check_membership(&id, &endpoints)?;
            let name = name.unwrap_or_else(|| format!("Zone {id}"));
            let zone = ZoneRecord { name, description, default_routing, endpoints, switches };
            record.zones.insert(id.clone(), Arc::new(zone));
            Ok(id)
        });
        let id = created.await?;
        self.tell_zone("ZoneCreated", "The zone %1 of the fabric %2 was created.", &id);
        Ok(Reply::created(self.zone(&id)?))
    }

    /// PATCH of a zone.
    pub(super) async fn change_zone(
        &self,
        id: &str,
        request: RequestBody,
        uri: &str,
    ) -> Result<Reply, ServiceError> {
        self.zone(id)?;
        let mut properties = Properties::update(request.required()?);
        let description = properties.nullable_string("Description");
        let default_routing = properties.boolean("DefaultRoutingEnabled");
        properties.read_only(&["ZoneType", "Status", "Actions"]);
        let endpoints = properties.object("Links", |links| {
            links.read_only(&["InvolvedSwitches"]);
            self.read_endpoints(links, "Endpoints")
        });
        properties.finish()?;
        let changed = self.update(|record| {
            if let Some(Some(endpoints)) = &endpoints {
                self.check_membership(id, endpoints)?;
            }
            let zone = record.zones.get_mut(id).ok_or_else(|| ServiceError::not_found(uri))?;
            let zone = Arc::make_mut(zone);
            if let Some(description) = description {
                zone.description = description;
            }
            zone.default_routing = default_routing.unwrap_or(zone.default_routing);
            if let Some(endpoints) = endpoints.flatten() {
                zone.endpoints = endpoints;
            }
            Ok(())
        });
        changed.await?;
        self.tell_zone("ZoneModified", "The zone %1 of the fabric %2 was changed.", id);
        Ok(Reply::updated(self.zone(id)?))
    }

    /// DELETE of a zone.
    pub(super) async fn delete_zone(&self, id: &str, uri: &str) -> Result<Reply, ServiceError> {
        self.update(|record| record.zones.remove(id).map(|_| ()).ok_or_else(|| ServiceError::not_found(uri)))
            .await?;
        self.tell_zone("ZoneRemoved", "The zone %1 of the fabric %2 was removed.", id);
        Ok(Reply::no_content())
    }

    /// `Zone.AddEndpoint` and `Zone.RemoveEndpoint`.
    pub(super) async fn zone_action(
        &self,
        id: &str,
        action: &str,
        request: RequestBody,
    ) -> Result<Reply, ServiceError> {
        let zone = self.zone(id)?;
        let mut parameters = Parameters::action(action, request.into_object());
        parameters.require("Endpoint");
        let uri = parameters.link("Endpoint");
        let (endpoint_tag, zone_tag) = (parameters.string("EndpointETag"), parameters.string("ZoneETag"));
        parameters.finish()?;
        let uri = uri.unwrap_or_default();
        let endpoint = self.endpoint_id(&uri).ok_or_else(|| missing_link("Endpoint", &uri))?;
        check_tag(zone_tag.as_deref(), &zone)?;
        check_tag(endpoint_tag.as_deref(), &self.read_fabric(&["Endpoints", &endpoint], &uri)?)?;
        let changed = self.update(|record| {
            let mut endpoints = record.zones.get(id).map(|zone| zone.endpoints.clone()).unwrap_or_default();
            let changed =
                if action == ADD { endpoints.insert(endpoint) } else { endpoints.remove(&endpoint) };
            self.check_membership(id, &endpoints)?;
            if let Some(zone) = record.zones.get_mut(id) {
                Arc::make_mut(zone).endpoints = endpoints;
            }
            Ok(changed)
        });
        if !changed.await? {
            return Ok(Reply::no_operation());
        }
        self.tell_zone("ZoneModified", "The zone %1 of the fabric %2 was changed.", id);
        Ok(Reply::updated(self.zone(id)?))
    }

    /// Ids of the endpoints that a list of links names. What is not there is told; `None` if there is no list.
    pub(super) fn read_endpoints(&self, links: &mut Properties, name: &str) -> Option<BTreeSet<String>> {
        let uris = links.links(name)?;
        let mut ids = BTreeSet::new();
        for uri in &uris {
            match self.endpoint_id(uri) {
                Some(id) => drop(ids.insert(id)),
                None => links.reject(message::resource_missing_at_uri(uri).about(&links.path_of(name))),
            }
        }
        Some(ids)
    }

    fn read_switches(&self, links: &mut Properties) -> BTreeSet<String> {
        let uris = links.links("InvolvedSwitches").unwrap_or_default();
        let prefix = self.uri("/Switches/");
        let mut names = BTreeSet::new();
        for uri in &uris {
            match uri.strip_prefix(&prefix).filter(|name| self.switch(name).is_some()) {
                Some(name) => drop(names.insert(name.to_owned())),
                None => links
                    .reject(message::resource_missing_at_uri(uri).about(&links.path_of("InvolvedSwitches"))),
            }
        }
        names
    }

    fn endpoint_id(&self, uri: &str) -> Option<String> {
        let id = uri.strip_prefix(&self.uri("/Endpoints/"))?;
        self.attached(id).map(|_| id.to_owned())
    }

    /// An endpoint that is not shared is in one zone.
    fn check_membership(&self, id: &str, endpoints: &BTreeSet<String>) -> Result<(), ServiceError> {
        let mut wrong = Vec::new();
        let membership = lock(&self.membership);
        let exclusive = |endpoint: &&String| self.attached(endpoint).is_some_and(|attached| !attached.shared);
        for endpoint in endpoints.iter().filter(exclusive) {
            if let Some(other) = membership.zones(endpoint).find(|other| *other != id) {
                let (endpoint, other) = (self.endpoint_uri(endpoint), self.zone_uri(other));
                wrong.push(message::property_value_resource_conflict("Links/Endpoints", &endpoint, &other));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::CONFLICT, wrong)) }
    }

    fn tell_zone(&self, key: &str, text: &str, id: &str) {
        let uri = self.zone_uri(id);
        self.publish(&happening(key, text, false, &[id, &self.spec().id], &uri, "Zone"));
    }
}

/// 400: a link leads to nothing.
pub(super) fn missing_link(property: &str, uri: &str) -> ServiceError {
    ServiceError::bad_request(message::resource_missing_at_uri(uri).about(property))
}

/// Compares an entity tag that an action was given: another state is 428.
pub(super) fn check_tag(tag: Option<&str>, resource: &Value) -> Result<(), ServiceError> {
    if tag.is_some_and(|tag| tag != ETag::of(resource).as_str()) {
        return Err(ServiceError::new(StatusCode::PRECONDITION_REQUIRED, message::precondition_required()));
    }
    Ok(())
}
