//! An SSH server on a host, as a fragment of its user data.
//!
//! It is one of its own beside whatever the image has: own port, own host key, own list of keys that may log in. Its host key is made
//! before the host boots, so that the host is known at the first connection.

use drystone_identity::Secret;

use super::user_data::UserData;

/// Where its files are: apart from all others of Drystone, for whoever clears those away comes by way of this server.
const DIRECTORY: &str = "/etc/drystone-ssh";

/// Name of the unit.
const UNIT: &str = "drystone-ssh";

/// An SSH server (OpenSSH, which the image must have) for root, by key only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshServer {
    /// Port.
    pub port: u16,
    /// The host's private key, in OpenSSH's format.
    pub host_key: Secret,
    /// Public keys that may log in as root.
    pub authorized_keys: Vec<String>,
}

impl SshServer {
    /// Adds the server to a host's user data.
    pub fn add_to(&self, data: &mut UserData) {
        let port = self.port;
        let configuration = format!(
            "Port {port}\nHostKey {DIRECTORY}/host_key\nAuthorizedKeysFile {DIRECTORY}/authorized_keys\nAllowUsers root\n\
             PermitRootLogin prohibit-password\nPubkeyAuthentication yes\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\nPrintMotd no\nUseDNS no\nX11Forwarding no\n\
             AllowTcpForwarding no\nAllowAgentForwarding no\nPidFile none\nMaxStartups 64\n"
        );
        let keys: String = self.authorized_keys.iter().map(|key| format!("{}\n", key.trim())).collect();
        data.file(&format!("{DIRECTORY}/sshd_config"), configuration.as_bytes());
        let host_key = Secret::new(format!("{}\n", self.host_key.expose().trim_end()));
        data.secret_file(&format!("{DIRECTORY}/host_key"), host_key.expose().as_bytes());
        data.secret_file(&format!("{DIRECTORY}/authorized_keys"), keys.as_bytes());
        // The server insists on this folder, which others make for the image's own server.
        let make = ["mkdir", "-p", "-m", "0755", "/run/sshd"].map(str::to_owned);
        data.runcmd.push(make.into());
        data.service_with(
            UNIT,
            "SSH server of Drystone",
            &format!("/usr/sbin/sshd -D -e -f {DIRECTORY}/sshd_config"),
            "RuntimeDirectory=sshd\nRuntimeDirectoryPreserve=yes\nKillMode=process\n",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_for_root_only() {
        let server = SshServer {
            port: 2222,
            host_key: "PRIVATE".into(),
            authorized_keys: vec!["ssh-ed25519 AAAA".into(), " ssh-ed25519 BBBB\n".into()],
        };
        let mut data = UserData::new("rack-01");
        server.add_to(&mut data);
        let modes: Vec<(&str, &str)> =
            data.write_files.iter().map(|file| (file.path.as_str(), file.permissions.as_str())).collect();
        assert_eq!(
            modes,
            [
                ("/etc/drystone-ssh/sshd_config", "0644"),
                ("/etc/drystone-ssh/host_key", "0600"),
                ("/etc/drystone-ssh/authorized_keys", "0600"),
                ("/etc/systemd/system/drystone-ssh.service", "0644"),
            ]
        );
        assert_eq!(data.runcmd[1], ["systemctl", "enable", "--now", "drystone-ssh.service"]);
        assert!(!format!("{server:?}").contains("PRIVATE"));
    }
}
