//! Query options (DSP0266, "Query parameters"): `$filter`, `$skip`, `$top`, `$expand`, `excerpt`, `$select` and `only`.
//!
//! They are applied in the standard's order, `$filter` first. A collection that is longer than a page says where the next one is.

mod excerpt;
mod filter;

use http::StatusCode;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::{RedfishService, dispatch::find_target, reply::stamp};
use crate::{error::ServiceError, message, tree::PAGE};
use filter::Filter;

/// Most resources that one reply expands.
const EXPAND_LIMIT: usize = 20_000;
/// Most properties that one request selects; each is looked for in every member.
const SELECT_LIMIT: usize = 256;
/// Deepest expansion; advertised as `MaxLevels`.
pub(super) const EXPAND_LEVELS: u32 = 6;

/// Which links are expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ExpandScope {
    /// `.`: all but those under `Links`.
    Subordinate,
    /// `~`: those under `Links`.
    Links,
    /// `*`: all.
    All,
}

impl ExpandScope {
    fn sign(self) -> char {
        match self {
            Self::Subordinate => '.',
            Self::Links => '~',
            Self::All => '*',
        }
    }
}

/// The query options of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    filter: Option<(Filter, String)>,
    skip: Option<usize>,
    top: Option<usize>,
    expand: Option<(ExpandScope, u32)>,
    select: Option<Vec<String>>,
    excerpt: bool,
    only: bool,
}

impl Query {
    /// Reads the query part of a URI. Options without a `$` that Redfish does not know are passed over.
    ///
    /// # Errors
    /// 400 for a bad value or combination, 501 for an option that is not served.
    pub fn parse(text: &str) -> Result<Self, ServiceError> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match name.as_ref() {
                "$skip" => query.skip = Some(number("$skip", &value)?),
                "$top" => query.top = Some(number("$top", &value)?),
                "$expand" => query.expand = Some(expand_option(&value)?),
                "$filter" => {
                    let filter = Filter::parse(&value).ok_or_else(|| bad_value(&value, "$filter"))?;
                    query.filter = Some((filter, value.into_owned()));
                }
                "$select" => query.select = Some(select_option(&value)?),
                "only" if value.is_empty() => query.only = true,
                "excerpt" if value.is_empty() => query.excerpt = true,
                "only" | "excerpt" => return Err(bad_value(&value, &name)),
                other if other.starts_with('$') => {
                    return Err(ServiceError::new(
                        StatusCode::NOT_IMPLEMENTED,
                        message::query_parameter_unsupported(other),
                    ));
                }
                _ => {}
            }
        }
        if query.only && query != (Self { only: true, ..Self::default() }) {
            return Err(ServiceError::bad_request(message::query_combination_invalid()));
        }
        Ok(query)
    }

    /// URI of the page that starts `skip` members later; other options stay as they are.
    fn next_page(&self, uri: &str, skip: usize) -> String {
        let mut options = form_urlencoded::Serializer::new(String::new());
        if let Some((_, text)) = &self.filter {
            options.append_pair("$filter", text);
        }
        options.append_pair("$skip", &skip.to_string());
        if let Some(top) = self.top {
            options.append_pair("$top", &top.saturating_sub(skip - self.skip.unwrap_or(0)).to_string());
        }
        if let Some((scope, levels)) = self.expand {
            options.append_pair("$expand", &format!("{}($levels={levels})", scope.sign()));
        }
        if self.excerpt {
            options.append_key_only("excerpt");
        }
        if let Some(select) = &self.select {
            options.append_pair("$select", &select.join(","));
        }
        format!("{uri}?{}", options.finish())
    }

    /// Which members of a collection the options need, if they can be told before the members are looked at: how many are passed
    /// over, and how many there are at most.
    pub(super) fn stretch(&self) -> Option<(usize, usize)> {
        match self {
            Self { filter: Some(_), .. } => None,
            // Whether there is another one.
            Self { only: true, .. } => Some((0, 2)),
            _ => Some((self.skip.unwrap_or(0), self.top.unwrap_or(usize::MAX).min(PAGE))),
        }
    }

    /// Refuses query options where none can be: anywhere but with GET.
    pub(super) fn refuse(text: &str) -> Result<(), ServiceError> {
        let given = form_urlencoded::parse(text.as_bytes())
            .any(|(name, _)| name.starts_with('$') || name == "only" || name == "excerpt");
        if given {
            Err(ServiceError::bad_request(message::query_not_supported_on_operation()))
        } else {
            Ok(())
        }
    }
}

fn number(name: &str, value: &str) -> Result<usize, ServiceError> {
    value.parse().map_err(|_| bad_value(value, name))
}

fn bad_value(value: &str, name: &str) -> ServiceError {
    ServiceError::bad_request(message::query_parameter_value_type_error(value, name))
}

