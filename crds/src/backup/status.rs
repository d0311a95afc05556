//! What is in the catalogue, and how the runs went.

use crate::common::{display_as_name, is_unset};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why a backup was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum BackupReason {
    /// Its time had come.
    #[default]
    Scheduled,
    /// Somebody asked for it.
    Requested,
    /// A migration was about to start.
    PreMigration,
    /// A restore in place was about to start.
    PreRestore,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum RunResult {
    /// It is running.
    #[default]
    Running,
    /// It left a manifest.
    Succeeded,
    /// It didn't.
    Failed,
}

/// What a run does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum RunTask {
    /// It makes a backup.
    #[default]
    Backup,
    /// It restores one as a test.
    Verification,
}

display_as_name!(BackupReason, RunResult, RunTask);

/// What is in the catalogue, and how the runs went. It can be rebuilt from the catalogue completely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupStatus {
    /// The generation of the spec that this status is about; -1: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, LastBackupSucceeded, Fresh, Verified, OffsiteCopied (absent without s3), Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The last run, well or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<Attempt>,
    /// The last good backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<ArtifactStatus>,
    /// The last verification that restored a backup completely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified: Option<VerificationStatus>,
    /// The last runs, the newest first. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["job".into()]))]
    pub runs: Vec<Attempt>,
    /// Time zone and schedule that the two times below are of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub schedule: Option<String>,
    /// The last scheduled time that a run was started for, or that was counted as missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// When the next backup starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_schedule_time: Option<Time>,
    /// Failed runs in a row.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub consecutive_failures: i32,
    /// Scheduled runs that were skipped, since the last good one.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub missed_runs: i32,
    /// Good backups, the newest first. At most 50; the catalogue may hold more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".into()]))]
    pub artifacts: Vec<ArtifactStatus>,
    /// The catalogue as it was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalogue: Option<CatalogueStatus>,
    /// The requests (annotations) that were handled, so that none is handled twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<BackupLastHandled>,
}

/// The catalogue of this policy, as it was last read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueStatus {
    /// Where it is: the claim, or the bucket and the folder in it.
    #[schemars(length(max = 1024))]
    pub location: String,
    /// Whose it is: `<system identifier>/<database>`; absent while it is nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub owner: Option<String>,
    /// Good backups of this policy, those that `artifacts` has no room for included.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub total: i32,
    /// Bytes of their dumps.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub bytes: i64,
    /// Backups that have a manifest and are no good: a file is missing or cut. They are never removed.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub damaged: i32,
    /// When it was read; absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Time>,
    /// Since when something may be there that isn't told here; it is being read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Time>,
}

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Name of its Job.
    #[schemars(length(max = 253))]
    pub job: String,
    /// What it does.
    #[serde(default)]
    pub task: RunTask,
    /// Why it was started.
    pub reason: BackupReason,
    /// The request that it answers, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub request_id: Option<String>,
    /// How it ended.
    pub result: RunResult,
    /// Why it failed, in one word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub failure: Option<String>,
    /// A person must act before another try can do better.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub refused: bool,
    /// Whether the bucket has all that the volume has; absent where there is only one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<bool>,
    /// What came of it, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// A good backup: one with a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// Id of the artifact; a Restore names it.
    #[schemars(length(max = 63))]
    pub id: String,
    /// The request that it answers, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub request_id: Option<String>,
    /// Why it was made.
    pub reason: BackupReason,
    /// When it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Which database it is of: `<system identifier>/<database OID>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub incarnation: Option<String>,
    /// Alembic revision of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub alembic_revision: Option<String>,
    /// Size of the dump in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The same for people, for example `1.2GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub size: Option<String>,
    /// Whether a verification restored it completely.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub verified: bool,
}

/// A verification that restored a backup completely.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// Id of the artifact.
    #[schemars(length(max = 63))]
    pub id: String,
    /// When it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Seconds that the restore took: the measured time to recover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_seconds: Option<i32>,
}

/// The requests (annotations) that were handled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupLastHandled {
    /// The backup that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_requested_at: Option<String>,
    /// The verification that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub verify_requested_at: Option<String>,
}
