//! Accounts: the built-in administrator, and those that were made through Redfish, kept as Secrets.
//!
//! A password is kept as its argon2id hash. Checking one is slow on purpose, so a password that was right is remembered for a
//! minute as a keyed digest, as long as the account stays what it is; others are checked one at a time.

mod account;
mod room;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use drystone_api::SYSTEM_NAMESPACE;
use drystone_engine::{
    harness::Cache,
    reference::{ObjectKey, describe_kube_error, is_not_found},
};
use drystone_identity::authn::PasswordHash;
use drystone_redfish::server::{Principal, Role};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, PostParams},
    runtime::watcher,
};
use rand::RngCore as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub(crate) use account::{Account, LABEL};
pub use room::routes;

/// Name of the built-in administrator.
pub(crate) const ADMINISTRATOR: &str = "admin";
/// How long a password that was right is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Passwords that are remembered at once.
const MOST_REMEMBERED: usize = 1024;
/// How long a written account may take to come out of the watch.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why accounts cannot be changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The API refused.
    #[error("the Secret of account {user} was not written: {}", describe_kube_error(.source))]
    Api { user: String, source: kube::Error },
    /// The password cannot be hashed.
    #[error("the password of account {user} cannot be hashed: {source}")]
    Hash { user: String, source: drystone_identity::authn::PasswordError },
    /// The store took it, but does not show it.
    #[error("the Secret of account {user} was written but does not show")]
    Late { user: String },
}

/// A password that was right for an account with a certain hash.
struct Right {
    digest: hmac::Tag,
    hash: String,
    since: Instant,
}

