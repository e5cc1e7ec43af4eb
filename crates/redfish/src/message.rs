//! Messages of the Redfish registries: what happened, in a form that programs tell apart by `MessageId`.
//!
//! One function per message keeps the arguments in the registry's order. Texts are Drystone's own; DSP0266 lets a service
//! word them, and clients go by `MessageId` and `MessageArgs`.

use serde::{Deserialize, Serialize};

/// Prefix of the Base registry's messages.
const BASE: &str = "Base.1.22";
/// Prefix of the composition registry's messages.
const COMPOSITION: &str = "Composition.1.1";
/// Type of a message object.
const MESSAGE_TYPE: &str = "#Message.v1_3_0.Message";

/// How grave a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    /// Informational.
    #[default]
    OK,
    /// Needs attention.
    Warning,
    /// Needs attention at once.
    Critical,
}

/// A message (`Message` schema), as in `@Message.ExtendedInfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Message {
    #[serde(rename = "@odata.type", default, skip_serializing_if = "String::is_empty")]
    odata_type: String,
    /// Registry, version and key: `Base.1.22.PropertyUnknown`.
    #[serde(default)]
    pub message_id: String,
    /// The text.
    #[serde(default)]
    pub message: String,
    /// What was put into the text, in the registry's order.
    #[serde(default)]
    pub message_args: Vec<String>,
    /// How grave it is.
    #[serde(default)]
    pub message_severity: Severity,
    /// What to do about it.
    #[serde(default)]
    pub resolution: String,
    /// Properties of the request that it is about, as JSON pointers in a URI fragment: `#/Boot/BootSourceOverrideTarget`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub related_properties: Vec<String>,
}

impl Message {
    /// A message. In `text`, `%1` … `%9` stand for the arguments.
    pub fn new(
        registry: &str,
        key: &str,
        severity: Severity,
        text: &str,
        args: &[&str],
        resolution: &str,
    ) -> Self {
        Self {
            odata_type: MESSAGE_TYPE.to_owned(),
            message_id: format!("{registry}.{key}"),
            message: fill(text, args),
            message_args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            message_severity: severity,
            resolution: resolution.to_owned(),
            related_properties: Vec::new(),
        }
    }

    /// Names the property that the message is about: `Boot/BootSourceOverrideTarget`.
    #[must_use]
    pub fn about(mut self, property: &str) -> Self {
        self.related_properties.push(format!("#/{property}"));
        self
    }

    /// The last part of the id, the same in every version of the registry: `PropertyUnknown`.
    pub fn key(&self) -> &str {
        self.message_id.rsplit('.').next().unwrap_or_default()
    }
}

/// Replaces `%1` … `%9` in one pass, so that an argument that holds such a sign stays as it is.
fn fill(text: &str, args: &[&str]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let number = if c == '%' { chars.peek().and_then(|next| next.to_digit(10)) } else { None };
        match number.and_then(|number| args.get((number as usize).checked_sub(1)?)) {
            Some(arg) => {
                filled.push_str(arg);
                chars.next();
            }
            None => filled.push(c),
        }
    }
    filled
}

fn base(key: &str, severity: Severity, text: &str, args: &[&str], resolution: &str) -> Message {
    Message::new(BASE, key, severity, text, args, resolution)
}

/// The request was carried out.
pub fn success() -> Message {
    base("Success", Severity::OK, "The request was carried out.", &[], "None.")
}

/// Nothing had to be changed.
pub fn no_operation() -> Message {
    base(
        "NoOperation",
        Severity::Warning,
        "The request changes nothing.",
        &[],
        "None, unless a change was meant.",
    )
}

/// Several things are wrong, or one that has no message of its own.
pub fn general_error() -> Message {
    base(
        "GeneralError",
        Severity::Critical,
        "The request failed; see the extended information.",
        &[],
        "Correct what the messages name.",
    )
}

/// The service itself failed; the caller is not at fault.
pub fn internal_error() -> Message {
    base(
        "InternalError",
        Severity::Critical,
        "The service failed; the request was valid.",
        &[],
        "Repeat the request; if it fails again, look at the service's log.",
    )
}

