//! Seed 002 on machines: a Kubernetes cluster is a VNF with a storage server, asked for by OpenStack's own client, scaled, healed in part
//! and as a whole, moved to another network and ended. Its machines are namespaces with real SSH servers, its volume is a loop device, its
//! file server NFS-Ganesha.

mod killed;
mod lab;

use serde_json::{Value, json};

use self::lab::{
    OTHER_NETWORK, Vnf, client, onboard, password, request, request_for_three, vims, with_cloud,
};
use crate::{
    nfv::Client,
    search::{Marked, Watch, assert_it_finds, files_but},
    stage::Drystone,
};

#[test]
fn kubernetes_clusters_are_vnfs_whose_storage_is_healed_without_loss() {
    let Some(program) = client() else { return };
    let password = password();
    let port = drystone_loopback::free_port();
    let mut drystone = Drystone::new("netns", |site| with_cloud(&site, &password.text));
    drystone.arguments = vec!["--http".into(), format!("127.0.0.1:{port}"), "--http-trust-loopback".into()];
    let watch = Watch::start(password.clone());
    drystone.start();
    let directory = tempfile::tempdir().unwrap();
    let client = |version| Client { program: &program, directory: directory.path(), port, version };
    let vnfd = onboard(&drystone, &client("1"));

    let request = request(&password.text);
    let vnf = Vnf::instantiate(&drystone, client("1"), "cluster", &vnfd, &request);
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
    storage_moves_to_another_network(&vnf, &request);
    all_is_healed_but_the_volume(&vnf);
    everything_is_healed(&vnf);
    nothing_tells_the_password(&vnf, &password);
    vnf.end();
    assert_eq!(vims(&vnf.client), 1, "its VIM is gone with it");

    let three = request_for_three(&password.text);
    let vnf = Vnf::instantiate(&drystone, client("1"), "three", &vnfd, &three);
    assert_eq!(vnf.ready(), (5, 3));
    control_planes_are_healed(&vnf);
    nothing_tells_the_password(&vnf, &password);
    vnf.end();
    vnf.tell_times();
    let machines = drystone.namespaces().into_iter().filter(|name| name.contains("-vm."));
    assert_eq!(machines.collect::<Vec<_>>(), [""; 0], "machines are left");
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
    let (found, rounds) = watch.end();
    assert!(found.is_empty() && rounds > 10, "after {rounds} looks: {found:?}");
}

fn storage_is_healed_unless_it_is_used(vnf: &Vnf<'_>) {
    let server = vnf.components("storage_server").remove(0);
    vnf.client
        .post(&format!("/vnflcm/v1/vnf_instances/{}/heal", vnf.id), &json!({"vnfcInstanceId": [&server]}));
    is_refused_as_used(vnf, "HEAL");
    assert_eq!(vnf.components("storage_server"), std::slice::from_ref(&server));
    vnf.give_up_claim();

    vnf.asks("HEAL", "heal", &json!({"vnfcInstanceId": [&server]}));
    assert_ne!(vnf.components("storage_server"), [server]);
    assert_eq!(vnf.ready(), (4, 3));
    data_are_kept(vnf, "after-storage");
}

/// An operation fails because the storage is used, and is rolled back.
fn is_refused_as_used(vnf: &Vnf<'_>, operation: &str) {
    let failed = vnf.drystone.wait_for("the refusal", || {
        let all = vnf.client.occurrences(&vnf.id, operation);
        all.into_iter().find(|one| one["operationState"] == "FAILED_TEMP")
    });
    let path = format!("/vnflcm/v1/vnf_lcm_op_occs/{}", failed["id"].as_str().unwrap());
    let shown = vnf.client.get(&path);
    assert!(shown.to_string().contains("nfs-pv1 is bound to claim default/data"), "{shown}");
    vnf.client.ok(&format!("vnflcm op rollback {}", failed["id"].as_str().unwrap()));
    vnf.drystone.wait_for("the roll-back", || {
        (vnf.client.get(&path)["operationState"] == "ROLLED_BACK").then_some(())
    });
    vnf.rolled_back.borrow_mut().push(failed["id"].as_str().unwrap().to_owned());
}

fn data_are_kept(vnf: &Vnf<'_>, when: &str) {
    vnf.claim();
    assert_eq!(vnf.pod(when, "/hello cat /data/file"), "kept\n");
    vnf.give_up_claim();
}

