//! What has to be done on a host for it to have what a set says. Pure.

use std::fmt;

use drystone_api::{
    ContainerImage, HostImage, PackageManager, PackageState, PinnedSet, SoftwareFile, SoftwarePackage,
};

use crate::{
    inventory::{Inventory, same_image},
    select::HostFacts,
    validate::content_digest,
    version::{VersionError, Wish, compare},
};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Another operating-system image; everything else comes after it.
    Image {
        /// URL of the one that is there; empty if that is not known.
        from: String,
        /// URL of the wanted one.
        to: String,
    },
    /// A package that is not there.
    Install {
        /// Package.
        package: String,
        /// Version, or the wish for one.
        version: String,
    },
    /// A newer version of a package.
    Upgrade {
        /// Package.
        package: String,
        /// Version that is there.
        from: String,
        /// Version, or the wish for one.
        to: String,
    },
    /// An older version of a package.
    Downgrade {
        /// Package.
        package: String,
        /// Version that is there.
        from: String,
        /// Version, or the wish for one.
        to: String,
    },
    /// A package that is half installed.
    Repair {
        /// Package.
        package: String,
        /// What the package manager says of it.
        state: String,
    },
    /// A package that is to stay at its version.
    Hold {
        /// Package.
        package: String,
    },
    /// A package that is to go.
    Remove {
        /// Package.
        package: String,
        /// Version that is there.
        from: String,
    },
    /// A container image that is not there, or another one.
    Pull {
        /// Reference.
        image: String,
    },
    /// A file that is not there, or another one.
    Write {
        /// Path.
        path: String,
    },
    /// Nothing is known of the host yet; what it needs is found out when its turn comes.
    Unknown,
}

impl Change {
    /// The package that it is about.
    pub fn package(&self) -> Option<&str> {
        match self {
            Self::Install { package, .. }
            | Self::Upgrade { package, .. }
            | Self::Downgrade { package, .. }
            | Self::Repair { package, .. }
            | Self::Hold { package }
            | Self::Remove { package, .. } => Some(package),
            Self::Image { .. } | Self::Pull { .. } | Self::Write { .. } | Self::Unknown => None,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image { from, to } if from.is_empty() => write!(f, "operating system {to}"),
            Self::Image { from, to } => write!(f, "operating system {from} → {to}"),
            Self::Install { package, version } if version.is_empty() => write!(f, "{package} added"),
            Self::Install { package, version } => write!(f, "{package} {version} added"),
            Self::Upgrade { package, from, to } => write!(f, "{package} {from} → {to}"),
            Self::Downgrade { package, from, to } => write!(f, "{package} {from} → {to} (older)"),
            Self::Repair { package, state } => write!(f, "{package} repaired ({state})"),
            Self::Hold { package } => write!(f, "{package} held"),
            Self::Remove { package, from } => write!(f, "{package} {from} removed"),
            Self::Pull { image } => write!(f, "image {image}"),
            Self::Write { path } => write!(f, "file {path}"),
            Self::Unknown => f.write_str("not known yet what it has"),
        }
    }
}

/// Why a host cannot be given what a set says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// It has no package manager that is known.
    #[error("it has neither dpkg nor rpm, so no packages can be installed")]
    NoPackageManager,
    /// What is there is newer.
    #[error(
        "it has {package} {present}, which is newer than {wanted}; set allowDowngrade to replace it by an older one"
    )]
    Newer {
        /// Package.
        package: String,
        /// Version that is there.
        present: String,
        /// Version that is wanted.
        wanted: String,
    },
    /// Its package manager cannot read a version.
    #[error("version of {package}: {reason}")]
    Version {
        /// Package.
        package: String,
        /// Why.
        reason: VersionError,
    },
}

/// All changes on a host, and what they bring with them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// The changes, in the order in which they are made.
    pub changes: Vec<Change>,
    /// Whether pods should be moved away first.
    pub drain: bool,
    /// Whether the host must be rebooted afterwards.
    pub reboot: bool,
}

/// What has to be done on a host for it to have what a set says.
///
/// # Errors
/// [`Obstacle`] when that cannot be done.
pub fn changes(set: &PinnedSet, host: &HostFacts) -> Result<ChangeSet, Obstacle> {
    let mut found = Vec::new();
    if let Some(image) = &set.os_image {
        let wanted = image.host_image();
        if !host.os_image.as_ref().is_some_and(|present| same_image(present, &wanted)) {
            found.push(image_change(host.os_image.as_ref(), &wanted));
        }
    }
    match &host.inventory {
        Some(inventory) => {
            for package in &set.packages {
                found.extend(package_changes(package, inventory, set.allow_downgrade)?);
            }
            found.extend(set.container_images.iter().filter_map(|image| pull(image, inventory)));
            found.extend(set.files.iter().filter_map(|file| write(file, inventory)));
        }
        None if needs_inventory(set) => found.push(Change::Unknown),
        None => {}
    }
    Ok(weigh(set, found))
}

