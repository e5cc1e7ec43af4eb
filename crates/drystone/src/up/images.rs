//! The image store of this Drystone, behind the API server's own authentication and access policy.

use std::{net::SocketAddr, path::Path, sync::Arc};

use axum::{Router, http::request::Parts};
use drystone_apiserver::ApiServer;
use drystone_identity::{
    UserInfo,
    rbac::{Attributes, ResourceAttributes},
    user::UNAUTHENTICATED,
};
use drystone_images::{
    Images,
    http::{Access, Authorize, Decision, Denied},
    store::Store,
};
use kube::Client;
use url::Url;

use super::pki::Keys;
use crate::command::Failure;

/// Opens the store in a directory; returns it with the routes of its agent.
pub(super) fn open(
    directory: &Path,
    api: &ApiServer,
    keys: &Keys,
    address: SocketAddr,
) -> Result<(Images, Router), Failure> {
    let store = Store::open(directory)?;
    let user = UserInfo::new("system:drystone", ["system:masters"]);
    let images = Images::new(store, Client::new(api.service_as(user), "default"), &keys.boot_secret);
    images.serve_at(Url::parse(&format!("https://{address}/"))?);
    let router = drystone_images::http::router(&images, Arc::new(ByPolicy(api.clone())));
    Ok((images, router))
}

/// Decides as the API server would.
struct ByPolicy(ApiServer);

impl Authorize for ByPolicy {
    fn authorize<'a>(&'a self, request: &'a Parts, access: Access<'a>) -> Decision<'a> {
        Box::pin(async move {
            let user = self.0.authenticate(request).await.map_err(|_| Denied::Unauthenticated)?;
            if user.is_in(UNAUTHENTICATED) {
                return Err(Denied::Unauthenticated);
            }
            let resource = ResourceAttributes {
                group: access.group,
                resource: access.resource,
                namespace: access.namespace,
                name: access.name,
                ..ResourceAttributes::default()
            };
            let attributes = Attributes::resource(&user, access.verb, resource);
            if self.0.authorize(&attributes).allowed {
                Ok(())
            } else {
                Err(Denied::Forbidden(attributes.to_string()))
            }
        })
    }
}
