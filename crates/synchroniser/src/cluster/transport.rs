//! The connection to a cluster.
//!
//! The usual client of Kubernetes speaks HTTP/1.1, on which every watch has a connection of its own: a thousand clusters with ten watched kinds
//! each would be ten thousand of them. Here HTTP/2 is negotiated, as every API server offers it, and one connection carries all requests
//! and watches of an identity. Servers that do not offer it get HTTP/1.1, and few idle connections are kept.

use std::time::Duration;

use http::Uri;
use hyper_util::{
    client::legacy::{
        Client as HttpClient,
        connect::{Connect, HttpConnector, proxy::Tunnel},
    },
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Client, Config,
    client::{Body, ConfigExt as _},
};
use tower::{BoxError, ServiceBuilder};

use super::access::{Access, AccessError};

/// How long it may take until a connection stands.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A connection that is silent for so long is asked whether it lives, and given up if it does not say so in the time after that.
const ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Connections without HTTP/2 that are kept.
const IDLE: usize = 4;

/// A client for a way to a cluster; nothing is sent yet.
///
/// # Errors
/// [`AccessError::None`] if the configuration is not usable.
pub fn client(access: Access) -> Result<Client, AccessError> {
    match access {
        Access::Client(client) => Ok(client),
        Access::Config { config, plain_http2 } => by_config(&config, plain_http2),
    }
}

fn unusable(error: impl std::fmt::Display) -> AccessError {
    AccessError::None(format!("the cluster's configuration is not usable: {error}"))
}

fn by_config(config: &Config, plain_http2: bool) -> Result<Client, AccessError> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_LIMIT));
    match &config.proxy_url {
        None => assemble(config, connector, plain_http2),
        Some(proxy) if proxy.scheme_str() == Some("http") => {
            assemble(config, tunnel(proxy, connector)?, plain_http2)
        }
        Some(_) => Err(unusable("its proxy-url is not one of http://")),
    }
}

/// The way through a proxy, with the credentials in its URL.
fn tunnel(proxy: &Uri, connector: HttpConnector) -> Result<Tunnel<HttpConnector>, AccessError> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let tunnel = Tunnel::new(proxy.clone(), connector);
    let Some((user, _)) = proxy.authority().and_then(|authority| authority.as_str().rsplit_once('@')) else {
        return Ok(tunnel);
    };
    let mut bytes = Vec::with_capacity(user.len());
    let mut rest = user.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let number = std::str::from_utf8(&digits).ok().and_then(|text| u8::from_str_radix(text, 16).ok());
        bytes.push(number.ok_or_else(|| unusable("the credentials in its proxy-url are not escaped well"))?);
    }
    let value = http::HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(bytes)));
    Ok(tunnel.with_auth(value.map_err(unusable)?))
}

fn assemble<C>(config: &Config, connector: C, plain_http2: bool) -> Result<Client, AccessError>
where
    C: tower::Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: hyper::rt::Read
        + hyper::rt::Write
        + hyper_util::client::legacy::connect::Connection
        + Send
        + Unpin
        + 'static,
    C::Future: Send + Unpin + 'static,
    C::Error: Into<BoxError> + Send + Sync + 'static,
{
    if config.cluster_url.scheme_str() == Some("http") {
        // The certificates of the machine need not be read for that, for each cluster.
        return finish(config, connector, plain_http2);
    }
    let mut builder = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(config.rustls_client_config().map_err(unusable)?)
        .https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = name.clone().try_into().map_err(unusable)?;
        builder = builder.with_server_name_resolver(hyper_rustls::FixedServerNameResolver::new(name));
    }
    finish(config, builder.enable_all_versions().wrap_connector(connector), false)
}

/// A client over a connector; `only_http2` if that is spoken without being negotiated.
fn finish<C>(config: &Config, connector: C, only_http2: bool) -> Result<Client, AccessError>
where
    C: Connect + Clone + Send + Sync + 'static,
{
    let mut http = HttpClient::builder(TokioExecutor::new());
    http.timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .pool_max_idle_per_host(IDLE)
        .http2_keep_alive_interval(ALIVE.0)
        .http2_keep_alive_timeout(ALIVE.1)
        .http2_keep_alive_while_idle(false)
        .http2_only(only_http2);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(unusable)?)
        .map_err(BoxError::from)
        .service(http.build::<_, Body>(connector));
    Ok(Client::new(service, config.default_namespace.clone()))
}
