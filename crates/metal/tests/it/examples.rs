//! What Metal3's guides write applies unchanged.

use std::path::Path;

use drystone_api::{BareMetalHost, ProvisioningState};
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde::Deserialize as _;
use serde_json::Value;

use super::world::{NAMESPACE, World};

fn documents(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/metal3").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.split("\n---\n").map(|part| serde_saphyr::from_str(part).expect("YAML")).collect()
}

async fn apply(world: &World, document: Value) -> Result<(), kube::Error> {
    let object = DynamicObject::deserialize(document).expect("an object");
    let types = object.types.clone().expect("kind and version");
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let kind = GroupVersionKind::gvk(group, version, &types.kind);
    let plural = match types.kind.as_str() {
        "HostFirmwareSettings" => "hostfirmwaresettings".to_owned(),
        other => format!("{}s", other.to_ascii_lowercase()),
    };
    let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
    let api: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), NAMESPACE, &resource);
    api.create(&PostParams::default(), &object).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn examples_apply_and_nothing_is_wrong_with_them() {
    let world = World::start().await;
    let mut hosts = Vec::new();
    for file in ["host.yaml", "firmware.yaml", "raid.yaml", "ipmi.yaml"] {
        for document in documents(file) {
            let name = document["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            if document["kind"] == "BareMetalHost" {
                hosts.push(name.clone());
            }
            apply(&world, document).await.unwrap_or_else(|error| panic!("{file}: {name}: {error}"));
        }
    }
    assert_eq!(hosts.len(), 4);
    // IPMI is spoken by Ironic only, and there is none here.
    let message = world.until_error("worker-3", "registration error").await;
    assert!(message.contains("spec.bmc.address") && message.contains("--ironic"), "{message}");
    // Nobody is at the other addresses: the hosts are being registered, and no field is complained about.
    for name in hosts.into_iter().filter(|name| name != "worker-3") {
        world
            .until(&name, "registering", |host: &BareMetalHost, status| {
                assert!(
                    !status.error_message.contains("spec."),
                    "{}: {}",
                    host.name_any(),
                    status.error_message
                );
                status.provisioning.state == ProvisioningState::Registering
            })
            .await;
    }
}