/// The body is no JSON.
pub fn malformed_json() -> Message {
    base(
        "MalformedJSON",
        Severity::Critical,
        "The body of the request is no valid JSON.",
        &[],
        "Send a JSON object.",
    )
}

/// The body is an empty object.
pub fn empty_json() -> Message {
    base(
        "EmptyJSON",
        Severity::Warning,
        "The body of the request is an empty object.",
        &[],
        "Send at least one property.",
    )
}

/// The body is JSON but no object, or absent where one is needed.
pub fn unrecognized_request_body() -> Message {
    base(
        "UnrecognizedRequestBody",
        Severity::Warning,
        "The body of the request is not a JSON object.",
        &[],
        "Send a JSON object.",
    )
}

/// A property that a new resource needs is absent.
pub fn create_failed_missing_property(property: &str) -> Message {
    base(
        "CreateFailedMissingReqProperties",
        Severity::Critical,
        "The property %1 is needed to create the resource.",
        &[property],
        "Add the property.",
    )
    .about(property)
}

/// The resource has no such property.
pub fn property_unknown(property: &str) -> Message {
    base(
        "PropertyUnknown",
        Severity::Warning,
        "The resource has no property %1.",
        &[property],
        "Remove or correct the property.",
    )
    .about(property)
}

/// The property cannot be written.
pub fn property_not_writable(property: &str) -> Message {
    base(
        "PropertyNotWritable",
        Severity::Warning,
        "The property %1 is read-only.",
        &[property],
        "Remove the property.",
    )
    .about(property)
}

/// The property is needed.
pub fn property_missing(property: &str) -> Message {
    base(
        "PropertyMissing",
        Severity::Warning,
        "The property %1 is missing.",
        &[property],
        "Add the property.",
    )
    .about(property)
}

/// Two properties exclude each other.
pub fn property_value_conflict(property: &str, other: &str) -> Message {
    base(
        "PropertyValueConflict",
        Severity::Warning,
        "The value of %1 is in conflict with that of %2.",
        &[property, other],
        "Correct or remove one of the two.",
    )
    .about(property)
}

/// The value is of the wrong JSON type.
pub fn property_value_type_error(value: &str, property: &str) -> Message {
    base(
        "PropertyValueTypeError",
        Severity::Warning,
        "The value %1 is of the wrong type for the property %2.",
        &[value, property],
        "Correct the type of the value.",
    )
    .about(property)
}

/// The value is of the right type but not of the right form.
pub fn property_value_format_error(value: &str, property: &str) -> Message {
    base(
        "PropertyValueFormatError",
        Severity::Warning,
        "The value %1 has the wrong form for the property %2.",
        &[value, property],
        "Correct the form of the value.",
    )
    .about(property)
}

/// The value is none of those that the property can have.
pub fn property_value_not_in_list(value: &str, property: &str) -> Message {
    base(
        "PropertyValueNotInList",
        Severity::Warning,
        "The value %1 is none that the property %2 can have.",
        &[value, property],
        "Choose one of the allowable values.",
    )
    .about(property)
}

/// The number is too small or too large.
pub fn property_value_out_of_range(value: &str, property: &str) -> Message {
    base(
        "PropertyValueOutOfRange",
        Severity::Warning,
        "The value %1 is out of range for the property %2.",
        &[value, property],
        "Choose a value inside the range.",
    )
    .about(property)
}

/// The value is at odds with another resource.
pub fn property_value_resource_conflict(property: &str, value: &str, uri: &str) -> Message {
    base(
        "PropertyValueResourceConflict",
        Severity::Warning,
        "The property %1 with the value %2 is in conflict with the resource at %3.",
        &[property, value, uri],
        "Choose another value, or change the other resource first.",
    )
    .about(property)
}

/// The action needs a parameter.
pub fn action_parameter_missing(action: &str, parameter: &str) -> Message {
    base(
        "ActionParameterMissing",
        Severity::Critical,
        "The action %1 needs the parameter %2.",
        &[action, parameter],
        "Add the parameter.",
    )
    .about(parameter)
}

/// The action has no such parameter.
pub fn action_parameter_unknown(action: &str, parameter: &str) -> Message {
    base(
        "ActionParameterUnknown",
        Severity::Warning,
        "The action %1 has no parameter %2.",
        &[action, parameter],
        "Remove or correct the parameter.",
    )
    .about(parameter)
}

