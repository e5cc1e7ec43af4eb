//! Reads a whole service by following its links, many at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures::{StreamExt as _, stream::FuturesUnordered};
use serde_json::Value;

use super::{Client, Resource, error::RedfishError};

/// What to read, and how much at once.
#[derive(Debug, Clone)]
pub struct CrawlOptions {
    roots: Vec<String>,
    excluded: Vec<String>,
    within: Option<String>,
    concurrency: usize,
    limit: usize,
}

impl CrawlOptions {
    /// Begins at these URIs.
    pub fn new(roots: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let excluded =
            ["JsonSchemas", "Registries", "SessionService", "AccountService", "EventService", "TaskService"];
        Self {
            roots: roots.into_iter().map(Into::into).collect(),
            excluded: excluded.iter().map(|room| format!("/redfish/v1/{room}")).collect(),
            within: None,
            concurrency: 16,
            limit: 1_000_000,
        }
    }

    /// Follows only links that begin like this: `/redfish/v1/Fabrics/`.
    #[must_use]
    pub fn within(mut self, prefix: impl Into<String>) -> Self {
        self.within = Some(prefix.into());
        self
    }

    /// Leaves out what begins like this, beside the rooms that say nothing about hardware.
    #[must_use]
    pub fn without(mut self, prefix: impl Into<String>) -> Self {
        self.excluded.push(prefix.into());
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

    fn wants(&self, uri: &str) -> bool {
        let excluded = |prefix: &String| {
            uri == prefix || uri.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        uri.starts_with('/')
            && self.within.as_ref().is_none_or(|prefix| uri.starts_with(prefix.as_str()))
            && !self.excluded.iter().any(excluded)
    }
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

impl Crawl {
    /// How many resources have been asked for. Those that failed count: a service may link to what does not exist without end.
    fn asked(&self) -> usize {
        self.resources.len() + self.failed.len()
    }
}

/// Reads everything that can be reached.
pub(super) async fn crawl(client: &Client, options: &CrawlOptions) -> Result<Crawl, RedfishError> {
    let mut crawl = Crawl::default();
    let mut seen: BTreeSet<String> = options.roots.iter().cloned().collect();
    let mut waiting: VecDeque<String> = seen.iter().cloned().collect();
    let mut running = FuturesUnordered::new();
    loop {
        while running.len() < options.concurrency && crawl.asked() + running.len() < options.limit {
            let Some(uri) = waiting.pop_front() else { break };
            running.push(async move {
                let result = client.get(&uri).await;
                (uri, result)
            });
        }
        let Some((uri, result)) = running.next().await else { break };
        match result {
            Ok(resource) => {
                let mut links = Vec::new();
                collect_links(&resource.body, &mut links);
                for link in links {
                    if options.wants(&link) && seen.insert(link.clone()) {
                        waiting.push_back(link);
                    }
                }
                crawl.resources.insert(uri, resource);
            }
            // With the first root missing there is nothing; with wrong credentials there is nothing to come either.
            Err(error)
                if options.roots.first() == Some(&uri)
                    || matches!(error, RedfishError::Unauthorized { .. }) =>
            {
                return Err(error);
            }
            Err(error) => {
                crawl.failed.insert(uri, error);
            }
        }
    }
    crawl.truncated = !waiting.is_empty();
    Ok(crawl)
}

/// Every link of a body, also to further pages, without fragment and without a slash at the end.
fn collect_links(value: &Value, links: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(uri) if name == "@odata.id" || name == "Members@odata.nextLink" => {
                        let uri = uri.split('#').next().unwrap_or_default();
                        links.push(uri.trim_end_matches('/').to_owned());
                    }
                    _ => collect_links(value, links),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect_links(value, links)),
        _ => {}
    }
}
