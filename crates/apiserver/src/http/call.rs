//! A request for a resource, with everything that is known about it.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use drystone_identity::UserInfo;
use http::Response;
use http::request::Parts;

use super::{kubelet, resources, reviews, subresources, watch};
use crate::machinery::status::ApiError;
use crate::operations::Target;
use crate::operations::modify::Part;
use crate::registry::{Catalog, ResourceInfo, Source, SubresourceKind, Verb};
use crate::request::{Accept, Query, ResourcePath, Shape, body};
use crate::server::state::State;

/// A request for a resource that the server has.
pub(crate) struct Call {
    pub(crate) user: Arc<UserInfo>,
    pub(crate) path: ResourcePath,
    pub(crate) resource: Arc<ResourceInfo>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) query: Query,
    pub(crate) verb: &'static str,
    pub(crate) parts: Parts,
}

impl Call {
    /// The object that the request is about.
    pub(crate) fn target(&self) -> Target {
        Target::new(&self.resource, &self.path.namespace, &self.path.name)
    }

    /// Whether the answer may take as long as the client likes.
    pub(crate) fn is_long_running(&self) -> bool {
        self.verb == "watch"
            || matches!(self.path.subresource.as_str(), "log" | "exec" | "attach" | "portforward")
    }

    /// Checks that the path fits the resource's scope.
    ///
    /// # Errors
    /// [`ApiError::NoSuchResource`] if there is no such path.
    pub(crate) fn check_path(&self) -> Result<(), ApiError> {
        let in_namespace = !self.path.namespace.is_empty();
        let about_namespace = self.resource.group.is_empty() && self.resource.plural == "namespaces";
        let fits = match self.resource.namespaced() {
            // Of all namespaces together, things can only be read; virtual resources are created.
            true => in_namespace || matches!(self.verb, "list" | "watch"),
            false => !in_namespace || about_namespace,
        };
        if fits && self.path.rest.is_empty() { Ok(()) } else { Err(ApiError::NoSuchResource) }
    }

    /// Reads the whole body.
    pub(crate) async fn read_body(&self, state: &State, body: Body) -> Result<Bytes, ApiError> {
        body::read(body, state.config.limits.body_bytes).await
    }

    /// In which form the client wants its answer.
    ///
    /// # Errors
    /// [`ApiError::NotAcceptable`] if it accepts none that there is.
    pub(crate) fn accept(&self) -> Result<Accept, ApiError> {
        Accept::negotiate(&self.parts.headers, |shape| !matches!(shape, Shape::Discovery(_)))
            .ok_or_else(|| ApiError::NotAcceptable("application/json, application/yaml".into()))
    }

    /// Lets the right part of the server answer.
    pub(crate) async fn dispatch(self, state: &Arc<State>, body: Body) -> Result<Response<Body>, ApiError> {
        if matches!(self.resource.source, Source::Virtual) {
            if self.verb != "create" || !self.path.name.is_empty() {
                return Err(self.method_not_allowed());
            }
            return reviews::answer(state, &self, body).await;
        }
        if self.path.subresource.is_empty() {
            return self.dispatch_object(state, body).await;
        }
        let subresource =
            self.resource.subresource(&self.path.subresource).ok_or(ApiError::NoSuchResource)?;
        if !subresource.verbs().iter().any(|verb| verb.as_str() == self.verb) {
            return Err(self.method_not_allowed());
        }
        match subresource {
            SubresourceKind::Status => resources::part(state, &self, body, Part::Status).await,
            SubresourceKind::Approval => subresources::approval::answer(state, &self, body).await,
            SubresourceKind::Finalize => resources::part(state, &self, body, Part::Finalize).await,
            SubresourceKind::Scale => subresources::scale::answer(state, &self, body).await,
            SubresourceKind::Binding => subresources::binding::answer(state, &self, body).await,
            SubresourceKind::Eviction => subresources::eviction::answer(state, &self, body).await,
            SubresourceKind::Token => subresources::token::answer(state, &self, body).await,
            SubresourceKind::Log => kubelet::log(state, self).await,
            SubresourceKind::Exec | SubresourceKind::Attach | SubresourceKind::PortForward => {
                kubelet::tunnel(state, self, subresource, body).await
            }
        }
    }

    async fn dispatch_object(self, state: &Arc<State>, body: Body) -> Result<Response<Body>, ApiError> {
        let offered = self.resource.verbs.iter().any(|verb| verb.as_str() == self.verb);
        if !offered || (self.verb == Verb::Create.as_str() && !self.path.name.is_empty()) {
            return Err(self.method_not_allowed());
        }
        match self.verb {
            "get" => resources::get(state, &self).await,
            "list" => resources::list(state, &self).await,
            "watch" => watch::answer(state, &self).await,
            "create" => resources::create(state, &self, body).await,
            "update" | "patch" if !self.path.name.is_empty() => {
                resources::part(state, &self, body, Part::Main).await
            }
            "delete" => resources::delete(state, &self, body).await,
            "deletecollection" => resources::delete_collection(state, &self, body).await,
            _ => Err(self.method_not_allowed()),
        }
    }

    fn method_not_allowed(&self) -> ApiError {
        ApiError::MethodNotAllowed("the server does not allow this method on the requested resource".into())
    }
}
