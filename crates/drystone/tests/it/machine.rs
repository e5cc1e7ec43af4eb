//! `drystone up --seal tpm`, on a TPM that swtpm emulates.

use drystone_loopback::free_port;
use std::{
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::process::{Up, drystone, up_that_fails};

/// A TPM of the test's own; ends with the value.
struct Tpm {
    process: Child,
    tcti: String,
}

impl Drop for Tpm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Tpm {
    /// `None` where the programs are not installed; says so.
    fn start(state: &Path) -> Option<Self> {
        for program in ["swtpm", "tpm2_unseal", "kubectl"] {
            let mut look = Command::new("which");
            if !look.arg(program).stdout(Stdio::null()).status().expect("which").success() {
                println!("skipped: {program} is not installed");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI: no {program}");
                return None;
            }
        }
        std::fs::create_dir_all(state).expect("a directory");
        // The control channel is expected one port above.
        let port = loop {
            let port = free_port();
            if [port, port + 1].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
                break port;
            }
        };
        let place = |port: u16| format!("type=tcp,bindaddr=127.0.0.1,port={port}");
        let mut command = Command::new("swtpm");
        command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"]);
        command.arg("--tpmstate").arg(format!("dir={}", state.display()));
        command.args(["--ctrl", &place(port + 1), "--server", &place(port)]).stdout(Stdio::null());
        let tpm = Self {
            process: command.spawn().expect("started"),
            tcti: format!("swtpm:host=127.0.0.1,port={port}"),
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", port + 1)).is_err() {
            assert!(Instant::now() < deadline, "swtpm does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(tpm)
    }

    /// Measures something into a register.
    fn extend(&self, register: u8) {
        let digest = "5".repeat(64);
        let mut command = Command::new("tpm2_pcrextend");
        command.arg(format!("{register}:sha256={digest}")).env("TPM2TOOLS_TCTI", &self.tcti);
        assert!(command.status().expect("tpm2_pcrextend").success());
    }
}

/// Runs a subcommand of `drystone secrets` with input.
fn secrets(arguments: &[&str], input: &str) -> (bool, String) {
    use std::io::Write as _;
    let mut command = drystone();
    command
        .arg("secrets")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("started");
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its output");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn the_sealing_key_lives_in_a_tpm() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(tpm) = Tpm::start(&directory.path().join("tpm")) else { return };
    tpm.extend(7);
    let seal = format!("tpm:{}", tpm.tcti);
    let options = ["--seal", &seal, "--seal-pcrs", "sha256:7,16"];

    // A key that is in the file moves; its file goes.
    let up = Up::start(directory.path(), &[]);
    let data = up.data.clone();
    let place = data.to_str().expect("a name").to_owned();
    let key = data.join("pki/sealing-key");
    assert!(key.exists());
    up.stop();
    let raw = std::fs::read(&key).expect("the key");
    let (good, exported) = secrets(&["export-key", "--data", &place], "");
    assert!(good, "{exported}");
    Up::start(directory.path(), &options).stop();
    assert!(!key.exists());
    for entry in std::fs::read_dir(data.join("pki/tpm")).expect("the TPM's files") {
        let bytes = std::fs::read(entry.expect("a file").path()).expect("its bytes");
        assert!(!bytes.windows(raw.len()).any(|window| window == raw));
    }
    let again = secrets(&[&["export-key", "--data", &place][..], &options].concat(), "");
    assert_eq!(again, (true, exported.clone()), "it is the same key");

    // It does not start without what keeps the key, nor in another state of the machine.
    let refused = |options: &[&str], why: &str| {
        let output = up_that_fails(&data, &[&["--listen", "127.0.0.1:0"], options].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && text.contains(why), "{text}");
        assert!(!key.exists(), "no other key is made");
    };
    refused(&[], "is kept by the machine's TPM");
    tpm.extend(16);
    refused(&options, "PCR 16 was 0x0000");
    let imported = secrets(&[&["import-key", "--data", &place][..], &options].concat(), &exported);
    assert!(imported.0, "{}", imported.1);
    Up::start(directory.path(), &options).stop();

    // Back into the file, as it is told.
    let (moved, said) =
        secrets(&[&["move-key", "--data", &place][..], &options, &["--to", "file"]].concat(), "");
    assert!(moved, "{said}");
    assert_eq!(std::fs::read(&key).expect("the key"), raw);
    Up::start(directory.path(), &[]).stop();
    drop(tpm);
    refused_without(&data, &options);
}

/// A TPM that does not answer, after the key has moved back: the file has it, and moves to nobody.
fn refused_without(data: &Path, options: &[&str]) {
    let output = up_that_fails(data, &[&["--listen", "127.0.0.1:0"], options].concat());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("tpm2_"), "it says which program failed: {text}");
    assert!(data.join("pki/sealing-key").exists(), "the key stays where it is");
}
