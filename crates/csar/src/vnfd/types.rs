//! Types of nodes and policies: those of SOL001 are known; others are followed to them through `derived_from`.

use std::collections::{BTreeMap, BTreeSet};

use super::load::Document;
use crate::{problem::Problems, yaml::Node};

/// What a node is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Vnf,
    Compute,
    BlockStorage,
    ConnectionPoint,
    VirtualLink,
    ExternalPoint,
    /// Known, and not used here.
    Other,
    /// Of a type that nothing is known of.
    Unknown,
}

/// What a policy is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    ScalingAspects,
    InitialDelta,
    AspectDeltas,
    Levels,
    VduLevels,
    Affinity,
    AntiAffinity,
    Other,
    Unknown,
}

/// Types of nodes that are told apart.
const NODES: [(&str, Kind); 6] = [
    ("tosca.nodes.nfv.VNF", Kind::Vnf),
    ("tosca.nodes.nfv.Vdu.Compute", Kind::Compute),
    ("tosca.nodes.nfv.Vdu.VirtualBlockStorage", Kind::BlockStorage),
    ("tosca.nodes.nfv.VduCp", Kind::ConnectionPoint),
    ("tosca.nodes.nfv.VnfVirtualLink", Kind::VirtualLink),
    ("tosca.nodes.nfv.VnfExtCp", Kind::ExternalPoint),
];

/// Other types of nodes of SOL001 and of TOSCA's simple profile.
const OTHER_NODES: [&str; 27] = [
    "tosca.nodes.Root",
    "tosca.nodes.Abstract.Compute",
    "tosca.nodes.Abstract.Storage",
    "tosca.nodes.BlockStorage",
    "tosca.nodes.Compute",
    "tosca.nodes.Container.Application",
    "tosca.nodes.Container.Runtime",
    "tosca.nodes.DBMS",
    "tosca.nodes.Database",
    "tosca.nodes.LoadBalancer",
    "tosca.nodes.ObjectStorage",
    "tosca.nodes.SoftwareComponent",
    "tosca.nodes.Storage.BlockStorage",
    "tosca.nodes.Storage.ObjectStorage",
    "tosca.nodes.WebApplication",
    "tosca.nodes.WebServer",
    "tosca.nodes.network.Network",
    "tosca.nodes.network.Port",
    "tosca.nodes.nfv.Cp",
    "tosca.nodes.nfv.Mciop",
    "tosca.nodes.nfv.Vdu.OsContainer",
    "tosca.nodes.nfv.Vdu.OsContainerDeployableUnit",
    "tosca.nodes.nfv.Vdu.VirtualFileStorage",
    "tosca.nodes.nfv.Vdu.VirtualObjectStorage",
    "tosca.nodes.nfv.VduSubCp",
    "tosca.nodes.nfv.VipCp",
    "tosca.nodes.nfv.VirtualCp",
];

/// Types of policies that are told apart.
const POLICIES: [(&str, Policy); 7] = [
    ("tosca.policies.nfv.ScalingAspects", Policy::ScalingAspects),
    ("tosca.policies.nfv.VduInitialDelta", Policy::InitialDelta),
    ("tosca.policies.nfv.VduScalingAspectDeltas", Policy::AspectDeltas),
    ("tosca.policies.nfv.InstantiationLevels", Policy::Levels),
    ("tosca.policies.nfv.VduInstantiationLevels", Policy::VduLevels),
    ("tosca.policies.nfv.AffinityRule", Policy::Affinity),
    ("tosca.policies.nfv.AntiAffinityRule", Policy::AntiAffinity),
];

/// Other types of policies.
const OTHER_POLICIES: [&str; 18] = [
    "tosca.policies.Root",
    "tosca.policies.Performance",
    "tosca.policies.Placement",
    "tosca.policies.Scaling",
    "tosca.policies.Update",
    "tosca.policies.nfv.Abstract.SecurityGroupRule",
    "tosca.policies.nfv.LcmCoordinationAction",
    "tosca.policies.nfv.LcmCoordinations",
    "tosca.policies.nfv.NonScalingAspects",
    "tosca.policies.nfv.SecurityGroupRule",
    "tosca.policies.nfv.SupportedVnfInterface",
    "tosca.policies.nfv.VirtualLinkBitrateInitialDelta",
    "tosca.policies.nfv.VirtualLinkBitrateScalingAspectDeltas",
    "tosca.policies.nfv.VirtualLinkInstantiationLevels",
    "tosca.policies.nfv.VipCpInitialDelta",
    "tosca.policies.nfv.VipCpScalingAspectDeltas",
    "tosca.policies.nfv.VnfIndicator",
    "tosca.policies.nfv.VnfPackageChange",
];