/// `.`, `~` or `*`, then perhaps `($levels=2)`.
fn expand_option(value: &str) -> Result<(ExpandScope, u32), ServiceError> {
    let bad = || bad_value(value, "$expand");
    let mut chars = value.chars();
    let scope = match chars.next() {
        Some('.') => ExpandScope::Subordinate,
        Some('~') => ExpandScope::Links,
        Some('*') => ExpandScope::All,
        _ => return Err(bad()),
    };
    let levels = match chars.as_str() {
        "" => 1,
        rest => {
            let inner =
                rest.strip_prefix("($levels=").and_then(|rest| rest.strip_suffix(')')).ok_or_else(bad)?;
            inner.parse().map_err(|_| bad())?
        }
    };
    if levels == 0 { Err(bad()) } else { Ok((scope, levels.min(EXPAND_LEVELS))) }
}

fn select_option(value: &str) -> Result<Vec<String>, ServiceError> {
    let names: Vec<String> = value.split(',').map(|name| name.trim().to_owned()).collect();
    let bad = names.len() > SELECT_LIMIT || names.iter().any(String::is_empty);
    if bad { Err(bad_value(value, "$select")) } else { Ok(names) }
}

/// Makes the view of a resource that the options ask for. `total` members has a collection of which the body has those that the
/// options need already.
pub(super) async fn apply<S: RedfishService>(
    service: &S,
    query: &Query,
    mut body: Value,
    total: Option<usize>,
) -> Result<Value, ServiceError> {
    let collection = body.get("Members").is_some_and(Value::is_array);
    let for_collections = query.skip.is_some() || query.top.is_some() || query.only || query.filter.is_some();
    if for_collections && !collection {
        return Err(ServiceError::bad_request(message::query_not_supported_on_resource()));
    }
    if query.only {
        return Ok(only_member(service, &body).await?.unwrap_or(body));
    }
    if let Some((filter, _)) = &query.filter {
        keep_accepted(service, &mut body, filter).await?;
    }
    if collection {
        page(query, &mut body, total);
    }
    if let Some((scope, levels)) = query.expand {
        let mut left = EXPAND_LIMIT;
        expand(service, &mut body, scope, levels, &mut left).await?;
    }
    if query.excerpt {
        excerpt::excerpt(&mut body);
    }
    if let Some(select) = &query.select {
        match body.get_mut("Members").and_then(Value::as_array_mut) {
            // Selected from what was expanded: the collection keeps its own properties.
            Some(members) if query.expand.is_some() => {
                members.iter_mut().for_each(|member| keep(member, select));
            }
            _ => keep(&mut body, select),
        }
    }
    Ok(body)
}

/// Keeps the members that a filter accepts; the count is then theirs.
async fn keep_accepted<S: RedfishService>(
    service: &S,
    body: &mut Value,
    filter: &Filter,
) -> Result<(), ServiceError> {
    let Some(members) = body.get_mut("Members").and_then(Value::as_array_mut) else { return Ok(()) };
    let mut accepted = Vec::new();
    for member in std::mem::take(members) {
        let Some(target) = link_of(&member).and_then(|uri| find_target(uri, service.routes())) else {
            continue;
        };
        // What has just gone is no member any more.
        if service.read(&target).await.is_ok_and(|resource| filter.accepts(&resource)) {
            accepted.push(member);
        }
    }
    let count = accepted.len();
    *members = accepted;
    body["Members@odata.count"] = count.into();
    Ok(())
}

