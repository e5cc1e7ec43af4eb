//! The exchange of a password, in an order in which at every moment one of the passwords that are kept is the right one:
//! the new password is kept beside the old one before the management controller gets it, and the old one is forgotten only after
//! somebody has logged in with the new one.

use rand::Rng as _;

use crate::driver::{Answer, Credentials, DriverError};

/// Characters of a password: what the longest that IPMI takes has. 113 bits.
const LENGTH: usize = 20;
/// Where the one character is that is neither letter nor digit: some controllers want one.
const HYPHEN: usize = 9;
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";

/// An account of a management controller.
pub trait Account: Send + Sync {
    /// Logs in.
    fn log_in<'a>(&'a self, credentials: &'a Credentials) -> Answer<'a, ()>;

    /// Changes the account's own password.
    fn change<'a>(&'a self, credentials: &'a Credentials, password: &'a str) -> Answer<'a, ()>;
}

/// What is kept of an account. `Debug` shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// User name, and the password that was the right one last.
    pub credentials: Credentials,
    /// A password that the controller is to get, or has got.
    pub next: Option<String>,
    /// Version of what was read.
    pub version: String,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("version", &self.version).finish_non_exhaustive()
    }
}

/// What could not be kept, or read.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct VaultError(pub String);

/// Where passwords are kept, durably.
#[async_trait::async_trait]
pub trait Vault: Send + Sync {
    /// What is kept.
    ///
    /// # Errors
    /// [`VaultError`] if it cannot be read.
    async fn read(&self) -> Result<Kept, VaultError>;

    /// Keeps this instead, if it is still of that version. Returns it with its new version.
    ///
    /// # Errors
    /// [`VaultError`] if it is not, or cannot be written.
    async fn write(&self, kept: &Kept) -> Result<Kept, VaultError>;
}

/// Why a password was not exchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// It will not be: somebody has to do something.
    #[error("{0}")]
    Refused(String),
    /// Perhaps later.
    #[error("{0}")]
    Passing(String),
}

impl From<VaultError> for ExchangeError {
    fn from(error: VaultError) -> Self {
        Self::Passing(error.to_string())
    }
}

/// Which of the passwords the controller takes.
enum Taken {
    /// The one that was the right one last.
    Present,
    /// The one that it was to get.
    Next,
}

/// One account and what is kept of it.
pub struct Exchange<'a> {
    /// The account.
    pub account: &'a dyn Account,
    /// What is kept.
    pub vault: &'a dyn Vault,
}

impl Exchange<'_> {
    /// Gives the account a new password, or finishes what was begun.
    ///
    /// # Errors
    /// [`ExchangeError`]; whatever happened, what is kept still opens the account.
    pub async fn run(&self) -> Result<(), ExchangeError> {
        let kept = self.vault.read().await?;
        let (kept, next) = match kept.next.clone() {
            Some(next) => (kept, next),
            None => {
                // Nothing is begun with credentials that are wrong already.
                self.account.log_in(&kept.credentials).await.map_err(|error| failed(&error))?;
                let next = password();
                let begun = Kept { next: Some(next.clone()), ..kept };
                (self.vault.write(&begun).await?, next)
            }
        };
        let new = Credentials { password: next.clone(), ..kept.credentials.clone() };
        if matches!(self.taken(&kept.credentials, &new).await?, Taken::Present) {
            self.account.change(&kept.credentials, &next).await.map_err(|error| failed(&error))?;
            self.account.log_in(&new).await.map_err(|error| failed(&error))?;
        }
        self.vault.write(&Kept { credentials: new, next: None, ..kept }).await?;
        Ok(())
    }

    /// The present one is tried first: a controller counts wrong passwords, and it is the wrong one only after a crash.
    async fn taken(&self, present: &Credentials, next: &Credentials) -> Result<Taken, ExchangeError> {
        match self.account.log_in(present).await {
            Ok(()) => return Ok(Taken::Present),
            Err(DriverError::Unauthorized { .. }) => {}
            Err(error) => return Err(failed(&error)),
        }
        self.account.log_in(next).await.map_err(|error| failed(&error))?;
        Ok(Taken::Next)
    }
}

fn failed(error: &DriverError) -> ExchangeError {
    match error {
        DriverError::Unauthorized { .. } | DriverError::Refused { .. } => {
            ExchangeError::Refused(error.to_string())
        }
        DriverError::Unreachable { .. } | DriverError::Stuck { .. } => {
            ExchangeError::Passing(error.to_string())
        }
    }
}

