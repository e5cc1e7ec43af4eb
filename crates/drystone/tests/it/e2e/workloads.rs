//! Workloads on a composed cluster: how pods begin, run, fail and end, seen with stock kubectl.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::stage::{Drystone, is_skipped, kubectl};

const MANIFEST: &str = "crates/drystone/tests/it/e2e/workloads.yaml";

struct Inside<'a> {
    drystone: &'a Drystone,
    kubeconfig: PathBuf,
}

impl Inside<'_> {
    fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        kubectl(Path::new(&self.kubeconfig), arguments)
    }

    fn must(&self, arguments: &[&str]) -> String {
        self.kubectl(arguments).unwrap_or_else(|error| panic!("kubectl {arguments:?}: {error}"))
    }

    fn pod(&self, name: &str) -> Value {
        serde_json::from_str(&self.must(&["get", "pod", name, "-o", "json"])).unwrap()
    }

    /// Waits until what a pod says at a place is as expected.
    fn expect(&self, name: &str, pointer: &str, expected: &Value) {
        self.drystone.wait_for(&format!("{pointer} = {expected} of pod {name}"), || {
            (self.pod(name).pointer(pointer) == Some(expected)).then_some(())
        });
    }

    fn ready(&self, what: &str, condition: &str) {
        self.must(&["wait", what, &format!("--for={condition}"), "--timeout=300s"]);
    }

    fn in_pod(&self, words: &[&str]) -> String {
        self.must(&[&["exec", "complete", "-c", "main", "--", "/hello"], words].concat())
    }
}

#[test]
fn pods_begin_run_fail_and_end() {
    if is_skipped() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    drystone.start();
    drystone.must(&["apply", "-f", "examples/mlops/cluster.yaml"]);
    drystone.must(&["wait", "--for=condition=Ready", "cluster/mlops", "-n", "research", "--timeout=300s"]);
    let kubeconfig = drystone.cluster_kubeconfig("research", "mlops");
    let inside = Inside { drystone: &drystone, kubeconfig };
    inside.must(&["apply", "-f", MANIFEST]);
    running(&inside);
    failing(&inside);
    controllers(&inside);
    names(&inside);
    given_up(&inside);
    ending(&inside);
    drystone.must(&["delete", "cluster/mlops", "-n", "research", "--timeout=300s"]);
    drystone.assert_all_given_back();
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}

fn running(inside: &Inside<'_>) {
    inside.ready("pod/complete", "condition=Ready");
    assert_eq!(inside.must(&["logs", "complete", "-c", "first"]), "first\n");
    let shown = inside.in_pod(&[
        "cat",
        "/settings/file.txt",
        "/password/password",
        "/about/labels",
        "/var/run/secrets/kubernetes.io/serviceaccount/namespace",
    ]);
    assert_eq!(shown, "from a config mapfrom a secretapp=\"complete\"default");
    let answer = inside.in_pod(&["fetch", "localhost:8080", "/"]);
    assert!(answer.starts_with("good morning\npod complete\n"), "{answer}");
    inside.expect("unready", "/status/phase", &"Running".into());
    let ready = r"-o=jsonpath={.items[0].endpoints[0].conditions.ready}";
    inside.drystone.wait_for("an endpoint that gets no traffic", || {
        let selector = ["get", "endpointslices", "-l", "kubernetes.io/service-name=unready", ready];
        inside.kubectl(&selector).is_ok_and(|ready| ready == "false").then_some(())
    });
}

fn failing(inside: &Inside<'_>) {
    let waiting = "/status/containerStatuses/0/state/waiting/reason";
    inside.expect("crashing", waiting, &"CrashLoopBackOff".into());
    inside.expect("crashing", "/status/containerStatuses/0/lastState/terminated/exitCode", &3.into());
    inside.expect("no-image", waiting, &"ErrImageNeverPull".into());
    inside.expect("no-map", waiting, &"CreateContainerConfigError".into());
    inside.drystone.wait_for("a restart of the pod that is not well", || {
        let count = inside.pod("sick")["status"]["containerStatuses"][0]["restartCount"].as_u64();
        count.filter(|count| *count > 0)
    });
    // What was missing comes, and the pod goes on by itself.
    inside.must(&["create", "configmap", "missing", "--from-literal=x=1"]);
    inside.ready("pod/no-map", "condition=Ready");
}

fn controllers(inside: &Inside<'_>) {
    inside.ready("job/once", "condition=Complete");
    let pods = inside.must(&["get", "pods", "-l", "job-name=once", "-o", "json"]);
    let pods: Value = serde_json::from_str(&pods).unwrap();
    for pod in pods["items"].as_array().unwrap() {
        assert_eq!(pod["status"]["phase"], "Succeeded");
        assert!(pod["status"]["podIP"].is_string(), "the address is forgotten: {}", pod["status"]);
    }
    inside.must(&["rollout", "status", "daemonset/everywhere", "--timeout=300s"]);
    inside.must(&["rollout", "status", "statefulset/ordered", "--timeout=300s"]);
}

/// A node that was taken for dead, as one is that could not be heard for a while, says at its next look that it is not.
fn given_up(inside: &Inside<'_>) {
    let node = inside.must(&["get", "pod", "complete", "-o=jsonpath={.spec.nodeName}"]);
    let reported = || -> String {
        inside.must(&["get", "node", &node, r#"-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#])
    };
    assert_eq!(reported(), "True");
    let conditions = json!([{"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}]);
    let patch = json!({"status": {"conditions": conditions}}).to_string();
    inside.must(&["patch", "node", &node, "--subresource=status", "--type=strategic", "-p", &patch]);
    // Long before the node tells its status without any reason, every five minutes.
    inside.must(&["wait", &format!("node/{node}"), "--for=condition=Ready", "--timeout=150s"]);
}

/// The cluster's name server, and the network between hosts.
fn names(inside: &Inside<'_>) {
    for (name, pod) in
        [("ordered-0.ordered", "ordered-0"), ("ordered-1.ordered.default.svc.cluster.local", "ordered-1")]
    {
        // A pod that is ready gets its name by another way, a moment later.
        let (url, wanted) = (format!("{name}:8080"), format!("pod {pod}\n"));
        let command = ["exec", "complete", "-c", "main", "--", "/hello", "fetch", &url, "/"];
        inside.drystone.wait_for(&format!("{name} to be {pod}"), || {
            inside.kubectl(&command).ok().filter(|answer| answer.contains(&wanted))
        });
    }
    let error = inside.kubectl(&[
        "exec",
        "complete",
        "-c",
        "main",
        "--",
        "/hello",
        "fetch",
        "nobody.default:80",
        "/",
    ]);
    assert!(error.is_err_and(|error| error.contains("nobody.default")), "a name that nobody has was found");
}

fn ending(inside: &Inside<'_>) {
    inside.must(&["delete", "-f", MANIFEST, "--timeout=300s"]);
    inside.drystone.wait_for("the end of all pods", || {
        inside.kubectl(&["get", "pods", "-o", "name"]).is_ok_and(|pods| pods.is_empty()).then_some(())
    });
    // The nodes take pods as before.
    let image = "--image=drystone.dev/hello:1";
    inside.must(&["run", "after", image]);
    inside.ready("pod/after", "condition=Ready");
}
