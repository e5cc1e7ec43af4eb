//! The boot medium of a machine, made out of its image and its user data: a pure translation.
//!
//! Of cloud-init's user data (`#cloud-config`), beside what every emulated host honours (`hostname`, `write_files`, `runcmd`): `fqdn`, `users` (`default`, or
//! `name`, `plain_text_passwd`, `passwd`, `lock_passwd`, `ssh_authorized_keys`), `password`, `chpasswd` (`list`, `users`), `ssh_authorized_keys`
//! (of the first user), `ssh_pwauth`, `bootcmd`. A script (`#!`) runs at the first boot. Everybody may become root without a password.

use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::networks::Networks;
use crate::{
    cloud::{bodies::MachineSpec, router},
    site::ImageUser,
};

/// Account of images that name none.
const PRESET_USER: &str = "ubuntu";
/// Where what a machine needs of us is kept in it.
const DIRECTORY: &str = "/etc/drystone-cloud";

/// What user data may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UserData {
    hostname: Option<String>,
    fqdn: Option<String>,
    users: Vec<UserEntry>,
    password: Option<String>,
    chpasswd: Option<ChangePasswords>,
    ssh_authorized_keys: Vec<String>,
    ssh_pwauth: Option<Value>,
    write_files: Vec<Value>,
    bootcmd: Vec<Value>,
    runcmd: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum UserEntry {
    /// `default`: the image's first user.
    Name(#[expect(dead_code, reason = "every name stands for that user")] String),
    Whole(Box<WholeUser>),
}

#[derive(Debug, Deserialize)]
struct WholeUser {
    name: String,
    #[serde(default)]
    plain_text_passwd: Option<String>,
    #[serde(default)]
    passwd: Option<String>,
    #[serde(default, alias = "ssh-authorized-keys")]
    ssh_authorized_keys: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ChangePasswords {
    list: Option<Value>,
    users: Vec<ChangedPassword>,
}

#[derive(Debug, Deserialize)]
struct ChangedPassword {
    name: String,
    password: Option<String>,
}

/// An account as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    password: Option<String>,
    /// As `/etc/shadow` has it.
    hash: Option<String>,
    keys: Vec<String>,
}

/// The archive that a machine boots from.
pub(super) fn archive(machine: &MachineSpec, networks: &Networks) -> Result<Vec<u8>, String> {
    let user_data = format!("#cloud-config\n{}\n", cloud_config(machine)?);
    let meta_data =
        json!({"instance-id": machine.id, "local-hostname": host_name(&machine.name)}).to_string();
    let network = network_config(machine, networks)?;
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in
        [("meta-data", &meta_data), ("user-data", &user_data), ("network-config", &network)]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        let added = builder.append_data(&mut header, name, content.as_bytes());
        added.map_err(|error| format!("boot medium: {error}"))?;
    }
    builder.into_inner().map_err(|error| format!("boot medium: {error}"))
}

/// Addresses of a machine; its first network has the way out.
pub(super) fn network_config(machine: &MachineSpec, networks: &Networks) -> Result<String, String> {
    let mut ethernets = serde_json::Map::new();
    let mut has_gateway = false;
    for (index, nic) in machine.nics.iter().enumerate() {
        let network =
            networks.network(nic.network).ok_or_else(|| format!("there is no network {}", nic.network))?;
        let addresses: Vec<String> =
            nic.addresses.iter().map(|address| format!("{address}/{}", network.cidr.prefix_len())).collect();
        let mut entry = json!({"match": {"macaddress": nic.mac}, "set-name": format!("eth{index}"), "addresses": addresses});
        if let Some(gateway) = router(network.cidr).filter(|_| !has_gateway && !addresses.is_empty()) {
            entry[if gateway.is_ipv4() { "gateway4" } else { "gateway6" }] = json!(gateway);
            has_gateway = true;
        }
        ethernets.insert(format!("eth{index}"), entry);
    }
    Ok(json!({"version": 2, "ethernets": ethernets}).to_string())
}

