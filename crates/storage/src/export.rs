//! What is exported to whom: checked, and written as the kernel's server and NFS-Ganesha read it. Pure.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Owner of exported folders, and whom all clients act as: nobody, on Debian and on Red Hat alike.
pub const NOBODY: u32 = 65534;

/// A folder that is exported to a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Export {
    /// The folder.
    pub directory: String,
    /// The network, without host bits.
    pub clients: IpNet,
}

/// An export that makes no sense. `field` is `export_dir` or `export_to`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct ExportProblem {
    /// Which of the exports, from 0.
    pub index: usize,
    /// Which part of it.
    pub field: &'static str,
    /// What is wrong, and what to write instead.
    pub why: String,
}

/// Says what is wrong with a path on a host.
///
/// # Errors
/// The problem.
pub fn check_path(path: &str) -> Result<(), String> {
    let shown: String = path.chars().take(100).filter(|c| !c.is_control()).collect();
    if !path.starts_with('/') {
        return Err(format!("`{shown}` must be an absolute path"));
    }
    if path.len() > 1024 {
        return Err(format!("`{shown}…` has {} bytes, more than 1024", path.len()));
    }
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@,=~".contains(c);
    if let Some(c) = path.chars().find(|c| !plain(*c)) {
        return Err(format!("`{shown}` may not contain {c:?}"));
    }
    let odd = |part: &str| part.is_empty() || part == "." || part == "..";
    if path != "/" && path.split('/').skip(1).any(odd) {
        return Err(format!("`{shown}` must not contain `//`, `.` or `..`, nor end in a slash"));
    }
    Ok(())
}

/// Reads a network: `10.10.0.0/24`, or one address. Host bits are taken off.
///
/// # Errors
/// What is wrong with it.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let shown: String = text.chars().take(60).filter(|c| !c.is_control()).collect();
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network =
        network.ok_or_else(|| format!("`{shown}` is no network; write it as 10.10.0.0/24"))?.trunc();
    if network.prefix_len() == 0 {
        return Err(format!("`{shown}` is everybody; name the network of the nodes"));
    }
    if network.addr().is_multicast() {
        return Err(format!("`{shown}` holds no hosts"));
    }
    Ok(network)
}

/// The mount that a folder lies in: the longest one.
pub fn mount_of<'a>(directory: &str, mounts: &'a [String]) -> Option<&'a str> {
    let below = |mount: &&String| {
        directory.strip_prefix(mount.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    mounts.iter().filter(below).max_by_key(|mount| mount.len()).map(String::as_str)
}

impl Export {
    /// An export of a folder to a network.
    ///
    /// # Errors
    /// [`ExportProblem`] (with index 0) if either is wrong.
    pub fn parse(directory: &str, clients: &str) -> Result<Self, ExportProblem> {
        let problem = |field| move |why| ExportProblem { index: 0, field, why };
        check_path(directory).map_err(problem("export_dir"))?;
        let clients = parse_network(clients).map_err(problem("export_to"))?;
        Ok(Self { directory: directory.to_owned(), clients })
    }
}

/// Checks that every export lies on a volume, and that none is there twice.
///
/// # Errors
/// The first [`ExportProblem`].
pub fn validate(mounts: &[String], exports: &[Export]) -> Result<(), ExportProblem> {
    for (index, export) in exports.iter().enumerate() {
        let problem = |field, why| Err(ExportProblem { index, field, why });
        if let Err(why) = check_path(&export.directory) {
            return problem("export_dir", why);
        }
        if mount_of(&export.directory, mounts).is_none() {
            let why = format!(
                "{} does not lie on a volume; it must be, or lie below, {}",
                export.directory,
                mounts.join(" or ")
            );
            return problem("export_dir", why);
        }
        if exports.iter().take(index).any(|other| other == export) {
            let why = format!("{} is exported to {} twice", export.directory, export.clients);
            return problem("export_dir", why);
        }
    }
    Ok(())
}

/// Networks by folder.
fn by_directory(exports: &[Export]) -> BTreeMap<&str, Vec<IpNet>> {
    let mut directories: BTreeMap<&str, Vec<IpNet>> = BTreeMap::new();
    for export in exports {
        let networks = directories.entry(&export.directory).or_default();
        if !networks.contains(&export.clients) {
            networks.push(export.clients);
        }
    }
    directories
}

/// A file for `/etc/exports.d` (exports(5)). What lies on a volume is exported only while the volume is mounted, so that nobody
/// ever writes into the empty folder below it.
pub fn kernel_exports(mounts: &[String], exports: &[Export]) -> String {
    let mut text = "# Written by Drystone; it is replaced as a whole.\n".to_owned();
    for (directory, networks) in by_directory(exports) {
        text.push_str(directory);
        let mount = mount_of(directory, mounts).unwrap_or(directory);
        for network in networks {
            let _ = write!(
                text,
                " {network}(rw,sync,no_subtree_check,insecure,all_squash,anonuid={NOBODY},anongid={NOBODY},mp={mount})"
            );
        }
        text.push('\n');
    }
    text
}

/// Reads what `exportfs -s` prints, or a file of exports: folders and networks.
pub fn parse_exports(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(directory) = words.next() else { continue };
        for client in words {
            let network = client.split_once('(').map_or(client, |(network, _)| network);
            found.push((directory.trim_matches('"').to_owned(), network.to_owned()));
        }
    }
    found
}

