//! `kill -9` at any moment: the next start carries on to the same end, nothing is leaked and nothing is done twice.

use std::{collections::BTreeSet, time::Duration};

use crate::stage::{Drystone, PATIENCE, is_skipped, kubectl};

/// How often Drystone is killed.
const KILLS: usize = 20;

/// Kills Drystone after this many more writes, and starts it again.
pub(super) struct Reaper {
    pub(super) done: usize,
    /// Pseudo-random, the same in every run: a failure can be repeated.
    pub(super) seed: u64,
    /// Most writes between a start and the kill.
    pub(super) most: u64,
}

impl Reaper {
    /// Between 1 and so many writes.
    fn writes(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        1 + (self.seed >> 33) % self.most
    }

    /// Waits until `reached`; meanwhile kills up to `kills` times.
    pub(super) fn until(
        &mut self,
        drystone: &mut Drystone,
        kills: usize,
        mut reached: impl FnMut(&Drystone) -> bool,
    ) {
        let mut left = kills;
        let mut next = drystone.revision().unwrap() + self.writes();
        // Each start takes its time on a busy machine.
        let starts = Duration::from_secs(60) * u32::try_from(kills).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE + starts;
        loop {
            assert!(std::time::Instant::now() < deadline, "not reached");
            let revision = drystone.revision();
            if left > 0 && revision.is_some_and(|revision| revision >= next) {
                drystone.kill();
                drystone.start();
                left -= 1;
                self.done += 1;
                println!("killed for the {}th time after revision {next}", self.done);
                next = drystone.revision().unwrap() + self.writes();
            } else if reached(drystone) {
                return;
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

fn is_ready(drystone: &Drystone) -> bool {
    let phase = ["get", "cluster/mlops", "-n", "research", "-o", "jsonpath={.status.phase}"];
    drystone.kubectl(&phase).is_ok_and(|phase| phase == "Ready")
}

fn check_members(drystone: &Drystone, expected: usize) {
    let cluster = drystone.json(&["get", "cluster/mlops", "-n", "research"]);
    let members: BTreeSet<String> = cluster["status"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| member["host"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(members.len(), expected, "{}", cluster["status"]);
    let claimed: BTreeSet<String> = drystone.claimed().into_iter().map(|(host, _)| host).collect();
    assert_eq!(claimed, members, "claimed hosts are not the members");
    for host in &members {
        // Each cluster installs a host with an instance of its own, and boots it once.
        let boots = drystone.boots(host);
        let different: BTreeSet<&String> = boots.iter().collect();
        assert!(!boots.is_empty() && boots.len() == different.len(), "{host} booted again: {boots:?}");
        assert!(!boots.iter().any(|boot| boot == "booted from disk"), "{host} was reset: {boots:?}");
    }
    let inside = drystone.cluster_kubeconfig("research", "mlops");
    let nodes = kubectl(&inside, &["get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"]).unwrap();
    let nodes: BTreeSet<String> = nodes.split_whitespace().map(str::to_owned).collect();
    assert_eq!(nodes, members, "nodes are not the members");
}

#[test]
fn twenty_times() {
    if is_skipped() {
        return;
    }
    let mut drystone = Drystone::new("netns", |site| site);
    // A phase has some forty writes.
    let mut reaper = Reaper { done: 0, seed: 7, most: 30 };
    drystone.start();
    let mut rounds = 0;
    while reaper.done < KILLS {
        rounds += 1;
        assert!(rounds <= 8, "the story is too short for {KILLS} kills");
        drystone.wait_for("the site", || {
            let ready =
                ["wait", "--for=condition=Ready", "site", "--all", "-n", "drystone-system", "--timeout=5s"];
            drystone.kubectl(&ready).ok()
        });
        drystone.must(&["apply", "-f", "examples/mlops/cluster.yaml"]);
        reaper.until(&mut drystone, 7, is_ready);
        check_members(&drystone, 3);

        let inside = drystone.cluster_kubeconfig("research", "mlops");
        kubectl(&inside, &["apply", "-f", "examples/mlops/deployment.yaml"]).unwrap();
        kubectl(&inside, &["scale", "deployment/hello", "--replicas=10"]).unwrap();
        let running = || {
            let ready = ["get", "deployment/hello", "-o", "jsonpath={.status.readyReplicas}"];
            kubectl(&inside, &ready).is_ok_and(|ready| ready == "10")
        };
        reaper.until(&mut drystone, 5, |drystone| running() && is_ready(drystone));
        check_members(&drystone, 4);

        drystone.must(&["delete", "cluster/mlops", "-n", "research", "--wait=false"]);
        let gone = |drystone: &Drystone| {
            drystone.kubectl(&["get", "clusters", "-A", "-o", "name"]).is_ok_and(|names| names.is_empty())
        };
        reaper.until(&mut drystone, 8, gone);
        drystone.assert_all_given_back();
    }
    println!("{} kills in {rounds} rounds", reaper.done);
    drystone.stop();
    assert_eq!(drystone.namespaces(), [""; 0], "namespaces are left");
}
