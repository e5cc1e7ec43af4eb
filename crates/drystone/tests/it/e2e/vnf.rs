//! Seed 002 on machines: a Kubernetes cluster is a VNF with a storage server, asked for by OpenStack's own client, scaled, healed and
//! ended. Its machines are namespaces with real SSH servers, its volume is a loop device, its file server NFS-Ganesha.

use std::{path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    nfv::{Client, program},
    search::{Marked, assert_it_finds, files, processes},
    stage::{Drystone, is_skipped, workspace},
};

const PASSWORD: &str = "zinc-lantern-4711";

/// A site with nothing but a cloud, which has what the example's package wants.
fn with_cloud(site: &str) -> String {
    let name = site.lines().find(|line| line.starts_with("name: ")).unwrap();
    let example = std::fs::read_to_string(workspace().join("examples/sites/cloud.yaml")).unwrap();
    let images = ["kubernetes-node", "storage-server"]
        .map(|image| format!("  - {{name: {image}, users: [{{name: ubuntu, password: {PASSWORD}}}]}}"))
        .join("\n");
    example
        .replace("name: edge", name)
        .replace("{name: net0, cidr", "{name: net0, id: f0c82461-36b5-4d86-8322-b0bc19cda65f, cidr")
        .replace("  - {name: ubuntu, users: [{name: ubuntu, password: ubuntu}]}", &images)
}

/// The seed's request as printed, but for what names its own OpenStack and proxies.
fn request() -> Value {
    let text = std::fs::read_to_string(workspace().join("examples/vnf/requests/instantiate-simple.json"));
    let mut request: Value = serde_json::from_str(&text.unwrap()).unwrap();
    request.as_object_mut().unwrap().remove("vimConnectionInfo");
    let parameters = &mut request["additionalParams"]["k8s_cluster_installation_param"];
    parameters.as_object_mut().unwrap().remove("proxy");
    for node in ["master_node", "worker_node", "storage_server"] {
        parameters[node]["password"] = json!(PASSWORD);
    }
    request
}

struct Vnf<'a> {
    drystone: &'a Drystone,
    client: Client<'a>,
    id: String,
}

impl Vnf<'_> {
    /// Identifiers of the components of a VDU.
    fn components(&self, vdu: &str) -> Vec<String> {
        let shown = self.client.ok(&format!("vnflcm show {} -f json", self.id));
        let all = shown["Instantiated Vnf Info"]["vnfcResourceInfo"].as_array().unwrap().clone();
        let these = all.iter().filter(|one| one["vduId"] == vdu);
        these.map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs a program on the first machine of a VDU.
    fn on(&self, vdu: &str, program: &str) -> String {
        let server = self.components(vdu).remove(0).replace('-', "");
        let namespaces = self.drystone.namespaces();
        let namespace = namespaces.iter().find(|name| name.ends_with(&server[..16])).unwrap();
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
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn kubectl(&self, arguments: &str) -> String {
        self.on("masterNode", &format!("kubectl {arguments}"))
    }

    /// Lets a pod use the first PersistentVolume, and returns what it says.
    fn pod(&self, name: &str, command: &str) -> String {
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

    fn claim(&self) {
        self.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": "nfs-pv1",
            "resources": {"requests": {"storage": "1Gi"}}}}));
    }

    /// How many nodes are ready, and how many PersistentVolumes may be claimed.
    fn ready(&self) -> (usize, usize) {
        let nodes = self.kubectl("get nodes --no-headers");
        let volumes = self.kubectl("get pv --no-headers");
        let ready = nodes.lines().filter(|line| line.split_whitespace().nth(1) == Some("Ready"));
        (ready.count(), volumes.lines().filter(|line| line.contains("Available")).count())
    }

    /// Does something, and waits until it has come to its end.
    fn does(&self, operation: &str, arguments: &str) {
        self.client.ok(&format!("vnflcm {arguments} {}", self.id));
        self.client.over(self.drystone, &self.id, operation);
    }
}

