//! `drystone up`: its ports, its files, and what it says when it cannot start.

use std::{
    fs::File,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use reqwest::{Certificate, Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::process::{Up, drystone, up_that_fails};

const PATIENCE: Duration = Duration::from_secs(300);

/// A client that trusts what `ca.crt` says.
fn client(up: &Up) -> Client {
    drystone_identity::tls::install_crypto_provider();
    let pem = std::fs::read(up.data.join("ca.crt")).expect("ca.crt");
    let certificate = Certificate::from_pem(&pem).expect("a certificate");
    Client::builder().tls_certs_only([certificate]).no_proxy().build().expect("a client")
}

/// Both ports of a Drystone.
fn ports(up: &Up) -> [String; 2] {
    ["https", "http"].map(|scheme| format!("{scheme}://{}", up.address(scheme).expect(scheme)))
}

async fn get(
    client: &Client,
    url: &str,
    password: Option<&str>,
    headers: &[(&str, &str)],
) -> (StatusCode, String) {
    let mut request = client.get(url);
    if let Some(password) = password {
        request = request.basic_auth("admin", Some(password));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.expect(url);
    (answer.status(), answer.text().await.expect("a body"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn both_ports_ask_for_the_same_credentials() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0"]);
    let (client, password) = (client(&up), up.password());
    for port in ports(&up) {
        for path in ["/livez", "/readyz", "/healthz"] {
            assert_eq!(
                get(&client, &format!("{port}{path}"), None, &[]).await,
                (StatusCode::OK, "ok".to_owned()),
                "{path}"
            );
        }
        let (status, version) = get(&client, &format!("{port}/version"), None, &[]).await;
        let version: Value = serde_json::from_str(&version).expect("JSON");
        assert_eq!((status, &version["major"]), (StatusCode::OK, &json!("1")));
        let guarded = [
            ("/metrics", "apiserver_request_total{"),
            ("/openapi/v3", "openapi/v3/apis/drystone.dev/v1alpha1?hash="),
            ("/api", "APIVersions"),
            ("/apis/drystone.dev/v1alpha1/clusters", "ClusterList"),
        ];
        for (path, expected) in guarded {
            let url = format!("{port}{path}");
            let (status, body) = get(&client, &url, Some(&password), &[]).await;
            assert_eq!(status, StatusCode::OK, "{url}: {body}");
            assert!(body.contains(expected), "{url}: {body}");
            assert_eq!(get(&client, &url, Some("wrong"), &[]).await.0, StatusCode::UNAUTHORIZED, "{url}");
            assert_eq!(get(&client, &url, None, &[]).await.0, StatusCode::FORBIDDEN, "{url}");
        }
    }
    for (file, mode) in [("admin-password", 0o600), ("kubeconfig", 0o600), ("ca.crt", 0o644)] {
        let found = std::fs::metadata(up.data.join(file)).expect(file).permissions().mode();
        assert_eq!(found & 0o777, mode, "{file}");
    }
    assert_eq!(up.stop(), "", "one line, and no other, on standard output");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_trusted_port_serves_programs_of_this_machine_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &["--http", "127.0.0.1:0", "--http-trust-loopback"]);
    let client = client(&up);
    let [secure, plain] = ports(&up);
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let url = format!("{plain}/apis/authentication.k8s.io/v1/selfsubjectreviews");
    let answer = client.request(Method::POST, &url).json(&review).send().await.expect("an answer");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["status"]["userInfo"]["username"], "admin", "{answer}");

    let secrets = format!("{plain}/api/v1/secrets");
    assert_eq!(get(&client, &secrets, None, &[]).await.0, StatusCode::OK);
    assert_eq!(get(&client, &secrets, None, &[("origin", "http://localhost:3000")]).await.0, StatusCode::OK);
    for stranger in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
        let (status, body) = get(&client, &secrets, None, &[stranger]).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{stranger:?}: {body}");
        assert!(body.contains("programs of this machine only"), "{body}");
    }
    // Who shows credentials is asked for the right ones.
    assert_eq!(get(&client, &secrets, Some("wrong"), &[]).await.0, StatusCode::UNAUTHORIZED);
    // The other port trusts nobody.
    assert_eq!(get(&client, &format!("{secure}/api/v1/secrets"), None, &[]).await.0, StatusCode::FORBIDDEN);

    let log = up.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("--http-trust-loopback")).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("WARN"), "{log}");
}

