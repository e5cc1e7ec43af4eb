//! The options of requests: the query parameters of `meta/v1` `ListOptions`, `CreateOptions` and so on, and the body of a
//! `DELETE`.

use std::time::Duration;

use http::HeaderMap;
use http::header::USER_AGENT;
use serde::Deserialize;

use super::query::Query;
use crate::machinery::selector::{FieldSelector, LabelSelector};
use crate::machinery::status::ApiError;
use crate::storage::Continue;

/// What a list or watch selects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Selectors {
    /// By labels.
    pub(crate) labels: Option<LabelSelector>,
    /// By fields.
    pub(crate) fields: Option<FieldSelector>,
}

impl Selectors {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] if one is malformed.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let labels = query
            .get("labelSelector")
            .filter(|text| !text.trim().is_empty())
            .map(LabelSelector::parse)
            .transpose()
            .map_err(|error| ApiError::bad_request(format!("unable to parse labelSelector: {error}")))?;
        let fields = query
            .get("fieldSelector")
            .filter(|text| !text.trim().is_empty())
            .map(FieldSelector::parse)
            .transpose()
            .map_err(|error| ApiError::bad_request(format!("unable to parse fieldSelector: {error}")))?;
        Ok(Self { labels, fields })
    }

    /// Whether everything is selected.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_none() && self.fields.is_none()
    }
}

/// How `resourceVersion` of a list is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// The latest.
    Latest,
    /// Any: the latest will do.
    Any,
    /// At least this one.
    NotOlderThan(u64),
    /// Just this one.
    Exact(u64),
}

/// Options of a list.
#[derive(Debug, Clone)]
pub(crate) struct ListOptions {
    /// What is selected.
    pub(crate) selectors: Selectors,
    /// At most this many; 0 for all.
    pub(crate) limit: usize,
    /// Where to go on.
    pub(crate) next: Option<Continue>,
    /// Which state.
    pub(crate) version: Version,
}

