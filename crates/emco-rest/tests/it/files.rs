//! Charts, profiles, kubeconfigs, and what generic actions add.

use std::fs;

use drystone_api::{
    SYSTEM_NAMESPACE,
    emco::{App, Cluster, object_name},
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::world::{BASIC, MULTIPART, Part, World, archive, archive_of, kubeconfig, multipart};

async fn get(world: &World, path: &str, accept: &str) -> crate::world::Answer {
    world.ask("GET", &format!("/v2/{path}"), &[BASIC, accept], "").await
}

/// How many files are kept.
fn kept(world: &World) -> usize {
    let directories = fs::read_dir(world.directory.path()).unwrap().flatten();
    directories.map(|directory| fs::read_dir(directory.path()).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn charts_come_back_as_they_were() {
    let world = World::start().await;
    world.group().await;
    let app = "projects/p1/composite-apps/ca1/v1/apps/a1";
    let chart = archive("a1");
    for accept in ["Accept: application/json", "Accept: */*", "X-None: x"] {
        let answer = get(&world, app, accept).await;
        assert_eq!(answer.body["metadata"]["name"], "a1", "{accept}");
        assert!(answer.body.get("spec").is_none(), "digests are not told: {}", answer.text());
    }
    assert_eq!(get(&world, app, "Accept: application/octet-stream").await.bytes, chart);
    let both = get(&world, app, "Accept: multipart/form-data").await;
    assert!(both.header("content-type").starts_with("multipart/form-data; boundary="));
    let text = both.text();
    assert!(text.contains("name=metadata") && text.contains("filename=\"fileContent\""), "{text}");
    assert!(both.bytes.windows(chart.len()).any(|part| part == chart));
    assert_eq!(get(&world, app, "Accept: text/html").await.status, 406);
    // Another description, the same chart.
    let changed = world.send("PUT", app, &json!({"metadata": {"name": "a1", "description": "d"}})).await;
    assert_eq!((changed.status.as_u16(), &changed.body["metadata"]["description"]), (201, &json!("d")));
    assert_eq!(get(&world, app, "Accept: application/octet-stream").await.bytes, chart);
    let (new, body) = (archive("a1/new"), json!({"metadata": {"name": "a1"}}));
    let replaced = world.upload("PUT", app, &body, &[("file", Some("f"), new.as_slice())]).await;
    assert_eq!(replaced.status, 201, "{}", replaced.text());
    assert_eq!(get(&world, app, "Accept: application/octet-stream").await.bytes, new);
    let apps: Api<App> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    assert_eq!(apps.get(&object_name(app)).await.unwrap().spec.file.length, new.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_files_are_refused_and_leave_nothing() {
    let world = World::start().await;
    world.group().await;
    let before = kept(&world);
    let apps = "projects/p1/composite-apps/ca1/v1/apps";
    let body = json!({"metadata": {"name": "a3"}});
    let refused = async |files: &[Part<'_>]| {
        let answer = world.upload("POST", apps, &body, files).await;
        (answer.status.as_u16(), answer.text())
    };
    let good = archive("a3");
    let (status, text) = refused(&[]).await;
    assert!(status == 422 && text.starts_with("Unable to process file"), "{text}");
    let (status, text) = refused(&[("file", Some("f"), b"no archive")]).await;
    assert!(status == 422 && text.starts_with("Error in file format"), "{text}");
    assert_eq!(refused(&[("file", Some("f"), &good[..good.len() / 2])]).await.0, 422);
    assert_eq!(refused(&[("file", Some("f"), &good), ("file", Some("f"), &good)]).await.0, 422);
    for (headers, bytes, status) in [
        (vec![BASIC, "Content-Type: multipart/form-data"], multipart(&[]), 422),
        (vec![BASIC, MULTIPART], b"--XX\r\nrubbish".to_vec(), 422),
        (vec![BASIC, MULTIPART], b"--XX--\r\n".to_vec(), 400),
        (vec![BASIC, MULTIPART], multipart(&[("metadata", None, b"{"), ("file", Some("f"), &good)]), 422),
        (vec![BASIC], body.to_string().into_bytes(), 422),
        (vec![BASIC, MULTIPART, "Content-Length: 3000000000"], multipart(&[]), 422),
    ] {
        let answer = world.ask("POST", &format!("/v2/{apps}"), &headers, bytes).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text());
    }
    assert_eq!(kept(&world), before, "nothing is left");
    assert_eq!(world.get(&format!("{apps}/a3")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubeconfigs_are_secrets() {
    let world = World::start().await;
    world.cluster("c1").await;
    let path = "cluster-providers/p/clusters/c1";
    let name = object_name(path);
    let shown = get(&world, path, "Accept: application/json").await;
    let clusters: Api<Cluster> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let resource = serde_json::to_string(&clusters.get(&name).await.unwrap()).unwrap();
    for text in [shown.text(), world.get("cluster-providers/p/clusters").await.text(), resource] {
        assert!(!text.contains("secret-token"), "{text}");
    }
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let secret = secrets.get(&name).await.unwrap();
    let owner = &secret.metadata.owner_references.as_ref().unwrap()[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("Cluster", name.as_str()));
    let file = get(&world, path, "Accept: application/octet-stream").await;
    assert_eq!(file.text(), kubeconfig("secret-token"));
    let both = get(&world, path, "Accept: multipart/form-data").await;
    assert!(both.text().contains("filename=\"kubeconfig\"") && both.text().contains("secret-token"));
    // A new one replaces it; without one it stays.
    let body = json!({"metadata": {"name": "c1"}});
    let (new, put) = (kubeconfig("other-token"), json!({"metadata": {"name": "c1", "description": "d"}}));
    let replaced = world.upload("PUT", path, &body, &[("file", Some("k"), new.as_bytes())]).await;
    assert_eq!(replaced.status, 201, "{}", replaced.text());
    assert_eq!(world.send("PUT", path, &put).await.status, 201);
    assert_eq!(get(&world, path, "Accept: application/octet-stream").await.text(), new);
    for (config, told) in [
        (kubeconfig("t").replace("{token: t}", "{tokenFile: /etc/shadow}"), "file"),
        (kubeconfig("t").replace("current-context: c", "current-context: x"), "current-context"),
        ("rubbish".to_owned(), "kubeconfig"),
    ] {
        let body = json!({"metadata": {"name": "c2"}});
        let files: [Part<'_>; 1] = [("file", Some("k"), config.as_bytes())];
        let answer = world.upload("POST", "cluster-providers/p/clusters", &body, &files).await;
        assert!(answer.status == 422 && answer.text().contains(told), "{}", answer.text());
    }
    let none =
        world.upload("POST", "cluster-providers/p/clusters", &json!({"metadata": {"name": "c2"}}), &[]).await;
    assert!(none.status == 400 && none.text().contains("file: a kubeconfig is required"), "{}", none.text());
    let git = json!({"metadata": {"name": "c2"}, "spec": {"gitOps": {"gitOpsType": "fluxcd"}}});
    assert_eq!(world.upload("POST", "cluster-providers/p/clusters", &git, &[]).await.status, 201);
    assert_eq!(world.send("DELETE", path, &Value::Null).await.status, 204);
    world
        .eventually("the Secret goes with it", async || {
            secrets.get_opt(&name).await.unwrap().is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_sync_objects_are_secrets() {
    let world = World::start().await;
    world.make("cluster-providers", "p", Value::Null).await;
    let objects = "cluster-providers/p/cluster-sync-objects";
    world.make(objects, "s1", json!({"kv": [{"gitType": "github"}, {"gitToken": "t0p"}]})).await;
    let path = format!("{objects}/s1");
    let shown = world.get(&path).await;
    assert_eq!(shown.body["spec"]["kv"], json!([{"gitType": "github"}, {"gitToken": "***"}]));
    assert_eq!(world.get(&format!("{path}?key=gitToken")).await.body, "***");
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let whole = async || {
        let secret = secrets.get(&object_name(&path)).await.unwrap();
        String::from_utf8(secret.data.unwrap()["kv.json"].0.clone()).unwrap()
    };
    assert!(whole().await.contains("t0p"));
    // What was read is sent back, with another value.
    let body =
        json!({"metadata": {"name": "s1"}, "spec": {"kv": [{"gitType": "gitlab"}, {"gitToken": "***"}]}});
    assert_eq!(world.send("PUT", &path, &body).await.status, 201);
    let now = whole().await;
    assert!(now.contains("t0p") && now.contains("gitlab"), "{now}");
    // A new one takes the place of the old one.
    let body = json!({"metadata": {"name": "s1"}, "spec": {"kv": [{"gitToken": "n3w"}]}});
    assert_eq!(world.send("PUT", &path, &body).await.status, 201);
    let now = whole().await;
    assert!(now.contains("n3w") && !now.contains("t0p"), "{now}");
    assert_eq!(world.get(&path).await.body["spec"]["kv"], json!([{"gitToken": "***"}]));
    // With the last secret the Secret goes.
    let body = json!({"metadata": {"name": "s1"}, "spec": {"kv": [{"gitType": "github"}]}});
    assert_eq!(world.send("PUT", &path, &body).await.status, 201);
    assert!(secrets.get_opt(&object_name(&path)).await.unwrap().is_none());
    // One that a PUT makes is as good as one that a POST makes.
    let (path, body) = (
        format!("{objects}/s2"),
        json!({"metadata": {"name": "s2"}, "spec": {"kv": [{"gitToken": "f1rst"}]}}),
    );
    let made = world.send("PUT", &path, &body).await;
    assert_eq!((made.status.as_u16(), &made.body["spec"]["kv"]), (201, &json!([{"gitToken": "***"}])));
    let secret = secrets.get(&object_name(&path)).await.unwrap();
    let kept = String::from_utf8(secret.data.unwrap()["kv.json"].0.clone()).unwrap();
    assert!(kept.contains("f1rst"), "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_being_deleted_keeps_its_kubeconfig() {
    let world = World::start().await;
    world.cluster("c1").await;
    let path = "cluster-providers/p/clusters/c1";
    let name = object_name(path);
    let clusters: Api<Cluster> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), SYSTEM_NAMESPACE);
    let hold = async |finalizers: Value| {
        let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
        clusters.patch(&name, &PatchParams::default(), &patch).await.unwrap();
    };
    hold(json!(["example.com/networks"])).await;
    assert_eq!(world.send("DELETE", path, &Value::Null).await.status, 204);
    let (new, body) = (kubeconfig("other-token"), json!({"metadata": {"name": "c1"}}));
    let files: [Part<'_>; 1] = [("file", Some("k"), new.as_bytes())];
    let again = world.upload("POST", "cluster-providers/p/clusters", &body, &files).await;
    assert!(again.status == 409 && again.text().contains("being deleted"), "{}", again.text());
    let kept = secrets.get(&name).await.unwrap().data.unwrap()["kubeconfig"].0.clone();
    assert_eq!(String::from_utf8(kept).unwrap(), kubeconfig("secret-token"), "networks are still taken back");
    hold(json!([])).await;
    let again = world
        .eventually("it is made anew", async || {
            let again = world.upload("POST", "cluster-providers/p/clusters", &body, &files).await;
            (again.status == 201).then_some(again)
        })
        .await;
    assert_eq!(again.body["metadata"]["name"], "c1");
    let secret = secrets.get(&name).await.unwrap();
    let uid = clusters.get(&name).await.unwrap().metadata.uid.unwrap();
    assert_eq!(secret.metadata.owner_references.unwrap()[0].uid, uid);
    assert_eq!(String::from_utf8(secret.data.unwrap()["kubeconfig"].0.clone()).unwrap(), new);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn generic_actions_have_files() {
    let world = World::start().await;
    let group = world.group().await;
    let intents = format!("{group}/generic-k8s-intents");
    world.make(&intents, "k1", Value::Null).await;
    let resources = format!("{intents}/k1/resources");
    let spec = |kind: &str| json!({"app": "a1", "newObject": "true", "resourceGVK": {"apiVersion": "v1", "kind": kind, "name": "x"}});
    let body = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
    let none = world.upload("POST", &resources, &body("r1", spec("Service")), &[]).await;
    assert!(none.status == 400 && none.text().contains("file: is required"), "{}", none.text());
    let yaml: Part<'_> = ("file", Some("service.yaml"), b"kind: Service\n");
    assert_eq!(world.upload("POST", &resources, &body("r1", spec("Service")), &[yaml]).await.status, 201);
    assert_eq!(world.upload("POST", &resources, &body("r2", spec("ConfigMap")), &[]).await.status, 201);
    assert_eq!(get(&world, &format!("{resources}/r2"), "Accept: application/octet-stream").await.status, 404);
    let customizations = format!("{resources}/r2/customizations");
    let custom = json!({"clusterSpecific": "false", "patchType": "merge",
                        "configMapOptions": {"dataKeyOptions": [{"fileName": "a.txt", "keyName": "k"}]}});
    let files: [Part<'_>; 2] = [("files", Some("a.txt"), b"one"), ("files", Some("b.txt"), b"two")];
    let made = world.upload("POST", &customizations, &body("c1", custom), &files).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(made.body["spec"].get("files").is_none());
    let path = format!("{customizations}/c1");
    assert_eq!(get(&world, &path, "Accept: application/octet-stream").await.status, 406);
    let both = get(&world, &path, "Accept: multipart/form-data").await.text();
    assert!(both.contains("filename=\"a.txt\"") && both.contains("\r\n\r\ntwo\r\n"), "{both}");
    let wrong = json!({"clusterSpecific": "true", "clusterInfo": {"scope": "name"}});
    let wrong = world.upload("POST", &customizations, &body("c2", wrong), &[]).await;
    assert!(wrong.text().contains("spec.clusterInfo.clusterProvider"), "{}", wrong.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_deployed_is_refused_when_it_is_uploaded() {
    let world = World::start().await;
    world.group().await;
    let apps = "projects/p1/composite-apps/ca1/v1/apps";
    let profiles = "projects/p1/composite-apps/ca1/v1/composite-profiles/cp1/profiles";
    let upload = async |collection: &str, file: &[u8]| {
        let body = match collection == apps {
            true => json!({"metadata": {"name": "a3"}}),
            false => json!({"metadata": {"name": "pr3"}, "spec": {"app": "a1"}}),
        };
        let answer = world.upload("POST", collection, &body, &[("file", Some("f"), file)]).await;
        (answer.status.as_u16(), answer.text())
    };
    let library = archive_of("a3/Chart.yaml", "name: a3\ntype: library\n");
    for (collection, file, told) in [
        (apps, archive("other"), "the chart's directory must have the app's name, `a3`"),
        (apps, library, "a library chart cannot be installed"),
        (profiles, archive("a1"), "a profile has this file at its root"),
        (profiles, archive_of("manifest.yaml", "version: v2\n"), "version is not v1"),
        (profiles, archive_of("manifest.yaml", "type: {values: v.yaml}\n"), "v.yaml"),
    ] {
        let (status, text) = upload(collection, &file).await;
        assert!(status == 422 && text.starts_with("Error in file format") && text.contains(told), "{text}");
    }
    let (status, text) = upload(apps, &archive("a3")).await;
    assert_eq!(status, 201, "{text}");
    let body = json!({"metadata": {"name": "a3"}});
    let other = archive("other");
    let replaced = world.upload("PUT", &format!("{apps}/a3"), &body, &[("file", Some("f"), &other)]).await;
    assert_eq!(replaced.status, 422, "{}", replaced.text());
    let kept = get(&world, &format!("{apps}/a3"), "Accept: application/octet-stream").await;
    assert_eq!(kept.bytes, archive("a3"), "what was there stays");
}
