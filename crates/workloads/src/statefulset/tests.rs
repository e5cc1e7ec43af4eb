//! Order, updates and storage of StatefulSets, and a simulation that always arrives.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::pod::tests::test_pod;

fn set(replicas: i32, extra: &serde_json::Value) -> StatefulSet {
    let mut spec = json!({
        "replicas": replicas,
        "serviceName": "db",
        "selector": {"matchLabels": {"app": "db"}},
        "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "c"}]}},
        "updateStrategy": {"type": "RollingUpdate"},
    });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "db", "namespace": "default", "uid": "set"}, "spec": spec}),
    )
    .unwrap()
}

fn member(ordinal: i32, revision: &str, ready: bool) -> Arc<Pod> {
    let mut pod = test_pod(&format!("db-{ordinal}"), Some("n1"), ready);
    pod.metadata.labels = Some([(revisions::HASH_LABEL.to_owned(), revision.to_owned())].into());
    Arc::new(pod)
}

fn steps(set: &StatefulSet, pods: &[Arc<Pod>], current: &str, update: &str) -> Vec<String> {
    let now = Timestamp::from_second(1000).unwrap();
    let show = |action: &Action| match action {
        Action::Create(ordinal, version) => format!("create {ordinal} {version:?}"),
        Action::Condemn(pod) => format!("condemn {}", kind::name(pod.as_ref())),
        Action::Recreate(pod) => format!("recreate {}", kind::name(pod.as_ref())),
    };
    plan::plan(&Observed { set, pods, current, update, now }).iter().map(show).collect()
}

#[test]
fn one_after_the_other() {
    let three = set(3, &json!({}));
    assert_eq!(steps(&three, &[], "a", "a"), ["create 0 Update"]);
    assert_eq!(steps(&three, &[member(0, "a", false)], "a", "a"), Vec::<String>::new());
    assert_eq!(steps(&three, &[member(0, "a", true)], "a", "a"), ["create 1 Update"]);
    let all = [member(0, "a", true), member(1, "a", true), member(2, "a", true)];
    assert!(steps(&three, &all, "a", "a").is_empty());
    assert_eq!(steps(&set(1, &json!({})), &all, "a", "a"), ["condemn db-2"]);
    let ill = [member(0, "a", true), member(1, "a", false), member(2, "a", true)];
    assert!(steps(&set(1, &json!({})), &ill, "a", "a").is_empty(), "waits for the unhealthy one below");
}

#[test]
fn in_parallel() {
    let parallel = set(3, &json!({"podManagementPolicy": "Parallel"}));
    assert_eq!(steps(&parallel, &[], "a", "a"), ["create 0 Update", "create 1 Update", "create 2 Update"]);
    let many: Vec<_> = (0..5).map(|n| member(n, "a", n % 2 == 0)).collect();
    assert_eq!(steps(&parallel, &many, "a", "a"), ["condemn db-4", "condemn db-3"]);
}

#[test]
fn updates_go_from_the_top_down_to_the_partition() {
    let all = [member(0, "a", true), member(1, "a", true), member(2, "a", true)];
    assert_eq!(steps(&set(3, &json!({})), &all, "a", "b"), ["recreate db-2"]);
    let half = [member(0, "a", true), member(1, "a", true), member(2, "b", false)];
    assert!(steps(&set(3, &json!({})), &half, "a", "b").is_empty(), "waits for the new one");
    let partition = json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    let done = [member(0, "a", true), member(1, "a", true), member(2, "b", true)];
    assert!(steps(&set(3, &partition), &done, "a", "b").is_empty());
    let lost = [member(0, "a", true), member(2, "b", true)];
    assert_eq!(steps(&set(3, &partition), &lost, "a", "b"), ["create 1 Current"]);
    assert!(steps(&set(3, &json!({"updateStrategy": {"type": "OnDelete"}})), &all, "a", "b").is_empty());
}

#[test]
fn finished_pods_are_made_anew_and_ordinals_may_start_elsewhere() {
    let mut failed = member(0, "a", false).as_ref().clone();
    failed.status.as_mut().unwrap().phase = Some("Failed".into());
    assert_eq!(steps(&set(1, &json!({})), &[Arc::new(failed)], "a", "a"), ["recreate db-0"]);
    let shifted = set(1, &json!({"ordinals": {"start": 5}}));
    assert_eq!(steps(&shifted, &[], "a", "a"), ["create 5 Update"]);
    assert_eq!(steps(&shifted, &[member(5, "a", true), member(0, "a", true)], "a", "a"), ["condemn db-0"]);
    for (name, expected) in
        [("db-7", Some(7)), ("db-07", None), ("db-x", None), ("web-1", None), ("db", None)]
    {
        assert_eq!(identity::ordinal(&shifted, &test_pod(name, None, false)), expected, "{name}");
    }
}