#[test]
fn a_kubernetes_cluster_is_a_vnf_whose_storage_is_healed_without_loss() {
    if is_skipped() {
        return;
    }
    let Some(program) = program() else {
        println!("skipped: python-tackerclient is not installed; ./dev test installs it");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut drystone = Drystone::new("netns", |site| with_cloud(&site));
    drystone.arguments = vec!["--http".into(), format!("127.0.0.1:{port}"), "--http-trust-loopback".into()];
    drystone.start();
    let directory = tempfile::tempdir().unwrap();
    let client = Client { program: &program, directory: directory.path(), port, version: "1" };
    let vnfd = onboard(&drystone, &client);
    let made = client.ok(&format!("vnflcm create --name cluster {vnfd} -f json"));
    let id = made["ID"].as_str().unwrap().to_owned();
    client.file("request.json", &request());
    client.ok(&format!("vnflcm instantiate {id} request.json"));
    client.over(&drystone, &id, "INSTANTIATE");
    let vnf = Vnf { drystone: &drystone, client, id };
    assert_eq!(vnf.ready(), (3, 3));
    assert_eq!(vims(&vnf.client), 2, "the cluster is a VIM now");

    vnf.claim();
    vnf.pod("writer", "/hello append /data/file kept");
    assert_eq!(vnf.pod("reader", "/hello cat /data/file"), "kept\n");
    vnf.does("SCALE", "scale --type SCALE_OUT --aspect-id worker_instance --number-of-steps 1");
    let worker = vnf.components("workerNode").remove(0);
    vnf.does("HEAL", &format!("heal --vnfc-instance {worker} --"));
    assert!(!vnf.components("workerNode").contains(&worker));
    assert_eq!(vnf.ready(), (4, 2));

    storage_is_healed_unless_it_is_used(&vnf);
    nothing_tells_the_password(&vnf);

    vnf.does("TERMINATE", "terminate --termination-type FORCEFUL");
    assert_eq!(vims(&vnf.client), 1, "its VIM is gone with it");
    vnf.client.ok(&format!("vnflcm delete {}", vnf.id));
    let machines = drystone.namespaces().into_iter().filter(|name| name.contains("-vm."));
    assert_eq!(machines.collect::<Vec<_>>(), [""; 0], "machines are left");
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}

/// The example's package; returns its VNFD.
fn onboard(drystone: &Drystone, client: &Client<'_>) -> String {
    drystone.wait_for("the cloud answers", || {
        (client.ok("vim list -f json")[0]["Status"] == "ACTIVE").then_some(())
    });
    let package = client.directory.join("package.csar");
    let source = workspace().join("examples/vnf/kubernetes-cluster");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let packed = drystone.drystone(&["vnf", "package", &text(&source), "-o", &text(&package)]);
    assert!(packed.status.success(), "{packed:?}");
    let made = client.ok("vnf package create -f json");
    let id = made["ID"].as_str().unwrap();
    client.ok(&format!("vnf package upload --path package.csar {id}"));
    let shown = drystone.wait_for("the package is onboarded", || {
        let shown = client.ok(&format!("vnf package show {id} -f json"));
        (shown["Onboarding State"] == "ONBOARDED").then_some(shown)
    });
    shown["VNFD ID"].as_str().unwrap().to_owned()
}

fn vims(client: &Client<'_>) -> usize {
    client.ok("vim list -f json").as_array().unwrap().len()
}

fn storage_is_healed_unless_it_is_used(vnf: &Vnf<'_>) {
    let server = vnf.components("storage_server").remove(0);
    vnf.client.ok(&format!("vnflcm heal --vnfc-instance {server} -- {}", vnf.id));
    let filter = format!("(eq,vnfInstanceId,{});(eq,operationState,FAILED_TEMP)", vnf.id);
    let failed = vnf.drystone.wait_for("the refusal", || {
        let found = vnf.client.ok(&format!("vnflcm op list --filter {filter} -f json"));
        found[0]["ID"].as_str().map(str::to_owned)
    });
    let shown = vnf.client.ok(&format!("vnflcm op show {failed} -f json"));
    assert!(shown.to_string().contains("nfs-pv1 is bound to claim default/data"), "{shown}");
    vnf.client.ok(&format!("vnflcm op rollback {failed}"));
    vnf.drystone.wait_for("the roll-back", || {
        let shown = vnf.client.ok(&format!("vnflcm op show {failed} -f json"));
        (shown["Operation State"] == "ROLLED_BACK").then_some(())
    });
    assert_eq!(vnf.components("storage_server"), std::slice::from_ref(&server));
    vnf.kubectl("delete pvc data --timeout=120s");

    vnf.client.ok(&format!("vnflcm heal --vnfc-instance {server} -- {}", vnf.id));
    vnf.drystone.wait_for("another storage server", || {
        let now = vnf.client.ok(&format!(
            "vnflcm op list --filter (eq,vnfInstanceId,{});(eq,operation,HEAL);(eq,operationState,COMPLETED) -f json",
            vnf.id
        ));
        (now.as_array()?.len() == 2).then_some(())
    });
    assert_ne!(vnf.components("storage_server"), [server]);
    assert_eq!(vnf.ready(), (4, 3));
    vnf.claim();
    assert_eq!(vnf.pod("reader-again", "/hello cat /data/file"), "kept\n");
    vnf.kubectl("delete pvc data --timeout=120s");
}

/// Neither what clients are shown, nor a file of Drystone's, nor a process.
fn nothing_tells_the_password(vnf: &Vnf<'_>) {
    for list in ["vnflcm list", "vnflcm op list", "vim list"] {
        for one in vnf.client.ok(&format!("{list} -f json")).as_array().unwrap() {
            let id = one["ID"].as_str().unwrap();
            let shown = vnf.client.ok(&format!("{} {id} -f json", list.replace(" list", " show")));
            assert!(!shown.to_string().contains(PASSWORD), "{list}: {shown}");
        }
    }
    let kinds = "vnfinstances,vnflcmoperations,vims,operations,events";
    let all = vnf.drystone.must(&["get", kinds, "-A", "-o", "json"]);
    assert!(all.len() > 10_000 && !all.contains(PASSWORD));
    let secret = Marked::new("password of machines", PASSWORD);
    let data = &vnf.drystone.data;
    assert_it_finds(data, &secret);
    // What is below `sites` is the emulated cloud's own, which knows the accounts of its images.
    let found = files(data, std::slice::from_ref(&secret)).into_iter();
    let found: Vec<_> = found.filter(|(_, path)| !path.starts_with(data.join("sites"))).collect();
    assert!(found.is_empty(), "{found:?}");
    let found = processes(data, &[secret]);
    assert!(found.is_empty(), "{found:?}");
}
