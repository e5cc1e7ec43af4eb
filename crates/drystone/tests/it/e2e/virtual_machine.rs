//! A virtual machine with real firmware boots the agent from virtual media, gets a disk image, boots it, and does what its
//! user data say. Needs QEMU and the images of `./dev image`.

use std::{
    io::Read as _,
    net::TcpListener,
    path::PathBuf,
    sync::{Arc, mpsc},
};

use serde_json::json;

use crate::{
    disk_images::{ImageServer, await_state, give_image, sha256},
    stage::{Drystone, workspace},
};

const HOST: &str = "vm-01";

/// Images, or why the test cannot run.
fn images() -> Result<(PathBuf, PathBuf), String> {
    let images = workspace().join("target/images");
    let (agent, system) = (images.join("agent.iso"), images.join("system.raw"));
    for file in [&agent, &system] {
        if !file.is_file() {
            return Err(format!("no {}; `./dev image` makes it", file.display()));
        }
    }
    let qemu = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    qemu.map(|_| (agent, system)).map_err(|_| "qemu-system-x86_64 is not installed".to_owned())
}

fn site(text: &str) -> String {
    let name = text.lines().find(|line| line.starts_with("name: ")).unwrap();
    format!(
        "{name}\nbackend: qemu\ntiming: {{scale: 0}}\n\
         fabrics: [{{id: Ethernet, switches: [{{name: eth-a, ports: 2, speedGbps: 25}}]}}]\n\
         hosts:\n- {{name: {HOST}, processor: {{cores: 1}}, memoryMiB: 1024, drives: [{{capacityGiB: 4, media: SSD}}], \
         nics: [{{name: eth0, switch: eth-a}}]}}\n"
    )
}

/// Hears one line for each connection.
fn listen() -> (u16, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        for mut connection in listener.incoming().flatten() {
            let mut text = String::new();
            // What a host that is switched off had begun to say is no line.
            if connection.read_to_string(&mut text).is_ok() && send.send(text.trim().to_owned()).is_err() {
                return;
            }
        }
    });
    (port, receive)
}

#[test]
fn a_virtual_machine_boots_what_was_written_to_its_disk() {
    let (agent, system) = match images() {
        Ok(images) => images,
        Err(reason) => {
            println!("skipped: {reason}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        }
    };
    let mut drystone = Drystone::new("qemu", |text| site(&text));
    drystone.arguments = vec!["--agent-medium".to_owned(), agent.display().to_string()];
    drystone.start();
    let image = Arc::new(std::fs::read(system).unwrap());
    let server = ImageServer::start("127.0.0.1:0", Arc::clone(&image), 1);
    let (port, heard) = listen();
    let user_data = format!(
        "#cloud-config\nhostname: built\nwrite_files:\n- {{path: /etc/said, content: 'hello from'}}\n\
         - path: /etc/systemd/system/say.service\n  content: |\n    [Service]\n    Type=oneshot\n    \
         ExecStart=/bin/sh -c 'echo $(cat /etc/said) $(hostname) | nc 10.0.2.2 {port}'\n    [Install]\n    WantedBy=multi-user.target\n\
         runcmd: [[systemctl, enable, --now, say.service]]\n"
    );
    await_state(&drystone, HOST, "available");
    // This machine is 10.0.2.2 for hosts behind QEMU's address translation.
    let url = format!("http://10.0.2.2:{}/system.raw", server.address.port());
    let image = json!({"url": url, "checksum": sha256(&image), "format": "raw"});
    give_image(&drystone, HOST, &image, &user_data);
    await_state(&drystone, HOST, "provisioned");
    let said = heard.recv_timeout(crate::stage::PATIENCE).unwrap();
    assert_eq!(said, "hello from built");

    // Off by its power button, and on again: the disk is what it boots, and the unit starts again.
    let online = |online: bool| {
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
    };
    online(false);
    online(true);
    assert_eq!(heard.recv_timeout(crate::stage::PATIENCE).unwrap(), "hello from built");

    let patch = json!({"spec": {"image": null, "online": false}}).to_string();
    drystone.must(&["patch", "baremetalhost", HOST, "-n", "drystone-system", "--type=merge", "-p", &patch]);
    let host = await_state(&drystone, HOST, "available");
    assert!(host["metadata"]["annotations"]["drystone.dev/image-written"].is_null(), "cleaned: {host}");
    drystone.stop();
}
