//! Writes files so that a reader sees all of the old or all of the new, never a mixture: in a directory of their own behind a
//! symbolic link `..data`, which is replaced by rename. `NAME` leads to `..data/NAME`.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::Path,
};

use sha2::{Digest, Sha256};

use super::{VolumeError, io, payload::Payload};

/// The link to the current files.
const CURRENT: &str = "..data";
const NEW_LINK: &str = "..data_new";

/// Makes a directory show the files of a payload. Nothing is touched if it does.
pub(super) fn write(directory: &Path, payload: &Payload, group: Option<u32>) -> Result<(), VolumeError> {
    let name = version(payload, group);
    let current = directory.join(CURRENT);
    if fs::read_link(&current).is_ok_and(|target| target == Path::new(&name)) {
        return Ok(());
    }
    let version = directory.join(&name);
    // An interrupted write may have left some of it.
    remove_if_there(&version)?;
    fs::create_dir(&version).map_err(io(&version))?;
    set(&version, 0o755, group)?;
    for (path, file) in &payload.files {
        let path = version.join(path);
        for parent in path.ancestors().skip(1).take_while(|parent| **parent != version) {
            fs::create_dir_all(parent).map_err(io(parent))?;
        }
        fs::write(&path, &file.contents).map_err(io(&path))?;
        // The group of the volume must be able to read it.
        set(&path, if group.is_some() { file.mode | 0o440 } else { file.mode }, group)?;
    }
    let link = directory.join(NEW_LINK);
    remove_if_there(&link)?;
    symlink(&name, &link).map_err(io(&link))?;
    fs::rename(&link, &current).map_err(io(&current))?;
    link_names(directory, payload)?;
    clear(directory, &name, payload)
}

/// The same for the same files.
fn version(payload: &Payload, group: Option<u32>) -> String {
    let mut hash = Sha256::new();
    hash.update(group.unwrap_or(u32::MAX).to_le_bytes());
    for (path, file) in &payload.files {
        for part in [path.as_bytes(), &file.contents] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(file.mode.to_le_bytes());
    }
    let digest: String = hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("..{digest}")
}

/// Names at the top: of files, and of directories of files.
fn top_names(payload: &Payload) -> BTreeSet<&str> {
    payload.files.keys().filter_map(|path| path.split('/').next()).collect()
}

fn link_names(directory: &Path, payload: &Payload) -> Result<(), VolumeError> {
    for name in top_names(payload) {
        let link = directory.join(name);
        match symlink(Path::new(CURRENT).join(name), &link) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            result => result.map_err(io(&link))?,
        }
    }
    Ok(())
}

/// Removes earlier versions, and names that are shown no more.
fn clear(directory: &Path, version: &str, payload: &Payload) -> Result<(), VolumeError> {
    let names = top_names(payload);
    for entry in fs::read_dir(directory).map_err(io(directory))? {
        let entry = entry.map_err(io(directory))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_kept = name == CURRENT || name == version || names.contains(name.as_ref());
        if !is_kept {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<(), VolumeError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

fn set(path: &Path, mode: u32, group: Option<u32>) -> Result<(), VolumeError> {
    if group.is_some() {
        chown(path, None, group).map_err(io(path))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io(path))
}
