//! What an agent posts to `/EventListener`: DMTF `Event` payloads, told apart by the last part of their MessageIds. Pure.

use serde_json::Value;
use url::Url;

/// One thing that an agent said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announcement {
    /// Here I am.
    Discovered(Told),
    /// Something of mine came, changed or went.
    Changed {
        /// The resource, as the agent calls it.
        origin: String,
    },
    /// Something that Drystone has no use for.
    Other {
        /// Its MessageId.
        message_id: String,
    },
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Base URL of its Redfish service: `http://127.0.0.1:5001`.
    pub address: String,
    /// URI of its ConnectionMethod.
    pub connection_method: String,
}

/// A payload that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct AnnouncementError {
    /// Where in the payload.
    pub path: String,
    /// What is wrong, and what is expected.
    pub reason: String,
}

/// Most events of one payload.
const MOST_EVENTS: usize = 1_000;

fn wrong(path: impl Into<String>, reason: impl Into<String>) -> AnnouncementError {
    AnnouncementError { path: path.into(), reason: reason.into() }
}

/// Reads a payload: its context, empty if it has none, and what it announces.
///
/// # Errors
/// The first thing that is wrong, with its path.
pub(super) fn parse(payload: &Value) -> Result<(String, Vec<Announcement>), AnnouncementError> {
    let object = payload.as_object().ok_or_else(|| wrong("", "an Event object is expected"))?;
    let context = match object.get("Context") {
        None | Some(Value::Null) => "",
        Some(Value::String(context)) => context,
        Some(_) => return Err(wrong("Context", "must be a string")),
    };
    let events = object.get("Events").ok_or_else(|| wrong("Events", "is missing"))?;
    let events = events.as_array().ok_or_else(|| wrong("Events", "must be an array"))?;
    if events.is_empty() || events.len() > MOST_EVENTS {
        return Err(wrong("Events", format!("must have 1 to {MOST_EVENTS} elements, not {}", events.len())));
    }
    let announcements = events.iter().enumerate().map(|(index, event)| announcement(index, event));
    Ok((context.to_owned(), announcements.collect::<Result<_, _>>()?))
}

fn announcement(index: usize, event: &Value) -> Result<Announcement, AnnouncementError> {
    let path = |name: &str| format!("Events/{index}/{name}");
    let message_id = event.get("MessageId").and_then(Value::as_str);
    let message_id = message_id.ok_or_else(|| wrong(path("MessageId"), "must be a string"))?;
    let origin = event.pointer("/OriginOfCondition/@odata.id").and_then(Value::as_str);
    let origin = origin.map(collapse_slashes);
    let key = message_id.rsplit('.').next().unwrap_or(message_id);
    match key {
        "AggregationSourceDiscovered" => {
            let arguments = event.get("MessageArgs").and_then(Value::as_array);
            let argument = |position: usize| {
                let value = arguments.and_then(|list| list.get(position)).and_then(Value::as_str);
                value.ok_or_else(|| wrong(path("MessageArgs"), "must be [connection method type, address]"))
            };
            if argument(0)? != "Redfish" {
                let reason = format!("connection method type {:?} is not served; Redfish is", argument(0)?);
                return Err(wrong(path("MessageArgs/0"), reason));
            }
            let address = address(argument(1)?).map_err(|reason| wrong(path("MessageArgs/1"), reason))?;
            let connection_method = origin
                .filter(|uri| uri.starts_with("/redfish/v1/AggregationService/ConnectionMethods/"))
                .ok_or_else(|| wrong(path("OriginOfCondition"), "must link to a ConnectionMethod"))?;
            Ok(Announcement::Discovered(Told { address, connection_method }))
        }
        _ if key.starts_with("Resource") || origin.is_some() => match origin {
            Some(origin) if origin.starts_with("/redfish/v1/") => Ok(Announcement::Changed { origin }),
            _ => Err(wrong(path("OriginOfCondition"), "must link to a resource below /redfish/v1/")),
        },
        _ => Ok(Announcement::Other { message_id: message_id.to_owned() }),
    }
}

