//! A Drystone of a test's own: data directory, process, kubectl.

use drystone_loopback::free_port;
use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::Value;

/// How long anything may take. Generous: a slow machine is no failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

/// The workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Why hosts cannot be namespaces here, if they cannot.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".into());
    }
    let path = std::env::var_os("PATH").unwrap();
    let has = |program: &str| std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    let programs = ["containerd", "ctr", "ip", "nft", "conntrack", "kubectl"];
    if let Some(program) = programs.iter().find(|program| !has(program)) {
        return Some(format!("{program} is not installed"));
    }
    let image = workspace().join("target/images/hello.tar");
    (!image.is_file()).then(|| format!("no {}; `./dev build` makes it", image.display()))
}

/// Whether a test that needs namespaces is to be left out; says why.
pub(crate) fn is_skipped() -> bool {
    let missing = missing();
    if let Some(reason) = &missing {
        println!("skipped: {reason}");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: {reason}");
    }
    missing.is_some()
}

/// Whether helm 3 is here, which renders the charts; says so if not.
pub(crate) fn has_helm() -> bool {
    let is_3 = |program: &str| {
        let version = Command::new(program).args(["version", "--template", "{{.Version}}"]).output();
        version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).starts_with("v3."))
    };
    let named = std::env::var("DRYSTONE_HELM").unwrap_or_default();
    let found = is_3("helm") || is_3("helm3") || (!named.is_empty() && is_3(&named));
    if !found {
        println!("skipped: no helm 3; `./dev setup` fetches it");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    }
    found
}

