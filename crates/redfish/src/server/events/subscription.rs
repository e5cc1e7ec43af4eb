//! A subscription: what it asks for, what it wants to be told.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use super::{super::properties::Properties, Happening};
use crate::{
    error::ServiceError,
    message,
    types::{EventDestination, Link, Status},
};

/// What happens when the destination does not answer.
const POLICIES: [&str; 4] =
    ["TerminateAfterRetries", "SuspendRetries", "RetryForever", "RetryForeverWithBackoff"];
/// Longest `Context`.
const LONGEST_CONTEXT: usize = 4096;

/// A subscription, as it is kept over restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedSubscription {
    pub(super) id: u64,
    pub(super) destination: String,
    pub(super) context: String,
    pub(super) policy: String,
    pub(super) registry_prefixes: Vec<String>,
    pub(super) message_ids: Vec<String>,
    pub(super) resource_types: Vec<String>,
    pub(super) origins: Vec<String>,
    pub(super) subordinate: bool,
    pub(super) verify_certificate: bool,
}

impl SavedSubscription {
    /// Reads the body of a POST; the id is still to be given.
    pub(super) fn read(body: Map<String, Value>) -> Result<Self, ServiceError> {
        let mut properties = Properties::create(body);
        let destination = properties.required_string("Destination").unwrap_or_default();
        let usable = Url::parse(&destination)
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if !usable && !destination.is_empty() {
            properties.format_error::<()>("Destination", &destination);
        }
        properties.require("Protocol");
        properties.choice("Protocol", &["Redfish"]);
        properties.choice("SubscriptionType", &["RedfishEvent"]);
        properties.choice("EventFormatType", &["Event"]);
        let context = context(&mut properties);
        let registry_prefixes = properties.strings("RegistryPrefixes").unwrap_or_default();
        let message_ids = properties.strings("MessageIds").unwrap_or_default();
        if !registry_prefixes.is_empty() && !message_ids.is_empty() {
            properties.reject(message::property_value_conflict("MessageIds", "RegistryPrefixes"));
        }
        let resource_types = properties.strings("ResourceTypes").unwrap_or_default();
        let origins = properties.links("OriginResources").unwrap_or_default();
        let subordinate = properties.boolean("SubordinateResources").unwrap_or(false);
        let policy = properties.choice("DeliveryRetryPolicy", &POLICIES);
        let verify_certificate = properties.boolean("VerifyCertificate").unwrap_or(true);
        properties.take("Name");
        properties.finish()?;
        Ok(Self {
            id: 0,
            destination,
            context: context.unwrap_or_default(),
            policy: policy.unwrap_or_else(|| POLICIES[0].to_owned()),
            registry_prefixes,
            message_ids,
            resource_types,
            origins,
            subordinate,
            verify_certificate,
        })
    }

    /// A subscription of a stream; `filter` narrows it: `RegistryPrefix eq 'Fabric' and OriginResource eq '/redfish/v1/Fabrics'`.
    pub(super) fn of_stream(id: u64, context: String, filter: Option<&str>) -> Option<Self> {
        let mut stream = Self {
            id,
            destination: String::new(),
            context,
            policy: POLICIES[0].to_owned(),
            registry_prefixes: Vec::new(),
            message_ids: Vec::new(),
            resource_types: Vec::new(),
            origins: Vec::new(),
            subordinate: false,
            verify_certificate: true,
        };
        let filter = filter.map(|filter| filter.replace(['(', ')'], " ")).unwrap_or_default();
        let terms = filter.split(" and ").flat_map(|part| part.split(" or "));
        for term in terms.map(str::trim).filter(|term| !term.is_empty()) {
            let (name, value) = term.split_once(" eq ")?;
            let value = value.trim().trim_matches('\'').to_owned();
            match name.trim() {
                "EventFormatType" if value == "Event" => {}
                "MessageId" => stream.message_ids.push(value),
                "RegistryPrefix" => stream.registry_prefixes.push(value),
                "ResourceType" => stream.resource_types.push(value),
                "OriginResource" => stream.origins.push(value.trim_end_matches('/').to_owned()),
                "SubordinateResources" => stream.subordinate = value.parse().ok()?,
                _ => return None,
            }
        }
        Some(stream)
    }

    /// This subscription with the changes of a PATCH.
    pub(super) fn changed(&self, body: Map<String, Value>) -> Result<Self, ServiceError> {
        let mut properties = Properties::update(body);
        let context = context(&mut properties);
        let policy = properties.choice("DeliveryRetryPolicy", &POLICIES);
        let verify = properties.boolean("VerifyCertificate");
        properties.read_only(&[
            "Destination",
            "Protocol",
            "SubscriptionType",
            "EventFormatType",
            "RegistryPrefixes",
            "MessageIds",
            "ResourceTypes",
            "OriginResources",
            "SubordinateResources",
            "Status",
        ]);
        properties.finish()?;
        Ok(Self {
            context: context.unwrap_or_else(|| self.context.clone()),
            policy: policy.unwrap_or_else(|| self.policy.clone()),
            verify_certificate: verify.unwrap_or(self.verify_certificate),
            ..self.clone()
        })
    }

