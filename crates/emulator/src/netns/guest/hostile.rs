//! Boot media and unit settings that mean no good: a host reads them or says why it does not boot.

use std::collections::BTreeMap;

use drystone_agent::network::NetworkConfig;
use drystone_hostile::{bytes, damaged, damaged_text, text};
use proptest::prelude::*;

use super::{cloud_config::CloudConfig, command_line, control, seed, spawn, systemctl, unit_file};

const META_DATA: &str = "instance-id: i-1\nlocal-hostname: c03\nextra: [1]\n";
const USER_DATA: &str = "#cloud-config\nhostname: c03\nwrite_files:\n\
    - {path: /etc/a, content: aGVsbG8=, encoding: b64, permissions: '0600', owner: 'root:adm', append: true}\n\
    - path: /etc/systemd/system/x.service\n  permissions: 0755\n  content: |\n    [Service]\n    ExecStart=/bin/true\n\
    ssh_authorized_keys: [ssh-ed25519 AAAA me]\n\
    runcmd:\n- [systemctl, enable, --now, x.service]\n- echo 'a b' > /c\n- [sleep, 0.5, true]\n";
const NETWORK: &str = "version: 2\nethernets:\n  eth0:\n    match: {macaddress: '02:d5:00:00:00:01'}\n    set-name: eth0\n    mtu: 1450\n\
    \x20   addresses: [10.20.0.11/16, 'fd00::5/64']\n    gateway4: 10.20.0.1\n    routes: [{to: default, via: 10.20.0.1, metric: 5, on-link: true}]\n\
    \x20   nameservers: {addresses: [10.20.0.1], search: [a.example]}\n";
const UNIT: &str = "[Unit]\nAfter=a.service\n[Service]\nType=notify\nExecStartPre=-/bin/a \"b c\" %H\nExecStart=/bin/x --y=$Z \\\n  more\n\
    Restart=on-failure\nRestartSec=500ms\nStartLimitBurst=5\nEnvironment=A=1 \"B=2 3\"\nEnvironmentFile=-/etc/x\nUser=root\n\
    [Install]\nWantedBy=multi-user.target\n";

fn archive() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("./meta-data", META_DATA),
        ("user-data", USER_DATA),
        ("network-config", NETWORK),
        ("vendor-data", "x"),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The archive with a checksum that fits again, so that the damage behind it is reached.
fn with_good_checksums(mut archive: Vec<u8>) -> Vec<u8> {
    for block in archive.chunks_exact_mut(512).filter(|block| block[257..262] == *b"ustar") {
        let outside = |at: &usize| !(148..156).contains(at);
        let sum: u32 =
            (0..512).filter(outside).map(|at| u32::from(block[at])).sum::<u32>() + 8 * u32::from(b' ');
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    archive
}

fn nics() -> BTreeMap<String, String> {
    [("02:d5:00:00:00:01".to_owned(), "nic0".to_owned())].into()
}

proptest! {
    #[test]
    fn any_medium_is_a_seed_or_refused(medium in prop_oneof![
        2 => damaged([archive()]),
        4 => damaged([archive()]).prop_map(with_good_checksums),
        1 => bytes(1600),
    ]) {
        if let Ok(seed) = seed::read(&medium) {
            prop_assert!(!seed.meta_data.instance_id.is_empty());
            prop_assert!(seed.user_data.len() <= medium.len());
        }
    }

    #[test]
    fn any_user_data_are_applied_or_refused(user_data in prop_oneof![4 => damaged_text([USER_DATA]), 1 => text()]) {
        let Ok(config) = CloudConfig::parse(&user_data) else { return Ok(()) };
        let _ = (config.ignored_keys(), config.runcmd.iter().map(super::cloud_config::Command::arguments).count());
        for file in config.files().into_iter().flatten() {
            prop_assert!(file.path.starts_with('/') && !file.path.split('/').any(|part| part == ".."), "{}", file.path);
            prop_assert!(file.mode <= 0o7777);
        }
    }

    /// What is configured becomes lines of a batch of commands: nothing in it may begin a line of its own.
    #[test]
    fn any_network_is_configured_or_refused(network in prop_oneof![6 => damaged_text([NETWORK]), 1 => text()]) {
        let Ok(config) = NetworkConfig::parse(&network) else { return Ok(()) };
        for line in config.commands(&nics()).into_iter().flatten() {
            prop_assert!(!line.contains(['\n', '\r', '\0', ';', '#']), "{line:?}");
        }
        let resolver = config.resolv_conf();
        let known = |line: &str| line.starts_with("nameserver ") || line.starts_with("search ");
        prop_assert!(resolver.lines().all(known), "{resolver:?}");
    }

    #[test]
    fn no_name_begins_a_line_of_its_own(
        id in text(),
        name in text(),
        search in text(),
        to in prop_oneof![9 => Just("default".to_owned()), 1 => text()],
    ) {
        let ethernet = serde_json::json!({"match": {"macaddress": "02:d5:00:00:00:01"}, "set-name": name, "addresses": ["10.20.0.11/16"],
            "routes": [{"to": to, "via": "10.20.0.1"}], "nameservers": {"search": [search]}});
        let network = serde_json::json!({"version": 2, "ethernets": {id: ethernet}}).to_string();
        let Ok(config) = NetworkConfig::parse(&network) else { return Ok(()) };
        let Ok(lines) = config.commands(&nics()) else { return Ok(()) };
        for line in lines {
            prop_assert!(!line.contains(['\n', '\r', '\0', '#']), "{line:?}");
        }
        let resolver = config.resolv_conf();
        prop_assert!(resolver.lines().all(|line| line.starts_with("search ")), "{resolver:?}");
    }

    #[test]
    fn any_unit_is_run_or_refused(unit in damaged_text([UNIT]), environment in damaged_text(["A=1\n B = 2\nC=\"x  y\"\n# c\nD='q'\n"])) {
        let _ = unit_file::parse("x.service", &unit, "c03");
        for (name, _) in spawn::parse_environment(&environment) {
            prop_assert!(!name.contains('='));
        }
        let _ = command_line::split(&unit);
    }

    #[test]
    fn any_call_is_understood_or_refused(
        words in prop::collection::vec(prop_oneof![
            prop::sample::select(vec!["start", "--now", "enable", "x.service", "-q", "status"]).prop_map(str::to_owned),
            text(),
        ], 0..5),
        bytes in damaged([r#"{"verb": "start", "units": ["x.service"], "now": true, "noBlock": false}"#]),
    ) {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(Into::into).collect();
        let _ = systemctl::parse(&words);
        let _ = serde_json::from_slice::<control::Call>(&bytes);
    }
}

/// A file that claims to be sparse and of a size beyond all media.
#[test]
fn a_file_of_holes_is_refused() {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNUSparse);
    header.set_path("meta-data").unwrap();
    header.set_mode(0o600);
    header.set_size(0);
    let gnu = header.as_gnu_mut().unwrap();
    let size = b"77777777777\0";
    gnu.realsize.copy_from_slice(size);
    gnu.sparse[0].offset.copy_from_slice(size);
    gnu.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
    header.set_cksum();
    let mut medium = header.as_bytes().to_vec();
    medium.resize(2048, 0);
    assert!(seed::read(&medium).is_err());
}
