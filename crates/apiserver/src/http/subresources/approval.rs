//! `certificatesigningrequests/approval`. Besides writing the subresource, it takes the right to `approve` for the signer.

use axum::body::Body;
use drystone_identity::rbac::{Attributes, ResourceAttributes};
use http::{Method, Response};

use crate::http::call::Call;
use crate::http::resources;
use crate::machinery::status::ApiError;
use crate::operations::modify::Part;
use crate::operations::read;
use crate::server::state::State;

/// Answers a request for the subresource.
pub(crate) async fn answer(state: &State, call: &Call, body: Body) -> Result<Response<Body>, ApiError> {
    if call.parts.method != Method::GET {
        check_signer(state, call, "approve").await?;
    }
    resources::part(state, call, body, Part::Approval).await
}

/// Whether the user may do `verb` for the signer of the request, or for all signers of its domain.
pub(crate) async fn check_signer(state: &State, call: &Call, verb: &str) -> Result<(), ApiError> {
    let target = call.target();
    let request = read::get_value(state, &target).await?;
    let signer = request["spec"]["signerName"].as_str().unwrap_or_default();
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    let allowed = [signer, domain.as_str()].into_iter().any(|name| {
        let attributes = ResourceAttributes {
            group: "certificates.k8s.io",
            version: "v1",
            resource: "signers",
            name,
            ..ResourceAttributes::default()
        };
        state.authorize(&Attributes::resource(&call.user, verb, attributes)).allowed
    });
    if allowed {
        return Ok(());
    }
    Err(target.forbidden(format!("user not permitted to {verb} requests with signerName {signer:?}")))
}
