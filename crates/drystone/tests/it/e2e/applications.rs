//! Composite applications over composed clusters, as a user has them: files, statuses, an update, a roll-back, and nothing left.

use std::{path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::stage::{Drystone, has_helm, is_skipped, kubectl, workspace};

const GROUP: &str = "projects/shop/composite-apps/shop/v1/deployment-intent-groups/open";

struct Shop {
    drystone: Drystone,
    /// Packed charts, profiles and documents.
    packed: PathBuf,
    clusters: [PathBuf; 2],
}

impl Shop {
    fn app(&self, arguments: &[&str]) -> Value {
        let output = self.drystone.drystone(&[&["app"], arguments].concat());
        let (text, error) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "app {arguments:?}: {text}\n{error}\n{}", self.drystone.tail());
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn apply(&self, file: &str) {
        self.app(&["apply", "-f", self.packed.join(file).to_str().unwrap(), "--timeout", "300"]);
    }

    /// Asks EMCO's REST interface.
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let reply = self.drystone.redfish(method, &format!("/v2/{path}"), body, &[]);
        (reply.status, reply.body)
    }

    fn must(&self, method: &str, path: &str, body: &Value) -> Value {
        let (code, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&code), "{method} {path}: {code} {answer}\n{}", self.drystone.tail());
        answer
    }

    /// Waits until everything of the group is ready, at so many objects.
    fn ready(&self) -> Value {
        self.drystone.wait_for("the readiness of the shop", || {
            let (_, status) = self.ask("GET", &format!("{GROUP}/status?status=ready"), &Value::Null);
            (status["readyStatus"] == "Ready" && status["deployedStatus"] == "Instantiated").then_some(status)
        })
    }

    /// The greeting of the web server in each cluster.
    fn greetings(&self) -> Vec<String> {
        let path = "-o=jsonpath={.data.greeting}";
        self.clusters
            .iter()
            .map(|cluster| kubectl(cluster, &["get", "configmap", "shop-greeting", path]).unwrap_or_default())
            .collect()
    }
}

fn open() -> Shop {
    let mut drystone = Drystone::new("netns", |site| site);
    drystone.start();
    // Before all hosts are known, clusters may get others than the example means for them.
    drystone.wait_for("all hosts", || {
        (drystone.items(&["get", "resourceblocks", "-n", "drystone-system"]).len() == 12).then_some(())
    });
    drystone.must(&["apply", "-f", "examples/applications/shop/clusters.yaml"]);
    for cluster in ["east", "west"] {
        drystone.must(&[
            "wait",
            "--for=condition=Ready",
            &format!("cluster/{cluster}"),
            "-n",
            "shop",
            "--timeout=600s",
        ]);
    }
    let clusters = ["east", "west"].map(|cluster| drystone.cluster_kubeconfig("shop", cluster));
    let packed = drystone.data.join("shop");
    let pack = Command::new(workspace().join("examples/applications/shop/pack")).arg(&packed).status();
    assert!(pack.unwrap().success());
    Shop { drystone, packed, clusters }
}

/// Clusters make themselves known, with labels and facts, and are watched.
fn onboarding(shop: &Shop) {
    let listed = shop.drystone.wait_for("the clusters as clusters for applications", || {
        let (_, listed) = shop.ask("GET", "cluster-providers/drystone/clusters?label=edge", &Value::Null);
        (listed.as_array().map_or(0, Vec::len) == 2).then_some(listed)
    });
    assert_eq!(listed, json!(["shop.east", "shop.west"]));
    shop.drystone.wait_for("clusters that answer", || {
        let clusters = shop.drystone.items(&["get", "clusters.emco.drystone.dev", "-n", "drystone-system"]);
        let all = clusters.iter().all(|cluster| cluster["status"]["connectivity"] == "Available");
        (clusters.len() == 2 && all).then_some(())
    });
}

