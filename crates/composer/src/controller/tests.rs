//! Two composing managers at once, killed again and again, against an API in memory that loses requests and answers, in
//! simulated time. Whatever they do: no host is in two compositions, none is forgotten, everything comes to rest.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use drystone_api::{BareMetalHost, Composition, CompositionMode, CompositionPhase, FENCING_ANNOTATION};
use drystone_engine::{
    fake_api::{FakeApi, Fault},
    harness::{Caches, ControllerConfig},
};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Clock, run_by};

const HOSTS: usize = 8;
const NAMESPACE: &str = "research";

/// The world of a test.
struct World {
    api: FakeApi,
    clock: Clock,
    managers: Vec<JoinHandle<()>>,
}

fn host_path(name: &str) -> String {
    format!("/apis/metal3.io/v1alpha1/namespaces/drystone-system/baremetalhosts/{name}")
}

impl World {
    fn new(hosts: usize) -> Self {
        let api = FakeApi::new();
        for at in 0..hosts {
            let name = format!("h{at}");
            let metadata =
                json!({"name": name, "namespace": "drystone-system", "uid": name, "generation": 1});
            api.meddle(&host_path(&name), |host| {
                *host = json!({
                    "apiVersion": "metal3.io/v1alpha1", "kind": "BareMetalHost", "metadata": metadata,
                    "spec": {"online": false, "bmc": {"address": "redfish://b", "credentialsName": "c"}}, "status": {"provisioning": {"state": "available"}},
                });
            });
            let block =
                format!("/apis/drystone.dev/v1alpha1/namespaces/drystone-system/resourceblocks/{name}");
            api.meddle(&block, |block| {
                *block = json!({
                    "apiVersion": "drystone.dev/v1alpha1", "kind": "ResourceBlock", "metadata": metadata,
                    "spec": {"type": "ComputerSystem", "host": name},
                    "status": {"pool": "Free", "cores": 8, "memory": "64Gi", "chassis": format!("c{}", at / 2)},
                });
            });
        }
        let (start, begin) = (Timestamp::UNIX_EPOCH, Instant::now());
        let clock: Clock = Arc::new(move || {
            let elapsed = SignedDuration::try_from(begin.elapsed()).expect("short");
            start.checked_add(elapsed).expect("not that long")
        });
        Self { api, clock, managers: Vec::new() }
    }

    fn start_manager(&mut self) {
        let events = ControllerConfig::default().events;
        let shutdown = CancellationToken::new();
        let caches = Caches::new(self.api.client(), shutdown.clone());
        let manager = run_by(self.clock.clone(), self.api.client(), caches, events, shutdown);
        self.managers.push(tokio::spawn(manager));
    }

    /// Stops a manager in the middle of whatever it is at.
    fn kill(&mut self, which: usize) {
        if !self.managers.is_empty() {
            self.managers.remove(which % self.managers.len()).abort();
        }
    }

    fn compositions(&self) -> Api<Composition> {
        Api::namespaced(self.api.client(), NAMESPACE)
    }

