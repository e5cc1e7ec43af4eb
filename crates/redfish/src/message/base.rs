//! Messages of the registry `Base`: what is wrong with a request, or right.

use super::{Message, messages};

messages! { BASE, "Base.1.22" {
    /// The request was carried out.
    success()
        => "Success", OK, "The request was carried out.", "None.";
    /// Nothing had to be changed.
    no_operation()
        => "NoOperation", Warning, "The request changes nothing.", "None, unless a change was meant.";
    /// Several things are wrong, or one that has no message of its own.
    general_error()
        => "GeneralError", Critical, "The request failed; see the extended information.", "Correct what the messages name.";
    /// The service itself failed; the caller is not at fault.
    internal_error()
        => "InternalError", Critical, "The service failed; the request was valid.", "Repeat the request; if it fails again, look at the service's log.";
    /// The body is no JSON.
    malformed_json()
        => "MalformedJSON", Critical, "The body of the request is no valid JSON.", "Send a JSON object.";
    /// The body is an empty object.
    empty_json()
        => "EmptyJSON", Warning, "The body of the request is an empty object.", "Send at least one property.";
    /// The body is JSON but no object, or absent where one is needed.
    unrecognized_request_body()
        => "UnrecognizedRequestBody", Warning, "The body of the request is not a JSON object.", "Send a JSON object.";
    /// A property that a new resource needs is absent.
    create_failed_missing_property(property) about property
        => "CreateFailedMissingReqProperties", Critical, "The property %1 is needed to create the resource.", "Add the property.";
    /// The resource has no such property.
    property_unknown(property) about property
        => "PropertyUnknown", Warning, "The resource has no property %1.", "Remove or correct the property.";
    /// The property cannot be written.
    property_not_writable(property) about property
        => "PropertyNotWritable", Warning, "The property %1 is read-only.", "Remove the property.";
    /// The property is needed.
    property_missing(property) about property
        => "PropertyMissing", Warning, "The property %1 is missing.", "Add the property.";
    /// Two properties exclude each other.
    property_value_conflict(property, other) about property
        => "PropertyValueConflict", Warning, "The value of %1 is in conflict with that of %2.", "Correct or remove one of the two.";
    /// The value is of the wrong JSON type.
    property_value_type_error(value, property) about property
        => "PropertyValueTypeError", Warning, "The value %1 is of the wrong type for the property %2.", "Correct the type of the value.";
    /// The value is of the right type but not of the right form.
    property_value_format_error(value, property) about property
        => "PropertyValueFormatError", Warning, "The value %1 has the wrong form for the property %2.", "Correct the form of the value.";
    /// The value is none of those that the property can have.
    property_value_not_in_list(value, property) about property
        => "PropertyValueNotInList", Warning, "The value %1 is none that the property %2 can have.", "Choose one of the allowable values.";
    /// The number is too small or too large.
    property_value_out_of_range(value, property) about property
        => "PropertyValueOutOfRange", Warning, "The value %1 is out of range for the property %2.", "Choose a value inside the range.";
    /// The value is at odds with another resource.
    property_value_resource_conflict(property, value, uri) about property
        => "PropertyValueResourceConflict", Warning, "The property %1 with the value %2 is in conflict with the resource at %3.", "Choose another value, or change the other resource first.";
    /// The action needs a parameter.
    action_parameter_missing(action, parameter) about parameter
        => "ActionParameterMissing", Critical, "The action %1 needs the parameter %2.", "Add the parameter.";
    /// The action has no such parameter.
    action_parameter_unknown(action, parameter) about parameter
        => "ActionParameterUnknown", Warning, "The action %1 has no parameter %2.", "Remove or correct the parameter.";
    /// The parameter's value is of the wrong JSON type.
    action_parameter_value_type_error(value, parameter, action) about parameter
        => "ActionParameterValueTypeError", Warning, "The value %1 is of the wrong type for the parameter %2 of the action %3.", "Correct the type of the value.";
    /// The parameter's value is not of the right form.
    action_parameter_value_format_error(value, parameter, action) about parameter
        => "ActionParameterValueFormatError", Warning, "The value %1 has the wrong form for the parameter %2 of the action %3.", "Correct the form of the value.";
    /// The parameter's value is none of the allowable ones.
    action_parameter_value_not_in_list(value, parameter, action) about parameter
        => "ActionParameterValueNotInList", Warning, "The value %1 is none that the parameter %2 of the action %3 can have.", "Choose one of the allowable values.";
    /// The parameter's number is too small or too large.
    action_parameter_value_out_of_range(value, parameter, action) about parameter
        => "ActionParameterValueOutOfRange", Warning, "The value %1 is out of range for the parameter %2 of the action %3.", "Choose a value inside the range.";
    /// The parameter's value does not go with the present state.
    action_parameter_value_conflict(parameter, value) about parameter
        => "ActionParameterValueConflict", Warning, "The parameter %1 with the value %2 is in conflict with the present state.", "Bring the resource into a state that allows the action.";
    /// A link or a request names something that is not there.
    resource_missing_at_uri(uri)
        => "ResourceMissingAtURI", Critical, "There is no resource at %1.", "Correct the URI, or create the resource first.";
    /// The name of a new resource is taken.
    resource_already_exists(kind, property, value) about property
        => "ResourceAlreadyExists", Critical, "There is a %1 already whose %2 is %3.", "Choose another value, or use the resource that is there.";
    /// Something still refers to the resource, or another request works on it.
    resource_in_use()
        => "ResourceInUse", Warning, "The resource is in use.", "Remove what uses it, then repeat the request.";
    /// There are as many resources as there can be.
    create_limit_reached()
        => "CreateLimitReachedForResource", Critical, "No more resources of this kind can be created.", "Delete one that is not needed any more.";
    /// Something that the request needs is used up or does not work now.
    resource_exhaustion(uri)
        => "ResourceExhaustion", Critical, "The resource at %1 cannot serve the request now.", "Free what is used, then repeat the request.";
    /// The URI is known but not for this method.
    operation_not_allowed()
        => "OperationNotAllowed", Critical, "The method is not allowed on this resource.", "Use a method of the Allow header.";
    /// No credentials, or wrong ones.
    no_valid_session()
        => "NoValidSession", Critical, "The request carries no valid credentials.", "Log in, or send a user name and password.";
    /// The caller is known but may not do this.
    insufficient_privilege()
        => "InsufficientPrivilege", Critical, "The account has no privilege for this request.", "Use an account with the privilege.";
    /// Too many sessions.
    session_limit_exceeded()
        => "SessionLimitExceeded", Critical, "There are as many sessions as there can be.", "Close a session, then log in again.";
    /// Too many event subscriptions.
    event_subscription_limit_exceeded()
        => "EventSubscriptionLimitExceeded", Critical, "There are as many event subscriptions as there can be.", "Delete a subscription, then repeat the request.";
    /// Another service does not answer.
    could_not_establish_connection(uri)
        => "CouldNotEstablishConnection", Critical, "No connection could be made to %1.", "Check the address and that the service there runs.";
    /// The service is there but cannot serve now.
    temporarily_unavailable(seconds)
        => "ServiceTemporarilyUnavailable", Critical, "The service cannot answer now; it may in %1 seconds.", "Repeat the request later.";
    /// The resource is not what `If-Match` says.
    precondition_failed()
        => "PreconditionFailed", Critical, "The resource is not the one that the entity tag names.", "Read the resource again, then repeat the request with its entity tag.";
    /// `If-Match` is needed.
    precondition_required()
        => "PreconditionRequired", Critical, "The request needs the entity tag of the resource in If-Match.", "Read the resource, then repeat the request with its entity tag.";
    /// A header's value cannot be served.
    header_invalid(header)
        => "HeaderInvalid", Critical, "The header %1 has a value that the service cannot serve.", "Correct the header.";
    /// The service does not know this query option.
    query_parameter_unsupported(parameter)
        => "QueryParameterUnsupported", Warning, "The query option %1 is not supported.", "Remove the query option.";
    /// The value of a query option is of the wrong type.
    query_parameter_value_type_error(value, parameter)
        => "QueryParameterValueTypeError", Warning, "The value %1 is of the wrong type for the query option %2.", "Correct the value.";
    /// The resource does not take this query option.
    query_not_supported_on_resource()
        => "QueryNotSupportedOnResource", Warning, "The resource does not take this query option.", "Remove the query option.";
    /// The method does not take query options.
    query_not_supported_on_operation()
        => "QueryNotSupportedOnOperation", Warning, "Query options go with GET only.", "Remove the query options.";
    /// These query options do not go together.
    query_combination_invalid()
        => "QueryCombinationInvalid", Warning, "These query options do not go together.", "Send them in separate requests.";
    /// The value of a query option is too small or too large.
    query_parameter_out_of_range(value, parameter, range)
        => "QueryParameterOutOfRange", Warning, "The value %1 of the query option %2 is out of the range %3.", "Choose a value inside the range.";
    /// The password was set by somebody else and must be changed first.
    password_change_required(uri)
        => "PasswordChangeRequired", Critical, "The password of this account must be changed before it can be used: PATCH the Password of %1.", "Change the password.";
    /// The property's value is too long.
    string_value_too_long(property, limit)
        => "StringValueTooLong", Warning, "The value of %1 is longer than %2 characters.", "Send a shorter value.";
    /// The string is too short.
    string_value_too_short(property, limit)
        => "StringValueTooShort", Warning, "The value of %1 is shorter than %2 characters.", "Send a longer value.";
    /// A restricted role cannot be used so.
    restricted_privilege(privilege)
        => "RestrictedPrivilege", Critical, "The privilege %1 cannot be assigned.", "Choose another privilege.";
    /// The operation failed, for a reason that is told.
    operation_failed(reason)
        => "OperationFailed", Warning, "The operation failed: %1", "Correct what the reason names, then repeat the request.";
    /// The action is not offered.
    action_not_supported(action)
        => "ActionNotSupported", Critical, "The action %1 is not offered by the resource.", "Choose one of its actions.";
    /// The resource cannot be deleted.
    resource_cannot_be_deleted()
        => "ResourceCannotBeDeleted", Critical, "The resource cannot be deleted.", "None.";
    /// The reply would be larger than the service makes one.
    insufficient_storage()
        => "InsufficientStorage", Critical, "The reply would be too large.", "Ask for less at once: expand fewer levels, or page.";
    /// The transport is not safe enough for credentials.
    insecure_transport()
        => "AccessDenied", Critical, "Credentials are taken over HTTPS only.", "Use the HTTPS port.";
}}

/// The service is there but cannot serve now.
pub fn service_temporarily_unavailable(seconds: u64) -> Message {
    temporarily_unavailable(&seconds.to_string())
}
