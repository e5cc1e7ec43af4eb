//! A small emulated site for tests: two switches with a cable between them, four hosts, a gateway; and ways to send
//! packets from inside it.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use drystone_emulator::{
    backend::{
        Backend, BootSource, BootState, ForwardingMember, ForwardingZone, ForwardingZones, GatewayConfig,
        GatewayEndpoints,
    },
    netns::{NetnsBackend, NetnsConfig, inspect_leftovers},
    site::{HostSpec, SiteFile},
};
use nix::sched::{CloneFlags, setns};

/// Generous: a loaded machine is slow, and a test that passes never waits for it.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// The site: two switches, hosts that the zones `red` and `blue` will have, and a gateway.
pub(super) const SITE: &str = "
name: NAME
fabrics:
- {id: Ethernet, switches: [{name: eth-a, ports: 9, speedGbps: 25}, {name: eth-b, ports: 9, speedGbps: 25}],
   links: [{from: eth-a, to: eth-b, speedGbps: 100}]}
templates:
  server: {processor: {cores: 4}, memoryMiB: 1024}
hosts:
- {name: a1, template: server, nics: [{name: eth0, switch: eth-a, port: p1, mac: '02:d5:00:00:00:01'}]}
- {name: a2, template: server, nics: [{name: eth0, switch: eth-b, port: p1, mac: '02:d5:00:00:00:02'}]}
- {name: b1, template: server, nics: [{name: eth0, switch: eth-a, port: p2, mac: '02:d5:00:00:00:03'}]}
- {name: b2, template: server, nics: [{name: eth0, switch: eth-b, port: p2, mac: '02:d5:00:00:00:04'}]}
gateway:
  nodeAddress: 10.20.0.1/16
  campusAddress: 203.0.113.1/24
  switch: eth-b
  port: p9
  mac: '02:d5:00:00:00:05'
  clients: [{name: laptop, address: 203.0.113.10}]
  externalPools: [{name: campus, ranges: [198.51.100.0/24]}]
";

/// A site under test.
pub(super) struct TestSite {
    pub(super) backend: NetnsBackend,
    pub(super) file: SiteFile,
    pub(super) endpoints: GatewayEndpoints,
    pub(super) controller: TcpListener,
    pub(super) state: tempfile::TempDir,
}

/// A site file under another name: its first `name: …` is replaced.
pub(super) fn site_file(text: &str, name: &str) -> SiteFile {
    let (before, after) = text.split_once("\nname: ").unwrap();
    let (_, after) = after.split_once('\n').unwrap();
    SiteFile::parse(&format!("{before}\nname: {name}\n{after}")).unwrap()
}

/// Says why a test cannot run here, if it cannot.
pub(super) fn cannot_run() -> bool {
    let missing = ["ip", "nft", "nsenter", "unshare"].into_iter().find(|tool| which(tool).is_none());
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: needs root");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return true;
    }
    if let Some(tool) = missing {
        println!("skipped: {tool} is not installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return true;
    }
    false
}

pub(super) fn which(tool: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(tool))
        .find(|path| path.exists())
}

/// A file that hosts are shown, in a directory that they do not see.
pub(super) fn shown_file(state: &std::path::Path) -> PathBuf {
    state.join("shown.txt")
}

pub(super) fn backend(state: &std::path::Path) -> NetnsBackend {
    std::fs::write(shown_file(state), "shown").unwrap();
    NetnsBackend::new(NetnsConfig {
        state_directory: state.to_owned(),
        executable: Some(env!("CARGO_BIN_EXE_emulated-host").into()),
        hidden: Vec::new(),
        shown: vec![shown_file(state)],
        machines: false,
    })
    .unwrap()
}

pub(super) fn gateway_config(controller: SocketAddr) -> GatewayConfig {
    GatewayConfig {
        controller,
        proxy_listen: "127.0.0.1:0".parse().unwrap(),
        proxy_user: "site".to_owned(),
        proxy_password: "stones".to_owned(),
    }
}

impl TestSite {
    /// Builds the site; its name is this test's own.
    pub(super) async fn start() -> Self {
        Self::start_with(SITE, &[]).await
    }

    /// Builds a site from the text of a site file, under a name of this test's own. Before that, tries as often as
    /// `interruptions` has entries and is stopped in the middle, after that long.
    pub(super) async fn start_with(text: &str, interruptions: &[Duration]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = site_file(text, &format!("t{}-{number}", std::process::id()));
        let state = tempfile::tempdir().unwrap();
        for patience in interruptions {
            let config = gateway_config("127.0.0.1:9".parse().unwrap());
            // Dropping the future kills whatever tool is at work.
            let _ = tokio::time::timeout(*patience, backend(state.path()).start(&file, &config)).await;
        }
        Self::open(state, file).await
    }