/// Exit code and complaint of a Drystone that cannot start.
fn complaint(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = up_that_fails(data, arguments);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{arguments:?}");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn wrong_calls_are_refused_before_anything_is_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let site = example_site();
    let site = site.to_str().expect("UTF-8");
    for (arguments, code, expected) in [
        (vec!["--http", "0.0.0.0:8080"], 2, "only served on a loopback address"),
        (vec!["--http", "8080"], 2, "expected ADDRESS:PORT"),
        (vec!["--http-trust-loopback"], 2, "--http <"),
        (vec!["--site", "/nowhere/site.yaml"], 1, "/nowhere/site.yaml: cannot be read"),
        (vec!["--site", site, "--site", site], 1, "give one of them another name"),
        (
            vec!["--image-archive", "/nowhere/image.tar"],
            1,
            "image archive /nowhere/image.tar: cannot be read",
        ),
    ] {
        let (found, said) = complaint(&data, &arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!data.exists(), "{arguments:?} made the data directory");
    }
}

#[test]
fn ports_and_directories_that_cannot_be_used() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("a file");
    let (code, said) = complaint(&file.join("data"), &["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("cannot make the directory") && said.contains("file/data"), "{said}");

    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let data = directory.path().join("data");
    for (arguments, option) in [
        (vec!["--listen", address.as_str()], "with --listen"),
        (vec!["--listen", "127.0.0.1:0", "--http", address.as_str()], "with --http"),
        (vec!["--listen", "127.0.0.1:0", "--boot-listen", address.as_str()], "with --boot-listen"),
    ] {
        let (code, said) = complaint(&data, &arguments);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&address) && said.contains(option), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_data_directory_has_one_drystone() {
    let directory = tempfile::tempdir().expect("a directory");
    let up = Up::start(directory.path(), &[]);
    let kubeconfig = || std::fs::read(up.data.join("kubeconfig")).expect("a kubeconfig");
    let before = kubeconfig();
    let (code, said) = complaint(&up.data, &["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("open in another process"), "{said}");
    assert_eq!(kubeconfig(), before);
    let url = format!("https://{}/readyz", up.address("https").expect("an address"));
    assert_eq!(get(&client(&up), &url, None, &[]).await.0, StatusCode::OK);
}

/// Whoever started it may have stopped reading.
#[test]
fn it_goes_on_when_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = drystone();
    command.arg("up").arg("--data").arg(directory.path().join("data"));
    command.args(["--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0"]);
    let mut child =
        command.stdout(writer).stderr(File::create(&log).expect("a log")).spawn().expect("started");
    let begun = Instant::now();
    loop {
        let said = std::fs::read_to_string(&log).expect("the log");
        assert_eq!(child.try_wait().expect("a status"), None, "{said}");
        if said.matches("standard output is closed").count() == 2 {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{said}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("told to stop");
    assert!(child.wait().expect("its status").success());
}

fn example_site() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/sites/rack.yaml")
}

/// The process of an emulated site, as it says itself.
fn emulator(data: &Path, site: &str) -> Option<u64> {
    let endpoints = std::fs::read(data.join("sites").join(site).join("endpoints.json")).ok()?;
    let endpoints: Value = serde_json::from_slice(&endpoints).expect("JSON");
    endpoints["pid"].as_u64()
}

/// Whether a process runs; one that has ended and that nobody has asked for does not.
fn runs(pid: u64) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn emulated_sites_end_with_their_drystone() {
    let directory = tempfile::tempdir().expect("a directory");
    let site = example_site();
    let up = Up::start(directory.path(), &["--backend", "sim", "--site", site.to_str().expect("UTF-8")]);
    let data = up.data.clone();
    let pid = emulator(&data, "rack").expect("an emulator");
    assert!(runs(pid));
    assert_eq!(up.stop(), "");
    assert!(!runs(pid), "the emulator is left");
}

#[test]
fn a_site_that_cannot_start_takes_the_others_down() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let other = directory.path().join("other.yaml");
    let text = std::fs::read_to_string(example_site()).expect("the example");
    std::fs::write(&other, text.replace("name: rack\n", "name: other\n")).expect("a site file");
    // The second site's directory has the state of another one.
    std::fs::create_dir_all(data.join("sites/other")).expect("a directory");
    std::fs::write(data.join("sites/other/site.json"), r#""elsewhere""#).expect("a file");
    let site = example_site();
    let files = [site.to_str().expect("UTF-8"), other.to_str().expect("UTF-8")];
    let (code, said) = complaint(
        &data,
        &["--listen", "127.0.0.1:0", "--backend", "sim", "--site", files[0], "--site", files[1]],
    );
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("holds the state of site \"elsewhere\""), "{said}");
    assert!(data.join("sites/rack/ports.json").exists(), "the first site was not even started");
    assert_eq!(emulator(&data, "rack"), None, "the first site's emulator is left");
}
