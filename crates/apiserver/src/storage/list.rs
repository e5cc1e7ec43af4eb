//! Pages of a list. All pages show the state of one revision; a `continue` token says where the next one starts.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use drystone_store::{KeyRange, RangeRequest, RangeResponse, Revision, StoreError};
use serde::{Deserialize, Serialize};

use super::encoded::Stored;
use super::objects::Objects;

/// Where a list goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continue {
    #[serde(rename = "v")]
    version: String,
    #[serde(rename = "rv")]
    revision: Revision,
    /// First key of the next page, below the list's prefix.
    start: String,
}

/// A token that no list gave.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("continue key is not valid: {0}")]
pub struct InvalidContinue(&'static str);

impl Continue {
    const VERSION: &'static str = "meta.k8s.io/v1";

    fn after(revision: Revision, last: &str) -> Self {
        // The smallest key after `last`.
        Self { version: Self::VERSION.into(), revision, start: format!("{last}\0") }
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`InvalidContinue`] if no list gave it.
    pub fn parse(token: &str) -> Result<Self, InvalidContinue> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| InvalidContinue("it is not base64url"))?;
        let parsed: Self = serde_json::from_slice(&bytes).map_err(|_| InvalidContinue("it is not JSON"))?;
        if parsed.version != Self::VERSION {
            return Err(InvalidContinue("it is of another server's version"));
        }
        if parsed.start.is_empty()
            || parsed.start.starts_with('/')
            || parsed.start.split('/').any(|s| s == "..")
        {
            return Err(InvalidContinue("its start is not below the list"));
        }
        Ok(parsed)
    }

    /// The token's text.
    pub fn to_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, Default)]
pub struct PageRequest {
    /// At most this many; 0 for all.
    pub limit: usize,
    /// The state at this revision; `None` for the latest.
    pub revision: Option<Revision>,
    /// Go on from here; says the revision too.
    pub next: Option<Continue>,
}

/// A part of a list.
#[derive(Debug, Clone)]
pub struct Page {
    /// The objects, in order of their keys.
    pub items: Vec<Stored>,
    /// The list's resourceVersion.
    pub revision: Revision,
    /// Where the next page starts, if there is more.
    pub next: Option<Continue>,
    /// How many objects follow this page, if that is known.
    pub remaining: Option<u64>,
}

/// Fewest objects that are read at a time when a selector throws some away.
const SMALLEST_READ: usize = 500;

impl Objects {
    /// A page of the objects whose keys start with `prefix`, and for which `keep` is true.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails, or the revision is too old or not yet there.
    pub async fn page(
        &self,
        prefix: &str,
        request: &PageRequest,
        keep: Option<&(dyn Fn(&Stored) -> bool + Sync)>,
    ) -> Result<Page, StoreError> {
        let whole = KeyRange::prefix(prefix.to_owned());
        let mut start = match &request.next {
            Some(next) => Bytes::from(format!("{prefix}{}", next.start)),
            None => whole.start.clone(),
        };
        let mut revision = request.next.as_ref().map(|next| next.revision).or(request.revision);
        let Some(keep) = keep else {
            let found = self.read(&start, &whole, request.limit, revision).await?;
            return Ok(unfiltered(prefix, found, revision));
        };
        let mut items = Vec::new();
        loop {
            let size = if request.limit == 0 { 0 } else { request.limit.max(SMALLEST_READ) };
            let found = self.read(&start, &whole, size, revision).await?;
            let shown = *revision.get_or_insert(found.revision);
            let (more, mut last) = (found.more, None);
            let mut pairs = found.kvs.into_iter().peekable();
            while let Some(pair) = pairs.next() {
                let stored = Stored::from(pair);
                last = Some(stored.key.clone());
                if keep(&stored) {
                    items.push(stored);
                }
                if request.limit > 0 && items.len() == request.limit && (more || pairs.peek().is_some()) {
                    let next = last.map(|last| Continue::after(shown, below(prefix, &last)));
                    return Ok(Page { items, revision: shown, next, remaining: None });
                }
            }
            let Some(last) = last.filter(|_| more) else {
                return Ok(Page { items, revision: shown, next: None, remaining: None });
            };
            start = successor(&last);
        }
    }

