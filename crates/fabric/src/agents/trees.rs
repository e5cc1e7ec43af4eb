//! What agents serve, in Drystone's Redfish tree: as it is, under the agent's own URIs as far as nobody else has them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use drystone_engine::reference::ObjectKey;
use drystone_redfish::{
    client::RawResource,
    tree::{Item, Tree},
};
use serde_json::Value;

use super::{Aliases, aliases::top_level};

/// Rooms of a Redfish service that are the service's own business.
const OWN_ROOMS: [&str; 10] = [
    "AccountService",
    "AggregationService",
    "CertificateService",
    "EventService",
    "JsonSchemas",
    "Registries",
    "SessionService",
    "TaskService",
    "TelemetryService",
    "UpdateService",
];

/// Resources of agents in a tree. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct AgentTrees {
    tree: Option<Arc<Tree>>,
    agents: Arc<RwLock<BTreeMap<ObjectKey, Shown>>>,
    turns: Arc<Mutex<BTreeMap<ObjectKey, Arc<Turns>>>>,
}

/// Who may write to an agent: those who hand writes on share their turn, who makes again what was lost has one for himself. Otherwise what is
/// just being deleted, and is still on record, might be taken for lost.
pub(super) type Turns = tokio::sync::RwLock<()>;

/// What is shown of an agent.
#[derive(Debug, Default)]
struct Shown {
    aliases: Aliases,
    /// Top-level URIs that are its own, as the tree calls them.
    top_level: Vec<String>,
    /// What was written since a crawl began that has not been shown, by the agent's URI: number of the write, and what is there
    /// since, `None` if nothing.
    written: BTreeMap<String, (u64, Option<RawResource>)>,
    /// Number of the last write.
    last_write: u64,
}

impl Shown {
    /// Notes what a URI of the agent is since a moment ago.
    fn note(&mut self, uri: &str, now: Option<RawResource>) {
        self.last_write += 1;
        self.written.insert(uri.to_owned(), (self.last_write, now));
    }
}

/// A moment before a crawl: what is written after it is newer than what the crawl may have read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moment(u64);

/// A URI of the tree that belongs to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Belongs {
    /// The agent.
    pub agent: ObjectKey,
    /// What the agent calls it.
    pub uri: String,
}

impl AgentTrees {
    /// Shows agents in a tree.
    pub fn new(tree: Arc<Tree>) -> Self {
        Self { tree: Some(tree), ..Self::default() }
    }

