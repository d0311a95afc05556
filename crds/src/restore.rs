//! `Restore`: bring a backup back, once.

use crate::backup::BackupJob;
use crate::common::{LocalRef, display_as_name, is_unset};
use crate::rules;
use crate::{schema, source::ArtifactSource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a backup is restored to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum RestoreTarget {
    /// A new database beside the live one; nothing else changes.
    #[default]
    NewDatabase,
    /// The stack's own database, which is kept under another name.
    InPlace,
}

/// A step of a restore, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum RestoreStep {
    /// The live database is backed up.
    PreRestoreBackup,
    /// The artifact is loaded into a new database, and compared with its manifest.
    Load,
    /// The database that is to be live is migrated by the image that runs.
    Migrate,
    /// Beat and worker finish, then ai-service.
    Drain,
    /// The two databases change names.
    Swap,
    /// The chosen tables are brought back, in one transaction.
    CopyTables,
    /// The application comes up again.
    Start,
    /// What was loaded for chosen tables is dropped.
    Discard,
}

display_as_name!(RestoreTarget, RestoreStep);

/// One restore. It runs once; its result stays in the status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "odoo-ai.atmatasolutions.com",
    version = "v1alpha1",
    kind = "Restore",
    plural = "restores",
    shortname = "airestore",
    category = "odooai",
    namespaced,
    status = "RestoreStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.stackRef.name",
    doc = "Brings a backup back into an OdooAiStack's database server, once: beside the live database, or in its place.",
    validation = (
        "self.metadata.name.size() <= 40",
        "the name of a Restore must have at most 40 characters: the names of its Jobs are made from it"
    ),
    printcolumn(name = "Stack", type_ = "string", json_path = ".spec.stackRef.name", description = "The stack that is restored"),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.target", description = "Where to; empty is NewDatabase"),
    printcolumn(name = "Complete", type_ = "string", json_path = r#".status.conditions[?(@.type=="Complete")].status"#, description = "It ended well"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Complete")].reason"#, description = "Why it did, or didn't"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Artifact", type_ = "string", json_path = ".status.artifactId", description = "What was restored", priority = 1),
    printcolumn(name = "Database", type_ = "string", json_path = ".status.database", description = "Where it was restored to", priority = 1),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.size", description = "How large that database is", priority = 1),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step", description = "Where it is", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Complete")].message"#, description = "What is going on", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "!has(self.confirm) || (has(self.target) && self.target == 'InPlace')",
        "confirm must be given only with target InPlace: a new database replaces nothing"
    ),
    validation = (
        "!has(self.target) || self.target != 'InPlace' || !has(self.source.storage) || has(self.source.file) || has(self.source.artifact.id)",
        "a restore in place from a storage must have source.artifact.id: confirm names what replaces the database"
    ),
    validation = (
        "!has(self.tables) || (has(self.target) && self.target == 'InPlace')",
        "tables must be given only with target InPlace: a new database gets all tables"
    ),
    validation = (
        "!has(self.replacedDatabaseRetentionSeconds) || (has(self.target) && self.target == 'InPlace')",
        "replacedDatabaseRetentionSeconds must be given only with target InPlace: a new database replaces nothing"
    ),
    validation = Rule::new(format!(
            "self.stackRef == oldSelf.stackRef && self.source == oldSelf.source && {} && has(self.tables) == has(oldSelf.tables) && (!has(self.tables) || self.tables == oldSelf.tables)",
            rules::unchanged(&["target"], "'NewDatabase'")
        ))
        .message("stackRef, source, target and tables of a Restore must not change: a Restore runs once, so make another one"),
)]
pub struct RestoreSpec {
    /// The OdooAiStack whose database server is used. Immutable.
    pub stack_ref: LocalRef,
    /// What is restored. Immutable.
    pub source: ArtifactSource,
    /// NewDatabase: beside the live one, which stays as it is. InPlace: the live database is replaced, and kept under
    /// another name. Immutable. Default: NewDatabase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<RestoreTarget>,
    /// Restore only these tables of the live database, in one transaction; only with InPlace. Immutable. At most 64.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::tables")]
    pub tables: Vec<String>,
    /// `<stack>/<artifact id>/<incarnation>`: a restore in place waits for it, so that one left in Git does not run
    /// again on a rebuilt cluster. The condition shows the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::confirmation")]
    pub confirm: Option<String>,
    /// Seconds that the replaced database is kept, 0 to 31536000; only with InPlace. Default: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31_536_000))]
    pub replaced_database_retention_seconds: Option<i32>,
    /// The Jobs that restore.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub job: BackupJob,
    /// Seconds that one attempt may take, 60 to 86400. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86_400))]
    pub timeout_seconds: Option<i32>,
}

/// How the restore goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreStatus {
    /// The generation of the spec that this status is about; -1: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Complete, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The artifact that the source stands for; it doesn't change once chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub artifact_id: Option<String>,
    /// The step that it is at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<RestoreStep>,
    /// The database that was restored into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub database: Option<String>,
    /// Size of that database, bytes; it grows while it is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// The same for people, for example `1.2GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub size: Option<String>,
    /// Tables that were restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<i32>,
    /// Rows that were restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Alembic's revision of what was restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub alembic_revision: Option<String>,
    /// Seconds that loading took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_seconds: Option<i32>,
    /// The backup of the live database that was asked for before it is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_restore_backup: Option<PreRestoreBackup>,
    /// The stack's revision whose image migrated the database that is to be live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,
    /// Which database the restored one is: `<system identifier>/<database OID>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub incarnation: Option<String>,
    /// Which database is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub replaced_incarnation: Option<String>,
    /// The name under which the replaced database is kept; after an undo, that of the restored one. Absent once it was
    /// dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub replaced_database: Option<String>,
    /// Size of the kept database, bytes, when it was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced_bytes: Option<i64>,
    /// The same for people, for example `1.2GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub replaced_size: Option<String>,
    /// Counts the times that the databases are made to change places: 1 restores, later ones undo or try again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round: Option<i32>,
    /// The replaced database is to be live again, or is.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub undo: bool,
    /// Why the databases did not change places in this round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RestoreFailure>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When ai-service was told to stop, in this round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_at: Option<Time>,
    /// When the last writer was gone, in this round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained_at: Option<Time>,
    /// When the databases had changed places, in this round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Seconds that the API was unavailable in this round, the application's own stop and start included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downtime_seconds: Option<i32>,
    /// Seconds of that in which no application ran: the databases changed places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swap_seconds: Option<i32>,
    /// Requests by annotation that were handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<RestoreHandled>,
}

/// A backup that was asked for before a restore in place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreRestoreBackup {
    /// The Backup that was asked.
    #[schemars(length(max = 253))]
    pub backup: String,
    /// The request: the value of the annotation `backup-requested-at` on that Backup.
    #[schemars(length(max = 253))]
    pub request_id: String,
    /// How often it was asked for, from 1.
    pub attempt: i32,
    /// When it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
    /// Id of the artifact that answers the request; absent until there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub id: Option<String>,
}

/// Why the databases did not change places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreFailure {
    /// In one word.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// In one sentence.
    #[schemars(length(max = 2048))]
    pub message: String,
}

/// Requests by annotation that were handled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestoreHandled {
    /// The undo that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub undo_requested_at: Option<String>,
    /// Why the undo that was asked for last is not made; absent where it is or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub undo_refused: Option<String>,
    /// The retry that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub retry_requested_at: Option<String>,
}