/// Whether more is to be known of a host than what its BareMetalHost says.
pub fn needs_inventory(set: &PinnedSet) -> bool {
    !(set.packages.is_empty() && set.container_images.is_empty() && set.files.is_empty())
}

/// What a list of changes brings with it.
fn weigh(set: &PinnedSet, changes: Vec<Change>) -> ChangeSet {
    let asks = |name: &str| set.packages.iter().any(|package| package.name == name && package.reboot);
    let replaced = |change: &Change| match change {
        Change::Hold { .. } => None,
        other => other.package().map(str::to_owned),
    };
    let packages: Vec<String> = changes.iter().filter_map(replaced).collect();
    let image = changes.iter().any(|change| matches!(change, Change::Image { .. }));
    let reboot = packages.iter().any(|name| needs_reboot(name) || asks(name));
    let drain = image || reboot || packages.iter().any(|name| runs_containers(name));
    ChangeSet { changes, drain, reboot }
}

fn image_change(present: Option<&HostImage>, wanted: &HostImage) -> Change {
    let from = present.map(|image| image.url.clone()).unwrap_or_default();
    Change::Image { from, to: wanted.url.clone() }
}

fn pull(image: &ContainerImage, inventory: &Inventory) -> Option<Change> {
    let present = inventory.images.get(&image.image);
    let right = present.is_some_and(|digest| image.digest.is_empty() || *digest == image.digest);
    (!right).then(|| Change::Pull { image: image.image.clone() })
}

fn write(file: &SoftwareFile, inventory: &Inventory) -> Option<Change> {
    let right = inventory.files.get(&file.path) == Some(&content_digest(file));
    (!right).then(|| Change::Write { path: file.path.clone() })
}

fn package_changes(
    package: &SoftwarePackage,
    inventory: &Inventory,
    allow_downgrade: bool,
) -> Result<Vec<Change>, Obstacle> {
    let name = package.name.clone();
    let manager = inventory.manager;
    if manager == PackageManager::None {
        return Err(Obstacle::NoPackageManager);
    }
    let unreadable = |reason| Obstacle::Version { package: package.name.clone(), reason };
    let present = inventory.packages.get(&name);
    let broken = inventory.broken.get(&name);
    if package.state == PackageState::Absent {
        let there = present.or(broken).cloned();
        return Ok(there.map(|from| Change::Remove { package: name, from }).into_iter().collect());
    }
    let wish = Wish::parse(&package.version).map_err(unreadable)?;
    let mut found = Vec::new();
    match (present, broken) {
        (_, Some(state)) => found.push(Change::Repair { package: name.clone(), state: state.clone() }),
        (None, None) => {
            found.push(Change::Install { package: name.clone(), version: package.version.clone() });
        }
        (Some(version), None) if wish.accepts(manager, version).map_err(unreadable)? => {}
        (Some(version), None) => {
            let older = is_too_new(&wish, manager, version).map_err(unreadable)?;
            let (package, from, to) = (name.clone(), version.clone(), package.version.clone());
            found.push(match (older, allow_downgrade) {
                (false, _) => Change::Upgrade { package, from, to },
                (true, true) => Change::Downgrade { package, from, to },
                (true, false) => return Err(Obstacle::Newer { package, present: from, wanted: to }),
            });
        }
    }
    if package.state == PackageState::Held && !inventory.held.contains(&name) {
        found.push(Change::Hold { package: name });
    }
    Ok(found)
}

/// Whether a version that does not fulfil a wish is newer than what does.
fn is_too_new(wish: &Wish, manager: PackageManager, version: &str) -> Result<bool, VersionError> {
    use crate::version::Operator;
    match wish {
        Wish::Any => Ok(false),
        Wish::Exact(wanted) => Ok(compare(manager, version, wanted)?.is_gt()),
        Wish::Conditions(conditions) => {
            for condition in conditions {
                let order = compare(manager, version, &condition.version)?;
                let too_new = match condition.operator {
                    Operator::Less => order.is_ge(),
                    Operator::LessOrEqual | Operator::Equal => order.is_gt(),
                    Operator::NotEqual | Operator::Greater | Operator::GreaterOrEqual => false,
                };
                if too_new {
                    return Ok(true);
                }
            }
            Ok(false)
        }
    }
}

/// Packages that only work after a reboot: kernels and the processor's microcode.
fn needs_reboot(package: &str) -> bool {
    let kernels = ["linux-image-", "kernel-rt", "kernel-default"];
    matches!(package, "kernel" | "kernel-core" | "microcode_ctl")
        || package.ends_with("-microcode")
        || kernels.iter().any(|kernel| package.starts_with(kernel))
}

/// Packages whose replacement stops containers or their network.
fn runs_containers(package: &str) -> bool {
    matches!(
        package,
        "containerd"
            | "containerd.io"
            | "containernetworking-plugins"
            | "cri-o"
            | "crun"
            | "docker-ce"
            | "docker.io"
            | "drystone"
            | "kubelet"
            | "kubernetes-cni"
            | "runc"
    )
}
