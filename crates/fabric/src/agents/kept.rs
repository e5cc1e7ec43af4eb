//! What was made at agents through Drystone, kept as AgentResources, and made again when an agent has lost it.

use std::collections::{BTreeMap, BTreeSet};

use drystone_api::{AgentResource, AgentResourceSpec, AgentResourceStatus, FabricAgent, is_true};
use drystone_engine::{
    harness::{StatusError, update_status},
    reference::{ObjectKey, is_conflict, is_not_found},
};
use drystone_redfish::client::{Client, RawResource, RedfishError};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{announcement::collapse_slashes, trees::AgentTrees};

/// How often a change is tried on top of somebody else's.
const ATTEMPTS: usize = 8;

/// Properties that say what a resource is called, and that an agent makes itself.
const IDENTITY: [&str; 2] = ["@odata.id", "@odata.etag"];

/// Why what an agent has lost could not be looked after.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeptError {
    #[error("{doing} an AgentResource: {source}")]
    Api { doing: &'static str, source: kube::Error },
    #[error(transparent)]
    Status(#[from] StatusError),
}

fn failed(doing: &'static str) -> impl FnOnce(kube::Error) -> KeptError {
    move |source| KeptError::Api { doing, source }
}

/// What came of making lost resources again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct BroughtBack {
    /// URIs of those that are there again.
    pub(crate) made: Vec<String>,
    /// URIs of those that are not, and why.
    pub(crate) lost: Vec<(String, String)>,
}

/// The AgentResources of a namespace, and the agents there.
#[derive(Clone)]
pub(super) struct Kept(Api<AgentResource>, Api<FabricAgent>);

impl Kept {
    pub(super) fn new(client: &kube::Client, namespace: &str) -> Self {
        Self(Api::namespaced(client.clone(), namespace), Api::namespaced(client.clone(), namespace))
    }

    /// Keeps what was made at an agent. `body` is what was sent.
    pub(super) async fn made(&self, agent: &FabricAgent, uri: &str, body: &Value) -> Result<(), KeptError> {
        let mut body = body.as_object().cloned().unwrap_or_default();
        IDENTITY.iter().for_each(|name| drop(body.remove(*name)));
        let made = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or_default();
        let spec = AgentResourceSpec {
            agent: agent.name_any(),
            fabric_uuid: uuid_of(agent, uri),
            uri: uri.to_owned(),
            body,
            made,
        };
        let name = name_of(&spec.agent, uri);
        let metadata = ObjectMeta {
            name: Some(name.clone()),
            namespace: agent.namespace(),
            // What was made at an agent is forgotten with it.
            owner_references: agent.owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        };
        let mut object = AgentResource::new(&name, spec);
        object.metadata = metadata;
        for _ in 0..ATTEMPTS {
            match self.0.create(&PostParams::default(), &object).await {
                Err(error) if is_conflict(&error) => {}
                result => return result.map(drop).map_err(failed("making")),
            }
            // One of the same URI: it was gone at the agent, or this could not have been made.
            self.delete(&name).await?;
        }
        Ok(())
    }

    /// Keeps what a resource is now, if it was made through Drystone. `sent` is what was changed.
    pub(super) async fn changed(
        &self,
        agent: &ObjectKey,
        uri: &str,
        sent: &Value,
        now: &Value,
    ) -> Result<(), KeptError> {
        for _ in 0..ATTEMPTS {
            let is_it = |object: &AgentResource| object.spec.agent == agent.name && object.spec.uri == uri;
            let Some(mut object) = self.all().await?.into_iter().find(is_it) else { return Ok(()) };
            let name = object.name_any();
            let mut body = Value::Object(std::mem::take(&mut object.spec.body));
            follow(&mut body, sent, now);
            object.spec.body = body.as_object().cloned().unwrap_or_default();
            match self.0.replace(&name, &PostParams::default(), &object).await {
                Err(error) if is_conflict(&error) => {}
                result => return result.map(drop).map_err(failed("changing")),
            }
        }
        Ok(())
    }

