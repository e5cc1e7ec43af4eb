//! Whatever happens on the way, in the end every site has what is declared for it, once, from one owner.

use std::time::Duration;

use drystone_api::{SITE_LABEL, SYSTEM_NAMESPACE, Site};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Secret},
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{Cable, Cables, Global, Server, declare, eventually, host};

const SITES: [&str; 3] = ["east", "west", "south"];

/// Something that happens.
#[derive(Debug, Clone)]
enum Happening {
    /// The list of hosts is another one.
    Relist(usize, u8),
    /// A Secret for a site comes, or changes.
    Put(usize, u8, u8),
    /// It goes.
    Drop(usize, u8),
    /// Somebody edits at the site.
    Edit(usize, u8),
    /// Somebody deletes at the site.
    Wipe(usize, u8),
    Cut(usize, bool),
    Mend(usize),
    /// The leader is killed; another one takes over.
    Kill,
    Pause,
}

fn happening() -> impl Strategy<Value = Happening> {
    let (site, thing) = (0..SITES.len(), 0_u8..3);
    prop_oneof![
        (site.clone(), any::<u8>()).prop_map(|(site, list)| Happening::Relist(site, list)),
        (site.clone(), thing.clone(), any::<u8>())
            .prop_map(|(site, thing, value)| Happening::Put(site, thing, value)),
        (site.clone(), thing.clone()).prop_map(|(site, thing)| Happening::Drop(site, thing)),
        (site.clone(), thing.clone()).prop_map(|(site, thing)| Happening::Edit(site, thing)),
        (site.clone(), thing).prop_map(|(site, thing)| Happening::Wipe(site, thing)),
        (site.clone(), any::<bool>()).prop_map(|(site, silent)| Happening::Cut(site, silent)),
        site.prop_map(Happening::Mend),
        Just(Happening::Kill),
        Just(Happening::Pause),
    ]
}

fn secret(site: usize, thing: u8) -> String {
    format!("{}-thing-{thing}", SITES[site])
}

struct World {
    global: Server,
    sites: Vec<Server>,
    cables: Cables,
    leader: Option<Global>,
}

impl World {
    async fn new() -> Self {
        let (global, cables) = (Server::start().await, Cables::default());
        let mut sites = Vec::new();
        for name in SITES {
            let server = Server::start().await;
            cables.plug(name, &server);
            declare(&global, name, json!({"bmcs": [host("h0")]})).await;
            sites.push(server);
        }
        let leader = Some(Global::start(&global, &cables));
        Self { global, sites, cables, leader }
    }

    async fn make(&mut self, happening: &Happening) {
        let secrets = self.global.all::<Secret>();
        match happening {
            Happening::Relist(site, list) => {
                let patch = json!({"spec": {"bmcs": [host(&format!("h{list}"))]}});
                self.global.patch_site(SITES[*site], "user", patch).await;
            }
            Happening::Put(site, thing, value) => {
                let label = [(SITE_LABEL, SITES[*site])];
                self.global.secret(&secret(*site, *thing), &format!("v{value}"), &label).await;
            }
            Happening::Drop(site, thing) => {
                let _ = secrets.delete(&secret(*site, *thing), &DeleteParams::default()).await;
            }
            Happening::Edit(site, thing) => {
                let there = &self.sites[*site];
                let params =
                    PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
                let patch = Patch::Merge(json!({"stringData": {"value": "edited"}}));
                let _ = there.all::<Secret>().patch(&secret(*site, *thing), &params, &patch).await;
                let patch = Patch::Merge(json!({"spec": {"bmcs": [host("edited")]}}));
                let _ = there.all::<Site>().patch(SITES[*site], &params, &patch).await;
            }
            Happening::Wipe(site, thing) => {
                let there = self.sites[*site].all::<Secret>();
                let _ = there.delete(&secret(*site, *thing), &DeleteParams::default()).await;
            }
            Happening::Cut(site, silent) => {
                self.cables.set(SITES[*site], if *silent { Cable::Silent } else { Cable::Refusing });
            }
            Happening::Mend(site) => self.cables.set(SITES[*site], Cable::Whole),
            Happening::Kill => {
                if let Some(leader) = self.leader.take() {
                    leader.kill().await;
                }
                self.leader = Some(Global::start(&self.global, &self.cables));
            }
            Happening::Pause => tokio::time::sleep(Duration::from_millis(150)).await,
        }
    }

    /// What a site has of what is delivered: the hosts of its list, and its Secrets.
    async fn has(server: &Server, site: usize) -> Option<(Vec<String>, Vec<(String, String)>)> {
        let list = server.site(SITES[site]).await?.spec.bmcs.into_iter().map(|bmc| bmc.name).collect();
        let labelled = ListParams::default().labels(&format!("{SITE_LABEL}={}", SITES[site]));
        let secrets = server.all::<Secret>().list(&labelled).await.unwrap().items;
        let values = secrets.into_iter().map(|mut secret| {
            let value = secret.data.take().and_then(|mut data| data.remove("value")).unwrap_or_default();
            (secret.metadata.name.unwrap_or_default(), String::from_utf8(value.0).unwrap())
        });
        Some((list, values.collect()))
    }

    async fn settle(&self) {
        for (index, name) in SITES.iter().enumerate() {
            self.cables.set(name, Cable::Whole);
            eventually(name, || async {
                let wanted = Self::has(&self.global, index).await;
                (Self::has(&self.sites[index], index).await == wanted).then_some(())
            })
            .await;
            let claim = self.sites[index].all::<Lease>().get("drystone-global").await.unwrap();
            let namespaces: kube::Api<Namespace> = kube::Api::all(self.global.client.clone());
            let owner = namespaces.get(SYSTEM_NAMESPACE).await.unwrap().metadata.uid.unwrap();
            let holder = claim.spec.unwrap().holder_identity;
            assert_eq!(holder, Some(format!("{owner}/{SYSTEM_NAMESPACE}/{name}")));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn every_site_has_what_is_declared_in_the_end(story in proptest::collection::vec(happening(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new().await;
            for happening in &story {
                world.make(happening).await;
            }
            world.settle().await;
            world.leader.take().unwrap().stop().await;
        });
    }
}