    /// Whether it wants to be told this.
    pub(super) fn wants(&self, happening: &Happening) -> bool {
        let id = &happening.message.message_id;
        let registry = id.split('.').next().unwrap_or_default();
        // `ResourceEvent.1.4.ResourceChanged` is asked for as `ResourceEvent.ResourceChanged` too, whatever the version.
        let key = format!("{registry}.{}", happening.message.key());
        let is_origin = |origin: &String| {
            happening.origin == *origin
                || (self.subordinate && happening.origin.starts_with(&format!("{origin}/")))
        };
        (self.registry_prefixes.is_empty() || self.registry_prefixes.iter().any(|prefix| prefix == registry))
            && (self.message_ids.is_empty()
                || self.message_ids.iter().any(|wanted| wanted == id || *wanted == key))
            && (self.resource_types.is_empty()
                || self.resource_types.iter().any(|kind| *kind == happening.resource_type))
            && (self.origins.is_empty() || self.origins.iter().any(is_origin))
    }

    /// The resource that shows it.
    pub(super) fn resource(&self, collection: &str, suspended: bool, stream: bool) -> EventDestination {
        let mut resource =
            EventDestination::at(&format!("{collection}/{}", self.id), &format!("Subscription {}", self.id));
        resource.destination = Some(self.destination.clone()).filter(|_| !stream);
        resource.context = Some(self.context.clone());
        resource.protocol = Some("Redfish".to_owned());
        resource.subscription_type = Some(if stream { "SSE" } else { "RedfishEvent" }.to_owned());
        resource.event_format_type = Some("Event".to_owned());
        resource.delivery_retry_policy = Some(self.policy.clone()).filter(|_| !stream);
        resource.registry_prefixes.clone_from(&self.registry_prefixes);
        resource.message_ids.clone_from(&self.message_ids);
        resource.resource_types.clone_from(&self.resource_types);
        resource.origin_resources = self.origins.iter().map(Link::to).collect();
        resource.subordinate_resources = Some(self.subordinate);
        resource.verify_certificate = Some(self.verify_certificate).filter(|_| !stream);
        resource.status = Status::healthy(if suspended { "Disabled" } else { "Enabled" });
        resource
    }
}

fn context(properties: &mut Properties) -> Option<String> {
    let context = properties.nullable_string("Context")?.unwrap_or_default();
    if context.len() > LONGEST_CONTEXT {
        properties.format_error("Context", &context[..0])
    } else {
        Some(context)
    }
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<SavedSubscription, ServiceError> {
        SavedSubscription::read(body.as_object().cloned().unwrap())
    }

    fn happening(key: &str, origin: &str) -> Happening {
        Happening::resource(key, "", &[], origin, "ComputerSystem")
    }

    #[test]
    fn bad_subscriptions_are_refused_with_the_property() {
        for (body, key) in [
            (json!({"Protocol": "Redfish"}), "CreateFailedMissingReqProperties"),
            (json!({"Destination": "ftp://a", "Protocol": "Redfish"}), "PropertyValueFormatError"),
            (json!({"Destination": "http://a/", "Protocol": "SNMPv1"}), "PropertyValueNotInList"),
            (json!({"Destination": "http://a/", "Protocol": "Redfish", "Colour": 1}), "PropertyUnknown"),
            (
                json!({"Destination": "http://a/", "Protocol": "Redfish", "RegistryPrefixes": ["A"], "MessageIds": ["A.B"]}),
                "PropertyValueConflict",
            ),
        ] {
            let error = read(&body).unwrap_err();
            assert!(error.messages.iter().any(|message| message.key() == key), "{body}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_a_subscription_or_refused(body in distorted(
            json!({"Destination": "https://listener.example/events", "Protocol": "Redfish", "Context": "c", "Name": "n",
                "RegistryPrefixes": ["ResourceEvent"], "ResourceTypes": ["Chassis"], "MessageIds": [], "SubordinateResources": true,
                "OriginResources": [{"@odata.id": "/redfish/v1/Chassis"}], "DeliveryRetryPolicy": "RetryForever"}),
            &["Destination", "Protocol", "Context", "MessageIds", "OriginResources", "@odata.id"],
        )) {
            let Value::Object(body) = body else { return Ok(()) };
            match SavedSubscription::read(body) {
                Ok(subscription) => {
                    let _ = subscription.wants(&happening("ResourcePoweredOn", "/redfish/v1/Systems/1"));
                    let kept = serde_json::to_string(&subscription).unwrap();
                    prop_assert_eq!(serde_json::from_str::<SavedSubscription>(&kept).unwrap(), subscription);
                }
                Err(error) => prop_assert!(error.status.is_client_error()),
            }
        }
    }

    #[test]
    fn filters_narrow_what_is_told() {
        let base = json!({"Destination": "http://a/", "Protocol": "Redfish"});
        let with = |name: &str, value: Value| {
            let mut body = base.clone();
            body[name] = value;
            body["SubordinateResources"] = json!(true);
            read(&body).unwrap()
        };
        let event = happening("ResourcePoweredOn", "/redfish/v1/Systems/1");
        assert!(read(&base).unwrap().wants(&event));
        assert!(with("RegistryPrefixes", json!(["ResourceEvent"])).wants(&event));
        assert!(!with("RegistryPrefixes", json!(["Fabric"])).wants(&event));
        assert!(with("MessageIds", json!(["ResourceEvent.ResourcePoweredOn"])).wants(&event));
        assert!(!with("MessageIds", json!(["ResourceEvent.1.4.ResourcePoweredOff"])).wants(&event));
        assert!(!with("ResourceTypes", json!(["Chassis"])).wants(&event));
        assert!(with("OriginResources", json!([{"@odata.id": "/redfish/v1/Systems"}])).wants(&event));
        assert!(!with("OriginResources", json!([{"@odata.id": "/redfish/v1/Sys"}])).wants(&event));
    }
}