/// An update, a roll-back, and both again, one right after the other.
fn changes(shop: &Shop) {
    let group = json!({
        "metadata": {"name": "open"},
        "spec": {
            "compositeProfile": "afternoon", "version": "shop", "logicalCloud": "everywhere",
            "overrideValues": [{"app": "web", "values": {"greeting": "good evening"}}],
        },
    });
    // What is deployed is not changed by replacing its document; the resource is, as kubectl sees it.
    let name = shop.drystone.items(&["get", "deploymentintentgroups", "-n", "drystone-system"]);
    let name = name[0]["metadata"]["name"].as_str().unwrap().to_owned();
    let patch = json!({"spec": {"overrideValues": group["spec"]["overrideValues"]}}).to_string();
    shop.drystone.must(&[
        "patch",
        "deploymentintentgroups",
        &name,
        "-n",
        "drystone-system",
        "--type=merge",
        "-p",
        &patch,
    ]);
    assert_eq!(shop.must("POST", &format!("{GROUP}/update"), &Value::Null), json!(2));
    shop.drystone
        .wait_for("the update", || (shop.greetings() == ["good evening", "good evening"]).then_some(()));
    shop.ready();
    let rollback = json!({"metadata": {"name": "back"}, "spec": {"revision": "1"}});
    shop.must("POST", &format!("{GROUP}/rollback"), &rollback);
    shop.drystone.wait_for("the roll-back", || {
        (shop.greetings() == ["good afternoon", "good afternoon"]).then_some(())
    });
    shop.ready();
    // Asked for at once, a roll-back waits for the end of the update before it.
    assert_eq!(shop.must("POST", &format!("{GROUP}/update"), &Value::Null), json!(4));
    let text = format!(
        "version: emco/v2\nresourceContext: {{anchor: {GROUP}/rollback}}\nmetadata: {{name: back}}\nspec: {{revision: \"1\"}}\n"
    );
    std::fs::write(shop.packed.join("back.yaml"), text).unwrap();
    shop.apply("back.yaml");
    // The greeting is what it was before; that the roll-back is through says that it is so again.
    shop.drystone.wait_for("the end of both roll-backs", || {
        let all = shop.drystone.items(&["get", "lifecycleoperations", "-n", "drystone-system"]);
        let is_through = |operation: &&Value| {
            operation["spec"]["action"] == "Rollback" && operation["status"]["phase"] == "Succeeded"
        };
        (all.iter().filter(is_through).count() == 2).then_some(())
    });
    shop.drystone.wait_for("the second roll-back", || {
        (shop.greetings() == ["good afternoon", "good afternoon"]).then_some(())
    });
    shop.ready();
}

#[test]
fn a_shop_over_two_clusters_lives_and_leaves_nothing() {
    if is_skipped() || !has_helm() {
        return;
    }
    let mut shop = open();
    onboarding(&shop);
    shop.apply("networks.yaml");
    let zones = shop.drystone.items(&["get", "zones", "-A"]);
    assert_eq!(zones.len(), 3, "a zone of each cluster, and one of the network: {zones:?}");

    shop.apply("shop.yaml");
    let status = shop.ready();
    assert_eq!(shop.greetings(), ["good afternoon", "good afternoon"]);
    let apps = status["apps"].as_array().unwrap();
    let clusters_of = |name: &str| {
        let app = apps.iter().find(|app| app["name"] == name).unwrap();
        app["clusters"].as_array().unwrap().len()
    };
    assert_eq!((clusters_of("web"), clusters_of("stock")), (2, 1), "{status}");

    changes(&shop);
    let (code, _) = shop.ask("POST", &format!("{GROUP}/instantiate"), &Value::Null);
    assert_eq!(code, 409);

    shop.must("POST", &format!("{GROUP}/terminate"), &Value::Null);
    shop.drystone.wait_for("the end of the shop", || {
        let (_, status) = shop.ask("GET", &format!("{GROUP}/status?status=deployed"), &Value::Null);
        (status["deployedStatus"] == "Terminated").then_some(())
    });
    for cluster in &shop.clusters {
        for kind in ["deployments", "services", "configmaps", "pods"] {
            shop.drystone.wait_for(&format!("no {kind} of the shop"), || {
                let found = kubectl(cluster, &["get", kind, "-o", "name"]).ok()?;
                (!found.contains("/shop-")).then_some(())
            });
        }
    }
    give_back(&mut shop);
}

fn give_back(shop: &mut Shop) {
    let file = shop.packed.join("shop.yaml");
    shop.app(&["delete", "-f", file.to_str().unwrap(), "--timeout", "300"]);
    shop.must("POST", "cluster-providers/drystone/clusters/shop.east/terminate", &Value::Null);
    for cluster in ["east", "west"] {
        shop.drystone.must(&["delete", &format!("cluster/{cluster}"), "-n", "shop", "--timeout=600s"]);
    }
    let left = shop.drystone.items(&["get", "clusters.emco.drystone.dev", "-n", "drystone-system"]);
    assert!(left.is_empty(), "documents of clusters that are gone are left: {left:?}");
    shop.drystone.assert_all_given_back();
    shop.drystone.stop();
    assert_eq!(shop.drystone.namespaces(), [""; 0], "namespaces are left");
}
