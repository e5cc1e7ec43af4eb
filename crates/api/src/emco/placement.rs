//! What clusters must be like, and what happens when none is. Additions of Drystone's: EMCO's clients never send them, and what is
//! without them is placed as EMCO places it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ClusterSpec;

/// What the clusters of an application must be like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRules {
    /// Only clusters that fit all of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub match_expressions: Vec<LabelExpression>,
    /// Of several clusters that will do, those that fit these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub preferences: Vec<PlacementPreference>,
    /// Groups of one application go to different places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<PlacementSpread>,
    /// Only clusters that answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must_answer: bool,
    /// Only clusters whose nodes have room for what the pods of the application ask for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub must_have_room: bool,
}

impl PlacementRules {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What is asked of a label or key-value pair of a cluster. The label `zone=a` is key `zone` with value `a`; a label without `=` is a key
/// with an empty value; `provider` and `cluster` are keys of every cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelExpression {
    /// The key.
    #[schemars(length(min = 1, max = 128))]
    pub key: String,
    /// What is asked.
    pub operator: LabelOperator,
    /// With which values; one number with `Gt` and `Lt`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    pub values: Vec<String>,
}

/// What is asked of a label.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It is there with one of the values.
    In,
    /// It is not there with one of the values.
    NotIn,
    /// It is there.
    #[default]
    Exists,
    /// It is not there.
    DoesNotExist,
    /// Its value is a greater number.
    Gt,
    /// Its value is a lesser number.
    Lt,
}

/// Clusters that are preferred.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementPreference {
    /// How much.
    #[schemars(range(min = 1, max = 100))]
    pub weight: u32,
    /// Those that fit all of these.
    #[schemars(length(min = 1, max = 64))]
    pub match_expressions: Vec<LabelExpression>,
}

/// Groups of one application go to different places.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlacementSpread {
    /// Key of the labels whose values are the places; `provider`, or `cluster`, which is meant if it is empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub over: String,
    /// Whether no two may be at one place; else that is avoided where it can be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
}

/// A cluster that is made out of free hosts when no cluster fits an application.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewClusterPolicy {
    /// Namespace that it is made in.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Labels that it has for placement, so that the intent that found no cluster finds this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub labels: Vec<String>,
    /// What it is to be.
    pub cluster: ClusterSpec,
}
