//! What a hook's driver knows when it plans.

use std::collections::BTreeMap;

use drystone_api::ObjectReference;
use drystone_sol003::types::{ApiVersion, LcmOperationType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Topology;

/// A place in the VNF: an instance of a VDU, whichever server is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Member {
    /// The VDU.
    pub vdu: String,
    /// Which one of the VDU's; see [`Server::index`](super::Server::index).
    pub index: u32,
}

/// A VNFC as it was at the end of the last operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Vnfc {
    /// Its place.
    #[serde(flatten)]
    pub member: Member,
    /// Id of the server at the VIM; also `vnfcResourceInfo.id`.
    pub server: String,
    /// The stack (`NAME/ID`) whose template has it, and the name of the resource there.
    pub resource: (String, String),
    /// For members of a group whose size can be changed: the group's stack (`NAME/ID`), and the name of the member there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<(String, String)>,
    /// When it was made, as the VIM writes it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub created: String,
    /// Its volumes: storage in the VNFD, and id at the VIM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<(String, String)>,
    /// Its connection points: ids of `vnfcCpInfo`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connection_points: Vec<String>,
}

/// Names of the Secrets, in the namespace of the instance, that have what requests and registrations held of secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecretNames {
    /// That of the operation: key `parameters.json` has the body of the request in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// That of the instance, once it is instantiated: key `parameters.json` has `additionalParams` of the instantiation in full.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

/// What a hook's driver knows when it plans. No secrets.
#[derive(Debug, Clone, Default)]
pub struct Situation {
    /// The VnfInstance.
    pub instance: ObjectReference,
    /// The VnfLcmOperation; the subject of the plan.
    pub occurrence: ObjectReference,
    /// Which operation.
    pub operation: LcmOperationType,
    /// Version of the interface.
    pub api_version: ApiVersion,
    /// Uid of the VnfPackage whose files the driver may want: key of the package library.
    pub package: String,
    /// Flavour of the VNFD.
    pub flavour: String,
    /// What the flavour is made of.
    pub topology: Topology,
    /// The body of the request.
    pub parameters: Value,
    /// `additionalParams` of the instantiation, for operations that come after it.
    pub instantiated_with: Map<String, Value>,
    /// Where secrets are.
    pub secrets: SecretNames,
    /// VNFCs before the operation, by VDU and index.
    pub before: Vec<Vnfc>,
    /// Places that are filled after the operation, by VDU and index.
    pub after: Vec<Member>,
    /// VNFCs that are removed or healed. Those removed are not in `after`; those healed are, under the same index.
    pub affected: Vec<Vnfc>,
    /// Whether all of the VNF is made anew (heal of everything, entire cluster).
    pub entire: bool,
    /// Id of the step whose output is the [`Inventory`](super::Inventory) at the time of this hook. A step that reads it must name it
    /// in `dependsOn`.
    pub inventory: String,
    /// At an `_end` hook: id of the step with the inventory before the VIM was asked, if there is one.
    pub inventory_before: Option<String>,
    /// Id of the VIM connection that is used, as in `vimConnectionInfo`.
    pub vim: String,
    /// Name of the Site through whose gateway servers are reached; none if they are reached directly.
    pub gateway: Option<String>,
}

impl Situation {
    /// `additionalParams` of this request.
    pub fn additional_parameters(&self) -> Option<&Map<String, Value>> {
        self.parameters.get("additionalParams")?.as_object()
    }

    /// A parameter of this request, or of the instantiation if this request does not give it.
    pub fn parameter(&self, name: &str) -> Option<&Value> {
        self.additional_parameters()
            .and_then(|given| given.get(name))
            .or_else(|| self.instantiated_with.get(name))
    }

    /// Places that are filled after the operation and were not, or whose server is another one then.
    pub fn added(&self) -> Vec<Member> {
        let stays = |member: &Member| {
            let known = |vnfc: &Vnfc| &vnfc.member == member;
            self.before.iter().any(known) && !self.affected.iter().any(known)
        };
        self.after.iter().filter(|member| self.entire || !stays(member)).cloned().collect()
    }

    /// How many places each VDU has after the operation.
    pub fn counts(&self) -> BTreeMap<&str, u32> {
        let mut counts = BTreeMap::new();
        for member in &self.after {
            *counts.entry(member.vdu.as_str()).or_insert(0) += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(vdu: &str, index: u32) -> Member {
        Member { vdu: vdu.to_owned(), index }
    }

    fn vnfc(vdu: &str, index: u32) -> Vnfc {
        Vnfc { member: member(vdu, index), server: format!("{vdu}-{index}"), ..Vnfc::default() }
    }

    #[test]
    fn what_is_added_is_what_was_not_there_and_what_is_healed() {
        let mut situation = Situation {
            before: vec![vnfc("master", 0), vnfc("worker", 0), vnfc("worker", 1)],
            after: vec![member("master", 0), member("worker", 0), member("worker", 1), member("worker", 2)],
            affected: vec![vnfc("worker", 1)],
            ..Situation::default()
        };
        assert_eq!(situation.added(), [member("worker", 1), member("worker", 2)]);
        assert_eq!(situation.counts(), BTreeMap::from([("master", 1), ("worker", 3)]));
        situation.entire = true;
        assert_eq!(situation.added(), situation.after);
    }
}