    async fn create(&self, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "drystone.dev/v1alpha1", "kind": "Composition",
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec,
        });
        let object: Composition = serde_json::from_value(object).expect("valid");
        // That it exists already, or that the API is out of order, is part of the game.
        let _ = self.compositions().create(&PostParams::default(), &object).await;
    }

    async fn patch(&self, name: &str, spec: Value) {
        let _ = self
            .compositions()
            .patch(name, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec})))
            .await;
    }

    fn all(&self) -> (Vec<BareMetalHost>, Vec<Composition>) {
        let read = |part: &str| self.api.objects(part);
        let hosts =
            read("/baremetalhosts/").into_iter().map(|host| serde_json::from_value(host).expect("a host"));
        let hosts = hosts.collect();
        let compositions = read("/compositions/").into_iter();
        (hosts, compositions.map(|object| serde_json::from_value(object).expect("a composition")).collect())
    }

    fn named(&self, name: &str) -> Composition {
        let (_, all) = self.all();
        all.into_iter().find(|composition| composition.metadata.name.as_deref() == Some(name)).expect("there")
    }

    fn phase(&self, name: &str) -> CompositionPhase {
        self.named(name).status.unwrap_or_default().phase
    }

    fn consumers(&self) -> BTreeMap<String, String> {
        let (hosts, _) = self.all();
        let consumer = |host: &BareMetalHost| Some(host.spec.consumer_ref.as_ref()?.name.clone());
        hosts.iter().filter_map(|host| Some((host.metadata.name.clone()?, consumer(host)?))).collect()
    }

    /// What holds at every moment.
    fn check_always(&self) -> Result<(), TestCaseError> {
        let (_, compositions) = self.all();
        let consumers = self.consumers();
        let mut owners: BTreeMap<String, String> = BTreeMap::new();
        for composition in &compositions {
            let name = composition.metadata.name.clone().unwrap_or_default();
            let status = composition.status.clone().unwrap_or_default();
            let leaving = composition.metadata.deletion_timestamp.is_some();
            if status.phase != CompositionPhase::Reserved || leaving {
                continue;
            }
            for member in &status.members {
                prop_assert_eq!(consumers.get(&member.host), Some(&name), "{} is reserved", &member.host);
                let other = owners.insert(member.host.clone(), name.clone());
                prop_assert_eq!(other, None, "{} is in two compositions", &member.host);
            }
            let wanted: u32 = composition.spec.groups.iter().map(|group| group.count).sum();
            if status.observed_generation == composition.metadata.generation {
                prop_assert_eq!(status.hosts, wanted, "{} has all or nothing", name);
            }
        }
        Ok(())
    }

    /// What holds once everything has come to rest.
    fn check_at_rest(&self) -> Result<(), TestCaseError> {
        self.check_always()?;
        let (hosts, compositions) = self.all();
        let mut free = 0;
        for host in &hosts {
            let Some(consumer) = &host.spec.consumer_ref else {
                free += 1;
                continue;
            };
            if consumer.kind != "Composition" {
                continue;
            }
            let owner = compositions
                .iter()
                .find(|composition| composition.metadata.name.as_ref() == Some(&consumer.name));
            let Some(owner) = owner else {
                return Err(TestCaseError::fail(format!("{:?} belongs to nobody", host.metadata.name)));
            };
            let status = owner.status.clone().unwrap_or_default();
            let name = host.metadata.name.clone().unwrap_or_default();
            let is_member = status.members.iter().any(|member| member.host == name);
            prop_assert!(is_member, "{} is claimed by {} and no member", name, consumer.name);
            let token: u64 = host
                .metadata
                .annotations
                .as_ref()
                .and_then(|all| all.get(FENCING_ANNOTATION)?.parse().ok())
                .unwrap_or(0);
            prop_assert!(
                token <= status.fencing_token && token > 0,
                "{}: {} and {}",
                name,
                token,
                status.fencing_token
            );
        }
        for composition in &compositions {
            let status = composition.status.clone().unwrap_or_default();
            prop_assert!(composition.metadata.deletion_timestamp.is_none(), "a deletion is not over");
            prop_assert_eq!(status.observed_generation, composition.metadata.generation);
            let wanted = composition.spec.groups.iter().map(|group| group.count).sum::<u32>();
            match (composition.spec.mode, status.phase) {
                (CompositionMode::Apply, CompositionPhase::Reserved)
                | (CompositionMode::Reserve, CompositionPhase::Expired) => {}
                (CompositionMode::Preview, CompositionPhase::Previewed | CompositionPhase::Infeasible) => {
                    prop_assert!(status.members.is_empty(), "a preview has no hosts");
                }
                (_, CompositionPhase::Infeasible) => {
                    prop_assert!(
                        wanted - status.hosts > free,
                        "{} of {} hosts, {} free",
                        status.hosts,
                        wanted,
                        free
                    );
                }
                (mode, phase) => {
                    return Err(TestCaseError::fail(format!(
                        "{mode:?} rests in {phase:?}: {}",
                        status.message
                    )));
                }
            }
        }
        Ok(())
    }
}

fn spec(count: u32, mode: &str, priority: i32) -> Value {
    json!({
        "groups": [{"name": "w", "count": count, "host": {"cores": 4}}],
        "mode": mode, "priority": priority, "reservationDuration": "1m",
    })
}

/// What happens.
#[derive(Debug, Clone)]
enum Happening {
    Create(usize, u32, usize, i32),
    Resize(usize, u32),
    SetMode(usize, usize),
    Delete(usize),
    /// Somebody else takes a free host.
    Take(usize),
    /// Somebody else gives a host back.
    Leave(usize),
    Kill(usize),
    Start,
    Wait(u64),
}

const MODES: [&str; 3] = ["Apply", "Reserve", "Preview"];