/// Types that documents define, by what they are derived from.
#[derive(Debug, Default)]
pub(super) struct Types {
    nodes: BTreeMap<String, String>,
    policies: BTreeMap<String, String>,
    /// Definitions of types of nodes, by document.
    definitions: BTreeMap<String, Node>,
}

impl Types {
    /// Of all documents. A type without `derived_from`, or derived from itself, is a problem.
    pub(super) fn of(documents: &[Document], problems: &mut Problems) -> Self {
        let mut types = Self::default();
        for document in documents {
            for (section, root) in
                [("node_types", "tosca.nodes.Root"), ("policy_types", "tosca.policies.Root")]
            {
                let entries = document.root.get(section).map_or(&[][..], Node::entries);
                for entry in entries {
                    let parent = entry.value.get("derived_from").and_then(Node::text).unwrap_or(root);
                    if section == "node_types" {
                        types.nodes.insert(entry.key.clone(), parent.to_owned());
                        types.definitions.insert(entry.key.clone(), entry.value.clone());
                    } else {
                        types.policies.insert(entry.key.clone(), parent.to_owned());
                    }
                }
            }
        }
        for document in documents {
            for entry in document.root.get("node_types").map_or(&[][..], Node::entries) {
                if types.kind(&entry.key) == Kind::Unknown {
                    let parent = types.nodes.get(&entry.key).map_or("", String::as_str);
                    let message = format!(
                        "the type `{}` is derived from `{parent}`, of which nothing is known",
                        entry.key
                    );
                    problems.error(&document.file, entry.mark, message, "derive it from a type of SOL001");
                }
            }
        }
        types
    }

    /// What nodes of a type are.
    pub(super) fn kind(&self, name: &str) -> Kind {
        let known = |name: &str| {
            let other = OTHER_NODES.contains(&name).then_some(Kind::Other);
            NODES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind).or(other)
        };
        follow(&self.nodes, name, known).unwrap_or(Kind::Unknown)
    }

    /// What a node template is.
    pub(super) fn kind_of(&self, template: &Node) -> Kind {
        template.get("type").and_then(Node::text).map_or(Kind::Unknown, |name| self.kind(name))
    }

    /// What policies of a type are.
    pub(super) fn policy(&self, name: &str) -> Policy {
        let known = |name: &str| {
            let other = OTHER_POLICIES.contains(&name).then_some(Policy::Other);
            POLICIES.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy).or(other)
        };
        follow(&self.policies, name, known).unwrap_or(Policy::Unknown)
    }

    /// What a type, or one that it is derived from, defines of a property: `default`, `constraints`.
    fn definition_of(&self, type_name: &str, property: &str, part: &str) -> Option<&Node> {
        let mut seen = BTreeSet::new();
        let mut name = type_name;
        while seen.insert(name) {
            let definition = self.definitions.get(name)?;
            if let Some(found) = definition.at(&["properties", property, part]) {
                return Some(found);
            }
            name = self.nodes.get(name)?;
        }
        None
    }

    /// Default of a property.
    pub(super) fn default_of(&self, type_name: &str, property: &str) -> Option<&Node> {
        self.definition_of(type_name, property, "default")
    }

    /// Values that a property may have, if the type says.
    pub(super) fn valid_values(&self, type_name: &str, property: &str) -> Option<Vec<&str>> {
        let constraints = self.definition_of(type_name, property, "constraints")?;
        let values = constraints.items().iter().find_map(|constraint| constraint.get("valid_values"))?;
        Some(values.items().iter().filter_map(Node::text).collect())
    }
}

/// Follows what types are derived from until one is known.
fn follow<K>(parents: &BTreeMap<String, String>, name: &str, known: impl Fn(&str) -> Option<K>) -> Option<K> {
    let mut seen = BTreeSet::new();
    let mut name = name;
    while seen.insert(name) {
        if let Some(kind) = known(name) {
            return Some(kind);
        }
        name = parents.get(name)?;
    }
    None
}