    async fn read(
        &self,
        start: &Bytes,
        whole: &KeyRange,
        limit: usize,
        revision: Option<Revision>,
    ) -> Result<RangeResponse, StoreError> {
        let range = KeyRange { start: start.clone(), end: whole.end.clone() };
        self.store().range(RangeRequest { limit, revision, ..RangeRequest::new(range) }).await
    }
}

fn unfiltered(prefix: &str, found: RangeResponse, asked: Option<Revision>) -> Page {
    let shown = asked.unwrap_or(found.revision);
    let items: Vec<_> = found.kvs.into_iter().map(Stored::from).collect();
    let remaining = found.count.saturating_sub(items.len() as u64);
    let last = items.last().filter(|_| found.more);
    let next = last.map(|last| Continue::after(shown, below(prefix, &last.key)));
    Page { remaining: next.is_some().then_some(remaining), items, revision: shown, next }
}

fn below<'a>(prefix: &str, key: &'a [u8]) -> &'a str {
    key.get(prefix.len()..).and_then(|rest| std::str::from_utf8(rest).ok()).unwrap_or_default()
}

fn successor(key: &[u8]) -> Bytes {
    let mut next = key.to_vec();
    next.push(0);
    next.into()
}

#[cfg(test)]
mod tests {
    use super::super::encoded::Encoded;
    use super::super::objects::Claims;
    use super::*;
    use drystone_store::embedded::{EmbeddedStore, Options};
    use serde_json::json;
    use std::sync::Arc;

    async fn filled(count: usize) -> Objects {
        let objects = Objects::new(Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap()));
        for index in 0..count {
            put(&objects, &format!("/r/x/{index:04}")).await;
        }
        objects
    }

    async fn put(objects: &Objects, key: &str) {
        let object = json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": key}});
        objects.create(key, Encoded::new(&object).unwrap(), &Claims::default(), 0).await.unwrap();
    }

    #[tokio::test]
    async fn pages_show_one_state_and_every_object_once() {
        let objects = filled(25).await;
        let mut request = PageRequest { limit: 10, ..PageRequest::default() };
        let (mut names, mut remaining) = (Vec::new(), Vec::new());
        loop {
            let page = objects.page("/r/x/", &request, None).await.unwrap();
            names.extend(page.items.iter().map(|item| item.name().to_owned()));
            remaining.push(page.remaining);
            // What comes later is not in the list.
            put(&objects, &format!("/r/x/late{}", names.len())).await;
            let Some(next) = page.next else { break };
            request.next = Some(Continue::parse(&next.to_token()).unwrap());
        }
        assert_eq!(names, (0..25).map(|index| format!("{index:04}")).collect::<Vec<_>>());
        assert_eq!(remaining, [Some(15), Some(5), None]);
    }

    #[tokio::test]
    async fn a_selector_fills_its_pages() {
        let objects = filled(1200).await;
        let even = |stored: &Stored| stored.name().ends_with(['0', '2', '4', '6', '8']);
        let mut request = PageRequest { limit: 400, ..PageRequest::default() };
        let mut sizes = Vec::new();
        loop {
            let page = objects.page("/r/x/", &request, Some(&even)).await.unwrap();
            sizes.push(page.items.len());
            let Some(next) = page.next else { break };
            request.next = Some(next);
        }
        assert_eq!(sizes, [400, 200]);
    }

    #[test]
    fn foreign_tokens_are_refused() {
        for token in
            ["", "%%", "e30", &URL_SAFE_NO_PAD.encode(r#"{"v":"meta.k8s.io/v1","rv":3,"start":"../a"}"#)]
        {
            assert!(Continue::parse(token).is_err(), "{token}");
        }
    }
}
