//! A port whose clients are trusted: who reaches it acts as one user, without credentials.
//!
//! Only programs of this machine reach a loopback port, but a browser runs programs of strangers. Such a page is told apart
//! by what browsers let no page choose: the `Host` it was loaded from, should its name have been made to lead here (DNS
//! rebinding), and the `Origin` of requests to other servers than its own.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use drystone_identity::UserInfo;
use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, Uri};

use crate::http::authn::ActingAs;
use crate::http::reply;
use crate::machinery::status::ApiError;

/// Lets requests without credentials act as `user`; those with credentials are made as whoever these belong to. Requests
/// that a browser sends for a page from elsewhere are refused. For routers that are served on a loopback address only.
pub fn trust_clients(router: Router, user: UserInfo) -> Router {
    router.layer(from_fn_with_state(Arc::new(user), admit))
}

async fn admit(Shared(user): Shared<Arc<UserInfo>>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    if let Err(stranger) = check(&parts) {
        return reply::error(&ApiError::Stranger(stranger));
    }
    parts.extensions.insert(ActingAs(user));
    next.run(Request::from_parts(parts, body)).await
}

/// What shows that a request comes from elsewhere.
fn check(parts: &Parts) -> Result<(), String> {
    let targets = parts.uri.authority().map(|authority| Some(authority.clone()));
    let hosts = values(parts, &HOST).map(|host| host.and_then(|host| host.parse().ok()));
    let mut named = false;
    for authority in targets.into_iter().chain(hosts) {
        named = true;
        if !authority.as_ref().is_some_and(is_loopback) {
            let host = authority.map_or_else(|| "another name".to_owned(), |name| name.to_string());
            return Err(format!("it was sent to {host}, not to a loopback address"));
        }
    }
    if !named {
        return Err("it names no host".to_owned());
    }
    for origin in values(parts, &ORIGIN) {
        let uri = origin.and_then(|origin| origin.parse::<Uri>().ok());
        if !uri.as_ref().and_then(Uri::authority).is_some_and(is_loopback) {
            return Err(format!("it comes from a page of {}", origin.unwrap_or("an unreadable origin")));
        }
    }
    Ok(())
}

/// All values of a header; `None` for one that is not ASCII.
fn values<'a>(parts: &'a Parts, name: &HeaderName) -> impl Iterator<Item = Option<&'a str>> {
    parts.headers.get_all(name).iter().map(|value| value.to_str().ok())
}

/// Whether a name is that of this machine for everybody, whatever a name server says.
fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(uri: &str, headers: &[(&str, &str)]) -> Result<(), String> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn programs_of_this_machine() {
        for host in ["127.0.0.1:8080", "127.9.9.9", "localhost:8080", "LocalHost", "[::1]:8080"] {
            assert_eq!(checked("/api", &[("host", host)]), Ok(()), "{host}");
        }
        // HTTP/2 and requests to a proxy name the host in the target.
        assert_eq!(checked("http://127.0.0.1:8080/api", &[]), Ok(()));
        for origin in ["http://localhost:3000", "http://127.0.0.1:8080", "http://[::1]"] {
            assert_eq!(checked("/api", &[("host", "localhost"), ("origin", origin)]), Ok(()), "{origin}");
        }
    }

    #[test]
    fn names_that_were_made_to_lead_here() {
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "",
            "a b",
            "[::2]",
        ] {
            assert!(checked("/api", &[("host", host)]).is_err(), "{host}");
        }
        assert!(checked("/api", &[]).is_err());
        assert!(checked("http://evil.example/api", &[("host", "127.0.0.1")]).is_err());
        assert!(checked("http://127.0.0.1/api", &[("host", "evil.example")]).is_err());
        assert!(checked("/api", &[("host", "127.0.0.1"), ("host", "evil.example")]).is_err());
    }

    #[test]
    fn pages_from_elsewhere() {
        for origin in ["https://evil.example", "http://localhost.evil.example", "null", "", "file://"] {
            let said = checked("/api", &[("host", "127.0.0.1:8080"), ("origin", origin)]);
            assert!(said.is_err(), "{origin}");
        }
    }
}