/// The parameter's value is of the wrong JSON type.
pub fn action_parameter_value_type_error(value: &str, parameter: &str, action: &str) -> Message {
    base(
        "ActionParameterValueTypeError",
        Severity::Warning,
        "The value %1 is of the wrong type for the parameter %2 of the action %3.",
        &[value, parameter, action],
        "Correct the type of the value.",
    )
    .about(parameter)
}

/// The parameter's value is not of the right form.
pub fn action_parameter_value_format_error(value: &str, parameter: &str, action: &str) -> Message {
    base(
        "ActionParameterValueFormatError",
        Severity::Warning,
        "The value %1 has the wrong form for the parameter %2 of the action %3.",
        &[value, parameter, action],
        "Correct the form of the value.",
    )
    .about(parameter)
}

/// The parameter's value is none of the allowable ones.
pub fn action_parameter_value_not_in_list(value: &str, parameter: &str, action: &str) -> Message {
    base(
        "ActionParameterValueNotInList",
        Severity::Warning,
        "The value %1 is none that the parameter %2 of the action %3 can have.",
        &[value, parameter, action],
        "Choose one of the allowable values.",
    )
    .about(parameter)
}

/// The parameter's number is too small or too large.
pub fn action_parameter_value_out_of_range(value: &str, parameter: &str, action: &str) -> Message {
    base(
        "ActionParameterValueOutOfRange",
        Severity::Warning,
        "The value %1 is out of range for the parameter %2 of the action %3.",
        &[value, parameter, action],
        "Choose a value inside the range.",
    )
    .about(parameter)
}

/// The parameter's value does not go with the present state.
pub fn action_parameter_value_conflict(parameter: &str, value: &str) -> Message {
    base(
        "ActionParameterValueConflict",
        Severity::Warning,
        "The parameter %1 with the value %2 is in conflict with the present state.",
        &[parameter, value],
        "Bring the resource into a state that allows the action.",
    )
    .about(parameter)
}

/// A link or a request names something that is not there.
pub fn resource_missing_at_uri(uri: &str) -> Message {
    base(
        "ResourceMissingAtURI",
        Severity::Critical,
        "There is no resource at %1.",
        &[uri],
        "Correct the URI, or create the resource first.",
    )
}

/// The name of a new resource is taken.
pub fn resource_already_exists(kind: &str, property: &str, value: &str) -> Message {
    base(
        "ResourceAlreadyExists",
        Severity::Critical,
        "There is a %1 already whose %2 is %3.",
        &[kind, property, value],
        "Choose another value, or use the resource that is there.",
    )
    .about(property)
}

/// Something still refers to the resource, or another request works on it.
pub fn resource_in_use() -> Message {
    base(
        "ResourceInUse",
        Severity::Warning,
        "The resource is in use.",
        &[],
        "Remove what uses it, then repeat the request.",
    )
}

/// There are as many resources as there can be.
pub fn create_limit_reached() -> Message {
    base(
        "CreateLimitReachedForResource",
        Severity::Critical,
        "No more resources of this kind can be created.",
        &[],
        "Delete one that is not needed any more.",
    )
}

/// Something that the request needs is used up or does not work now.
pub fn resource_exhaustion(uri: &str) -> Message {
    base(
        "ResourceExhaustion",
        Severity::Critical,
        "The resource at %1 cannot serve the request now.",
        &[uri],
        "Free what is used, then repeat the request.",
    )
}

/// The URI is known but not for this method.
pub fn operation_not_allowed() -> Message {
    base(
        "OperationNotAllowed",
        Severity::Critical,
        "The method is not allowed on this resource.",
        &[],
        "Use a method of the Allow header.",
    )
}

/// No credentials, or wrong ones.
pub fn no_valid_session() -> Message {
    base(
        "NoValidSession",
        Severity::Critical,
        "The request carries no valid credentials.",
        &[],
        "Log in, or send a user name and password.",
    )
}

/// The caller is known but may not do this.
pub fn insufficient_privilege() -> Message {
    base(
        "InsufficientPrivilege",
        Severity::Critical,
        "The account has no privilege for this request.",
        &[],
        "Use an account with the privilege.",
    )
}

