//! Tables, and a simulation in which creations and deletions fail at random.

use k8s_openapi::api::{apps::v1::ReplicaSetSpec, core::v1::PodTemplateSpec};
use kube::api::ObjectMeta;
use proptest::prelude::*;

use super::plan::{self, Step};
use super::*;
use crate::pod::tests::test_pod;

fn replica_set(replicas: i32) -> ReplicaSet {
    let labels = Some([("app".to_owned(), "web".to_owned())].into());
    ReplicaSet {
        metadata: ObjectMeta { generation: Some(3), ..Default::default() },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            template: Some(PodTemplateSpec {
                metadata: Some(ObjectMeta { labels, ..Default::default() }),
                spec: None,
            }),
            ..Default::default()
        }),
        status: None,
    }
}

fn pods(names: &[&str]) -> Vec<Arc<Pod>> {
    names.iter().map(|name| Arc::new(test_pod(name, Some("n1"), true))).collect()
}

#[test]
fn counts_become_creations_and_deletions() {
    let now = Timestamp::UNIX_EPOCH;
    let some = pods(&["a", "b", "c"]);
    assert_eq!(plan::step(&replica_set(3), &some, &some, now), Step::Nothing);
    assert_eq!(plan::step(&replica_set(5), &some, &some, now), Step::Create(2));
    assert_eq!(plan::step(&replica_set(1000), &some, &some, now), Step::Create(plan::BURST));
    let Step::Delete(surplus) = plan::step(&replica_set(1), &some, &some, now) else { panic!("must delete") };
    assert_eq!(surplus.len(), 2);
}

#[test]
fn shrinking_spares_the_node_with_fewer_relatives() {
    let now = Timestamp::UNIX_EPOCH;
    let own = vec![Arc::new(test_pod("a", Some("n1"), true)), Arc::new(test_pod("b", Some("n2"), true))];
    let mut relatives = own.clone();
    relatives.push(Arc::new(test_pod("c", Some("n2"), true)));
    let Step::Delete(surplus) = plan::step(&replica_set(1), &own, &relatives, now) else {
        panic!("must delete")
    };
    assert_eq!(kind::name(surplus[0].as_ref()), "b");
}

#[test]
fn status_counts_and_conditions() {
    let now = Timestamp::UNIX_EPOCH;
    let mut labelled = test_pod("a", Some("n1"), true);
    labelled.metadata.labels = Some([("app".to_owned(), "web".to_owned())].into());
    let mut dying = test_pod("c", Some("n1"), true);
    dying.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let all = vec![Arc::new(labelled), Arc::new(test_pod("b", Some("n1"), false)), Arc::new(dying)];
    let failure = Failure { reason: "FailedCreate", message: "quota".into() };
    let mut set = replica_set(3);
    let status = plan::status(&set, &all, Some(&failure), now);
    assert_eq!((status.replicas, status.ready_replicas, status.available_replicas), (2, Some(1), Some(1)));
    assert_eq!((status.fully_labeled_replicas, status.terminating_replicas), (Some(1), Some(1)));
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.conditions.as_ref().unwrap()[0].message.as_deref(), Some("quota"));
    set.status = Some(status);
    assert_eq!(plan::status(&set, &all, None, now).conditions, None);
}

/// What happens in one round of the simulation.
#[derive(Debug, Clone)]
enum Happening {
    /// This many of the creations or deletions asked for succeed.
    Reconcile { succeed: usize },
    /// A pod vanishes (node lost, evicted, deleted by hand).
    Lose(usize),
    /// A pod fails and stays as a corpse.
    Fail(usize),
    /// Somebody scales.
    Scale(i32),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0usize..6).prop_map(|succeed| Happening::Reconcile { succeed }),
        1 => any::<usize>().prop_map(Happening::Lose),
        1 => any::<usize>().prop_map(Happening::Fail),
        1 => (0i32..12).prop_map(Happening::Scale),
    ]
}

struct World {
    set: ReplicaSet,
    pods: Vec<Arc<Pod>>,
    serial: usize,
}

impl World {
    fn active(&self) -> Vec<Arc<Pod>> {
        self.pods.iter().filter(|pod| pod::is_active(pod)).cloned().collect()
    }

    fn reconcile(&mut self, succeed: usize) {
        let active = self.active();
        match plan::step(&self.set, &active, &active, Timestamp::UNIX_EPOCH) {
            Step::Nothing => {}
            Step::Create(count) => {
                for _ in 0..count.min(succeed) {
                    self.serial += 1;
                    let name = format!("p{}", self.serial);
                    self.pods.push(Arc::new(test_pod(&name, Some("n"), self.serial.is_multiple_of(2))));
                }
            }
            Step::Delete(surplus) => {
                for victim in surplus.iter().take(succeed) {
                    self.pods.retain(|pod| pod.metadata.uid != victim.metadata.uid);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn converges_whatever_fails(happenings in prop::collection::vec(happening(), 0..40)) {
        let mut world = World { set: replica_set(3), pods: Vec::new(), serial: 0 };
        for happening in happenings {
            match happening {
                Happening::Reconcile { succeed } => {
                    let before = world.active().len();
                    let wanted = plan::wanted(&world.set);
                    world.reconcile(succeed);
                    let after = world.active().len();
                    prop_assert!(after <= before.max(wanted), "created beyond the wanted number");
                    prop_assert!(after >= before.min(wanted), "deleted below the wanted number");
                }
                Happening::Lose(n) if !world.pods.is_empty() => {
                    let index = n % world.pods.len();
                    world.pods.remove(index);
                }
                Happening::Fail(n) if !world.pods.is_empty() => {
                    let index = n % world.pods.len();
                    let mut failed = world.pods[index].as_ref().clone();
                    failed.status.as_mut().unwrap().phase = Some("Failed".into());
                    world.pods[index] = Arc::new(failed);
                }
                Happening::Scale(replicas) => world.set.spec.as_mut().unwrap().replicas = Some(replicas),
                Happening::Lose(_) | Happening::Fail(_) => {}
            }
        }
        for _ in 0..20 {
            world.reconcile(1);
        }
        prop_assert_eq!(world.active().len(), plan::wanted(&world.set));
    }
}
