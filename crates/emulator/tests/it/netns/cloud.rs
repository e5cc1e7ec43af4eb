//! Machines of the cloud: reached over SSH through the site's gateway, with volumes that outlive them, gone without a trace.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use drystone_emulator::{netns::inspect_leftovers, site::SiteFile};
use drystone_identity::Secret;
use drystone_ssh::{
    CommandLine, Credentials, HostKeys, HttpConnectProxy, PrivateKey, Privilege, Session as Ssh, Target,
    Timeouts,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::site::{PATIENCE, cannot_run, which};
use crate::cloud::client::{Session, TestCloud, ids};

const SITE: &str = "
name: NAME
backend: netns
fabrics:
- {id: Ethernet, switches: [{name: eth-a, ports: 2, speedGbps: 25}]}
gateway: {nodeAddress: 10.20.0.1/16, campusAddress: 203.0.113.1/24, switch: eth-a}
cloud:
  users: [{name: nfv_user, password: devstack, project: nfv}]
  networks: [{name: net0, cidr: 10.10.0.0/24}, {name: ext, cidr: 172.24.4.0/24}]
  images: [{name: ubuntu, users: [{name: ubuntu, password: passw0rd}]}]
  flavors: [{name: m1.small, cores: 1, memoryMiB: 512, diskGiB: 5}]
";

const TEMPLATE: &str = "
heat_template_version: 2013-05-23
parameters: {key: {type: string}, workers: {type: number, default: 1}}
resources:
  volume: {type: OS::Cinder::Volume, properties: {size: 1}}
  storage_CP: {type: OS::Neutron::Port, properties: {network: net0}}
  storage_FIP: {type: OS::Neutron::FloatingIP, properties: {floating_network: ext, port_id: {get_resource: storage_CP}}}
  storage:
    type: OS::Nova::Server
    properties:
      name: storage
      flavor: m1.small
      image: ubuntu
      networks: [{port: {get_resource: storage_CP}}]
      block_device_mapping_v2: [{volume_id: {get_resource: volume}, device_name: vdb, boot_index: -1}]
  workers:
    type: OS::Heat::AutoScalingGroup
    properties:
      min_size: 0
      max_size: 3
      desired_capacity: {get_param: workers}
      resource:
        type: OS::Nova::Server
        properties:
          flavor: m1.small
          image: ubuntu
          networks: [{network: net0}]
          user_data_format: RAW
          user_data:
            str_replace:
              params: {$key: {get_param: key}}
              template: |
                #cloud-config
                ssh_authorized_keys: [$key]
                users: [default, {name: nfv, plain_text_passwd: 'other word'}]
                write_files: [{path: /etc/motd, content: hello}]
                runcmd: ['hostname > /var/lib/ran']
";

/// Logs in through the gateway, as soon as the machine lets us.
async fn log_in(cloud: &TestCloud, address: &str, user: &str, credentials: Credentials) -> Ssh {
    let gateway = cloud.emulator().endpoints().gateway.clone().unwrap();
    let proxy =
        HttpConnectProxy::from_url(&gateway.proxy_url, Some((gateway.user, Secret::new(gateway.password))));
    let target = Target {
        address: SocketAddr::new(address.parse().unwrap(), 22),
        proxy: Some(proxy.unwrap()),
        user: user.to_owned(),
        credentials,
        host_keys: HostKeys::LearnFirst,
    };
    let end = Instant::now() + PATIENCE;
    loop {
        match Ssh::connect(&target, Timeouts::default()).await {
            Ok(session) => return session,
            Err(error) => assert!(Instant::now() < end, "{address}: {error}{}", stories(cloud)),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What the machines have to say, for a failing test.
fn stories(cloud: &TestCloud) -> String {
    let hosts = std::fs::read_dir(cloud.state().join("hosts")).unwrap().flatten();
    let logs = hosts.flat_map(|host| {
        ["progress", "console.log", "disk/own/var-log/cloud-init-output.log", "disk/own/var-log/init.log"]
            .map(|log| host.path().join(log))
    });
    logs.map(|log| format!("\n--- {}\n{}", log.display(), std::fs::read_to_string(&log).unwrap_or_default()))
        .collect()
}

fn password() -> Credentials {
    Credentials::Password(Secret::new("passw0rd"))
}

/// What a program says that must succeed; as root.
async fn run(session: &Ssh, program: &str) -> String {
    let command = CommandLine::new(program).privilege(Privilege::Root(None));
    let outcome = session.run(command, PATIENCE, |_, _| {}).await.unwrap();
    assert!(outcome.is_success(), "{program}: {} {}", outcome.exit, outcome.stderr.text());
    outcome.stdout.text().trim().to_owned()
}

async fn address(session: &Session, resource: &str, pointer: &str) -> String {
    let shown = session.get(&format!("/stacks/vnf/resources/{resource}")).await;
    shown["resource"]["attributes"]
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{shown}"))
        .to_owned()
}

async fn worker_addresses(session: &Session) -> Vec<String> {
    let resources = session.resources("vnf").await;
    let mut found = Vec::new();
    for worker in resources.iter().filter(|one| one["parent_resource"] == "workers") {
        let path =
            worker["links"][0]["href"].as_str().unwrap().strip_prefix(&session.heat).unwrap().to_owned();
        let shown = session.get(&path).await;
        found.push(
            shown["resource"]["attributes"]["addresses"]["net0"][0]["addr"].as_str().unwrap().to_owned(),
        );
    }
    found
}

fn ready() -> Option<(String, SiteFile)> {
    if cannot_run() {
        return None;
    }
    for tool in ["sshd", "sudo", "losetup", "mkfs.ext4", "blkid"] {
        if which(tool).is_none() && !std::path::Path::new("/usr/sbin").join(tool).exists() {
            println!("skipped: {tool} is not installed");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return None;
        }
    }
    let text = SITE.replace("NAME", &format!("c{}", std::process::id()));
    let site = SiteFile::parse(&text).unwrap();
    Some((text, site))
}

async fn create(session: &Session, key: &PrivateKey) {
    let body = json!({"stack_name": "vnf", "template": TEMPLATE, "parameters": {"key": key.public_key()}});
    session.create(&body).await;
    session.wait_for("vnf", "CREATE_COMPLETE").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_outlives_its_machine_and_nothing_outlives_the_stack() {
    let Some((text, site)) = ready() else { return };
    let mut cloud = TestCloud::start(&text).await;
    let session = cloud.session().await;
    let start = Instant::now();
    create(&session, &PrivateKey::generate().unwrap()).await;
    println!("two machines were made in {:?}", start.elapsed());
    let at = address(&session, "storage", "/addresses/net0/0/addr").await;
    let storage = log_in(&cloud, &at, "ubuntu", password()).await;
    println!("and let us in after {:?}", start.elapsed());
    assert_eq!(run(&storage, "id -un && hostname").await, "root\nstorage");
    run(
        &storage,
        "mkfs.ext4 -q /dev/vdb && mkdir /data && mount UUID=$(blkid -s UUID -o value /dev/vdb) /data",
    )
    .await;
    run(&storage, "echo kept > /data/file && sync && echo here > /run/marker").await;
    for worker in worker_addresses(&session).await {
        run(&storage, &format!("ping -c 1 -W 20 {worker}")).await;
    }
    let floating = address(&session, "storage_FIP", "/floating_ip_address").await;
    let by_floating = log_in(&cloud, &floating, "ubuntu", password()).await;
    assert_eq!(run(&by_floating, "cat /run/marker").await, "here");
    let key = storage.host_key().public_key.clone();

    // The emulator is killed: machines run on.
    drop((storage, by_floating));
    cloud.restart().await;
    let session = cloud.session().await;
    let storage = log_in(&cloud, &at, "ubuntu", password()).await;
    assert_eq!(run(&storage, "cat /run/marker && cat /data/file").await, "here\nkept");
    assert_eq!(storage.host_key().public_key, key);

    // The site is taken down and started again: machines boot from their disks.
    drop(storage);
    cloud.take_down().await;
    assert_eq!(leftovers(&site, &cloud), Vec::<String>::new());
    cloud.start_again().await;
    let session_again = cloud.session().await;
    let storage = log_in(&cloud, &at, "ubuntu", password()).await;
    assert_eq!(storage.host_key().public_key, key, "its host key is its own for life");
    assert_eq!(
        run(&storage, "test ! -e /run/marker && mount /dev/vdb /data && cat /data/file").await,
        "kept"
    );

    // The machine is replaced: another one at the same address has the volume.
    drop((storage, session));
    let session = session_again;
    let before = session.resources("vnf").await;
    let mark = json!({"mark_unhealthy": true, "resource_status_reason": "healed"});
    assert_eq!(session.patch("/stacks/vnf/resources/storage", &mark).await, StatusCode::OK);
    assert_eq!(session.patch("/stacks/vnf", &json!({})).await, StatusCode::ACCEPTED);
    session.wait_for("vnf", "UPDATE_COMPLETE").await;
    let after = session.resources("vnf").await;
    assert_ne!(ids(&before, "storage"), ids(&after, "storage"));
    assert_eq!(ids(&before, "volume"), ids(&after, "volume"));
    let storage = log_in(&cloud, &at, "ubuntu", password()).await;
    assert_ne!(storage.host_key().public_key, key);
    assert_eq!(
        run(&storage, "test ! -e /data && mkdir /data && mount /dev/vdb /data && cat /data/file").await,
        "kept"
    );
    drop(storage);

    assert_eq!(session.send(Method::DELETE, "/stacks/vnf", None).await.0, StatusCode::NO_CONTENT);
    let end = Instant::now() + PATIENCE;
    while session.send(Method::GET, "/stacks/vnf", None).await.0 != StatusCode::NOT_FOUND {
        assert!(Instant::now() < end);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let machines = std::fs::read_dir(cloud.state().join("hosts")).unwrap().count();
    let volumes = std::fs::read_dir(cloud.state().join("volumes")).unwrap().count();
    assert_eq!((machines, volumes), (0, 0));
    cloud.take_down().await;
    assert_eq!(leftovers(&site, &cloud), Vec::<String>::new());
}

/// What is left; the kernel may take its time to let go of a loop device.
fn leftovers(site: &SiteFile, cloud: &TestCloud) -> Vec<String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = inspect_leftovers(site, &cloud.state());
        if left.is_empty() || Instant::now() > end {
            return left;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_data_say_who_gets_in() {
    let Some((text, _)) = ready() else { return };
    let cloud = TestCloud::start(&text).await;
    let session = cloud.session().await;
    let key = PrivateKey::generate().unwrap();
    create(&session, &key).await;
    let at = worker_addresses(&session).await.remove(0);
    let worker = log_in(&cloud, &at, "ubuntu", Credentials::Key(key)).await;
    assert_eq!(
        run(&worker, "cat /etc/motd; test -s /var/lib/ran && echo; ls /dev | grep -c loop || true").await,
        "hello\n0"
    );
    let other = log_in(&cloud, &at, "nfv", Credentials::Password(Secret::new("other word"))).await;
    assert_eq!(run(&other, "whoami").await, "root");
    // A machine more, on the network of the others.
    let body = json!({"parameters": {"workers": 2}});
    assert_eq!(session.patch("/stacks/vnf", &body).await, StatusCode::ACCEPTED);
    session.wait_for("vnf", "UPDATE_COMPLETE").await;
    let addresses = worker_addresses(&session).await;
    let new = addresses.iter().find(|address| **address != at).unwrap();
    drop(log_in(&cloud, new, "ubuntu", password()).await);
    assert_eq!(run(&worker, "whoami").await, "root", "the one that was there runs on");
    drop((worker, other));
    cloud.stop().await;
}
