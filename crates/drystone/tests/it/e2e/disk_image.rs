//! A host made of namespaces is given a disk image by its agent, which is simulated, and boots its disk with the user data that
//! came along; again after a power cycle. Another instance begins with an empty disk.

use std::sync::Arc;

use serde_json::json;

use crate::{
    disk_images::{ImageServer, await_state, give_image, sha256},
    stage::{Drystone, is_skipped},
};

const HOST: &str = "compute-01";

#[test]
fn the_disk_boots_with_the_user_data_that_came_with_the_image() {
    if is_skipped() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site.replace("scale: 1.0", "scale: 0"));
    drystone.start();
    await_state(&drystone, HOST, "available");
    let image = Arc::new(vec![7; 200_000]);
    let server = ImageServer::start("127.0.0.1:0", Arc::clone(&image), 0);
    let url = format!("http://{}/disk.raw", server.address);
    let image = json!({"url": url, "checksum": sha256(&image)});
    give_image(&drystone, HOST, &image, "#cloud-config\nruncmd: [[sh, -c, 'echo one > /etc/which']]\n");
    let host = await_state(&drystone, HOST, "provisioned");
    let uid = host["metadata"]["uid"].as_str().unwrap().to_owned();
    let applied = drystone.wait_for("the first boot", || {
        let boots = drystone.boots(HOST);
        (!boots.is_empty()).then_some(boots)
    });
    assert_eq!(applied, [format!("applied instance {uid}")]);

    for online in [false, true] {
        let patch = json!({"spec": {"online": online}}).to_string();
        drystone.must(&[
            "patch",
            "baremetalhost",
            HOST,
            "-n",
            "drystone-system",
            "--type=merge",
            "-p",
            &patch,
        ]);
        drystone.wait_for("power", || {
            let host = drystone.json(&["get", "baremetalhost", HOST, "-n", "drystone-system"]);
            (host["status"]["poweredOn"] == online).then_some(())
        });
    }
    drystone.wait_for("the second boot", || (drystone.boots(HOST).len() == 2).then_some(()));
    assert_eq!(drystone.boots(HOST)[1], "booted from disk");
    drystone.stop();
}
