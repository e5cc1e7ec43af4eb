//! Needs the programs `swtpm` and tpm2-tools.

use drystone_loopback::free_port;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use drystone_sealing::keeper::{FileSealer, TpmSealer, move_key, open};
use drystone_sealing::{KeySealer as _, SealerError, SealingKey};

const PCRS: &str = "sha256:7,16";

/// A TPM of its own; ends with the value.
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

/// Two ports in a row: the TPM's commands, and its control channel, which the library expects one above.
fn ports() -> u16 {
    loop {
        let port = free_port();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port + 1)).is_ok() {
            return port;
        }
    }
}

fn start(state: &Path) -> Option<Tpm> {
    for program in ["swtpm", "tpm2_unseal"] {
        let there =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if there.is_err() {
            println!("skipped: {program} is not installed");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return None;
        }
    }
    std::fs::create_dir_all(state).unwrap();
    let port = ports();
    let process = Command::new("swtpm")
        .args(["socket", "--tpm2", "--tpmstate", &format!("dir={}", state.display())])
        .args(["--ctrl", &format!("type=tcp,bindaddr=127.0.0.1,port={}", port + 1)])
        .args(["--server", &format!("type=tcp,bindaddr=127.0.0.1,port={port}")])
        .args(["--flags", "not-need-init,startup-clear"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let tpm = Tpm { process, tcti: format!("swtpm:host=127.0.0.1,port={port}") };
    let deadline = Instant::now() + Duration::from_secs(60);
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port + 1)).is_err() {
        assert!(Instant::now() < deadline, "swtpm does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(tpm)
}

impl Tpm {
    fn tool(&self, program: &str, arguments: &[&str]) -> bool {
        let mut command = Command::new(program);
        command.args(arguments).env("TPM2TOOLS_TCTI", &self.tcti);
        let done = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success();
        // There is no resource manager.
        let flush = Command::new("tpm2_flushcontext").arg("-t").env("TPM2TOOLS_TCTI", &self.tcti).output();
        flush.unwrap();
        done
    }

    fn extend(&self, register: &str, digit: char) {
        let digest: String = std::iter::repeat_n(digit, 64).collect();
        assert!(self.tool("tpm2_pcrextend", &[&format!("{register}:sha256={digest}")]));
    }

    fn sealer(&self, directory: &Path) -> TpmSealer {
        TpmSealer::new(directory, Some(&self.tcti), PCRS)
    }
}

fn contains(directory: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return contains(&path, bytes);
        }
        std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}

#[test]
fn the_key_comes_back_only_in_the_state_that_it_was_sealed_in() {
    let directory = tempfile::tempdir().unwrap();
    let Some(tpm) = start(&directory.path().join("tpm")) else { return };
    tpm.extend("7", '5');
    let keys = directory.path().join("pki");
    let sealer = tpm.sealer(&keys.join("tpm"));
    assert!(!sealer.keeps() && sealer.unseal().unwrap().is_none());
    let begun = Instant::now();
    let key = open(&keys, &sealer, None, false).unwrap();
    println!("made, sealed and unsealed in {} ms", begun.elapsed().as_millis());
    let begun = Instant::now();
    assert_eq!(open(&keys, &sealer, None, false).unwrap().expose(), key.expose());
    println!("unsealed in {} ms", begun.elapsed().as_millis());
    // More often than a TPM without a resource manager has room for.
    for _ in 0..5 {
        assert_eq!(sealer.unseal().unwrap().unwrap().expose(), key.expose());
    }
    assert!(!contains(&keys, key.expose()), "the key is in none of the files");

    // The policy is the only way to it: an empty password opens nothing.
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (primary, sealed) = (file("primary.ctx"), file("sealed.ctx"));
    assert!(tpm.tool("tpm2_createprimary", &["-C", "o", "-g", "sha256", "-G", "ecc", "-c", &primary]));
    let (public, private) = (file("pki/tpm/sealed.pub"), file("pki/tpm/sealed.priv"));
    assert!(tpm.tool("tpm2_load", &["-C", &primary, "-u", &public, "-r", &private, "-c", &sealed]));
    assert!(tpm.tool("tpm2_unseal", &["-c", &sealed, "-p", &format!("pcr:{PCRS}")]));
    assert!(!tpm.tool("tpm2_unseal", &["-c", &sealed]));

    tpm.extend("16", '9');
    let error = sealer.unseal().unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, SealerError::StateChanged { .. }), "{text}");
    assert!(text.contains("PCR 16 was 0x0000") && !text.contains("PCR 7"), "{text}");
    assert!(text.contains("import-key --seal tpm"), "{text}");
    let error = open(&keys, &sealer, None, false).unwrap_err();
    assert!(matches!(error, SealerError::StateChanged { .. }), "no new key is made: {error}");

    // What an operator does who wanted the change.
    drystone_sealing::keeper::import(&keys, &sealer, &key).unwrap();
    assert_eq!(open(&keys, &sealer, None, false).unwrap().expose(), key.expose());
}

#[test]
fn another_tpm_does_not_give_the_key_out() {
    let directory = tempfile::tempdir().unwrap();
    let Some(one) = start(&directory.path().join("one")) else { return };
    let Some(two) = start(&directory.path().join("two")) else { return };
    let state = directory.path().join("state");
    one.sealer(&state).seal(&SealingKey::generate().unwrap()).unwrap();
    let error = two.sealer(&state).unseal().unwrap_err();
    assert!(matches!(error, SealerError::AnotherTpm { .. }), "{error}");
    let damaged = state.join("sealed.priv");
    let mut bytes = std::fs::read(&damaged).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let error = one.sealer(&state).unseal().unwrap_err();
    assert!(matches!(error, SealerError::AnotherTpm { .. }), "{error}");
}

#[test]
fn a_missing_tpm_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let Some(tpm) = start(&directory.path().join("tpm")) else { return };
    let state = directory.path().join("state");
    let sealer = tpm.sealer(&state);
    sealer.seal(&SealingKey::generate().unwrap()).unwrap();
    drop(tpm);
    let error = sealer.unseal().unwrap_err().to_string();
    assert!(error.contains("127.0.0.1"), "{error}");
}

#[test]
fn a_key_moves_from_a_file_into_the_tpm_and_back() {
    let directory = tempfile::tempdir().unwrap();
    let Some(tpm) = start(&directory.path().join("tpm")) else { return };
    let keys = directory.path().join("pki");
    let (file, sealer) = (FileSealer::new(keys.join("sealing-key")), tpm.sealer(&keys.join("tpm")));
    let key = open(&keys, &file, Some(&sealer), false).unwrap();
    assert_eq!(open(&keys, &sealer, Some(&file), true).unwrap().expose(), key.expose());
    assert!(!file.keeps() && !contains(&keys, key.expose()));
    assert!(matches!(open(&keys, &file, Some(&sealer), false), Err(SealerError::KeptElsewhere(_))));
    assert_eq!(move_key(&keys, &sealer, &file).unwrap().expose(), key.expose());
    assert!(!sealer.keeps() && file.keeps());
}
