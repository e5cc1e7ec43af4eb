//! The sandbox image: a program of a few instructions that holds a pod's namespaces. The agent carries it, so that a node needs
//! no registry to run its first pod.

use std::path::Path;

use crate::{
    config::{ContainerRuntimeConfig, DEFAULT_SANDBOX_IMAGE},
    containerd::{ImportError, import},
    cri::{CriError, Runtime},
    image_archive::{Image, write},
};

/// Where the program is loaded.
const LOAD_ADDRESS: u64 = 0x40_0000;
/// Sizes of an ELF file's header and of one program header.
const HEADERS: u64 = 64 + 56;

/// No sandbox image.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The runtime does not answer.
    #[error("the sandbox image: {0}")]
    Runtime(#[from] CriError),
    /// The archive cannot be written.
    #[error("the sandbox image cannot be written: {0}")]
    Io(#[from] std::io::Error),
    /// The archive cannot be imported.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// There is none for this machine.
    #[error(
        "there is no built-in sandbox image for {}; set `containerRuntime.sandboxImage` in the node configuration",
        std::env::consts::ARCH
    )]
    Architecture,
}

/// Imports the built-in image, if it is the one to be used and is not there yet.
///
/// # Errors
/// [`PauseError`] if it cannot be had.
pub async fn ensure_sandbox_image(
    runtime: &Runtime,
    config: &ContainerRuntimeConfig,
    directory: &Path,
) -> Result<(), PauseError> {
    if config.sandbox_image != DEFAULT_SANDBOX_IMAGE
        || runtime.image_status(DEFAULT_SANDBOX_IMAGE).await?.is_some()
    {
        return Ok(());
    }
    let program = program(std::env::consts::ARCH).ok_or(PauseError::Architecture)?;
    let mut archive = Vec::new();
    write(&[Image::of_program(DEFAULT_SANDBOX_IMAGE, "pause", program)], &mut archive)?;
    let path = directory.join("pause.tar");
    tokio::fs::write(&path, archive).await?;
    Ok(import(config.socket(), &path).await?)
}

/// A static ELF executable. It ignores SIGCHLD, upon which the kernel reaps for it the orphans of a pod whose containers share
/// their processes, and then waits for ever. Sources: System V ABI (ELF), Linux system call table for x86-64.
fn program(architecture: &str) -> Option<Vec<u8>> {
    if architecture != "x86_64" {
        return None;
    }
    #[rustfmt::skip]
    let code: &[u8] = &[
        0xb8, 13, 0, 0, 0,                      // mov eax, rt_sigaction
        0xbf, 17, 0, 0, 0,                      // mov edi, SIGCHLD
        0x48, 0x8d, 0x35, 19, 0, 0, 0,          // lea rsi, [action]
        0x31, 0xd2,                             // xor edx, edx
        0x41, 0xba, 8, 0, 0, 0,                 // mov r10d, 8
        0x0f, 0x05,                             // syscall
        0xb8, 34, 0, 0, 0,                      // again: mov eax, pause
        0x0f, 0x05,                             // syscall
        0xeb, 0xf7,                             // jmp again
        1, 0, 0, 0, 0, 0, 0, 0,                 // action: handler SIG_IGN
        0, 0, 0, 0, 0, 0, 0, 0,                 // flags
        0, 0, 0, 0, 0, 0, 0, 0,                 // restorer
        0, 0, 0, 0, 0, 0, 0, 0,                 // mask
    ];
    let size = HEADERS + u64::try_from(code.len()).ok()?;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let halves = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    let words = |file: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    let longs = |file: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    // An executable for x86-64; its entry, the place of the one program header, no sections.
    halves(&mut file, &[2, 62]);
    words(&mut file, &[1]);
    longs(&mut file, &[LOAD_ADDRESS + HEADERS, 64, 0]);
    words(&mut file, &[0]);
    halves(&mut file, &[64, 56, 1, 0, 0, 0]);
    // To be loaded, readable and executable: all of the file.
    words(&mut file, &[1, 5]);
    longs(&mut file, &[0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 0x1000]);
    file.extend(code);
    Some(file)
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::PermissionsExt as _, process::ExitStatusExt as _},
        process::Command,
        time::Duration,
    };

    use super::*;

    /// Runs it: it must neither end nor fail, and end when it is killed.
    #[test]
    fn it_waits_until_it_is_killed() {
        let Some(program) = program(std::env::consts::ARCH) else {
            println!("skipped: there is no built-in program for this architecture");
            assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pause");
        std::fs::write(&path, program).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut child = Command::new(&path).spawn().unwrap();
        // In the system call `pause`, with SIGCHLD ignored.
        let status = format!("/proc/{}/status", child.id());
        let ignored = || {
            let text = std::fs::read_to_string(&status).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim().to_owned();
            u64::from_str_radix(&line, 16).unwrap() & (1 << 16) != 0
        };
        for _ in 0..1000 {
            if ignored() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(ignored() && child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }
}
