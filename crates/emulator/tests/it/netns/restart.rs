//! The emulator may be killed: a new one finds the site as it is.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use drystone_emulator::{
    backend::{Backend, BootSource, BootState},
    netns::inspect_leftovers,
};

use super::site::{
    PATIENCE, SITE, TestSite, backend, cannot_run, gateway_config, medium, network_config, site_file,
    tcp_reaches,
};

fn progress(site: &TestSite) -> serde_json::Value {
    let path: PathBuf = site.state.path().join("hosts/a1/progress");
    serde_json::from_str(std::fs::read_to_string(path).unwrap().lines().last().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_backend_finds_running_hosts() {
    if cannot_run() {
        return;
    }
    let mut site = TestSite::start().await;
    site.zone_off().await;
    site.boot("a1", "i-1", "", &network_config("a1", "10.20.0.11")).await;
    site.boot("b1", "i-2", "", &network_config("b1", "10.20.0.21")).await;
    site.cable_up(&[("a2", "10.20.0.12")]).await;
    site.wait_for("a1", BootState::OsRunning).await;
    site.wait_for("b1", BootState::OsRunning).await;
    let [a1, a2] = ["a1", "a2"].map(|host| site.namespace(host));
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE));
    let before = progress(&site);

    site.restart().await;
    assert_eq!(progress(&site), before, "the same process");
    assert_eq!(site.state_of("a1").await, BootState::OsRunning);
    assert_eq!(site.state_of("a2").await, BootState::NoBoot);
    assert_eq!(site.state_of("b2").await, BootState::Off);
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE), "switches forward as before");

    // A host that shuts down under the new backend, and one that ended while there was none.
    site.backend.shut_down(site.host("a1")).await.unwrap();
    site.wait_for("a1", BootState::Off).await;
    let init = serde_json::from_str::<serde_json::Value>(
        std::fs::read_to_string(site.state.path().join("hosts/b1/progress")).unwrap().lines().last().unwrap(),
    )
    .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(init["init"]["pid"].as_i64().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    site.restart().await;
    site.wait_for("b1", BootState::Off).await;
    let left = inspect_leftovers(&site.file, site.state.path());
    for host in ["a1", "b1"] {
        assert!(!left.contains(&format!("network namespace {}", site.namespace(host))), "{left:?}");
    }
    site.stop().await;
}

/// Set for the process that plays the emulator: state directory and site name.
const EMULATOR: &str = "TEST_EMULATOR_TO_BE_KILLED";

/// Plays an emulator that switches a host on and is then killed; see [`hosts_outlive_a_killed_emulator`].
#[tokio::test(flavor = "multi_thread")]
async fn emulator_to_be_killed() {
    let Ok(role) = std::env::var(EMULATOR) else { return };
    let (state, name) = role.split_once(' ').unwrap();
    let file = site_file(SITE, name);
    let emulator = backend(state.as_ref());
    emulator.start(&file, &gateway_config("127.0.0.1:9".parse().unwrap())).await.unwrap();
    let path = std::path::Path::new(state).join("a1.tar");
    std::fs::write(&path, medium("i-1", "a1", "", &network_config("a1", "10.20.0.11"))).unwrap();
    emulator.power_on(file.host("a1").unwrap(), BootSource::Medium(path)).await.unwrap();
    println!("host is on");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_outlive_a_killed_emulator() {
    if cannot_run() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let name = format!("k{}", std::process::id());
    let mut emulator = Command::new(std::env::current_exe().unwrap())
        .args(["netns::restart::emulator_to_be_killed", "--exact", "--nocapture"])
        .env(EMULATOR, format!("{} {name}", state.path().display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(emulator.stdout.take().unwrap()).lines();
    let on = lines.map_while(Result::ok).any(|line| line.contains("host is on"));
    emulator.kill().unwrap();
    emulator.wait().unwrap();
    let site = TestSite::open(state, site_file(SITE, &name)).await;
    assert!(on, "the emulator got as far as that");
    site.wait_for("a1", BootState::OsRunning).await;
    site.zone_off().await;
    site.cable_up(&[("a2", "10.20.0.12")]).await;
    let [a1, a2] = ["a1", "a2"].map(|host| site.namespace(host));
    assert!(tcp_reaches(&a2, &a1, "10.20.0.11", PATIENCE));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_start_is_carried_on() {
    if cannot_run() {
        return;
    }
    let interruptions = [1, 10, 25, 50, 75, 100, 150, 200, 300, 400].map(Duration::from_millis);
    let site = TestSite::start_with(SITE, &interruptions).await;
    site.zone_off().await;
    // Switching on is interrupted too.
    for patience in [1, 5, 10, 20, 40, 80].map(Duration::from_millis) {
        let path = site.state.path().join("medium.tar");
        std::fs::write(&path, medium("i-1", "a1", "", &network_config("a1", "10.20.0.11"))).unwrap();
        let boot = site.backend.power_on(site.host("a1"), BootSource::Medium(path));
        if tokio::time::timeout(patience, boot).await.is_err() {
            site.backend.power_off(site.host("a1")).await.unwrap();
        }
    }
    site.backend.power_off(site.host("a1")).await.unwrap();
    site.boot("a1", "i-1", "", &network_config("a1", "10.20.0.11")).await;
    site.wait_for("a1", BootState::OsRunning).await;
    site.cable_up(&[("a2", "10.20.0.12")]).await;
    let [a1, a2] = ["a1", "a2"].map(|host| site.namespace(host));
    assert!(tcp_reaches(&a1, &a2, "10.20.0.12", PATIENCE));
    assert!(tcp_reaches(&site.own_namespace("campus.laptop"), &a1, "10.20.0.11", PATIENCE));
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_emulators_do_not_share_a_site() {
    if cannot_run() {
        return;
    }
    let site = TestSite::start().await;
    let config = || gateway_config("127.0.0.1:9".parse().unwrap());
    let other = tempfile::tempdir().unwrap();
    let error = backend(other.path()).start(&site.file, &config()).await.unwrap_err().to_string();
    assert!(error.contains(&site.state.path().canonicalize().unwrap().display().to_string()), "{error}");

    // But what an emulator left whose directory is gone may be taken over.
    let file = site.file.clone();
    drop(site);
    let heir = backend(other.path());
    heir.start(&file, &config()).await.unwrap();
    heir.stop().await.unwrap();
    assert_eq!(inspect_leftovers(&file, other.path()), Vec::<String>::new());
}