impl ListOptions {
    /// Reads the options of a list.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] if one is malformed or they contradict each other.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let next = query.get("continue").filter(|token| !token.is_empty());
        let next = next
            .map(Continue::parse)
            .transpose()
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let revision = resource_version(query)?;
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        if next.is_some() && revision.is_some_and(|revision| revision > 0) {
            return Err(ApiError::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let version = match (revision, matching) {
            (None, "") => Version::Latest,
            (None, _) => {
                return Err(ApiError::bad_request(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided",
                ));
            }
            (Some(0), "Exact") => {
                return Err(ApiError::bad_request(
                    "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
                ));
            }
            (Some(revision), "Exact") => Version::Exact(revision),
            (Some(0), "" | "NotOlderThan") => Version::Any,
            (Some(revision), "" | "NotOlderThan") => Version::NotOlderThan(revision),
            (Some(_), other) => {
                return Err(ApiError::bad_request(format!(
                    "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\""
                )));
            }
        };
        Ok(Self {
            selectors: Selectors::parse(query)?,
            limit: number(query, "limit")?.unwrap_or(0),
            next,
            version,
        })
    }
}

/// The longest that a watch lasts, whatever is asked for.
const LONGEST_WATCH: Duration = Duration::from_secs(24 * 3600);

/// Options of a watch.
#[derive(Debug, Clone)]
pub(crate) struct WatchOptions {
    /// What is selected.
    pub(crate) selectors: Selectors,
    /// From after this revision on; `None` or 0 tell the present state first.
    pub(crate) revision: Option<u64>,
    /// Tell the present state first, then mark its end by a bookmark.
    pub(crate) initial_events: bool,
    /// Send bookmarks now and then.
    pub(crate) bookmarks: bool,
    /// End after this time.
    pub(crate) timeout: Option<Duration>,
}

impl WatchOptions {
    /// Reads the options of a watch.
    ///
    /// # Errors
    /// [`ApiError`] if one is malformed or they contradict each other.
    pub(crate) fn parse(query: &Query) -> Result<Self, ApiError> {
        let initial_events = query.get("sendInitialEvents").filter(|value| !value.is_empty());
        let matching = query.get("resourceVersionMatch").unwrap_or_default();
        if initial_events.is_some() && matching != "NotOlderThan" {
            return Err(ApiError::bad_request(
                "sendInitialEvents requires setting resourceVersionMatch to \"NotOlderThan\"",
            ));
        }
        if initial_events.is_none() && !matching.is_empty() {
            return Err(ApiError::bad_request(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        Ok(Self {
            selectors: Selectors::parse(query)?,
            revision: resource_version(query)?,
            initial_events: query.flag("sendInitialEvents"),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout: number(query, "timeoutSeconds")?
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds).min(LONGEST_WATCH)),
        })
    }
}

/// What becomes of unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FieldValidation {
    /// They are dropped silently.
    Ignore,
    /// They are dropped with a warning.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// Options of requests that write.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteOptions {
    /// Do everything but store the result.
    pub(crate) dry_run: bool,
    /// Who writes, for `metadata.managedFields`; never empty.
    pub(crate) field_manager: String,
    /// Whether the manager was named in the request.
    pub(crate) manager_named: bool,
    /// Unknown fields.
    pub(crate) field_validation: FieldValidation,
    /// Take fields from others, for server-side apply.
    pub(crate) force: bool,
}

/// The longest name of a field manager, in bytes.
const LONGEST_MANAGER: usize = 128;

impl WriteOptions {
    /// Reads the options of a create, update or patch.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] if one is not valid.
    pub(crate) fn parse(query: &Query, headers: &HeaderMap) -> Result<Self, ApiError> {
        let named = query.get("fieldManager").filter(|name| !name.is_empty());
        if let Some(name) = named
            && (name.len() > LONGEST_MANAGER || name.chars().any(char::is_control))
        {
            return Err(ApiError::bad_request(format!(
                "fieldManager: Invalid value: {name:?}: must be at most {LONGEST_MANAGER} printable characters"
            )));
        }
        let field_validation = match query.get("fieldValidation") {
            None | Some("" | "Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"Ignore\", \"Strict\", \"Warn\""
                )));
            }
        };
        Ok(Self {
            dry_run: dry_run(query.all("dryRun"))?,
            field_manager: named.map_or_else(|| manager_from_agent(headers), str::to_owned),
            manager_named: named.is_some(),
            field_validation,
            force: query.flag("force"),
        })
    }

    /// Options of a part of the server itself.
    pub(crate) fn internal(manager: &str) -> Self {
        Self {
            field_manager: manager.to_owned(),
            field_validation: FieldValidation::Ignore,
            ..Self::default()
        }
    }
}

/// What the client calls itself before the first `/`.
fn manager_from_agent(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let name = agent.split('/').next().unwrap_or_default();
    let name: String = name.chars().filter(|c| !c.is_control()).take(LONGEST_MANAGER).collect();
    if name.is_empty() { "unknown".into() } else { name }
}

fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, ApiError> {
    let mut dry = false;
    for value in values {
        if value != "All" {
            return Err(ApiError::bad_request(format!(
                "dryRun: Unsupported value: {value:?}: supported values: \"All\""
            )));
        }
        dry = true;
    }
    Ok(dry)
}

/// What becomes of the objects that a deleted one owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Propagation {
    /// They lose their owner and stay.
    Orphan,
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
}

/// What must hold for a deletion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Preconditions {
    /// The object's UID.
    pub(crate) uid: Option<String>,
    /// Its resourceVersion.
    pub(crate) resource_version: Option<String>,
}

/// Options of a deletion, `meta/v1` `DeleteOptions`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeleteOptions {
    /// How long a pod may take to end.
    pub(crate) grace_period_seconds: Option<i64>,
    /// What must hold.
    pub(crate) preconditions: Option<Preconditions>,
    /// Dependents.
    pub(crate) propagation_policy: Option<Propagation>,
    /// Older form of [`Propagation::Orphan`].
    pub(crate) orphan_dependents: Option<bool>,
    /// `["All"]`: do everything but delete.
    pub(crate) dry_run: Vec<String>,
}

