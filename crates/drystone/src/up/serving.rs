//! The certificate of the HTTPS port follows the sites: hosts of a site reach Drystone at the address of their own gateway, which
//! the certificate must name.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use drystone_api::Site;
use drystone_identity::{ca::CertificateAuthority, tls::ServerIdentity};
use futures::StreamExt as _;
use jiff::Timestamp;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use tokio_util::sync::CancellationToken;

use super::pki;
use crate::command::Failure;

/// A certificate is made anew this long before it ends, and this often looked at.
const RENEWAL: Duration = Duration::from_secs(24 * 3600);

/// Makes certificates for the HTTPS port.
pub(crate) struct Serving {
    pub(crate) authority: Arc<CertificateAuthority>,
    pub(crate) identity: Arc<ServerIdentity>,
    /// Addresses that the certificate always names.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Serving {
    /// Follows the sites until `stop`.
    pub(crate) async fn run(self, client: Client, stop: CancellationToken) {
        let (store, writer) = reflector::store::<Site>();
        let sites = watcher(Api::<Site>::all(client), watcher::Config::default());
        let mut events = sites.default_backoff().reflect(writer).boxed();
        let mut named = BTreeSet::new();
        let mut renewal = tokio::time::interval(RENEWAL);
        loop {
            let due = tokio::select! {
                () = stop.cancelled() => return,
                _ = renewal.tick() => true,
                event = events.next() => match event {
                    Some(Ok(_)) => false,
                    Some(Err(error)) => {
                        tracing::warn!("watching sites: {error}");
                        false
                    }
                    None => return,
                },
            };
            let wanted: BTreeSet<IpAddr> =
                store.state().iter().filter_map(|site| controller_address(site)).collect();
            if !due && wanted == named {
                continue;
            }
            match self.reissue(&wanted) {
                Ok(()) => named = wanted,
                Err(error) => tracing::error!("the certificate of the HTTPS port: {error}"),
            }
        }
    }

    fn reissue(&self, more: &BTreeSet<IpAddr>) -> Result<(), Failure> {
        let addresses = self.addresses.iter().chain(more).copied();
        let identity = pki::server_identity(&self.authority, addresses, Timestamp::now())?;
        Ok(self.identity.replace(&identity)?)
    }
}

/// Address under which the hosts of a site reach Drystone.
fn controller_address(site: &Site) -> Option<IpAddr> {
    let address = &site.spec.gateway.as_ref()?.controller_address;
    address.parse::<SocketAddr>().map(|address| address.ip()).ok().or_else(|| address.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_port() {
        let site = |address: &str| {
            let spec = serde_json::json!({"gateway": {"proxyURL": "http://p", "proxyCredentialsName": "c",
                "controllerAddress": address}});
            Site::new("s", serde_json::from_value(spec).expect("a specification"))
        };
        let expected = Some(IpAddr::from([10, 20, 0, 1]));
        assert_eq!(controller_address(&site("10.20.0.1:6443")), expected);
        assert_eq!(controller_address(&site("10.20.0.1")), expected);
        assert_eq!(controller_address(&site("drystone.example:6443")), None);
    }
}
