//! Hosts of a site are handed to an orchestrator of workloads.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::hmac;
use axum::http::StatusCode;
use drystone_api::{BareMetalHost, Cluster, HandOffState, SITE_LABEL, Site, SiteHandOffStatus};
use drystone_engine::{backoff::Backoff, events::Silent, harness::Caches};
use drystone_identity::{CertificateProfile, ca::CertificateAuthority, tls::ServerIdentity};
use drystone_sites::local::{self, LocalConfig};
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    receiver::{Manners, Receiver},
    world::{Server, eventually, host},
};

/// The controllers of a site, as they run at it.
struct Local {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Local {
    fn start(server: &Server) -> Self {
        let stop = CancellationToken::new();
        let caches = Caches::new(server.client.clone(), stop.clone());
        let config = LocalConfig {
            patience: Duration::from_secs(3600),
            hand_off_backoff: Backoff {
                initial: Duration::from_millis(20),
                maximum: Duration::from_millis(200),
            },
            ..LocalConfig::new(caches, Arc::new(Silent))
        };
        let task = tokio::spawn(local::run(server.client.clone(), config, stop.clone()));
        Self { stop, task }
    }

    /// Ends it without a chance to finish anything.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.stop.cancel();
    }
}

/// A host of the site, with its operating system on it or without.
async fn bare_metal(server: &Server, name: &str, state: &str) {
    let hosts = server.all::<BareMetalHost>();
    let labels = json!({SITE_LABEL: "east", "tier": "gold"});
    let object = json!({"apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "spec": {"online": true},
        "metadata": {"name": name, "labels": labels}});
    if hosts.get_opt(name).await.unwrap().is_none() {
        hosts.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
    }
    let hardware = json!({"hostname": name, "ramMebibytes": 8192, "cpu": {"arch": "x86_64", "count": 4},
        "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "ip": "10.0.0.7"}]});
    let status = json!({"status": {"operationalStatus": "OK", "errorMessage": "", "errorCount": 0, "poweredOn": true,
        "provisioning": {"state": state, "ID": ""}, "hardware": hardware}});
    hosts.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
}

async fn site(server: &Server, hosts: &[&str], hand_off: Value) {
    let list: Vec<Value> = hosts.iter().map(|name| host(name)).collect();
    let site = json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Site", "metadata": {"name": "east"},
        "spec": {"bmcs": list, "handOff": hand_off}});
    let site: Site = serde_json::from_value(site).unwrap();
    server.all::<Site>().create(&PostParams::default(), &site).await.unwrap();
}

async fn list(server: &Server, hosts: &[&str]) {
    let list: Vec<Value> = hosts.iter().map(|name| host(name)).collect();
    server.patch_site("east", "user", json!({"spec": {"bmcs": list}})).await;
}

async fn secret(server: &Server, name: &str, key: &str, value: &[u8]) {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some([(key.to_owned(), ByteString(value.to_vec()))].into()),
        ..Secret::default()
    };
    let params = PatchParams::apply("test").force();
    server.all::<Secret>().patch(name, &params, &Patch::Apply(&secret)).await.unwrap();
}

/// Who has a host.
async fn consumer(server: &Server, name: &str) -> Option<String> {
    let host = server.all::<BareMetalHost>().get(name).await.unwrap();
    host.spec.consumer_ref.map(|consumer| consumer.to_string())
}

/// Waits for the condition to be as `wanted` says of `STATUS REASON message`.
async fn condition(server: &Server, what: &str, wanted: impl Fn(&str) -> bool) -> SiteHandOffStatus {
    eventually(what, || async {
        let status = server.site("east").await?.status?;
        let found = status.conditions.iter().find(|condition| condition.type_ == "HandedOff")?;
        let text = format!("{} {} {}", found.status, found.reason, found.message);
        wanted(&text).then(|| status.hand_off.unwrap_or_default())
    })
    .await
}