#[test]
fn pods_have_names_and_storage_of_their_own() {
    let templates = json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"]}}],
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"}});
    let set = set(2, &templates);
    let template = serde_json::to_value(&set.spec.as_ref().unwrap().template).unwrap();
    let revision: ControllerRevision = serde_json::from_value(json!({
        "metadata": {"name": "db-abc"}, "revision": 1, "data": {"spec": {"template": template}}}))
    .unwrap();
    let pod = identity::new_pod(&set, &revision, 1).unwrap();
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(
        (kind::name(&pod), spec.hostname.as_deref(), spec.subdomain.as_deref()),
        ("db-1", Some("db-1"), Some("db"))
    );
    assert_eq!(identity::revision(&pod), "db-abc");
    assert_eq!(pod::claim_names(&pod), ["data-db-1"]);
    let claim = &identity::claims(&set, 1)[0];
    assert_eq!((kind::name(claim), kind::label(claim, "app")), ("data-db-1", Some("db")));
    let owners = identity::claim_owners(&set, claim, None);
    assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "StatefulSet"));
    let owners = identity::claim_owners(&set, claim, Some(&pod));
    assert_eq!((owners.len(), owners[0].kind.as_str()), (1, "Pod"));
}

#[derive(Debug, Clone)]
enum Happening {
    Act,
    Ready(i32),
    Lose(i32),
    Scale(i32),
    NewTemplate(u8),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        6 => Just(Happening::Act),
        4 => (0i32..6).prop_map(Happening::Ready),
        1 => (0i32..6).prop_map(Happening::Lose),
        1 => (0i32..6).prop_map(Happening::Scale),
        1 => (0u8..3).prop_map(Happening::NewTemplate),
    ]
}

struct World {
    set: StatefulSet,
    pods: Vec<Arc<Pod>>,
    current: String,
    update: String,
}

impl World {
    fn act(&mut self) -> Result<(), TestCaseError> {
        let now = Timestamp::from_second(1000).unwrap();
        let observed =
            Observed { set: &self.set, pods: &self.pods, current: &self.current, update: &self.update, now };
        let (actions, status) = (plan::plan(&observed), plan::status(&observed));
        prop_assert!(actions.len() <= 1, "ordered sets take one step at a time");
        self.current = status.current_revision.clone().unwrap();
        self.set.status = Some(status);
        for action in actions {
            match action {
                Action::Create(ordinal, version) => {
                    let below = (0..ordinal).all(|n| {
                        self.pods
                            .iter()
                            .any(|p| kind::name(p.as_ref()) == format!("db-{n}") && pod::is_ready(p))
                    });
                    prop_assert!(below, "created before all below were ready");
                    let revision = if version == Version::Current { &self.current } else { &self.update };
                    self.pods.push(member(ordinal, revision, false));
                }
                Action::Condemn(gone) | Action::Recreate(gone) => {
                    self.pods.retain(|pod| pod.metadata.uid != gone.metadata.uid);
                }
            }
        }
        Ok(())
    }

    fn ready(&mut self, n: i32) {
        for pod in &mut self.pods {
            if kind::name(pod.as_ref()) == format!("db-{n}") {
                *pod = member(n, identity::revision(pod), true);
            }
        }
    }
}

proptest! {
    #[test]
    fn ordered_sets_arrive(happenings in prop::collection::vec(happening(), 0..80)) {
        let mut world = World { set: set(3, &json!({})), pods: Vec::new(), current: "r0".into(), update: "r0".into() };
        for happening in happenings {
            match happening {
                Happening::Act => world.act()?,
                Happening::Ready(n) => world.ready(n),
                Happening::Lose(n) => world.pods.retain(|pod| kind::name(pod.as_ref()) != format!("db-{n}")),
                Happening::Scale(n) => world.set.spec.as_mut().unwrap().replicas = Some(n),
                Happening::NewTemplate(n) => world.update = format!("r{n}"),
            }
        }
        for _ in 0..60 {
            world.act()?;
            for n in 0..6 {
                world.ready(n);
            }
        }
        let wanted = world.set.spec.as_ref().unwrap().replicas.unwrap();
        prop_assert_eq!(i32::try_from(world.pods.len()).unwrap(), wanted);
        prop_assert!(world.pods.iter().all(|pod| identity::revision(pod) == world.update));
        prop_assert_eq!(&world.current, &world.update);
    }
}
