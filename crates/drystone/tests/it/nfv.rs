//! VNFs by OpenStack's own client, unmodified, against `drystone up` and the emulated cloud of a site whose machines have no body.

use drystone_loopback::free_port;
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use crate::stage::{Drystone, workspace};

const NETWORK: &str = "f0c82461-36b5-4d86-8322-b0bc19cda65f";

/// The client, if it is installed (`./dev test` does that).
pub(crate) fn program() -> Option<PathBuf> {
    let environment = workspace().join(".cache/tackerclient/venv");
    environment.join("complete").exists().then(|| environment.join("bin/openstack"))
}

/// The example rack, with a cloud.
fn with_cloud(site: String) -> String {
    site + &format!(
        "
cloud:
  bodies: sim
  users: [{{name: nfv_user, project: nfv}}]
  networks:
  - {{name: net0, id: {NETWORK}, cidr: 10.77.0.0/24}}
  images: [{{name: image-one}}, {{name: image-two}}]
  flavors:
  - {{name: m1.tiny, cores: 1, memoryMiB: 512, diskGiB: 1}}
  - {{name: m1.small, cores: 1, memoryMiB: 2048, diskGiB: 20}}
"
    )
}

/// Somebody who is told what happens.
struct Receiver {
    port: u16,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<Value>>>::default();
        let writing = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let heard = writing.clone();
                std::thread::spawn(move || listen(stream, &heard));
            }
        });
        Self { port, heard }
    }

    /// States that an operation was told to have entered, each once.
    fn states(&self, instance: &str) -> Vec<String> {
        let mut ids = Vec::new();
        let mut states = Vec::new();
        for body in self.heard.lock().unwrap().iter() {
            if body["vnfInstanceId"] == instance && !ids.contains(&body["id"]) {
                ids.push(body["id"].clone());
                let what = body["operationState"].as_str().or(body["notificationType"].as_str());
                states.push(what.unwrap().to_owned());
            }
        }
        states
    }
}

fn listen(stream: TcpStream, heard: &Mutex<Vec<Value>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    loop {
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        if line.is_empty() {
            return;
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        if let Ok(value) = serde_json::from_slice(&body) {
            heard.lock().unwrap().push(value);
        }
        if writer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").is_err() {
            return;
        }
    }
}

/// OpenStack's client against a port.
#[derive(Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) program: &'a Path,
    pub(crate) directory: &'a Path,
    pub(crate) port: u16,
    pub(crate) version: &'a str,
}

impl Client<'_> {
    fn run(&self, arguments: &str) -> (bool, String) {
        let mut command = Command::new(self.program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.directory)
            // As against a bare server: no Keystone, no catalog.
            .env("OS_AUTH_TYPE", "none")
            .env("OS_ENDPOINT", format!("http://127.0.0.1:{}", self.port))
            .args(["--os-tacker-api-version", self.version])
            .args(arguments.split_whitespace())
            .current_dir(self.directory);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), if output.status.success() { text } else { text + &error })
    }

    pub(crate) fn ok(&self, arguments: &str) -> Value {
        let (succeeded, text) = self.run(arguments);
        assert!(succeeded, "openstack {arguments}:\n{text}");
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    }

    pub(crate) fn fails(&self, arguments: &str) -> String {
        let (succeeded, text) = self.run(arguments);
        assert!(!succeeded, "openstack {arguments} succeeded:\n{text}");
        text
    }

    pub(crate) fn file(&self, name: &str, content: &Value) {
        std::fs::write(self.directory.join(name), content.to_string()).unwrap();
    }

    /// Asks the service itself: for looking again and again, as the client takes a second to start, and ten on a busy machine.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.send(path, &[])
    }

    /// The same with a body.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Value {
        self.send(path, &["--header", "Content-Type: application/json", "--data", &body.to_string()])
    }

    fn send(&self, path: &str, more: &[&str]) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut command = Command::new("curl");
        command.args(["--silent", "--show-error", "--fail-with-body", "--globoff", "--max-time", "60", &url]);
        if path.contains("/v2/") {
            command.args(["--header", "Version: 2.0.0"]);
        }
        let output = command.args(["--header", "Accept: application/json"]).args(more).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{path}: {text}{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// Operations of a kind on an instance, as the service lists them.
    pub(crate) fn occurrences(&self, id: &str, operation: &str) -> Vec<Value> {
        let filter = format!("filter=(eq,vnfInstanceId,{id});(eq,operation,{operation})");
        self.get(&format!("/vnflcm/v1/vnf_lcm_op_occs?{filter}")).as_array().unwrap().clone()
    }

    /// Waits until all operations of a kind on an instance are over; each must have succeeded.
    pub(crate) fn over(&self, drystone: &Drystone, id: &str, operation: &str) {
        self.over_but(drystone, id, operation, &[]);
    }

    /// The same where the operations of these identifiers were rolled back.
    pub(crate) fn over_but(&self, drystone: &Drystone, id: &str, operation: &str, rolled_back: &[String]) {
        drystone.wait_for(&format!("{operation} of {id}"), || {
            let mut found = self.occurrences(id, operation);
            found.retain(|one| !rolled_back.iter().any(|known| one["id"] == known.as_str()));
            let state = |one: &Value| one["operationState"].as_str().unwrap().to_owned();
            let failed =
                found.iter().find(|one| state(one).starts_with("FAILED") || state(one) == "ROLLED_BACK");
            if let Some(failed) = failed {
                let occurrence = failed["id"].as_str().unwrap();
                panic!("{operation}: {}", self.get(&format!("/vnflcm/v1/vnf_lcm_op_occs/{occurrence}")));
            }
            (!found.is_empty() && found.iter().all(|one| state(one) == "COMPLETED")).then_some(())
        });
    }
}