    /// The turns of an agent.
    pub(super) fn turns(&self, agent: &ObjectKey) -> Arc<Turns> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.entry(agent.clone()).or_default().clone()
    }

    /// The moment at which a crawl of an agent begins.
    pub fn moment(&self, agent: &ObjectKey) -> Moment {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        Moment(agents.get(agent).map_or(0, |shown| shown.last_write))
    }

    /// Shows what a crawl that began at `since` found an agent to serve, in the place of what it served before. What was written
    /// through [`put`](Self::put) and [`remove`](Self::remove) after that moment stays as it was written: the crawl may have passed by
    /// before. The crawls of an agent come one after the other.
    pub fn show(&self, agent: &ObjectKey, since: Moment, resources: &[RawResource]) {
        let Some(tree) = &self.tree else { return };
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = agents.remove(agent).unwrap_or_default();
        before.written.retain(|_, (number, _)| *number > since.0);
        let newer = before.written.values().filter_map(|(_, now)| now.as_ref());
        let found = resources.iter().filter(|resource| !is_written(&before.written, &resource.uri));
        let shown = found.chain(newer).filter(|resource| is_shown(&resource.uri));
        let uris: Vec<&str> = shown.clone().map(|resource| resource.uri.as_str()).collect();
        let others: Vec<&String> = agents.values().flat_map(|shown| &shown.top_level).collect();
        let taken = |uri: &str| {
            let own_before = before.top_level.iter().any(|own| own == uri);
            // What had another name keeps it: names are links in somebody's notes.
            before.aliases.to_tree(uri) != uri
                || others.iter().any(|other| *other == uri)
                || (tree.contains(uri) && !own_before)
        };
        let aliases = Aliases::new(&agent.name, uris.iter().copied(), taken);
        let top_level = uris.iter().filter(|uri| top_level(uri).is_some()).map(|uri| aliases.to_tree(uri));
        let (top_level, last_write) = (top_level.collect(), before.last_write);
        let items = shown.filter_map(|resource| {
            let mut body: Value = serde_json::from_slice(&resource.body).ok()?;
            aliases.body_to_tree(&mut body);
            let whole = body.get("@odata.id").is_some() && body.get("@odata.type").is_some();
            whole.then_some(Item::Resource(body))
        });
        tree.replace(&owner(agent), items.collect::<Vec<_>>());
        agents.insert(agent.clone(), Shown { aliases, top_level, last_write, written: before.written });
    }

    /// Shows one resource of an agent that is shown, new or changed.
    pub fn put(&self, agent: &ObjectKey, resource: &RawResource) {
        let Some(tree) = &self.tree else { return };
        if let Ok(mut body) = serde_json::from_slice::<Value>(&resource.body) {
            let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
            let Some(shown) = agents.get_mut(agent) else { return };
            shown.note(&resource.uri, Some(resource.clone()));
            shown.aliases.body_to_tree(&mut body);
            tree.put(&owner(agent), [Item::Resource(body)]);
        }
    }

    /// Shows a resource of an agent no longer, by the agent's own URI.
    pub fn remove(&self, agent: &ObjectKey, uri: &str) {
        let Some(tree) = &self.tree else { return };
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        let Some(shown) = agents.get_mut(agent) else { return };
        let below = format!("{uri}/");
        shown.written.retain(|written, _| !written.starts_with(&below));
        shown.note(uri, None);
        tree.remove(&owner(agent), &[shown.aliases.to_tree(uri)]);
    }

    /// What the tree calls an agent's URI.
    pub fn uri_in_tree(&self, agent: &ObjectKey, uri: &str) -> String {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        agents.get(agent).map_or_else(|| uri.to_owned(), |shown| shown.aliases.to_tree(uri))
    }

    /// Shows nothing any more of the agents that are not wanted.
    pub fn retain(&self, wanted: impl Fn(&ObjectKey) -> bool) {
        let mut agents = self.agents.write().unwrap_or_else(PoisonError::into_inner);
        agents.retain(|agent, _| {
            let stays = wanted(agent);
            if let Some(tree) = self.tree.as_ref().filter(|_| !stays) {
                tree.replace(&owner(agent), Vec::new());
            }
            stays
        });
        self.turns.lock().unwrap_or_else(PoisonError::into_inner).retain(|agent, _| wanted(agent));
    }

    /// Whose a URI of the tree is, if an agent's.
    pub fn find(&self, uri: &str) -> Option<Belongs> {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        let has = |own: &String| {
            uri.strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let (agent, shown) = agents.iter().find(|(_, shown)| shown.top_level.iter().any(has))?;
        Some(Belongs { agent: agent.clone(), uri: shown.aliases.to_agent(uri) })
    }

    /// Rewrites the URIs of a body that goes to an agent.
    pub fn body_to_agent(&self, agent: &ObjectKey, body: &mut Value) {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = agents.get(agent) {
            shown.aliases.body_to_agent(body);
        }
    }

    /// Rewrites the URIs of a body that comes from an agent.
    pub fn body_to_tree(&self, agent: &ObjectKey, body: &mut Value) {
        let agents = self.agents.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = agents.get(agent) {
            shown.aliases.body_to_tree(body);
        }
    }
}

/// What an agent serves has another owner in the tree than what is said of the agent itself.
fn owner(agent: &ObjectKey) -> String {
    format!("served by {agent}")
}

/// Whether something is known of a URI that is newer than a crawl: it was written, or what it is below is gone.
fn is_written(written: &BTreeMap<String, (u64, Option<RawResource>)>, uri: &str) -> bool {
    let gone = |parent: &str| matches!(written.get(parent), Some((_, None)));
    written.contains_key(uri) || uri.match_indices('/').any(|(end, _)| gone(&uri[..end]))
}

