//! Jobs from start to end, and a simulation in which every stage can be lost.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn job(spec: &serde_json::Value) -> Job {
    let mut full = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c"}]}}});
    for (key, value) in spec.as_object().unwrap() {
        full[key] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "work", "namespace": "default", "uid": "job"}, "spec": full}),
    )
    .unwrap()
}

fn pod(n: usize, phase: &str, index: Option<i32>) -> Arc<Pod> {
    let mut pod = crate::pod::tests::test_pod(&format!("work-{n}"), Some("n1"), phase == "Running");
    pod.status.as_mut().unwrap().phase = Some(phase.into());
    pod.status.as_mut().unwrap().conditions = None;
    pod.metadata.finalizers = Some(vec![TRACKING.into()]);
    pod.metadata.annotations = index.map(|index| [(indexes::INDEX.to_owned(), index.to_string())].into());
    Arc::new(pod)
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// A Job with its pods, as the API stores them.
struct World {
    job: Job,
    pods: Vec<Arc<Pod>>,
    serial: usize,
    now: i64,
}

impl World {
    fn new(spec: &serde_json::Value) -> Self {
        Self { job: job(spec), pods: Vec::new(), serial: 0, now: 0 }
    }

    /// One pass, of which the last `lost` of the four kinds of writes are lost in a crash.
    fn act(&mut self, lost: usize) -> Plan {
        let plan = plan::plan(&self.job, &self.pods, at(self.now));
        if lost < 4 {
            self.job.status = Some(plan.status.clone());
        }
        if lost < 3 {
            for released in &plan.release {
                let place =
                    self.pods.iter_mut().find(|pod| pod.metadata.uid == released.metadata.uid).unwrap();
                let mut pod = place.as_ref().clone();
                pod.metadata.finalizers = None;
                *place = Arc::new(pod);
            }
        }
        if lost < 2 {
            for doomed in &plan.delete {
                // Its node ends it; the finalizer keeps the object.
                self.set_phase(doomed.metadata.uid.as_deref().unwrap(), "Failed");
            }
        }
        if lost < 1 {
            for index in &plan.create {
                self.serial += 1;
                self.pods.push(pod(self.serial, "Running", *index));
            }
        }
        plan
    }

    fn set_phase(&mut self, uid: &str, phase: &str) {
        if let Some(place) = self.pods.iter_mut().find(|pod| pod.metadata.uid.as_deref() == Some(uid)) {
            let mut pod = place.as_ref().clone();
            pod.status.as_mut().unwrap().phase = Some(phase.into());
            *place = Arc::new(pod);
        }
    }

    fn end(&mut self, n: usize, phase: &str) {
        let running: Vec<String> = self
            .pods
            .iter()
            .filter(|pod| crate::pod::is_active(pod))
            .map(|pod| pod.metadata.uid.clone().unwrap())
            .collect();
        if !running.is_empty() {
            self.set_phase(&running[n % running.len()].clone(), phase);
        }
    }

    fn status(&self) -> k8s_openapi::api::batch::v1::JobStatus {
        self.job.status.clone().unwrap_or_default()
    }

    fn running(&self) -> usize {
        self.pods.iter().filter(|pod| crate::pod::is_active(pod)).count()
    }
}

#[test]
fn runs_as_many_as_allowed_until_enough_succeeded() {
    let mut world = World::new(&json!({"completions": 3, "parallelism": 2}));
    world.act(0);
    assert_eq!(world.running(), 2);
    world.end(0, "Succeeded");
    world.act(0);
    assert_eq!(world.running(), 2);
    for _ in 0..2 {
        world.end(0, "Succeeded");
    }
    let mut events = Vec::new();
    for _ in 0..4 {
        events.extend(world.act(0).events);
    }
    let status = world.status();
    assert_eq!((status.succeeded, status.active, status.failed), (Some(3), None, None));
    assert!(plan::holds(&status, "Complete") && status.completion_time.is_some());
    assert_eq!(events, [(false, "Completed", "Job completed".to_owned())]);
    assert!(world.pods.iter().all(|pod| pod.metadata.finalizers.is_none()));
}

#[test]
fn too_many_failures_fail_the_job() {
    let mut world = World::new(&json!({"backoffLimit": 1}));
    for _ in 0..2 {
        for _ in 0..3 {
            world.act(0);
        }
        assert_eq!(world.running(), 1);
        world.end(0, "Failed");
    }
    for _ in 0..4 {
        world.act(0);
    }
    let status = world.status();
    assert!(plan::holds(&status, "Failed"), "{status:?}");
    assert_eq!(status.failed, Some(2));
    let condition =
        status.conditions.unwrap().into_iter().find(|condition| condition.type_ == "Failed").unwrap();
    assert_eq!(condition.reason.as_deref(), Some("BackoffLimitExceeded"));
}

#[test]
fn deadline_suspension_and_time_to_live() {
    let mut world = World::new(&json!({"activeDeadlineSeconds": 30, "ttlSecondsAfterFinished": 60}));
    assert_eq!(world.act(0).again_after.unwrap().as_secs(), 30);
    world.job.spec.as_mut().unwrap().suspend = Some(true);
    let plan = world.act(0);
    assert_eq!((plan.delete.len(), plan.events[0].1), (1, "Suspended"));
    world.now += 100;
    world.job.spec.as_mut().unwrap().suspend = Some(false);
    for _ in 0..3 {
        world.act(0);
    }
    assert_eq!(world.running(), 1, "the deadline counts from when it was resumed");
    world.now += 30;
    for _ in 0..4 {
        world.act(0);
    }
    assert!(plan::holds(&world.status(), "Failed"));
    assert_eq!(world.act(0).again_after.unwrap().as_secs(), 60);
    world.now += 60;
    assert!(world.act(0).delete_job);
}

#[test]
fn a_failed_pod_is_replaced_after_a_while() {
    let mut world = World::new(&json!({}));
    world.act(0);
    world.end(0, "Failed");
    let ended: Time = Time(at(0));
    let mut failed = world.pods[0].as_ref().clone();
    failed.status.as_mut().unwrap().container_statuses = serde_json::from_value(json!([{
        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": 1, "finishedAt": ended}}}]))
    .unwrap();
    world.pods[0] = Arc::new(failed);
    for _ in 0..3 {
        world.act(0);
    }
    assert_eq!(world.running(), 0);
    assert_eq!(world.act(0).again_after.unwrap().as_secs(), 10);
    world.now = 10;
    world.act(0);
    assert_eq!(world.running(), 1);
}

#[test]
fn indexes_are_worked_on_one_by_one() {
    let mut world = World::new(&json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed"}));
    world.act(0);
    let indexes: Vec<_> = world.pods.iter().filter_map(|pod| indexes::index(pod)).collect();
    assert_eq!(indexes, [0, 1]);
    world.end(1, "Succeeded");
    world.act(0);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("1"));
    assert_eq!(indexes::index(world.pods.last().unwrap()), Some(2));
    let made = new_pod(&world.job, Some(2));
    assert_eq!(made.metadata.generate_name.as_deref(), Some("work-2-"));
    assert_eq!(made.spec.unwrap().containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
}

#[test]
fn what_is_left_out_is_said() {
    let plain = job(&json!({}));
    assert_eq!(left_out(&plain), None);
    let fancy = job(&json!({"successPolicy": {"rules": []}}));
    assert_eq!(left_out(&fancy).as_deref(), Some("Not supported and ignored: spec.successPolicy"));
}

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

#[derive(Debug, Clone)]
enum Happening {
    Act {
        lost: usize,
    },
    Succeed(usize),
    Fail(usize),
    /// An ended pod that has been released is removed by somebody.
    Collect(usize),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        5 => (0usize..5).prop_map(|lost| Happening::Act { lost }),
        3 => any::<usize>().prop_map(Happening::Succeed),
        1 => any::<usize>().prop_map(Happening::Fail),
        2 => any::<usize>().prop_map(Happening::Collect),
    ]
}

proptest! {
    /// Every ended pod is counted exactly once, whatever is lost when.
    #[test]
    fn counted_exactly_once(indexed in any::<bool>(), happenings in prop::collection::vec(happening(), 0..120)) {
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        let mut world = World::new(&json!({"completions": 8, "parallelism": 3, "backoffLimit": 1000, "completionMode": mode}));
        let (mut succeeded, mut failed) = (0, 0);
        for happening in happenings {
            let running = world.running();
            match happening {
                Happening::Act { lost } => {
                    let before = world.running();
                    world.act(lost);
                    prop_assert!(world.running() <= before.max(3), "more pods than allowed");
                }
                Happening::Succeed(n) => {
                    world.end(n, "Succeeded");
                    succeeded += i32::from(running > 0);
                }
                Happening::Fail(n) => {
                    world.end(n, "Failed");
                    failed += i32::from(running > 0);
                }
                Happening::Collect(n) => {
                    let released = |pod: &Arc<Pod>| pod.metadata.finalizers.is_none();
                    let gone: Vec<_> = world.pods.iter().filter(|pod| released(pod)).cloned().collect();
                    if !gone.is_empty() {
                        let victim = gone[n % gone.len()].metadata.uid.clone();
                        world.pods.retain(|pod| pod.metadata.uid != victim);
                    }
                }
            }
        }
        for _ in 0..5 {
            let plan = plan::plan(&world.job, &world.pods, at(0));
            world.job.status = Some(plan.status);
            for released in plan.release {
                let place = world.pods.iter_mut().find(|pod| pod.metadata.uid == released.metadata.uid).unwrap();
                let mut pod = place.as_ref().clone();
                pod.metadata.finalizers = None;
                *place = Arc::new(pod);
            }
        }
        let status = world.status();
        prop_assert_eq!(status.succeeded.unwrap_or(0), succeeded);
        prop_assert_eq!(status.failed.unwrap_or(0), failed);
    }
}
