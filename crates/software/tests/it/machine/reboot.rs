//! A package that works only after a reboot, on a host that has nothing which could reboot it: its management controller does.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_api::{BareMetalHost, HostSoftware, SYSTEM_NAMESPACE, SoftwarePackage};
use drystone_ssh::PrivateKey;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use drystone_loopback::free_port;

use super::{Disk, Host, Shop, as_declared, can_run, controlled, declare, package, spec};
use crate::stage::Stage;

/// Metal3's annotation.
const REBOOT: &str = "reboot.metal3.io";

/// Does what a management controller does about the annotation; counts.
async fn reboots(hosts: Api<BareMetalHost>, host: Arc<Mutex<Host>>, count: Arc<Mutex<Vec<String>>>) {
    loop {
        let metal = hosts.get("h0").await.expect("there");
        if let Some(how) = metal.annotations().get(REBOOT) {
            count.lock().unwrap_or_else(PoisonError::into_inner).push(how.clone());
            let host = host.clone();
            let restarted = tokio::task::spawn_blocking(move || {
                host.lock().unwrap_or_else(PoisonError::into_inner).restart();
            });
            restarted.await.expect("restarted");
            let patch = json!({"metadata": {"annotations": {REBOOT: null}}});
            hosts.patch("h0", &PatchParams::default(), &Patch::Merge(patch)).await.expect("accepted");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Whether layers can be kept in temporary files: an overlay cannot lie on another one.
fn keeps_layers() -> bool {
    let folder = std::env::temp_dir();
    let overlay = std::process::Command::new("stat")
        .args([Path::new("-f"), Path::new("-c"), Path::new("%T"), &folder])
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"overlay"));
    if overlay {
        println!("skipped: {} is on an overlay", folder.display());
    }
    !overlay
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_needs_a_reboot_gets_one_and_no_more() {
    if !can_run() || !keeps_layers() {
        return;
    }
    let (port, key) = (free_port(), PrivateKey::generate().expect("made"));
    let nothing_reboots = "rm -f /sbin/reboot /usr/sbin/reboot";
    let host = Host::with_disk(port, &key, &[], nothing_reboots, Disk::Lasting);
    let shop = Shop::open(vec![("one", package("1.0", "exit 0"))]).await;
    let (stage, folder) = (Stage::start().await, tempfile::tempdir().expect("a folder"));
    declare(&stage, &[&host], &key, true).await;
    let software: Api<HostSoftware> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let hosts: Api<BareMetalHost> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let (host, count) = (Arc::new(Mutex::new(host)), Arc::<Mutex<Vec<String>>>::default());
    let _metal = AbortOnDropHandle::new(tokio::spawn(reboots(hosts, host.clone(), count.clone())));
    let _control = controlled(&stage, folder.path());
    let mut wanted = spec(&shop, port, "1.0", "one");
    wanted.packages = vec![SoftwarePackage { reboot: true, ..wanted.packages[0].clone() }];
    stage.set("base", wanted).await;
    stage.set_is("base", "Current").await;
    assert_eq!(host.lock().unwrap_or_else(PoisonError::into_inner).version(), "ii 1.0");
    let asked = count.lock().unwrap_or_else(PoisonError::into_inner).clone();
    assert_eq!(asked, ["{\"mode\": \"soft\"}"], "one reboot");
    let rollouts = stage.rollouts().await;
    let status = rollouts[0].status.clone().expect("has one");
    assert!((rollouts.len(), status.hosts[0].attempts) == (1, 1) && status.hosts[0].reboot, "{status:?}");
    as_declared(&software).await;
}
