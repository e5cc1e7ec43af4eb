//! `kill -9` in the middle of what is done to a cluster that is a VNF: installation over SSH goes on where it was, to the same end.

use std::cell::RefCell;

use super::{
    lab::{Vnf, client, onboard, password, request, with_cloud},
    vims,
};
use crate::{e2e::kill::Reaper, nfv::Client, stage::Drystone};

/// How often Drystone is killed, in the middle of instantiations and in the middle of heals, unless `DRYSTONE_KILLS` says otherwise: 25 are fifty
/// starts, which take ten minutes.
const KILLS: usize = 6;

fn kills() -> usize {
    std::env::var("DRYSTONE_KILLS").map_or(KILLS, |kills| kills.parse().expect("DRYSTONE_KILLS is a number"))
}

#[test]
fn again_and_again() {
    let Some(program) = client() else { return };
    let kills = kills();
    let password = password();
    let port = drystone_loopback::free_port();
    let mut drystone = Drystone::new("netns", |site| with_cloud(&site, &password.text));
    drystone.arguments = vec!["--http".into(), format!("127.0.0.1:{port}"), "--http-trust-loopback".into()];
    drystone.start();
    let directory = tempfile::tempdir().unwrap();
    let client = Client { program: &program, directory: directory.path(), port, version: "2" };
    let vnfd = onboard(&drystone, &Client { version: "1", ..client });
    client.file("request.json", &request(&password.text));
    let (mut reaper, mut of_instantiation, mut of_heal) = (Reaper { done: 0, seed: 7, most: 5 }, 0, 0);
    for round in 0.. {
        assert!(round < 6, "the story is too short: {of_instantiation} and {of_heal} kills");
        let made = client.ok(&format!("vnflcm create --name cluster{round} {vnfd} -f json"));
        let id = made["ID"].as_str().unwrap().to_owned();
        let as_v1 = Client { version: "1", ..client };
        as_v1.ok(&format!("vnflcm instantiate {id} request.json"));
        of_instantiation += killed(&mut reaper, &mut drystone, &client, &id, "INSTANTIATE", kills);
        let vnf = Vnf { drystone: &drystone, client, id: id.clone(), rolled_back: RefCell::default() };
        let before = whole(&vnf);
        vnf.claim();
        vnf.pod("writer", "/hello append /data/file kept");
        vnf.give_up_claim();

        client.ok(&format!("vnflcm heal {id}"));
        of_heal += killed(&mut reaper, &mut drystone, &client, &id, "HEAL", kills);
        let vnf = Vnf { drystone: &drystone, client, id, rolled_back: RefCell::default() };
        let after = whole(&vnf);
        assert!(!after.iter().any(|server| before.contains(server)), "{before:?} {after:?}");
        vnf.claim();
        assert_eq!(vnf.pod("reader", "/hello cat /data/file"), "kept\n");
        vnf.end();
        if of_instantiation >= kills && of_heal >= kills {
            break;
        }
    }
    println!("killed {of_instantiation} times in instantiations, {of_heal} times in heals");
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}

/// Kills Drystone again and again until an operation is over; how many times that was.
fn killed(
    reaper: &mut Reaper,
    drystone: &mut Drystone,
    client: &Client<'_>,
    id: &str,
    operation: &str,
    kills: usize,
) -> usize {
    let before = reaper.done;
    reaper.until(drystone, kills, |drystone| {
        let kind = format!("jsonpath={{.items[?(@.spec.operation=='{operation}')].status.operationState}}");
        let states = drystone.must(&["get", "vnflcmoperations", "-n", "drystone-system", "-o", &kind]);
        assert!(!states.contains("FAILED"), "{states}: {:?}", client.occurrences(id, operation));
        states.split(' ').all(|state| state == "COMPLETED")
    });
    let done = client.occurrences(id, operation);
    assert!(done.len() == 1 && done[0]["operationState"] == "COMPLETED", "{done:?}");
    reaper.done - before
}

/// Checks that all of the cluster is there, once; returns its servers.
fn whole(vnf: &Vnf<'_>) -> Vec<String> {
    let servers = ["masterNode", "workerNode", "storage_server"].map(|vdu| vnf.components(vdu)).concat();
    assert_eq!(servers.len(), 4, "{servers:?}");
    let machines = vnf.drystone.namespaces().into_iter().filter(|name| name.contains("-vm.")).count();
    assert_eq!(machines, 4, "machines that the VNF does not have are left, or lacking");
    assert_eq!(vnf.ready(), (3, 3));
    assert_eq!(vims(&vnf.client), 2, "the cluster is a VIM, once");
    servers
}
