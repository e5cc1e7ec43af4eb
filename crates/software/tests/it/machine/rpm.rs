//! A host whose packages are rpm's: its database is a real one, in its own layer, and there is neither dpkg nor dnf.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use drystone_api::{HostSoftware, PackageManager, RolloutPhase, SYSTEM_NAMESPACE};
use drystone_ssh::PrivateKey;
use kube::Api;
use serde_json::json;

use drystone_loopback::free_port;

use super::{Host, PACKAGE, Shop, can_run, controlled, declare, spec, why};
use crate::stage::Stage;

/// Makes the host one of rpm's: what its shell is for packages, a package says.
const PREPARE: &str = "rm -f /usr/bin/dpkg-query /usr/bin/dpkg /usr/bin/dnf; rpm -U /drystone/base.rpm";

/// A package of rpm. What is before its installation runs on the host.
fn package(name: &str, version: &str, provides: &str, before: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("a folder");
    let before = if before.is_empty() { String::new() } else { format!("%pre\n{before}\n") };
    let provides = if provides.is_empty() { String::new() } else { format!("Provides: {provides}\n") };
    let text = format!(
        "Name: {name}\nVersion: {version}\nRelease: 1\nSummary: says hello\nLicense: none\nBuildArch: noarch\n{provides}%description\nsays hello\n\
         %install\nmkdir -p %{{buildroot}}/usr/share/{name}\necho {version} > %{{buildroot}}/usr/share/{name}/hello\n{before}%files\n/usr/share/{name}/hello\n"
    );
    let file = folder.path().join("package.spec");
    std::fs::write(&file, text).expect("written");
    let built = Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--define", &format!("_topdir {}", folder.path().join("top").display())])
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("rpmbuild");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let made = folder.path().join(format!("top/RPMS/noarch/{name}-{version}-1.noarch.rpm"));
    std::fs::read(made).expect("made")
}

fn version(host: &Host) -> String {
    host.run(&format!("rpm -q --qf '%{{VERSION}}-%{{RELEASE}}' {PACKAGE} 2>/dev/null"))
}

fn has_rpm() -> bool {
    let there = ["/usr/bin/rpm", "/usr/bin/rpmbuild"].into_iter().all(|program| Path::new(program).exists());
    if !there {
        println!("skipped: needs rpm and rpmbuild");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
    }
    there
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packages_of_rpm_come_to_hosts_and_what_fails_is_taken_back() {
    if !can_run() || !has_rpm() {
        return;
    }
    let (port, key) = (free_port(), PrivateKey::generate().expect("made"));
    let base = package("drystone-test-base", "1.0", "/bin/sh", "");
    let host = Host::prepared(port, &key, &[("base.rpm", &base)], PREPARE);
    let shop = Shop::open(vec![
        ("one", package(PACKAGE, "1.0", "", "exit 0")),
        ("two", package(PACKAGE, "1.10", "", "exit 0")),
        ("bad", package(PACKAGE, "1.11", "", "echo it does not work >&2; exit 1")),
    ])
    .await;
    let (stage, folder) = (Stage::start().await, tempfile::tempdir().expect("a folder"));
    declare(&stage, &[&host], &key, false).await;
    let _control = controlled(&stage, folder.path());
    stage.set("base", spec(&shop, port, "1.0-1", "one")).await;
    stage.set_is("base", "Current").await;
    assert_eq!(version(&host), "1.0-1");
    let software: Api<HostSoftware> = Api::namespaced(stage.client.clone(), SYSTEM_NAMESPACE);
    let known = software.get("h0").await.expect("there").status.expect("has one");
    assert_eq!(known.package_manager, PackageManager::Rpm, "{known:?}");
    assert_eq!(known.packages[PACKAGE], "1.0-1", "{known:?}");

    // By the order of characters it would be no newer one than 1.9.
    stage.change("base", json!({"packages": shop.packages("1.10-1", "two")})).await;
    stage.set_is("base", "Current").await;
    assert_eq!(version(&host), "1.10-1");

    stage.change("base", json!({"packages": shop.packages("1.11-1", "bad")})).await;
    stage.set_is("base", "RolloutFailed").await;
    assert_eq!(version(&host), "1.10-1", "returned: {}", why(&stage).await);
    let failed = stage.rollouts().await.into_iter().filter_map(|rollout| rollout.status);
    assert_eq!(failed.filter(|status| status.phase == RolloutPhase::Failed).count(), 1);
}
