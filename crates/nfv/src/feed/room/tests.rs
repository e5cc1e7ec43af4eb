//! Several take the same object up at the same time.

use std::sync::atomic::{AtomicBool, Ordering};

use drystone_apiserver::{ApiServer, Config, Profile};
use drystone_engine::harness::Caches;
use drystone_identity::UserInfo;
use drystone_store::embedded::{EmbeddedStore, Options};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::*;

impl Shown for ConfigMap {
    const WHAT: &'static str = "ConfigMap";
    const DEFAULT_EXCLUDED: &'static [&'static str] = &[];
    const INDEX: &'static [&'static str] = &[];

    fn indexed(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    fn body(&self, _: &Around, _: ApiVersion) -> Value {
        Value::Null
    }
}

/// Takes an object up again and again; says whether what was shown of it ever got older.
fn hammer(room: &Room<ConfigMap>, key: &ObjectKey, id: &str, ends: &AtomicBool) -> bool {
    let version =
        |entry: &Entry<ConfigMap>| entry.object.metadata.resource_version.clone()?.parse::<u64>().ok();
    let mut last = 0;
    while !ends.load(Ordering::Relaxed) {
        room.take(key);
        let now = room.get(id).and_then(|entry| version(&entry)).unwrap_or_default();
        if now < last {
            return true;
        }
        last = now;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_never_gets_older() {
    let store = EmbeddedStore::in_memory(Options::default()).unwrap();
    let server = ApiServer::new(Config::new(Profile::Management, Arc::new(store))).await.unwrap();
    let client = Client::new(server.service_as(UserInfo::new("admin", ["system:masters"])), "default");
    let stop = CancellationToken::new();
    let caches = Caches::new(client.clone(), stop.clone());
    let around = Arc::new(Around::new(caches.of(), caches.of()));
    let room = Room::<ConfigMap>::start(caches.of(), &around, &stop);
    assert!(room.ready().await);
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let metadata = ObjectMeta { name: Some("one".to_owned()), ..ObjectMeta::default() };
    let mut map =
        maps.create(&PostParams::default(), &ConfigMap { metadata, ..ConfigMap::default() }).await.unwrap();
    room.seen(&map).await;
    let ends = Arc::new(AtomicBool::new(false));
    let hammers: Vec<_> = (0..3)
        .map(|_| {
            let (room, key, ends) = (room.clone(), ObjectKey::of(&map), ends.clone());
            let id = map.metadata.uid.clone().unwrap();
            std::thread::spawn(move || hammer(&room, &key, &id, &ends))
        })
        .collect();
    for number in 0..3000 {
        map.data = Some([("number".to_owned(), number.to_string())].into());
        map = maps.replace("one", &PostParams::default(), &map).await.unwrap();
    }
    room.seen(&map).await;
    ends.store(true, Ordering::Relaxed);
    assert!(
        !hammers.into_iter().any(|one| one.join().unwrap()),
        "a newer object was overwritten by an older one"
    );
    stop.cancel();
}
