//! Candidates against an API in memory, in simulated time.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{LeaderConfig, lead};
use crate::fake_api::{FakeApi, Fault};

/// Who leads, as the ones that do see it.
#[derive(Clone, Default)]
struct Throne {
    seated: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    /// Who began, and when.
    history: Arc<Mutex<Vec<(&'static str, Instant)>>>,
}

impl Throne {
    fn latest(&self) -> (&'static str, Instant) {
        *self.history.lock().expect("not poisoned").last().expect("somebody led")
    }
}

/// Counts as leading until dropped.
struct Seat(Throne);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.seated.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a leader does: sits until told to go, and, if stubborn, longer.
async fn reign(throne: Throne, name: &'static str, term: CancellationToken, stubborn: bool) {
    let seated = throne.seated.fetch_add(1, Ordering::SeqCst) + 1;
    throne.most.fetch_max(seated, Ordering::SeqCst);
    throne.history.lock().expect("not poisoned").push((name, Instant::now()));
    let _seat = Seat(throne);
    term.cancelled().await;
    if stubborn {
        std::future::pending::<()>().await;
    }
}

/// A candidate in a process of its own, which is killed when the handle is dropped.
fn candidate(
    api: &FakeApi,
    name: &'static str,
    throne: &Throne,
    shutdown: &CancellationToken,
    stubborn: bool,
) -> AbortOnDropHandle<Option<()>> {
    let config = LeaderConfig { identity: name.to_owned(), ..LeaderConfig::new("test") };
    let throne = throne.clone();
    let work = move |term| reign(throne.clone(), name, term, stubborn);
    AbortOnDropHandle::new(tokio::spawn(lead(api.client(), config, shutdown.clone(), work)))
}

#[tokio::test(start_paused = true)]
async fn one_leads_and_another_takes_over_when_it_is_killed() {
    let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
    let first = candidate(&api, "first", &throne, &shutdown, false);
    sleep(Duration::from_secs(1)).await;
    let _second = candidate(&api, "second", &throne, &shutdown, false);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(throne.latest().0, "first");
    let killed = Instant::now();
    drop(first);
    sleep(Duration::from_secs(30)).await;
    let (leader, since) = throne.latest();
    assert_eq!(leader, "second");
    let gap = since - killed;
    assert!((Duration::from_secs(13)..Duration::from_secs(22)).contains(&gap), "{gap:?}");
    assert_eq!(api.objects("/leases/test")[0]["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_shuts_down_hands_over() {
    let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
    let first = candidate(&api, "first", &throne, &shutdown, false);
    sleep(Duration::from_secs(1)).await;
    let _second = candidate(&api, "second", &throne, &CancellationToken::new(), false);
    sleep(Duration::from_secs(10)).await;
    let asked = Instant::now();
    shutdown.cancel();
    assert_eq!(first.await.expect("no panic"), Some(()));
    sleep(Duration::from_secs(10)).await;
    let (leader, since) = throne.latest();
    assert_eq!(leader, "second");
    assert!(since - asked < Duration::from_secs(6), "{:?}", since - asked);
}

#[tokio::test(start_paused = true)]
async fn one_that_shuts_down_in_the_middle_of_renewing_hands_over_too() {
    let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
    let first = candidate(&api, "first", &throne, &shutdown, false);
    sleep(Duration::from_secs(1)).await;
    let _second = candidate(&api, "second", &throne, &CancellationToken::new(), false);
    let mut stalled = vec![Fault::AnswerHangs];
    api.set_faults(move |method, _| if method == "PUT" { stalled.pop() } else { None });
    // Renewals come every two seconds: one is written now, and its answer outstanding.
    sleep(Duration::from_secs(3)).await;
    let asked = Instant::now();
    shutdown.cancel();
    assert_eq!(first.await.expect("no panic"), Some(()));
    sleep(Duration::from_secs(10)).await;
    let (leader, since) = throne.latest();
    assert_eq!(leader, "second");
    assert!(since - asked < Duration::from_secs(6), "{:?}", since - asked);
}

#[tokio::test(start_paused = true)]
async fn one_that_shuts_down_in_the_middle_of_its_election_leaves_nothing_behind() {
    let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
    api.set_faults(|method, _| (method == "POST").then_some(Fault::AnswerHangs));
    let first = candidate(&api, "first", &throne, &shutdown, false);
    sleep(Duration::from_secs(1)).await;
    shutdown.cancel();
    assert_eq!(first.await.expect("no panic"), None);
    let asked = Instant::now();
    let _second = candidate(&api, "second", &throne, &CancellationToken::new(), false);
    sleep(Duration::from_secs(10)).await;
    let (leader, since) = throne.latest();
    assert_eq!(leader, "second");
    assert!(since - asked < Duration::from_secs(1), "{:?}", since - asked);
}

#[tokio::test(start_paused = true)]
async fn shutdown_before_leading_ends_the_candidacy() {
    let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
    let _first = candidate(&api, "first", &throne, &CancellationToken::new(), false);
    sleep(Duration::from_secs(1)).await;
    let second = candidate(&api, "second", &throne, &shutdown, false);
    sleep(Duration::from_secs(30)).await;
    shutdown.cancel();
    assert_eq!(second.await.expect("no panic"), None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_before_anybody_else_begins() {
    for stubborn in [false, true] {
        let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
        let _first = candidate(&api, "first", &throne, &shutdown, stubborn);
        sleep(Duration::from_secs(5)).await;
        let outage = Instant::now();
        api.set_faults(|_, _| Some(Fault::Hangs));
        while throne.seated.load(Ordering::SeqCst) > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        let stopped = outage.elapsed();
        let limit = if stubborn { 15 } else { 11 };
        assert!(stopped < Duration::from_secs(limit), "{stopped:?}");
        // When the API is back, it leads again.
        api.set_faults(|_, _| None);
        sleep(Duration::from_secs(30)).await;
        assert_eq!(throne.seated.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_lease_is_taken_stops() {
    let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
    let _first = candidate(&api, "first", &throne, &shutdown, false);
    sleep(Duration::from_secs(5)).await;
    api.meddle("/apis/coordination.k8s.io/v1/namespaces/drystone-system/leases/test", |lease| {
        lease["spec"]["holderIdentity"] = serde_json::json!("somebody else");
    });
    sleep(Duration::from_secs(3)).await;
    assert_eq!(throne.seated.load(Ordering::SeqCst), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever requests get lost, hang or are refused, no two lead at the same time.
    #[test]
    fn there_is_never_more_than_one_leader(fate in prop::collection::vec((0..5_u8, 1..15_u32), 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (api, throne, shutdown) = (FakeApi::new(), Throne::default(), CancellationToken::new());
            let _candidates =
                ["a", "b", "c"].map(|name| candidate(&api, name, &throne, &shutdown, name == "b"));
            // Each fate lasts for a number of requests.
            let mut fates = fate.into_iter().flat_map(|(kind, times)| std::iter::repeat_n(kind, times as usize));
            api.set_faults(move |_, _| match fates.next() {
                Some(1) => Some(Fault::Unavailable),
                Some(2) => Some(Fault::AnswerLost),
                Some(3) => Some(Fault::Hangs),
                Some(4) => Some(Fault::AnswerHangs),
                _ => None,
            });
            sleep(Duration::from_secs(900)).await;
            assert_eq!(throne.most.load(Ordering::SeqCst), 1, "{:?}", throne.history);
            assert_eq!(throne.seated.load(Ordering::SeqCst), 1, "in the end somebody leads");
        });
    }
}