/// Too many sessions.
pub fn session_limit_exceeded() -> Message {
    base(
        "SessionLimitExceeded",
        Severity::Critical,
        "There are as many sessions as there can be.",
        &[],
        "Close a session, then log in again.",
    )
}

/// Too many event subscriptions.
pub fn event_subscription_limit_exceeded() -> Message {
    base(
        "EventSubscriptionLimitExceeded",
        Severity::Critical,
        "There are as many event subscriptions as there can be.",
        &[],
        "Delete a subscription, then repeat the request.",
    )
}

/// Another service does not answer.
pub fn could_not_establish_connection(uri: &str) -> Message {
    base(
        "CouldNotEstablishConnection",
        Severity::Critical,
        "No connection could be made to %1.",
        &[uri],
        "Check the address and that the service there runs.",
    )
}

/// The service is there but cannot serve now.
pub fn service_temporarily_unavailable(seconds: u64) -> Message {
    base(
        "ServiceTemporarilyUnavailable",
        Severity::Critical,
        "The service cannot answer now; it may in %1 seconds.",
        &[&seconds.to_string()],
        "Repeat the request later.",
    )
}

/// The resource is not what `If-Match` says.
pub fn precondition_failed() -> Message {
    base(
        "PreconditionFailed",
        Severity::Critical,
        "The resource is not the one that the entity tag names.",
        &[],
        "Read the resource again, then repeat the request with its entity tag.",
    )
}

/// `If-Match` is needed.
pub fn precondition_required() -> Message {
    base(
        "PreconditionRequired",
        Severity::Critical,
        "The request needs the entity tag of the resource in If-Match.",
        &[],
        "Read the resource, then repeat the request with its entity tag.",
    )
}

/// A header's value cannot be served.
pub fn header_invalid(header: &str) -> Message {
    base(
        "HeaderInvalid",
        Severity::Critical,
        "The header %1 has a value that the service cannot serve.",
        &[header],
        "Correct the header.",
    )
}

/// The service does not know this query option.
pub fn query_parameter_unsupported(parameter: &str) -> Message {
    base(
        "QueryParameterUnsupported",
        Severity::Warning,
        "The query option %1 is not supported.",
        &[parameter],
        "Remove the query option.",
    )
}

/// The value of a query option is of the wrong type.
pub fn query_parameter_value_type_error(value: &str, parameter: &str) -> Message {
    base(
        "QueryParameterValueTypeError",
        Severity::Warning,
        "The value %1 is of the wrong type for the query option %2.",
        &[value, parameter],
        "Correct the value.",
    )
}

/// The resource does not take this query option.
pub fn query_not_supported_on_resource() -> Message {
    base(
        "QueryNotSupportedOnResource",
        Severity::Warning,
        "The resource does not take this query option.",
        &[],
        "Remove the query option.",
    )
}

/// The method does not take query options.
pub fn query_not_supported_on_operation() -> Message {
    base(
        "QueryNotSupportedOnOperation",
        Severity::Warning,
        "Query options go with GET only.",
        &[],
        "Remove the query options.",
    )
}

/// These query options do not go together.
pub fn query_combination_invalid() -> Message {
    base(
        "QueryCombinationInvalid",
        Severity::Warning,
        "These query options do not go together.",
        &[],
        "Send them in separate requests.",
    )
}

/// A resource block is in a composition already.
pub fn resource_block_in_use(uri: &str) -> Message {
    Message::new(
        COMPOSITION,
        "ResourceBlockInUse",
        Severity::Warning,
        "The resource block at %1 is in use.",
        &[uri],
        "Remove it from its composition, or choose another one.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_filled_in_once() {
        assert_eq!(fill("%1 and %2, 5% of %3", &["a%2", "b"]), "a%2 and b, 5% of %3");
        assert_eq!(fill("%0 %", &["a"]), "%0 %");
    }

    #[test]
    fn a_message_names_its_property_and_key() {
        let message = property_value_not_in_list("x", "Boot/BootSourceOverrideTarget");
        assert_eq!(message.related_properties, ["#/Boot/BootSourceOverrideTarget"]);
        assert_eq!(message.message_args, ["x", "Boot/BootSourceOverrideTarget"]);
        assert_eq!(message.key(), "PropertyValueNotInList");
    }
}
