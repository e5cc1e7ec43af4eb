//! `drystone etcd`: the member of etcd on a control-plane host of a cluster with several. Makes its certificates, finds out which
//! cluster it belongs to, and becomes etcd.

use std::{
    net::IpAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use drystone_cluster::bootstrap::{ControlPlaneConfig, EtcdConfig};
use drystone_identity::{
    CertificateProfile, Identity, Secret, Usage,
    ca::CertificateAuthority,
    files::{private_directory, write_private, write_public},
};
use drystone_store::etcd::{EtcdOptions, EtcdStore, EtcdTls, Member};
use jiff::Timestamp;

use super::control_plane::read;
use crate::{cli::ConfigArgs, command::Failure};

/// Where etcd's program may be, beside the directories of `PATH`.
const USUAL_PLACES: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/opt/etcd"];

/// Pause between two questions whether this member has been added.
const PAUSE: Duration = Duration::from_secs(1);

/// Bytes of data that etcd keeps at most, and of one request.
const QUOTA: u64 = 8 << 30;
const MAX_REQUEST: u64 = 8 << 20;

/// Becomes etcd; returns only if that does not succeed.
pub(crate) async fn run(args: ConfigArgs) -> Result<(), Failure> {
    let config = read(&args.config)?;
    let etcd = config.etcd.as_ref().ok_or_else(|| {
        format!("{}: this host has no member of etcd (`etcd` is missing)", args.config.display())
    })?;
    let program = program()?;
    private_directory(&etcd.data_dir)?;
    renew(&config)?;
    let cluster = match begun(etcd) {
        true => vec![entry(&etcd.name, etcd.address)],
        false if etcd.join => join(etcd).await?,
        false => etcd.members.iter().map(|(name, address)| entry(name, *address)).collect(),
    };
    let error = command(&program, etcd, &cluster).exec();
    Err(format!("starting {}: {error}", program.display()).into())
}

/// Whether etcd has begun here: then it knows its cluster.
fn begun(etcd: &EtcdConfig) -> bool {
    etcd.data_dir.join("member").is_dir()
}

fn entry(name: &str, address: IpAddr) -> String {
    format!("{name}={}", EtcdConfig::peer_url(address))
}

fn program() -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(USUAL_PLACES.map(PathBuf::from));
    let found = places.map(|place| place.join("etcd")).find(|file| file.is_file());
    found.ok_or_else(|| {
        "etcd is not installed on this host: a control plane of several hosts needs it (Debian: etcd-server)".into()
    })
}

