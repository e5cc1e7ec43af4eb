//! Tables, and a simulated cluster in which rollouts are interleaved with everything that can happen.

use k8s_openapi::{
    api::{
        apps::v1::{DeploymentSpec, DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment},
        core::v1::{Container, PodSpec, PodTemplateSpec},
    },
    apimachinery::pkg::{
        apis::meta::v1::{LabelSelector, Time},
        util::intstr::IntOrString,
    },
};
use kube::api::ObjectMeta;
use proptest::prelude::*;

use super::{
    plan::{Plan, plan},
    scale::size,
    strategy::Strategy as Rollout,
    *,
};

fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
    let labels: std::collections::BTreeMap<_, _> = [("app".to_owned(), "web".to_owned())].into();
    Deployment {
        metadata: ObjectMeta {
            name: Some("web".into()),
            namespace: Some("default".into()),
            uid: Some("uid-web".into()),
            generation: Some(1),
            ..Default::default()
        },
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            selector: LabelSelector { match_labels: Some(labels.clone()), ..Default::default() },
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(surge)),
                    max_unavailable: Some(IntOrString::Int(unavailable)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta { labels: Some(labels), ..Default::default() }),
                spec: Some(PodSpec::default()),
            },
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(2),
            ..Default::default()
        }),
        status: None,
    }
}

fn set_image(deployment: &mut Deployment, image: &str) {
    let spec = deployment.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    spec.containers = vec![Container { name: "c".into(), image: Some(image.into()), ..Default::default() }];
}

/// A cluster whose ReplicaSet controller and kubelets act when told.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    now: i64,
    created: i64,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), now: 1_000_000, created: 0 }
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_second(self.now).unwrap()
    }

    fn planned(&self) -> Plan {
        let running = |old: &[Arc<ReplicaSet>]| old.iter().any(|set| pods(set) > 0);
        plan(&Observed {
            deployment: &self.deployment,
            replica_sets: &self.sets,
            old_pods_running: &running,
            now: self.time(),
        })
    }

    /// One pass of the Deployment controller.
    fn sync(&mut self) -> Plan {
        let planned = self.planned();
        self.deployment.status = Some(planned.status.clone());
        for action in planned.actions.clone() {
            match action {
                Action::Create(mut set) => {
                    self.created += 1;
                    let created = Timestamp::from_second(self.now + self.created).unwrap();
                    set.metadata.creation_timestamp = Some(Time(created));
                    set.metadata.uid = Some(format!("uid-{}", self.created));
                    self.sets.push(Arc::from(set));
                }
                Action::Update { old, new } => {
                    let place =
                        self.sets.iter_mut().find(|set| set.metadata.uid == old.metadata.uid).unwrap();
                    assert_eq!(*place, old, "planned from a stale view");
                    *place = Arc::from(new);
                }
                Action::Delete(set) => self.sets.retain(|other| other.metadata.uid != set.metadata.uid),
                Action::SetRevision(revision) => {
                    let annotations = self.deployment.metadata.annotations.get_or_insert_default();
                    annotations.insert(history::REVISION.into(), revision.to_string());
                }
            }
        }
        planned
    }

    fn change(&mut self, index: usize, change: impl FnOnce(&mut ReplicaSetStatus, i32)) {
        if self.sets.is_empty() {
            return;
        }
        let index = index % self.sets.len();
        let mut set = self.sets[index].as_ref().clone();
        let wanted = size(&set);
        change(set.status.get_or_insert_default(), wanted);
        self.sets[index] = Arc::new(set);
    }

    /// The ReplicaSet controller creates or deletes pods; those not ready go first.
    fn run_replica_set(&mut self, index: usize) {
        self.change(index, |status, wanted| {
            status.replicas = wanted;
            status.available_replicas = Some(status.available_replicas.unwrap_or(0).min(wanted));
            status.ready_replicas = status.available_replicas;
        });
    }

    fn make_ready(&mut self, index: usize) {
        self.change(index, |status, _| {
            let available = (status.available_replicas.unwrap_or(0) + 1).min(status.replicas);
            status.available_replicas = Some(available);
            status.ready_replicas = Some(available);
        });
    }

    fn break_one(&mut self, index: usize) {
        self.change(index, |status, _| {
            let available = (status.available_replicas.unwrap_or(0) - 1).max(0);
            status.available_replicas = Some(available);
            status.ready_replicas = Some(available);
        });
    }

    /// Everything works until nothing is left to do.
    fn settle(&mut self) -> bool {
        for _ in 0..400 {
            let acted = !self.sync().actions.is_empty();
            let before = self.sets.clone();
            for index in 0..self.sets.len() {
                self.run_replica_set(index);
                self.make_ready(index);
            }
            if !acted && before == self.sets && self.sync().actions.is_empty() {
                return true;
            }
        }
        false
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(|set| size(set)).sum()
    }

    /// What stays available if every ReplicaSet shrinks to its size now.
    fn available(&self) -> i32 {
        self.sets.iter().map(|set| available(set).min(size(set))).sum()
    }

    fn sizes(&self) -> Vec<(i64, i32)> {
        self.sets.iter().map(|set| (history::revision(set), size(set))).collect()
    }

    fn condition(&self, type_: &str) -> (String, String) {
        let status = self.deployment.status.as_ref().unwrap();
        let condition =
            status.conditions.iter().flatten().find(|condition| condition.type_ == type_).unwrap();
        (condition.status.clone(), condition.reason.clone().unwrap())
    }
}

