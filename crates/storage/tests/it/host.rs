//! A host of the test's own: network and mounts of the thread's own, an SSH server, block devices that are files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use drystone_ssh::{Credentials, HostKeys, PrivateKey, Privilege, Session, Target, Timeouts};
use drystone_storage::Host;
use nix::sched::{CloneFlags, unshare};

/// Long enough for a machine that does other things too.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// The host; it ends with this value.
pub(crate) struct Machine {
    directory: tempfile::TempDir,
    server: Option<Child>,
    key: PrivateKey,
    loops: Vec<String>,
    pub(crate) told: Mutex<Vec<String>>,
}

/// Says why there is no such host on this machine.
pub(crate) fn unavailable(programs: &[&str]) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let missing = |program: &&&str| {
        let found =
            ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|at| Path::new(at).join(program).exists());
        !found
    };
    if let Some(program) =
        programs.iter().chain(&["sshd", "losetup", "mkfs.ext4", "blkid", "ip"]).find(missing)
    {
        return Some(format!("needs {program}"));
    }
    let tried = Command::new("losetup").arg("-f").output();
    (!tried.is_ok_and(|output| output.status.success())).then(|| "needs loop devices".to_owned())
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

impl Machine {
    /// Moves the calling thread into namespaces of its own and starts a host there. What the thread starts later is in them as well.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        run("mount", &["--make-rprivate", "/"]);
        run("ip", &["link", "set", "lo", "up"]);
        let at = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(at("scratch")).unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", &at("scratch")]);
        for name in ["etc", "var"] {
            let (upper, work) = (at(&format!("scratch/{name}-upper")), at(&format!("scratch/{name}-work")));
            fs::create_dir(&upper).unwrap();
            fs::create_dir(&work).unwrap();
            let options = format!("lowerdir=/{name},upperdir={upper},workdir={work}");
            run("mount", &["-t", "overlay", "overlay", "-o", &options, &format!("/{name}")]);
        }
        // What an NFS server is told of is only on this host; the machine's own mounts are not in its fstab.
        fs::write("/etc/fstab", "# empty\n").unwrap();
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
        run("mount", &["-t", "tmpfs", "tmpfs", "/mnt"]);
        run("mount", &["-t", "tmpfs", "tmpfs", "/usr/local/bin"]);
        fs::create_dir("/run/sshd").unwrap();
        let key = PrivateKey::generate().unwrap();
        let mut machine = Self { directory, server: None, key, loops: Vec::new(), told: Mutex::default() };
        machine.serve();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&mut self) {
        let text = |path: PathBuf| path.display().to_string();
        let host_key = text(self.path("host_key"));
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &host_key]);
        let keys = self.path("authorized_keys");
        fs::write(&keys, self.key.public_key()).unwrap();
        let config = format!(
            "Port 22\nListenAddress 127.0.0.1\nHostKey {host_key}\nPermitRootLogin yes\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {}\nPidFile none\nMaxStartups 100\n",
            text(keys)
        );
        let file = self.path("sshd_config");
        fs::write(&file, config).unwrap();
        let server = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &text(file)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.path("log")).unwrap())
            .spawn()
            .unwrap();
        self.server = Some(server);
        let end = Instant::now() + LONG;
        while std::net::TcpStream::connect("127.0.0.1:22").is_err() {
            assert!(Instant::now() < end, "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A new block device of so many MiB; all zeros.
    pub(crate) fn device(&mut self, mebibytes: u64) -> String {
        let file = self.path(&format!("disk{}", self.loops.len()));
        fs::File::create(&file).unwrap().set_len(mebibytes << 20).unwrap();
        self.attach(&file)
    }

    fn attach(&mut self, file: &Path) -> String {
        let device = run("losetup", &["-f", "--show", &file.display().to_string()]);
        self.loops.push(device.clone());
        device
    }

    /// Another name of a device: what the kernel calls it tomorrow.
    pub(crate) fn alias(&self, device: &str, name: &str) -> String {
        let alias = format!("/dev/{name}");
        let _ = fs::remove_file(&alias);
        fs::write(&alias, "").unwrap();
        run("mount", &["--bind", device, &alias]);
        alias
    }

    /// Puts a program before the system's of the same name, on this host alone.
    pub(crate) fn replace(&self, program: &str, text: &str) {
        let file = Path::new("/usr/local/bin").join(program);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The key that root may log in with.
    pub(crate) fn login_key(&self) -> &PrivateKey {
        &self.key
    }

    pub(crate) async fn connect(&self) -> Session {
        let target = Target {
            address: ([127, 0, 0, 1], 22).into(),
            proxy: None,
            user: "root".into(),
            credentials: Credentials::Key(self.login_key().clone()),
            host_keys: HostKeys::LearnFirst,
        };
        let timeouts = Timeouts { connect: LONG, handshake: LONG, authenticate: LONG, ..Timeouts::default() };
        Session::connect(&target, timeouts).await.unwrap()
    }

    pub(crate) fn kill_connections(&self) {
        let server = self.server.as_ref().unwrap().id().to_string();
        let listed = Command::new("pgrep").args(["-P", &server]).output().unwrap();
        for child in String::from_utf8_lossy(&listed.stdout).lines() {
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
    }
}

/// Processes of a name in the network of the calling thread.
fn here(name: &str) -> Vec<String> {
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap_or_default();
    let listed = Command::new("pgrep").args(["-x", name]).output();
    let listed =
        listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let is_here =
        |process: &&str| fs::read_link(format!("/proc/{process}/ns/net")).is_ok_and(|net| net == own);
    listed.lines().filter(is_here).map(str::to_owned).collect()
}

impl Drop for Machine {
    fn drop(&mut self) {
        for process in here("rpcbind") {
            let _ = Command::new("kill").args(["-KILL", &process]).status();
        }
        if let Ok(pid) = fs::read_to_string("/run/drystone-nfs.pid") {
            let _ = Command::new("kill").args(["-KILL", pid.trim()]).status();
        }
        self.kill_connections();
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        for device in &self.loops {
            let _ = Command::new("umount").args(["-A", device]).stderr(Stdio::null()).status();
            let _ = Command::new("losetup").args(["-d", device]).status();
        }
        for alias in ["/dev/drystone-test-b", "/dev/drystone-test-c"] {
            if Path::new(alias).exists() {
                let _ = Command::new("umount").arg(alias).stderr(Stdio::null()).status();
                let _ = fs::remove_file(alias);
            }
        }
        let _ = Command::new("umount").args(["-l", &self.path("scratch").display().to_string()]).status();
    }
}

/// Runs a test on a host of its own, on a thread of its own, which takes its namespaces with it.
pub(crate) fn on_host(programs: &[&str], test: impl AsyncFnOnce(&mut Machine) + Send + 'static) {
    if let Some(why) = unavailable(programs) {
        println!("skipped: {why}");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let thread = std::thread::spawn(move || {
        let mut machine = Machine::start();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(&mut machine));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// A host of the library's over a session; what it tells is kept.
pub(crate) fn host<'a>(session: &'a Session, tell: &'a (dyn Fn(&str) + Send + Sync)) -> Host<'a> {
    Host::new(session, Privilege::Root(None)).follow(tell)
}
