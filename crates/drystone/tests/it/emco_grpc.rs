//! EMCO's gRPC contract and its command line's files on a running Drystone: who may call, what is answered, and statuses as they change.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use drystone_appcontext::{
    ContextId,
    contract::{ActionController as _, ControllerError, Synchroniser as _},
};
use drystone_emco_grpc::{
    Address, Controller, Health, Options, Pool, Security, Tls,
    notices::{
        ReadinessNotices as _, StatusKind, StatusNotices as _, StatusQuery, StatusSubject, StatusValue,
    },
};
use futures::StreamExt as _;
use tokio::time::timeout;

use crate::process::{Up, drystone};

const PATIENCE: Duration = Duration::from_secs(300);

const FILE: &str = "resourceContext: {anchor: projects}\nmetadata: {name: {{.Project}}, description: one}\n---\n\
    resourceContext: {anchor: projects/{{.Project}}/logical-clouds}\nmetadata: {name: lc}\nspec: {level: \"0\"}\n";

fn id() -> ContextId {
    ContextId::new(77).expect("a context")
}

fn controller(address: Address) -> (Pool, Controller) {
    let pool = Pool::new(Options { controller_deadline: PATIENCE, ..Options::default() });
    pool.set("drystone", address).expect("an address");
    let controller = pool.controller("drystone");
    (pool, controller)
}

fn query(logical_cloud: &str) -> StatusQuery {
    StatusQuery {
        client: logical_cloud.to_owned(),
        subject: StatusSubject::LogicalCloud {
            project: "p1".into(),
            logical_cloud: logical_cloud.to_owned(),
        },
        kind: StatusKind::Ready,
        apps: Vec::new(),
        clusters: Vec::new(),
        resources: Vec::new(),
        details: false,
    }
}

/// Runs `drystone app`, and returns what it prints.
fn app(url: &str, folder: &Path, arguments: &[&str]) -> String {
    let output = drystone()
        .current_dir(folder)
        .arg("app")
        .args(arguments)
        .args(["--server", url])
        .output()
        .expect("run");
    let (said, complaint) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "app {arguments:?}: {said}{complaint}");
    said.into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_orchestrators_and_clients_are_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0", "--http-trust-loopback"]);
    let (secure, plain) = (up.address("https").expect("HTTPS"), up.address("http").expect("HTTP"));
    let (pool, drystone) = controller(Address::plain("127.0.0.1", plain.port()));
    let mut states = pool.watch("drystone").expect("known");
    let ready = states.wait_for(|state| state.health == Health::Ready);
    timeout(PATIENCE, ready).await.expect("it answers").expect("it is watched");

    // Nobody leads at first, and who does not lead says so.
    let begun = Instant::now();
    let refused = loop {
        match drystone.install(id()).await {
            Err(ControllerError::Unreachable(_)) if begun.elapsed() < PATIENCE => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            other => break other,
        }
    };
    assert!(matches!(&refused, Err(ControllerError::Refused(said)) if said.contains("77")), "{refused:?}");
    let mut news = drystone.alert("me", id()).await.expect("a stream");
    let refused = timeout(PATIENCE, news.next()).await.expect("an answer");
    assert!(
        matches!(&refused, Some(Err(ControllerError::Refused(said))) if said.contains("no AppContext 77"))
    );
    // What is ours is not for others to call.
    let unknown = drystone.update_context(id(), "i", None).await;
    assert!(matches!(unknown, Err(ControllerError::Unimplemented(_))), "{unknown:?}");

    let (folder, url) = (directory.path(), format!("http://{plain}"));
    std::fs::write(folder.join("file.yaml"), FILE).expect("written");
    std::fs::write(folder.join("values.yaml"), "Project: p1\n").expect("written");
    let file = ["-f", "file.yaml", "-v", "values.yaml"];
    let said = app(&url, folder, &[&["apply"], &file[..]].concat());
    assert_eq!(said, "created   projects/p1\ncreated   projects/p1/logical-clouds/lc\n");
    assert!(app(&url, folder, &["get", "projects/p1"]).contains("\"description\": \"one\""));
    let mut news = drystone.register(query("lc")).await.expect("a stream");
    let first = timeout(PATIENCE, news.next()).await.expect("a status").expect("one").expect("a notice");
    assert_eq!(first.value, StatusValue::NotReady);
    let mut nothing = drystone.register(query("nothing")).await.expect("a stream");
    let refused = timeout(PATIENCE, nothing.next()).await.expect("an answer");
    assert!(matches!(refused, Some(Err(ControllerError::Refused(_)))), "{refused:?}");
    let said = app(&url, folder, &[&["delete"], &file[..]].concat());
    assert_eq!(said, "removed   projects/p1/logical-clouds/lc\nremoved   projects/p1\n");
    // Its subject is gone, and so the stream ends.
    let ended = timeout(PATIENCE, async { while let Some(Ok(_)) = news.next().await {} }).await;
    ended.expect("the stream ends");

    let tls = Tls {
        authority_pem: std::fs::read_to_string(up.data.join("ca.crt")).expect("the authority"),
        server_name: None,
        identity_pem: None,
    };
    let address = Address { host: "127.0.0.1".into(), port: secure.port(), security: Security::Tls(tls) };
    let (_pool, stranger) = controller(address);
    let refused = stranger.install(id()).await;
    assert!(
        matches!(&refused, Err(ControllerError::Refused(said)) if said.contains("not known who calls")),
        "{refused:?}"
    );
    up.stop();
}
