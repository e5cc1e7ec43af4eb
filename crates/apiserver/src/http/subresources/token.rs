//! `serviceaccounts/token`: issues a token of the account, bound to an object if wanted.

use axum::body::Body;
use drystone_identity::authn::{BoundObject, ObjectClaim, TokenError, TokenRequest};
use http::{Response, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::http::call::Call;
use crate::http::reply;
use crate::machinery::field_error::FieldError;
use crate::machinery::group::GroupKind;
use crate::machinery::status::ApiError;
use crate::operations::{Target, metadata, read};
use crate::server::state::State;

const API_VERSION: &str = "authentication.k8s.io/v1";

/// Answers a `POST`.
pub(crate) async fn answer(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    let accept = call.accept()?;
    let Some(issuer) = &state.issuer else {
        return Err(ApiError::NoSuchResource);
    };
    let mut request = super::read(state, call, body, API_VERSION, "TokenRequest").await?;
    let account = read::get_value(state, &call.target()).await?;
    let bound_object = bound_object(state, call, &request["spec"]["boundObjectRef"]).await?;
    let audiences: Vec<String> = request["spec"]["audiences"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|audience| audience.as_str().map(str::to_owned))
        .collect();
    let wanted = TokenRequest {
        namespace: call.path.namespace.clone(),
        service_account: call.path.name.clone(),
        uid: metadata::text(&account, "uid").to_owned(),
        audiences,
        expiration_seconds: request["spec"]["expirationSeconds"].as_i64(),
        bound_object,
    };
    let (token, expires) = issuer.issue(&wanted, Timestamp::now()).map_err(|error| refuse(call, error))?;
    if request["metadata"].is_null() {
        request["metadata"] = json!({});
    }
    request["metadata"]["name"] = call.path.name.as_str().into();
    request["metadata"]["namespace"] = call.path.namespace.as_str().into();
    request["metadata"]["creationTimestamp"] = metadata::timestamp(Timestamp::now()).into();
    if wanted.audiences.is_empty() {
        request["spec"]["audiences"] = json!(issuer.audiences());
    }
    if wanted.expiration_seconds.is_none() {
        request["spec"]["expirationSeconds"] = 3600.into();
    }
    request["status"] = json!({"token": token.expose(), "expirationTimestamp": metadata::timestamp(expires)});
    Ok(reply::object(StatusCode::CREATED, accept.representation, &request))
}

fn refuse(call: &Call, error: TokenError) -> ApiError {
    match error {
        TokenError::Request { field, problem } => {
            invalid(call, FieldError::invalid(field, Value::Null, problem))
        }
        other => ApiError::Internal(other.to_string()),
    }
}

fn invalid(call: &Call, error: FieldError) -> ApiError {
    let kind = GroupKind::new("authentication.k8s.io", "TokenRequest");
    ApiError::invalid(kind, call.path.name.as_str(), vec![error])
}

/// The object that the token is to end with; it must exist, and be of the account where that can be told.
async fn bound_object(
    state: &State,
    call: &Call,
    reference: &Value,
) -> Result<Option<BoundObject>, ApiError> {
    let node = call.user.node_name();
    if reference.is_null() {
        return match node {
            Some(node) => {
                Err(call.target().forbidden(format!("node {node:?} can only ask for tokens bound to a pod")))
            }
            None => Ok(None),
        };
    }
    let kind = reference["kind"].as_str().unwrap_or_default();
    let name = reference["name"].as_str().unwrap_or_default();
    let plural = match kind {
        "Pod" => "pods",
        "Secret" => "secrets",
        "Node" => "nodes",
        other => {
            let error =
                FieldError::not_supported("spec.boundObjectRef.kind", other, ["Node", "Pod", "Secret"]);
            return Err(invalid(call, error));
        }
    };
    let resource = call.catalog.resource("", "v1", plural).ok_or(ApiError::NoSuchResource)?;
    let target = Target::new(resource, &call.path.namespace, name);
    let object = read::get_value(state, &target).await?;
    let uid = metadata::text(&object, "uid").to_owned();
    let wanted = reference["uid"].as_str().unwrap_or_default();
    if !wanted.is_empty() && wanted != uid {
        return Err(target.conflict(format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record ({uid})"
        )));
    }
    if let Some(node) = node
        && (kind != "Pod" || object["spec"]["nodeName"] != node)
    {
        return Err(call
            .target()
            .forbidden(format!("node {node:?} can only ask for tokens bound to its own pods")));
    }
    let claim = ObjectClaim { name: name.to_owned(), uid };
    match kind {
        "Pod" => {
            let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("default");
            if account != call.path.name {
                let error = FieldError::invalid(
                    "spec.boundObjectRef.name",
                    name,
                    format!(
                        "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name",
                        call.path.name
                    ),
                );
                return Err(invalid(call, error));
            }
            let node = node_of(state, call, &object).await?;
            Ok(Some(BoundObject::Pod { pod: claim, node }))
        }
        "Secret" => Ok(Some(BoundObject::Secret(claim))),
        _ => Ok(Some(BoundObject::Node(claim))),
    }
}

async fn node_of(state: &State, call: &Call, pod: &Value) -> Result<Option<ObjectClaim>, ApiError> {
    let Some(name) = pod["spec"]["nodeName"].as_str().filter(|name| !name.is_empty()) else {
        return Ok(None);
    };
    let Some(resource) = call.catalog.resource("", "v1", "nodes") else { return Ok(None) };
    let Some(node) = read::find(state, &Target::new(resource, "", name)).await? else { return Ok(None) };
    let uid = metadata::text(&read::decode(&node)?, "uid").to_owned();
    Ok(Some(ObjectClaim { name: name.to_owned(), uid }))
}
