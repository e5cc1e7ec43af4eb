//! What is asked of a cluster as one identity: limits, deadlines, and whom the answers concern.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use drystone_appcontext::ClusterName;
use http::Method;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use super::request::{Answer, chain};
use super::{
    access::{AccessError, Clusters, Identity},
    gate::Gate,
    kinds::{Kind, Kinds, Served},
    request::{Ask, JSON, METADATA_ONLY, Sent, send},
    transport,
    turns::Turns,
};
use crate::{manifest::Prepared, readiness, settings::Settings};

/// Who writes objects.
pub(crate) const MANAGER: &str = "drystone-emco";

/// Why there is no answer, and will be none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoWay(pub(crate) String);

/// Whether a cluster answers, and why not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answers {
    /// It was not asked yet.
    Unknown,
    /// It does.
    Yes,
    /// It does not.
    No(String),
}

/// A way to a cluster as one identity.
pub(crate) struct Channel {
    cluster: ClusterName,
    identity: Identity,
    clusters: Arc<dyn Clusters>,
    settings: Settings,
    pub(crate) gate: Gate,
    /// The client, with a number that is another one each time.
    client: Mutex<Option<(u64, Client)>>,
    /// Requests to this cluster.
    permits: Arc<Semaphore>,
    /// Requests to all clusters.
    all: Arc<Semaphore>,
    answers: watch::Sender<Answers>,
    kinds: Arc<Kinds>,
    /// Objects that are being written, by any identity.
    turns: Arc<Turns>,
    /// Ends all work.
    end: CancellationToken,
}

/// What all ways to a cluster share.
#[derive(Clone)]
pub(crate) struct Common {
    /// Requests to this cluster.
    pub(crate) permits: Arc<Semaphore>,
    /// Requests to all clusters.
    pub(crate) all: Arc<Semaphore>,
    pub(crate) kinds: Arc<Kinds>,
    pub(crate) turns: Arc<Turns>,
    /// Ends all work, also what nobody waits for any more.
    pub(crate) end: CancellationToken,
}

impl Channel {
    /// A way that is not used yet.
    pub(crate) fn new(
        (cluster, identity): (ClusterName, Identity),
        clusters: Arc<dyn Clusters>,
        settings: Settings,
        common: Common,
    ) -> Self {
        let gate = Gate::new(settings.away);
        let answers = watch::Sender::new(Answers::Unknown);
        let Common { permits, all, kinds, turns, end } = common;
        Self {
            cluster,
            identity,
            clusters,
            settings,
            gate,
            client: Mutex::default(),
            permits,
            all,
            answers,
            kinds,
            turns,
            end,
        }
    }

    /// Whether the cluster answers, and changes of that.
    pub(crate) fn answers(&self) -> watch::Receiver<Answers> {
        self.answers.subscribe()
    }

    fn tell(&self, answers: Answers) {
        self.answers.send_if_modified(|known| {
            let changed = *known != answers;
            *known = answers;
            changed
        });
    }

