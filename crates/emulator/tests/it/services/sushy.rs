//! The Python library that Ironic speaks Redfish with, against a BMC.

use std::process::Command;

use super::site::{SITE, TestSite, image_server};

const SCRIPT: &str = r#"
import sys, time
import sushy
url, user, password, image = sys.argv[1:5]
for auth in (sushy.auth.SessionAuth(user, password), sushy.auth.BasicAuth(user, password)):
    root = sushy.Sushy(url, auth=auth, verify=False)
    system = root.get_system_collection().get_members()[0]
    assert len(system.processors.get_members()) == 4, system.processors.get_members()
    assert system.memory_summary.size_gib == 512, system.memory_summary
    macs = sorted(system.ethernet_interfaces.summary)
    assert len(macs) == 2 and all(mac.startswith("02:d5:") for mac in macs), macs
    assert sorted(system.storage.drives_sizes_bytes) == [960 << 30, 4000 << 30]
manager = root.get_manager_collection().get_members()[0]
cd = manager.virtual_media.get_members()[0]
cd.insert_media(image)
cd.refresh()
assert cd.inserted and cd.image == image, cd.image
system.set_system_boot_options(target=sushy.BOOT_SOURCE_TARGET_CD, enabled=sushy.BOOT_SOURCE_ENABLED_ONCE)
system.reset_system(sushy.RESET_ON)
for _ in range(1800):
    system.refresh(force=True)
    if system.power_state == sushy.POWER_STATE_ON and system.boot_progress.last_state == sushy.BootProgressStates.OS_RUNNING:
        break
    time.sleep(0.1)
else:
    raise SystemExit("the host does not run: %s" % system.boot_progress)
assert system.boot.enabled == sushy.BOOT_SOURCE_ENABLED_DISABLED, system.boot
cd.eject_media()
system.reset_system(sushy.RESET_FORCE_OFF)
for _ in range(1800):
    system.refresh(force=True)
    if system.power_state == sushy.POWER_STATE_OFF:
        break
    time.sleep(0.1)
else:
    raise SystemExit("the host stays on")
print("sushy", "is content")
"#;

/// A Python that has sushy: in a virtual environment kept beside the build's output.
fn python_with_sushy() -> Result<std::path::PathBuf, String> {
    let environment = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sushy");
    let python = environment.join("bin/python3");
    let works = |python: &std::path::Path| {
        Command::new(python).args(["-c", "import sushy"]).output().is_ok_and(|output| output.status.success())
    };
    if works(&python) {
        return Ok(python);
    }
    let run = |command: &mut Command| match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            Err(String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or("failed").to_owned())
        }
        Err(error) => Err(error.to_string()),
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries",
        "1",
        "--timeout",
        "20",
        "sushy",
    ]))?;
    if works(&python) { Ok(python) } else { Err("sushy does not load".to_owned()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn sushy_inspects_boots_and_switches_off_a_host() {
    let python = match tokio::task::spawn_blocking(python_with_sushy).await.unwrap() {
        Ok(python) => python,
        Err(reason) => {
            println!("skipped: no Python with sushy: {reason}");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        }
    };
    let site = TestSite::start(SITE).await;
    let service = site.bmc_service("c1").clone();
    let image = image_server().await;
    let output = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(python);
        command.env_remove("REQUESTS_CA_BUNDLE").env_remove("CURL_CA_BUNDLE").env("NO_PROXY", "127.0.0.1");
        command.args(["-c", SCRIPT, &service.url, &service.user, &service.password, &image]).output().unwrap()
    });
    let output = output.await.unwrap();
    let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("is content"), "{said}{wrong}");
}