fn happening() -> impl Strategy<Value = Happening> {
    let which = 0_usize..4;
    prop_oneof![
        4 => (which.clone(), 0_u32..6, 0_usize..3, -1_i32..2).prop_map(|(at, n, mode, priority)| Happening::Create(at, n, mode, priority)),
        2 => (which.clone(), 0_u32..6).prop_map(|(at, n)| Happening::Resize(at, n)),
        2 => (which.clone(), 0_usize..3).prop_map(|(at, mode)| Happening::SetMode(at, mode)),
        2 => which.prop_map(Happening::Delete),
        1 => (0..HOSTS).prop_map(Happening::Take),
        1 => (0..HOSTS).prop_map(Happening::Leave),
        3 => (0_usize..2).prop_map(Happening::Kill),
        3 => Just(Happening::Start),
        4 => (1_u64..400).prop_map(Happening::Wait),
        1 => (1_000_u64..90_000).prop_map(Happening::Wait),
    ]
}

async fn happen(world: &mut World, happening: &Happening) {
    let name = |at: &usize| format!("c{at}");
    match happening {
        Happening::Create(at, count, mode, priority) => {
            world.create(&name(at), spec(*count, MODES[*mode], *priority)).await;
        }
        Happening::Resize(at, count) => {
            world
                .patch(&name(at), json!({"groups": [{"name": "w", "count": count, "host": {"cores": 4}}]}))
                .await;
        }
        Happening::SetMode(at, mode) => world.patch(&name(at), json!({"mode": MODES[*mode]})).await,
        Happening::Delete(at) => drop(world.compositions().delete(&name(at), &DeleteParams::default()).await),
        Happening::Take(at) => world.api.meddle(&host_path(&format!("h{at}")), |host| {
            if host["spec"]["consumerRef"].is_null() {
                host["spec"]["consumerRef"] = json!({"kind": "Metal3Machine", "name": "somebody"});
            }
        }),
        Happening::Leave(at) => world.api.meddle(&host_path(&format!("h{at}")), |host| {
            if host["spec"]["consumerRef"]["name"] == "somebody" {
                host["spec"]["consumerRef"] = Value::Null;
            }
        }),
        Happening::Kill(which) => world.kill(*which),
        Happening::Start if world.managers.len() < 2 => world.start_manager(),
        Happening::Start => {}
        Happening::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(*milliseconds)).await,
    }
}

/// A plan of faults that depends on nothing but the seed.
fn faults(mut seed: u64) -> impl FnMut(&str, &str) -> Option<Fault> + Send + 'static {
    move |method, _| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = (seed >> 33) % 100;
        match dice {
            0..3 => Some(Fault::Unavailable),
            3..6 if method != "GET" => Some(Fault::AnswerLost),
            6..60 => Some(Fault::Late(Duration::from_millis(dice))),
            _ => None,
        }
    }
}

async fn story(seed: u64, happenings: Vec<Happening>) -> Result<(), TestCaseError> {
    let mut world = World::new(HOSTS);
    world.api.set_faults(faults(seed));
    world.start_manager();
    world.start_manager();
    for each in &happenings {
        happen(&mut world, each).await;
        world.check_always()?;
        tokio::time::sleep(Duration::from_millis(seed % 7)).await;
        world.check_always()?;
    }
    // From now on nothing goes wrong any more.
    while !world.managers.is_empty() {
        world.kill(0);
    }
    world.api.set_faults(|_, _| None);
    world.start_manager();
    for _ in 0..150 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        world.check_always()?;
    }
    let rested = world.check_at_rest();
    world.kill(0);
    rested
}

/// Stories that are told; more with `PROPTEST_CASES`.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn hosts_are_never_shared_and_never_forgotten(
        seed in any::<u64>(),
        happenings in prop::collection::vec(happening(), 1..24),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime").block_on(story(seed, happenings))?;
    }
}

