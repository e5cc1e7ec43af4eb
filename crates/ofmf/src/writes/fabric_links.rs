//! Links that requests give: what they lead to, and how they are told if they lead nowhere.

use std::collections::BTreeMap;

use drystone_redfish::{message, server::Properties, tree::Tree};

use crate::render::fabric::fabric_uri;

/// Reads links to resources in a room of a fabric as the ids of these. Told are: what is not there, what is in another fabric,
/// and what is named twice.
pub(super) fn ids(
    properties: &mut Properties,
    name: &str,
    old: Option<&[String]>,
    tree: &Tree,
    fabric: &str,
    room: &str,
) -> Option<Vec<String>> {
    let uris = match old {
        Some(old) => properties.changed_links(name, old)?,
        None => properties.links(name)?,
    };
    let prefix = format!("{}/{room}/", fabric_uri(fabric));
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ids = Vec::with_capacity(uris.len());
    for (index, uri) in uris.iter().enumerate() {
        let path = properties.path_of(&format!("{name}/{index}"));
        if let Some(first) = seen.insert(uri, index) {
            let first = properties.path_of(&format!("{name}/{first}"));
            properties.reject(message::property_value_conflict(&path, &first));
            continue;
        }
        match uri.strip_prefix(&prefix).filter(|id| !id.contains('/')) {
            Some(id) if tree.contains(uri) => ids.push(unescaped(id)),
            None if tree.contains(uri) => {
                properties.reject(message::property_value_not_in_list(uri, &path));
            }
            _ => properties.reject(message::resource_missing_at_uri(uri).about(&path)),
        }
    }
    Some(ids)
}

/// The text that a part of a path stands for.
pub(super) fn unescaped(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::segment;

    #[test]
    fn escaping_can_be_undone() {
        for text in ["p1", "a b/ä%41", "%"] {
            assert_eq!(unescaped(&segment(text)), text);
        }
        assert_eq!(unescaped("%zz%4"), "%zz%4");
    }
}
