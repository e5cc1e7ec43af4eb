//! A Drystone with an emulated cloud whose machines have bodies, and a Kubernetes cluster on it that is a VNF.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    nfv::{Client, program},
    search::Marked,
    stage::{Drystone, is_skipped, workspace},
};

/// A network of the example's, beside the one that the seed's request names.
pub(super) const OTHER_NETWORK: &str = "5c1f6f0e-7b0e-4d0b-9a43-6f7f6a1f3d55";

/// The client, if machines can be had and it is installed. Says what is missing.
pub(super) fn client() -> Option<PathBuf> {
    if is_skipped() {
        return None;
    }
    let program = program();
    if program.is_none() {
        println!("skipped: python-tackerclient is not installed; ./dev test installs it");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    }
    program
}

/// The example's site with nothing but a cloud, whose machines have another password.
pub(super) fn with_cloud(site: &str, password: &str) -> String {
    let name = site.lines().find(|line| line.starts_with("name: ")).unwrap();
    let example = std::fs::read_to_string(workspace().join("examples/sites/cloud.yaml")).unwrap();
    example.replace("name: edge", name).replace("password: ubuntu", &format!("password: {password}"))
}

/// The seed's request as printed, but for what names its own OpenStack and proxies.
pub(super) fn request(password: &str) -> Value {
    let text = std::fs::read_to_string(workspace().join("examples/vnf/requests/instantiate-emulated.json"));
    let mut request: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let parameters = &mut request["additionalParams"]["k8s_cluster_installation_param"];
    for node in ["master_node", "worker_node", "storage_server"] {
        parameters[node]["password"] = json!(password);
    }
    request
}

/// The same for three control planes behind one address.
pub(super) fn request_for_three(password: &str) -> Value {
    let mut request = request(password);
    request["flavourId"] = json!("complex");
    let parameters = &mut request["additionalParams"]["k8s_cluster_installation_param"];
    parameters["master_node"]["cluster_cp_name"] = json!("vip_CP");
    let masters = request["extVirtualLinks"][0]["extCps"].as_array_mut().unwrap();
    let mut shared = masters[0].clone();
    shared["cpdId"] = json!("vip_CP");
    masters.push(shared);
    request
}

/// The example's package; returns its VNFD.
pub(super) fn onboard(drystone: &Drystone, client: &Client<'_>) -> String {
    drystone.wait_for("the cloud answers", || {
        (client.get("/v1.0/vims.json")["vims"][0]["status"] == "ACTIVE").then_some(())
    });
    let package = client.directory.join("package.csar");
    let source = workspace().join("examples/vnf/kubernetes-cluster");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let packed = drystone.drystone(&["vnf", "package", &text(&source), "-o", &text(&package)]);
    assert!(packed.status.success(), "{packed:?}");
    let made = client.ok("vnf package create -f json");
    let id = made["ID"].as_str().unwrap();
    client.ok(&format!("vnf package upload --path package.csar {id}"));
    drystone.wait_for("the package is onboarded", || {
        let shown = client.get(&format!("/vnfpkgm/v1/vnf_packages/{id}"));
        (shown["onboardingState"] == "ONBOARDED").then(|| shown["vnfdId"].as_str().unwrap().to_owned())
    })
}

/// A cluster that is a VNF.
pub(super) struct Vnf<'a> {
    pub(super) drystone: &'a Drystone,
    pub(super) client: Client<'a>,
    pub(super) id: String,
    /// Its operations that were rolled back, as was wanted.
    pub(super) rolled_back: RefCell<Vec<String>>,
}

impl<'a> Vnf<'a> {
    /// Makes one, and waits until it is there.
    pub(super) fn instantiate(
        drystone: &'a Drystone,
        client: Client<'a>,
        name: &str,
        vnfd: &str,
        request: &Value,
    ) -> Self {
        let made = client.ok(&format!("vnflcm create --name {name} {vnfd} -f json"));
        let vnf = Self {
            drystone,
            id: made["ID"].as_str().unwrap().to_owned(),
            client,
            rolled_back: RefCell::default(),
        };
        vnf.client.file("request.json", request);
        vnf.client.ok(&format!("vnflcm instantiate {} request.json", vnf.id));
        vnf.client.over(drystone, &vnf.id, "INSTANTIATE");
        vnf
    }

