//! Secrets of a composed cluster: each is only where it is meant to be, and what one host joins with is of no use to another.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use drystone_identity::{PrivateKey, Secret, Subject, authn::BootstrapToken, csr};
use serde_json::{Value, json};

use crate::{
    search::{Marked, assert_it_finds, files, processes},
    secrets::is_hardware,
    stage::{Drystone, is_skipped, kubectl},
};

/// The data of a Secret.
fn data(drystone: &Drystone, namespace: &str, name: &str) -> BTreeMap<String, Vec<u8>> {
    let secret = drystone.json(&["get", "secret", name, "-n", namespace]);
    let data = secret["data"].as_object().cloned().unwrap_or_default();
    let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    data.iter().map(|(key, value)| (key.clone(), decode(value))).collect()
}

fn text(data: &BTreeMap<String, Vec<u8>>, key: &str) -> String {
    String::from_utf8(data[key].clone()).unwrap().trim().to_owned()
}

/// Which host's disk a file lies on.
fn disk_of(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(std::ffi::OsStr::to_str).collect();
    let at = parts.iter().position(|part| *part == "hosts")?;
    (parts.get(at + 2) == Some(&"disk")).then(|| parts[at + 1].to_owned())
}

/// A kubeconfig for whoever has a token.
fn with_token(kubeconfig: &Path, token: &str) -> PathBuf {
    let path = kubeconfig.with_extension("token");
    std::fs::copy(kubeconfig, &path).unwrap();
    let set = |arguments: &[&str]| {
        let mut command = Command::new("kubectl");
        let output = command.arg("--kubeconfig").arg(&path).arg("config").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    set(&["set-credentials", "joiner", &format!("--token={token}")]);
    set(&["set-context", "--current", "--user=joiner"]);
    path
}

/// Asks for the client certificate of a node.
fn ask_for(node: &str, name: &str, kubeconfig: &Path) -> Result<String, String> {
    let key = PrivateKey::generate().unwrap();
    let subject = Subject::new(format!("system:node:{node}"), ["system:nodes"]);
    let request = csr::create(&key, &subject, &[], &[]).unwrap();
    let object = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {"signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["client auth"],
            "request": STANDARD.encode(request)},
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), object.to_string()).unwrap();
    kubectl(kubeconfig, &["create", "--validate=false", "-f", file.path().to_str().unwrap()])
}

/// What was decided about a request: the type of its condition, with its message.
fn decision(drystone: &Drystone, kubeconfig: &Path, name: &str) -> (String, String, bool) {
    drystone.wait_for("a decision", || {
        let text = kubectl(kubeconfig, &["get", "csr", name, "-o", "json"]).ok()?;
        let request: Value = serde_json::from_str(&text).ok()?;
        let condition = request.pointer("/status/conditions/0")?;
        let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
        Some((text("type"), text("message"), request.pointer("/status/certificate").is_some()))
    })
}

/// Where everything of a cluster that is secret may be, on which hosts' disks.
struct Planted {
    secrets: Vec<(Marked, Vec<String>)>,
}

impl Planted {
    fn check(&self, drystone: &Drystone, allowed: &dyn Fn(&Path) -> bool) {
        for (secret, hosts) in &self.secrets {
            let found = files(&drystone.data, std::slice::from_ref(secret));
            let on_disks: Vec<String> = found.iter().filter_map(|(_, path)| disk_of(path)).collect();
            assert!(
                hosts.is_empty() || !on_disks.is_empty(),
                "{} is nowhere: this test does not see the hosts' disks",
                secret.name
            );
            let is_wrong = |(_, path): &&(String, PathBuf)| match disk_of(path) {
                Some(host) => !hosts.contains(&host),
                None => !allowed(path),
            };
            let wrong: Vec<_> = found.iter().filter(is_wrong).collect();
            assert!(wrong.is_empty(), "{} is in clear in {wrong:?}; it may be on {hosts:?}", secret.name);
        }
        let all: Vec<Marked> = self.secrets.iter().map(|(secret, _)| secret.clone()).collect();
        assert_eq!(processes(&drystone.data, &all), [], "secrets are in arguments or environments");
    }
}

/// A cluster of the test.
struct Composed {
    drystone: Drystone,
    /// Not below the data directory, which is searched.
    _outside: tempfile::TempDir,
    kubeconfig: PathBuf,
    control: Vec<String>,
    workers: Vec<String>,
    /// What tokens are made of.
    base: Secret,
}

impl Composed {
    fn new(bmc: &Marked) -> Self {
        let with_password = format!("credentials: {{user: admin, password: {}}}", bmc.text);
        let mut drystone =
            Drystone::new("netns", |site| site.replace("credentials: {user: admin}", &with_password));
        drystone.debug = true;
        drystone.start();
        drystone.must(&["apply", "-f", "examples/mlops/cluster.yaml"]);
        let ready = ["wait", "--for=condition=Ready", "cluster/mlops", "-n", "research", "--timeout=900s"];
        drystone.must(&ready);
        let cluster = drystone.json(&["get", "cluster/mlops", "-n", "research"]);
        let of_role = |role: &str| -> Vec<String> {
            let members = cluster["status"]["members"].as_array().unwrap().iter();
            let members = members.filter(|member| member["role"] == role);
            members.map(|member| member["host"].as_str().unwrap().to_owned()).collect()
        };
        let outside = tempfile::tempdir().unwrap();
        let kubeconfig = outside.path().join("kubeconfig");
        let output = drystone.drystone(&["kubeconfig", "mlops", "-n", "research"]);
        std::fs::write(&kubeconfig, &output.stdout).unwrap();
        let base = Secret::new(text(&data(&drystone, "research", "mlops-pki"), "bootstrap-token"));
        let (control, workers) = (of_role("ControlPlane"), of_role("Worker"));
        assert_eq!((control.len(), workers.len()), (1, 2));
        Self { drystone, _outside: outside, kubeconfig, control, workers, base }
    }

