//! The walk over a service: what is still to be read, what is under way, what has been seen.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use futures::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use http::{StatusCode, header};

use super::{
    super::{
        Client,
        error::RedfishError,
        transport::{Condition, RawAnswer},
    },
    CrawlOptions, CrawlReport, Found, Known, RawResource,
    links::{Features, Page, Scan, scan},
};
use crate::{SERVICE_ROOT, etag::ETag};

/// Fewer members than this are read one by one.
const WORTH_A_PAGE: usize = 3;
/// So many requests in a row that nobody answers mean that the service is gone.
const SILENCES: usize = 8;

/// Something to ask for.
#[derive(Debug)]
enum Job {
    /// A resource.
    Read(String),
    /// Some members of a collection.
    Page { collection: String, place: Place },
}

/// Where a page is.
#[derive(Debug)]
enum Place {
    /// So many members from the one of this number.
    Part { skip: usize, top: usize },
    /// All there are, as far as the service has them on one page.
    All,
    /// Where the service said that the next page is.
    At(String),
}

/// Members of a collection that are being read.
#[derive(Debug, Default)]
struct Pending {
    pages: usize,
    expected: HashSet<String>,
}

type Answered = (Job, Option<RawResource>, Result<RawAnswer, RedfishError>);

/// A walk.
pub(super) struct Walk<'a> {
    client: &'a Client,
    options: &'a CrawlOptions,
    known: &'a dyn Known,
    sink: &'a mut (dyn FnMut(Found) + Send),
    seen: HashSet<String>,
    waiting: VecDeque<Job>,
    /// Links to elsewhere. Most lead to what some collection brings too, and cheaper: they are looked at when nothing else
    /// is left.
    far: HashSet<String>,
    pending: HashMap<String, Pending>,
    features: Features,
    report: CrawlReport,
    /// Resources that requests under way may bring.
    awaited: usize,
    silences: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        client: &'a Client,
        options: &'a CrawlOptions,
        known: &'a dyn Known,
        sink: &'a mut (dyn FnMut(Found) + Send),
    ) -> Self {
        let seen: HashSet<String> = options.roots.iter().cloned().collect();
        let waiting = options.roots.iter().cloned().map(Job::Read).collect();
        Self {
            client,
            options,
            known,
            sink,
            seen,
            waiting,
            far: HashSet::new(),
            pending: HashMap::new(),
            features: Features::default(),
            report: CrawlReport::default(),
            awaited: 0,
            silences: 0,
        }
    }

    /// Reads until there is nothing left.
    pub(super) async fn run(mut self) -> Result<CrawlReport, RedfishError> {
        if self.options.expand {
            self.ask_features().await;
        }
        let mut running: FuturesUnordered<BoxFuture<'a, Answered>> = FuturesUnordered::new();
        loop {
            if running.is_empty() && self.waiting.is_empty() {
                self.go_far();
            }
            while running.len() < self.options.concurrency {
                let left = self.options.limit.saturating_sub(self.met() + self.awaited);
                let Some(job) = self.next_job(left) else { break };
                self.awaited += weight(&job);
                self.report.requests += 1;
                running.push(self.ask(job));
            }
            let Some((job, known, answer)) = running.next().await else { break };
            self.awaited = self.awaited.saturating_sub(weight(&job));
            self.check_silence(&answer)?;
            match job {
                Job::Read(uri) => self.take_read(uri, known, answer)?,
                Job::Page { collection, place } => self.take_page(&collection, &place, answer)?,
            }
        }
        self.report.truncated = !self.waiting.is_empty() || !self.far.is_empty() || !self.pending.is_empty();
        Ok(self.report)
    }

    /// How many resources have been met. Those that failed count: a service may link to what does not exist without end.
    fn met(&self) -> usize {
        self.report.read + self.report.unchanged + self.report.failed.len()
    }

    /// The next thing to ask for, if `left` more resources may be met. A page is cut to that.
    fn next_job(&mut self, left: usize) -> Option<Job> {
        if left == 0 {
            return None;
        }
        match self.waiting.pop_front()? {
            Job::Page { collection, place: Place::Part { skip, top } } if top > left => {
                let place = Place::Part { skip, top: left };
                let rest = Place::Part { skip: skip + left, top: top - left };
                self.pending.entry(collection.clone()).or_default().pages += 1;
                self.waiting.push_front(Job::Page { collection: collection.clone(), place: rest });
                Some(Job::Page { collection, place })
            }
            job => Some(job),
        }
    }

    /// Learns from the service root what the service can. One that does not tell can nothing.
    async fn ask_features(&mut self) {
        let answer =
            self.client.transport.send_raw(http::Method::GET, SERVICE_ROOT, None, Condition::None).await;
        let found = answer.ok().and_then(|answer| scan(&answer.body).ok());
        self.features = found.map(|scan| scan.features).unwrap_or_default();
    }

    fn ask(&self, job: Job) -> BoxFuture<'a, Answered> {
        let client = self.client;
        let (uri, known) = match &job {
            Job::Read(uri) => (uri.clone(), self.known.known(uri)),
            Job::Page { collection, place } => (place.uri(collection), None),
        };
        Box::pin(async move {
            let condition = match known.as_ref().and_then(|known| known.etag.as_ref()) {
                Some(etag) => Condition::IfNoneMatch(etag),
                None => Condition::None,
            };
            let answer = client.transport.send_raw(http::Method::GET, &uri, None, condition).await;
            (job, known, answer)
        })
    }

    /// A service that is gone is given up; everything that is left would only take as long again.
    fn check_silence(&mut self, answer: &Result<RawAnswer, RedfishError>) -> Result<(), RedfishError> {
        match answer {
            Err(error @ (RedfishError::Unreachable { .. } | RedfishError::Timeout { .. })) => {
                self.silences += 1;
                if self.silences >= SILENCES { Err(error.clone()) } else { Ok(()) }
            }
            _ => {
                self.silences = 0;
                Ok(())
            }
        }
    }

    fn take_read(
        &mut self,
        uri: String,
        known: Option<RawResource>,
        answer: Result<RawAnswer, RedfishError>,
    ) -> Result<(), RedfishError> {
        let read = answer.and_then(|answer| {
            let unchanged = answer.status == StatusCode::NOT_MODIFIED;
            let body = match known {
                Some(known) if unchanged => known.body,
                _ => answer.body,
            };
            let scan = scan(&body).map_err(|error| RedfishError::malformed(&uri, error))?;
            // The header goes first: some services forget the property.
            let header = answer.headers.get(header::ETAG).and_then(|value| value.to_str().ok());
            let etag = header.or(scan.etag.as_deref()).map(ETag::from_header);
            Ok((unchanged, etag, body, scan))
        });
        match read {
            Ok((unchanged, etag, body, scan)) => {
                // A further page is no resource of its own.
                if !uri.contains('?') {
                    self.deliver(uri.clone(), etag, body, unchanged);
                }
                self.follow(&uri, scan);
                Ok(())
            }
            // With the first root missing there is nothing; with wrong credentials there is nothing to come either.
            Err(error)
                if self.options.roots.first() == Some(&uri)
                    || matches!(error, RedfishError::Unauthorized { .. }) =>
            {
                Err(error)
            }
            Err(error) => {
                self.report.failed.insert(uri, error);
                Ok(())
            }
        }
    }

    fn deliver(&mut self, uri: String, etag: Option<ETag>, body: Bytes, unchanged: bool) {
        if unchanged {
            self.report.unchanged += 1;
            (self.sink)(Found::Unchanged(uri));
        } else {
            self.report.read += 1;
            (self.sink)(Found::Read(RawResource { uri, etag, body }));
        }
    }

    /// Remembers what a body leads to.
    fn follow(&mut self, uri: &str, scan: Scan) {
        let inside = |link: &String| link.strip_prefix(uri).is_some_and(|rest| rest.starts_with(['/', '?']));
        for link in scan.links.into_iter().chain(scan.next) {
            if inside(&link) {
                self.want(link);
            } else if self.options.wants(&link) && !self.seen.contains(&link) {
                self.far.insert(link);
            }
        }
        let Some(members) = scan.members else { return };
        let count = members.len();
        let fresh: Vec<String> = members
            .into_iter()
            .filter(|link| self.options.wants(link) && !self.seen.contains(link))
            .collect();
        // Only what stands below the collection can be told to be a member by the service's word.
        let many = fresh.len() >= WORTH_A_PAGE && fresh.len() * 2 > count;
        // Without pages the answer is all or nothing, whatever the limit is.
        let fits =
            self.features.paging || (count <= self.options.page && self.met() + count <= self.options.limit);
        if !(self.features.expand && many && fits) || uri.contains('?') || !fresh.iter().all(inside) {
            fresh.into_iter().for_each(|link| self.want(link));
            return;
        }
        self.seen.extend(fresh.iter().cloned());
        let page = self.options.page;
        let places: Vec<Place> = if self.features.paging {
            (0..count).step_by(page).map(|skip| Place::Part { skip, top: page.min(count - skip) }).collect()
        } else {
            vec![Place::All]
        };
        let pending = Pending { pages: places.len(), expected: fresh.into_iter().collect() };
        self.pending.insert(uri.to_owned(), pending);
        for place in places {
            self.waiting.push_back(Job::Page { collection: uri.to_owned(), place });
        }
    }

    fn go_far(&mut self) {
        let mut links: Vec<String> = self.far.drain().filter(|link| !self.seen.contains(link)).collect();
        links.sort_unstable();
        links.into_iter().for_each(|link| self.want(link));
    }

    fn want(&mut self, link: String) {
        if self.options.wants(&link) && self.seen.insert(link.clone()) {
            self.waiting.push_back(Job::Read(link));
        }
    }

    fn take_page(
        &mut self,
        collection: &str,
        place: &Place,
        answer: Result<RawAnswer, RedfishError>,
    ) -> Result<(), RedfishError> {
        match answer {
            Ok(answer) => {
                // What cannot be read as a page is asked for one by one.
                if let Ok(page) = serde_json::from_slice::<Page<'_>>(&answer.body) {
                    for member in &page.members {
                        self.take_member(collection, member.get());
                    }
                    if let Some(next) = page.next.filter(|_| !matches!(place, Place::Part { .. })) {
                        self.next_page(collection, &super::tidy(&next));
                    }
                }
            }
            Err(error @ RedfishError::Unauthorized { .. }) => return Err(error),
            Err(error) => self.page_failed(collection, place, &error),
        }
        let done = match self.pending.get_mut(collection) {
            Some(pending) => {
                pending.pages = pending.pages.saturating_sub(1);
                pending.pages == 0
            }
            None => false,
        };
        if done {
            // Members that no page had: they came or went in between, or the service does not expand after all.
            let left = self.pending.remove(collection).map(|pending| pending.expected).unwrap_or_default();
            self.waiting.extend(left.into_iter().map(Job::Read));
        }
        Ok(())
    }

    /// A member in a page: the resource, or still only a link.
    fn take_member(&mut self, collection: &str, text: &str) {
        let Ok(scan) = scan(text.as_bytes()) else { return };
        let Some(uri) = scan.id.clone().filter(|_| scan.properties > 1) else { return };
        if self.met() >= self.options.limit {
            return;
        }
        let expected = self.pending.get_mut(collection).is_some_and(|pending| pending.expected.remove(&uri));
        let inside = uri.strip_prefix(collection).is_some_and(|rest| rest.starts_with('/'));
        // One that the collection did not list has come since; one that was read already stays as it was.
        let has_come = !expected && inside && self.options.wants(&uri) && self.seen.insert(uri.clone());
        if !expected && !has_come {
            return;
        }
        let etag = scan.etag.clone().map(ETag::from_header);
        let known = etag.as_ref().and_then(|_| self.known.known(&uri)).and_then(|known| known.etag);
        let unchanged = known.is_some() && known == etag;
        // A copy: a few members that somebody keeps must not keep the whole page.
        self.deliver(uri.clone(), etag, Bytes::copy_from_slice(text.as_bytes()), unchanged);
        self.follow(&uri, scan);
    }

    fn next_page(&mut self, collection: &str, next: &str) {
        if self.options.wants(next) && self.seen.insert(next.to_owned()) {
            if let Some(pending) = self.pending.get_mut(collection) {
                pending.pages += 1;
            }
            let place = Place::At(next.to_owned());
            self.waiting.push_back(Job::Page { collection: collection.to_owned(), place });
        }
    }

    /// A page that is too large is divided; a service that refuses for another reason is not asked for pages again.
    fn page_failed(&mut self, collection: &str, place: &Place, error: &RedfishError) {
        let parts: Vec<Place> = match (error.status(), place) {
            (Some(413 | 507), Place::Part { skip, top }) if *top > 1 => {
                let half = top / 2;
                vec![
                    Place::Part { skip: *skip, top: half },
                    Place::Part { skip: skip + half, top: top - half },
                ]
            }
            (Some(_), _) => {
                tracing::debug!(collection, %error, "members are read one by one");
                self.features.expand = false;
                Vec::new()
            }
            (None, _) => Vec::new(),
        };
        if let Some(pending) = self.pending.get_mut(collection) {
            pending.pages += parts.len();
        }
        for place in parts {
            self.waiting.push_back(Job::Page { collection: collection.to_owned(), place });
        }
    }
}

/// How many resources a request may bring.
fn weight(job: &Job) -> usize {
    match job {
        Job::Page { place: Place::Part { top, .. }, .. } => *top,
        Job::Read(_) | Job::Page { .. } => 1,
    }
}

impl Place {
    fn uri(&self, collection: &str) -> String {
        const EXPAND: &str = "$expand=.($levels=1)";
        match self {
            Self::Part { skip, top } => format!("{collection}?{EXPAND}&$skip={skip}&$top={top}"),
            Self::All => format!("{collection}?{EXPAND}"),
            Self::At(uri) => uri.clone(),
        }
    }
}
