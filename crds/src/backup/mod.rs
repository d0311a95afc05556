//! `Backup`: when and where a stack's database is backed up, for how long, and how it is proven.

mod status;

pub use status::*;

use crate::common::{DeletionPolicy, LocalRef, Resources, Security, is_unset};
use crate::{schema, source::S3};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A policy, not a run: runs are Jobs, and a success is a manifest in the storage.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "odoo-ai.atmatasolutions.com",
    version = "v1alpha1",
    kind = "Backup",
    plural = "backups",
    shortname = "aibackup",
    category = "odooai",
    namespaced,
    status = "BackupStatus",
    derive = "PartialEq",
    cel,
    selectable = ".spec.stackRef.name",
    doc = "When and where the database of an OdooAiStack is backed up, how long backups are kept, and how they are verified.",
    validation = (
        "self.metadata.name.size() <= 40",
        "the name of a Backup must have at most 40 characters: the names of its CronJobs are made from it"
    ),
    printcolumn(name = "Stack", type_ = "string", json_path = ".spec.stackRef.name", description = "The stack whose database is backed up"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule", description = "When; empty is 0 3 * * *"),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccess.completedAt", description = "When the last good backup was completed"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Backups work"),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#, description = "Why they do, or don't"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Size", type_ = "string", json_path = ".status.lastSuccess.size", description = "Size of that backup's dump", priority = 1),
    printcolumn(name = "Verified", type_ = "date", json_path = ".status.lastVerified.completedAt", description = "When a backup was last restored completely, as a test", priority = 1),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduleTime", description = "When the next one starts", priority = 1),
    printcolumn(name = "Failures", type_ = "integer", json_path = ".status.consecutiveFailures", description = "Failed runs in a row", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, description = "What is going on", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = ("self.stackRef == oldSelf.stackRef", "stackRef must not change: make another Backup for another stack")
)]
pub struct BackupSpec {
    /// The OdooAiStack whose database is backed up. Immutable.
    pub stack_ref: LocalRef,
    /// When a backup is made: a cron expression of five fields. Default: `0 3 * * *`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cron")]
    pub schedule: Option<String>,
    /// Time zone of both schedules, for example `Europe/Berlin`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time_zone")]
    pub time_zone: Option<String>,
    /// Make no scheduled backups and verifications while it is true. Requested ones and those before a migration are
    /// still made.
    /// Default: false.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub suspend: bool,
    /// Where backups are kept: a volume, an object store, or both.
    pub storage: BackupStorage,
    /// How many are kept.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub retention: Retention,
    /// How a backup is proven: by restoring it into a throw-away PostgreSQL.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub verification: Verification,
    /// The Jobs that make and verify backups.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub job: BackupJob,
    /// Seconds that one run may take, 60 to 86400. Default: 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 86_400))]
    pub timeout_seconds: Option<i32>,
    /// Take over the artifacts of another database, which are otherwise neither added to nor removed:
    /// `<system identifier>/<database>`, as the condition Stalled shows it. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::owner")]
    pub adopt: Option<String>,
    /// What happens to the artifacts when this Backup is deleted, and to the claim that was made for them. With Delete a
    /// Job removes them first, also from the bucket. Default: Retain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// Where backups are kept. With both, the volume's manifest is the success, and the bucket holds a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.persistentVolumeClaim) || has(self.s3)",
        "storage must have persistentVolumeClaim, s3 or both"
    )
)]
pub struct BackupStorage {
    /// A volume. On its own it does not survive the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<BackupVolume>,
    /// A bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3>,
}

/// An existing volume, or one that the operator claims.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = (
        "has(self.claimName) != has(self.size)",
        "storage.persistentVolumeClaim must have exactly one of claimName (an existing claim) and size (a new one)"
    ),
    validation = (
        "!has(self.storageClassName) || has(self.size)",
        "storage.persistentVolumeClaim.storageClassName must be given only with size: an existing claim has its class"
    ),
    validation = (
        "!has(self.size) || !has(oldSelf.size) || (self.size == oldSelf.size && has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName))",
        "storage.persistentVolumeClaim.size and storageClassName must not change: make a larger claim yourself and name it in claimName"
    )
)]
pub struct BackupVolume {
    /// Name of an existing PersistentVolumeClaim in this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub claim_name: Option<String>,
    /// Size of the volume that the operator claims, for example `20Gi`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::storage_size")]
    pub size: Option<String>,
    /// StorageClass of that volume. Immutable. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::object_name")]
    pub storage_class_name: Option<String>,
}

/// How many backups are kept. The newest good one and the newest verified one always are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retention {
    /// Good backups of this policy that are kept, 1 to 1000. Default: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub keep_last: Option<i32>,
    /// Backups made before a migration or a restore that are kept besides, 1 to 100. Default: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub keep_pre_migration: Option<i32>,
}

/// How a backup is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verification {
    /// When the newest backup is restored as a test: a cron expression of five fields. Default: `0 4 * * 0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::cron")]
    pub schedule: Option<String>,
    /// Seconds after which the last verification is too old (condition Verified), 3600 to 31536000.
    /// Default: 1209600, two weeks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 3600, max = 31_536_000))]
    pub max_age_seconds: Option<i32>,
}

/// Jobs with PostgreSQL's programs: those that make, verify and restore backups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupJob {
    /// Image with PostgreSQL's client and server of the database's major version. Default: the stack's own; for an
    /// External database it must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::image")]
    pub image: Option<String>,
    /// CPU and memory. Default: requests 50m and 64Mi, memory limit 512Mi.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub resources: Resources,
    /// Numeric user and group. Default: those of the stack's PostgreSQL; 999 for an External database.
    #[serde(default, skip_serializing_if = "is_unset")]
    pub security: Security,
}
