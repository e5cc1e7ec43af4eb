//! Software roll-outs through the program: hosts of an emulated site get another image, by Redfish; commands of signed bundles.

use std::{collections::BTreeSet, process::Command, sync::Arc};

use serde_json::{Value, json};

use crate::{
    disk_images::{ImageServer, await_state, sha256},
    stage::Drystone,
};

const NAMESPACE: &str = "drystone-system";

fn apply(drystone: &Drystone, name: &str, object: &Value) {
    let file = drystone.data.join(format!("{name}.json"));
    std::fs::write(&file, object.to_string()).unwrap();
    drystone.must(&["apply", "-f", file.to_str().unwrap()]);
}

fn image(url: &str, bytes: &[u8]) -> Value {
    json!({"url": url, "checksum": sha256(bytes), "checksumType": "sha256", "format": "raw"})
}

#[test]
fn hosts_in_use_get_another_image_and_a_kill_in_between_changes_nothing() {
    let mut drystone = Drystone::new("sim", |site| site.replace("scale: 1.0", "scale: 0.05"));
    drystone.start();
    let bytes: Arc<Vec<u8>> = Arc::new(vec![7; 300_000]);
    let server = ImageServer::start("127.0.0.1:0", Arc::clone(&bytes), 0);
    let (old, new) =
        (format!("http://{}/os-1.raw", server.address), format!("http://{}/os-2.raw", server.address));
    let hosts = ["gpu-01", "gpu-02", "gpu-03", "gpu-04"];
    for host in hosts {
        await_state(&drystone, host, "available");
        let patch = json!({"metadata": {"labels": {"use": "ours"}}, "spec": {"online": true, "image": image(&old, &bytes)}});
        let patch = patch.to_string();
        drystone.must(&["patch", "baremetalhost", host, "-n", NAMESPACE, "--type=merge", "-p", &patch]);
    }
    for host in hosts {
        await_state(&drystone, host, "provisioned");
    }
    let set = json!({
        "apiVersion": "drystone.dev/v1alpha1", "kind": "SoftwareSet",
        "metadata": {"name": "october", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"use": "ours"}},
            "osImage": image(&new, &bytes),
            "strategy": {"maxUnavailable": 3, "maxUnavailablePerSite": 3}
        }
    });
    apply(&drystone, "set", &set);
    let updated = |drystone: &Drystone| {
        let rollouts = drystone.items(&["get", "rollouts", "-n", NAMESPACE]);
        rollouts.first().and_then(|rollout| rollout["status"]["counts"]["updated"].as_u64()).unwrap_or(0)
    };
    drystone.wait_for("the canary", || (updated(&drystone) >= 1).then_some(()));
    drystone.kill();
    drystone.start();
    let rollout = drystone.wait_for("the rollout's end", || {
        let rollouts = drystone.items(&["get", "rollouts", "-n", NAMESPACE]);
        let rollout = rollouts.first()?.clone();
        (rollout["status"]["phase"] == "Succeeded").then_some(rollout)
    });
    let status = &rollout["status"];
    assert_eq!(status["counts"]["updated"], 4, "{status}");
    assert_eq!(status["waves"][0]["name"], "canary");
    for entry in status["hosts"].as_array().unwrap() {
        assert_eq!(entry["attempts"], 1, "{entry}");
    }
    let images: BTreeSet<String> = drystone
        .items(&["get", "baremetalhosts", "-n", NAMESPACE, "-l", "use=ours"])
        .iter()
        .map(|host| host["status"]["provisioning"]["image"]["url"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(images, BTreeSet::from([new]));
    // The set is looked at after its rollout has ended.
    drystone.wait_for("the set to be ready", || {
        let table = drystone.must(&["get", "softwareset", "october", "-n", NAMESPACE]);
        (table.contains("october") && table.contains("True")).then_some(())
    });
    drystone.stop();
}

#[test]
fn bundles_are_made_checked_and_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_drystone"));
        let output = command.arg("software").args(arguments).current_dir(folder.path()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    std::fs::write(folder.path().join("agent_1.2_all.deb"), "package").unwrap();
    let (good, public, _) = run(&["key", "-o", "key.pem"]);
    assert!(good && public.len() == 44, "{public}");
    assert!(!run(&["key", "-o", "key.pem"]).0, "an existing key is not written over");
    let made =
        run(&["bundle", "create", "--key", "key.pem", "--title", "October", "-o", "b", "agent_1.2_all.deb"]);
    assert!(made.0, "{}", made.2);
    let (good, shown, _) = run(&["bundle", "verify", "--trust", &public, "b"]);
    assert!(good && shown.contains("agent_1.2_all.deb") && shown.contains(&sha256(b"package")), "{shown}");
    let (good, other, _) = run(&["key", "-o", "other.pem"]);
    assert!(good);
    let (good, _, error) = run(&["bundle", "verify", "--trust", &other, "b"]);
    assert!(!good && error.contains("by none of the keys"), "{error}");
    std::fs::create_dir(folder.path().join("out")).unwrap();
    assert!(run(&["bundle", "unpack", "--trust", &public, "b", "out"]).0);
    assert_eq!(std::fs::read_to_string(folder.path().join("out/agent_1.2_all.deb")).unwrap(), "package");
    let (good, signed, _) = run(&["sign", "--key", "key.pem", "agent_1.2_all.deb"]);
    assert!(good && signed.starts_with(&format!("sha256:{} ", sha256(b"package"))), "{signed}");
}
