//! A check of what placement controllers do. They write into the AppContext themselves: that what they leave was there before is for
//! whoever asked them to find out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use drystone_appcontext::{
    AppContextError, AppContexts, ContextId,
    codec::{self, Key},
    contract::{ControllerError, PlacementController},
};
use drystone_store::{KeyRange, RangeRequest};

/// Keys that are read at a time.
const PAGE: usize = 4_096;

/// A placement controller whose outcome is checked: the clusters of each app must be among those that it was given, and no app may come or
/// go. That an app has no cluster left is for the caller to see.
pub struct CheckedPlacement {
    inner: Arc<dyn PlacementController>,
    contexts: AppContexts,
}

/// The clusters of each app, as their keys name them.
type Candidates = BTreeMap<String, BTreeSet<String>>;

impl CheckedPlacement {
    /// Checks what this controller does to these contexts.
    pub fn new(inner: Arc<dyn PlacementController>, contexts: AppContexts) -> Self {
        Self { inner, contexts }
    }

    async fn candidates(&self, id: ContextId) -> Result<Candidates, ControllerError> {
        let prefix = codec::prefix(id);
        let mut range = KeyRange::prefix(format!("{prefix}app/"));
        let mut candidates = Candidates::new();
        loop {
            let request = RangeRequest { keys_only: true, limit: PAGE, ..RangeRequest::new(range.clone()) };
            let page = self.contexts.store().range(request).await.map_err(AppContextError::from);
            let page = page.map_err(of_store)?;
            for pair in &page.kvs {
                let key = std::str::from_utf8(&pair.key[prefix.len().min(pair.key.len())..]).ok();
                match key.and_then(Key::parse) {
                    Some(Key::App(app)) => {
                        candidates.entry(app.to_owned()).or_default();
                    }
                    // Whatever is below a cluster makes it one: its own key may be missing.
                    Some(Key::Part { app, cluster, .. }) => {
                        let clusters = candidates.entry(app.to_owned()).or_default();
                        if !clusters.contains(cluster) {
                            clusters.insert(cluster.to_owned());
                        }
                    }
                    _ => {}
                }
            }
            match page.kvs.last().filter(|_| page.more) {
                Some(last) => range.start = [&last.key[..], &[0]].concat().into(),
                None => return Ok(candidates),
            }
        }
    }
}

/// What is in one and not in the other.
fn strangers(before: &Candidates, after: &Candidates) -> Vec<String> {
    let none = BTreeSet::new();
    let mut found = Vec::new();
    for (app, clusters) in after {
        if !before.contains_key(app) {
            found.push(format!("the app {app}"));
        }
        let known = before.get(app).unwrap_or(&none);
        found.extend(clusters.difference(known).map(|cluster| format!("{cluster} for the app {app}")));
    }
    found
}

/// What the failure of the store is to whoever asked a controller.
pub(crate) fn of_store(error: AppContextError) -> ControllerError {
    match error {
        AppContextError::NotFound(_) | AppContextError::Name(_) => {
            ControllerError::Refused(error.to_string())
        }
        error => ControllerError::Unreachable(format!("the store of AppContexts: {error}")),
    }
}

#[async_trait]
impl PlacementController for CheckedPlacement {
    async fn filter_clusters(&self, context: ContextId) -> Result<(), ControllerError> {
        let before = self.candidates(context).await?;
        self.inner.filter_clusters(context).await?;
        let after = self.candidates(context).await?;
        if let Some(app) = before.keys().find(|app| !after.contains_key(*app)) {
            return Err(ControllerError::Refused(format!(
                "it removed the app {app} from AppContext {context}"
            )));
        }
        let mut found = strangers(&before, &after);
        if found.is_empty() {
            return Ok(());
        }
        let more = found.len().saturating_sub(5);
        found.truncate(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(ControllerError::Refused(format!(
            "it added what was not among its candidates to AppContext {context}: {}{more}",
            found.join(", ")
        )))
    }
}
