//! Reads a whole service by following its links, many at a time.
//!
//! A collection is read first as it is; if the service can, its members are then read a page at a time with `$expand`
//! instead of one by one. Bodies are looked through for links without being turned into values: whoever wants values parses
//! what it needs. What was read before can be given along: what has not changed since is then only named.

mod links;
mod walk;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Client, Resource, error::RedfishError};
use crate::etag::ETag;

pub(super) use links::tidy;
use walk::Walk;

/// What to read, and how much at once.
#[derive(Debug, Clone)]
pub struct CrawlOptions {
    roots: Vec<String>,
    excluded: Vec<String>,
    within: Vec<String>,
    concurrency: usize,
    limit: usize,
    page: usize,
    expand: bool,
}

impl CrawlOptions {
    /// Begins at these URIs.
    pub fn new(roots: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let excluded =
            ["JsonSchemas", "Registries", "SessionService", "AccountService", "EventService", "TaskService"];
        Self {
            roots: roots.into_iter().map(|root| tidy(&root.into())).collect(),
            excluded: excluded.iter().map(|room| format!("/redfish/v1/{room}")).collect(),
            within: Vec::new(),
            concurrency: 16,
            limit: 1_000_000,
            page: 2_000,
            expand: true,
        }
    }

    /// Follows only links to what begins like this and what is below: `/redfish/v1/Fabrics`. Several may be told.
    #[must_use]
    pub fn within(mut self, prefix: impl Into<String>) -> Self {
        self.within.push(tidy(&prefix.into()));
        self
    }

    /// Leaves out what begins like this, beside the rooms that say nothing about hardware.
    #[must_use]
    pub fn without(mut self, prefix: impl Into<String>) -> Self {
        self.excluded.push(tidy(&prefix.into()));
        self
    }

    /// How many requests are under way at once; 16 unless told otherwise.
    #[must_use]
    pub fn concurrency(mut self, requests: usize) -> Self {
        self.concurrency = requests.max(1);
        self
    }

    /// Most resources to read; a million unless told otherwise.
    #[must_use]
    pub fn limit(mut self, resources: usize) -> Self {
        self.limit = resources;
        self
    }

    /// Members of a collection that one request reads where the service can; 2,000 unless told otherwise.
    #[must_use]
    pub fn page(mut self, members: usize) -> Self {
        self.page = members.max(1);
        self
    }

    /// Whether members of collections are read together where the service says that it can; else one by one.
    #[must_use]
    pub fn expand(mut self, expand: bool) -> Self {
        self.expand = expand;
        self
    }

    fn wants(&self, uri: &str) -> bool {
        let below = |prefix: &String| {
            uri.strip_prefix(prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        };
        uri.starts_with('/')
            && (self.within.is_empty() || self.within.iter().any(below))
            && !self.excluded.iter().any(below)
    }
}

/// A resource as the service sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawResource {
    /// Its URI, tidy: no doubled slashes, no slash at the end, no fragment.
    pub uri: String,
    /// Its entity tag, if the service has them.
    pub etag: Option<ETag>,
    /// Its body: a JSON object.
    pub body: Bytes,
}

impl RawResource {
    /// The body as a value.
    ///
    /// # Errors
    /// [`RedfishError::Malformed`] if it is no JSON after all: links are looked for, the rest is not checked.
    pub fn parse(self) -> Result<Resource, RedfishError> {
        let body =
            serde_json::from_slice(&self.body).map_err(|error| RedfishError::malformed(&self.uri, error))?;
        Ok(Resource { uri: self.uri, etag: self.etag, body })
    }
}

/// Something that a crawl came by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A resource that is new, or another than was known.
    Read(RawResource),
    /// The URI of a resource that is as it was known.
    Unchanged(String),
}

/// What was read earlier.
pub trait Known: Sync {
    /// The resource at a URI. Without an entity tag it is as good as not known.
    fn known(&self, uri: &str) -> Option<RawResource>;
}

