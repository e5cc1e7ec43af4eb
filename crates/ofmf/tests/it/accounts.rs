//! Accounts, roles, sessions.

use drystone_api::SYSTEM_NAMESPACE;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};

use crate::world::{World, basic};

const ACCOUNTS: &str = "/redfish/v1/AccountService/Accounts";
const SESSIONS: &str = "/redfish/v1/SessionService/Sessions";

async fn as_user(world: &World, user: &str, method: &str, path: &str, body: &Value) -> (u16, Vec<String>) {
    let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = world.ask(method, path, &[&basic(user, "long enough 1")], &bytes).await;
    (answer.status.as_u16(), answer.told())
}

fn account(user: &str, role: &str) -> Value {
    json!({"UserName": user, "Password": "long enough 1", "RoleId": role})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_works_until_it_is_removed_and_survives_restarts() {
    let mut world = World::start().await;
    let created = world.send("POST", ACCOUNTS, &account("operator", "Operator")).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    assert_eq!(created.body["Password"], Value::Null);
    assert!(!created.body.to_string().contains("long enough"));
    assert_eq!(
        world.send("POST", ACCOUNTS, &account("operator", "Operator")).await.told(),
        ["ResourceAlreadyExists #/UserName"]
    );
    world.restart();
    world
        .eventually("the account is known again", async || {
            (as_user(&world, "operator", "GET", "/redfish/v1/Systems", &Value::Null).await.0 == 200)
                .then_some(())
        })
        .await;
    // An operator may change components, but not users or other accounts.
    let zone = json!({"Id": "z"});
    let zones = "/redfish/v1/Fabrics/F/Zones";
    world
        .eventually("the fabric is shown again", async || {
            (world.get(zones).await.status == 200).then_some(())
        })
        .await;
    assert_eq!(as_user(&world, "operator", "POST", zones, &zone).await.0, 201);
    assert_eq!(as_user(&world, "operator", "POST", ACCOUNTS, &account("x", "ReadOnly")).await.0, 403);
    assert_eq!(as_user(&world, "operator", "GET", &format!("{ACCOUNTS}/admin"), &Value::Null).await.0, 403);
    assert_eq!(
        as_user(
            &world,
            "operator",
            "PATCH",
            &format!("{ACCOUNTS}/operator"),
            &json!({"RoleId": "Administrator"})
        )
        .await
        .0,
        403
    );

    let login = json!({"UserName": "operator", "Password": "long enough 1"});
    let session = world.ask("POST", SESSIONS, &[], login.to_string().as_bytes()).await;
    assert_eq!(session.status, 201);
    let token = format!("X-Auth-Token: {}", session.headers["x-auth-token"].to_str().unwrap());
    assert_eq!(world.ask("GET", "/redfish/v1/Systems", &[&token], b"").await.status, 200);
    assert_eq!(world.send("DELETE", &format!("{ACCOUNTS}/operator"), &Value::Null).await.status, 204);
    assert_eq!(world.ask("GET", "/redfish/v1/Systems", &[&token], b"").await.status, 401, "its sessions end");
    assert_eq!(as_user(&world, "operator", "GET", "/redfish/v1/Systems", &Value::Null).await.0, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_worth_nothing_without_its_account_however_that_went() {
    let world = World::start().await;
    assert_eq!(world.send("POST", ACCOUNTS, &account("guest", "ReadOnly")).await.status, 201);
    let login = json!({"UserName": "guest", "Password": "long enough 1"});
    let session = world.ask("POST", SESSIONS, &[], login.to_string().as_bytes()).await;
    let token = format!("X-Auth-Token: {}", session.headers["x-auth-token"].to_str().unwrap());
    assert_eq!(world.ask("GET", "/redfish/v1/Systems", &[&token], b"").await.status, 200);
    // Past the service, as with kubectl: nothing closes the session.
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    for secret in secrets.list(&ListParams::default()).await.unwrap() {
        if secret.name_any().starts_with("redfish-account-") {
            secrets.delete(&secret.name_any(), &DeleteParams::default()).await.unwrap();
        }
    }
    world
        .eventually("the session is worth nothing", async || {
            let answer = world.ask("GET", "/redfish/v1/Systems", &[&token], b"").await;
            (answer.status == 401).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_that_must_be_changed_allows_nothing_else() {
    let world = World::start().await;
    let mut body = account("new", "Administrator");
    body["PasswordChangeRequired"] = json!(true);
    assert_eq!(world.send("POST", ACCOUNTS, &body).await.status, 201);
    let login = json!({"UserName": "new", "Password": "long enough 1"});
    let session = world.ask("POST", SESSIONS, &[], login.to_string().as_bytes()).await;
    assert_eq!(session.status, 201);
    assert!(
        session.body["@Message.ExtendedInfo"][0]["MessageId"]
            .as_str()
            .unwrap()
            .ends_with("PasswordChangeRequired")
    );
    let own = format!("{ACCOUNTS}/new");
    assert_eq!(
        as_user(&world, "new", "GET", "/redfish/v1/Systems", &Value::Null).await,
        (403, vec!["PasswordChangeRequired".to_owned()])
    );
    assert_eq!(as_user(&world, "new", "GET", &own, &Value::Null).await.0, 200);
    assert_eq!(
        as_user(&world, "new", "PATCH", &own, &json!({"Password": "short"})).await.1,
        ["StringValueTooShort #/Password"]
    );
    assert_eq!(as_user(&world, "new", "PATCH", &own, &json!({"Password": "another one 2"})).await.0, 200);
    assert_eq!(
        world.ask("GET", "/redfish/v1/Systems", &[&basic("new", "another one 2")], b"").await.status,
        200
    );
    assert_eq!(
        as_user(&world, "new", "GET", "/redfish/v1/Systems", &Value::Null).await.0,
        401,
        "the old one is over"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_taken_over_safe_ways_only_and_of_several_writers_one_wins() {
    let world = World::start().await;
    let good = basic("admin", crate::world::PASSWORD);
    assert_eq!(
        world.ask("GET", "/redfish/v1/Systems", &[&good, "x-in-the-clear: yes"], b"").await.status,
        401
    );
    assert_eq!(world.ask("GET", "/redfish/v1", &["x-in-the-clear: yes"], b"").await.status, 200);
    assert_eq!(world.send("POST", ACCOUNTS, &account("many", "ReadOnly")).await.status, 201);
    let uri = format!("{ACCOUNTS}/many");
    let tag = format!("If-Match: {}", world.get(&uri).await.body["@odata.etag"].as_str().unwrap());
    let bodies =
        ["Operator", "Administrator", "Operator", "Administrator"].map(|role| json!({"RoleId": role}));
    let headers = [tag.as_str()];
    let answers =
        futures::future::join_all(bodies.iter().map(|body| world.send_with("PATCH", &uri, &headers, body)))
            .await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(412)), (1, 3));
    assert_eq!(world.send("DELETE", &format!("{ACCOUNTS}/admin"), &Value::Null).await.status, 409);
    assert_eq!(
        world.send("PATCH", &format!("{ACCOUNTS}/admin"), &json!({"RoleId": "ReadOnly"})).await.told(),
        ["PropertyNotWritable #/RoleId"]
    );
}
