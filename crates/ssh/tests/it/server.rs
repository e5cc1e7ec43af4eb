//! An OpenSSH server of the test's own: port on loopback, own keys, own users, own mount namespace.

use std::{
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use drystone_identity::Secret;
use drystone_ssh::{Credentials, HostKeys, PinnedKey, PrivateKey, Session, SshError, Target, Timeouts};
use tempfile::TempDir;

/// The password of every user.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// Long enough for a machine that does other things too.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A server that ends with this value.
pub(crate) struct Server {
    child: Child,
    directory: TempDir,
    pub(crate) address: SocketAddr,
    user_key: PrivateKey,
}

/// Says why there is no server on this machine.
pub(crate) fn unavailable() -> Option<&'static str> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root");
    }
    ["/usr/sbin/sshd", "/usr/bin/ssh-keygen", "/usr/bin/sudo", "/usr/bin/unshare"]
        .iter()
        .find(|program| !Path::new(program).exists())
        .map(|_| "needs sshd, ssh-keygen, sudo and unshare")
}

impl Server {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        // Users other than root must be able to look inside.
        run("chmod", &["755", path(&directory, "")]);
        for kind in ["ed25519", "rsa", "ecdsa"] {
            run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", path(&directory, &format!("host_{kind}"))]);
        }
        let user_key = PrivateKey::generate().expect("randomness");
        std::fs::write(directory.path().join("authorized_keys"), user_key.public_key()).expect("written");
        let address = SocketAddr::from(([127, 0, 0, 1], drystone_loopback::free_port()));
        write_files(directory.path(), address);
        let setup = format!(
            "set -e; D={0}; mount -t tmpfs tmpfs /run; mkdir -p /run/sshd /run/sudo; \
             for f in passwd shadow group sudoers; do mount --bind $D/$f /etc/$f; done; \
             mkdir $D/full; mount -t tmpfs -o size=64k tmpfs $D/full; exec /usr/sbin/sshd -D -e -f $D/sshd_config",
            directory.path().display()
        );
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &setup])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare");
        let server = Self { child, directory, address, user_key };
        server.await_port();
        server
    }

    fn await_port(&self) {
        let end = Instant::now() + LONG;
        while TcpStream::connect(self.address).is_err() {
            assert!(Instant::now() < end, "sshd does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The fingerprint of one of the server's keys, as OpenSSH says it.
    pub(crate) fn fingerprint(&self, kind: &str) -> String {
        let file = self.path(&format!("host_{kind}.pub"));
        let output = Command::new("ssh-keygen").arg("-lf").arg(file).output().expect("ssh-keygen");
        let text = String::from_utf8(output.stdout).expect("text");
        text.split_whitespace().nth(1).expect("a fingerprint").to_owned()
    }

    pub(crate) fn public_key(&self, kind: &str) -> String {
        std::fs::read_to_string(self.path(&format!("host_{kind}.pub"))).expect("a public key")
    }

    /// How root gets in.
    pub(crate) fn target(&self) -> Target {
        Target {
            address: self.address,
            proxy: None,
            user: "root".to_owned(),
            credentials: Credentials::Key(self.user_key.clone()),
            host_keys: HostKeys::Pinned(vec![pin(&self.fingerprint("ed25519"))]),
        }
    }

    /// How another user gets in, by password.
    pub(crate) fn target_of(&self, user: &str, password: &str) -> Target {
        Target {
            user: user.to_owned(),
            credentials: Credentials::Password(Secret::new(password)),
            ..self.target()
        }
    }

    pub(crate) async fn connect(&self) -> Session {
        self.try_connect(&self.target()).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log()))
    }

    pub(crate) async fn try_connect(&self, target: &Target) -> Result<Session, SshError> {
        let timeouts = Timeouts { connect: LONG, handshake: LONG, authenticate: LONG, ..Timeouts::default() };
        Session::connect(target, timeouts).await
    }

    /// Kills the processes that serve connections, as if the host had lost its power.
    pub(crate) fn kill_connections(&self) {
        self.kill_children();
    }

    /// A connection is served by a child of the server's, and for users other than root by a child of that.
    fn kill_children(&self) {
        let listed =
            Command::new("pgrep").args(["-P", &self.child.id().to_string()]).output().expect("pgrep");
        for child in String::from_utf8_lossy(&listed.stdout).lines() {
            let _ = Command::new("pkill").args(["-KILL", "-x", "-P", child, "sshd"]).status();
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill_children();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn pin(text: &str) -> PinnedKey {
    PinnedKey::parse(text).expect("a key")
}

fn path<'a>(directory: &TempDir, name: &str) -> &'a str {
    // Leaked: a few bytes per test.
    Box::leak(directory.path().join(name).display().to_string().into_boxed_str())
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write_files(directory: &Path, address: SocketAddr) {
    let d = directory.display();
    let config = format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {d}/host_ed25519\nHostKey {d}/host_rsa\nHostKey {d}/host_ecdsa\n\
         PermitRootLogin yes\nPasswordAuthentication yes\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
         AuthorizedKeysFile {d}/authorized_keys\nPidFile none\nMaxStartups 100\nLogLevel VERBOSE\n",
        address.port()
    );
    let hash = {
        let output = Command::new("openssl").args(["passwd", "-6", PASSWORD]).output().expect("openssl");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let users = [("root", 0), ("sshd", 103), ("asked", 1501), ("trusted", 1502), ("stranger", 1503)];
    let line = |(name, id): &(&str, u32)| format!("{name}:x:{id}:{id}::/:/bin/bash\n");
    let passwd: String = users.iter().map(line).collect();
    let shadow: String =
        users.iter().map(|(name, _)| format!("{name}:{hash}:19000:0:99999:7:::\n")).collect();
    let group: String = users.iter().map(|(name, id)| format!("{name}:x:{id}:\n")).collect();
    let sudoers =
        "Defaults !syslog\nroot ALL=(ALL) ALL\nasked ALL=(ALL) ALL\ntrusted ALL=(ALL) NOPASSWD: ALL\n";
    for (name, text, mode) in [
        ("sshd_config", config.as_str(), "644"),
        ("passwd", &passwd, "644"),
        ("shadow", &shadow, "600"),
        ("group", &group, "644"),
        ("sudoers", sudoers, "440"),
    ] {
        let file = directory.join(name);
        std::fs::write(&file, text).expect("written");
        run("chmod", &[mode, file.to_str().expect("text")]);
    }
}

/// Whether a process runs whose command line contains a text.
pub(crate) fn is_running(text: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else { return false };
    entries.flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text)
    })
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