    /// Identifiers of the components of a VDU, as version 1 has them.
    pub(super) fn components(&self, vdu: &str) -> Vec<String> {
        let shown = self.client.get(&format!("/vnflcm/v1/vnf_instances/{}", self.id));
        let all = shown["instantiatedVnfInfo"]["vnfcResourceInfo"].as_array().unwrap().clone();
        let these = all.iter().filter(|one| one["vduId"] == vdu);
        these.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs a program on a machine; an error is what it complains of.
    pub(super) fn try_on(&self, server: &str, program: &str) -> Result<String, String> {
        let id = server.replace('-', "");
        let namespaces = self.drystone.namespaces();
        let namespace = namespaces.iter().find(|name| name.ends_with(&id[..16])).unwrap();
        let pids = Command::new("ip").args(["netns", "pids", namespace]).output().unwrap();
        let pids = String::from_utf8(pids.stdout).unwrap();
        let first = pids.lines().find(|process| {
            let arguments = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap_or_default();
            arguments.split('\0').any(|argument| argument == "guest-init")
                && !arguments.starts_with("unshare")
        });
        let mut command = Command::new("nsenter");
        command.args(["--target", first.unwrap(), "--net", "--mount", "--pid", "sh", "-c", program]);
        let output = command.env("KUBECONFIG", "/etc/kubernetes/admin.conf").output().unwrap();
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout).unwrap());
        }
        Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a program on the first machine of a VDU.
    pub(super) fn on(&self, vdu: &str, program: &str) -> String {
        self.try_on(&self.components(vdu)[0], program).unwrap_or_else(|error| panic!("{error}"))
    }

    pub(super) fn kubectl(&self, arguments: &str) -> String {
        self.on("masterNode", &format!("kubectl {arguments}"))
    }

    /// Lets a pod use the first PersistentVolume, and returns what it says.
    pub(super) fn pod(&self, name: &str, command: &str) -> String {
        let manifest = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "drystone.dev/hello:1", "command": command.split(' ').collect::<Vec<_>>(),
                "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}});
        self.apply(&manifest);
        self.drystone.wait_for(&format!("the end of pod {name}"), || {
            let phase = self.kubectl(&format!("get pod {name} -o jsonpath='{{.status.phase}}'"));
            assert_ne!(phase, "Failed", "{}", self.kubectl(&format!("describe pod {name}")));
            (phase == "Succeeded").then_some(())
        });
        let said = self.kubectl(&format!("logs {name}"));
        self.kubectl(&format!("delete pod {name} --timeout=120s"));
        said
    }

    fn apply(&self, manifest: &Value) {
        self.on("masterNode", &format!("echo '{manifest}' | kubectl apply -f -"));
    }

    pub(super) fn claim(&self) {
        self.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "nfs-pv1",
            "resources": {"requests": {"storage": "1Gi"}}}}));
    }

    pub(super) fn give_up_claim(&self) {
        self.kubectl("delete pvc data --timeout=120s");
    }

    /// How many nodes are ready, and how many PersistentVolumes may be claimed.
    pub(super) fn ready(&self) -> (usize, usize) {
        let nodes = self.kubectl("get nodes --no-headers");
        let volumes = self.kubectl("get pv --no-headers");
        let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready"));
        (ready.count(), volumes.lines().filter(|line| line.contains("Available")).count())
    }

    /// Waits until all operations of a kind are over.
    pub(super) fn over(&self, operation: &str) {
        self.client.over_but(self.drystone, &self.id, operation, &self.rolled_back.borrow());
    }

    /// Asks for something without the client, and waits until it has come to its end.
    pub(super) fn asks(&self, operation: &str, task: &str, body: &Value) {
        self.client.post(&format!("/vnflcm/v1/vnf_instances/{}/{task}", self.id), body);
        self.over(operation);
    }

    /// Does something, and waits until it has come to its end.
    pub(super) fn does(&self, operation: &str, arguments: &str) {
        self.client.ok(&format!("vnflcm {arguments} {}", self.id));
        self.over(operation);
    }

    /// Ends it and forgets it.
    pub(super) fn end(&self) {
        self.does("TERMINATE", "terminate --termination-type FORCEFUL");
        self.client.ok(&format!("vnflcm delete {}", self.id));
    }

    /// How long the steps of operations took that took longest, for who wonders about the time.
    pub(super) fn tell_times(&self) {
        for operation in self.drystone.items(&["get", "operations", "-A"]) {
            let seconds = |from: &Value, to: &Value| {
                let parse = |time: &Value| time.as_str()?.parse::<jiff::Timestamp>().ok();
                Some(parse(to)?.duration_since(parse(from)?).as_secs())
            };
            let status = &operation["status"];
            let took = seconds(&status["startedAt"], &status["finishedAt"]).unwrap_or_default();
            println!("{}: {took} s", operation["spec"]["title"].as_str().unwrap_or_default());
            for step in status["steps"].as_array().unwrap() {
                let took = seconds(&step["startedAt"], &step["finishedAt"]).unwrap_or_default();
                let attempts = step["attempts"].as_u64().unwrap_or_default();
                if took > 4 || attempts > 1 {
                    println!("  {}: {took} s, attempts: {attempts}", step["id"].as_str().unwrap());
                }
            }
        }
    }
}

pub(super) fn vims(client: &Client<'_>) -> usize {
    client.get("/v1.0/vims.json")["vims"].as_array().unwrap().len()
}

/// The password of all machines of a test, which is nowhere else.
pub(super) fn password() -> Marked {
    Marked::random("password of machines")
}
