//! Whatever comes in whatever order, no node is ever promised more than it has.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Happening {
    NodeAppears(usize),
    NodeVanishes(usize),
    PodAppears {
        milli: u32,
        port: Option<u8>,
        priority: i32,
    },
    Schedule,
    /// The API confirms a binding.
    Confirm(usize),
    BindFails(usize),
    PodVanishes(usize),
    TimePasses,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        2 => (0usize..4).prop_map(Happening::NodeAppears),
        1 => (0usize..4).prop_map(Happening::NodeVanishes),
        6 => (0u32..5000, prop::option::of(0u8..3), 0i32..3)
            .prop_map(|(milli, port, priority)| Happening::PodAppears { milli, port, priority }),
        10 => Just(Happening::Schedule),
        4 => any::<usize>().prop_map(Happening::Confirm),
        1 => any::<usize>().prop_map(Happening::BindFails),
        2 => any::<usize>().prop_map(Happening::PodVanishes),
        2 => Just(Happening::TimePasses),
    ]
}

/// The API's side of the story.
struct World {
    engine: Engine,
    now: Instant,
    pods: Vec<Pod>,
    binding: HashMap<String, String>,
}

impl World {
    fn schedule(&mut self) {
        match next(&mut self.engine, self.now) {
            Verdict::Bind { pod, node } => {
                self.binding.insert(pod.uid().to_owned(), node);
            }
            Verdict::Unschedulable { preemption: Some(candidate), .. } => {
                for victim in candidate.victims {
                    self.vanish(victim.uid());
                }
            }
            _ => {}
        }
    }

    fn vanish(&mut self, uid: &str) {
        if let Some(index) = self.pods.iter().position(|pod| pod.metadata.uid.as_deref() == Some(uid)) {
            let pod = self.pods.remove(index);
            self.binding.remove(uid);
            self.engine.pod_changed(&Change::Deleted(Arc::new(pod)), self.now);
        }
    }

    fn confirm(&mut self, n: usize) {
        let mut uids: Vec<_> = self.binding.keys().cloned().collect();
        uids.sort();
        let Some(uid) = (!uids.is_empty()).then(|| uids[n % uids.len()].clone()) else { return };
        let Some(node) = self.binding.remove(&uid) else { return };
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.metadata.uid.as_deref() == Some(&uid)) else {
            return;
        };
        let old = Arc::new(pod.clone());
        pod.spec.as_mut().unwrap().node_name = Some(node);
        let new = Arc::new(pod.clone());
        self.engine.pod_changed(&Change::Updated { old, new }, self.now);
    }

    fn fail(&mut self, n: usize) {
        let mut uids: Vec<_> = self.binding.keys().cloned().collect();
        uids.sort();
        if !uids.is_empty() {
            let uid = &uids[n % uids.len()];
            self.binding.remove(uid);
            self.engine.bind_failed(uid, self.now);
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for info in self.engine.cluster().nodes() {
            let milli: i64 = info.pods.iter().map(|pod| pod.request.milli_cpu).sum();
            prop_assert_eq!(milli, info.requested.milli_cpu, "the books must balance");
            prop_assert!(milli <= info.allocatable.milli_cpu, "cpu overcommitted");
            prop_assert!(info.pods.len() <= info.allowed_pods, "too many pods");
            let mut ports: Vec<i32> =
                info.pods.iter().flat_map(|pod| &pod.host_ports).map(|port| port.port).collect();
            let all = ports.len();
            ports.sort_unstable();
            ports.dedup();
            prop_assert_eq!(ports.len(), all, "a port given twice");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn nothing_is_promised_twice(happenings in prop::collection::vec(happening(), 0..200)) {
        let mut world = World {
            engine: Engine::new("default-scheduler"),
            now: Instant::now(),
            pods: Vec::new(),
            binding: HashMap::new(),
        };
        for (serial, happening) in happenings.into_iter().enumerate() {
            match happening {
                Happening::NodeAppears(n) => {
                    world.engine.node_changed(&added(node(&format!("n{n}"), "a")), world.now);
                }
                Happening::NodeVanishes(n) => {
                    let gone = Change::Deleted(Arc::new(node(&format!("n{n}"), "a")));
                    world.engine.node_changed(&gone, world.now);
                }
                Happening::PodAppears { milli, port, priority } => {
                    let new = pod(&format!("p{serial}"), "x", &format!("{milli}m"));
                    let mut new = with_spec(&new, &json!({"priority": priority}));
                    if let Some(port) = port {
                        new = with_host_port(new, 8000 + i32::from(port));
                    }
                    world.pods.push(new.clone());
                    world.engine.pod_changed(&added(new), world.now);
                }
                Happening::Schedule => world.schedule(),
                Happening::Confirm(n) => world.confirm(n),
                Happening::BindFails(n) => world.fail(n),
                Happening::PodVanishes(n) if !world.pods.is_empty() => {
                    let uid = world.pods[n % world.pods.len()].metadata.uid.clone().unwrap();
                    world.vanish(&uid);
                }
                Happening::PodVanishes(_) => {}
                Happening::TimePasses => world.now += Duration::from_secs(30),
            }
            world.check()?;
        }
    }

    /// What fits is scheduled in the end: nobody starves while there is room.
    #[test]
    fn what_fits_is_scheduled(sizes in prop::collection::vec(1u32..4000, 1..20)) {
        let mut now = Instant::now();
        let mut engine = Engine::new("default-scheduler");
        for (n, milli) in sizes.iter().enumerate() {
            engine.pod_changed(&added(pod(&format!("p{n}"), "x", &format!("{milli}m"))), now);
        }
        let mut nodes = 0;
        for _ in 0..2000 {
            match next(&mut engine, now) {
                Verdict::Bind { pod, .. } => engine.bound(pod.uid()),
                Verdict::Unschedulable { .. } => {
                    nodes += 1;
                    engine.node_changed(&added(node(&format!("n{nodes}"), "a")), now);
                }
                Verdict::Idle(Some(due)) => now = now.max(due),
                Verdict::Idle(None) => break,
                Verdict::PlaceVolumes { .. } => prop_assert!(false, "there are no volumes"),
            }
        }
        prop_assert_eq!(engine.waiting(), 0);
    }
}