/// What is asked for when the example is instantiated, in the shape of a version of the API.
fn request(version: &str) -> Value {
    let config = |config: Value| if version == "1" { json!([config]) } else { json!({"a": config}) };
    let plain = json!({"cpProtocolData": [{"layerProtocol": "IP_OVER_ETHERNET", "ipOverEthernet": {
        "ipAddresses": [{"type": "IPV4", "numDynamicAddresses": 1}]}}]});
    json!({"flavourId": "groups", "extVirtualLinks": [{"id": "net", "resourceId": NETWORK, "extCps": [
        {"cpdId": "VDU1_CP1", "cpConfig": config(plain.clone())},
        {"cpdId": "VDU2_CP1", "cpConfig": config(plain)}]}]})
}

#[test]
fn openstacks_client_does_everything_to_vnfs_on_an_emulated_cloud() {
    let Some(program) = program() else {
        println!("skipped: python-tackerclient is not installed; ./dev test installs it");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let port = free_port();
    let mut drystone = Drystone::new("sim", with_cloud);
    drystone.arguments = vec!["--http".into(), format!("127.0.0.1:{port}"), "--http-trust-loopback".into()];
    drystone.start();
    let directory = tempfile::tempdir().unwrap();
    let client = |version| Client { program: &program, directory: directory.path(), port, version };
    let receiver = Receiver::start();
    let vnfd = onboard(&drystone, &client("1"));
    client("2")
        .file("subscription.json", &json!({"callbackUri": format!("http://127.0.0.1:{}/", receiver.port)}));
    client("2").ok("vnflcm subsc create subscription.json -f json");
    for version in ["1", "2"] {
        let id = life_cycle(&drystone, &client(version), &vnfd);
        drystone.wait_for("the end is told", || {
            let told = receiver.states(&id);
            (told.last().is_some_and(|last| last == "VnfIdentifierDeletionNotification")).then_some(())
        });
        let told = receiver.states(&id);
        assert_eq!(
            told[..4],
            ["VnfIdentifierCreationNotification", "STARTING", "PROCESSING", "COMPLETED"],
            "{told:?}"
        );
    }
    killed(&mut drystone, &client("2"), &receiver, &vnfd);
}

/// Copies a package of tests, but for the lines about zones: nobody grants any.
fn copy_without_zones(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_without_zones(&source, &target);
            continue;
        }
        let text = std::fs::read_to_string(&source).unwrap();
        let is_template = source.components().any(|part| part.as_os_str() == "BaseHOT");
        let kept = text.lines().filter(|line| !is_template || !line.contains("zone"));
        std::fs::write(target, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    }
}

/// A package becomes known; returns its VNFD.
fn onboard(drystone: &Drystone, client: &Client<'_>) -> String {
    drystone.wait_for("the cloud answers", || {
        let vims = client.ok("vim list -f json");
        (vims[0]["Status"] == "ACTIVE").then_some(())
    });
    let source = client.directory.join("package");
    copy_without_zones(&workspace().join("crates/csar/tests/it/data/two-flavours"), &source);
    let package = client.directory.join("package.csar");
    let packed =
        drystone.drystone(&["vnf", "package", source.to_str().unwrap(), "-o", package.to_str().unwrap()]);
    assert!(packed.status.success(), "{packed:?}");
    let made = client.ok("vnf package create -f json");
    let id = made["ID"].as_str().unwrap().to_owned();
    std::fs::write(client.directory.join("broken.csar"), b"PK no zip archive").unwrap();
    client.ok(&format!("vnf package upload --path broken.csar {id}"));
    let state = |wanted: &str| {
        let shown = client.ok(&format!("vnf package show {id} -f json"));
        (shown["Onboarding State"] == wanted).then_some(shown)
    };
    drystone.wait_for("the broken one is refused", || state("CREATED"));
    client.ok(&format!("vnf package upload --path package.csar {id}"));
    let shown = drystone.wait_for("the package is onboarded", || state("ONBOARDED"));
    client.ok(&format!("vnf package download --file whole.csar {id}"));
    assert_eq!(std::fs::read(client.directory.join("whole.csar")).unwrap(), std::fs::read(package).unwrap());
    client.ok(&format!("vnf package download --vnfd --type application/zip --file vnfd.zip {id}"));
    assert!(std::fs::read(client.directory.join("vnfd.zip")).unwrap().starts_with(b"PK\x03\x04"));
    let several =
        client.fails(&format!("vnf package download --vnfd --type text/plain --file vnfd.txt {id}"));
    assert!(several.contains("several files"), "{several}");
    shown["VNFD ID"].as_str().unwrap().to_owned()
}

