//! A deployment flavour, and how it is read.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{hooks, load::Document, nodes, policies, types::Types};
use crate::{
    archive::Archive,
    hot::{BaseHot, Group},
    meta::Checksum,
    problem::Problems,
    yaml::Node,
};

/// A deployment flavour of a VNF.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flavour {
    /// Its id: what SOL003 calls flavourId.
    pub id: String,
    /// What it is for.
    pub description: Option<String>,
    /// Virtual machines by the name of their node.
    pub vdus: BTreeMap<String, Vdu>,
    /// Volumes by the name of their node.
    pub storages: BTreeMap<String, BlockStorage>,
    /// Ports of virtual machines by the name of their node.
    pub connection_points: BTreeMap<String, ConnectionPoint>,
    /// Connection points to the outside that stand for others (`tosca.nodes.nfv.VnfExtCp`).
    pub external_points: BTreeSet<String>,
    /// Networks inside of the VNF by the name of their node.
    pub virtual_links: BTreeMap<String, VirtualLink>,
    /// What can be scaled, by name.
    pub aspects: BTreeMap<String, Aspect>,
    /// Sizes in which it can be instantiated, by name.
    pub levels: BTreeMap<String, Level>,
    /// The size that is taken when none is named.
    pub default_level: Option<String>,
    /// What is to be kept together, and what apart.
    pub placement: Vec<Placement>,
    /// Scripts around operations, by the name of the hook (`instantiate_end`).
    pub hooks: BTreeMap<String, Hook>,
    /// The Heat templates; none for a flavour that no OpenStack is needed for.
    #[serde(skip)]
    pub base_hot: Option<BaseHot>,
}

impl Flavour {
    /// Groups of the base HOT whose members are instances of VDUs; a VDU is in one at most.
    pub fn groups(&self) -> Vec<Group> {
        let vdus: Vec<&str> = self.vdus.keys().map(String::as_str).collect();
        self.base_hot.as_ref().map_or_else(Vec::new, |hot| hot.groups(&vdus))
    }
}

/// A virtual machine (`tosca.nodes.nfv.Vdu.Compute`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Vdu {
    /// Its property `name`.
    pub name: String,
    /// Image that it boots.
    pub image: Option<SoftwareImage>,
    /// Name of the VIM's flavor: `requested_additional_capability_name`.
    pub flavor: Option<String>,
    /// Virtual processors.
    pub processors: Option<u32>,
    /// Memory, as it is written (`4 GB`).
    pub memory: Option<String>,
    /// Instances at least.
    pub least: Option<u32>,
    /// Instances at most.
    pub most: Option<u32>,
    /// Instances while nothing is scaled out.
    pub initial: u32,
    /// Instances that a delta of an aspect adds: by aspect, then by delta.
    pub deltas: BTreeMap<String, BTreeMap<String, u32>>,
    /// Instances at an instantiation level.
    pub at_level: BTreeMap<String, u32>,
    /// Volumes that it needs.
    pub storages: Vec<String>,
    /// Ports that it has.
    pub connection_points: Vec<String>,
}

/// A volume (`tosca.nodes.nfv.Vdu.VirtualBlockStorage`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockStorage {
    /// Its size, as it is written (`30 GB`).
    pub size: Option<String>,
    /// Image that it is made of.
    pub image: Option<SoftwareImage>,
}

/// A port of a virtual machine (`tosca.nodes.nfv.VduCp`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionPoint {
    /// The virtual machine.
    pub vdu: Option<String>,
    /// The network inside of the VNF; none for a port to the outside.
    pub virtual_link: Option<String>,
    /// Its place among the ports of the machine.
    pub order: Option<u32>,
}

/// A network inside of the VNF (`tosca.nodes.nfv.VnfVirtualLink`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualLink {
    /// What it is for.
    pub description: Option<String>,
}

/// Something that can be scaled (`tosca.policies.nfv.ScalingAspects`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Aspect {
    /// Its property `name`.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The highest level; the lowest is 0.
    pub max_level: u32,
    /// Deltas of the steps: one for all of them, or one for each.
    pub step_deltas: Vec<String>,
}

/// A size in which a VNF can be instantiated (`tosca.policies.nfv.InstantiationLevels`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// What it is for.
    pub description: Option<String>,
    /// Levels of aspects.
    pub scale: BTreeMap<String, u32>,
}

/// How far together or apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Scope {
    /// Availability zone.
    Zone,
    /// Compute node.
    NfviNode,
}

/// What is to be kept together, or apart (`tosca.policies.nfv.AffinityRule`, `AntiAffinityRule`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Name of the policy.
    pub name: String,
    /// Apart, rather than together.
    pub apart: bool,
    /// How far.
    pub scope: Scope,
    /// VDUs and virtual links; groups are resolved.
    pub targets: Vec<String>,
}

/// A script at an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// Name of the artifact.
    pub artifact: String,
    /// Type of the artifact (`tosca.artifacts.Implementation.Python`).
    pub kind: String,
    /// Path of its file in the package.
    pub file: String,
}

/// An image of virtual machines (SOL003's VnfPackageSoftwareImageInfo).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SoftwareImage {
    /// Name of the node that needs it.
    pub id: String,
    /// Its name, by which the VIM knows it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its hash is to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// `BARE`, `OVF`, …
    pub container_format: String,
    /// `QCOW2`, `RAW`, …
    pub disk_format: String,
    /// Disk that it needs, in bytes.
    pub min_disk: u64,
    /// Memory that it needs, in bytes.
    pub min_ram: u64,
    /// Its size, in bytes.
    pub size: u64,
    /// Its file in the package, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_path: Option<String>,
}

/// What all parts of the reading of a flavour work on.
pub(super) struct Reading<'a> {
    pub(super) document: &'a Document,
    pub(super) types: &'a Types,
    pub(super) archive: &'a Archive,
    pub(super) problems: &'a mut Problems,
    pub(super) flavour: Flavour,
}

impl Reading<'_> {
    /// An error at a node of the document.
    pub(super) fn error(&mut self, node: &Node, message: impl Into<String>, advice: impl Into<String>) {
        self.problems.error(&self.document.file, node.mark, message, advice);
    }

    /// A warning at a node of the document.
    pub(super) fn warning(&mut self, node: &Node, message: impl Into<String>, advice: impl Into<String>) {
        self.problems.warning(&self.document.file, node.mark, message, advice);
    }
}

/// Reads the flavour that a document defines.
pub(super) fn read(
    id: &str,
    document: &Document,
    types: &Types,
    archive: &Archive,
    problems: &mut Problems,
) -> Flavour {
    let flavour = Flavour { id: id.to_owned(), ..Flavour::default() };
    let mut reading = Reading { document, types, archive, problems, flavour };
    nodes::read(&mut reading);
    hooks::read(&mut reading);
    policies::read(&mut reading);
    reading.flavour.base_hot = BaseHot::read(archive, id, reading.problems);
    let mut flavour = reading.flavour;
    if let Some(hot) = &flavour.base_hot {
        let storages = flavour.storages.keys();
        let machines: BTreeSet<&str> = flavour.vdus.keys().chain(storages).map(String::as_str).collect();
        let ports = flavour.connection_points.keys().chain(&flavour.external_points);
        let ports: BTreeSet<&str> = ports.map(String::as_str).collect();
        hot.check_against(&machines, &ports, problems);
    }
    flavour.placement.sort_by(|a, b| a.name.cmp(&b.name));
    flavour
}