    /// Builds a site in a state directory, or finds it again.
    pub(super) async fn open(state: tempfile::TempDir, file: SiteFile) -> Self {
        let controller = TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = backend(state.path());
        let config = gateway_config(controller.local_addr().unwrap());
        let endpoints = backend.start(&file, &config).await.unwrap();
        Self { backend, file, endpoints, controller, state }
    }

    /// A new backend object over the same state, as a restarted emulator would have it.
    pub(super) async fn restart(&mut self) {
        self.backend = backend(self.state.path());
        let config = gateway_config(self.controller.local_addr().unwrap());
        self.endpoints = self.backend.start(&self.file, &config).await.unwrap();
    }

    pub(super) fn host(&self, name: &str) -> &HostSpec {
        self.file.host(name).unwrap()
    }

    /// Name of a host's network namespace.
    pub(super) fn namespace(&self, host: &str) -> String {
        format!("ds-{}-{host}", self.file.name)
    }

    /// Name of another of the site's network namespaces.
    pub(super) fn own_namespace(&self, suffix: &str) -> String {
        format!("ds-{}.{suffix}", self.file.name)
    }

    /// Switches hosts on with nothing to boot and gives them addresses: all that packets need. IPv6 is kept quiet so that
    /// counters count what the test sends.
    pub(super) async fn cable_up(&self, hosts: &[(&str, &str)]) {
        for (host, address) in hosts {
            self.backend.power_on(self.host(host), BootSource::Disk).await.unwrap();
            assert_eq!(self.state_of(host).await, BootState::NoBoot);
            let namespace = self.namespace(host);
            for command in [
                "link set eth0 addrgenmode none".to_owned(),
                "link set eth0 up".to_owned(),
                format!("address add {address}/16 dev eth0"),
                "route add default via 10.20.0.1".to_owned(),
            ] {
                ip(&namespace, &command);
            }
        }
    }

    /// Zones `red` (a1, a2) and `blue` (b1, b2), both with the gateway; on both switches.
    pub(super) async fn zone_off(&self) {
        let zone = |tag, members: &[(&str, &str, bool)], flood: &[&str]| ForwardingZone {
            tag,
            members: members
                .iter()
                .map(|(host, port, shared)| {
                    (mac(host), ForwardingMember { port: (*port).to_owned(), shared: *shared, peers: None })
                })
                .collect(),
            flood_ports: flood.iter().map(|port| (*port).to_owned()).collect(),
        };
        // a1 and b1 are on eth-a, a2, b2 and the gateway on eth-b.
        let on_a: ForwardingZones = [
            (
                "red".to_owned(),
                zone(1, &[("a1", "p1", false), ("a2", "isl0", false), ("gw", "isl0", true)], &["p1", "isl0"]),
            ),
            (
                "blue".to_owned(),
                zone(2, &[("b1", "p2", false), ("b2", "isl0", false), ("gw", "isl0", true)], &["p2", "isl0"]),
            ),
        ]
        .into();
        let on_b: ForwardingZones = [
            (
                "red".to_owned(),
                zone(
                    1,
                    &[("a1", "isl0", false), ("a2", "p1", false), ("gw", "p9", true)],
                    &["p1", "isl0", "p9"],
                ),
            ),
            (
                "blue".to_owned(),
                zone(
                    2,
                    &[("b1", "isl0", false), ("b2", "p2", false), ("gw", "p9", true)],
                    &["p2", "isl0", "p9"],
                ),
            ),
        ]
        .into();
        self.backend.program_switch("eth-a", &on_a).await.unwrap();
        self.backend.program_switch("eth-b", &on_b).await.unwrap();
    }

    pub(super) async fn state_of(&self, host: &str) -> BootState {
        self.backend.boot_state(self.host(host)).await.unwrap()
    }

