//! AppContexts: where they are kept, and etcd's protocol over them for foreign controllers.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::Args;
use drystone_appcontext::{
    AppContexts, Limits,
    codec::{ACTIVE, CONTEXTS},
    confined::Confined,
    contexts::OWN,
    dedup::{DedupOptions, Deduplicated, KEPT},
};
use drystone_etcd_front::{Admission, Caller, EtcdFront};
use drystone_identity::Secret;
use drystone_sealing::{SealedStore, SealingKey, store::open_embedded};
use drystone_store::{Store, etcd::EtcdStore};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use super::{UpArgs, pki::Keys, server, storage};
use crate::command::Failure;

/// For how long a token is good after it was used last; clients get another one by themselves.
const TOKEN_LIFE: Duration = Duration::from_secs(300);

/// For how long a half-written context may wait for who completes it, at least.
const REMAINS: Duration = Duration::from_secs(600);

/// Name of the only user.
const ADMINISTRATOR: &str = "admin";

/// Tokens that are good at a time.
const TOKENS: usize = 10_000;

/// Arguments.
#[derive(Debug, Clone, Args)]
pub(crate) struct AppContextArgs {
    /// Keep AppContexts in this etcd, as EMCO has them (not encrypted: its own controllers read them there), rather than with everything
    /// else
    #[arg(long, value_name = "URL,URL…", value_parser = parse)]
    pub(crate) appcontext_etcd: Option<Urls>,
    /// Serve AppContexts in etcd's protocol on this loopback address, for EMCO's controllers: user `admin`, with the password in
    /// `admin-password`
    #[arg(long, value_name = "LOOPBACK:PORT", value_parser = super::loopback)]
    pub(crate) etcd_listen: Option<SocketAddr>,
    /// Whoever is on this machine needs no password there (for controllers that know none)
    #[arg(long, requires = "etcd_listen")]
    pub(crate) etcd_trust_loopback: bool,
}

/// URLs of an etcd's servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Urls(Vec<String>);

fn parse(text: &str) -> Result<Urls, String> {
    storage::urls(text).map(Urls)
}

/// The AppContexts, and what they are kept in.
pub(crate) struct Kept {
    /// The AppContexts.
    pub(crate) contexts: AppContexts,
    store: Arc<dyn Store>,
    /// Of the embedded store.
    own: Option<Own>,
}

struct Own {
    sealed: Arc<SealedStore>,
    once: Arc<Deduplicated>,
}

/// Opens what AppContexts are kept in: an etcd of their own; the one that everything else is in; a file of their own in the data directory,
/// encrypted, in which manifests are once.
pub(crate) async fn open(
    args: &UpArgs,
    data: &Path,
    sealing: &SealingKey,
    everything: &Arc<SealedStore>,
) -> Result<Kept, Failure> {
    if let Some(Urls(urls)) = &args.contexts.appcontext_etcd {
        let mut options = storage::etcd(urls, args)?;
        // Whose etcd it is, is who says how long it remembers.
        options.keep_history = None;
        let store = EtcdStore::new(&options)?;
        store.check().await.map_err(|error| format!("--appcontext-etcd {}: {error}", urls.join(",")))?;
        return Ok(Kept { contexts: AppContexts::new(Arc::clone(&store) as _), store, own: None });
    }
    if let storage::Storage::Etcd(_) = &args.store {
        let store: Arc<dyn Store> = Arc::clone(everything) as _;
        return Ok(Kept { contexts: AppContexts::new(Arc::clone(&store)), store, own: None });
    }
    let directory = data.join("appcontext");
    drystone_identity::files::private_directory(&directory)?;
    let sealed =
        open_embedded(&directory.join("contexts.redb"), DedupOptions::below(), sealing, KEPT).await?;
    let once = Deduplicated::open(Arc::clone(&sealed) as _, DedupOptions::default()).await?;
    let store: Arc<dyn Store> = Arc::clone(&once) as _;
    let contexts = AppContexts::with_limits(Arc::clone(&store), Limits::EMBEDDED);
    Ok(Kept { contexts, store, own: Some(Own { sealed, once }) })
}

impl Kept {
    /// The store's encryption, if it is not that of everything else.
    pub(crate) fn sealed(&self) -> Option<Arc<SealedStore>> {
        self.own.as_ref().map(|own| Arc::clone(&own.sealed))
    }

