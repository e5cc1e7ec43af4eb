//! Another operating-system image over several sites: who provisions is a stand-in, everything else is real.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use drystone_api::{
    BareMetalHost, HostSelector, OperatingSystemImage, ProvisioningState, RolloutPhase, RolloutStrategy,
    SITE_LABEL, SYSTEM_NAMESPACE, Site, SiteSpec, SiteStatus, SoftwareSetSpec, condition,
};
use drystone_engine::harness::update_status;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use tokio_util::task::AbortOnDropHandle;

use crate::stage::{Stage, control, eventually};

const NEW: &str = "http://images.example.org/os-2.iso";

/// What the stand-in has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) most: usize,
    pub(crate) most_in_a_site: usize,
    pub(crate) order: Vec<String>,
}

/// Provisions whatever host wants another image, in two looks; hosts whose image is named `bad` fail.
pub(crate) async fn provision(client: Client, seen: Arc<Mutex<Seen>>) {
    let hosts: Api<BareMetalHost> = Api::namespaced(client, SYSTEM_NAMESPACE);
    loop {
        let all = hosts.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        let differs = |host: &&BareMetalHost| {
            let present = host.status.as_ref().and_then(|status| status.provisioning.image.as_ref());
            let rests = host
                .status
                .as_ref()
                .is_some_and(|status| status.provisioning.state == ProvisioningState::Provisioned);
            let other = host.spec.image.as_ref().map(|image| &image.url) != present.map(|image| &image.url);
            // One without a status is being made by the test.
            host.status.is_some() && (!rests || other)
        };
        let changing: Vec<&BareMetalHost> = all.iter().filter(differs).collect();
        let mut sites: BTreeMap<String, usize> = BTreeMap::new();
        for host in &changing {
            *sites.entry(host.labels()[SITE_LABEL].clone()).or_default() += 1;
        }
        {
            let mut seen = seen.lock().expect("not poisoned");
            seen.most = seen.most.max(changing.len());
            seen.most_in_a_site = seen.most_in_a_site.max(sites.values().copied().max().unwrap_or(0));
        }
        for host in changing {
            let name = host.name_any();
            let bad = host.spec.image.as_ref().is_some_and(|image| image.url.contains("bad"));
            let _ = update_status(&hosts, host, |status: &mut drystone_api::BareMetalHostStatus| {
                if status.provisioning.state == ProvisioningState::Provisioned {
                    status.provisioning.state = ProvisioningState::Provisioning;
                } else if bad {
                    status.operational_status = drystone_api::OperationalStatus::Error;
                    status.error_type = "provisioning error".to_owned();
                    status.error_message = "the image does not boot".to_owned();
                    status.error_count = 9;
                } else {
                    status.operational_status = drystone_api::OperationalStatus::OK;
                    status.error_type.clear();
                    status.error_message.clear();
                    status.error_count = 0;
                    status.provisioning.state = ProvisioningState::Provisioned;
                    status.provisioning.image.clone_from(&host.spec.image);
                }
            })
            .await;
            let provisioning = host.status.as_ref().map(|status| status.provisioning.state);
            if provisioning == Some(ProvisioningState::Provisioned) {
                seen.lock().expect("not poisoned").order.push(name);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn spec(url: &str) -> SoftwareSetSpec {
    SoftwareSetSpec {
        selector: HostSelector { all: true, ..HostSelector::default() },
        os_image: Some(OperatingSystemImage { url: url.to_owned(), ..OperatingSystemImage::default() }),
        strategy: RolloutStrategy {
            max_unavailable: Some(IntOrString::Int(6)),
            max_unavailable_per_site: Some(IntOrString::Int(2)),
            ..RolloutStrategy::default()
        },
        ..SoftwareSetSpec::default()
    }
}

async fn sites(stage: &Stage, sites: usize, hosts: usize) {
    for site in 0..sites {
        for host in 0..hosts {
            stage.host(&format!("s{site}-h{host}"), &format!("s{site}")).await;
        }
    }
}

async fn images(stage: &Stage) -> BTreeSet<String> {
    let hosts: Api<BareMetalHost> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let all = hosts.list(&ListParams::default()).await.expect("listed");
    let image =
        |host: BareMetalHost| host.status.and_then(|status| status.provisioning.image).map(|image| image.url);
    all.into_iter().filter_map(image).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_rolled_out_within_the_limits_and_a_cut_off_site_comes_later() {
    let (stage, seen) = (Stage::start().await, Arc::<Mutex<Seen>>::default());
    sites(&stage, 4, 4).await;
    let off = |connected: bool| SiteStatus {
        conditions: vec![condition("Connected", connected, "Test", "the line is down")],
        ..SiteStatus::default()
    };
    let all: Api<Site> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let site =
        all.create(&PostParams::default(), &Site::new("s0", SiteSpec::default())).await.expect("accepted");
    let site = update_status(&all, &site, |status| *status = off(false)).await.expect("written");
    let folder = tempfile::tempdir().expect("a folder");
    let _control = AbortOnDropHandle::new(tokio::spawn({
        let (client, folder) = (stage.client.clone(), folder.path().to_owned());
        async move { control(client, &folder).await }
    }));
    let _provisioner = AbortOnDropHandle::new(tokio::spawn(provision(stage.client.clone(), seen.clone())));
    stage.set("base", spec(NEW)).await;
    let waits = eventually("a rollout that waits for the site", || async {
        let rollouts = stage.rollouts().await;
        let status = rollouts.first().and_then(|rollout| rollout.status.clone()).unwrap_or_default();
        if status.phase == RolloutPhase::AwaitingHosts { Ok(status) } else { Err(status.message) }
    })
    .await;
    assert_eq!((waits.counts.updated, waits.counts.deferred), (12, 4), "{}", waits.message);
    assert!(waits.hosts.iter().any(|host| host.message.contains("site s0 is cut off: the line is down")));
    update_status(&all, &site, |status| *status = off(true)).await.expect("written");
    let set = stage.set_is("base", "Current").await;
    assert_eq!(set.status.expect("has one").current_hosts, 16);
    assert_eq!(images(&stage).await, BTreeSet::from([NEW.to_owned()]));
    let seen = seen.lock().expect("not poisoned");
    assert!(seen.most <= 6 && seen.most_in_a_site <= 2, "{seen:?}");
    assert!(seen.most > 2, "nothing went on at the same time: {seen:?}");
    assert_eq!(seen.order.iter().collect::<BTreeSet<_>>().len(), 16, "each once: {seen:?}");
    assert_eq!(seen.order.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_does_not_boot_is_taken_back_from_the_canary_and_reaches_nobody_else() {
    let (stage, seen) = (Stage::start().await, Arc::<Mutex<Seen>>::default());
    sites(&stage, 2, 2).await;
    let folder = tempfile::tempdir().expect("a folder");
    let _control = AbortOnDropHandle::new(tokio::spawn({
        let (client, folder) = (stage.client.clone(), folder.path().to_owned());
        async move { control(client, &folder).await }
    }));
    let _provisioner = AbortOnDropHandle::new(tokio::spawn(provision(stage.client.clone(), seen.clone())));
    stage.set("base", spec("http://images.example.org/bad.iso")).await;
    let set = stage.set_is("base", "RolloutFailed").await;
    let rollouts = stage.rollouts().await;
    assert_eq!(rollouts.len(), 1, "no second attempt");
    let status = rollouts[0].status.clone().expect("has one");
    assert_eq!(
        (status.phase, status.counts.failed, status.counts.updated),
        (RolloutPhase::Failed, 1, 0),
        "{status:?}"
    );
    assert!(status.hosts[0].message.contains("does not boot"), "{}", status.hosts[0].message);
    assert_eq!(status.hosts[0].phase, drystone_api::HostRolloutPhase::FailedRolledBack, "{status:?}");
    assert_eq!(images(&stage).await.len(), 1, "the canary has its former image again");
    assert_eq!(set.status.expect("has one").current_hosts, 0);
    stage.change("base", serde_json::json!({"osImage": {"url": NEW}})).await;
    stage.set_is("base", "Current").await;
    assert_eq!(images(&stage).await, BTreeSet::from([NEW.to_owned()]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_of_nothing_and_nonsense_are_refused() {
    let stage = Stage::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let _control = AbortOnDropHandle::new(tokio::spawn({
        let (client, folder) = (stage.client.clone(), folder.path().to_owned());
        async move { control(client, &folder).await }
    }));
    stage.set("base", spec(NEW)).await;
    let message = stage.set_is("base", "NothingSelected").await.status.expect("has one").message;
    assert!(message.starts_with("spec.selector: selects no host"), "{message}");
    // A host that is added is seen.
    stage.host("h1", "s1").await;
    stage.set_is("base", "RollingOut").await;
    let waves = serde_json::json!([{"name": "a", "after": ["b"]}, {"name": "b"}]);
    stage
        .change("base", serde_json::json!({"strategy": {"waves": waves}, "osImage": {"url": "no url"}}))
        .await;
    let message = stage.set_is("base", "Invalid").await.status.expect("has one").message;
    assert!(
        message.contains("spec.osImage.url") && message.contains("spec.strategy.waves[0].after"),
        "{message}"
    );
}

/// A process is a runtime of its own here; killing it drops everything that runs in it at whatever point it is.
#[test]
fn killed_again_and_again_it_comes_to_its_end() {
    let lasting = tokio::runtime::Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let seen = Arc::<Mutex<Seen>>::default();
    let (stage, _provisioner) = lasting.block_on(async {
        let stage = Stage::start().await;
        sites(&stage, 4, 5).await;
        stage.set("base", spec(NEW)).await;
        let provisioner = tokio::spawn(provision(stage.client.clone(), seen.clone()));
        (stage, AbortOnDropHandle::new(provisioner))
    });
    let mut lives = 0;
    // Ever longer lives, so that a slow machine comes to an end as well.
    for lifetime in (1..).map(|life| Duration::from_millis(131 * life % 390 + 4 * life)) {
        let process = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (client, folder) = (process.block_on(async { stage.another_client() }), folder.path().to_owned());
        // Dropped wherever it is; what its tasks still had in hand is dropped before the files are closed to them.
        process.block_on(async {
            let _ = tokio::time::timeout(lifetime, control(client, &folder)).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        });
        process.shutdown_background();
        lives += 1;
        let rollouts = lasting.block_on(stage.rollouts());
        let phase = rollouts.first().and_then(|rollout| rollout.status.as_ref()).map(|status| status.phase);
        if phase.is_some_and(RolloutPhase::is_final) || lives > 500 {
            break;
        }
    }
    let rollouts = lasting.block_on(stage.rollouts());
    let status = rollouts[0].status.clone().expect("has one");
    assert_eq!((rollouts.len(), status.phase), (1, RolloutPhase::Succeeded), "{status:?}");
    assert!(status.hosts.iter().all(|host| host.attempts == 1), "{status:?}");
    let seen = seen.lock().expect("not poisoned");
    assert!(seen.most <= 6 && seen.most_in_a_site <= 2, "{seen:?}");
    assert_eq!(seen.order.len(), 20, "each host is provisioned once: {seen:?}");
    assert!(lives > 2, "it was to be killed in between");
    println!("{lives} lives for 20 hosts");
}
