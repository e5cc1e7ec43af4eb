//! Setting a connection up: TCP, proxy, keys, login.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use drystone_identity::Secret;
use russh::{
    MethodKind, MethodSet, client,
    client::{AuthResult, DisconnectReason, KeyboardInteractiveAuthResponse},
    keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use tokio::net::TcpStream;

use crate::{
    error::SshError,
    host_key::{HostKey, HostKeys, PinnedKey, accepted_algorithms, same_kind},
    private_key::PrivateKey,
    proxy,
    session::{Inner, Session},
    target::{Credentials, Target, Timeouts},
};

/// Most rounds of questions that a server may ask before it lets somebody in.
const MAX_QUESTIONS: usize = 8;

/// What is known of a connection beside its channels.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    /// The key that the host showed.
    shown: Mutex<Option<(HostKey, Algorithm)>>,
    /// Why the connection ended.
    end: Mutex<Option<String>>,
}

impl Observed {
    fn shown(&self) -> Option<(HostKey, Algorithm)> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the connection ended, as far as is known.
    pub(crate) fn end(&self) -> String {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner).clone();
        end.unwrap_or_else(|| "the host closed it".to_owned())
    }
}

/// Answers what the protocol asks of us.
pub(crate) struct Client {
    host_keys: HostKeys,
    observed: Arc<Observed>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        // Certificates are not offered, so none is expected.
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else { return Ok(false) };
        let shown = HostKey::of(key);
        let accepted = match &self.host_keys {
            HostKeys::LearnFirst => true,
            HostKeys::Pinned(pins) => pins.iter().any(|pin| pin.fingerprint() == shown.fingerprint),
        };
        *self.observed.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some((shown, key.algorithm()));
        Ok(accepted)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let text = match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                let said: String = info.message.chars().filter(|c| !c.is_control()).take(200).collect();
                format!("the host ended it: {said}")
            }
            DisconnectReason::Error(error) => describe(&error),
        };
        *self.observed.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        Ok(())
    }
}

/// An error of the protocol, in words.
pub(crate) fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::HUP | russh::Error::Disconnect | russh::Error::RecvError | russh::Error::SendError => {
            "the host closed it".to_owned()
        }
        russh::Error::KeepaliveTimeout => "the host has not answered for a while".to_owned(),
        russh::Error::Version => "what answers does not speak SSH 2".to_owned(),
        russh::Error::IO(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the host closed it".to_owned()
        }
        other => other.to_string().chars().filter(|c| !c.is_control()).take(300).collect(),
    }
}

fn configuration(timeouts: &Timeouts, algorithms: Vec<Algorithm>) -> client::Config {
    let preferred = russh::Preferred {
        key: Cow::Owned(algorithms),
        compression: Cow::Borrowed(&[russh::compression::NONE]),
        ..russh::Preferred::default()
    };
    client::Config {
        preferred,
        keepalive_interval: Some(timeouts.keep_alive),
        keepalive_max: 3,
        // Bounds what may wait in memory for a slow reader: 16 packets of 32 KiB a channel.
        channel_buffer_size: 16,
        ..client::Config::default()
    }
}

/// Kinds of host keys that may be asked for: those of the keys that are pinned in full; all, if a fingerprint is pinned.
fn wanted_algorithms(host_keys: &HostKeys) -> Vec<Algorithm> {
    let all = accepted_algorithms();
    let HostKeys::Pinned(pins) = host_keys else { return all };
    if pins.is_empty() || pins.iter().any(|pin| pin.algorithm().is_none()) {
        return all;
    }
    let pinned = |algorithm: &Algorithm| {
        pins.iter().filter_map(|pin| pin.algorithm()).any(|pinned| same_kind(pinned, algorithm))
    };
    all.into_iter().filter(pinned).collect()
}

async fn within<T>(
    host: SocketAddr,
    doing: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, SshError>>,
) -> Result<T, SshError> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(SshError::Deadline { host, doing, limit }),
    }
}

impl Session {
    /// Connects to a host, checks its key and logs in.
    ///
    /// # Errors
    /// [`SshError`], which says what stood in the way.
    pub async fn connect(target: &Target, timeouts: Timeouts) -> Result<Self, SshError> {
        let host = target.address;
        let mut algorithms = wanted_algorithms(&target.host_keys);
        let mut strangers: Vec<String> = Vec::new();
        // A host has several keys. A fingerprint does not say of which kind its key is, so that others may be shown before.
        loop {
            let observed = Arc::new(Observed::default());
            let attempt = open(target, &timeouts, algorithms.clone(), &observed).await;
            let shown = observed.shown();
            match (attempt, shown) {
                (Ok((handle, socket)), Some((host_key, _))) => {
                    let inner = Inner::new(target, handle, socket, host_key, observed);
                    return login(inner, target, &timeouts).await;
                }
                (Ok(_), None) => {
                    let reason = "the host showed no key".to_owned();
                    return Err(SshError::Handshake { host, reason });
                }
                (Err(_), Some((key, kind))) if !is_pinned(&target.host_keys, &key) => {
                    strangers.push(key.fingerprint);
                    algorithms.retain(|algorithm| !same_kind(algorithm, &kind));
                    if algorithms.is_empty() {
                        return Err(mismatch(target, &strangers));
                    }
                }
                // No key of the kinds that are left.
                (Err(SshError::Handshake { .. }), None) if !strangers.is_empty() => {
                    return Err(mismatch(target, &strangers));
                }
                (Err(error), _) => return Err(error),
            }
        }
    }
}

