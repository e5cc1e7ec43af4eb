//! Secrets at rest: nothing of them is in clear on the disk, wherever they were put in; wrong keys, damage and old stores.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use drystone_store::{
    Operation, Store as _, Txn,
    embedded::{EmbeddedStore, Options},
};
use serde_json::{Value, json};

use crate::{
    process::{Up, up_that_fails},
    search::{Marked, assert_it_finds, files, processes},
    stage::{Drystone, kubectl},
};

const PATIENCE: Duration = Duration::from_secs(300);

/// Whether a file holds the credentials of emulated hardware as the hardware itself does, or hands them to its owner.
pub(crate) fn is_hardware(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    path.components().any(|part| part.as_os_str() == "sites")
        && matches!(name, "endpoints.json" | "password" | "proxy-password")
}

/// Runs the program with input.
fn drystone(arguments: &[&str], kubeconfig: Option<&Path>, input: &str) -> Output {
    use std::io::Write as _;
    let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
    command.args(arguments).env_remove("KUBECONFIG");
    if let Some(kubeconfig) = kubeconfig {
        command.env("KUBECONFIG", kubeconfig);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn apply(kubeconfig: &Path, object: &Value) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    kubectl(kubeconfig, &["apply", "--server-side", "-f", file.path().to_str().unwrap()]).unwrap();
}

fn secret(name: &str, key: &str, value: &Marked) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "drystone-system"},
        "stringData": {key: value.text}})
}

fn config_map(value: &Marked) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"value": value.text},
        "metadata": {"name": "open", "namespace": "drystone-system"}})
}

fn value_of(kubeconfig: &Path, name: &str, key: &str) -> String {
    let path = format!("jsonpath={{.data.{key}}}");
    kubectl(kubeconfig, &["get", "secret", name, "-n", "drystone-system", "-o", &path]).unwrap()
}

fn has_no_kubectl() -> bool {
    let missing = Command::new("kubectl").arg("version").arg("--client").output().is_err();
    if missing {
        println!("skipped: kubectl is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: kubectl is not installed");
    }
    missing
}

/// Puts a Redfish account with that password there, and a session of it.
fn plant_account(drystone: &Drystone, password: &Marked) {
    let service = "/redfish/v1/AccountService/Accounts";
    let account = json!({"UserName": "jane", "Password": password.text, "RoleId": "Operator"});
    let made = drystone.redfish("POST", service, &account, &[]);
    assert_eq!(made.status, 201, "{made:?}");
    let login = json!({"UserName": "jane", "Password": password.text});
    let logged_in = drystone.redfish("POST", "/redfish/v1/SessionService/Sessions", &login, &[]);
    assert_eq!(logged_in.status, 201, "{logged_in:?}");
}

/// Boots a host with the user data of the Secret `boot`.
fn boot_one(drystone: &Drystone) {
    let host = drystone.wait_for("an available host", || {
        let hosts = drystone.items(&["get", "baremetalhosts", "-n", "drystone-system"]);
        let ready = |host: &&Value| host.pointer("/status/provisioning/state") == Some(&"available".into());
        hosts.iter().find(ready).map(|host| host["metadata"]["name"].as_str().unwrap().to_owned())
    });
    let patch = json!({"spec": {"online": true, "image": {"url": "medium:///", "format": "live-iso"},
        "userData": {"name": "boot"}}});
    let namespace = ["-n", "drystone-system"];
    let arguments = ["patch", "baremetalhost", &host, "--type=merge", "-p", &patch.to_string()];
    drystone.must(&[&arguments[..], &namespace].concat());
    drystone.wait_for("the host to boot", || {
        let host = drystone.json(&["get", "baremetalhost", &host, "-n", "drystone-system"]);
        (host.pointer("/status/provisioning/state") == Some(&"provisioned".into())).then_some(())
    });
}

/// That secrets are nowhere but, for the one of the management controllers, with the hardware.
fn assert_hidden(data: &Path, secrets: &[Marked], bmc: &Marked) {
    let is_wrong = |(name, path): &(String, PathBuf)| *name != bmc.name || !is_hardware(path);
    let found: Vec<_> = files(data, secrets).into_iter().filter(is_wrong).collect();
    assert_eq!(found, [], "secrets are in clear");
}