    /// Waits until a host is in a state.
    pub(super) async fn wait_for(&self, host: &str, wanted: BootState) {
        let end = Instant::now() + PATIENCE;
        loop {
            let state = self.state_of(host).await;
            if state == wanted {
                return;
            }
            assert!(Instant::now() < end, "{host} is {state:?}, not {wanted:?}: {}", self.story(host));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What a host has to say, for a failing test.
    pub(super) fn story(&self, host: &str) -> String {
        let directory = self.state.path().join("hosts").join(host);
        let logs = [
            "progress",
            "console.log",
            "disk/own/var-log/cloud-init-output.log",
            "disk/own/var-log/init.log",
        ];
        logs.map(|log| {
            format!("\n--- {log}\n{}", std::fs::read_to_string(directory.join(log)).unwrap_or_default())
        })
        .concat()
    }

    /// Switches a host on with a boot medium of these files.
    pub(super) async fn boot(&self, host: &str, instance: &str, user_data: &str, network: &str) {
        let path = self.state.path().join(format!("{host}.tar"));
        std::fs::write(&path, medium(instance, host, user_data, network)).unwrap();
        self.backend.power_on(self.host(host), BootSource::Medium(path.clone())).await.unwrap();
        // The host has read it by now.
        std::fs::remove_file(path).unwrap();
    }

    /// Ends the site and proves that nothing is left.
    pub(super) async fn stop(self) {
        self.backend.stop().await.unwrap();
        assert_eq!(inspect_leftovers(&self.file, self.state.path()), Vec::<String>::new());
    }
}

/// A test that fails leaves nothing behind either.
impl Drop for TestSite {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let backend = self.backend.clone();
            let tidying = std::thread::spawn(move || {
                tokio::runtime::Runtime::new().unwrap().block_on(backend.stop()).unwrap();
            });
            println!("tidied up after the failure: {}", tidying.join().is_ok());
        }
    }
}

/// A NoCloud seed as a tar archive.
pub(super) fn medium(instance: &str, hostname: &str, user_data: &str, network: &str) -> Vec<u8> {
    let meta = format!("instance-id: {instance}\nlocal-hostname: {hostname}\n");
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in
        [("meta-data", meta.as_str()), ("user-data", user_data), ("network-config", network)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// MAC address of a host's (or the gateway's) NIC in the test site.
pub(super) fn mac(of: &str) -> String {
    let number = ["a1", "a2", "b1", "b2", "gw"].iter().position(|name| *name == of).unwrap() + 1;
    format!("02:d5:00:00:00:{number:02x}")
}

/// A network configuration with one fixed address.
pub(super) fn network_config(host: &str, address: &str) -> String {
    format!(
        "version: 2\nethernets:\n  main:\n    match: {{macaddress: '{}'}}\n    addresses: [{address}/16]\n    gateway4: 10.20.0.1\n",
        mac(host)
    )
}

/// Runs `ip` in a namespace.
pub(super) fn ip(namespace: &str, command: &str) -> String {
    let output = Command::new("ip").args(["-n", namespace]).args(command.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "ip -n {namespace} {command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Does something on a thread inside a network namespace.
pub(super) fn inside<T: Send + 'static>(namespace: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let file = std::fs::File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::spawn(move || {
        setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    })
    .join()
    .unwrap()
}

/// Whether a TCP connection from one namespace to a listener in another carries a byte there and back.
pub(super) fn tcp_reaches(from: &str, to: &str, address: &str, deadline: Duration) -> bool {
    let listener = inside(to, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    let port = listener.local_addr().unwrap().port();
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut byte = [0];
        if stream.read_exact(&mut byte).is_ok() {
            stream.write_all(&byte).unwrap();
        }
    });
    let target = SocketAddr::new(address.parse().unwrap(), port);
    let reached = inside(from, move || {
        let mut stream = TcpStream::connect_timeout(&target, deadline).ok()?;
        stream.set_read_timeout(Some(deadline)).ok()?;
        stream.write_all(b"x").ok()?;
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        (byte == *b"x").then_some(())
    });
    if reached.is_none() {
        // Let the echo thread go.
        let own = inside(to, move || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
        assert!(own);
    }
    echo.join().unwrap();
    reached.is_some()
}

/// Sends datagrams to an address from a namespace, come what may.
pub(super) fn send_datagrams(from: &str, to: &str) {
    let to: IpAddr = to.parse().unwrap();
    inside(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        for _ in 0..5 {
            let _ = socket.send_to(b"knock", (to, 9));
        }
    });
}

/// Frames that a namespace's eth0 has received.
pub(super) fn received(namespace: &str) -> u64 {
    let links: serde_json::Value = serde_json::from_str(&ip(namespace, "-s -json link show eth0")).unwrap();
    links[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
}

/// Starts to count the frames that a namespace's eth0 receives from a source address.
pub(super) fn count_frames_from(namespace: &str, source: &str) {
    let hook = "type filter hook ingress device eth0 priority 0";
    let rules = format!(
        "table netdev watch\ndelete table netdev watch\ntable netdev watch {{\nchain c {{\n{hook}\n\
         ether saddr {source} counter\n}}\n}}\n"
    );
    nft(namespace, &["-f", "-"], &rules);
}

/// Frames counted since [`count_frames_from`].
pub(super) fn counted_frames(namespace: &str) -> u64 {
    let rules = nft(namespace, &["list", "table", "netdev", "watch"], "");
    rules.split("counter packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn nft(namespace: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("nsenter")
        .args([&format!("--net=/run/netns/{namespace}"), "nft"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "nft {arguments:?} in {namespace}: {input}");
    String::from_utf8(output.stdout).unwrap()
}
