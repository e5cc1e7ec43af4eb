//! A server in namespaces of its own, and the client as a process that has entered its network.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use drystone_nfs::{Export, Options};
use tempfile::TempDir;

/// Names the export, and makes this very program a client.
const CLIENT: &str = "DRYSTONE_NFS_TEST_CLIENT";
const PLACE: &str = "DRYSTONE_NFS_TEST_PLACE";
const DEADLINE: Duration = Duration::from_secs(90);

const CONFIGURATION: &str = "
NFS_CORE_PARAM { Protocols = 3, 4; NFS_Port = 2049; MNT_Port = 20048; Enable_NLM = false; Enable_RQUOTA = false; }
NFSV4 { Grace_Period = 5; RecoveryRoot = /run/ganesha; }
EXPORT { Export_Id = 7; Path = /run/export; Pseudo = /export; Access_Type = RW; Squash = No_Root_Squash; SecType = sys;
         Protocols = 3, 4; Filesystem_id = 1.7; FSAL { Name = VFS; } }
";

/// An interface beside loopback, or names are not resolved; a /run of its own, for sockets. The server is started again when it ends.
const SCRIPT: &str = r#"
set -e
ip link set lo up
ip link add v0 type veth peer name v1
ip address add 10.99.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
mount -t tmpfs tmpfs /run
mkdir -p /run/export /run/ganesha /run/rpcbind
mount -t tmpfs tmpfs /run/export
chmod 1777 /run/export
rpcbind
while :; do
    ganesha.nfsd -F -f "$1/ganesha.conf" -L "$1/ganesha.log" -p /run/ganesha.pid -N NIV_EVENT || true
    sleep 0.2
done
"#;

struct Server {
    process: Child,
    directory: TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("ganesha.conf"), CONFIGURATION).unwrap();
        let process = Command::new("unshare")
            .args([
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "sh",
                "-c",
                SCRIPT,
                "sh",
            ])
            .arg(directory.path())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, directory };
        wait("the server to listen", || server.listens());
        server
    }

    /// A process inside.
    fn inside(&self) -> Option<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.process.id());
        fs::read_to_string(children).ok()?.split_whitespace().next()?.parse().ok()
    }

    fn listens(&self) -> bool {
        let Some(inside) = self.inside() else { return false };
        let sockets = fs::read_to_string(format!("/proc/{inside}/net/tcp6")).unwrap_or_default();
        let sockets = sockets + &fs::read_to_string(format!("/proc/{inside}/net/tcp")).unwrap_or_default();
        // Port 2049, listening.
        sockets.lines().any(|line| line.contains(":0801 ") && line.contains(" 0A "))
    }

    /// What the server has, seen without NFS.
    fn export(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/run/export", self.inside().unwrap()))
    }

    fn kill_daemon(&self) {
        let inside = self.inside().unwrap();
        let pid = fs::read_to_string(format!("/proc/{inside}/root/run/ganesha.pid")).unwrap();
        let done = Command::new("nsenter")
            .args([&format!("--target={inside}"), "--pid", "--mount", "kill", "-9", pid.trim()])
            .status();
        assert!(done.unwrap().success());
        wait("the server to be gone", || !self.listens());
    }
}

struct Client {
    process: Child,
    place: PathBuf,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy"]).arg(&self.place).stderr(Stdio::null()).status();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Client {
    fn start(server: &Server, options: &str) -> Self {
        let place = server.directory.path().join(format!("mount-{}", options.len()));
        fs::create_dir(&place).unwrap();
        let process = Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", server.inside().unwrap()))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "machine::client_process", "--nocapture"])
            .env(CLIENT, options)
            .env(PLACE, &place)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let client = Self { process, place };
        wait("the mount", || is_mounted(&client.place));
        client
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }
}

fn is_mounted(place: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let end = format!(":/run/export {} fuse ", place.display());
    mounts.lines().any(|line| line.contains(&end))
}