#[test]
fn nothing_of_a_secret_is_in_clear_on_the_disk() {
    if has_no_kubectl() {
        return;
    }
    let [bmc, plain, user_data, account, open, updated] =
        ["BMC password", "Secret", "user data", "Redfish account", "ConfigMap", "new Secret"]
            .map(Marked::random);
    let with_password = format!("credentials: {{user: admin, password: {}}}", bmc.text);
    let mut drystone = Drystone::new("sim", |site| {
        site.replace("scale: 1.0", "scale: 0.05").replace("credentials: {user: admin}", &with_password)
    });
    drystone.debug = true;
    drystone.start();
    let (kubeconfig, data) = (drystone.kubeconfig(), drystone.data.clone());
    // A secret wherever a user may put one.
    apply(&kubeconfig, &secret("plain", "value", &plain));
    apply(&kubeconfig, &secret("plain", "value", &updated));
    apply(&kubeconfig, &secret("boot", "userData", &user_data));
    apply(&kubeconfig, &config_map(&open));
    plant_account(&drystone, &account);
    boot_one(&drystone);
    let rotated = drystone.drystone(&["secrets", "rotate"]);
    assert!(rotated.status.success(), "{}", text(&rotated));
    let exported = drystone.drystone(&["secrets", "export-key", "--data", data.to_str().unwrap()]);
    let sealing_key = Marked::new("sealing key", &text(&exported));

    let secrets = [bmc.clone(), plain, updated.clone(), user_data, account, sealing_key];
    assert_it_finds(&data, &updated);
    let found = files(&data, std::slice::from_ref(&open));
    assert!(
        found.iter().any(|(_, path)| path.ends_with("store/drystone.redb")),
        "what is no secret is in the store in clear, or this search sees nothing of it: {found:?}"
    );
    assert_hidden(&data, &secrets, &bmc);
    assert_eq!(processes(&data, &secrets), [], "secrets are in arguments or environments");
    let keys = Marked::new("private key", "-----BEGIN PRIVATE KEY-----");
    let admin = data.join("kubeconfig");
    let found: Vec<_> = files(&data, &[keys]).into_iter().filter(|(_, path)| *path != admin).collect();
    assert_eq!(found, [], "private keys are in clear");
    assert_eq!(value_of(&kubeconfig, "plain", "value"), updated.base64(), "and users read it as it is");

    // It is the same after a crash.
    drystone.kill();
    drystone.start();
    assert_hidden(&data, &secrets, &bmc);
    assert_eq!(value_of(&kubeconfig, "plain", "value"), updated.base64());
    drystone.stop();
    assert_hidden(&data, &secrets, &bmc);
}

