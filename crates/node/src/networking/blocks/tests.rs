use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{Json, Router, http::StatusCode, response::IntoResponse, routing::post};
use drystone_cni::{ipam::AddressManager, network::NetworkSettings, tools::Tools};
use drystone_identity::{
    CertificateProfile,
    ca::CertificateAuthority,
    tls::{ServerIdentity, install_crypto_provider, server_config},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An address daemon that gives these answers in turn, and the last one for ever.
async fn daemon(directory: &Path, answers: Vec<(u16, Value)>) -> String {
    install_crypto_provider();
    let authority =
        CertificateAuthority::generate("drystone", Duration::from_secs(3600), Timestamp::now()).unwrap();
    let profile = CertificateProfile::server("drystone").ip(["127.0.0.1".parse().unwrap()]);
    let identity = authority.issue(&profile, Timestamp::now()).unwrap();
    let tls = server_config(ServerIdentity::new(&identity).unwrap(), None).unwrap();
    std::fs::write(directory.join("ca.crt"), authority.certificate_pem()).unwrap();
    std::fs::write(directory.join("token"), "secret\n").unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move |headers: axum::http::HeaderMap, Json(request): Json<Value>| {
        assert_eq!(headers["authorization"], "Bearer secret");
        assert_eq!(request, json!({"holder": "n1"}));
        let turn = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        let (status, body) = answers[turn].clone();
        async move { (StatusCode::from_u16(status).unwrap(), Json(body)).into_response() }
    };
    let path = "/fabric/v1alpha1/namespaces/research/addresspools/pods/blocks";
    let router = Router::new().route(path, post(answer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let acceptor = TlsAcceptor::from(tls);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service = TowerToHyperService::new(router.clone());
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            tokio::spawn(async move {
                server.serve_connection(TokioIo::new(stream), service).await.map_err(drop)
            });
        }
    });
    url
}

fn keeper(directory: &Path, daemon: Option<&str>) -> (BlockKeeper, watch::Receiver<Vec<Ipv4Net>>) {
    let config = json!({
        "nodeName": "n1", "nodeAddress": "10.20.0.5", "interface": "eth0", "apiServer": "https://10.20.0.4:6443",
        "caFile": "/none", "podCIDR": "10.42.0.0/16", "serviceCIDR": "10.43.0.0/16",
        "addressDaemon": daemon.map(|url| json!({"url": url, "caFile": directory.join("ca.crt"),
            "tokenFile": directory.join("token"), "namespace": "research", "pool": "pods"})),
    });
    let config: NodeConfig = serde_json::from_value(config).unwrap();
    let settings = NetworkSettings {
        node_address: config.node_address,
        interface: config.interface.clone(),
        pod_cidr: config.pod_cidr,
        service_cidr: config.service_cidr,
        mtu: 1500,
    };
    let addresses = AddressManager::open(&directory.join("addresses")).unwrap();
    let (told, blocks) = watch::channel(Vec::new());
    let keeper = BlockKeeper {
        config: Arc::new(config),
        file: directory.join("blocks"),
        network: Arc::new(PodNetwork::new(settings, Tools::here(), addresses)),
        told,
        readiness: Arc::new(Readiness::new([(Part::Addresses, "none".to_owned())])),
    };
    (keeper, blocks)
}

fn networks(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn the_daemon_is_asked_until_it_gives_something_useful() {
    let directory = TempDir::new().unwrap();
    let url = daemon(
        directory.path(),
        vec![
            (503, json!("not yet")),
            (200, json!({"blocks": []})),
            (200, json!({"blocks": ["192.168.0.0/24"]})),
            (200, json!({"blocks": ["10.42.3.0/24", "10.42.4.0/24"]})),
        ],
    )
    .await;
    let (keeper, mut blocks) = keeper(directory.path(), Some(&url));
    keeper.begin();
    assert_eq!(*blocks.borrow_and_update(), []);
    let (file, readiness) = (keeper.file.clone(), Arc::clone(&keeper.readiness));
    keeper.lease_once().await;
    let expected = networks(&["10.42.3.0/24", "10.42.4.0/24"]);
    assert_eq!(*blocks.borrow_and_update(), expected);
    assert_eq!(addresses::remembered(&file).unwrap(), expected);
    assert_eq!(*readiness.subscribe().borrow(), Ok(()));
}

#[tokio::test]
async fn remembered_blocks_serve_while_the_daemon_is_away() {
    let directory = TempDir::new().unwrap();
    let (keeper, blocks) = keeper(directory.path(), Some("https://127.0.0.1:1"));
    addresses::remember(&keeper.file, &networks(&["10.42.3.0/24"])).unwrap();
    keeper.begin();
    assert_eq!(*blocks.borrow(), networks(&["10.42.3.0/24"]));
    assert_eq!(*keeper.readiness.subscribe().borrow(), Ok(()));
}

#[tokio::test]
async fn remembered_blocks_of_another_network_are_not_used() {
    let directory = TempDir::new().unwrap();
    let (keeper, blocks) = keeper(directory.path(), Some("https://127.0.0.1:1"));
    addresses::remember(&keeper.file, &networks(&["10.99.3.0/24"])).unwrap();
    keeper.begin();
    assert_eq!(*blocks.borrow(), []);
    assert_eq!(*keeper.readiness.subscribe().borrow(), Err("none".to_owned()));
}

#[tokio::test]
async fn a_node_alone_has_the_whole_network() {
    let directory = TempDir::new().unwrap();
    let (keeper, blocks) = keeper(directory.path(), None);
    keeper.begin();
    assert_eq!(*blocks.borrow(), networks(&["10.42.0.0/16"]));
}