/// Waits until the other members know this one, and returns what etcd wants to be told of them.
async fn join(etcd: &EtcdConfig) -> Result<Vec<String>, Failure> {
    let others = etcd.members.iter().filter(|(name, _)| **name != etcd.name);
    let mut options = EtcdOptions::new(others.map(|(_, address)| EtcdConfig::client_url(*address)));
    options.keep_history = None;
    options.tls = Some(tls(etcd)?);
    let store = EtcdStore::new(&options)?;
    let own = EtcdConfig::peer_url(etcd.address);
    loop {
        match store.members().await {
            Ok(members) if members.iter().any(|member| member.peer_urls.contains(&own)) => {
                return Ok(members.iter().flat_map(|member| entries(member, etcd, &own)).collect());
            }
            Ok(_) => tracing::info!("waiting until this host is added to etcd's members"),
            Err(error) => tracing::warn!(%error, "etcd's members do not answer yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A member that has not started has no name yet; its address stands for it.
fn entries(member: &Member, etcd: &EtcdConfig, own: &str) -> Vec<String> {
    let named = |url: &String| {
        let name = match member.name.as_str() {
            _ if url == own => etcd.name.clone(),
            "" => format!("member-{}", member.id),
            name => name.to_owned(),
        };
        format!("{name}={url}")
    };
    member.peer_urls.iter().map(named).collect()
}

/// Files of the member's certificate and key.
fn files(etcd: &EtcdConfig) -> (PathBuf, PathBuf) {
    let beside = |name: &str| etcd.ca_cert.with_file_name(name);
    (beside("etcd.crt"), beside("etcd.key"))
}

fn authority(etcd: &EtcdConfig) -> Result<CertificateAuthority, Failure> {
    let key = Secret::new(std::fs::read_to_string(&etcd.ca_key)?);
    Ok(CertificateAuthority::from_pem(&std::fs::read_to_string(&etcd.ca_cert)?, &key)?)
}

/// A certificate for this host, valid from now on.
fn issue(etcd: &EtcdConfig) -> Result<Identity, Failure> {
    let profile = CertificateProfile::server(etcd.name.as_str())
        .dns(["localhost"])
        .ip([etcd.address, [127, 0, 0, 1].into()])
        .usage(Usage::ClientAuth);
    Ok(authority(etcd)?.issue(&profile, Timestamp::now())?)
}

/// Writes a new certificate for the member. etcd reads it for each connection.
pub(super) fn renew(config: &ControlPlaneConfig) -> Result<(), Failure> {
    let Some(etcd) = &config.etcd else { return Ok(()) };
    let identity = issue(etcd)?;
    let (certificate, key) = files(etcd);
    write_private(&key, identity.key_pem.expose().as_bytes())?;
    write_public(&certificate, identity.certificate_pem.as_bytes())?;
    Ok(())
}

/// How a client of this host and etcd know each other.
pub(super) fn tls(etcd: &EtcdConfig) -> Result<EtcdTls, Failure> {
    let identity = issue(etcd)?;
    Ok(EtcdTls {
        authority_pem: std::fs::read_to_string(&etcd.ca_cert)?,
        identity_pem: Some((identity.certificate_pem, identity.key_pem.expose().to_owned())),
    })
}

fn command(program: &Path, etcd: &EtcdConfig, cluster: &[String]) -> Command {
    let (certificate, key) = files(etcd);
    let state = if etcd.join || begun(etcd) { "existing" } else { "new" };
    let client = EtcdConfig::client_url(etcd.address);
    let local = EtcdConfig::client_url([127, 0, 0, 1].into());
    let peer = EtcdConfig::peer_url(etcd.address);
    let (client_listen, cluster) = (format!("{client},{local}"), cluster.join(","));
    let mut command = Command::new(program);
    command.env_clear();
    if std::env::consts::ARCH != "x86_64" {
        // Older versions want to be told that another architecture is meant.
        let name = if std::env::consts::ARCH == "aarch64" { "arm64" } else { std::env::consts::ARCH };
        command.env("ETCD_UNSUPPORTED_ARCH", name);
    }
    for (option, value) in [
        ("name", etcd.name.as_str()),
        ("listen-client-urls", &client_listen),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("initial-cluster", &cluster),
        ("initial-cluster-state", state),
        ("logger", "zap"),
        ("log-outputs", "stderr"),
    ] {
        command.arg(format!("--{option}={value}"));
    }
    command.arg(format!("--data-dir={}", etcd.data_dir.display()));
    command.arg(format!("--quota-backend-bytes={QUOTA}")).arg(format!("--max-request-bytes={MAX_REQUEST}"));
    for side in ["", "peer-"] {
        command.arg(format!("--{side}client-cert-auth"));
        for (what, path) in [("trusted-ca", &etcd.ca_cert), ("cert", &certificate), ("key", &key)] {
            command.arg(format!("--{side}{what}-file={}", path.display()));
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_as_etcd_wants_it() {
        let etcd = EtcdConfig {
            name: "d".into(),
            address: [10, 20, 1, 7].into(),
            interface: "eth0".into(),
            data_dir: "/nowhere".into(),
            ca_cert: "/etc/drystone/pki/etcd-ca.crt".into(),
            ca_key: "/etc/drystone/pki/etcd-ca.key".into(),
            members: [("d".to_owned(), [10, 20, 1, 7].into())].into(),
            join: true,
        };
        let member = |name: &str, url: &str| Member {
            id: 5,
            name: name.into(),
            peer_urls: vec![url.into()],
            client_urls: Vec::new(),
            learner: false,
        };
        let own = EtcdConfig::peer_url(etcd.address);
        let shown = |name: &str, url: &str| entries(&member(name, url), &etcd, &own);
        assert_eq!(shown("a", "https://10.20.1.2:2380"), ["a=https://10.20.1.2:2380"]);
        assert_eq!(shown("", "https://10.20.1.7:2380"), ["d=https://10.20.1.7:2380"]);
        assert_eq!(shown("", "https://10.20.1.8:2380"), ["member-5=https://10.20.1.8:2380"]);
        let arguments: Vec<String> = command(Path::new("etcd"), &etcd, &["d=x".into()])
            .get_args()
            .map(|argument| argument.to_string_lossy().into_owned())
            .collect();
        assert!(arguments.contains(&"--initial-cluster-state=existing".to_owned()), "{arguments:?}");
        assert!(arguments.contains(&"--peer-client-cert-auth".to_owned()));
        assert!(arguments.contains(&"--cert-file=/etc/drystone/pki/etcd.crt".to_owned()));
    }
}
