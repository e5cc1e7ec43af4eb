//! An asynchronous Redfish client.
//!
//! [`Client`] reads, changes and creates resources, calls actions, follows tasks and crawls whole services. It logs in by
//! itself (session, else basic), repeats what can be repeated, and gives up in bounded time with a [`RedfishError`] that
//! says what kind of failure it was.
//!
//! ```no_run
//! # async fn example() -> Result<(), drystone_redfish::client::RedfishError> {
//! use drystone_redfish::{client::{Client, Options}, types::ComputerSystem};
//! let client = Client::new(Options::new("http://127.0.0.1:8401").credentials("admin", "secret"))?;
//! let system = client.get_as::<ComputerSystem>("/redfish/v1/Systems/1").await?;
//! client.patch("/redfish/v1/Systems/1", &serde_json::json!({"HostName": "c01"}), system.etag.as_ref()).await?;
//! # Ok(())
//! # }
//! ```

mod authentication;
mod crawl;
mod error;
#[cfg(test)]
mod hostile;
mod listen;
mod options;
mod resource;
mod retry;
mod task;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod transport;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::etag::ETag;
use transport::Condition;

pub use crawl::{Crawl, CrawlOptions, CrawlReport, Found, Known, RawResource, Recrawl};
pub use error::RedfishError;
pub use options::{AuthenticationMode, CertificateCheck, Options, RetryPolicy};
pub use resource::{Fetched, Outcome, Resource};
pub use tls::builder as http_builder;

