//! Looks through bodies for links without building values.

use std::fmt;

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// A URI without fragment, doubled slashes and a slash at the end: some services write `//redfish/v1/…/`.
pub(in crate::client) fn tidy(uri: &str) -> String {
    let uri = uri.split('#').next().unwrap_or_default();
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let path = if path.contains("://") {
        // Another service's; whoever asks for it is told.
        path.to_owned()
    } else {
        let mut tidy = String::with_capacity(path.len());
        for c in path.chars() {
            if c != '/' || !tidy.ends_with('/') {
                tidy.push(c);
            }
        }
        tidy.truncate(tidy.trim_end_matches('/').len().max(usize::from(tidy.starts_with('/'))));
        tidy
    };
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

/// What a body says about itself and others.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Its own URI.
    pub(super) id: Option<String>,
    /// Its entity tag.
    pub(super) etag: Option<String>,
    /// Members, if it is a collection.
    pub(super) members: Option<Vec<String>>,
    /// The next page of it.
    pub(super) next: Option<String>,
    /// All other links, tidy.
    pub(super) links: Vec<String>,
    /// How many properties it has.
    pub(super) properties: usize,
    /// What the service root says about `$expand` and `$top`/`$skip`.
    pub(super) features: Features,
}

/// `ProtocolFeaturesSupported` as far as a crawl uses it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// `$expand=.` works.
    pub(super) expand: bool,
    /// `$top` and `$skip` work.
    pub(super) paging: bool,
}

/// Looks through a body, which must be a JSON object.
pub(super) fn scan(body: &[u8]) -> Result<Scan, serde_json::Error> {
    let mut scan = Scan::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    deserializer.deserialize_map(Top(&mut scan))?;
    deserializer.end()?;
    Ok(scan)
}

/// A page of expanded members, each as it stands in the page.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(rename = "Members", borrow)]
    pub(super) members: Vec<&'a RawValue>,
    #[serde(rename = "Members@odata.nextLink")]
    pub(super) next: Option<String>,
}

/// Keys that mean something here.
enum Key {
    Id,
    ETag,
    Next,
    Members,
    Features,
    Other,
}

struct ReadKey;

impl<'de> DeserializeSeed<'de> for ReadKey {
    type Value = Key;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for ReadKey {
    type Value = Key;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a property")
    }

    fn visit_str<E>(self, name: &str) -> Result<Key, E> {
        Ok(match name {
            "@odata.id" => Key::Id,
            "@odata.etag" => Key::ETag,
            "Members@odata.nextLink" => Key::Next,
            "Members" => Key::Members,
            "ProtocolFeaturesSupported" => Key::Features,
            _ => Key::Other,
        })
    }
}