/// A world in which nothing goes wrong.
async fn calm() -> World {
    let mut world = World::new(HOSTS);
    world.start_manager();
    tokio::time::sleep(Duration::from_millis(50)).await;
    world
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_preview_touches_nothing_and_stays_fresh() {
    let world = calm().await;
    world.create("look", spec(3, "Preview", 0)).await;
    pass(1).await;
    let status = world.named("look").status.expect("answered");
    assert_eq!(
        (status.phase, status.proposal.len(), status.members.len()),
        (CompositionPhase::Previewed, 3, 0)
    );
    assert!(world.consumers().is_empty());
    assert!(world.named("look").metadata.finalizers.unwrap_or_default().is_empty());
    world.create("take", spec(6, "Apply", 0)).await;
    pass(20).await;
    let status = world.named("look").status.expect("answered");
    assert_eq!(status.phase, CompositionPhase::Infeasible, "{}", status.message);
    assert_eq!(world.consumers().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_to_be_had_and_nothing_is_wanted() {
    let world = calm().await;
    world.create("all", spec(8, "Apply", 0)).await;
    pass(20).await;
    world.create("none", spec(0, "Apply", 0)).await;
    pass(20).await;
    let status = world.named("none").status.expect("answered");
    assert_eq!((status.phase, status.hosts), (CompositionPhase::Reserved, 0), "{}", status.message);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_ends_by_itself() {
    let world = calm().await;
    world.create("soon", spec(3, "Reserve", 0)).await;
    pass(30).await;
    let status = world.named("soon").status.expect("answered");
    let reservation = status.reservation.expect("there is one");
    assert_eq!(status.phase, CompositionPhase::Reserved);
    assert_eq!((reservation.token, status.fencing_token), (1, 1));
    let (since, expires) = (reservation.since.expect("set").0, reservation.expires.expect("set").0);
    assert_eq!(expires.duration_since(since), SignedDuration::from_secs(60));
    pass(40).await;
    assert_eq!((world.phase("soon"), world.consumers().len()), (CompositionPhase::Expired, 0));
    world.patch("soon", json!({"mode": "Apply"})).await;
    pass(5).await;
    assert_eq!((world.phase("soon"), world.consumers().len()), (CompositionPhase::Reserved, 3));
}

#[tokio::test(start_paused = true)]
async fn a_reservation_that_is_applied_keeps_its_hosts() {
    let world = calm().await;
    world.create("soon", spec(3, "Reserve", 0)).await;
    pass(30).await;
    let before = world.consumers();
    world.patch("soon", json!({"mode": "Apply"})).await;
    pass(600).await;
    assert_eq!((world.phase("soon"), world.consumers()), (CompositionPhase::Reserved, before));
    assert_eq!(world.named("soon").status.and_then(|status| status.reservation?.expires), None);
}

#[tokio::test(start_paused = true)]
async fn a_large_request_is_not_starved_by_small_ones_for_a_bounded_time() {
    let world = calm().await;
    world.create("a-old", spec(4, "Apply", 0)).await;
    pass(5).await;
    world.create("b-large", spec(6, "Apply", 0)).await;
    pass(5).await;
    assert_eq!(world.phase("b-large"), CompositionPhase::Infeasible);
    world.create("c-small", spec(2, "Apply", 0)).await;
    pass(30).await;
    let status = world.named("c-small").status.expect("answered");
    assert_eq!(status.phase, CompositionPhase::Infeasible);
    assert!(
        status.message.contains("4 hosts are held back for Composition/research/b-large"),
        "{}",
        status.message
    );
    assert_eq!(status.conditions[0].reason, "HeldBack");
    // Whoever is more important passes.
    world.create("d-urgent", spec(1, "Apply", 5)).await;
    pass(10).await;
    assert_eq!(world.phase("d-urgent"), CompositionPhase::Reserved);
    world.compositions().delete("d-urgent", &DeleteParams::default()).await.expect("deleted");
    // And after ten minutes the hosts are not kept idle any more.
    pass(620).await;
    assert_eq!(world.phase("c-small"), CompositionPhase::Reserved);
    world.compositions().delete("a-old", &DeleteParams::default()).await.expect("deleted");
    pass(10).await;
    assert_eq!(world.phase("b-large"), CompositionPhase::Reserved);
}

#[tokio::test(start_paused = true)]
async fn a_purpose_is_a_priority() {
    let world = calm().await;
    world.create("hog", spec(8, "Apply", 0)).await;
    pass(5).await;
    world.create("a-first", spec(5, "Apply", 0)).await;
    let mut learning = spec(5, "Apply", 0);
    learning["purpose"] = json!("MLOps");
    learning["priority"] = Value::Null;
    world.create("b-learning", learning).await;
    pass(10).await;
    world.compositions().delete("hog", &DeleteParams::default()).await.expect("deleted");
    pass(20).await;
    assert_eq!(world.phase("b-learning"), CompositionPhase::Reserved);
    assert_eq!(world.phase("a-first"), CompositionPhase::Infeasible);
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_attempt_that_has_become_impossible_hoards_nothing() {
    let mut world = World::new(3);
    world.start_manager();
    pass(1).await;
    // Only the first of three claims gets through before the manager is killed.
    world.api.set_faults(|method, path| {
        let blocked = path.ends_with("/h1") || path.ends_with("/h2");
        (method == "PATCH" && blocked).then_some(Fault::Hangs)
    });
    world.create("all", spec(3, "Apply", 0)).await;
    pass(3).await;
    assert_eq!((world.phase("all"), world.consumers().len()), (CompositionPhase::Reserving, 1));
    world.kill(0);
    world.api.set_faults(|_, _| None);
    happen(&mut world, &Happening::Take(1)).await;
    world.start_manager();
    pass(20).await;
    let status = world.named("all").status.expect("answered");
    assert_eq!((status.phase, status.members.len(), status.hosts), (CompositionPhase::Infeasible, 0, 0));
    assert_eq!(world.consumers().into_keys().collect::<Vec<_>>(), ["h1"], "what was taken is given back");
}

#[tokio::test(start_paused = true)]
async fn a_late_writer_neither_takes_nor_releases() {
    use crate::claims::{Claim, claim, release};
    let world = calm().await;
    world.create("now", spec(2, "Apply", 0)).await;
    pass(5).await;
    let client = world.api.client();
    let member = world.named("now").status.expect("answered").members[0].clone();
    let hosts: Api<BareMetalHost> = Api::namespaced(client.clone(), &member.host_namespace);
    let host = hosts.get(&member.host).await.expect("there");
    let owner = host.spec.consumer_ref.clone().expect("claimed");
    let released = release(&client, &host, &owner, 0, true).await.expect("answered");
    assert!(!released, "token 0 is older than 1");
    assert_eq!(world.consumers().len(), 2);
    world.compositions().delete("now", &DeleteParams::default()).await.expect("deleted");
    pass(5).await;
    assert!(world.consumers().is_empty());
    let (late, _) = claim(&client, &member, &owner, 1).await.expect("answered");
    assert!(matches!(&late, Claim::Lost(why) if why.contains("given back meanwhile")), "{late:?}");
    world.create("next", spec(8, "Apply", 0)).await;
    pass(5).await;
    world.compositions().delete("next", &DeleteParams::default()).await.expect("deleted");
    pass(5).await;
    let (late, _) = claim(&client, &member, &owner, 1).await.expect("answered");
    assert!(matches!(&late, Claim::Lost(why) if why.contains("later token (2)")), "{late:?}");
    // A host that was claimed for a composition that is gone is found and given back.
    assert_eq!(claim(&client, &member, &owner, 9).await.expect("answered").0, Claim::Taken);
    pass(60).await;
    assert!(world.consumers().is_empty());
}

#[tokio::test(start_paused = true)]
async fn spares_are_warmed_and_idle_hosts_powered_down() {
    let world = calm().await;
    let pool = "/apis/drystone.dev/v1alpha1/namespaces/drystone-system/resourcepools/all";
    world.api.meddle(pool, |pool| {
        *pool = json!({
            "apiVersion": "drystone.dev/v1alpha1", "kind": "ResourcePool",
            "metadata": {"name": "all", "namespace": "drystone-system", "uid": "p", "generation": 1},
            "spec": {"warmSpares": 3, "idlePowerDown": "5m"},
        });
    });
    let online = || {
        let (hosts, _) = world.all();
        hosts
            .iter()
            .filter(|host| host.spec.online)
            .map(|host| host.metadata.name.clone().expect("named"))
            .collect::<Vec<_>>()
    };
    pass(5).await;
    assert_eq!(online().len(), 3);
    // Claimed spares are replaced, and what comes back beyond the spares goes off after a while.
    world.create("use", spec(3, "Apply", 0)).await;
    pass(5).await;
    let warm = online().into_iter().filter(|host| !world.consumers().contains_key(host)).count();
    assert_eq!(warm, 3, "claimed ones are no spares: {:?} of {:?}", world.consumers(), online());
    let all = online().len();
    world.compositions().delete("use", &DeleteParams::default()).await.expect("deleted");
    pass(100).await;
    assert!(all > 3 && online().len() == all, "nothing is powered down at once");
    pass(300).await;
    assert_eq!(online().len(), 3);
    // An administrator's word stands.
    let off = online()[0].clone();
    world.api.meddle(&host_path(&off), |host| host["spec"]["online"] = json!(false));
    pass(600).await;
    assert!(!online().contains(&off) && online().len() == 3, "{off} stays off, another one is warm");
    let status = world.api.objects("/resourcepools/").remove(0)["status"].clone();
    assert_eq!((status["counts"]["warm"].as_u64(), status["counts"]["free"].as_u64()), (Some(3), Some(5)));
}
