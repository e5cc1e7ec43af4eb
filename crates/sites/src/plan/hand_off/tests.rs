use drystone_api::{
    BareMetalHostSpec, BareMetalHostStatus, Cluster, ClusterMember, ClusterSpec, ClusterStatus,
    HandOffAuthentication, HandOffAuthenticationType, HandOffKubernetes, HandOffWebhook, HardwareDetails,
    MemberRole, Nic, ObjectReference, ProvisioningState, RACK_LABEL, SITE_LABEL, Site, SiteBmc, SiteCluster,
    SiteSpec, quantity::TimeSpan,
};
use proptest::prelude::*;

use super::*;

const URL: &str = "https://orchestrator.example/hosts";

fn identity() -> SiteIdentity {
    let name = ObjectName { namespace: "drystone-system".into(), name: "east".into() };
    SiteIdentity { uid: "uid-1".into(), name }
}

fn webhook(url: &str) -> SiteHandOff {
    let webhook = HandOffWebhook { url: url.to_owned(), ..HandOffWebhook::default() };
    SiteHandOff { webhook: Some(webhook), kubernetes: None }
}

fn stock(hosts: &[&str]) -> Inventory {
    let details =
        |name: &&str| ((*name).to_owned(), HostDetails { role: "worker".into(), ..HostDetails::default() });
    Inventory { hosts: hosts.iter().map(details).collect(), ..Inventory::default() }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// An orchestrator's book, as it comes to be by the decisions.
struct Book {
    record: Option<SiteHandOffStatus>,
}

impl Book {
    fn decide(&self, wanted: Option<&SiteHandOff>, hosts: &[&str]) -> Decision {
        decide(&identity(), wanted, &stock(hosts), self.record.as_ref(), at(100))
    }

    /// What is told now; it is noted.
    fn told(&mut self, wanted: Option<&SiteHandOff>, hosts: &[&str]) -> Document {
        let decision = self.decide(wanted, hosts);
        let Decision::Tell { record, document } = decision else { panic!("{decision:?}") };
        assert_eq!(record.generation, document.generation);
        self.record = Some(*record);
        *document
    }

    fn take(&mut self) {
        self.record = self.record.as_ref().map(|record| taken(record, phase::ACCEPTED, "", at(101)));
    }
}

/// Names of a document's hosts, with a minus before those that have left.
fn shown(document: &Document) -> String {
    let name = |host: &DocumentHost| match host.state {
        HandOffState::Present => host.name.clone(),
        HandOffState::Withdrawn => format!("-{}", host.name),
    };
    document.hosts.iter().map(name).collect::<Vec<_>>().join(" ")
}

#[test]
fn what_is_interrupted_is_told_again_in_the_same_words() {
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    assert_eq!(book.decide(Some(&wanted), &[]), Decision::NoHosts);
    let first = book.told(Some(&wanted), &["a", "b"]);
    assert_eq!((first.generation, first.id.as_str(), shown(&first).as_str()), (1, "uid-1", "a b"));
    assert_eq!(book.told(Some(&wanted), &["a", "b"]), first, "it was not noted that it was taken");
    book.take();
    assert!(matches!(book.decide(Some(&wanted), &["a", "b"]), Decision::Settled(_)));

    let second = book.told(Some(&wanted), &["a"]);
    assert_eq!((second.generation, shown(&second).as_str()), (2, "a -b"));
    assert_eq!(book.told(Some(&wanted), &["a"]), second);
    book.take();
    assert!(matches!(book.decide(Some(&wanted), &["a"]), Decision::Settled(_)));
    assert_eq!(book.record.as_ref().unwrap().hosts, ["a"]);
}

#[test]
fn hosts_that_leave_are_withdrawn_until_that_is_taken() {
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    book.told(Some(&wanted), &["a", "b"]);
    // The orchestrator may have got the first document, although it is not known.
    assert_eq!(shown(&book.told(Some(&wanted), &["a", "c"])), "a -b c");
    assert_eq!(shown(&book.told(Some(&wanted), &["c"])), "-a -b c");
    assert_eq!(shown(&book.told(Some(&wanted), &["b"])), "-a b -c", "one comes back");
    book.take();
    let last = book.told(Some(&wanted), &[]);
    assert_eq!((last.generation, last.state, shown(&last).as_str()), (5, HandOffState::Present, "-b"));
    book.take();
    assert!(matches!(book.decide(Some(&wanted), &[]), Decision::Settled(_)));
    // The orchestrator knows the site itself still.
    let end = book.told(None, &[]);
    assert_eq!((end.state, end.hosts.len()), (HandOffState::Withdrawn, 0));
}

#[test]
fn a_site_that_leaves_is_withdrawn_and_may_come_back() {
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    assert_eq!(book.decide(None, &["a"]), Decision::Over);
    book.told(Some(&wanted), &["a", "b"]);
    book.take();
    let end = book.told(None, &["a", "b"]);
    assert_eq!((end.generation, end.state, shown(&end).as_str()), (2, HandOffState::Withdrawn, "-a -b"));
    // What was begun is ended first, whatever is wanted meanwhile.
    assert_eq!(book.told(Some(&wanted), &["a"]), end);
    book.take();
    assert_eq!(book.decide(None, &["a"]), Decision::Over);
    let again = book.told(Some(&wanted), &["a"]);
    assert_eq!((again.generation, shown(&again).as_str()), (3, "a"));
}

#[test]
fn another_orchestrator_is_told_when_the_first_one_knows() {
    let (first, second, mut book) = (webhook(URL), webhook("https://other.example/"), Book { record: None });
    book.told(Some(&first), &["a"]);
    book.take();
    let end = book.told(Some(&second), &["a"]);
    assert_eq!(end.state, HandOffState::Withdrawn);
    assert_eq!(book.record.as_ref().unwrap().target.as_ref(), Some(&first), "the first one is told");
    book.take();
    assert_eq!(shown(&book.told(Some(&second), &["a"])), "a");
    let record = book.record.as_ref().unwrap();
    assert_eq!((record.target.as_ref(), record.delivered_generation), (Some(&second), None));
}

#[test]
fn settings_that_lead_to_the_same_orchestrator_are_noted_and_not_told() {
    let (mut wanted, mut book) = (webhook(URL), Book { record: None });
    book.told(Some(&wanted), &["a"]);
    book.take();
    wanted.webhook.as_mut().unwrap().timeout = Some(TimeSpan(20));
    let decision = book.decide(Some(&wanted), &["a"]);
    let Decision::Settled(record) = decision else { panic!("{decision:?}") };
    assert_eq!((record.generation, record.target.as_ref()), (1, Some(&wanted)));
    // Other credentials are told.
    let other = CredentialsReference { namespace: "vault".into(), name: "keys".into() };
    wanted.webhook.as_mut().unwrap().credentials_ref = Some(other.clone());
    let told = book.told(Some(&wanted), &["a"]);
    assert_eq!((told.generation, told.credentials_ref), (2, Some(other)));
}

#[test]
fn one_that_is_at_work_is_asked_again() {
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    let first = book.told(Some(&wanted), &["a"]);
    book.record = book.record.map(|record| taken(&record, phase::IN_PROGRESS, "installing", at(101)));
    assert_eq!(book.told(Some(&wanted), &["a"]), first);
    let second = book.told(Some(&wanted), &["a", "b"]);
    assert_eq!(second.generation, 2);
}

#[test]
fn numbers_of_the_orchestrator_are_passed_if_they_are_numbers() {
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    book.told(Some(&wanted), &["a"]);
    let record = book.record.clone().unwrap();
    assert_eq!(overtaken(&record, 0), None);
    assert_eq!(overtaken(&record, i64::MAX), None);
    book.record = overtaken(&record, 41);
    let told = book.told(Some(&wanted), &["a"]);
    assert_eq!((told.generation, shown(&told).as_str()), (42, "a"));
}

#[test]
fn a_withdrawal_ends_by_and_by() {
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    book.told(Some(&wanted), &["a"]);
    assert!(
        !gives_up(book.record.as_ref().unwrap(), 0, at(9999)),
        "hosts that are there are told of for ever"
    );
    let never = {
        let mut book = Book { record: book.record.clone() };
        book.told(None, &[]);
        book.record.unwrap()
    };
    assert!(gives_up(&never, 600, at(101)), "it never took anything");
    book.take();
    book.told(None, &[]);
    let record = book.record.clone().unwrap();
    assert!(!gives_up(&record, 600, at(699)));
    assert!(gives_up(&record, 600, at(700)));
    book.record = Some(given_up(&record));
    assert_eq!(book.decide(None, &[]), Decision::Over);
    assert_eq!(book.told(Some(&wanted), &["a"]).generation, 3);
}

fn bare_metal(name: &str, state: ProvisioningState) -> BareMetalHostOf {
    let mut host = drystone_api::BareMetalHost::new(name, BareMetalHostSpec::default());
    host.metadata.labels = Some(
        [(SITE_LABEL, "east"), (RACK_LABEL, "r1"), ("tier", "gold")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
    );
    let nic = |ip: &str| Nic { ip: ip.to_owned(), ..Nic::default() };
    let hardware = HardwareDetails {
        nics: vec![nic(""), nic("10.0.0.9"), nic("10.1.0.1")],
        ram_mebibytes: 4096,
        ..HardwareDetails::default()
    };
    let mut status = BareMetalHostStatus { hardware: Some(hardware), ..Default::default() };
    status.provisioning.state = state;
    host.status = Some(status);
    BareMetalHostOf(host)
}

struct BareMetalHostOf(drystone_api::BareMetalHost);

impl AsRef<drystone_api::BareMetalHost> for BareMetalHostOf {
    fn as_ref(&self) -> &drystone_api::BareMetalHost {
        &self.0
    }
}

fn site(names: &[&str]) -> Site {
    let bmc = |name: &&str| SiteBmc { name: (*name).to_owned(), ..SiteBmc::default() };
    let spec = SiteSpec { bmcs: names.iter().map(bmc).collect(), ..SiteSpec::default() };
    let mut site = Site::new("east", spec);
    site.metadata.namespace = Some("drystone-system".into());
    site
}

fn consumed(name: &str, by: &str) -> BareMetalHostOf {
    let mut host = bare_metal(name, ProvisioningState::Provisioned);
    let reference = match by {
        "" => None,
        "Site" => Some(consumer(&site(&[]))),
        other => Some(ObjectReference { kind: other.into(), name: "east".into(), ..Default::default() }),
    };
    host.0.spec.consumer_ref = reference;
    host
}

fn names(inventory: &Inventory) -> Vec<&str> {
    inventory.hosts.keys().map(String::as_str).collect()
}

#[test]
fn hosts_are_there_when_they_have_their_operating_system() {
    let hosts = [
        bare_metal("a", ProvisioningState::Provisioned),
        bare_metal("b", ProvisioningState::Provisioning),
        bare_metal("c", ProvisioningState::ExternallyProvisioned),
        bare_metal("off-the-list", ProvisioningState::Provisioned),
    ];
    let found = inventory(&site(&["c", "a", "b", "none"]), &hosts, None, &[]);
    assert_eq!((names(&found), found.waiting.clone()), (vec!["a", "c"], vec!["b".into(), "none".into()]));
    let details = &found.hosts["a"];
    assert_eq!(details.addresses, ["10.0.0.9", "10.1.0.1"]);
    let labels: Vec<&str> = details.labels.keys().map(String::as_str).collect();
    assert_eq!(labels, [RACK_LABEL, "tier"]);
    assert_eq!(details.hardware.as_ref().unwrap().memory_mebibytes, 4096);
}

#[test]
fn hosts_of_a_cluster_are_there_when_they_are_nodes_and_stay_when_those_are_not_ready() {
    let mut site = site(&["a", "b"]);
    site.spec.cluster = Some(SiteCluster::default());
    let hosts = ["a", "b"].map(|name| bare_metal(name, ProvisioningState::Provisioned));
    let mut cluster = Cluster::new("east", ClusterSpec::default());
    cluster.metadata.namespace = Some("edge".into());
    let member = |host: &str, ready| ClusterMember {
        host: host.into(),
        role: MemberRole::ControlPlane,
        address: "10.1.0.1".into(),
        ready,
        ..Default::default()
    };
    assert!(names(&inventory(&site, &hosts, None, &["a".into()])).is_empty(), "no cluster, no nodes");
    cluster.status = Some(ClusterStatus {
        members: vec![member("a", true), member("b", false)],
        kubeconfig_secret: "east-kubeconfig".into(),
        ..Default::default()
    });
    let found = inventory(&site, &hosts, Some(&cluster), &[]);
    assert_eq!(names(&found), ["a"]);
    assert_eq!(found.hosts["a"].role, "control-plane");
    assert_eq!(found.hosts["a"].addresses, ["10.1.0.1", "10.0.0.9"]);
    let kubeconfig = CredentialsReference { namespace: "edge".into(), name: "east-kubeconfig".into() };
    assert_eq!(found.kubeconfig, Some(kubeconfig));
    assert_eq!(names(&inventory(&site, &hosts, Some(&cluster), &["b".into()])), ["a", "b"]);
    cluster.metadata.deletion_timestamp = Some(Time(at(1)));
    assert!(names(&inventory(&site, &hosts, Some(&cluster), &["b".into()])).is_empty());
}

#[test]
fn hosts_are_claimed_before_they_are_told_of_and_given_back_when_they_are_let_go() {
    let east = site(&["free", "ours", "theirs"]);
    let hosts = [consumed("free", ""), consumed("ours", "Site"), consumed("theirs", "Composition")];
    let [free, ours, theirs] = hosts.each_ref().map(AsRef::as_ref);
    let found = inventory(&east, &hosts, None, &[]);
    assert_eq!(names(&found), ["free", "ours"]);
    assert!(wants_claim(free, &east, &found));
    assert!(!wants_claim(ours, &east, &found) && !wants_claim(theirs, &east, &found));
    let releases = |host, stock: &Inventory, record: Option<&SiteHandOffStatus>, seconds| {
        wants_release(host, &east, stock, record, 600, at(seconds))
    };
    let (wanted, mut book) = (webhook(URL), Book { record: None });
    book.told(Some(&wanted), &["ours", "theirs"]);
    book.take();
    assert!(!releases(ours, &found, book.record.as_ref(), 9999), "it is there");
    // It leaves: kept until that is taken, or for ten minutes.
    book.told(Some(&wanted), &["free"]);
    assert!(!releases(ours, &stock(&["free"]), book.record.as_ref(), 699));
    assert!(releases(ours, &stock(&["free"]), book.record.as_ref(), 700));
    assert!(!releases(theirs, &stock(&["free"]), book.record.as_ref(), 700));
    book.take();
    assert!(releases(ours, &stock(&["free"]), book.record.as_ref(), 101));
    assert!(releases(ours, &stock(&[]), None, 101));
}

#[test]
fn problems_name_their_field() {
    let of = |hand_off: SiteHandOff| {
        let mut site = site(&["a"]);
        site.spec.hand_off = Some(hand_off);
        check(&site).iter().map(|problem| problem.field.clone()).collect::<Vec<_>>()
    };
    assert!(of(webhook(URL)).is_empty());
    for url in ["http://127.0.0.1:9000/x", "http://[::1]:9000/", "http://localhost/"] {
        assert!(of(webhook(url)).is_empty(), "{url}");
    }
    for url in
        ["http://10.0.0.1/", "http://localhost.example/", "http://127.0.0.1.example/", "ftp://x/", "//x"]
    {
        assert_eq!(of(webhook(url)), ["spec.handOff.webhook.url"], "{url}");
    }
    let mut plain = webhook("http://10.0.0.1/");
    let settings = plain.webhook.as_mut().unwrap();
    settings.allow_plain_text = true;
    assert!(of(plain.clone()).is_empty());
    let settings = plain.webhook.as_mut().unwrap();
    settings.authentication = Some(HandOffAuthentication::default());
    assert_eq!(of(plain.clone()), ["spec.handOff.webhook.authentication.type"]);
    let settings = plain.webhook.as_mut().unwrap();
    settings.authentication.as_mut().unwrap().kind = HandOffAuthenticationType::HMAC;
    settings.ca_secret_name = "a".into();
    settings.ca_config_map_name = "b".into();
    settings.timeout = Some(TimeSpan(61));
    settings.withdrawal_limit = Some(TimeSpan(1 << 20));
    assert_eq!(
        of(plain),
        ["caConfigMapName", "timeout", "withdrawalLimit"]
            .map(|field| format!("spec.handOff.webhook.{field}"))
    );
    let kubernetes = SiteHandOff { kubernetes: Some(HandOffKubernetes {}), webhook: None };
    assert_eq!(of(kubernetes.clone()), ["spec.handOff.kubernetes"]);
    assert_eq!(of(SiteHandOff { webhook: webhook(URL).webhook, ..kubernetes }), ["spec.handOff"]);
    assert_eq!(of(SiteHandOff::default()), ["spec.handOff"]);
}

/// What may happen to a hand-off.
#[derive(Debug, Clone)]
enum Event {
    /// The site's hosts are others now, each of four by a bit.
    Hosts(u8),
    /// What is wanted: nothing, or one of two orchestrators.
    Wanted(u8),
    /// The orchestrator that is told takes it, and the controller hears of it or not.
    Taken(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..16_u8).prop_map(Event::Hosts),
        (0..3_u8).prop_map(Event::Wanted),
        any::<bool>().prop_map(Event::Taken),
    ]
}

proptest! {
    /// Whatever happens in which order: no generation says two things, numbers do not fall, and when all is quiet, orchestrators believe of
    /// the site what is so.
    #[test]
    fn orchestrators_come_to_know_what_is_so(events in prop::collection::vec(event(), 0..40)) {
        const NAMES: [&str; 4] = ["a", "b", "c", "d"];
        let orchestrators = [webhook(URL), webhook("https://other.example/")];
        let mut book = Book { record: None };
        let (mut hosts, mut wanted) = (vec!["a"], Some(0));
        let mut said: BTreeMap<i64, Document> = BTreeMap::new();
        let mut believed: [BTreeSet<String>; 2] = Default::default();
        // After what happens, everything is taken and heard of until there is nothing more to be told.
        let quiet = std::iter::repeat_n(Event::Taken(true), 5);
        for event in events.into_iter().chain(quiet) {
            match event {
                Event::Hosts(bits) => hosts = (0..4).filter(|bit| bits & (1 << bit) != 0).map(|bit| NAMES[bit]).collect(),
                Event::Wanted(which) => wanted = usize::from(which).checked_sub(1),
                Event::Taken(heard) => {
                    let decision = book.decide(wanted.map(|which| &orchestrators[which]), &hosts);
                    let Decision::Tell { record, document } = decision else { continue };
                    prop_assert!(book.record.as_ref().is_none_or(|before| before.generation <= record.generation));
                    prop_assert_eq!(said.entry(document.generation).or_insert_with(|| (*document).clone()), &*document);
                    let who = orchestrators.iter().position(|one| Some(one) == record.target.as_ref()).unwrap();
                    for host in &document.hosts {
                        match host.state {
                            HandOffState::Present => believed[who].insert(host.name.clone()),
                            HandOffState::Withdrawn => believed[who].remove(&host.name),
                        };
                    }
                    book.record = Some(*record);
                    if heard {
                        book.take();
                    }
                }
            }
        }
        for (who, believed) in believed.iter().enumerate() {
            let so = if wanted == Some(who) { hosts.clone() } else { Vec::new() };
            prop_assert_eq!(believed.iter().map(String::as_str).collect::<Vec<_>>(), so);
        }
    }
}