fn wait(what: &str, ready: impl Fn() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < DEADLINE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn can_run() -> bool {
    let has = |program: &str| {
        Command::new("which").arg(program).stdout(Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root
        && Path::new("/dev/fuse").exists()
        && ["ganesha.nfsd", "rpcbind", "unshare", "nsenter"].into_iter().all(has)
    {
        return true;
    }
    println!("skipped: needs root, /dev/fuse, nfs-ganesha and rpcbind");
    assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    false
}

/// Not a test: what [`Client`] runs.
#[test]
fn client_process() {
    let Ok(options) = std::env::var(CLIENT) else { return };
    let place = std::env::var(PLACE).unwrap();
    let export = Export::parse("127.0.0.1:/run/export").unwrap();
    drystone_nfs::serve(&export, Path::new(&place), &Options::parse([options.as_str()]).unwrap()).unwrap();
}

#[test]
fn files_are_files() {
    if !can_run() {
        return;
    }
    let server = Server::start();
    let mut client = Client::start(&server, "hard");
    contents(&server, &client);
    names(&client);
    removed_while_open(&server, &client);
    permissions(&client);
    // Unmounting ends the client.
    assert!(Command::new("umount").arg(&client.place).status().unwrap().success());
    assert!(client.process.wait().unwrap().success());
    assert_eq!(fs::read(server.export().join("small")).unwrap(), b"one two");
}

fn contents(server: &Server, client: &Client) {
    fs::write(client.path("small"), "one").unwrap();
    OpenOptions::new().append(true).open(client.path("small")).unwrap().write_all(b" two").unwrap();
    assert_eq!(fs::read(server.export().join("small")).unwrap(), b"one two");
    let big: Vec<u8> = (0..5_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut file = File::create(client.path("big")).unwrap();
    file.write_all(&big).unwrap();
    file.sync_all().unwrap();
    assert!(fs::read(client.path("big")).unwrap() == big, "what is read is what was written");
    assert!(fs::read(server.export().join("big")).unwrap() == big);
    let mut file = OpenOptions::new().read(true).write(true).open(client.path("big")).unwrap();
    file.write_all_at(b"patched", 1_234_567).unwrap();
    file.seek(SeekFrom::Start(1_234_567)).unwrap();
    let mut found = [0; 7];
    file.read_exact(&mut found).unwrap();
    assert_eq!(&found, b"patched");
    file.set_len(10).unwrap();
    assert_eq!(fs::metadata(client.path("big")).unwrap().len(), 10);
    // Changed behind the client's back: whoever opens, sees.
    fs::write(server.export().join("small2"), "elsewhere").unwrap();
    assert_eq!(fs::read(client.path("small2")).unwrap(), b"elsewhere");
}

fn names(client: &Client) {
    fs::create_dir(client.path("d")).unwrap();
    for number in 0..700 {
        File::create(client.path(&format!("d/file-{number:04}"))).unwrap();
    }
    let mut seen: Vec<_> = fs::read_dir(client.path("d"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            assert!(entry.file_type().unwrap().is_file());
            entry.file_name().into_string().unwrap()
        })
        .collect();
    seen.sort();
    assert_eq!(seen, (0..700).map(|number| format!("file-{number:04}")).collect::<Vec<_>>());
    assert_eq!(fs::remove_dir(client.path("d")).unwrap_err().raw_os_error(), Some(39), "not empty");
    fs::rename(client.path("d/file-0000"), client.path("moved")).unwrap();
    assert!(!client.path("d/file-0000").exists() && client.path("moved").exists());
    std::os::unix::fs::symlink("moved", client.path("link")).unwrap();
    assert_eq!(fs::read_link(client.path("link")).unwrap(), Path::new("moved"));
    fs::hard_link(client.path("moved"), client.path("hard")).unwrap();
    assert_eq!(
        fs::metadata(client.path("hard")).unwrap().ino(),
        fs::metadata(client.path("moved")).unwrap().ino()
    );
    let exclusive = OpenOptions::new().write(true).create_new(true).open(client.path("moved"));
    assert_eq!(exclusive.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert!(Command::new("mkfifo").arg(client.path("fifo")).status().unwrap().success());
    fs::remove_dir_all(client.path("d")).unwrap();
    assert_eq!(fs::metadata(client.path("nothing")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    let figures = Command::new("stat").args(["-f", "-c", "%b"]).arg(&client.place).output().unwrap();
    assert_ne!(String::from_utf8(figures.stdout).unwrap().trim(), "0");
}

fn removed_while_open(server: &Server, client: &Client) {
    fs::write(client.path("victim"), "still here").unwrap();
    let mut file = File::open(client.path("victim")).unwrap();
    fs::remove_file(client.path("victim")).unwrap();
    assert!(!client.path("victim").exists());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here");
    drop(file);
    let hidden = || {
        let entries = fs::read_dir(server.export()).unwrap();
        entries
            .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".nfs"))
            .count()
    };
    wait("what was removed to go", || hidden() == 0);
}

fn permissions(client: &Client) {
    fs::write(client.path("secret"), "s").unwrap();
    fs::set_permissions(client.path("secret"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(client.path("secret"), Some(0), Some(4242)).unwrap();
    let read = |groups: &str| {
        Command::new("setpriv")
            .args(["--reuid=1000", "--regid=1000", groups, "cat"])
            .arg(client.path("secret"))
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    assert!(!read("--clear-groups"), "others may not");
    assert!(read("--groups=4242"), "a group beside the first counts");
}

#[test]
fn a_server_that_comes_back_goes_on_and_a_soft_mount_does_not_wait() {
    if !can_run() {
        return;
    }
    let server = Server::start();
    let client = Client::start(&server, "hard,timeo=30");
    fs::write(client.path("before"), "b").unwrap();
    server.kill_daemon();
    let path = client.path("after");
    let writer = std::thread::spawn(move || fs::write(path, "a"));
    writer.join().unwrap().unwrap();
    assert_eq!(fs::read(server.export().join("after")).unwrap(), b"a");
    assert_eq!(fs::read(client.path("before")).unwrap(), b"b");

    let soft = Client::start(&server, "soft,retrans=0,timeo=20");
    // Nobody is there to start it again.
    let inside = server.inside().unwrap();
    let stop = format!("pkill -STOP -f ganesha.nfsd -P {}", 1);
    let stopped = Command::new("nsenter")
        .args([&format!("--target={inside}"), "--pid", "--mount", "sh", "-c", &stop])
        .status();
    assert!(stopped.unwrap().success());
    let begin = Instant::now();
    assert_eq!(fs::read(soft.path("before")).unwrap_err().raw_os_error(), Some(5));
    assert!(begin.elapsed() < DEADLINE);
}

#[test]
fn what_cannot_be_mounted_is_said() {
    if !can_run() {
        return;
    }
    let nowhere = TempDir::new().unwrap();
    let options = Options { port: Some(9), mount_port: Some(9), reserved_port: false, ..Options::default() };
    let export = Export::parse("127.0.0.1:/x").unwrap();
    let error = drystone_nfs::serve(&export, nowhere.path(), &options).unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:/x"), "{error}");
    assert!(!is_mounted(nowhere.path()));
}
