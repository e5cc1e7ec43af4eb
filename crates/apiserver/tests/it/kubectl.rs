//! Stock kubectl over TLS: the one on this machine, and Debian's of version 1.20. Nothing it does may warn.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use drystone_apiserver::Profile;

use crate::cluster::{Cluster, Kubectl, eventually};

const MAP: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
data: {key: value}
";

const DEPLOYMENT: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: example/web:1
        ports: [{containerPort: 80}]
";

/// The kubectls to test with: version, and where it is.
fn kubectls(cluster: &Cluster) -> Vec<Kubectl> {
    let mut all = vec![cluster.kubectl()];
    if !all[0].exists() {
        println!("skipped: there is no kubectl on PATH");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        all.clear();
    }
    match old_kubectl() {
        Some(program) => all.push(Kubectl { program: program.clone(), ..cluster.kubectl() }),
        None => println!("skipped: Debian's kubectl 1.20 cannot be fetched"),
    }
    all
}

/// Debian's kubectl, unpacked into a directory that is kept between runs.
fn old_kubectl() -> Option<&'static PathBuf> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    PROGRAM.get_or_init(|| fetch_old_kubectl().filter(|program| program.exists())).as_ref()
}

fn fetch_old_kubectl() -> Option<PathBuf> {
    let kept = std::env::temp_dir().join("drystone-test-kubectl-1.20");
    let program = kept.join("usr/bin/kubectl");
    if program.exists() {
        return Some(program);
    }
    // Tests run in processes of their own: each unpacks for itself, and the first to finish wins.
    let own = tempfile::tempdir_in(std::env::temp_dir()).ok()?;
    let fetched =
        Command::new("apt-get").args(["download", "kubernetes-client"]).current_dir(own.path()).output();
    fetched.ok().filter(|output| output.status.success())?;
    let package = std::fs::read_dir(own.path()).ok()?.filter_map(Result::ok).find_map(|entry| {
        let path = entry.path();
        path.extension().is_some_and(|extension| extension == "deb").then_some(path)
    })?;
    let unpacked = own.path().join("unpacked");
    Command::new("dpkg")
        .arg("-x")
        .arg(&package)
        .arg(&unpacked)
        .status()
        .ok()
        .filter(std::process::ExitStatus::success)?;
    let _ = std::fs::rename(&unpacked, &kept);
    Some(program)
}

#[tokio::test]
async fn apply_changes_only_what_differs() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        assert_eq!(kubectl.run_with(&["apply", "-f", "-"], MAP).await, "configmap/a created\n");
        assert_eq!(kubectl.run_with(&["apply", "-f", "-"], MAP).await, "configmap/a unchanged\n");
        let changed = MAP.replace("value", "other");
        assert_eq!(kubectl.run_with(&["apply", "-f", "-"], &changed).await, "configmap/a configured\n");
        assert_eq!(kubectl.run(&["get", "cm", "a", "-o", "jsonpath={.data.key}"]).await, "other");
        let dropped = MAP.replace("data: {key: value}\n", "");
        assert_eq!(kubectl.run_with(&["apply", "-f", "-"], &dropped).await, "configmap/a configured\n");
        assert_eq!(kubectl.run(&["get", "cm", "a", "-o", "jsonpath={.data}"]).await, "");
        assert_eq!(kubectl.run(&["delete", "cm", "a"]).await, "configmap \"a\" deleted\n");
    }
}

#[tokio::test]
async fn a_deployment_is_handled_in_every_way() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        assert_eq!(
            kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await,
            "deployment.apps/web created\n"
        );
        let table = kubectl.run(&["get", "deploy", "web"]).await;
        let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"], "{table}");
        assert_eq!(lines[1][..4], ["web", "0/2", "0", "0"], "{table}");
        let wide = kubectl.run(&["get", "deploy", "-o", "wide"]).await;
        assert!(wide.contains("IMAGES") && wide.contains("example/web:1"), "{wide}");

        let described = kubectl.run(&["describe", "deployment", "web"]).await;
        assert!(
            described.contains("RollingUpdateStrategy:  25% max unavailable, 25% max surge"),
            "{described}"
        );
        assert_eq!(
            kubectl.run(&["scale", "deploy/web", "--replicas=5"]).await,
            "deployment.apps/web scaled\n"
        );
        assert_eq!(kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]).await, "5");
        let restarted = kubectl.run(&["rollout", "restart", "deploy/web"]).await;
        assert_eq!(restarted, "deployment.apps/web restarted\n");
        assert_eq!(
            kubectl.run(&["label", "deploy", "web", "tier=front"]).await,
            "deployment.apps/web labeled\n"
        );
        assert_eq!(
            kubectl.run(&["annotate", "deploy", "web", "note=hello"]).await,
            "deployment.apps/web annotated\n"
        );
        assert!(kubectl.run(&["get", "deploy", "-l", "tier in (front)", "-o", "name"]).await.contains("web"));
        assert_eq!(
            kubectl.run(&["set", "image", "deploy/web", "main=example/web:2"]).await,
            "deployment.apps/web image updated\n"
        );
        assert_eq!(kubectl.run(&["delete", "deploy", "web"]).await, "deployment.apps \"web\" deleted\n");
    }
}

