//! OpenStack's own client, unmodified: every command of it that this service is for.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Output,
};

use axum::{Router, extract::Request, routing::any};
use serde_json::{Value, json};

use crate::{
    controllers::VNFD,
    world::{PASSWORD, World},
};

/// The client, if it is installed (`./dev test` does that).
fn program() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let environment = root.join(".cache/tackerclient/venv");
    environment.join("complete").exists().then(|| environment.join("bin/openstack"))
}

struct Client<'a> {
    program: PathBuf,
    directory: &'a Path,
    address: SocketAddr,
    version: &'a str,
}

impl Client<'_> {
    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory)
            .env("OS_AUTH_TYPE", "http_basic")
            .env("OS_USERNAME", "admin")
            .env("OS_PASSWORD", PASSWORD)
            .env("OS_ENDPOINT", format!("http://{}", self.address))
            .args(["--os-tacker-api-version", self.version])
            .args(arguments)
            .current_dir(self.directory)
            .kill_on_drop(true);
        command.output().await.unwrap()
    }

    /// Runs a command that must succeed; what it prints as JSON, if it does.
    async fn ok(&self, arguments: &str) -> Value {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = self.run(&arguments).await;
        let (out, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}:\n{out}\n{error}");
        serde_json::from_str(&out).unwrap_or_else(|_| Value::String(out.into_owned()))
    }

    /// Runs a command that must fail; what it says.
    async fn fails(&self, arguments: &str) -> String {
        let arguments: Vec<&str> = arguments.split_whitespace().collect();
        let output = self.run(&arguments).await;
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.directory.join(name), content).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.directory.join(name)).unwrap()
    }
}

