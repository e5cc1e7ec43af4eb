//! `/control-plane/members`: the members of etcd, for who manages the cluster. Each change is safe to ask for twice.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post, put},
};
use drystone_apiserver::ApiServer;
use drystone_cluster::{bootstrap::EtcdConfig, steps::members::MEMBERS_PATH};
use drystone_store::etcd::{EtcdStore, Member, MembershipError};
use serde_json::{Value, json};

use crate::admission::{admit, status};

/// The front door.
#[derive(Clone)]
struct Front {
    api: ApiServer,
    store: Arc<EtcdStore>,
}

/// The routes.
pub(super) fn router(api: ApiServer, store: Arc<EtcdStore>) -> Router {
    Router::new()
        .route(MEMBERS_PATH, get(list))
        .route(&format!("{MEMBERS_PATH}/{{address}}"), put(add).delete(remove))
        .route(&format!("{MEMBERS_PATH}/{{address}}/promote"), post(promote))
        .with_state(Front { api, store })
}

fn failure(error: &MembershipError) -> Response {
    status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &error.to_string())
}

fn done() -> Response {
    Json(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})).into_response()
}

impl Front {
    /// The member at an address.
    async fn find(&self, address: IpAddr) -> Result<Option<Member>, Response> {
        let url = EtcdConfig::peer_url(address);
        let members = self.store.members().await.map_err(|error| failure(&error.into()))?;
        Ok(members.into_iter().find(|member| member.peer_urls.contains(&url)))
    }
}

fn shown(member: &Member) -> Value {
    json!({
        "id": format!("{:x}", member.id), "name": member.name, "peerURLs": member.peer_urls,
        "clientURLs": member.client_urls, "learner": member.learner,
    })
}

async fn list(State(front): State<Front>, parts: Parts) -> Response {
    if let Err(refusal) = admit(&front.api, &parts, "get", MEMBERS_PATH).await {
        return refusal;
    }
    match front.store.members().await {
        Ok(members) => {
            let items: Vec<Value> = members.iter().map(shown).collect();
            Json(json!({"items": items})).into_response()
        }
        Err(error) => failure(&error.into()),
    }
}

async fn add(State(front): State<Front>, Path(address): Path<IpAddr>, parts: Parts) -> Response {
    if let Err(refusal) = admit(&front.api, &parts, "put", MEMBERS_PATH).await {
        return refusal;
    }
    match front.store.add_learner(&EtcdConfig::peer_url(address)).await {
        Ok(_) => done(),
        Err(error) => failure(&error),
    }
}

async fn promote(State(front): State<Front>, Path(address): Path<IpAddr>, parts: Parts) -> Response {
    if let Err(refusal) = admit(&front.api, &parts, "post", MEMBERS_PATH).await {
        return refusal;
    }
    let member = match front.find(address).await {
        Ok(Some(member)) => member,
        Ok(None) => {
            let message = format!("{address} is no member of etcd; PUT {MEMBERS_PATH}/{address} adds it");
            return status(StatusCode::NOT_FOUND, "NotFound", &message);
        }
        Err(refusal) => return refusal,
    };
    match front.store.promote(member.id).await {
        Ok(()) => done(),
        Err(error) => failure(&error),
    }
}

async fn remove(State(front): State<Front>, Path(address): Path<IpAddr>, parts: Parts) -> Response {
    if let Err(refusal) = admit(&front.api, &parts, "delete", MEMBERS_PATH).await {
        return refusal;
    }
    let member = match front.find(address).await {
        Ok(Some(member)) => member,
        Ok(None) => return done(),
        Err(refusal) => return refusal,
    };
    match front.store.remove_member(member.id).await {
        Ok(()) => done(),
        Err(error) => failure(&error),
    }
}
