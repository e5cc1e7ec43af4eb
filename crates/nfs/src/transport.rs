//! Connections to the server. Each carries the calls of one identity, one at a time; idle ones are kept.
//!
//! A call whose connection breaks is made again on another: for ever on hard mounts, which is what keeps data whole when a server
//! restarts. A server that has done what it was asked but could not say so then does it again, which the errors of operations
//! that cannot be repeated tell ("exists", "is not there"), as with every NFS client whose connection breaks.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use fuser::{Errno, Request};
use nfs3_client::{
    Nfs3Client, Nfs3ConnectionBuilder, RpcError,
    net::Connector,
    nfs3_types::{
        nfs3::{FSINFO3args, Nfs3Result, nfs_fh3, nfsstat3},
        rpc::{auth_unix, opaque_auth},
        xdr_codec::Opaque,
    },
    tokio::{TokioConnector, TokioIo},
};
use tokio::{net::TcpStream, time::timeout};

use crate::{Export, NfsError, Options, attributes};

/// A connection.
pub(crate) type Client = Nfs3Client<TokioIo<TcpStream>>;

/// How long the first contact may take.
const MOUNT_DEADLINE: Duration = Duration::from_secs(15);
/// The pause before a call is made again; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Idle connections that are kept, in all.
const MAX_IDLE: usize = 16;
/// The most groups that version 3 can carry beside the first (RFC 5531, `authsys_parms`).
const MAX_GROUPS: usize = 16;
/// The most that is read or written at once, whatever the server would take.
const MAX_TRANSFER: u32 = 1 << 20;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Identity {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

impl Identity {
    /// The caller of a request, with the groups that its process is in beside its own.
    pub(crate) fn of(request: &Request) -> Self {
        let (uid, gid) = (request.uid(), request.gid());
        // Root's groups decide nothing.
        let groups = if uid == 0 { Vec::new() } else { groups(request.pid()) };
        Self { uid, gid, groups }
    }

    fn credential(&self) -> opaque_auth<'static> {
        opaque_auth::auth_unix(&auth_unix {
            stamp: 0,
            machinename: Opaque::borrowed(b"drystone"),
            uid: self.uid,
            gid: self.gid,
            gids: self.groups.clone(),
        })
    }
}

fn groups(process: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    groups_in(&text)
}

fn groups_in(status: &str) -> Vec<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    line.split_whitespace().filter_map(|group| group.parse().ok()).take(MAX_GROUPS).collect()
}

/// What the server takes and gives at once, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) read: u32,
    pub(crate) write: u32,
    pub(crate) directory: u32,
}

/// The way to the server.
pub(crate) struct Transport {
    export: Export,
    options: Options,
    address: SocketAddr,
    idle: Mutex<HashMap<Identity, Vec<Client>>>,
    pub(crate) limits: Limits,
}

impl Transport {
    /// Asks the server for the export. The root's handle comes with the way to the server.
    pub(crate) async fn mount(export: &Export, options: Options) -> Result<(Self, Vec<u8>), NfsError> {
        let problem = |problem: String| NfsError::Mount { export: export.to_string(), problem };
        let host = resolve(&export.server).await?;
        let mut builder = Nfs3ConnectionBuilder::new(TokioConnector, host.to_string(), &export.path)
            .connect_from_privileged_port(options.reserved_port && host.is_ipv4())
            .credential(Identity::default().credential());
        if let Some(port) = options.port {
            builder = builder.nfs3_port(port);
        }
        if let Some(port) = options.mount_port {
            builder = builder.mount_port(port);
        }
        let contact = async {
            let mut mounted = builder.mount().await.map_err(|error| problem(error.to_string()))?;
            let root = mounted.root_nfs_fh3();
            let information = mounted.fsinfo(&FSINFO3args { fsroot: root.clone() }).await;
            let information = match information.map_err(|error| problem(error.to_string()))? {
                Nfs3Result::Ok(information) => information,
                Nfs3Result::Err((status, _)) => return Err(problem(status.to_string())),
            };
            let limit = |wanted: u32| wanted.clamp(4096, MAX_TRANSFER);
            let limits = Limits {
                read: limit(information.rtmax),
                write: limit(information.wtmax),
                directory: limit(information.dtpref),
            };
            Ok((SocketAddr::new(host, mounted.nfs3_port), limits, root, mounted.into_nfs3_client()))
        };
        let late = || problem(format!("no answer within {} s", MOUNT_DEADLINE.as_secs()));
        let (address, limits, root, client) =
            timeout(MOUNT_DEADLINE, contact).await.unwrap_or_else(|_| Err(late()))?;
        let idle = Mutex::new([(Identity::default(), vec![client])].into());
        let transport = Self { export: export.clone(), options, address, idle, limits };
        Ok((transport, root.data.to_vec()))
    }