/// All that is done with a VNF, until nothing is left of it; returns its identifier.
fn life_cycle(drystone: &Drystone, client: &Client<'_>, vnfd: &str) -> String {
    client.file("request.json", &request(client.version));
    let made = client.ok(&format!("vnflcm create --name vnf{} {vnfd} -f json", client.version));
    assert_eq!(made["VNF Product Name"], "Sample");
    let id = made["ID"].as_str().unwrap().to_owned();
    // What cannot be is said at once, and nothing begins.
    client.file("wrong.json", &json!({"flavourId": "none"}));
    let wrong = client.fails(&format!("vnflcm instantiate {id} wrong.json"));
    assert!(wrong.contains("flavour"), "{wrong}");
    client.ok(&format!("vnflcm instantiate {id} request.json"));
    client.over(drystone, &id, "INSTANTIATE");
    let shown = client.ok(&format!("vnflcm show {id} -f json"));
    assert_eq!(shown["Instantiation State"], "INSTANTIATED");
    let info = &shown["Instantiated Vnf Info"];
    let vnfcs = info["vnfcResourceInfo"].as_array().unwrap();
    assert_eq!(vnfcs.len(), 2, "{info}");
    let far = client
        .fails(&format!("vnflcm scale --type SCALE_OUT --aspect-id VDU1_scale --number-of-steps 9 {id}"));
    assert!(far.contains("levels go from 0 to 2"), "{far}");
    client.ok(&format!("vnflcm scale --type SCALE_OUT --aspect-id VDU1_scale --number-of-steps 1 {id}"));
    client.over(drystone, &id, "SCALE");
    let shown = client.ok(&format!("vnflcm show {id} -f json"));
    let info = &shown["Instantiated Vnf Info"];
    assert_eq!(info["vnfcResourceInfo"].as_array().unwrap().len(), 3, "{info}");
    let resource =
        info["vnfcResourceInfo"].as_array().unwrap().iter().find(|vnfc| vnfc["vduId"] == "VDU2").unwrap();
    let component = match client.version {
        "1" => resource["id"].as_str().unwrap().to_owned(),
        _ => {
            let all = info["vnfcInfo"].as_array().unwrap();
            all.iter().find(|vnfc| vnfc["vduId"] == "VDU2").unwrap()["id"].as_str().unwrap().to_owned()
        }
    };
    client.ok(&format!("vnflcm heal --cause broken --vnfc-instance {component} -- {id}"));
    client.over(drystone, &id, "HEAL");
    client.file("update.json", &json!({"vnfInstanceDescription": "new"}));
    client.ok(&format!("vnflcm update --I update.json {id}"));
    client.over(drystone, &id, "MODIFY_INFO");
    let shown = client.ok(&format!("vnflcm show {id} -f json"));
    assert_eq!(shown["VNF Instance Description"], "new");
    let links = json!({"extVirtualLinks": request(client.version)["extVirtualLinks"]});
    client.file("links.json", &links);
    client.ok(&format!("vnflcm change-ext-conn {id} links.json"));
    client.over(drystone, &id, "CHANGE_EXT_CONN");
    let held = client.fails(&format!("vnflcm delete {id}"));
    assert!(held.contains("INSTANTIATED"), "{held}");
    client.ok(&format!("vnflcm terminate --termination-type FORCEFUL {id}"));
    client.over(drystone, &id, "TERMINATE");
    client.ok(&format!("vnflcm delete {id}"));
    assert!(!client.ok("vnflcm list -f json").to_string().contains(&id));
    id
}

/// The process is killed in the middle: what was begun is finished, and told.
fn killed(drystone: &mut Drystone, client: &Client<'_>, receiver: &Receiver, vnfd: &str) {
    client.file("request.json", &request(client.version));
    let made = client.ok(&format!("vnflcm create --name killed {vnfd} -f json"));
    let id = made["ID"].as_str().unwrap().to_owned();
    client.ok(&format!("vnflcm instantiate {id} request.json"));
    drystone.kill();
    drystone.start();
    client.over(drystone, &id, "INSTANTIATE");
    drystone.wait_for("it is told", || {
        let told = receiver.states(&id);
        (told == ["VnfIdentifierCreationNotification", "STARTING", "PROCESSING", "COMPLETED"]).then_some(())
    });
    client.ok(&format!(
        "vnflcm terminate --termination-type GRACEFUL --graceful-termination-timeout 1 --D {id}"
    ));
}
