//! Content that is elsewhere comes into the library.
//!
//! Whoever may name a URL must not reach through it what only this machine reaches: addresses of the machine itself and of its links are
//! refused unless that is allowed, of names too, and the connection goes to the addresses that were looked at. Redirections are not followed.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use drystone_csar::{Committed, Library};
use drystone_identity::tls::install_crypto_provider;
use drystone_sol003::types::ProblemDetails;
use futures::StreamExt as _;
use url::{Host, Url};

use super::onboard::{library_problem, problem};

/// How long the next bytes may take.
const IDLE: Duration = Duration::from_secs(60);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);
/// Bytes that are written at a time, at least.
const PIECE: usize = 1 << 20;
/// What refusals are called.
const TITLE: &str = "The content cannot be fetched";

/// Name and password of a place.
#[derive(Clone)]
pub(super) struct Login {
    pub(super) name: String,
    pub(super) password: String,
}

/// Fetches the content of a package into the library.
pub(super) async fn fetch(
    library: &Library,
    uid: &str,
    url: &str,
    login: Option<&Login>,
    may_be_local: bool,
) -> Result<Committed, ProblemDetails> {
    let failed = |status, why: String| problem(status, TITLE, why);
    let parsed = Url::parse(url).map_err(|error| failed(400, format!("addressInformation: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") {
        return Err(failed(
            400,
            format!("addressInformation: {}: only http and https are fetched", parsed.scheme()),
        ));
    }
    let addresses = addresses(&parsed).await.map_err(|why| failed(502, why))?;
    if !may_be_local && let Some(local) = addresses.iter().find(|address| is_local(address.ip())) {
        let why = format!(
            "addressInformation: {} is this machine, or on a link of it; that is refused unless drystone up is started with \
             --vnf-packages-from-loopback",
            local.ip()
        );
        return Err(failed(403, why));
    }
    let client = client(&parsed, &addresses).map_err(|error| failed(500, in_words(&error)))?;
    let mut request = client.get(parsed.clone());
    if let Some(login) = login {
        request = request.basic_auth(&login.name, Some(&login.password));
    }
    let place = parsed.host_str().unwrap_or_default().to_owned();
    let answer =
        request.send().await.map_err(|error| failed(502, format!("{place}: {}", in_words(&error))))?;
    if !answer.status().is_success() {
        return Err(failed(
            502,
            format!("{place} answered {}; redirections are not followed", answer.status()),
        ));
    }
    receive(library, uid, &place, answer).await
}

async fn receive(
    library: &Library,
    uid: &str,
    place: &str,
    answer: reqwest::Response,
) -> Result<Committed, ProblemDetails> {
    let declared = answer.content_length();
    let mut incoming = library.incoming(uid, declared).map_err(|error| library_problem(&error))?;
    let mut stream = answer.bytes_stream();
    let mut piece: Vec<u8> = Vec::new();
    let mut is_over = false;
    while !is_over {
        match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(Some(Ok(bytes))) => piece.extend_from_slice(&bytes),
            Ok(Some(Err(error))) => {
                return Err(problem(502, TITLE, format!("{place}: {}", in_words(&error))));
            }
            Ok(None) => is_over = true,
            Err(_) => {
                let why = format!("{place}: no bytes came for {} s", IDLE.as_secs());
                return Err(problem(504, TITLE, why));
            }
        }
        if is_over || piece.len() >= PIECE {
            let bytes = std::mem::take(&mut piece);
            let written = tokio::task::spawn_blocking(move || incoming.append(&bytes).map(|()| incoming));
            incoming = written
                .await
                .map_err(|error| problem(500, TITLE, error.to_string()))?
                .map_err(|error| library_problem(&error))?;
        }
    }
    let committed = tokio::task::spawn_blocking(move || incoming.commit()).await;
    committed
        .map_err(|error| problem(500, TITLE, error.to_string()))?
        .map_err(|error| library_problem(&error))
}

/// A client that goes to these addresses, whatever the name means by then.
fn client(url: &Url, addresses: &[SocketAddr]) -> Result<reqwest::Client, reqwest::Error> {
    install_crypto_provider();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .resolve_to_addrs(url.host_str().unwrap_or_default(), addresses)
        .user_agent("drystone")
        .build()
}

/// The addresses that a URL means.
async fn addresses(url: &Url) -> Result<Vec<SocketAddr>, String> {
    let port = url.port_or_known_default().unwrap_or(80);
    match url.host() {
        Some(Host::Ipv4(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Ipv6(address)) => Ok(vec![SocketAddr::new(address.into(), port)]),
        Some(Host::Domain(name)) => {
            let found = tokio::time::timeout(CONNECT, tokio::net::lookup_host((name, port))).await;
            let found = found.map_err(|_| format!("the name {name} is not found in time"))?;
            let found: Vec<SocketAddr> =
                found.map_err(|error| format!("the name {name} is not found: {error}"))?.collect();
            if found.is_empty() { Err(format!("the name {name} has no address")) } else { Ok(found) }
        }
        None => Err("addressInformation: it names no host".to_owned()),
    }
}

/// Whether an address is this machine, or only means something on its links.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
                // "This network" (RFC 1122, 3.2.1.3).
                || address.octets()[0] == 0
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_unicast_link_local()
        }
    }
}

/// The innermost cause, without the URL, which may hold what nobody is to see.
fn in_words(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no connection within {} s", CONNECT.as_secs());
    }
    let mut text = "no connection".to_owned();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known_in_every_form() {
        for local in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "169.254.169.254",
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "224.0.0.1",
        ] {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for other in ["10.0.0.1", "192.168.1.1", "93.184.216.34", "2001:db8::1", "fd00::1"] {
            assert!(!is_local(other.parse().unwrap()), "{other}");
        }
    }

    #[tokio::test]
    async fn numbers_that_mean_loopback_are_seen_through() {
        for sly in ["http://2130706433/", "http://0x7f.1/", "http://127.1/", "http://[::ffff:7f00:1]/"] {
            let found = addresses(&Url::parse(sly).unwrap()).await.unwrap();
            assert!(found.iter().all(|address| is_local(address.ip())), "{sly}: {found:?}");
        }
    }
}