async fn serve(world: &World) -> SocketAddr {
    let nfv = world.nfv.clone();
    let router = Router::new().fallback(any(move |request: Request| {
        let nfv = nfv.clone();
        async move { nfv.answer(request).await }
    }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_openstacks_client_does_what_it_says() {
    let Some(program) = program() else {
        println!("skipped: python-tackerclient is not installed; ./dev test installs it");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let world = World::start().await;
    let directory = tempfile::tempdir().unwrap();
    let address = serve(&world).await;
    let client = |version| Client { program: program.clone(), directory: directory.path(), address, version };
    let first = client("1");
    vims(&first).await;
    packages(&world, &first).await;
    for version in ["1", "2"] {
        life_cycle(&world, &client(version)).await;
    }
    subscriptions(&client("2")).await;
    for (major, root) in
        [("", "/vnflcm"), (" --major-version 1", "/vnflcm/v1"), (" --major-version 2", "/vnflcm/v2")]
    {
        let told = client("2").ok(&format!("vnflcm versions{major} -f json")).await;
        assert_eq!(told["uriPrefix"], root, "{told}");
    }
}

async fn vims(client: &Client<'_>) {
    client.file(
        "vim.yaml",
        "auth_url: http://127.0.0.1:5000/v3\nusername: nfv_user\npassword: hush\nproject_name: nfv\nproject_domain_name: Default\n\
         user_domain_name: Default\ncert_verify: 'False'\ntype: openstack\n",
    );
    client.file(
        "kubernetes.yaml",
        "auth_url: https://127.0.0.1:6443\nbearer_token: hush\nproject_name: default\ntype: kubernetes\nssl_ca_cert: None\n",
    );
    let made =
        client.ok("vim register --config-file vim.yaml --description x --is-default VIM1 -f json").await;
    assert!(made.to_string().contains("***") && !made.to_string().contains("hush"), "{made}");
    client.ok("vim register --config-file kubernetes.yaml VIM2 -f json").await;
    let list = client.ok("vim list -f json").await;
    assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
    let shown = client.ok("vim show VIM1 -f json").await;
    assert!(shown.to_string().contains("nfv_user"), "{shown}");
    client.file("changed.yaml", "username: nfv_user\npassword: newer\nproject_name: nfv\n");
    client.ok("vim set --config-file changed.yaml --description y VIM1 -f json").await;
    let twice = client.fails("vim register --config-file vim.yaml VIM1").await;
    assert!(twice.contains("VIM1"), "{twice}");
    client.ok("vim delete VIM2").await;
    assert_eq!(client.ok("vim list -f json").await.as_array().unwrap().len(), 1);
}

async fn packages(world: &World, client: &Client<'_>) {
    client.file("package.zip", b"PK the package");
    let made = client.ok("vnf package create --user-data owner=me -f json").await;
    let id = made["ID"].as_str().unwrap().to_owned();
    client.ok(&format!("vnf package upload --path package.zip {id}")).await;
    world
        .eventually("the package is onboarded", async || {
            let path = format!("/vnfpkgm/v1/vnf_packages/{id}");
            (world.get(&path).await.body["onboardingState"] == "ONBOARDED").then_some(())
        })
        .await;
    let list = client.ok("vnf package list -f json").await;
    assert_eq!(list[0]["Id"], *id, "{list}");
    let shown = client.ok(&format!("vnf package show {id} -f json")).await;
    assert_eq!(shown["Onboarding State"], "ONBOARDED", "{shown}");
    client.ok(&format!("vnf package download --file whole.zip {id}")).await;
    assert_eq!(client.read("whole.zip"), b"PK the package");
    client.ok(&format!("vnf package download --vnfd --type text/plain --file vnfd.yaml {id}")).await;
    assert!(client.read("vnfd.yaml").starts_with(b"tosca"));
    client.ok(&format!("vnf package download --vnfd --type application/zip --file vnfd.zip {id}")).await;
    assert!(client.read("vnfd.zip").starts_with(b"PK"));
    client.ok(&format!("vnf package download --vnfd --type both --file both {id}")).await;
    client.ok(&format!("vnf package artifact download --file script {id} Scripts/install.sh")).await;
    assert!(client.read("script").starts_with(b"#!/bin/sh"));
    client.ok(&format!("vnf package update --operational-state DISABLED {id} -f json")).await;
    let refused = client.fails(&format!("vnf package update --operational-state DISABLED {id}")).await;
    assert!(refused.contains("DISABLED already"), "{refused}");
    client.ok(&format!("vnf package update --operational-state ENABLED {id} -f json")).await;
    let second = client.ok("vnf package create -f json").await["ID"].as_str().unwrap().to_owned();
    client
        .ok(&format!("vnf package upload --url http://127.0.0.1:1/x.zip --user-name u --password p {second}"))
        .await;
    client.ok(&format!("vnf package delete {second}")).await;
}

async fn life_cycle(world: &World, client: &Client<'_>) {
    let name = format!("vnf-{}", client.version);
    let connection = match client.version {
        "1" => json!([{"id": "vim1", "vimId": "v", "vimType": "openstack"}]),
        _ => json!({"vim1": {"vimId": "v", "vimType": "openstack"}}),
    };
    let link = match client.version {
        "1" => {
            json!([{"id": "l", "resourceId": "n", "extCps": [{"cpdId": "CP", "cpConfig": [{"linkPortId": "p"}]}]}])
        }
        _ => {
            json!([{"id": "l", "resourceId": "n", "extCps": [{"cpdId": "CP", "cpConfig": {"a": {"linkPortId": "p"}}}]}])
        }
    };
    let request = json!({"flavourId": "simple", "vimConnectionInfo": connection, "additionalParams": {"password": "hush"}});
    client.file("inst.json", request.to_string());
    client.file("links.json", json!({"extVirtualLinks": link}).to_string());
    client.file("update.json", json!({"vnfInstanceDescription": "new"}).to_string());
    let made = client.ok(&format!("vnflcm create --name {name} --description d {VNFD} -f json")).await;
    let id = made["ID"].as_str().unwrap().to_owned();
    let version = format!("v{}", client.version);
    // The last occurrence, when it is over.
    let over = async |count: usize| {
        world
            .eventually("the operation is over", async || {
                let path = format!("/vnflcm/v2/vnf_lcm_op_occs?filter=(eq,vnfInstanceId,{id})");
                let all = world.get(&path).await.body;
                let all = all.as_array().unwrap();
                let done = all.iter().filter(|one| one["operationState"] == "COMPLETED").count();
                (all.len() == count && done == count).then_some(())
            })
            .await;
    };
    client.ok(&format!("vnflcm instantiate {id} inst.json")).await;
    over(1).await;
    let shown = client.ok(&format!("vnflcm show {id} -f json")).await;
    assert_eq!(shown["Instantiation State"], "INSTANTIATED", "{shown}");
    let list = client.ok("vnflcm list -f json").await;
    assert!(list.to_string().contains(&name), "{list}");
    client.ok(&format!("vnflcm scale --type SCALE_OUT --aspect-id worker --number-of-steps 1 {id}")).await;
    over(2).await;
    let vnfc = if client.version == "1" { "res-1" } else { "VDU1-res-1" };
    client.ok(&format!("vnflcm heal --cause broken --vnfc-instance {vnfc} -- {id}")).await;
    over(3).await;
    client.ok(&format!("vnflcm update --I update.json {id}")).await;
    over(4).await;
    client.ok(&format!("vnflcm change-ext-conn {id} links.json")).await;
    over(5).await;
    if client.version == "2" {
        let change =
            json!({"vnfdId": VNFD, "additionalParams": {"upgrade_type": "RollingUpdate", "vdu_params": []}});
        client.file("change.json", change.to_string());
        client.ok(&format!("vnflcm change-vnfpkg {id} change.json")).await;
        over(6).await;
    }
    let operations = client.ok("vnflcm op list -f json").await;
    // Those of other instances are among them, in any order.
    let own = operations.as_array().unwrap().iter().find(|one| one["VNF Instance ID"] == id.as_str());
    let operation = own.unwrap()["ID"].as_str().unwrap().to_owned();
    let shown = client.ok(&format!("vnflcm op show {operation} -f json")).await;
    assert_eq!(shown["Operation State"], "COMPLETED", "{shown}");
    assert!(!shown.to_string().contains("hush"));
    let refused = client.fails(&format!("vnflcm delete {id}")).await;
    assert!(refused.contains("INSTANTIATED"), "{refused}");
    client.ok(&format!("vnflcm terminate --termination-type FORCEFUL --D {id}")).await;
    assert_eq!(world.get(&format!("/vnflcm/{version}/vnf_instances/{id}")).await.status, 404);
    verdicts(world, client).await;
}

async fn verdicts(world: &World, client: &Client<'_>) {
    client.file("plain.json", json!({"flavourId": "simple"}).to_string());
    for (verdict, state) in [("retry", "COMPLETED"), ("rollback", "ROLLED_BACK"), ("fail", "FAILED")] {
        let made = client.ok(&format!("vnflcm create --name fails --I plain.json {VNFD} -f json")).await;
        // `--I` prints a line before the JSON.
        let id = match &made {
            Value::String(text) => {
                let start = text.find("\n{").unwrap();
                serde_json::from_str::<Value>(&text[start..]).unwrap()["ID"].as_str().unwrap().to_owned()
            }
            other => other["ID"].as_str().unwrap().to_owned(),
        };
        let path = format!("/vnflcm/v2/vnf_lcm_op_occs?filter=(eq,vnfInstanceId,{id})");
        let operation = world
            .eventually("it failed", async || {
                let all = world.get(&path).await.body;
                (all[0]["operationState"] == "FAILED_TEMP").then(|| all[0]["id"].as_str().unwrap().to_owned())
            })
            .await;
        client.ok(&format!("vnflcm op {verdict} {operation}")).await;
        world.until_state(&format!("/vnflcm/v2/vnf_lcm_op_occs/{operation}"), state).await;
    }
}

async fn subscriptions(client: &Client<'_>) {
    client.file(
        "subscription.json",
        json!({"callbackUri": "http://127.0.0.1:1/x", "filter": {"operationTypes": ["HEAL"]}}).to_string(),
    );
    let made = client.ok("vnflcm subsc create subscription.json -f json").await;
    let id = made["ID"].as_str().unwrap().to_owned();
    assert_eq!(client.ok("vnflcm subsc list -f json").await[0]["ID"], *id);
    let shown = client.ok(&format!("vnflcm subsc show {id} -f json")).await;
    assert_eq!(shown["Callback URI"], "http://127.0.0.1:1/x", "{shown}");
    client.ok(&format!("vnflcm subsc delete {id}")).await;
    assert_eq!(client.ok("vnflcm subsc list -f json").await, json!([]));
}
