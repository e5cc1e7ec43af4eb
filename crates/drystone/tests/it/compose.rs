//! The composing manager on an emulated rack: previews, reservations that end, pools, and what is said of them.

use serde_json::Value;

use crate::stage::Drystone;

/// A file with a composition of that many accelerator hosts.
fn composition(drystone: &Drystone, name: &str, mode: &str, count: u32) -> String {
    let path = drystone.data.join(format!("{name}.yaml"));
    let text = format!(
        "apiVersion: drystone.dev/v1alpha1\nkind: Composition\nmetadata: {{name: {name}, namespace: default}}\n\
         spec:\n  purpose: MLOps\n  mode: {mode}\n  reservationDuration: 10m\n  limits: {{maxHops: 2}}\n  groups:\n  \
         - {{name: gpus, count: {count}, host: {{cores: 32, accelerators: [{{model: a100, count: 4}}]}}}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn phase(drystone: &Drystone, name: &str) -> String {
    let object = drystone.json(&["get", &format!("composition/{name}")]);
    object.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn online(drystone: &Drystone, names: &str) -> usize {
    let hosts = drystone.items(&["get", "baremetalhosts", "-n", "drystone-system"]);
    let is_on = |host: &&Value| {
        host["metadata"]["name"].as_str().unwrap().starts_with(names)
            && host.pointer("/status/poweredOn") == Some(&Value::Bool(true))
    };
    hosts.iter().filter(is_on).count()
}

#[test]
fn previews_reservations_and_pools() {
    let mut drystone = Drystone::new("sim", |site| site.replace("scale: 1.0", "scale: 0.05"));
    drystone.start();
    drystone.wait_for("all hosts", || {
        let blocks = drystone.items(&["get", "resourceblocks", "-n", "drystone-system"]);
        let usable = |block: &&Value| {
            matches!(block.pointer("/status/pool").and_then(Value::as_str), Some("Free" | "Online"))
        };
        (blocks.iter().filter(usable).count() == 12).then_some(())
    });
    drystone.wait_for("both switches of the fast fabric", || {
        let switches = drystone.items(&["get", "switches", "-n", "drystone-system"]);
        (switches.iter().filter(|switch| switch["spec"]["fabric"] == "HSN").count() == 2).then_some(())
    });
    // A preview claims nothing, on the command line or declared.
    let look = composition(&drystone, "look", "Preview", 7);
    let output = drystone.drystone(&["compose", "preview", "-f", &look]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("group gpus needs 7 hosts and 6 of 12 fit"), "{text}");
    assert!(text.contains("It would work with 1 host fewer in group gpus (6 instead of 7)."), "{text}");
    drystone.must(&["apply", "-f", &look]);
    drystone.wait_for("the preview's answer", || (phase(&drystone, "look") == "Infeasible").then_some(()));
    assert_eq!(drystone.claimed(), []);
    // A reservation holds hosts for its time, and its hosts stay as they were.
    let before = online(&drystone, "gpu");
    drystone.must(&["apply", "-f", &composition(&drystone, "soon", "Reserve", 4)]);
    drystone.wait_for("the reservation", || (phase(&drystone, "soon") == "Reserved").then_some(()));
    assert_eq!(drystone.claimed().len(), 4);
    let text = String::from_utf8_lossy(&drystone.drystone(&["explain", "default/soon"]).stdout).into_owned();
    assert!(
        text.contains("Mode Reserve. Reserved: 4 hosts reserved until")
            && text.contains("under fencing token"),
        "{text}"
    );
    // Whoever reserves may also say when it is over.
    let expires = jiff::Timestamp::now().to_string();
    let patch = serde_json::json!({"spec": {"expires": expires}}).to_string();
    drystone.must(&["patch", "composition/soon", "--type", "merge", "-p", &patch]);
    drystone.wait_for("its end", || (phase(&drystone, "soon") == "Expired").then_some(()));
    drystone.wait_for("its hosts", || drystone.claimed().is_empty().then_some(()));
    assert_eq!(online(&drystone, "gpu"), before);
    // A pool warms spares and powers down what is idle.
    let pool = drystone.data.join("pool.yaml");
    std::fs::write(
        &pool,
        "apiVersion: drystone.dev/v1alpha1\nkind: ResourcePool\nmetadata: {name: gpus, namespace: drystone-system}\n\
         spec: {type: Accelerators, warmSpares: 4, idlePowerDown: 5s}\n",
    )
    .unwrap();
    drystone.must(&["apply", "-f", pool.to_str().unwrap()]);
    drystone.wait_for("four warm hosts", || (online(&drystone, "gpu") == 4).then_some(()));
    let patch = r#"{"spec":{"warmSpares":1}}"#;
    drystone.must(&["patch", "resourcepool/gpus", "-n", "drystone-system", "--type", "merge", "-p", patch]);
    drystone.wait_for("one warm host", || (online(&drystone, "gpu") == 1).then_some(()));
    let others = online(&drystone, "c");
    drystone.wait_for("the pool's counts", || {
        let pool = drystone.json(&["get", "resourcepool/gpus", "-n", "drystone-system"]);
        let count = |name: &str| pool.pointer(&format!("/status/counts/{name}")).and_then(Value::as_u64);
        (count("warm") == Some(1) && count("free") == Some(5)).then_some(())
    });
    assert_eq!(others, 1, "hosts of no pool are left as they were found");
}
