//! What a core or a client makes at a Sunfish agent: memory chunks, zones and connections. They are kept as they were given,
//! once what they say has been checked against what there is.

use std::collections::BTreeMap;

use axum::body::Body;
use drystone_redfish::{
    error::ServiceError,
    message::{self, Message},
};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::{Kept, SunfishAgent, hardware::Adapter, respond};

/// Most objects of an agent.
const MOST: usize = 16_384;
/// Properties of a chunk that nobody can change.
const FIXED: [&str; 4] = ["Id", "MemoryChunkSizeMiB", "AddressRangeOffsetMiB", "AddressRangeType"];

/// What is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A part of the memory of an adapter.
    Chunk,
    /// Endpoints that may exchange traffic.
    Zone,
    /// Which chunks an endpoint may use.
    Connection,
}

impl Kind {
    const fn odata_type(self) -> &'static str {
        match self {
            Self::Chunk => "#MemoryChunks.v1_6_2.MemoryChunks",
            Self::Zone => "#Zone.v1_6_3.Zone",
            Self::Connection => "#Connection.v1_4_0.Connection",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Chunk => "MemoryChunks",
            Self::Zone => "Zone",
            Self::Connection => "Connection",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::Zone => "zone",
            Self::Connection => "connection",
        }
    }
}

/// Objects by URI.
type Objects = BTreeMap<String, Map<String, Value>>;

/// A place where objects are made.
struct Room<'a> {
    kind: Kind,
    /// For chunks, whose memory it is.
    adapter: Option<Adapter<'a>>,
}

