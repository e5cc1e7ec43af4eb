//! The protocol's routes, for the HTTPS port. Nothing is open: every request needs the token of a host that is expected.

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use drystone_agent::protocol::{BASE, Inventory, Progress, Report};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{AgentDesk, Refusal};

/// Largest body: an inventory of a machine with hundreds of disks.
const LARGEST: usize = 1 << 20;

impl AgentDesk {
    /// The routes.
    pub fn router(&self) -> Router {
        Router::new()
            .route(&format!("{BASE}/orders"), get(orders))
            .route(&format!("{BASE}/inventory"), put(inventory))
            .route(&format!("{BASE}/progress"), post(progress))
            .route(&format!("{BASE}/result"), post(result))
            .layer(DefaultBodyLimit::max(LARGEST))
            .with_state(self.clone())
    }

    fn caller(&self, headers: &HeaderMap) -> Result<String, Answer> {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|given| given.split_once(' '));
        let token =
            token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        Ok(self.authenticate(token)?)
    }
}

/// What is answered instead of the good.
struct Answer {
    status: StatusCode,
    error: String,
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Unauthorized => StatusCode::UNAUTHORIZED,
            Refusal::Superseded { .. } => StatusCode::CONFLICT,
            Refusal::Unkept(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self { status, error: refusal.to_string() }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(json!({"error": self.error}))).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Reads a body; says which field is wrong.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    let bad = |error: String| Answer { status: StatusCode::BAD_REQUEST, error };
    let mut json = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        bad(if path == "." { error.inner().to_string() } else { format!("{path}: {}", error.inner()) })
    })?;
    json.end().map_err(|error| bad(error.to_string()))?;
    Ok(read)
}

async fn orders(State(desk): State<AgentDesk>, headers: HeaderMap) -> Result<Response, Answer> {
    let uid = desk.caller(&headers)?;
    let orders = desk.hear(&uid, |seat| Ok(seat.orders()))?;
    let mut response = Json(orders).into_response();
    // User data are on their way.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn inventory(
    State(desk): State<AgentDesk>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Answer> {
    let uid = desk.caller(&headers)?;
    desk.hear_inventory(&uid, parse::<Inventory>(&body)?)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn progress(
    State(desk): State<AgentDesk>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Answer> {
    let uid = desk.caller(&headers)?;
    desk.hear_progress(&uid, parse::<Progress>(&body)?)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn result(
    State(desk): State<AgentDesk>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, Answer> {
    let uid = desk.caller(&headers)?;
    desk.hear_report(&uid, parse::<Report>(&body)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
