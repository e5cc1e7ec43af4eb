//! The API and the bytes in step.

use axum::http::StatusCode;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{OS, World, image, until};
use crate::digest::Digest;

#[tokio::test]
async fn the_controller_keeps_the_api_and_the_bytes_in_step() {
    let mut world = World::new();
    world.upload(OS, "deleted", &image(100)).await;
    world.upload(OS, "orphan", &image(101)).await;
    world.upload(OS, "lost", &image(102)).await;
    // As it is when Drystone is killed and started again: one was deleted behind everybody's back, one has lost its bytes.
    let path = |world: &World, name: &str| {
        let all = world.api.objects("/artifacts/");
        let object = all.iter().find(|artifact| artifact["spec"]["name"] == name).unwrap();
        format!(
            "/apis/drystone.dev/v1alpha1/namespaces/alpha/artifacts/{}",
            object["metadata"]["name"].as_str().unwrap()
        )
    };
    world.api.remove_unnoticed(&path(&world, "orphan"));
    let lost = world.directory.path().join("blobs/sha256").join(Digest::of(&image(102)).hex());
    std::fs::remove_file(lost).unwrap();
    let World { images, api, directory, router } = world;
    drop((images, router));
    world = World::in_directory(directory, api);
    assert_eq!(world.blobs(), 2);
    let stop = CancellationToken::new();
    let running = tokio::spawn(world.images.clone().run(stop.clone()));
    until("the report of what is lost", || world.status("lost")["conditions"][0]["reason"] == "BytesLost")
        .await;
    assert_eq!(world.status("lost")["complete"], false);
    until("the removal of the orphan", || world.blobs() == 1).await;
    let client = kube::Api::<drystone_api::Artifact>::namespaced(world.api.client(), "alpha");
    let name = path(&world, "deleted").rsplit_once('/').unwrap().1.to_owned();
    client.delete(&name, &kube::api::DeleteParams::default()).await.unwrap();
    until("the removal of what was deleted", || world.blobs() == 0).await;
    let answer = world.patch(&format!("{OS}/lost"), 0, &image(102)).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT, "{}", answer.message());
    assert_eq!(world.status("lost")["complete"], true);
    // What it is known by was changed behind its back.
    let object = path(&world, "lost");
    world.api.meddle(&object, |object| object["spec"]["cluster"] = json!("other"));
    until("a word about it", || world.status("lost")["message"].to_string().contains("put them back")).await;
    world.api.meddle(&object, |object| object["spec"]["cluster"] = json!("edge"));
    until("that it is well", || world.status("lost")["message"].is_null()).await;
    // What somebody writes into the status is put right.
    world.api.meddle(&path(&world, "lost"), |object| object["status"]["digest"] = json!("sha256:0"));
    until("the true digest", || world.status("lost")["digest"] == Digest::of(&image(102)).to_string()).await;
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn an_image_of_another_store_is_not_touched() {
    let world = World::new();
    assert_eq!(world.announce(OS, "disk", 10).await.status, StatusCode::CREATED);
    let other = World::in_directory(tempfile::tempdir().unwrap(), world.api.clone());
    let answer = other.patch(&format!("{OS}/disk"), 0, &image(10)).await;
    assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{}", answer.message());
    assert_eq!(other.get(&format!("{OS}/disk"), &[]).await.status, StatusCode::OK);
    assert_eq!(world.patch(&format!("{OS}/disk"), 0, &image(10)).await.status, StatusCode::NO_CONTENT);
    let digest = &other.get(&format!("{OS}/disk"), &[]).await.json()["image_digest"];
    assert_eq!(digest, &json!(Digest::of(&image(10)).to_string()));
}