/// The object itself.
struct Top<'s>(&'s mut Scan);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(ReadKey)? {
            self.0.properties += 1;
            match key {
                Key::Id => self.0.id = map.next_value_seed(Text)?.map(|uri| tidy(&uri)),
                Key::ETag => self.0.etag = map.next_value_seed(Text)?,
                Key::Next => self.0.next = map.next_value_seed(Text)?.map(|uri| tidy(&uri)),
                Key::Members => {
                    let mut members = Members::default();
                    map.next_value_seed(Inside {
                        links: &mut members.links,
                        list: Some(&mut members.is_list),
                    })?;
                    if members.is_list {
                        self.0.members = Some(members.links);
                    } else {
                        self.0.links.append(&mut members.links);
                    }
                }
                Key::Features => self.0.features = map.next_value::<RootFeatures>()?.features(),
                Key::Other => map.next_value_seed(Inside { links: &mut self.0.links, list: None })?,
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct Members {
    links: Vec<String>,
    is_list: bool,
}

/// A text, or nothing if it is something else.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Text {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<String>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Anything inside; its links are collected.
struct Inside<'s> {
    links: &'s mut Vec<String>,
    /// Set if the value is a list.
    list: Option<&'s mut bool>,
}

impl<'de> DeserializeSeed<'de> for Inside<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Inside<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some(is_list) = self.list {
            *is_list = true;
        }
        while list.next_element_seed(Inside { links: &mut *self.links, list: None })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(ReadKey)? {
            match key {
                Key::Id | Key::Next => {
                    self.links.extend(map.next_value_seed(Text)?.map(|uri| tidy(&uri)));
                }
                _ => map.next_value_seed(Inside { links: &mut *self.links, list: None })?,
            }
        }
        Ok(())
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RootFeatures {
    #[serde(rename = "ExpandQuery")]
    expand: ExpandFeatures,
    #[serde(rename = "TopSkipQuery")]
    paging: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ExpandFeatures {
    #[serde(rename = "NoLinks")]
    no_links: bool,
}

impl RootFeatures {
    const fn features(&self) -> Features {
        Features { expand: self.expand.no_links, paging: self.paging }
    }
}

#[cfg(test)]
mod tests {
    use drystone_hostile::{damaged, json};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn links_are_tidy() {
        for (given, tidied) in [
            ("//redfish/v1//Fabrics/", "/redfish/v1/Fabrics"),
            ("/redfish/v1/Fabrics/F#/Zones", "/redfish/v1/Fabrics/F"),
            ("/redfish/v1/Fabrics/?$skip=2", "/redfish/v1/Fabrics?$skip=2"),
            ("/", "/"),
            ("", ""),
            ("http://a//b", "http://a//b"),
        ] {
            assert_eq!(tidy(given), tidied, "{given}");
        }
    }

    #[test]
    fn a_body_says_what_it_is_and_where_it_leads() {
        let body = json!({"@odata.id": "/redfish/v1/Fabrics/", "@odata.etag": "\"1\"", "Members@odata.count": 2,
            "Members": [{"@odata.id": "/redfish/v1/Fabrics/A"}, {"@odata.id": "/redfish/v1/Fabrics/B"}],
            "Members@odata.nextLink": "/redfish/v1/Fabrics?$skip=2", "Oem": {"X": [{"Y": {"@odata.id": "//x"}}]}});
        let scan = scan(body.to_string().as_bytes()).unwrap();
        assert_eq!(scan.id.as_deref(), Some("/redfish/v1/Fabrics"));
        assert_eq!(scan.etag.as_deref(), Some("\"1\""));
        assert_eq!(scan.members.unwrap(), ["/redfish/v1/Fabrics/A", "/redfish/v1/Fabrics/B"]);
        assert_eq!(scan.next.as_deref(), Some("/redfish/v1/Fabrics?$skip=2"));
        assert_eq!((scan.links, scan.properties), (vec!["/x".to_owned()], 6));
    }

    fn all_links(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| match value {
                // Inside of what should have been a link there is none.
                _ if name == "@odata.id" || name == "Members@odata.nextLink" => {
                    found.extend(value.as_str().map(tidy));
                }
                _ => all_links(value, found),
            }),
            Value::Array(list) => list.iter().for_each(|value| all_links(value, found)),
            _ => {}
        }
    }

    proptest! {
        /// The scan finds just the links that a walk over the value finds.
        #[test]
        fn every_link_is_found(body in json(&["@odata.id", "Members", "Members@odata.nextLink", "Links"])) {
            let Ok(scan) = scan(body.to_string().as_bytes()) else { return Ok(()) };
            let mut expected = Vec::new();
            all_links(&body, &mut expected);
            let mut found: Vec<String> = scan.links;
            found.extend(scan.id.into_iter().chain(scan.next).chain(scan.members.into_iter().flatten()));
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn any_bytes_are_scanned_or_refused(body in damaged(["{\"@odata.id\": \"/a\", \"Members\": [{\"@odata.id\": \"/b\"}, 1, null], \"ProtocolFeaturesSupported\": {\"ExpandQuery\": {\"NoLinks\": true}}}"])) {
            let refused = serde_json::from_slice::<Value>(&body).is_err();
            prop_assert!(scan(&body).is_err() || !refused);
            let _ = serde_json::from_slice::<Page<'_>>(&body);
        }
    }
}
