//! Writes what a boot medium asks for into the host's files. Every function takes the root directory to write below, so
//! that tests can look at the result.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use nix::unistd::{Group, User};
use uuid::Uuid;

use super::cloud_config::File;

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing {path}: {reason}")]
pub(super) struct WriteError {
    path: String,
    reason: String,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.display().to_string();
    move |error| WriteError { path, reason: error.to_string() }
}

/// Writes a file of `write_files`, with the directories above it.
pub(super) fn write_file(root: &Path, file: &File) -> Result<(), WriteError> {
    let path = below(root, &file.path);
    let owner = owner_numbers(file).map_err(|reason| WriteError { path: file.path.clone(), reason })?;
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    // Owner-only until owner and permissions are set: the content may be secret.
    let mut open = OpenOptions::new()
        .create(true)
        .write(true)
        .append(file.append)
        .truncate(!file.append)
        .mode(0o600)
        .open(&path)
        .map_err(failed(&path))?;
    open.write_all(&file.content).map_err(failed(&path))?;
    if let Some((user, group)) = owner {
        chown(&path, Some(user), group).map_err(failed(&path))?;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(file.mode)).map_err(failed(&path))
}

fn owner_numbers(file: &File) -> Result<Option<(u32, Option<u32>)>, String> {
    let Some((user, group)) = &file.owner else { return Ok(None) };
    let user_number = user
        .parse()
        .ok()
        .or_else(|| User::from_name(user).ok().flatten().map(|found| found.uid.as_raw()))
        .ok_or_else(|| format!("there is no user {user:?}"))?;
    let Some(group) = group else { return Ok(Some((user_number, None))) };
    let group_number = group
        .parse()
        .ok()
        .or_else(|| Group::from_name(group).ok().flatten().map(|found| found.gid.as_raw()))
        .ok_or_else(|| format!("there is no group {group:?}"))?;
    Ok(Some((user_number, Some(group_number))))
}

/// What makes one host another than the next.
#[derive(Debug)]
pub(super) struct Identity<'a> {
    /// Site and host as the emulator knows them.
    pub(super) site: &'a str,
    /// See `site`.
    pub(super) host: &'a str,
    /// The name the host goes by.
    pub(super) hostname: &'a str,
}

/// Writes `/etc/hostname`, `/etc/hosts` and `/etc/machine-id`.
pub(super) fn write_identity(root: &Path, identity: &Identity<'_>) -> Result<(), WriteError> {
    let Identity { site, host, hostname } = identity;
    let short = hostname.split('.').next().unwrap_or(hostname);
    let names = if short == *hostname { (*hostname).to_owned() } else { format!("{hostname} {short}") };
    let machine =
        Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("emulated host {site}/{host}").as_bytes()).simple();
    replace(root, "/etc/hostname", &format!("{hostname}\n"))?;
    replace(
        root,
        "/etc/hosts",
        &format!("127.0.0.1\tlocalhost\n127.0.1.1\t{names}\n::1\tlocalhost ip6-localhost ip6-loopback\n"),
    )?;
    replace(root, "/etc/machine-id", &format!("{machine}\n"))
}

/// Writes `/etc/resolv.conf`.
pub(super) fn write_resolver(root: &Path, resolv_conf: &str) -> Result<(), WriteError> {
    replace(root, "/etc/resolv.conf", resolv_conf)
}

/// Lets the keys log in as root.
pub(super) fn authorize_keys(root: &Path, keys: &[String]) -> Result<(), WriteError> {
    if keys.is_empty() {
        return Ok(());
    }
    let directory = below(root, "/root/.ssh");
    fs::create_dir_all(&directory).map_err(failed(&directory))?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).map_err(failed(&directory))?;
    let content = keys.iter().flat_map(|key| [key.trim(), "\n"]).collect::<String>();
    let file = File {
        path: "/root/.ssh/authorized_keys".to_owned(),
        content: content.into_bytes(),
        mode: 0o600,
        owner: None,
        append: false,
    };
    write_file(root, &file)
}

/// Removes the SSH host keys that come with the machine's root, so that new ones are made for this host.
pub(super) fn forget_host_keys(root: &Path) {
    let Ok(entries) = fs::read_dir(below(root, "/etc/ssh")) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            // One that stays costs nothing but uniqueness.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Writes a file in place of whatever has its name; a symbolic link is replaced, not followed.
fn replace(root: &Path, path: &str, content: &str) -> Result<(), WriteError> {
    let path = below(root, path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path)(error)),
        _ => {}
    }
    fs::write(&path, content).map_err(failed(&path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).map_err(failed(&path))
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn file(path: &str, content: &str) -> File {
        File { path: path.to_owned(), content: content.into(), mode: 0o640, owner: None, append: false }
    }

    #[test]
    fn files_get_directories_content_and_mode() {
        let root = tempfile::tempdir().unwrap();
        write_file(root.path(), &file("/etc/deep/er/a", "one")).unwrap();
        write_file(root.path(), &File { append: true, ..file("/etc/deep/er/a", " two") }).unwrap();
        let path = root.path().join("etc/deep/er/a");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two");
        assert_eq!(mode(&path), 0o640);
        write_file(root.path(), &file("/etc/deep/er/a", "3")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "3");
    }

    #[test]
    fn an_unknown_owner_writes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let owner = Some(("no-such-user-here".to_owned(), None));
        let error = write_file(root.path(), &File { owner, ..file("/a", "x") }).unwrap_err();
        assert_eq!(error.to_string(), "writing /a: there is no user \"no-such-user-here\"");
        assert!(!root.path().join("a").exists());
    }

    #[test]
    fn identity_replaces_links() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("victim"), "keep").unwrap();
        std::os::unix::fs::symlink(root.path().join("victim"), root.path().join("etc/resolv.conf")).unwrap();
        write_resolver(root.path(), "nameserver 10.0.0.1\n").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("victim")).unwrap(), "keep");
        let identity = |host| Identity { site: "rack", host, hostname: "c03.site" };
        write_identity(root.path(), &identity("c03")).unwrap();
        let id = fs::read_to_string(root.path().join("etc/machine-id")).unwrap();
        assert_eq!(id.trim().len(), 32);
        write_identity(root.path(), &identity("c04")).unwrap();
        assert_ne!(id, fs::read_to_string(root.path().join("etc/machine-id")).unwrap());
        assert!(
            fs::read_to_string(root.path().join("etc/hosts")).unwrap().contains("127.0.1.1\tc03.site c03\n")
        );
    }

    #[test]
    fn keys() {
        let root = tempfile::tempdir().unwrap();
        authorize_keys(root.path(), &["ssh-ed25519 A a\n".to_owned(), "ssh-ed25519 B b".to_owned()]).unwrap();
        let path = root.path().join("root/.ssh/authorized_keys");
        assert_eq!(fs::read_to_string(&path).unwrap(), "ssh-ed25519 A a\nssh-ed25519 B b\n");
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }
}