    /// Keeps the store in order, and serves it in etcd's protocol if that is asked for, until `stop` is cancelled.
    pub(crate) async fn start(
        &self,
        args: &AppContextArgs,
        keys: &Keys,
        stop: &CancellationToken,
    ) -> Result<Option<Front>, Failure> {
        if let Some(Own { sealed, once }) = &self.own {
            let (sealed, once) = (Arc::clone(sealed), Arc::clone(once));
            let (first, second) = (stop.clone(), stop.clone());
            tokio::spawn(async move { sealed.maintain(first).await });
            tokio::spawn(async move { once.maintain(second).await });
        }
        tracing::debug!(contexts = self.contexts.list().await?.len(), "AppContexts are at hand");
        tokio::spawn(remove_remains(self.contexts.clone(), stop.clone()));
        let Some(address) = args.etcd_listen else { return Ok(None) };
        let listener = server::listen(address, "--etcd-listen").await?;
        if args.etcd_trust_loopback {
            tracing::warn!(
                "every program of this machine may read and write AppContexts at http://{address}, without a password: \
                 --etcd-trust-loopback"
            );
        }
        Front::start(
            Arc::clone(&self.store),
            listener,
            Users::new(keys.admin_password.clone(), args.etcd_trust_loopback),
            stop.clone(),
        )
        .map(Some)
    }
}

/// Removes what is left of contexts that nobody completes.
async fn remove_remains(contexts: AppContexts, stop: CancellationToken) {
    let mut seen = BTreeMap::new();
    loop {
        match contexts.remove_remains(&mut seen).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(?removed, "half-written AppContexts are removed"),
            Err(error) => tracing::debug!(%error, "half-written AppContexts are looked for later"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(REMAINS) => {}
        }
    }
}

/// etcd's protocol, being served.
pub(crate) struct Front {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Front {
    fn start(
        store: Arc<dyn Store>,
        listener: TcpListener,
        users: Users,
        stop: CancellationToken,
    ) -> Result<Self, Failure> {
        let address = listener.local_addr()?;
        let seen = Confined::new(store, &[CONTEXTS, ACTIVE, OWN]);
        let front = EtcdFront::new(seen, Arc::new(users), &format!("http://{address}")).until(stop.clone());
        let router = front.router();
        let serving = tokio::spawn(async move {
            if let Err(error) = drystone_apiserver::serve_plain(listener, router, stop).await {
                tracing::error!("serving AppContexts: {error}");
            }
        });
        Ok(Self { address, serving })
    }

    /// The line that says where.
    pub(crate) fn line(&self) -> String {
        format!("AppContexts are served in etcd's protocol at http://{}", self.address)
    }

    /// Waits until requests that were begun are answered.
    pub(crate) async fn stop(self) {
        if let Err(error) = self.serving.await {
            tracing::warn!("the port of AppContexts ended badly: {error}");
        }
    }
}

/// Who may read and write AppContexts: administrators.
struct Users {
    /// Compared as it is, not by a slow hash: etcd's clients wait for no more than two seconds, and it is at hand in this process anyway.
    password: Secret,
    trusts_everybody: bool,
    /// Digests of tokens, and when they were used last.
    tokens: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Users {
    fn new(password: Secret, trusts_everybody: bool) -> Self {
        Self { password, trusts_everybody, tokens: Mutex::default() }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<[u8; 32], Instant>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(token: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(token.as_bytes()).into()
}

#[async_trait]
impl Admission for Users {
    async fn admits(&self, caller: &Caller) -> bool {
        if self.trusts_everybody {
            return true;
        }
        let Some(token) = &caller.token else { return false };
        let mut tokens = self.tokens();
        match tokens.get_mut(&digest(token)) {
            Some(used) if used.elapsed() < TOKEN_LIFE => {
                *used = Instant::now();
                true
            }
            _ => false,
        }
    }

    async fn authenticate(&self, name: &str, password: &str) -> Option<String> {
        if name != ADMINISTRATOR || Secret::from(password) != self.password {
            return None;
        }
        let token = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
        let mut tokens = self.tokens();
        if tokens.len() >= TOKENS {
            tokens.retain(|_, used| used.elapsed() < TOKEN_LIFE);
        }
        if tokens.len() >= TOKENS {
            return None;
        }
        tokens.insert(digest(&token), Instant::now());
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(trusts_everybody: bool) -> Users {
        Users::new(Secret::from("right"), trusts_everybody)
    }

    fn caller(token: Option<&str>) -> Caller {
        Caller { token: token.map(str::to_owned), address: None }
    }

    #[tokio::test]
    async fn only_who_knows_the_password_is_let_in() {
        let users = users(false);
        assert!(users.authenticate("admin", "wrong").await.is_none());
        assert!(users.authenticate("root", "right").await.is_none());
        assert!(!users.admits(&caller(None)).await && !users.admits(&caller(Some("guessed"))).await);
        let token = users.authenticate("admin", "right").await.unwrap();
        assert!(users.admits(&caller(Some(&token))).await);
        // Not used for too long: another one is needed.
        let old = Instant::now().checked_sub(TOKEN_LIFE).unwrap();
        users.tokens().values_mut().for_each(|used| *used = old);
        assert!(!users.admits(&caller(Some(&token))).await);
    }

    #[tokio::test]
    async fn everybody_is_let_in_if_that_is_asked_for() {
        assert!(users(true).admits(&caller(None)).await);
    }
}
