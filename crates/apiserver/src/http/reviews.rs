//! Virtual resources: questions about who somebody is and what he may do, answered at once and never stored.

use std::collections::BTreeMap;

use axum::body::Body;
use drystone_identity::UserInfo;
use drystone_identity::authn::Credential;
use drystone_identity::rbac::{Attributes, Decision, ResourceAttributes};
use drystone_identity::secret::Secret;
use drystone_identity::user::AUTHENTICATED;
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::call::Call;
use super::reply;
use crate::machinery::field_error::FieldError;
use crate::machinery::status::ApiError;
use crate::operations::metadata;
use crate::request::body::{decode_object, object_encoding};
use crate::server::state::State;

/// Answers a `POST` to a virtual resource.
pub(crate) async fn answer(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let encoding = object_encoding(&call.parts.headers)?;
    let bytes = call.read_body(state, body).await?;
    let mut review = decode_object(&bytes, encoding)?.value;
    metadata::check_type(&mut review, &call.resource.api_version, &call.resource.kind)?;
    let fields = metadata::of(&mut review)?;
    fields.entry("creationTimestamp").or_insert(Value::Null);
    let status = match call.resource.kind.as_str() {
        "SelfSubjectAccessReview" => access(state, call, &review, &call.user)?,
        "SubjectAccessReview" => access(state, call, &review, &subject(call, &review)?)?,
        "LocalSubjectAccessReview" => local_access(state, call, &review)?,
        "SelfSubjectRulesReview" => rules(state, call, &review)?,
        "SelfSubjectReview" => json!({"userInfo": call.user.as_ref()}),
        "TokenReview" => token(state, &review).await,
        _ => return Err(ApiError::NoSuchResource),
    };
    review["status"] = status;
    Ok(reply::object(StatusCode::CREATED, accept.representation, &review))
}

fn invalid(call: &Call, error: FieldError) -> ApiError {
    ApiError::invalid(call.resource.group_kind(), "", vec![error])
}

fn local_access(state: &State, call: &Call, review: &Value) -> Result<Value, ApiError> {
    let namespace = review["spec"]["resourceAttributes"]["namespace"].as_str().unwrap_or_default();
    if namespace != call.path.namespace {
        let message = format!("must match metadata.namespace: {}", call.path.namespace);
        return Err(invalid(
            call,
            FieldError::invalid("spec.resourceAttributes.namespace", namespace, message),
        ));
    }
    access(state, call, review, &subject(call, review)?)
}

/// The user that a review is about.
fn subject(call: &Call, review: &Value) -> Result<UserInfo, ApiError> {
    let spec = &review["spec"];
    let texts = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    let name = spec["user"].as_str().unwrap_or_default();
    let groups = texts(&spec["groups"]);
    if name.is_empty() && groups.is_empty() {
        let message = "at least one of user or group must be specified";
        return Err(invalid(call, FieldError::invalid("spec.user", name, message)));
    }
    let extra: BTreeMap<String, Vec<String>> = spec["extra"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, values)| (key.clone(), texts(values)))
        .collect();
    let uid = spec["uid"].as_str().filter(|uid| !uid.is_empty()).map(str::to_owned);
    Ok(UserInfo { uid, extra, ..UserInfo::new(name, groups) })
}

fn access(state: &State, call: &Call, review: &Value, user: &UserInfo) -> Result<Value, ApiError> {
    let spec = &review["spec"];
    let text = |object: &'_ Value, field: &str| object[field].as_str().unwrap_or_default().to_owned();
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let decision = match (resource.is_object(), path.is_object()) {
        (true, false) => {
            let [group, version, plural, subresource, namespace, name, verb] =
                ["group", "version", "resource", "subresource", "namespace", "name", "verb"]
                    .map(|field| text(resource, field));
            let attributes = ResourceAttributes {
                group: &group,
                version: &version,
                resource: &plural,
                subresource: &subresource,
                namespace: &namespace,
                name: &name,
            };
            state.authorize(&Attributes::resource(user, &verb, attributes))
        }
        (false, true) => state.authorize(&Attributes::path(user, &text(path, "verb"), &text(path, "path"))),
        _ => {
            let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return Err(invalid(
                call,
                FieldError::invalid("spec.resourceAttributes", resource.clone(), message),
            ));
        }
    };
    Ok(status_of(&decision))
}

fn status_of(decision: &Decision) -> Value {
    let mut status = json!({"allowed": decision.allowed});
    if !decision.reason.is_empty() {
        status["reason"] = decision.reason.as_ref().into();
    }
    status
}

fn rules(state: &State, call: &Call, review: &Value) -> Result<Value, ApiError> {
    let namespace = review["spec"]["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(ApiError::bad_request("no namespace on request"));
    }
    let mut status = serde_json::to_value(state.policy().review_rules(&call.user, namespace))
        .map_err(|error| ApiError::Internal(error.to_string()))?;
    status["incomplete"] = false.into();
    Ok(status)
}

async fn token(state: &State, review: &Value) -> Value {
    let token = Secret::new(review["spec"]["token"].as_str().unwrap_or_default());
    let audiences: Vec<String> = review["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let now = Timestamp::now();
    // Only tokens of service accounts say whom they are for; the others are for this server.
    let refusal = match &state.tokens {
        Some(tokens) => match tokens.verify(&token, &audiences, now).await {
            Ok(verified) => {
                let mut user = verified.user;
                user.add_group(AUTHENTICATED);
                return json!({"authenticated": true, "user": user, "audiences": verified.audiences});
            }
            Err(error) => error.to_string(),
        },
        None => String::new(),
    };
    if audiences.is_empty() {
        let credential = [Credential::Bearer(token)];
        if let Ok(user) = state.authentication.authenticate(&credential, now).await {
            return json!({"authenticated": true, "user": user});
        }
    }
    json!({"authenticated": false, "user": {}, "error": refusal})
}
