//! Programs of others, from the Python environment that `./dev test` makes: sushy-emulator and Ironic.

use drystone_loopback::free_port;
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::world::DEADLINE;

/// The environment, or why there is none.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/ironic/venv");
    if path.join("complete").is_file() {
        return Ok(path);
    }
    Err("there is no Ironic and no sushy-emulator; `./dev test` fetches them".to_owned())
}

fn start(program: &Path, directory: &Path, log: &str, arguments: &[&str]) -> Child {
    let log = std::fs::File::create(directory.join(log)).unwrap();
    // It ends with the test, however that ends.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.args(arguments).current_dir(directory).stdin(Stdio::null());
    // A group of its own: Ironic has workers, which are to end with it.
    command.stdout(log.try_clone().unwrap()).stderr(log).kill_on_drop(true).process_group(0);
    for name in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command.spawn().unwrap()
}

/// Ends a process and those that it started.
fn end(process: &Child) {
    if let Some(id) = process.id() {
        drop(std::process::Command::new("kill").args(["-KILL", "--", &format!("-{id}")]).status());
    }
}

async fn answers(url: &str, what: &str, directory: &Path, log: &str) {
    let deadline = Instant::now() + DEADLINE;
    let http = drystone_redfish::client::http_builder().build().unwrap();
    while !http.get(url).send().await.is_ok_and(|response| response.status().as_u16() < 500) {
        let log = std::fs::read_to_string(directory.join(log)).unwrap_or_default();
        assert!(Instant::now() < deadline, "{what} does not answer: {log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// `sushy-emulator --fake` with some systems. Power lands after 1 to 11 seconds.
pub(crate) struct Sushy {
    pub(crate) url: String,
    pub(crate) systems: Vec<FakeSystem>,
    process: Child,
    directory: TempDir,
}

pub(crate) struct FakeSystem {
    pub(crate) uuid: String,
    pub(crate) mac: String,
}

impl Drop for Sushy {
    fn drop(&mut self) {
        end(&self.process);
    }
}

impl Sushy {
    /// Its user is `admin` with the password `secret`.
    pub(crate) async fn start(environment: &Path, count: usize) -> Self {
        Self::start_with(environment, count, None).await
    }

    /// The same, with power that lands after that many seconds.
    pub(crate) async fn start_with(environment: &Path, count: usize, power_seconds: Option<u32>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = free_port();
        let systems: Vec<FakeSystem> = (0..count)
            .map(|number| FakeSystem {
                uuid: format!("00000000-0000-4000-8000-{number:012}"),
                mac: format!("52:54:00:00:{:02x}:{:02x}", number / 256, number % 256),
            })
            .collect();
        let mut text = String::new();
        for FakeSystem { uuid, mac } in &systems {
            write!(
                text,
                "{{'uuid': '{uuid}', 'name': 'node-{uuid}', 'power_state': 'Off', 'external_notifier': False, 'nics': [{{'mac': '{mac}', 'ip': '127.0.0.1'}}]}},"
            )
            .unwrap();
        }
        let state = directory.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let users = directory.path().join("htpasswd");
        write_password(environment, &users);
        let delay = power_seconds
            .map(|seconds| format!("import random\nrandom.randint = lambda low, high: {seconds}\n"))
            .unwrap_or_default();
        let configuration = format!(
            "{delay}SUSHY_EMULATOR_FAKE_DRIVER = True\nSUSHY_EMULATOR_LISTEN_IP = '127.0.0.1'\nSUSHY_EMULATOR_LISTEN_PORT = {port}\n\
             SUSHY_EMULATOR_STATE_DIR = '{}'\nSUSHY_EMULATOR_FEATURE_SET = 'full'\nSUSHY_EMULATOR_AUTH_FILE = '{}'\n\
             SUSHY_EMULATOR_FAKE_SYSTEMS = [{text}]\n",
            state.display(),
            users.display()
        );
        let file = directory.path().join("conf.py");
        std::fs::write(&file, configuration).unwrap();
        let program = environment.join("bin/sushy-emulator");
        let file = file.display().to_string();
        let process = start(&program, directory.path(), "sushy.log", &["--config", &file, "--fake"]);
        let url = format!("http://127.0.0.1:{port}");
        answers(&format!("{url}/redfish/v1"), "sushy-emulator", directory.path(), "sushy.log").await;
        Self { url, systems, process, directory }
    }

    pub(crate) fn address(&self, scheme: &str, number: usize) -> String {
        let url = self.url.trim_start_matches("http://");
        format!("{scheme}+http://{url}/redfish/v1/Systems/{}", self.systems[number].uuid)
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("sushy.log")).unwrap_or_default()
    }

    pub(crate) async fn stop(mut self) {
        end(&self.process);
        self.process.wait().await.unwrap();
    }
}

/// Writes the password file with the emulator's own idea of a digest.
fn write_password(environment: &Path, file: &Path) {
    let script = "import bcrypt, sys; print('admin:' + bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode())";
    let output = std::process::Command::new(environment.join("bin/python3")).args(["-c", script]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::write(file, output.stdout).unwrap();
}

/// A standalone Ironic with a database of its own.
pub(crate) struct Ironic {
    pub(crate) url: String,
    process: Child,
    directory: TempDir,
}

impl Drop for Ironic {
    fn drop(&mut self) {
        end(&self.process);
    }
}

impl Ironic {
    pub(crate) async fn start(environment: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, http) = (free_port(), free_port());
        let path = directory.path().display();
        for folder in ["data", "http"] {
            std::fs::create_dir(directory.path().join(folder)).unwrap();
        }
        let configuration = CONFIGURATION
            .replace("$DIR", &path.to_string())
            .replace("$PORT", &port.to_string())
            .replace("$HTTP", &http.to_string());
        let file = directory.path().join("ironic.conf");
        std::fs::write(&file, configuration).unwrap();
        let file = file.display().to_string();
        let database = environment.join("bin/ironic-dbsync");
        let mut made =
            start(&database, directory.path(), "dbsync.log", &["--config-file", &file, "create_schema"]);
        let status = made.wait().await.unwrap();
        let log = std::fs::read_to_string(directory.path().join("dbsync.log")).unwrap_or_default();
        assert!(status.success(), "ironic-dbsync: {log}");
        let program = environment.join("bin/ironic");
        let process = start(&program, directory.path(), "ironic.log", &["--config-file", &file]);
        let url = format!("http://127.0.0.1:{port}/");
        answers(&format!("{url}v1/nodes"), "Ironic", directory.path(), "ironic.log").await;
        Self { url, process, directory }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("ironic.log")).unwrap_or_default()
    }

    pub(crate) async fn stop(mut self) {
        end(&self.process);
        self.process.wait().await.unwrap();
    }
}

const CONFIGURATION: &str = "[DEFAULT]
auth_strategy=noauth
my_ip=127.0.0.1
rpc_transport=none
transport_url=fake://
state_path=$DIR/data
enabled_hardware_types=fake-hardware,redfish
enabled_boot_interfaces=fake,redfish-virtual-media
enabled_deploy_interfaces=fake,direct,ramdisk,custom-agent
enabled_inspect_interfaces=no-inspect,fake,redfish,agent
enabled_management_interfaces=fake,noop,redfish
enabled_network_interfaces=noop
enabled_power_interfaces=fake,redfish
enabled_bios_interfaces=no-bios,fake,redfish
enabled_raid_interfaces=no-raid,fake,redfish
enabled_vendor_interfaces=no-vendor,fake,redfish
enabled_firmware_interfaces=no-firmware,fake,redfish
default_network_interface=noop
[api]
host_ip=127.0.0.1
port=$PORT
[database]
connection=sqlite:///$DIR/ironic.sqlite
[conductor]
automated_clean=false
deploy_kernel=http://127.0.0.1:$HTTP/ipa.kernel
deploy_ramdisk=http://127.0.0.1:$HTTP/ipa.initramfs
[dhcp]
dhcp_provider=none
[deploy]
ramdisk_image_download_source=http
http_root=$DIR/http
http_url=http://127.0.0.1:$HTTP
[service_catalog]
auth_type=none
endpoint_override=http://127.0.0.1:$PORT
[inventory]
data_backend=database
[oslo_concurrency]
lock_path=$DIR/data
[agent]
require_tls=False
verify_ca=False
";

/// An ISO of a few bytes, served over HTTP; returns its URL.
pub(crate) async fn live_image(environment: &Path) -> String {
    let directory = tempfile::tempdir().unwrap();
    let (source, image) = (directory.path().join("source"), directory.path().join("live.iso"));
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("readme"), "boots nothing\n").unwrap();
    let made = std::process::Command::new(environment.join("bin/pycdlib-genisoimage"))
        .args(["-o"])
        .arg(&image)
        .arg(&source)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bytes = std::fs::read(&image).unwrap();
    let router = axum::Router::new().route(
        "/live.iso",
        axum::routing::get(move || {
            let bytes = bytes.clone();
            async move { bytes }
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/live.iso", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Names a peer that is missing, where it is.
#[macro_export]
macro_rules! peers_or_skip {
    () => {
        match $crate::peers::environment() {
            Ok(environment) => environment,
            Err(reason) => {
                println!("skipped: {reason}");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            }
        }
    };
}