    /// How long it is waited after so many failures.
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        self.settings.away.random_delay(failures)
    }

    /// What a watch has heard.
    pub(crate) fn heard(&self) {
        self.gate.open();
        self.tell(Answers::Yes);
    }

    /// The present client, with its number.
    pub(crate) async fn client(&self) -> Result<(u64, Client), AccessError> {
        let mut kept = self.client.lock().await;
        if let Some((number, client)) = &*kept {
            return Ok((*number, client.clone()));
        }
        // Others wait for the lock meanwhile.
        let limit = self.settings.request_limit;
        let connect = self.clusters.connect(&self.cluster, &self.identity);
        let access = tokio::time::timeout(limit, connect).await.unwrap_or_else(|_| {
            let seconds = limit.as_secs();
            Err(AccessError::NotNow(format!("the way to the cluster was not found within {seconds} s")))
        })?;
        let client = transport::client(access)?;
        let number = rand::random();
        *kept = Some((number, client.clone()));
        Ok((number, client))
    }

    /// Gives a client up; the next one is made from what is known of the cluster then.
    pub(crate) async fn forget(&self, number: u64) {
        let mut kept = self.client.lock().await;
        if kept.as_ref().is_some_and(|(known, _)| *known == number) {
            *kept = None;
        }
    }

    /// Gives up whatever client there is.
    pub(crate) async fn forget_any(&self) {
        *self.client.lock().await = None;
    }

    /// Asks until the cluster answers; whoever cannot wait drops the future: it is not asked again, but what was sent is heard out.
    ///
    /// That it does not answer is told when the gate is closed: whoever hears of it and knows better opens it again.
    async fn ask(&self, ask: Ask) -> Result<Answer, NoWay> {
        loop {
            let pass = self.gate.pass().await;
            let (number, client) = match self.client().await {
                Ok(client) => client,
                Err(AccessError::None(why)) => {
                    pass.answered();
                    return Err(NoWay(why));
                }
                Err(AccessError::NotNow(why)) => {
                    pass.failed(Duration::ZERO);
                    self.tell(Answers::No(why));
                    continue;
                }
            };
            match self.transmit(client, &ask).await {
                Sent::Answer(answer) => {
                    pass.answered();
                    self.tell(Answers::Yes);
                    return Ok(answer);
                }
                Sent::Away { why, at_least } => {
                    tracing::debug!(cluster = %self.cluster, why, "the cluster does not answer");
                    pass.failed(at_least);
                    self.tell(Answers::No(why));
                }
                Sent::Stranger(why) => {
                    self.forget(number).await;
                    pass.failed(Duration::ZERO);
                    self.tell(Answers::No(why));
                }
            }
        }
    }

    /// Sends a request once. One that writes an object goes on though whoever wanted it has gone: dropped, it could still arrive, after what is
    /// to come after it. Meanwhile nobody else writes that object. When all work ends it ends: whoever goes on elsewhere does not hear of it.
    async fn transmit(&self, client: Client, ask: &Ask) -> Sent {
        let turn = match &ask.writes {
            Some(object) => Some(self.turns.turn(object).await),
            None => None,
        };
        // Closed they never are; if they were, there would be no limit, which is no harm.
        let here = self.permits.clone().acquire_owned().await;
        let all = self.all.clone().acquire_owned().await;
        let limit = self.settings.request_limit;
        if turn.is_none() {
            return send(&client, ask, limit).await;
        }
        let (ask, end) = (ask.clone(), self.end.clone());
        let sending = tokio::spawn(async move {
            let _held = (turn, here, all);
            end.run_until_cancelled(send(&client, &ask, limit)).await
        });
        let broken = |why: String| Sent::Answer(Answer::Later(why));
        match sending.await {
            Ok(Some(sent)) => sent,
            Ok(None) => broken("all work was ended".to_owned()),
            Err(error) => broken(format!("the request broke: {error}")),
        }
    }

    /// How a kind is served; `None` if the cluster says that it does not know it (yet), its answer if it says neither.
    pub(crate) async fn served(&self, kind: &Kind) -> Result<Result<Option<Served>, Answer>, NoWay> {
        if let Some(served) = self.kinds.served(kind) {
            return Ok(Ok(Some(served)));
        }
        let root = if kind.api_version.contains('/') { "/apis" } else { "/api" };
        let path = format!("{root}/{}", kind.api_version);
        let body = match self.ask(Ask::read(path, JSON)).await? {
            Answer::Done(body) => body,
            Answer::NotFound(_) => return Ok(Ok(None)),
            other => return Ok(Err(other)),
        };
        let list = serde_json::from_slice::<Value>(&body).ok().filter(|list| list["resources"].is_array());
        let Some(list) = list else {
            let why = format!("what the cluster says of the kinds of {} is not readable", kind.api_version);
            return Ok(Err(Answer::Later(why)));
        };
        self.kinds.learn_list(&kind.api_version, &list);
        Ok(Ok(self.kinds.served(kind)))
    }

    /// Where an object is; else why that is not known: [`Answer::NotFound`] if the cluster says that it does not know its kind.
    async fn place(&self, object: &Prepared) -> Result<Result<String, Answer>, NoWay> {
        Ok(match self.served(&object.kind).await? {
            Ok(Some(served)) => Ok(object.kind.path(&served, &object.namespace)),
            Ok(None) => {
                let Kind { api_version, kind } = &object.kind;
                Err(Answer::NotFound(format!("the cluster does not know the kind {kind} of {api_version}")))
            }
            Err(answer) => Err(answer),
        })
    }

    /// Makes an object be as it is declared (server-side apply).
    pub(crate) async fn apply(&self, object: &Prepared) -> Result<Answer, NoWay> {
        let place = match self.place(object).await? {
            Ok(place) => place,
            Err(answer) => return Ok(answer.or_later()),
        };
        let whole = format!("{place}/{}", object.name);
        let path = format!("{whole}?fieldManager={MANAGER}&force=true");
        let content = "application/apply-patch+yaml";
        let ask = Ask::write(Method::PATCH, path, content, object.body.clone(), whole);
        Ok(self.ask(ask).await?.or_later())
    }

    /// Makes an object if there is none.
    pub(crate) async fn provide(&self, object: &Prepared) -> Result<Answer, NoWay> {
        let place = match self.place(object).await? {
            Ok(place) => place,
            Err(answer) => return Ok(answer.or_later()),
        };
        let path = format!("{place}?fieldManager={MANAGER}");
        let whole = format!("{place}/{}", object.name);
        let ask = Ask::write(Method::POST, path, JSON, object.body.clone(), whole);
        Ok(match self.ask(ask).await? {
            Answer::Conflict(_) => Answer::Done(Bytes::new()),
            other => other.or_later(),
        })
    }

    /// Deletes an object if it is that one still; where others depend on it, it goes after them.
    pub(crate) async fn delete(&self, object: &Prepared, uid: &str) -> Result<Answer, NoWay> {
        let place = match self.place(object).await? {
            Ok(place) => place,
            // A kind that is not there any more has no objects; what could not be found out is told.
            Err(answer) => return Ok(answer),
        };
        let path = format!("{place}/{}", object.name);
        let depended = readiness::tells(&object.kind.api_version, &object.kind.kind);
        let policy = if depended { "Foreground" } else { "Background" };
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
            "preconditions": {"uid": uid}});
        let body = Bytes::from(options.to_string());
        self.ask(Ask::write(Method::DELETE, path.clone(), JSON, body, path)).await
    }

    /// Reads who an object is: its metadata.
    pub(crate) async fn identify(&self, object: &Prepared) -> Result<Answer, NoWay> {
        self.read(object, METADATA_ONLY).await
    }

    /// Reads an object.
    pub(crate) async fn get(&self, object: &Prepared) -> Result<Answer, NoWay> {
        self.read(object, JSON).await
    }

    /// As it is when what was sent before has been answered: an object that is being made is not absent.
    async fn read(&self, object: &Prepared, accept: &'static str) -> Result<Answer, NoWay> {
        let place = match self.place(object).await? {
            Ok(place) => place,
            Err(answer) => return Ok(answer),
        };
        let path = format!("{place}/{}", object.name);
        self.turns.settled(&path).await;
        self.ask(Ask::read(path, accept)).await
    }

    /// Approves a certificate signing request, as `condition` (JSON) says.
    pub(crate) async fn approve(&self, object: &Prepared, condition: &str) -> Result<Answer, NoWay> {
        // Approved is only what is known to be meant so.
        let Ok(Value::Object(mut condition)) = serde_json::from_str(condition) else {
            return Ok(Answer::Refused("the approval in the context is no JSON object".to_owned()));
        };
        let found = match self.get(object).await? {
            Answer::Done(found) => found,
            Answer::NotFound(why) => return Ok(Answer::Later(why)),
            other => return Ok(other),
        };
        let Ok(mut request) = serde_json::from_slice::<Value>(&found) else {
            return Ok(Answer::Later("the request is not readable".to_owned()));
        };
        for (field, usual) in [("type", "Approved"), ("status", "True"), ("reason", "LogicalCloud")] {
            if condition.get(field).and_then(Value::as_str).unwrap_or_default().is_empty() {
                condition.insert(field.to_owned(), usual.into());
            }
        }
        // As others write them they may be empty, or of another clock.
        condition.retain(|field, _| !matches!(field.as_str(), "lastUpdateTime" | "lastTransitionTime"));
        let conditions = &mut request["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        let Some(conditions) = conditions.as_array_mut() else { return Ok(Answer::Done(found)) };
        if conditions.iter().any(|known| Some(&known["type"]) == condition.get("type")) {
            return Ok(Answer::Done(found));
        }
        conditions.push(condition.into());
        let place = match self.place(object).await? {
            Ok(place) => place,
            Err(answer) => return Ok(answer.or_later()),
        };
        let whole = format!("{place}/{}", object.name);
        let path = format!("{whole}/approval?fieldManager={MANAGER}");
        let ask = Ask::write(Method::PUT, path, JSON, Bytes::from(request.to_string()), whole);
        Ok(self.ask(ask).await?.or_later())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Never;

    #[async_trait::async_trait]
    impl Clusters for Never {
        async fn connect(
            &self,
            _: &ClusterName,
            _: &Identity,
        ) -> Result<crate::cluster::Access, AccessError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_is_not_looked_for_for_ever() {
        let settings = Settings::default();
        let one = || Arc::new(Semaphore::new(1));
        let (kinds, turns) = (Arc::default(), Arc::default());
        let common = Common { permits: one(), all: one(), kinds, turns, end: CancellationToken::new() };
        let whom = (ClusterName::new("p", "c"), Identity::administrator());
        let channel = Channel::new(whom, Arc::new(Never), settings.clone(), common);
        let found = tokio::time::timeout(settings.request_limit * 2, channel.client()).await;
        assert!(matches!(found, Ok(Err(AccessError::NotNow(_)))));
    }
}
