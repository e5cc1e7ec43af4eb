//! Entity tags (DSP0266, "ETags"): strong, and the same as long as the resource is the same.

use std::fmt::{self, Write as _};

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{error::ServiceError, message};

/// A strong entity tag, quotes included.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// The tag of a resource: a digest of its body without `@odata.etag`.
    pub fn of(body: &Value) -> Self {
        let mut hasher = Sha256::new();
        match body {
            // The order of properties is that of the map, which serde_json keeps sorted or as inserted: stable either way.
            Value::Object(map) => {
                for (name, value) in map.iter().filter(|(name, _)| *name != "@odata.etag") {
                    hasher.update(name.as_bytes());
                    hasher.update([0]);
                    hasher.update(value.to_string().as_bytes());
                    hasher.update([0]);
                }
            }
            other => hasher.update(other.to_string().as_bytes()),
        }
        let mut tag = String::with_capacity(34);
        tag.push('"');
        for byte in &hasher.finalize()[..16] {
            // Writing to a string cannot fail.
            let _ = write!(tag, "{byte:02x}");
        }
        tag.push('"');
        Self(tag)
    }

    /// A tag as a service sent it, quotes included; the weak sign is kept.
    pub fn from_header(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The tag as it stands in a header.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What `If-Match` or `If-None-Match` asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// The header is absent.
    #[default]
    None,
    /// `*`: any state of a resource that exists.
    Any,
    /// One of these tags.
    OneOf(Vec<String>),
}

impl Condition {
    /// Reads a header, of which there may be several.
    pub fn from_headers(headers: &HeaderMap, name: &header::HeaderName) -> Self {
        let mut tags = Vec::new();
        for value in headers.get_all(name) {
            let text = value.to_str().unwrap_or_default();
            if text.trim() == "*" {
                return Self::Any;
            }
            tags.extend(split_tags(text));
        }
        if headers.contains_key(name) { Self::OneOf(tags) } else { Self::None }
    }

    /// Whether the tag is one that the header names, compared strongly: a weak tag matches nothing.
    pub fn matches(&self, etag: &ETag) -> bool {
        match self {
            Self::None => false,
            Self::Any => true,
            Self::OneOf(tags) => {
                !etag.as_str().starts_with("W/") && tags.iter().any(|tag| tag == etag.as_str())
            }
        }
    }

    /// Checks `If-Match` before a write.
    ///
    /// # Errors
    /// 412 if the header names another state, 428 if it is absent although `required`.
    pub fn check(&self, current: &ETag, required: bool) -> Result<(), ServiceError> {
        match self {
            Self::None if required => {
                Err(ServiceError::new(StatusCode::PRECONDITION_REQUIRED, message::precondition_required()))
            }
            Self::None => Ok(()),
            _ if self.matches(current) => Ok(()),
            _ => Err(ServiceError::new(StatusCode::PRECONDITION_FAILED, message::precondition_failed())),
        }
    }
}

/// Splits a list of tags at the commas that stand outside of quotes.
fn split_tags(text: &str) -> Vec<String> {
    let (mut tags, mut current, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                tags.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    tags.push(current);
    tags.into_iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn condition(text: &'static str) -> Condition {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
        Condition::from_headers(&headers, &header::IF_MATCH)
    }

    #[test]
    fn a_tag_changes_with_the_body_but_not_with_itself() {
        let tag = ETag::of(&json!({"Id": "1", "Name": "a"}));
        assert_eq!(tag, ETag::of(&json!({"Id": "1", "Name": "a", "@odata.etag": "\"x\""})));
        assert_ne!(tag, ETag::of(&json!({"Id": "1", "Name": "b"})));
        assert_ne!(ETag::of(&json!({"ab": 1})), ETag::of(&json!({"a": 1, "b": 1})));
    }

    #[test]
    fn conditions_compare_strongly() {
        let tag = ETag::from_header("\"a,b\"");
        assert!(condition("\"x\", \"a,b\"").matches(&tag));
        assert!(condition("*").matches(&tag));
        assert!(!condition("W/\"a,b\"").matches(&tag));
        assert!(!condition("\"a\"").matches(&tag));
        assert!(!Condition::None.matches(&tag));
    }

    #[test]
    fn an_absent_condition_is_an_error_only_where_one_is_required() {
        let tag = ETag::from_header("\"a\"");
        assert!(Condition::None.check(&tag, false).is_ok());
        assert_eq!(Condition::None.check(&tag, true).unwrap_err().status, StatusCode::PRECONDITION_REQUIRED);
        assert_eq!(condition("\"b\"").check(&tag, true).unwrap_err().status, StatusCode::PRECONDITION_FAILED);
    }
}