/// Waits until the last document is the one that is wanted, and it is noted that it was taken.
async fn delivered(server: &Server, receiver: &Receiver, shown: &str) -> SiteHandOffStatus {
    eventually(shown, || async {
        let last = receiver.last().filter(|last| last.shown() == shown)?;
        let record = server.site("east").await?.status?.hand_off?;
        (record.delivered_generation == Some(last.generation())).then_some(record)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_follows_the_list_whatever_happens_to_it() {
    let (server, mut receiver) = (Server::start().await, Receiver::start().await);
    let running = Local::start(&server);
    receiver.behaves(Manners { token: Some("right"), ..Manners::default() });
    secret(&server, "orchestrator", "token", b"wrong\n").await;
    let hand_off = json!({"webhook": {"url": receiver.url(),
        "credentialsRef": {"namespace": "vault", "name": "east-ssh"},
        "authentication": {"type": "Bearer", "secretName": "orchestrator"}}});
    bare_metal(&server, "a", "provisioning").await;
    site(&server, &["a", "b"], hand_off).await;
    condition(&server, "a reason to wait", |text| {
        text == "False WaitingForHosts no host has its operating system yet: a, b"
    })
    .await;
    assert!(receiver.told().is_empty());

    // A bad token: told, and tried again.
    bare_metal(&server, "a", "provisioned").await;
    let refused = format!("False NotDelivered generation 1: {} answered 401: who are you?", receiver.url());
    condition(&server, "the refusal", |text| text == refused).await;
    eventually("another attempt", || async { (receiver.told().len() > 2).then_some(()) }).await;
    secret(&server, "orchestrator", "token", b"right\n").await;
    let record = delivered(&server, &receiver, "Present a").await;
    assert_eq!((record.generation, record.hosts.clone()), (1, vec!["a".to_owned()]));
    let document = receiver.last().unwrap().document();
    let uid = server.site("east").await.unwrap().metadata.uid.unwrap();
    assert_eq!(document["id"], uid.as_str());
    assert_eq!(document["site"], json!({"namespace": "drystone-system", "name": "east"}));
    assert_eq!(document["credentialsRef"], json!({"namespace": "vault", "name": "east-ssh"}));
    let expected = json!({"name": "a", "state": "Present", "role": "worker", "addresses": ["10.0.0.7"],
        "labels": {"tier": "gold"}, "hardware": {"manufacturer": "", "productName": "", "serialNumber": "",
        "architecture": "x86_64", "cpus": 4, "memoryMebibytes": 8192, "storageBytes": 0,
        "nics": [{"name": "eth0", "mac": "52:54:00:00:00:01", "speedGbps": 0}]}});
    assert_eq!(document["hosts"], json!([expected]));

    // A host comes.
    bare_metal(&server, "b", "provisioned").await;
    assert_eq!(delivered(&server, &receiver, "Present a b").await.generation, 2);

    // One goes while the orchestrator is down.
    receiver.down().await;
    list(&server, &["b"]).await;
    let record = condition(&server, "no connection", |text| {
        text.starts_with("False NotDelivered generation 3: ") && text.contains("no connection")
    })
    .await;
    assert_eq!((record.delivered_generation, record.withdrawn), (Some(2), vec!["a".to_owned()]));
    let site_itself = Some("Site/drystone-system/east".to_owned());
    assert_eq!(consumer(&server, "a").await, site_itself, "it is not let go yet");
    receiver.up().await;
    let record = delivered(&server, &receiver, "Present -a b").await;
    assert_eq!((record.generation, record.hosts), (3, vec!["b".to_owned()]));
    eventually("the host is given back", || async { consumer(&server, "a").await.is_none().then_some(()) })
        .await;
    assert_eq!(consumer(&server, "b").await, site_itself);

    // What it says of itself is shown.
    let body = r#"{"phase": "Ready", "message": "2 slots"}"#.to_owned();
    receiver.behaves(Manners { body, ..Manners::default() });
    list(&server, &["b", "a"]).await;
    condition(&server, "its words", |text| text == "True Delivered generation 4: 2 hosts; Ready; 2 slots")
        .await;

    // The site goes when the orchestrator knows.
    receiver.down().await;
    server.all::<Site>().delete("east", &DeleteParams::default()).await.unwrap();
    let record = condition(&server, "the withdrawal", |text| text.starts_with("False Withdrawing ")).await;
    assert_eq!((record.generation, record.state), (5, HandOffState::Withdrawn));
    receiver.up().await;
    eventually("no site", || async { server.site("east").await.is_none().then_some(()) }).await;
    assert_eq!(receiver.last().unwrap().shown(), "Withdrawn -a -b");
    assert_eq!((consumer(&server, "a").await, consumer(&server, "b").await), (None, None));
    receiver.assert_consistent();
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_killed_repeats_itself() {
    let (server, receiver) = (Server::start().await, Receiver::start().await);
    let running = Local::start(&server);
    bare_metal(&server, "a", "provisioned").await;
    // It is told, and the controller does not hear that it has taken it.
    receiver.behaves(Manners { is_silent: true, ..Manners::default() });
    site(&server, &["a"], json!({"webhook": {"url": receiver.url(), "timeout": "60s"}})).await;
    eventually("a document", || async { receiver.last() }).await;
    running.kill().await;
    let record = server.site("east").await.unwrap().status.unwrap().hand_off.unwrap();
    assert_eq!((record.generation, record.delivered_generation), (1, None));

    receiver.behaves(Manners::default());
    let running = Local::start(&server);
    let record = delivered(&server, &receiver, "Present a").await;
    assert_eq!(record.generation, 1);
    let told = receiver.told();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0].body, told[1].body);
    running.kill().await;

    // What was taken is not told again; what is new is.
    let running = Local::start(&server);
    bare_metal(&server, "b", "provisioned").await;
    list(&server, &["a", "b"]).await;
    assert_eq!(delivered(&server, &receiver, "Present a b").await.generation, 2);
    assert_eq!(receiver.told().len(), 3);

    // Something else is so when it comes back: that is told under another number, and the host that was told of is withdrawn.
    receiver.behaves(Manners { is_silent: true, ..Manners::default() });
    bare_metal(&server, "c", "provisioned").await;
    list(&server, &["a", "b", "c"]).await;
    eventually("a third one", || async { receiver.last().filter(|last| last.generation() == 3) }).await;
    running.kill().await;
    list(&server, &["a"]).await;
    receiver.behaves(Manners::default());
    let running = Local::start(&server);
    assert_eq!(delivered(&server, &receiver, "Present a -b -c").await.generation, 4);
    receiver.assert_consistent();
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_orchestrator_is_left_for_another_one_and_for_none() {
    let (server, mut first, second) =
        (Server::start().await, Receiver::start().await, Receiver::start().await);
    let running = Local::start(&server);
    bare_metal(&server, "a", "provisioned").await;
    // One that is at work is asked again until it is done.
    let body = r#"{"phase": "InProgress", "message": "joining"}"#.to_owned();
    first.behaves(Manners { body, ..Manners::default() });
    site(&server, &["a"], json!({"webhook": {"url": first.url()}})).await;
    condition(&server, "its work", |text| {
        text == "False InProgress generation 1: 1 host; InProgress; joining"
    })
    .await;
    eventually("another question", || async { (first.told().len() > 2).then_some(()) }).await;
    first.behaves(Manners::default());
    condition(&server, "its end", |text| text == "True Delivered generation 1: 1 host").await;

    server.patch_site("east", "user", json!({"spec": {"handOff": {"webhook": {"url": second.url()}}}})).await;
    assert_eq!(delivered(&server, &second, "Present a").await.generation, 3);
    assert_eq!(first.last().unwrap().shown(), "Withdrawn -a");

    // The first one is wanted again, and has been told more than is known here.
    let conflict = Manners {
        status: StatusCode::CONFLICT,
        body: r#"{"generation": 40}"#.to_owned(),
        ..Manners::default()
    };
    first.behaves(conflict);
    server.patch_site("east", "user", json!({"spec": {"handOff": {"webhook": {"url": first.url()}}}})).await;
    eventually("a later number", || async {
        first.last().filter(|last| last.generation() == 41).map(|last| assert_eq!(last.shown(), "Present a"))
    })
    .await;
    first.behaves(Manners::default());
    delivered(&server, &first, "Present a").await;
    assert_eq!(second.last().unwrap().shown(), "Withdrawn -a");

    // A host of somebody else is nothing to it.
    let taken = json!({"spec": {"consumerRef": {"apiVersion": "drystone.dev/v1alpha1", "kind": "Composition",
        "namespace": "edge", "name": "c"}}});
    bare_metal(&server, "b", "available").await;
    let hosts = server.all::<BareMetalHost>();
    hosts.patch("b", &PatchParams::default(), &Patch::Merge(&taken)).await.unwrap();
    bare_metal(&server, "b", "provisioned").await;
    bare_metal(&server, "c", "provisioned").await;
    list(&server, &["a", "b", "c"]).await;
    delivered(&server, &first, "Present a c").await;

    // None is wanted any more, and the orchestrator is gone for good.
    first.down().await;
    let limit = json!({"spec": {"handOff": {"webhook": {"withdrawalLimit": "0s"}}}});
    server.patch_site("east", "user", limit).await;
    eventually("the limit", || async {
        let target = server.site("east").await?.status?.hand_off?.target?;
        target.webhook?.withdrawal_limit.map(drop)
    })
    .await;
    server.patch_site("east", "user", json!({"spec": {"handOff": null}})).await;
    eventually("the end", || async {
        let site = server.site("east").await?;
        let status = site.status?;
        let is_over = !status.conditions.iter().any(|condition| condition.type_ == "HandedOff")
            && status.hand_off?.gave_up
            && site.metadata.finalizers.is_none_or(|all| all.is_empty());
        is_over.then_some(())
    })
    .await;
    assert_eq!(consumer(&server, "a").await, None);
    assert_eq!(consumer(&server, "b").await.as_deref(), Some("Composition/edge/c"));
    second.assert_consistent();
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orchestrator_shows_a_certificate_and_sees_a_signature() {
    const KEY: &str = "0123456789abcdef0123456789abcdef";
    let authority = |name: &str| {
        CertificateAuthority::generate(name, Duration::from_secs(3600), Timestamp::now()).unwrap()
    };
    let (ours, others) = (authority("ours"), authority("others"));
    let profile = CertificateProfile::server("orchestrator").ip([std::net::Ipv4Addr::LOCALHOST.into()]);
    let identity = ServerIdentity::new(&ours.issue(&profile, Timestamp::now()).unwrap()).unwrap();
    let (server, receiver) = (Server::start().await, Receiver::start_tls(identity).await);
    let running = Local::start(&server);
    let trust = async |authority: &CertificateAuthority| {
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some("authorities".to_owned()), ..ObjectMeta::default() },
            data: Some([("ca.crt".to_owned(), authority.certificate_pem())].into()),
            ..ConfigMap::default()
        };
        let params = PatchParams::apply("test").force();
        server.all::<ConfigMap>().patch("authorities", &params, &Patch::Apply(&map)).await.unwrap();
    };
    trust(&others).await;
    bare_metal(&server, "a", "provisioned").await;
    let hand_off = json!({"webhook": {"url": format!("https://{}/hosts", receiver.address),
        "caConfigMapName": "authorities", "authentication": {"type": "HMAC", "secretName": "signing"}}});
    site(&server, &["a"], hand_off).await;
    condition(&server, "no key", |text| {
        text.contains("spec.handOff.webhook.authentication.secretName: ") && text.contains("signing")
    })
    .await;
    secret(&server, "signing", "hmac-key", b"short").await;
    condition(&server, "a short key", |text| {
        text.contains("hmac-key of Secret signing is shorter than 16 bytes")
    })
    .await;
    secret(&server, "signing", "hmac-key", KEY.as_bytes()).await;
    condition(&server, "a stranger", |text| text.contains("no connection: ") && text.contains("certificate"))
        .await;
    assert!(receiver.told().is_empty());
    trust(&ours).await;
    delivered(&server, &receiver, "Present a").await;
    let told = receiver.last().unwrap();
    let signature = told.headers["x-drystone-signature"].to_str().unwrap().strip_prefix("sha256=").unwrap();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, KEY.as_bytes()), &told.body);
    let digits: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(signature, digits);
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_neither_waited_for_nor_read_for_ever() {
    let (server, receiver) = (Server::start().await, Receiver::start().await);
    let running = Local::start(&server);
    bare_metal(&server, "a", "provisioned").await;
    receiver.behaves(Manners { is_silent: true, ..Manners::default() });
    site(&server, &["a"], json!({"webhook": {"url": receiver.url(), "timeout": "1s"}})).await;
    condition(&server, "the limit of time", |text| text.ends_with("/hosts: no answer within 1 s")).await;
    let body = format!(r#"{{"phase": "Accepted", "more": "{}"}}"#, "x".repeat(70_000));
    receiver.behaves(Manners { body, ..Manners::default() });
    condition(&server, "the limit of size", |text| text.ends_with("its answer has more than 65536 bytes"))
        .await;
    // Somebody else than who is named does not get it.
    let other = Receiver::start().await;
    receiver.behaves(Manners {
        status: StatusCode::TEMPORARY_REDIRECT,
        location: other.url(),
        ..Manners::default()
    });
    condition(&server, "a redirection", |text| text.ends_with("/hosts answered 307")).await;
    assert!(other.told().is_empty());
    receiver.behaves(Manners {
        body: r#"{"phase": "Failed", "message": "no room"}"#.to_owned(),
        ..Manners::default()
    });
    let record =
        condition(&server, "a failure", |text| text == "False NotDelivered generation 1: Failed: no room")
            .await;
    assert_eq!((record.phase.as_str(), record.delivered_generation), ("Failed", None));
    receiver.behaves(Manners::default());
    delivered(&server, &receiver, "Present a").await;
    receiver.assert_consistent();
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_by_the_field() {
    let server = Server::start().await;
    let running = Local::start(&server);
    let spec = |hand_off: Value| {
        json!({"apiVersion": "drystone.dev/v1alpha1", "kind": "Site",
        "metadata": {"name": "bad"}, "spec": {"handOff": hand_off}})
    };
    for (hand_off, field) in [
        (json!({}), "spec.handOff"),
        (json!({"kubernetes": {}, "webhook": {"url": "https://x/"}}), "spec.handOff"),
        (json!({"webhook": {"url": "https://user:password@x/"}}), "spec.handOff.webhook.url"),
        (json!({"webhook": {"url": "ftp://x/"}}), "spec.handOff.webhook.url"),
        (json!({"webhook": {"url": "https://x/", "timeout": "soon"}}), "spec.handOff.webhook.timeout"),
        (
            json!({"webhook": {"url": "https://x/", "credentialsRef": {"namespace": "n"}}}),
            "spec.handOff.webhook.credentialsRef.name",
        ),
        (
            json!({"webhook": {"url": "https://x/", "authentication": {"type": "Basic", "secretName": "s"}}}),
            "spec.handOff.webhook.authentication.type",
        ),
    ] {
        let request = http::Request::post("/apis/drystone.dev/v1alpha1/namespaces/drystone-system/sites")
            .header("content-type", "application/json")
            .body(spec(hand_off).to_string().into_bytes())
            .unwrap();
        let error = server.client.request::<Value>(request).await.unwrap_err().to_string();
        assert!(error.contains(&format!("{field}:")), "{error}");
    }

    // What the schema cannot say is said in the status, and nothing is told.
    site(&server, &[], json!({"webhook": {"url": "http://192.0.2.1/"}})).await;
    condition(&server, "the refusal", |text| {
        text == "False Invalid spec.handOff.webhook.url: http only leads to this machine: use https, or set allowPlainText"
    })
    .await;
    server
        .patch_site("east", "user", json!({"spec": {"handOff": {"webhook": null, "kubernetes": {}}}}))
        .await;
    condition(&server, "no cluster", |text| {
        text.starts_with("False Invalid spec.handOff.kubernetes: needs spec.cluster")
    })
    .await;
    running.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_handed_to_the_cluster_of_the_site() {
    let server = Server::start().await;
    let running = Local::start(&server);
    for name in ["a", "b"] {
        bare_metal(&server, name, "available").await;
    }
    site(&server, &["a", "b"], json!({"kubernetes": {}})).await;
    let roles = [("a", "ControlPlane"), ("b", "Worker")].map(|(name, role)| {
        let mut host = host(name);
        host["role"] = role.into();
        host
    });
    let with_cluster = json!({"spec": {"cluster": {"namespace": "edge"}, "bmcs": roles}});
    server.patch_site("east", "user", with_cluster).await;
    let clusters: Api<Cluster> = Api::namespaced(server.client.clone(), "edge");
    eventually("a cluster", || async { clusters.get_opt("east").await.unwrap() }).await;
    condition(&server, "no nodes", |text| {
        text == "False WaitingForHosts no host is a node that is ready yet: a, b"
    })
    .await;
    for name in ["a", "b"] {
        bare_metal(&server, name, "provisioned").await;
    }
    // As the cluster's own controller writes it.
    let members = async |members: Value| {
        let status =
            json!({"status": {"phase": "Ready", "members": members, "kubeconfigSecret": "east-kubeconfig"}});
        clusters.patch_status("east", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    };
    let member = |host: &str, ready: bool| json!({"host": host, "role": "Worker", "ready": ready});
    members(json!([member("a", true), member("b", false)])).await;
    let record =
        condition(&server, "one host", |text| text.ends_with(": 1 host") && text.starts_with("True")).await;
    assert_eq!(record.hosts, ["a"]);
    members(json!([member("a", true), member("b", true)])).await;
    let record =
        condition(&server, "two hosts", |text| text.ends_with(": 2 hosts") && text.starts_with("True")).await;
    // A node that is not ready for a while has not left.
    members(json!([member("a", true), member("b", false)])).await;
    server.patch_site("east", "user", json!({"spec": {"bmcs": [roles[0].clone()]}})).await;
    let staying =
        condition(&server, "one that stays", |text| text.ends_with("InProgress: b still in the cluster"))
            .await;
    assert_eq!((staying.generation, staying.withdrawn), (record.generation + 1, vec!["b".to_owned()]));
    members(json!([member("a", true)])).await;
    let record =
        condition(&server, "one host again", |text| text.ends_with(": 1 host") && text.starts_with("True"))
            .await;
    assert_eq!(record.delivered_generation, Some(staying.generation));
    running.kill().await;
}