#[tokio::test]
async fn three_kinds_of_patches() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await;
        let strategic =
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"example/side:1"}]}}}}"#;
        kubectl.run(&["patch", "deploy", "web", "-p", strategic]).await;
        let images = "jsonpath={.spec.template.spec.containers[*].image}";
        assert_eq!(
            kubectl.run(&["get", "deploy", "web", "-o", images]).await,
            "example/side:1 example/web:1"
        );
        let merge =
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"only","image":"example/only:1"}]}}}}"#;
        kubectl.run(&["patch", "deploy", "web", "--type=merge", "-p", merge]).await;
        assert_eq!(kubectl.run(&["get", "deploy", "web", "-o", images]).await, "example/only:1");
        let json = r#"[{"op":"test","path":"/spec/replicas","value":2},{"op":"replace","path":"/spec/replicas","value":3}]"#;
        kubectl.run(&["patch", "deploy", "web", "--type=json", "-p", json]).await;
        assert_eq!(kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.spec.replicas}"]).await, "3");
        // The test in the patch does not hold any more.
        assert!(!kubectl.try_run(&["patch", "deploy", "web", "--type=json", "-p", json]).await.success);
        kubectl.run(&["delete", "deploy", "web"]).await;
    }
}

#[tokio::test]
async fn an_object_is_edited() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        kubectl.run_with(&["apply", "-f", "-"], MAP).await;
        let edited =
            kubectl.try_run_with(&["edit", "cm", "a"], "", &[("EDITOR", "sed -i s/value/edited/g")]).await;
        assert!(edited.success && edited.err.is_empty(), "{edited:?}");
        assert!(edited.out.contains("configmap/a edited"), "{edited:?}");
        assert_eq!(kubectl.run(&["get", "cm", "a", "-o", "jsonpath={.data.key}"]).await, "edited");
        kubectl.run(&["delete", "cm", "a"]).await;
    }
}

#[tokio::test]
async fn changes_are_watched_and_waited_for() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        let idle = open_watches(&kubectl).await;
        let seen = cluster.directory.path().join("watched");
        let watch = kubectl.spawn(&["get", "cm", "a", "-w", "--ignore-not-found"], &seen);
        let lists = kubectl.spawn(&["get", "cm", "-w"], &seen);
        drop(watch);
        let read = async |text: &str| std::fs::read_to_string(&seen).ok().filter(|seen| seen.contains(text));
        eventually("the first state", async || read("kube-root-ca.crt").await).await;
        kubectl.run_with(&["apply", "-f", "-"], MAP).await;
        let seen = eventually("the new object", async || read("\na ").await).await;
        assert!(seen.starts_with("NAME "), "{seen}");
        drop(lists);
        eventually("no watch", async || (open_watches(&kubectl).await <= idle).then_some(())).await;

        let waiting = kubectl.clone();
        let wait =
            tokio::spawn(
                async move { waiting.run(&["wait", "--for=delete", "cm/a", "--timeout=100s"]).await },
            );
        // An old kubectl that comes too late complains that there is nothing to wait for.
        eventually("its watch", async || (open_watches(&kubectl).await > idle).then_some(())).await;
        kubectl.run(&["delete", "cm", "a", "--wait=false"]).await;
        wait.await.unwrap();

        kubectl.run_with(&["apply", "-f", "-"], DEPLOYMENT).await;
        let waiting = kubectl.clone();
        let wait = tokio::spawn(async move {
            waiting.run(&["wait", "--for=condition=Available", "deploy/web", "--timeout=100s"]).await
        });
        let status =
            r#"{"status":{"conditions":[{"type":"Available","status":"True","reason":"R","message":"m"}]}}"#;
        set_status(&cluster, "web", status).await;
        assert_eq!(wait.await.unwrap(), "deployment.apps/web condition met\n");
        kubectl.run(&["delete", "deploy", "web"]).await;
    }
}