/// Exports that are not among what the server has.
pub fn missing<'a>(exports: &'a [Export], has: &[(String, String)]) -> Vec<&'a Export> {
    let same = |export: &Export, network: &str| {
        // A single address is shown without the length of its prefix.
        network
            .parse::<IpNet>()
            .or_else(|_| network.parse::<IpAddr>().map(IpNet::from))
            .is_ok_and(|n| n == export.clients)
    };
    let is_there = |export: &&Export| {
        has.iter().any(|(directory, network)| *directory == export.directory && same(export, network))
    };
    exports.iter().filter(|export| !is_there(export)).collect()
}

/// A number for each folder, which file handles contain: it depends on the folder alone, so that handles outlive changes of the list and a
/// server that is made anew. Where two folders would get the same number, the later one gets the next.
fn export_ids<'a>(directories: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u16> {
    let mut ids: BTreeMap<&str, u16> = BTreeMap::new();
    for directory in directories {
        // FNV-1a, 32 bits.
        let hash = directory
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let mut id = u16::try_from(hash % 65_000).unwrap_or(0) + 1;
        while ids.values().any(|taken| *taken == id) {
            id = id % 65_000 + 1;
        }
        ids.insert(directory, id);
    }
    ids
}

/// Configuration of NFS-Ganesha (ganesha-config(8)): NFSv4, and NFSv3 for clients in user space, which is what nodes have whose kernel
/// cannot mount NFS. Version 3 needs a port mapper.
pub fn ganesha_config(exports: &[Export], recovery: &str) -> String {
    let directories = by_directory(exports);
    let ids = export_ids(directories.keys().copied());
    let mut text = format!(
        "# Written by Drystone; it is replaced as a whole.\n\
         NFS_CORE_PARAM {{ Protocols = 3, 4; NFS_Port = 2049; MNT_Port = 20048; Enable_UDP = false; Enable_NLM = false; Enable_RQUOTA = false; }}\n\
         NFSv4 {{ Minor_Versions = 0, 1, 2; Lease_Lifetime = 15; Grace_Period = 15; Only_Numeric_Owners = true; RecoveryRoot = \"{recovery}\"; }}\n\
         EXPORT_DEFAULTS {{ SecType = sys; Protocols = 3, 4; Transports = TCP; Access_Type = None; }}\n\
         LOG {{ Default_Log_Level = EVENT; }}\n"
    );
    for (directory, networks) in &directories {
        let clients: Vec<String> = networks.iter().map(ToString::to_string).collect();
        let squash = format!(
            "Squash = All_Squash; Anonymous_Uid = {NOBODY}; Anonymous_Gid = {NOBODY}; PrivilegedPort = false;"
        );
        let _ = writeln!(
            text,
            "EXPORT {{\n  Export_Id = {};\n  Path = \"{directory}\";\n  Pseudo = \"{directory}\";\n  {squash}\n  FSAL {{ Name = VFS; }}\n  \
             CLIENT {{ Clients = {}; Access_Type = RW; {squash} }}\n}}",
            ids.get(directory).copied().unwrap_or(1),
            clients.join(", "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exports(list: &[(&str, &str)]) -> Vec<Export> {
        list.iter().map(|(directory, clients)| Export::parse(directory, clients).unwrap()).collect()
    }

    #[test]
    fn exports_lie_on_volumes_and_are_there_once() {
        let mounts = ["/volume".to_owned(), "/volume/fast".to_owned()];
        let problem = |list: &[(&str, &str)]| validate(&mounts, &exports(list)).unwrap_err();
        let good = exports(&[
            ("/volume", "10.0.0.0/8"),
            ("/volume/nfs/pv1", "10.10.0.0/24"),
            ("/volume/nfs/pv1", "10.11.0.0/24"),
        ]);
        assert_eq!(validate(&mounts, &good), Ok(()));
        let outside = problem(&[("/volume", "10.0.0.0/8"), ("/volumes/pv1", "10.0.0.0/8")]);
        assert_eq!((outside.index, outside.field), (1, "export_dir"));
        assert!(outside.why.contains("/volumes/pv1 does not lie on a volume"), "{outside}");
        assert!(
            problem(&[("/volume/a", "10.10.0.1/24"), ("/volume/a", "10.10.0.0/24")]).why.contains("twice")
        );
        assert_eq!(mount_of("/volume/fast/x", &mounts), Some("/volume/fast"));
        assert_eq!(mount_of("/volume/faster", &mounts), Some("/volume"));
        for (directory, clients, field) in [
            ("volume", "10.0.0.0/8", "export_dir"),
            ("/volume/../etc", "10.0.0.0/8", "export_dir"),
            ("/volume/a b", "10.0.0.0/8", "export_dir"),
            ("/volume/\"", "10.0.0.0/8", "export_dir"),
            ("/volume", "0.0.0.0/0", "export_to"),
            ("/volume", "*", "export_to"),
            ("/volume", "10.0.0.0/33", "export_to"),
            ("/volume", "224.0.0.0/4", "export_to"),
        ] {
            assert_eq!(Export::parse(directory, clients).unwrap_err().field, field, "{directory} {clients}");
        }
        assert_eq!(parse_network("192.168.3.7").unwrap().to_string(), "192.168.3.7/32");
        assert_eq!(parse_network("10.10.0.9/24").unwrap().to_string(), "10.10.0.0/24");
    }

    #[test]
    fn what_is_written_for_the_kernel_is_what_it_then_has() {
        let list = exports(&[
            ("/volume/b", "10.10.0.0/24"),
            ("/volume/a", "10.10.0.0/24"),
            ("/volume/a", "fd00::/64"),
        ]);
        let text = kernel_exports(&["/volume".to_owned()], &list);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("/volume/b 10.10.0.0/24(rw,sync,") && text.contains(",mp=/volume)"), "{text}");
        assert!(missing(&list, &parse_exports(&text)).is_empty());
        let shown = "/volume/a  10.10.0.0/24(sync,wdelay,hide,no_subtree_check,sec=sys,rw,insecure,root_squash,all_squash)\n";
        let left: Vec<String> =
            missing(&list, &parse_exports(shown)).iter().map(|e| e.clients.to_string()).collect();
        assert_eq!(left, ["10.10.0.0/24", "fd00::/64"]);
    }

    #[test]
    fn file_handles_outlive_changes_of_the_list() {
        let id = |text: &str, directory: &str| {
            let block = text
                .split("EXPORT {")
                .find(|block| block.contains(&format!("Path = \"{directory}\"")))
                .unwrap()
                .to_owned();
            block
                .lines()
                .find_map(|line| line.trim().strip_prefix("Export_Id = ").map(ToOwned::to_owned))
                .unwrap()
        };
        let one = ganesha_config(&exports(&[("/volume/pv1", "10.10.0.0/24")]), "/r");
        let two =
            ganesha_config(&exports(&[("/volume/a", "10.0.0.0/8"), ("/volume/pv1", "10.10.0.0/24")]), "/r");
        assert_eq!(id(&one, "/volume/pv1"), id(&two, "/volume/pv1"));
        assert_ne!(id(&two, "/volume/a"), id(&two, "/volume/pv1"));
    }

    proptest! {
        #[test]
        fn numbers_of_exports_differ(names in proptest::collection::btree_set("[a-z]{1,4}", 0..200)) {
            let ids = export_ids(names.iter().map(String::as_str));
            let different: std::collections::BTreeSet<u16> = ids.values().copied().collect();
            prop_assert_eq!(different.len(), names.len());
            prop_assert!(!different.contains(&0));
        }

        #[test]
        fn whatever_is_accepted_needs_no_quoting(path in ".{0,40}") {
            if check_path(&path).is_ok() {
                let special = [' ', '"', '\\', '#', '\'', '\n', '{', ';', '$', '('];
                prop_assert!(!path.contains(special));
            }
        }
    }
}
