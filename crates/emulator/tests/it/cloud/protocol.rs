//! Tokens, versions, and who may ask for what.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::client::{SITE, TestCloud};

const NONE: &str = "{heat_template_version: 2013-05-23, resources: {a: {type: 'OS::Heat::None'}}}";

#[tokio::test(flavor = "multi_thread")]
async fn only_the_right_password_and_project_get_a_token() {
    let cloud = TestCloud::start(SITE).await;
    for (user, password, project) in [
        ("nfv_user", "wrong", "nfv"),
        ("nfv_user", "", "nfv"),
        ("nobody", "devstack", "nfv"),
        ("nfv_user", "devstack", "elsewhere"),
    ] {
        let refused = cloud.authenticate(user, password, project).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{user} {password} {project}");
    }
    let session = cloud.session().await;
    assert_eq!(session.described["token"]["project"]["name"], "nfv");
    let url = format!("{}/auth/tokens", cloud.endpoint().auth_url);
    let check = |token: String| {
        let (http, url, own) = (cloud.http.clone(), url.clone(), session.token.clone());
        async move {
            http.get(url)
                .header("X-Auth-Token", own)
                .header("X-Subject-Token", token)
                .send()
                .await
                .unwrap()
                .status()
        }
    };
    assert_eq!(check(session.token.clone()).await, StatusCode::OK);
    assert_eq!(check("another".to_owned()).await, StatusCode::NOT_FOUND);
    let revoked = cloud
        .http
        .delete(&url)
        .header("X-Auth-Token", &session.token)
        .header("X-Subject-Token", &session.token);
    assert_eq!(revoked.send().await.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(session.send(Method::GET, "/stacks", None).await.0, StatusCode::UNAUTHORIZED);
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_told_to_anybody() {
    let cloud = TestCloud::start(SITE).await;
    for (path, status) in
        [("/", 300), ("/identity", 300), ("/identity/v3", 200), ("/v3", 200), ("/orchestration", 300)]
    {
        let response = cloud.http.get(format!("{}{path}", cloud.base())).send().await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert!(response.text().await.unwrap().contains("links"), "{path}");
    }
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_do_not_see_each_other() {
    let cloud = TestCloud::start(SITE).await;
    let (one, other) = (cloud.session().await, cloud.session_of("other").await);
    let id = one.create(&json!({"stack_name": "mine", "template": NONE})).await;
    assert_eq!(other.get("/stacks").await["stacks"], json!([]));
    for path in ["/stacks/mine".to_owned(), format!("/stacks/{id}"), format!("/stacks/mine/{id}")] {
        for method in [Method::GET, Method::DELETE] {
            assert_eq!(other.send(method, &path, None).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }
    // A token of one project is worth nothing in the address of another.
    let strange = cloud.http.get(format!("{}/stacks", one.heat)).header("X-Auth-Token", &other.token);
    assert_eq!(strange.send().await.unwrap().status(), StatusCode::FORBIDDEN);
    other.create(&json!({"stack_name": "mine", "template": NONE})).await;
    let twice =
        one.send(Method::POST, "/stacks", Some(&json!({"stack_name": "mine", "template": NONE}))).await;
    assert_eq!((twice.0, &twice.1["error"]["type"]), (StatusCode::CONFLICT, &json!("StackExists")));
    cloud.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_requests_are_met() {
    let cloud = TestCloud::start(SITE).await;
    let session = cloud.session().await;
    let faults = format!("{}/drystone/faults", cloud.base());
    let set =
        |body: Value| cloud.http.post(&faults).header("X-Auth-Token", &session.token).json(&body).send();
    assert_eq!(set(json!({"kind": "fire"})).await.unwrap().status(), StatusCode::BAD_REQUEST);
    set(json!({"kind": "unavailable503", "count": 1})).await.unwrap();
    assert_eq!(session.send(Method::GET, "/stacks", None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(session.send(Method::GET, "/stacks", None).await.0, StatusCode::OK);
    set(json!({"kind": "timeout", "count": 1, "delay": "10ms"})).await.unwrap();
    assert_eq!(session.send(Method::GET, "/stacks", None).await.0, StatusCode::GATEWAY_TIMEOUT);
    set(json!({"kind": "tokenExpires", "count": 1})).await.unwrap();
    assert_eq!(session.send(Method::GET, "/stacks", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(
        session.send(Method::GET, "/stacks", None).await.0,
        StatusCode::UNAUTHORIZED,
        "it stays expired"
    );
    let again = cloud.session().await;
    assert_eq!(again.send(Method::GET, "/stacks", None).await.0, StatusCode::OK);
    cloud.stop().await;
}