impl DeleteOptions {
    /// Reads the options from the body, if there is one, else from the query.
    ///
    /// # Errors
    /// [`ApiError`] if they are not valid.
    pub(crate) fn parse(body: Option<serde_json::Value>, query: &Query) -> Result<Self, ApiError> {
        let mut options = match body {
            None => Self::default(),
            Some(body) => serde_json::from_value(body)
                .map_err(|error| ApiError::bad_request(format!("invalid DeleteOptions: {error}")))?,
        };
        if let Some(seconds) = number(query, "gracePeriodSeconds")? {
            options.grace_period_seconds = Some(seconds);
        }
        match query.get("propagationPolicy") {
            None | Some("") => {}
            Some("Orphan") => options.propagation_policy = Some(Propagation::Orphan),
            Some("Background") => options.propagation_policy = Some(Propagation::Background),
            Some("Foreground") => options.propagation_policy = Some(Propagation::Foreground),
            Some(other) => {
                return Err(ApiError::bad_request(format!(
                    "propagationPolicy: Unsupported value: {other:?}: supported values: \"Background\", \
                     \"Foreground\", \"Orphan\""
                )));
            }
        }
        options.dry_run.extend(query.all("dryRun").map(str::to_owned));
        dry_run(options.dry_run.iter().map(String::as_str))?;
        Ok(options)
    }

    /// Whether nothing is to be deleted.
    pub(crate) fn is_dry_run(&self) -> bool {
        !self.dry_run.is_empty()
    }

    /// What becomes of dependents, if the request says it.
    pub(crate) fn propagation(&self) -> Option<Propagation> {
        self.propagation_policy.or(self
            .orphan_dependents
            .map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background }))
    }
}

fn resource_version(query: &Query) -> Result<Option<u64>, ApiError> {
    match query.get("resourceVersion") {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "resourceVersion: Invalid value: {text:?}: must be a number that this server gave"
            ))
        }),
    }
}

fn number<T: std::str::FromStr>(query: &Query, name: &str) -> Result<Option<T>, ApiError> {
    match query.get(name) {
        None | Some("") => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| ApiError::bad_request(format!("{name}: Invalid value: {text:?}: must be a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(query: &str) -> Result<Version, ApiError> {
        ListOptions::parse(&Query::parse(query)).map(|options| options.version)
    }

    #[test]
    fn versions_of_lists() {
        assert_eq!(list(""), Ok(Version::Latest));
        assert_eq!(list("resourceVersion=0"), Ok(Version::Any));
        assert_eq!(list("resourceVersion=0&resourceVersionMatch=NotOlderThan"), Ok(Version::Any));
        assert_eq!(list("resourceVersion=7"), Ok(Version::NotOlderThan(7)));
        assert_eq!(list("resourceVersion=7&resourceVersionMatch=Exact"), Ok(Version::Exact(7)));
        for wrong in [
            "resourceVersion=x",
            "resourceVersionMatch=Exact",
            "resourceVersion=0&resourceVersionMatch=Exact",
        ] {
            assert!(list(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn initial_events_need_a_match() {
        let parse = |query| WatchOptions::parse(&Query::parse(query));
        assert!(parse("watch=1&sendInitialEvents=true").is_err());
        let options =
            parse("watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=5")
                .unwrap();
        assert!(options.initial_events);
        assert_eq!(options.timeout, Some(Duration::from_secs(5)));
    }

    #[test]
    fn the_manager_is_named_or_guessed() {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, "kubectl/v1.32.4 (linux/amd64)".parse().unwrap());
        let parse = |query| WriteOptions::parse(&Query::parse(query), &headers).unwrap();
        assert_eq!(parse("").field_manager, "kubectl");
        assert_eq!(parse("fieldManager=me").field_manager, "me");
        assert!(WriteOptions::parse(&Query::parse("dryRun=Some"), &headers).is_err());
    }

    #[test]
    fn deletion() {
        let body = serde_json::json!({"kind": "DeleteOptions", "propagationPolicy": "Orphan", "preconditions": {"uid": "u"}});
        let options =
            DeleteOptions::parse(Some(body), &Query::parse("gracePeriodSeconds=3&dryRun=All")).unwrap();
        assert_eq!(options.propagation(), Some(Propagation::Orphan));
        assert_eq!(options.grace_period_seconds, Some(3));
        assert!(options.is_dry_run());
    }
}
