//! Past revisions.

use super::Component;
use crate::common::display_as_name;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a revision ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum RevisionResult {
    /// It is being rolled out.
    #[default]
    InProgress,
    /// It passed its watch.
    Succeeded,
    /// It failed.
    Failed,
    /// It failed and the revision before was put back.
    RolledBack,
    /// A newer spec came before it was done.
    Superseded,
}

display_as_name!(RevisionResult);

/// A past revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevisionHistory {
    /// Name of the revision.
    #[schemars(length(max = 63))]
    pub revision: String,
    /// Its images, with the digests that ran where they are known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub images: Vec<HistoryImage>,
    /// Alembic heads of its image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub schema_heads: Vec<String>,
    /// All Alembic revisions that its image knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 64)))]
    pub known_revisions: Vec<String>,
    /// The known revisions that only add something: an older image keeps working after them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 64)))]
    pub additive: Vec<String>,
    /// Enum labels that its code can read, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub enum_labels: Vec<EnumLabels>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RevisionResult>,
    /// When its rollout started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Who approved it: a user name, or `unverified` where no admission policy proves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub approved_by: Option<String>,
    /// Whether the rules table had no row when this revision's migration Job came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_empty: Option<bool>,
}

/// An image of a past revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryImage {
    /// Which part ran it.
    pub name: Component,
    /// The image as the spec named it.
    #[schemars(length(max = 512))]
    pub image: String,
    /// The digest that the node reported.
    #[serde(rename = "imageID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image_id: Option<String>,
    /// Whether a node has it, as of some minutes ago: false means that a rollback to this revision must pull it first.
    /// Absent where the operator can't know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_node: Option<bool>,
}

/// Labels of one enum type of the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnumLabels {
    /// Name of the type.
    #[serde(rename = "type")]
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its labels.
    #[schemars(length(max = 256), inner(length(max = 63)))]
    pub labels: Vec<String>,
}