/// A Drystone with an emulated site of a name of its own.
pub(crate) struct Drystone {
    pub(crate) data: PathBuf,
    site: PathBuf,
    site_name: String,
    backend: &'static str,
    port: u16,
    /// Whether it logs what only its developers want to know.
    pub(crate) debug: bool,
    process: Option<Child>,
    directory: Option<tempfile::TempDir>,
    /// More arguments of `up`.
    pub(crate) arguments: Vec<String>,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Drystone {
    /// Prepares one on the example rack, whose file `change` may alter.
    pub(crate) fn new(backend: &'static str, change: impl FnOnce(String) -> String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let site_name = format!("t{}{number}", std::process::id() % 100_000);
        let text = std::fs::read_to_string(workspace().join("examples/sites/rack.yaml")).unwrap();
        let text = change(text.replace("name: rack\n", &format!("name: {site_name}\n")));
        let site = directory.path().join("site.yaml");
        std::fs::write(&site, text).unwrap();
        // It must be the same after a restart, for hosts know it.
        let port = free_port();
        Self {
            data: directory.path().join("data"),
            site,
            site_name,
            backend,
            port,
            debug: false,
            process: None,
            directory: Some(directory),
            arguments: Vec::new(),
        }
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
        command.arg("up").arg("--data").arg(&self.data).arg("--site").arg(&self.site);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--backend", self.backend]);
        command.args(&self.arguments);
        command.arg("--image-archive").arg(workspace().join("target/images/hello.tar"));
        if self.debug {
            command.env("RUST_LOG", "debug");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.process = Some(child);
        assert!(line.contains("is ready"), "drystone up did not become ready; its log:\n{}", self.tail());
    }

    /// Kills it as nothing else does: without a chance to say anything.
    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Kills it while others still talk to it; [`Self::kill`] is called afterwards.
    pub(crate) fn signal_kill(&self) {
        let pid = i32::try_from(self.process.as_ref().unwrap().id()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// Asks it to end, and waits until it and its site have.
    pub(crate) fn stop(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        process.wait().unwrap();
    }

    fn log(&self) -> PathBuf {
        std::fs::create_dir_all(&self.data).unwrap();
        self.data.join("drystone.log")
    }

    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.data.join("kubeconfig")
    }

    /// Runs kubectl on Drystone's API.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl(&self.kubeconfig(), arguments)
    }

    /// Runs kubectl, which must succeed.
    pub(crate) fn must(&self, arguments: &[&str]) -> String {
        match self.kubectl(arguments) {
            Ok(text) => text,
            Err(error) => panic!("kubectl {arguments:?}: {error}\n{}", self.tail()),
        }
    }

    /// What `kubectl get … -o json` says.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let text = self.must(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// Items of a list.
    pub(crate) fn items(&self, arguments: &[&str]) -> Vec<Value> {
        self.json(arguments)["items"].as_array().cloned().unwrap_or_default()
    }

    /// Runs this program against itself.
    pub(crate) fn drystone(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
        command.args(arguments).env("KUBECONFIG", self.kubeconfig()).output().unwrap()
    }

    /// Writes the kubeconfig of a cluster into the data directory.
    pub(crate) fn cluster_kubeconfig(&self, namespace: &str, name: &str) -> PathBuf {
        let output = self.drystone(&["kubeconfig", name, "-n", namespace]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = self.data.join(format!("{name}.kubeconfig"));
        std::fs::write(&path, output.stdout).unwrap();
        path
    }

    /// Waits until `condition` says something; panics with what it was waiting for otherwise.
    pub(crate) fn wait_for<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = condition() {
                return found;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        panic!("{what} did not come; the end of the log:\n{}", self.tail());
    }

    /// Hosts that somebody has claimed, with whom.
    pub(crate) fn claimed(&self) -> Vec<(String, String)> {
        let text = |host: &Value, pointer: &str| {
            host.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        self.items(&["get", "baremetalhosts", "-n", "drystone-system"])
            .iter()
            .map(|host| (text(host, "/metadata/name"), text(host, "/spec/consumerRef/name")))
            .filter(|(_, consumer)| !consumer.is_empty())
            .collect()
    }

    /// Checks that nothing is in use: no host claimed or left on, no zone, no lease, no table entry.
    /// Only the pool of a cluster's pods goes a moment after it.
    pub(crate) fn assert_all_given_back(&self) {
        assert_eq!(self.claimed(), [], "hosts are still claimed");
        assert_eq!(self.items(&["get", "zones", "-A"]).len(), 0, "a zone is left");
        assert_eq!(self.items(&["get", "compositions", "-A"]).len(), 0, "a composition is left");
        let deadline = Instant::now() + PATIENCE;
        while let Some(pool) = self.leased() {
            assert!(Instant::now() < deadline, "leases are left: {pool}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A pool that has leases.
    fn leased(&self) -> Option<Value> {
        let is_leased = |pool: &Value| pool["status"]["leases"].as_array().is_some_and(|all| !all.is_empty());
        self.items(&["get", "addresspools", "-A"]).into_iter().find(is_leased)
    }

    /// Sends a request to the Redfish service over HTTPS, as the administrator, with a client that checks certificates.
    pub(crate) fn redfish(&self, method: &str, path: &str, body: &Value, headers: &[&str]) -> Reply {
        let password = std::fs::read_to_string(self.data.join("admin-password")).unwrap();
        let url = format!("https://127.0.0.1:{}{path}", self.port);
        let mut command = Command::new("curl");
        command.arg("--cacert").arg(self.data.join("ca.crt"));
        command.args(["--user", &format!("admin:{}", password.trim())]);
        curl(command, method, &url, body, headers)
    }

    /// Sends a request over HTTPS as nobody.
    pub(crate) fn anonymous(&self, method: &str, path: &str, headers: &[&str]) -> Reply {
        let mut command = Command::new("curl");
        command.arg("--cacert").arg(self.data.join("ca.crt"));
        curl(command, method, &format!("https://127.0.0.1:{}{path}", self.port), &Value::Null, headers)
    }

    /// Sends a request to the emulated service of that name, past Drystone.
    pub(crate) fn device(
        &self,
        service: &str,
        method: &str,
        path: &str,
        body: &Value,
        headers: &[&str],
    ) -> Reply {
        let file = self.data.join("sites").join(&self.site_name).join("endpoints.json");
        let endpoints: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        let services = endpoints["fabricServices"].as_array().unwrap();
        let found = services.iter().find(|found| found["name"] == service);
        let found = found.unwrap_or_else(|| panic!("the site has no service {service}"));
        let text = |name: &str| found[name].as_str().unwrap();
        let mut command = Command::new("curl");
        command.args(["--user", &format!("{}:{}", text("user"), text("password"))]);
        curl(command, method, &format!("{}{path}", text("url")), body, headers)
    }

    /// Name of the network namespace of a host.
    pub(crate) fn namespace(&self, host: &str) -> String {
        format!("ds-{}-{host}", self.site_name)
    }

    /// A guide's text with the data directory, port and site of this one in place of the guide's.
    pub(crate) fn adapted(&self, guide: &str) -> String {
        guide
            .replace("/tmp/drystone", &self.data.display().to_string())
            .replace("127.0.0.1:6443", &format!("127.0.0.1:{}", self.port))
            .replace("127.0.0.1:2379", &format!("127.0.0.1:{}", free_port()))
            .replace("ds-rack-", &format!("ds-{}-", self.site_name))
            .replace("site/rack", &format!("site/{}", self.site_name))
            .replace("site proxy rack", &format!("site proxy {}", self.site_name))
            .replace("sites/rack/", &format!("sites/{}/", self.site_name))
            .replace("site.drystone.dev/rack", &format!("site.drystone.dev/{}", self.site_name))
    }

    /// Network namespaces of this site.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let prefix = format!("ds-{}", self.site_name);
        let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(&prefix)).collect()
    }

    /// What a host booted, in order: `applied instance ID` from a medium, or `booted from disk`.
    pub(crate) fn boots(&self, host: &str) -> Vec<String> {
        let log = self.data.join("sites").join(&self.site_name).join("hosts").join(host).join("console.log");
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let is_boot = |line: &&str| line.starts_with("applied instance ") || *line == "booted from disk";
        text.lines().filter(is_boot).map(str::to_owned).collect()
    }

    /// The present revision of the store.
    pub(crate) fn revision(&self) -> Option<u64> {
        let text = self.kubectl(&["get", "--raw", "/api/v1/namespaces?limit=1"]).ok()?;
        let list: Value = serde_json::from_str(&text).ok()?;
        list["metadata"]["resourceVersion"].as_str()?.parse().ok()
    }
}

impl Drop for Drystone {
    fn drop(&mut self) {
        if self.process.is_none() && self.namespaces().is_empty() {
            return;
        }
        if std::thread::panicking() {
            println!("the end of the log:\n{}", self.tail());
            if let Some(directory) = self.directory.take() {
                println!("kept: {}", directory.keep().display());
            }
        }
        // Only a running one takes its site down.
        if self.process.is_none() {
            self.start();
        }
        self.stop();
    }
}

/// What a service answered.
#[derive(Debug)]
pub(crate) struct Reply {
    /// HTTP status; 0 if there was no answer.
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// `ETag` and `Location`, empty if absent.
    pub(crate) etag: String,
    pub(crate) location: String,
}

fn curl(mut command: Command, method: &str, url: &str, body: &Value, headers: &[&str]) -> Reply {
    command.args(["--silent", "--include", "--http1.1", "--max-time", "300", "--request", method]);
    if !body.is_null() {
        command.args(["--header", "Content-Type: application/json", "--data", &body.to_string()]);
    }
    for header in headers {
        command.args(["--header", header]);
    }
    let output = command.arg(url).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let (head, content) = text.split_once("\r\n\r\n").unwrap_or_default();
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    Reply {
        status: head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default(),
        body: serde_json::from_str(content).unwrap_or_default(),
        etag: header("etag"),
        location: header("location"),
    }
}

/// Runs kubectl.
pub(crate) fn kubectl(kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("kubectl");
    command.args(arguments).env("KUBECONFIG", kubeconfig).current_dir(workspace());
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