    fn token(&self, node: &str) -> BootstrapToken {
        BootstrapToken::for_node(&self.base, node, None)
    }

    /// A file that a host was booted with.
    fn boot_file(&self, host: &str, name: &str) -> String {
        let object = self.drystone.json(&["get", "baremetalhost", host, "-n", "drystone-system"]);
        let secret = object.pointer("/spec/userData/name").and_then(Value::as_str).unwrap();
        let document = text(&data(&self.drystone, "drystone-system", secret), "userData");
        let document: Value = serde_json::from_str(document.split_once('\n').unwrap().1).unwrap();
        let files = document["write_files"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"].as_str().unwrap().ends_with(name)).unwrap();
        String::from_utf8(STANDARD.decode(file["content"].as_str().unwrap()).unwrap()).unwrap()
    }

    /// All that is secret, with the hosts on whose disks it may be.
    fn planted(&self, bmc: Marked, inside: Marked) -> Planted {
        let pki = data(&self.drystone, "research", "mlops-pki");
        let view = ["config", "view", "--raw", "-o", "jsonpath={.users[0].user.client-key-data}"];
        let admin_key = STANDARD.decode(kubectl(&self.kubeconfig, &view).unwrap()).unwrap();
        let admin_key = String::from_utf8(admin_key).unwrap();
        let first = vec![self.workers[0].clone()];
        let leases = self.boot_file(&first[0], "address-daemon-token");
        let mut secrets = vec![
            (bmc, Vec::new()),
            (inside, Vec::new()),
            (Marked::new("what tokens are made of", self.base.expose()), Vec::new()),
            (Marked::new("key of the cluster's administrator", &admin_key), Vec::new()),
            (Marked::new("key of the cluster's authority", &text(&pki, "ca.key")), self.control.clone()),
            (
                Marked::new("key of service accounts", &text(&pki, "service-account.key")),
                self.control.clone(),
            ),
            (Marked::new("token of the address daemon", &leases), first),
        ];
        for node in self.control.iter().chain(&self.workers) {
            let hosts = [std::slice::from_ref(node), &self.control].concat();
            secrets
                .push((Marked::new(&format!("token of {node}"), self.token(node).token().expose()), hosts));
        }
        Planted { secrets }
    }

    /// What one host joins with is of no use to another.
    fn assert_tokens_are_for_one_host(&self) {
        let (kubeconfig, workers) = (&self.kubeconfig, &self.workers);
        let worker = self.token(&workers[0]);
        let joiner = with_token(kubeconfig, worker.token().expose());
        let refused = ask_for(&workers[0], "used-up", &joiner).unwrap_err();
        assert!(refused.contains("Unauthorized") || refused.contains("logged in"), "taken back: {refused}");
        // As long as it is good, it is for its own host alone.
        let object = json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": BootstrapToken::secret_name(&worker.id), "namespace": "kube-system"},
            "data": worker.to_secret_data()});
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), object.to_string()).unwrap();
        kubectl(kubeconfig, &["apply", "--server-side", "-f", file.path().to_str().unwrap()]).unwrap();
        ask_for(&workers[1], "foreign", &joiner).unwrap();
        ask_for("stranger", "unknown", &joiner).unwrap();
        for name in ["foreign", "unknown"] {
            let (kind, message, certified) = decision(&self.drystone, kubeconfig, name);
            assert_eq!((kind.as_str(), certified), ("Denied", false), "{message}");
            assert!(message.contains(&format!("is for node {:?}", workers[0])), "{message}");
        }
        // Nor when an administrator approves it.
        kubectl(kubeconfig, &["certificate", "approve", "foreign"]).unwrap_err();
        ask_for(&workers[0], "own", &joiner).unwrap();
        assert_eq!(decision(&self.drystone, kubeconfig, "own").0, "Approved");
    }
}

#[test]
fn secrets_of_a_cluster_are_where_they_belong_and_join_tokens_are_for_one_host() {
    if is_skipped() {
        return;
    }
    let (bmc, inside) = (Marked::random("BMC password"), Marked::random("Secret in the cluster"));
    let mut composed = Composed::new(&bmc);
    let literal = format!("--from-literal=value={}", inside.text);
    kubectl(&composed.kubeconfig, &["create", "secret", "generic", "inside", &literal]).unwrap();
    let planted = composed.planted(bmc, inside);
    assert_it_finds(&composed.drystone.data, &planted.secrets[1].0);
    planted.check(&composed.drystone, &|path| is_hardware(path));
    composed.assert_tokens_are_for_one_host();

    // Killed and started again: the stores on disk and what is left of it hold nothing either.
    let drystone = &mut composed.drystone;
    drystone.kill();
    drystone.start();
    planted.check(drystone, &|path| is_hardware(path));
    drystone.must(&["delete", "cluster/mlops", "-n", "research", "--timeout=300s"]);
    drystone.assert_all_given_back();
}
