//! What is asked of a cluster as one identity: limits, deadlines, and what the answers mean.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use drystone_appcontext::ClusterName;
use http::{Method, Request, StatusCode};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{Mutex, Semaphore, watch};

use super::{
    access::{AccessError, Clusters, Identity},
    gate::Gate,
    kinds::{Kind, Kinds, Served},
    transport,
    turns::Turns,
};
use crate::{manifest::Prepared, readiness, settings::Settings};

/// Who writes objects.
pub(crate) const MANAGER: &str = "drystone-emco";

const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const JSON: &str = "application/json";

/// What a cluster has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done; what it sent.
    Done(Bytes),
    /// There is no such thing.
    NotFound(String),
    /// There is one already, or another one than was meant.
    Conflict(String),
    /// It was refused, and would be again.
    Refused(String),
    /// It could not be done, and may be later.
    Later(String),
}

impl Answer {
    /// What may pass when others have done their part: a namespace, a kind, or another one's change.
    fn or_later(self) -> Self {
        match self {
            Self::NotFound(why) | Self::Conflict(why) => Self::Later(why),
            other => other,
        }
    }
}

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
}

/// A request, to be made as often as it takes.
#[derive(Clone)]
struct Ask {
    method: Method,
    path: String,
    accept: &'static str,
    content: &'static str,
    body: Bytes,
    /// The path of the object that it writes, if it writes one.
    writes: Option<String>,
}

impl Ask {
    fn read(path: String, accept: &'static str) -> Self {
        let method = Method::GET;
        Self { method, path, accept, content: JSON, body: Bytes::new(), writes: None }
    }

    fn write(method: Method, path: String, content: &'static str, body: Bytes, object: String) -> Self {
        Self { method, path, accept: METADATA_ONLY, content, body, writes: Some(object) }
    }
}

/// What came of sending a request.
enum Sent {
    Answer(Answer),
    /// The cluster cannot answer now.
    Away {
        why: String,
        at_least: Duration,
    },
    /// It does not know us.
    Stranger(String),
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
        let Common { permits, all, kinds, turns } = common;
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
    /// to come after it. Meanwhile nobody else writes that object.
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
        let ask = ask.clone();
        let sending = tokio::spawn(async move {
            let _held = (turn, here, all);
            send(&client, &ask, limit).await
        });
        sending
            .await
            .unwrap_or_else(|error| Sent::Answer(Answer::Later(format!("the request broke: {error}"))))
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

async fn send(client: &Client, ask: &Ask, limit: Duration) -> Sent {
    let request = Request::builder()
        .method(ask.method.clone())
        .uri(&ask.path)
        .header(http::header::ACCEPT, ask.accept)
        .header(http::header::CONTENT_TYPE, ask.content)
        .body(Body::from(ask.body.clone()));
    let request = match request {
        Ok(request) => request,
        Err(error) => return Sent::Answer(Answer::Refused(format!("{} is no request: {error}", ask.path))),
    };
    let answered = async {
        let response = client.send(request).await?;
        let (parts, body) = response.into_parts();
        Ok::<_, kube::Error>((parts, body.collect_bytes().await?))
    };
    match tokio::time::timeout(limit, answered).await {
        Err(_) => {
            Sent::Away { why: format!("no answer within {} s", limit.as_secs()), at_least: Duration::ZERO }
        }
        Ok(Err(error)) => Sent::Away { why: chain(&error), at_least: Duration::ZERO },
        Ok(Ok((parts, body))) => understand(parts.status, &parts.headers, body),
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut next) = (error.to_string(), error.source());
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What an answer means.
fn understand(status: StatusCode, headers: &http::HeaderMap, body: Bytes) -> Sent {
    if status.is_success() {
        return Sent::Answer(Answer::Done(body));
    }
    let told: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let why = match told["message"].as_str() {
        Some(message) if !message.is_empty() => message.chars().take(2000).collect(),
        _ => format!("the cluster answered {status}"),
    };
    let causes = told.pointer("/details/causes").and_then(Value::as_array);
    let ends = causes.into_iter().flatten().any(|cause| cause["reason"] == "NamespaceTerminating");
    let after = headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let at_least = Duration::from_secs(after.unwrap_or(0)).min(Duration::from_secs(60));
    match status.as_u16() {
        401 => Sent::Stranger(format!("the cluster does not accept the credentials: {why}")),
        429 | 502..=504 => Sent::Away { why, at_least },
        404 => Sent::Answer(Answer::NotFound(why)),
        409 => Sent::Answer(Answer::Conflict(why)),
        403 if ends => Sent::Answer(Answer::Later(why)),
        500..=599 | 408 => Sent::Answer(Answer::Later(why)),
        _ => Sent::Answer(Answer::Refused(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(code: u16, body: &Value) -> Sent {
        let body = Bytes::from(body.to_string());
        understand(StatusCode::from_u16(code).unwrap(), &http::HeaderMap::new(), body)
    }

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
        let common = Common { permits: one(), all: one(), kinds, turns };
        let whom = (ClusterName::new("p", "c"), Identity::administrator());
        let channel = Channel::new(whom, Arc::new(Never), settings.clone(), common);
        let found = tokio::time::timeout(settings.request_limit * 2, channel.client()).await;
        assert!(matches!(found, Ok(Err(AccessError::NotNow(_)))));
    }

    #[test]
    fn answers_have_meanings() {
        let told = json!({"message": "exceeded quota: q"});
        assert!(matches!(meaning(201, &told), Sent::Answer(Answer::Done(_))));
        assert!(matches!(meaning(403, &told), Sent::Answer(Answer::Refused(why)) if why.contains("quota")));
        assert!(matches!(meaning(422, &told), Sent::Answer(Answer::Refused(_))));
        assert!(matches!(meaning(401, &told), Sent::Stranger(_)));
        assert!(matches!(meaning(503, &told), Sent::Away { .. }));
        assert!(matches!(meaning(500, &told), Sent::Answer(Answer::Later(_))));
        let ending = json!({"message": "m", "details": {"causes": [{"reason": "NamespaceTerminating"}]}});
        assert!(matches!(meaning(403, &ending), Sent::Answer(Answer::Later(_))));
        assert!(
            matches!(meaning(404, &Value::Null), Sent::Answer(Answer::NotFound(why)) if why.contains("404"))
        );
    }
}
