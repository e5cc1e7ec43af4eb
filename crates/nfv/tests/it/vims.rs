//! The legacy registration of VIMs.

use drystone_api::nfv::Vim;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ListParams};
use serde_json::{Value, json};

use crate::world::World;

fn openstack(name: &str) -> Value {
    json!({"vim": {"name": name, "description": "d", "type": "openstack", "auth_url": "http://keystone:5000/v3",
        "auth_cred": {"username": "nfv_user", "password": "hush", "user_domain_name": "Default", "cert_verify": "False"},
        "vim_project": {"name": "nfv", "project_domain_name": "Default"}, "is_default": true,
        "extra": {"area": "a@b", "helm_info": "{'masternode_ip': ['1.2.3.4'], 'masternode_password': 'hush'}"}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vim_is_registered_changed_and_removed() {
    let world = World::start().await;
    let made = world.send("POST", "/v1.0/vims.json", &openstack("VIM1")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let vim = &made.body["vim"];
    assert_eq!(vim["auth_cred"]["password"], "***");
    assert_eq!(vim["auth_cred"]["username"], "nfv_user");
    assert_eq!(vim["extra"], json!({"area": "a@b", "helm_info": "***"}));
    assert_eq!(vim["vim_project"]["name"], "nfv");
    let id = vim["id"].as_str().unwrap();
    let path = format!("/v1.0/vims/{id}.json");
    // What the client does to find an identifier.
    let found = world.get("/v1.0/vims.json?name=VIM1&fields=id").await;
    assert_eq!(found.body, json!({"vims": [{"id": id}]}));
    assert_eq!(world.get("/v1.0/vims?name=other").await.body, json!({"vims": []}));
    for one in [&path, &format!("/v1.0/vims/{id}"), &"/v1.0/vims/VIM1.json".to_owned()] {
        assert_eq!(world.get(one).await.body["vim"]["id"], id, "{one}");
    }
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), "drystone-system");
    let vims: Api<Vim> = Api::namespaced(world.client.clone(), "drystone-system");
    let object = vims.list(&ListParams::default()).await.unwrap().items.remove(0);
    assert!(!serde_json::to_string(&object).unwrap().contains("hush"));
    let secret = secrets.get(&object.spec.credentials).await.unwrap().data.unwrap();
    assert_eq!(secret["password"].0, b"hush");
    assert_eq!(secret["userDomainName"].0, b"Default");
    assert!(object.spec.skip_certificate_verification && object.spec.is_default);
    let change = json!({"vim": {"description": "new", "auth_cred": {"password": "newer"}}});
    let changed = world.send("PUT", &path, &change).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(changed.body["vim"]["description"], "new");
    assert_eq!(changed.body["vim"]["auth_cred"]["username"], "nfv_user");
    let secret = secrets.get(&object.spec.credentials).await.unwrap().data.unwrap();
    assert_eq!(
        (secret["password"].0.as_slice(), secret["username"].0.as_slice()),
        (&b"newer"[..], &b"nfv_user"[..])
    );
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
    assert_eq!(world.get(&path).await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_answered_in_openstacks_form() {
    let world = World::start().await;
    assert_eq!(world.send("POST", "/v1.0/vims", &openstack("VIM1")).await.status, 201);
    let mut other = openstack("VIM2");
    let twice = world.send("POST", "/v1.0/vims", &openstack("VIM1")).await;
    assert_eq!(twice.status, 409);
    assert!(twice.body["TackerError"]["message"].as_str().unwrap().contains("VIM1"), "{twice:?}");
    assert_eq!(world.send("POST", "/v1.0/vims", &other).await.status, 409, "two defaults");
    other["vim"]["is_default"] = json!(false);
    for (member, value) in [
        ("name", json!("")),
        ("auth_url", json!("ftp://x")),
        ("type", json!("aws")),
        ("auth_cred", json!({"username": "u"})),
        ("auth_cred", json!({"username": "u", "password": 5})),
        ("auth_cred", json!({"username": "u", "password": "***"})),
        ("auth_cred", json!({"username": "u", "password": "p", "cert_verify": "maybe"})),
        ("vim_project", json!({})),
    ] {
        let mut bad = other.clone();
        bad["vim"][member] = value;
        let refused = world.send("POST", "/v1.0/vims", &bad).await;
        assert_eq!(refused.status, 400, "{bad}: {refused:?}");
        assert!(
            refused.body["TackerError"]["message"].as_str().unwrap().contains(member),
            "{bad}: {refused:?}"
        );
    }
    assert_eq!(world.get("/v1.0/vims").await.body["vims"].as_array().unwrap().len(), 1);
    let missing = world.get("/v1.0/vims/nobody.json").await;
    assert_eq!(missing.status, 404);
    assert!(missing.body["TackerError"]["type"].is_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vim_in_use_stays() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let made = world.send("POST", "/v1.0/vims", &openstack("VIM1")).await;
    let vim = made.body["vim"]["id"].as_str().unwrap();
    let id = world.instance("user").await;
    let body =
        json!({"flavourId": "simple", "vimConnectionInfo": {"v": {"vimId": vim, "vimType": "openstack"}}});
    let occurrence = world.begin(&id, "instantiate", &body).await;
    world.until_state(&occurrence, "COMPLETED").await;
    let path = format!("/v1.0/vims/{vim}");
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 409);
    let occurrence = world.begin(&id, "terminate", &json!({"terminationType": "FORCEFUL"})).await;
    world.until_state(&occurrence, "COMPLETED").await;
    assert_eq!(world.send("DELETE", &path, &Value::Null).await.status, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vim_that_an_operation_is_at_work_on_stays() {
    let world = World::start().await;
    world.package(b"PK the package").await;
    let mut paths = Vec::new();
    for (name, is_default) in [("default", true), ("named", false), ("other", false)] {
        let mut body = openstack(name);
        body["vim"]["is_default"] = is_default.into();
        let made = world.send("POST", "/v1.0/vims", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        paths.push(made.body["vim"]["id"].as_str().unwrap().to_owned());
    }
    // One names none, the other one does; both go on until they are cancelled.
    let named = json!({"flavourId": "simple",
        "vimConnectionInfo": {"vim1": {"vimId": paths[1], "vimType": "ETSINFV.OPENSTACK_KEYSTONE.V_3"}}});
    let mut occurrences = Vec::new();
    for (name, body) in [("slow one", json!({"flavourId": "simple"})), ("slow two", named)] {
        let id = world.instance(name).await;
        let occurrence = world.begin(&id, "instantiate", &body).await;
        world.until_state(&occurrence, "PROCESSING").await;
        occurrences.push(occurrence);
    }
    let delete = async |id: &str| world.send("DELETE", &format!("/v1.0/vims/{id}"), &Value::Null).await;
    for (id, expected) in paths.iter().zip([409, 409, 204]) {
        let answer = delete(id).await;
        assert_eq!(answer.status, expected, "{id}: {answer:?}");
    }
    for occurrence in &occurrences {
        let cancel = json!({"cancelMode": "GRACEFUL"});
        assert_eq!(world.send("POST", &format!("{occurrence}/cancel"), &cancel).await.status, 202);
        world.until_state(occurrence, "FAILED_TEMP").await;
        let held = occurrences.iter().position(|one| one == occurrence).unwrap();
        assert_eq!(delete(&paths[held]).await.status, 409, "it may be tried again");
        assert_eq!(world.send("POST", &format!("{occurrence}/fail"), &Value::Null).await.status, 200);
        world.until_state(occurrence, "FAILED").await;
    }
    for id in &paths[..2] {
        assert_eq!(delete(id).await.status, 204, "{id}");
    }
}
