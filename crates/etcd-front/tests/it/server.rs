//! A server over a store in memory.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use drystone_etcd_front::{Admission, Caller, EtcdFront};
use drystone_store::embedded::{EmbeddedStore, Options};

/// Lets in whoever shows what `root` got for `secret`.
pub(crate) struct OneUser;

#[async_trait]
impl Admission for OneUser {
    async fn admits(&self, caller: &Caller) -> bool {
        assert!(caller.address.is_some(), "the server tells where a call comes from");
        caller.token.as_deref() == Some("the-token")
    }

    async fn authenticate(&self, name: &str, password: &str) -> Option<String> {
        (name == "root" && password == "secret").then(|| "the-token".to_owned())
    }
}

/// Lets everybody in.
pub(crate) struct Everybody;

#[async_trait]
impl Admission for Everybody {
    async fn admits(&self, _: &Caller) -> bool {
        true
    }

    async fn authenticate(&self, _: &str, _: &str) -> Option<String> {
        None
    }
}

/// A server; it ends with the test's runtime.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<EmbeddedStore>,
}

pub(crate) async fn start(admission: Arc<dyn Admission>) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("http://{address}");
    let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
    let shared: Arc<dyn drystone_store::Store> = Arc::clone(&store) as _;
    let router = EtcdFront::new(shared, admission, &url).router();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    Server { url, address, store }
}