fn pods(set: &ReplicaSet) -> i32 {
    set.status.as_ref().map_or(0, |status| status.replicas)
}

fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
}

#[test]
fn first_rollout_then_update_then_undo() {
    let mut world = World::new(deployment(3, 1, 0));
    set_image(&mut world.deployment, "one");
    world.sync();
    assert_eq!(world.sizes(), [(1, 3)]);
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetCreated".into()));
    assert_eq!(world.condition("Available"), ("False".into(), "MinimumReplicasUnavailable".into()));
    assert!(world.settle());
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(world.condition("Available"), ("True".into(), "MinimumReplicasAvailable".into()));

    set_image(&mut world.deployment, "two");
    world.sync();
    assert_eq!(world.sizes(), [(1, 3), (2, 1)], "one pod more than wanted, as the surge allows");
    assert!(world.settle());
    assert_eq!(world.sizes(), [(1, 0), (2, 3)]);

    set_image(&mut world.deployment, "one");
    assert!(world.settle());
    assert_eq!(world.sizes(), [(3, 3), (2, 0)], "the old ReplicaSet becomes current under a new revision");
    let history = kind::annotation(world.sets[0].as_ref(), history::REVISION_HISTORY);
    assert_eq!(history, Some("1"));
    assert_eq!(kind::annotation(&world.deployment, history::REVISION), Some("3"));
}

#[test]
fn recreate_waits_for_the_last_old_pod() {
    let mut world = World::new(deployment(2, 0, 0));
    world.deployment.spec.as_mut().unwrap().strategy =
        Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    set_image(&mut world.deployment, "one");
    assert!(world.settle());
    set_image(&mut world.deployment, "two");
    world.sync();
    assert_eq!(world.sizes(), [(1, 0)]);
    world.sync();
    assert_eq!(world.sizes(), [(1, 0)], "a pod of the old template still runs");
    world.run_replica_set(0);
    world.sync();
    assert_eq!(world.sizes(), [(1, 0), (2, 2)]);
}

#[test]
fn history_is_limited_and_empty_sets_only_are_deleted() {
    let mut world = World::new(deployment(1, 1, 0));
    for n in 0..6 {
        set_image(&mut world.deployment, &format!("v{n}"));
        assert!(world.settle());
    }
    assert_eq!(world.sizes(), [(4, 0), (5, 0), (6, 1)]);
}

#[test]
fn scaling_during_a_rollout_keeps_the_proportions() {
    let mut world = World::new(deployment(10, 2, 2));
    set_image(&mut world.deployment, "one");
    assert!(world.settle());
    set_image(&mut world.deployment, "two");
    world.sync();
    world.run_replica_set(0);
    world.sync();
    assert_eq!(world.sizes(), [(1, 8), (2, 2)]);
    world.sync();
    assert_eq!(world.sizes(), [(1, 8), (2, 4)]);
    world.deployment.spec.as_mut().unwrap().replicas = Some(20);
    world.sync();
    let sizes = world.sizes();
    assert_eq!(sizes.iter().map(|(_, size)| size).sum::<i32>(), 22);
    assert!(sizes[0].1 > 12 && sizes[1].1 > 5, "{sizes:?}");
    assert!(world.settle());
    assert_eq!(world.sizes(), [(1, 0), (2, 20)]);
}