    /// Makes a call. `work` may be done several times.
    pub(crate) async fn call<T, E>(
        &self,
        who: &Identity,
        work: impl AsyncFn(&mut Client) -> Result<Nfs3Result<T, E>, RpcError>,
    ) -> Result<T, Errno> {
        let mut pause = FIRST_PAUSE;
        let mut failures = 0;
        loop {
            let attempt = async {
                let mut client = self.client(who).await?;
                let answer = work(&mut client).await?;
                Ok::<_, RpcError>((client, answer))
            };
            match timeout(self.options.timeout, attempt).await {
                Ok(Ok((client, answer))) => {
                    self.keep(who, client);
                    match answer {
                        Nfs3Result::Ok(answer) => return Ok(answer),
                        // The server asks for patience.
                        Nfs3Result::Err((nfsstat3::NFS3ERR_JUKEBOX, _)) => {}
                        Nfs3Result::Err((status, _)) => return Err(attributes::error(status)),
                    }
                }
                failed => {
                    let problem = match failed {
                        Ok(Err(RpcError::Auth(_))) => return Err(Errno::EACCES),
                        Ok(Err(error)) => error.to_string(),
                        _ => "no answer".to_owned(),
                    };
                    failures += 1;
                    self.complain(failures, &problem);
                    if self.options.soft && failures > self.options.retries {
                        return Err(Errno::EIO);
                    }
                    // Others of the same age are most likely broken too.
                    self.lock().clear();
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    fn complain(&self, failures: u32, problem: &str) {
        // Once at first, then seldom: a server may be away for hours.
        if failures == 1 || failures.is_multiple_of(60) {
            tracing::warn!(export = %self.export, failures, problem, "the NFS server does not answer");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Identity, Vec<Client>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, who: &Identity, client: Client) {
        let mut idle = self.lock();
        if idle.values().map(Vec::len).sum::<usize>() >= MAX_IDLE {
            idle.clear();
        }
        idle.entry(who.clone()).or_default().push(client);
    }

    async fn client(&self, who: &Identity) -> Result<Client, RpcError> {
        if let Some(client) = self.lock().get_mut(who).and_then(Vec::pop) {
            return Ok(client);
        }
        let stream = self.connect().await.map_err(RpcError::Io)?;
        Ok(Nfs3Client::new_with_auth(stream, who.credential(), opaque_auth::default()))
    }

    async fn connect(&self) -> std::io::Result<TokioIo<TcpStream>> {
        if !self.options.reserved_port || self.address.is_ipv6() {
            return TokioConnector.connect(self.address).await;
        }
        let first = u16::try_from(std::process::id() % 512).unwrap_or_default();
        for offset in 0..512 {
            let port = 512 + (first + offset) % 512;
            match TokioConnector.connect_with_port(self.address, port).await {
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::AddrInUse | std::io::ErrorKind::AddrNotAvailable
                    ) => {}
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => break,
                result => return result,
            }
        }
        TokioConnector.connect(self.address).await
    }
}

async fn resolve(server: &str) -> Result<IpAddr, NfsError> {
    if let Ok(address) = server.parse() {
        return Ok(address);
    }
    let unknown = |problem: String| NfsError::Resolve { server: server.to_owned(), problem };
    let mut found = tokio::net::lookup_host((server, 0)).await.map_err(|error| unknown(error.to_string()))?;
    found.next().map(|address| address.ip()).ok_or_else(|| unknown("it has no address".to_owned()))
}

/// A file handle for a call.
pub(crate) fn handle(bytes: &[u8]) -> nfs_fh3 {
    nfs_fh3 { data: Opaque::owned(bytes.to_vec()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_a_process() {
        assert_eq!(groups_in("Name:\tx\nGroups:\t4 24 2000 \nNStgid:\t1\n"), [4, 24, 2000]);
        assert!(groups_in("Name:\tx\n").is_empty());
        let many: String = (0..40).map(|group| format!("{group} ")).collect();
        assert_eq!(groups_in(&format!("Groups:\t{many}")).len(), MAX_GROUPS);
    }
}