/// A name that a host can have: letters, digits, dashes and dots, not too many.
fn host_name(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c.to_ascii_lowercase() } else { '-' })
        .take(63)
        .collect();
    let trimmed = plain.trim_matches(['-', '.']);
    if trimmed.is_empty() { "machine".to_owned() } else { trimmed.to_owned() }
}

/// The user data as an emulated host takes them.
fn cloud_config(machine: &MachineSpec) -> Result<Value, String> {
    let text = machine.user_data.as_deref().unwrap_or_default();
    let mut script = None;
    let data = if text.trim().is_empty() {
        UserData::default()
    } else if text.starts_with("#!") {
        script = Some(text);
        UserData::default()
    } else if let Some(body) = text.strip_prefix("#cloud-config") {
        let document: Option<UserData> = serde_saphyr::from_str(body)
            .map_err(|error| format!("user_data: {}", error.without_snippet()))?;
        document.unwrap_or_default()
    } else {
        return Err(
            "user_data must begin with #cloud-config or #!; other forms are not understood".to_owned()
        );
    };
    let accounts = accounts(machine, &data);
    let passwords = data.ssh_pwauth.as_ref().is_none_or(|value| !matches!(value, Value::Bool(false)));
    let mut files = vec![
        file(&format!("{DIRECTORY}/sshd_config"), &sshd_config(passwords), "0644"),
        file("/etc/systemd/system/ssh.service", SSH_UNIT, "0644"),
        file("/etc/systemd/system/fstab.service", FSTAB_UNIT, "0644"),
        file("/etc/fstab", "", "0644"),
        file(&format!("{DIRECTORY}/first-boot"), &first_boot(&accounts), "0700"),
    ];
    files.extend(data.write_files);
    let mut commands = data.bootcmd;
    commands.push(json!([format!("{DIRECTORY}/first-boot")]));
    commands.push(json!(["systemctl", "enable", "--now", "ssh.service"]));
    commands.push(json!(["systemctl", "enable", "fstab.service"]));
    if let Some(script) = script {
        let at = "/var/lib/cloud/user-data-script";
        files.push(file(at, script, "0700"));
        commands.push(json!([at]));
    }
    commands.extend(data.runcmd);
    let named = data.hostname.or(data.fqdn).unwrap_or_else(|| machine.name.clone());
    Ok(json!({"hostname": host_name(&named), "write_files": files, "runcmd": commands}))
}

fn file(path: &str, content: &str, permissions: &str) -> Value {
    let content = base64::engine::general_purpose::STANDARD.encode(content);
    json!({"path": path, "content": content, "encoding": "b64", "permissions": permissions, "owner": "root:root"})
}

/// The accounts of a machine, the image's first.
fn accounts(machine: &MachineSpec, data: &UserData) -> Vec<Account> {
    let of_image = machine.image.as_ref().map(|image| image.users.as_slice()).unwrap_or_default();
    let mut accounts: Vec<Account> = of_image.iter().map(account).collect();
    if accounts.is_empty() {
        let preset =
            ImageUser { name: PRESET_USER.to_owned(), password: None, ssh_authorized_keys: Vec::new() };
        accounts.push(account(&preset));
    }
    for entry in &data.users {
        // The default user is there already.
        let UserEntry::Whole(user) = entry else { continue };
        let at = find(&mut accounts, &user.name);
        at.password = user.plain_text_passwd.clone().or_else(|| at.password.take());
        at.hash = user.passwd.clone().or_else(|| at.hash.take());
        at.keys.extend(user.ssh_authorized_keys.iter().cloned());
    }
    if let Some(first) = accounts.first_mut() {
        first.keys.extend(data.ssh_authorized_keys.iter().cloned());
        first.password = data
            .password
            .clone()
            .or_else(|| machine.admin_password.clone())
            .or_else(|| first.password.take());
    }
    for (name, password) in changed(data.chpasswd.as_ref()) {
        find(&mut accounts, &name).password = Some(password);
    }
    accounts.retain(|account| is_plain(&account.name));
    accounts
}

