//! containerd inside an emulated host: runc and crun run a container.

use std::process::Command;

use drystone_emulator::backend::BootState;
use sha2::{Digest, Sha256};

use super::site::{TestSite, cannot_run, network_config, which};

/// A static program, compiled here and now: prints a greeting with its PID, its hostname and its cgroups.
const PROGRAM: &str = r#"
fn main() {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    println!("greetings from PID {}", std::process::id());
    println!("{}", read("/proc/self/cgroup"));
}
"#;

fn static_program(directory: &std::path::Path) -> Option<Vec<u8>> {
    let source = directory.join("greet.rs");
    std::fs::write(&source, PROGRAM).unwrap();
    let program = directory.join("greet");
    let compiled = Command::new("rustc")
        .args(["-O", "-C", "target-feature=+crt-static", "-o"])
        .args([&program, &source])
        .status()
        .ok()?;
    compiled.success().then(|| std::fs::read(program).unwrap())
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn archive(files: &[(String, &[u8], u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An OCI image layout with one layer that holds the program.
fn image(program: &[u8]) -> Vec<u8> {
    let layer = archive(&[("greet".to_owned(), program, 0o755)]);
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))]},
    })
    .to_string();
    let descriptor = |kind: &str, bytes: &[u8]| serde_json::json!({"mediaType": kind, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len()});
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "config": descriptor("application/vnd.oci.image.config.v1+json", config.as_bytes()),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    })
    .to_string();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    entry["annotations"] = serde_json::json!({"io.containerd.image.name": "localhost/greet:1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]}).to_string();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
    archive(&[
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion": "1.0.0"}"#, 0o644),
        ("index.json".to_owned(), index.as_bytes(), 0o644),
        (blob(&layer), &layer, 0o644),
        (blob(config.as_bytes()), config.as_bytes(), 0o644),
        (blob(manifest.as_bytes()), manifest.as_bytes(), 0o644),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_run_inside_a_host() {
    if cannot_run() {
        return;
    }
    let runtimes: Vec<&str> =
        ["runc", "crun"].into_iter().filter(|runtime| which(runtime).is_some()).collect();
    if which("containerd").is_none() || which("ctr").is_none() || runtimes.is_empty() {
        println!("skipped: containerd, ctr and runc or crun are not all installed");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return;
    }
    let site = TestSite::start().await;
    let Some(program) = static_program(site.state.path()) else {
        println!("skipped: rustc cannot make a static program here");
        assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
        return site.stop().await;
    };
    // The seed is text; the image comes by a file on the machine that the host's overlay shows.
    let shared = tempfile::Builder::new().prefix("emulated-host-image").tempdir_in("/var/tmp").unwrap();
    let image_path = shared.path().join("image.tar");
    std::fs::write(&image_path, image(&program)).unwrap();
    let mut commands = String::new();
    for runtime in &runtimes {
        commands.push_str(&format!(
            "- 'ctr -n k8s.io run --rm --runc-binary {runtime} localhost/greet:1 try-{runtime} /greet > /root/{runtime} 2>&1'\n"
        ));
    }
    let user_data = format!(
        "#cloud-config
write_files:
- path: /etc/containerd/config.toml
  content: |
    version = 2
    [plugins.\"io.containerd.grpc.v1.cri\"]
      restrict_oom_score_adj = true
      disable_apparmor = true
- path: /etc/systemd/system/containers.service
  content: |
    [Service]
    ExecStart=/usr/bin/env containerd
    KillMode=process
runcmd:
- systemctl enable --now containers
- 'for i in $(seq 600); do ctr version > /dev/null 2>&1 && break; sleep 0.05; done'
- 'ctr -n k8s.io image import {} > /root/import 2>&1'
{commands}",
        image_path.display()
    );
    site.boot("a1", "i-1", &user_data, &network_config("a1", "10.20.0.11")).await;
    site.wait_for("a1", BootState::OsRunning).await;
    for runtime in runtimes {
        let output =
            std::fs::read_to_string(site.state.path().join("hosts/a1/disk/own/root").join(runtime)).unwrap();
        assert!(output.contains("greetings from PID 1\n"), "{runtime}: {output}{}", site.story("a1"));
        assert!(
            output.contains(&format!("/k8s.io/try-{runtime}")),
            "its cgroup lies in the host's: {output}"
        );
        assert!(!output.contains("/ds-"), "the machine's view does not show: {output}");
    }
    site.stop().await;
}
