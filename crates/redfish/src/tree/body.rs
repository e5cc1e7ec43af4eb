//! Bodies as bytes: compact JSON whose first property is the entity tag.

use std::{fmt::Write as _, io::Write as _, sync::Arc};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Kind, writer::Mark};

/// What every body starts with; the digest follows.
const START: &str = r#"{"@odata.etag":"\""#;
/// Digits of the digest.
const DIGITS: usize = 24;

/// The bytes of a resource: its own entity tag, if it has one, gives way to one of these bytes.
pub(super) fn resource(mut value: Value) -> Vec<u8> {
    if let Value::Object(map) = &mut value {
        map.remove("@odata.etag");
    }
    let text = value.to_string();
    tagged(text.as_bytes(), text.as_bytes())
}

/// The entity tag of a body, quotes included.
pub(super) fn etag(body: &[u8]) -> Option<String> {
    let digest = body.strip_prefix(START.as_bytes())?.get(..DIGITS)?;
    Some(format!("\"{}\"", std::str::from_utf8(digest).ok()?))
}

/// What a collection is, whatever is shown of it.
pub(super) struct Whole<'a> {
    pub(super) uri: &'a str,
    pub(super) kind: &'a Kind,
    /// Properties beside the members, as JSON without braces.
    pub(super) more: Option<&'a str>,
    /// Number of members, and what stands for them.
    pub(super) total: usize,
    pub(super) mark: Mark,
}

/// A collection with some of its members, and a link to the page after `next` members if there is one. The entity tag is that of
/// the whole: it comes from the mark of all members.
pub(super) fn collection(whole: &Whole<'_>, shown: &[Arc<str>], next: Option<usize>) -> Vec<u8> {
    let Whole { uri, kind, more, total, mark } = whole;
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text = String::with_capacity(200 + shown.len() * 100);
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        r#"{{"@odata.id":{},"@odata.type":{},"Members":["#,
        quoted(uri),
        quoted(&kind.odata_type)
    );
    for (index, member) in shown.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, r#"{comma}{{"@odata.id":{}}}"#, quoted(member));
    }
    let _ = write!(text, r#"],"Members@odata.count":{total}"#);
    if let Some(next) = next {
        let _ = write!(text, r#","Members@odata.nextLink":{}"#, quoted(&format!("{uri}?$skip={next}")));
    }
    if let Some(more) = more {
        let _ = write!(text, ",{more}");
    }
    let name = format!("{} collection", kind.schema().trim_end_matches("Collection"));
    let _ = write!(text, r#","Name":{}}}"#, quoted(&name));
    let content = format!("{uri} {} {total} {mark:x} {}", kind.odata_type, more.unwrap_or_default());
    tagged(text.as_bytes(), content.as_bytes())
}

/// What stands for a member in the mark of a collection.
pub(super) fn mark_of(member: &str) -> Mark {
    let digest = Sha256::digest(member.as_bytes());
    digest.iter().take(size_of::<Mark>()).fold(0, |mark, byte| mark << 8 | Mark::from(*byte))
}

/// Puts the entity tag, a digest of `content`, in front of a compact JSON object.
fn tagged(body: &[u8], content: &[u8]) -> Vec<u8> {
    let inner = body.get(1..).unwrap_or_default();
    let mut tagged = Vec::with_capacity(START.len() + DIGITS + 4 + inner.len());
    tagged.extend_from_slice(START.as_bytes());
    for byte in &Sha256::digest(content)[..DIGITS / 2] {
        // Writing to a vector cannot fail.
        let _ = write!(tagged, "{byte:02x}");
    }
    tagged.extend_from_slice(if inner == b"}" { b"\\\"\"" } else { b"\\\"\"," });
    tagged.extend_from_slice(inner);
    tagged.shrink_to_fit();
    tagged
}

/// Adds a link to a body: to the list at `path`, or as the property itself.
pub(super) fn add_link(body: &mut Value, path: &str, to: &str, single: bool) {
    let link = serde_json::json!({"@odata.id": to});
    let mut place = body;
    for name in path.split('/') {
        let Value::Object(map) = place else { return };
        place = map.entry(name.to_owned()).or_insert(Value::Null);
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
    }
    if single {
        *place = link;
        return;
    }
    match place {
        Value::Array(list) if list.contains(&link) => {}
        Value::Array(list) => list.push(link),
        other => *other = Value::Array(vec![link]),
    }
}