fn account(user: &ImageUser) -> Account {
    Account {
        name: user.name.clone(),
        password: user.password.clone(),
        hash: None,
        keys: user.ssh_authorized_keys.clone(),
    }
}

fn find<'a>(accounts: &'a mut Vec<Account>, name: &str) -> &'a mut Account {
    let at = accounts.iter().position(|account| account.name == name).unwrap_or_else(|| {
        accounts.push(Account { name: name.to_owned(), password: None, hash: None, keys: Vec::new() });
        accounts.len() - 1
    });
    &mut accounts[at]
}

/// Names with passwords that are set: a list of `NAME:PASSWORD`, as a list or as lines, or entries.
fn changed(changes: Option<&ChangePasswords>) -> Vec<(String, String)> {
    let Some(changes) = changes else { return Vec::new() };
    let lines: Vec<String> = match &changes.list {
        Some(Value::String(text)) => text.lines().map(str::to_owned).collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let split = lines.iter().filter_map(|line| line.trim().split_once(':'));
    let listed = split.map(|(name, password)| (name.to_owned(), password.to_owned()));
    let entries = changes.users.iter().filter_map(|user| Some((user.name.clone(), user.password.clone()?)));
    listed.chain(entries).collect()
}

/// Whether a name can be one of a user, and stand in a script.
fn is_plain(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'))
}

fn sshd_config(passwords: bool) -> String {
    let passwords = if passwords { "yes" } else { "no" };
    format!(
        "Port 22
HostKey /etc/ssh/ssh_host_ed25519_key
HostKey /etc/ssh/ssh_host_ecdsa_key
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
MaxStartups 100
MaxSessions 100
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"
    )
}

const SSH_UNIT: &str = "[Unit]
Description=OpenSSH server
[Service]
ExecStartPre=/bin/mkdir -p -m 0755 /run/sshd
ExecStart=/usr/sbin/sshd -D -e -f /etc/drystone-cloud/sshd_config
Restart=on-failure
RestartSec=500ms
KillMode=process
[Install]
WantedBy=multi-user.target
";

const FSTAB_UNIT: &str = "[Unit]
Description=What is in fstab
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/mount -a
[Install]
WantedBy=multi-user.target
";

/// The script of the first boot: accounts and host keys. Secrets are in it, and nowhere on a command line; it removes itself.
fn first_boot(accounts: &[Account]) -> String {
    let mut script = "#!/bin/sh\nset -u\nrm -f /etc/ssh/ssh_host_*\nssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key\n\
        ssh-keygen -q -t ecdsa -N '' -f /etc/ssh/ssh_host_ecdsa_key\nmkdir -p /etc/sudoers.d\n"
        .to_owned();
    for account in accounts {
        let name = &account.name;
        let home = if name == "root" { "/root".to_owned() } else { format!("/home/{name}") };
        if name != "root" {
            script.push_str(&format!(
                "id {name} >/dev/null 2>&1 || useradd --create-home --shell /bin/bash {name}\nmkdir -p {home} && chown {name}: {home}\n\
                 echo '{name} ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/{name} && chmod 0440 /etc/sudoers.d/{name}\n"
            ));
        }
        // A locked account lets nobody in, by a key neither.
        let stated = account.hash.as_deref().unwrap_or("*");
        script.push_str(&here(&format!("{name}:{stated}"), "chpasswd -e"));
        if let Some(password) =
            account.password.as_deref().filter(|password| !password.contains(['\n', '\r']))
        {
            script.push_str(&here(&format!("{name}:{password}"), "chpasswd -c SHA512"));
        }
        if !account.keys.is_empty() {
            let keys: Vec<&str> =
                account.keys.iter().map(|key| key.trim()).filter(|key| !key.contains('\n')).collect();
            script.push_str(&format!("mkdir -p -m 0700 {home}/.ssh\n"));
            script.push_str(&here(&keys.join("\n"), &format!("cat > {home}/.ssh/authorized_keys")));
            script.push_str(&format!(
                "chmod 0600 {home}/.ssh/authorized_keys && chown -R {name}: {home}/.ssh\n"
            ));
        }
    }
    script.push_str("rm -f \"$0\"\n");
    script
}

/// A command with a text on its standard input; the text is encoded, so that nothing in it means anything to the shell.
fn here(text: &str, command: &str) -> String {
    let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{text}\n"));
    format!("base64 -d <<'END' | {command}\n{encoded}\nEND\n")
}

#[cfg(test)]
mod tests {
    use drystone_hostile::{damaged_text, text};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn machine(user_data: &str) -> MachineSpec {
        MachineSpec {
            id: Uuid::from_u128(7),
            name: "VDU_1 master".to_owned(),
            image: None,
            nics: Vec::new(),
            volumes: Vec::new(),
            user_data: (!user_data.is_empty()).then(|| user_data.to_owned()),
            admin_password: Some("given".to_owned()),
            memory_mib: 1024,
            cores: 1,
        }
    }

    fn accounts_of(user_data: &str) -> Vec<Account> {
        let machine = machine(user_data);
        let body = user_data.strip_prefix("#cloud-config").unwrap_or_default();
        accounts(&machine, &serde_saphyr::from_str(body).unwrap())
    }

    #[test]
    fn passwords_and_keys_are_those_that_are_stated() {
        let found = accounts_of(
            "#cloud-config
password: secret
ssh_authorized_keys: [ssh-ed25519 A]
users: [default, {name: nfv, plain_text_passwd: 'a:b', ssh_authorized_keys: [ssh-ed25519 B]}, {name: 'bad;name', passwd: x}]
chpasswd: {expire: false, list: [\"nfv:newer\"]}
",
        );
        let account = |name: &str, password: &str, key: &str| Account {
            name: name.to_owned(),
            password: Some(password.to_owned()),
            hash: None,
            keys: vec![key.to_owned()],
        };
        assert_eq!(
            found,
            [account("ubuntu", "secret", "ssh-ed25519 A"), account("nfv", "newer", "ssh-ed25519 B")]
        );
        assert_eq!(accounts_of("#cloud-config\n{}")[0].password.as_deref(), Some("given"));
    }

    #[test]
    fn a_host_takes_what_is_made() {
        let config = cloud_config(&machine("#!/bin/sh\necho hello\n")).unwrap();
        assert_eq!(config["hostname"], "vdu-1-master");
        let commands: Vec<String> =
            config["runcmd"].as_array().unwrap().iter().map(Value::to_string).collect();
        assert_eq!(commands.last().unwrap(), "[\"/var/lib/cloud/user-data-script\"]");
        let script = first_boot(&[Account {
            name: "root".into(),
            password: Some("'; rm -rf / #".into()),
            hash: None,
            keys: Vec::new(),
        }]);
        assert!(!script.contains("rm -rf"), "{script}");
        assert!(
            cloud_config(&machine("Content-Type: multipart/mixed")).unwrap_err().contains("#cloud-config")
        );
    }

    proptest! {
        #[test]
        fn any_user_data_are_taken_or_refused(data in prop_oneof![
            damaged_text(["#cloud-config\npassword: x\nusers: [default, {name: a}]\nchpasswd: {list: 'a:b'}\nruncmd: [ls, [ls, -l]]\n", "#!/bin/sh\nls\n"]),
            text(),
        ]) {
            if let Ok(config) = cloud_config(&machine(&data)) {
                prop_assert!(config["hostname"].as_str().is_some_and(|name| !name.is_empty()));
            }
        }
    }
}
