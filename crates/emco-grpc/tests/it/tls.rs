//! Connections that are encrypted: a controller that the authority vouches for, strangers, and those who want to know who calls.

use std::{sync::Arc, time::Duration};

use axum::Router;
use drystone_appcontext::{
    ContextId,
    contract::{ControllerError, PlacementController as _},
};
use drystone_emco_grpc::{Address, InvalidAddress, Security, Tls};
use drystone_identity::{CertificateProfile, Usage, ca::CertificateAuthority, tls};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};

use crate::{
    provider::Provider,
    server::{Everybody, patient, pool, services},
};

fn authority(name: &str) -> CertificateAuthority {
    CertificateAuthority::generate(name, Duration::from_secs(3_600), jiff::Timestamp::now()).unwrap()
}

/// A server with a certificate for the name `controller`; it asks clients for theirs if `clients` vouches for them.
async fn serve(router: Router, ours: &CertificateAuthority, clients: Option<&CertificateAuthority>) -> u16 {
    tls::install_crypto_provider();
    let profile = CertificateProfile::server("controller").dns(["controller"]);
    let identity = ours.issue(&profile, jiff::Timestamp::now()).unwrap();
    let mut config = match clients {
        None => (*tls::server_config(tls::ServerIdentity::new(&identity).unwrap(), None).unwrap()).clone(),
        Some(clients) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(clients.certificate().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            rustls::ServerConfig::builder()
                .with_client_cert_verifier(verifier)
                .with_cert_resolver(tls::ServerIdentity::new(&identity).unwrap())
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, router) = (acceptor.clone(), router.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = TowerToHyperService::new(router);
                let serving =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                drop(serving);
            });
        }
    });
    port
}

fn secure(port: u16, tls: Tls) -> Address {
    Address { host: "127.0.0.1".into(), port, security: Security::Tls(tls) }
}

async fn ask(address: Address) -> Result<(), ControllerError> {
    pool(address, patient()).controller("one").filter_clusters(ContextId::new(7).unwrap()).await
}

fn is_unreachable(result: &Result<(), ControllerError>) -> bool {
    matches!(result, Err(ControllerError::Unreachable(_)))
}

#[tokio::test]
async fn only_whom_the_authority_vouches_for_is_asked() {
    let (ours, other) = (authority("ours"), authority("other"));
    let provider = Provider::willing();
    let port = serve(services(&provider, Arc::new(Everybody)).router(), &ours, None).await;
    let known = Tls {
        authority_pem: ours.certificate_pem(),
        server_name: Some("controller".into()),
        identity_pem: None,
    };
    ask(secure(port, known.clone())).await.unwrap();
    assert_eq!(provider.asked(), ["filter 7"]);
    for address in [
        Address::plain("127.0.0.1", port),
        secure(port, Tls { authority_pem: other.certificate_pem(), ..known.clone() }),
        // Its certificate is not for this name, nor for its address.
        secure(port, Tls { server_name: Some("another".into()), ..known.clone() }),
        secure(port, Tls { server_name: None, ..known.clone() }),
    ] {
        let result = ask(address.clone()).await;
        assert!(is_unreachable(&result), "{address:?}: {result:?}");
    }
    assert_eq!(provider.asked(), ["filter 7"]);
    let nothing = secure(port, Tls { authority_pem: "-----BEGIN CERTIFICATE-----\nA\n".into(), ..known });
    let refusal = drystone_emco_grpc::Pool::new(patient()).set("one", nothing).unwrap_err();
    assert!(matches!(refusal, InvalidAddress::Tls { .. }), "{refusal}");
}

#[tokio::test]
async fn a_controller_may_want_to_know_who_calls() {
    let ours = authority("ours");
    let provider = Provider::willing();
    let router = services(&provider, Arc::new(Everybody)).router();
    let port = serve(router, &ours, Some(&ours)).await;
    let profile = CertificateProfile::server("orchestrator").usage(Usage::ClientAuth);
    let identity = ours.issue(&profile, jiff::Timestamp::now()).unwrap();
    let mut tls = Tls {
        authority_pem: ours.certificate_pem(),
        server_name: Some("controller".into()),
        identity_pem: None,
    };
    let result = ask(secure(port, tls.clone())).await;
    assert!(is_unreachable(&result), "{result:?}");
    tls.identity_pem = Some((identity.certificate_pem.clone(), identity.key_pem.expose().to_owned()));
    ask(secure(port, tls)).await.unwrap();
    assert_eq!(provider.asked(), ["filter 7"]);
}
