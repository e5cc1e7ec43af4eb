//! Hosts boot a medium, run units, shut down, boot again from disk, and leave nothing behind.

use std::{
    io::Read,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use drystone_emulator::{
    backend::{Backend, BootSource, BootState},
    netns::inspect_leftovers,
};

use super::site::{PATIENCE, TestSite, cannot_run, inside, network_config, shown_file};

/// A unit that serves a text on port 80.
fn user_data(text: &str) -> String {
    format!(
        "#cloud-config
write_files:
- path: /etc/motd.d/written
  permissions: '0640'
  content: {text}
- path: /etc/systemd/system/serve.service
  content: |
    [Unit]
    Description=Serves a text
    [Service]
    Environment=TEXT={text}
    ExecStart=/usr/local/bin/drystone serve 80 ${{TEXT}}
    Restart=always
    RestartSec=50ms
runcmd:
- [systemctl, enable, --now, serve.service]
- systemctl is-active serve && hostname > /var/lib/name
- [sh, -c, 'echo $$ > /root/pid; ps -e -o pid= | wc -l > /root/processes; exit 3']
"
    )
}

/// What the host's server says, asked from inside its network namespace.
fn ask(site: &TestSite, host: &str, address: &str) -> Option<String> {
    let target: SocketAddr = format!("{address}:80").parse().unwrap();
    inside(&site.namespace(host), move || {
        let mut stream = TcpStream::connect_timeout(&target, Duration::from_secs(1)).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    })
}

async fn wait_for_answer(site: &TestSite, host: &str, address: &str, wanted: &str) {
    let end = Instant::now() + PATIENCE;
    while ask(site, host, address).as_deref() != Some(wanted) {
        assert!(Instant::now() < end, "no {wanted:?} from {host}: {}", site.story(host));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn disk(site: &TestSite, host: &str, path: &str) -> String {
    let file = site.state.path().join("hosts").join(host).join("disk").join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_is_applied_once_and_units_come_back() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    let network = network_config("a1", "10.20.0.11");
    let start = Instant::now();
    let shown = shown_file(site.state.path());
    let looks = format!(
        "- cp {} /var/lib/seen\n- ls {} > /var/lib/listed\n",
        shown.display(),
        site.state.path().display()
    );
    site.boot("a1", "i-1", &format!("{}{looks}", user_data("one")), &network).await;
    println!("power on took {:?}", start.elapsed());
    site.wait_for("a1", BootState::OsRunning).await;
    println!("booted after {:?}", start.elapsed());
    wait_for_answer(&site, "a1", "10.20.0.11", "one").await;
    assert_eq!(disk(&site, "a1", "upper/etc/motd.d/written"), "one");
    assert_eq!(disk(&site, "a1", "upper/var/lib/name"), "a1\n", "systemctl is-active and hostname");
    assert_eq!(disk(&site, "a1", "upper/var/lib/seen"), "shown");
    assert_eq!(
        disk(&site, "a1", "upper/var/lib/listed"),
        "shown.txt\n",
        "what else is in the state directory is hidden"
    );
    assert!(
        disk(&site, "a1", "own/root/pid").trim().parse::<u32>().unwrap() < 200,
        "a PID namespace of its own"
    );
    assert!(
        site.story("a1").contains("command 2: exit code 3"),
        "a failing command is told: {}",
        site.story("a1")
    );
    // Switching on what is on changes nothing.
    site.backend.power_on(site.host("a1"), BootSource::Disk).await.unwrap();
    assert_eq!(ask(&site, "a1", "10.20.0.11").as_deref(), Some("one"));

    // Off, and nothing is left of it but its disk.
    site.backend.power_off(site.host("a1")).await.unwrap();
    assert_eq!(site.state_of("a1").await, BootState::Off);
    let left: Vec<String> = inspect_leftovers(&site.file, site.state.path())
        .into_iter()
        .filter(|line| line.contains("a1") && !line.ends_with("console.log"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    site.backend.power_off(site.host("a1")).await.unwrap();

    // From disk the unit comes back, and the user data do not run again.
    std::fs::remove_file(site.state.path().join("hosts/a1/disk/own/root/pid")).unwrap();
    site.backend.power_on(site.host("a1"), BootSource::Disk).await.unwrap();
    wait_for_answer(&site, "a1", "10.20.0.11", "one").await;
    site.wait_for("a1", BootState::OsRunning).await;
    assert!(!site.state.path().join("hosts/a1/disk/own/root/pid").exists());

    // The same medium again is the same system; another instance is a new one.
    site.backend.power_off(site.host("a1")).await.unwrap();
    site.boot("a1", "i-1", &user_data("ignored"), &network).await;
    wait_for_answer(&site, "a1", "10.20.0.11", "one").await;
    site.backend.power_off(site.host("a1")).await.unwrap();
    site.boot("a1", "i-2", "#cloud-config\nhostname: fresh\n", &network).await;
    site.wait_for("a1", BootState::OsRunning).await;
    assert!(
        !site.state.path().join("hosts/a1/disk/upper/etc/motd.d/written").exists(),
        "a new system has a new disk"
    );
    assert_eq!(ask(&site, "a1", "10.20.0.11"), None);

    // A wiped disk boots nothing.
    let error = site.backend.wipe_disk(site.host("a1")).await.unwrap_err().to_string();
    assert!(error.contains("switch it off first"), "{error}");
    site.backend.power_off(site.host("a1")).await.unwrap();
    site.backend.wipe_disk(site.host("a1")).await.unwrap();
    site.backend.power_on(site.host("a1"), BootSource::Disk).await.unwrap();
    assert_eq!(site.state_of("a1").await, BootState::NoBoot);
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn units_are_supervised_and_stopped() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    let units = "#cloud-config
write_files:
- path: /etc/systemd/system/first.service
  content: |
    [Service]
    ExecStart=/bin/sh -c 'echo started >> /root/first; sleep 1000 & echo $! > /root/child; wait; '
    Restart=on-failure
    RestartSec=10ms
- path: /etc/systemd/system/polite.service
  content: |
    [Service]
    ExecStart=/bin/sh -c 'trap \"echo stopped > /root/polite; exit 0\" TERM; while :; do sleep 0.05; done'
- path: /etc/systemd/system/hopeless.service
  content: |
    [Service]
    ExecStart=/no/such/program
runcmd:
- systemctl start first polite
- 'systemctl start hopeless; echo $? > /root/hopeless'
- 'systemctl start absent 2> /root/absent; echo $? >> /root/absent'
- 'systemctl kill -9 first 2>/root/unsupported'
- 'pkill -9 -o -f \"echo started\" || kill -9 $(pgrep -o -f \"echo started\")'
- 'for i in $(seq 500); do [ $(wc -l < /root/first) -ge 2 ] && break; sleep 0.02; done'
- 'systemctl is-active first > /root/state'
- 'systemctl list-units > /root/list'
";
    site.boot("a1", "i-1", units, &network_config("a1", "10.20.0.11")).await;
    site.wait_for("a1", BootState::OsRunning).await;
    let own = |name: &str| disk(&site, "a1", &format!("own/root/{name}"));
    assert!(own("first").lines().count() >= 2, "it was started again: {}", site.story("a1"));
    assert_eq!(own("state"), "active\n");
    assert_eq!(own("hopeless"), "1\n");
    assert_eq!(own("absent"), "Unit absent.service not found.\n5\n");
    assert!(own("unsupported").contains("not supported"), "{}", own("unsupported"));
    assert!(own("list").contains("hopeless.service") && own("list").contains("failed"), "{}", own("list"));

    site.backend.shut_down(site.host("a1")).await.unwrap();
    site.wait_for("a1", BootState::Off).await;
    assert_eq!(own("polite"), "stopped\n", "units are asked to stop");
    site.backend.shut_down(site.host("a1")).await.unwrap();
    let left: Vec<_> = inspect_leftovers(&site.file, site.state.path());
    assert!(
        !left.iter().any(|line| line.contains(&site.namespace("a1")) || line.starts_with("process")),
        "{left:?}"
    );
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_medium_that_cannot_be_booted_leaves_an_idle_host() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    let good_network = network_config("a1", "10.20.0.11");
    let cases = [
        ("#!/bin/sh\n".to_owned(), good_network.clone(), "must start with the line #cloud-config"),
        (
            "#cloud-config\nwrite_files: [{path: relative}]\n".to_owned(),
            good_network.clone(),
            "write_files[0] (relative)",
        ),
        (String::new(), network_config("b1", "10.20.0.11"), "no interface has the MAC address"),
        ("#cloud-config\nhostname: not a name\n".to_owned(), good_network, "hostname \"not a name\""),
    ];
    for (index, (user_data, network, reason)) in cases.into_iter().enumerate() {
        site.boot("a1", &format!("i-{index}"), &user_data, &network).await;
        site.wait_for("a1", BootState::NoBoot).await;
        assert!(site.story("a1").contains(reason), "{}", site.story("a1"));
        site.backend.power_off(site.host("a1")).await.unwrap();
    }
    let missing = site.state.path().join("nothing.tar");
    site.backend.power_on(site.host("a1"), BootSource::Medium(missing)).await.unwrap();
    site.wait_for("a1", BootState::NoBoot).await;
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_sees_its_own_machine_only() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    std::fs::write(site.state.path().join("secret"), "not for hosts").unwrap();
    let state = site.state.path().display();
    let look = format!(
        "#cloud-config
runcmd:
- 'ls -A {state} > /var/state 2>&1'
- 'cat /proc/self/cgroup > /var/cgroup'
- 'cat /proc/mounts > /var/mounts'
- 'ls /dev > /var/dev'
- 'echo 2 > /proc/sys/vm/overcommit_memory; cat /proc/sys/vm/overcommit_memory > /var/overcommit'
- 'ls -A /root /home > /var/homes'
- 'echo x > /tmp/x && echo y > /run/y && echo z > /dev/shm/z && ls /proc/1/exe > /var/works'
"
    );
    let before = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    site.boot("a1", "i-1", &look, &network_config("a1", "10.20.0.11")).await;
    site.wait_for("a1", BootState::OsRunning).await;
    let seen = |name: &str| disk(&site, "a1", &format!("upper/var/{name}"));
    assert!(!seen("state").contains("secret") && !seen("state").contains("hosts"), "{}", seen("state"));
    for line in seen("cgroup").lines() {
        let path = line.rsplit(':').next().unwrap();
        assert!(matches!(path, "/" | "/init"), "its own cgroup is the root: {line}");
    }
    assert!(!seen("mounts").contains("unified"), "crun would refuse it");
    assert!(seen("dev").contains("null") && !seen("dev").contains("vda"), "{}", seen("dev"));
    assert_eq!(seen("overcommit"), "2\n");
    assert_eq!(
        std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap(),
        before,
        "the machine's is untouched"
    );
    assert_eq!(seen("homes"), "/home:\n\n/root:\n");
    assert!(seen("works").contains("/proc/1/exe"), "{}", site.story("a1"));
    site.stop().await;
}
