//! What the operator saw and did.

use super::{
    Environment, LogLevel, MigrationBackup, Mode, RevisionHistory, RolloutFailure, RolloutStatus, UnmanagedRules,
};
use crate::common::{display_as_name, is_unset};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A step of a rollout, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum Step {
    /// The Managed PostgreSQL is brought up.
    Database,
    /// The Managed Redis is brought up.
    Redis,
    /// New credentials of database and Redis are proven by a login.
    Credentials,
    /// An empty database gets its first data from a backup.
    Bootstrap,
    /// What the migration would do is found out.
    Plan,
    /// A person must approve.
    Approval,
    /// A backup is made before the migration.
    Backup,
    /// The schema is migrated.
    Migration,
    /// ai-service is rolled out.
    AiService,
    /// Seeded rules that no FeatureFlag enables are disabled.
    RulesGate,
    /// The worker is rolled out.
    Worker,
    /// Beat is rolled out.
    Beat,
    /// The dashboard is rolled out.
    Dashboard,
    /// The checks run.
    Checks,
    /// The new revision is watched.
    Watch,
}

/// A part of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum Component {
    /// PostgreSQL.
    Database,
    /// Redis.
    Redis,
    /// The API.
    #[default]
    AiService,
    /// The Celery worker.
    Worker,
    /// The Celery scheduler.
    Beat,
    /// The web interface.
    Dashboard,
}

/// Where the application's secrets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::schema::undescribed)]
pub enum AppSecrets {
    /// The operator generated them.
    Generated,
    /// `spec.appSecretsRef` names them.
    Referenced,
}

display_as_name!(Step, Component, AppSecrets);

/// What the operator saw and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OdooAiStackStatus {
    /// The generation of the spec that this status is about; -1: none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What holds and why: Ready, Available, Reconciling, Stalled and the conditions of the parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// The revision that passed its watch; a rollback goes back to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub current_revision: Option<String>,
    /// The revision of the spec; it differs from `currentRevision` while it is rolled out, waits or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub update_revision: Option<String>,
    /// The revision that failed last. It isn't tried again until the spec changes or a retry is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub failed_revision: Option<String>,
    /// The settings that hold, with their defaults filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<EffectiveSettings>,
    /// The parts of the stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub components: Vec<ComponentStatus>,
    /// The application's database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<DatabaseStatus>,
    /// The rollout that is running, or the last one that stopped before its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// Why the revision of the spec failed, and what came of it; absent once the spec changes or a retry is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<RolloutFailure>,
    /// Past revisions, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["revision".into()]))]
    pub history: Vec<RevisionHistory>,
    /// The application's automation rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<RulesStatus>,
    /// The last good backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_backup: Option<LastBackup>,
    /// Where the stack can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Urls>,
    /// The requests (annotations) that were handled, so that none is handled twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
}

/// The settings that hold, with the environment's and the schema's defaults filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EffectiveSettings {
    /// The environment that chose the defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Whether a new revision waits for an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Mode>,
    /// Whether a failed revision is taken back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Mode>,
    /// Seconds that one step may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// Seconds of the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_duration_seconds: Option<i32>,
    /// Seconds between two samples of the watch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_period_seconds: Option<i32>,
    /// Bad samples in a row that count as a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_failure_threshold: Option<i32>,
    /// Old revisions that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<i32>,
    /// Whether pending migrations run by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_policy: Option<Mode>,
    /// Whether a backup is made before a migration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_backup: Option<MigrationBackup>,
    /// Seconds that a migration may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration_timeout_seconds: Option<i32>,
    /// Where AI_SECRET_KEY and WEBHOOK_SECRET come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_secrets: Option<AppSecrets>,
    /// The application's log level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
    /// Queues that the worker consumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 64)))]
    pub queues: Vec<String>,
    /// Image of PostgreSQL, where it is Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub database_image: Option<String>,
    /// Size of PostgreSQL's volume, where it is Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub database_storage_size: Option<String>,
    /// Image of Redis, where it is Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub redis_image: Option<String>,
    /// What happens to rules that no FeatureFlag declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmanaged_rules: Option<UnmanagedRules>,
}

