//! What is told of a rollout: where it stands, what it found out, and why it failed.

use super::{EnumLabels, Step};
use crate::common::{display_as_name, is_unset};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rollout that is running, or that stopped before its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// The revision that is brought in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// The step that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Whether it goes back to a revision that ran before.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub rollback: bool,
    /// Since when an image can't be pulled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_failing_since: Option<Time>,
    /// When that step will have failed; absent where waiting doesn't count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// What `agent plan` found that the migration would do; absent where no Job had to find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<MigrationPlan>,
    /// Who approved it: a user name, or `unverified`; absent while nobody has, or where nobody needs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub approved_by: Option<String>,
    /// Whether somebody approved its migration, where `migrations.policy` is Manual.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub migration_approved: bool,
    /// Samples that the watch has taken.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub samples: i32,
    /// Bad samples in a row.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub failed_samples: i32,
    /// What the last bad sample saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub bad_sample: Option<String>,
    /// When the watch took its last sample.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sample_at: Option<Time>,
    /// Since when something around the revision is away (database, Redis, the node, the operator), or what was
    /// interrupted by it has not come back; nothing counts against the revision meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_at: Option<Time>,
    /// When that was seen last. A check that ran at that time and failed is run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_interrupted_at: Option<Time>,
    /// How often the watch was interrupted. After five times more it says nothing: `WatchInconclusive`.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub interruptions: i32,
    /// The checks that this rollout has passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub checks: Vec<PassedCheck>,
}

/// A check that a revision has passed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PassedCheck {
    /// Name of the check.
    #[schemars(length(max = 40))]
    pub name: String,
    /// The Job that ran it, kept for seven days with its log.
    #[schemars(length(max = 63))]
    pub job: String,
    /// What the check wrote into its termination message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
    /// When the Job's end was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_at: Option<Time>,
}

/// What came of a revision that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum FailureOutcome {
    /// The revision before is being put back.
    #[default]
    RollingBack,
    /// The revision before runs again.
    RolledBack,
    /// The revision before failed too: what serves is kept.
    RollbackFailed,
    /// It is left as it is: `rollout.rollback` is Manual.
    Left,
}

display_as_name!(FailureOutcome);

/// Why a revision failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutFailure {
    /// The revision.
    #[schemars(length(max = 63))]
    pub revision: String,
    /// The step that it was at; absent where a person asked for the way back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Condition reason of the cause.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// The cause in one sentence.
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When its threshold was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Time>,
    /// The revision that is put back; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub back_to: Option<String>,
    /// What came of it.
    pub outcome: FailureOutcome,
}

/// What the migration of a revision would do to the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MigrationPlan {
    /// Whether there is anything to do.
    pub needed: bool,
    /// Whether the database is empty, so that its schema is made and nothing can be lost.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub bootstrap: bool,
    /// The Alembic revision that tables without a recorded one are taken to be at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub stamp: Option<String>,
    /// Alembic revisions that are missing, in the order in which they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["revision".into()]))]
    pub pending: Vec<PendingMigration>,
    /// Enum labels that the code needs and the database can't store yet, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub missing_labels: Vec<EnumLabels>,
    /// Where the database is newer than the image: rows with an enum label that its code can't read. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub unreadable: Vec<UnreadableRows>,
    /// Where the database is newer than the image: why it isn't known which labels its code can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub labels_unknown: Option<String>,
}

/// Rows that an image's code can't read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnreadableRows {
    /// The table, with its schema where that is not the application's.
    #[schemars(length(max = 127))]
    pub table: String,
    /// The column.
    #[schemars(length(max = 63))]
    pub column: String,
    /// The enum label that the code lacks.
    #[schemars(length(max = 63))]
    pub label: String,
    /// How many rows have it.
    pub rows: i64,
}

/// One Alembic revision that a migration would run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PendingMigration {
    /// The Alembic revision.
    #[schemars(length(max = 64))]
    pub revision: String,
    /// Whether an older image keeps working after it.
    pub additive: bool,
    /// Why it is not additive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub reason: String,
}