/// Another sealing key, a lost one, and damaged values: it does not start, says why, and goes on once that is put right.
#[test]
fn it_does_not_start_with_a_wrong_key_and_loses_nothing() {
    if has_no_kubectl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let marked = Marked::random("Secret");
    let up = Up::start(directory.path(), &[]);
    let data = up.data.clone();
    let (kubeconfig, key) = (data.join("kubeconfig"), data.join("pki/sealing-key"));
    apply(&kubeconfig, &secret("kept", "value", &marked));
    up.stop();
    let place = ["--data", data.to_str().unwrap()];
    let exported = text(&drystone(&[&["secrets", "export-key"], &place[..]].concat(), None, ""));
    let good = std::fs::read(&key).unwrap();
    let arguments = ["--listen", "127.0.0.1:0"];
    let refused = |why: &[&str]| {
        let output = up_that_fails(&data, &arguments);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(why.iter().all(|why| said.contains(why)), "{said}");
    };

    std::fs::remove_file(&key).unwrap();
    refused(&["was sealed under key", "import-key"]);
    assert!(!key.exists(), "no other key is made");
    let imported = drystone(&[&["secrets", "import-key"], &place[..]].concat(), None, &exported);
    assert!(imported.status.success(), "{}", text(&imported));
    assert_eq!(std::fs::read(&key).unwrap(), good);

    std::fs::write(&key, [7; 32]).unwrap();
    refused(&["was sealed under key", "has key"]);
    // Also if nothing says which one it should be.
    let fingerprint = data.join("pki/sealing-key.fingerprint");
    let said = std::fs::read(&fingerprint).unwrap();
    std::fs::remove_file(&fingerprint).unwrap();
    refused(&["was sealed under key"]);
    std::fs::write(&fingerprint, said).unwrap();
    std::fs::write(&key, &good).unwrap();

    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&["others can read the sealing key", "chmod 600"]);
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();

    let up = Up::start(directory.path(), &[]);
    assert_eq!(value_of(&kubeconfig, "kept", "value"), marked.base64());
    up.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_store_that_was_in_clear_is_encrypted_when_it_is_started() {
    if has_no_kubectl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (old, boot) = (Marked::random("Secret"), Marked::random("boot secret"));
    let data = directory.path().join("data");
    for directory in ["store", "pki"] {
        std::fs::create_dir_all(data.join(directory)).unwrap();
    }
    std::fs::write(data.join("pki/boot-secret"), &boot.text).unwrap();
    let file = data.join("store/drystone.redb");
    let store = EmbeddedStore::open(&file, Options::default()).unwrap();
    let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"value": old.base64()},
        "metadata": {"name": "old", "namespace": "drystone-system", "uid": "0e5ee7ae-7c4c-4d0b-8d0a-a4ea3bb5f8cb",
            "creationTimestamp": "2026-01-01T00:00:00Z"}});
    let put = Operation::Put {
        key: "/registry/core/secrets/drystone-system/old".into(),
        value: object.to_string().into(),
        lease: 0,
    };
    store.txn(Txn { success: vec![put], ..Txn::default() }).await.unwrap();
    store.close().await;
    drop(store);
    let secrets = [old.clone(), boot];
    assert_eq!(files(&data, &secrets).len(), 2, "both are in clear, or this test shows nothing");
    let up = Up::start(directory.path(), &[]);
    assert_eq!(files(&data, &secrets), []);
    assert_eq!(value_of(&data.join("kubeconfig"), "old", "value"), old.base64());
    let log = up.log();
    assert!(log.contains("encrypted now") && log.contains("written anew"), "{log}");
    up.stop();
    assert_eq!(files(&data, &secrets), []);
}

/// Everybody else is kept out of the front door.
#[test]
fn only_administrators_rotate_data_keys() {
    if has_no_kubectl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path(), &[]);
    let kubeconfig = up.data.join("kubeconfig");
    apply(&kubeconfig, &secret("one", "value", &Marked::random("Secret")));
    let url = format!("https://{}/secrets-at-rest", up.address("https").unwrap());
    let status = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "--cacert"]);
        command.arg(up.data.join("ca.crt")).args(arguments);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let rotate = format!("{url}/rotate");
    assert_eq!(status(&[&url]), "401");
    assert_eq!(status(&["-X", "POST", &rotate]), "401");
    let namespace = ["-n", "drystone-system"];
    kubectl(&kubeconfig, &[&["create", "serviceaccount", "jane"], &namespace[..]].concat()).unwrap();
    let token = kubectl(&kubeconfig, &[&["create", "token", "jane"], &namespace[..]].concat()).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.trim());
    assert_eq!(status(&["-H", &bearer, &url]), "403");
    assert_eq!(status(&["-H", &bearer, "-X", "POST", &rotate]), "403");

    let shown = text(&drystone(&["secrets", "status"], Some(&kubeconfig), ""));
    assert!(shown.contains("0000000000000001") && shown.contains("active"), "{shown}");
    let rotated = text(&drystone(&["secrets", "rotate"], Some(&kubeconfig), ""));
    assert!(rotated.contains("0000000000000002") && rotated.contains("retired"), "{rotated}");
    up.stop();
}

