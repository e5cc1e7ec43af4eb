//! Where applications go: EMCO's `allOf` and `anyOf` become groups of clusters; rules and capacity say which of a group will do, and
//! which is best. Everything that was left out has its reason, so that the same computation serves as a dry run.

mod choose;
mod explain;
mod filter;
mod groups;
mod needs;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use choose::choose;
pub use filter::filter;
pub use groups::groups;
pub use needs::needs_of;

use drystone_api::emco::{PlacementIntent, PlacementRules};
use drystone_appcontext::ClusterName;
use serde::Serialize;

use crate::model::{Amounts, ClusterFacts, Refusal};

/// The clusters that there are, by name.
pub type Clusters = BTreeMap<ClusterName, ClusterFacts>;

/// What is asked for one application.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The application.
    pub app: &'a str,
    /// Where it is to go.
    pub intent: &'a PlacementIntent,
    /// What its clusters must be like.
    pub rules: &'a PlacementRules,
    /// What its pods ask for on each cluster, for the rules that ask for room.
    pub needs: Amounts,
}

/// What became of a cluster in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It will do; of those of a group one is chosen.
    Candidate,
    /// The application goes there.
    Chosen,
    /// It would have done, but another one was better.
    Passed,
    /// It will not do.
    Unfit,
}

/// A cluster in a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The cluster: `provider+name`.
    pub cluster: ClusterName,
    /// What became of it.
    pub verdict: Verdict,
    /// Why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Clusters of which one is kept; a single one that was asked for by `allOf` is mandatory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its number, from 1, in the order of the document.
    pub number: usize,
    /// Whether its cluster must be used.
    pub mandatory: bool,
    /// Its clusters, ordered by name.
    pub candidates: Vec<Candidate>,
}

/// Where one application goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppPlan {
    /// The application.
    pub app: String,
    /// Its groups.
    pub groups: Vec<Group>,
    /// What is odd, without being wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
}

impl AppPlan {
    /// The clusters that it goes to, or may go to, with the number of their group; each cluster once, in its first group.
    pub fn clusters(&self) -> BTreeMap<ClusterName, usize> {
        let mut found = BTreeMap::new();
        for group in &self.groups {
            for candidate in &group.candidates {
                if matches!(candidate.verdict, Verdict::Candidate | Verdict::Chosen) {
                    found.entry(candidate.cluster.clone()).or_insert(group.number);
                }
            }
        }
        found
    }

    /// The clusters that were chosen.
    pub fn chosen(&self) -> BTreeSet<ClusterName> {
        let all = self.groups.iter().flat_map(|group| &group.candidates);
        all.filter(|candidate| candidate.verdict == Verdict::Chosen)
            .map(|candidate| candidate.cluster.clone())
            .collect()
    }
}

/// Where all applications of a group go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The applications, in the order in which they were placed.
    pub apps: Vec<AppPlan>,
}

/// Why applications cannot be placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// What is wrong, for whoever asked.
    pub refusal: Refusal,
    /// What was found so far, with reasons.
    pub placement: Placement,
    /// The applications and numbers of the groups that no cluster is fit for: a new cluster would help.
    pub homeless: Vec<(String, usize)>,
}

impl std::fmt::Display for Unplaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.refusal.fmt(f)
    }
}

/// Places applications: groups, then what will do, then the choice. `allowed`: the clusters of the logical cloud. `excluded`: clusters
/// that somebody else left out of an application, with their reason.
///
/// # Errors
/// [`Unplaced`], with everything that was found.
pub fn place(
    requests: &[Request<'_>],
    clusters: &Clusters,
    allowed: Option<&BTreeSet<ClusterName>>,
) -> Result<Placement, Box<Unplaced>> {
    let placement = filter(requests, clusters, allowed)?;
    choose(placement, requests, clusters)
}