/// A part of the stack as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// Which part.
    pub name: Component,
    /// Pods that are ready.
    pub ready: i32,
    /// Pods that should be.
    pub desired: i32,
    /// Image of its main container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub image: Option<String>,
    /// The digest that the node reports for that image.
    #[serde(rename = "imageID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub image_id: Option<String>,
    /// Revision that its pods run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub revision: Option<String>,
}

/// The application's database as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DatabaseStatus {
    /// Alembic revision of the database; several heads are joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub schema_revision: Option<String>,
    /// Alembic head of the image that the spec asks for, once a Job has told it; several are joined by commas. The
    /// database is brought there, or is beyond it where an older image may run on a newer schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub schema_head: Option<String>,
    /// Which database this is: `<system identifier>/<database OID>`. Another value means another database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub incarnation: Option<String>,
    /// UID of the volume that the other fields are about; with another volume the schema is prepared anew.
    #[serde(rename = "volumeUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub volume_uid: Option<String>,
    /// The backup that a migration waits for, or goes by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_migration_backup: Option<PreMigrationBackup>,
    /// What the last migrate Job did; it is told as an Event too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_migration: Option<LastMigration>,
    /// Size of the database in bytes, as last reported by a Job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    /// Counts the changes of the database's and Redis's passwords; pods carry the number they were started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_generation: Option<i64>,
    /// What became of `bootstrap.restoreFrom`; absent until somebody has looked into the database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<BootstrapStatus>,
    /// The restore in place that brought this database, as it was last noted: another value means another database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub restore: Option<String>,
}

/// What became of `bootstrap.restoreFrom`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BootstrapStatus {
    /// UID of the volume whose database was looked at; with another volume it is looked at anew.
    #[serde(rename = "volumeUID")]
    #[schemars(length(max = 64))]
    pub volume_uid: String,
    /// The database was empty, and the backup is in it. False: it held something, and was left as it is.
    pub restored: bool,
    /// Id of the backup, or path of the dump.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub artifact_id: Option<String>,
    /// How many tables the backup has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<i32>,
    /// How many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<i64>,
    /// Seconds that it took to load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_seconds: Option<i32>,
    /// What was done, for people; it is told as an Event too.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 2048))]
    pub message: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// A backup that was asked for before a migration. It is asked for once; a failed one again after a pause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreMigrationBackup {
    /// The revision of the stack whose migration needs it.
    #[schemars(length(max = 63))]
    pub revision: String,
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
    /// Which database it is of: `<system identifier>/<database OID>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub incarnation: Option<String>,
    /// Alembic revision of the data in it; several are joined by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub alembic_revision: Option<String>,
    /// When it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// What a migrate Job did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastMigration {
    /// The revision of the stack that it was for.
    #[schemars(length(max = 63))]
    pub revision: String,
    /// One word: Bootstrapped, Upgraded, Stamped, EnumRepaired, AtHead.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 4096))]
    pub message: String,
    /// When the Job's result was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Id of the backup that was made before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub backup: Option<String>,
    /// Where the database's objects differ from the application's models although it is at the image's revision:
    /// what `alembic check` sees. Reported, not judged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 512)))]
    pub drift: Vec<String>,
}

/// The application's automation rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RulesStatus {
    /// Rules that a FeatureFlag declares.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub declared: i32,
    /// Rules that none declares; counted only while there are FeatureFlags.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub undeclared: i32,
    /// Whether the seeded rules of a new database were disabled (or found to need nothing): it happens once.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub seeded_disabled: bool,
}

/// The last good backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastBackup {
    /// Id of the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub id: Option<String>,
    /// The Backup that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup: Option<String>,
    /// When it was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// Where the stack can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Urls {
    /// The API: its route, or its Service inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub api: Option<String>,
    /// The dashboard: its route, or its Service inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub dashboard: Option<String>,
}

/// The requests (annotations) that were handled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastHandled {
    /// The revision whose approval was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub approved_revision: Option<String>,
    /// The revision whose migration's approval was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub approved_migration: Option<String>,
    /// The retry that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub retry_requested_at: Option<String>,
    /// The rollback that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub rollback_requested_at: Option<String>,
    /// Why the rollback that was asked for last is not made; absent where it is or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub rollback_refused: Option<String>,
}