/// A client of one Redfish service. Cheap to clone; clones share the session and the connections.
#[derive(Debug, Clone)]
pub struct Client {
    transport: Arc<transport::Transport>,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`RedfishError::Configuration`]: the address is no HTTP URL, or a certificate cannot be read.
    pub fn new(options: Options) -> Result<Self, RedfishError> {
        Ok(Self { transport: Arc::new(transport::Transport::new(options)?) })
    }

    /// Base URL of the service, without credentials.
    pub fn base(&self) -> &url::Url {
        self.transport.base()
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn get(&self, uri: &str) -> Result<Resource, RedfishError> {
        let answer = self.transport.send(Method::GET, uri, None, None).await?;
        answer.into_resource(uri)
    }

    /// Reads a resource as a type of [`crate::types`].
    ///
    /// # Errors
    /// [`RedfishError::Malformed`] if the body does not fit the type; else see [`RedfishError`].
    pub async fn get_as<T: DeserializeOwned>(&self, uri: &str) -> Result<Fetched<T>, RedfishError> {
        self.get(uri).await?.parse()
    }

    /// Links of all members of a collection, over all its pages.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn members(&self, uri: &str) -> Result<Vec<String>, RedfishError> {
        /// A collection with more pages than this goes round in circles.
        const MOST_PAGES: usize = 10_000;
        const MOST_MEMBERS: usize = 1_000_000;
        let (mut members, mut next) = (Vec::new(), Some(uri.to_owned()));
        for _ in 0..MOST_PAGES {
            let Some(page) = next else { return Ok(members) };
            let collection = self.get_as::<crate::types::Collection>(&page).await?.value;
            members.extend(collection.members.into_iter().map(|link| link.odata_id));
            if members.len() > MOST_MEMBERS {
                return Err(RedfishError::malformed(uri, "the collection has too many members"));
            }
            next = collection.next_link;
        }
        Err(RedfishError::malformed(uri, "the pages of the collection do not end"))
    }

    /// Changes properties of a resource. With an entity tag the change is made only if the resource is still that one.
    ///
    /// # Errors
    /// See [`RedfishError`]; another state is [`RedfishError::Status`] 412.
    pub async fn patch(&self, uri: &str, body: &Value, etag: Option<&ETag>) -> Result<Outcome, RedfishError> {
        let answer = self.transport.send(Method::PATCH, uri, Some(body), etag).await?;
        Ok(answer.into_outcome())
    }

    /// Reads a resource, lets `change` say what to change in it, and changes just that state of it; begins again a few
    /// times if somebody else was quicker. `change` returns `None` if nothing is to be done.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn modify<F>(&self, uri: &str, mut change: F) -> Result<Option<Outcome>, RedfishError>
    where
        F: FnMut(&Value) -> Option<Value>,
    {
        const ATTEMPTS: usize = 8;
        let mut attempt = 1;
        loop {
            let resource = self.get(uri).await?;
            let Some(body) = change(&resource.body) else { return Ok(None) };
            match self.patch(uri, &body, resource.etag.as_ref()).await {
                Err(error) if error.status() == Some(412) && attempt < ATTEMPTS => attempt += 1,
                other => return other.map(Some),
            }
        }
    }

    /// Puts a whole resource, or makes it, if the resource still has this entity tag; returns the tag that it has then.
    ///
    /// # Errors
    /// See [`RedfishError`]; another state is [`RedfishError::Status`] 412.
    pub async fn put(&self, uri: &str, body: &Value, etag: &ETag) -> Result<Option<ETag>, RedfishError> {
        let condition = Condition::IfMatch(etag);
        Ok(self.transport.send_raw(Method::PUT, uri, Some(body), condition).await?.etag())
    }

    /// Deletes a resource that still has this entity tag; returns the tag that the service gives to what is there then.
    ///
    /// # Errors
    /// See [`RedfishError`]; another state is [`RedfishError::Status`] 412, a resource that is not there 404.
    pub async fn delete_if(&self, uri: &str, etag: &ETag) -> Result<Option<ETag>, RedfishError> {
        let condition = Condition::IfMatch(etag);
        Ok(self.transport.send_raw(Method::DELETE, uri, None, condition).await?.etag())
    }

    /// Creates a resource in a collection.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn create(&self, collection: &str, body: &Value) -> Result<Outcome, RedfishError> {
        let answer = self.transport.send(Method::POST, collection, Some(body), None).await?;
        Ok(answer.into_outcome())
    }

    /// Calls an action. `target` is that of the resource's `Actions`.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn action(&self, target: &str, parameters: &Value) -> Result<Outcome, RedfishError> {
        let answer = self.transport.send(Method::POST, target, Some(parameters), None).await?;
        Ok(answer.into_outcome())
    }

    /// Deletes a resource. One that is not there counts as deleted.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn delete(&self, uri: &str) -> Result<Outcome, RedfishError> {
        match self.transport.send(Method::DELETE, uri, None, None).await {
            Err(error) if error.status() == Some(404) => Ok(Outcome::done()),
            other => Ok(other?.into_outcome()),
        }
    }

    /// Waits until an outcome that was only accepted is final.
    ///
    /// # Errors
    /// [`RedfishError::TaskFailed`] if the task did not complete, [`RedfishError::Timeout`] if it is not done in time.
    pub async fn complete(&self, outcome: Outcome, within: Duration) -> Result<Outcome, RedfishError> {
        task::complete(&self.transport, outcome, within).await
    }

    /// Reads every resource that can be reached from the roots.
    ///
    /// # Errors
    /// Only if the first root cannot be read: what cannot be read later is listed in [`Crawl::failed`].
    pub async fn crawl(&self, options: &CrawlOptions) -> Result<Crawl, RedfishError> {
        crawl::crawl(self, options).await
    }

    /// Reads every resource that can be reached from the roots and hands each over as it comes, in no order: nothing is kept,
    /// so that the largest service can be read. What `known` knows and has not changed is only named.
    ///
    /// # Errors
    /// The first root cannot be read, the credentials are wrong, or the service is gone: nobody answers any more.
    pub async fn crawl_raw(
        &self,
        options: &CrawlOptions,
        known: &dyn Known,
        sink: &mut (dyn FnMut(Found) + Send),
    ) -> Result<CrawlReport, RedfishError> {
        crawl::raw(self, options, known, sink).await
    }

    /// Reads again a part of a service that was read before, and tells what has changed in it and what is linked no more.
    /// Roots are where the part begins: `CrawlOptions::new([uri]).within(uri)` for everything below a URI.
    ///
    /// # Errors
    /// As [`Self::crawl_raw`].
    pub async fn recrawl(
        &self,
        options: &CrawlOptions,
        known: &BTreeMap<String, RawResource>,
    ) -> Result<Recrawl, RedfishError> {
        crawl::again(self, options, known).await
    }

    /// Reads a resource unless it is still the one with this entity tag.
    ///
    /// # Errors
    /// See [`RedfishError`].
    pub async fn get_if_changed(&self, uri: &str, etag: &ETag) -> Result<Option<Resource>, RedfishError> {
        let condition = Condition::IfNoneMatch(etag);
        let answer = self.transport.send_raw(Method::GET, uri, None, condition).await?;
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        answer.parse(uri)?.into_resource(uri).map(Some)
    }

    /// Ends the session, if there is one; the next request opens another. The last clone does it by itself, unawaited, when
    /// it is dropped. Failing to is of no consequence: sessions end after a while.
    pub async fn log_out(&self) {
        self.transport.log_out().await;
    }
}