/// A base URL without path, query and credentials.
fn address(text: &str) -> Result<String, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&text).map_err(|error| format!("{text:?} is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{text:?} is no http or https URL with a host"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not carry credentials".to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

/// Some agents put two slashes where their base URL and a path meet.
pub(crate) fn collapse_slashes(uri: &str) -> String {
    let mut plain = String::with_capacity(uri.len());
    for c in uri.chars() {
        if c != '/' || !plain.ends_with('/') {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use drystone_hostile::distorted;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn discovery() -> Value {
        json!({"@odata.type": "#Event.v1_7_0.Event", "Name": "AggregationSourceDiscovered", "Context": "",
            "Events": [{"Severity": "Ok", "Message": "new", "MessageId": "ResourceEvent.1.x.AggregationSourceDiscovered",
                        "MessageArgs": ["Redfish", "http://127.0.0.1:5001"],
                        "OriginOfCondition": {"@odata.id": "/redfish/v1/AggregationService/ConnectionMethods/CXL"}}]})
    }

    #[test]
    fn an_agent_announces_itself() {
        let (context, announcements) = parse(&discovery()).expect("valid");
        let told = Told {
            address: "http://127.0.0.1:5001".into(),
            connection_method: "/redfish/v1/AggregationService/ConnectionMethods/CXL".into(),
        };
        assert_eq!((context.as_str(), announcements), ("", vec![Announcement::Discovered(told)]));
    }

    #[test]
    fn every_event_of_a_payload_counts() {
        let event =
            |id: &str, origin: &str| json!({"MessageId": id, "OriginOfCondition": {"@odata.id": origin}});
        let payload = json!({"Context": "c-1", "Events": [
            event("ResourceEvent.1.x.ResourceCreated", "/redfish/v1/Fabrics/X"),
            event("ResourceEvent.1.0.ResourceChanged", "//redfish/v1//Fabrics/X/Zones/1"),
            {"MessageId": "Vendor.1.0.Hello"}]});
        let (context, announcements) = parse(&payload).expect("valid");
        let changed = |origin: &str| Announcement::Changed { origin: origin.into() };
        assert_eq!(context, "c-1");
        assert_eq!(
            announcements[..2],
            [changed("/redfish/v1/Fabrics/X"), changed("/redfish/v1/Fabrics/X/Zones/1")]
        );
        assert_eq!(announcements[2], Announcement::Other { message_id: "Vendor.1.0.Hello".into() });
    }

    #[test]
    fn mistakes_are_named_by_path() {
        let damaged = |pointer: &str, value: Value| {
            let mut payload = discovery();
            *payload.pointer_mut(pointer).expect("there") = value;
            parse(&payload).expect_err("wrong").path
        };
        assert_eq!(damaged("/Events/0/MessageArgs/1", json!("ftp://x")), "Events/0/MessageArgs/1");
        assert_eq!(damaged("/Events/0/MessageArgs/1", json!("http://a:b@x")), "Events/0/MessageArgs/1");
        assert_eq!(damaged("/Events/0/MessageArgs", json!(["SNMP", "http://x"])), "Events/0/MessageArgs/0");
        assert_eq!(
            damaged("/Events/0/OriginOfCondition", json!({"@odata.id": "/etc"})),
            "Events/0/OriginOfCondition"
        );
        assert_eq!(damaged("/Events/0/MessageId", json!(5)), "Events/0/MessageId");
        assert_eq!(damaged("/Events", json!([])), "Events");
        assert_eq!(damaged("/Context", json!(1)), "Context");
    }

    proptest! {
        /// Whatever is posted, an agent's address is a bare http or https origin.
        #[test]
        fn any_payload_is_read_or_refused(payload in distorted(discovery(), &["Events", "MessageArgs", "MessageId", "Context"])) {
            if let Ok((_, announcements)) = parse(&payload) {
                for announcement in announcements {
                    if let Announcement::Discovered(told) = announcement {
                        let url = Url::parse(&told.address).expect("a URL");
                        prop_assert!(matches!(url.scheme(), "http" | "https"));
                        prop_assert!(url.username().is_empty() && url.path() == "/");
                    }
                }
            }
        }
    }
}