#[test]
fn etcd_holds_nothing_in_clear() {
    if has_no_kubectl() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let Some(etcd) = crate::etcd::Etcd::start(directory.path()) else { return };
    let (marked, open) = (Marked::random("Secret"), Marked::random("ConfigMap"));
    let up = Up::start(directory.path(), &["--store", &format!("etcd={}", etcd.url)]);
    let kubeconfig = up.data.join("kubeconfig");
    apply(&kubeconfig, &secret("one", "value", &marked));
    apply(&kubeconfig, &config_map(&open));
    let rotated = text(&drystone(&["secrets", "rotate"], Some(&kubeconfig), ""));
    assert!(rotated.contains("retired"), "{rotated}");
    assert_eq!(value_of(&kubeconfig, "one", "value"), marked.base64());
    let etcd_data = directory.path().join("etcd");
    let deadline = Instant::now() + PATIENCE;
    while files(&etcd_data, std::slice::from_ref(&open)).is_empty() {
        assert!(Instant::now() < deadline, "what is no secret must be found, or this search sees nothing");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(files(directory.path(), std::slice::from_ref(&marked)), []);
    up.stop();
    assert_eq!(files(directory.path(), &[marked]), []);
}

/// The password of a host's management controller that is kept, and whether the controller takes it.
fn bmc_password(drystone: &Drystone, host: &str) -> (String, bool) {
    let object = drystone.json(&["get", "baremetalhost", host, "-n", "drystone-system"]);
    let bmc = &object["spec"]["bmc"];
    let name = bmc["credentialsName"].as_str().unwrap();
    let data = drystone.json(&["get", "secret", name, "-n", "drystone-system"])["data"].clone();
    assert!(data.get("nextPassword").is_none(), "nothing is begun");
    let decode = |key: &str| {
        let bytes =
            base64::Engine::decode(&base64::engine::general_purpose::STANDARD, data[key].as_str().unwrap());
        String::from_utf8(bytes.unwrap()).unwrap()
    };
    let address = bmc["address"].as_str().unwrap().split_once('+').unwrap().1.to_owned();
    let base = address.split("/redfish").next().unwrap().trim_end_matches('/').to_owned();
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", "-u"]);
    command.arg(format!("{}:{}", decode("username"), decode("password")));
    let output = command.arg(format!("{base}/redfish/v1/Systems")).output().unwrap();
    (decode("password"), output.stdout == b"200")
}

#[test]
fn management_controllers_get_new_passwords_and_crashes_lock_nobody_out() {
    if has_no_kubectl() {
        return;
    }
    let first = Marked::random("first password");
    let with_password = format!("credentials: {{user: admin, password: {}}}", first.text);
    let mut drystone = Drystone::new("sim", |site| {
        site.replace("scale: 1.0", "scale: 0.05").replace("credentials: {user: admin}", &with_password)
    });
    drystone.start();
    let names = drystone.wait_for("all hosts", || {
        let hosts = drystone.items(&["get", "baremetalhosts", "-n", "drystone-system"]);
        let ready = |host: &Value| host.pointer("/status/hardware").is_some();
        let name = |host: &Value| host["metadata"]["name"].as_str().unwrap().to_owned();
        (hosts.len() == 12 && hosts.iter().all(ready)).then(|| hosts.iter().map(name).collect::<Vec<_>>())
    });
    let site = drystone.items(&["get", "sites", "-n", "drystone-system"])[0]["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let rotated = drystone.drystone(&["site", "rotate-bmc-passwords", &site]);
    assert!(rotated.status.success(), "{}", text(&rotated));
    let mut passwords: Vec<String> = names
        .iter()
        .map(|name| {
            let (password, taken) = bmc_password(&drystone, name);
            assert!(taken && password != first.text, "{name}");
            password
        })
        .collect();
    passwords.sort();
    passwords.dedup();
    assert_eq!(passwords.len(), names.len(), "each has its own");
    let marked: Vec<Marked> =
        passwords.iter().map(|password| Marked::new("new password", password)).collect();
    assert_eq!(files(&drystone.data, &marked), [], "not even the emulated hardware keeps them in clear");

    // Killed in the middle, again and again: in the end every one has a new one, and hosts are reached all the time.
    for pause in [0, 40, 80, 160, 320] {
        drystone.must(&[
            "annotate",
            "baremetalhosts",
            "--all",
            "-n",
            "drystone-system",
            "--overwrite",
            "drystone.dev/rotate-bmc-password=now",
        ]);
        std::thread::sleep(Duration::from_millis(pause));
        drystone.kill();
        drystone.start();
    }
    drystone.wait_for("all new passwords", || {
        let hosts = drystone.items(&["get", "baremetalhosts", "-n", "drystone-system"]);
        let waits = |host: &Value| {
            let annotations = &host["metadata"]["annotations"];
            assert!(annotations.get("drystone.dev/bmc-password-error").is_none(), "{annotations}");
            annotations.get("drystone.dev/rotate-bmc-password").is_some()
        };
        (!hosts.iter().any(waits)).then_some(())
    });
    for name in &names {
        let (password, taken) = bmc_password(&drystone, name);
        assert!(taken && !passwords.contains(&password), "{name}");
    }
    drystone.stop();
}