#[test]
fn a_paused_rollout_does_not_follow_the_template_but_scales() {
    let mut world = World::new(deployment(3, 1, 0));
    set_image(&mut world.deployment, "one");
    assert!(world.settle());
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    set_image(&mut world.deployment, "two");
    world.sync();
    assert_eq!(world.sizes(), [(1, 3)]);
    assert_eq!(world.condition("Progressing"), ("Unknown".into(), "DeploymentPaused".into()));
    world.deployment.spec.as_mut().unwrap().replicas = Some(5);
    world.sync();
    assert_eq!(world.sizes(), [(1, 5)]);
    world.deployment.spec.as_mut().unwrap().paused = None;
    assert!(world.settle());
    assert_eq!(world.sizes(), [(1, 0), (2, 5)]);
}

#[test]
fn a_stuck_rollout_is_reported_after_its_deadline() {
    let mut world = World::new(deployment(2, 1, 0));
    set_image(&mut world.deployment, "one");
    let first = world.sync();
    assert_eq!(first.again_after.unwrap().as_secs(), 601);
    world.run_replica_set(0);
    world.sync();
    world.now += 600;
    world.sync();
    assert_eq!(world.condition("Progressing").0, "True");
    world.now += 1;
    assert_eq!(world.sync().again_after, None);
    assert_eq!(world.condition("Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));
    assert!(world.settle());
    assert_eq!(world.condition("Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
}

#[test]
fn a_deployment_being_deleted_is_left_alone() {
    let mut world = World::new(deployment(2, 1, 0));
    world.deployment.metadata.deletion_timestamp = Some(Time(world.time()));
    assert!(world.sync().actions.is_empty());
}

/// What happens between passes.
#[derive(Debug, Clone)]
enum Happening {
    Sync,
    ReplicaSetRuns(usize),
    PodReady(usize),
    PodBreaks(usize),
    NewTemplate(u8),
    Scale(i32),
    Pause(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => Just(Happening::Sync),
        6 => any::<usize>().prop_map(Happening::ReplicaSetRuns),
        6 => any::<usize>().prop_map(Happening::PodReady),
        1 => any::<usize>().prop_map(Happening::PodBreaks),
        1 => (0u8..4).prop_map(Happening::NewTemplate),
        1 => (0i32..12).prop_map(Happening::Scale),
        1 => any::<bool>().prop_map(Happening::Pause),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever happens: the controller itself never exceeds the surge and never goes below the wanted availability;
    /// and once things work it reaches the goal.
    #[test]
    fn bounds_hold_and_rollouts_finish(
        replicas in 0i32..10,
        surge in 0i32..4,
        unavailable in 0i32..4,
        happenings in prop::collection::vec(happening(), 0..120),
    ) {
        let mut world = World::new(deployment(replicas, surge, unavailable));
        set_image(&mut world.deployment, "v0");
        for happening in happenings {
            let spec = world.deployment.spec.as_mut().unwrap();
            match happening {
                Happening::Sync => {
                    let bounds = Rollout::of(&world.deployment);
                    let recorded = world.sets.iter().any(|set| {
                        size(set) > 0 && history::recorded(set, history::DESIRED_REPLICAS) != Some(bounds.replicas)
                    });
                    let (total, available) = (world.total(), world.available());
                    world.sync();
                    if !recorded && !bounds.paused {
                        prop_assert!(world.total() <= total.max(bounds.max_total()), "surge exceeded");
                        prop_assert!(world.available() >= available.min(bounds.min_available()), "too few available");
                    }
                }
                Happening::ReplicaSetRuns(n) => world.run_replica_set(n),
                Happening::PodReady(n) => world.make_ready(n),
                Happening::PodBreaks(n) => world.break_one(n),
                Happening::NewTemplate(n) => set_image(&mut world.deployment, &format!("v{n}")),
                Happening::Scale(replicas) => spec.replicas = Some(replicas),
                Happening::Pause(paused) => spec.paused = Some(paused),
            }
        }
        world.deployment.spec.as_mut().unwrap().paused = None;
        prop_assert!(world.settle(), "did not settle: {:?}", world.sizes());
        let wanted = Rollout::of(&world.deployment).replicas;
        prop_assert_eq!(world.total(), wanted);
        let current = History::of(&world.deployment, &world.sets).current.unwrap();
        prop_assert_eq!(size(&current), wanted);
        prop_assert!(status::is_complete(world.deployment.status.as_ref().unwrap(), &Rollout::of(&world.deployment)));
    }
}
