//! TLS handshakes, in memory: who is let in, and as whom.

use std::sync::Arc;
use std::time::Duration;

use drystone_identity::ca::CertificateAuthority;
use drystone_identity::tls::{self, PeerError, ServerIdentity};
use drystone_identity::{CertificateProfile, Identity, UserInfo};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn authority(name: &str) -> CertificateAuthority {
    CertificateAuthority::generate(name, 10 * DAY, Timestamp::now()).unwrap()
}

fn server_identity(authority: &CertificateAuthority) -> Identity {
    let profile = CertificateProfile::server("api").dns(["api.test"]).ip(["127.0.0.1".parse().unwrap()]);
    authority.issue(&profile, Timestamp::now()).unwrap()
}

fn client_identity(authority: &CertificateAuthority) -> Identity {
    let profile = CertificateProfile::client("jane", ["dev", "ops", "dev:leads"]);
    authority.issue(&profile, Timestamp::now()).unwrap()
}

/// Shakes hands; the client's certificates as the server sees them.
fn shake_hands(
    client: ClientConfig,
    server: Arc<ServerConfig>,
    name: &str,
) -> Result<Option<Vec<CertificateDer<'static>>>, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name)?;
    let mut server = ServerConnection::new(server)?;
    for _ in 0..10 {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        let mut wire = &wire[..];
        while !wire.is_empty() {
            server.read_tls(&mut wire).unwrap();
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        let mut wire = &wire[..];
        while !wire.is_empty() {
            client.read_tls(&mut wire).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    assert_eq!(server.alpn_protocol(), Some(&b"h2"[..]));
    Ok(server.peer_certificates().map(<[_]>::to_vec))
}

#[test]
fn a_client_certificate_tells_the_user() {
    let authority = authority("cluster");
    let pem = authority.certificate_pem();
    let server =
        tls::server_config(ServerIdentity::new(&server_identity(&authority)).unwrap(), Some(&pem)).unwrap();
    let client = tls::client_config(&pem, Some(&client_identity(&authority))).unwrap();
    let chain = shake_hands(client, server, "api.test").unwrap().unwrap();
    let user = tls::peer_user(&chain, Timestamp::now()).unwrap();
    assert_eq!((user.name.as_str(), user.groups.len()), ("jane", 3));
    assert!(user.is_in("dev:leads"));
    assert!(user.extra[tls::CREDENTIAL_ID][0].starts_with("X509SHA256="));
    let later = Timestamp::now().checked_add(SignedDuration::from_hours(24 * 400)).unwrap();
    assert_eq!(tls::peer_user(&chain, later), Err(PeerError::NotValidNow));
    assert_eq!(tls::peer_user(&[], later), Err(PeerError::None));
}

#[test]
fn a_client_needs_no_certificate() {
    let authority = authority("cluster");
    let pem = authority.certificate_pem();
    let identity = ServerIdentity::new(&server_identity(&authority)).unwrap();
    let server = tls::server_config(identity, Some(&pem)).unwrap();
    let client = tls::client_config(&pem, None).unwrap();
    assert_eq!(shake_hands(client, server, "127.0.0.1").unwrap(), None);
}

#[test]
fn strangers_are_refused_on_both_sides() {
    let (authority, stranger) = (authority("cluster"), authority("stranger"));
    let pem = authority.certificate_pem();
    let identity = ServerIdentity::new(&server_identity(&authority)).unwrap();
    let server = tls::server_config(Arc::clone(&identity), Some(&pem)).unwrap();
    let client = tls::client_config(&pem, Some(&client_identity(&stranger))).unwrap();
    assert!(shake_hands(client, Arc::clone(&server), "api.test").is_err(), "a stranger's client certificate");
    let client = tls::client_config(&stranger.certificate_pem(), None).unwrap();
    assert!(shake_hands(client, Arc::clone(&server), "api.test").is_err(), "a server of another authority");
    let client = tls::client_config(&pem, None).unwrap();
    assert!(shake_hands(client, Arc::clone(&server), "other.test").is_err(), "another name");
    let client = tls::client_config(&pem, Some(&server_identity(&authority))).unwrap();
    assert!(shake_hands(client, server, "api.test").is_err(), "a server certificate is no client's");
}

#[test]
fn a_servers_certificate_can_be_replaced_while_it_serves() {
    let (old, new) = (authority("old"), authority("new"));
    let identity = ServerIdentity::new(&server_identity(&old)).unwrap();
    let server = tls::server_config(Arc::clone(&identity), None).unwrap();
    let client = tls::client_config(&new.certificate_pem(), None).unwrap();
    assert!(shake_hands(client.clone(), Arc::clone(&server), "api.test").is_err());
    identity.replace(&server_identity(&new)).unwrap();
    assert!(shake_hands(client, server, "api.test").is_ok());
    let mixed = Identity { certificate_pem: server_identity(&new).certificate_pem, ..server_identity(&old) };
    assert!(identity.replace(&mixed).is_err(), "a key of another certificate");
}

#[test]
fn an_authority_survives_its_files() {
    let authority = authority("cluster");
    let again = CertificateAuthority::from_pem(&authority.certificate_pem(), &authority.key_pem()).unwrap();
    assert_eq!(again.not_after(), authority.not_after());
    let pem = authority.certificate_pem();
    let identity = ServerIdentity::new(&server_identity(&again)).unwrap();
    let server = tls::server_config(identity, Some(&pem)).unwrap();
    let client = tls::client_config(&pem, Some(&client_identity(&again))).unwrap();
    let chain = shake_hands(client, server, "api.test").unwrap().unwrap();
    assert_eq!(tls::peer_user(&chain, Timestamp::now()).unwrap().name, UserInfo::new("jane", [""; 0]).name);
}