/// Cuts the members that `$skip` and `$top` ask for out of a collection, at most a page; says where the rest is. If `total` is
/// given, that is done already.
fn page(query: &Query, body: &mut Value, total: Option<usize>) {
    let uri = body.get("@odata.id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(members) = body.get_mut("Members").and_then(Value::as_array_mut) else { return };
    let skip = query.skip.unwrap_or(0).min(total.unwrap_or(members.len()));
    let left = total.unwrap_or(members.len()) - skip;
    if total.is_none() {
        members.drain(..skip);
    }
    let wanted = query.top.unwrap_or(usize::MAX).min(left);
    members.truncate(wanted.min(PAGE));
    let next = (wanted > PAGE).then(|| query.next_page(&uri, skip + PAGE));
    if let (Some(next), Value::Object(map)) = (next, body) {
        map.insert("Members@odata.nextLink".to_owned(), Value::String(next));
    }
}

/// The only member of a collection, if it has just one.
async fn only_member<S: RedfishService>(service: &S, body: &Value) -> Result<Option<Value>, ServiceError> {
    let Some([only]) = body.get("Members").and_then(Value::as_array).map(Vec::as_slice) else {
        return Ok(None);
    };
    let Some(uri) = link_of(only) else { return Ok(None) };
    let Some(target) = find_target(uri, service.routes()) else { return Ok(None) };
    let mut member = service.read(&target).await?;
    stamp(&mut member);
    Ok(Some(member))
}

/// Replaces links by what they lead to, level by level.
async fn expand<S: RedfishService>(
    service: &S,
    body: &mut Value,
    scope: ExpandScope,
    levels: u32,
    left: &mut usize,
) -> Result<(), ServiceError> {
    let mut places = Vec::new();
    find_links(body, scope, false, &mut places);
    for place in places {
        let Some(uri) = link_of(place).map(str::to_owned) else { continue };
        let Some(target) = find_target(&uri, service.routes()) else { continue };
        // A link to another service, or to what has just gone, stays a link.
        let Ok(mut resource) = service.read(&target).await else { continue };
        *left = left.checked_sub(1).ok_or_else(|| {
            ServiceError::new(StatusCode::INSUFFICIENT_STORAGE, message::insufficient_storage())
        })?;
        stamp(&mut resource);
        if levels > 1 {
            Box::pin(expand(service, &mut resource, scope, levels - 1, left)).await?;
        }
        *place = resource;
    }
    Ok(())
}

/// Collects the links of a body that the scope asks for.
fn find_links<'a>(
    value: &'a mut Value,
    scope: ExpandScope,
    inside_links: bool,
    places: &mut Vec<&'a mut Value>,
) {
    if link_of(value).is_some() {
        if scope == ExpandScope::All || inside_links == (scope == ExpandScope::Links) {
            places.push(value);
        }
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                find_links(value, scope, inside_links || name == "Links", places);
            }
        }
        Value::Array(list) => {
            list.iter_mut().for_each(|value| find_links(value, scope, inside_links, places));
        }
        _ => {}
    }
}

/// The URI of a value that is nothing but a link.
fn link_of(value: &Value) -> Option<&str> {
    let map = value.as_object()?;
    if map.len() == 1 { map.get("@odata.id")?.as_str() } else { None }
}

/// Keeps the properties named, and what identifies the resource.
fn keep(body: &mut Value, select: &[String]) {
    let Value::Object(map) = body else { return };
    let mut kept = Map::new();
    for (name, value) in std::mem::take(map) {
        if name.starts_with("@odata.") || name.starts_with("Members@odata.") {
            kept.insert(name, value);
            continue;
        }
        let prefix = format!("{name}/");
        let inner: Vec<String> =
            select.iter().filter_map(|path| Some(path.strip_prefix(&prefix)?.to_owned())).collect();
        if select.contains(&name) {
            kept.insert(name, value);
        } else if !inner.is_empty() {
            let mut value = value;
            keep(&mut value, &inner);
            kept.insert(name, value);
        }
    }
    *map = kept;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_read_and_bad_ones_refused() {
        let query =
            Query::parse("$skip=1&%24top=2&$expand=.($levels=2)&$select=Name,Boot/Target&x=1").unwrap();
        assert_eq!((query.skip, query.top), (Some(1), Some(2)));
        assert_eq!(query.expand, Some((ExpandScope::Subordinate, 2)));
        assert_eq!(query.select, Some(vec!["Name".to_owned(), "Boot/Target".to_owned()]));
        let status = |text: &str| Query::parse(text).unwrap_err().status.as_u16();
        assert_eq!(status("$top=-1"), 400);
        assert_eq!(status("$expand=x"), 400);
        assert_eq!(status("$expand=.($levels=0)"), 400);
        assert_eq!(status("only&$top=1"), 400);
        assert_eq!(status("excerpt=x"), 400);
        assert!(Query::parse("excerpt&$top=1").unwrap().next_page("/x", 2).contains("excerpt"));
        assert_eq!(status("$filter=a is 1"), 400);
        assert_eq!(status("$orderby=a"), 501);
        assert_eq!(status("$select=,"), 400);
        assert_eq!(status(&format!("$select=a{}", ",a".repeat(SELECT_LIMIT))), 400);
    }

    #[test]
    fn selecting_keeps_the_identity_and_the_parts_named() {
        let mut body =
            json!({"@odata.id": "/x", "Id": "1", "Boot": {"Target": "Cd", "Mode": "UEFI"}, "Name": "n"});
        keep(&mut body, &["Name".to_owned(), "Boot/Target".to_owned()]);
        assert_eq!(body, json!({"@odata.id": "/x", "Boot": {"Target": "Cd"}, "Name": "n"}));
    }

    #[test]
    fn links_are_found_by_where_they_stand() {
        let mut body = json!({"@odata.id": "/x", "Ports": {"@odata.id": "/x/p"}, "Links": {"Chassis": [{"@odata.id": "/c"}]}});
        let mut count = |scope| {
            let mut places = Vec::new();
            find_links(&mut body, scope, false, &mut places);
            places.len()
        };
        assert_eq!(
            (count(ExpandScope::Subordinate), count(ExpandScope::Links), count(ExpandScope::All)),
            (1, 1, 2)
        );
    }
}