/// How many watches are open at the server, its own included.
async fn open_watches(kubectl: &Kubectl) -> u64 {
    let metrics = kubectl.run(&["get", "--raw", "/metrics"]).await;
    let line = metrics.lines().find_map(|line| line.strip_prefix("apiserver_longrunning_requests "));
    line.unwrap().trim().parse().unwrap()
}

async fn set_status(cluster: &Cluster, name: &str, status: &str) {
    use k8s_openapi::api::apps::v1::Deployment;
    use kube::api::{Patch, PatchParams};
    let deployments: kube::Api<Deployment> = kube::Api::default_namespaced(cluster.client());
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    deployments.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

#[tokio::test]
async fn the_api_explains_itself() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        let resources = kubectl.run(&["api-resources", "-o", "wide"]).await;
        for expected in ["deployments", "customresourcedefinitions", "endpointslices", "leases"] {
            assert!(resources.contains(expected), "{resources}");
        }
        assert!(kubectl.run(&["api-versions"]).await.contains("rbac.authorization.k8s.io/v1\n"));
        let explained = kubectl.run(&["explain", "deployment.spec.strategy"]).await;
        assert!(explained.contains("rollingUpdate") && explained.contains("Deployment"), "{explained}");
        let all = kubectl.run(&["explain", "pods", "--recursive"]).await;
        assert!(all.contains("terminationGracePeriodSeconds"), "{all}");
        // It says that the versions are far apart, as they are.
        assert!(kubectl.try_run(&["version"]).await.out.contains("1.35"));
        assert!(kubectl.run(&["get", "--raw", "/readyz?verbose"]).await.contains("readyz check passed"));
        assert!(kubectl.run(&["get", "--raw", "/api/v1/namespaces/default"]).await.contains("\"Active\""));
        assert!(kubectl.run(&["get", "--raw", "/metrics"]).await.contains("apiserver_request_total"));
        assert!(kubectl.run(&["get", "all", "-A"]).await.contains("service/kubernetes"));
        assert!(kubectl.run(&["cluster-info"]).await.contains("is running at"));
    }
}

#[tokio::test]
async fn access_is_explained_and_granted() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        assert_eq!(kubectl.run(&["auth", "can-i", "create", "pods"]).await, "yes\n");
        let jane = Kubectl { kubeconfig: cluster.kubeconfig_for("jane", &["devs"]), ..kubectl.clone() };
        let said = jane.try_run(&["auth", "can-i", "list", "pods"]).await;
        assert!(!said.success && said.out.starts_with("no"), "{said:?}");
        let denied = jane.try_run(&["get", "pods"]).await;
        assert_eq!(
            denied.err,
            "Error from server (Forbidden): pods is forbidden: User \"jane\" cannot list resource \"pods\" in API group \
             \"\" in the namespace \"default\"\n"
        );
        kubectl.run(&["create", "rolebinding", "devs", "--clusterrole=view", "--group=devs"]).await;
        eventually("the binding", async || {
            jane.try_run(&["auth", "can-i", "list", "pods"]).await.success.then_some(())
        })
        .await;
        assert!(jane.run(&["auth", "can-i", "--list"]).await.contains("pods"));
        assert!(kubectl.run(&["get", "pods", "--as=jane", "--as-group=devs", "-o", "name"]).await.is_empty());
        // Jane may grant what she has, and nothing more.
        kubectl.run(&["create", "rolebinding", "jane", "--clusterrole=admin", "--user=jane"]).await;
        let grant = async |role: &str| {
            jane.try_run(&["create", "rolebinding", "given", &format!("--clusterrole={role}"), "--user=joe"])
                .await
        };
        eventually("jane's rights", async || grant("view").await.success.then_some(())).await;
        kubectl.run(&["delete", "rolebinding", "given"]).await;
        let refused = grant("cluster-admin").await;
        assert!(
            !refused.success && refused.err.contains("attempting to grant RBAC permissions"),
            "{refused:?}"
        );
        kubectl.run(&["delete", "rolebinding", "jane"]).await;
        kubectl.run(&["delete", "rolebinding", "devs"]).await;
    }
}