/// The storage server gets an address of another network: PersistentVolumes follow.
fn storage_moves_to_another_network(vnf: &Vnf<'_>, request: &Value) {
    let addresses = || vnf.kubectl("get pv -o jsonpath='{.items[*].spec.nfs.server}'");
    assert!(addresses().starts_with("10.10.0."), "{}", addresses());
    let mut links = request["extVirtualLinks"].clone();
    let links = links.as_array_mut().unwrap();
    let mut storage = links.remove(2);
    storage["resourceId"] = json!(OTHER_NETWORK);
    vnf.client.file("links.json", &json!({"extVirtualLinks": [storage]}));
    let ask = || vnf.client.ok(&format!("vnflcm change-ext-conn {} links.json", vnf.id));
    // While somebody uses it, it stays where it is.
    vnf.claim();
    ask();
    is_refused_as_used(vnf, "CHANGE_EXT_CONN");
    assert!(addresses().starts_with("10.10.0."), "{}", addresses());
    vnf.give_up_claim();
    ask();
    vnf.over("CHANGE_EXT_CONN");
    assert_eq!(vnf.ready(), (4, 3));
    assert!(addresses().split(' ').all(|address| address.starts_with("172.24.4.")), "{}", addresses());
    data_are_kept(vnf, "after-move");
}

/// Version 2 without components: all servers are made anew, volumes stay.
fn all_is_healed_but_the_volume(vnf: &Vnf<'_>) {
    let servers = || ["masterNode", "workerNode", "storage_server"].map(|vdu| vnf.components(vdu)).concat();
    let before = servers();
    let client = Client { version: "2", ..vnf.client };
    client.ok(&format!("vnflcm heal {}", vnf.id));
    vnf.over("HEAL");
    let after = servers();
    assert!(after.len() == before.len() && !after.iter().any(|server| before.contains(server)), "{after:?}");
    assert_eq!(vnf.ready(), (4, 3));
    data_are_kept(vnf, "after-all");
}

/// Version 1 without components: the stack is deleted and made anew, and with it the volume.
fn everything_is_healed(vnf: &Vnf<'_>) {
    vnf.asks("HEAL", "heal", &json!({"cause": "everything"}));
    assert_eq!(vnf.ready(), (4, 3));
    assert_eq!(vims(&vnf.client), 2, "it is the same VIM");
    vnf.claim();
    vnf.pod("anew", "/hello append /data/file anew");
    assert_eq!(vnf.pod("after-everything", "/hello cat /data/file"), "anew\n");
    vnf.give_up_claim();
}

/// The control plane that has the cluster's address is made anew, then another one: all nodes stay.
fn control_planes_are_healed(vnf: &Vnf<'_>) {
    let masters = vnf.components("masterNode");
    let has_address =
        |server: &&String| vnf.try_on(server, "ip address show dev eth0").unwrap().contains("eth0:api");
    let holder = masters.iter().find(has_address).expect("a control plane has the address").clone();
    let other = masters.into_iter().find(|server| *server != holder).unwrap();
    for server in [holder, other] {
        vnf.asks("HEAL", "heal", &json!({"vnfcInstanceId": [&server]}));
        let now = vnf.components("masterNode");
        assert!(now.len() == 3 && !now.contains(&server), "{now:?}");
        vnf.drystone.wait_for("all nodes are ready", || (vnf.ready() == (5, 3)).then_some(()));
        let members = vnf.kubectl("get --raw /control-plane/members");
        let members: Value = serde_json::from_str(&members).unwrap();
        let voters = members["items"].as_array().unwrap().iter().filter(|member| member["learner"] == false);
        assert_eq!(voters.count(), 3, "{members}");
    }
    data_can_be_written(vnf);
}

fn data_can_be_written(vnf: &Vnf<'_>) {
    vnf.claim();
    vnf.pod("writer", "/hello append /data/file replicated");
    assert_eq!(vnf.pod("reader", "/hello cat /data/file"), "replicated\n");
    vnf.give_up_claim();
}

/// Neither what clients are shown, nor what is stored, nor a file of Drystone's or of the emulated cloud's. (Processes are watched all the time.)
fn nothing_tells_the_password(vnf: &Vnf<'_>, password: &Marked) {
    let shown = vnf.client.ok(&format!("vnflcm show {} -f json", vnf.id));
    assert!(!shown.to_string().contains(&password.text), "{shown}");
    let vims = vnf.client.get("/v1.0/vims.json");
    assert!(!vims.to_string().contains(&password.text), "{vims}");
    for path in ["vnf_instances", "vnf_lcm_op_occs"] {
        for version in ["v1", "v2"] {
            for one in vnf.client.get(&format!("/vnflcm/{version}/{path}")).as_array().unwrap() {
                let shown =
                    vnf.client.get(&format!("/vnflcm/{version}/{path}/{}", one["id"].as_str().unwrap()));
                assert!(!shown.to_string().contains(&password.text), "{path}: {shown}");
            }
        }
    }
    let kinds = "vnfinstances,vnflcmoperations,vims,operations,events";
    let all = vnf.drystone.must(&["get", kinds, "-A", "-o", "json"]);
    assert!(all.len() > 10_000 && !all.contains(&password.text));
    let data = &vnf.drystone.data;
    assert_it_finds(&data.join("pki"), password);
    // Volumes have what pods write to them.
    let found = files_but("*.img", data, std::slice::from_ref(password));
    assert!(found.is_empty(), "{found:?}");
}
