//! Answers of hosts: good ones, broken ones, hostile ones.

use drystone_api::PackageManager;
use proptest::prelude::*;

use super::*;

const DEBIAN: &str = "Last login: yesterday
@@ os-release
PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"
NAME=\"Debian GNU/Linux\"

@@ kernel
6.1.0-18-amd64
x86_64
@@ boot
6d3b8e51-5f0e-4c1a-9c67-6f7ea3a0a0aa
@@ architecture
amd64
@@ dpkg
ii \thello\t1.0\tall
hi \tlibc6\t2.36-9+deb12u4\tamd64
ii \tlibc6\t2.36-9+deb12u4\ti386
rc \told\t0.9\tamd64
iF \tbroken\t2:1.0\tamd64
iHR\treinst\t1\tall
un \tnever\t\t
@@ images
REF                         TYPE                                       DIGEST                                                                  SIZE     PLATFORMS   LABELS
registry.example.org/app:1  application/vnd.oci.image.manifest.v1+json sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1.0 MiB  linux/amd64 -
sha256:bbbb                 application/vnd.oci.image.manifest.v1+json sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 1.0 MiB  linux/amd64 -
@@ reboot-required
@@ files
cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc  /etc/a file
@@ end
";

#[test]
fn a_debian_host() {
    let read = parse(DEBIAN).expect("good");
    assert_eq!(read.operating_system, "Debian GNU/Linux 12 (bookworm)");
    assert_eq!((read.kernel.as_str(), read.architecture.as_str()), ("6.1.0-18-amd64", "x86_64"));
    assert_eq!(read.manager, PackageManager::Debian);
    let packages: Vec<(&str, &str)> =
        read.packages.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    let libc = "2.36-9+deb12u4";
    assert_eq!(packages, [("hello", "1.0"), ("libc6", libc), ("libc6:i386", libc)]);
    assert_eq!(read.broken.keys().collect::<Vec<_>>(), ["broken", "reinst"]);
    assert_eq!(read.held, ["libc6"]);
    assert_eq!(read.images.keys().collect::<Vec<_>>(), ["registry.example.org/app:1"]);
    assert_eq!(read.files["/etc/a file"], format!("sha256:{}", "c".repeat(64)));
    assert!(read.reboot_required);
}

#[test]
fn an_rpm_host() {
    let answer = "@@ os-release\nPRETTY_NAME='Rocky Linux 9.5'\n@@ kernel\n5.14\nx86_64\n@@ rpm\n\
                  kernel\t0\t5.14.0-427.el9\tx86_64\nkernel\t0\t5.14.0-503.el9\tx86_64\n\
                  openssl\t1\t3.2.2-6.el9\tx86_64\ngpg-pubkey\t0\t1-1\t(none)\n@@ versionlock\nopenssl-1:3.2.2-6.el9.*\n@@ end\n";
    let read = parse(answer).expect("good");
    assert_eq!(read.manager, PackageManager::Rpm);
    assert_eq!(read.packages["kernel"], "5.14.0-503.el9");
    assert_eq!(read.packages["openssl"], "1:3.2.2-6.el9");
    assert_eq!((read.packages.len(), read.held.as_slice()), (2, ["openssl".to_owned()].as_slice()));
}

#[test]
fn what_is_broken_is_refused_with_a_reason() {
    let cut = &DEBIAN[..DEBIAN.find("@@ end").expect("there")];
    assert!(matches!(parse(cut), Err(InventoryError::Incomplete(_))));
    let error = parse(&DEBIAN.replace("ii \thello\t1.0\tall", "ii hello 1.0")).expect_err("no tabs");
    assert!(error.to_string().contains("line 14") && error.to_string().contains("ii hello"), "{error}");
    assert!(matches!(parse(&"x".repeat(9 << 20)), Err(InventoryError::TooLarge(_))));
}

#[test]
fn paths_reach_the_shell_as_they_are() {
    assert_eq!(quote("/etc/it's; rm -rf /"), r"'/etc/it'\''s; rm -rf /'");
    assert!(script(["/etc/a b"]).contains("if [ -f '/etc/a b' ]; then sha256sum -- '/etc/a b'; fi"));
}

proptest! {
    #[test]
    fn damaged_answers_are_read_or_refused(damaged in drystone_hostile::damaged([DEBIAN])) {
        let _ = parse(&String::from_utf8_lossy(&damaged));
    }

    #[test]
    fn any_text_is_read_or_refused(text in drystone_hostile::text()) {
        let _ = parse(&format!("@@ dpkg\n{text}\n@@ rpm\n{text}\n@@ files\n{text}\n@@ images\n{text}\n@@ end"));
    }
}