impl SunfishAgent {
    fn room(&self, path: &[&str]) -> Option<Room<'_>> {
        match path {
            ["Chassis", appliance, "MemoryDomains", number, "MemoryChunks"] => {
                Some(Room { kind: Kind::Chunk, adapter: Some(self.adapter(appliance, number)?) })
            }
            ["Fabrics", id, "Zones"] if *id == self.spec.id => Some(Room { kind: Kind::Zone, adapter: None }),
            ["Fabrics", id, "Connections"] if *id == self.spec.id => {
                Some(Room { kind: Kind::Connection, adapter: None })
            }
            _ => None,
        }
    }

    /// An object that was made.
    pub(super) fn object(&self, uri: &str) -> Option<Value> {
        self.kept().objects.get(uri).cloned().map(Value::Object)
    }

    /// Ids of the objects of a collection.
    pub(super) fn object_ids(&self, collection: &str) -> Vec<String> {
        let kept = self.kept();
        members(&kept.objects, collection).map(|(uri, _)| last(uri).to_owned()).collect()
    }

    /// Links to the zones or connections that an endpoint is in.
    pub(super) fn objects_with(&self, kind: Kind, endpoint: &str) -> Vec<Value> {
        let (room, lists): (_, &[&str]) = match kind {
            Kind::Chunk => return Vec::new(),
            Kind::Zone => ("/Zones", &["Endpoints"]),
            Kind::Connection => ("/Connections", &["InitiatorEndpoints", "TargetEndpoints"]),
        };
        let kept = self.kept();
        let has = |object: &Map<String, Value>| {
            lists.iter().any(|list| {
                object.get("Links").and_then(|links| links.get(list)).and_then(Value::as_array).is_some_and(
                    |list| {
                        list.iter()
                            .any(|link| link.get("@odata.id").and_then(Value::as_str) == Some(endpoint))
                    },
                )
            })
        };
        let collection = self.fabric_uri(room);
        let found = members(&kept.objects, &collection).filter(|(_, object)| has(object));
        found.map(|(uri, _)| json!({"@odata.id": uri})).collect()
    }

    /// POST at a collection, or at the URI of the member to be.
    pub(super) async fn create(
        &self,
        path: &[&str],
        uri: &str,
        body: Map<String, Value>,
    ) -> Result<Response<Body>, ServiceError> {
        if let Some(room) = self.room(path) {
            let made = self.make(&room, uri, None, body).await?;
            let mut response = respond(StatusCode::CREATED, &self.object(&made).unwrap_or_default());
            if let Ok(location) = HeaderValue::from_str(&made) {
                response.headers_mut().insert(header::LOCATION, location);
            }
            return Ok(response);
        }
        let (Some((id, above)), Some((collection, _))) = (path.split_last(), uri.rsplit_once('/')) else {
            return Err(self.no_such_method(path, uri));
        };
        let Some(room) = self.room(above) else { return Err(self.no_such_method(path, uri)) };
        let made = self.make(&room, collection, Some(id), body).await?;
        Ok(respond(StatusCode::OK, &self.object(&made).unwrap_or_default()))
    }

    fn no_such_method(&self, path: &[&str], uri: &str) -> ServiceError {
        if self.read(path, uri).is_some() {
            ServiceError::method_not_allowed(HeaderValue::from_static("GET, HEAD"))
        } else {
            ServiceError::not_found(uri)
        }
    }

    async fn make(
        &self,
        room: &Room<'_>,
        collection: &str,
        id: Option<&str>,
        mut body: Map<String, Value>,
    ) -> Result<String, ServiceError> {
        if body.is_empty() {
            return Err(ServiceError::bad_request(message::empty_json()));
        }
        let own = body.remove("Id");
        let id = match (id, own) {
            (Some(id), _) => Some(id.to_owned()),
            (None, Some(Value::String(id))) => Some(id),
            (None, None) => None,
            (None, Some(other)) => return Err(wrong_type("Id", &other)),
        };
        if let Some(id) = id.as_deref().filter(|id| !is_good_id(id)) {
            return Err(ServiceError::bad_request(
                message::property_value_format_error(id, "Id").about("Id"),
            ));
        }
        let claimed = body.remove("@odata.id");
        body.remove("@odata.etag");
        let made = self.update(|kept| {
            let id = id.unwrap_or_else(|| fresh_id(kept, collection, room.kind));
            let uri = format!("{collection}/{id}");
            if claimed.as_ref().and_then(Value::as_str).is_some_and(|claimed| !is_same(claimed, &uri)) {
                let message = message::property_value_conflict("@odata.id", "Id");
                return Err(ServiceError::bad_request(message.about("@odata.id")));
            }
            identify(&mut body, room.kind, &uri, &id);
            if let Some(there) = kept.objects.get(&uri) {
                // A core that was restarted makes its objects anew.
                let same = body.iter().all(|(name, value)| there.get(name) == Some(value));
                let taken = || message::resource_already_exists(room.kind.name(), "Id", &id);
                return if same { Ok(uri) } else { Err(ServiceError::conflict(taken())) };
            }
            if kept.objects.len() >= MOST {
                return Err(ServiceError::conflict(message::create_limit_reached()));
            }
            self.check(room, &uri, &mut body, &kept.objects)?;
            kept.objects.insert(uri.clone(), body);
            Ok(uri)
        });
        made.await
    }

    /// PATCH of an object: properties are replaced, those of `Links` one by one, `null` removes.
    pub(super) async fn change(
        &self,
        path: &[&str],
        uri: &str,
        body: Map<String, Value>,
    ) -> Result<Response<Body>, ServiceError> {
        let above = path.split_last().and_then(|(_, above)| self.room(above));
        let Some(room) = above.filter(|_| self.kept().objects.contains_key(uri)) else {
            return Err(self.no_such_method(path, uri));
        };
        let body: Map<String, Value> =
            body.into_iter().filter(|(name, _)| !name.starts_with("@odata.")).collect();
        if body.is_empty() {
            return Err(ServiceError::bad_request(message::no_operation()));
        }
        let fixed: &[&str] = if room.kind == Kind::Chunk { &FIXED } else { &FIXED[..1] };
        self.update(|kept| {
            let mut object = kept.objects.get(uri).cloned().ok_or_else(|| ServiceError::not_found(uri))?;
            let written = body.iter().filter(|(name, value)| object.get(*name) != Some(value));
            let wrong: Vec<Message> = written
                .filter(|(name, _)| fixed.contains(&name.as_str()))
                .map(|(name, _)| message::property_not_writable(name).about(name))
                .collect();
            if !wrong.is_empty() {
                return Err(ServiceError::several(StatusCode::BAD_REQUEST, wrong));
            }
            merge(&mut object, body);
            let others = kept.objects.iter().filter(|(other, _)| *other != uri);
            let others: Objects = others.map(|(uri, object)| (uri.clone(), object.clone())).collect();
            self.check(&room, uri, &mut object, &others)?;
            kept.objects.insert(uri.to_owned(), object);
            Ok(())
        })
        .await?;
        Ok(respond(StatusCode::OK, &self.object(uri).unwrap_or_default()))
    }

    /// DELETE of an object. A chunk that a connection lists stays.
    pub(super) async fn delete(&self, uri: &str) -> Result<Response<Body>, ServiceError> {
        self.update(|kept| {
            if !kept.objects.contains_key(uri) {
                return Err(ServiceError::not_found(uri));
            }
            let connections = self.fabric_uri("/Connections");
            let used = members(&kept.objects, &connections)
                .any(|(_, connection)| chunks_of(connection).any(|chunk| is_same(chunk, uri)));
            if used {
                return Err(ServiceError::conflict(message::resource_in_use()));
            }
            kept.objects.remove(uri);
            Ok(())
        })
        .await?;
        Ok(respond(StatusCode::NO_CONTENT, &Value::Null))
    }

    /// Checks an object against what there is; a chunk is given its place in the memory.
    fn check(
        &self,
        room: &Room<'_>,
        uri: &str,
        object: &mut Map<String, Value>,
        others: &Objects,
    ) -> Result<(), ServiceError> {
        match (room.kind, room.adapter) {
            (Kind::Chunk, Some(adapter)) => place_chunk(adapter, uri, object, others),
            (Kind::Zone, _) => self.check_zone(object),
            _ => self.check_connection(object, others),
        }
    }

    fn check_zone(&self, object: &Map<String, Value>) -> Result<(), ServiceError> {
        let kind = object.get("ZoneType").and_then(Value::as_str);
        if object.contains_key("ZoneType") && !matches!(kind, Some("ZoneOfEndpoints" | "Default")) {
            let given = kind.unwrap_or_default();
            let message = message::property_value_not_in_list(given, "ZoneType");
            return Err(ServiceError::bad_request(message.about("ZoneType")));
        }
        self.check_endpoints(object, &["Endpoints"])
    }

    fn check_connection(&self, object: &Map<String, Value>, others: &Objects) -> Result<(), ServiceError> {
        self.check_endpoints(object, &["InitiatorEndpoints", "TargetEndpoints"])?;
        let missing = |chunk: &&str| !others.keys().any(|uri| is_same(chunk, uri));
        let wrong: Vec<Message> = chunks_of(object)
            .filter(missing)
            .map(|chunk| message::resource_missing_at_uri(chunk).about("MemoryChunkInfo"))
            .collect();
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::BAD_REQUEST, wrong)) }
    }

    /// Every link of these lists leads to an endpoint of the fabric, which has the role that it is listed in.
    fn check_endpoints(&self, object: &Map<String, Value>, lists: &[&str]) -> Result<(), ServiceError> {
        let Some(links) = object.get("Links") else { return Ok(()) };
        let Value::Object(links) = links else { return Err(wrong_type("Links", links)) };
        let mut wrong = Vec::new();
        for list in lists {
            let path = format!("Links/{list}");
            let Some(value) = links.get(*list) else { continue };
            let Some(entries) = value.as_array() else { return Err(wrong_type(&path, value)) };
            for entry in entries {
                let Some(uri) = entry.get("@odata.id").and_then(Value::as_str) else {
                    return Err(wrong_type(&path, entry));
                };
                let id = uri.strip_prefix(&self.endpoint_uri("")).unwrap_or_default();
                let fits = match *list {
                    "InitiatorEndpoints" => id.starts_with("host."),
                    "TargetEndpoints" => !id.starts_with("host."),
                    _ => true,
                };
                let there = self.read(&["Fabrics", &self.spec.id, "Endpoints", id], uri).is_some();
                if !there {
                    wrong.push(message::resource_missing_at_uri(uri).about(&path));
                } else if !fits {
                    wrong.push(
                        message::property_value_conflict(&path, "ConnectedEntities/EntityRole").about(&path),
                    );
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(ServiceError::several(StatusCode::BAD_REQUEST, wrong)) }
    }
}

/// Gives a chunk the lowest place that is free, or checks the one that it asks for.
fn place_chunk(
    adapter: Adapter<'_>,
    uri: &str,
    chunk: &mut Map<String, Value>,
    others: &Objects,
) -> Result<(), ServiceError> {
    let range = chunk.get("AddressRangeType");
    match range.and_then(Value::as_str) {
        Some("Volatile" | "PMEM" | "Block") => {}
        Some(other) => {
            let message = message::property_value_not_in_list(other, "AddressRangeType");
            return Err(ServiceError::bad_request(message.about("AddressRangeType")));
        }
        None => {
            let message = message::create_failed_missing_property("AddressRangeType");
            return Err(ServiceError::bad_request(message.about("AddressRangeType")));
        }
    }
    let Some(size) = chunk.get("MemoryChunkSizeMiB") else {
        let message = message::create_failed_missing_property("MemoryChunkSizeMiB");
        return Err(ServiceError::bad_request(message.about("MemoryChunkSizeMiB")));
    };
    let size =
        size.as_u64().filter(|size| *size > 0).ok_or_else(|| wrong_type("MemoryChunkSizeMiB", size))?;
    let collection = uri.rsplit_once('/').map_or("", |(collection, _)| collection);
    let mut taken: Vec<(u64, u64)> =
        members(others, collection).filter_map(|(_, other)| place(other)).collect();
    taken.sort_unstable();
    let end = adapter.appliance.memory_mib;
    let full = || ServiceError::unavailable(message::resource_exhaustion(&adapter.uri("MemoryDomains")), 1);
    let offset = match chunk.get("AddressRangeOffsetMiB") {
        None => {
            let mut free = 0;
            for (start, length) in &taken {
                if start.saturating_sub(free) >= size {
                    break;
                }
                free = free.max(start + length);
            }
            free
        }
        Some(value) => {
            let offset = value.as_u64().ok_or_else(|| wrong_type("AddressRangeOffsetMiB", value))?;
            let meets = |(start, length): &(u64, u64)| {
                offset < start + length && *start < offset.saturating_add(size)
            };
            if taken.iter().any(meets) {
                let message = message::property_value_resource_conflict(
                    "AddressRangeOffsetMiB",
                    &offset.to_string(),
                    collection,
                );
                return Err(ServiceError::conflict(message));
            }
            offset
        }
    };
    if offset.checked_add(size).is_none_or(|top| top > end) {
        return Err(full());
    }
    chunk.insert("AddressRangeOffsetMiB".to_owned(), json!(offset));
    Ok(())
}

/// Offset and size of a chunk.
fn place(chunk: &Map<String, Value>) -> Option<(u64, u64)> {
    Some((chunk.get("AddressRangeOffsetMiB")?.as_u64()?, chunk.get("MemoryChunkSizeMiB")?.as_u64()?))
}

/// URIs of the chunks that a connection lists.
fn chunks_of(object: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let list = object.get("MemoryChunkInfo").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|info| info.get("MemoryChunk")?.get("@odata.id")?.as_str())
}