/// Nothing.
impl Known for () {
    fn known(&self, _: &str) -> Option<RawResource> {
        None
    }
}

impl Known for BTreeMap<String, RawResource> {
    fn known(&self, uri: &str) -> Option<RawResource> {
        self.get(uri).cloned()
    }
}

/// How a crawl went.
#[derive(Debug, Default)]
pub struct CrawlReport {
    /// Resources read.
    pub read: usize,
    /// Resources that are as they were known.
    pub unchanged: usize,
    /// Requests sent, without repetitions.
    pub requests: usize,
    /// Links that could not be read, and why. A link to another service's resource is among them.
    pub failed: BTreeMap<String, RedfishError>,
    /// Whether the limit was reached before the end.
    pub truncated: bool,
}

/// What a crawl found.
#[derive(Debug, Default)]
pub struct Crawl {
    /// Resources by URI.
    pub resources: BTreeMap<String, Resource>,
    /// Links that could not be read, and why. A link to another service's resource is among them.
    pub failed: BTreeMap<String, RedfishError>,
    /// Whether the limit was reached before the end.
    pub truncated: bool,
}

/// What has become of what was known.
#[derive(Debug, Default)]
pub struct Recrawl {
    /// Resources that are new or have changed.
    pub changed: Vec<RawResource>,
    /// URIs of what was known in the part that was crawled and is linked no more.
    pub vanished: Vec<String>,
    /// How it went.
    pub report: CrawlReport,
}

/// Reads everything that can be reached and keeps it.
pub(super) async fn crawl(client: &Client, options: &CrawlOptions) -> Result<Crawl, RedfishError> {
    let mut crawl = Crawl::default();
    let mut broken = BTreeMap::new();
    let mut sink = |found| {
        if let Found::Read(raw) = found {
            let uri = raw.uri.clone();
            match raw.parse() {
                Ok(resource) => drop(crawl.resources.insert(uri, resource)),
                Err(error) => drop(broken.insert(uri, error)),
            }
        }
    };
    let report = raw(client, options, &(), &mut sink).await?;
    crawl.failed = report.failed;
    crawl.failed.extend(broken);
    crawl.truncated = report.truncated;
    Ok(crawl)
}

/// Reads everything that can be reached and hands it over one by one.
pub(super) async fn raw(
    client: &Client,
    options: &CrawlOptions,
    known: &dyn Known,
    sink: &mut (dyn FnMut(Found) + Send),
) -> Result<CrawlReport, RedfishError> {
    Walk::new(client, options, known, sink).run().await
}

/// Reads again what was known.
pub(super) async fn again(
    client: &Client,
    options: &CrawlOptions,
    known: &BTreeMap<String, RawResource>,
) -> Result<Recrawl, RedfishError> {
    let mut changed = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut sink = |found| match found {
        Found::Read(resource) => {
            seen.insert(resource.uri.clone());
            changed.push(resource);
        }
        Found::Unchanged(uri) => drop(seen.insert(uri)),
    };
    let report = raw(client, options, known, &mut sink).await?;
    let gone = |uri: &&String| {
        options.wants(uri)
            && options.is_below_roots(uri)
            && !seen.contains(*uri)
            && !is_in_doubt(uri, &report)
    };
    // Of a crawl that was cut short nobody knows what it would have found.
    let vanished = if report.truncated { Vec::new() } else { known.keys().filter(gone).cloned().collect() };
    Ok(Recrawl { changed, vanished, report })
}

/// Whether a resource was not seen only because something on the way to it could not be read. What the service says is
/// not there is no such thing.
fn is_in_doubt(uri: &str, report: &CrawlReport) -> bool {
    report.failed.iter().any(|(failed, error)| {
        !matches!(error.status(), Some(404 | 410))
            && uri.strip_prefix(failed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

impl CrawlOptions {
    fn is_below_roots(&self, uri: &str) -> bool {
        self.roots.iter().any(|root| {
            uri.strip_prefix(root.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}
