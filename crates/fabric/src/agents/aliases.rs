//! Names of an agent's resources in Drystone's tree. An agent's tree is shown under its own URIs; where something else has a
//! top-level URI already, the agent's gets another name, and every link is rewritten, both ways. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// URIs that are called otherwise in Drystone's tree than at the agent. Each stands for everything below it, too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aliases {
    outward: BTreeMap<String, String>,
    inward: BTreeMap<String, String>,
}

/// Collections of the service root whose members are told apart between agents.
const COLLECTIONS: [&str; 5] = ["Fabrics", "Chassis", "Systems", "Storage", "Managers"];

impl Aliases {
    /// The aliases that an agent needs: for every top-level member (`/redfish/v1/Chassis/1`) whose URI is `taken` by something
    /// else, `{agent}-{id}` instead of `{id}`.
    pub fn new<'a>(
        agent: &str,
        uris: impl IntoIterator<Item = &'a str>,
        taken: impl Fn(&str) -> bool,
    ) -> Self {
        let mut aliases = Self::default();
        for uri in uris {
            let Some((collection, id)) = top_level(uri) else { continue };
            if taken(uri) {
                aliases.add(uri, &format!("/redfish/v1/{collection}/{agent}-{id}"));
            }
        }
        aliases
    }

    /// Calls an agent's URI otherwise.
    pub fn add(&mut self, at_agent: &str, in_tree: &str) {
        self.outward.insert(at_agent.to_owned(), in_tree.to_owned());
        self.inward.insert(in_tree.to_owned(), at_agent.to_owned());
    }

    /// Whether nothing is called otherwise.
    pub fn is_empty(&self) -> bool {
        self.outward.is_empty()
    }

    /// Drystone's name of an agent's URI.
    pub fn to_tree(&self, uri: &str) -> String {
        renamed(&self.outward, uri).unwrap_or_else(|| uri.to_owned())
    }

    /// The agent's name of a URI of Drystone's tree.
    pub fn to_agent(&self, uri: &str) -> String {
        renamed(&self.inward, uri).unwrap_or_else(|| uri.to_owned())
    }

    /// Rewrites every URI in a body that comes from the agent.
    pub fn body_to_tree(&self, body: &mut Value) {
        rewrite(&self.outward, body);
    }

    /// Rewrites every URI in a body that goes to the agent.
    pub fn body_to_agent(&self, body: &mut Value) {
        rewrite(&self.inward, body);
    }
}

/// Collection and id of a URI of the form `/redfish/v1/Fabrics/X`.
pub(super) fn top_level(uri: &str) -> Option<(&str, &str)> {
    let (collection, id) = uri.strip_prefix("/redfish/v1/")?.split_once('/')?;
    (COLLECTIONS.contains(&collection) && !id.is_empty() && !id.contains('/')).then_some((collection, id))
}

/// The URI with its top-level part replaced, if that is called otherwise.
fn renamed(names: &BTreeMap<String, String>, uri: &str) -> Option<String> {
    // Only the first three parts of a path can be renamed.
    let end = uri.match_indices(['/', '#']).filter(|(at, _)| *at > 0).nth(3).map_or(uri.len(), |(at, _)| at);
    let (top, rest) = uri.split_at(end);
    names.get(top).map(|name| format!("{name}{rest}"))
}

fn rewrite(names: &BTreeMap<String, String>, body: &mut Value) {
    if names.is_empty() {
        return;
    }
    match body {
        Value::String(text) if text.starts_with("/redfish/v1/") => {
            if let Some(name) = renamed(names, text) {
                *text = name;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| rewrite(names, item)),
        Value::Object(map) => map.values_mut().for_each(|value| rewrite(names, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_taken_gets_another_name_with_everything_below() {
        let uris =
            ["/redfish/v1/Fabrics/CXL", "/redfish/v1/Chassis/1", "/redfish/v1/Chassis/1/MemoryDomains/1"];
        let aliases = Aliases::new("agent-a", uris, |uri| uri == "/redfish/v1/Chassis/1");
        assert_eq!(aliases.to_tree("/redfish/v1/Fabrics/CXL/Zones/1"), "/redfish/v1/Fabrics/CXL/Zones/1");
        assert_eq!(aliases.to_tree("/redfish/v1/Chassis/1"), "/redfish/v1/Chassis/agent-a-1");
        assert_eq!(
            aliases.to_tree("/redfish/v1/Chassis/1/MemoryDomains/1"),
            "/redfish/v1/Chassis/agent-a-1/MemoryDomains/1"
        );
        assert_eq!(aliases.to_tree("/redfish/v1/Chassis/10"), "/redfish/v1/Chassis/10");
        let mut body = json!({"@odata.id": "/redfish/v1/Chassis/1", "Links": {"x": [{"@odata.id": "/redfish/v1/Chassis/1#/Oem"}]}, "Id": "1"});
        let before = body.clone();
        aliases.body_to_tree(&mut body);
        assert_eq!(body["Links"]["x"][0]["@odata.id"], "/redfish/v1/Chassis/agent-a-1#/Oem");
        aliases.body_to_agent(&mut body);
        assert_eq!(body, before);
    }

    proptest! {
        /// A name goes out and comes back the same.
        #[test]
        fn names_come_back(uri in "(/redfish/v1)?(/[A-Za-z1]{1,4}){0,5}", taken in any::<bool>()) {
            let known = ["/redfish/v1/Fabrics/a", "/redfish/v1/Chassis/1"];
            let aliases = Aliases::new("g", known, |_| taken);
            prop_assert_eq!(aliases.to_agent(&aliases.to_tree(&uri)), uri);
        }
    }
}