/// The objects of a collection.
fn members<'a>(
    objects: &'a Objects,
    collection: &str,
) -> impl Iterator<Item = (&'a String, &'a Map<String, Value>)> {
    let prefix = format!("{collection}/");
    let end = prefix.clone();
    objects.range(prefix..).take_while(move |(uri, _)| uri.starts_with(&end))
}

/// Gives a body its identity.
fn identify(body: &mut Map<String, Value>, kind: Kind, uri: &str, id: &str) {
    body.insert("@odata.id".to_owned(), json!(uri));
    body.insert("Id".to_owned(), json!(id));
    body.entry("@odata.type").or_insert_with(|| json!(kind.odata_type()));
    body.entry("Name").or_insert_with(|| json!(format!("{} {id}", kind.name())));
}

fn merge(object: &mut Map<String, Value>, change: Map<String, Value>) {
    for (name, value) in change {
        match (name.as_str(), value, object.get_mut(&name)) {
            (_, Value::Null, _) => drop(object.remove(&name)),
            ("Links" | "Oem", Value::Object(inner), Some(Value::Object(there))) => merge(there, inner),
            (_, value, _) => drop(object.insert(name, value)),
        }
    }
}

fn fresh_id(kept: &mut Kept, collection: &str, kind: Kind) -> String {
    loop {
        kept.next_id += 1;
        let id = format!("{}-{}", kind.prefix(), kept.next_id);
        if !kept.objects.contains_key(&format!("{collection}/{id}")) {
            return id;
        }
    }
}

/// Whether two spellings are one URI: the field's core doubles slashes.
fn is_same(one: &str, other: &str) -> bool {
    let parts =
        |uri: &str| uri.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    parts(one) == parts(other)
}

fn last(uri: &str) -> &str {
    uri.rsplit('/').next().unwrap_or_default()
}

/// Whether a client may choose this id: it becomes a part of a URI.
fn is_good_id(id: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=128).contains(&id.len()) && id.chars().all(allowed) && !id.starts_with('.')
}

fn wrong_type(path: &str, value: &Value) -> ServiceError {
    ServiceError::bad_request(message::property_value_type_error(&value.to_string(), path).about(path))
}