#[tokio::test]
async fn server_side_apply_and_diff() {
    let cluster = Cluster::start(Profile::Cluster).await;
    for kubectl in kubectls(&cluster) {
        let applied = kubectl.run_with(&["apply", "--server-side", "-f", "-"], MAP).await;
        assert_eq!(applied, "configmap/a serverside-applied\n");
        let changed = MAP.replace("value", "other");
        let diff = kubectl.try_run_with(&["diff", "--server-side", "-f", "-"], &changed, &[]).await;
        // kubectl 1.20 finds server-side dry run in the OpenAPI v2 paths only, which this server does not list.
        if diff.err.contains("doesn't support dry-run") {
            println!(
                "skipped: this kubectl looks for dry run in OpenAPI v2 paths: {}",
                kubectl.program.display()
            );
            kubectl.run(&["delete", "cm", "a"]).await;
            continue;
        }
        assert!(diff.out.contains("-  key: value") && diff.out.contains("+  key: other"), "{diff:?}");
        let other = ["apply", "--server-side", "--field-manager=other", "-f", "-"];
        let conflict = kubectl.try_run_with(&other, &changed, &[]).await;
        assert!(
            !conflict.success && conflict.err.contains("conflict with \"kubectl\": .data.key"),
            "{conflict:?}"
        );
        let forced = [&other[..], &["--force-conflicts"]].concat();
        kubectl.run_with(&forced, &changed).await;
        assert_eq!(kubectl.run(&["get", "cm", "a", "-o", "jsonpath={.data.key}"]).await, "other");
        kubectl.run(&["delete", "cm", "a"]).await;
    }
}

#[tokio::test]
async fn tokens_are_issued_and_accepted() {
    let cluster = Cluster::start(Profile::Cluster).await;
    let kubectl = cluster.kubectl();
    if !kubectl.exists() {
        println!("skipped: there is no kubectl on PATH");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    kubectl.run(&["create", "serviceaccount", "robot"]).await;
    kubectl
        .run(&["create", "rolebinding", "robot", "--clusterrole=view", "--serviceaccount=default:robot"])
        .await;
    let token = kubectl.run(&["create", "token", "robot", "--duration=20m"]).await;
    let kubeconfig = cluster.directory.path().join("token.kubeconfig");
    let credential = drystone_identity::kubeconfig::Credential::Token(token.trim().into());
    let robot = drystone_identity::kubeconfig::Kubeconfig::new(
        "test",
        "robot",
        &cluster.url,
        cluster.ca.certificate_pem(),
        credential,
    );
    std::fs::write(&kubeconfig, robot.to_yaml().unwrap().expose()).unwrap();
    let robot = Kubectl { kubeconfig, ..kubectl.clone() };
    eventually("the token's rights", async || {
        robot.try_run(&["get", "pods", "-o", "name"]).await.success.then_some(())
    })
    .await;
    let who = robot.run(&["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]).await;
    assert_eq!(who, "system:serviceaccount:default:robot");
    // With the account, its tokens end.
    kubectl.run(&["delete", "serviceaccount", "robot"]).await;
    let refused = robot.try_run(&["get", "pods"]).await;
    assert!(!refused.success && refused.err.contains("Unauthorized"), "{refused:?}");
}

#[tokio::test]
async fn mistakes_are_told() {
    let cluster = Cluster::start(Profile::Cluster).await;
    let kubectl = cluster.kubectl();
    if !kubectl.exists() {
        println!("skipped: there is no kubectl on PATH");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let cases = [
        (DEPLOYMENT.replace("replicas: 2", "replicaz: 2"), "unknown field \"spec.replicaz\""),
        (DEPLOYMENT.replace("replicas: 2", "replicas: two"), "replicas"),
        (DEPLOYMENT.replace("replicas: 2", "replicas: -1"), "spec.replicas: Invalid value: -1"),
        (
            DEPLOYMENT.replace("{app: web}}\n    spec", "{app: other}}\n    spec"),
            "`selector` does not match template",
        ),
        (DEPLOYMENT.replace("name: web}", "name: Web_1}"), "metadata.name: Invalid value: \"Web_1\""),
        (
            DEPLOYMENT.replace("containerPort: 80", "containerPort: 80000"),
            "containerPort: Invalid value: 80000",
        ),
    ];
    for (manifest, expected) in cases {
        let said = kubectl.try_run_with(&["apply", "-f", "-"], &manifest, &[]).await;
        assert!(!said.success && said.err.contains(expected), "{expected}: {said:?}");
    }
    assert!(kubectl.run(&["get", "deploy", "-o", "name"]).await.is_empty());
}
