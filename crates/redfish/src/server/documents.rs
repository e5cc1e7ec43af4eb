//! What every service shows without credentials: versions, root, OData service document, `$metadata`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde_json::{Value, json};

use super::{query::EXPAND_LEVELS, route::Route};
use crate::{
    SERVICE_ROOT,
    error::ServiceError,
    types::{ServiceRoot, to_body},
};

/// The documents of a service.
#[derive(Debug, Clone)]
pub struct ServiceDocuments {
    /// UUID of the service.
    pub uuid: String,
    /// What it is, for people.
    pub product: String,
    /// Rooms under the root with their names there: `("Systems", "/redfish/v1/Systems")`.
    pub rooms: Vec<(&'static str, &'static str)>,
    /// `@odata.type` of every resource that the service has, with the `#`.
    pub types: Vec<&'static str>,
}

impl ServiceDocuments {
    /// The routes of the documents.
    pub fn routes() -> [Route; 4] {
        [
            Route::new("/redfish").get_open(),
            Route::new("/redfish/v1").get_open(),
            Route::new("/redfish/v1/odata").get_open(),
            Route::new("/redfish/v1/$metadata").get_open(),
        ]
    }

    /// Reads a document, given by the parts after `/redfish/v1`. `$metadata` is a JSON string that holds XML.
    ///
    /// # Errors
    /// 404 if there is no such document.
    pub fn read(&self, segments: &[&str]) -> Result<Value, ServiceError> {
        match segments {
            ["redfish"] => Ok(json!({"v1": "/redfish/v1/"})),
            [] => self.root(),
            ["odata"] => Ok(self.odata()),
            ["$metadata"] => Ok(Value::String(self.metadata())),
            _ => Err(ServiceError::not_found(&format!("/redfish/v1/{}", segments.join("/")))),
        }
    }

    fn root(&self) -> Result<Value, ServiceError> {
        let mut root = ServiceRoot::at(SERVICE_ROOT, "Root service");
        root.id = "RootService".to_owned();
        root.redfish_version = Some("1.23.0".to_owned());
        root.uuid = Some(self.uuid.clone());
        root.product = Some(self.product.clone());
        root.links.insert("Sessions".to_owned(), json!({"@odata.id": "/redfish/v1/SessionService/Sessions"}));
        if let Value::Object(features) = protocol_features() {
            root.protocol_features_supported = features;
        }
        let mut body = to_body(&root).map_err(|error| ServiceError::internal(&error))?;
        if let Value::Object(map) = &mut body {
            for (name, uri) in &self.rooms {
                map.insert((*name).to_owned(), json!({"@odata.id": uri}));
            }
        }
        Ok(body)
    }

    fn odata(&self) -> Value {
        let root = [("Service", SERVICE_ROOT)];
        let entry = |(name, url): (&str, &str)| json!({"name": name, "kind": "Singleton", "url": url});
        let all: Vec<Value> = root.into_iter().chain(self.rooms.iter().copied()).map(entry).collect();
        json!({"@odata.context": "/redfish/v1/$metadata", "value": all})
    }

    fn metadata(&self) -> String {
        metadata(self.types.iter().copied())
    }
}

/// The `$metadata` document of a service with resources of these types (`#Zone.v1_6_3.Zone`).
pub fn metadata<'a>(types: impl IntoIterator<Item = &'a str>) -> String {
    let mut namespaces: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for odata_type in types.into_iter().chain(["#ServiceRoot.v1_20_0.ServiceRoot"]) {
        let Some((namespace, _)) = odata_type.trim_start_matches('#').rsplit_once('.') else { continue };
        let schema = namespace.split('.').next().unwrap_or(namespace);
        namespaces.entry(schema).or_default().extend([schema, namespace]);
    }
    let mut references = String::new();
    for (schema, namespaces) in &namespaces {
        let place = if schema.starts_with("Drystone") {
            "/redfish/v1/schemas"
        } else {
            "http://redfish.dmtf.org/schemas/v1"
        };
        // Writing to a string cannot fail.
        let _ = writeln!(references, "  <edmx:Reference Uri=\"{place}/{schema}_v1.xml\">");
        for namespace in namespaces {
            let _ = writeln!(references, "    <edmx:Include Namespace=\"{namespace}\"/>");
        }
        references.push_str("  </edmx:Reference>\n");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n\
         {references}  <edmx:Reference Uri=\"http://redfish.dmtf.org/schemas/v1/RedfishExtensions_v1.xml\">\n    \
         <edmx:Include Namespace=\"RedfishExtensions.v1_0_0\" Alias=\"Redfish\"/>\n  </edmx:Reference>\n  \
         <edmx:DataServices>\n    <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\n      \
         <EntityContainer Name=\"Service\" Extends=\"ServiceRoot.v1_20_0.ServiceContainer\"/>\n    </Schema>\n  \
         </edmx:DataServices>\n</edmx:Edmx>\n"
    )
}

/// The query options that every service has, as `ProtocolFeaturesSupported` tells of them.
pub fn protocol_features() -> Value {
    json!({
        "ExpandQuery": {"ExpandAll": true, "Levels": true, "Links": true, "NoLinks": true, "MaxLevels": EXPAND_LEVELS},
        "FilterQuery": true, "SelectQuery": true, "OnlyMemberQuery": true, "ExcerptQuery": true, "TopSkipQuery": true})
}
