//! A roll-out whose controller is killed at each of its writes in turn: whoever comes after brings it to the same end, provisions each host
//! once, and takes no more out of service than may be.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_api::{
    BareMetalHost, HostSelector, OperatingSystemImage, RolloutPhase, RolloutStrategy, SYSTEM_NAMESPACE,
    SoftwareSetSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Api;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    images::{Seen, provision},
    mortal::mortal,
    stage::{DEADLINE, Stage, control},
};

/// One roll-out over three hosts of one site, of which one may be out of service at a time.
struct Play<'a> {
    stage: &'a Stage,
    seen: &'a Arc<Mutex<Seen>>,
    folder: &'a std::path::Path,
    number: usize,
}

impl Play<'_> {
    fn name(&self) -> String {
        format!("set-{}", self.number)
    }

    fn hosts(&self) -> Vec<String> {
        ["a", "b", "c"].map(|letter| format!("h{}-{letter}", self.number)).into()
    }

    fn image(&self) -> String {
        format!("http://images.example.org/os-2-{}.iso", self.number)
    }

    async fn begin(&self) {
        for host in self.hosts() {
            self.stage.host(&host, &format!("site-{}", self.number)).await;
        }
        let strategy =
            RolloutStrategy { max_unavailable: Some(IntOrString::Int(1)), ..RolloutStrategy::default() };
        let spec = SoftwareSetSpec {
            selector: HostSelector { hosts: self.hosts(), ..HostSelector::default() },
            os_image: Some(OperatingSystemImage { url: self.image(), ..OperatingSystemImage::default() }),
            strategy,
            ..SoftwareSetSpec::default()
        };
        self.stage.set(&self.name(), spec).await;
    }

    async fn is_done(&self) {
        loop {
            let all = self.stage.rollouts().await;
            let mine = all.iter().filter(|rollout| rollout.spec.sets == [self.name()]);
            let mut phases = mine.map(|rollout| rollout.status.clone().unwrap_or_default().phase);
            if phases.next().is_some_and(RolloutPhase::is_final) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the controllers at the write after `writes`; whether that was before the end.
    async fn killed(&self, writes: usize, written: bool) -> bool {
        let (client, dying) = mortal(self.stage.server(), SYSTEM_NAMESPACE, writes, written);
        let folder = self.folder.to_owned();
        let process = AbortOnDropHandle::new(tokio::spawn(async move { control(client, &folder).await }));
        let done = async {
            if tokio::time::timeout(DEADLINE, self.is_done()).await.is_err() {
                panic!("before it was killed: {:?}", self.stage.told().await);
            }
            // The last words: operations are freed, the set is called current.
            tokio::time::sleep(Duration::from_millis(1_000)).await;
        };
        let killed = tokio::select! {
            () = dying.notified() => true,
            () = done => false,
        };
        process.abort();
        let _ = process.await;
        killed
    }

    /// Lets somebody else bring it to its end, and looks at what came of it.
    async fn end(&self, what: &str) {
        let (client, folder) = (self.stage.another_client(), self.folder.to_owned());
        let process = AbortOnDropHandle::new(tokio::spawn(async move { control(client, &folder).await }));
        let ended = tokio::time::timeout(DEADLINE, self.is_done()).await;
        assert!(ended.is_ok(), "{what}: {:?}", self.stage.told().await);
        self.stage.set_is(&self.name(), "Current").await;
        drop(process);
        let all = self.stage.rollouts().await;
        let mine: Vec<_> = all.iter().filter(|rollout| rollout.spec.sets == [self.name()]).collect();
        let status = mine[0].status.clone().expect("has one");
        assert_eq!((mine.len(), status.phase), (1, RolloutPhase::Succeeded), "{what}: {status:?}");
        assert!(status.hosts.iter().all(|host| host.attempts == 1), "{what}: {status:?}");
        let hosts: Api<BareMetalHost> = Api::namespaced(self.stage.client.clone(), SYSTEM_NAMESPACE);
        for name in self.hosts() {
            let host = hosts.get(&name).await.expect("there");
            let image = host.status.and_then(|status| status.provisioning.image).map(|image| image.url);
            assert_eq!(image, Some(self.image()), "{what}: {name}");
        }
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (hosts, most) = (self.hosts(), seen.most_in_a_site);
        let times = seen.order.iter().filter(|name| hosts.contains(name)).count();
        assert_eq!((times, most), (3, 1), "{what}: each host once, and one at a time: {seen:?}");
    }
}

/// Kills at every second write in turn, beginning with the first or the second one, until there is none left to be killed at; how often.
async fn everywhere(first: usize, written: bool) -> usize {
    let (stage, seen) = (Stage::start().await, Arc::<Mutex<Seen>>::default());
    let folder = tempfile::tempdir().expect("a folder");
    let _provisioner = AbortOnDropHandle::new(tokio::spawn(provision(stage.client.clone(), seen.clone())));
    let mut kills = 0;
    for writes in (first..).step_by(2) {
        let play = Play { stage: &stage, seen: &seen, folder: folder.path(), number: writes };
        play.begin().await;
        let killed = play.killed(writes, written).await;
        play.end(&format!("killed after {writes} writes ({written})")).await;
        if !killed {
            break;
        }
        kills += 1;
    }
    println!("killed at {kills} points");
    kills
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_odd_write_that_was_carried_out() {
    let kills = everywhere(0, true).await;
    assert!(kills >= 13, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_even_write_that_was_carried_out() {
    let kills = everywhere(1, true).await;
    assert!(kills >= 13, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_odd_write_that_was_not_carried_out() {
    let kills = everywhere(0, false).await;
    assert!(kills >= 13, "{kills} kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_an_even_write_that_was_not_carried_out() {
    let kills = everywhere(1, false).await;
    assert!(kills >= 13, "{kills} kills");
}
