//! Who may use the routes that are no part of the Kubernetes API: those whom the access policy lets use the path (`nonResourceURLs`), or the
//! resources that are behind it.

use axum::{
    Json,
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use drystone_apiserver::ApiServer;
use drystone_identity::{
    UserInfo,
    rbac::{Attributes, ResourceAttributes},
    user::UNAUTHENTICATED,
};
use serde_json::json;

/// A refusal or failure in Kubernetes' own form.
pub(crate) fn status(code: StatusCode, reason: &str, message: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    });
    (code, Json(body)).into_response()
}

/// Lets those in who are known and whom the access policy lets do `verb` on `path`; the others' answer is the error.
pub(crate) async fn admit(api: &ApiServer, parts: &Parts, verb: &str, path: &str) -> Result<(), Response> {
    let unauthorized = || status(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    let user = api.authenticate(parts).await.map_err(|_| unauthorized())?;
    if user.name == UserInfo::anonymous().name {
        return Err(unauthorized());
    }
    let attributes = Attributes::path(&user, verb, path);
    if api.authorize(&attributes).allowed {
        return Ok(());
    }
    Err(status(StatusCode::FORBIDDEN, "Forbidden", &attributes.to_string()))
}

/// Why somebody may not do something with a resource.
pub(crate) enum Refused {
    /// Nobody knows who that is.
    Unknown,
    /// The access policy does not let them; in words.
    Forbidden(String),
}

/// Lets those in who are known and whom the access policy lets do `verb` with a resource.
pub(crate) async fn admit_resource(
    api: &ApiServer,
    parts: &Parts,
    verb: &str,
    resource: ResourceAttributes<'_>,
) -> Result<(), Refused> {
    let user = api.authenticate(parts).await.map_err(|_| Refused::Unknown)?;
    if user.is_in(UNAUTHENTICATED) {
        return Err(Refused::Unknown);
    }
    let attributes = Attributes::resource(&user, verb, resource);
    if api.authorize(&attributes).allowed { Ok(()) } else { Err(Refused::Forbidden(attributes.to_string())) }
}
