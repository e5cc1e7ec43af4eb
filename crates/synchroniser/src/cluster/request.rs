//! One request to a cluster, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use kube::{Client, client::Body};
use serde_json::Value;

/// How objects are asked for of which only the metadata matter.
pub(super) const METADATA_ONLY: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
pub(super) const JSON: &str = "application/json";

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
    pub(super) fn or_later(self) -> Self {
        match self {
            Self::NotFound(why) | Self::Conflict(why) => Self::Later(why),
            other => other,
        }
    }
}

/// A request, to be made as often as it takes.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) accept: &'static str,
    pub(super) content: &'static str,
    pub(super) body: Bytes,
    /// The path of the object that it writes, if it writes one.
    pub(super) writes: Option<String>,
}

impl Ask {
    pub(super) fn read(path: String, accept: &'static str) -> Self {
        let method = Method::GET;
        Self { method, path, accept, content: JSON, body: Bytes::new(), writes: None }
    }

    pub(super) fn write(
        method: Method,
        path: String,
        content: &'static str,
        body: Bytes,
        object: String,
    ) -> Self {
        Self { method, path, accept: METADATA_ONLY, content, body, writes: Some(object) }
    }
}

/// What came of sending a request.
pub(super) enum Sent {
    Answer(Answer),
    /// The cluster cannot answer now.
    Away {
        why: String,
        at_least: Duration,
    },
    /// It does not know us.
    Stranger(String),
}

/// Sends a request once, and waits for its answer no longer than that.
pub(super) async fn send(client: &Client, ask: &Ask, limit: Duration) -> Sent {
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
    use serde_json::json;

    use super::*;

    fn meaning(code: u16, body: &Value) -> Sent {
        let body = Bytes::from(body.to_string());
        understand(StatusCode::from_u16(code).unwrap(), &http::HeaderMap::new(), body)
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
