//! Drystone's own Redfish service on the HTTPS port.
//!
//! The port opens before the resources that the service shows are defined: until then it asks for patience.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
};

use axum::{
    Router, extract::Request, http::StatusCode, http::request::Parts, response::Response, routing::any,
};
use drystone_apiserver::{ActingAs, ApiServer, Peer};
use drystone_identity::{
    UserInfo,
    authn::PasswordHash,
    rbac::Attributes,
    user::{MASTERS, UNAUTHENTICATED},
};
use drystone_ofmf::{Config, Door, Ofmf, agents::EVENT_LISTENER};
use drystone_redfish::{
    error::ServiceError,
    message,
    server::{Principal, Reply, Role, Vouched, dispatch},
};
use kube::Client;
use uuid::Uuid;

use super::pki::Keys;
use crate::command::Failure;

/// Seconds after which a client may try again that came too early.
const PATIENCE: u64 = 1;

/// Where the service is mounted.
#[derive(Clone, Default)]
pub(crate) struct Redfish(Arc<OnceLock<Arc<Ofmf>>>);

impl Redfish {
    /// Routes to be served beside others.
    pub(crate) fn router(&self) -> Router {
        let mut router = Router::new();
        for path in ["/redfish", "/redfish/", "/redfish/{*rest}", EVENT_LISTENER] {
            let mount = self.clone();
            router = router.route(
                path,
                any(move |request: Request| {
                    let mount = mount.clone();
                    async move { mount.answer(request).await }
                }),
            );
        }
        router
    }

    async fn answer(&self, request: Request) -> Response {
        match self.0.get() {
            Some(service) => dispatch(service.as_ref(), request).await,
            None => {
                let message = message::service_temporarily_unavailable(PATIENCE);
                let error = ServiceError::unavailable(message, PATIENCE);
                Reply::with(StatusCode::SERVICE_UNAVAILABLE, error.headers(), Some(error.body()))
                    .into_response()
            }
        }
    }

    /// Starts the service, which ends with the API server.
    pub(crate) fn start(&self, api: &ApiServer, client: &Client, keys: &Keys) -> Result<Arc<Ofmf>, Failure> {
        // The authority stays the same as long as the data directory does.
        let uuid = Uuid::new_v5(&Uuid::NAMESPACE_OID, keys.authority.certificate_pem().as_bytes());
        let config = Config {
            uuid: uuid.to_string(),
            administrator: PasswordHash::of(&keys.admin_password)?,
            door: Arc::new(ByApiServer(api.clone())),
        };
        let service = Ofmf::start(client, config, &api.stopping());
        Ok(Arc::clone(self.0.get_or_init(|| service)))
    }
}

/// Who somebody is according to the API server: by a client certificate, a bearer token, or the trusted port.
struct ByApiServer(ApiServer);

impl Door for ByApiServer {
    fn is_confidential(&self, request: &Parts) -> bool {
        request.extensions.get::<Peer>().is_some() || request.extensions.get::<ActingAs>().is_some()
    }

    fn vouch<'a>(&'a self, request: &'a Parts) -> Pin<Box<dyn Future<Output = Vouched> + Send + 'a>> {
        Box::pin(async move {
            match self.0.authenticate(request).await {
                Ok(user) if user.is_in(UNAUTHENTICATED) => Vouched::Nobody,
                Ok(user) => match self.role(&user) {
                    Some(role) => Vouched::For(Principal { user: user.name.clone(), role, session: None }),
                    None => Vouched::Refused,
                },
                Err(_) => Vouched::Refused,
            }
        })
    }
}

impl ByApiServer {
    /// The role that fits what a user may do by the access policy, on the path `/redfish/v1`: `patch` makes an operator, `get` a
    /// reader. Administrators are those that the policy does not apply to.
    fn role(&self, user: &UserInfo) -> Option<Role> {
        if user.is_in(MASTERS) {
            return Some(Role::Administrator);
        }
        let may = |verb: &str| self.0.authorize(&Attributes::path(user, verb, "/redfish/v1")).allowed;
        if may("patch") { Some(Role::Operator) } else { may("get").then_some(Role::ReadOnly) }
    }
}