    /// Forgets a resource, and what was below it.
    pub(super) async fn removed(&self, agent: &ObjectKey, uri: &str) -> Result<(), KeptError> {
        for object in self.all().await? {
            let below = object.spec.uri.strip_prefix(uri).is_some_and(|rest| rest.starts_with('/'));
            if object.spec.agent == agent.name && (object.spec.uri == uri || below) {
                self.delete(&object.name_any()).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, name: &str) -> Result<(), KeptError> {
        match self.0.delete(name, &DeleteParams::default()).await {
            Err(error) if !is_not_found(&error) => Err(failed("deleting")(error)),
            _ => Ok(()),
        }
    }

    /// It as it is now, if it still is.
    async fn still_kept(&self, object: &AgentResource) -> Result<Option<AgentResource>, KeptError> {
        let now = self.0.get_opt(&object.name_any()).await.map_err(failed("reading"))?;
        Ok(now.filter(|now| now.metadata.uid == object.metadata.uid && now.spec.uri == object.spec.uri))
    }

    async fn all(&self) -> Result<Vec<AgentResource>, KeptError> {
        let mut all = self.0.list(&ListParams::default()).await.map_err(failed("listing"))?.items;
        all.sort_by(|a, b| (a.spec.made, &a.spec.uri).cmp(&(b.spec.made, &b.spec.uri)));
        Ok(all)
    }

    /// Makes again what an agent does not have any more. `seen` are the URIs that a complete crawl found.
    async fn bring_back(
        &self,
        agent: &FabricAgent,
        client: &Client,
        seen: &BTreeSet<&str>,
        trees: &AgentTrees,
    ) -> Result<BroughtBack, KeptError> {
        let key = ObjectKey::of(agent);
        let mut done = BroughtBack::default();
        let mut renamed: BTreeMap<String, String> = BTreeMap::new();
        for object in self.of(agent).await? {
            let uri = object.spec.uri.clone();
            if seen.contains(uri.as_str()) {
                continue;
            }
            let turns = trees.turns(&key);
            // Writers do not wait for this, nor this for a writer that hangs: the next crawl looks again.
            let Ok(_turn) = turns.try_write() else { continue };
            // It may have been made after the crawl passed by; and what cannot be asked for now is not gone.
            let is_gone = client.get(&uri).await.err().and_then(|error| error.status()) == Some(404);
            if !is_gone {
                continue;
            }
            // It may have been deleted or changed since it was listed.
            let Some(object) = self.still_kept(&object).await? else { continue };
            let mut body = Value::Object(object.spec.body.clone());
            rename(&renamed, &mut body);
            match make(client, &uri, body).await {
                Ok(raw) => {
                    if raw.uri != uri {
                        renamed.insert(uri.clone(), raw.uri.clone());
                    }
                    trees.put(&key, &raw);
                    self.note_made(object, &raw.uri).await?;
                    done.made.push(raw.uri);
                }
                Err(error) => {
                    let reason = error.to_string();
                    update_status(&self.0, &object, |status: &mut AgentResourceStatus| {
                        status.message.clone_from(&reason);
                    })
                    .await?;
                    done.lost.push((uri, reason));
                }
            }
        }
        Ok(done)
    }

    /// What was made at an agent, or at one that had its fabric before, in the order in which it was made.
    async fn of(&self, agent: &FabricAgent) -> Result<Vec<AgentResource>, KeptError> {
        let name = agent.name_any();
        let uuids: BTreeSet<&str> = agent
            .status
            .iter()
            .flat_map(|status| &status.fabrics)
            .map(|fabric| fabric.uuid.as_str())
            .filter(|uuid| !uuid.is_empty())
            .collect();
        let mut own = Vec::new();
        for object in self.all().await? {
            if object.spec.agent == name {
                own.push(object);
            } else if uuids.contains(object.spec.fabric_uuid.as_str())
                && !self.works(&object.spec.agent).await?
            {
                own.push(self.adopt(object, agent).await?);
            }
        }
        Ok(own)
    }

    /// Whether there is an agent that answers: then what was made there is its own, whoever else has a part of the fabric.
    async fn works(&self, agent: &str) -> Result<bool, KeptError> {
        let found = self.1.get_opt(agent).await.map_err(failed("reading the agent of"))?;
        let status = found.and_then(|agent| agent.status);
        Ok(status.is_some_and(|status| is_true(&status.conditions, "Ready")))
    }

    /// The agent has come under another address: what was made at it is kept for that one.
    async fn adopt(
        &self,
        mut object: AgentResource,
        agent: &FabricAgent,
    ) -> Result<AgentResource, KeptError> {
        object.spec.agent = agent.name_any();
        object.metadata.owner_references = agent.owner_ref(&()).map(|owner| vec![owner]);
        let name = object.name_any();
        self.0.replace(&name, &PostParams::default(), &object).await.map_err(failed("adopting"))
    }

    async fn note_made(&self, mut object: AgentResource, uri: &str) -> Result<(), KeptError> {
        if object.spec.uri != uri {
            uri.clone_into(&mut object.spec.uri);
            let name = object.name_any();
            object =
                self.0.replace(&name, &PostParams::default(), &object).await.map_err(failed("renaming"))?;
        }
        update_status(&self.0, &object, |status: &mut AgentResourceStatus| {
            status.made_again += 1;
            status.last_made = Some(Time(Timestamp::now()));
            status.message.clear();
        })
        .await?;
        Ok(())
    }
}

/// Makes again what an agent has lost since it was made through Drystone. `crawled` is everything that the agent has.
pub(crate) async fn bring_back(
    client: &kube::Client,
    agent: &FabricAgent,
    service: &Client,
    crawled: &[RawResource],
    trees: &AgentTrees,
) -> Result<BroughtBack, KeptError> {
    let seen: BTreeSet<&str> = crawled.iter().map(|resource| resource.uri.as_str()).collect();
    let kept = Kept::new(client, &agent.namespace().unwrap_or_default());
    kept.bring_back(agent, service, &seen, trees).await
}

/// Makes a resource under the URI that it had, if the agent takes that.
async fn make(client: &Client, uri: &str, mut body: Value) -> Result<RawResource, RedfishError> {
    let (collection, id) = uri.rsplit_once('/').unwrap_or((uri, ""));
    let own = body.get("Id").is_some();
    if !own {
        body["Id"] = id.into();
    }
    let outcome = match client.create(collection, &body).await {
        Err(error) if !own && error.status() == Some(400) => {
            // Some agents name what they make themselves.
            if let Some(body) = body.as_object_mut() {
                body.remove("Id");
            }
            client.create(collection, &body).await?
        }
        result => result?,
    };
    let told = outcome.body().and_then(|body| body.get("@odata.id")).and_then(Value::as_str);
    let place = outcome.location().or(told).map_or_else(|| uri.to_owned(), collapse_slashes);
    let resource = client.get(&place).await?;
    Ok(RawResource { uri: place, etag: resource.etag, body: resource.body.to_string().into() })
}

fn name_of(agent: &str, uri: &str) -> String {
    let mark = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{agent}\n{uri}").as_bytes()).simple().to_string();
    format!("made-{}", &mark[..16])
}

/// UUID of the fabric that a URI is in, or of the agent's only fabric.
fn uuid_of(agent: &FabricAgent, uri: &str) -> String {
    let fabrics = agent.status.as_ref().map(|status| status.fabrics.as_slice()).unwrap_or_default();
    let inside = fabrics.iter().find(|fabric| {
        uri.strip_prefix("/redfish/v1/Fabrics/")
            .and_then(|rest| rest.strip_prefix(fabric.id.as_str()))
            .is_some_and(|rest| rest.starts_with('/'))
    });
    let only = if let [only] = fabrics { Some(only) } else { None };
    inside.or(only).map(|fabric| fabric.uuid.clone()).unwrap_or_default()
}

/// Brings what a resource was made with to what it is now, as far as it was made with it or is changed.
fn follow(body: &mut Value, sent: &Value, now: &Value) {
    let (Value::Object(body), Value::Object(sent), Value::Object(now)) = (body, sent, now) else { return };
    for (name, value) in sent.iter().filter(|(name, _)| !name.contains('@')) {
        match (now.get(name), value) {
            (None | Some(Value::Null), _) => drop(body.remove(name)),
            (Some(is @ Value::Object(_)), Value::Object(_)) => {
                let inner = body.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
                follow(inner, value, is);
            }
            (Some(is), _) => drop(body.insert(name.clone(), is.clone())),
        }
    }
}

/// Rewrites URIs that are others now, and what is below them.
fn rename(renamed: &BTreeMap<String, String>, body: &mut Value) {
    match body {
        Value::String(text) => {
            let of = |(old, new): (&String, &String)| {
                let rest = text.strip_prefix(old.as_str())?;
                (rest.is_empty() || rest.starts_with('/')).then(|| format!("{new}{rest}"))
            };
            if let Some(new) = renamed.iter().find_map(of) {
                *text = new;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|item| rename(renamed, item)),
        Value::Object(map) => map.values_mut().for_each(|value| rename(renamed, value)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_changed_is_made_again_as_it_was_last() {
        let mut body = json!({"Name": "a", "Size": 1, "Links": {"Endpoints": [1], "Pools": [7]}});
        let sent =
            json!({"Size": 2, "Colour": null, "Links": {"Endpoints": [{}, 2]}, "x@y": 1, "Name": null});
        let now = json!({"Name": null, "Size": 2, "State": "On", "Links": {"Endpoints": [1, 2], "Zones": [3], "Pools": [7]}});
        follow(&mut body, &sent, &now);
        assert_eq!(body, json!({"Size": 2, "Links": {"Endpoints": [1, 2], "Pools": [7]}}));
    }

    #[test]
    fn links_follow_what_is_called_otherwise_now() {
        let renamed = BTreeMap::from([("/c/1".to_owned(), "/c/9".to_owned())]);
        let mut body = json!({"a": "/c/1", "b": ["/c/1/x", "/c/10"], "c": {"d": "text /c/1"}});
        rename(&renamed, &mut body);
        assert_eq!(body, json!({"a": "/c/9", "b": ["/c/9/x", "/c/10"], "c": {"d": "text /c/1"}}));
    }
}