/// Whether a resource is part of the common tree: below the root, and not in a room that every service has for itself.
fn is_shown(uri: &str) -> bool {
    let Some(rest) = uri.strip_prefix("/redfish/v1/") else { return false };
    let (room, inside) = rest.split_once('/').unwrap_or((rest, ""));
    // Collections are made of their members.
    !inside.is_empty() && !OWN_ROOMS.contains(&room)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resource(uri: &str, body: &Value) -> RawResource {
        let mut body = body.clone();
        body["@odata.id"] = json!(uri);
        RawResource { uri: uri.to_owned(), etag: None, body: body.to_string().into() }
    }

    fn served() -> Vec<RawResource> {
        vec![
            resource("/redfish/v1", &json!({"@odata.type": "#ServiceRoot.v1_0_0.ServiceRoot"})),
            resource(
                "/redfish/v1/EventService",
                &json!({"@odata.type": "#EventService.v1_0_0.EventService"}),
            ),
            resource(
                "/redfish/v1/Fabrics",
                &json!({"@odata.type": "#FabricCollection.FabricCollection", "Members": []}),
            ),
            resource(
                "/redfish/v1/Fabrics/CXL",
                &json!({"@odata.type": "#Fabric.v1_4_0.Fabric", "Id": "CXL", "Name": "CXL",
                "Zones": {"@odata.id": "/redfish/v1/Fabrics/CXL/Zones"}}),
            ),
            resource(
                "/redfish/v1/Chassis/1",
                &json!({"@odata.type": "#Chassis.v1_20_0.Chassis", "Id": "1", "Name": "1"}),
            ),
            resource(
                "/redfish/v1/Chassis/1/MemoryDomains/1",
                &json!({"@odata.type": "#MemoryDomain.v1_5_1.MemoryDomain",
                "Id": "1", "Name": "1", "Links": {"x": {"@odata.id": "/redfish/v1/Chassis/1"}}}),
            ),
        ]
    }

    #[test]
    fn two_agents_with_the_same_uris_are_both_shown() {
        let tree = Arc::new(Tree::default());
        let trees = AgentTrees::new(tree.clone());
        let (first, second) = (ObjectKey::new("ns", "first"), ObjectKey::new("ns", "second"));
        for agent in [&first, &second, &first, &second] {
            trees.show(agent, trees.moment(agent), &served());
        }
        assert!(tree.contains("/redfish/v1/Fabrics/CXL") && tree.contains("/redfish/v1/Fabrics/second-CXL"));
        assert!(!tree.contains("/redfish/v1/EventService"));
        let domain = tree.value("/redfish/v1/Chassis/second-1/MemoryDomains/1").expect("shown");
        assert_eq!(domain["Links"]["x"]["@odata.id"], "/redfish/v1/Chassis/second-1");
        let found = trees.find("/redfish/v1/Chassis/second-1/MemoryDomains/1").expect("an agent's");
        assert_eq!(
            (found.agent, found.uri.as_str()),
            (second.clone(), "/redfish/v1/Chassis/1/MemoryDomains/1")
        );
        assert_eq!(trees.find("/redfish/v1/Chassis/10"), None);
        trees.retain(|agent| *agent != second);
        assert!(!tree.contains("/redfish/v1/Fabrics/second-CXL") && tree.contains("/redfish/v1/Fabrics/CXL"));
    }

    /// A crawl that passed by before something was written knows it as it was.
    #[test]
    fn what_is_written_during_a_crawl_is_newer_than_the_crawl() {
        let tree = Arc::new(Tree::default());
        let trees = AgentTrees::new(tree.clone());
        let agent = ObjectKey::new("ns", "agent");
        let domain = "/redfish/v1/Chassis/1/MemoryDomains/1";
        let kind = "#MemoryChunks.v1_6_2.MemoryChunks";
        let chunk = |id: &str, size: u64| {
            let body = json!({"@odata.type": kind, "Id": id, "Name": id, "MemoryChunkSizeMiB": size});
            resource(&format!("{domain}/MemoryChunks/{id}"), &body)
        };
        let with = |chunks: &[RawResource]| [served(), chunks.to_vec()].concat();
        let shown = |id: &str| {
            let body = tree.value(&format!("{domain}/MemoryChunks/{id}"));
            body.map(|body| body["MemoryChunkSizeMiB"].as_u64().unwrap_or_default())
        };
        trees.show(&agent, trees.moment(&agent), &with(&[chunk("old", 1), chunk("kept", 1)]));

        let since = trees.moment(&agent);
        let crawled = with(&[chunk("old", 1), chunk("kept", 1)]);
        trees.put(&agent, &chunk("new", 2));
        trees.put(&agent, &chunk("kept", 3));
        trees.remove(&agent, &format!("{domain}/MemoryChunks/old"));
        trees.show(&agent, since, &crawled);
        assert_eq!((shown("old"), shown("kept"), shown("new")), (None, Some(3), Some(2)));

        // The next crawl begins after the writes, and what it finds counts.
        trees.show(&agent, trees.moment(&agent), &with(&[chunk("old", 4)]));
        assert_eq!((shown("old"), shown("kept"), shown("new")), (Some(4), None, None));

        // With what is gone, everything below is gone.
        let since = trees.moment(&agent);
        trees.put(&agent, &chunk("last", 5));
        trees.remove(&agent, domain);
        trees.show(&agent, since, &with(&[chunk("old", 4)]));
        assert_eq!((tree.contains(domain), shown("old"), shown("last")), (false, None, None));
    }
}