/// A random password with capital and small letters, digits and a hyphen.
fn password() -> String {
    let mut rng = rand::rng();
    loop {
        let mut text: Vec<u8> = (0..LENGTH).map(|_| LETTERS[rng.random_range(0..LETTERS.len())]).collect();
        text[HYPHEN] = b'-';
        let has = |kind: fn(&u8) -> bool| text.iter().any(kind);
        if has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_digit) {
            return text.into_iter().map(char::from).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A management controller and a vault that die at a request: before it is carried out, or after.
    struct World {
        password: Mutex<String>,
        kept: Mutex<Kept>,
        left: Mutex<u32>,
        dies_after: bool,
        wrong: Mutex<u32>,
    }

    impl World {
        fn new(left: u32, dies_after: bool) -> Self {
            let credentials = Credentials { username: "admin".into(), password: "first".into() };
            Self {
                password: Mutex::new("first".into()),
                kept: Mutex::new(Kept { credentials, next: None, version: "0".into() }),
                left: Mutex::new(left),
                dies_after,
                wrong: Mutex::new(0),
            }
        }

        /// Carries out a request unless the process has died.
        fn request<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
            let mut left = self.left.lock().unwrap();
            if *left == 0 {
                return None;
            }
            *left -= 1;
            let dies = *left == 0;
            if dies && !self.dies_after {
                return None;
            }
            let done = work();
            (!dies).then_some(done)
        }

        fn opens(&self, password: &str) -> bool {
            *self.password.lock().unwrap() == password
        }
    }

    fn gone() -> DriverError {
        DriverError::Unreachable { host: "bmc".into(), reason: "died".into() }
    }

    impl Account for World {
        fn log_in<'a>(&'a self, credentials: &'a Credentials) -> Answer<'a, ()> {
            let done = self.request(|| self.opens(&credentials.password));
            Box::pin(async move {
                match done {
                    None => Err(gone()),
                    Some(true) => Ok(()),
                    Some(false) => {
                        *self.wrong.lock().unwrap() += 1;
                        Err(DriverError::Unauthorized { host: "bmc".into() })
                    }
                }
            })
        }

        fn change<'a>(&'a self, credentials: &'a Credentials, password: &'a str) -> Answer<'a, ()> {
            let done = self.request(|| {
                assert!(self.opens(&credentials.password), "it is changed by who may");
                *self.password.lock().unwrap() = password.to_owned();
            });
            Box::pin(async move { done.ok_or_else(gone) })
        }
    }

    #[async_trait::async_trait]
    impl Vault for World {
        async fn read(&self) -> Result<Kept, VaultError> {
            self.request(|| self.kept.lock().unwrap().clone()).ok_or_else(|| VaultError("died".into()))
        }

        async fn write(&self, kept: &Kept) -> Result<Kept, VaultError> {
            let done = self.request(|| {
                let mut present = self.kept.lock().unwrap();
                assert_eq!(present.version, kept.version);
                let version = present.version.parse::<u32>().unwrap() + 1;
                *present = Kept { version: version.to_string(), ..kept.clone() };
                present.clone()
            });
            done.ok_or_else(|| VaultError("died".into()))
        }
    }

    #[tokio::test]
    async fn a_crash_at_any_request_locks_nobody_out() {
        let mut crashes = 0;
        for dies_after in [false, true] {
            for left in 1..20 {
                let world = World::new(left, dies_after);
                let exchange = Exchange { account: &world, vault: &world };
                let first = exchange.run().await;
                crashes += u32::from(first.is_err());
                let kept = world.kept.lock().unwrap().clone();
                let known = [Some(kept.credentials.password.clone()), kept.next.clone()];
                assert!(known.iter().flatten().any(|password| world.opens(password)), "locked out at {left}");
                // The process is started again.
                *world.left.lock().unwrap() = 1000;
                exchange.run().await.unwrap();
                let kept = world.kept.lock().unwrap().clone();
                assert!(kept.next.is_none() && world.opens(&kept.credentials.password));
                assert!(!world.opens("first"));
                assert!(*world.wrong.lock().unwrap() <= 1, "wrong passwords are counted by the controller");
            }
        }
        assert!(crashes >= 10, "{crashes}");
    }

    #[tokio::test]
    async fn wrong_credentials_are_left_alone() {
        let world = World::new(1000, false);
        *world.password.lock().unwrap() = "another".into();
        let refused = Exchange { account: &world, vault: &world }.run().await;
        assert!(matches!(refused, Err(ExchangeError::Refused(_))), "{refused:?}");
        assert!(world.kept.lock().unwrap().next.is_none(), "nothing was begun");
    }

    #[test]
    fn passwords_suit_every_controller() {
        for _ in 0..200 {
            let password = password();
            assert_eq!(password.len(), 20);
            assert!(password.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric()));
            assert!(password.bytes().any(|byte| byte.is_ascii_digit()));
        }
    }
}
