//! Who may use the routes that are neither resources nor Redfish: those whom the access policy lets use the path (`nonResourceURLs`).

use axum::{
    Json,
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use drystone_apiserver::ApiServer;
use drystone_identity::{UserInfo, rbac::Attributes};
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
