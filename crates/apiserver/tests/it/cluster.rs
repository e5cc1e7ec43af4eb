//! A server for one test, with a certificate authority of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use drystone_apiserver::{ApiServer, Config, Profile, ServiceNetwork};
use drystone_identity::authn::ServiceAccountIssuer;
use drystone_identity::ca::CertificateAuthority;
use drystone_identity::kubeconfig::{Credential, Kubeconfig};
use drystone_identity::tls::{self, ServerIdentity};
use drystone_identity::user::MASTERS;
use drystone_identity::{CertificateProfile, ONE_YEAR, PrivateKey, UserInfo};
use drystone_store::embedded::{EmbeddedStore, Options};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// A server that listens on a port of its own.
pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    pub(crate) ca: Arc<CertificateAuthority>,
    pub(crate) url: String,
    pub(crate) directory: TempDir,
    /// kubeconfig of a cluster administrator.
    pub(crate) kubeconfig: PathBuf,
}

impl Cluster {
    /// Starts a server over a store in memory.
    pub(crate) async fn start(profile: Profile) -> Self {
        tls::install_crypto_provider();
        let now = Timestamp::now();
        let ca = Arc::new(CertificateAuthority::generate("test-ca", ONE_YEAR, now).unwrap());
        let store = Arc::new(EmbeddedStore::in_memory(Options::default()).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("https://{address}");
        let audiences = vec!["https://kubernetes.default.svc".to_owned()];
        let issuer =
            ServiceAccountIssuer::new(audiences[0].clone(), audiences, PrivateKey::generate().unwrap());
        let mut config = Config::new(profile, store);
        config.service_account_issuer = Some(Arc::new(issuer.unwrap()));
        config.certificate_authority = Some(Arc::clone(&ca));
        config.root_certificates = Some(ca.certificate_pem());
        if profile == Profile::Cluster {
            config.services = Some(ServiceNetwork {
                cidrs: vec!["10.43.0.0/16".parse().unwrap()],
                node_ports: ServiceNetwork::NODE_PORTS,
                // An endpoint on the loopback device would be refused.
                advertise: Some((std::net::Ipv4Addr::new(192, 0, 2, 1), address.port()).into()),
            });
        }
        let server = ApiServer::new(config).await.unwrap();
        let profile = CertificateProfile::server("kube-apiserver").dns(["localhost"]).ip([address.ip()]);
        let identity = ServerIdentity::new(&ca.issue(&profile, now).unwrap()).unwrap();
        let tls = tls::server_config(identity, Some(&ca.certificate_pem())).unwrap();
        let serving = server.clone();
        tokio::spawn(async move { serving.serve(listener, tls).await });
        let directory = tempfile::tempdir().unwrap();
        let mut cluster = Self { server, ca, url, directory, kubeconfig: PathBuf::new() };
        cluster.kubeconfig = cluster.kubeconfig_for("admin", &[MASTERS]);
        cluster
    }

    /// Writes a kubeconfig for a user with a client certificate.
    pub(crate) fn kubeconfig_for(&self, user: &str, groups: &[&str]) -> PathBuf {
        let profile = CertificateProfile::client(user, groups.iter().copied());
        let identity = self.ca.issue(&profile, Timestamp::now()).unwrap();
        let credential = Credential::Certificate(identity);
        let kubeconfig = Kubeconfig::new("test", user, &self.url, self.ca.certificate_pem(), credential);
        let path = self.directory.path().join(format!("{user}.kubeconfig").replace(':', "-"));
        std::fs::write(&path, kubeconfig.to_yaml().unwrap().expose()).unwrap();
        path
    }

    /// A client in this process who may do everything.
    pub(crate) fn client(&self) -> kube::Client {
        self.client_as(UserInfo::new("test-admin", [MASTERS]))
    }

    /// A client in this process who acts as a user.
    pub(crate) fn client_as(&self, user: UserInfo) -> kube::Client {
        kube::Client::new(self.server.service_as(user), "default")
    }

    /// kubectl as the cluster administrator.
    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl {
            program: "kubectl".into(),
            kubeconfig: self.kubeconfig.clone(),
            home: self.directory.path().into(),
        }
    }
}

/// A kubectl with its kubeconfig.
#[derive(Clone)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) home: PathBuf,
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Kubectl {
    /// Whether there is such a program.
    pub(crate) fn exists(&self) -> bool {
        let found = Command::new(&self.program).args(["version", "--client"]).output();
        found.is_ok_and(|output| output.status.success())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("HOME", &self.home).env("KUBECONFIG", &self.kubeconfig).args(arguments);
        command.env_remove("HTTPS_PROXY").env_remove("https_proxy").env("NO_PROXY", "*");
        command
    }

    /// Runs a command to its end.
    pub(crate) async fn try_run(&self, arguments: &[&str]) -> Said {
        self.try_run_with(arguments, "", &[]).await
    }

    /// Runs a command with an input and an environment.
    pub(crate) async fn try_run_with(
        &self,
        arguments: &[&str],
        input: &str,
        environment: &[(&str, &str)],
    ) -> Said {
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let run = tokio::task::spawn_blocking(move || -> std::io::Result<Output> {
            use std::io::Write;
            let mut child = command.spawn()?;
            child.stdin.take().unwrap().write_all(input.as_bytes())?;
            child.wait_with_output()
        });
        let output =
            tokio::time::timeout(Duration::from_secs(300), run).await.expect("kubectl takes too long");
        let output = output.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { success: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Runs a command that must succeed without a warning; returns what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "").await
    }

    /// Runs a command with an input; it must succeed without a warning.
    pub(crate) async fn run_with(&self, arguments: &[&str], input: &str) -> String {
        let said = self.try_run_with(arguments, input, &[]).await;
        assert!(said.success, "kubectl {arguments:?} failed:\n{}\n{}", said.out, said.err);
        assert_eq!(said.err, "", "kubectl {arguments:?} warns");
        said.out
    }

    /// Starts a command that goes on.
    pub(crate) fn spawn(&self, arguments: &[&str], output: &Path) -> Running {
        let file = std::fs::File::create(output).unwrap();
        let child = self.command(arguments).stdin(Stdio::null()).stdout(file).spawn().unwrap();
        Running(child)
    }
}

/// A command that goes on until it is dropped.
pub(crate) struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something holds, for a slow machine's sake up to two minutes.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "{what}: it did not come to pass");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