/// The accounts of the service.
pub struct Accounts {
    administrator: Account,
    secrets: Cache<Secret>,
    api: Api<Secret>,
    key: hmac::Key,
    remembered: Mutex<HashMap<String, Right>>,
    /// One slow check at a time: whoever guesses waits for those who guessed before.
    turn: Arc<Semaphore>,
    /// What is compared with where there is no account, so that it takes as long.
    nobody: PasswordHash,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl Accounts {
    /// The accounts kept in the system's namespace, and the administrator with this password. Must be called inside a Tokio
    /// runtime.
    pub fn start(client: &Client, administrator: PasswordHash, shutdown: &CancellationToken) -> Self {
        let mut random = [0_u8; 32];
        rand::rng().fill_bytes(&mut random);
        let watched = watcher::Config::default().labels(&format!("{LABEL}=true"));
        Self {
            nobody: administrator.clone(),
            administrator: Account {
                user: ADMINISTRATOR.to_owned(),
                role: Role::Administrator,
                hash: Some(administrator),
                enabled: true,
                change_required: false,
            },
            secrets: Cache::start(
                Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
                watched,
                shutdown.clone(),
            ),
            api: Api::namespaced(client.clone(), SYSTEM_NAMESPACE),
            key: hmac::Key::new(hmac::HMAC_SHA256, &random),
            remembered: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// All accounts by user name.
    pub(crate) fn all(&self) -> BTreeMap<String, Account> {
        let kept = self.secrets.list();
        let kept = kept.iter().filter_map(|secret| Account::from_secret(secret));
        let builtin = std::iter::once(self.administrator.clone());
        kept.chain(builtin).map(|account| (account.user.clone(), account)).collect()
    }

    /// An account.
    pub(crate) fn get(&self, user: &str) -> Option<Account> {
        if user == ADMINISTRATOR {
            return Some(self.administrator.clone());
        }
        let key = ObjectKey::new(SYSTEM_NAMESPACE, Account::secret_name(user));
        Account::from_secret(self.secrets.get(&key)?.as_ref()).filter(|account| account.user == user)
    }

    /// Who a user name and a password belong to. Takes as long for a wrong name as for a wrong password.
    pub(crate) async fn verify(&self, user: &str, password: &str) -> Option<Principal> {
        let account = self.get(user).filter(|account| account.enabled);
        let hash = account.as_ref().and_then(|account| account.hash.clone());
        if let Some(hash) = &hash
            && self.is_remembered(user, hash, password)
        {
            return account.map(|account| principal(&account));
        }
        let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
        let (compared, tried) =
            (hash.clone().unwrap_or_else(|| self.nobody.clone()), drystone_identity::Secret::new(password));
        let check = move || {
            // Held until the work is done, even if the client does not wait for it.
            let _turn = turn;
            compared.matches(&tried)
        };
        let matches = tokio::task::spawn_blocking(check).await.unwrap_or(false);
        if !matches {
            return None;
        }
        let hash = hash?;
        // Meanwhile the account may have gone, been disabled, or got another password.
        let account = self.get(user).filter(|now| now.enabled && now.hash.as_ref() == Some(&hash))?;
        self.remember(user, &hash, password);
        Some(principal(&account))
    }

    fn is_remembered(&self, user: &str, hash: &PasswordHash, password: &str) -> bool {
        self.lock().get(user).is_some_and(|right| {
            right.since.elapsed() < REMEMBERED
                && right.hash == hash.as_str()
                && hmac::verify(&self.key, password.as_bytes(), right.digest.as_ref()).is_ok()
        })
    }

    fn remember(&self, user: &str, hash: &PasswordHash, password: &str) {
        let mut remembered = self.lock();
        remembered.retain(|_, right| right.since.elapsed() < REMEMBERED);
        if remembered.len() < MOST_REMEMBERED {
            let digest = hmac::sign(&self.key, password.as_bytes());
            let right = Right { digest, hash: hash.as_str().to_owned(), since: Instant::now() };
            remembered.insert(user.to_owned(), right);
        }
    }

    /// Makes an account; `false` if there is one of that name.
    pub(crate) async fn create(&self, account: &Account) -> Result<bool, AccountError> {
        match self.api.create(&PostParams::default(), &account.to_secret()).await {
            Ok(written) => self.await_written(&account.user, &written).await.map(|()| true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(source) => Err(AccountError::Api { user: account.user.clone(), source }),
        }
    }

    /// Changes an account; `false` if there is none.
    pub(crate) async fn update(&self, account: &Account) -> Result<bool, AccountError> {
        let name = Account::secret_name(&account.user);
        match self.api.replace(&name, &PostParams::default(), &account.to_secret()).await {
            Ok(written) => self.await_written(&account.user, &written).await.map(|()| true),
            Err(error) if is_not_found(&error) => Ok(false),
            Err(source) => Err(AccountError::Api { user: account.user.clone(), source }),
        }
    }

    /// Removes an account; `false` if there is none.
    pub(crate) async fn delete(&self, user: &str) -> Result<bool, AccountError> {
        let name = Account::secret_name(user);
        match self.api.delete(&name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Ok(false),
            Err(source) => return Err(AccountError::Api { user: user.to_owned(), source }),
        }
        let key = ObjectKey::new(SYSTEM_NAMESPACE, name);
        self.until(user, || self.secrets.get(&key).is_none()).await.map(|()| true)
    }

    /// Whoever writes an account sees it written: waits until the watch has it.
    async fn await_written(&self, user: &str, written: &Secret) -> Result<(), AccountError> {
        let key = ObjectKey::of(written);
        let version = |secret: &Secret| secret.resource_version().and_then(|text| text.parse::<u64>().ok());
        let wanted = version(written);
        self.until(user, || self.secrets.get(&key).is_some_and(|secret| version(&secret) >= wanted)).await
    }

    async fn until(&self, user: &str, is_so: impl Fn() -> bool) -> Result<(), AccountError> {
        let mut changes = std::pin::pin!(self.secrets.changes());
        let waiting = async {
            while !is_so() {
                if changes.next().await.is_none() {
                    return false;
                }
            }
            true
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(true) => Ok(()),
            _ => Err(AccountError::Late { user: user.to_owned() }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Right>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn principal(account: &Account) -> Principal {
    Principal { user: account.user.clone(), role: account.role, session: None }
}
