//! Paging of lists (ETSI GS NFV-SOL 013, 5.4): a list that is cut says with `Link` where it goes on.

use std::fmt::Write as _;

/// Query parameter with the place where a list goes on.
pub const MARKER: &str = "nextpage_opaque_marker";

/// The header `Link` of a list that goes on after `last`: the same query with another marker. One link only: clients read no more.
pub fn link_to_next<'a>(
    url: &str,
    query: impl IntoIterator<Item = (&'a str, &'a str)>,
    last: &str,
) -> String {
    let mut link = format!("<{url}?");
    for (name, value) in query.into_iter().filter(|(name, _)| *name != MARKER) {
        encode(&mut link, name);
        if !value.is_empty() {
            link.push('=');
            encode(&mut link, value);
        }
        link.push('&');
    }
    link.push_str(MARKER);
    link.push('=');
    encode(&mut link, last);
    link.push_str(">;rel=\"next\"");
    link
}

/// Percent-encodes what is not unreserved (RFC 3986, 2.3).
fn encode(into: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_repeats_the_query_with_another_marker() {
        let query = [("filter", "(eq,a,b c)"), ("nextpage_opaque_marker", "old"), ("all_fields", "")];
        assert_eq!(
            link_to_next("http://h/x", query, "5"),
            "<http://h/x?filter=%28eq%2Ca%2Cb%20c%29&all_fields&nextpage_opaque_marker=5>;rel=\"next\""
        );
        assert_eq!(link_to_next("http://h/x", [], "5"), "<http://h/x?nextpage_opaque_marker=5>;rel=\"next\"");
    }
}
