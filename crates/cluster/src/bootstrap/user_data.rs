//! cloud-init user data: the part of cloud-config that Drystone's hosts are booted with.
//! Source: cloud-init's documentation of `#cloud-config` (modules `set_hostname`, `write_files`, `runcmd`).

use serde::Serialize;

/// A file to be written at first boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WriteFile {
    /// Absolute path; parent directories are made.
    pub path: String,
    /// Content, base64.
    pub content: String,
    /// Always `b64`.
    pub encoding: &'static str,
    /// Mode in octal.
    pub permissions: String,
}

/// User data of one host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserData {
    /// Host name.
    pub hostname: String,
    /// Files.
    pub write_files: Vec<WriteFile>,
    /// Commands, each as an argument vector, in order.
    pub runcmd: Vec<Vec<String>>,
}

impl UserData {
    /// For a host of this name.
    pub fn new(hostname: &str) -> Self {
        Self { hostname: hostname.to_owned(), ..Self::default() }
    }

    /// Adds a file that anybody may read.
    pub fn file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.write(path, content, "0644")
    }

    /// Adds a file that only root may read.
    pub fn secret_file(&mut self, path: &str, content: &[u8]) -> &mut Self {
        self.write(path, content, "0600")
    }

    fn write(&mut self, path: &str, content: &[u8], permissions: &str) -> &mut Self {
        use base64::Engine as _;
        self.write_files.push(WriteFile {
            path: path.to_owned(),
            content: base64::engine::general_purpose::STANDARD.encode(content),
            encoding: "b64",
            permissions: permissions.to_owned(),
        });
        self
    }

    /// Adds a systemd service that runs `command` and is restarted when it ends, and starts it.
    pub fn service(&mut self, name: &str, description: &str, command: &str) -> &mut Self {
        self.service_with(name, description, command, "")
    }

    /// The same with further lines in its `[Service]` section.
    pub fn service_with(&mut self, name: &str, description: &str, command: &str, lines: &str) -> &mut Self {
        let unit = format!(
            "[Unit]\nDescription={description}\nWants=network-online.target\nAfter=network-online.target\n\
             StartLimitIntervalSec=0\n\n\
             [Service]\nExecStart={command}\nRestart=always\nRestartSec=1\n{lines}\n[Install]\nWantedBy=multi-user.target\n"
        );
        self.file(&format!("/etc/systemd/system/{name}.service"), unit.as_bytes());
        let start = ["systemctl", "enable", "--now", &format!("{name}.service")].map(str::to_owned);
        self.runcmd.push(start.into());
        self
    }

    /// The document, `#cloud-config` line included. JSON is YAML, and needs no quoting rules of its own.
    pub fn render(&self) -> Result<String, serde_json::Error> {
        Ok(format!("#cloud-config\n{}\n", serde_json::to_string_pretty(self)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_cloud_config() {
        let mut data = UserData::new("rack-01");
        data.secret_file("/etc/drystone/pki/ca.key", b"key").service(
            "drystone-node",
            "Node",
            "/usr/local/bin/drystone node",
        );
        let text = data.render().expect("plain data");
        assert!(text.starts_with("#cloud-config\n{"));
        let document: serde_json::Value =
            serde_json::from_str(&text["#cloud-config\n".len()..]).expect("JSON");
        assert_eq!(document["write_files"][0]["permissions"], "0600");
        assert_eq!(document["write_files"][0]["content"], "a2V5");
        assert_eq!(document["runcmd"][0][3], "drystone-node.service");
        assert_eq!(document["write_files"][1]["path"], "/etc/systemd/system/drystone-node.service");
    }
}