fn is_pinned(host_keys: &HostKeys, key: &HostKey) -> bool {
    match host_keys {
        HostKeys::LearnFirst => true,
        HostKeys::Pinned(pins) => pins.iter().any(|pin| pin.fingerprint() == key.fingerprint),
    }
}

fn mismatch(target: &Target, strangers: &[String]) -> SshError {
    let expected = match &target.host_keys {
        HostKeys::Pinned(pins) if !pins.is_empty() => {
            pins.iter().map(PinnedKey::fingerprint).collect::<Vec<_>>().join(" or ")
        }
        _ => "no key".to_owned(),
    };
    SshError::HostKeyMismatch { host: target.address, expected, presented: strangers.join(" and ") }
}

type Opened = (client::Handle<Client>, std::net::TcpStream);

/// TCP and key exchange. The second value is the same socket, by which it can be shut down whatever the protocol waits for.
async fn open(
    target: &Target,
    timeouts: &Timeouts,
    algorithms: Vec<Algorithm>,
    observed: &Arc<Observed>,
) -> Result<Opened, SshError> {
    let host = target.address;
    let stream = within(host, "connecting", timeouts.connect, async {
        match &target.proxy {
            Some(proxy) => proxy::connect(proxy, host).await,
            None => TcpStream::connect(host).await.map_err(|source| SshError::Connect { host, source }),
        }
    })
    .await?;
    let (stream, socket) = twice(stream).map_err(|source| SshError::Connect { host, source })?;
    let handler = Client { host_keys: target.host_keys.clone(), observed: Arc::clone(observed) };
    let config = Arc::new(configuration(timeouts, algorithms));
    let handshake = within(host, "exchanging keys", timeouts.handshake, async {
        client::connect_stream(config, stream, handler)
            .await
            .map_err(|error| SshError::Handshake { host, reason: describe(&error) })
    });
    match handshake.await {
        Ok(handle) => Ok((handle, socket)),
        Err(error) => {
            // The session's task must not go on listening to a host that is too slow.
            let _ = socket.shutdown(std::net::Shutdown::Both);
            Err(error)
        }
    }
}

fn twice(stream: TcpStream) -> std::io::Result<(TcpStream, std::net::TcpStream)> {
    stream.set_nodelay(true)?;
    let socket = stream.into_std()?;
    let second = socket.try_clone()?;
    Ok((TcpStream::from_std(socket)?, second))
}

async fn login(mut inner: Inner, target: &Target, timeouts: &Timeouts) -> Result<Session, SshError> {
    let host = target.address;
    let result = within(host, "logging in", timeouts.authenticate, async {
        let lost = |error: russh::Error| SshError::Lost { host, reason: describe(&error) };
        let handle = inner.handle_mut();
        let refused = match &target.credentials {
            Credentials::Key(key) => by_key(handle, &target.user, key).await.map_err(lost)?,
            Credentials::Password(password) => {
                by_password(handle, &target.user, password).await.map_err(lost)?
            }
        };
        match refused {
            None => Ok(()),
            // The protocol's task ends when the host hangs up, and then all methods look refused.
            Some(methods) if methods.is_empty() && handle.is_closed() => {
                Err(SshError::Lost { host, reason: inner.observed().end() })
            }
            Some(methods) => Err(SshError::Authentication {
                host,
                user: target.user.clone(),
                method: target.credentials.method(),
                accepted: names(&methods),
            }),
        }
    })
    .await;
    result.map(|()| Session::new(inner))
}

fn names(methods: &MethodSet) -> String {
    if methods.is_empty() {
        return "nothing else".to_owned();
    }
    methods.iter().map(<&'static str>::from).collect::<Vec<_>>().join(", ")
}

/// Nothing if the user is let in, else the methods that are left.
fn refused(result: AuthResult) -> Option<MethodSet> {
    match result {
        AuthResult::Success => None,
        AuthResult::Failure { remaining_methods, .. } => Some(remaining_methods),
    }
}

async fn by_key(
    handle: &mut client::Handle<Client>,
    user: &str,
    key: &PrivateKey,
) -> Result<Option<MethodSet>, russh::Error> {
    let key = key.inner();
    let hash = if key.algorithm().is_rsa() {
        // SHA-1 is not used even where it is all that a server knows (RFC 8332).
        Some(handle.best_supported_rsa_hash().await?.flatten().unwrap_or(HashAlg::Sha256))
    } else {
        None
    };
    let key = PrivateKeyWithHashAlg::new(key, hash);
    Ok(refused(handle.authenticate_publickey(user, key).await?))
}

async fn by_password(
    handle: &mut client::Handle<Client>,
    user: &str,
    password: &Secret,
) -> Result<Option<MethodSet>, russh::Error> {
    let left = refused(handle.authenticate_password(user, password.expose()).await?);
    let Some(methods) = left else { return Ok(None) };
    // Many servers ask for passwords by questions only (RFC 4256).
    if !methods.contains(&MethodKind::KeyboardInteractive) {
        return Ok(Some(methods));
    }
    let mut response = handle.authenticate_keyboard_interactive_start(user, None).await?;
    for _ in 0..MAX_QUESTIONS {
        match response {
            KeyboardInteractiveAuthResponse::Success => return Ok(None),
            KeyboardInteractiveAuthResponse::Failure { remaining_methods, .. } => {
                return Ok(Some(remaining_methods));
            }
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => {
                // A question whose answer may be seen is none for a password.
                let answer = |prompt: &client::Prompt| {
                    if prompt.echo { String::new() } else { password.expose().to_owned() }
                };
                let answers = prompts.iter().map(answer).collect();
                response = handle.authenticate_keyboard_interactive_respond(answers).await?;
            }
        }
    }
    Ok(Some(methods))
}
