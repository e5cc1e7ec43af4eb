//! Subscribers are told what changes, over restarts too.

use std::sync::{Arc, Mutex};

use axum::{Json, Router, routing::post};
use serde_json::{Value, json};

use crate::world::World;

const SUBSCRIPTIONS: &str = "/redfish/v1/EventService/Subscriptions";

/// A listener, and what it was told.
async fn listener() -> (String, Arc<Mutex<Vec<Value>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = told.clone();
    let router = Router::new()
        .route("/", post(move |Json(event): Json<Value>| async move { heard.lock().unwrap().push(event) }));
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(socket, router).await });
    (url, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_survives_a_restart() {
    let mut world = World::start().await;
    let (url, told) = listener().await;
    let body = json!({"Destination": url, "Protocol": "Redfish", "Context": "mine", "RegistryPrefixes": ["Fabric"],
        "OriginResources": [{"@odata.id": "/redfish/v1/Fabrics/F/Zones"}], "SubordinateResources": true});
    let created = world.send("POST", SUBSCRIPTIONS, &body).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    let zones = "/redfish/v1/Fabrics/F/Zones";
    assert_eq!(world.send("POST", zones, &json!({"Id": "one"})).await.status, 201);
    let heard = |zone: &'static str| {
        let told = told.clone();
        async move || {
            let told = told.lock().unwrap();
            let about = format!("{zones}/{zone}");
            told.iter()
                .find(|event| event["Events"][0]["OriginOfCondition"]["@odata.id"] == about.as_str())
                .cloned()
        }
    };
    let event = world.eventually("the zone is told of", heard("one")).await;
    assert_eq!(event["Context"], "mine");
    assert_eq!(event["Events"][0]["MessageId"], "Fabric.1.0.ZoneCreated");
    assert_eq!(event["Events"][0]["MessageArgs"], json!(["one", "F"]));
    world.restart();
    world
        .eventually("the subscription is there again", async || {
            (world.get(created.body["@odata.id"].as_str().unwrap()).await.status == 200).then_some(())
        })
        .await;
    world
        .eventually("the fabric is shown again", async || {
            (world.get(zones).await.status == 200).then_some(())
        })
        .await;
    assert_eq!(world.send("POST", zones, &json!({"Id": "two"})).await.status, 201);
    world.eventually("the second zone is told of", heard("two")).await;
    assert_eq!(
        world.send("DELETE", created.body["@odata.id"].as_str().unwrap(), &Value::Null).await.status,
        204
    );
    assert_eq!(world.get(SUBSCRIPTIONS).await.body["Members@odata.count"], 0);
}
