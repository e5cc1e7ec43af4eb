//! VNF packages: made, uploaded, read, enabled, deleted.

use serde_json::{Value, json};

use crate::{
    library::LIMIT,
    world::{BASIC, World},
};

const ROOT: &str = "/vnfpkgm/v1/vnf_packages";
const ZIP: &str = "Content-Type: application/zip";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_package_lives_from_its_creation_to_its_deletion() {
    let world = World::start().await;
    let made = world.send("POST", ROOT, &json!({"userDefinedData": {"key": "value"}})).await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.body["id"].as_str().unwrap().to_owned();
    let path = format!("{ROOT}/{id}");
    assert_eq!(made.header("location"), format!("http://drystone:6443{path}"));
    for (name, value) in
        [("onboardingState", "CREATED"), ("operationalState", "DISABLED"), ("usageState", "NOT_IN_USE")]
    {
        assert_eq!(made.body[name], value);
    }
    assert_eq!(made.body["userDefinedData"]["key"], "value");
    let content = format!("{path}/package_content");
    // Too early.
    for early in [&content, &format!("{path}/vnfd"), &format!("{path}/artifacts/Scripts/install.sh")] {
        assert_eq!(world.get(early).await.status, 409, "{early}");
    }
    let enable = json!({"operationalState": "ENABLED"});
    assert_eq!(world.send("PATCH", &path, &enable).await.status, 400);
    let wrong = world.ask("PUT", &content, &[BASIC, "Content-Type: text/plain"], "x").await;
    assert_eq!(wrong.status, 415);
    assert_eq!(world.ask("PUT", &content, &[BASIC, ZIP], "").await.status, 400);
    let large = world.ask("PUT", &content, &[BASIC, ZIP], vec![b'P'; LIMIT + 1]).await;
    assert_eq!(large.status, 413, "{large:?}");
    // Refused by what takes it in; then another content is possible.
    assert_eq!(world.ask("PUT", &content, &[BASIC, ZIP], "too short").await.status, 202);
    let failed = world
        .eventually("the content is refused", async || {
            let body = world.get(&path).await.body;
            body["onboardingFailureDetails"].is_object().then_some(body)
        })
        .await;
    assert_eq!(failed["onboardingState"], "CREATED");
    assert_eq!(world.ask("PUT", &content, &[BASIC, ZIP], "PK the real package").await.status, 202);
    world
        .eventually("the package is onboarded", async || {
            (world.get(&path).await.body["onboardingState"] == "ONBOARDED").then_some(())
        })
        .await;
    let now = world.get(&path).await.body;
    assert_eq!(now["operationalState"], "ENABLED");
    assert!(now["onboardingFailureDetails"].is_null());
    assert_eq!(world.ask("PUT", &content, &[BASIC, ZIP], "PK again").await.status, 409);
    assert_eq!(world.send("PATCH", &path, &enable).await.status, 409);
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 409);
    let instance = world.instance("user").await;
    let disabled = world.send("PATCH", &path, &json!({"operationalState": "DISABLED"})).await;
    assert_eq!((disabled.status.as_u16(), disabled.body), (200, json!({"operationalState": "DISABLED"})));
    let refused =
        world.send("POST", "/vnflcm/v2/vnf_instances", &json!({"vnfdId": crate::controllers::VNFD})).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 409);
    world.send("DELETE", &format!("/vnflcm/v2/vnf_instances/{instance}"), &Value::Null).await;
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.get(&path).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_are_fetched_whole_and_in_part() {
    let world = World::start().await;
    let id = world.package(b"PK 0123456789").await;
    let path = format!("{ROOT}/{id}");
    let get = async |rest: &str, headers: &[&str]| {
        let headers: Vec<&str> = headers.iter().copied().chain([BASIC]).collect();
        world.ask("GET", &format!("{path}/{rest}"), &headers, "").await
    };
    let whole = get("package_content", &["Accept: application/zip"]).await;
    assert_eq!((whole.status.as_u16(), whole.bytes.as_slice()), (200, b"PK 0123456789".as_slice()));
    assert_eq!((whole.header("content-type"), whole.header("content-length")), ("application/zip", "13"));
    let part = get("package_content", &["Range: bytes=3-6"]).await;
    assert_eq!((part.status.as_u16(), part.bytes.as_slice()), (206, b"0123".as_slice()));
    assert_eq!(part.header("content-range"), "bytes 3-6/13");
    let beyond = get("package_content", &["Range: bytes=99-"]).await;
    assert_eq!((beyond.status.as_u16(), beyond.header("content-range")), (416, "bytes */13"));
    assert_eq!(get("package_content", &["Accept: text/plain"]).await.status, 406);
    let text = get("vnfd", &["Accept: text/plain"]).await;
    assert_eq!((text.status.as_u16(), text.header("content-type")), (200, "text/plain"));
    assert_eq!(get("vnfd", &["Accept: application/zip"]).await.header("content-type"), "application/zip");
    assert_eq!(
        get("vnfd", &["Accept: text/plain,application/zip"]).await.header("content-type"),
        "text/plain"
    );
    assert_eq!(get("vnfd", &["Accept: text/html"]).await.status, 406);
    let script = get("artifacts/Scripts/install.sh", &["Range: bytes=0-8"]).await;
    assert_eq!((script.status.as_u16(), script.bytes.as_slice()), (206, b"#!/bin/sh".as_slice()));
    for missing in ["artifacts/nothing", "artifacts/../x", "artifacts/%2e%2e/x"] {
        assert_eq!(get(missing, &[]).await.status, 404, "{missing}");
    }
    let several = world.package(b"PK several files").await;
    let vnfd =
        async |accept: &str| world.ask("GET", &format!("{ROOT}/{several}/vnfd"), &[BASIC, accept], "").await;
    assert_eq!(vnfd("Accept: text/plain").await.status, 406);
    assert_eq!(vnfd("Accept: text/plain,application/zip").await.header("content-type"), "application/zip");
    assert_eq!(world.library.files(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_is_fetched_from_elsewhere_with_credentials_in_a_secret() {
    let world = World::start().await;
    let made = world.send("POST", ROOT, &json!({})).await;
    let path = format!("{ROOT}/{}/package_content/upload_from_uri", made.body["id"].as_str().unwrap());
    for (body, place) in [
        (json!({}), "addressInformation"),
        (json!({"addressInformation": "file:///etc/passwd"}), "addressInformation"),
        (json!({"addressInformation": "http://u:p@host/x"}), "addressInformation"),
    ] {
        let refused = world.send("POST", &path, &body).await;
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.detail().contains(place) && !refused.detail().contains("u:p"), "{refused:?}");
    }
    let body = json!({"addressInformation": "https://host/x.zip", "userName": "u", "password": "hush"});
    assert_eq!(world.send("POST", &path, &body).await.status, 202);
    let packages: kube::Api<drystone_api::nfv::VnfPackage> = kube::Api::all(world.client.clone());
    let package = packages.list(&kube::api::ListParams::default()).await.unwrap().items.remove(0);
    let source = package.spec.source.clone().unwrap();
    assert_eq!(source.url, "https://host/x.zip");
    assert!(!serde_json::to_string(&package).unwrap().contains("hush"));
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(world.client.clone(), "drystone-system");
    let secret = secrets.get(&source.credentials.unwrap()).await.unwrap();
    assert_eq!(secret.data.unwrap()["password"].0, b"hush");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_uploads_at_the_same_time_one_is_taken() {
    let world = World::start().await;
    for round in 0..20_u64 {
        let made = world.send("POST", ROOT, &json!({})).await;
        let content = format!("{ROOT}/{}/package_content", made.body["id"].as_str().unwrap());
        let put = || world.ask("PUT", &content, &[BASIC, ZIP], "PK the package");
        let later = async {
            tokio::time::sleep(std::time::Duration::from_micros(round * 100)).await;
            put().await
        };
        let (one, other) = tokio::join!(put(), later);
        let mut statuses = [one.status.as_u16(), other.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [202, 409], "{round}: {one:?} {other:?}");
    }
}
